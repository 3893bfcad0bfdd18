//! The world: its nodes, its time, and what happens in it.

mod act;
mod channel;
mod converge;
mod link;
mod net;
mod node;
mod perform;
mod real;
mod rng;
mod roll;
mod rules;
mod scenario;
mod seeds;
mod vault;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
    time::Duration,
};

use warp_blink::{
    config::Config,
    event::{LinkState, Phase, Presence},
    id::{CallId, PublicKey},
    proto::{
        Input, TopicRef,
        signal::{EpochId, Record},
    },
    time::Instant,
};

pub use act::Action;
pub use net::{Conditions, Nodes};
pub use node::Node;
pub use rng::Rng;
pub use rules::Made;
pub use scenario::{Lived, Scenario, Script};
pub use seeds::{each_seed, number};
pub use watch::Outcome;

use channel::Parcel;
use link::{Connection, Name};
use net::{Cut, Wire};

const HOUR: Duration = Duration::from_secs(3600);

/// Something that must not happen.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The seed of the run.
    pub seed: u64,
    /// When it happened, in virtual time.
    pub at: Instant,
    /// At which node.
    pub node: Option<usize>,
    /// What.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_micros() as f64 / 1e6;
        match self.node {
            Some(node) => write!(f, "seed {}, {at:.3} s, node {node}: {}", self.seed, self.what),
            None => write!(f, "seed {}, {at:.3} s: {}", self.seed, self.what),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// When, where and what, without the seed.
    pub fn told(&self) -> String {
        let all = self.to_string();
        all.split_once(", ").map(|(_, rest)| rest.to_owned()).unwrap_or(all)
    }
}

/// Something that will happen. What is meant for a process that has died since is lost.
#[derive(Clone, Debug)]
enum Happening {
    Input {
        node: usize,
        life: u32,
        input: Box<Input>,
    },
    Deliver {
        from: usize,
        to: usize,
        life: u32,
        topic: TopicRef,
        wire: Rc<Wire>,
    },
    Heard {
        observer: usize,
        life: u32,
        node: usize,
        at: u32,
        topic: TopicRef,
    },
    Clock {
        node: usize,
        life: u32,
    },
    /// A cut begins or is over.
    Cut(Nodes),
    Review(Name),
    /// Something arrives over a connection.
    Carry(Parcel),
    Act {
        node: usize,
        action: Action,
    },
    Wake {
        node: usize,
        life: u32,
    },
    Start {
        node: usize,
        life: u32,
    },
    Resume {
        node: usize,
        life: u32,
    },
    /// A phone must not ring any more.
    Silent {
        node: usize,
        life: u32,
        call: CallId,
        peer: Option<PublicKey>,
    },
}

/// Several machines and the world around them.
pub struct World {
    seed: u64,
    now: Instant,
    rng: Rng,
    conditions: Conditions,
    nodes: Vec<Node>,
    queue: BTreeMap<(Instant, u64), Happening>,
    queued: u64,
    secrets: u64,
    steps: u64,
    cuts: Vec<Cut>,
    links: BTreeMap<Name, Connection>,
    /// Calls that somebody's app accepted.
    accepted: BTreeSet<CallId>,
    /// Who calls whom.
    calls: BTreeMap<CallId, Made>,
    /// Every word that was asked to be signed, by its subject.
    signed: BTreeMap<(CallId, PublicKey), Vec<Record>>,
    /// The real keys, in a world where all is sealed for real.
    real: Option<Box<real::Keys>>,
    /// Some process was stopped or died: what is told to it is not told at once.
    troubled: bool,
    verbose: bool,
}

