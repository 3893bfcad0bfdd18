//! First messages and their answers: who may ring, when it rings, and in what session.
//!
//! The order is PROTOCOL's: admission comes first and refuses in silence; what follows is told to the caller, who was let in.

use std::time::Duration;

use super::{
    call::{Call, State},
    effect::{EffectKind, SessionNo},
    ending::Ending,
    input::Arrived,
    machine::{ARRIVING, MAX_CALLS, Machine, Out, Purpose},
    participant::{Participant, Stage, WelcomeOut},
    schedule::Schedule,
    sessions::Held,
    signal::{Body, Hello, HelloKind, MediaFormat, SUITE_CLASSICAL, SUITE_HYBRID, Status, VERSION, Welcome},
    turning::TurnErrand,
};
use crate::{
    config::PostQuantum,
    event::{EndReason, Event, Milestone, Mismatch, Protection},
    id::{CallId, PublicKey},
    time::{Instant, UnixTime},
};

/// A stored second message is repeated at most this often.
const WELCOME_EVERY: Duration = Duration::from_millis(250);

/// First messages of one sender that wait for confirmation. A caller has one; the rest is room for a second device and
/// for calls that were cancelled and made again within [`ARRIVING`].
const MAX_ARRIVING_EACH: usize = 4;

/// First messages of strangers that wait for confirmation. They leave half of all places to contacts and own calls.
pub(super) const MAX_ARRIVING_STRANGERS: usize = MAX_CALLS / 2;

/// The app is told of a stranger's incompatible offer at most this often: a person who sees one in ten seconds has seen
/// enough of them.
const STRANGERS_TOLD: Duration = Duration::from_secs(10);

/// How the signals of a suite are protected.
pub(super) fn protection(suite: u8) -> Protection {
    if suite == SUITE_HYBRID { Protection::PostQuantum } else { Protection::Classical }
}

/// Which side is behind, if the versions have none in common.
fn mismatch(theirs: &[u8]) -> Option<Mismatch> {
    if theirs.contains(&VERSION) {
        return None;
    }
    Some(match theirs.iter().filter(|v| **v > VERSION).min() {
        Some(version) => Mismatch::PeerIsNewer { version: *version },
        None => Mismatch::PeerIsOlder { version: theirs.iter().copied().max().unwrap_or_default() },
    })
}

impl Machine {
    pub(super) fn on_hello(&mut self, now: Instant, arrived: Arrived, out: &mut Out<'_>) {
        let hello = &arrived.hello;
        if hello.from == self.own || self.shutting_down {
            self.counters.unexpected += 1;
            return;
        }
        if hello.kind == HelloKind::Turn {
            return self.on_turn_hello(now, arrived, out);
        }
        // Who was let in into a call may also withdraw it, or come back to it. And whom we are calling may call us: of two
        // calls that cross theirs may be the one that stays, and if it were refused neither would come about.
        let calling = |c: &Call| c.is_outgoing() && c.is_with(&hello.from);
        // Whoever calls back somebody who has left makes a phone ring, as any caller does.
        let rings = |c: &Call| hello.kind == HelloKind::Offer && c.is_left();
        let in_it =
            self.calls.get(&hello.call).is_some_and(|c| c.peers.contains_key(&hello.from) && !rings(c));
        let admitted = if self.calls.values().any(calling) {
            true
        } else if in_it {
            !self.people.is_blocked(&hello.from)
        } else {
            self.people.admits(&self.config.admission, &hello.from, arrived.verdict)
        };
        if !admitted {
            self.counters.refused.admission += 1;
            return;
        }
        match hello.kind {
            HelloKind::Offer => self.on_offer(now, arrived, out),
            HelloKind::Cancel => self.on_cancel(now, hello, arrived.suite, out),
            HelloKind::Pair | HelloKind::Resume => self.on_reopen(now, &arrived, out),
            HelloKind::Missed => self.on_notice(now, arrived, out),
            // Somebody else decides about these.
            HelloKind::Turn => {}
        }
    }

