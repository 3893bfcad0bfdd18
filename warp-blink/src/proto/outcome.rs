//! How effects ended, and what follows.

use std::time::Duration;

use super::{
    call::State,
    input::{EffectId, EngineLink, Gift, MediaInput, Outcome},
    machine::{Machine, Out, Purpose},
    people::{AFTER_NOBODY, Known},
    signal::Lane,
};
use crate::{
    event::{Event, Milestone, Step, Warning},
    time::Instant,
};

/// How long an offer still looks for its callee after no known address of it answered: it may be the callee that
/// connects, or its node may have a key of its own. A subscription arrives within one heartbeat of gossipsub (1 s).
const REACH_GRACE: Duration = Duration::from_secs(3);

impl Machine {
    pub(super) fn on_done(&mut self, now: Instant, effect: EffectId, outcome: Outcome, out: &mut Out<'_>) {
        // Results are given once; a second one for the same effect would be a defect of the driver, and is counted.
        let Some(purpose) = out.take(effect) else {
            self.counters.unexpected += 1;
            return;
        };
        match purpose {
            Purpose::Hello { call, kind, lane } => {
                let hello = self
                    .calls
                    .get_mut(&call)
                    .and_then(|c| c.peer.hello.as_mut())
                    .filter(|h| h.hello.kind == kind);
                if let Some(hello) = hello {
                    match outcome {
                        Outcome::NoPeers => {
                            hello.schedule.found_nobody(now);
                            if lane == Lane::Contacts {
                                hello.attempts = hello.attempts.max(AFTER_NOBODY);
                            }
                        }
                        Outcome::Failed(_) => {}
                        _ => {
                            hello.published = true;
                            self.tell_offering(call, out);
                        }
                    }
                }
            }
            Purpose::Welcome { call } => {
                if outcome == Outcome::NoPeers
                    && let Some(welcome) = self.calls.get_mut(&call).and_then(|c| c.peer.welcome.as_mut())
                {
                    welcome.schedule.found_nobody(now);
                }
            }
            Purpose::Packet { call, seq } => {
                if outcome == Outcome::NoPeers
                    && let Some(call) = self.calls.get_mut(&call)
                {
                    call.peer.delivery.found_nobody(now, seq);
                }
            }
            Purpose::Remember { call } => {
                // What could not be written down waits for confirmation, as a stranger's call does.
                if outcome == Outcome::Ok {
                    self.on_remembered(now, call, out);
                }
            }
            Purpose::Keep { peer, gift } => {
                if outcome == Outcome::Ok {
                    self.people.learn(peer, Known::new(gift == Gift::Token, gift == Gift::KemKey));
                }
            }
            // The state is repeated anyway; nobody listening yet is told when it subscribes.
            Purpose::Announce { .. } | Purpose::Other => {}
            Purpose::Reach { call: id, since } => {
                let Some(call) = self.calls.get_mut(&id).filter(|c| !c.is_leaving()) else { return };
                let peer = call.peer.key;
                match outcome {
                    Outcome::Reached(via) => {
                        call.peer.mark(now, Milestone::Reached);
                        let ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
                        out.emit(Event::Reached { peer, via, ms });
                        self.tell_offering(id, out);
                    }
                    Outcome::Failed(cause) => {
                        out.emit(Event::Warning { warning: Warning::NotReached { peer, cause } });
                        // Somebody may still have taken the offer over a path that this node does not know of.
                        if let State::Outgoing { reach_until, .. } = &mut call.state {
                            *reach_until = (*reach_until).min(now + REACH_GRACE);
                        }
                    }
                    Outcome::Ok | Outcome::NoPeers => {}
                }
            }
            Purpose::Link(link) => {
                if let Outcome::Failed(_) = outcome {
                    let state = EngineLink::Failed(Step::Negotiating);
                    self.on_media(now, MediaInput::State { link, state }, out);
                }
            }
            Purpose::Audio { call } => {
                if let Outcome::Failed(cause) = outcome
                    && self.calls.get(&call).is_some_and(|c| c.audio)
                {
                    // Without any device a call can still be seen, and a device may come back.
                    self.local.listen_only = true;
                    out.emit(Event::Warning { warning: Warning::ListenOnly { cause } });
                }
            }
        }
    }
}
