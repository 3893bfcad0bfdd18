//! Two machines, or more, wired by hand: every effect is carried out and answered once, messages arrive at once unless a test
//! holds them back, and a link connects as soon as both descriptions have crossed.

#![allow(dead_code, unused_imports)] // each test file uses its own part
#![allow(clippy::unwrap_used, clippy::panic)] // a helper of tests fails as a test does

mod friends;
mod names;
mod room;
mod side;
mod trace;
mod wires;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use warp_blink::{
    config::{Config, PreConnect, WhenBusy},
    error::Rejected,
    event::{EndReason, Event, Via},
    id::{CallId, Identity, NodeKey, PublicKey},
    proto::{
        Arrived, Command, EffectId, EffectKind, EngineLink, Input, LinkCommand, LinkId, Machine, MediaInput,
        Other, Outcome, SessionNo, TopicRef,
        signal::{
            AppData, Body, CallBody, Create, EpochId, HelloKind, Lane, MayInvite, Packet, Roll, RollHash,
            Welcome,
        },
    },
    time::{Instant, UnixTime},
};

pub(crate) use friends::{befriend, contacts, first_message, packet, rings, said, sent, wall};
pub(crate) use names::{effect_name, short};
pub(crate) use trace::{DESCRIPTION, Trace, feed_alone};

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;

pub(crate) fn call_id(n: u8) -> CallId {
    CallId::from_bytes([n; 16])
}

/// `n` identities in the order of their keys.
pub(crate) fn identities(n: u8) -> Vec<Identity> {
    let mut all: Vec<_> = (1..=n).map(|seed| Identity::from_seed([seed; 32])).collect();
    all.sort_by_key(Identity::public);
    all
}

pub(crate) fn offer(call: CallId, to: PublicKey) -> Command {
    offer_all(call, &[to])
}

/// The kit puts in whose offer it is.
pub(crate) fn offer_all(call: CallId, to: &[PublicKey]) -> Command {
    let app_data = AppData::new(*b"conversation 7").unwrap();
    Command::Offer {
        call,
        create: create(identities(1)[0].public()),
        to: to.to_vec(),
        app_data,
        sent_at: SENT_AT,
    }
}

pub(crate) fn create(creator: PublicKey) -> Create {
    Create { creator, random: [7; 16], may_invite: MayInvite::Members, most: 16 }
}

pub(crate) fn accept(call: CallId) -> Command {
    Command::Accept { call, other: Other::End }
}

/// Some name of a roll: equal for equal rolls.
pub(crate) fn roll_hash(roll: &Roll) -> RollHash {
    RollHash(fold(&format!("{roll:?}")))
}

fn fold(text: &str) -> [u8; 16] {
    let mut hash = [0u128; 1];
    for byte in text.bytes() {
        hash[0] = (hash[0] ^ u128::from(byte)).wrapping_mul(0x0100_0000_01b3_0000_0000_0000_0193);
    }
    hash[0].to_be_bytes()
}

/// When [`offer`] says that it was sent.
pub(crate) const SENT_AT: UnixTime = UnixTime::from_millis(1_700_000_000_000);

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn both(config: &Config) -> Pair {
    Pair::new(config.clone(), config.clone())
}

pub(crate) fn plain() -> Pair {
    both(&Config::default())
}

pub(crate) fn reject_when_busy() -> Config {
    let mut config = Config::default();
    config.when_busy = WhenBusy::Reject;
    config
}

pub(crate) fn early() -> Config {
    let mut config = Config::default();
    config.pre_connect = PreConnect::Always;
    config
}

pub(crate) fn opens_audio(pair: &Pair, side: usize) -> bool {
    pair.sides[side].log.iter().any(|e| matches!(e, EffectKind::OpenAudio { .. }))
}

pub(crate) fn touches_link(pair: &Pair, side: usize) -> bool {
    pair.sides[side].log.iter().any(|e| matches!(e, EffectKind::Link { .. }))
}

/// Whether this side looks for a path, or lets itself be found: an offer alone does neither.
pub(crate) fn looks_for_path(pair: &Pair, side: usize) -> bool {
    let looks = |command: &LinkCommand| matches!(command, LinkCommand::Accept(_) | LinkCommand::Apply(_));
    pair.sides[side].log.iter().any(|e| matches!(e, EffectKind::Link { command, .. } if looks(command)))
}

