//! Who is in a call: coming in, being lost, coming back, and what is left when all others are gone.

use std::time::Duration;

use super::{
    call::{Call, State},
    effect::EffectKind,
    ending::Ending,
    machine::{Machine, Out},
    participant::{Participant, Stage},
    signal::{AppData, Body, HelloKind, Sync},
};
use crate::{
    event::{EndReason, Event, LinkState, Presence},
    id::{CallId, PublicKey},
    time::{Instant, UnixTime},
};

/// After a link could not be made although the other side is heard, this long until it is tried once more, twice as long
/// each time, up to the longest.
const REVIVE: Duration = Duration::from_secs(5);
const REVIVE_MAX: Duration = Duration::from_secs(40);

/// The way out of a call that a reason stands for.
const fn presence(reason: EndReason) -> Presence {
    match reason {
        EndReason::Declined => Presence::Declined,
        EndReason::Busy => Presence::Busy,
        EndReason::TimedOut => Presence::NoAnswer,
        EndReason::Unreachable => Presence::Unreachable,
        EndReason::Incompatible { .. } => Presence::Incompatible,
        EndReason::Removed => Presence::Removed,
        _ => Presence::Left,
    }
}

impl Machine {
    /// Tells the app of somebody whom another member has brought into a call that it follows.
    pub(super) fn tell_invited(&self, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let follows = |c: &&Call| c.is_active() || c.is_outgoing();
        if let Some(p) = self.calls.get(&id).filter(follows).and_then(|c| c.peers.get(key)) {
            out.emit(Event::Participant { call: id, peer: *key, state: p.told });
        }
    }

