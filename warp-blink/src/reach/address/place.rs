//! What an address as a whole says: which parts may follow which, and where it leads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Part, Problem};

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Place {
    /// This machine, or this process.
    Loopback,
    /// The same cable or radio (RFC 3927; RFC 4291, section 2.5.6).
    LinkLocal,
    /// The same site (RFC 1918; RFC 6598, behind a carrier's NAT; RFC 4193).
    Private,
    /// Anywhere.
    Public,
    /// Where a name says.
    Name,
    /// Behind a relay.
    Relayed,
}

/// How packets get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// TCP.
    Tcp,
    /// QUIC over UDP.
    Quic,
    /// Within one process.
    Memory,
}

/// Which addresses of a name to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lookup {
    /// IPv4 and IPv6.
    Both,
    /// IPv4 only.
    Ip4,
    /// IPv6 only.
    Ip6,
    /// Whole addresses.
    Addresses,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv6, which is tried first (RFC 8305, section 4).
    V6,
    /// IPv4.
    V4,
}

/// Where an address begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Host<'a> {
    /// A number.
    Ip(IpAddr),
    /// A name.
    Name(&'a str),
    /// This process.
    Memory,
}

impl Host<'_> {
    /// What kind of place that is.
    pub fn place(&self) -> Place {
        match self {
            Self::Ip(IpAddr::V4(ip)) => of_ip4(*ip),
            Self::Ip(IpAddr::V6(ip)) => of_ip6(*ip),
            Self::Name(_) => Place::Name,
            Self::Memory => Place::Loopback,
        }
    }

    /// IPv4 or IPv6, where it is a number.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::Ip(IpAddr::V4(_)) => Some(Family::V4),
            Self::Ip(IpAddr::V6(_)) => Some(Family::V6),
            Self::Name(_) | Self::Memory => None,
        }
    }
}

fn of_ip4(ip: Ipv4Addr) -> Place {
    let [a, b, ..] = ip.octets();
    if ip.is_loopback() {
        Place::Loopback
    } else if ip.is_link_local() {
        Place::LinkLocal
    } else if ip.is_private() || (a == 100 && (64..128).contains(&b)) {
        Place::Private
    } else {
        Place::Public
    }
}

fn of_ip6(ip: Ipv6Addr) -> Place {
    if let Some(ip4) = ip.to_ipv4_mapped() {
        return of_ip4(ip4);
    }
    let [first, ..] = ip.segments();
    if ip.is_loopback() {
        Place::Loopback
    } else if first & 0xffc0 == 0xfe80 {
        Place::LinkLocal
    } else if first & 0xfe00 == 0xfc00 {
        Place::Private
    } else {
        Place::Public
    }
}

/// Whether somebody can live there.
fn of_somebody(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    // 0.0.0.0/8 is this network (RFC 1122, section 3.2.1.3), from 240.0.0.0 on nobody's.
    let nobody = matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 0 || ip.octets()[0] >= 240);
    !nobody && !ip.is_unspecified() && !ip.is_multicast()
}

/// The host. An address that passed [`check`] has one.
pub(super) fn host(parts: &[Part]) -> Host<'_> {
    match parts.first() {
        Some(Part::Ip4(ip)) => Host::Ip(IpAddr::V4(*ip)),
        Some(Part::Ip6(ip)) => Host::Ip(IpAddr::V6(*ip)),
        Some(Part::Dns(name) | Part::Dns4(name) | Part::Dns6(name) | Part::Dnsaddr(name)) => Host::Name(name),
        _ => Host::Memory,
    }
}

pub(super) fn transport(parts: &[Part]) -> Option<Transport> {
    match parts {
        [Part::Memory(_), ..] => Some(Transport::Memory),
        [_, Part::Tcp(_), ..] => Some(Transport::Tcp),
        [_, Part::Udp(_), ..] => Some(Transport::Quic),
        _ => None,
    }
}

/// Whether these parts make an address that can be dialed: `host transport [p2p [circuit [p2p]]]`. Otherwise the part
/// that is wrong; the one behind the last if something is missing.
pub(super) fn check(parts: &[Part]) -> Result<(), (usize, Problem)> {
    // What nobody here speaks is named first, wherever it stands: the grammar would complain about its neighbours.
    if let Some(at) = parts.iter().position(|part| matches!(part, Part::Other { .. })) {
        return Err((at, Problem::Unsupported));
    }
    let mut at = match parts {
        [Part::Ip4(ip), ..] if !of_somebody(IpAddr::V4(*ip)) => return Err((0, Problem::Nobody)),
        [Part::Ip6(ip), ..] if !of_somebody(IpAddr::V6(*ip)) => return Err((0, Problem::Nobody)),
        [Part::Memory(_) | Part::Dnsaddr(_), ..] => 1,
        [Part::Ip4(_) | Part::Ip6(_) | Part::Dns(_) | Part::Dns4(_) | Part::Dns6(_), rest @ ..] => match rest
        {
            [Part::Tcp(_), ..] => 2,
            [Part::Udp(_), Part::QuicV1, ..] => 3,
            [Part::Udp(_), ..] => return Err((2, Problem::NoQuic)),
            _ => return Err((1, Problem::NoTransport)),
        },
        _ => return Err((0, Problem::NoHost)),
    };
    let named = |at: usize| matches!(parts.get(at), Some(Part::P2p(_)));
    at += usize::from(named(at));
    if parts.get(at) == Some(&Part::Circuit) {
        if !named(at - 1) {
            return Err((at, Problem::NoRelay));
        }
        at += 1;
        at += usize::from(named(at));
    }
    match parts.get(at) {
        None => Ok(()),
        Some(Part::Circuit) => Err((at, Problem::TwoRelays)),
        Some(_) => Err((at, Problem::NotTheEnd)),
    }
}
