//! What the app may ask for, when, and what it does. A refused command changes nothing.

use super::{
    call::{Call, State},
    effect::{EffectKind, TopicRef},
    ending::{Ending, HEARD},
    input::{Command, Other},
    machine::{MAX_CALLS, Machine, Out, Purpose},
    signal::Body,
};
use crate::{
    error::Rejected,
    event::{EndReason, LocalMedia},
    id::{CallId, PublicKey},
    time::Instant,
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
            Command::Offer { call, create, to, app_data, sent_at } => {
                self.offer(now, (call, create), &to, app_data, sent_at, out)
            }
            Command::Accept { call, other } => self.accept(now, call, other, out),
            Command::Decline { call } => {
                self.existing(call, Call::is_incoming, Rejected::NotIncoming)?;
                self.end(now, call, Ending::ours(EndReason::Declined, Body::Decline), out);
                Ok(())
            }
            Command::Cancel { call } => {
                self.existing(call, Call::is_outgoing, Rejected::NotOutgoing)?;
                self.end(now, call, Ending::ours(EndReason::Cancelled, Body::Cancel), out);
                Ok(())
            }
            // Of an earlier run, and not wanted any more.
            Command::HangUp { call } if self.saved.contains_key(&call) && !self.calls.contains_key(&call) => {
                self.saved.remove(&call);
                out.run(EffectKind::UnsaveCall { call });
                Ok(())
            }
            Command::HangUp { call } => {
                self.existing(call, |c| c.phase().is_some(), Rejected::NoSuchCall)?;
                self.hang_up(now, call, out);
                Ok(())
            }
            Command::Leave { call } => self.leave(now, call, out),
            Command::Rejoin { call, other } => self.rejoin(now, call, other, out),
            Command::Invite { call, to, app_data, sent_at } => {
                self.invite(now, call, &to, app_data, sent_at, out)
            }
            Command::Remove { call, peer } => self.remove(now, call, peer, out),
            Command::Export { call, peer } => self.export(call, peer),
            Command::AskTurn { call, friend } => self.ask_turn(now, call, friend, out),
            Command::Hold { call } => self.hold(now, call, out),
            Command::Unhold { call, other } => self.unhold(now, call, other, out),
            Command::Resume { call, sent_at, other } => self.resume(now, call, sent_at, other, out),
            Command::SetMuted(muted) => {
                out.run(EffectKind::SetMuted(muted));
                self.own_state(now, |local| local.muted = muted);
                Ok(())
            }
            Command::SetDeafened(deafened) => {
                out.run(EffectKind::SetDeafened(deafened));
                self.own_state(now, |local| local.deafened = deafened);
                Ok(())
            }
            Command::SetCamera(on) => {
                self.own_state(now, |local| local.camera = on);
                Ok(())
            }
            Command::SetScreen(on) => {
                self.own_state(now, |local| local.screen = on);
                Ok(())
            }
            Command::SetRecording(on) => {
                self.set_recording(now, on);
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
                self.shut_down(now, out);
                Ok(())
            }
        }
    }

    fn shut_down(&mut self, now: Instant, out: &mut Out<'_>) {
        self.shutting_down = true;
        let calls: Vec<CallId> = self.calls.values().filter(|c| c.phase().is_some()).map(|c| c.id).collect();
        for call in calls {
            self.hang_up(now, call, out);
        }
        // What has not rung will not, and to its sender this looks like being offline.
        // And nobody needs a relay any more.
        let over = |c: &&Call| c.is_arriving() || c.turn.is_some();
        let unrung: Vec<CallId> = self.calls.values().filter(over).map(|c| c.id).collect();
        for call in unrung {
            self.forget(call, out);
        }
        // What the other side has ended is acknowledged a moment longer, and no more.
        for call in self.calls.values_mut() {
            let says = call.peers.values().any(|p| p.said_it || p.hello.is_some());
            if let State::Leaving { until } = &mut call.state
                && !says
            {
                *until = (*until).min(now + HEARD);
            }
        }
        // The node may be the app's own, and live on.
        self.inboxes().for_each(|inbox| out.run(EffectKind::Unsubscribe(inbox)));
    }

    pub(super) fn accept(
        &mut self,
        now: Instant,
        id: CallId,
        other: Other,
        out: &mut Out<'_>,
    ) -> Result<(), Rejected> {
        self.existing(id, Call::is_incoming, Rejected::NotIncoming)?;
        self.make_way(now, other, out)?;
        let Some(call) = self.calls.get(&id) else { return Err(Rejected::NoSuchCall(id)) };
        let (sent_at, media, caller) = (call.sent_at, call.media, call.caller);
        // Who was a stranger may be a contact tomorrow.
        self.note(id, sent_at, Purpose::Other, out);
        if let Some(caller) = caller {
            self.say(now, id, &caller, 0, Body::Accept(media));
            self.activate(now, id, caller, out);
        }
        Ok(())
    }

    /// Ends or holds what is active, so that another call can be: as call waiting on a telephone does.
    pub(super) fn make_way(&mut self, now: Instant, other: Other, out: &mut Out<'_>) -> Result<(), Rejected> {
        match (self.under_way(), other) {
            (Some(active), Other::Hold) if self.calls.get(&active).is_some_and(Call::is_active) => {
                self.hold(now, active, out)
            }
            // A phone that rings at the other side cannot be held.
            (Some(active), _) => {
                self.hang_up(now, active, out);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    /// The same command with the id of the call that is meant.
    fn resolved(&self, mut command: Command) -> Command {
        if let Command::Accept { call, .. }
        | Command::Decline { call }
        | Command::Cancel { call }
        | Command::HangUp { call }
        | Command::Leave { call }
        | Command::Rejoin { call, .. }
        | Command::Invite { call, .. }
        | Command::Remove { call, .. }
        | Command::Export { call, .. }
        | Command::Hold { call }
        | Command::Unhold { call, .. } = &mut command
        {
            *call = self.aliases.get(call).copied().unwrap_or(*call);
        }
        command
    }

    /// Ends a call in the way that its state asks for.
    pub(super) fn hang_up(&mut self, now: Instant, id: CallId, out: &mut Out<'_>) {
        let ending = match self.calls.get(&id).map(|c| &c.state) {
            Some(State::Outgoing) => Ending::ours(EndReason::Cancelled, Body::Cancel),
            Some(State::Incoming { .. }) => Ending::ours(EndReason::Declined, Body::Decline),
            _ => {
                self.sign_off(now, id, out);
                Ending::ours(EndReason::HungUp, Body::HangUp)
            }
        };
        self.end(now, id, ending, out);
    }

    pub(super) fn existing(
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
        let says = |c: &Call| c.peers.values().any(|p| p.said_it || p.hello.is_some());
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

    /// Changes what this side tells of itself in calls.
    pub(super) fn own_state(&mut self, now: Instant, change: impl FnOnce(&mut LocalMedia)) {
        change(&mut self.local);
        for call in self.calls.values_mut().filter(|c| c.is_active()) {
            Self::news(now, call);
        }
    }

    /// What this side tells of itself in this call has changed.
    pub(super) fn news(now: Instant, call: &mut Call) {
        call.announce_at = Some(now);
    }

    pub(super) fn listen(id: CallId, own: PublicKey, call: &mut Call, out: &mut Out<'_>) {
        if !std::mem::replace(&mut call.listening, true) {
            out.run(EffectKind::Subscribe(TopicRef::Peer { call: id, owner: own }));
        }
    }
}
