//! What the other side says. Everything here has been opened under a key that proves its sender; what makes no sense
//! in the present state is counted and changes nothing.

use std::time::Duration;

use super::{
    call::{Call, State},
    delivery::Received,
    effect::{EffectKind, Gift, SessionNo, TopicRef},
    ending::Ending,
    machine::{MAX_CALLS, Machine, Out, Purpose},
    participant::{Participant, Stage},
    people::AFTER_NOBODY,
    sessions::Held,
    signal::{Body, CallBody, EpochId, HelloKind, Lane, MediaFormat, Packet},
};
use crate::{
    config::WhenBusy,
    event::{EndReason, Event, Findable, Milestone, Mismatch, NodeState, Presence},
    id::{CallId, PublicKey},
    time::Instant,
};

/// Opus frame lengths that an answer may name, in milliseconds (RFC 7587 section 4.2, those of 10 ms and more).
const FRAMES: [u8; 4] = [10, 20, 40, 60];

/// The own state is told to new subscribers at most this often: four times a second, as an answer to a first message.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(250);

impl MediaFormat {
    /// What both `self` and `other` allow; `None` if one of them is outside the protocol's range.
    pub fn narrowed(self, other: Self) -> Option<Self> {
        let fits = |m: Self| {
            FRAMES.contains(&m.frame_ms)
                && (1..=2).contains(&m.channels)
                && (6_000..=510_000).contains(&m.max_bitrate)
        };
        (fits(self) && fits(other)).then(|| Self {
            frame_ms: self.frame_ms.max(other.frame_ms),
            channels: self.channels.min(other.channels),
            max_bitrate: self.max_bitrate.min(other.max_bitrate),
        })
    }
}

impl Machine {
    pub(super) fn on_packet(
        &mut self,
        now: Instant,
        from: PublicKey,
        session: SessionNo,
        packet: Packet,
        over_link: bool,
        out: &mut Out<'_>,
    ) {
        let id = packet.call;
        let silent = now + self.config.caller_silent;
        let Some(p) = self.peer_mut(id, &from) else {
            self.counters.unexpected += 1;
            return;
        };
        let first = p.session.is_none();
        let answered = Self::is_answering(p, session);
        let mut invited = None;
        if let Some((kind, suite)) = answered {
            // The first message under a session that the other side opened: it is no replay.
            let welcome = p.welcome.take();
            if let Some(sent) = welcome.as_ref().and_then(|welcome| welcome.last) {
                p.delivery.answered(now.since(sent));
            }
            invited = welcome.and_then(|welcome| welcome.invites);
            let held = Held { no: session, kind, ours: false };
            let dropped = p.confirmed(now, held);
            if p.session == Some(held) {
                p.protection = Some(super::hello::protection(suite));
            }
            if first {
                p.mark(now, Milestone::Confirmed);
            }
            if let Some(dropped) = dropped {
                out.run(EffectKind::DropSession { call: id, peer: from, session: dropped });
            }
        }
        let Some(p) = self.peer_mut(id, &from) else { return };
        if p.session.is_none_or(|held| held.no != session) {
            self.on_old_packet(now, from, session, packet, out);
            return;
        }
        let settled = p.delivery.acknowledged(now, packet.ack, packet.ack_bits);
        if packet.seq > 0 {
            p.heard_over_link = over_link;
        }
        let received =
            if packet.seq == 0 { Received::Duplicate } else { p.delivery.receive(now, packet.seq) };
        self.counters.acknowledged += settled;
        match received {
            _ if packet.seq == 0 => {}
            Received::New => {}
            Received::Duplicate => self.counters.duplicate += 1,
            Received::TooFar => self.counters.unexpected += 1,
        }
        if let Some(call) = self.calls.get_mut(&id).filter(|c| c.caller_is(&from))
            && let State::Incoming { heard_until, .. } = &mut call.state
        {
            *heard_until = silent;
        }
        self.signals_cross(now, id, &from);
        if self.peer(id, &from).is_some_and(|p| p.stage == Stage::Lost) {
            self.heard_of(now, id, &from, out);
        }
        // Somebody who is met is in the call before it is heard what they say. Of an offer the body comes first: a
        // confirmation that is a cancel must not ring.
        let (met, offers) = match answered {
            Some((HelloKind::Pair | HelloKind::Resume, _)) => (answered, None),
            _ => (None, answered),
        };
        if let Some((kind, _)) = met {
            self.on_confirmed(now, id, from, kind, out);
        }
        if let Some(hello) = invited {
            self.begin_anew(now, &hello, out);
        }
        if received == Received::New {
            self.on_body(now, id, from, packet.generation, packet.body, out);
        }
        if let Some((kind, _)) = offers {
            self.on_confirmed(now, id, from, kind, out);
        }
    }

