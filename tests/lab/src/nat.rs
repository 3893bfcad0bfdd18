//! Routers that translate addresses, by nftables.

use crate::{
    Error,
    namespace::{DEVICE, Namespace},
    upnp,
};

/// How the router of a host translates. Each lets in only what answers to something that went out, by address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Nat {
    /// Keeps the port of the sender, whomever it sends to: what RFC 4787 calls endpoint-independent mapping.
    Cone,
    /// Takes another port for each destination.
    Symmetric,
    /// As [`Nat::Cone`], and drops all UDP.
    WithoutUdp,
    /// As [`Nat::Cone`], and opens ports for those behind it who ask (UPnP).
    OpensPorts,
}

/// The private network, the same behind every router, as at home.
const HOST: &str = "192.168.1.2";
const ROUTER: &str = "192.168.1.1";
pub(crate) const NETWORK: &str = "192.168.1.0/24";

impl Nat {
    /// Joins both and sets the rules. The device to the outside comes later.
    pub(crate) fn set_up(self, inside: &Namespace, outside: &Namespace) -> Result<(), Error> {
        let name = inside.name();
        outside.ip(&[
            format!("link add lan0 type veth peer name eth0 netns {name}"),
            format!("addr add {ROUTER}/24 dev lan0"),
            "link set lan0 up".into(),
        ])?;
        inside.ip(&[
            format!("addr add {HOST}/24 dev eth0"),
            "link set eth0 up".into(),
            format!("route add default via {ROUTER}"),
        ])?;
        outside.exec("sysctl", &["-qw", "net.ipv4.ip_forward=1"], "")?;
        outside.exec("nft", &["-f", "-"], &self.rules())
    }

    fn rules(self) -> String {
        let masquerade = match self {
            // Keeps the port where it is free.
            Self::Cone | Self::WithoutUdp | Self::OpensPorts => "masquerade",
            Self::Symmetric => "masquerade fully-random",
        };
        let udp = if self == Self::WithoutUdp { "meta l4proto udp drop;" } else { "" };
        // What was opened comes before everything else. Only `inet` is known to miniupnpd.
        let [forward, dnat, snat] = upnp::CHAINS;
        let (family, opened, translated, chains) = match self {
            Self::OpensPorts => (
                "inet",
                format!("jump {forward};"),
                format!("jump {snat};"),
                format!(
                    "chain {forward} {{ }}
                    chain {dnat} {{ }}
                    chain {snat} {{ }}
                    chain incoming {{
                        type nat hook prerouting priority -100;
                        iifname \"{DEVICE}\" jump {dnat};
                    }}"
                ),
            ),
            _ => ("ip", String::new(), String::new(), String::new()),
        };
        // A check of the peer that comes before our own must leave no entry for the router itself: else the masquerade
        // takes another port for ours, and no hole is punched.
        format!(
            "table {family} {table} {{
                {chains}
                chain outgoing {{ type nat hook postrouting priority 100; {translated} oifname \"{DEVICE}\" {masquerade}; }}
                chain through {{
                    type filter hook forward priority 0; policy accept; {udp} {opened}
                    iifname \"{DEVICE}\" ct state established,related accept;
                    iifname \"{DEVICE}\" drop;
                }}
                chain own {{
                    type filter hook input priority 0;
                    iifname \"{DEVICE}\" meta l4proto udp ct state new drop;
                }}
            }}\n",
            table = upnp::TABLE,
        )
    }
}
