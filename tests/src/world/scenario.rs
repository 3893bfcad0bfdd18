//! Random lives: people who call, answer, decline and hang up as the seed decides, on a network as the seed decides.

use std::time::Duration;

use warp_blink::{
    config::{Config, PreConnect, WhenBusy},
    event::Phase,
    id::CallId,
    proto::Command,
};

use super::{Conditions, Fault, Rng, World};

/// What a person does. What makes no sense at the moment is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Calls that node.
    Offer(usize),
    /// Accepts what rings longest.
    Accept,
    /// Declines what rings longest.
    Decline,
    /// Takes the own call back.
    Cancel,
    /// Hangs up whatever there is.
    HangUp,
    /// Mutes the microphone, or stops to.
    Mute(bool),
    /// The process dies, and is started anew.
    Crash,
}

/// Everything that a seed decides about a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The network.
    pub conditions: Conditions,
    /// The nodes.
    pub nodes: Vec<Config>,
    /// Who does what when.
    pub script: Vec<(Duration, usize, Action)>,
    /// When the network is cut, for how long, and who is on one side.
    pub cuts: Vec<(Duration, Duration, usize)>,
}

fn seconds(from: u64, to: u64) -> (Duration, Duration) {
    (Duration::from_secs(from), Duration::from_secs(to))
}

impl Scenario {
    /// 2 to 4 nodes, 4 to 24 actions within 90 s, 0 to 2 cuts of up to 80 s.
    pub fn random(seed: u64) -> Self {
        // Another stream than the run's own: the same scenario can be run on another world.
        let mut rng = Rng::new(seed ^ 0x5ce0_a210);
        let count = 2 + rng.below(3) as usize;
        let conditions = Conditions {
            loss: 0.1 * rng.below(4) as f64,
            duplicate: 0.1 * rng.below(4) as f64,
            delay: (Duration::from_millis(1), Duration::from_millis(10 + rng.below(600))),
            propagation: (Duration::from_millis(1), Duration::from_millis(10 + rng.below(500))),
            no_audio: 0.1,
            ..Conditions::clean()
        };
        let nodes = (0..count).map(|_| config(&mut rng)).collect();
        let mut script = Vec::new();
        let mut at = Duration::ZERO;
        for _ in 0..4 + rng.below(21) {
            let node = rng.below(count as u64) as usize;
            let other = (node + 1 + rng.below(count as u64 - 1) as usize) % count;
            let action = match rng.below(40) {
                0..=11 => Action::Offer(other),
                12..=25 => Action::Accept,
                26..=28 => Action::Decline,
                29..=31 => Action::Cancel,
                32..=35 => Action::HangUp,
                36..=38 => Action::Mute(rng.chance(0.5)),
                _ => Action::Crash,
            };
            // Half of what people do follows so closely on something else that the two cross.
            let crossing = rng.chance(0.5);
            at = if crossing { at + rng.between(seconds(0, 1)) } else { rng.between(seconds(0, 90)) };
            script.push((at, node, action));
        }
        let cuts = (0..rng.below(3)).map(|_| {
            let (wait, time) = (rng.between(seconds(0, 80)), rng.between(seconds(0, 80)));
            (wait, time, rng.below(count as u64) as usize)
        });
        let cuts = cuts.collect();
        Self { conditions, nodes, script, cuts }
    }

    /// Lives it through, to the end.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn run(&self, seed: u64) -> Result<World, Fault> {
        let mut world = World::new(seed, self.conditions.clone(), self.nodes.clone())?;
        for (wait, node, action) in &self.script {
            world.act_later(*wait, *node, *action);
        }
        for (wait, time, node) in &self.cuts {
            world.cut(*wait, *time, &[*node]);
        }
        world.finish()?;
        Ok(world)
    }
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

impl World {
    pub(super) fn act(&mut self, node: usize, action: Action) -> Result<(), Fault> {
        let snapshot = self.nodes()[node].machine.snapshot();
        let first = |phase: Phase| snapshot.calls.iter().find(|c| c.phase == phase).map(|c| c.id);
        let (pending, outgoing) = (first(Phase::Incoming), first(Phase::Outgoing));
        let command = match action {
            Action::Offer(to) => {
                let free = outgoing.is_none() && first(Phase::Active).is_none();
                let refused = self.offer(node, to)?.err();
                if free != refused.is_none() {
                    return Err(self.fault(node, format!("an offer is refused, or not: {refused:?}")));
                }
                return Ok(());
            }
            Action::Crash => return self.crash(node),
            Action::Mute(muted) => Some(Command::SetMuted(muted)),
            Action::Accept => pending.map(|call| Command::Accept { call }),
            Action::Decline => pending.map(|call| Command::Decline { call }),
            Action::Cancel => outgoing.map(|call| Command::Cancel { call }),
            Action::HangUp => {
                let any: Option<CallId> = snapshot.calls.first().map(|c| c.id);
                any.map(|call| Command::HangUp { call })
            }
        };
        let Some(command) = command else { return Ok(()) };
        let shown = format!("{command:?}");
        match self.command(node, command)? {
            Ok(()) => Ok(()),
            Err(rejected) => Err(self.fault(node, format!("{shown} fits the snapshot, and: {rejected}"))),
        }
    }
}
