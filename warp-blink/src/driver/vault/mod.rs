//! The keys of every call, by call id: what the machine never sees.
//!
//! Everything here lives from the first signal of a call until the machine forgets it; then it is dropped, and what
//! is ours in it is overwritten. What outlives calls is in the [`keyring`](super::keyring).

mod hello;
mod talk;
mod words;

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

pub(super) use self::words::Words;
use super::{
    clock::{NoRandomness, random},
    door::{Answered, Seen},
    keyring::Keyring,
};
use crate::{
    id::{CallId, PublicKey},
    proto::{
        SessionNo, TopicRef,
        signal::{EpochId, HelloKind, Lane},
    },
    wire::{
        Attachment, CallKey, CallRoom, HandshakeId, Initiator, Opened, PeerSeed, ResponderFrame, SealError,
        Session, SessionId, Topic, TurnPass, Whereabouts,
    },
};

/// Why something could not be sealed, signed or kept.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum VaultError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Random(#[from] NoRandomness),
    #[error("there is no key for that yet")]
    NoKey,
    #[error("a word about the call has no signature here")]
    Unsigned,
}

struct CallKeys {
    own_seed: PeerSeed,
    /// The version of the last call message of ours.
    said: u64,
    /// The key of epoch 0, which goes out with our offers and only rings: whoever steals an identity later can read it.
    ringing: Option<CallKey>,
    rooms: BTreeMap<EpochId, (CallKey, CallRoom)>,
    peers: BTreeMap<PublicKey, PeerKeys>,
    words: Words,
}

/// What there is with one other side of a call.
#[derive(Default)]
struct PeerKeys {
    initiators: BTreeMap<(SessionNo, Lane), (HelloKind, Initiator)>,
    answers: BTreeMap<SessionNo, ResponderFrame>,
    sessions: BTreeMap<SessionNo, Open>,
}

/// A session, and where its other side listens.
struct Open {
    session: Session,
    seed: PeerSeed,
}

/// A first message that was opened in this step.
struct Fresh {
    opened: Opened,
    /// The app brought it.
    pushed: bool,
}

/// What the packet of this step brought.
enum Brought {
    Gift(PublicKey, Attachment),
    CallKey(CallId, EpochId, CallKey),
    Words(CallId, Words),
    Where(PublicKey, Whereabouts),
    Turn(PublicKey, TurnPass),
}

pub(super) struct Vault {
    keys: Keyring,
    calls: BTreeMap<CallId, CallKeys>,
    /// Kept only if the machine answers it.
    fresh: Option<Fresh>,
    /// Kept only if the machine says so.
    brought: Option<Brought>,
    contacts_seen: Seen,
    strangers_seen: Seen,
    topics: BTreeMap<Topic, TopicRef>,
    sessions: BTreeMap<SessionId, (CallId, PublicKey, SessionNo)>,
    /// What calls of an earlier run are signed with, until they are resumed.
    saved: BTreeMap<CallId, Words>,
    /// Whose inboxes stay known though nothing is sent there now: they are told something when they are next seen.
    awaited: BTreeSet<PublicKey>,
    /// For tests: nothing is wiped, as somebody might do who was removed from a call.
    #[cfg(test)]
    pub(super) hoards: bool,
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
            saved: BTreeMap::new(),
            awaited: BTreeSet::new(),
            #[cfg(test)]
            hoards: false,
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

    fn remember(&mut self, lane: Lane, id: HandshakeId, answered: Answered) {
        match lane {
            Lane::Contacts => self.contacts_seen.remember(id, answered),
            Lane::Strangers => self.strangers_seen.remember(id, answered),
        }
    }

    /// What a topic means here; `None` for one that is not ours (any more).
    pub(super) fn meaning(&self, topic: &Topic) -> Option<TopicRef> {
        self.topics.get(topic).copied()
    }

    /// Whether first messages are heard on this lane.
    pub(super) fn hears(&self, lane: Lane) -> bool {
        let own = TopicRef::Inbox { owner: self.own(), lane };
        self.topics.values().any(|meaning| *meaning == own)
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
                let peer = self.calls.get(&call).and_then(|c| c.peers.get(&owner));
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
        if self.hoards() {
            return None;
        }
        let topic = *self.topics.iter().find(|(_, m)| **m == meaning)?.0;
        self.topics.remove(&topic);
        Some(topic)
    }

    /// Those whose inboxes stay known though nothing is sent there now, and the names of these.
    pub(super) fn await_people(&mut self, people: BTreeSet<PublicKey>) -> BTreeSet<Topic> {
        self.awaited = people;
        self.drop_inboxes();
        self.awaited_topics()
    }

