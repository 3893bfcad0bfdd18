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
    proto::{
        Effect, EffectKind, Input, Machine, MediaInput, Outcome, ReplayMemory, SessionNo, TopicRef,
        lanes::Lanes,
        signal::{HelloKind, Lane},
    },
    time::{Instant, UnixTime},
};

use super::{
    Fault, Happening, World,
    net::{First, Wire},
    rules::Watch,
};

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
    /// The first messages that it has opened, and the sessions that they opened here.
    pub(super) seen: BTreeMap<Name, SessionNo>,
    /// First messages that wait to be opened.
    pub(super) lanes: Lanes<First>,
    /// First messages that found their lane full.
    pub turned_away: u64,
    /// The first message that is being handled.
    pub(super) fresh: Option<First>,
    /// How the other side numbers the sessions that it opened.
    pub(super) numbers: BTreeMap<(CallId, PublicKey, SessionNo), SessionNo>,
    /// How far its wall clock is off, in milliseconds.
    pub(super) off: i64,
    /// What it remembers when it starts.
    memory: Option<ReplayMemory>,
    contacts: BTreeSet<PublicKey>,
    /// For which call its devices are open.
    pub(super) audio: Option<CallId>,
    pub(super) watch: BTreeMap<CallId, Watch>,
}

/// What makes two first messages the same one: the bytes of the handshake.
pub(super) type Name = (CallId, PublicKey, HelloKind, Lane);

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
            seen: BTreeMap::new(),
            lanes: Lanes::new(),
            turned_away: 0,
            fresh: None,
            numbers: BTreeMap::new(),
            off: 0,
            memory: None,
            contacts: BTreeSet::new(),
            audio: None,
            watch: BTreeMap::new(),
        }
    };
    identities.into_iter().zip(configs).map(node).collect()
}

impl Node {
    /// How many first messages wait in that lane.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.lanes.waiting(lane)
    }
}

impl World {
    /// Starts a node, or starts it anew after its process died: it remembers nothing.
    pub(super) fn start(&mut self, index: usize) -> Result<(), Fault> {
        let node = &mut self.nodes[index];
        node.machine = Machine::new(node.config.clone(), node.key, node.node);
        if let Some(memory) = &node.memory {
            node.machine = node.machine.clone().with_memory(memory.clone());
        }
        let contacts = node.contacts.iter().copied();
        match node.machine.clone().with_people(contacts, []) {
            Ok(machine) => node.machine = machine,
            Err(rejected) => return Err(self.fault(index, rejected.to_string())),
        }
        let node = &mut self.nodes[index];
        node.life += 1;
        node.events.clear();
        node.topics.clear();
        node.known.clear();
        node.seen.clear();
        node.lanes = Lanes::new();
        node.numbers.clear();
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

    /// The wall clock of that node.
    pub(super) fn wall(&self, index: usize) -> UnixTime {
        let true_time = 1_700_000_000_000 + self.now.as_micros() / 1000;
        UnixTime::from_millis(true_time.saturating_add_signed(self.nodes[index].off))
    }

    /// The first answer to a first message gives the session a number here; the other side has its own.
    fn answers(&mut self, index: usize, call: CallId, to: PublicKey, session: SessionNo) -> SessionNo {
        let node = &mut self.nodes[index];
        if let Some(first) = node.fresh.take_if(|f| f.hello.call == call && f.hello.from == to) {
            node.numbers.insert((call, to, session), first.session);
            if let Some(no) = node.seen.iter_mut().find(|((c, from, kind, _), no)| {
                (*c, *from, *kind) == (call, to, first.hello.kind) && **no == SessionNo(0)
            }) {
                *no.1 = session;
            }
        }
        self.number_of(index, call, to, session)
    }

    /// How the other side calls that session. One that this side opened has this side's number on both.
    fn number_of(&self, index: usize, call: CallId, peer: PublicKey, session: SessionNo) -> SessionNo {
        self.nodes[index].numbers.get(&(call, peer, session)).copied().unwrap_or(session)
    }

    /// These two know one another as contacts, have each other's token and ML-KEM key, and remember what rang.
    ///
    /// # Errors
    /// A [`Fault`] of the new start.
    pub fn befriend(&mut self, a: usize, b: usize) -> Result<(), Fault> {
        for (one, other) in [(a, b), (b, a)] {
            let peer = self.nodes[other].key;
            self.nodes[one].contacts.insert(peer);
            self.nodes[one].memory = Some(ReplayMemory::restored(UnixTime::from_millis(0), []));
            self.start(one)?;
            self.feed(one, Input::Known { peer, known: warp_blink::proto::Known::new(true, true) })?;
        }
        Ok(())
    }

    /// Sets the wall clock of a node this far off the true time, in milliseconds.
    pub fn set_clock_off(&mut self, node: usize, millis: i64) {
        self.nodes[node].off = millis;
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
                EffectKind::SendHello { to, lane, suite, session, hello } => {
                    let first = First { hello, suite, session };
                    outcome =
                        self.publish(index, TopicRef::Inbox { owner: to, lane }, Wire::Hello(lane, first));
                }
                EffectKind::SendWelcome { call, to, session, welcome } => {
                    let topic = TopicRef::Peer { call, owner: to };
                    let theirs = self.answers(index, call, to, session);
                    outcome = self.publish(index, topic, Wire::Welcome(call, theirs, welcome));
                }
                EffectKind::Send { to, session, packet } => {
                    let topic = TopicRef::Peer { call: packet.call, owner: to };
                    let theirs = self.number_of(index, packet.call, to, session);
                    outcome = self.publish(index, topic, Wire::Packet(theirs, packet));
                }
                EffectKind::Remember { .. } => {
                    self.nodes[index].memory = Some(self.nodes[index].machine.memory().clone());
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
                EffectKind::Forget { call } => {
                    self.nodes[index].seen.retain(|(c, ..), _| *c != call);
                    self.nodes[index].numbers.retain(|(c, ..), _| *c != call);
                }
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
