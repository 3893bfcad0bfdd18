//! Notices of missed calls: whoever could not be reached is told when they are next.
//!
//! There is one for each person, the newest, for at most seven days. It is sent when their node is seen to listen; nobody
//! polls. It is withdrawn when the two talk.

use std::time::Duration;

use super::{
    call::{Call, State},
    effect::EffectKind,
    input::{Arrived, Notice},
    machine::{ARRIVING, Machine, Out, Pending},
    participant::{Participant, Stage},
    signal::{AppData, HelloKind},
};
use crate::{
    event::Presence,
    id::{CallId, PublicKey},
    time::{Instant, UnixTime},
};

/// How long a notice is kept: PROTOCOL's seven days.
pub(super) const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The most notices. The oldest goes first.
pub(super) const MAX_NOTICES: usize = 256;

/// After an attempt that nobody answered, this long until the next one, however often their node is seen.
const RETRY: Duration = Duration::from_secs(60);

impl Machine {
    /// The notices that are still to be delivered, for the store.
    pub fn notices(&self) -> impl Iterator<Item = Notice> + '_ {
        self.notices.values().map(|p| p.notice)
    }

    pub(super) fn on_stored_notice(&mut self, notice: Notice) {
        if self.notices.len() < MAX_NOTICES && notice.to != self.own {
            self.notices.entry(notice.to).or_insert(Pending { notice, not_before: None });
        }
    }

    /// The time: what is too old goes.
    pub(super) fn on_clock(&mut self, now: Instant, wall: UnixTime, out: &mut Out<'_>) {
        self.wall = Some((wall, now));
        let before = self.notices.len();
        self.notices.retain(|_, p| age(p.notice.made_at, wall) <= KEPT);
        if self.notices.len() != before {
            out.run(EffectKind::SaveNotices);
        }
    }

    /// Somebody is not called any more. If nothing of the call ever arrived there, they are told later.
    pub(super) fn not_reached(&mut self, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let Some(call) = self.calls.get(&id) else { return };
        let heard = |p: &Participant| !p.is_called() || p.session.is_some();
        if call.peers.get(key).is_none_or(heard) || self.people.is_blocked(key) {
            return;
        }
        let notice = Notice { to: *key, call: id, made_at: call.sent_at };
        self.notices.insert(*key, Pending { notice, not_before: None });
        if self.notices.len() > MAX_NOTICES
            && let Some(oldest) = self.notices.values().min_by_key(|p| p.notice.made_at).map(|p| p.notice.to)
        {
            self.notices.remove(&oldest);
        }
        out.run(EffectKind::SaveNotices);
    }

    /// The two talk: there is nothing to tell any more.
    pub(super) fn withdraw_notice(&mut self, key: &PublicKey, out: &mut Out<'_>) {
        if self.notices.remove(key).is_some() {
            out.run(EffectKind::SaveNotices);
        }
    }

    /// Somebody's node listens: they are told.
    pub(super) fn deliver_notice(&mut self, now: Instant, key: &PublicKey, out: &mut Out<'_>) {
        if self.shutting_down {
            return;
        }
        let wall = self.unix(now);
        let Some(pending) = self.notices.get_mut(key).filter(|p| p.not_before.is_none_or(|t| t <= now))
        else {
            return;
        };
        let Notice { call: id, made_at, .. } = pending.notice;
        let busy = self.calls.contains_key(&id)
            || self.calls.values().any(|c| c.turn.is_none() && c.peers.contains_key(key));
        if busy {
            return;
        }
        pending.not_before = Some(now + RETRY);
        if !self.make_room(false, out) {
            return;
        }
        let ago = age(made_at, wall).as_secs();
        let mut call = Call::new(id, now, State::Leaving { until: now + ARRIVING }, self.config.media);
        call.notice = Some(ago);
        call.peers.insert(*key, Participant::new(id, *key, Stage::Out(Presence::Left)));
        Self::listen(id, self.own, &mut call, out);
        self.calls.insert(id, call);
        self.send_hello(now, id, *key, HelloKind::Missed, (made_at, AppData::default()));
        if let Some(hello) = self.peer_mut(id, key).and_then(|p| p.hello.as_mut()) {
            hello.hello.ring_ms = u32::try_from(ago).unwrap_or(u32::MAX);
        }
    }

    /// They know.
    pub(super) fn delivered(&mut self, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        if self.notices.get(key).is_some_and(|p| p.notice.call == id) {
            self.withdraw_notice(key, out);
        }
    }

    /// Somebody tells of a call that this side has missed. It is believed when they have shown that they are there.
    pub(super) fn on_notice(&mut self, now: Instant, arrived: Arrived, out: &mut Out<'_>) {
        let Arrived { hello, suite, .. } = arrived;
        let (id, from) = (hello.call, hello.from);
        let ago = u64::from(hello.ring_ms);
        if self.ended.contains(&id) && !self.calls.contains_key(&id) {
            // It rang here, or this was told before.
            self.answer_once(now, id, from, suite, HelloKind::Missed, out);
            return;
        }
        let contact = self.people.is_contact(&from);
        let wrong =
            self.calls.contains_key(&id) || ago > KEPT.as_secs() || self.agreed(&hello, suite).is_err();
        if wrong {
            self.counters.unexpected += 1;
            return;
        }
        if !self.has_place_for(&from, contact) || !self.make_room(contact, out) {
            self.counters.refused.crowded += 1;
            return;
        }
        let state = State::Arriving { until: now + ARRIVING, ring_ms: 0 };
        let mut call = Call::of(from, id, now, state, self.config.media);
        call.notice = Some(ago);
        self.arrive(now, call, &from, suite, HelloKind::Missed, out);
    }
}

fn age(made_at: UnixTime, now: UnixTime) -> Duration {
    Duration::from_millis(now.as_millis().saturating_sub(made_at.as_millis()))
}
