//! The keys of every call, by call id: what the machine never sees.
//!
//! Everything here lives from the first signal of a call until the machine forgets it; then it is dropped, and what
//! is ours in it is overwritten. What outlives calls is in the [`keyring`](super::keyring).

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    clock::{NoRandomness, random},
    door::{Answered, Seen},
    keyring::Keyring,
};
use crate::{
    id::{CallId, NodeId, PublicKey},
    proto::{
        Gift, SessionNo, TopicRef,
        signal::{Body, CallBody, Hello, HelloKind, Lane, Packet, SUITE_HYBRID, Welcome},
    },
    wire::{
        self, Attachment, CallKey, CallRoom, Door, HandshakeId, HelloSecrets, Initiator, OpenError, Opened,
        PeerSeed, ResponderFrame, SealError, Session, SessionId, Topic, WelcomeSecrets,
    },
};

/// The epoch of the key that both sides of a call use from accept on.
const EPOCH: u32 = 1;

/// Why something could not be sealed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum VaultError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Random(#[from] NoRandomness),
    #[error("there is no key for that yet")]
    NoKey,
}

struct CallKeys {
    own_seed: PeerSeed,
    /// The version of the last call message of ours.
    said: u64,
    rooms: BTreeMap<u32, (CallKey, CallRoom)>,
    peer: Option<PeerKeys>,
}

struct PeerKeys {
    key: PublicKey,
    initiators: BTreeMap<(SessionNo, Lane), (HelloKind, Initiator)>,
    answers: BTreeMap<SessionNo, ResponderFrame>,
    sessions: BTreeMap<SessionNo, Open>,
    /// We made the call, and so its keys.
    ours: bool,
}

/// A session, and where its other side listens.
struct Open {
    session: Session,
    seed: PeerSeed,
}

/// What the last packet brought, and from whom.
type Brought = (PublicKey, Attachment);

pub(super) struct Vault {
    keys: Keyring,
    calls: BTreeMap<CallId, CallKeys>,
    /// A first message that was opened in this step; kept only if the machine answers it.
    fresh: Option<Opened>,
    /// What came with a packet of this step; kept only if the machine says so.
    brought: Option<Brought>,
    contacts_seen: Seen,
    strangers_seen: Seen,
    topics: BTreeMap<Topic, TopicRef>,
    sessions: BTreeMap<SessionId, (CallId, SessionNo)>,
}

