//! From accept to active, and from anything to the end.

use std::time::Duration;

use super::{
    call::{Call, State},
    effect::EffectKind,
    machine::{Machine, Out},
    participant::{HelloOut, Stage},
    signal::{AppData, Body, CallBody, HelloKind},
};
use crate::{
    event::{EndReason, EndedCall, Event, MAX_ENDED_CALLS, Milestone, ParticipantSummary, Presence, Summary},
    id::{CallId, PublicKey},
    time::Instant,
};

/// How long who shuts down still acknowledges what the other side said: its last words were sent before.
pub(super) const HEARD: Duration = Duration::from_millis(200);

/// How a call ends.
pub(super) struct Ending {
    pub(super) reason: EndReason,
    by: By,
    /// What the others are told, if they do not know yet.
    say: Option<Body>,
    /// The app hears nothing: another call has taken its place.
    silent: bool,
}

#[derive(Clone, Copy)]
enum By {
    Us,
    Them(PublicKey),
    Nobody,
}

impl Ending {
    pub(super) fn ours(reason: EndReason, say: Body) -> Self {
        Self { reason, by: By::Us, say: Some(say), silent: false }
    }

    pub(super) fn by(reason: EndReason, who: Option<PublicKey>) -> Self {
        Self::of(reason, who, None)
    }

