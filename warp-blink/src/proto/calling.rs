//! Calling others: a new call to one or many, and more people into one that is under way.

use super::{
    call::{Call, State},
    effect::{EffectKind, TopicRef},
    ending::Ending,
    input::Other,
    machine::{ARRIVING, Machine, Out, Purpose},
    membership::Membership,
    participant::{HelloOut, Participant, Stage},
    signal::{
        AppData, Create, Hello, HelloKind, MAX_MEMBERS, MAX_SUBJECTS, Record, RecordKind, SUITE_CLASSICAL,
        SUITE_HYBRID,
    },
};
use crate::{
    config::PostQuantum,
    error::Rejected,
    event::{EndReason, Event, Milestone},
    id::{CallId, PublicKey},
    time::{Instant, UnixTime},
};

impl Machine {
    pub(super) fn offer(
        &mut self,
        now: Instant,
        (id, create): (CallId, Create),
        to: &[PublicKey],
        app_data: AppData,
        sent_at: UnixTime,
        out: &mut Out<'_>,
    ) -> Result<(), Rejected> {
        let to = self.callees(to)?;
        let most = create.most.min(MAX_MEMBERS as u8);
        if to.len() >= usize::from(most) {
            return Err(Rejected::CallFull { most });
        }
        if let Some(active) = self.under_way() {
            return Err(Rejected::InCall(active));
        }
        if self.calls.contains_key(&id) || self.ended.contains(&id) || self.aliases.contains_key(&id) {
            return Err(Rejected::IdInUse(id));
        }
        let alone = match to.as_slice() {
            [peer] => Some(*peer),
            _ => None,
        };
        let rings = |c: &&Call| c.is_incoming() && alone.is_some_and(|peer| c.is_with(&peer));
        if let Some((ringing, peer)) = self.calls.values().find(rings).map(|c| c.id).zip(alone) {
            // Who calls somebody whose call rings here means to talk to them.
            self.aliases.insert(id, ringing);
            out.emit(Event::Merged { call: id, into: ringing, peer });
            return self.accept(now, ringing, Other::End, out);
        }
        self.suites(&to)?;
        let mut call = Call::new(id, now, State::Outgoing, self.config.media);
        call.sent_at = sent_at;
        call.app_data = app_data;
        call.members = Some(Membership::new(create));
        if let Some(peer) = alone {
            for theirs in self.calls.values_mut().filter(|c| c.is_arriving() && c.caller_is(&peer)) {
                theirs.crossed = true;
            }
        }
        // A farewell can wait for its last acknowledgement; a new call cannot.
        self.make_room(true, out);
        Self::listen(id, self.own, &mut call, out);
        self.calls.insert(id, call);
        self.call_all(now, id, &to, sent_at, out);
        Ok(())
    }

    pub(super) fn invite(
        &mut self,
        now: Instant,
        id: CallId,
        to: &[PublicKey],
        app_data: AppData,
        sent_at: UnixTime,
        out: &mut Out<'_>,
    ) -> Result<(), Rejected> {
        self.existing(id, |c| c.is_active() || c.is_outgoing(), Rejected::NotActive)?;
        let to = self.callees(to)?;
        let Some(call) = self.calls.get(&id) else { return Err(Rejected::NoSuchCall(id)) };
        let Some(members) = call.members.as_ref().filter(|m| m.may_invite(&self.own)) else {
            return Err(Rejected::MayNotInvite(id));
        };
        // Whoever opens a session in the call is in it.
        let in_it = |p: &Participant| p.is_in() || p.is_called() || p.welcome.is_some();
        let there = |key: &&PublicKey| call.peers.get(key).is_some_and(in_it);
        if let Some(there) = to.iter().find(there) {
            return Err(Rejected::AlreadyInCall(*there));
        }
        let most = members.create().most.min(MAX_MEMBERS as u8);
        let more = to.iter().filter(|key| !members.is_present(key)).count();
        if members.present().count() + more > usize::from(most) {
            return Err(Rejected::CallFull { most });
        }
        if members.subjects() + more > MAX_SUBJECTS {
            return Err(Rejected::TooManySubjects(MAX_SUBJECTS));
        }
        self.suites(&to)?;
        if let Some(call) = self.calls.get_mut(&id) {
            call.app_data = app_data;
        }
        self.call_all(now, id, &to, sent_at, out);
        Ok(())
    }

    /// The offer goes out another way as well: a phone that has to be woken first takes longer than a node that is dialed.
    pub(super) fn export(&mut self, id: CallId, peer: PublicKey) -> Result<(), Rejected> {
        self.existing(id, |c| c.is_active() || c.is_outgoing(), Rejected::NotActive)?;
        let p = self.peer_mut(id, &peer).ok_or(Rejected::NotInCall(peer))?;
        let Stage::Called { ring_until, reach_until } = &mut p.stage else {
            return Err(Rejected::NotInCall(peer));
        };
        *reach_until = *ring_until;
        p.exported = true;
        Ok(())
    }

