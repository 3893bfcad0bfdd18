//! The connections to other nodes: one reach machine each, and the addresses that are known or found.
//!
//! Somebody who is wanted is dialed where they were last; the [`Seeker`] is told of it, and what it finds is dialed as it
//! comes. A wish ends when somebody is connected at any node that may be theirs, or when nothing is dialed and nobody is
//! asked any more.

mod carrying;
mod given;
mod wishes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use self::given::Given;
use super::{
    book::Book,
    clock,
    finder::{Seeker, Tip},
};
use crate::{
    event::Findable,
    id::{NodeId, PublicKey},
    ports::gossip::Gossip,
    proto::{EffectId, Outcome},
    reach::{
        Addresses, Answers, DialId, Found, Holder, Jitter, LookupId, MAX_ADDRESS, MAX_REACH_ADDRESSES,
        OwnSeen, Pool, PoolConfig, QueryId, ReachConfig, ReachInput, ReachState, ResolveError, Source, Via,
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

/// The pause before a node through which others are found is tried again though that seemed hopeless: the longest pause of one
/// that might come back.
const ANCHOR_AGAIN: Duration = Duration::from_secs(30);

/// The most nodes at which one person is looked for: those of a full record, and the one of their key.
const MAX_PLACES: usize = 5;

pub(super) struct Reaches {
    gossip: Arc<dyn Gossip>,
    book: Book,
    seeker: Seeker,
    pool: Pool,
    /// Nodes through which others are found: their connections are made again and again.
    anchors: BTreeSet<NodeId>,
    given: Given,
    waiting: Vec<(EffectId, PublicKey)>,
    /// Where those who are wanted may be. Bounded by the participants of calls.
    places: BTreeMap<PublicKey, Vec<Spot>>,
    /// Nodes that were dialed without an address: how that ended, if it did. Bounded as the places are.
    by_name: BTreeMap<NodeId, Option<String>>,
    /// Nobody knows where these live. Somebody who is being dialed may turn out to know.
    lost: Vec<(EffectId, Outcome)>,
    /// The node of an identity, where it is not the one that the key itself names. Bounded as the book is.
    homes: BTreeMap<PublicKey, NodeId>,
    /// People whose connections are kept, and where they were kept last. Bounded by the pool.
    kept: BTreeMap<PublicKey, NodeId>,
    /// Where others say that somebody is, and how much of that was tried. Nobody has proven it, so it is not kept. Bounded
    /// by the participants of calls.
    told: BTreeMap<PublicKey, (NodeId, usize)>,
    dials: JoinSet<()>,
    /// The dialings that run, so that they can be ended. Bounded by what the reaches dial.
    running: BTreeMap<(NodeId, DialId), (AbortHandle, String)>,
    results: mpsc::Sender<Answer>,
}

/// A node at which somebody may be.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Spot {
    node: NodeId,
    /// They have signed it.
    signed: bool,
}

/// How something ended that was begun for a node.
pub(super) enum Answer {
    /// The dialing of one address.
    Dialed { node: NodeId, dial: DialId, result: Result<Via, String> },
    /// One attempt without an address, which works where the node finds others by name.
    Called { node: NodeId, result: Result<Via, String> },
    /// A question for a name.
    Resolved { node: NodeId, query: QueryId, result: Result<Answers, ResolveError> },
    /// A question for somebody.
    Found { lookup: LookupId, found: Option<Found> },
    /// The own record went out.
    Published { sequence: u64, stored: bool },
    /// What others have stored of this identity was looked at.
    Reviewed(OwnSeen),
}

impl Reaches {
    pub(super) fn new(
        gossip: Arc<dyn Gossip>,
        book: Book,
        seeker: Seeker,
        results: mpsc::Sender<Answer>,
    ) -> Self {
        let config = ReachConfig::default().with_max_attempts(ATTEMPTS).with_relay_only(seeker.relay_only());
        Self {
            gossip,
            book,
            seeker,
            pool: Pool::new(config, PoolConfig::default()),
            anchors: BTreeSet::new(),
            given: Given::default(),
            waiting: Vec::new(),
            places: BTreeMap::new(),
            by_name: BTreeMap::new(),
            lost: Vec::new(),
            homes: BTreeMap::new(),
            kept: BTreeMap::new(),
            told: BTreeMap::new(),
            dials: JoinSet::new(),
            running: BTreeMap::new(),
            results,
        }
    }

    /// The user has named this relay.
    pub(super) fn relay(&mut self, node: NodeId, address: &str) {
        self.given.add(node, address);
    }

    /// Others are found through this node: it is dialed until it is there, and again when it is lost.
    pub(super) fn anchor(&mut self, now: Instant, node: NodeId, address: &str) {
        self.given.add(node, address);
        self.learn(node, address);
        self.anchors.insert(node);
        let addresses = Addresses(self.book.addresses(&node));
        self.wish(now, node, addresses);
    }

    /// Records of others than they say, among what was found.
    pub(super) fn forged(&self) -> u64 {
        self.seeker.forged()
    }

    /// Whether others find this identity by its key.
    pub(super) fn findable(&self) -> Findable {
        self.seeker.findable()
    }

    /// Remembers an address of a node.
    pub(super) fn learn(&mut self, node: NodeId, address: &str) {
        self.book.remember(node, address);
        self.book.save();
    }

    /// Saves what was learnt, and waits for it.
    pub(super) async fn close(&mut self) {
        self.dials.abort_all();
        self.seeker.close().await;
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
            self.let_go(now, peer, other);
        }
        self.may_be_at(peer, node, false);
        if self.connected(&node).is_none() {
            let mut addresses = self.book.addresses(&node);
            addresses.extend(place.addresses().iter().cloned());
            self.dial_at(now, node, addresses);
        }
        self.settled(now)
    }

    /// Wants a connection to somebody; the machine is told how it went.
    pub(super) fn want_peer(
        &mut self,
        now: Instant,
        peer: PublicKey,
        id: EffectId,
    ) -> Vec<(EffectId, Outcome)> {
        let node = self.home(peer);
        self.may_be_at(peer, node, false);
        if let Some(via) = self.connected(&node) {
            self.adopt(now, node, via);
            return vec![(id, Outcome::Reached(via))];
        }
        self.waiting.push((id, peer));
        let known = self.book.addresses(&node);
        self.dial_at(now, node, known.clone());
        let tips = if known.is_empty() {
            self.seeker.look(now, peer, node)
        } else {
            self.seeker.look_later(now, peer, node, &known)
        };
        self.follow(now, tips);
        self.settled(now)
    }

    /// A call with somebody is over: the connection is kept for a while, in case another follows.
    pub(super) fn release(&mut self, now: Instant, peer: PublicKey) {
        self.seeker.stop(now, peer);
        let told = self.told.remove(&peer).map(|(node, _)| node);
        let places = self.places.remove(&peer).unwrap_or_default().into_iter().map(|spot| spot.node);
        let nodes: BTreeSet<NodeId> = places.chain(told).chain([self.home(peer)]).collect();
        for node in nodes {
            self.let_go(now, peer, node);
        }
    }

    /// A node is needed no more for the sake of this person.
    fn let_go(&mut self, now: Instant, peer: PublicKey, node: NodeId) {
        // Somebody else who is wanted may be there, whoever says so of the first.
        let others = self.places.iter().filter(|(who, _)| **who != peer);
        let needed = others.flat_map(|(_, spots)| spots).any(|spot| spot.node == node);
        if !needed && !self.anchors.contains(&node) {
            for holder in [Holder::App, Holder::Visit] {
                let effects = self.pool.release(now, &node, holder);
                self.carry_out(effects);
            }
        }
    }

    fn connected(&self, node: &NodeId) -> Option<Via> {
        self.gossip.connected().into_iter().find(|(n, _)| n == node).map(|(_, via)| via)
    }

    /// Dials a node at these addresses; without any, by its name alone.
    fn dial_at(&mut self, now: Instant, node: NodeId, mut addresses: Vec<String>) {
        addresses.truncate(MAX_REACH_ADDRESSES);
        if addresses.is_empty() {
            self.call(node);
        } else {
            self.wish(now, node, Addresses(addresses));
        }
    }

    /// Tries what was found.
    fn follow(&mut self, now: Instant, tips: Vec<Tip>) {
        for Tip { who, node, source, mut addresses } in tips {
            if !self.places.contains_key(&who) {
                continue;
            }
            // What was found comes first, and what was known is not lost.
            for known in self.book.addresses(&node) {
                if !addresses.contains(&known) {
                    addresses.push(known);
                }
            }
            if self.may_be_at(who, node, source == Source::Record) && self.connected(&node).is_none() {
                self.dial_at(now, node, addresses);
            }
        }
    }

    /// Wants a connection with a node, whoever lives there.
    pub(super) fn want(&mut self, now: Instant, node: NodeId) -> Vec<(EffectId, Outcome)> {
        if self.connected(&node).is_none() {
            let mut addresses = self.book.addresses(&node);
            addresses.truncate(MAX_REACH_ADDRESSES);
            match addresses.is_empty() {
                true => self.call(node),
                false => self.visit(now, node, Addresses(addresses)),
            }
        }
        self.settled(now)
    }

    pub(super) fn on_answer(&mut self, now: Instant, answer: Answer) -> Vec<(EffectId, Outcome)> {
        match answer {
            Answer::Dialed { node, dial, result } => {
                if let Some((_, address)) = self.running.remove(&(node, dial))
                    && result.is_ok()
                {
                    self.learn(node, &address);
                    if self.anchors.contains(&node) {
                        let tips = self.seeker.through(now, node, &address);
                        self.follow(now, tips);
                        self.on_own(now);
                    }
                }
                self.feed(now, node, ReachInput::Dialed { dial, result, jitter: jitter() });
            }
            Answer::Resolved { node, query, result } => {
                self.feed(now, node, ReachInput::Resolved { query, result, jitter: jitter() });
            }
            Answer::Called { node, result } => {
                // One that is connected is seen as such.
                let ended = result.err().unwrap_or_default();
                self.by_name.entry(node).and_modify(|error| *error = Some(ended));
            }
            Answer::Found { lookup, found } => {
                let tips = self.seeker.answered(now, lookup, found);
                self.follow(now, tips);
            }
            Answer::Published { sequence, stored } => {
                let tips = self.seeker.published(now, sequence, stored);
                self.follow(now, tips);
            }
            Answer::Reviewed(seen) => {
                let tips = self.seeker.reviewed(now, seen);
                self.follow(now, tips);
            }
        }
        self.settled(now)
    }

    /// The local network says where a node is.
    pub(super) fn on_nearby(
        &mut self,
        now: Instant,
        node: NodeId,
        addresses: Vec<String>,
    ) -> Vec<(EffectId, Outcome)> {
        let tips = self.seeker.nearby(now, node, addresses);
        self.follow(now, tips);
        self.settled(now)
    }

    /// Others reach this node somewhere else, or for the first time.
    pub(super) fn on_own(&mut self, now: Instant) {
        let tips = self.seeker.own(now, self.gossip.listening());
        self.follow(now, tips);
    }

    pub(super) fn on_connected(&mut self, now: Instant, node: NodeId, via: Via) -> Vec<(EffectId, Outcome)> {
        if self.places.values().flatten().any(|spot| spot.node == node) {
            self.adopt(now, node, via);
        }
        self.feed(now, node, ReachInput::PeerConnected { via });
        self.settled(now)
    }

    pub(super) fn on_disconnected(&mut self, now: Instant, node: NodeId) -> Vec<(EffectId, Outcome)> {
        self.feed(now, node, ReachInput::PeerDisconnected { jitter: jitter() });
        self.settled(now)
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
        if called || self.pool.is_held(&node) {
            // What the peer itself names comes last.
            let mut all = self.book.addresses(&node);
            for address in addresses {
                if !all.contains(&address) && address.len() <= MAX_ADDRESS {
                    all.push(address);
                }
            }
            all.truncate(MAX_REACH_ADDRESSES);
            let config = self.config(&node, AFTER_MOVE);
            self.pool.renew(&node, config.clone());
            let held = called || self.pool.is_held_by(&node, Holder::App);
            let holder = if held { Holder::App } else { Holder::Visit };
            self.connect(now, node, holder, Addresses(all), config);
        }
        self.settled(now)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let given_up = self.given_up().map(|(_, since)| since + ANCHOR_AGAIN);
        self.pool.next_timeout().into_iter().chain(given_up).chain(self.seeker.next_timeout()).min()
    }

    /// Nodes through which others are found, and which no repetition seemed to bring: a name that does not exist may exist
    /// in the next network.
    fn given_up(&self) -> impl Iterator<Item = (NodeId, Instant)> {
        self.anchors.iter().filter_map(|node| match self.pool.get(node)?.state() {
            ReachState::ConnectionFailed { since, .. } => Some((*node, *since)),
            _ => None,
        })
    }

    pub(super) fn on_time(&mut self, now: Instant) -> Vec<(EffectId, Outcome)> {
        while let Some(node) = self.pool.due(now) {
            let effects = self.pool.on_time(now, &node, jitter());
            self.carry_out(effects);
        }
        let again: Vec<NodeId> =
            self.given_up().filter(|(_, since)| *since + ANCHOR_AGAIN <= now).map(|(node, _)| node).collect();
        for node in again {
            self.wish(now, node, Addresses::default());
        }
        let tips = self.seeker.on_time(now);
        self.follow(now, tips);
        self.settled(now)
    }
}

fn jitter() -> Jitter {
    // Without randomness there is no spreading, and nothing worse.
    Jitter(clock::random().map(u16::from_le_bytes).unwrap_or_default())
}
