//! The gossip between the nodes: topics that become known after a while, and messages that are lost, repeated,
//! delayed and overtake each other; partitions.

use std::{rc::Rc, time::Duration};

use warp_blink::{
    id::{CallId, PublicKey},
    proto::{
        Arrived, Input, Outcome, TopicRef,
        signal::{CallBody, EpochId, Hello, Lane, Packet, SUITE_CLASSICAL, Welcome},
    },
    time::Instant,
};

use super::{
    Fault, Happening, World,
    real::Frame,
    vault::{Answer, Attachment, Fresh, Secret},
};

/// How the network and the machines under it behave.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// The share of messages that are lost, 0 to 1.
    pub loss: f64,
    /// The share of messages that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// The least and the most delay of a message. Each copy has its own, so that they overtake each other.
    pub delay: (Duration, Duration),
    /// How long a subscription takes to be known elsewhere.
    pub propagation: (Duration, Duration),
    /// How long the driver takes to tell how an effect ended.
    pub driver: (Duration, Duration),
    /// The share of attempts to open the sound devices that fail, 0 to 1.
    pub no_audio: f64,
}

pub(super) const fn ms(from: u64, to: u64) -> (Duration, Duration) {
    (Duration::from_millis(from), Duration::from_millis(to))
}

impl Conditions {
    /// A home network: nothing is lost, 5 to 20 ms.
    pub fn clean() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            delay: ms(5, 20),
            propagation: ms(5, 60),
            driver: ms(0, 5),
            no_audio: 0.0,
        }
    }

    /// A bad train ride: a fifth lost, a fifth repeated, 10 to 400 ms in any order.
    pub fn rough() -> Self {
        Self { loss: 0.2, duplicate: 0.2, delay: ms(10, 400), propagation: ms(5, 300), ..Self::clean() }
    }
}

/// Some of the nodes of a world, which has at most 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nodes(pub u32);

impl Nodes {
    /// These.
    pub fn of(nodes: &[usize]) -> Self {
        Self(nodes.iter().fold(0, |all, n| all | 1 << n))
    }

    /// Whether that one is among them.
    pub const fn has(self, node: usize) -> bool {
        self.0 >> node & 1 == 1
    }

    /// Each of them, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..32).filter(move |n| self.has(*n))
    }
}

/// A time in which some nodes hear nothing of the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) from: Instant,
    pub(super) until: Instant,
    pub(super) island: Nodes,
}

/// After this time without a word a node takes its neighbour for gone, and no longer publishes to it.
pub(super) const GONE: Duration = Duration::from_secs(5);

/// How long a node tries to reach one that does not answer.
const REACH_FAILS: Duration = Duration::from_secs(5);

/// A first message that waits to be opened.
#[derive(Clone, Debug)]
pub(super) struct First {
    pub(super) hello: Box<Hello>,
    pub(super) suite: u8,
    pub(super) handshake: Secret,
    /// The token of the door where it was put.
    pub(super) token: Option<u32>,
    pub(super) frame: Frame,
}

/// A message on its way.
#[derive(Debug)]
pub(super) enum Wire {
    Hello { lane: Lane, first: First },
    Welcome { call: CallId, from: PublicKey, answer: Answer, welcome: Welcome, frame: Frame },
    Packet { secret: Secret, packet: Box<Packet>, attachment: Attachment, frame: Frame },
    Call { call: CallId, epoch: EpochId, from: PublicKey, body: CallBody, frame: Frame },
}

impl World {
    /// Since when these two have been apart: cut off from each other, or one of them asleep.
    pub(super) fn apart_since(&self, a: usize, b: usize) -> Option<Instant> {
        let asleep = self.nodes[a].asleep.into_iter().chain(self.nodes[b].asleep);
        asleep.chain(self.cut_since(a, b)).min()
    }

    /// Since when these two have been cut off from each other.
    pub(super) fn cut_since(&self, a: usize, b: usize) -> Option<Instant> {
        let between =
            |c: &&Cut| c.from <= self.now && self.now < c.until && c.island.has(a) != c.island.has(b);
        self.cuts.iter().filter(between).map(|c| c.from).min()
    }

