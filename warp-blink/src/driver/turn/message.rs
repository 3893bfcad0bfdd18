//! What is looked at in a STUN message (RFC 8489) before the server sees it, and the few answers that are ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::Mac;

use super::credentials::mac;

pub(super) const BINDING: u16 = 0x0001;
pub(super) const ALLOCATE: u16 = 0x0003;
pub(super) const REFRESH: u16 = 0x0004;
pub(super) const CREATE_PERMISSION: u16 = 0x0008;
pub(super) const CHANNEL_BIND: u16 = 0x0009;
pub(super) const SEND: u16 = 0x0016;

pub(super) const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
pub(super) const HEADER: usize = 20;
/// The bit of an error response in the type of its request.
const ERROR: u16 = 0x0110;

pub(super) const USERNAME: u16 = 0x0006;
pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
pub(super) const XOR_PEER_ADDRESS: u16 = 0x0012;
pub(super) const REALM: u16 = 0x0014;
pub(super) const NONCE: u16 = 0x0015;
pub(super) const EVEN_PORT: u16 = 0x0018;
pub(super) const RESERVATION_TOKEN: u16 = 0x0022;

/// From here on an attribute may be passed over by whoever does not know it (RFC 8489 section 14).
const OPTIONAL: u16 = 0x8000;

const INTEGRITY_LEN: usize = 20;

/// A message whose attributes lie within it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let len = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
        let is_one = bytes.len() == HEADER + len
            && len % 4 == 0
            && bytes[0] & 0xc0 == 0
            && bytes[4..8] == COOKIE
            && Attributes { rest: &bytes[HEADER..], at: HEADER }.all(|a| a.is_some());
        is_one.then_some(Self { bytes })
    }

    /// Class and method in one.
    pub(super) fn kind(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// The first value of an attribute.
    pub(super) fn attribute(&self, wanted: u16) -> Option<&'a [u8]> {
        self.attributes().find(|(kind, ..)| *kind == wanted).map(|(_, value, _)| value)
    }

    /// Whether there is anything in it that may not be passed over.
    pub(super) fn demands(&self) -> bool {
        self.attributes().any(|(kind, ..)| kind < OPTIONAL)
    }

    pub(super) fn text(&self, wanted: u16) -> Option<&'a str> {
        std::str::from_utf8(self.attribute(wanted)?).ok()
    }

    /// All peers that are named; `None` if one of them is malformed.
    pub(super) fn peers(&self) -> Option<Vec<SocketAddr>> {
        let named = self.attributes().filter(|(kind, ..)| *kind == XOR_PEER_ADDRESS);
        named.map(|(_, value, _)| self.unxored(value)).collect()
    }

    /// Whether the message was made with this key (RFC 8489 section 14.5). What follows the MAC is not covered by it.
    pub(super) fn is_made_with(&self, key: &[u8]) -> bool {
        let found = self.attributes().find(|(kind, ..)| *kind == MESSAGE_INTEGRITY);
        let Some((_, value, at)) = found.filter(|(_, value, _)| value.len() == INTEGRITY_LEN) else {
            return false;
        };
        let covered = u16::try_from(at - HEADER + 4 + INTEGRITY_LEN).unwrap_or(u16::MAX);
        let Some(mac) = mac(key) else { return false };
        mac.chain_update(&self.bytes[..2])
            .chain_update(covered.to_be_bytes())
            .chain_update(&self.bytes[4..at])
            .verify_slice(value)
            .is_ok()
    }

    /// An answer that says what is wrong, and nothing else.
    pub(super) fn refusal(&self, code: u16) -> Vec<u8> {
        let mut answer = (self.kind() | ERROR).to_be_bytes().to_vec();
        answer.extend_from_slice(&[0, 8]);
        answer.extend_from_slice(&self.bytes[4..HEADER]);
        answer.extend_from_slice(&ERROR_CODE.to_be_bytes());
        let (class, number) = (code / 100, code % 100);
        answer.extend_from_slice(&[0, 4, 0, 0, class as u8, number as u8]);
        answer
    }

    fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8], usize)> + use<'a> {
        Attributes { rest: &self.bytes[HEADER..], at: HEADER }.flatten()
    }

    fn unxored(&self, value: &[u8]) -> Option<SocketAddr> {
        let port = u16::from_be_bytes([*value.get(2)?, *value.get(3)?]) ^ 0x2112;
        let mask = &self.bytes[4..HEADER];
        let unmasked = |len: usize| -> Option<Vec<u8>> {
            let ip = value.get(4..).filter(|ip| ip.len() == len)?;
            Some(ip.iter().zip(mask).map(|(a, b)| a ^ b).collect())
        };
        let ip = match value.get(1)? {
            1 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(unmasked(4)?).ok()?)),
            2 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(unmasked(16)?).ok()?)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }
}

