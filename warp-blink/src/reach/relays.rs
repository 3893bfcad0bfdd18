//! Places at relays: at which relays this node asks for one, and when it asks again.
//!
//! A relay keeps a place (a reservation of circuit relay v2) for an hour or so and forgets it when the connection goes; libp2p
//! renews it after three quarters of its time. What is left is decided here: who is asked, how many at a time, and the pauses
//! after a refusal or a loss.

use std::{collections::BTreeMap, time::Duration};

use super::Jitter;
use crate::{id::NodeId, time::Instant};

/// The most relays that are known. As many as count for the standing of a node.
pub const MAX_RELAYS: usize = 8;

/// So many of the relays that nobody named, but which turned up (bootstrap nodes), are asked for a place. 2: one may go.
pub const OFFERED: usize = 2;

/// How long one request may take. 75 s: libp2p waits for 60 s for the relay's answer, after up to 10 s for the connection.
const ASKING: Duration = Duration::from_secs(75);

/// The longest pause after the loss of a place. 1 s: hundreds of nodes come back to a relay that has started anew, and should not
/// come in the same moment; nobody is called in that second who would not have been unreachable anyway.
const SPREAD: Duration = Duration::from_secs(1);

/// The pause after the first refusal. 1 s: a relay that is starting is up by then.
const FIRST: Duration = Duration::from_secs(1);

/// The longest pause. 60 s: a relay that comes back after a night is used within a minute, and one that does not costs one dialing
/// a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// The relays of this node.
#[derive(Clone, Debug, Default)]
pub struct Relays {
    all: BTreeMap<NodeId, Relay>,
    /// Others reach this node straight: those that nobody named are not needed.
    public: bool,
}

#[derive(Clone, Debug)]
struct Relay {
    /// The user named it.
    named: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Not asked.
    Idle,
    /// It is to be asked then, after so many refusals in a row.
    Waiting { until: Instant, refused: u32 },
    /// It is being asked.
    Asking { until: Instant, refused: u32 },
    /// It keeps a place.
    Kept,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEffect {
    /// Ask this relay for a place.
    Ask(NodeId),
    /// The place there is not needed any more.
    GiveUp(NodeId),
}

impl Relays {
    /// A relay that the user named: it is asked at once, and for ever. Says whether there was room.
    pub fn name(&mut self, now: Instant, relay: NodeId) -> bool {
        self.add(now, relay, true)
    }

    /// A node that may be a relay: it is asked as long as this node is not reached straight, if there are not
    /// [enough](OFFERED) others.
    pub fn offer(&mut self, now: Instant, relay: NodeId) -> bool {
        self.add(now, relay, false)
    }

    fn add(&mut self, now: Instant, relay: NodeId, named: bool) -> bool {
        if let Some(known) = self.all.get_mut(&relay) {
            known.named |= named;
            if known.named && known.state == State::Idle {
                known.state = State::Waiting { until: now, refused: 0 };
            }
            return true;
        }
        if self.all.len() >= MAX_RELAYS {
            return false;
        }
        let state = match named {
            true => State::Waiting { until: now, refused: 0 },
            false => State::Idle,
        };
        self.all.insert(relay, Relay { named, state });
        self.fill(now);
        true
    }

    /// Whether this is one of them.
    pub fn knows(&self, relay: &NodeId) -> bool {
        self.all.contains_key(relay)
    }

    /// The relay is connected, so that whatever it was waited for is over.
    pub fn connected(&mut self, now: Instant, relay: &NodeId) {
        if let Some(Relay { state: State::Waiting { until, .. }, .. }) = self.all.get_mut(relay) {
            *until = now.min(*until);
        }
    }

    /// The relay keeps a place.
    pub fn kept(&mut self, relay: &NodeId) {
        if let Some(relay) = self.all.get_mut(relay) {
            relay.state = State::Kept;
        }
    }

    /// The relay has refused, cannot be reached, or the place is lost.
    pub fn lost(&mut self, now: Instant, relay: &NodeId, jitter: Jitter) {
        if let Some(relay) = self.all.get_mut(relay) {
            relay.lost(now, jitter);
        }
        self.fill(now);
    }

    /// Whether others reach this node straight. What is not needed any more is given up.
    pub fn public(&mut self, now: Instant, public: bool) -> Vec<RelayEffect> {
        self.public = public;
        if !public {
            self.fill(now);
            return Vec::new();
        }
        let offered = self.all.iter_mut().filter(|(_, relay)| !relay.named);
        offered
            .filter_map(|(node, relay)| {
                let held = matches!(relay.state, State::Kept | State::Asking { .. });
                relay.state = State::Idle;
                held.then_some(RelayEffect::GiveUp(*node))
            })
            .collect()
    }

    /// Of those that nobody named, as many are asked as are wanted.
    fn fill(&mut self, now: Instant) {
        if self.public {
            return;
        }
        // One that has refused makes room for another.
        let useful = |r: &Relay| {
            matches!(
                r.state,
                State::Kept | State::Asking { refused: 0, .. } | State::Waiting { refused: 0, .. }
            )
        };
        let mut room = OFFERED.saturating_sub(self.all.values().filter(|r| useful(r)).count());
        for relay in self.all.values_mut().filter(|r| r.state == State::Idle) {
            if room == 0 {
                return;
            }
            relay.state = State::Waiting { until: now, refused: 0 };
            room -= 1;
        }
    }

    /// When something is due.
    pub fn due(&self) -> Option<Instant> {
        self.all.values().filter_map(|relay| relay.due()).min()
    }

    /// What is due.
    pub fn on_time(&mut self, now: Instant, jitter: Jitter) -> Vec<RelayEffect> {
        let mut out = Vec::new();
        for (node, relay) in &mut self.all {
            match relay.state {
                State::Waiting { until, refused } if until <= now => {
                    relay.state = State::Asking { until: now + ASKING, refused };
                    out.push(RelayEffect::Ask(*node));
                }
                // Nobody has said anything.
                State::Asking { until, .. } if until <= now => {
                    out.push(RelayEffect::GiveUp(*node));
                    relay.lost(now, jitter);
                }
                _ => {}
            }
        }
        out
    }
}

impl Relay {
    fn lost(&mut self, now: Instant, jitter: Jitter) {
        self.state = match self.state {
            // Nobody has asked.
            State::Idle | State::Waiting { .. } => return,
            State::Kept => State::Waiting { until: now + part(SPREAD, jitter), refused: 0 },
            State::Asking { refused, .. } => {
                let whole = FIRST.saturating_mul(1 << refused.min(10)).min(LONGEST);
                let pause = whole / 2 + part(whole / 2, jitter);
                State::Waiting { until: now + pause, refused: refused.saturating_add(1) }
            }
        };
    }

    fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until, .. } | State::Asking { until, .. } => Some(until),
            State::Idle | State::Kept => None,
        }
    }
}

/// Between nothing and all of it.
fn part(whole: Duration, jitter: Jitter) -> Duration {
    let nanos = whole.as_nanos() * u128::from(jitter.0) / u128::from(u16::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