/// Something on its way between the two.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wire {
    Hello(SessionNo, Lane, Arrived),
    Welcome(CallId, SessionNo, Welcome),
    Packet(SessionNo, Box<Packet>),
    /// Over a link, as its receiver calls it.
    OnLink(LinkId, SessionNo, Box<Packet>),
    Call(CallId, EpochId, CallBody),
}

impl Wire {
    pub(crate) fn is_hello(&self, kind: HelloKind) -> bool {
        matches!(self, Self::Hello(_, _, h) if h.hello.kind == kind)
    }

    pub(crate) fn body(&self) -> Option<&Body> {
        match self {
            Self::Packet(_, p) | Self::OnLink(_, _, p) => Some(&p.body),
            _ => None,
        }
    }
}

pub(crate) struct Side {
    pub(crate) machine: Machine,
    pub(crate) key: PublicKey,
    pub(crate) events: Vec<Event>,
    pub(crate) log: Vec<EffectKind>,
    pub(crate) topics: BTreeSet<TopicRef>,
    pub(crate) links: BTreeSet<LinkId>,
    pub(crate) secured: BTreeSet<LinkId>,
    pub(crate) audio: BTreeSet<CallId>,
    /// How [`EffectKind::Reach`] ends.
    pub(crate) reach: Outcome,
    /// How publishing ends; [`Outcome::Ok`] delivers.
    pub(crate) publish: Outcome,
    /// First messages that were answered.
    seen: BTreeSet<(CallId, PublicKey, SessionNo, Lane)>,
    asked: BTreeSet<(CallId, PublicKey, SessionNo, Lane)>,
    /// Sessions that others opened: how they are numbered there and here.
    numbers: BTreeMap<(CallId, PublicKey, SessionNo), SessionNo>,
    /// The last session here with each that was answered, and the last one that the other side has wiped.
    begun: BTreeMap<(CallId, PublicKey), SessionNo>,
    dead: BTreeMap<(CallId, PublicKey), SessionNo>,
}

pub(crate) type Held = fn(usize, &Wire) -> bool;

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) sides: Vec<Side>,
    /// Messages from a side for which this says yes wait in `held`.
    pub(crate) hold: Held,
    pub(crate) held: Vec<(usize, Wire)>,
    /// Messages from the first to the second, for which this says yes, are lost.
    pub(crate) cut: fn(usize, usize) -> bool,
    /// Every message arrives so many times.
    pub(crate) copies: usize,
    pub(crate) may_invite: MayInvite,
    /// The wall clock of both, which the first message of [`offer`] was sent at.
    pub(crate) wall: UnixTime,
    /// Links find a path.
    pub(crate) path: bool,
    /// Outcomes are withheld in `undone`, for tests of what comes in between.
    pub(crate) withhold: bool,
    pub(crate) undone: Vec<(usize, EffectId, Outcome)>,
    /// What goes in is noted, for [`Pair::record`].
    trace: Option<Trace>,
    wires: VecDeque<(usize, usize, Wire)>,
    todo: VecDeque<(usize, Input)>,
}

impl Pair {
    /// Two machines; the first has the smaller key, so that the second one dials.
    pub(crate) fn new(a: Config, b: Config) -> Self {
        let ids = identities(2);
        Self::of(vec![(a, &ids[0]), (b, &ids[1])])
    }

    /// The same with the first dialing.
    pub(crate) fn swapped(a: Config, b: Config) -> Self {
        let ids = identities(2);
        Self::of(vec![(a, &ids[1]), (b, &ids[0])])
    }

    /// So many machines, in the order of their keys.
    pub(crate) fn many(n: u8, config: &Config) -> Self {
        Self::of(identities(n).iter().map(|id| (config.clone(), id)).collect())
    }

