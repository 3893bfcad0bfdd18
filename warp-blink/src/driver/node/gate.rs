//! What a connected peer may make this node do and hold. Gossipsub itself has no answer to that: it remembers what
//! anybody sends, on any topic, for as long as its clocks say and in any number. So each peer's input passes here
//! before gossipsub sees it.
//!
//! # Verdicts
//! Gossipsub knows three for a message. *Accept* hands it on to the topic's mesh, *Ignore* forgets it, and *Reject*
//! forgets it and is held against the peer that brought it, who need not have written it. So:
//! - **Reject** is what every node can check without a key, and so no correct node hands on: a wrong size, a header
//!   that does not fit, a name that is no topic's, an author, a signature or a key. It is counted against the bearer.
//! - **Ignore** is what a later build may send (an unknown version, kind or suite), and what is on a topic that this
//!   node does not (any longer) subscribe to.
//! - Whatever needs a key to be judged is never held against anybody: a relay has no keys.
//!
//! What the last two make of a message happens here, so it costs no memory; *Accept* and *Ignore* of what is left
//! follow in the behaviour, from what this node does with the topic.
//!
//! # No peer scoring of gossipsub's
//! It is off on purpose. Its penalty for invalid messages needs parameters for each topic, which are never
//! forgotten, and our topics live as long as a call. Its penalty for slow peers hits the victim of a flood, whose
//! relay cannot pass everything on; its penalty for many peers of one address hits those behind one relay or NAT. And
//! it keeps each message's name for 120 s, which cannot be set. The one thing that is wanted of it is here: after
//! [`MAX_FAULTS`] rejected messages a peer is not listened to for [`IGNORED`]. Its connection stays.
//!
//! # Budgets
//! Each peer has budgets, smaller the more peers there are, and all together have one. One topic gets only three
//! quarters of a peer's, so that a flood on the open inbox leaves room for the contacts behind the same relay. What is
//! above is dropped and counted; callers send again. A peer that sent large frames at full speed for 75 s took 790 MiB
//! without all this, and takes less than 10 MiB with it (`tests/node/memory.rs`).

use std::{collections::BTreeMap, fmt, time::Duration};

use libp2p_gossipsub::{self as gossipsub, RawMessage, TopicHash, TopicSubscriptionFilter};
use rust_ipfs::{PeerId, swarm::THandlerOutEvent};

use super::tuning::OurTopics;
use crate::{time::Instant, wire::frame};

/// What a peer's connection tells gossipsub. The type has no public name; this one finds it.
pub(super) type FromPeer = THandlerOutEvent<gossipsub::Behaviour>;

/// The rejected messages that make a peer unheard. The specification of gossipsub 1.1 squares the number of invalid
/// messages (P4); rust-libp2p's weight of -1 and its graylist threshold of -80 are met by the ninth.
const MAX_FAULTS: f64 = 9.0;

/// One fault is forgiven in this time. No correct node makes any.
const FORGIVEN: Duration = Duration::from_secs(60);
const FAULTS: Budget = Budget { rate: 1.0 / FORGIVEN.as_secs() as f64, burst: MAX_FAULTS };

/// For how long a peer is unheard: ten times the time for which gossipsub keeps a peer out of a mesh (1 minute).
const IGNORED: Duration = Duration::from_secs(600);

/// The messages per second that are taken of all peers together. Gossipsub remembers each for a minute in about
/// 370 bytes (measured): 45 MB. A core opens 5,000 first messages a second, so this also leaves it time.
const ALL_MESSAGES: Budget = Budget { rate: 2048.0, burst: 4096.0 };

/// The bytes per second that are taken of all peers together. Gossipsub keeps what it hands on for 2.1 s: 17 MB, and
/// the burst.
const ALL_BYTES: Budget = Budget { rate: 8.0 * MIB, burst: 32.0 * MIB };

/// The messages per second of one peer, while there are few. A call's set-up is about a hundred within seconds, an
/// active call sends one in five seconds.
const MESSAGES: Budget = Budget { rate: 256.0, burst: 256.0 };

/// The least that one peer has, however many there are: the share of each with 128 peers, the most that a node of our
/// own has by default.
const MIN_MESSAGES: f64 = 16.0;

/// The bytes per second of one peer. Descriptions and candidates of a call take about 50 KiB.
const BYTES: Budget = Budget { rate: 512.0 * KIB, burst: MIB };
const MIN_BYTES: f64 = 64.0 * KIB;

/// What one topic may take of a peer's budgets. With this a burst on one topic is 192 messages, of which a forwarder
/// has room for 128 to each peer; the rest of a peer's second belongs to its other topics.
const OF_ONE_TOPIC: f64 = 0.75;

/// Grafts and prunes of one peer. Gossipsub remembers a prune of any topic for as long as the peer says, up to an
/// hour, and queues an answer to a graft without bound. Twice the topics that a node may have, and then one a second.
const MESH_CHANGES: Budget = Budget { rate: 1.0, burst: 512.0 };

