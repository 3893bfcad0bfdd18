//! One node: its machine, and what a driver and a store would hold for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use warp_blink::{
    config::Config,
    error::Rejected,
    event::Event,
    id::{CallId, Identity, NodeId, NodeKey, PublicKey},
    proto::{
        Effect, Input, Known, LinkId, Machine, Notice, ReplayMemory, Saved, TopicRef,
        lanes::Lanes,
        signal::{EpochId, HelloKind, Lane, MediaFormat, Roll, RollHash},
    },
    time::{Instant, UnixTime},
};

use super::{
    Fault, Happening, World,
    link::Name,
    net::{First, GONE, Nodes},
    roll::View,
    vault::Vault,
    watch::Watch,
};

/// A machine and its surroundings.
pub struct Node {
    /// Whom one calls to reach it.
    pub key: PublicKey,
    /// The machine.
    pub machine: Machine,
    /// What its app was told, since its last start.
    pub events: Vec<(Instant, Event)>,
    /// Counts its starts, from 1, and its deaths.
    pub life: u32,
    /// First messages that found their lane full.
    pub turned_away: u64,
    pub(super) config: Config,
    node: NodeId,
    /// Its process runs, or sleeps.
    pub(super) up: bool,
    /// Its process is stopped since then; what happens to it waits.
    pub(super) asleep: Option<Instant>,
    pub(super) backlog: Vec<Happening>,
    /// When its machine, or its lanes, want to go on.
    pub(super) due: Option<Instant>,
    /// Where it listens.
    pub(super) topics: BTreeSet<TopicRef>,
    /// Which subscriptions of others it knows of.
    pub(super) known: BTreeMap<TopicRef, Nodes>,
    pub(super) vault: Vault,
    /// First messages that wait to be opened.
    pub(super) lanes: Lanes<First>,
    /// How far its wall clock is off, in milliseconds.
    pub(super) off: i64,
    /// For which call its devices are open.
    pub(super) audio: Option<CallId>,
    pub(super) held: BTreeSet<CallId>,
    /// Its ends of links that are open.
    pub(super) links: BTreeMap<LinkId, Name>,
    pub(super) watch: BTreeMap<CallId, Watch>,
    /// Who belongs to a call, as it last kept it.
    pub(super) views: BTreeMap<CallId, View>,
    /// When it last announced itself in a call, and under what.
    pub(super) said: BTreeMap<CallId, (Instant, EpochId, RollHash)>,
    /// The keys that it ever came to know, and may have kept.
    pub(super) ever: BTreeSet<(CallId, EpochId)>,
    // What outlives its process.
    pub(super) token: u32,
    pub(super) tokens: BTreeMap<PublicKey, u32>,
    pub(super) memory: Option<ReplayMemory>,
    pub(super) contacts: BTreeSet<PublicKey>,
    pub(super) people: BTreeMap<PublicKey, Known>,
    pub(super) saved: BTreeMap<CallId, (Roll, MediaFormat)>,
    pub(super) notices: Vec<Notice>,
}

static IDENTITIES: LazyLock<Vec<(PublicKey, NodeId)>> = LazyLock::new(|| {
    let identity = |seed| Identity::from_seed([seed; 32]);
    let both = |identity: Identity| (identity.public(), NodeKey::from(&identity).node_id());
    (1..=32).map(identity).map(both).collect()
});

/// One node for each configuration, in the order of their keys.
pub(super) fn nodes(configs: Vec<Config>) -> Vec<Node> {
    let mut identities: Vec<_> = IDENTITIES.iter().copied().take(configs.len()).collect();
    identities.sort_by_key(|(key, _)| *key);
    let node = |((key, node), config): ((PublicKey, NodeId), Config)| Node {
        key,
        machine: Machine::new(config.clone(), key, node),
        events: Vec::new(),
        life: 0,
        turned_away: 0,
        config,
        node,
        up: false,
        asleep: None,
        backlog: Vec::new(),
        due: None,
        topics: BTreeSet::new(),
        known: BTreeMap::new(),
        vault: Vault::default(),
        lanes: Lanes::new(),
        off: 0,
        audio: None,
        held: BTreeSet::new(),
        links: BTreeMap::new(),
        watch: BTreeMap::new(),
        views: BTreeMap::new(),
        said: BTreeMap::new(),
        ever: BTreeSet::new(),
        token: 1,
        tokens: BTreeMap::new(),
        memory: None,
        contacts: BTreeSet::new(),
        people: BTreeMap::new(),
        saved: BTreeMap::new(),
        notices: Vec::new(),
    };
    identities.into_iter().zip(configs).map(node).collect()
}

