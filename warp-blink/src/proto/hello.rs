//! First messages and their answers: who may ring, when it rings, and in what session.
//!
//! The order is PROTOCOL's: admission comes first and refuses in silence; what follows is told to the caller, who was let in.

use std::time::Duration;

use super::{
    call::{Call, State},
    delivery::Schedule,
    ending::Ending,
    input::{Arrived, EffectKind, SessionNo, TopicRef},
    machine::{ARRIVING, MAX_CALLS, Machine, Out, Purpose},
    participant::WelcomeOut,
    sessions::Held,
    signal::{Body, Hello, HelloKind, SUITE_CLASSICAL, SUITE_HYBRID, Status, VERSION, Welcome},
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
        // Who was let in into a call may also withdraw it, or come back to it. And whom we are calling may call us: of two
        // calls that cross theirs may be the one that stays, and if it were refused neither would come about.
        let calling =
            |c: &Call| c.ours && matches!(c.state, State::Outgoing { .. }) && c.peer.key == hello.from;
        let in_it = self.calls.get(&hello.call).is_some_and(|c| c.peer.key == hello.from);
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
            // The notice of a missed call comes with its delivery over real reach.
            HelloKind::Missed => self.counters.unexpected += 1,
        }
    }

    fn on_offer(&mut self, now: Instant, arrived: Arrived, out: &mut Out<'_>) {
        let Arrived { hello, suite, wall, .. } = arrived;
        let (id, from) = (hello.call, hello.from);
        if self.ended.contains(&id) {
            self.counters.late += 1;
            return;
        }
        if let Some(call) = self.calls.get(&id) {
            match call.peer.welcome.as_ref().map(|w| w.session) {
                // The same offer over the other lane: the answer to the first one was lost, and opens this one as well.
                Some(session) if call.peer.key == from && !call.ours => {
                    self.on_hello_again(now, id, from, session);
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
                    out.emit(Event::Missed { call: id, from, reason: EndReason::Incompatible { mismatch } });
                }
                return;
            }
        };
        let state = State::Arriving { until: now + ARRIVING, ring_ms: hello.ring_ms };
        let mut call = Call::new(id, from, now, state, media);
        call.app_data = hello.app_data;
        call.sent_at = hello.sent_at;
        call.peer.mark(now, Milestone::Started);
        let ours = |c: &Call| c.ours && matches!(c.state, State::Outgoing { .. }) && c.peer.key == from;
        call.crossed = self.calls.values().any(ours);
        call.peer.protection = Some(protection(suite));
        call.peer.welcome =
            Some(self.welcome(now, Status::Open, suite, call.peer.new_session(), HelloKind::Offer));
        call.listening = true;
        self.calls.insert(id, call);
        out.run(EffectKind::Subscribe(TopicRef::Peer { call: id, owner: self.own }));
        if contact {
            let fresh = self.memory.is_fresh(id, hello.sent_at, wall);
            let purpose = if fresh { Purpose::Remember { call: id } } else { Purpose::Other };
            self.note(id, hello.sent_at, purpose, out);
        }
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
    fn has_place_for(&self, from: &PublicKey, contact: bool) -> bool {
        let arriving = |who: &dyn Fn(&PublicKey) -> bool| {
            self.calls.values().filter(|c| c.is_arriving() && who(&c.peer.key)).count()
        };
        arriving(&|key| key == from) < MAX_ARRIVING_EACH
            && (contact || arriving(&|key| !self.people.is_contact(key)) < MAX_ARRIVING_STRANGERS)
    }

    /// The audio that both sides can do, or why the two apps do not go together.
    fn agreed(&self, hello: &Hello, suite: u8) -> Result<super::signal::MediaFormat, (Status, Mismatch)> {
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
        let from_caller = self.calls.get(&hello.call).map(|c| !c.ours && c.peer.key == hello.from);
        match from_caller {
            Some(false) => self.counters.unexpected += 1,
            Some(true) => {
                self.end(now, hello.call, Ending::theirs(EndReason::Cancelled), out);
                let session = self.calls.get_mut(&hello.call).map(|c| c.peer.new_session());
                let welcome = self.welcome(
                    now,
                    Status::Cancelled,
                    suite,
                    session.unwrap_or_default(),
                    HelloKind::Cancel,
                );
                if let Some(call) = self.calls.get_mut(&hello.call) {
                    call.peer.welcome = Some(welcome);
                }
            }
            // It overtook its offer, or came again: the call id is spent either way.
            None => self.answer_once(now, hello.call, hello.from, suite, out),
        }
    }

    /// A participant opens another session in a call that is under way: it came back, or both opened one at once.
    fn on_reopen(&mut self, now: Instant, arrived: &Arrived, out: &mut Out<'_>) {
        let Arrived { hello, suite, .. } = arrived;
        let known = |c: &&mut Call| c.is_active() && c.peer.key == hello.from && c.peer.session.is_some();
        if self.agreed(hello, *suite).is_err() {
            self.counters.unexpected += 1;
            return;
        }
        let Some(session) = self.calls.get_mut(&hello.call).filter(known).map(|c| c.peer.new_session())
        else {
            self.counters.unexpected += 1;
            return;
        };
        let welcome = self.welcome(now, Status::Open, *suite, session, hello.kind);
        let unconfirmed = self.calls.get_mut(&hello.call).and_then(|call| call.peer.welcome.replace(welcome));
        if let Some(replaced) = unconfirmed {
            let (call, session) = (hello.call, replaced.session);
            out.run(EffectKind::DropSession { call, peer: hello.from, session });
        }
    }

    pub(super) fn on_hello_again(&mut self, now: Instant, id: CallId, from: PublicKey, session: SessionNo) {
        self.counters.duplicate += 1;
        if let Some(call) = self.calls.get_mut(&id).filter(|c| c.peer.key == from)
            && let Some(welcome) = call.peer.welcome.as_mut().filter(|w| w.session == session)
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
        let smaller = self.own < from;
        let asked = |c: &&mut Call| {
            let hello = c.peer.hello.as_ref();
            // The offer's answer may come after its withdrawal has taken its place.
            let awaited = hello.is_some_and(|h| h.session.0 >= session.0);
            c.ours && c.peer.key == from && awaited
        };
        let Some(call) = self.calls.get_mut(&id).filter(asked) else {
            self.counters.unexpected += 1;
            return;
        };
        call.peer.hello = None;
        if matches!(call.state, State::Outgoing { .. }) {
            self.tell_offering(id, out);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        let held = Held { no: session, kind: HelloKind::Offer, ours: true };
        let acceptable =
            welcome.version == VERSION && [SUITE_CLASSICAL, SUITE_HYBRID].contains(&welcome.suite);
        match (welcome.status, &call.state) {
            (Status::Open, State::Outgoing { .. }) if acceptable => {
                call.peer.confirmed(now, held, smaller);
                call.peer.protection = Some(protection(welcome.suite));
                call.peer.mark(now, Milestone::Answered);
                call.peer.mark(now, Milestone::Confirmed);
                Self::say(call, &mut self.counters, now, 0, Body::Confirm);
                self.start_link(now, id, out);
            }
            (Status::Open, State::Leaving { .. }) => {
                // Withdrawn before it was answered: the session can say so.
                call.peer.confirmed(now, held, smaller);
                call.said_it = true;
                Self::say(call, &mut self.counters, now, 0, Body::Cancel);
            }
            (Status::Busy, State::Outgoing { .. }) => self.end(now, id, Ending::theirs(EndReason::Busy), out),
            (Status::Cancelled, State::Leaving { .. }) => self.forget(id, out),
            (status, State::Outgoing { .. }) => {
                let mismatch = match status {
                    Status::Open | Status::Version if welcome.version > VERSION => {
                        Mismatch::PeerIsNewer { version: welcome.version }
                    }
                    Status::Open if welcome.version == VERSION => Mismatch::Protection,
                    Status::Open | Status::Version => Mismatch::PeerIsOlder { version: welcome.version },
                    Status::Suite => Mismatch::Protection,
                    _ => Mismatch::Media,
                };
                self.end(now, id, Ending::theirs(EndReason::Incompatible { mismatch }), out);
            }
            _ => self.counters.unexpected += 1,
        }
    }

    /// An answer to a first message, to be sent now.
    fn welcome(
        &self,
        now: Instant,
        status: Status,
        suite: u8,
        session: SessionNo,
        kind: HelloKind,
    ) -> WelcomeOut {
        let welcome = Welcome { node: self.node, version: VERSION, suite, status };
        WelcomeOut { welcome, session, kind, schedule: Schedule::at(now), last: None }
    }

    /// Answers an offer that leads to no call. The answer may be lost, so it is kept for the farewell time, to be
    /// repeated when the offer is.
    fn refuse(&mut self, now: Instant, hello: &Hello, suite: u8, status: Status) {
        let state = State::Leaving { until: now + self.config.farewell };
        let mut call = Call::new(hello.call, hello.from, now, state, self.config.media);
        call.peer.welcome = Some(self.welcome(now, status, suite, call.peer.new_session(), HelloKind::Offer));
        self.calls.insert(hello.call, call);
        self.remember_ended(hello.call);
    }

    /// Answers a cancel of an unknown call, and keeps nothing but that its id is spent: if the answer is lost, the
    /// cancel comes again and is answered anew.
    fn answer_once(&mut self, now: Instant, call: CallId, to: PublicKey, suite: u8, out: &mut Out<'_>) {
        let session = SessionNo(1);
        let welcome = self.welcome(now, Status::Cancelled, suite, session, HelloKind::Cancel).welcome;
        out.run(EffectKind::SendWelcome { call, to, session, welcome });
        out.run(EffectKind::Forget { call });
        self.remember_ended(call);
    }
}
