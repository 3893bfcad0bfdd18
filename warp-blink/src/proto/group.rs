//! Who belongs to a call: removing, leaving, coming back, and what follows from the words of others.

use std::{collections::BTreeSet, time::Duration};

use super::{
    call::{Call, State},
    effect::EffectKind,
    ending::Ending,
    input::Other,
    machine::{Machine, Out, Purpose},
    membership::Membership,
    pairing::SEARCH,
    participant::{Participant, Stage},
    signal::{Body, Record, RecordKind, Roll, RollHash},
};
use crate::{
    error::Rejected,
    event::{EndReason, Event, Presence},
    id::{CallId, PublicKey},
    time::Instant,
};

/// Whoever announces another roll than ours is sent ours at most this often: a message there and back on a slow network.
const ROLL_EVERY: Duration = Duration::from_secs(1);

impl Machine {
    /// Signs a word of this side.
    fn word(&mut self, id: CallId, subject: PublicKey, kind: RecordKind, out: &mut Out<'_>) {
        let by = self.own;
        let Some(members) = self.calls.get_mut(&id).and_then(|c| c.members.as_mut()) else { return };
        let record = Record { subject, number: members.next_number(&subject), kind, by };
        if members.merge(&[record]) {
            out.run(EffectKind::Sign { call: id, record });
        }
    }

    pub(super) fn remove(
        &mut self,
        now: Instant,
        id: CallId,
        peer: PublicKey,
        out: &mut Out<'_>,
    ) -> Result<(), Rejected> {
        self.existing(id, |c| c.is_active() || c.is_outgoing(), Rejected::NotActive)?;
        let Some(call) = self.calls.get(&id) else { return Err(Rejected::NoSuchCall(id)) };
        let known = call.members.as_ref().is_some_and(|m| m.is_entitled(&peer));
        if peer == self.own || !known || !call.peers.contains_key(&peer) {
            return Err(Rejected::NotInCall(peer));
        }
        let creator = call.members.as_ref().is_some_and(|m| m.create().creator == self.own);
        let called = call.peers.get(&peer).is_some_and(Participant::is_called);
        if !creator && !called {
            return Err(Rejected::MayNotRemove(id));
        }
        if !creator {
            // Whom this side has called, it can call off.
            self.give_up(now, id, &peer, Presence::Left, Some(Body::Cancel), out);
            return Ok(());
        }
        let present = |m: &Machine| {
            let members = m.calls.get(&id).and_then(|c| c.members.as_ref());
            members.map(|m| m.present().collect::<BTreeSet<_>>()).unwrap_or_default()
        };
        let before = present(self);
        self.word(id, peer, RecordKind::Remove, out);
        // Those whom the removed one brought stay, even if they had been removed once and were brought back.
        let others = self.calls.get(&id).and_then(|c| c.members.as_ref()).map(Membership::invited_by_members);
        let lost: Vec<PublicKey> = before.difference(&present(self)).copied().collect();
        for other in others.into_iter().flatten().chain(lost) {
            if other != peer {
                self.word(id, other, RecordKind::Add, out);
            }
        }
        let last = if called { Body::Cancel } else { Body::Removed };
        self.give_up(now, id, &peer, Presence::Removed, Some(last), out);
        self.rolled(now, id, out);
        self.spread_roll(now, id, None);
        if let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_active()) {
            call.rekey_at = Some(now);
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) -> Result<(), Rejected> {
        self.existing(id, Call::is_active, Rejected::NotActive)?;
        self.word(id, self.own, RecordKind::Leave, out);
        for peer in self.calls.get(&id).map(Call::keys).unwrap_or_default() {
            self.close_link(id, &peer, out);
            if self.peer(id, &peer).is_some_and(Participant::is_called) {
                self.give_up(now, id, &peer, Presence::Left, Some(Body::Cancel), out);
            }
        }
        self.rolled(now, id, out);
        self.spread_roll(now, id, None);
        self.silence(id, out);
        self.drop_keys(id, out);
        self.unsave(id, out);
        if let Some(call) = self.calls.get_mut(&id) {
            call.state = State::Left { until: now + self.config.rejoin_window };
            call.held = false;
            call.announce_at = None;
            for p in call.peers.values_mut() {
                (p.pair_at, p.link.until, p.link.retry_at) = (None, None, None);
                p.joined = false;
                if !p.link.open && p.session.is_none() {
                    p.hello = None;
                }
            }
        }
        out.emit(Event::Left { call: id });
        Ok(())
    }

