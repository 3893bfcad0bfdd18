//! From accept to active, and from anything to the end.

use std::time::Duration;

use super::{
    call::State,
    input::{EffectKind, TopicRef},
    machine::{Machine, Out, Purpose},
    participant::HelloOut,
    signal::{AppData, Body, CallBody, HelloKind, SUITE_CLASSICAL},
};
use crate::{
    event::{EndReason, Event, LinkState, Milestone, ParticipantSummary, Summary},
    id::{CallId, PublicKey},
    time::Instant,
};

/// How long who shuts down still acknowledges what the other side said: its last words were sent before.
pub(super) const HEARD: Duration = Duration::from_millis(200);

/// How a call ends.
pub(super) struct Ending {
    pub(super) reason: EndReason,
    by: By,
    /// What the other side is told, if it does not know yet.
    say: Option<Body>,
    /// The app hears nothing: another call has taken its place.
    silent: bool,
}

enum By {
    Us,
    Them,
    Nobody,
}

impl Ending {
    pub(super) fn ours(reason: EndReason, say: Body) -> Self {
        Self { reason, by: By::Us, say: Some(say), silent: false }
    }

    pub(super) fn theirs(reason: EndReason) -> Self {
        Self { reason, by: By::Them, say: None, silent: false }
    }

    pub(super) fn nobodys(reason: EndReason, say: Option<Body>) -> Self {
        Self { reason, by: By::Nobody, say, silent: false }
    }

    /// One of two calls that the two sides made to each other, and not the one that stays.
    pub(super) fn merged() -> Self {
        Self { reason: EndReason::Cancelled, by: By::Nobody, say: Some(Body::Cancel), silent: true }
    }
}

impl Machine {
    /// Accepted: microphone and speaker open, the link starts if it has not.
    pub(super) fn activate(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        // The microphone is heard on every link there is, so there is one: others are made anew when they are accepted.
        let others: Vec<CallId> = self.calls.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.close_link(other, out);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        let peer = call.peer.key;
        call.state = State::Active {
            connect_until: (call.peer.link.state != LinkState::Connected)
                .then_some(now + self.config.connect_timeout),
            reconnect_until: None,
        };
        call.peer.ringing = false;
        call.peer.mark(now, Milestone::Accepted);
        call.audio = true;
        (self.local.open, self.local.listen_only) = (true, false);
        out.emit(Event::Accepted { call: id, peer, media: call.media });
        out.push(Purpose::Audio { call: id }, EffectKind::OpenAudio { call: id, media: call.media });
        if call.ours {
            // The creator makes the key of epoch 1; epoch 0 travelled in the first message and only rings.
            call.epoch = 1;
            call.announce_at = Some(now);
            out.run(EffectKind::NewCallKey { call: id, epoch: 1 });
            out.run(EffectKind::Subscribe(TopicRef::Call { call: id, epoch: 1 }));
            Self::say(call, &mut self.counters, now, 0, Body::CallKey(1));
        }
        self.introduce(now, id);
        self.start_link(now, id, out);
        self.note_joined(id, out);
    }

