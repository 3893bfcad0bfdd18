//! Random lives: people who call, answer, gather, leave and come back as the seed decides, on networks and machines as
//! the seed decides.

use std::time::Duration;

use warp_blink::{
    config::{Config, PreConnect, WhenBusy},
    proto::Other,
};

use super::{Action, Conditions, Fault, Nodes, Rng, World, act::inviters, net::ms};

/// Who does what when.
pub type Script = Vec<(Duration, usize, Action)>;

/// How it was when everything had healed, before all hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lived {
    /// How long those who were in a call took to agree on it.
    pub settled: Duration,
    /// How many took part in the call that most took part in.
    pub largest: usize,
    /// How many signals were opened for real until then.
    pub opened: u64,
}

/// Everything that a seed decides about a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The network.
    pub conditions: Conditions,
    /// The nodes.
    pub nodes: Vec<Config>,
    /// Who does what when.
    pub script: Script,
    /// When the network is cut, for how long, and who is on one side.
    pub cuts: Vec<(Duration, Duration, Nodes)>,
    /// Who are contacts of each other, and hold what contacts are given.
    pub friends: Nodes,
    /// Every signal is sealed and opened for real.
    pub real: bool,
}

pub(super) const fn seconds(from: u64, to: u64) -> (Duration, Duration) {
    (Duration::from_secs(from), Duration::from_secs(to))
}

impl Scenario {
    /// Calls of two: 2 to 4 nodes, 4 to 24 actions within 90 s, 0 to 2 cuts of up to 80 s.
    pub fn random(seed: u64) -> Self {
        // Another stream than the run's own: the same scenario can be run on another world.
        let mut rng = Rng::new(seed ^ 0x5ce0_a210);
        let count = 2 + rng.below(3) as usize;
        let conditions = conditions(&mut rng);
        let nodes = (0..count).map(|_| config(&mut rng)).collect();
        let mut script = Vec::new();
        let mut at = Duration::ZERO;
        for _ in 0..4 + rng.below(21) {
            let node = rng.below(count as u64) as usize;
            let other = (node + 1 + rng.below(count as u64 - 1) as usize) % count;
            let action = match rng.below(40) {
                0..=11 => Action::Offer(Nodes::of(&[other])),
                12..=25 => Action::Accept(Other::End),
                26..=28 => Action::Decline,
                29..=31 => Action::Cancel,
                32..=35 => Action::HangUp,
                36..=38 => Action::Mute(rng.chance(0.5)),
                _ => Action::Crash { down: Duration::ZERO, resume: None },
            };
            at = when(&mut rng, at);
            script.push((at, node, action));
        }
        Self {
            conditions,
            nodes,
            script,
            cuts: cuts(&mut rng, count),
            friends: Nodes::default(),
            real: false,
        }
    }

    /// Calls of many: 2 to 16 nodes, most runs with up to 4, and everything that can happen.
    pub fn mixed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x06_2075);
        let count = match rng.below(32) {
            0..=7 => 2,
            8..=17 => 3,
            18..=26 => 4,
            27..=29 => 5 + rng.below(2) as usize,
            30 => 7 + rng.below(3) as usize,
            _ => 10 + rng.below(7) as usize,
        };
        let conditions = conditions(&mut rng);
        let nodes = (0..count).map(|_| group_config(&mut rng)).collect();
        let mut script = if rng.chance(0.8) { gathering(&mut rng, count) } else { Vec::new() };
        let host = script.first().map(|(_, host, _)| *host);
        let mut at = Duration::ZERO;
        for _ in 0..4 + rng.below(12 + 4 * count as u64) {
            at = when(&mut rng, at);
            let node = rng.below(count as u64) as usize;
            let action = action(&mut rng, count);
            // Only who made a call can remove somebody.
            let node = match (action, host) {
                (Action::Remove(_), Some(host)) if rng.chance(0.7) => host,
                _ => node,
            };
            script.push((at, node, action));
        }
        let friends = if rng.chance(0.3) { some(&mut rng, count, 2) } else { Nodes::default() };
        Self {
            conditions,
            nodes,
            script,
            cuts: cuts(&mut rng, count),
            friends,
            real: seed.is_multiple_of(SEALED),
        }
    }

    /// Lives it through, to the end.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn run(&self, seed: u64) -> Result<World, Fault> {
        self.live(seed).map(|(world, _)| world)
    }

    /// The same; also how it was in the end.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn live(&self, seed: u64) -> Result<(World, Lived), Fault> {
        let mut world = World::new(seed, self.conditions.clone(), self.nodes.clone())?;
        if self.real {
            world.seal_for_real();
        }
        for a in self.friends.iter() {
            for b in self.friends.iter().filter(|b| a < *b) {
                world.befriend(a, b)?;
            }
        }
        for (wait, node, action) in &self.script {
            world.act_later(*wait, *node, *action);
        }
        for (wait, time, island) in &self.cuts {
            world.cut_nodes(*wait, *time, *island);
        }
        let settled = world.settle()?;
        let lived = Lived { settled, largest: world.largest(), opened: world.opened() };
        world.finish()?;
        Ok((world, lived))
    }
}

