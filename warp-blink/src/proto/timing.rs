//! Everything that time does: deadlines, resends, announcements.

use super::{
    call::State,
    ending::Ending,
    input::EffectKind,
    machine::{Machine, Out, Purpose},
    people,
    signal::{Announce, Body, CallBody},
};
use crate::{event::EndReason, id::CallId, time::Instant};

impl Machine {
    /// When the machine wants [`Input::Tick`](super::Input::Tick); `None` while nothing is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.calls.values().flat_map(|c| [c.deadline(), c.announce_at, c.peer.next_timeout()]).flatten().min()
    }

    /// Runs after each input.
    pub(super) fn on_time(&mut self, now: Instant, out: &mut Out<'_>) {
        let ids: Vec<CallId> = self.calls.keys().copied().collect();
        for id in ids {
            self.deadlines(now, id, out);
            self.transmit(now, id, out);
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
            State::Outgoing { .. } if !call.peer.delivery.is_confirmed() => {
                Ending::nobodys(EndReason::Unreachable, Some(Body::Cancel))
            }
            State::Incoming { confirm_until: Some(t), .. } if t <= now => {
                Ending::nobodys(EndReason::Unreachable, None)
            }
            State::Outgoing { .. } | State::Incoming { .. } => {
                Ending::nobodys(EndReason::TimedOut, Some(Body::TimedOut))
            }
            State::Active { reconnect_until, .. } => {
                let lost = reconnect_until.is_some_and(|t| t <= now);
                let reason =
                    if lost { EndReason::Lost } else { EndReason::Failed { step: call.peer.link.step() } };
                Ending::nobodys(reason, Some(Body::LinkLost))
            }
            // Its sender never confirmed: a replay, or somebody who gave up. It did not ring, so nobody is told.
            State::Arriving { .. } | State::Leaving { .. } => {
                let unsaid = call.peer.delivery.queued() as u64;
                self.counters.expired += unsaid;
                self.forget(id, out);
                return;
            }
        };
        self.end(now, id, ending, out);
    }

    fn transmit(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let to = call.peer.key;
        if let Some(retired) = call.peer.retired.take_if(|r| r.until <= now) {
            out.run(EffectKind::DropSession { call: id, peer: to, session: retired.no });
        }
        if let Some(hello) = call.peer.hello.as_mut().filter(|h| h.schedule.is_due(now)) {
            count(&mut self.counters, hello.schedule.sent > 0);
            hello.schedule.transmitted(now);
            let lane = people::lane(self.people.known(&to), hello.attempts);
            hello.attempts = hello.attempts.saturating_add(1);
            let (suite, session) = (hello.suite, hello.session);
            let (hello, kind) = (hello.hello.clone(), hello.hello.kind);
            let effect = EffectKind::SendHello { to, lane, suite, session, hello };
            out.push(Purpose::Hello { call: id, kind, lane }, effect);
        }
        if let Some(welcome) = call.peer.welcome.as_mut().filter(|w| w.schedule.is_due(now)) {
            count(&mut self.counters, welcome.schedule.sent > 0);
            welcome.schedule.transmitted(now);
            // It is repeated when the first message is, not by itself: an unconfirmed sender gets one answer each.
            welcome.schedule.next = None;
            welcome.last = Some(now);
            let (session, welcome) = (welcome.session, welcome.welcome.clone());
            let effect = EffectKind::SendWelcome { call: id, to, session, welcome };
            out.push(Purpose::Welcome { call: id }, effect);
        }
        let Some(session) = call.peer.session.map(|held| held.no) else { return };
        for due in call.peer.delivery.due(now) {
            if due.packet.seq > 0 {
                count(&mut self.counters, due.again);
            }
            let purpose = Purpose::Packet { call: id, seq: due.packet.seq };
            out.push(purpose, EffectKind::Send { to, session, packet: Box::new(due.packet) });
        }
    }

    fn announce(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let local = self.local;
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.announce_at.is_none_or(|t| t > now) || !call.is_active() || call.epoch == 0 {
            return;
        }
        // Version 0 would be no news to anybody.
        call.announce_version = call.announce_version.max(1);
        call.announce_at = Some(now + self.config.announce_period);
        call.announced_at = Some(now);
        let announce = Announce {
            version: call.announce_version,
            joined: true,
            muted: local.muted,
            deafened: local.deafened,
            ..Announce::default()
        };
        let body = CallBody::Announce(announce);
        out.push(Purpose::Announce { call: id }, EffectKind::SendCall { call: id, epoch: call.epoch, body });
    }

    /// A farewell is over as soon as the other side has heard it.
    fn part(&mut self, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get(&id).filter(|c| c.is_leaving()) else { return };
        let (hello, welcome) = (&call.peer.hello, &call.peer.welcome);
        let said = call.peer.delivery.queued() == 0 && hello.is_none() && welcome.is_none();
        // Whoever was told by the other side stays for the farewell time, to acknowledge what is sent again.
        let nothing_was_said = !call.peer.delivery.is_confirmed();
        if said && (nothing_was_said || call.said_it) {
            self.forget(id, out);
        }
    }
}

fn count(counters: &mut crate::stats::Counters, again: bool) {
    if again {
        counters.resent += 1;
    } else {
        counters.sent += 1;
    }
}