impl World {
    /// A world with one node for each configuration, at most 32.
    ///
    /// # Errors
    /// A [`Fault`] of the first steps.
    pub fn new(seed: u64, conditions: Conditions, configs: Vec<Config>) -> Result<Self, Fault> {
        let mut world = Self {
            seed,
            now: Instant::from_micros(1_000_000),
            rng: Rng::new(seed),
            conditions,
            nodes: node::nodes(configs),
            queue: BTreeMap::new(),
            queued: 0,
            secrets: 0,
            steps: 0,
            cuts: Vec::new(),
            links: BTreeMap::new(),
            accepted: BTreeSet::new(),
            calls: BTreeMap::new(),
            signed: BTreeMap::new(),
            real: None,
            troubled: false,
            verbose: std::env::var_os("SEED").is_some(),
        };
        for node in 0..world.nodes.len() {
            world.start(node)?;
        }
        Ok(world)
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How many inputs were handled.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The source of choices of this run.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Who called whom, for each call so far.
    pub fn calls(&self) -> &BTreeMap<CallId, Made> {
        &self.calls
    }

    /// This happens after `wait`.
    pub fn act_later(&mut self, wait: Duration, node: usize, action: Action) {
        self.later(wait, Happening::Act { node, action });
    }

    /// From `wait` on and for `time`, these nodes and the others hear nothing of each other.
    pub fn cut(&mut self, wait: Duration, time: Duration, island: &[usize]) {
        self.cut_nodes(wait, time, Nodes::of(island));
    }

    fn cut_nodes(&mut self, wait: Duration, time: Duration, island: Nodes) {
        let from = self.now + wait;
        self.cuts.push(Cut { from, until: from + time, island });
        self.later(wait, Happening::Cut(island));
        self.later(wait + time, Happening::Cut(island));
    }

    /// Lets virtual time pass.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn run_for(&mut self, time: Duration) -> Result<(), Fault> {
        self.run_until(time, |_| false).map(drop)
    }

    /// Lets virtual time pass until this holds, at most `limit`; when it did.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn run_until(
        &mut self,
        limit: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<Option<Duration>, Fault> {
        let (begin, end) = (self.now, self.now + limit);
        loop {
            if holds(self) {
                return Ok(Some(self.now.since(begin)));
            }
            if !self.step(end)? {
                self.now = end;
                return Ok(None);
            }
        }
    }

    /// The next thing that happens, if it does by `end`.
    fn step(&mut self, end: Instant) -> Result<bool, Fault> {
        let queued = self.queue.first_key_value().map(|((t, _), _)| *t);
        let awake = self.nodes.iter().enumerate().filter(|(_, n)| n.is_awake());
        let due = awake.filter_map(|(index, n)| Some((n.due?, index))).min();
        match (queued, due) {
            (Some(t), due) if t <= end && due.is_none_or(|(d, _)| t <= d) => {
                self.now = t;
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening)?;
                }
                Ok(true)
            }
            (_, Some((t, node))) if t <= end => {
                self.now = self.now.max(t);
                self.tick(node)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whose process it is for, and which life of it.
    fn whose(happening: &Happening) -> Option<(usize, u32)> {
        match happening {
            Happening::Input { node, life, .. }
            | Happening::Deliver { to: node, life, .. }
            | Happening::Heard { observer: node, life, .. }
            | Happening::Clock { node, life }
            | Happening::Resume { node, life }
            | Happening::Silent { node, life, .. } => Some((*node, *life)),
            _ => None,
        }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Fault> {
        if let Some((node, life)) = Self::whose(&happening) {
            let node = &mut self.nodes[node];
            if node.life != life || !node.up {
                return Ok(());
            }
            if node.asleep.is_some() {
                node.backlog.push(happening);
                return Ok(());
            }
        }
        match happening {
            Happening::Input { node, input, .. } => self.feed(node, *input),
            Happening::Deliver { from, to, topic, wire, .. } => self.deliver(from, to, topic, &wire),
            Happening::Heard { node, at, .. } if self.nodes[node].life != at => Ok(()),
            Happening::Heard { observer, node, topic, .. } => self.heard(observer, node, topic),
            Happening::Clock { node, life } => {
                self.later(HOUR, Happening::Clock { node, life });
                self.feed(node, Input::Clock(self.wall(node)))
            }
            Happening::Cut(island) => {
                self.cut_changed(island);
                Ok(())
            }
            Happening::Review(name) => {
                self.review(name);
                Ok(())
            }
            Happening::Carry(parcel) => self.carried(parcel),
            Happening::Act { node, action } => self.act(node, action),
            Happening::Wake { node, life } if self.nodes[node].life == life => self.wake(node),
            Happening::Start { node, life } if self.nodes[node].life == life => self.start(node),
            Happening::Wake { .. } | Happening::Start { .. } => Ok(()),
            Happening::Resume { node, .. } => self.resume_all(node),
            Happening::Silent { node, call, peer, .. } => self.is_silent(node, call, peer),
        }
    }

    fn later(&mut self, wait: Duration, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now + wait, self.queued), happening);
    }