    fn of(ends: Vec<(Config, &Identity)>) -> Self {
        let sides = ends.into_iter().map(|(config, id)| Side {
            machine: Machine::new(config, id.public(), NodeKey::from(id).node_id()),
            key: id.public(),
            events: Vec::new(),
            log: Vec::new(),
            topics: BTreeSet::new(),
            links: BTreeSet::new(),
            secured: BTreeSet::new(),
            audio: BTreeSet::new(),
            reach: Outcome::Reached(Via::Direct),
            publish: Outcome::Ok,
            seen: BTreeSet::new(),
            asked: BTreeSet::new(),
            numbers: BTreeMap::new(),
            begun: BTreeMap::new(),
            dead: BTreeMap::new(),
        });
        let sides = sides.collect();
        let mut pair = Self {
            now: Instant::from_micros(1_000_000),
            sides,
            hold: |_, _| false,
            held: Vec::new(),
            cut: |_, _| false,
            copies: 1,
            may_invite: MayInvite::Members,
            wall: SENT_AT,
            path: true,
            withhold: false,
            undone: Vec::new(),
            trace: None,
            wires: VecDeque::new(),
            todo: VecDeque::new(),
        };
        for side in 0..pair.sides.len() {
            let effects = pair.sides[side].machine.start();
            pair.perform(side, effects);
        }
        pair.run();
        pair
    }

    pub(crate) fn key(&self, side: usize) -> PublicKey {
        self.sides[side].key
    }

    /// A command, and everything that follows from it without time passing.
    pub(crate) fn ask(&mut self, side: usize, command: Command) -> Result<(), Rejected> {
        self.input(side, command.into())?;
        self.run();
        Ok(())
    }

    /// A calls B, and it rings there.
    pub(crate) fn ring(&mut self) -> CallId {
        let call = call_id(1);
        let to = self.key(B);
        self.ask(A, offer(call, to)).unwrap();
        call
    }

    /// The same, accepted and connected.
    pub(crate) fn connected(&mut self) -> CallId {
        let call = self.ring();
        self.ask(B, accept(call)).unwrap();
        self.pass(Duration::from_secs(1));
        call
    }

    pub(crate) fn connected_pair(mut self) -> Self {
        self.connected();
        self
    }

    /// One input and its invariants; what it causes waits for [`Self::run`].
    pub(crate) fn input(&mut self, side: usize, mut input: Input) -> Result<Vec<EffectKind>, Rejected> {
        if let Input::Command(Command::Offer { create, .. }) = &mut input {
            create.creator = self.key(side);
            create.may_invite = self.may_invite;
        }
        if let Some(trace) = &mut self.trace {
            trace.inputs.push((side, self.now, input.clone()));
        }
        let before = self.sides[side].machine.clone();
        let effects = match self.sides[side].machine.handle(self.now, input) {
            Ok(effects) => effects,
            Err(rejected) => {
                assert_eq!(self.sides[side].machine, before, "a refused command changed the machine");
                return Err(rejected);
            }
        };
        let kinds = effects.iter().map(|e| e.kind.clone()).collect();
        self.perform(side, effects);
        let machine = &self.sides[side].machine;
        machine.check(self.now).unwrap();
        if let Some(t) = machine.next_timeout() {
            assert!(t > self.now, "a timeout at {t:?} is already over at {:?}", self.now);
        }
        Ok(kinds)
    }

    pub(crate) fn feed(&mut self, side: usize, input: Input) -> Vec<EffectKind> {
        self.input(side, input).unwrap()
    }

    /// Everything that happens without time passing.
    pub(crate) fn run(&mut self) {
        for _ in 0..10_000 {
            if let Some((side, input)) = self.todo.pop_front() {
                self.feed(side, input);
            } else if let Some((from, to, wire)) = self.wires.pop_front() {
                if (self.hold)(from, &wire) {
                    self.held.push((from, wire));
                } else if !(self.cut)(from, to) {
                    for _ in 0..self.copies {
                        self.deliver_to(from, to, wire.clone());
                    }
                }
            } else {
                return;
            }
        }
        panic!("they never come to rest");
    }