    /// Tells the app what a participant does, if that has changed and the call is one that it follows.
    pub(super) fn tell(&mut self, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_active() || c.is_outgoing()) else { return };
        let pair = call.is_pair();
        let Some(p) = call.peers.get_mut(key) else { return };
        let state = p.state();
        // That it is called, that it rings, and where there is nobody else that it accepted, have events of their own.
        let told = matches!(state.presence, Presence::Calling | Presence::Ringing)
            || (pair && state.presence == Presence::Connecting && !p.joined);
        if std::mem::replace(&mut p.told, state) != state && !told {
            out.emit(Event::Participant { call: id, peer: *key, state });
        }
    }

    /// Somebody is in the call now: the link is made.
    pub(super) fn enter(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let until = now + self.config.connect_timeout;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let active = call.is_active();
        let Some(p) = call.peers.get_mut(key) else { return };
        p.stage = Stage::In;
        (p.ringing, p.wipe_at, p.here_at) = (false, None, None);
        (p.link.attempts, p.link.failed) = (0, None);
        if active && p.link.state != LinkState::Connected {
            p.link.until = Some(until);
        }
        if let State::Active { empty_until } = &mut call.state {
            *empty_until = None;
        }
        self.start_link(now, id, key, out);
        self.note_joined(now, id, key, out);
        self.tell(id, key, out);
        self.look_around(now, id, out);
    }

    /// Tells that the participant joined, once both have accepted and the link is up.
    pub(super) fn note_joined(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_active()) else { return };
        let Some(p) = call.peers.get_mut(key).filter(|p| p.is_in()) else { return };
        if p.link.state == LinkState::Connected {
            p.joined = true;
            p.losses = 0;
            (p.link.until, p.revive_at) = (None, None);
            call.connected_at.get_or_insert(now);
            self.tell(id, key, out);
        }
    }

    /// A participant has not been connected for too long.
    pub(super) fn lose(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let Some(p) = self.peer(id, key) else { return };
        let came_back = self.calls.get(&id).is_some_and(Call::ours) && p.session.is_none();
        let reason = match p.joined {
            true => EndReason::Lost,
            // Nothing is heard of them: the call to which this side came back is over.
            false if came_back => EndReason::Unreachable,
            false => EndReason::Failed { step: p.link.step() },
        };
        self.lose_for(now, id, key, reason, out);
    }

    /// A participant cannot be talked to, for this reason.
    pub(super) fn lose_for(
        &mut self,
        now: Instant,
        id: CallId,
        key: &PublicKey,
        reason: EndReason,
        out: &mut Out<'_>,
    ) {
        self.note_failure(now, id, Some(*key), reason);
        if self.calls.get(&id).is_some_and(|c| c.is_with(key)) {
            self.end(now, id, Ending::nobodys(reason, Some(Body::LinkLost)), out);
            return;
        }
        self.close_link(id, key, out);
        let Some(p) = self.peer_mut(id, key) else { return };
        p.stage = Stage::Lost;
        p.joined = false;
        (p.link.until, p.link.retry_at, p.announced) = (None, None, None);
        let wait = (REVIVE * 2u32.saturating_pow(p.losses.min(8))).min(REVIVE_MAX);
        p.losses = p.losses.saturating_add(1);
        p.revive_at = Some(now + wait);
        self.tell(id, key, out);
        self.send_sync(now, id, key);
        if let Some(call) = self.calls.get_mut(&id) {
            call.search_at = Some(now);
        }
        self.look_around(now, id, out);
    }

    /// Something is heard of a participant: whoever was lost, or was never met, is in the call.
    pub(super) fn heard_of(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        let silent = now + self.config.reconnect_window;
        let elsewhere = |c: &Call| c.id != id && c.peers.get(key).is_some_and(|p| p.link.open);
        let elsewhere = self.calls.values().any(elsewhere);
        let Some(p) = self.peer_mut(id, key) else { return };
        match p.stage {
            // The one link between the two is another call's.
            Stage::In if elsewhere && p.link.until.is_some() => p.link.until = Some(silent),
            // It was another call's, and is no more.
            Stage::In if !elsewhere && !p.link.open => self.start_link(now, id, key, out),
            Stage::Lost if p.revive_at.is_none_or(|t| t <= now) && p.session.is_some() => {
                self.enter(now, id, key, out);
            }
            Stage::Expected if p.session.is_some() => self.enter(now, id, key, out),
            _ => {}
        }
    }

    /// What this side knows of the call, in short, so that the two can agree. It is sent until it arrives, so it is also
    /// what finds a participant again after a cut.
    pub(super) fn send_sync(&mut self, now: Instant, id: CallId, to: &PublicKey) {
        let Some(call) = self.calls.get(&id).filter(|c| c.is_active()) else { return };
        let Some(p) = call.peers.get(to).filter(|p| p.session.is_some() && p.may_come()) else { return };
        let sync = Sync {
            roll: call.roll,
            epoch: call.epochs.used().map(|e| e.id).unwrap_or_default(),
            generation: p.link.generation,
        };
        if !call.waits(to, |b| matches!(b, Body::Sync(s) if *s == sync))
            && let Some(p) = self.peer_mut(id, to)
        {
            p.delivery.say_instead(now, 0, |b| matches!(b, Body::Sync(_)), Body::Sync(sync));
        }
    }

    /// What another member knows of the call.
    pub(super) fn on_sync(
        &mut self,
        now: Instant,
        id: CallId,
        from: &PublicKey,
        sync: Sync,
        out: &mut Out<'_>,
    ) {
        // Of two who met before, one may have forgotten how far their links had come.
        let larger = self.own > *from;
        let unanswered = |p: &Participant| p.link.open && !p.link.answered && !p.link.was_connected;
        let stale = |p: &&mut Participant| larger && unanswered(p) && p.link.generation <= sync.generation;
        if self.peer_mut(id, from).filter(stale).is_some() {
            self.close_link(id, from, out);
        }
        if let Some(p) = self.peer_mut(id, from)
            && !p.link.open
        {
            p.link.generation = p.link.generation.max(sync.generation);
        }
        self.differs(now, id, from, sync.roll);
        let used = self.calls.get(&id).and_then(|c| c.epochs.used()).map(|e| e.id);
        if used.is_some_and(|used| used != sync.epoch) {
            self.share_key(now, id, from);
        }
        self.heard_of(now, id, from, out);
        self.start_link(now, id, from, out);
    }

    /// Somebody who was called will not come, or is gone. `last` is what they are told.
    pub(super) fn give_up(
        &mut self,
        now: Instant,
        id: CallId,
        key: &PublicKey,
        as_what: Presence,
        last: Option<Body>,
        out: &mut Out<'_>,
    ) {
        let farewell = now + self.config.farewell;
        // The last word, and nothing else that waits, goes over the link before it is closed.
        if let Some(p) = self.peer_mut(id, key) {
            let given_up = match &last {
                Some(body) if p.delivery.is_confirmed() => {
                    p.said_it = true;
                    p.delivery.only(now, body.clone())
                }
                _ => p.delivery.clear(),
            };
            self.counters.expired += given_up;
        }
        self.close_link(id, key, out);
        self.note_gone(id, key);
        self.not_reached(id, key, out);
        self.tell_offering(id, key, out);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let sent_at = call.sent_at;
        let Some(p) = call.peers.get_mut(key) else { return };
        p.stage = Stage::Out(as_what);
        (p.ringing, p.joined, p.pair_at, p.here_at) = (false, false, None, None);
        (p.link.until, p.link.retry_at, p.announced) = (None, None, None);
        p.link.parked = Default::default();
        let published = p.hello.as_ref().is_some_and(|h| h.published);
        p.hello = None;
        p.wipe_at = Some(farewell);
        match last {
            Some(_) if p.said_it => {}
            Some(_) if published => {
                self.send_hello(now, id, *key, HelloKind::Cancel, (sent_at, AppData::default()))
            }
            None if as_what == Presence::Removed => self.wipe(id, key, out),
            _ => {}
        }
        self.tell(id, key, out);
        self.look_around(now, id, out);
    }

    /// A participant whom this side called does not come, for this reason.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        id: CallId,
        key: &PublicKey,
        (reason, by): (EndReason, Option<PublicKey>),
        last: Option<Body>,
        out: &mut Out<'_>,
    ) {
        let others = |c: &Call| c.peers.values().any(|p| p.key != *key && p.is_called());
        if self.calls.get(&id).is_some_and(|c| c.is_outgoing() && !others(c)) {
            self.end(now, id, Ending::of(reason, by, last), out);
            return;
        }
        self.note_failure(now, id, Some(*key), reason);
        self.give_up(now, id, key, presence(reason), last, out);
    }

    /// Whether anybody else is left in an active call.
    pub(super) fn look_around(&mut self, now: Instant, id: CallId, _: &mut Out<'_>) {
        let grace = now + self.config.empty_call_grace;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let anybody = call.peers.values().any(|p| p.is_in() || p.is_called());
        if let State::Active { empty_until } = &mut call.state {
            *empty_until = if anybody { None } else { Some(empty_until.unwrap_or(grace)) };
        }
    }

    /// Nobody came back.
    pub(super) fn empty(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get(&id) else { return };
        let met = call.connected_at.is_some();
        let lost = call.peers.values().any(|p| p.stage == Stage::Lost);
        let reason = match (met, lost) {
            (false, true) => EndReason::Unreachable,
            (true, true) => EndReason::Lost,
            _ => EndReason::HungUp,
        };
        self.sign_off(now, id, out);
        self.end(now, id, Ending::nobodys(reason, Some(Body::HangUp)), out);
    }

    /// Opens microphone and speaker for a call.
    pub(super) fn open_audio(&mut self, id: CallId, out: &mut Out<'_>) {
        // The microphone is heard on every link there is. Links of calls that are held send nothing; others are closed, and
        // made anew when their calls are accepted.
        let others: Vec<(CallId, PublicKey)> = self
            .calls
            .values()
            .filter(|c| c.id != id && !c.held)
            .flat_map(|c| c.peers.keys().map(|key| (c.id, *key)))
            .collect();
        for (other, key) in others {
            self.close_link(other, &key, out);
        }
        let Some(call) = self.calls.get_mut(&id).filter(|c| !c.audio) else { return };
        call.audio = true;
        let media = call.media;
        (self.local.open, self.local.listen_only) = (true, false);
        out.push(super::machine::Purpose::Audio { call: id }, EffectKind::OpenAudio { call: id, media });
    }

    /// Closes microphone and speaker, if they are open for that call.
    pub(super) fn silence(&mut self, id: CallId, out: &mut Out<'_>) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.audio) else { return };
        call.audio = false;
        (self.local.open, self.local.speaking) = (false, false);
        (self.local.microphone, self.local.speaker) = (None, None);
        self.sound = None;
        self.record_no_more(id);
        out.run(EffectKind::CloseAudio { call: id });
    }

    /// When nothing is known of the time, calls began at the epoch.
    pub(super) fn unix(&self, now: Instant) -> UnixTime {
        self.wall.map_or(UnixTime::default(), |(wall, at)| {
            let passed = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
            UnixTime::from_millis(wall.as_millis().saturating_add(passed))
        })
    }

    pub(super) fn peers_in(&self, id: CallId, which: impl Fn(&Participant) -> bool) -> Vec<PublicKey> {
        let Some(call) = self.calls.get(&id) else { return Vec::new() };
        call.peers.values().filter(|p| which(p)).map(|p| p.key).collect()
    }
}
