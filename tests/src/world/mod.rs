//! The simulated world: several call machines, virtual time, and a network that a seed decides.
//!
//! A run is a function of its seed. [`World`] carries out every effect of the machines and answers each exactly once;
//! the messages between them travel unsealed through a network that loses, repeats, delays and reorders them (`net`),
//! and the media links behave as real ones do, without media (`link`). After each step the invariants of the machine
//! and the rules of `rules` are checked; [`World::finish`] heals the network, ends all calls and checks what must hold
//! of whole calls.
//!
//! ```
//! use blink_tests::world::{Conditions, World};
//! use std::time::Duration;
//! use warp_blink::{config::Config, proto::Command};
//!
//! let mut world = World::new(7, Conditions::rough(), vec![Config::default(); 2])?;
//! let call = world.offer(0, 1)?.expect("no call is under way");
//! world.run_until(Duration::from_secs(10), |w| w.rings(1, call))?.expect("it rings");
//! world.command(1, Command::Accept { call })?.expect("it rings");
//! world.run_until(Duration::from_secs(10), |w| w.connected(0, call))?.expect("it connects");
//! world.finish()?;
//! # Ok::<(), blink_tests::world::Fault>(())
//! ```

mod link;
mod net;
mod node;
mod rng;
mod rules;
mod scenario;
mod seeds;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use warp_blink::{
    config::Config,
    error::Rejected,
    event::{LinkState, Phase},
    id::{CallId, PublicKey},
    proto::{Command, Input, TopicRef, signal::AppData},
    time::Instant,
};

pub use net::Conditions;
pub use node::Node;
pub use rng::Rng;
pub use rules::Outcome;
pub use scenario::{Action, Scenario};
pub use seeds::each_seed;

use link::{Connection, Name};
use net::{Cut, Wire};

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

/// Something that will happen.
#[derive(Clone, Debug)]
enum Happening {
    Input { node: usize, life: u32, input: Box<Input> },
    Deliver { from: usize, to: usize, topic: TopicRef, wire: Wire },
    Heard { observer: usize, node: usize, topic: TopicRef },
    Healed,
    Poll(Name),
    Act { node: usize, action: Action },
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
    cuts: Vec<Cut>,
    links: BTreeMap<Name, Connection>,
    /// Calls that somebody's app accepted.
    accepted: BTreeSet<CallId>,
    /// Who calls whom.
    calls: BTreeMap<CallId, (usize, usize)>,
    verbose: bool,
}

impl World {
    /// A world with one node for each configuration.
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
            cuts: Vec::new(),
            links: BTreeMap::new(),
            accepted: BTreeSet::new(),
            calls: BTreeMap::new(),
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

    /// The source of choices of this run.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Who called whom, for each call so far.
    pub fn calls(&self) -> &BTreeMap<CallId, (usize, usize)> {
        &self.calls
    }

    /// A command of the app at this node.
    ///
    /// # Errors
    /// A [`Fault`] if a rule is broken; the inner error if the machine refuses.
    pub fn command(&mut self, node: usize, command: Command) -> Result<Result<(), Rejected>, Fault> {
        if let Command::Accept { call } = command {
            self.accepted.insert(call);
        }
        self.try_feed(node, command.into())
    }

    /// `from` calls `to`.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn offer(&mut self, from: usize, to: usize) -> Result<Result<CallId, Rejected>, Fault> {
        let call = CallId::from_bytes(self.rng.bytes());
        let command = Command::Offer {
            call,
            to: vec![self.nodes[to].key],
            app_data: AppData::default(),
            sent_at: self.wall(from),
        };
        self.calls.insert(call, (from, to));
        let refused = self.command(from, command)?;
        if refused.is_err() {
            self.calls.remove(&call);
        }
        Ok(refused.map(|()| call))
    }

    /// This happens after `wait`.
    pub fn act_later(&mut self, wait: Duration, node: usize, action: Action) {
        self.later(wait, Happening::Act { node, action });
    }

    /// From `wait` on and for `time`, these nodes and the others hear nothing of each other.
    pub fn cut(&mut self, wait: Duration, time: Duration, island: &[usize]) {
        let from = self.now + wait;
        self.cuts.push(Cut { from, until: from + time, island: island.iter().copied().collect() });
        self.later(wait + time, Happening::Healed);
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
        let timeout =
            |n: &Node| [n.machine.next_timeout(), n.lanes.next_timeout(self.now)].into_iter().flatten().min();
        let due = (0..self.nodes.len()).filter_map(|n| Some((timeout(&self.nodes[n])?, n))).min();
        match (queued, due) {
            (None, None) => return Ok(false),
            (Some(t), due) if due.is_none_or(|(d, _)| t <= d) => {
                if t > end {
                    return Ok(false);
                }
                self.now = t;
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening)?;
                }
            }
            (_, Some((t, node))) => {
                if t > end {
                    return Ok(false);
                }
                self.now = t;
                self.open_next(node)?;
                self.feed(node, Input::Tick)?;
            }
            (Some(_), None) => return Ok(false),
        }
        Ok(true)
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Fault> {
        match happening {
            Happening::Input { node, life, input } => {
                if self.nodes[node].life == life {
                    self.feed(node, *input)?;
                }
                Ok(())
            }
            Happening::Deliver { from, to, topic, wire } => self.deliver(from, to, topic, wire),
            Happening::Heard { observer, node, topic } => self.heard(observer, node, topic),
            Happening::Healed => {
                self.healed();
                Ok(())
            }
            Happening::Poll(name) => {
                self.poll(name);
                Ok(())
            }
            Happening::Act { node, action } => self.act(node, action),
        }
    }

    fn later(&mut self, wait: Duration, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now + wait, self.queued), happening);
    }

    fn index(&self, key: PublicKey) -> Option<usize> {
        self.nodes.iter().position(|n| n.key == key)
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

    /// It is accepted there and its link is up.
    pub fn connected(&self, node: usize, call: CallId) -> bool {
        self.nodes[node].machine.snapshot().call(call).is_some_and(|c| {
            c.phase == Phase::Active && c.participants.iter().all(|p| p.link == LinkState::Connected)
        })
    }

    /// How the call ended there, if it has.
    pub fn outcome(&self, node: usize, call: CallId) -> Option<Outcome> {
        self.nodes[node].watch.get(&call).and_then(|w| w.outcome)
    }
}
