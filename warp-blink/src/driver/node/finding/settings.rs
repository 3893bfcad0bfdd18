//! How a node finds others, as its owner wants it.

use std::{collections::BTreeSet, time::Duration};

use crate::id::NodeId;

/// How a node finds others and is found. Without anything else: it answers those who ask, and asks nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeFinding {
    /// Take part in the Kademlia of warp-blink. Default true. Without nodes in [`bootstrap`](Self::bootstrap) this node answers
    /// others there and asks nobody.
    pub kademlia: bool,
    /// Ask the local network who is there, and answer. Default false: everybody in that network learns this node's name
    /// and addresses.
    pub mdns: bool,
    /// Nodes through which others are found, as PeerIds. Default none.
    pub bootstrap: BTreeSet<NodeId>,
    /// Look for nodes in the Kademlia of the public IPFS network too, through those nodes of [`bootstrap`](Self::bootstrap)
    /// that belong to it; nothing is stored there, and nobody answered. Default false: strangers there learn whom this node
    /// looks for, and where it is.
    pub public: bool,
    /// Answer others, and be in their tables: who knows this node's name then learns where it is. Default true.
    pub serves: bool,
    /// Dial nothing but relayed addresses on the way to others, and answer nobody. Default false.
    pub relay_only: bool,
    /// How long a connection is kept that only a question needed, once nothing is asked any more. Default 10 s: one question. Without an end each node would hold connections to all that it ever asked.
    pub strangers: Duration,
}

impl Default for NodeFinding {
    fn default() -> Self {
        Self {
            kademlia: true,
            mdns: false,
            bootstrap: BTreeSet::new(),
            public: false,
            serves: true,
            relay_only: false,
            strangers: Duration::from_secs(10),
        }
    }
}

impl NodeFinding {
    /// One that asks nobody and answers nobody.
    #[must_use]
    pub fn off() -> Self {
        Self { kademlia: false, ..Self::default() }
    }

    /// The same with Kademlia, or without.
    #[must_use]
    pub fn with_kademlia(self, kademlia: bool) -> Self {
        Self { kademlia, ..self }
    }

    /// The same with the local network, or without.
    #[must_use]
    pub fn with_mdns(self, mdns: bool) -> Self {
        Self { mdns, ..self }
    }

    /// The same with the public IPFS network, or without.
    #[must_use]
    pub fn with_public(self, public: bool) -> Self {
        Self { public, ..self }
    }

    /// The same where others are answered, or not.
    #[must_use]
    pub fn with_serves(self, serves: bool) -> Self {
        Self { serves, ..self }
    }

    /// The same where nothing but relays is dialed, and nobody is answered.
    #[must_use]
    pub fn with_relay_only(self, relay_only: bool) -> Self {
        Self { relay_only, ..self }
    }

    /// The same where connections that only a question needed are kept for so long.
    #[must_use]
    pub fn with_strangers(self, strangers: Duration) -> Self {
        Self { strangers, ..self }
    }

    /// The same through these nodes.
    #[must_use]
    pub fn with_bootstrap(self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self { bootstrap: nodes.into_iter().collect(), ..self }
    }
}