    pub(super) fn rejoin(
        &mut self,
        now: Instant,
        id: CallId,
        other: Other,
        out: &mut Out<'_>,
    ) -> Result<(), Rejected> {
        let left = |c: &Call| matches!(c.state, State::Left { .. });
        self.existing(id, left, Rejected::NotLeft)?;
        // A hostile member can have used up the numbers of words about this side.
        let own = self.own;
        let can = |m: &Membership| m.is_entitled(&own) && m.next_number(&own) < u32::MAX;
        let entitled = |c: &Call| c.members.as_ref().is_some_and(can);
        self.existing(id, entitled, Rejected::NotInvited)?;
        self.make_way(now, other, out)?;
        self.word(id, self.own, RecordKind::Add, out);
        if let Some(call) = self.calls.get_mut(&id) {
            call.state = State::Active { empty_until: None };
        }
        out.emit(Event::Rejoined { call: id });
        self.open_audio(id, out);
        self.rolled(now, id, out);
        self.spread_roll(now, id, None);
        for peer in self.calls.get(&id).map(Call::keys).unwrap_or_default() {
            if self.peer(id, &peer).is_some_and(|p| matches!(p.stage, Stage::In | Stage::Lost)) {
                self.enter(now, id, &peer, out);
            }
        }
        self.look_around(now, id, out);
        Ok(())
    }

    /// In a group, who hangs up says so under their signature, so that the others can change the key.
    pub(super) fn sign_off(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let group = self.calls.get(&id).is_some_and(|c| c.is_active() && !c.is_pair());
        if group {
            self.word(id, self.own, RecordKind::Leave, out);
            self.rolled(now, id, out);
        }
    }

    /// The words about the call have changed: they are kept, and what follows from them happens.
    pub(super) fn rolled(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(members) = &call.members else { return };
        let (roll, media) = (members.roll(), call.media);
        call.epochs.depart(&members.gone());
        call.rolls = call.rolls.saturating_add(1);
        let purpose = Purpose::Roll { call: id, n: call.rolls };
        out.push(purpose, EffectKind::KeepRoll { call: id, roll: roll.clone() });
        if call.is_active() && members.is_present(&self.own) {
            call.saved = true;
            out.run(EffectKind::SaveCall { call: id, roll: roll.clone(), media });
        }
        // One that is still on its way may have words that do not count any more, and whose signatures are gone.
        let stale = |p: &Participant| p.delivery.waits(|b| matches!(b, Body::Roll(r) if *r != roll));
        for key in self.peers_in(id, stale) {
            self.send_roll(now, id, &key);
        }
        self.plan_rekey(now, id);
    }

    /// The words are kept, and this is their name. Results may come in any order: the last words count.
    pub(super) fn on_roll_kept(&mut self, now: Instant, id: CallId, n: u32, hash: RollHash) {
        if let Some(call) = self.calls.get_mut(&id).filter(|c| c.rolls == n && c.roll != hash) {
            call.roll = hash;
            if call.is_active() && call.announce_at.is_some() {
                Self::news(now, call);
            }
        }
    }

    /// Sends all words to those who can hear them, but not to the one they are from.
    pub(super) fn spread_roll(&mut self, now: Instant, id: CallId, but: Option<&PublicKey>) {
        let Some(call) = self.calls.get(&id) else { return };
        for peer in call.audience() {
            if Some(&peer) != but {
                self.send_roll(now, id, &peer);
            }
        }
    }

