//! Everything that time does: deadlines, resends, announcements.

use super::{
    call::{Call, State},
    effect::{EffectKind, LinkId},
    ending::Ending,
    machine::{Machine, Out, Purpose},
    participant::{Participant, Stage},
    people,
    signal::{Announce, Body, CallBody},
};
use crate::{
    event::EndReason,
    id::{CallId, PublicKey},
    time::Instant,
};

impl Machine {
    /// When the machine wants [`Input::Tick`](super::Input::Tick); `None` while nothing is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.calls.values().filter_map(Call::next_timeout).min()
    }

    /// Runs after each input.
    pub(super) fn on_time(&mut self, now: Instant, out: &mut Out<'_>) {
        let due = |c: &&Call| c.next_timeout().is_some_and(|t| t <= now) || c.is_leaving();
        let ids: Vec<CallId> = self.calls.values().filter(due).map(|c| c.id).collect();
        for id in ids {
            self.deadlines(now, id, out);
            for key in self.calls.get(&id).map(Call::keys).unwrap_or_default() {
                self.peer_deadlines(now, id, &key, out);
            }
            self.expire_keys(now, id, out);
            self.rekey(now, id, out);
            self.search(now, id);
            for key in self.calls.get(&id).map(Call::keys).unwrap_or_default() {
                self.pair(now, id, &key, out);
            }
            for key in self.calls.get(&id).map(Call::keys).unwrap_or_default() {
                self.transmit(now, id, &key, out);
            }
            self.announce(now, id, out);
            self.part(id, out);
        }
    }

    fn deadlines(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get(&id) else { return };
        if call.deadline().is_none_or(|t| t > now) {
            return;
        }
        let ending = match call.state {
            State::Outgoing => return,
            State::Incoming { confirm_until: Some(t), .. } if t <= now => {
                Ending::nobodys(EndReason::Unreachable, None)
            }
            State::Incoming { ring_until, .. } if ring_until > now => {
                // The caller has died, or is cut off: should it come back, it hears that nobody answers any more.
                Ending::nobodys(EndReason::Lost, Some(Body::TimedOut))
            }
            State::Incoming { .. } => Ending::nobodys(EndReason::TimedOut, Some(Body::TimedOut)),
            State::Active { .. } => return self.empty(now, id, out),
            State::Left { .. } => Ending::nobodys(EndReason::HungUp, None),
            // Its sender never confirmed: a replay, or somebody who gave up. It did not ring, so nobody is told.
            State::Arriving { .. } | State::Leaving { .. } => {
                let unsaid: u64 = call.peers.values().map(|p| p.delivery.queued() as u64).sum();
                self.counters.expired += unsaid;
                self.forget(id, out);
                return;
            }
        };
        self.end(now, id, ending, out);
    }

    fn peer_deadlines(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let due = |t: Option<Instant>| t.is_some_and(|t| t <= now);
        let period = self.config.announce_period;
        let Some(p) = self.peer_mut(id, key) else { return };
        if due(p.here_at) {
            p.here_at = p.is_called().then_some(now + period);
            if p.is_called() && !p.delivery.waits(|b| *b == Body::Here) {
                self.say(now, id, key, 0, Body::Here);
            }
        }
        let Some(p) = self.peer(id, key) else { return };
        if let Stage::Called { ring_until, reach_until } = p.stage {
            if !p.delivery.is_confirmed() && ring_until.min(reach_until) <= now {
                self.refused(now, id, key, (EndReason::Unreachable, None), Some(Body::Cancel), out);
            } else if ring_until <= now {
                self.refused(now, id, key, (EndReason::TimedOut, None), Some(Body::TimedOut), out);
            }
        }
        let Some(p) = self.peer(id, key) else { return };
        if due(p.link.until) {
            self.lose(now, id, key, out);
        }
        let Some(p) = self.peer_mut(id, key) else { return };
        if due(p.link.retry_at) {
            p.link.retry_at = None;
            if p.link.ahead.is_some() {
                self.offer_anew(now, id, key, out);
            } else {
                self.start_link(now, id, key, out);
            }
        }
        self.restart(now, id, key, out);
        self.give_up_pairing(now, id, key);
        self.pair(now, id, key, out);
        let Some(p) = self.peer_mut(id, key) else { return };
        let told = p.wipe_at.is_some() && p.said_it && p.is_told();
        if told {
            self.delivered(id, key, out);
        }
        if told || self.peer(id, key).is_some_and(|p| due(p.wipe_at)) {
            self.wipe(id, key, out);
        }
    }

    fn transmit(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let to = *key;
        let known = self.people.known(&to);
        let Some(p) = self.calls.get_mut(&id).and_then(|c| c.peers.get_mut(key)) else { return };
        if let Some(retired) = p.retired.take_if(|r| r.until <= now) {
            out.run(EffectKind::DropSession { call: id, peer: to, session: retired.no });
        }
        if let Some(hello) = p.hello.as_mut().filter(|h| h.schedule.is_due(now)) {
            count(&mut self.counters, hello.schedule.sent > 0);
            hello.schedule.transmitted(now);
            hello.last = Some(now);
            let lane = people::lane(known, hello.attempts);
            hello.attempts = hello.attempts.saturating_add(1);
            let (suite, session) = (hello.suite, hello.session);
            let (hello, kind) = (hello.hello.clone(), hello.hello.kind);
            let effect = EffectKind::SendHello { to, lane, suite, session, hello };
            out.push(Purpose::Hello { call: id, peer: to, kind, lane }, effect);
        }
        if let Some(welcome) = p.welcome.as_mut().filter(|w| w.schedule.is_due(now)) {
            count(&mut self.counters, welcome.schedule.sent > 0);
            welcome.schedule.transmitted(now);
            // It is repeated when the first message is, not by itself: an unconfirmed sender gets one answer each.
            welcome.schedule.next = None;
            welcome.last = Some(now);
            let (session, welcome) = (welcome.session, welcome.welcome.clone());
            let effect = EffectKind::SendWelcome { call: id, to, session, welcome };
            out.push(Purpose::Welcome { call: id, peer: to }, effect);
        }
        let Some(session) = p.session.map(|held| held.no) else { return };
        let link = LinkId { call: id, peer: to, generation: p.link.generation };
        let carries = p.is_linked();
        for due in p.delivery.due(now) {
            if due.packet.seq > 0 {
                count(&mut self.counters, due.again);
            }
            let packet = Box::new(due.packet);
            // An acknowledgement takes the way on which it was last heard: what was sent again over gossip is, because the other
            // way did not work.
            let first = !due.again && (packet.seq > 0 || p.heard_over_link);
            if carries && first {
                let purpose = Purpose::OnLink { call: id, peer: to, seq: packet.seq };
                out.push(purpose, EffectKind::SendOnLink { link, session, packet });
            } else {
                let purpose = Purpose::Packet { call: id, peer: to, seq: packet.seq };
                out.push(purpose, EffectKind::Send { to, session, packet });
            }
        }
        self.say_bound(now, id, key, out);
    }

    fn announce(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let (local, recording) = (self.local.clone(), self.recordings.of(id));
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.announce_at.is_none_or(|t| t > now) || !call.is_active() {
            return;
        }
        call.announce_at = Some(now + self.config.announce_period);
        // Before the new key is here nothing is said under one that somebody who is gone has.
        let Some(epoch) = call.epochs.sends() else { return };
        // Each has a version of its own, so that a repetition by somebody else is known for what it is.
        call.announce_version = call.announce_version.saturating_add(1);
        call.announced_at = Some(now);
        let announce = Announce {
            version: call.announce_version,
            joined: true,
            muted: local.muted,
            deafened: local.deafened,
            camera: local.camera,
            screen: local.screen,
            recording,
            speaking: local.speaking && call.audio,
            held: call.held,
            roll: call.roll,
        };
        let body = CallBody::Announce(announce);
        out.push(Purpose::Announce { call: id }, EffectKind::SendCall { call: id, epoch, body });
    }

    /// A farewell is over as soon as all others have heard it.
    pub(super) fn part(&mut self, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get(&id).filter(|c| c.is_leaving()) else { return };
        // Whoever was told by the other side stays for the farewell time, to acknowledge what is sent again.
        let over = |p: &Participant| p.is_told() && (!p.delivery.is_confirmed() || p.said_it);
        if !call.peers.values().all(over) {
            return;
        }
        // They know of the call, if only that it is over.
        let told: Vec<PublicKey> = call.peers.values().filter(|p| p.said_it).map(|p| p.key).collect();
        for key in told {
            self.delivered(id, &key, out);
        }
        self.forget(id, out);
    }
}

impl Participant {
    /// Nothing is on its way to it any more.
    fn is_told(&self) -> bool {
        self.delivery.queued() == 0 && self.hello.is_none() && self.welcome.is_none()
    }
}

fn count(counters: &mut crate::stats::Counters, again: bool) {
    if again {
        counters.resent += 1;
    } else {
        counters.sent += 1;
    }
}
