//! A node for others: a bootstrap and a relay that anybody can run.

use futures::future::BoxFuture;
use tokio::{sync::watch, task::JoinHandle};

use super::{IpfsGossip, NodeConfig, NodeError, NodeFinding, RelayLimits};
use crate::{
    event::NodeState,
    id::{NodeId, NodeKey},
    ports::gossip::{Gossip, GossipEvent, GossipEvents},
};

/// The fewest connections of a relay, however few places it has: half of what a phone takes.
const MIN_PEERS: u32 = 64;

/// How a relay is set up.
///
/// It keeps a place for whoever asks, carries signals (not sound: see [`RelayLimits`]) between those it keeps a place for and those who
/// call them, says who is where as any node does, and tells nodes whether it can dial them. It makes no calls, and contacts
/// nobody by itself but to dial back those who ask for it.
///
/// What its owner sees: who is connected from which address, who calls whom and when. What is said is encrypted between the two ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RelayConfig {
    node: NodeConfig,
    limits: RelayLimits,
    announce: Vec<String>,
}

impl RelayConfig {
    /// A relay with this key, which is its name: who uses it knows it by that, so the key is to be kept. It listens on TCP and QUIC on
    /// every IPv4 network, on ports that the system chooses.
    pub fn new(key: NodeKey) -> Self {
        let node = NodeConfig::new(key).with_finding(NodeFinding::default());
        Self { node, limits: RelayLimits::default(), announce: Vec::new() }
    }

    /// Listens on these addresses instead, such as `/ip4/0.0.0.0/tcp/4001`. A loopback address is told to others only if it is
    /// named here.
    #[must_use]
    pub fn with_listen(mut self, listen: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.node = self.node.with_listen(listen);
        self
    }

    /// Tells others these addresses, too: for a port that a router forwards, or a name.
    #[must_use]
    pub fn with_announce(mut self, announce: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.announce = announce.into_iter().map(Into::into).collect();
        self
    }

    /// Gives more, or less.
    #[must_use]
    pub fn with_limits(mut self, limits: RelayLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How it finds others and is found: as a node of its own.
    #[must_use]
    pub fn with_finding(mut self, finding: NodeFinding) -> Self {
        self.node = self.node.with_finding(finding);
        self
    }

    /// The node of it.
    pub(crate) fn node(self) -> NodeConfig {
        // One for each place, and a quarter more for those who look somebody up, call, or dial back.
        let places = u32::try_from(self.limits.places).unwrap_or(u32::MAX);
        let peers = places.saturating_add(places / 4).max(MIN_PEERS);
        self.node.with_max_peers(peers).serving(self.limits, self.announce)
    }

    /// Starts it, in the present tokio runtime. It listens when this returns.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left running then.
    pub fn start(self) -> BoxFuture<'static, Result<RelayNode, NodeError>> {
        Box::pin(async move {
            let gossip = self.node().start().await?;
            let (state, states) = watch::channel(gossip.state().into());
            // Nobody has taken them before.
            let reader = gossip.take_events().map(|events| tokio::spawn(follow(events, state)));
            Ok(RelayNode { gossip, states, reader })
        })
    }
}

/// A relay that runs: see [`RelayConfig`].
#[derive(Debug)]
pub struct RelayNode {
    gossip: IpfsGossip,
    states: watch::Receiver<NodeState>,
    reader: Option<JoinHandle<()>>,
}

impl RelayNode {
    /// Its name.
    pub fn node(&self) -> NodeId {
        self.gossip.node()
    }

    /// Where it listens, each with `/p2p/` and its name.
    pub fn addresses(&self) -> Vec<String> {
        self.gossip.listening()
    }

    /// How it stands. A relay that is not [`Public`](NodeState::Public) is of use to those in its own network only.
    pub fn state(&self) -> NodeState {
        self.gossip.state().into()
    }

    /// The states from now on; the last one is [`Offline`](NodeState::Offline).
    pub fn states(&self) -> watch::Receiver<NodeState> {
        self.states.clone()
    }

    /// How many nodes are connected.
    pub fn connected(&self) -> usize {
        self.gossip.connected().len()
    }

    /// Ends it, with all its connections.
    pub async fn shutdown(mut self) {
        self.gossip.shutdown().await;
        if let Some(reader) = self.reader.take() {
            // It ends with the last event.
            let _ = reader.await;
        }
    }
}

/// Reads what is told, so that nothing piles up, and keeps the state.
async fn follow(mut events: GossipEvents, state: watch::Sender<NodeState>) {
    while let Some(event) = events.recv().await {
        if let GossipEvent::State(new) = event {
            state.send_replace(new.into());
        }
    }
}