impl Node {
    /// How many first messages wait in that lane.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.lanes.waiting(lane)
    }

    /// Its process runs and is not stopped.
    pub const fn is_awake(&self) -> bool {
        self.up && self.asleep.is_none()
    }

    /// A first message for this call was opened.
    pub(super) fn offered(&mut self, call: CallId, kind: HelloKind) {
        if matches!(kind, HelloKind::Offer | HelloKind::Missed) {
            self.watch.entry(call).or_default().offers += 1;
        }
    }
}

impl World {
    /// Starts a node, or starts it anew after its process died: it has what its store has.
    pub(super) fn start(&mut self, index: usize) -> Result<(), Fault> {
        let node = &mut self.nodes[index];
        let machine = Machine::new(node.config.clone(), node.key, node.node);
        let machine = match &node.memory {
            Some(memory) => machine.with_memory(memory.clone()),
            None => machine,
        };
        match machine.with_people(node.contacts.iter().copied(), []) {
            Ok(machine) => node.machine = machine,
            Err(rejected) => return Err(self.fault(index, rejected.to_string())),
        }
        node.life += 1;
        node.up = true;
        node.asleep = None;
        node.events.clear();
        let effects = node.machine.start();
        let people: Vec<_> = node.people.iter().map(|(peer, known)| (*peer, *known)).collect();
        let saved: Vec<_> = node.saved.iter().map(|(call, s)| (*call, s.clone())).collect();
        let notices = node.notices.clone();
        self.perform(index, effects)?;
        self.feed(index, Input::Clock(self.wall(index)))?;
        for (peer, known) in people {
            self.feed(index, Input::Known { peer, known })?;
        }
        for (call, (roll, media)) in saved {
            let hash = self.roll_hash(call, &roll);
            self.nodes[index].vault.restore(call, roll.clone());
            self.feed(index, Input::Saved(Box::new(Saved::new(call, roll, media, hash))))?;
        }
        for notice in notices {
            self.feed(index, Input::Notice(notice))?;
        }
        let life = self.nodes[index].life;
        self.later(super::HOUR, Happening::Clock { node: index, life });
        // It connects, and hears what the others listen to.
        for other in (0..self.nodes.len()).filter(|o| *o != index) {
            let topics: Vec<_> = self.nodes[other].topics.iter().copied().collect();
            topics.into_iter().for_each(|topic| self.spread(other, index, topic));
        }
        Ok(())
    }

    /// The process of a node dies without a word.
    pub fn kill(&mut self, index: usize) {
        self.cut_off(index);
        self.tear(index);
        let node = &mut self.nodes[index];
        node.life += 1;
        (node.up, node.asleep, node.due) = (false, None, None);
        node.backlog.clear();
        node.topics.clear();
        node.known.clear();
        node.vault = Vault::default();
        node.lanes = Lanes::new();
        node.audio = None;
        node.held.clear();
        node.watch.clear();
        node.views.clear();
        node.said.clear();
        // Its connections break, and with them what the others knew of it.
        for other in &mut self.nodes {
            other.known.values_mut().for_each(|nodes| nodes.0 &= !(1 << index));
        }
    }

    /// A node whose process has died is started anew.
    ///
    /// # Errors
    /// A [`Fault`] of the new start.
    pub fn revive(&mut self, index: usize) -> Result<(), Fault> {
        if self.nodes[index].up { Ok(()) } else { self.start(index) }
    }

    /// The process of a node dies without a word, and is started anew at once.
    ///
    /// # Errors
    /// A [`Fault`] of the new start.
    pub fn crash(&mut self, index: usize) -> Result<(), Fault> {
        self.kill(index);
        self.start(index)
    }