    pub(super) fn subscribe(&mut self, node: usize, topic: TopicRef) -> Result<(), Fault> {
        if !self.nodes[node].topics.insert(topic) {
            return Err(self.fault(node, format!("subscribes twice to {topic:?}")));
        }
        if let TopicRef::Call { call, epoch } = topic
            && !self.nodes[node].vault.holds(call, epoch)
        {
            return Err(self.fault(node, format!("has no key from which the name of {topic:?} follows")));
        }
        for observer in (0..self.nodes.len()).filter(|o| *o != node) {
            self.spread(node, observer, topic);
        }
        Ok(())
    }

    /// Somebody hears of a subscription, later.
    pub(super) fn spread(&mut self, node: usize, observer: usize, topic: TopicRef) {
        let delay = self.rng.between(self.conditions.propagation);
        let (life, at) = (self.nodes[observer].life, self.nodes[node].life);
        self.later(delay, Happening::Heard { observer, life, node, at, topic });
    }

    /// Two nodes are connected, perhaps again: each hears what the other listens to.
    pub(super) fn join(&mut self, a: usize, b: usize) {
        for (node, observer) in [(a, b), (b, a)] {
            if self.nodes[observer].up {
                let topics: Vec<_> = self.nodes[node].topics.iter().copied().collect();
                topics.into_iter().for_each(|topic| self.spread(node, observer, topic));
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, node: usize, topic: TopicRef) -> Result<(), Fault> {
        if !self.nodes[node].topics.remove(&topic) {
            return Err(self.fault(node, format!("leaves {topic:?}, to which it does not listen")));
        }
        Ok(())
    }

    /// An observer hears of a subscription, unless it is over by now; across a cut, later.
    pub(super) fn heard(&mut self, observer: usize, node: usize, topic: TopicRef) -> Result<(), Fault> {
        if !self.nodes[node].topics.contains(&topic) || self.cut_since(observer, node).is_some() {
            return Ok(());
        }
        self.nodes[observer].known.entry(topic).or_default().0 |= 1 << node;
        // Whoever has not got the key does not know what that topic is.
        if let TopicRef::Call { call, epoch } = topic
            && !self.nodes[observer].vault.holds(call, epoch)
        {
            return Ok(());
        }
        self.feed(observer, Input::PeerSubscribed(topic))
    }

    pub(super) fn publish(&mut self, from: usize, topic: TopicRef, wire: Wire) -> Outcome {
        let Some(known) = self.nodes[from].known.get(&topic).copied() else { return Outcome::NoPeers };
        let gone = |w: &Self, to: usize| w.apart_since(from, to).is_some_and(|t| w.now.since(t) > GONE);
        let wire = Rc::new(wire);
        let mut anybody = false;
        for to in known.iter() {
            if !self.nodes[to].topics.contains(&topic) || gone(self, to) {
                continue;
            }
            anybody = true;
            let copies = 1 + u32::from(self.rng.chance(self.conditions.duplicate));
            for _ in 0..copies {
                let delay = self.rng.between(self.conditions.delay);
                if self.cut_since(from, to).is_none() && !self.rng.chance(self.conditions.loss) {
                    let (wire, life) = (wire.clone(), self.nodes[to].life);
                    self.later(delay, Happening::Deliver { from, to, life, topic, wire });
                }
            }
        }
        if anybody { Outcome::Ok } else { Outcome::NoPeers }
    }

    /// A message arrives, and is opened if its receiver can.
    pub(super) fn deliver(
        &mut self,
        from: usize,
        to: usize,
        topic: TopicRef,
        wire: &Wire,
    ) -> Result<(), Fault> {
        if !self.nodes[to].topics.contains(&topic) || self.cut_since(from, to).is_some() {
            return Ok(());
        }
        let node = &mut self.nodes[to];
        let input = match wire {
            Wire::Hello { lane, first } => {
                let fits = first.token.is_none_or(|token| token == node.token);
                self.screen_hello(to, *lane, fits, &first.frame)?;
                return if fits { self.arrive(to, *lane, first.clone()) } else { Ok(()) };
            }
            Wire::Welcome { call, from, answer, welcome, frame } => {
                let Some((session, _)) = node.vault.welcomed(*call, *from, *answer) else { return Ok(()) };
                self.open_welcome(to, *answer, welcome, frame)?;
                Input::Welcome { call: *call, from: *from, session, welcome: welcome.clone() }
            }
            Wire::Packet { secret, packet, attachment, frame } => {
                let opened = node.vault.open(*secret, packet.call, attachment.clone());
                let Some((from, session)) = opened else { return Ok(()) };
                if !self.open_packet(to, *secret, packet, frame)? {
                    self.nodes[to].vault.step_over();
                    return Ok(());
                }
                self.learns(to, packet.call);
                Input::Packet { from, session, packet: packet.clone() }
            }
            Wire::Call { call, epoch, from, body, frame } => {
                if !node.vault.holds(*call, *epoch) {
                    return Ok(());
                }
                self.open_call(to, (*call, *epoch, *from), body, frame)?;
                Input::CallMessage { call: *call, epoch: *epoch, from: *from, body: *body }
            }
        };
        self.feed(to, input)
    }

    /// A packet that was opened may have brought a key.
    pub(super) fn learns(&mut self, to: usize, call: CallId) {
        let node = &mut self.nodes[to];
        if let Some(epoch) = node.vault.brought_key() {
            node.ever.insert((call, epoch));
        }
    }

    /// A first message at an inbox, as a driver takes it: one that was answered is recognised by its bytes, any other
    /// waits in its lane.
    fn arrive(&mut self, to: usize, lane: Lane, first: First) -> Result<(), Fault> {
        let handshake = first.handshake;
        if let Some((call, from, session)) = self.nodes[to].vault.answered(handshake) {
            return self.feed(to, Input::HelloAgain { call, from, session });
        }
        let node = &mut self.nodes[to];
        if !node.lanes.any(lane, |w| w.handshake == handshake) && node.lanes.push(lane, first).is_err() {
            node.turned_away += 1;
        }
        self.open_next(to)?;
        self.refresh(to);
        Ok(())
    }

    /// Opens the first messages whose turn it is.
    pub(super) fn open_next(&mut self, to: usize) -> Result<(), Fault> {
        while let Some((lane, first)) = self.nodes[to].lanes.pop(self.now) {
            self.open_hello(to, lane, &first)?;
            let First { hello, suite, handshake, .. } = first;
            let mut arrived = Arrived::new((*hello).clone());
            (arrived.suite, arrived.wall) = (suite, self.wall(to));
            let (call, from, kind) = (hello.call, hello.from, hello.kind);
            self.nodes[to].vault.fresh = Some(Fresh { call, from, kind, handshake });
            self.nodes[to].offered(call, kind);
            self.feed(to, Input::Hello(Box::new(arrived)))?;
            self.hello_over();
        }
        Ok(())
    }

    /// A first message of somebody who is no node of this world arrives at that node's open inbox.
    ///
    /// # Errors
    /// A [`Fault`] of what follows.
    pub fn stranger_offers(&mut self, to: usize, hello: Hello) -> Result<(), Fault> {
        let (suite, handshake) = (SUITE_CLASSICAL, self.secret());
        let first = First { hello: Box::new(hello), suite, handshake, token: None, frame: None };
        self.arrive(to, Lane::Strangers, first)
    }

    /// A name that was not used before.
    pub(super) fn secret(&mut self) -> Secret {
        self.secrets += 1;
        self.secrets
    }

    /// Tries to connect to that node: how it ends, and when.
    pub(super) fn reach(&mut self, from: usize, to: Option<usize>) -> (Duration, Outcome) {
        match to {
            Some(to) if self.nodes[to].up && self.apart_since(from, to).is_none() => {
                let wait = self.rng.between(ms(20, 400));
                (wait, Outcome::Reached(warp_blink::event::Via::Direct))
            }
            _ => (REACH_FAILS, Outcome::Failed("no known address answers".into())),
        }
    }
}