impl Vault {
    pub(super) fn new(keys: Keyring) -> Self {
        Self {
            keys,
            calls: BTreeMap::new(),
            fresh: None,
            brought: None,
            contacts_seen: Seen::default(),
            strangers_seen: Seen::default(),
            topics: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    pub(super) fn keys(&self) -> &Keyring {
        &self.keys
    }

    pub(super) fn keys_mut(&mut self) -> &mut Keyring {
        &mut self.keys
    }

    fn own(&self) -> PublicKey {
        self.keys.identity().public()
    }

    pub(super) fn seen(&self, lane: Lane) -> &Seen {
        match lane {
            Lane::Contacts => &self.contacts_seen,
            Lane::Strangers => &self.strangers_seen,
        }
    }

    /// What a topic means here; `None` for one that is not ours (any more).
    pub(super) fn meaning(&self, topic: &Topic) -> Option<TopicRef> {
        self.topics.get(topic).copied()
    }

    /// The name of a topic, if its key is known.
    pub(super) fn topic(&mut self, meaning: TopicRef) -> Result<Topic, VaultError> {
        let own = self.own();
        let topic = match meaning {
            TopicRef::Inbox { owner, lane: Lane::Contacts } if owner == own => self.keys.contacts_inbox(),
            TopicRef::Inbox { owner, lane: Lane::Contacts } => {
                self.keys.door_of(&owner).ok_or(VaultError::NoKey)?.topic(&owner)
            }
            TopicRef::Inbox { owner, lane: Lane::Strangers } => Topic::inbox(&owner),
            TopicRef::Peer { call, owner } if owner == own => Topic::peer(&self.call(call)?.own_seed),
            TopicRef::Peer { call, owner } => {
                let peer = self.calls.get(&call).and_then(|c| c.peer.as_ref()).filter(|p| p.key == owner);
                let newest = peer.and_then(|p| p.sessions.values().next_back());
                Topic::peer(&newest.ok_or(VaultError::NoKey)?.seed)
            }
            TopicRef::Call { call, epoch } => self.room(call, epoch)?.topic(),
        };
        self.topics.insert(topic, meaning);
        Ok(topic)
    }

    /// The name of a topic that is not needed any more.
    pub(super) fn forget_topic(&mut self, meaning: TopicRef) -> Option<Topic> {
        let topic = *self.topics.iter().find(|(_, m)| **m == meaning)?.0;
        self.topics.remove(&topic);
        Some(topic)
    }

    fn call(&mut self, call: CallId) -> Result<&mut CallKeys, VaultError> {
        match self.calls.entry(call) {
            Entry::Occupied(keys) => Ok(keys.into_mut()),
            Entry::Vacant(place) => {
                let own_seed = PeerSeed::from_bytes(random()?);
                Ok(place.insert(CallKeys { own_seed, said: 0, rooms: BTreeMap::new(), peer: None }))
            }
        }
    }

    fn peer(&mut self, call: CallId, key: PublicKey) -> Result<&mut PeerKeys, VaultError> {
        let peer = self.call(call)?.peer.get_or_insert_with(|| PeerKeys {
            key,
            initiators: BTreeMap::new(),
            answers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ours: false,
        });
        if peer.key == key { Ok(peer) } else { Err(VaultError::NoKey) }
    }

    /// Makes the key of an epoch, unless it is there.
    pub(super) fn new_call_key(&mut self, call: CallId, epoch: u32) -> Result<(), VaultError> {
        let keys = self.call(call)?;
        if let Entry::Vacant(place) = keys.rooms.entry(epoch) {
            let key = CallKey::from_bytes(random()?);
            place.insert((key.clone(), CallRoom::new(call, epoch, key)));
        }
        Ok(())
    }

    pub(super) fn room(&self, call: CallId, epoch: u32) -> Result<&CallRoom, VaultError> {
        self.calls.get(&call).and_then(|c| c.rooms.get(&epoch)).map(|(_, room)| room).ok_or(VaultError::NoKey)
    }

    /// The first message of this session over this lane, or the same again under a new salt, and where it goes.
    pub(super) fn hello(
        &mut self,
        to: PublicKey,
        lane: Lane,
        suite: u8,
        session: SessionNo,
        hello: &Hello,
    ) -> Result<(Topic, Vec<u8>), VaultError> {
        self.new_call_key(hello.call, 0)?;
        let keys = self.call(hello.call)?;
        let call_key = keys.rooms.get(&0).map(|(key, _)| key.clone()).ok_or(VaultError::NoKey)?;
        let secrets = HelloSecrets { peer_seed: keys.own_seed.clone(), call_key };
        let topic = self.topic(TopicRef::Inbox { owner: to, lane })?;
        let salt = random()?;
        if let Some((_, initiator)) = self.peer(hello.call, to)?.initiators.get(&(session, lane)) {
            return Ok((topic, initiator.frame(salt)));
        }
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
        let peer = self.peer(hello.call, to)?;
        peer.ours |= hello.kind == HelloKind::Offer;
        peer.initiators.insert((session, lane), (hello.kind, initiator));
        Ok((topic, frame))
    }

    /// A first message was opened; its answer, if there will be one, comes within this step of the machine.
    pub(super) fn arrived(&mut self, opened: Opened) {
        self.fresh = Some(opened);
    }

    /// The first message that was opened in this step and has no answer so far: its sender, and where that lives.
    pub(super) fn unanswered(&self) -> Option<(PublicKey, NodeId)> {
        self.fresh.as_ref().map(|o| (o.hello.from, o.hello.node))
    }

    /// The step of the machine is over: what was not answered, or not kept, is dropped.
    pub(super) fn step_over(&mut self) {
        self.fresh = None;
        self.brought = None;
    }

    /// The answer to the first message that just arrived, or the stored answer again under a new salt, and the topic
    /// that it goes to.
    pub(super) fn welcome(
        &mut self,
        call: CallId,
        to: PublicKey,
        no: SessionNo,
        welcome: &Welcome,
    ) -> Result<(Topic, Vec<u8>), VaultError> {
        let fresh = self.fresh.take_if(|o| o.hello.call == call && o.hello.from == to);
        let Some(opened) = fresh else {
            let peer = self.peer(call, to)?;
            let frame = peer.answers.get(&no).ok_or(VaultError::NoKey)?.frame(random()?);
            let seed = &peer.sessions.get(&no).ok_or(VaultError::NoKey)?.seed;
            return Ok((Topic::peer(seed), frame));
        };
        let (kind, id, lane) = (opened.hello.kind, opened.id, opened.lane);
        let seen = Answered { call, from: to, session: no };
        if kind != HelloKind::Cancel
            && let Some(peer) = self.calls.get(&call).and_then(|c| c.peer.as_ref())
            && let Some((answer, open)) = peer.answers.get(&no).zip(peer.sessions.get(&no))
        {
            // The same offer over the other lane. Its caller may be in the session of the first answer by now: there is
            // one session, and one answer to it.
            let found = (Topic::peer(&open.seed), answer.frame(random()?));
            self.remember(lane, id, seen);
            return Ok(found);
        }
        let (seed, call_key) = (opened.secrets.peer_seed.clone(), opened.secrets.call_key.clone());
        let own = WelcomeSecrets { peer_seed: self.call(call)?.own_seed.clone() };
        let (session, answer) = opened.respond(welcome, &own, random()?)?;
        let frame = answer.frame(random()?);
        let topic = Topic::peer(&seed);
        // A withdrawal is cheap and may come again: it is opened and answered anew, and opens no session.
        if kind == HelloKind::Cancel {
            return Ok((topic, frame));
        }
        self.remember(lane, id, seen);
        if kind == HelloKind::Offer {
            self.call(call)?.rooms.insert(0, (call_key.clone(), CallRoom::new(call, 0, call_key)));
        }
        let incoming = session.id();
        let peer = self.peer(call, to)?;
        peer.answers.insert(no, answer);
        peer.sessions.insert(no, Open { session, seed });
        self.sessions.insert(incoming, (call, no));
        self.topics.insert(topic, TopicRef::Peer { call, owner: to });
        Ok((topic, frame))
    }

    fn remember(&mut self, lane: Lane, id: HandshakeId, answered: Answered) {
        match lane {
            Lane::Contacts => self.contacts_seen.remember(id, answered),
            Lane::Strangers => self.strangers_seen.remember(id, answered),
        }
    }

    /// Opens an answer to a first message of ours for that call.
    pub(super) fn open_welcome(
        &mut self,
        call: CallId,
        frame: &[u8],
    ) -> Result<(PublicKey, SessionNo, Welcome), OpenError> {
        let keys = self.calls.get_mut(&call).and_then(|c| c.peer.as_mut()).ok_or(OpenError::Mac)?;
        let mut result = Err(OpenError::Mac);
        for ((no, _), (kind, initiator)) in &mut keys.initiators {
            match initiator.finish(frame) {
                Ok((session, welcome, secrets)) => {
                    // The first device that answers has the session; a withdrawal opens none.
                    if *kind != HelloKind::Cancel && !keys.sessions.contains_key(no) {
                        let topic = Topic::peer(&secrets.peer_seed);
                        self.sessions.insert(session.id(), (call, *no));
                        self.topics.insert(topic, TopicRef::Peer { call, owner: keys.key });
                        keys.sessions.insert(*no, Open { session, seed: secrets.peer_seed });
                    }
                    return Ok((keys.key, *no, welcome));
                }
                // What came further says more than a MAC that is another handshake's.
                Err(OpenError::Mac) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    pub(super) fn session_of(&self, id: &SessionId) -> Option<(CallId, SessionNo)> {
        self.sessions.get(id).copied()
    }

    pub(super) fn open_packet(
        &mut self,
        call: CallId,
        no: SessionNo,
        frame: &[u8],
    ) -> Result<(PublicKey, Packet), OpenError> {
        let keys = self.calls.get_mut(&call).ok_or(OpenError::Session)?;
        let peer = keys.peer.as_mut().ok_or(OpenError::Session)?;
        let (packet, attachment) =
            peer.sessions.get_mut(&no).ok_or(OpenError::Session)?.session.open(frame)?;
        let from = peer.key;
        // A session belongs to one call; a packet that names another one is not of our making.
        if packet.call != call {
            return Err(OpenError::Session);
        }
        match (&packet.body, attachment) {
            // Only the creator, who called us, makes keys; and there is one epoch after that of the offer.
            (Body::CallKey(epoch), Some(Attachment::CallKey(key))) if !peer.ours && *epoch == EPOCH => {
                keys.rooms.entry(*epoch).or_insert_with(|| (key.clone(), CallRoom::new(call, *epoch, key)));
            }
            (Body::Token | Body::KemKey, Some(attachment)) => self.brought = Some((from, attachment)),
            _ => {}
        }
        Ok((from, packet))
    }

    /// Keeps what the packet of this step brought. `false` if there is nothing of the kind, or no room.
    pub(super) fn keep(&mut self, peer: PublicKey, gift: Gift) -> bool {
        match self.brought.take() {
            Some((from, attachment)) if from == peer => self.keys.keep(peer, gift, attachment),
            _ => false,
        }
    }

    pub(super) fn seal_packet(
        &mut self,
        to: PublicKey,
        no: SessionNo,
        packet: &Packet,
    ) -> Result<(Topic, Vec<u8>), VaultError> {
        let keys = self.calls.get_mut(&packet.call).ok_or(VaultError::NoKey)?;
        let attachment = match packet.body {
            Body::CallKey(epoch) => keys.rooms.get(&epoch).map(|(key, _)| Attachment::CallKey(key.clone())),
            Body::Token => Some(Attachment::Token(self.keys.token().clone())),
            Body::KemKey => Some(Attachment::KemKey(self.keys.kem().public())),
            _ => None,
        };
        let peer = keys.peer.as_mut().filter(|p| p.key == to).ok_or(VaultError::NoKey)?;
        let Open { session, seed } = peer.sessions.get_mut(&no).ok_or(VaultError::NoKey)?;
        let topic = Topic::peer(seed);
        let frame = session.seal(packet, attachment.as_ref())?;
        self.topics.insert(topic, TopicRef::Peer { call: packet.call, owner: to });
        Ok((topic, frame))
    }

    /// A message to all participants under the key of an epoch.
    pub(super) fn seal_call(
        &mut self,
        call: CallId,
        epoch: u32,
        body: &CallBody,
    ) -> Result<(Topic, Vec<u8>), VaultError> {
        let topic = self.topic(TopicRef::Call { call, epoch })?;
        let keys = self.call(call)?;
        keys.said = match body {
            CallBody::Announce(announce) => announce.version,
            _ => keys.said.saturating_add(1),
        };
        let said = keys.said;
        let room = self.room(call, epoch)?;
        Ok((topic, wire::seal_call(self.keys.identity(), room, said, body, random()?)?))
    }

    /// Wipes one session.
    pub(super) fn drop_session(&mut self, call: CallId, no: SessionNo) {
        self.sessions.retain(|_, named| *named != (call, no));
        if let Some(peer) = self.calls.get_mut(&call).and_then(|c| c.peer.as_mut()) {
            peer.answers.remove(&no);
            peer.initiators.retain(|(n, _), _| *n != no);
            if let Some(open) = peer.sessions.remove(&no) {
                self.topics.remove(&Topic::peer(&open.seed));
            }
        }
    }

    /// Drops every key of a call, and the names of its topics. Says with whom it was.
    pub(super) fn forget(&mut self, call: CallId) -> Option<PublicKey> {
        let with = self.calls.remove(&call).and_then(|c| c.peer).map(|p| p.key);
        self.sessions.retain(|_, (c, _)| *c != call);
        let own = self.own();
        let calls = &self.calls;
        self.topics.retain(|_, meaning| match meaning {
            TopicRef::Inbox { owner, .. } => {
                *owner == own || calls.values().any(|c| c.peer.as_ref().is_some_and(|p| p.key == *owner))
            }
            TopicRef::Peer { call: c, .. } | TopicRef::Call { call: c, .. } => *c != call,
        });
        with
    }

    /// Nothing of any call is left.
    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.calls.is_empty() && self.sessions.is_empty() && self.fresh.is_none()
    }
}