    /// Where those who are awaited listen.
    pub(super) fn awaited_topics(&mut self) -> BTreeSet<Topic> {
        let lanes = [Lane::Contacts, Lane::Strangers];
        let inboxes: Vec<TopicRef> = self
            .awaited
            .iter()
            .flat_map(|owner| lanes.map(|lane| TopicRef::Inbox { owner: *owner, lane }))
            .collect();
        // Without a token there is one inbox less.
        inboxes.into_iter().filter_map(|inbox| self.topic(inbox).ok()).collect()
    }

    pub(super) fn is_awaited(&self, peer: &PublicKey) -> bool {
        self.awaited.contains(peer)
    }

    /// The keys of a call, new ones if there are none. What an earlier run has saved of it is taken over.
    fn call(&mut self, call: CallId) -> Result<&mut CallKeys, VaultError> {
        match self.calls.entry(call) {
            Entry::Occupied(keys) => Ok(keys.into_mut()),
            Entry::Vacant(place) => {
                let own_seed = PeerSeed::from_bytes(random()?);
                let words = self.saved.get(&call).cloned().unwrap_or_default();
                Ok(place.insert(CallKeys {
                    own_seed,
                    said: 0,
                    ringing: None,
                    rooms: BTreeMap::new(),
                    peers: BTreeMap::new(),
                    words,
                }))
            }
        }
    }

    fn peer_mut(&mut self, call: CallId, key: &PublicKey) -> Option<&mut PeerKeys> {
        self.calls.get_mut(&call)?.peers.get_mut(key)
    }

    const fn hoards(&self) -> bool {
        #[cfg(test)]
        let hoards = self.hoards;
        #[cfg(not(test))]
        let hoards = false;
        hoards
    }

    /// The step of the machine is over: what was not answered, or not kept, is dropped.
    pub(super) fn step_over(&mut self) {
        self.fresh = None;
        self.brought = None;
    }

    /// Wipes one session.
    pub(super) fn drop_session(&mut self, call: CallId, with: &PublicKey, no: SessionNo) {
        if self.hoards() {
            return;
        }
        self.sessions.retain(|_, named| *named != (call, *with, no));
        if let Some(peer) = self.peer_mut(call, with) {
            peer.answers.remove(&no);
            peer.initiators.retain(|(n, _), _| *n != no);
            if let Some(open) = peer.sessions.remove(&no) {
                self.topics.remove(&Topic::peer(&open.seed));
            }
        }
    }

    /// Wipes everything with somebody in a call. Whether they are in no other call.
    pub(super) fn drop_peer(&mut self, call: CallId, with: &PublicKey) -> bool {
        if self.hoards() {
            return false;
        }
        self.sessions.retain(|_, (c, peer, _)| (*c, *peer) != (call, *with));
        self.topics.retain(|_, meaning| *meaning != TopicRef::Peer { call, owner: *with });
        let dropped = self.calls.get_mut(&call).and_then(|c| c.peers.remove(with)).is_some();
        self.drop_inboxes();
        dropped && !self.is_called(with)
    }

    /// Drops every key of a call, and the names of its topics. Says who is in no other call.
    pub(super) fn forget(&mut self, call: CallId) -> Vec<PublicKey> {
        if self.hoards() {
            return Vec::new();
        }
        let with = self.calls.remove(&call).map(|c| c.peers).unwrap_or_default();
        for (peer, keys) in &with {
            // All answers may have been lost, and the first message still comes again.
            if !keys.answers.is_empty() && keys.sessions.values().all(|open| !open.session.is_confirmed()) {
                self.contacts_seen.forget(call, peer);
                self.strangers_seen.forget(call, peer);
            }
        }
        self.sessions.retain(|_, (c, ..)| *c != call);
        self.topics.retain(|_, meaning| match meaning {
            TopicRef::Inbox { .. } => true,
            TopicRef::Peer { call: c, .. } | TopicRef::Call { call: c, .. } => *c != call,
        });
        self.drop_inboxes();
        with.into_keys().filter(|peer| !self.is_called(peer)).collect()
    }

    /// Somebody takes part in a call.
    fn is_called(&self, peer: &PublicKey) -> bool {
        self.calls.values().any(|c| c.peers.contains_key(peer))
    }

    /// Drops the names of inboxes to which nothing is sent any more.
    fn drop_inboxes(&mut self) {
        let (own, calls, awaited) = (self.own(), &self.calls, &self.awaited);
        self.topics.retain(|_, meaning| match meaning {
            TopicRef::Inbox { owner, .. } => {
                *owner == own
                    || awaited.contains(owner)
                    || calls.values().any(|c| c.peers.contains_key(owner))
            }
            TopicRef::Peer { .. } | TopicRef::Call { .. } => true,
        });
    }

    /// Nothing of any call is left.
    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.calls.is_empty() && self.sessions.is_empty() && self.fresh.is_none() && self.brought.is_none()
    }
}