/// Grafts and prunes of all peers together: 600 bytes each (estimated) make 37 MB in an hour.
const ALL_MESH_CHANGES: Budget = Budget { rate: 16.0, burst: 4096.0 };

/// Announcements and requests of messages. Gossipsub takes ten announcements in each heartbeat of 0.7 s.
const GOSSIP: Budget = Budget { rate: 16.0, burst: 64.0 };

/// A graft or prune of one of our topics, as Rust prints it, is shorter. Longer names only cost memory.
const MAX_MESH_CHANGE: usize = 256;

/// The most peers that are remembered after they left, so that leaving and coming back renews no budget.
const MAX_LEFT: usize = 1024;

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// What may come per second, and at once.
#[derive(Clone, Copy, Debug)]
struct Budget {
    rate: f64,
    burst: f64,
}

impl Budget {
    fn part(self, share: f64) -> Self {
        Self { rate: self.rate * share, burst: self.burst * share }
    }
}

/// What was taken out of a [`Budget`] lately.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    amount: f64,
    at: Instant,
}

impl Spent {
    fn settle(&mut self, now: Instant, budget: Budget) {
        self.amount = (self.amount - now.since(self.at).as_secs_f64() * budget.rate).max(0.0);
        self.at = now;
    }

    fn fits(&mut self, now: Instant, budget: Budget, amount: f64) -> bool {
        self.settle(now, budget);
        self.amount + amount <= budget.burst
    }

    fn take(&mut self, now: Instant, budget: Budget, amount: f64) -> bool {
        let fits = self.fits(now, budget, amount);
        self.amount += if fits { amount } else { 0.0 };
        fits
    }
}

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Volume {
    messages: Spent,
    bytes: Spent,
}

impl Volume {
    fn fits(&mut self, now: Instant, (messages, bytes): (Budget, Budget), size: f64) -> bool {
        self.messages.fits(now, messages, 1.0) && self.bytes.fits(now, bytes, size)
    }

    fn spend(&mut self, size: f64) {
        self.messages.amount += 1.0;
        self.bytes.amount += size;
    }
}

#[derive(Debug, Default)]
struct Account {
    volume: Volume,
    /// Only of topics that this node subscribes to.
    topics: BTreeMap<TopicHash, Volume>,
    mesh_changes: Spent,
    gossip: Spent,
    faults: Spent,
    ignored_until: Option<Instant>,
    /// It is connected.
    present: bool,
}

impl Account {
    /// It is not listened to.
    fn is_ignored(&mut self, now: Instant) -> bool {
        self.ignored_until = self.ignored_until.filter(|until| *until > now);
        self.ignored_until.is_some()
    }

    fn fault(&mut self, now: Instant) {
        self.faults.settle(now, FAULTS);
        self.faults.amount += 1.0;
        if self.faults.amount >= FAULTS.burst {
            self.faults = Spent::default();
            self.ignored_until = Some(now + IGNORED);
        }
    }
}

/// What was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stopped {
    /// In a shape that no correct node sends.
    pub(super) rejected: u64,
    /// Of an unknown version, kind or suite.
    pub(super) unknown: u64,
    /// On a topic that this node does not subscribe to.
    pub(super) stray: u64,
    /// Above a budget.
    pub(super) throttled: u64,
    /// Of a peer that is not listened to.
    pub(super) refused: u64,
    /// Control messages of gossipsub, for any of these reasons.
    pub(super) control: u64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Gate {
    peers: BTreeMap<PeerId, Account>,
    /// How many of these are connected.
    present: usize,
    all: Volume,
    all_mesh_changes: Spent,
}

/// What any node can say of a message without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Reject,
    Unknown,
    Stray,
}

fn verdict(message: &RawMessage, wanted: impl Fn(&TopicHash) -> bool) -> Verdict {
    // Gossipsub looks for an author, a number and a signature, but not for a key.
    if message.key.is_some() || !OurTopics.can_subscribe(&message.topic) {
        return Verdict::Reject;
    }
    if !wanted(&message.topic) {
        return Verdict::Stray;
    }
    match frame::check(&message.data) {
        Ok(_) => Verdict::Pass,
        Err(error) if error.is_violation() => Verdict::Reject,
        Err(_) => Verdict::Unknown,
    }
}

impl Gate {
    /// A connection with this peer is open.
    pub(super) fn connected(&mut self, peer: PeerId) {
        let account = self.peers.entry(peer).or_default();
        self.present += usize::from(!std::mem::replace(&mut account.present, true));
    }

