//! The connections to other nodes: one reach machine each, and the addresses that are known.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio::{sync::mpsc, task::JoinSet};

use super::clock;
use crate::{
    id::NodeId,
    ports::gossip::{ConnectError, Gossip},
    proto::{EffectId, Outcome},
    reach::{DialId, Effect, Jitter, Reach, ReachConfig, ReachError, ReachInput, ReachState, Via},
    time::Instant,
};

/// Nodes whose addresses are remembered. The one that was named longest ago is forgotten first.
const MAX_NODES: usize = 1024;

/// Addresses remembered of one node, the newest first.
const MAX_PER_NODE: usize = 8;

/// Attempts for a call: with pauses of 0.5, 1 and 2 s a callee that refuses every connection is known to be offline
/// after about four seconds, which is as long as a caller should be left without a word.
const ATTEMPTS: u32 = 4;

pub(super) struct Reaches {
    gossip: Arc<dyn Gossip>,
    known: BTreeMap<NodeId, VecDeque<String>>,
    order: VecDeque<NodeId>,
    machines: BTreeMap<NodeId, Reach>,
    waiting: Vec<(EffectId, NodeId)>,
    dials: JoinSet<()>,
    results: mpsc::Sender<Dialed>,
}

/// How one dialing ended.
pub(super) struct Dialed {
    node: NodeId,
    dial: DialId,
    result: Result<Via, ReachError>,
}

impl Reaches {
    pub(super) fn new(gossip: Arc<dyn Gossip>) -> (Self, mpsc::Receiver<Dialed>) {
        let (results, receiver) = mpsc::channel(64);
        let reaches = Self {
            gossip,
            known: BTreeMap::new(),
            order: VecDeque::new(),
            machines: BTreeMap::new(),
            waiting: Vec::new(),
            dials: JoinSet::new(),
            results,
        };
        (reaches, receiver)
    }

    /// Remembers an address of a node.
    pub(super) fn learn(&mut self, node: NodeId, address: String) {
        if !self.known.contains_key(&node) {
            if self.order.len() >= MAX_NODES
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.order.push_back(node);
        }
        let addresses = self.known.entry(node).or_default();
        addresses.retain(|a| *a != address);
        addresses.push_front(address);
        addresses.truncate(MAX_PER_NODE);
    }

    /// Wants a connection. With an effect, the machine is told how it went.
    pub(super) fn want(&mut self, now: Instant, node: NodeId, effect: Option<EffectId>) -> Vec<(EffectId, Outcome)> {
        let addresses: Vec<String> = self.known.get(&node).map(|a| a.iter().cloned().collect()).unwrap_or_default();
        let connected = self.gossip.connected().into_iter().find(|(n, _)| *n == node);
        if let Some(effect) = effect {
            match connected {
                Some((_, via)) => return vec![(effect, Outcome::Reached(via))],
                None if addresses.is_empty() => {
                    return vec![(effect, Outcome::Failed(ConnectError::NoAddresses.to_string()))];
                }
                None => self.waiting.push((effect, node)),
            }
        }
        if connected.is_none() && !addresses.is_empty() {
            self.feed(now, node, ReachInput::Connect { addresses });
        }
        self.settled()
    }

    pub(super) fn on_dialed(&mut self, now: Instant, dialed: Dialed) -> Vec<(EffectId, Outcome)> {
        let input = ReachInput::Dialed { dial: dialed.dial, result: dialed.result, jitter: jitter() };
        self.feed(now, dialed.node, input);
        self.settled()
    }

    pub(super) fn on_connected(&mut self, now: Instant, node: NodeId, via: Via) -> Vec<(EffectId, Outcome)> {
        self.feed(now, node, ReachInput::PeerConnected { via });
        self.settled()
    }

    pub(super) fn on_disconnected(&mut self, now: Instant, node: NodeId) -> Vec<(EffectId, Outcome)> {
        self.feed(now, node, ReachInput::PeerDisconnected { jitter: jitter() });
        self.settled()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.machines.values().filter_map(Reach::next_timeout).min()
    }

    pub(super) fn on_time(&mut self, now: Instant) -> Vec<(EffectId, Outcome)> {
        let due: Vec<NodeId> =
            self.machines.iter().filter(|(_, r)| r.next_timeout().is_some_and(|t| t <= now)).map(|(n, _)| *n).collect();
        for node in due {
            self.feed(now, node, ReachInput::Timeout { jitter: jitter() });
        }
        self.settled()
    }

    fn feed(&mut self, now: Instant, node: NodeId, input: ReachInput) {
        if !self.machines.contains_key(&node) && !matches!(input, ReachInput::Connect { .. }) {
            // Somebody else's connection: nothing here wants it.
            return;
        }
        let config = ReachConfig::default().with_max_attempts(ATTEMPTS);
        let reach = self.machines.entry(node).or_insert_with(|| Reach::new(config));
        let effects = reach.handle(now, input).unwrap_or_else(|rejected| {
            tracing::debug!(%rejected, "reach");
            Vec::new()
        });
        for effect in effects {
            match effect {
                Effect::Dial { dial, addresses, .. } => {
                    let (gossip, results) = (self.gossip.clone(), self.results.clone());
                    self.dials.spawn(async move {
                        let result = gossip.connect(&node, &addresses.0).await.map_err(reach_error);
                        // A driver that is gone needs no result.
                        let _ = results.send(Dialed { node, dial, result }).await;
                    });
                }
                Effect::Close => {
                    let gossip = self.gossip.clone();
                    self.dials.spawn(async move {
                        if gossip.disconnect(&node).await.is_err() {
                            tracing::debug!("the node was gone before its connection was closed");
                        }
                    });
                }
            }
        }
        while self.dials.try_join_next().is_some() {}
        // Machines that hold nothing are not kept: what they know is in `known`.
        self.machines.retain(|n, r| {
            !matches!(r.state(), ReachState::Disconnected) || self.waiting.iter().any(|(_, w)| w == n)
        });
    }

    fn settled(&mut self) -> Vec<(EffectId, Outcome)> {
        let mut out = Vec::new();
        self.waiting.retain(|(effect, node)| {
            let outcome = match self.machines.get(node).map(Reach::state) {
                Some(ReachState::Connected { via, .. }) => Outcome::Reached(*via),
                Some(ReachState::ConnectionFailed { error, .. }) => Outcome::Failed(error.to_string()),
                None | Some(ReachState::Disconnected) => Outcome::Failed("given up".to_owned()),
                Some(_) => return true,
            };
            out.push((*effect, outcome));
            false
        });
        out
    }
}

fn jitter() -> Jitter {
    // Without randomness there is no spreading, and nothing worse.
    Jitter(clock::random().map(u16::from_le_bytes).unwrap_or_default())
}

fn reach_error(error: ConnectError) -> ReachError {
    match error {
        ConnectError::Failed(failures) => ReachError::Addresses(failures),
        ConnectError::TimedOut { .. } => ReachError::TimedOut,
        other => ReachError::Addresses(vec![crate::reach::AddressFailure {
            address: String::new(),
            cause: other.to_string(),
        }]),
    }
}
