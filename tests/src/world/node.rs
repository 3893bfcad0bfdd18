//! One node: its machine, and what a driver would hold for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use warp_blink::{
    config::Config,
    error::Rejected,
    event::Event,
    id::{CallId, Identity, NodeId, NodeKey, PublicKey},
    proto::{Effect, EffectKind, Input, Machine, MediaInput, Outcome, TopicRef, signal::HelloKind},
    time::Instant,
};

use super::{Fault, Happening, World, net::Wire, rules::Watch};

/// A machine and its surroundings.
pub struct Node {
    /// Whom one calls to reach it.
    pub key: PublicKey,
    /// The machine.
    pub machine: Machine,
    /// What its app was told, since its last start.
    pub events: Vec<(Instant, Event)>,
    /// Counts its starts, from 1.
    pub life: u32,
    pub(super) config: Config,
    pub(super) node: NodeId,
    /// Where it listens.
    pub(super) topics: BTreeSet<TopicRef>,
    /// Which subscriptions of others it knows of.
    pub(super) known: BTreeSet<(TopicRef, usize)>,
    /// The first messages that it has opened.
    pub(super) seen: BTreeSet<(CallId, PublicKey, HelloKind)>,
    /// For which call its devices are open.
    pub(super) audio: Option<CallId>,
    pub(super) watch: BTreeMap<CallId, Watch>,
}

/// One node for each configuration, in the order of their keys.
pub(super) fn nodes(configs: Vec<Config>) -> Vec<Node> {
    let mut identities: Vec<_> =
        (1u8..).take(configs.len()).map(|seed| Identity::from_seed([seed; 32])).collect();
    identities.sort_by_key(Identity::public);
    let node = |(identity, config): (Identity, Config)| {
        let (key, node) = (identity.public(), NodeKey::from(&identity).node_id());
        Node {
            key,
            machine: Machine::new(config.clone(), key, node),
            events: Vec::new(),
            life: 0,
            config,
            node,
            topics: BTreeSet::new(),
            known: BTreeSet::new(),
            seen: BTreeSet::new(),
            audio: None,
            watch: BTreeMap::new(),
        }
    };
    identities.into_iter().zip(configs).map(node).collect()
}

impl World {
    /// Starts a node, or starts it anew after its process died: it remembers nothing.
    pub(super) fn start(&mut self, index: usize) -> Result<(), Fault> {
        let node = &mut self.nodes[index];
        node.machine = Machine::new(node.config.clone(), node.key, node.node);
        node.life += 1;
        node.events.clear();
        node.topics.clear();
        node.known.clear();
        node.seen.clear();
        node.audio = None;
        node.watch.clear();
        let effects = node.machine.start();
        self.perform(index, effects)?;
        // It connects, and hears what the others listen to.
        for other in (0..self.nodes.len()).filter(|o| *o != index) {
            let topics: Vec<_> = self.nodes[other].topics.iter().copied().collect();
            for topic in topics {
                let delay = self.rng.between(self.conditions.propagation);
                self.later(delay, Happening::Heard { observer: index, node: other, topic });
            }
        }
        Ok(())
    }

    /// The process of a node dies without a word, and is started anew.
    ///
    /// # Errors
    /// A [`Fault`] of the new start.
    pub fn crash(&mut self, index: usize) -> Result<(), Fault> {
        self.cut_off(index);
        let torn = self.nodes[index].watch.iter().filter(|(_, w)| w.outcome.is_none()).map(|(call, _)| *call);
        let torn: Vec<_> = torn.collect();
        for call in torn {
            self.calls.remove(&call);
        }
        // What it had said of ended calls may be lost with it.
        self.calls.retain(|_, (from, to)| *from != index && *to != index);
        self.start(index)
    }