    pub(super) fn of(reason: EndReason, who: Option<PublicKey>, say: Option<Body>) -> Self {
        Self { reason, by: who.map_or(By::Nobody, By::Them), say, silent: false }
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
    /// Accepted, by us or by the first of those whom we called: microphone and speaker open, the link starts if it has not.
    pub(super) fn activate(&mut self, now: Instant, id: CallId, with: PublicKey, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (ours, media) = (call.ours(), call.media);
        call.state = State::Active { empty_until: None };
        self.saved.remove(&id);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(p) = call.peers.get_mut(&with) {
            p.mark(now, Milestone::Accepted);
        }
        out.emit(Event::Accepted { call: id, peer: with, media });
        self.open_audio(id, out);
        if ours && let Some(call) = self.calls.get_mut(&id) {
            // The creator makes the key of epoch 1; epoch 0 travelled in the first message and only rings.
            Self::make_key(call, out);
        }
        self.withdraw_notice(&with, out);
        self.rolled(now, id, out);
        self.introduce(now, id, &with);
        self.enter(now, id, &with, out);
        for key in self.calls.get(&id).map(Call::keys).unwrap_or_default() {
            self.tell(id, &key, out);
        }
        // Their leave may have overtaken their acceptance.
        self.follow(now, id, out);
    }

    /// One more of those whom we called has accepted.
    pub(super) fn admit(&mut self, now: Instant, id: CallId, peer: &PublicKey, out: &mut Out<'_>) {
        if let Some(p) = self.peer_mut(id, peer) {
            p.mark(now, Milestone::Accepted);
        }
        self.withdraw_notice(peer, out);
        self.enter(now, id, peer, out);
        self.share_key(now, id, peer);
        self.introduce(now, id, peer);
        self.bring_together(now, id, peer);
        self.follow(now, id, out);
    }

    /// Ends a call: the app hears it now, the others as soon as the network allows.
    pub(super) fn end(&mut self, now: Instant, id: CallId, ending: Ending, out: &mut Out<'_>) {
        let own = self.own;
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.is_leaving() {
            return;
        }
        let was = call.phase();
        let (incoming, caller) = (call.is_incoming(), call.caller);
        for p in call.peers.values_mut().filter(|p| p.may_come() || p.stage == Stage::Out(Presence::Left)) {
            p.mark(now, Milestone::Ended);
        }
        for p in call.peers.values_mut() {
            p.offering |= ending.silent;
        }
        self.silence(id, out);
        self.unsave(id, out);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let hung_up = call.is_active() && ending.reason == EndReason::HungUp && call.is_pair();
        if let Some(epoch) = call.epochs.sends().filter(|_| hung_up) {
            out.run(EffectKind::SendCall { call: id, epoch, body: CallBody::Leave });
        }
        (call.announce_at, call.rekey_at, call.held) = (None, None, false);
        let heard_of_it = matches!(ending.by, By::Them(_)) || ending.say.is_none();
        let stay = if self.shutting_down && heard_of_it { HEARD } else { self.config.farewell };
        call.state = State::Leaving { until: now + stay };
        for key in call.keys() {
            self.take_leave(now, id, &key, &ending, out);
            self.close_link(id, &key, out);
        }
        self.drop_keys(id, out);
        self.remember_ended(id);
        if was.is_some() && !ending.silent {
            for key in self.calls.get(&id).map(Call::keys).unwrap_or_default() {
                self.tell_offering(id, &key, out);
            }
            if let Some(from) = caller.filter(|_| incoming && ending.reason != EndReason::Declined) {
                out.emit(Event::Missed { call: id, from, reason: ending.reason, ago: None });
            }
            let by = match ending.by {
                By::Us => Some(own),
                By::Them(key) => Some(key),
                By::Nobody => None,
            };
            let summary = self.summary(now, id, ending.reason);
            self.note_failure(now, id, None, ending.reason);
            self.history.truncate(MAX_ENDED_CALLS - 1);
            self.history.push_front(EndedCall {
                id,
                at: now,
                reason: ending.reason,
                by,
                summary: summary.clone(),
            });
            out.emit(Event::Ended { call: id, reason: ending.reason, by, summary });
        }
    }

    /// The last that is said to a participant of a call that ends.
    fn take_leave(&mut self, now: Instant, id: CallId, key: &PublicKey, ending: &Ending, out: &mut Out<'_>) {
        if matches!(ending.by, By::Nobody | By::Us) && !ending.silent {
            self.not_reached(id, key, out);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (pair, ours, sent_at) = (call.is_pair(), call.ours(), call.sent_at);
        let roll = call.members.as_ref().map(super::membership::Membership::roll);
        let Some(p) = call.peers.get_mut(key) else { return };
        (p.pair_at, p.here_at, p.wipe_at, p.joined) = (None, None, None, false);
        p.link.parked = Default::default();
        (p.link.until, p.link.retry_at) = (None, None);
        let knows = matches!(ending.by, By::Them(who) if who == *key) && ending.say.is_none();
        let say = match (p.stage, &ending.say) {
            _ if knows => None,
            // They have been told.
            (Stage::Out(_), _) if p.said_it || (p.stage != Stage::Out(Presence::Left)) => return,
            // Whoever is still being called is not called any more, however the call ends for others.
            (Stage::Called { .. }, None | Some(Body::HangUp)) => Some(Body::Cancel),
            (Stage::Out(_), Some(Body::HangUp)) => Some(Body::HangUp),
            (Stage::Out(_), _) => None,
            (_, Some(Body::HangUp)) if !pair => roll.map(Body::Roll),
            (_, say) => say.clone(),
        };
        p.stage = match p.stage {
            Stage::Out(presence) => Stage::Out(presence),
            _ => Stage::Out(Presence::Left),
        };
        let (mut cancel, mut given_up) = (false, 0);
        match say {
            // Of a call that rang on its first message alone, it is said as soon as its caller confirms.
            Some(body) if p.delivery.is_confirmed() || (!ours && p.welcome.is_some()) => {
                p.said_it = true;
                p.hello = None;
                given_up = p.delivery.only(now, body);
            }
            // Nobody has answered the first message. A second one withdraws it, if it ever left this node; if the answer to
            // the first still comes, the session says it instead (`on_welcome`).
            Some(_) => {
                let offer = |h: &&HelloOut| h.published && h.hello.kind == HelloKind::Offer;
                cancel = p.hello.as_ref().filter(offer).is_some();
                p.hello = None;
                given_up = p.delivery.clear();
            }
            // What arrived is acknowledged while the farewell lasts; nothing more is said.
            None => {
                (p.hello, p.welcome) = (None, None);
                given_up += p.delivery.clear();
            }
        }
        self.counters.expired += given_up;
        if cancel {
            self.send_hello(now, id, *key, HelloKind::Cancel, (sent_at, AppData::default()));
        }
    }

    /// Tells once, and before anything else of a participant, that an offer of ours goes out: as soon as the callee's node
    /// is reached, or the offer has left some other way.
    pub(super) fn tell_offering(&mut self, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        if let Some(p) = self.peer_mut(id, key)
            && p.called
            && !std::mem::replace(&mut p.offering, true)
        {
            out.emit(Event::Offering { call: id, peer: *key });
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
        let ago = self.calls.get(&id).and_then(|c| c.notice);
        self.end(now, id, Ending::nobodys(reason, body), out);
        // Who took a call back and is on the line, or is being called, was not missed: the two calls crossed.
        let crossed = || self.calls.values().any(|c| c.is_under_way() && c.is_with(&from));
        if reason != EndReason::Cancelled || !crossed() {
            out.emit(Event::Missed { call: id, from, reason, ago });
        }
    }

    /// Wipes what is left of an ended call.
    pub(super) fn forget(&mut self, id: CallId, out: &mut Out<'_>) {
        self.drop_keys(id, out);
        let own_topic = self.own_topic(id);
        let Some(call) = self.calls.remove(&id) else { return };
        if call.listening {
            out.run(EffectKind::Unsubscribe(own_topic));
        }
        out.run(EffectKind::Forget { call: id });
        self.aliases.retain(|_, into| *into != id);
        self.remember_ended(id);
    }

    fn summary(&self, now: Instant, id: CallId, reason: EndReason) -> Summary {
        let Some(call) = self.calls.get(&id) else { return Summary::default() };
        let participants = call.peers.values().map(|p| ParticipantSummary {
            peer: p.key,
            timeline: p.timeline.clone(),
            stats: p.stats.clone(),
        });
        let failure = self.failure(now, id, call.only_peer().as_ref(), reason);
        Summary { participants: participants.collect(), failure }
    }
}
