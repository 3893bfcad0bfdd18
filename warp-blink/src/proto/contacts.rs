//! Contacts: who is one, what they are given, and what happens to those who are blocked.

use super::{
    call::State,
    effect::{EffectKind, TopicRef},
    ending::Ending,
    machine::{Machine, Out},
    signal::{Body, Lane},
};
use crate::{
    config::PostQuantum,
    error::Rejected,
    event::{EndReason, Presence},
    id::{CallId, PublicKey},
    time::Instant,
};

impl Machine {
    /// The contacts.
    pub fn contacts(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.people.contacts()
    }

    pub(super) fn not_own(&self, peer: &PublicKey) -> Result<(), Rejected> {
        if *peer == self.own { Err(Rejected::OwnKey) } else { Ok(()) }
    }

    /// Gives somebody in an accepted call, once, what makes its next calls better: our ML-KEM key, and to a contact our
    /// token.
    pub(super) fn introduce(&mut self, now: Instant, id: CallId, peer: &PublicKey) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_active()) else { return };
        let Some(p) = call.peers.get_mut(peer) else { return };
        if std::mem::replace(&mut p.introduced, true) {
            return;
        }
        if self.config.post_quantum != PostQuantum::Off {
            self.say(now, id, peer, 0, Body::KemKey);
        }
        if self.people.is_contact(peer) {
            self.say(now, id, peer, 0, Body::Token);
        }
    }

    /// Gives our token to those in a call with us.
    pub(super) fn give_token(&mut self, now: Instant, to: impl Fn(&PublicKey) -> bool) {
        let in_it = |p: &&super::participant::Participant| {
            p.introduced && p.may_come() && self.people.is_contact(&p.key) && to(&p.key)
        };
        let all: Vec<(CallId, PublicKey)> = self
            .calls
            .values()
            .filter(|c| c.is_active())
            .flat_map(|c| c.peers.values().filter(in_it).map(|p| (c.id, p.key)))
            .collect();
        for (id, peer) in all {
            self.say(now, id, &peer, 0, Body::Token);
        }
    }

    /// A new token for all contacts: the one before opens nothing any more. Who is not in a call with us gets it in the
    /// next one, and until then calls over the strangers' lane.
    pub(super) fn rotate(&mut self, now: Instant, out: &mut Out<'_>) {
        // What is still on its way is sealed when it is sent, and would bring the new token to those who lose the old one.
        let all = self.calls.values_mut().flat_map(|c| c.peers.values_mut());
        all.for_each(|p| p.delivery.take_back(&Body::Token));
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
        let calls: Vec<(CallId, PublicKey)> = self
            .calls
            .values()
            .flat_map(|c| c.peers.keys().map(|key| (c.id, *key)))
            .filter(|(_, key)| self.people.is_blocked(key))
            .collect();
        for (id, key) in calls {
            let Some(call) = self.calls.get(&id) else { continue };
            match call.state {
                State::Outgoing | State::Active { .. } | State::Left { .. } if call.is_with(&key) => {
                    self.hang_up(now, id, out)
                }
                // Somebody else in a group: it goes on without what there was between the two.
                State::Outgoing | State::Active { .. } | State::Left { .. } => {
                    self.give_up(now, id, &key, Presence::Lost, None, out);
                }
                // To a caller who is blocked this looks like being offline.
                State::Incoming { .. } if call.caller_is(&key) => {
                    self.end(now, id, Ending::nobodys(EndReason::Declined, None), out);
                }
                State::Arriving { .. } => self.forget(id, out),
                State::Incoming { .. } | State::Leaving { .. } => {}
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