    /// The last connection with this peer is closed.
    pub(super) fn disconnected(&mut self, now: Instant, peer: &PeerId) {
        let Some(account) = self.peers.get_mut(peer) else { return };
        self.present -= usize::from(std::mem::replace(&mut account.present, false));
        account.topics.clear();
        let (messages, bytes) = self.budgets();
        self.peers.retain(|_, account| {
            account.mesh_changes.settle(now, MESH_CHANGES);
            account.faults.settle(now, FAULTS);
            account.volume.messages.settle(now, messages);
            account.volume.bytes.settle(now, bytes);
            let volume = account.volume.messages.amount + account.volume.bytes.amount;
            let owes = volume + account.mesh_changes.amount + account.faults.amount;
            account.present || account.is_ignored(now) || owes > 0.0
        });
        if self.peers.len() - self.present > MAX_LEFT {
            // Whoever makes so many names can make more; which one is forgotten does not matter.
            let one = self.peers.iter().find(|(_, account)| !account.present).map(|(peer, _)| *peer);
            one.map(|peer| self.peers.remove(&peer));
        }
    }

    /// This node does not subscribe to the topic any longer.
    pub(super) fn unsubscribed(&mut self, topic: &TopicHash) {
        for account in self.peers.values_mut() {
            account.topics.remove(topic);
        }
    }

    /// A peer's budgets of messages and bytes: its share, within limits.
    fn budgets(&self) -> (Budget, Budget) {
        let peers = self.present.max(1) as f64;
        let share = |all: Budget, least: f64, one: Budget| Budget {
            rate: (all.rate / peers).clamp(least, one.rate),
            burst: one.burst,
        };
        (share(ALL_MESSAGES, MIN_MESSAGES, MESSAGES), share(ALL_BYTES, MIN_BYTES, BYTES))
    }

    /// Leaves of what a peer sent what gossipsub should see. Subscriptions are not looked at: they have a filter.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        peer: PeerId,
        event: &mut FromPeer,
        wanted: impl Fn(&TopicHash) -> bool,
    ) -> Stopped {
        let mut stopped = Stopped::default();
        let FromPeer::Message { rpc, invalid_messages } = event else { return stopped };
        // What gossipsub found invalid itself: an author, a number or a signature.
        for _ in invalid_messages.drain(..) {
            self.reject(now, peer, &mut stopped);
        }
        rpc.messages.retain(|message| self.admits(now, peer, message, &wanted, &mut stopped));
        rpc.control_msgs.retain(|control| {
            let admitted = self.admits_control(now, peer, control);
            stopped.control += u64::from(!admitted);
            admitted
        });
        stopped
    }

    fn reject(&mut self, now: Instant, peer: PeerId, stopped: &mut Stopped) {
        let account = self.peers.entry(peer).or_default();
        if account.is_ignored(now) {
            stopped.refused += 1;
        } else {
            account.fault(now);
            stopped.rejected += 1;
        }
    }

    fn admits(
        &mut self,
        now: Instant,
        peer: PeerId,
        message: &RawMessage,
        wanted: impl Fn(&TopicHash) -> bool,
        stopped: &mut Stopped,
    ) -> bool {
        let (messages, bytes) = self.budgets();
        let account = self.peers.entry(peer).or_default();
        if account.is_ignored(now) {
            stopped.refused += 1;
            return false;
        }
        match verdict(message, wanted) {
            Verdict::Pass => {}
            Verdict::Reject => {
                self.reject(now, peer, stopped);
                return false;
            }
            Verdict::Unknown => {
                stopped.unknown += 1;
                return false;
            }
            Verdict::Stray => {
                stopped.stray += 1;
                return false;
            }
        }
        let size = message.data.len() as f64;
        let topic = account.topics.entry(message.topic.clone()).or_default();
        let fits = topic.fits(now, (messages.part(OF_ONE_TOPIC), bytes.part(OF_ONE_TOPIC)), size)
            && account.volume.fits(now, (messages, bytes), size)
            && self.all.fits(now, (ALL_MESSAGES, ALL_BYTES), size);
        if fits {
            topic.spend(size);
            account.volume.spend(size);
            self.all.spend(size);
        }
        stopped.throttled += u64::from(!fits);
        fits
    }

    /// The messages by which meshes are made. Their type has no name and no public fields, but prints itself.
    fn admits_control(&mut self, now: Instant, peer: PeerId, control: &impl fmt::Debug) -> bool {
        let account = self.peers.entry(peer).or_default();
        if account.is_ignored(now) {
            return false;
        }
        let mut head = Head::default();
        let whole = fmt::write(&mut head, format_args!("{control:?}")).is_ok();
        match head.0.split_once('(').map(|(kind, _)| kind) {
            Some("Graft" | "Prune") => {
                whole
                    && account.mesh_changes.take(now, MESH_CHANGES, 1.0)
                    && self.all_mesh_changes.take(now, ALL_MESH_CHANGES, 1.0)
            }
            Some("IHave" | "IWant") => account.gossip.take(now, GOSSIP, 1.0),
            // What is left belongs to gossipsub 1.2, which is not spoken here.
            _ => false,
        }
    }
}

/// The beginning of a text. An error says that there was more.
#[derive(Default)]
struct Head(String);

impl fmt::Write for Head {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_MESH_CHANGE {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
