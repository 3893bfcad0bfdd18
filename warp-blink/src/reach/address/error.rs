//! What is wrong with a text that should be an address.

use std::fmt;

/// The most bytes of the text that an error repeats.
const MAX_SHOWN: usize = 64;

/// A text that is no address, or none that this build can dial.
///
/// `Display` repeats the part that is wrong; `Debug`, which ends in logs, does not.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressError {
    problem: Problem,
    part: String,
    at: usize,
}

/// What is wrong, and what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Longer than [`MAX_ADDRESS`](crate::reach::MAX_ADDRESS).
    #[error("an address has at most 512 bytes")]
    TooLong,
    /// More parts than [`MAX_PARTS`](super::MAX_PARTS).
    #[error("an address has at most 12 parts")]
    TooManyParts,
    /// It does not begin with `/`, or two follow each other.
    #[error("expected a name after each `/`, as in /ip4/192.0.2.1/tcp/4001")]
    NoSlash,
    /// A name that no address has.
    #[error("expected a name such as ip4, ip6, dns, tcp, udp, quic-v1, p2p or p2p-circuit")]
    UnknownName,
    /// Nothing stands behind a name that needs something.
    #[error("expected a value after it")]
    NoValue,
    /// No IPv4 address.
    #[error("expected an IPv4 address such as 192.0.2.1")]
    Ip4,
    /// No IPv6 address.
    #[error("expected an IPv6 address such as 2001:db8::1, without brackets and without a zone")]
    Ip6,
    /// No domain name.
    #[error(
        "expected a domain name of letters, digits and `-`, at most 63 bytes between dots (others in their xn-- form)"
    )]
    Domain,
    /// No port.
    #[error("expected a port from 1 to 65535")]
    Port,
    /// No PeerId.
    #[error("expected a PeerId such as 12D3KooW..., in base58")]
    Node,
    /// No number.
    #[error("expected a number from 1 to 18446744073709551615")]
    Number,
    /// It does not begin with a host.
    #[error("expected a host first: ip4, ip6, dns, dns4, dns6 or dnsaddr")]
    NoHost,
    /// A host that nobody is reached at: 0.0.0.0, multicast, broadcast.
    #[error("expected the address of one host: nobody is reached at this one")]
    Nobody,
    /// No transport stands behind the host.
    #[error("expected tcp/<port>, or udp/<port>/quic-v1, after the host")]
    NoTransport,
    /// UDP without what runs over it.
    #[error("expected quic-v1 after udp/<port>")]
    NoQuic,
    /// A transport or an encapsulation that this build does not speak.
    #[error("this build does not speak it: expected tcp/<port>, udp/<port>/quic-v1 or p2p-circuit")]
    Unsupported,
    /// A circuit without the name of its relay.
    #[error("expected the relay's name before it: /p2p/<peer id>/p2p-circuit")]
    NoRelay,
    /// A relay behind a relay.
    #[error("expected one relay only")]
    TwoRelays,
    /// Something stands where the address should end.
    #[error("expected the end of the address, p2p/<peer id> or p2p-circuit")]
    NotTheEnd,
    /// It is the address of another node.
    #[error("it is the address of this other node: expected the one that is looked for")]
    OtherNode,
}

impl AddressError {
    pub(super) fn new(problem: Problem, part: &str, at: usize) -> Self {
        let mut end = part.len().min(MAX_SHOWN);
        while !part.is_char_boundary(end) {
            end -= 1;
        }
        Self { problem, part: part[..end].to_owned(), at }
    }

    /// What is wrong.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// The part that is wrong, or its beginning; empty where something is missing.
    pub fn part(&self) -> &str {
        &self.part
    }

    /// Where it stands in the text, in bytes from 0.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problem, part, at } = self;
        if part.is_empty() {
            write!(f, "at byte {at} of the address: {problem}")
        } else {
            write!(f, "`{part}` at byte {at} of the address: {problem}")
        }
    }
}

impl fmt::Debug for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressError({:?} at {})", self.problem, self.at)
    }
}

impl std::error::Error for AddressError {}
