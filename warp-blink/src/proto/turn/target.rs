//! Where nothing is relayed to: a relay stands inside of a network that its clients are not in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why nothing is relayed to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forbidden {
    /// No host has it: unspecified, reserved, for documentation or for tests (RFC 6890).
    #[error("no host has this address")]
    Nobody,
    /// The relay itself.
    #[error("it is the relay's own host")]
    Own,
    /// The network around the relay: private (RFC 1918, RFC 4193), of a carrier's NAT (RFC 6598) or link-local.
    #[error("it belongs to the network around the relay")]
    Local,
    /// More than one host.
    #[error("it is a multicast or broadcast address")]
    Many,
}

/// Whether anything may be relayed to an address, or from it. IPv6 addresses that carry an IPv4 address inside are as that one.
///
/// # Errors
/// [`Forbidden`] says why not.
pub fn check_target(ip: IpAddr, own: &[IpAddr]) -> Result<(), Forbidden> {
    let ip = unwrapped(ip);
    match ip {
        IpAddr::V4(ip) => check_v4(ip)?,
        IpAddr::V6(ip) => check_v6(ip)?,
    }
    if own.iter().any(|own| unwrapped(*own) == ip) { Err(Forbidden::Own) } else { Ok(()) }
}

/// What is really meant: mapped (RFC 4291), translated (RFC 6052) and 6to4 (RFC 3056) addresses lead to an IPv4 host.
fn unwrapped(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match [a, b, c, d, e, f] {
        // Mapped, and the deprecated compatible form; `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0xffff] => v4(g, h),
        [0, 0, 0, 0, 0, 0] if g != 0 => v4(g, h),
        [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0x2002, high, low, ..] => v4(high, low),
        _ => ip,
    }
}

fn check_v4(ip: Ipv4Addr) -> Result<(), Forbidden> {
    let [a, b, c, _] = ip.octets();
    if ip.is_multicast() || ip.is_broadcast() {
        return Err(Forbidden::Many);
    }
    match (a, b, c) {
        (127, ..) => Err(Forbidden::Own),
        _ if ip.is_private() || ip.is_link_local() => Err(Forbidden::Local),
        (100, 64..=127, _) => Err(Forbidden::Local),
        (0 | 240.., ..) | (192, 0, 0) | (198, 18 | 19, _) => Err(Forbidden::Nobody),
        _ if ip.is_documentation() => Err(Forbidden::Nobody),
        _ => Ok(()),
    }
}

fn check_v6(ip: Ipv6Addr) -> Result<(), Forbidden> {
    if ip.is_loopback() {
        return Err(Forbidden::Own);
    }
    if ip.is_multicast() {
        return Err(Forbidden::Many);
    }
    match ip.segments() {
        // Unique local, link-local, site-local (RFC 3879), and translation inside of one network (RFC 8215).
        [0xfc00..=0xfdff, ..] | [0xfe80..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => Err(Forbidden::Local),
        // Unspecified, discarded (RFC 6666), Teredo (whose hosts sit behind IPv4 NATs) with its neighbours, documentation.
        [0, ..] | [0x100, 0, 0, 0, ..] | [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, ..] => {
            Err(Forbidden::Nobody)
        }
        // Only this is routed (RFC 4291 section 2.4).
        [0x2000..=0x3fff, ..] => Ok(()),
        _ => Err(Forbidden::Nobody),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ip: &str) -> Result<(), Forbidden> {
        check_target(ip.parse().unwrap(), &["203.0.114.7".parse().unwrap(), "2a00::7".parse().unwrap()])
    }

    #[test]
    fn only_hosts_of_the_open_network_are_relayed_to() {
        for ip in ["1.1.1.1", "203.0.114.8", "100.63.0.1", "100.128.0.1", "172.32.0.1", "2a00::8", "2600::1"]
        {
            assert_eq!(check(ip), Ok(()), "{ip}");
        }
        for (ip, why) in [
            ("127.0.0.1", Forbidden::Own),
            ("127.9.9.9", Forbidden::Own),
            ("::1", Forbidden::Own),
            ("203.0.114.7", Forbidden::Own),
            ("2a00::7", Forbidden::Own),
            ("10.0.0.1", Forbidden::Local),
            ("172.16.0.1", Forbidden::Local),
            ("192.168.1.1", Forbidden::Local),
            ("169.254.169.254", Forbidden::Local),
            ("100.64.0.1", Forbidden::Local),
            ("fc00::1", Forbidden::Local),
            ("fd12::1", Forbidden::Local),
            ("fe80::1", Forbidden::Local),
            ("fec0::1", Forbidden::Local),
            ("64:ff9b:1::1", Forbidden::Local),
            ("224.0.0.251", Forbidden::Many),
            ("255.255.255.255", Forbidden::Many),
            ("ff02::1", Forbidden::Many),
            ("0.0.0.0", Forbidden::Nobody),
            ("0.1.2.3", Forbidden::Nobody),
            ("192.0.0.8", Forbidden::Nobody),
            ("192.0.2.1", Forbidden::Nobody),
            ("198.18.0.1", Forbidden::Nobody),
            ("240.0.0.1", Forbidden::Nobody),
            ("::", Forbidden::Nobody),
            ("100::1", Forbidden::Nobody),
            ("2001:db8::1", Forbidden::Nobody),
            ("2001::1", Forbidden::Nobody),
            ("4000::1", Forbidden::Nobody),
        ] {
            assert_eq!(check(ip), Err(why), "{ip}");
        }
    }

    #[test]
    fn an_address_inside_of_an_address_is_looked_at() {
        for wrap in ["::ffff:{}", "::{}", "64:ff9b::{}"] {
            for (ip, why) in [
                ("127.0.0.1", Err(Forbidden::Own)),
                ("192.168.0.1", Err(Forbidden::Local)),
                ("203.0.114.7", Err(Forbidden::Own)),
                ("224.0.0.1", Err(Forbidden::Many)),
                ("1.1.1.1", Ok(())),
            ] {
                let wrapped = wrap.replace("{}", ip);
                assert_eq!(check(&wrapped), why, "{wrapped}");
            }
        }
        assert_eq!(check("2002:c0a8:1::1"), Err(Forbidden::Local), "192.168.0.1 by 6to4");
        assert_eq!(check("2002:101:101::1"), Ok(()), "1.1.1.1 by 6to4");
    }
}