/// Kind, value and place of each; `None` once, where one does not lie within the message.
struct Attributes<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Option<(u16, &'a [u8], usize)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let one = || {
            let (head, after) = rest.split_first_chunk::<4>()?;
            let [a, b, c, d] = *head;
            let len = usize::from(u16::from_be_bytes([c, d]));
            let value = after.get(..len)?;
            Some((u16::from_be_bytes([a, b]), value, after.get(len.next_multiple_of(4)..)?))
        };
        let Some((kind, value, after)) = one() else { return Some(None) };
        let at = self.at;
        self.rest = after;
        self.at += rest.len() - after.len();
        Some(Some((kind, value, at)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes, it is read within its bounds.
        #[test]
        fn nothing_that_comes_does_harm(
            kind in any::<u16>(), rest in proptest::collection::vec(any::<u8>(), 0..64), words in 0..20_usize,
            attribute in proptest::sample::select(vec![USERNAME, MESSAGE_INTEGRITY, XOR_PEER_ADDRESS, REALM]),
        ) {
            let mut bytes = kind.to_be_bytes().to_vec();
            bytes.extend(u16::try_from(4 * words).unwrap().to_be_bytes());
            bytes.extend(COOKIE);
            bytes.extend([7; 12]);
            bytes.extend(attribute.to_be_bytes());
            bytes.extend(&rest);
            bytes.resize(HEADER + 4 * words, 0);
            if let Some(message) = Message::parse(&bytes) {
                prop_assert!(!message.is_made_with(b"key"));
                let _ = (message.text(USERNAME), message.text(REALM), message.peers());
                prop_assert_eq!(message.refusal(401).len(), 28);
            }
        }
    }

    /// RFC 5769 section 2.4: a request with long-term credentials.
    const REQUEST: &str = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aa\
        e38383e382afe382b90000 0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473\
        41 0014000b6578616d706c652e6f726700 00080014f67024656dd64a3e02b8e0712e85c9a28ca89666";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn the_request_of_the_standard_verifies_and_no_other() {
        let request = bytes(REQUEST);
        let message = Message::parse(&request).unwrap();
        assert_eq!(message.text(USERNAME), Some("マトリックス"));
        assert_eq!(message.text(REALM), Some("example.org"));
        let key = turn::auth::generate_auth_key("マトリックス", "example.org", "TheMatrIX");
        assert!(message.is_made_with(&key));
        assert!(!message.is_made_with(&turn::auth::generate_auth_key("マトリックス", "example.org", "x")));
        for at in 0..request.len() {
            let mut other = request.clone();
            other[at] ^= 1;
            let verifies = Message::parse(&other).is_some_and(|m| m.is_made_with(&key));
            assert!(!verifies, "byte {at} may be changed");
        }
    }

    #[test]
    fn what_does_not_lie_within_the_message_is_refused() {
        let request = bytes(REQUEST);
        for len in 0..request.len() {
            assert!(Message::parse(&request[..len]).is_none(), "{len}");
        }
        // An attribute that is longer than the rest.
        let mut long = request.clone();
        long[23] = 0xff;
        assert!(Message::parse(&long).is_none());
        assert!(Message::parse(&[0x40, 0, 0, 0]).is_none(), "data of a channel");
    }

    #[test]
    fn peers_are_read_all_or_not_at_all() {
        let mut request = bytes("00080000 2112a442 000102030405060708090a0b");
        // 192.0.2.1:32853, as RFC 5769 section 2.2 writes it, and 2001:db8::1:1 port 1 with this transaction.
        request.extend(bytes("00120008 0001a147e112a643"));
        request[3] = 12;
        let expected: SocketAddr = "192.0.2.1:32853".parse().unwrap();
        assert_eq!(Message::parse(&request).unwrap().peers(), Some(vec![expected]));
        let mut v6 = request.clone();
        v6.extend(bytes("00120014 00022113 0113a9fa 0001020304050607 08080a0a"));
        v6[3] = 36;
        let peers = Message::parse(&v6).unwrap().peers().unwrap();
        let expected: SocketAddr = "[2001:db8::1:1]:1".parse().unwrap();
        assert_eq!(peers[1], expected);
        v6[request.len() + 5] = 3;
        assert_eq!(Message::parse(&v6).unwrap().peers(), None);
    }

    #[test]
    fn a_refusal_is_smaller_than_what_it_answers() {
        let request = bytes(REQUEST);
        let answer = Message::parse(&request).unwrap().refusal(403);
        assert_eq!(answer[..4], [0x01, 0x11, 0, 8]);
        assert_eq!(answer[4..20], request[4..20]);
        assert_eq!(answer[20..], [0, 9, 0, 4, 0, 0, 4, 3]);
        assert!(answer.len() < request.len());
    }
}