    pub(super) fn send_roll(&mut self, now: Instant, id: CallId, to: &PublicKey) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        // Nothing is said to those who were removed, whatever they still say themselves.
        let Some(members) = call.members.as_ref().filter(|m| !m.was_removed(to)) else { return };
        let roll = members.roll();
        // One that is still on its way is out of date.
        if let Some(p) = call.peers.get_mut(to) {
            p.delivery.say_instead(now, 0, |b| matches!(b, Body::Roll(_)), Body::Roll(roll));
            p.rolled_at = Some(now);
        }
    }

    /// Somebody knows other words than this side does.
    pub(super) fn differs(&mut self, now: Instant, id: CallId, from: &PublicKey, theirs: RollHash) {
        let Some(call) = self.calls.get(&id).filter(|c| c.members.is_some() && c.roll != theirs) else {
            return;
        };
        let Some(p) = call.peers.get(from).filter(|p| p.session.is_some() && p.may_come()) else { return };
        let recently = p.rolled_at.is_some_and(|t| now.since(t) < ROLL_EVERY);
        if !recently && !call.waits(from, |b| matches!(b, Body::Roll(_))) {
            self.send_roll(now, id, from);
        }
    }

    /// Words of others, whose signatures are good.
    pub(super) fn on_roll(
        &mut self,
        now: Instant,
        id: CallId,
        from: PublicKey,
        roll: &Roll,
        out: &mut Out<'_>,
    ) {
        let own = self.own;
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.is_leaving() {
            return;
        }
        let changed = match &mut call.members {
            Some(members) if *members.create() != roll.create => {
                self.counters.unexpected += 1;
                return;
            }
            Some(members) => members.merge(&roll.records),
            none => {
                *none = Some(Membership::from_roll(roll));
                true
            }
        };
        if !changed {
            return;
        }
        let removed = call.members.as_ref().is_some_and(|m| m.was_removed(&own));
        if removed && call.phase().is_some() {
            // Whoever passed the word on: only the creator removes.
            self.end(now, id, Ending::by(EndReason::Removed, Some(roll.create.creator)), out);
            return;
        }
        self.rolled(now, id, out);
        self.follow(now, id, out);
        let behind = self.calls.get(&id).and_then(|c| c.members.as_ref()).is_some_and(|m| m.roll() != *roll);
        if behind {
            self.send_roll(now, id, &from);
        }
    }

    /// What the words mean for each participant.
    pub(super) fn follow(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let own = self.own;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(members) = call.members.clone() else { return };
        let mut brought = Vec::new();
        for key in members.present().filter(|key| *key != own) {
            if !call.peers.contains_key(&key) {
                brought.push(key);
                call.peers.insert(key, Participant::new(id, key, Stage::Expected));
            }
        }
        for key in brought {
            self.tell_invited(id, &key, out);
        }
        let Some(call) = self.calls.get(&id) else { return };
        for key in call.keys() {
            let Some(stage) = self.peer(id, &key).map(|p| p.stage) else { continue };
            let left = members.has_left(&key);
            // Whoever comes back may have forgotten the call in between, and counts its announcements anew.
            if let Some(p) = self.peer_mut(id, &key).filter(|p| !p.may_come() && members.is_present(&key)) {
                p.heard = 0;
            }
            match stage {
                // Nothing more is said to those who were removed, not even if they had left before.
                _ if members.was_removed(&key) && stage != Stage::Out(Presence::Removed) => {
                    self.give_up(now, id, &key, Presence::Removed, None, out);
                }
                Stage::Out(Presence::Removed) if members.is_present(&key) => {
                    if let Some(p) = self.peer_mut(id, &key) {
                        p.stage = Stage::Expected;
                    }
                }
                // Whoever was called off, or left without a word, comes back with a newer word about them.
                Stage::Out(Presence::Left)
                    if members.is_present(&key) && members.next_number(&key) > self.gone_at(id, &key) =>
                {
                    if self.peer(id, &key).is_some_and(|p| p.session.is_some()) {
                        self.enter(now, id, &key, out);
                        self.share_key(now, id, &key);
                    } else if let Some(p) = self.peer_mut(id, &key) {
                        p.stage = Stage::Expected;
                    }
                }
                Stage::Out(_) => {}
                Stage::Called { .. } => {}
                _ if left || !members.is_entitled(&key) => self.depart(now, id, &key, out),
                _ => {}
            }
            self.tell(id, &key, out);
        }
        let missing = |p: &Participant| p.stage == Stage::Expected && p.session.is_none();
        if let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_active())
            && call.peers.values().any(missing)
        {
            // Whoever should bring them together with this side may be gone.
            call.search_at.get_or_insert(now + SEARCH);
        }
        self.look_around(now, id, out);
    }

    /// The number of the next word about somebody when they went.
    fn gone_at(&self, id: CallId, key: &PublicKey) -> u32 {
        self.peer(id, key).map_or(0, |p| p.gone_at)
    }

    /// Somebody goes: only a newer word about them brings them back.
    pub(super) fn note_gone(&mut self, id: CallId, key: &PublicKey) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let next = call.members.as_ref().map_or(0, |m| m.next_number(key));
        if let Some(p) = call.peers.get_mut(key) {
            p.gone_at = next;
        }
    }

    /// A participant has left by itself: the session stays, for when it comes back.
    pub(super) fn depart(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        self.close_link(id, key, out);
        self.note_gone(id, key);
        if let Some(p) = self.peer_mut(id, key) {
            p.stage = Stage::Out(Presence::Left);
            (p.pair_at, p.here_at, p.hello, p.joined) = (None, None, None, false);
            (p.link.until, p.link.retry_at, p.announced) = (None, None, None);
        }
        self.tell(id, key, out);
        self.look_around(now, id, out);
    }
}
