//! The connections to other nodes: one reach machine each, and the addresses that are known.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{book::Book, clock};
use crate::{
    id::{NodeId, PublicKey},
    ports::gossip::{ConnectError, Gossip},
    proto::{EffectId, Outcome},
    reach::{
        Addresses, Answers, DialId, Effect, Jitter, MAX_ADDRESS, MAX_REACH_ADDRESSES, QueryId, Question,
        Reach, ReachConfig, ReachInput, ReachState, ResolveError, Via,
    },
    time::Instant,
    wire::Whereabouts,
};

/// Addresses of somebody's node at which others make this node knock, in all calls together with that person: four of
/// each of four others.
const MAX_TOLD: usize = 16;

/// Identities whose node is remembered within a run; a further one is looked for under its own name only.
const MAX_NODES: usize = 1024;

/// Attempts for a call: with pauses of 0.5, 1 and 2 s a callee that refuses every connection is known to be offline
/// after about four seconds, which is as long as a caller should be left without a word.
const ATTEMPTS: u32 = 4;

/// Attempts after this machine has moved: with pauses of 0.5 s that double up to 30 s the last one is after a minute, as long as a
/// call waits for a link.
const AFTER_MOVE: u32 = 8;

pub(super) struct Reaches {
    gossip: Arc<dyn Gossip>,
    book: Book,
    machines: BTreeMap<NodeId, Reach>,
    waiting: Vec<(EffectId, NodeId)>,
    /// Nobody knows where these live. Somebody who is being dialed may turn out to know.
    lost: Vec<(EffectId, Outcome)>,
    /// The node of an identity, where it is not the one that the key itself names. Bounded as the book is.
    homes: BTreeMap<PublicKey, NodeId>,
    /// Where others say that somebody is, and how much of that was tried. Nobody has proven it, so it is not kept. Bounded
    /// by the participants of calls.
    told: BTreeMap<PublicKey, (NodeId, usize)>,
    dials: JoinSet<()>,
    /// The dialings that run, so that they can be ended. Bounded by what the reaches dial.
    running: BTreeMap<(NodeId, DialId), AbortHandle>,
    results: mpsc::Sender<Answer>,
}

/// How something ended that was begun for a node.
pub(super) enum Answer {
    /// The dialing of one address.
    Dialed { node: NodeId, dial: DialId, result: Result<Via, String> },
    /// One attempt without an address, which works where the node finds others by name.
    Called { node: NodeId, result: Result<Via, String> },
    /// A question for a name.
    Resolved { node: NodeId, query: QueryId, result: Result<Answers, ResolveError> },
}

impl Reaches {
    pub(super) fn new(gossip: Arc<dyn Gossip>, book: Book) -> (Self, mpsc::Receiver<Answer>) {
        let (results, receiver) = mpsc::channel(64);
        let reaches = Self {
            gossip,
            book,
            machines: BTreeMap::new(),
            waiting: Vec::new(),
            lost: Vec::new(),
            homes: BTreeMap::new(),
            told: BTreeMap::new(),
            dials: JoinSet::new(),
            running: BTreeMap::new(),
            results,
        };
        (reaches, receiver)
    }

    /// Remembers an address of a node.
    pub(super) fn learn(&mut self, node: NodeId, address: &str) {
        self.book.remember(node, address);
        self.book.save();
    }

    /// Saves what was learnt, and waits for it.
    pub(super) async fn close(&mut self) {
        self.dials.abort_all();
        self.book.close().await;
    }

    /// Somebody has proven to be at that node.
    pub(super) fn lives_at(&mut self, peer: PublicKey, node: NodeId) {
        if node == NodeId::from(peer) {
            self.homes.remove(&peer);
        } else if self.homes.len() < MAX_NODES || self.homes.contains_key(&peer) {
            self.homes.insert(peer, node);
        }
    }

    fn home(&self, peer: PublicKey) -> NodeId {
        let own = NodeId::from(peer);
        match (self.homes.get(&peer), self.told.get(&peer)) {
            (Some(proven), _) => *proven,
            (None, Some((told, _))) if self.book.addresses(&own).is_empty() => *told,
            (None, _) => own,
        }
    }