    /// The process of a node is stopped, as that of a phone that sleeps.
    pub fn suspend(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.is_awake() {
            node.asleep = Some(now);
            self.troubled = true;
            self.touch_all(index);
        }
    }

    /// It goes on: what happened to it meanwhile arrives all at once, before or after its own timers.
    ///
    /// # Errors
    /// A [`Fault`] of what follows.
    pub fn wake(&mut self, index: usize) -> Result<(), Fault> {
        let node = &mut self.nodes[index];
        let Some(since) = node.asleep.take() else { return Ok(()) };
        let (life, backlog) = (node.life, std::mem::take(&mut node.backlog));
        if self.rng.chance(0.5) {
            self.tick(index)?;
        }
        for happening in backlog {
            if self.nodes[index].life == life {
                self.happen(happening)?;
            }
        }
        self.tick(index)?;
        self.touch_all(index);
        if self.now.since(since) > GONE {
            (0..self.nodes.len()).filter(|o| *o != index).for_each(|other| self.join(index, other));
        }
        Ok(())
    }

    /// The wall clock of that node.
    pub fn wall(&self, index: usize) -> UnixTime {
        let true_time = 1_700_000_000_000 + self.now.as_micros() / 1000;
        UnixTime::from_millis(true_time.saturating_add_signed(self.nodes[index].off))
    }

    /// These two know one another as contacts, have each other's token and ML-KEM key, and remember what rang.
    ///
    /// # Errors
    /// A [`Fault`] of the new start.
    pub fn befriend(&mut self, a: usize, b: usize) -> Result<(), Fault> {
        for (one, other) in [(a, b), (b, a)] {
            let (peer, token) = (self.nodes[other].key, self.nodes[other].token);
            let node = &mut self.nodes[one];
            node.contacts.insert(peer);
            node.tokens.insert(peer, token);
            node.people.insert(peer, Known::new(true, true));
            node.memory = Some(ReplayMemory::restored(UnixTime::from_millis(0), []));
            self.crash(one)?;
        }
        Ok(())
    }

    /// Sets the wall clock of a node this far off the true time, in milliseconds.
    pub fn set_clock_off(&mut self, node: usize, millis: i64) {
        self.nodes[node].off = millis;
    }

    /// Its timers run, if one is due.
    pub(super) fn tick(&mut self, index: usize) -> Result<(), Fault> {
        if self.nodes[index].due.is_none_or(|t| t > self.now) {
            return Ok(());
        }
        self.open_next(index)?;
        self.feed(index, Input::Tick)
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
        if !self.nodes[index].is_awake() {
            return Err(self.fault(index, format!("does not run, and should take {input:?}")));
        }
        let shown = self.verbose.then(|| format!("{input:?}"));
        let before = matches!(input, Input::Command(_)).then(|| self.nodes[index].machine.clone());
        let (now, node) = (self.now, &mut self.nodes[index]);
        self.steps += 1;
        let result = node.machine.handle(now, input);
        if let Some(shown) = shown {
            let at = now.as_micros() as f64 / 1e6;
            let kinds = result.as_ref().map(|e| e.iter().map(|e| &e.kind).collect::<Vec<_>>());
            println!("{at:9.4} node {index} <- {shown}\n          -> {kinds:?}");
        }
        let effects: Vec<Effect> = match result {
            Ok(effects) => effects,
            Err(rejected) => {
                if before.is_some_and(|b| b != self.nodes[index].machine) {
                    return Err(self.fault(index, format!("changed by what it refused: {rejected}")));
                }
                return Ok(Err(rejected));
            }
        };
        let outcome = self.perform(index, effects);
        self.nodes[index].vault.step_over();
        outcome?;
        self.check(index)?;
        self.refresh(index);
        Ok(Ok(()))
    }

    /// Looks when the node wants to go on.
    pub(super) fn refresh(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.due =
            [node.machine.next_timeout(), node.lanes.next_timeout(self.now)].into_iter().flatten().min();
    }
}