    fn on_offer(&mut self, now: Instant, arrived: Arrived, out: &mut Out<'_>) {
        let Arrived { hello, suite, wall, .. } = arrived;
        let (id, from) = (hello.call, hello.from);
        // Whoever declined, left or was removed may be invited again. A late repetition looks the same, and is never
        // confirmed.
        let again = self.ended.contains(&id);
        self.counters.late += u64::from(again);
        if let Some(call) = self.calls.get(&id) {
            let answered = call.peers.get(&from).and_then(|p| p.welcome.as_ref()).map(|w| w.session);
            match answered {
                // The same offer over the other lane: the answer to the first one was lost, and opens this one as well.
                Some(session) if call.caller_is(&from) => self.on_hello_again(now, id, from, session),
                None if call.is_active() || call.is_left() => {
                    self.on_reopen(now, &Arrived { hello, suite, wall, verdict: None }, out)
                }
                _ => self.counters.unexpected += 1,
            }
            return;
        }
        let contact = self.people.is_contact(&from);
        if !self.has_place_for(&from, contact) || !self.make_room(contact, out) {
            self.counters.refused.crowded += 1;
            return;
        }
        let media = match self.agreed(&hello, suite) {
            Ok(media) => media,
            Err((status, mismatch)) => {
                self.refuse(now, &hello, suite, status);
                // It is not confirmed, and may be a replay: strangers cannot fill the app's list with it.
                if contact || self.strangers_told.is_none_or(|t| now.since(t) >= STRANGERS_TOLD) {
                    if !contact {
                        self.strangers_told = Some(now);
                    }
                    let reason = EndReason::Incompatible { mismatch };
                    out.emit(Event::Missed { call: id, from, reason, ago: None });
                }
                return;
            }
        };
        let state = State::Arriving { until: now + ARRIVING, ring_ms: hello.ring_ms };
        let mut call = Call::of(from, id, now, state, media);
        call.app_data = hello.app_data;
        call.sent_at = hello.sent_at;
        call.crossed = self.calls.values().any(|c| c.is_outgoing() && c.is_with(&from));
        self.arrive(now, call, &from, suite, HelloKind::Offer, out);
        if contact && !again {
            let fresh = self.memory.is_fresh(id, hello.sent_at, wall);
            let purpose = if fresh { Purpose::Remember { call: id } } else { Purpose::Other };
            self.note(id, hello.sent_at, purpose, out);
        }
    }

    /// A first message that opens a call here: it is answered, and the call waits for its sender to confirm.
    pub(super) fn arrive(
        &mut self,
        now: Instant,
        mut call: Call,
        from: &PublicKey,
        suite: u8,
        kind: HelloKind,
        out: &mut Out<'_>,
    ) {
        if let Some(p) = call.peers.get_mut(from) {
            p.mark(now, Milestone::Started);
            p.protection = Some(protection(suite));
            let session = p.new_session();
            p.welcome = Some(self.welcome(now, Status::Open, suite, session, kind));
        }
        let id = call.id;
        Self::listen(id, self.own, &mut call, out);
        self.calls.insert(id, call);
    }

    /// Writes down that a call was heard, unless that could not make a replay of it ring.
    pub(super) fn note(&mut self, id: CallId, sent_at: UnixTime, purpose: Purpose, out: &mut Out<'_>) {
        // One that is not fresh now can become so: its caller's clock was ahead.
        if self.memory.is_new(id, sent_at) {
            self.memory.remember(id, sent_at);
            out.push(purpose, EffectKind::Remember { call: id, sent_at });
        }
    }

    /// Whether one more first message of that sender may wait for confirmation.
    pub(super) fn has_place_for(&self, from: &PublicKey, contact: bool) -> bool {
        let arriving = |who: &dyn Fn(&PublicKey) -> bool| {
            self.calls.values().filter(|c| c.is_arriving() && c.caller.is_some_and(|key| who(&key))).count()
        };
        arriving(&|key| key == from) < MAX_ARRIVING_EACH
            && (contact || arriving(&|key| !self.people.is_contact(key)) < MAX_ARRIVING_STRANGERS)
    }

