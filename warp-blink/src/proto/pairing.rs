//! Sessions between members who did not call each other, and with those who come back.
//!
//! Of two members the one with the smaller key opens the session, and the other one if nothing has come of it after two
//! seconds. Whoever comes back after a crash opens one with everybody.

use std::time::Duration;

use super::{
    call::{Call, State},
    effect::{EffectKind, SessionNo},
    input::Arrived,
    machine::{Machine, Out, Purpose},
    membership::Membership,
    participant::{Participant, Stage},
    signal::{AppData, Body, HelloKind, Status},
};
use crate::{
    event::{EndReason, LinkState, Mismatch, Presence},
    id::{CallId, PublicKey},
    time::Instant,
};

/// How long the larger key waits for the smaller one to open their session: PROTOCOL's two seconds.
const LARGER_WAITS: Duration = Duration::from_secs(2);

/// How often members are looked for who were never met.
pub(super) const SEARCH: Duration = Duration::from_secs(30);

impl Machine {
    /// A member is in the call, and there is no session with it.
    pub(super) fn meet(&mut self, now: Instant, id: CallId, key: &PublicKey) {
        let own = self.own;
        let Some(p) = self.peer_mut(id, key) else { return };
        // One that does not hear what is said in the session has lost it.
        let without = p.session.is_none() || p.delivery.is_stuck(now);
        let answering = p.welcome.as_ref().is_some_and(|w| !w.is_old(now));
        let idle = without && p.hello.is_none() && !answering && p.pair_at.is_none();
        if idle {
            p.pair_at = Some(if own < *key { now } else { now + LARGER_WAITS });
        }
    }