    /// Under a session that was replaced: it is heard, and answered nothing.
    fn on_old_packet(
        &mut self,
        now: Instant,
        from: PublicKey,
        session: SessionNo,
        packet: Packet,
        out: &mut Out<'_>,
    ) {
        let id = packet.call;
        let retired = self.peer_mut(id, &from).and_then(|p| p.retired.as_mut());
        match retired.filter(|r| r.no == session).map(|r| (packet.seq, r.receive(packet.seq))) {
            // What it says of links is of links that ended with it.
            Some((1.., Received::New)) if packet.body.is_link() => {}
            Some((1.., Received::New)) => self.on_body(now, id, from, packet.generation, packet.body, out),
            Some((0, _)) => {}
            Some((_, Received::Duplicate)) => self.counters.duplicate += 1,
            Some((_, Received::TooFar)) | None => self.counters.unexpected += 1,
        }
    }

    /// One more call of that caller would be too many, or this side is in a call and does not want another.
    pub(super) fn is_busy_for(&self, from: &PublicKey) -> bool {
        // Whatever is configured, there stays room for a call of our own, and half of it is for contacts.
        let places = self.config.max_pending.min(MAX_CALLS - 1);
        let stranger = |key: &PublicKey| !self.people.is_contact(key);
        self.pending(|_| true) >= places
            || (stranger(from) && self.pending(stranger) >= places.div_ceil(2))
            || (self.config.when_busy == WhenBusy::Reject && self.under_way().is_some())
    }

    /// The caller has proven that it is there, or is a contact: ring, or say busy.
    pub(super) fn ring(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get(&id).filter(|c| c.is_arriving()) else { return };
        let Some(from) = call.caller else { return };
        let confirmed = call.peers.get(&from).is_some_and(|p| p.session.is_some());
        if call.turn.is_some() {
            if confirmed {
                self.give_turn(now, id);
            }
            return;
        }
        if call.notice.is_some() {
            if confirmed {
                self.missed(now, id, from, EndReason::Unreachable, out);
            }
            return;
        }
        // Two calls of two people each cross; others stand beside each other.
        let crossing = self.calls.values().find(|c| c.is_under_way() && c.is_with(&from)).map(|c| c.id);
        if let Some(mine) = crossing.filter(|_| call.is_pair()) {
            // Which of the two stays needs somebody who is there; what may be a replay waits.
            if confirmed {
                self.cross(now, mine, id, from, out);
            }
            return;
        }
        self.ring_anyway(now, id, out);
    }

    /// Rings, or says busy, whoever else is on the line.
    pub(super) fn ring_anyway(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let Some((call, from)) = self.calls.get(&id).and_then(|c| Some((c, c.caller?))) else { return };
        let State::Arriving { ring_ms, until } = call.state else { return };
        if self.is_busy_for(&from) {
            self.missed(now, id, from, EndReason::Busy, out);
            return;
        }
        let ring = Duration::from_millis(ring_ms.into()).min(self.config.max_ring);
        let heard_until = now + self.config.caller_silent;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(p) = call.peers.get_mut(&from) else { return };
        let confirm_until = p.session.is_none().then_some(until);
        call.state = State::Incoming { ring_until: now + ring, confirm_until, heard_until };
        p.mark(now, Milestone::Ringing);
        out.emit(Event::Incoming {
            call: id,
            from,
            app_data: call.app_data.clone(),
            media: call.media,
            sent_at: call.sent_at,
        });
        self.say(now, id, &from, 0, Body::Ringing);
        self.start_link(now, id, &from, out);
    }

