//! Where a member's node was found: what one member tells another, so that the two can meet.
//!
//! It is a hint. Whoever takes it dials, and believes only a session.

use std::fmt;

use super::{OpenError, SealError};
use crate::id::NodeId;

/// The most addresses of one node that are told: an address book keeps eight, and the first ones are those that worked.
pub const MAX_TOLD: usize = 4;

/// The most bytes of one of them; the longest in use, through a relay with two node names, have about 200.
pub const MAX_TOLD_BYTES: usize = 256;

/// A node, and addresses at which it was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Whereabouts {
    node: NodeId,
    addresses: Vec<String>,
}

impl Whereabouts {
    /// The first addresses that are short enough to be told.
    pub fn new(node: NodeId, addresses: impl IntoIterator<Item = String>) -> Self {
        let short = addresses.into_iter().filter(|a| !a.is_empty() && a.len() <= MAX_TOLD_BYTES);
        Self { node, addresses: short.take(MAX_TOLD).collect() }
    }

    /// The node.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Its addresses.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// `node length 1 | node | (length 2, address)*`.
    pub(super) fn encode(&self) -> Result<Vec<u8>, SealError> {
        let node = self.node.as_bytes();
        let mut bytes = vec![u8::try_from(node.len()).map_err(|_| SealError::Engine)?];
        bytes.extend_from_slice(node);
        for address in &self.addresses {
            let len = u16::try_from(address.len()).map_err(|_| SealError::Engine)?;
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(address.as_bytes());
        }
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let (len, rest) = bytes.split_first().ok_or(OpenError::Decode)?;
        let (node, mut rest) = rest.split_at_checked(usize::from(*len)).ok_or(OpenError::Decode)?;
        let node = NodeId::from_bytes(node).map_err(|_| OpenError::Decode)?;
        let mut addresses = Vec::new();
        while let Some((len, after)) = rest.split_first_chunk::<2>() {
            let (address, after) =
                after.split_at_checked(u16::from_be_bytes(*len).into()).ok_or(OpenError::Decode)?;
            let fits = (1..=MAX_TOLD_BYTES).contains(&address.len()) && addresses.len() < MAX_TOLD;
            let text = std::str::from_utf8(address).map_err(|_| OpenError::Decode)?;
            if !fits {
                return Err(OpenError::Decode);
            }
            addresses.push(text.to_owned());
            rest = after;
        }
        if rest.is_empty() { Ok(Self { node, addresses }) } else { Err(OpenError::Decode) }
    }
}

impl fmt::Debug for Whereabouts {
    /// Addresses belong in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Whereabouts({:?}, {} addresses)", self.node, self.addresses.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    fn node() -> NodeId {
        Identity::from_seed([1; 32]).public().into()
    }

    #[test]
    fn a_place_comes_back_as_it_was_and_never_in_part() {
        for count in 0..=MAX_TOLD {
            let addresses = (0..count).map(|n| format!("/ip4/192.0.2.{n}/tcp/4001"));
            let place = Whereabouts::new(node(), addresses);
            let bytes = place.encode().unwrap();
            assert_eq!(Whereabouts::decode(&bytes), Ok(place));
            let whole: Vec<usize> =
                (0..bytes.len()).filter(|len| Whereabouts::decode(&bytes[..*len]).is_ok()).collect();
            assert!(whole.len() <= count, "only between two addresses: {whole:?}");
        }
    }

    #[test]
    fn hostile_places_are_refused_and_long_ones_left_out() {
        let long =
            Whereabouts::new(node(), ["x".repeat(MAX_TOLD_BYTES + 1), String::new(), "/memory/1".to_owned()]);
        assert_eq!(long.addresses(), ["/memory/1"]);
        let many = Whereabouts::new(node(), (0..9).map(|n| n.to_string()));
        assert_eq!(many.addresses().len(), MAX_TOLD);
        let with = |more: &[&[u8]]| {
            let mut bytes = Whereabouts::new(node(), []).encode().unwrap();
            for address in more {
                bytes.extend_from_slice(&(address.len() as u16).to_be_bytes());
                bytes.extend_from_slice(address);
            }
            Whereabouts::decode(&bytes)
        };
        assert!(with(&[b"a", b"b", b"c", b"d"]).is_ok());
        for hostile in [&[&b"a"[..]; 5][..], &[&[0xff; 4][..]], &[&b""[..]], &[&[b'x'; 257][..]]] {
            assert_eq!(with(hostile), Err(OpenError::Decode), "{hostile:?}");
        }
        assert_eq!(Whereabouts::decode(&[]), Err(OpenError::Decode));
        assert_eq!(Whereabouts::decode(&[200, 1, 2]), Err(OpenError::Decode));
    }
}