    /// Ends a call: the app hears it now, the other side as soon as the network allows.
    pub(super) fn end(&mut self, now: Instant, id: CallId, ending: Ending, out: &mut Out<'_>) {
        let own = self.own;
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.is_leaving() {
            return;
        }
        let was = call.phase();
        let incoming = matches!(call.state, State::Incoming { .. });
        let peer = call.peer.key;
        call.peer.mark(now, Milestone::Ended);
        call.offering |= ending.silent;
        self.close_link(id, out);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.audio {
            call.audio = false;
            self.local.open = false;
            out.run(EffectKind::CloseAudio { call: id });
        }
        if call.epoch > 0 && call.is_active() && ending.reason == EndReason::HungUp {
            out.run(EffectKind::SendCall { call: id, epoch: call.epoch, body: CallBody::Leave });
        }
        call.announce_at = None;
        call.peer.link.parked = Default::default();
        let stay = if self.shutting_down && ending.say.is_none() { HEARD } else { self.config.farewell };
        call.state = State::Leaving { until: now + stay };
        let (mut cancel, mut suite) = (None, SUITE_CLASSICAL);
        let given_up = match ending.say {
            // Of a call that rang on its first message alone, it is said as soon as its caller confirms.
            Some(body)
                if call.peer.delivery.is_confirmed() || (!call.ours && call.peer.welcome.is_some()) =>
            {
                call.said_it = true;
                call.peer.delivery.only(now, body)
            }
            Some(_) if call.ours => {
                // Nobody has answered the first message. A second one withdraws it, if it ever left this node; if the
                // answer to the first still comes, the session says it instead (`on_welcome`).
                if let Some(hello) = call.peer.hello.as_ref().filter(|h| h.published) {
                    (cancel, suite) = (Some(call.sent_at), hello.suite);
                }
                call.peer.hello = None;
                call.peer.delivery.clear()
            }
            // What arrived is acknowledged while the farewell lasts; nothing more is said.
            _ => {
                call.peer.hello = None;
                call.peer.welcome = None;
                call.peer.delivery.clear()
            }
        };
        self.counters.expired += given_up;
        if let Some(sent_at) = cancel
            && let Some(call) = self.calls.get(&id)
        {
            let hello = self.hello(call, HelloKind::Cancel, sent_at, AppData::default());
            if let Some(call) = self.calls.get_mut(&id) {
                let session = call.peer.new_session();
                call.peer.hello = Some(HelloOut::new(hello, suite, session, now));
            }
        }
        self.remember_ended(id);
        if was.is_some() && !ending.silent {
            self.tell_offering(id, out);
            if incoming && !matches!(ending.reason, EndReason::Declined) {
                out.emit(Event::Missed { call: id, from: peer, reason: ending.reason });
            }
            let by = match ending.by {
                By::Us => Some(own),
                By::Them => Some(peer),
                By::Nobody => None,
            };
            out.emit(Event::Ended { call: id, reason: ending.reason, by, summary: self.summary(id, peer) });
        }
    }

    /// Tells once, and before anything else of the call, that an offer of ours goes out: as soon as the callee's node is
    /// reached, or the offer has left some other way.
    pub(super) fn tell_offering(&mut self, id: CallId, out: &mut Out<'_>) {
        if let Some(call) = self.calls.get_mut(&id).filter(|c| c.ours)
            && !std::mem::replace(&mut call.offering, true)
        {
            out.emit(Event::Offering { call: id, peer: call.peer.key });
        }
    }

    /// A call that was over before it rang: its caller was busy-toned, or took it back.
    pub(super) fn missed(
        &mut self,
        now: Instant,
        id: CallId,
        from: PublicKey,
        reason: EndReason,
        out: &mut Out<'_>,
    ) {
        let body = matches!(reason, EndReason::Busy).then_some(Body::Busy);
        self.end(now, id, Ending::nobodys(reason, body), out);
        // Who took a call back and is on the line, or is being called, was not missed: the two calls crossed.
        let crossed = || self.calls.values().any(|c| c.is_under_way() && c.peer.key == from);
        if reason != EndReason::Cancelled || !crossed() {
            out.emit(Event::Missed { call: id, from, reason });
        }
    }

    /// Wipes what is left of an ended call.
    pub(super) fn forget(&mut self, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.remove(&id) else { return };
        if call.listening {
            out.run(EffectKind::Unsubscribe(TopicRef::Peer { call: id, owner: self.own }));
        }
        if call.epoch > 0 {
            out.run(EffectKind::Unsubscribe(TopicRef::Call { call: id, epoch: call.epoch }));
        }
        out.run(EffectKind::Forget { call: id });
        self.aliases.retain(|_, into| *into != id);
        self.remember_ended(id);
    }

    fn summary(&self, id: CallId, peer: PublicKey) -> Summary {
        let participants = self
            .calls
            .get(&id)
            .map(|c| ParticipantSummary {
                peer,
                timeline: c.peer.timeline.clone(),
                stats: c.peer.stats.clone(),
            })
            .into_iter()
            .collect();
        Summary { participants }
    }
}
