//! Some machines that hear each other at once, each with its recorder. Everything that a person would not want in a bug report
//! is conspicuous, so that it can be searched for.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use sha2::{Digest, Sha256};
use warp_blink::{
    config::Config,
    error::Rejected,
    event::{Event, LinkState, Via, Warning},
    id::{CallId, Identity, NodeKey, PublicKey},
    proto::{
        Arrived, Command, Effect, EffectKind, EngineLink, Input, LinkCommand, LinkId, Machine, MediaInput,
        Outcome, SessionNo, TopicRef,
        journal::{Beginning, Journal, Recorder, Stop},
        signal::{
            AppData, Candidate, Create, Description, DescriptionKind, Fingerprint, KeyHash, MAX_MEMBERS,
            MayInvite, RollHash,
        },
    },
    stats::{LinkStats, ReceivedSound, SoundStats},
    time::{Instant, UnixTime},
};

/// The wall clock when the world begins: 2025-10-09.
pub(crate) const WALL: UnixTime = UnixTime::from_millis(1_760_000_000_123);
pub(crate) const RANDOM: [u8; 16] = [0x5e; 16];
pub(crate) const APP_DATA: &[u8] = b"at the usual place";
pub(crate) const DESCRIPTION: &str = "v=0\r\no=- 4611 IN IP4 198.51.100.7\r\na=ice-pwd:hush";
pub(crate) const CANDIDATE: &str = "candidate:1 1 udp 2130706431 198.51.100.7 50000 typ host";
pub(crate) const CAUSE: &str = "no route to 203.0.113.9";
pub(crate) const DEVICE: &str = "Anna's headset";

pub(crate) const LARGE: usize = 4 * 1024 * 1024;

pub(crate) struct Node {
    pub(crate) key: PublicKey,
    pub(crate) machine: Machine,
    pub(crate) recorder: Recorder,
    /// The journal.
    pub(crate) text: String,
    pub(crate) events: Vec<Event>,
    /// What it said, unscrubbed.
    pub(crate) effects: Vec<Effect>,
    topics: BTreeSet<TopicRef>,
    /// When it was first told anything.
    first: Option<Instant>,
}

/// What the monotonic clock says when the world begins: the system has been up for a day.
pub(crate) const UP: Instant = Instant::from_micros(98_765_432_101);

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    todo: VecDeque<(usize, Input)>,
    /// The numbers that two nodes have for one session: (node, other node, call, number of the first) to that of the other.
    sessions: BTreeMap<(usize, usize, CallId, SessionNo), SessionNo>,
    /// First messages that were not answered yet, by receiver and sender.
    asked: BTreeMap<(usize, usize, CallId), SessionNo>,
    seen: BTreeSet<(usize, usize, CallId, SessionNo)>,
}

pub(crate) fn call_id(n: u8) -> CallId {
    CallId::from_bytes([n; 16])
}

pub(crate) fn identity(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

pub(crate) fn beginning(config: &Config, id: &Identity) -> Beginning {
    Beginning::new(config.clone(), id.public(), NodeKey::from(id).node_id())
}

fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let digest = parts.iter().fold(Sha256::new(), |h, part| h.chain_update(part)).finalize();
    digest[..16].try_into().unwrap()
}

impl Node {
    pub(crate) fn new(beginning: &Beginning, limit: usize) -> Self {
        let (mut recorder, mut text) = (Recorder::new(limit), String::new());
        recorder.begin(beginning, &mut |line| text.push_str(line));
        let machine = beginning.machine().unwrap();
        let (events, effects, topics) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { key: beginning.own, machine, recorder, text, events, effects, topics, first: None }
    }

    pub(crate) fn start(&mut self) -> Vec<Effect> {
        let text = &mut self.text;
        self.recorder.start(&mut self.machine, &mut |line| text.push_str(line))
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input) -> Result<Vec<Effect>, Rejected> {
        self.first.get_or_insert(now);
        let text = &mut self.text;
        self.recorder.handle(&mut self.machine, now, input, &mut |line| text.push_str(line))
    }

