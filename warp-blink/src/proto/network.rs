//! What the other side says. Everything here has been opened under a key that proves its sender; what makes no sense
//! in the present state is counted and changes nothing.

use std::time::Duration;

use super::{
    call::State,
    delivery::Received,
    ending::Ending,
    input::{EffectKind, Gift, SessionNo, TopicRef},
    machine::{MAX_CALLS, Machine, Out, Purpose},
    people::AFTER_NOBODY,
    sessions::Held,
    signal::{Body, CallBody, HelloKind, Lane, MediaFormat, Packet},
};
use crate::{
    config::WhenBusy,
    event::{EndReason, Event, Milestone, Mismatch, NodeState},
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
        out: &mut Out<'_>,
    ) {
        let id = packet.call;
        let smaller = self.own < from;
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.peer.key == from) else {
            self.counters.unexpected += 1;
            return;
        };
        let first = call.peer.session.is_none();
        let answered =
            call.peer.welcome.as_ref().filter(|w| w.session == session).map(|w| (w.kind, w.welcome.suite));
        if let Some((kind, suite)) = answered {
            // The first message under a session that the other side opened: it is no replay.
            call.peer.welcome = None;
            let held = Held { no: session, kind, ours: false };
            if let Some(dropped) = call.peer.confirmed(now, held, smaller) {
                out.run(EffectKind::DropSession { call: id, peer: from, session: dropped });
            }
            if call.peer.session == Some(held) {
                call.peer.protection = Some(super::hello::protection(suite));
            }
            if first {
                call.peer.mark(now, Milestone::Confirmed);
            }
        }
        if call.peer.session.is_none_or(|held| held.no != session) {
            self.on_old_packet(now, session, packet, out);
            return;
        }
        self.counters.acknowledged += call.peer.delivery.acknowledged(packet.ack, packet.ack_bits);
        let new = packet.seq != 0
            && match call.peer.delivery.receive(now, packet.seq) {
                Received::New => true,
                Received::Duplicate => {
                    self.counters.duplicate += 1;
                    false
                }
                Received::TooFar => {
                    self.counters.unexpected += 1;
                    false
                }
            };
        // The body comes first: a confirmation that is a cancel must not ring.
        if new {
            self.on_body(now, id, packet.generation, packet.body, out);
        }
        if let Some((kind, _)) = answered {
            self.on_confirmed(now, id, kind, out);
        }
    }

    /// The session that the other side opened is confirmed.
    fn on_confirmed(&mut self, now: Instant, id: CallId, kind: HelloKind, out: &mut Out<'_>) {
        self.ring(now, id, out);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let State::Incoming { confirm_until, .. } = &mut call.state {
            *confirm_until = None;
        }
        if call.is_active() && call.ours && kind != HelloKind::Offer {
            // Who comes back has lost the call's key.
            Self::say(call, &mut self.counters, now, 0, Body::CallKey(call.epoch));
        }
        if call.is_active() && call.epoch > 0 {
            call.announce_at = Some(now);
        }
        self.start_link(now, id, out);
    }

    /// Under a session that was replaced: it is heard, and answered nothing.
    fn on_old_packet(&mut self, now: Instant, session: SessionNo, packet: Packet, out: &mut Out<'_>) {
        let id = packet.call;
        let retired = self.calls.get_mut(&id).and_then(|c| c.peer.retired.as_mut());
        match retired.filter(|r| r.no == session).map(|r| (packet.seq, r.receive(packet.seq))) {
            Some((1.., Received::New)) => self.on_body(now, id, packet.generation, packet.body, out),
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
        let Some(call) = self.calls.get(&id) else { return };
        if !call.is_arriving() {
            return;
        }
        let from = call.peer.key;
        let confirmed = call.peer.session.is_some();
        let crossing = self.calls.values().find(|c| c.is_under_way() && c.peer.key == from).map(|c| c.id);
        if let Some(mine) = crossing {
            // Which of the two stays needs somebody who is there; what may be a replay waits.
            if confirmed {
                self.cross(now, mine, id, out);
            }
            return;
        }
        self.ring_anyway(now, id, out);
    }

    /// Rings, or says busy, whoever else is on the line.
    pub(super) fn ring_anyway(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get(&id) else { return };
        let State::Arriving { ring_ms, until } = call.state else { return };
        let from = call.peer.key;
        if self.is_busy_for(&from) {
            self.missed(now, id, from, EndReason::Busy, out);
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        let ring = Duration::from_millis(ring_ms.into()).min(self.config.max_ring);
        let confirm_until = call.peer.session.is_none().then_some(until);
        call.state = State::Incoming { ring_until: now + ring, confirm_until };
        call.peer.mark(now, Milestone::Ringing);
        Self::say(call, &mut self.counters, now, 0, Body::Ringing);
        out.emit(Event::Incoming {
            call: id,
            from,
            app_data: call.app_data.clone(),
            media: call.media,
            sent_at: call.sent_at,
        });
        self.start_link(now, id, out);
    }

    fn on_body(&mut self, now: Instant, id: CallId, generation: u32, body: Body, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let peer = call.peer.key;
        if body.is_link() && !call.is_leaving() {
            self.on_link_signal(now, id, generation, body, out);
            return;
        }
        match (&call.state, body) {
            (_, Body::Confirm | Body::Ack) => {}
            (State::Leaving { .. }, Body::Token | Body::KemKey) => {}
            // From somebody whom a person here called, or whose call was accepted.
            (State::Outgoing { .. } | State::Active { .. }, Body::Token) => self.keep(peer, Gift::Token, out),
            (State::Outgoing { .. } | State::Active { .. }, Body::KemKey) => {
                self.keep(peer, Gift::KemKey, out)
            }
            (State::Outgoing { .. }, Body::Ringing) => {
                if !std::mem::replace(&mut call.peer.ringing, true) {
                    call.peer.mark(now, Milestone::Ringing);
                    out.emit(Event::Ringing { call: id, peer });
                }
            }
            (State::Outgoing { .. }, Body::Accept(media)) => match call.media.narrowed(media) {
                Some(agreed) if agreed == media => {
                    call.media = agreed;
                    self.activate(now, id, out);
                }
                // An answer that widens the offer is not an answer to it.
                _ => {
                    let reason = EndReason::Incompatible { mismatch: Mismatch::Media };
                    let ending = Ending::nobodys(reason, Some(Body::Incompatible));
                    self.end(now, id, ending, out);
                }
            },
            (State::Outgoing { .. }, Body::Decline) => {
                self.end(now, id, Ending::theirs(EndReason::Declined), out)
            }
            (State::Outgoing { .. }, Body::Busy) => self.end(now, id, Ending::theirs(EndReason::Busy), out),
            (State::Outgoing { .. }, Body::TimedOut) => {
                self.end(now, id, Ending::nobodys(EndReason::TimedOut, None), out)
            }
            // In an active call it crossed our acceptance, which came too late.
            (State::Incoming { .. } | State::Active { .. }, Body::TimedOut) if !call.ours => {
                self.end(now, id, Ending::nobodys(EndReason::TimedOut, None), out)
            }
            (State::Arriving { .. }, Body::Cancel | Body::HangUp | Body::TimedOut) => {
                // It was withdrawn before it could ring.
                self.missed(now, id, peer, EndReason::Cancelled, out);
            }
            (State::Incoming { .. } | State::Active { .. }, Body::Cancel) if !call.ours => {
                self.end(now, id, Ending::theirs(EndReason::Cancelled), out);
            }
            (State::Incoming { .. }, Body::HangUp) => {
                self.end(now, id, Ending::theirs(EndReason::Cancelled), out)
            }
            (State::Outgoing { .. } | State::Active { .. }, Body::HangUp) => {
                self.end(now, id, Ending::theirs(EndReason::HungUp), out);
            }
            (State::Active { .. }, Body::Again) => self.on_again(now, id, generation, out),
            (State::Active { .. }, Body::LinkLost) => {
                let step = call.peer.link.step();
                let reason =
                    if call.peer.link.was_connected { EndReason::Lost } else { EndReason::Failed { step } };
                self.end(now, id, Ending::nobodys(reason, None), out);
            }
            (State::Active { .. }, Body::Incompatible) => {
                let reason = EndReason::Incompatible { mismatch: Mismatch::Media };
                self.end(now, id, Ending::nobodys(reason, None), out);
            }
            (State::Active { .. }, Body::CallKey(epoch)) if !call.ours && epoch > call.epoch => {
                if call.epoch > 0 {
                    out.run(EffectKind::Unsubscribe(TopicRef::Call { call: id, epoch: call.epoch }));
                }
                call.epoch = epoch;
                call.announce_at = Some(now);
                out.run(EffectKind::Subscribe(TopicRef::Call { call: id, epoch }));
            }
            // Everything still arrives while a farewell lasts; it is acknowledged and means nothing.
            (State::Leaving { .. }, _) => {}
            _ => self.counters.unexpected += 1,
        }
    }

    pub(super) fn on_call_message(
        &mut self,
        now: Instant,
        id: CallId,
        epoch: u32,
        from: PublicKey,
        body: CallBody,
        out: &mut Out<'_>,
    ) {
        let Some(call) =
            self.calls.get_mut(&id).filter(|c| c.is_active() && c.peer.key == from && c.epoch == epoch)
        else {
            self.counters.unexpected += 1;
            return;
        };
        match body {
            CallBody::Announce(announce) => {
                if call.peer.announced.is_some_and(|a| a.version >= announce.version) {
                    return;
                }
                call.peer.announced = Some(announce);
                let state = &mut call.peer.state;
                if (state.muted, state.deafened) != (announce.muted, announce.deafened) {
                    (state.muted, state.deafened) = (announce.muted, announce.deafened);
                    let state = *state;
                    out.emit(Event::Participant { call: id, peer: from, state });
                }
            }
            CallBody::Leave => self.end(now, id, Ending::theirs(EndReason::HungUp), out),
        }
    }

    pub(super) fn on_peer_subscribed(&mut self, now: Instant, topic: TopicRef) {
        match topic {
            TopicRef::Inbox { owner, lane } => {
                for call in self.calls.values_mut().filter(|c| c.peer.key == owner) {
                    if let Some(hello) = &mut call.peer.hello
                        && hello.schedule.somebody_came(now)
                    {
                        hello.attempts = if lane == Lane::Contacts { 0 } else { AFTER_NOBODY };
                    }
                }
            }
            TopicRef::Peer { call, owner } => {
                if let Some(call) = self.calls.get_mut(&call).filter(|c| c.peer.key == owner) {
                    call.peer.delivery.somebody_came(now);
                    if let Some(welcome) = &mut call.peer.welcome {
                        welcome.schedule.somebody_came(now);
                    }
                }
            }
            TopicRef::Call { call, .. } => {
                if let Some(call) = self.calls.get_mut(&call).filter(|c| c.is_active() && c.epoch > 0) {
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
                Some(State::Outgoing { .. }) => EndReason::Unreachable,
                _ => EndReason::Lost,
            };
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
}
