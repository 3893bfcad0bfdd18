//! The call's keys: who makes a new one when somebody is gone, and how it gets to all.

use std::time::Duration;

use super::{
    call::Call,
    effect::{EffectKind, TopicRef},
    epochs::Taken,
    machine::{Machine, Out, Purpose},
    signal::{Body, Epoch, EpochId, KeyHash},
};
use crate::{
    id::{CallId, PublicKey},
    time::Instant,
};

/// How much longer each further member waits for a new key before it makes one: the one before it has had time to make
/// and send one over a slow network (a round trip of 300 ms).
const TURN: Duration = Duration::from_millis(400);

/// How long a member without any key waits for that of the others: two resends of a first message.
const NO_KEY: Duration = Duration::from_secs(2);

/// After a key could not be made, this long until it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

impl Machine {
    /// If the key in use does not exclude all who are gone, a new one is made here when this member's turn comes, unless
    /// one arrives before.
    pub(super) fn plan_rekey(&mut self, now: Instant, id: CallId) {
        let own = self.own;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(members) = call.members.as_ref().filter(|_| call.is_active()) else { return };
        if !members.is_present(&own) || call.epochs.is_current() {
            call.rekey_at = None;
            return;
        }
        if call.epochs.is_making() || call.rekey_at.is_some() {
            return;
        }
        // The creator of a call makes its first key when somebody accepts.
        let with = |p: &&super::participant::Participant| p.is_in() && p.session.is_some();
        let turn = call.peers.values().filter(with).filter(|p| p.key < own).count() as u32;
        let wait = if call.epochs.used().is_some() { Duration::ZERO } else { NO_KEY };
        call.rekey_at = Some(now + wait + TURN * turn);
    }

    /// This member's turn has come.
    pub(super) fn rekey(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.rekey_at.is_some_and(|t| t <= now)) else {
            return;
        };
        call.rekey_at = None;
        if call.is_active() && !call.epochs.is_current() {
            if call.epochs.used().is_none() {
                // Whoever should have sent one is gone, and perhaps the others do not know of one another.
                call.search_at = Some(now);
            }
            Self::make_key(call, out);
        }
    }

    pub(super) fn make_key(call: &mut Call, out: &mut Out<'_>) {
        if let Some(n) = call.epochs.make() {
            out.push(Purpose::Key { call: call.id, n }, EffectKind::NewCallKey { call: call.id, n });
        }
    }

    /// A key was made here; `None`: it could not be.
    pub(super) fn on_key_made(
        &mut self,
        now: Instant,
        id: CallId,
        n: u32,
        key: Option<KeyHash>,
        out: &mut Out<'_>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if !call.epochs.made(n) || !call.is_active() {
            return;
        }
        let Some(key) = key else {
            call.rekey_at = Some(now + AGAIN);
            return;
        };
        let epoch = Epoch { id: EpochId { n, key }, gone: call.epochs.gone() };
        self.adopt(now, id, epoch, out);
        for peer in self.calls.get(&id).map(Call::audience).unwrap_or_default() {
            self.share_key(now, id, &peer);
        }
    }

    /// A key of another member.
    pub(super) fn on_call_key(
        &mut self,
        now: Instant,
        id: CallId,
        from: PublicKey,
        epoch: Epoch,
        out: &mut Out<'_>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if !call.epochs.hears(epoch.id) {
            out.run(EffectKind::KeepCallKey { call: id, epoch: epoch.id });
        }
        self.adopt(now, id, epoch.clone(), out);
        let behind =
            |c: &Call| c.epochs.used().is_some_and(|used| used.id != epoch.id) && c.epochs.is_current();
        if self.calls.get(&id).is_some_and(behind) {
            self.share_key(now, id, &from);
        }
    }

    fn adopt(&mut self, now: Instant, id: CallId, epoch: Epoch, out: &mut Out<'_>) {
        let until = now + self.config.announce_period.saturating_mul(2);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let name = epoch.id;
        match call.epochs.take(epoch, until) {
            Taken::Used => {
                out.run(EffectKind::Subscribe(TopicRef::Call { call: id, epoch: name }));
                call.announce_at = Some(now);
            }
            Taken::Chosen => call.announce_at = Some(now),
            Taken::Heard => out.run(EffectKind::Subscribe(TopicRef::Call { call: id, epoch: name })),
            Taken::Known => {}
        }
        self.expire_keys(now, id, out);
        self.plan_rekey(now, id);
    }

    /// Gives somebody who is in the call the key that is used.
    pub(super) fn share_key(&mut self, now: Instant, id: CallId, to: &PublicKey) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_active() && c.epochs.is_current()) else {
            return;
        };
        let Some(epoch) = call.epochs.handed(now) else { return };
        // Whoever has left is given no key, even if this side has not come to see them off.
        // Another's key may say that they are gone before their own word does.
        let claimed = call.epochs.claims(to, now);
        let belongs = call.members.as_ref().is_none_or(|m| m.is_present(to) && claimed < m.next_number(to));
        let Some(p) = call.peers.get_mut(to).filter(|p| p.may_come() && !p.is_called() && belongs) else {
            return;
        };
        let known = |b: &Body| matches!(b, Body::CallKey(e) if *e == epoch);
        if p.session.is_none() || p.delivery.waits(known) {
            return;
        }
        p.delivery.say_instead(now, 0, |b| matches!(b, Body::CallKey(_)), Body::CallKey(epoch));
    }

    pub(super) fn expire_keys(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        for epoch in call.epochs.expired(now) {
            // What is still on its way of it would be sent again, and the key is gone.
            for p in call.peers.values_mut() {
                p.delivery.withdraw(|b| matches!(b, Body::CallKey(e) if e.id == epoch));
            }
            out.run(EffectKind::Unsubscribe(TopicRef::Call { call: id, epoch }));
            out.run(EffectKind::DropCallKey { call: id, epoch });
        }
    }

    /// Forgets all keys of a call.
    pub(super) fn drop_keys(&mut self, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        (call.rekey_at, call.search_at) = (None, None);
        for p in call.peers.values_mut() {
            p.delivery.withdraw(|b| matches!(b, Body::CallKey(_)));
        }
        for epoch in call.epochs.clear() {
            out.run(EffectKind::Unsubscribe(TopicRef::Call { call: id, epoch }));
            out.run(EffectKind::DropCallKey { call: id, epoch });
        }
    }
}
