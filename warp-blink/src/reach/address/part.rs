//! The parts of an address, one by one.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{AddressError, Problem};
use crate::id::NodeId;

/// The most bytes of a domain name (RFC 1035, section 2.3.4, as text).
const MAX_DOMAIN: usize = 253;

/// What the multiaddress table lists and this build does not speak, with whether a value follows.
const OTHERS: [(&str, bool); 30] = [
    ("certhash", true),
    ("dccp", true),
    ("garlic32", true),
    ("garlic64", true),
    ("http", false),
    ("http-path", true),
    ("https", false),
    ("ip6zone", true),
    ("ipcidr", true),
    ("noise", false),
    ("onion", true),
    ("onion3", true),
    ("p2p-stardust", false),
    ("p2p-webrtc-direct", false),
    ("p2p-webrtc-star", false),
    ("p2p-websocket-star", false),
    ("plaintextv2", false),
    ("quic", false),
    ("sctp", true),
    ("sni", true),
    ("thread", true),
    ("tls", false),
    ("udt", false),
    ("unix", true),
    ("utp", false),
    ("webrtc", false),
    ("webrtc-direct", false),
    ("webtransport", false),
    ("ws", false),
    ("wss", false),
];

/// One part of an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Part {
    /// A host by its number.
    Ip4(Ipv4Addr),
    /// The same.
    Ip6(Ipv6Addr),
    /// A host by its name, at whatever addresses that has.
    Dns(String),
    /// The same, at its IPv4 addresses.
    Dns4(String),
    /// The same, at its IPv6 addresses.
    Dns6(String),
    /// A name that stands for whole addresses.
    Dnsaddr(String),
    /// A TCP port.
    Tcp(u16),
    /// A UDP port.
    Udp(u16),
    /// QUIC, version 1 (RFC 9000).
    QuicV1,
    /// A node's name.
    P2p(NodeId),
    /// What stands before it is a relay.
    Circuit,
    /// A place within this process.
    Memory(u64),
    /// Something that this build does not speak.
    Other {
        /// Its name.
        name: String,
        /// What stands behind it.
        value: Option<String>,
    },
}

impl Part {
    pub(super) fn read<'t>(at: usize, name: &'t str, rest: &mut Words<'t>) -> Result<Self, AddressError> {
        let mut value = || rest.next().ok_or_else(|| AddressError::new(Problem::NoValue, name, at));
        fn read<T>((at, text): (usize, &str), found: Option<T>, problem: Problem) -> Result<T, AddressError> {
            found.ok_or_else(|| AddressError::new(problem, text, at))
        }
        Ok(match name {
            "ip4" => {
                let value = value()?;
                Self::Ip4(read(value, value.1.parse().ok(), Problem::Ip4)?)
            }
            "ip6" => {
                let value = value()?;
                Self::Ip6(read(value, value.1.parse().ok(), Problem::Ip6)?)
            }
            "dns" | "dns4" | "dns6" | "dnsaddr" => {
                let value = value()?;
                let domain = read(value, domain(value.1), Problem::Domain)?;
                match name {
                    "dns" => Self::Dns(domain),
                    "dns4" => Self::Dns4(domain),
                    "dns6" => Self::Dns6(domain),
                    _ => Self::Dnsaddr(domain),
                }
            }
            "tcp" | "udp" => {
                let value = value()?;
                let port = read(value, number(value.1, u16::MAX.into()), Problem::Port)?;
                let port = read(value, u16::try_from(port).ok(), Problem::Port)?;
                if name == "tcp" { Self::Tcp(port) } else { Self::Udp(port) }
            }
            "quic-v1" => Self::QuicV1,
            // The second is what it was called before.
            "p2p" | "ipfs" => {
                let value = value()?;
                Self::P2p(read(value, value.1.parse().ok(), Problem::Node)?)
            }
            "p2p-circuit" => Self::Circuit,
            "memory" => {
                let value = value()?;
                Self::Memory(read(value, number(value.1, u64::MAX), Problem::Number)?)
            }
            other => {
                let found = OTHERS.iter().find(|(known, _)| *known == other);
                let (name, has_value) =
                    found.ok_or_else(|| AddressError::new(Problem::UnknownName, name, at))?;
                let value = if *has_value { Some(value()?.1.to_owned()) } else { None };
                Self::Other { name: (*name).to_owned(), value }
            }
        })
    }
}

/// A number from 1, in digits only: `parse` would take a sign too.
fn number(text: &str, most: u64) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && (1..=most).contains(number))
}

/// A domain name in lower case, without a dot at its end (RFC 1123, section 2.1; `_` as in RFC 8552).
fn domain(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (name.len() <= MAX_DOMAIN && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip4(ip) => write!(f, "/ip4/{ip}"),
            Self::Ip6(ip) => write!(f, "/ip6/{ip}"),
            Self::Dns(name) => write!(f, "/dns/{name}"),
            Self::Dns4(name) => write!(f, "/dns4/{name}"),
            Self::Dns6(name) => write!(f, "/dns6/{name}"),
            Self::Dnsaddr(name) => write!(f, "/dnsaddr/{name}"),
            Self::Tcp(port) => write!(f, "/tcp/{port}"),
            Self::Udp(port) => write!(f, "/udp/{port}"),
            Self::QuicV1 => f.write_str("/quic-v1"),
            Self::P2p(node) => write!(f, "/p2p/{node}"),
            Self::Circuit => f.write_str("/p2p-circuit"),
            Self::Memory(number) => write!(f, "/memory/{number}"),
            Self::Other { name, value: None } => write!(f, "/{name}"),
            Self::Other { name, value: Some(value) } => write!(f, "/{name}/{value}"),
        }
    }
}

impl fmt::Debug for Part {
    /// Its name only: values belong in no log above trace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        f.write_str(text.split('/').nth(1).unwrap_or_default())
    }
}

/// The words between the slashes, each with the byte where it begins.
pub(super) struct Words<'t> {
    words: std::str::Split<'t, char>,
    at: usize,
}

impl<'t> Words<'t> {
    pub(super) fn of(text: &'t str) -> Result<Self, AddressError> {
        let whole = text.strip_suffix('/').unwrap_or(text);
        let Some(rest) = whole.strip_prefix('/') else {
            return Err(AddressError::new(Problem::NoSlash, whole, 0));
        };
        // An empty word stands nowhere in an address but after its last slash.
        let mut at = 1;
        for word in rest.split('/') {
            if word.is_empty() {
                return Err(AddressError::new(Problem::NoSlash, "", at));
            }
            at += word.len() + 1;
        }
        Ok(Self { words: rest.split('/'), at: 1 })
    }
}

impl<'t> Iterator for Words<'t> {
    type Item = (usize, &'t str);
    fn next(&mut self) -> Option<Self::Item> {
        let word = self.words.next()?;
        let at = self.at;
        self.at += word.len() + 1;
        Some((at, word))
    }
}
