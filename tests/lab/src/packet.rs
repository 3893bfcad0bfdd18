//! What the router reads of an IP packet. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The ends and the protocol of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whom it says it is from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// What is inside, as far as that matters here.
    pub protocol: Protocol,
}

/// Kinds of packets that a router can be told to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Anything else, and fragments but the first of IPv6.
    Other,
}

/// `None`: not a packet of IPv4 or IPv6 with a whole header.
#[must_use]
pub fn header(packet: &[u8]) -> Option<Header> {
    let protocol = |number| match number {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => Protocol::Other,
    };
    match packet.first()? >> 4 {
        4 => {
            let address = |from: usize| -> Option<IpAddr> {
                let bytes: [u8; 4] = packet.get(from..from + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(bytes).into())
            };
            Some(Header {
                source: address(12)?,
                destination: address(16)?,
                protocol: protocol(*packet.get(9)?),
            })
        }
        6 => {
            let address = |from: usize| -> Option<IpAddr> {
                let bytes: [u8; 16] = packet.get(from..from + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(bytes).into())
            };
            let destination = address(24)?;
            Some(Header { source: address(8)?, destination, protocol: protocol(*packet.get(6)?) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_both_families_are_read() {
        let mut four = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0];
        four.extend([198, 18, 1, 2, 198, 18, 2, 2]);
        let read = header(&four).expect("a whole header");
        assert_eq!(
            (read.source, read.destination),
            ("198.18.1.2".parse().unwrap(), "198.18.2.2".parse().unwrap())
        );
        assert_eq!(read.protocol, Protocol::Udp);
        let mut six = vec![0x60, 0, 0, 0, 0, 0, 6, 64];
        let ends: [Ipv6Addr; 2] = ["2001:2:0:1::2".parse().unwrap(), "2001:2:0:2::2".parse().unwrap()];
        six.extend(ends.iter().flat_map(Ipv6Addr::octets));
        let read = header(&six).expect("a whole header");
        assert_eq!((read.source, read.destination), (ends[0].into(), ends[1].into()));
        assert_eq!(read.protocol, Protocol::Tcp);
    }

    #[test]
    fn what_is_cut_or_something_else_is_none() {
        assert_eq!(header(&[]), None);
        assert_eq!(header(&[0x45; 19]), None);
        assert_eq!(header(&[0x60; 39]), None);
        assert_eq!(header(&[0x15; 60]), None);
    }
}
