//! First messages and their answers.

use super::{Brought, Fresh, Open, Vault, VaultError};
use crate::{
    driver::{clock::random, door::Answered},
    id::{CallId, NodeId, PublicKey},
    proto::{
        Gift, SessionNo, TopicRef,
        signal::{Hello, HelloKind, Lane, SUITE_HYBRID, Status, Welcome},
    },
    wire::{CallKey, Door, HelloSecrets, Initiator, OpenError, Opened, Topic, WelcomeSecrets},
};

/// Who sent a first message, and how it came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) struct Sender {
    pub(in crate::driver) key: PublicKey,
    pub(in crate::driver) node: NodeId,
    /// The app brought it.
    pub(in crate::driver) pushed: bool,
}

impl Vault {
    /// The first message of this session over this lane, or the same again under a new salt, and where it goes.
    pub(in crate::driver) fn hello(
        &mut self,
        to: PublicKey,
        lane: Lane,
        suite: u8,
        session: SessionNo,
        hello: &Hello,
    ) -> Result<(Topic, Vec<u8>), VaultError> {
        let topic = self.topic(TopicRef::Inbox { owner: to, lane })?;
        let salt = random()?;
        let keys = self.call(hello.call)?;
        if let Some((_, initiator)) = keys.peers.get(&to).and_then(|p| p.initiators.get(&(session, lane))) {
            return Ok((topic, initiator.frame(salt)));
        }
        let call_key = match (hello.kind, &keys.ringing) {
            (HelloKind::Offer, Some(key)) => key.clone(),
            // Only an offer's is ever used.
            _ => CallKey::from_bytes(random()?),
        };
        if hello.kind == HelloKind::Offer {
            keys.ringing = Some(call_key.clone());
        }
        let secrets = HelloSecrets { peer_seed: keys.own_seed.clone(), call_key };
        let door = match lane {
            Lane::Strangers => Door::Strangers,
            Lane::Contacts => self.keys.door_of(&to).ok_or(VaultError::NoKey)?,
        };
        let kem = match suite {
            SUITE_HYBRID => Some((self.keys.kem_of(&to).ok_or(VaultError::NoKey)?, random()?)),
            _ => None,
        };
        let initiator = Initiator::start(self.keys.identity(), &to, &door, kem, hello, &secrets, random()?)?;
        let frame = initiator.frame(salt);
        let peer = self.call(hello.call)?.peers.entry(to).or_default();
        peer.initiators.insert((session, lane), (hello.kind, initiator));
        Ok((topic, frame))
    }

    /// The offer to somebody that nobody has answered so far, under a new salt, and its lane.
    pub(in crate::driver) fn unanswered_offer(
        &self,
        call: CallId,
        to: &PublicKey,
    ) -> Result<(Lane, Vec<u8>), VaultError> {
        let peer = self.calls.get(&call).and_then(|c| c.peers.get(to)).ok_or(VaultError::NoKey)?;
        let offers = peer.initiators.iter().filter(|(_, (kind, _))| *kind == HelloKind::Offer);
        let open = offers.filter(|((no, _), _)| !peer.sessions.contains_key(no));
        // Of the newest session; the contacts' lane comes first.
        let newest = open.max_by_key(|((no, lane), _)| (*no, *lane == Lane::Contacts));
        let ((_, lane), (_, initiator)) = newest.ok_or(VaultError::NoKey)?;
        Ok((*lane, initiator.frame(random()?)))
    }

    /// A first message was opened; its answer, if there will be one, comes within this step of the machine.
    pub(in crate::driver) fn arrived(&mut self, opened: Opened, pushed: bool) {
        self.fresh = Some(Fresh { opened, pushed });
    }

    /// The sender of the first message that was opened in this step, if it has no answer so far.
    pub(in crate::driver) fn unanswered(&self) -> Option<Sender> {
        let Fresh { opened, pushed } = self.fresh.as_ref()?;
        Some(Sender { key: opened.hello.from, node: opened.hello.node, pushed: *pushed })
    }

