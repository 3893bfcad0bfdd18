//! Addresses of nodes: texts that people copy, and what can be dialed.

use std::{error::Error, fmt, net::IpAddr, str::FromStr};

use rust_ipfs::{Multiaddr, PeerId, Protocol};

use super::names::RESOLVE;
use crate::{
    id::NodeId,
    ports::gossip::{AddressFailure, MAX_ADDRESSES},
};

/// The most addresses that one name stands for.
const MAX_RESOLVED: usize = 4;

/// The longest text that is looked at, in bytes.
const MAX_TEXT: usize = 512;

/// Where a node is: an address that ends in `/p2p/` and the node's name.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeAddress {
    node: NodeId,
    address: Multiaddr,
}

/// A text that is no address of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// No multiaddress at all.
    #[error("`{text}` is no address: one looks like /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW... ({cause})")]
    Syntax {
        /// What was given.
        text: String,
        /// What is wrong.
        cause: String,
    },
    /// It does not say which node lives there, so whoever answers would be believed.
    #[error("`{text}` does not end in /p2p/<peer id>: without it nobody knows who should answer there")]
    NoNode {
        /// What was given.
        text: String,
    },
}

impl NodeAddress {
    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The address itself.
    pub(super) fn address(&self) -> &Multiaddr {
        &self.address
    }
}

impl FromStr for NodeAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = parse(text).map_err(|cause| AddressError::Syntax { text: shortened(text), cause })?;
        match address.iter().last() {
            Some(Protocol::P2p(peer)) if let Some(node) = node_of(&peer) => Ok(Self { node, address }),
            _ => Err(AddressError::NoNode { text: shortened(text) }),
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Debug for NodeAddress {
    /// Without the address, which belongs in no log above trace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeAddress({:?})", self.node)
    }
}

/// The node that a PeerId names. `None` never happens: both take the same bytes.
pub(super) fn node_of(peer: &PeerId) -> Option<NodeId> {
    NodeId::from_bytes(&peer.to_bytes()).ok()
}

/// The PeerId of a node. `None` never happens: both take the same bytes.
pub(super) fn peer_of(node: &NodeId) -> Option<PeerId> {
    PeerId::from_bytes(node.as_bytes()).ok()
}

/// Whether it leads through a relay.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Whether it leads to this machine alone.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// The relay that it leads through, if it does and says through which.
pub(super) fn relay_of(address: &Multiaddr) -> Option<NodeId> {
    let mut named = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => named = Some(peer),
            Protocol::P2pCircuit => return node_of(&named?),
            _ => {}
        }
    }
    None
}

pub(super) fn parse(text: &str) -> Result<Multiaddr, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("longer than {MAX_TEXT} bytes"));
    }
    let address: Multiaddr = text.parse().map_err(|error| chain(&error))?;
    if address.is_empty() { Err("it is empty".into()) } else { Ok(address) }
}

fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

/// What can be dialed of these texts to reach `peer`, and what cannot, each with its reason.
///
/// Names are resolved here, because rust-ipfs cannot dial one over TCP.
pub(super) async fn dialable(peer: PeerId, texts: &[String]) -> (Vec<Multiaddr>, Vec<AddressFailure>) {
    let mut good = Vec::new();
    let mut failures = Vec::new();
    for text in texts {
        let found = match parse(text).and_then(|address| for_peer(address, peer)) {
            Ok(address) => resolve(address).await,
            Err(cause) => Err(cause),
        };
        match found {
            Ok(addresses) => good.extend(addresses),
            Err(cause) => failures.push(AddressFailure { address: shortened(text), cause }),
        }
    }
    good.truncate(MAX_ADDRESSES);
    (good, failures)
}

/// The address with `/p2p/` and this peer at its end.
fn for_peer(address: Multiaddr, peer: PeerId) -> Result<Multiaddr, String> {
    match address.iter().last() {
        Some(Protocol::P2p(other)) if other != peer => {
            Err(format!("it is the address of another node, {other}"))
        }
        Some(Protocol::P2p(_)) => Ok(address),
        _ => Ok(address.with(Protocol::P2p(peer))),
    }
}