    pub(crate) fn finish(&mut self) -> &str {
        let text = &mut self.text;
        self.recorder.finish(&mut |line| text.push_str(line));
        text
    }

    /// Ends the recording. The journal is read, and replayed.
    pub(crate) fn replay(&mut self) -> Journal {
        let journal = Journal::parse(self.finish()).unwrap();
        assert_eq!(journal.end(), Some(Stop::Finished));
        assert_eq!(journal.steps().len() as u64, self.recorder.steps());
        assert_eq!(self.text.len(), self.recorder.written());
        let replayed = journal.replay().unwrap_or_else(|divergence| panic!("{divergence}"));
        assert_eq!(replayed.effects, self.effects.len() as u64);
        let next = self.machine.next_timeout().map(|t| t.since(self.first.unwrap()));
        assert_eq!(replayed.machine.next_timeout().map(|t| t.since(Instant::default())), next);
        let shape = |m: &Machine| (m.snapshot().calls.len(), m.snapshot().ended.len(), m.is_idle());
        assert_eq!(shape(&replayed.machine), shape(&self.machine));
        journal
    }

    pub(crate) fn connected(&self) -> usize {
        let up = |e: &&Event| matches!(e, Event::Link { state: LinkState::Connected, .. });
        self.events.iter().filter(up).count()
    }
}

impl World {
    /// So many machines, in the order of their keys, that know each other, started and told the time.
    pub(crate) fn new(n: u8, config: &Config) -> Self {
        let mut ids: Vec<_> = (1..=n).map(identity).collect();
        ids.sort_by_key(Identity::public);
        let keys: Vec<_> = ids.iter().map(Identity::public).collect();
        let nodes = ids.iter().map(|id| {
            let others = keys.iter().copied().filter(|key| *key != id.public());
            Node::new(&beginning(config, id).with_people(others, [identity(200).public()]), LARGE)
        });
        let mut world = Self {
            now: UP,
            nodes: nodes.collect(),
            todo: VecDeque::new(),
            sessions: BTreeMap::new(),
            asked: BTreeMap::new(),
            seen: BTreeSet::new(),
        };
        for at in 0..world.nodes.len() {
            world.feed(at, Input::Clock(WALL));
            world.start(at);
        }
        world
    }

    /// That process dies, and another one takes its place.
    pub(crate) fn restart(&mut self, at: usize, node: Node) -> Node {
        self.sessions.retain(|(a, b, ..), _| *a != at && *b != at);
        self.asked.retain(|(a, b, _), _| *a != at && *b != at);
        self.seen.retain(|(a, b, ..)| *a != at && *b != at);
        self.todo.retain(|(to, _)| *to != at);
        std::mem::replace(&mut self.nodes[at], node)
    }

    pub(crate) fn start(&mut self, at: usize) {
        let effects = self.nodes[at].start();
        self.carry_out(at, effects);
        self.run();
    }

    pub(crate) fn key(&self, at: usize) -> PublicKey {
        self.nodes[at].key
    }

    pub(crate) fn offer(&self, from: usize, to: &[usize], call: CallId) -> Command {
        let create = Create {
            creator: self.key(from),
            random: RANDOM,
            may_invite: MayInvite::Members,
            most: MAX_MEMBERS as u8,
        };
        let app_data = AppData::new(APP_DATA).unwrap();
        Command::Offer { call, create, to: self.keys(to), app_data, sent_at: self.wall() }
    }

    pub(crate) fn keys(&self, of: &[usize]) -> Vec<PublicKey> {
        of.iter().map(|at| self.key(*at)).collect()
    }

    pub(crate) fn wall(&self) -> UnixTime {
        UnixTime::from_millis(WALL.as_millis() + self.now.as_micros() / 1000)
    }

    pub(crate) fn ask(&mut self, at: usize, command: Command) -> Result<(), Rejected> {
        let effects = self.nodes[at].handle(self.now, command.into())?;
        self.carry_out(at, effects);
        self.run();
        Ok(())
    }