    /// The answer to the first message that just arrived, or the stored answer again under a new salt, and the topic
    /// that it goes to.
    pub(in crate::driver) fn welcome(
        &mut self,
        call: CallId,
        to: PublicKey,
        no: SessionNo,
        welcome: &Welcome,
    ) -> Result<(Topic, Vec<u8>), VaultError> {
        let fresh = self.fresh.take_if(|f| f.opened.hello.call == call && f.opened.hello.from == to);
        let Some(Fresh { opened, .. }) = fresh else {
            let peer = self.calls.get(&call).and_then(|c| c.peers.get(&to)).ok_or(VaultError::NoKey)?;
            let frame = peer.answers.get(&no).ok_or(VaultError::NoKey)?.frame(random()?);
            let seed = &peer.sessions.get(&no).ok_or(VaultError::NoKey)?.seed;
            return Ok((Topic::peer(seed), frame));
        };
        let (id, lane) = (opened.id, opened.lane);
        let seen = Answered { call, from: to, session: no };
        // Such a one is cheap and may come again: it is opened and answered anew, and opens no session.
        let once = opened.hello.kind == HelloKind::Cancel || welcome.status == Status::Cancelled;
        if !once
            && let Some(peer) = self.calls.get(&call).and_then(|c| c.peers.get(&to))
            && let Some((answer, open)) = peer.answers.get(&no).zip(peer.sessions.get(&no))
        {
            // The same offer over the other lane. Its caller may be in the session of the first answer by now: there is
            // one session, and one answer to it.
            let found = (Topic::peer(&open.seed), answer.frame(random()?));
            self.remember(lane, id, seen);
            return Ok(found);
        }
        let seed = opened.secrets.peer_seed.clone();
        let own = WelcomeSecrets { peer_seed: self.call(call)?.own_seed.clone() };
        let (session, answer) = opened.respond(welcome, &own, random()?)?;
        let frame = answer.frame(random()?);
        let topic = Topic::peer(&seed);
        if once {
            return Ok((topic, frame));
        }
        self.remember(lane, id, seen);
        let incoming = session.id();
        let peer = self.call(call)?.peers.entry(to).or_default();
        peer.answers.insert(no, answer);
        peer.sessions.insert(no, Open { session, seed });
        self.sessions.insert(incoming, (call, to, no));
        self.topics.insert(topic, TopicRef::Peer { call, owner: to });
        Ok((topic, frame))
    }

    /// Opens an answer to a first message of ours for that call, whoever it was to: for all but one this costs a hash.
    pub(in crate::driver) fn open_welcome(
        &mut self,
        call: CallId,
        frame: &[u8],
    ) -> Result<(PublicKey, SessionNo, Welcome), OpenError> {
        let keys = self.calls.get_mut(&call).ok_or(OpenError::Mac)?;
        let mut result = Err(OpenError::Mac);
        for (key, peer) in &mut keys.peers {
            for ((no, _), (kind, initiator)) in &mut peer.initiators {
                match initiator.finish(frame) {
                    Ok((session, welcome, secrets)) => {
                        // The first device that answers has the session; a withdrawal opens none.
                        if *kind != HelloKind::Cancel && !peer.sessions.contains_key(no) {
                            let topic = Topic::peer(&secrets.peer_seed);
                            self.sessions.insert(session.id(), (call, *key, *no));
                            self.topics.insert(topic, TopicRef::Peer { call, owner: *key });
                            peer.sessions.insert(*no, Open { session, seed: secrets.peer_seed });
                        }
                        return Ok((*key, *no, welcome));
                    }
                    // What came further says more than a MAC that is another handshake's.
                    Err(OpenError::Mac) => {}
                    Err(error) => result = Err(error),
                }
            }
        }
        result
    }

    /// Keeps what the packet of this step brought. `false` if there is nothing of the kind, or no room.
    pub(in crate::driver) fn keep(&mut self, peer: PublicKey, gift: Gift) -> bool {
        match self.brought.take() {
            Some(Brought::Gift(from, attachment)) if from == peer => self.keys.keep(peer, gift, attachment),
            other => {
                self.brought = other;
                false
            }
        }
    }
}