    /// The audio that both sides can do, or why the two apps do not go together.
    pub(super) fn agreed(&self, hello: &Hello, suite: u8) -> Result<MediaFormat, (Status, Mismatch)> {
        if let Some(mismatch) = mismatch(&hello.versions) {
            return Err((Status::Version, mismatch));
        }
        let required = self.config.post_quantum == PostQuantum::Require && suite != SUITE_HYBRID;
        if required || !hello.suites.contains(&suite) {
            return Err((Status::Suite, Mismatch::Protection));
        }
        self.config.media.narrowed(hello.media).ok_or((Status::Incompatible, Mismatch::Media))
    }

    /// What was written down cannot be forgotten any more: a contact's call rings without waiting for confirmation.
    pub(super) fn on_remembered(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        if self.calls.get(&id).is_some_and(Call::is_arriving) {
            self.ring(now, id, out);
        }
    }

    fn on_cancel(&mut self, now: Instant, hello: &Hello, suite: u8, out: &mut Out<'_>) {
        let (id, from) = (hello.call, hello.from);
        // Whoever is in the call already was not called off in time.
        let rings = |c: &Call| c.is_arriving() || c.is_incoming() || c.is_leaving() || c.is_pair();
        let from_caller = self.calls.get(&id).map(|c| c.caller_is(&from) && rings(c));
        match from_caller {
            Some(false) => self.counters.unexpected += 1,
            Some(true) => {
                self.end(now, id, Ending::by(EndReason::Cancelled, Some(from)), out);
                let session = self.peer_mut(id, &from).map(Participant::new_session).unwrap_or_default();
                let welcome = self.welcome(now, Status::Cancelled, suite, session, HelloKind::Cancel);
                if let Some(p) = self.peer_mut(id, &from) {
                    p.welcome = Some(welcome);
                }
            }
            // It overtook its offer, or came again: the call id is spent either way.
            None => self.answer_once(now, id, from, suite, HelloKind::Cancel, out),
        }
    }

    pub(super) fn on_hello_again(&mut self, now: Instant, id: CallId, from: PublicKey, session: SessionNo) {
        self.counters.duplicate += 1;
        if let Some(p) = self.peer_mut(id, &from)
            && let Some(welcome) = p.welcome.as_mut().filter(|w| w.session == session)
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
        session: SessionNo,
        welcome: &Welcome,
        out: &mut Out<'_>,
    ) {
        // The offer's answer may come after its withdrawal has taken its place.
        let awaited = |p: &Participant| p.hello.as_ref().is_some_and(|h| h.session.0 >= session.0);
        let asked = self.peer(id, &from).filter(|p| awaited(p)).and_then(|p| p.hello.as_ref());
        let Some(kind) = asked.map(|h| h.hello.kind) else {
            self.counters.unexpected += 1;
            return;
        };
        if let Some(p) = self.peer_mut(id, &from)
            && let Some(hello) = p.hello.take()
        {
            hello.answered(now, &mut p.delivery);
        }
        if self.peer(id, &from).is_some_and(Participant::is_called) {
            self.tell_offering(id, &from, out);
        }
        let acceptable =
            welcome.version == VERSION && [SUITE_CLASSICAL, SUITE_HYBRID].contains(&welcome.suite);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (active, leaving, left) =
            (call.is_active(), call.is_leaving(), matches!(call.state, State::Left { .. }));
        let (notice, asks) = (call.notice.is_some(), call.turn == Some(TurnErrand::Asks));
        let Some(p) = call.peers.get_mut(&from) else { return };
        // A withdrawal that is on its way says of which kind the session is no more.
        let offered = kind == HelloKind::Cancel || kind == HelloKind::Offer;
        let held = Held { no: session, kind: if offered { HelloKind::Offer } else { kind }, ours: true };
        match (welcome.status, p.stage) {
            (Status::Open, Stage::Called { .. }) if acceptable => {
                self.session_opened(now, id, &from, (held, welcome.suite), out);
                self.send_roll(now, id, &from);
                self.start_link(now, id, &from, out);
            }
            (Status::Open, _) if notice && leaving => {
                self.session_opened(now, id, &from, (held, welcome.suite), out);
                self.say(now, id, &from, 0, Body::Confirm);
                if let Some(p) = self.peer_mut(id, &from) {
                    p.said_it = true;
                }
            }
            (Status::Open, _) if asks && leaving && acceptable => {
                self.session_opened(now, id, &from, (held, welcome.suite), out);
                self.say(now, id, &from, 0, Body::Confirm);
            }
            (Status::Cancelled, _) if notice && leaving => {
                self.delivered(id, &from, out);
                self.part(id, out);
            }
            (Status::Open, Stage::Out(_)) if offered => {
                // Withdrawn before it was answered: the session can say so.
                p.confirmed(now, held);
                p.said_it = true;
                self.say(now, id, &from, 0, Body::Cancel);
            }
            (Status::Open, _) if acceptable && (active || left) && !offered => {
                self.session_opened(now, id, &from, (held, welcome.suite), out);
                self.on_paired(now, id, &from, out);
            }
            (Status::Busy, Stage::Called { .. }) => {
                self.refused(now, id, &from, (EndReason::Busy, Some(from)), None, out);
            }
            (Status::Cancelled, Stage::Out(_)) if leaving => self.part(id, out),
            (Status::Cancelled, Stage::Out(_)) => {}
            (status, Stage::Called { .. }) => {
                let mismatch = match status {
                    Status::Open | Status::Version if welcome.version > VERSION => {
                        Mismatch::PeerIsNewer { version: welcome.version }
                    }
                    Status::Open if welcome.version == VERSION => Mismatch::Protection,
                    Status::Open | Status::Version => Mismatch::PeerIsOlder { version: welcome.version },
                    Status::Suite => Mismatch::Protection,
                    _ => Mismatch::Media,
                };
                let reason = EndReason::Incompatible { mismatch };
                self.refused(now, id, &from, (reason, Some(from)), None, out);
            }
            _ => self.counters.unexpected += 1,
        }
    }