/// One in so many mixed lives is sealed for real.
const SEALED: u64 = 16;

/// Somebody calls some, and they accept.
fn gathering(rng: &mut Rng, count: usize) -> Script {
    let begin = rng.between(seconds(0, 30));
    let caller = rng.below(count as u64) as usize;
    let mut script = vec![(begin, caller, Action::Offer(some(rng, count, 1)))];
    for node in (0..count).filter(|n| *n != caller) {
        if rng.chance(0.9) {
            script.push((begin + rng.between(seconds(1, 15)), node, Action::Accept(Other::Hold)));
        }
    }
    script
}

/// Half of what people do follows so closely on something else that the two cross.
fn when(rng: &mut Rng, last: Duration) -> Duration {
    let crossing = rng.chance(0.5);
    if crossing { last + rng.between(seconds(0, 1)) } else { rng.between(seconds(0, 90)) }
}

fn cuts(rng: &mut Rng, count: usize) -> Vec<(Duration, Duration, Nodes)> {
    let cut = |rng: &mut Rng| (rng.between(seconds(0, 80)), rng.between(seconds(0, 80)), some(rng, count, 2));
    (0..rng.below(4)).map(|_| cut(rng)).collect()
}

/// Some of them, one at least; each further one with a chance of one in `rare`.
fn some(rng: &mut Rng, count: usize, rare: u64) -> Nodes {
    let mut nodes = Nodes::of(&[rng.below(count as u64) as usize]);
    for n in 0..count {
        if rng.below(rare) == 0 {
            nodes.0 |= 1 << n;
        }
    }
    nodes
}

fn conditions(rng: &mut Rng) -> Conditions {
    Conditions {
        loss: 0.1 * rng.below(4) as f64,
        duplicate: 0.1 * rng.below(4) as f64,
        delay: (Duration::from_millis(1), Duration::from_millis(10 + rng.below(600))),
        propagation: (Duration::from_millis(1), Duration::from_millis(10 + rng.below(500))),
        no_audio: 0.1,
        ..Conditions::clean()
    }
}

/// One thing that somebody does, or that happens to them.
pub(super) fn action(rng: &mut Rng, count: usize) -> Action {
    let other = if rng.chance(0.5) { Other::End } else { Other::Hold };
    match rng.below(100) {
        0..=7 => Action::Offer(some(rng, count, 2)),
        8..=13 => Action::Offer(some(rng, count, u64::MAX)),
        14..=39 => Action::Accept(other),
        40 => Action::Decline,
        41 => Action::Cancel,
        42..=44 => Action::HangUp,
        45..=48 => Action::Leave,
        49..=55 => Action::Rejoin(other),
        56..=65 => Action::Invite(some(rng, count, 3)),
        66..=69 => Action::Remove(rng.below(count as u64) as usize),
        70..=73 => Action::Hold,
        74..=80 => Action::Unhold(other),
        81..=82 => Action::Mute(rng.chance(0.5)),
        83..=84 => Action::Camera(rng.chance(0.5)),
        85..=91 => Action::Crash {
            down: rng.between(ms(0, 20_000)),
            resume: rng.chance(0.7).then(|| rng.between(ms(0, 30_000))),
        },
        92..=95 => Action::Suspend(rng.between(ms(100, 80_000))),
        96..=97 => Action::Roam,
        _ => Action::Clock(rng.below(7_200_000) as i64 - 3_600_000),
    }
}

/// What only calls of many, and those who come back, have to do with.
fn group_config(rng: &mut Rng) -> Config {
    let mut config = config(rng);
    config.may_invite = inviters(rng.chance(0.2));
    if rng.chance(0.2) {
        config.reconnect_window = rng.between(seconds(5, 60));
    }
    if rng.chance(0.2) {
        config.connect_timeout = rng.between(seconds(10, 30));
    }
    if rng.chance(0.2) {
        config.empty_call_grace = rng.between(seconds(1, 30));
    }
    if rng.chance(0.2) {
        config.rejoin_window = rng.between(seconds(10, 120));
    }
    if rng.chance(0.1) {
        config.max_held = rng.below(3) as usize;
    }
    if rng.chance(0.1) {
        config.max_members = 2 + rng.below(4) as u8;
    }
    config
}

fn config(rng: &mut Rng) -> Config {
    let mut config = Config::default();
    if rng.chance(0.5) {
        config.pre_connect = PreConnect::Always;
    }
    if rng.chance(0.3) {
        config.when_busy = WhenBusy::Reject;
    }
    if rng.chance(0.2) {
        config.max_pending = 1;
    }
    if rng.chance(0.3) {
        config.ring_timeout = rng.between(seconds(2, 40));
    }
    if rng.chance(0.2) {
        config.max_ring = rng.between(seconds(1, 20));
    }
    if rng.chance(0.1) {
        config.media.channels = 2;
    }
    config
}
