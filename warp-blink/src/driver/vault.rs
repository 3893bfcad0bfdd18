//! The keys of every call, by call id: what the machine never sees.
//!
//! Everything here lives from the first signal of a call until the machine forgets it; then it is dropped, and what
//! is ours in it is overwritten.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use super::clock::{NoRandomness, random};
use crate::{
    id::{CallId, Identity, PublicKey},
    proto::{
        TopicRef,
        signal::{Body, CallBody, Hello, HelloKind, Packet, Welcome},
    },
    wire::{
        self, CallKey, CallRoom, HandshakeId, HelloSecrets, Initiator, OpenError, Opened, PeerSeed,
        ResponderFrame, SealError, Session, SessionId, Topic, WelcomeSecrets,
    },
};

/// How many first messages are remembered as answered. The oldest is forgotten first, and would then be opened again,
/// which the machine's memory of calls makes harmless.
const MAX_SEEN: usize = 4096;

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
    initiators: Vec<(HelloKind, Initiator)>,
    answer: Option<ResponderFrame>,
    seed: Option<PeerSeed>,
    session: Option<Session>,
}

impl PeerKeys {
    fn new(key: PublicKey) -> Self {
        Self { key, initiators: Vec::new(), answer: None, seed: None, session: None }
    }
}

pub(super) struct Vault {
    identity: Identity,
    calls: BTreeMap<CallId, CallKeys>,
    /// A first message that was opened in this step; kept only if the machine answers it.
    fresh: Option<Opened>,
    seen: BTreeMap<HandshakeId, (CallId, PublicKey)>,
    seen_order: VecDeque<HandshakeId>,
    topics: BTreeMap<Topic, TopicRef>,
    sessions: BTreeMap<SessionId, CallId>,
}

