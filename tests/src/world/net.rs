//! The gossip between the nodes: topics that become known after a while, and messages that are lost, repeated,
//! delayed and overtake each other; partitions.

use std::{collections::BTreeSet, time::Duration};

use warp_blink::{
    id::CallId,
    proto::{
        Arrived, Input, Outcome, SessionNo, TopicRef,
        signal::{CallBody, Hello, HelloKind, Lane, Packet, SUITE_CLASSICAL, Welcome},
    },
    time::Instant,
};

use super::{Fault, Happening, World};

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

const fn ms(from: u64, to: u64) -> (Duration, Duration) {
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

/// A time in which some nodes hear nothing of the others.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    pub(super) from: Instant,
    pub(super) until: Instant,
    pub(super) island: BTreeSet<usize>,
}

/// After this time without a word a node takes its neighbour for gone, and no longer publishes to it.
const GONE: Duration = Duration::from_secs(5);

/// How long a node tries to reach one that does not answer.
const REACH_FAILS: Duration = Duration::from_secs(5);

/// A first message on its way.
#[derive(Clone, Debug)]
pub(super) struct First {
    pub(super) hello: Box<Hello>,
    pub(super) suite: u8,
    /// As its sender numbers it.
    pub(super) session: SessionNo,
}

/// A message on its way, unsealed. Sessions are numbered as their receiver does.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    Hello(Lane, First),
    Welcome(CallId, SessionNo, Welcome),
    Packet(SessionNo, Box<Packet>),
    Call(CallId, u32, CallBody),
}

impl World {
    /// Since when these two have been apart.
    pub(super) fn cut_since(&self, a: usize, b: usize) -> Option<Instant> {
        self.cuts
            .iter()
            .filter(|c| {
                c.from <= self.now && self.now < c.until && c.island.contains(&a) != c.island.contains(&b)
            })
            .map(|c| c.from)
            .min()
    }

    pub(super) fn subscribe(&mut self, node: usize, topic: TopicRef) -> Result<(), Fault> {
        if !self.nodes[node].topics.insert(topic) {
            return Err(self.fault(node, format!("subscribes twice to {topic:?}")));
        }
        self.spread(node, topic);
        Ok(())
    }

    fn spread(&mut self, node: usize, topic: TopicRef) {
        for observer in (0..self.nodes.len()).filter(|o| *o != node) {
            let delay = self.rng.between(self.conditions.propagation);
            self.later(delay, Happening::Heard { observer, node, topic });
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
        if self.nodes[node].topics.contains(&topic) && self.cut_since(observer, node).is_none() {
            self.nodes[observer].known.insert((topic, node));
            self.feed(observer, Input::PeerSubscribed(topic))?;
        }
        Ok(())
    }

    /// A cut is over: connections come back, and with them the subscriptions.
    pub(super) fn healed(&mut self) {
        for node in 0..self.nodes.len() {
            let topics: Vec<_> = self.nodes[node].topics.iter().copied().collect();
            for topic in topics {
                self.spread(node, topic);
            }
        }
    }

    pub(super) fn publish(&mut self, from: usize, topic: TopicRef, wire: Wire) -> Outcome {
        let gone = |w: &Self, to: usize| w.cut_since(from, to).is_some_and(|t| w.now.since(t) > GONE);
        let hearers: Vec<usize> = (0..self.nodes.len())
            .filter(|to| self.nodes[from].known.contains(&(topic, *to)))
            .filter(|to| self.nodes[*to].topics.contains(&topic) && !gone(self, *to))
            .collect();
        for to in &hearers {
            let copies = 1 + u32::from(self.rng.chance(self.conditions.duplicate));
            for _ in 0..copies {
                let delay = self.rng.between(self.conditions.delay);
                if self.cut_since(from, *to).is_none() && !self.rng.chance(self.conditions.loss) {
                    let wire = wire.clone();
                    self.later(delay, Happening::Deliver { from, to: *to, topic, wire });
                }
            }
        }
        if hearers.is_empty() { Outcome::NoPeers } else { Outcome::Ok }
    }

    pub(super) fn deliver(
        &mut self,
        from: usize,
        to: usize,
        topic: TopicRef,
        wire: Wire,
    ) -> Result<(), Fault> {
        if !self.nodes[to].topics.contains(&topic) || self.cut_since(from, to).is_some() {
            return Ok(());
        }
        let sender = self.nodes[from].key;
        let input = match wire {
            Wire::Hello(lane, first) => return self.arrive(to, lane, first),
            Wire::Welcome(call, session, welcome) => Input::Welcome { call, from: sender, session, welcome },
            Wire::Packet(session, packet) => Input::Packet { from: sender, session, packet },
            Wire::Call(call, epoch, body) => Input::CallMessage { call, epoch, from: sender, body },
        };
        self.feed(to, input)
    }

    /// A first message at an inbox, as a driver takes it: one that was answered is recognised by its bytes, any other
    /// waits in its lane.
    fn arrive(&mut self, to: usize, lane: Lane, first: First) -> Result<(), Fault> {
        let Hello { call, from, kind, .. } = *first.hello;
        if let Some(session) = self.nodes[to].seen.get(&(call, from, kind, lane)).copied() {
            return self.feed(to, Input::HelloAgain { call, from, session });
        }
        let same = |w: &First| (w.hello.call, w.hello.from, w.hello.kind) == (call, from, kind);
        let node = &mut self.nodes[to];
        if !node.lanes.any(lane, same) && node.lanes.push(lane, first).is_err() {
            node.turned_away += 1;
        }
        self.open_next(to)
    }

    /// Opens the first messages whose turn it is.
    pub(super) fn open_next(&mut self, to: usize) -> Result<(), Fault> {
        while let Some((lane, first)) = self.nodes[to].lanes.pop(self.now) {
            let mut arrived = Arrived::new((*first.hello).clone());
            (arrived.suite, arrived.wall) = (first.suite, self.wall(to));
            let name = (first.hello.call, first.hello.from, first.hello.kind, lane);
            let node = &mut self.nodes[to];
            node.seen.insert(name, SessionNo(0));
            node.fresh = Some(first);
            self.feed(to, Input::Hello(Box::new(arrived)))?;
            let node = &mut self.nodes[to];
            // What was not answered, or was a withdrawal, is not remembered.
            if node.fresh.take().is_some() || name.2 == HelloKind::Cancel {
                node.seen.remove(&name);
            }
        }
        Ok(())
    }

    /// A first message of somebody who is no node of this world arrives at that node's open inbox.
    ///
    /// # Errors
    /// A [`Fault`] of what follows.
    pub fn stranger_offers(&mut self, to: usize, hello: Hello) -> Result<(), Fault> {
        let suite = SUITE_CLASSICAL;
        self.arrive(to, Lane::Strangers, First { hello: Box::new(hello), suite, session: SessionNo(1) })
    }

    /// Tries to connect to that node: how it ends, and when.
    pub(super) fn reach(&mut self, from: usize, to: Option<usize>) -> (Duration, Outcome) {
        match to {
            Some(to) if self.cut_since(from, to).is_none() => {
                let wait = self.rng.between(ms(20, 400));
                (wait, Outcome::Reached(warp_blink::event::Via::Direct))
            }
            _ => (REACH_FAILS, Outcome::Failed("no known address answers".into())),
        }
    }
}