    /// Looks for members who were never met, and may be in the call under a key that is not known here.
    pub(super) fn search(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.search_at.is_some_and(|t| t <= now)) else {
            return;
        };
        let present = |key: &PublicKey| call.members.as_ref().is_some_and(|m| m.is_present(key));
        let missing = |p: &&Participant| p.session.is_none() && p.stage == Stage::Expected && present(&p.key);
        let missing: Vec<PublicKey> = call.peers.values().filter(missing).map(|p| p.key).collect();
        let again = call.is_active() && !missing.is_empty();
        call.search_at = again.then_some(now + SEARCH);
        for key in missing {
            self.meet(now, id, &key);
        }
    }

    /// A member who does not answer is not in the call, or not there: the next attempt is the next search.
    pub(super) fn give_up_pairing(&mut self, now: Instant, id: CallId, key: &PublicKey) {
        let Some(p) = self.peer_mut(id, key).filter(|p| p.stage == Stage::Expected) else { return };
        if p.hello.as_ref().is_some_and(|h| h.hello.kind == HelloKind::Pair && h.is_old(now)) {
            p.hello = None;
        }
    }

    /// It is time to open a session with a member.
    pub(super) fn pair(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let sent_at = self.unix(now);
        let Some(p) = self.peer_mut(id, key).filter(|p| p.pair_at.is_some_and(|t| t <= now)) else { return };
        p.pair_at = None;
        let without = p.session.is_none() || p.delivery.is_stuck(now);
        if let Some(old) = p.welcome.take_if(|w| w.is_old(now)) {
            out.run(EffectKind::DropSession { call: id, peer: *key, session: old.session });
        }
        let needed = without && p.hello.is_none() && p.welcome.is_none() && p.may_come();
        if !needed || !self.calls.get(&id).is_some_and(Call::is_active) {
            return;
        }
        if self.suite(key).is_err() {
            // Post-quantum protection is required, and the two have never talked.
            self.note_failure(
                now,
                id,
                Some(*key),
                EndReason::Incompatible { mismatch: Mismatch::Protection },
            );
            self.give_up(now, id, key, Presence::Incompatible, None, out);
        } else {
            self.open_session(now, id, key, HelloKind::Pair, (sent_at, AppData::default()), out);
        }
    }

    pub(super) fn open_session(
        &mut self,
        now: Instant,
        id: CallId,
        key: &PublicKey,
        kind: HelloKind,
        what: (crate::time::UnixTime, AppData),
        out: &mut Out<'_>,
    ) {
        self.send_hello(now, id, *key, kind, what);
        let purpose = Purpose::Reach { call: id, peer: *key, since: now };
        out.push(purpose, EffectKind::Reach { peer: *key });
    }

    /// A participant opens another session in a call that is under way: it was never met, it came back, or both opened
    /// one at once.
    pub(super) fn on_reopen(&mut self, now: Instant, arrived: &Arrived, out: &mut Out<'_>) {
        let Arrived { hello, suite, .. } = arrived;
        let (id, from, own) = (hello.call, hello.from, self.own);
        let belongs = |c: &Call| match &c.members {
            Some(members) => members.is_entitled(&from),
            None => c.caller_is(&from),
        };
        // Who has left hears invitations only.
        let open = |c: &Call| c.is_active() || (c.is_left() && hello.kind == HelloKind::Offer);
        let welcome = self.agreed(hello, *suite).is_ok()
            && self.calls.get(&id).is_some_and(|c| open(c) && belongs(c) && c.peers.contains_key(&from));
        let ours = self.peer(id, &from).and_then(|p| p.hello.as_ref()).is_some();
        // Both open one at once: that of the smaller key stays.
        if !welcome || (ours && own < from) {
            self.counters.unexpected += 1;
            return;
        }
        let Some(p) = self.peer_mut(id, &from) else { return };
        (p.hello, p.pair_at, p.wipe_at) = (None, None, None);
        let session = p.new_session();
        let mut answer = self.welcome(now, Status::Open, *suite, session, hello.kind);
        answer.invites = self.calls.get(&id).filter(|c| c.is_left()).map(|_| Box::new(hello.clone()));
        let replaced = self.peer_mut(id, &from).and_then(|p| p.welcome.replace(answer));
        if let Some(replaced) = replaced {
            out.run(EffectKind::DropSession { call: id, peer: from, session: replaced.session });
        }
    }

    /// A session that the other side opened is confirmed.
    pub(super) fn on_confirmed(
        &mut self,
        now: Instant,
        id: CallId,
        from: PublicKey,
        kind: HelloKind,
        out: &mut Out<'_>,
    ) {
        self.ring(now, id, out);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let State::Incoming { confirm_until, .. } = &mut call.state {
            *confirm_until = None;
        }
        if call.is_active() && kind == HelloKind::Offer && !call.caller_is(&from) {
            // Who calls somebody who is in the call already, having lost or never met them: they are answered at once.
            let media = call.media;
            self.on_met(now, id, &from, true, out);
            self.say(now, id, &from, 0, Body::Accept(media));
        } else if call.is_active() && kind != HelloKind::Offer {
            // Who has lost a session has lost its links as well, unless they work.
            let lost = |p: &Participant| p.retired.is_some() && p.link.state != LinkState::Connected;
            let again = self.peer(id, &from).is_some_and(lost);
            self.on_met(now, id, &from, again || kind == HelloKind::Resume, out);
        } else if self.calls.get(&id).is_some_and(Call::is_active) {
            self.introduce(now, id, &from);
        }
        self.start_link(now, id, &from, out);
    }

    /// There is a new session with a member of an active call.
    fn on_met(&mut self, now: Instant, id: CallId, key: &PublicKey, returned: bool, out: &mut Out<'_>) {
        if returned {
            // Its links died with it.
            self.close_link(id, key, out);
            if let Some(p) = self.peer_mut(id, key) {
                p.announced = None;
                p.link.parked = Default::default();
                p.delivery.withdraw(Body::is_link);
            }
        }
        let members = self.calls.get(&id).and_then(|c| c.members.as_ref());
        if members.is_some_and(|m| m.was_removed(key)) {
            return;
        }
        // First they are in it: nothing is said to those who are not.
        if members.is_none_or(|m| m.is_present(key)) {
            self.enter(now, id, key, out);
        }
        self.send_sync(now, id, key);
        self.send_roll(now, id, key);
        self.share_key(now, id, key);
        self.introduce(now, id, key);
    }

    /// A session that this side opened is confirmed: that of a member, or one after having come back.
    pub(super) fn on_paired(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        self.enter(now, id, key, out);
        self.send_roll(now, id, key);
        self.share_key(now, id, key);
        self.introduce(now, id, key);
    }

    /// What a member says under the call key shows that it is in the call.
    pub(super) fn seen_in(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let present = |m: &Membership| m.is_present(key);
        if !self.calls.get(&id).is_some_and(|c| c.is_active() && c.members.as_ref().is_some_and(present)) {
            return;
        }
        // It came in through somebody else.
        match self.peer(id, key).map(|p| (p.stage, p.session.is_some())) {
            Some((Stage::Called { .. }, false)) => {
                if let Some(p) = self.peer_mut(id, key) {
                    (p.stage, p.hello) = (Stage::Expected, None);
                }
            }
            // It is in, and its acceptance was lost with another session.
            Some((Stage::Called { .. }, true)) => self.admit(now, id, key, out),
            Some((Stage::Out(_), _)) => {
                self.wipe(id, key, out);
                if let Some(p) = self.peer_mut(id, key) {
                    p.stage = Stage::Expected;
                }
            }
            _ => {}
        }
        self.heard_of(now, id, key, out);
        self.meet(now, id, key);
    }

    /// Those whom this side brought into the call, and those who were in it, are told where the others are.
    pub(super) fn bring_together(&mut self, now: Instant, id: CallId, newcomer: &PublicKey) {
        let others = self.peers_in(id, |p| p.is_in() && p.session.is_some() && p.key != *newcomer);
        for other in others {
            self.say(now, id, newcomer, 0, Body::Where(other));
            self.say(now, id, &other, 0, Body::Where(*newcomer));
        }
    }

    /// Somebody says where a member is. Nothing is believed of it: it is where this side looks next.
    pub(super) fn on_where(&mut self, id: CallId, whom: PublicKey, out: &mut Out<'_>) {
        let missing = |p: &Participant| p.may_come() && p.session.is_none();
        if whom == self.own || !self.peer(id, &whom).is_some_and(missing) {
            return;
        }
        out.run(EffectKind::Learn { peer: whom });
    }

    /// The sessions that were begun with somebody who is not to be had any more.
    pub(super) fn is_answering(p: &Participant, session: SessionNo) -> Option<(HelloKind, u8)> {
        p.welcome.as_ref().filter(|w| w.session == session).map(|w| (w.kind, w.welcome.suite))
    }
}
