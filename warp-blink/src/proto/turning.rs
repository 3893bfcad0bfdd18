//! Asking a friend for a place on its TURN server: a session for that alone, with no call in it.
//!
//! ```text
//!   who asks                                   the friend
//!   AskTurn ── message 1, kind `turn` ──> may it ask? (`Config::turn_for`; if not: silence)
//!          <── message 2 ───────────────
//!           ── Confirm ─────────────────> it is there, and no replay
//!          <── Turn, with credentials ───
//!   KeepTurn, forgotten                        forgotten when acknowledged
//! ```
//!
//! The credentials themselves the driver adds and keeps, as it does with keys. When to ask is [`turn::Asker`](super::turn::Asker)'s.

use std::time::Duration;

use super::{
    call::{Call, State},
    effect::EffectKind,
    input::Arrived,
    machine::{ARRIVING, Machine, Out},
    participant::{Participant, Stage},
    signal::{AppData, Body, HelloKind},
};
use crate::{
    config::TurnFor,
    error::Rejected,
    event::Presence,
    id::{CallId, PublicKey},
    time::Instant,
};

/// How long who has the answer still acknowledges it when it comes again: its first two repetitions, after 0.25 and 0.75 s.
const HEARD: Duration = Duration::from_secs(1);

/// What a session is for that has no call in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnErrand {
    /// We ask.
    Asks,
    /// Somebody asks us.
    Serves,
}

impl Machine {
    /// Whether anything is under way that a relay could be needed for: calls of ours, accepted ones, and links of calls that ring.
    pub fn wants_relay(&self) -> bool {
        let linked = |c: &Call| c.peers.values().any(|p| p.link.open);
        self.calls.values().any(|c| c.is_outgoing() || c.is_active() || linked(c))
    }

    /// Asks a friend. `call` names the errand, and is no call's.
    pub(super) fn ask_turn(
        &mut self,
        now: Instant,
        id: CallId,
        friend: PublicKey,
        out: &mut Out<'_>,
    ) -> Result<(), Rejected> {
        self.not_own(&friend)?;
        if self.calls.contains_key(&id) || self.ended.contains(&id) {
            return Err(Rejected::IdInUse(id));
        }
        self.suite(&friend)?;
        // The oldest farewell goes for it; one that found no place is asked again later.
        if !self.make_room(false, out) {
            return Err(Rejected::NoSuchCall(id));
        }
        let until = now + self.config.reach_timeout;
        let mut call = Call::new(id, now, State::Leaving { until }, self.config.media);
        call.turn = Some(TurnErrand::Asks);
        call.peers.insert(friend, Participant::new(id, friend, Stage::Out(Presence::Left)));
        Self::listen(id, self.own, &mut call, out);
        self.calls.insert(id, call);
        out.run(EffectKind::Reach { peer: friend });
        let sent_at = self.unix(now);
        self.send_hello(now, id, friend, HelloKind::Turn, (sent_at, AppData::default()));
        Ok(())
    }

    /// Whether that somebody may ask us.
    fn serves_turn(&self, from: &PublicKey) -> bool {
        let named = match &self.config.turn_for {
            TurnFor::Nobody => false,
            TurnFor::Contacts => self.people.is_contact(from),
            TurnFor::Only(people) => people.contains(from),
        };
        named && !self.people.is_blocked(from)
    }

    /// Somebody asks. To whoever may not, this side looks offline.
    pub(super) fn on_turn_hello(&mut self, now: Instant, arrived: Arrived, out: &mut Out<'_>) {
        let Arrived { hello, suite, .. } = arrived;
        let (id, from) = (hello.call, hello.from);
        if !self.serves_turn(&from) {
            self.counters.refused.admission += 1;
            return;
        }
        if self.ended.contains(&id) || self.calls.contains_key(&id) || self.agreed(&hello, suite).is_err() {
            self.counters.unexpected += 1;
            return;
        }
        let contact = self.people.is_contact(&from);
        if !self.has_place_for(&from, contact) || !self.make_room(contact, out) {
            self.counters.refused.crowded += 1;
            return;
        }
        let state = State::Arriving { until: now + ARRIVING, ring_ms: 0 };
        let mut call = Call::of(from, id, now, state, self.config.media);
        call.turn = Some(TurnErrand::Serves);
        self.arrive(now, call, &from, suite, HelloKind::Turn, out);
    }

    /// Who asked has shown that it is there.
    pub(super) fn give_turn(&mut self, now: Instant, id: CallId) {
        let until = now + self.config.farewell;
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_arriving()) else { return };
        let Some(from) = call.caller else { return };
        call.state = State::Leaving { until };
        if let Some(p) = call.peers.get_mut(&from) {
            (p.stage, p.said_it) = (Stage::Out(Presence::Left), true);
        }
        self.say(now, id, &from, 0, Body::Turn);
        self.remember_ended(id);
    }

    /// The friend's answer.
    pub(super) fn on_turn(&mut self, now: Instant, id: CallId, from: PublicKey, out: &mut Out<'_>) {
        let asked = |c: &&mut Call| c.turn == Some(TurnErrand::Asks) && c.peers.contains_key(&from);
        let Some(call) = self.calls.get_mut(&id).filter(asked) else {
            self.counters.unexpected += 1;
            return;
        };
        call.turn = None;
        if let State::Leaving { until } = &mut call.state {
            *until = (*until).min(now + HEARD);
        }
        out.run(EffectKind::KeepTurn { call: id, peer: from });
    }
}