    /// A cut has begun, or is over: connections come back, and with them the subscriptions.
    fn cut_changed(&mut self, island: Nodes) {
        for a in 0..self.nodes.len() {
            self.touch_all(a);
            for b in 0..a {
                if island.has(a) != island.has(b) && self.cut_since(a, b).is_none() {
                    self.join(a, b);
                }
            }
        }
    }

    fn index(&self, key: &PublicKey) -> Option<usize> {
        self.nodes.iter().position(|n| n.key == *key)
    }

    /// What a test finds wrong with this run.
    pub fn complaint(&self, what: impl Into<String>) -> Fault {
        Fault { seed: self.seed, at: self.now, node: None, what: what.into() }
    }

    fn fault(&self, node: usize, what: impl Into<String>) -> Fault {
        Fault { seed: self.seed, at: self.now, node: Some(node), what: what.into() }
    }

    /// Where a call stands at a node.
    pub fn phase(&self, node: usize, call: CallId) -> Option<Phase> {
        self.nodes[node].machine.snapshot().call(call).map(|c| c.phase)
    }

    /// It rings there.
    pub fn rings(&self, node: usize, call: CallId) -> bool {
        self.phase(node, call) == Some(Phase::Incoming)
    }

    /// It is accepted there, and the links to all others are up.
    pub fn connected(&self, node: usize, call: CallId) -> bool {
        self.nodes[node].machine.snapshot().call(call).is_some_and(|c| {
            c.phase == Phase::Active && c.participants.iter().all(|p| p.link == LinkState::Connected)
        })
    }

    /// How that node sees that other one in a call.
    pub fn sees(&self, node: usize, call: CallId, other: usize) -> Option<Presence> {
        let snapshot = self.nodes[node].machine.snapshot();
        let key = self.nodes[other].key;
        snapshot.call(call)?.participants.iter().find(|p| p.peer == key).map(|p| p.state.presence)
    }

    /// Each of these sees each other one joined.
    pub fn together(&self, call: CallId, nodes: &[usize]) -> bool {
        nodes.iter().all(|a| {
            let snapshot = self.nodes[*a].machine.snapshot();
            let Some(seen) = snapshot.call(call) else { return false };
            let joined: BTreeSet<PublicKey> = seen
                .participants
                .iter()
                .filter(|p| p.state.presence == Presence::Joined)
                .map(|p| p.peer)
                .collect();
            nodes.iter().all(|b| a == b || joined.contains(&self.nodes[*b].key))
        })
    }

    /// Under which key that node last said something in a call, and when.
    pub fn speaks(&self, node: usize, call: CallId) -> Option<(EpochId, Instant)> {
        self.nodes[node].said.get(&call).map(|(at, epoch, _)| (*epoch, *at))
    }

    /// How the call ended there, if it has.
    pub fn outcome(&self, node: usize, call: CallId) -> Option<Outcome> {
        self.nodes[node].watch.get(&call).and_then(|w| w.outcome)
    }
}