    /// Somebody of a call that was left from here calls this side into it, and has shown that they are there: what was
    /// before is over, and the phone rings as for any call.
    pub(super) fn begin_anew(&mut self, now: Instant, hello: &Hello, out: &mut Out<'_>) {
        let (id, from) = (hello.call, hello.from);
        if !self.calls.get(&id).is_some_and(Call::is_left) {
            return;
        }
        let Some(mut inviter) = self.peer(id, &from).cloned() else { return };
        let others = self.peers_in(id, |p| p.key != from);
        for key in others {
            self.wipe(id, &key, out);
        }
        self.end(now, id, Ending::nobodys(EndReason::HungUp, None), out);
        let Some(before) = self.calls.remove(&id) else { return };
        inviter.begin_anew(now);
        let state = State::Arriving { until: now + ARRIVING, ring_ms: hello.ring_ms };
        let media = self.config.media.narrowed(hello.media).unwrap_or(before.media);
        let mut call = Call::of(from, id, now, state, media);
        call.peers.insert(from, inviter);
        (call.app_data, call.sent_at) = (hello.app_data.clone(), hello.sent_at);
        (call.members, call.roll, call.listening) = (before.members, before.roll, before.listening);
        self.calls.insert(id, call);
    }

    /// Whom to call, each once.
    fn callees(&self, to: &[PublicKey]) -> Result<Vec<PublicKey>, Rejected> {
        if to.is_empty() {
            return Err(Rejected::NobodyToCall);
        }
        if to.contains(&self.own) {
            return Err(Rejected::SelfCall);
        }
        let mut to = to.to_vec();
        to.sort_unstable();
        to.dedup();
        Ok(to)
    }

    /// All of them can be called as post-quantum protection is configured.
    fn suites(&self, to: &[PublicKey]) -> Result<(), Rejected> {
        to.iter().try_for_each(|peer| self.suite(peer).map(drop))
    }

    /// In which suite a first message to somebody is sealed.
    pub(super) fn suite(&self, peer: &PublicKey) -> Result<u8, Rejected> {
        match (self.config.post_quantum, self.people.known(peer).kem) {
            (PostQuantum::Off, _) | (PostQuantum::Prefer, false) => Ok(SUITE_CLASSICAL),
            (PostQuantum::Require | PostQuantum::Prefer, true) => Ok(SUITE_HYBRID),
            (PostQuantum::Require, false) => Err(Rejected::NoPostQuantumKey(*peer)),
        }
    }

    fn call_all(&mut self, now: Instant, id: CallId, to: &[PublicKey], sent_at: UnixTime, out: &mut Out<'_>) {
        let own = self.own;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(members) = &mut call.members else { return };
        let mut records = Vec::new();
        for peer in to.iter().filter(|peer| !members.is_present(peer)) {
            let number = members.next_number(peer);
            records.push(Record { subject: *peer, number, kind: RecordKind::Add, by: own });
        }
        members.merge(&records);
        for record in records {
            out.run(EffectKind::Sign { call: id, record });
        }
        for peer in to {
            self.call_one(now, id, *peer, sent_at, out);
        }
        self.rolled(now, id, out);
        self.spread_roll(now, id, None);
    }

    /// Calls somebody who belongs to the call.
    fn call_one(&mut self, now: Instant, id: CallId, peer: PublicKey, sent_at: UnixTime, out: &mut Out<'_>) {
        let stage = Stage::Called {
            ring_until: now + self.config.ring_timeout,
            reach_until: now + self.config.reach_timeout,
        };
        // Whoever is called again begins anew: what was left of the time before is wiped.
        self.wipe(id, &peer, out);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let before = call.peers.get(&peer);
        let (sessions, generation) =
            (before.and_then(Participant::last_session), before.map_or(0, |p| p.link.generation));
        let mut participant = Participant::new(id, peer, stage);
        participant.sessions_from(sessions);
        participant.link.generation = generation;
        participant.mark(now, Milestone::Started);
        call.peers.insert(peer, participant);
        let app_data = call.app_data.clone();
        self.send_hello(now, id, peer, HelloKind::Offer, (sent_at, app_data));
        out.push(Purpose::Reach { call: id, peer, since: now }, EffectKind::Reach { peer });
        self.tell(id, &peer, out);
    }

    /// Puts a first message on its way.
    pub(super) fn send_hello(
        &mut self,
        now: Instant,
        id: CallId,
        peer: PublicKey,
        kind: HelloKind,
        (sent_at, app_data): (UnixTime, AppData),
    ) {
        // Without a key that is required it is not sent, as a call would not be.
        let Ok(suite) = self.suite(&peer) else {
            tracing::warn!(call = %id, "no post-quantum key of a participant is known, and one is required");
            return;
        };
        let Some(hello) = self.calls.get(&id).map(|call| self.hello(call, kind, sent_at, app_data)) else {
            return;
        };
        if let Some(p) = self.peer_mut(id, &peer) {
            let session = p.new_session();
            p.hello = Some(HelloOut::new(hello, suite, session, now));
        }
    }

    /// Wipes what is left of somebody's sessions and link in a call.
    pub(super) fn wipe(&mut self, id: CallId, peer: &PublicKey, out: &mut Out<'_>) {
        self.close_link(id, peer, out);
        let Some(p) = self.peer_mut(id, peer) else { return };
        p.wipe_at = None;
        // What they offered belongs to the session.
        p.link.parked = Default::default();
        if p.last_session().is_none() {
            return;
        }
        (p.session, p.retired, p.hello, p.welcome) = (None, None, None, None);
        let given_up = p.delivery.clear();
        p.delivery = super::delivery::Delivery::new(id);
        self.counters.expired += given_up;
        out.run(EffectKind::DropPeer { call: id, peer: *peer });
    }

    /// The topic where this side listens in that call.
    pub(super) fn own_topic(&self, call: CallId) -> TopicRef {
        TopicRef::Peer { call, owner: self.own }
    }
}
