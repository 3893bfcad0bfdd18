//! Contacts: who is one, what they are given, and what happens to those who are blocked.

use super::{
    call::State,
    ending::Ending,
    input::{EffectKind, TopicRef},
    machine::{Machine, Out},
    signal::{Body, Lane},
};
use crate::{
    config::PostQuantum,
    error::Rejected,
    event::EndReason,
    id::{CallId, PublicKey},
    time::Instant,
};

impl Machine {
    pub(super) fn not_own(&self, peer: &PublicKey) -> Result<(), Rejected> {
        if *peer == self.own { Err(Rejected::OwnKey) } else { Ok(()) }
    }

    /// Gives the other side of an accepted call, once, what makes its next calls better: our ML-KEM key, and to a contact
    /// our token.
    pub(super) fn introduce(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_active()) else { return };
        if std::mem::replace(&mut call.introduced, true) {
            return;
        }
        let peer = call.peer.key;
        if self.config.post_quantum != PostQuantum::Off {
            Self::say(call, &mut self.counters, now, 0, Body::KemKey);
        }
        if self.people.is_contact(&peer) {
            Self::say(call, &mut self.counters, now, 0, Body::Token);
        }
    }

    /// Gives our token to those in a call with us.
    pub(super) fn give_token(&mut self, now: Instant, to: impl Fn(&PublicKey) -> bool) {
        let people = &self.people;
        for call in self.calls.values_mut().filter(|c| c.is_active()) {
            if people.is_contact(&call.peer.key) && to(&call.peer.key) {
                Self::say(call, &mut self.counters, now, 0, Body::Token);
            }
        }
    }

    /// A new token for all contacts: the one before opens nothing any more. Who is not in a call with us gets it in the
    /// next one, and until then calls over the strangers' lane.
    pub(super) fn rotate(&mut self, now: Instant, out: &mut Out<'_>) {
        // What is still on its way is sealed when it is sent, and would bring the new token to those who lose the old one.
        self.calls.values_mut().for_each(|c| c.peer.delivery.take_back(&Body::Token));
        let inbox = TopicRef::Inbox { owner: self.own, lane: Lane::Contacts };
        out.run(EffectKind::Unsubscribe(inbox));
        out.run(EffectKind::NewToken);
        out.run(EffectKind::Subscribe(inbox));
        self.give_token(now, |_| true);
    }

    pub(super) fn block(&mut self, now: Instant, peer: PublicKey, out: &mut Out<'_>) -> Result<(), Rejected> {
        self.not_own(&peer)?;
        let (known, contact) = (self.people.is_blocked(&peer), self.people.is_contact(&peer));
        self.people.block(&peer)?;
        let calls: Vec<CallId> =
            self.calls.values().filter(|c| self.people.is_blocked(&c.peer.key)).map(|c| c.id).collect();
        for id in calls {
            match self.calls.get(&id).map(|c| &c.state) {
                Some(State::Outgoing { .. } | State::Active { .. }) => self.hang_up(now, id, out),
                // To a caller who is blocked this looks like being offline.
                Some(State::Incoming { .. }) => {
                    self.end(now, id, Ending::nobodys(EndReason::Declined, None), out);
                }
                Some(State::Arriving { .. }) => self.forget(id, out),
                Some(State::Leaving { .. }) | None => {}
            }
        }
        // After the farewell of a call was queued, so that it does not bring the new token along.
        // Where the open inbox is closed, the token is all that contacts have: it is replaced only for those who had it.
        if contact || (!known && self.config.open_inbox) {
            self.rotate(now, out);
        }
        Ok(())
    }
}
