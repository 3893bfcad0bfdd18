//! What the other side says. Everything here has been opened under a key that proves its sender; what makes no sense
//! in the present state is counted and changes nothing.

use std::time::Duration;

use super::{
    call::{Call, State},
    delivery::{Received, Schedule},
    ending::Ending,
    input::{EffectKind, TopicRef},
    machine::{ARRIVING, MAX_CALLS, Machine, Out},
    participant::WelcomeOut,
    signal::{
        Body, CallBody, Hello, HelloKind, MediaFormat, Packet, SUITE_CLASSICAL, Status, VERSION, Welcome,
    },
};
use crate::{
    config::WhenBusy,
    event::{EndReason, Event, Milestone, NodeState},
    id::{CallId, PublicKey},
    time::Instant,
};

/// A stored second message is repeated at most this often.
const WELCOME_EVERY: Duration = Duration::from_millis(250);

/// First messages of one sender that wait for confirmation. A caller has one; the rest is room for a second device and
/// for calls that were cancelled and made again within [`ARRIVING`].
const MAX_ARRIVING_EACH: usize = 4;

/// Opus frame lengths that an answer may name, in milliseconds (RFC 7587 section 4.2, those of 10 ms and more).
const FRAMES: [u8; 4] = [10, 20, 40, 60];

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
    pub(super) fn on_hello(&mut self, now: Instant, hello: Hello, out: &mut Out<'_>) {
        if hello.from == self.own || self.shutting_down {
            self.counters.unexpected += 1;
            return;
        }
        match hello.kind {
            HelloKind::Offer => self.on_offer(now, hello, out),
            HelloKind::Cancel => self.on_cancel(now, &hello, out),
            // Pairing, resuming and missed-call notices belong to groups and persistence.
            HelloKind::Pair | HelloKind::Resume | HelloKind::Missed => self.counters.unexpected += 1,
        }
    }

    fn on_offer(&mut self, now: Instant, hello: Hello, out: &mut Out<'_>) {
        if self.ended.contains(&hello.call) {
            self.counters.late += 1;
            return;
        }
        let arriving = |from| self.calls.values().filter(|c| c.is_arriving() && c.peer.key == from).count();
        if self.calls.contains_key(&hello.call)
            || arriving(hello.from) >= MAX_ARRIVING_EACH
            || !self.make_room(false, out)
        {
            self.counters.unexpected += 1;
            return;
        }
        let common = hello.versions.contains(&VERSION) && hello.suites.contains(&SUITE_CLASSICAL);
        let Some(media) = self.config.media.narrowed(hello.media).filter(|_| common) else {
            self.refuse(now, &hello, Status::Incompatible);
            out.emit(Event::Missed { call: hello.call, from: hello.from, reason: EndReason::Incompatible });
            return;
        };
        let state = State::Arriving { until: now + ARRIVING, ring_ms: hello.ring_ms };
        let mut call = Call::new(hello.call, hello.from, now, state, media);
        call.app_data = hello.app_data;
        call.sent_at = hello.sent_at;
        call.peer.mark(now, Milestone::Started);
        call.peer.welcome = Some(self.welcome(now, Status::Open));
        call.listening = true;
        self.calls.insert(hello.call, call);
        out.run(EffectKind::Subscribe(TopicRef::Peer { call: hello.call, owner: self.own }));
    }

    fn on_cancel(&mut self, now: Instant, hello: &Hello, out: &mut Out<'_>) {
        let from_caller = self.calls.get(&hello.call).map(|c| !c.ours && c.peer.key == hello.from);
        match from_caller {
            Some(false) => self.counters.unexpected += 1,
            Some(true) => {
                self.end(now, hello.call, Ending::theirs(EndReason::Cancelled), out);
                let welcome = self.welcome(now, Status::Cancelled);
                if let Some(call) = self.calls.get_mut(&hello.call) {
                    call.peer.welcome = Some(welcome);
                }
            }
            // It overtook its offer, or came again: the call id is spent either way.
            None => self.answer_once(now, hello.call, hello.from, Status::Cancelled, out),
        }
    }

    pub(super) fn on_hello_again(&mut self, now: Instant, id: CallId, from: PublicKey) {
        self.counters.duplicate += 1;
        if let Some(call) = self.calls.get_mut(&id).filter(|c| c.peer.key == from)
            && let Some(welcome) = &mut call.peer.welcome
        {
            let free = welcome.last.map_or(now, |t| (t + WELCOME_EVERY).max(now));
            welcome.schedule.next = Some(welcome.schedule.next.map_or(free, |t| t.min(free)));
        }
    }

    pub(super) fn on_welcome(
        &mut self,
        now: Instant,
        id: CallId,
        from: PublicKey,
        welcome: &Welcome,
        out: &mut Out<'_>,
    ) {
        let Some(call) =
            self.calls.get_mut(&id).filter(|c| c.ours && c.peer.key == from && c.peer.hello.is_some())
        else {
            self.counters.unexpected += 1;
            return;
        };
        call.peer.hello = None;
        if matches!(call.state, State::Outgoing { .. }) {
            self.tell_offering(id, out);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        let acceptable = welcome.version == VERSION && welcome.suite == SUITE_CLASSICAL;
        match (welcome.status, &call.state) {
            (Status::Open, State::Outgoing { .. }) if acceptable => {
                call.peer.delivery.confirm();
                call.peer.mark(now, Milestone::Answered);
                call.peer.mark(now, Milestone::Confirmed);
                Self::say(call, &mut self.counters, now, 0, Body::Confirm);
                self.start_link(now, id, out);
            }
            (Status::Open, State::Leaving { .. }) => {
                // Withdrawn before it was answered: the session can say so.
                call.peer.delivery.confirm();
                call.said_it = true;
                Self::say(call, &mut self.counters, now, 0, Body::Cancel);
            }
            (Status::Busy, State::Outgoing { .. }) => self.end(now, id, Ending::theirs(EndReason::Busy), out),
            (Status::Cancelled, State::Leaving { .. }) => self.forget(id, out),
            (_, State::Outgoing { .. }) => self.end(now, id, Ending::theirs(EndReason::Incompatible), out),
            _ => self.counters.unexpected += 1,
        }
    }

    pub(super) fn on_packet(&mut self, now: Instant, from: PublicKey, packet: Packet, out: &mut Out<'_>) {
        let id = packet.call;
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.peer.key == from) else {
            self.counters.unexpected += 1;
            return;
        };
        let confirms = !call.peer.delivery.is_confirmed();
        if confirms {
            if call.ours {
                // Our side confirms at message 2; the driver has no session before that.
                self.counters.unexpected += 1;
                return;
            }
            call.peer.delivery.confirm();
            call.peer.welcome = None;
            call.peer.mark(now, Milestone::Confirmed);
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
        if confirms {
            self.ring(now, id, out);
        }
    }

    /// The caller has proven that it is there: ring, or say busy.
    fn ring(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        // Whatever is configured, there stays room for a call of our own.
        let busy = self.pending() >= self.config.max_pending.min(MAX_CALLS - 1)
            || (self.config.when_busy == WhenBusy::Reject && self.under_way().is_some());
        let Some(call) = self.calls.get_mut(&id) else { return };
        let State::Arriving { ring_ms, .. } = call.state else { return };
        let from = call.peer.key;
        if busy {
            self.missed(now, id, from, EndReason::Busy, out);
            return;
        }
        let ring = Duration::from_millis(ring_ms.into()).min(self.config.max_ring);
        call.state = State::Incoming { ring_until: now + ring };
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
                    let ending = Ending::nobodys(EndReason::Incompatible, Some(Body::Incompatible));
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
                self.end(now, id, Ending::nobodys(EndReason::Incompatible, None), out);
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
            TopicRef::Inbox(peer) => {
                for call in self.calls.values_mut().filter(|c| c.peer.key == peer) {
                    if let Some(hello) = &mut call.peer.hello {
                        hello.schedule.somebody_came(now);
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
                    call.announce_at = Some(now);
                }
            }
        }
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

    /// An answer to a first message, to be sent now.
    fn welcome(&self, now: Instant, status: Status) -> WelcomeOut {
        let welcome = Welcome { node: self.node, version: VERSION, suite: SUITE_CLASSICAL, status };
        WelcomeOut { welcome, schedule: Schedule::at(now), last: None }
    }

    /// Answers an offer that leads to no call. The answer may be lost, so it is kept for the farewell time, to be
    /// repeated when the offer is.
    fn refuse(&mut self, now: Instant, hello: &Hello, status: Status) {
        let state = State::Leaving { until: now + self.config.farewell };
        let mut call = Call::new(hello.call, hello.from, now, state, self.config.media);
        call.peer.welcome = Some(self.welcome(now, status));
        self.calls.insert(hello.call, call);
        self.remember_ended(hello.call);
    }

    /// Answers a cancel of an unknown call, and keeps nothing but that its id is spent: if the answer is lost, the
    /// cancel comes again and is answered anew.
    fn answer_once(&mut self, now: Instant, call: CallId, to: PublicKey, status: Status, out: &mut Out<'_>) {
        let welcome = self.welcome(now, status).welcome;
        out.run(EffectKind::SendWelcome { call, to, welcome });
        out.run(EffectKind::Forget { call });
        self.remember_ended(call);
    }
}