    /// Lets time pass, with every timeout at its moment.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.run();
            let next = |s: &Side| s.machine.next_timeout();
            match self.sides.iter().filter_map(next).min().filter(|t| *t <= until) {
                Some(t) => {
                    self.now = t;
                    for side in 0..self.sides.len() {
                        self.feed(side, Input::Tick);
                    }
                }
                None => break,
            }
        }
        self.now = until;
        for side in 0..self.sides.len() {
            self.feed(side, Input::Tick);
        }
        self.run();
    }

    /// Delivers what was held back and matches, in the order in which it was said.
    pub(crate) fn release(&mut self, which: impl Fn(usize, &Wire) -> bool) {
        let held = std::mem::take(&mut self.held);
        let (go, stay): (Vec<_>, Vec<_>) = held.into_iter().partition(|(from, w)| which(*from, w));
        self.held = stay;
        for (from, wire) in go {
            self.deliver(from, wire);
        }
        self.run();
    }

    /// Holds nothing back any more, and delivers everything that was.
    pub(crate) fn release_all(&mut self) {
        self.hold = |_, _| false;
        self.release(|_, _| true);
    }

    /// Both engines tell of the newest link of that call.
    pub(crate) fn engine(&mut self, call: CallId, state: EngineLink) {
        for side in [A, B] {
            let link = self.link(side, call);
            self.tell(side, link, state);
        }
        self.run();
    }

    fn tell(&mut self, side: usize, link: LinkId, state: EngineLink) {
        self.feed(side, Input::Media(MediaInput::State { link, state }));
        if state == EngineLink::Connected {
            self.secure(side, link);
        }
    }

    /// The engine of one side tells of its link to another.
    pub(crate) fn told(&mut self, at: usize, of: usize, call: CallId, state: EngineLink) {
        let key = self.key(of);
        let link = self.sides[at].links.iter().copied().rfind(|l| l.call == call && l.peer == key);
        if let Some(link) = link {
            self.tell(at, link, state);
            self.run();
        }
    }

    /// One engine tells.
    pub(crate) fn engine_at(&mut self, side: usize, call: CallId, state: EngineLink) {
        let link = self.link(side, call);
        self.tell(side, link, state);
        self.run();
    }

    pub(crate) fn link(&self, side: usize, call: CallId) -> LinkId {
        *self.sides[side].links.iter().rfind(|l| l.call == call).expect("a link of that call is open")
    }

    /// The call's topic of the newest key that this side listens to.
    pub(crate) fn call_topic(&self, side: usize, call: CallId) -> TopicRef {
        let of = |t: &&TopicRef| matches!(t, TopicRef::Call { call: c, .. } if *c == call);
        *self.sides[side].topics.iter().rfind(of).expect("it listens to the call")
    }

    pub(crate) fn epoch(&self, side: usize, call: CallId) -> EpochId {
        match self.call_topic(side, call) {
            TopicRef::Call { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
    }

    /// Names of the events of a side since the last time this was asked.
    pub(crate) fn events(&mut self, side: usize) -> Vec<String> {
        std::mem::take(&mut self.sides[side].events).iter().map(short).collect()
    }

    /// The reason of the only `Ended` so far, and the side that ended it.
    pub(crate) fn ended(&self, side: usize) -> Option<(EndReason, Option<usize>)> {
        let mut ends = self.sides[side].events.iter().filter_map(|e| match e {
            Event::Ended { reason, by, .. } => Some((*reason, by.map(|by| self.index(by)))),
            _ => None,
        });
        let first = ends.next();
        assert_eq!(ends.next(), None, "a call ends once");
        first
    }

    /// After the farewell nothing is left: no call, timer, topic, link or device.
    pub(crate) fn assert_clean(&mut self) {
        self.pass(Duration::from_secs(11));
        for side in &self.sides {
            assert!(side.machine.is_idle());
            assert_eq!(side.machine.next_timeout(), None);
            assert_eq!(side.links, BTreeSet::new());
            assert_eq!(side.audio, BTreeSet::new());
            assert!(
                side.topics.iter().all(|t| matches!(t, TopicRef::Inbox { owner, .. } if *owner == side.key)),
                "{:?}",
                side.topics
            );
            assert!(side.machine.snapshot().calls.is_empty());
        }
    }

    pub(crate) fn index(&self, key: PublicKey) -> usize {
        self.sides.iter().position(|s| s.key == key).expect("a side of this test")
    }

    /// What was about to be told to that side is lost.
    pub(crate) fn forget_inputs(&mut self, side: usize) {
        self.todo.retain(|(to, _)| *to != side);
    }

    /// Between two.
    pub(crate) fn deliver(&mut self, from: usize, wire: Wire) {
        self.deliver_to(from, 1 - from, wire);
    }
}
