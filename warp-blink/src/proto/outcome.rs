//! How effects ended, and what follows.

use std::time::Duration;

use super::{
    effect::{EffectId, EffectKind, Gift, Outcome},
    input::{EngineLink, MediaInput},
    machine::{Machine, Out, Purpose},
    participant::Stage,
    people::{AFTER_NOBODY, Known},
    signal::Lane,
};
use crate::{
    event::{Event, Milestone, Step, Warning},
    id::PublicKey,
    time::Instant,
};

/// How long an offer still looks for its callee after no known address of it answered: it may be the callee that
/// connects, or its node may have a key of its own. A subscription arrives within one heartbeat of gossipsub (1 s).
const REACH_GRACE: Duration = Duration::from_secs(3);

/// Whoever was not reached is looked for again when they seem to be there, this often: anybody who knows a key can listen where its owner
/// does, and each time that nobody is there is a warning.
const SEEK_AGAIN: u32 = 3;

impl Machine {
    pub(super) fn on_done(&mut self, now: Instant, effect: EffectId, outcome: Outcome, out: &mut Out<'_>) {
        // Results are given once; a second one for the same effect would be a defect of the driver, and is counted.
        let Some(purpose) = out.take(effect) else {
            self.counters.unexpected += 1;
            return;
        };
        match purpose {
            Purpose::Hello { call, peer, kind, lane } => {
                let hello = self.peer_mut(call, &peer).and_then(|p| p.hello.as_mut());
                if let Some(hello) = hello.filter(|h| h.hello.kind == kind) {
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
                            self.tell_offering(call, &peer, out);
                        }
                    }
                }
            }
            Purpose::Welcome { call, peer } => {
                if outcome == Outcome::NoPeers
                    && let Some(welcome) = self.peer_mut(call, &peer).and_then(|p| p.welcome.as_mut())
                {
                    welcome.schedule.found_nobody(now);
                }
            }
            Purpose::Packet { call, peer, seq } => {
                if outcome == Outcome::NoPeers
                    && let Some(p) = self.peer_mut(call, &peer)
                {
                    p.delivery.found_nobody(now, seq);
                }
            }
            Purpose::OnLink { call, peer, seq } => {
                if let Outcome::Failed(_) = outcome
                    && let Some(p) = self.peer_mut(call, &peer)
                {
                    p.delivery.go_again(now, seq);
                }
            }
            Purpose::Key { call, n } => {
                let key = match outcome {
                    Outcome::Key(key) => Some(key),
                    _ => None,
                };
                self.on_key_made(now, call, n, key, out);
            }
            Purpose::Roll { call, n } => {
                if let Outcome::Roll(hash) = outcome {
                    self.on_roll_kept(now, call, n, hash);
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
            Purpose::Reach { call: id, peer: key, since } => {
                if self.calls.get(&id).is_none_or(super::call::Call::is_leaving) {
                    return;
                }
                match outcome {
                    Outcome::Reached(via) => {
                        let from_now = now + self.config.reach_timeout;
                        if let Some(p) = self.peer_mut(id, &key) {
                            p.mark(now, Milestone::Reached);
                            p.unreached = false;
                            // Its node is there, so it is a slow path that the offer has to cross, and not a phone that is off.
                            if let Stage::Called { reach_until, .. } = &mut p.stage {
                                *reach_until = (*reach_until).max(from_now);
                            }
                        }
                        let ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
                        out.emit(Event::Reached { peer: key, via, ms });
                        self.tell_offering(id, &key, out);
                    }
                    Outcome::Failed(cause) => {
                        let warning = Warning::NotReached { peer: key, cause };
                        self.note_warning(now, &warning);
                        out.emit(Event::Warning { warning });
                        if let Some(p) = self.peer_mut(id, &key) {
                            p.unreached = true;
                        }
                        // Somebody may still have taken the offer over a path that this node does not know of.
                        if let Some(p) = self.peer_mut(id, &key).filter(|p| !p.exported)
                            && let Stage::Called { reach_until, .. } = &mut p.stage
                        {
                            *reach_until = (*reach_until).min(now + REACH_GRACE);
                        }
                    }
                    _ => {}
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
                    let warning = Warning::ListenOnly { cause };
                    self.note_warning(now, &warning);
                    out.emit(Event::Warning { warning });
                }
            }
        }
    }

    /// Somebody listens where only they do, or somebody who knows their key. If they were looked for in vain, they are looked for again, so
    /// that the app hears of it when they are there after all.
    pub(super) fn reach_again(&mut self, now: Instant, owner: &PublicKey, out: &mut Out<'_>) {
        for call in self.calls.values_mut().filter(|c| !c.is_leaving()) {
            let id = call.id;
            let Some(p) = call.peers.get_mut(owner).filter(|p| p.sought_again < SEEK_AGAIN) else { continue };
            // Who has been met came by themselves.
            if std::mem::take(&mut p.unreached) && p.session.is_none() {
                p.sought_again += 1;
                let purpose = Purpose::Reach { call: id, peer: *owner, since: now };
                out.push(purpose, EffectKind::Reach { peer: *owner });
            }
        }
    }
}