    /// What others can be told of where somebody is.
    pub(super) fn whereabouts(&self, peer: PublicKey) -> Whereabouts {
        let node = self.home(peer);
        Whereabouts::new(node, self.book.addresses(&node))
    }

    /// Somebody says where a participant is: that is tried.
    pub(super) fn hint(
        &mut self,
        now: Instant,
        peer: PublicKey,
        place: &Whereabouts,
    ) -> Vec<(EffectId, Outcome)> {
        let node = place.node();
        let before = self.told.get(&peer).copied();
        let tried = before.map_or(0, |(_, tried)| tried) + place.addresses().len().max(1);
        if tried > MAX_TOLD {
            return Vec::new();
        }
        self.told.insert(peer, (node, tried));
        if let Some((other, _)) = before.filter(|(n, _)| *n != node) {
            self.let_go(now, other);
        }
        let mut addresses = self.book.addresses(&node);
        addresses.extend(place.addresses().iter().cloned());
        addresses.truncate(MAX_REACH_ADDRESSES);
        if self.gossip.connected().iter().any(|(n, _)| *n == node) {
            return self.settled();
        }
        if addresses.is_empty() {
            self.call(node);
            return Vec::new();
        }
        self.feed(now, node, ReachInput::Connect { addresses: Addresses(addresses) });
        self.settled()
    }

    /// Wants a connection to somebody; the machine is told how it went.
    pub(super) fn want_peer(
        &mut self,
        now: Instant,
        peer: PublicKey,
        id: EffectId,
    ) -> Vec<(EffectId, Outcome)> {
        self.want(now, self.home(peer), Some(id))
    }

    /// A call with somebody is over: the connection is kept for a while, in case another follows.
    pub(super) fn release(&mut self, now: Instant, peer: PublicKey) {
        let told = self.told.remove(&peer).map(|(node, _)| node);
        self.let_go(now, self.home(peer));
        if let Some(node) = told {
            self.let_go(now, node);
        }
    }

    fn let_go(&mut self, now: Instant, node: NodeId) {
        if self.machines.contains_key(&node) {
            self.feed(now, node, ReachInput::Release);
        }
    }

    /// Wants a connection. With an effect, the machine is told how it went.
    pub(super) fn want(
        &mut self,
        now: Instant,
        node: NodeId,
        effect: Option<EffectId>,
    ) -> Vec<(EffectId, Outcome)> {
        let addresses = self.book.addresses(&node);
        let connected = self.gossip.connected().into_iter().find(|(n, _)| *n == node);
        if let Some(effect) = effect {
            match connected {
                Some((_, via)) => return vec![(effect, Outcome::Reached(via))],
                None => self.waiting.push((effect, node)),
            }
        }
        if connected.is_none() {
            if addresses.is_empty() {
                self.call(node);
                return Vec::new();
            }
            self.feed(now, node, ReachInput::Connect { addresses: Addresses(addresses) });
        }
        self.settled()
    }

