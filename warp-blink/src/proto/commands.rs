//! What the app may ask for, when, and what it does. A refused command changes nothing.

use super::{
    call::{Call, State},
    ending::{Ending, HEARD},
    input::{Command, EffectKind, TopicRef},
    machine::{MAX_CALLS, Machine, Out, Purpose},
    participant::HelloOut,
    signal::{AppData, Body, HelloKind, SUITE_CLASSICAL, SUITE_HYBRID},
};
use crate::{
    config::PostQuantum,
    error::Rejected,
    event::{EndReason, Event, Milestone},
    id::{CallId, PublicKey},
    time::{Instant, UnixTime},
};

impl Machine {
    pub(super) fn command(
        &mut self,
        now: Instant,
        command: Command,
        out: &mut Out<'_>,
    ) -> Result<(), Rejected> {
        if self.shutting_down {
            return Err(Rejected::ShuttingDown);
        }
        match self.resolved(command) {
            Command::Offer { call, to, app_data, sent_at } => {
                self.offer(now, call, &to, app_data, sent_at, out)
            }
            Command::Accept { call } => self.accept(now, call, out),
            Command::Decline { call } => {
                self.existing(call, |c| matches!(c.state, State::Incoming { .. }), Rejected::NotIncoming)?;
                self.end(now, call, Ending::ours(EndReason::Declined, Body::Decline), out);
                Ok(())
            }
            Command::Cancel { call } => {
                self.existing(call, |c| matches!(c.state, State::Outgoing { .. }), Rejected::NotOutgoing)?;
                self.end(now, call, Ending::ours(EndReason::Cancelled, Body::Cancel), out);
                Ok(())
            }
            Command::HangUp { call } => {
                self.existing(call, |c| c.phase().is_some(), Rejected::NoSuchCall)?;
                self.hang_up(now, call, out);
                Ok(())
            }
            Command::SetMuted(muted) => {
                self.local.muted = muted;
                out.run(EffectKind::SetMuted(muted));
                self.own_state_changed(now);
                Ok(())
            }
            Command::SetDeafened(deafened) => {
                self.local.deafened = deafened;
                out.run(EffectKind::SetDeafened(deafened));
                self.own_state_changed(now);
                Ok(())
            }
            Command::AddContact(peer) => {
                self.not_own(&peer)?;
                if self.people.add_contact(peer)? {
                    self.give_token(now, |key| *key == peer);
                }
                Ok(())
            }
            Command::RemoveContact(peer) => {
                if self.people.remove_contact(&peer) {
                    self.rotate(now, out);
                }
                Ok(())
            }
            Command::Block(peer) => self.block(now, peer, out),
            Command::Unblock(peer) => {
                self.people.unblock(&peer);
                Ok(())
            }
            Command::SetAdmission(admission) => {
                self.config.admission = admission;
                Ok(())
            }
            Command::Shutdown => {
                self.shutting_down = true;
                let calls: Vec<CallId> =
                    self.calls.values().filter(|c| c.phase().is_some()).map(|c| c.id).collect();
                for call in calls {
                    self.hang_up(now, call, out);
                }
                // What has not rung will not, and to its sender this looks like being offline.
                let unrung: Vec<CallId> =
                    self.calls.values().filter(|c| c.is_arriving()).map(|c| c.id).collect();
                for call in unrung {
                    self.forget(call, out);
                }
                // What the other side has ended is acknowledged a moment longer, and no more.
                for call in self.calls.values_mut().filter(|c| !c.said_it && c.peer.hello.is_none()) {
                    if let State::Leaving { until } = &mut call.state {
                        *until = (*until).min(now + HEARD);
                    }
                }
                // The node may be the app's own, and live on.
                self.inboxes().for_each(|inbox| out.run(EffectKind::Unsubscribe(inbox)));
                Ok(())
            }
        }
    }