/// What stands for the name at its beginning, if there is one.
pub(super) async fn resolve(address: Multiaddr) -> Result<Vec<Multiaddr>, String> {
    let (name, keep): (String, fn(&IpAddr) -> bool) = match address.iter().next() {
        Some(Protocol::Dns(name)) => (name.into_owned(), |_| true),
        Some(Protocol::Dns4(name)) => (name.into_owned(), IpAddr::is_ipv4),
        Some(Protocol::Dns6(name)) => (name.into_owned(), IpAddr::is_ipv6),
        Some(Protocol::Dnsaddr(_)) => {
            return Err("/dnsaddr/ stands for several addresses: ask for them, and give those".into());
        }
        _ => return Ok(vec![address]),
    };
    let found = match tokio::time::timeout(RESOLVE, tokio::net::lookup_host((name.as_str(), 0))).await {
        Ok(found) => found.map_err(|error| format!("the name cannot be resolved: {error}"))?,
        Err(_) => return Err(format!("the name was not resolved within {RESOLVE:?}")),
    };
    let addresses: Vec<Multiaddr> = found
        .map(|socket| socket.ip())
        .filter(keep)
        .take(MAX_RESOLVED)
        .filter_map(|ip| address.replace(0, |_| Some(Protocol::from(ip))))
        .collect();
    if addresses.is_empty() { Err("the name has no address of that kind".into()) } else { Ok(addresses) }
}

/// The innermost reason of an error, where the operating system's own words are, cut to a readable length.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeKey;

    fn node() -> NodeId {
        NodeKey::from_seed([1; 32]).node_id()
    }

    #[test]
    fn an_address_with_its_node_is_read_and_printed() {
        for start in ["/ip4/127.0.0.1/tcp/4001", "/ip6/::1/udp/1/quic-v1", "/dns4/example.org/tcp/1"] {
            let text = format!("{start}/p2p/{}", node());
            let address: NodeAddress = text.parse().unwrap();
            assert_eq!(address.node(), node());
            assert_eq!(address.to_string(), text);
            assert!(!format!("{address:?}").contains(start));
        }
    }

    #[test]
    fn the_node_behind_a_relay_is_the_last_one() {
        let relay = NodeKey::from_seed([2; 32]).node_id();
        let text = format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{}", node());
        assert_eq!(text.parse::<NodeAddress>().unwrap().node(), node());
    }

    #[test]
    fn other_texts_get_an_error_that_says_what_is_missing() {
        let without = "/ip4/127.0.0.1/tcp/4001".parse::<NodeAddress>().unwrap_err();
        assert!(without.to_string().contains("/p2p/<peer id>"), "{without}");
        let long = "/x".repeat(1 << 16);
        for text in ["", "127.0.0.1:4001", "/ip4/300.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/p2p/nobody", &long] {
            let error = text.parse::<NodeAddress>().unwrap_err();
            assert!(matches!(&error, AddressError::Syntax { .. }), "{error}");
            assert!(error.to_string().len() < 500);
        }
    }

    #[test]
    fn peer_ids_and_nodes_are_the_same_bytes() {
        let peer = peer_of(&node()).unwrap();
        assert_eq!(peer.to_string(), node().to_string());
        assert_eq!(node_of(&peer), Some(node()));
    }

    #[tokio::test]
    async fn names_are_resolved_and_addresses_of_others_are_refused() {
        let peer = peer_of(&node()).unwrap();
        let other = NodeKey::from_seed([2; 32]).node_id();
        let texts = [
            "/dns4/localhost/tcp/7".to_owned(),
            format!("/ip4/127.0.0.1/tcp/8/p2p/{other}"),
            "/dnsaddr/localhost".to_owned(),
            "nonsense".to_owned(),
        ];
        let (good, failures) = dialable(peer, &texts).await;
        assert_eq!(good, [format!("/ip4/127.0.0.1/tcp/7/p2p/{peer}").parse().unwrap()]);
        let of: Vec<&str> = failures.iter().map(|f| f.address.as_str()).collect();
        assert_eq!(of, [&texts[1], &texts[2], &texts[3]]);
    }
}
