//! An offer that goes ahead: where nothing may connect before somebody accepts, the description of who will offer crosses all the same
//! while the other phone rings. It names no address. The other side keeps it and answers it together with its acceptance, so that no offer
//! has to follow: a round trip less until both hear each other.
//!
//! Candidates wait here for the acceptance, and an answer that overtakes it is not looked at, so nothing is sent to anybody who has not
//! accepted. The app hears of the link from then on, as if it began there.
//!
//! Only the caller of a call of two does so, if its key is the larger one. If it is the callee's, the offer goes together with the
//! acceptance in any case ([`preparing`](super::preparing)).

use std::{collections::VecDeque, time::Duration};

use super::{
    effect::{EffectKind, LinkCommand, LinkId},
    machine::{Machine, Out, Purpose},
    participant::Participant,
    signal::{Body, Description},
};
use crate::{
    event::LinkState,
    id::{CallId, PublicKey},
    time::Instant,
};

/// When the offer is made anew, with what was gathered for it. 20 s: some NATs forget a mapping that is not used after 30 s, and
/// simple-webrtc waits for an answer for 30 s.
const ANEW: Duration = Duration::from_secs(20);

/// The most that is kept to be said: as many candidates as the other side parks.
const MOST: usize = 64;

/// What waits for the acceptance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ahead {
    /// The offer is there.
    offered: bool,
    /// What is not said before.
    unsaid: VecDeque<Body>,
    /// An answer that came before.
    answer: Option<Description>,
}

impl Machine {
    /// Whether an offer to them may go ahead: who calls offers, and nothing may connect.
    pub(super) fn offers_ahead(&self, id: CallId, key: &PublicKey) -> bool {
        let calls = self.calls.get(&id).is_some_and(|c| c.is_outgoing() && c.is_pair());
        calls && self.own > *key && !self.connects_early(key)
    }

    /// Dials, and says no more than the description.
    pub(super) fn go_ahead(&mut self, now: Instant, link: LinkId) {
        if let Some(p) = self.linked(link) {
            (p.link.ahead, p.link.retry_at) = (Some(Ahead::default()), Some(now + ANEW));
        }
    }

    /// What was gathered has grown old, or is of other addresses or servers.
    pub(super) fn offer_anew(&mut self, now: Instant, id: CallId, key: &PublicKey, out: &mut Out<'_>) {
        self.close_link(id, key, out);
        let Some(p) = self.peer_mut(id, key) else { return };
        p.delivery.withdraw(Body::is_link);
        let link = p.dial(id, out);
        self.go_ahead(now, link);
        self.keep_silent(id, key, out);
    }

    /// The engine has made its offer. Whether it is one that goes ahead, of which the app does not hear yet.
    pub(super) fn offered_ahead(&mut self, link: LinkId) -> bool {
        let ahead = self.linked(link).and_then(|p| p.link.ahead.as_mut());
        ahead.map(|ahead| ahead.offered = true).is_some()
    }

    /// Says where this side can be reached, or keeps it back.
    pub(super) fn say_in_time(&mut self, now: Instant, link: LinkId, body: Body) {
        let Some(ahead) = self.linked(link).and_then(|p| p.link.ahead.as_mut()) else {
            self.say_link(now, link, body);
            return;
        };
        if ahead.unsaid.len() < MOST {
            ahead.unsaid.push_back(body);
        } else {
            self.counters.expired += 1;
        }
    }

    /// Keeps an answer that came before the acceptance. Whether it did.
    pub(super) fn is_too_early(&mut self, link: LinkId, answer: &Description) -> bool {
        let Some(ahead) = self.linked(link).and_then(|p| p.link.ahead.as_mut()) else { return false };
        ahead.answer.get_or_insert_with(|| answer.clone());
        true
    }

    /// Its engine has given up. Another link is made on accept.
    pub(super) fn fall_back(&mut self, link: LinkId, out: &mut Out<'_>) {
        self.close_link(link.call, &link.peer, out);
        if let Some(p) = self.peer_mut(link.call, &link.peer) {
            p.delivery.withdraw(Body::is_link);
        }
    }

    /// They have accepted: everything is said, and what they said is used. Whether there was such a link.
    pub(super) fn come_forward(
        &mut self,
        now: Instant,
        id: CallId,
        key: &PublicKey,
        out: &mut Out<'_>,
    ) -> bool {
        let until = now + self.config.connect_timeout;
        let Some(p) = self.peer_mut(id, key).filter(|p| p.link.open) else { return false };
        let Some(Ahead { offered, unsaid, answer }) = p.link.ahead.take() else { return false };
        let link = LinkId { call: id, peer: *key, generation: p.link.generation };
        p.link.retry_at = None;
        p.link.until.get_or_insert(until);
        if offered {
            self.set_link(now, id, key, LinkState::OfferCreated, out);
            self.set_link(now, id, key, LinkState::OfferSent, out);
        }
        for body in unsaid {
            self.say(now, id, key, link.generation, body);
        }
        if let Some(answer) = answer {
            self.use_answer(now, link, answer, out);
        }
        self.tell(id, key, out);
        true
    }

    /// The answer to our offer.
    pub(super) fn use_answer(&mut self, now: Instant, link: LinkId, answer: Description, out: &mut Out<'_>) {
        let Some(p) = self.linked(link) else { return };
        p.link.answered = true;
        out.push(Purpose::Link(link), EffectKind::Link { link, command: LinkCommand::Apply(answer) });
        self.set_link(now, link.call, &link.peer, LinkState::AnswerReceived, out);
    }
}

impl Participant {
    /// Begins the next link.
    pub(super) fn dial(&mut self, call: CallId, out: &mut Out<'_>) -> LinkId {
        self.link.begin(self.link.generation.saturating_add(1));
        let link = LinkId { call, peer: self.key, generation: self.link.generation };
        out.push(Purpose::Link(link), EffectKind::Link { link, command: LinkCommand::Dial });
        link
    }
}