impl Vault {
    pub(super) fn new(identity: Identity) -> Self {
        let inbox = Topic::inbox(&identity.public());
        let topics = [(inbox, TopicRef::Inbox(identity.public()))].into();
        Self {
            identity,
            calls: BTreeMap::new(),
            fresh: None,
            seen: BTreeMap::new(),
            seen_order: VecDeque::new(),
            topics,
            sessions: BTreeMap::new(),
        }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What a topic means here; `None` for one that is not ours (any more).
    pub(super) fn meaning(&self, topic: &Topic) -> Option<TopicRef> {
        self.topics.get(topic).copied()
    }

    /// The name of a topic, if its key is known.
    pub(super) fn topic(&mut self, meaning: TopicRef) -> Result<Topic, VaultError> {
        let topic = match meaning {
            TopicRef::Inbox(key) => Topic::inbox(&key),
            TopicRef::Peer { call, owner } if owner == self.identity.public() => {
                Topic::peer(&self.call(call)?.own_seed)
            }
            TopicRef::Peer { call, owner } => {
                let peer = self.calls.get(&call).and_then(|c| c.peer.as_ref()).filter(|p| p.key == owner);
                Topic::peer(peer.and_then(|p| p.seed.as_ref()).ok_or(VaultError::NoKey)?)
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
        let peer = self.call(call)?.peer.get_or_insert_with(|| PeerKeys::new(key));
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

    /// The first message of this kind to that peer, or the same again under a new salt.
    pub(super) fn hello(&mut self, to: PublicKey, hello: &Hello) -> Result<Vec<u8>, VaultError> {
        self.new_call_key(hello.call, 0)?;
        let keys = self.call(hello.call)?;
        let call_key = keys.rooms.get(&0).map(|(key, _)| key.clone()).ok_or(VaultError::NoKey)?;
        let secrets = HelloSecrets { peer_seed: keys.own_seed.clone(), call_key };
        let salt = random()?;
        if let Some((_, initiator)) =
            self.peer(hello.call, to)?.initiators.iter().find(|(k, _)| *k == hello.kind)
        {
            return Ok(initiator.frame(salt));
        }
        let initiator = Initiator::start(&self.identity, &to, hello, &secrets, random()?)?;
        let frame = initiator.frame(salt);
        self.peer(hello.call, to)?.initiators.push((hello.kind, initiator));
        Ok(frame)
    }

    /// A first message was opened; its answer, if there will be one, comes within this step of the machine.
    pub(super) fn arrived(&mut self, opened: Opened) {
        self.fresh = Some(opened);
    }

    /// The step of the machine is over: what was not answered is dropped.
    pub(super) fn step_over(&mut self) {
        self.fresh = None;
    }

    pub(super) fn seen(&self, id: &HandshakeId) -> Option<(CallId, PublicKey)> {
        self.seen.get(id).copied()
    }

    /// The answer to the first message that just arrived, or the stored answer again under a new salt, and the topic
    /// that it goes to.
    pub(super) fn welcome(
        &mut self,
        call: CallId,
        to: PublicKey,
        welcome: &Welcome,
    ) -> Result<(Topic, Vec<u8>), VaultError> {
        let fresh = self.fresh.take_if(|o| o.hello.call == call && o.hello.from == to);
        let Some(opened) = fresh else {
            let frame = self.peer(call, to)?.answer.as_ref().ok_or(VaultError::NoKey)?.frame(random()?);
            return Ok((self.topic(TopicRef::Peer { call, owner: to })?, frame));
        };
        let (kind, id) = (opened.hello.kind, opened.id);
        let (seed, call_key) = (opened.secrets.peer_seed.clone(), opened.secrets.call_key.clone());
        let own = WelcomeSecrets { peer_seed: self.call(call)?.own_seed.clone() };
        let (session, answer) = opened.respond(welcome, &own, random()?)?;
        // A withdrawal is cheap and may come again: it is opened and answered anew.
        if kind == HelloKind::Offer {
            self.remember(id, call, to);
        }
        let frame = answer.frame(random()?);
        let topic = Topic::peer(&seed);
        if kind == HelloKind::Offer {
            self.call(call)?.rooms.insert(0, (call_key.clone(), CallRoom::new(call, 0, call_key)));
            let incoming = session.id();
            let peer = self.peer(call, to)?;
            peer.answer = Some(answer);
            peer.seed = Some(seed);
            peer.session = Some(session);
            self.sessions.insert(incoming, call);
            self.topics.insert(topic, TopicRef::Peer { call, owner: to });
        }
        Ok((topic, frame))
    }

    fn remember(&mut self, id: HandshakeId, call: CallId, from: PublicKey) {
        if self.seen.insert(id, (call, from)).is_none() {
            self.seen_order.push_back(id);
        }
        if self.seen_order.len() > MAX_SEEN
            && let Some(old) = self.seen_order.pop_front()
        {
            self.seen.remove(&old);
        }
    }

    /// Opens an answer to a first message of ours for that call.
    pub(super) fn open_welcome(
        &mut self,
        call: CallId,
        frame: &[u8],
    ) -> Result<(PublicKey, Welcome), OpenError> {
        let keys = self.calls.get_mut(&call).and_then(|c| c.peer.as_mut()).ok_or(OpenError::Mac)?;
        let mut result = Err(OpenError::Mac);
        for (kind, initiator) in &mut keys.initiators {
            match initiator.finish(frame) {
                Ok((session, welcome, secrets)) => {
                    // A withdrawal opens no session of its own; the one of the offer stays.
                    if *kind == HelloKind::Offer && keys.session.is_none() {
                        self.sessions.insert(session.id(), call);
                        self.topics.insert(
                            Topic::peer(&secrets.peer_seed),
                            TopicRef::Peer { call, owner: keys.key },
                        );
                        keys.session = Some(session);
                        keys.seed = Some(secrets.peer_seed);
                    }
                    return Ok((keys.key, welcome));
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    pub(super) fn session_call(&self, id: &SessionId) -> Option<CallId> {
        self.sessions.get(id).copied()
    }

    pub(super) fn open_packet(
        &mut self,
        call: CallId,
        frame: &[u8],
    ) -> Result<(PublicKey, Packet), OpenError> {
        let keys = self.calls.get_mut(&call).ok_or(OpenError::Session)?;
        let peer = keys.peer.as_mut().ok_or(OpenError::Session)?;
        let (packet, key) = peer.session.as_mut().ok_or(OpenError::Session)?.open(frame)?;
        let from = peer.key;
        if let (Body::CallKey(epoch), Some(key)) = (&packet.body, key)
            && packet.call == call
        {
            // Only the creator, who called us, makes keys; and there is one epoch after that of the offer.
            if peer.answer.is_none() || *epoch != EPOCH {
                return Ok((from, packet));
            }
            keys.rooms.entry(*epoch).or_insert_with(|| (key.clone(), CallRoom::new(call, *epoch, key)));
        }
        Ok((from, packet))
    }

    pub(super) fn seal_packet(
        &mut self,
        to: PublicKey,
        packet: &Packet,
    ) -> Result<(Topic, Vec<u8>), VaultError> {
        let topic = self.topic(TopicRef::Peer { call: packet.call, owner: to })?;
        let keys = self.call(packet.call)?;
        let key = match packet.body {
            Body::CallKey(epoch) => keys.rooms.get(&epoch).map(|(key, _)| key.clone()),
            _ => None,
        };
        let session = keys.peer.as_mut().and_then(|p| p.session.as_mut()).ok_or(VaultError::NoKey)?;
        Ok((topic, session.seal(packet, key.as_ref())?))
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
        Ok((topic, wire::seal_call(&self.identity, self.room(call, epoch)?, said, body, random()?)?))
    }

    /// Drops every key of a call, and the names of its topics. Says with whom it was.
    pub(super) fn forget(&mut self, call: CallId) -> Option<PublicKey> {
        let with = self.calls.remove(&call).and_then(|c| c.peer).map(|p| p.key);
        self.sessions.retain(|_, c| *c != call);
        let own = self.identity.public();
        let calls = &self.calls;
        self.topics.retain(|_, meaning| match meaning {
            TopicRef::Inbox(key) => {
                *key == own || calls.values().any(|c| c.peer.as_ref().is_some_and(|p| p.key == *key))
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