    fn offer(
        &mut self,
        now: Instant,
        id: CallId,
        to: &[PublicKey],
        app_data: AppData,
        sent_at: UnixTime,
        out: &mut Out<'_>,
    ) -> Result<(), Rejected> {
        let peer = match to {
            [] => return Err(Rejected::NobodyToCall),
            _ if to.contains(&self.own) => return Err(Rejected::SelfCall),
            [peer] => *peer,
            more => return Err(Rejected::TooManyCallees(more.len())),
        };
        if let Some(active) = self.under_way() {
            return Err(Rejected::InCall(active));
        }
        if self.calls.contains_key(&id) || self.ended.contains(&id) || self.aliases.contains_key(&id) {
            return Err(Rejected::IdInUse(id));
        }
        let rings = |c: &&Call| matches!(c.state, State::Incoming { .. }) && c.peer.key == peer;
        if let Some(ringing) = self.calls.values().find(rings).map(|c| c.id) {
            // Who calls somebody whose call rings here means to talk to them.
            self.aliases.insert(id, ringing);
            out.emit(Event::Merged { call: id, into: ringing, peer });
            return self.accept(now, ringing, out);
        }
        let suite = match (self.config.post_quantum, self.people.known(&peer).kem) {
            (PostQuantum::Off, _) | (PostQuantum::Prefer, false) => SUITE_CLASSICAL,
            (PostQuantum::Require | PostQuantum::Prefer, true) => SUITE_HYBRID,
            (PostQuantum::Require, false) => return Err(Rejected::NoPostQuantumKey(peer)),
        };
        let state = State::Outgoing {
            ring_until: now + self.config.ring_timeout,
            reach_until: now + self.config.reach_timeout,
        };
        let mut call = Call::new(id, peer, now, state, self.config.media);
        call.ours = true;
        call.sent_at = sent_at;
        call.app_data = app_data.clone();
        call.peer.mark(now, Milestone::Started);
        let hello = self.hello(&call, HelloKind::Offer, sent_at, app_data);
        let session = call.peer.new_session();
        call.peer.hello = Some(HelloOut::new(hello, suite, session, now));
        for theirs in self.calls.values_mut().filter(|c| c.is_arriving() && c.peer.key == peer) {
            theirs.crossed = true;
        }
        // A farewell can wait for its last acknowledgement; a new call cannot.
        self.make_room(true, out);
        call.listening = true;
        self.calls.insert(id, call);
        out.run(EffectKind::Subscribe(TopicRef::Peer { call: id, owner: self.own }));
        out.push(Purpose::Reach { call: id, since: now }, EffectKind::Reach { peer });
        Ok(())
    }

    pub(super) fn accept(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) -> Result<(), Rejected> {
        self.existing(id, |c| matches!(c.state, State::Incoming { .. }), Rejected::NotIncoming)?;
        // Answering one call ends the one before, as call waiting on a telephone does.
        if let Some(other) = self.under_way() {
            self.hang_up(now, other, out);
        }
        if let Some(sent_at) = self.calls.get(&id).map(|c| c.sent_at) {
            // Who was a stranger may be a contact tomorrow.
            self.note(id, sent_at, Purpose::Other, out);
        }
        if let Some(call) = self.calls.get_mut(&id) {
            let media = call.media;
            Self::say(call, &mut self.counters, now, 0, Body::Accept(media));
        }
        self.activate(now, id, out);
        Ok(())
    }

    /// The same command with the id of the call that is meant.
    fn resolved(&self, mut command: Command) -> Command {
        if let Command::Accept { call }
        | Command::Decline { call }
        | Command::Cancel { call }
        | Command::HangUp { call } = &mut command
        {
            *call = self.aliases.get(call).copied().unwrap_or(*call);
        }
        command
    }

    /// Ends a call in the way that its state asks for.
    pub(super) fn hang_up(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let ending = match self.calls.get(&id).map(|c| &c.state) {
            Some(State::Outgoing { .. }) => Ending::ours(EndReason::Cancelled, Body::Cancel),
            Some(State::Incoming { .. }) => Ending::ours(EndReason::Declined, Body::Decline),
            _ => Ending::ours(EndReason::HungUp, Body::HangUp),
        };
        self.end(now, id, ending, out);
    }

    fn existing(
        &self,
        id: CallId,
        allowed: impl Fn(&Call) -> bool,
        refusal: impl Fn(CallId) -> Rejected,
    ) -> Result<(), Rejected> {
        match self.calls.get(&id) {
            Some(call) if call.phase().is_none() => Err(Rejected::NoSuchCall(id)),
            Some(call) if allowed(call) => Ok(()),
            Some(_) => Err(refusal(id)),
            None => Err(Rejected::NoSuchCall(id)),
        }
    }

    /// Keeps the number of calls within its bound by dropping the oldest farewell, first those with nothing to say;
    /// for a call of our own also the oldest first message that nobody confirmed.
    pub(super) fn make_room(&mut self, own: bool, out: &mut Out<'_>) -> bool {
        if self.calls.len() < MAX_CALLS {
            return true;
        }
        let says = |c: &Call| c.said_it || c.peer.hello.is_some();
        let farewells = self.calls.values().filter(|c| c.is_leaving()).min_by_key(|c| (says(c), c.since));
        let unrung = || self.calls.values().filter(|c| own && c.is_arriving()).min_by_key(|c| c.since);
        match farewells.or_else(unrung).map(|c| c.id) {
            Some(id) => {
                self.forget(id, out);
                true
            }
            None => false,
        }
    }

    fn own_state_changed(&mut self, now: Instant) {
        for call in self.calls.values_mut().filter(|c| c.is_active() && c.epoch > 0) {
            call.announce_version += 1;
            call.announce_at = Some(now);
        }
    }
}