    fn on_body(
        &mut self,
        now: Instant,
        id: CallId,
        from: PublicKey,
        generation: u32,
        body: Body,
        out: &mut Out<'_>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if body.is_link() && !call.is_leaving() {
            self.on_link_signal(now, id, from, generation, body, out);
            return;
        }
        let (caller, pair, media) = (call.caller_is(&from), call.is_pair(), call.media);
        let removes = call.members.as_ref().is_some_and(|m| m.create().creator == from);
        // Whoever called gives the key when they hear that it was accepted: from then on only the creator can send away.
        let let_in = !pair && call.epochs.used().is_some();
        let Some(p) = call.peers.get_mut(&from) else { return };
        match (&call.state, p.stage, body) {
            (_, _, Body::Confirm | Body::Ack | Body::Here) => {}
            (State::Leaving { .. }, _, Body::Turn) => self.on_turn(now, id, from, out),
            // Everything still arrives while a farewell lasts; it is acknowledged and means nothing.
            (State::Leaving { .. }, ..) => {}
            // From somebody whom a person here called, or whose call was accepted.
            (State::Outgoing | State::Active { .. }, _, Body::Token) => self.keep(from, Gift::Token, out),
            (State::Outgoing | State::Active { .. }, _, Body::KemKey) => self.keep(from, Gift::KemKey, out),
            (_, _, Body::Roll(roll)) => self.on_roll(now, id, from, &roll, out),
            (State::Active { .. }, Stage::Expected | Stage::In | Stage::Lost, Body::Sync(sync)) => {
                self.on_sync(now, id, &from, sync, out);
            }
            (State::Active { .. }, Stage::Expected | Stage::In | Stage::Lost, Body::CallKey(epoch)) => {
                self.on_call_key(now, id, from, epoch, out);
                self.heard_of(now, id, &from, out);
            }
            (State::Active { .. }, Stage::Expected | Stage::In | Stage::Lost, Body::Where(whom)) => {
                self.on_where(id, whom, out);
            }
            (State::Left { .. }, _, Body::Where(_)) => {}
            // They may still be on their way when this side has left.
            (State::Left { .. }, _, Body::Sync(_) | Body::CallKey(_)) => {}
            (_, _, Body::Removed) if removes => {
                self.end(now, id, Ending::by(EndReason::Removed, Some(from)), out)
            }
            (_, Stage::Called { .. }, Body::Ringing) => {
                if !std::mem::replace(&mut p.ringing, true) {
                    p.mark(now, Milestone::Ringing);
                    out.emit(Event::Ringing { call: id, peer: from });
                    self.tell(id, &from, out);
                }
            }
            (_, Stage::Called { .. }, Body::Accept(theirs)) => match media.narrowed(theirs) {
                Some(agreed) if agreed == theirs => self.on_accept(now, id, from, agreed, out),
                // An answer that widens the offer is not an answer to it.
                _ => {
                    let reason = EndReason::Incompatible { mismatch: Mismatch::Media };
                    self.refused(now, id, &from, (reason, None), Some(Body::Incompatible), out);
                }
            },
            (_, Stage::Called { .. }, Body::Decline) => {
                self.refused(now, id, &from, (EndReason::Declined, Some(from)), None, out);
            }
            (_, Stage::Called { .. }, Body::Busy) => {
                self.refused(now, id, &from, (EndReason::Busy, Some(from)), None, out);
            }
            (_, Stage::Called { .. }, Body::TimedOut) => {
                self.refused(now, id, &from, (EndReason::TimedOut, None), None, out);
            }
            (_, Stage::Called { .. }, Body::HangUp) => {
                self.refused(now, id, &from, (EndReason::HungUp, Some(from)), None, out);
            }
            // They accepted, which never arrived, and have waited for the link in vain.
            (_, Stage::Called { .. }, Body::LinkLost) => {
                self.refused(now, id, &from, (EndReason::Unreachable, None), None, out);
            }
            (State::Incoming { .. }, _, Body::TimedOut) if caller => {
                self.end(now, id, Ending::nobodys(EndReason::TimedOut, None), out)
            }
            // In an active call these crossed our acceptance, which came too late.
            (State::Active { .. }, _, Body::TimedOut) if caller && !let_in => {
                self.end(now, id, Ending::nobodys(EndReason::TimedOut, None), out)
            }
            (State::Active { .. }, _, Body::Cancel) if caller && (removes || !let_in) => {
                self.end(now, id, Ending::by(EndReason::Cancelled, Some(from)), out);
            }
            (State::Arriving { .. }, _, Body::Cancel | Body::HangUp | Body::TimedOut) => {
                // It was withdrawn before it could ring.
                self.missed(now, id, from, EndReason::Cancelled, out);
            }
            (State::Incoming { .. }, _, Body::Cancel | Body::HangUp) if caller => {
                self.end(now, id, Ending::by(EndReason::Cancelled, Some(from)), out);
            }
            (State::Active { .. } | State::Left { .. }, _, Body::HangUp) => {
                self.on_hang_up(now, id, &from, out);
            }
            (State::Active { .. }, Stage::In, Body::Again) => self.on_again(now, id, &from, generation, out),
            (State::Active { .. }, Stage::In, Body::LinkLost) => {
                let step = p.link.step();
                let reason = if p.joined { EndReason::Lost } else { EndReason::Failed { step } };
                if pair {
                    self.end(now, id, Ending::nobodys(reason, None), out);
                } else {
                    self.depart(now, id, &from, out);
                }
            }
            (State::Active { .. }, _, Body::Incompatible) if pair => {
                let reason = EndReason::Incompatible { mismatch: Mismatch::Media };
                self.end(now, id, Ending::nobodys(reason, None), out);
            }
            _ => self.counters.unexpected += 1,
        }
    }

    /// Somebody whom this side called accepts.
    fn on_accept(
        &mut self,
        now: Instant,
        id: CallId,
        from: PublicKey,
        agreed: MediaFormat,
        out: &mut Out<'_>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.is_outgoing() {
            // Whoever comes later hears what the first one agreed to.
            call.media = agreed;
            self.activate(now, id, from, out);
        } else if call.is_active() {
            self.admit(now, id, &from, out);
        } else {
            self.counters.unexpected += 1;
        }
    }

    /// The call is over for somebody.
    fn on_hang_up(&mut self, now: Instant, id: CallId, from: &PublicKey, out: &mut Out<'_>) {
        let Some(call) = self.calls.get(&id) else { return };
        let others = |p: &Participant| p.key != *from && p.may_come();
        let left = matches!(call.state, State::Left { .. });
        if call.is_pair() || (left && !call.peers.values().any(others)) {
            self.end(now, id, Ending::by(EndReason::HungUp, Some(*from)), out);
        } else {
            self.depart(now, id, from, out);
        }
    }

    pub(super) fn on_call_message(
        &mut self,
        now: Instant,
        id: CallId,
        epoch: EpochId,
        from: PublicKey,
        body: CallBody,
        out: &mut Out<'_>,
    ) {
        let member = |c: &Call| c.members.as_ref().is_none_or(|m| m.is_present(&from));
        let Some(call) =
            self.calls.get_mut(&id).filter(|c| c.is_active() && c.epochs.hears(epoch) && member(c))
        else {
            self.counters.unexpected += 1;
            return;
        };
        let used = call.epochs.used().is_some_and(|used| used.id == epoch);
        // Whoever did not come when this side called may have come when somebody else did. Who is blocked is kept away.
        let away = |p: &Participant| matches!(p.stage, Stage::Out(Presence::Lost | Presence::Removed));
        let Some(p) = call.peers.get_mut(&from).filter(|p| !away(p)) else {
            self.counters.unexpected += 1;
            return;
        };
        match body {
            CallBody::Announce(announce) => {
                // A repetition, by whomever, shows nothing of where they are now.
                if announce.version <= p.heard {
                    return;
                }
                p.heard = announce.version;
                p.announced = Some(announce);
                p.heard_under = Some(epoch);
                if announce.joined {
                    self.seen_in(now, id, &from, out);
                }
                self.tell(id, &from, out);
                self.differs(now, id, &from, announce.roll);
                if !used {
                    // It has not got the newer key.
                    self.share_key(now, id, &from);
                }
            }
            CallBody::Leave if call.is_with(&from) => {
                self.end(now, id, Ending::by(EndReason::HungUp, Some(from)), out);
            }
            CallBody::Leave => self.counters.unexpected += 1,
        }
    }

    pub(super) fn on_peer_subscribed(&mut self, now: Instant, topic: TopicRef, out: &mut Out<'_>) {
        match topic {
            TopicRef::Inbox { owner, lane } => {
                for p in self.calls.values_mut().filter_map(|c| c.peers.get_mut(&owner)) {
                    if let Some(hello) = &mut p.hello
                        && hello.schedule.somebody_came(now)
                    {
                        hello.attempts = if lane == Lane::Contacts { 0 } else { AFTER_NOBODY };
                    }
                }
                self.reach_again(now, &owner, out);
                self.deliver_notice(now, &owner, out);
            }
            TopicRef::Peer { call, owner } => {
                if let Some(p) = self.peer_mut(call, &owner) {
                    p.delivery.somebody_came(now);
                    if let Some(welcome) = &mut p.welcome {
                        welcome.schedule.somebody_came(now);
                    }
                }
            }
            TopicRef::Call { call, .. } => {
                if let Some(call) =
                    self.calls.get_mut(&call).filter(|c| c.is_active() && c.epochs.used().is_some())
                {
                    // Any neighbour sees this topic and can subscribe to it as often as it likes.
                    let free = call.announced_at.map_or(now, |t| (t + ANNOUNCE_EVERY).max(now));
                    call.announce_at = Some(call.announce_at.map_or(free, |t| t.min(free)));
                }
            }
        }
    }

    /// Keeps what a peer gave of itself, unless it is known already or there is no room for it.
    fn keep(&mut self, peer: PublicKey, gift: Gift, out: &mut Out<'_>) {
        // A key is derived from the identity and never changes; a token does.
        let known = gift == Gift::KemKey && self.people.known(&peer).kem;
        if known || !self.people.has_room(&peer) {
            return;
        }
        out.push(Purpose::Keep { peer, gift }, EffectKind::Keep { peer, gift });
    }

    /// The node or the media are gone for good: nothing can be said any more, and every call is over.
    pub(super) fn on_stopped(&mut self, now: Instant, cause: String, out: &mut Out<'_>) {
        self.shutting_down = true;
        self.on_node(NodeState::Offline { cause }, out);
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        for id in calls {
            let reason = match self.calls.get(&id).map(|c| &c.state) {
                Some(State::Outgoing) => EndReason::Unreachable,
                _ => EndReason::Lost,
            };
            // A later run can come back to it.
            if let Some(call) = self.calls.get_mut(&id) {
                call.saved = false;
            }
            self.end(now, id, Ending::nobodys(reason, None), out);
            self.forget(id, out);
        }
    }

    pub(super) fn on_node(&mut self, state: NodeState, out: &mut Out<'_>) {
        if self.node_state != state {
            self.node_state = state.clone();
            out.emit(Event::Node { state });
        }
    }

    pub(super) fn on_findable(&mut self, state: Findable, out: &mut Out<'_>) {
        if std::mem::replace(&mut self.findable, state) != state {
            out.emit(Event::Findable { state });
        }
    }
}