    pub(crate) fn feed(&mut self, at: usize, input: Input) {
        let effects = self.nodes[at].handle(self.now, input).unwrap();
        self.nodes[at].machine.check(self.now).unwrap();
        self.carry_out(at, effects);
    }

    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            let Some((at, input)) = self.todo.pop_front() else { return };
            self.feed(at, input);
        }
        panic!("they never come to rest");
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.run();
            let next = self.nodes.iter().filter_map(|n| n.machine.next_timeout()).min();
            self.now = next.unwrap_or(until).min(until);
            for at in 0..self.nodes.len() {
                if self.nodes[at].machine.next_timeout().is_some_and(|t| t <= self.now) {
                    self.feed(at, Input::Tick);
                }
            }
            if self.now == until {
                self.run();
                return;
            }
        }
    }

    /// Ends all recordings. Each journal is read, and replayed.
    pub(crate) fn replay_all(&mut self) -> Vec<Journal> {
        self.nodes.iter_mut().map(Node::replay).collect()
    }

    fn node(&self, key: &PublicKey) -> Option<usize> {
        self.nodes.iter().position(|n| n.key == *key)
    }

    /// That node, if it listens there.
    fn heard(&self, key: &PublicKey, topic: TopicRef) -> Option<usize> {
        self.node(key).filter(|at| self.nodes[*at].topics.contains(&topic))
    }

    fn carry_out(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            self.nodes[at].effects.push(effect.clone());
            if let EffectKind::Emit(event) = effect.kind {
                self.nodes[at].events.push(event);
            } else {
                let outcome = self.perform(at, effect.kind);
                self.todo.push_back((at, Input::Done { effect: effect.id, outcome }));
            }
        }
    }

    fn perform(&mut self, at: usize, kind: EffectKind) -> Outcome {
        let from = self.key(at);
        let mut inputs: Vec<(usize, Input)> = Vec::new();
        match kind {
            EffectKind::Subscribe(topic) => {
                self.nodes[at].topics.insert(topic);
                let others = (0..self.nodes.len()).filter(|other| *other != at);
                inputs.extend(others.map(|other| (other, Input::PeerSubscribed(topic))));
                self.todo.extend(inputs);
                return Outcome::Ok;
            }
            EffectKind::Unsubscribe(topic) => {
                self.nodes[at].topics.remove(&topic);
                return Outcome::Ok;
            }
            EffectKind::Reach { peer } if self.node(&peer).is_some() => return Outcome::Reached(Via::Direct),
            EffectKind::Reach { .. } => return Outcome::Failed(CAUSE.to_owned()),
            EffectKind::NewCallKey { call, n } => {
                return Outcome::Key(KeyHash(hash(&[&[at as u8], call.as_bytes(), &n.to_be_bytes()])));
            }
            EffectKind::KeepRoll { roll, .. } => {
                return Outcome::Roll(RollHash(hash(&[&minicbor::to_vec(&roll).unwrap()])));
            }
            EffectKind::SendHello { to, lane, suite, session, hello } => {
                let call = hello.call;
                if let Some(other) = self.heard(&to, TopicRef::Inbox { owner: to, lane }) {
                    if self.seen.insert((other, at, call, session)) {
                        let mut arrived = Arrived::new(*hello);
                        (arrived.suite, arrived.wall) = (suite, self.wall());
                        self.asked.insert((other, at, call), session);
                        inputs.push((other, Input::Hello(Box::new(arrived))));
                    } else if let Some(session) = self.sessions.get(&(at, other, call, session)) {
                        inputs.push((other, Input::HelloAgain { call, from, session: *session }));
                    }
                }
            }
            EffectKind::SendWelcome { call, to, session, welcome } => {
                let other = self.heard(&to, TopicRef::Peer { call, owner: to });
                if let Some((other, asked)) =
                    other.and_then(|other| Some((other, *self.asked.get(&(at, other, call))?)))
                {
                    self.sessions.insert((at, other, call, session), asked);
                    self.sessions.insert((other, at, call, asked), session);
                    inputs.push((other, Input::Welcome { call, from, session: asked, welcome }));
                }
            }
            EffectKind::Send { to, session, packet } => {
                let call = packet.call;
                // A session with a process that died is not opened by the next one.
                if let Some(other) = self.heard(&to, TopicRef::Peer { call, owner: to })
                    && let Some(session) = self.sessions.get(&(at, other, call, session))
                {
                    inputs.push((other, Input::Packet { from, session: *session, packet }));
                }
            }
            EffectKind::SendOnLink { link, session, packet } => {
                if let Some(other) = self.node(&link.peer)
                    && let Some(session) = self.sessions.get(&(at, other, link.call, session))
                {
                    let link = LinkId { peer: from, ..link };
                    inputs.push((other, Input::PacketOnLink { link, session: *session, packet }));
                }
            }
            EffectKind::SendCall { call, epoch, body } => {
                let heard = |n: &Node| n.topics.contains(&TopicRef::Call { call, epoch });
                let others = (0..self.nodes.len()).filter(|other| *other != at && heard(&self.nodes[*other]));
                inputs.extend(others.map(|other| (other, Input::CallMessage { call, epoch, from, body })));
            }
            kind => {
                self.media(at, kind);
                return Outcome::Ok;
            }
        }
        let outcome = if inputs.is_empty() { Outcome::NoPeers } else { Outcome::Ok };
        self.todo.extend(inputs);
        outcome
    }

    fn media(&mut self, at: usize, kind: EffectKind) {
        let micros = self.wall().as_millis() * 1000 + 7;
        let inputs = match kind {
            EffectKind::OpenAudio { call, .. } => {
                let warning = Warning::DeviceLost { device: DEVICE.to_owned() };
                let started = MediaInput::Started { call, mic_us: Some(micros), speaker_us: None };
                vec![(at, started), (at, MediaInput::Warning(warning))]
            }
            EffectKind::Link { link, command: LinkCommand::Dial } => {
                self.described(at, link, DescriptionKind::Offer)
            }
            EffectKind::Link { link, command: LinkCommand::Accept(_) } => {
                self.described(at, link, DescriptionKind::Answer)
            }
            EffectKind::Link { link, command: LinkCommand::Apply(_) } => self.connected(at, link),
            _ => Vec::new(),
        };
        self.todo.extend(inputs.into_iter().map(|(at, input)| (at, Input::Media(input))));
    }

    fn described(&self, at: usize, link: LinkId, kind: DescriptionKind) -> Vec<(usize, MediaInput)> {
        let description = Description { kind, text: format!("{DESCRIPTION} {kind:?}") };
        let candidate = Candidate { text: CANDIDATE.to_owned() };
        vec![
            (at, MediaInput::LocalDescription { link, description }),
            (at, MediaInput::LocalCandidate { link, candidate }),
            (at, MediaInput::GatheringDone { link }),
        ]
    }

    fn connected(&self, at: usize, link: LinkId) -> Vec<(usize, MediaInput)> {
        let other = self.node(&link.peer).unwrap();
        let ends = [(at, link), (other, LinkId { peer: self.key(at), ..link })];
        let states = [EngineLink::Checking, EngineLink::Securing, EngineLink::Connected];
        let mut inputs: Vec<_> = states
            .iter()
            .flat_map(|state| ends.map(|(at, link)| (at, MediaInput::State { link, state: *state })))
            .collect();
        let mut stats = LinkStats::default();
        (stats.rtt_ms, stats.loss_pct) = (Some(1.0 / 3.0), Some(f64::NAN));
        (stats.sent_bps, stats.route) = (Some(1e300), Some("host".to_owned()));
        stats.sound = Some(Box::new(ReceivedSound::default()));
        for (at, link) in ends {
            let [own, remote] = [self.key(at), link.peer].map(|key| Fingerprint(*key.as_bytes()));
            inputs.push((at, MediaInput::Secured { link, own, remote }));
            inputs.push((at, MediaInput::FirstAudio { link }));
            inputs.push((at, MediaInput::Stats { link, stats: stats.clone() }));
            let mut sound = SoundStats::default();
            (sound.frames, sound.echo_delay_ms) = (u64::MAX, Some(60));
            inputs.push((at, MediaInput::Sound { call: link.call, stats: Box::new(sound) }));
        }
        inputs
    }
}