    /// One input, which no rule allows to be refused.
    pub(super) fn feed(&mut self, index: usize, input: Input) -> Result<(), Fault> {
        match self.try_feed(index, input)? {
            Ok(()) => Ok(()),
            Err(rejected) => {
                Err(self.fault(index, format!("refused what only a command can be: {rejected}")))
            }
        }
    }

    pub(super) fn try_feed(&mut self, index: usize, input: Input) -> Result<Result<(), Rejected>, Fault> {
        let shown = self.verbose.then(|| format!("{input:?}"));
        let before = matches!(input, Input::Command(_)).then(|| self.nodes[index].machine.clone());
        let (now, node) = (self.now, &mut self.nodes[index]);
        let result = node.machine.handle(now, input);
        if let Some(shown) = shown {
            let at = now.as_micros() as f64 / 1e6;
            let kinds = result.as_ref().map(|e| e.iter().map(|e| &e.kind).collect::<Vec<_>>());
            println!("{at:9.4} node {index} <- {shown}\n          -> {kinds:?}");
        }
        let effects = match result {
            Ok(effects) => effects,
            Err(rejected) => {
                if before.is_some_and(|b| b != self.nodes[index].machine) {
                    return Err(self.fault(index, format!("changed by what it refused: {rejected}")));
                }
                return Ok(Err(rejected));
            }
        };
        self.perform(index, effects)?;
        self.check(index)?;
        Ok(Ok(()))
    }

    fn perform(&mut self, index: usize, effects: Vec<Effect>) -> Result<(), Fault> {
        for Effect { id, kind } in effects {
            let mut wait = self.rng.between(self.conditions.driver);
            let mut outcome = Outcome::Ok;
            match kind {
                EffectKind::Emit(event) => {
                    self.told(index, &event)?;
                    let now = self.now;
                    self.nodes[index].events.push((now, event));
                    continue;
                }
                EffectKind::Subscribe(topic) => self.subscribe(index, topic)?,
                EffectKind::Unsubscribe(topic) => self.unsubscribe(index, topic)?,
                EffectKind::Reach { peer } => {
                    let to = self.index(peer);
                    (wait, outcome) = self.reach(index, to);
                }
                EffectKind::SendHello { to, hello } => {
                    outcome = self.publish(index, TopicRef::Inbox(to), Wire::Hello(hello));
                }
                EffectKind::SendWelcome { call, to, welcome } => {
                    let topic = TopicRef::Peer { call, owner: to };
                    outcome = self.publish(index, topic, Wire::Welcome(call, welcome));
                }
                EffectKind::Send { to, packet } => {
                    let topic = TopicRef::Peer { call: packet.call, owner: to };
                    outcome = self.publish(index, topic, Wire::Packet(packet));
                }
                EffectKind::SendCall { call, epoch, body } => {
                    let topic = TopicRef::Call { call, epoch };
                    outcome = self.publish(index, topic, Wire::Call(call, epoch, body));
                }
                EffectKind::Link { link, command } => self.drive(index, link, command)?,
                EffectKind::OpenAudio { call, .. } => {
                    self.opens_audio(index, call)?;
                    wait = self.rng.between((Duration::from_millis(10), Duration::from_millis(80)));
                    if self.rng.chance(self.conditions.no_audio) {
                        outcome = Outcome::Failed("no device".into());
                    } else {
                        let started = MediaInput::Started { call, mic_us: Some(1), speaker_us: Some(1) };
                        let (life, input) = (self.nodes[index].life, Box::new(Input::Media(started)));
                        self.later(wait, Happening::Input { node: index, life, input });
                    }
                }
                EffectKind::CloseAudio { call } => self.closes_audio(index, call)?,
                EffectKind::Forget { call } => self.nodes[index].seen.retain(|(c, ..)| *c != call),
                // Keys, mute and whatever comes later: nothing to see in this world.
                _ => {}
            }
            let life = self.nodes[index].life;
            let input = Box::new(Input::Done { effect: id, outcome });
            self.later(wait, Happening::Input { node: index, life, input });
        }
        Ok(())
    }
}