    pub(super) fn on_answer(&mut self, now: Instant, answer: Answer) -> Vec<(EffectId, Outcome)> {
        match answer {
            Answer::Dialed { node, dial, result } => {
                self.running.remove(&(node, dial));
                self.feed(now, node, ReachInput::Dialed { dial, result, jitter: jitter() });
            }
            Answer::Resolved { node, query, result } => {
                self.feed(now, node, ReachInput::Resolved { query, result, jitter: jitter() });
            }
            Answer::Called { node, result } => {
                let outcome = match result {
                    Ok(via) => Outcome::Reached(via),
                    Err(error) => Outcome::Failed(error),
                };
                let (done, waiting) = self.waiting.drain(..).partition(|(_, n)| *n == node);
                self.waiting = waiting;
                let done: Vec<_> = done;
                self.lost.extend(done.into_iter().map(|(effect, _)| (effect, outcome.clone())));
            }
        }
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

    /// This machine has moved, and left a connection behind. Whoever is needed is reached anew, also who had come by themselves: they
    /// do not know where to look.
    pub(super) fn on_cut_off(
        &mut self,
        now: Instant,
        node: NodeId,
        addresses: Vec<String>,
        people: &[PublicKey],
    ) -> Vec<(EffectId, Outcome)> {
        let called = people.iter().any(|peer| self.home(*peer) == node);
        if called || self.machines.contains_key(&node) {
            // What the peer itself names comes last.
            let mut all = self.book.addresses(&node);
            for address in addresses {
                if !all.contains(&address) && address.len() <= MAX_ADDRESS {
                    all.push(address);
                }
            }
            all.truncate(MAX_REACH_ADDRESSES);
            let config = ReachConfig::default().with_max_attempts(AFTER_MOVE);
            self.machines.entry(node).or_insert_with(|| Reach::new(node, config.clone())).renew(config);
            self.feed(now, node, ReachInput::Connect { addresses: Addresses(all) });
        }
        self.settled()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.machines.values().filter_map(Reach::next_timeout).min()
    }

    pub(super) fn on_time(&mut self, now: Instant) -> Vec<(EffectId, Outcome)> {
        let due: Vec<NodeId> = self
            .machines
            .iter()
            .filter(|(_, r)| r.next_timeout().is_some_and(|t| t <= now))
            .map(|(n, _)| *n)
            .collect();
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
        let reach = self.machines.entry(node).or_insert_with(|| Reach::new(node, config));
        let effects = reach.handle(now, input).unwrap_or_else(|rejected| {
            tracing::debug!(%rejected, "reach");
            Vec::new()
        });
        for effect in effects {
            match effect {
                Effect::Dial { dial, address, .. } => self.dial(node, dial, address.to_string()),
                Effect::Resolve { query, question } => self.resolve(node, query, question),
                Effect::Abort { dial } => {
                    if let Some(running) = self.running.remove(&(node, dial)) {
                        running.abort();
                    }
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
        // Machines that hold nothing are not kept: what they know is in the book.
        self.machines.retain(|n, r| {
            !matches!(r.state(), ReachState::Disconnected) || self.waiting.iter().any(|(_, w)| w == n)
        });
    }

    fn dial(&mut self, node: NodeId, dial: DialId, address: String) {
        let (gossip, results) = (self.gossip.clone(), self.results.clone());
        let running = self.dials.spawn(async move {
            let result = gossip.connect(&node, &[address]).await.map_err(cause);
            // A driver that is gone needs no result.
            let _ = results.send(Answer::Dialed { node, dial, result }).await;
        });
        self.running.insert((node, dial), running);
    }

    fn call(&mut self, node: NodeId) {
        let (gossip, results) = (self.gossip.clone(), self.results.clone());
        self.dials.spawn(async move {
            let result = gossip.connect(&node, &[]).await.map_err(cause);
            let _ = results.send(Answer::Called { node, result }).await;
        });
    }

    fn resolve(&mut self, node: NodeId, query: QueryId, question: Question) {
        let (gossip, results) = (self.gossip.clone(), self.results.clone());
        self.dials.spawn(async move {
            let result = gossip.resolve(&question).await;
            let _ = results.send(Answer::Resolved { node, query, result }).await;
        });
    }

    fn settled(&mut self) -> Vec<(EffectId, Outcome)> {
        let dialing =
            |r: &Reach| matches!(r.state(), ReachState::Connecting { .. } | ReachState::Retry { .. });
        let mut out = Vec::new();
        if !self.machines.values().any(dialing) {
            out.append(&mut self.lost);
        }
        self.waiting.retain(|(effect, node)| {
            let outcome = match self.machines.get(node).map(Reach::state) {
                Some(ReachState::Connected { via, .. }) => Outcome::Reached(*via),
                Some(ReachState::ConnectionFailed { error, .. }) => Outcome::Failed(error.to_string()),
                Some(ReachState::Disconnected) => Outcome::Failed("given up".to_owned()),
                // On its way, or an attempt without an address that ends by itself.
                None | Some(_) => return true,
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

/// What one address answered; the address itself is known.
fn cause(error: ConnectError) -> String {
    match &error {
        ConnectError::Failed(failures) if let [failure] = failures.as_slice() => failure.cause.clone(),
        other => other.to_string(),
    }
}