    /// A session of ours is confirmed.
    fn session_opened(
        &mut self,
        now: Instant,
        id: CallId,
        with: &PublicKey,
        (held, suite): (Held, u8),
        out: &mut Out<'_>,
    ) {
        let here_at = now + self.config.announce_period;
        let Some(p) = self.peer_mut(id, with) else { return };
        let dropped = p.confirmed(now, held);
        p.protection = Some(protection(suite));
        p.mark(now, Milestone::Answered);
        p.mark(now, Milestone::Confirmed);
        if p.is_called() {
            p.here_at = Some(here_at);
        }
        if let Some(session) = dropped {
            out.run(EffectKind::DropSession { call: id, peer: *with, session });
        }
    }

    /// An answer to a first message, to be sent now.
    pub(super) fn welcome(
        &self,
        now: Instant,
        status: Status,
        suite: u8,
        session: SessionNo,
        kind: HelloKind,
    ) -> WelcomeOut {
        let welcome = Welcome { node: self.node, version: VERSION, suite, status };
        let schedule = Schedule::at(now);
        WelcomeOut { welcome, session, kind, schedule, last: None, since: now, invites: None }
    }

    /// Answers an offer that leads to no call. The answer may be lost, so it is kept for the farewell time, to be
    /// repeated when the offer is.
    fn refuse(&mut self, now: Instant, hello: &Hello, suite: u8, status: Status) {
        let state = State::Leaving { until: now + self.config.farewell };
        let mut call = Call::of(hello.from, hello.call, now, state, self.config.media);
        if let Some(p) = call.peers.get_mut(&hello.from) {
            let session = p.new_session();
            p.welcome = Some(self.welcome(now, status, suite, session, HelloKind::Offer));
        }
        self.calls.insert(hello.call, call);
        self.remember_ended(hello.call);
    }

    /// Answers what leads to no call, and keeps nothing but that its id is spent: if the answer is lost, the same comes
    /// again and is answered anew.
    pub(super) fn answer_once(
        &mut self,
        now: Instant,
        call: CallId,
        to: PublicKey,
        suite: u8,
        kind: HelloKind,
        out: &mut Out<'_>,
    ) {
        let session = SessionNo(1);
        let welcome = self.welcome(now, Status::Cancelled, suite, session, kind).welcome;
        out.run(EffectKind::SendWelcome { call, to, session, welcome });
        out.run(EffectKind::Forget { call });
        self.remember_ended(call);
    }
}
