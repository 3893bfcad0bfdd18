//! What is said inside sessions, and to all under the key of an epoch.

use super::{Brought, Open, Vault, VaultError, Words};
use crate::{
    driver::clock::random,
    id::{CallId, PublicKey},
    proto::{
        SessionNo, TopicRef,
        signal::{Body, CallBody, EpochId, KeyHash, Packet},
    },
    wire::{self, Attachment, CallKey, CallRoom, OpenError, SessionId, Topic, TurnPass, Whereabouts},
};

impl Vault {
    /// Makes the key of an epoch, and gives its name.
    pub(in crate::driver) fn new_call_key(&mut self, call: CallId, n: u32) -> Result<KeyHash, VaultError> {
        let key = CallKey::from_bytes(random()?);
        let hash = key.hash();
        let epoch = EpochId { n, key: hash };
        let room = CallRoom::new(call, epoch, key.clone());
        self.call(call)?.rooms.insert(epoch, (key, room));
        Ok(hash)
    }

    /// Keeps the key of an epoch that the packet of this step brought.
    pub(in crate::driver) fn keep_call_key(
        &mut self,
        call: CallId,
        epoch: EpochId,
    ) -> Result<(), VaultError> {
        match self.brought.take() {
            Some(Brought::CallKey(of, name, key)) if (of, name) == (call, epoch) => {
                let room = CallRoom::new(call, epoch, key.clone());
                self.call(call)?.rooms.insert(epoch, (key, room));
                Ok(())
            }
            other => {
                self.brought = other;
                Err(VaultError::NoKey)
            }
        }
    }

    /// Wipes the key of an epoch.
    pub(in crate::driver) fn drop_call_key(&mut self, call: CallId, epoch: EpochId) {
        if self.hoards() {
            return;
        }
        self.topics.retain(|_, meaning| *meaning != TopicRef::Call { call, epoch });
        if let Some(keys) = self.calls.get_mut(&call) {
            keys.rooms.remove(&epoch);
        }
    }

    pub(in crate::driver) fn room(&self, call: CallId, epoch: EpochId) -> Result<&CallRoom, VaultError> {
        let rooms = self.calls.get(&call).map(|c| &c.rooms);
        rooms.and_then(|rooms| rooms.get(&epoch)).map(|(_, room)| room).ok_or(VaultError::NoKey)
    }

    pub(in crate::driver) fn session_of(&self, id: &SessionId) -> Option<(CallId, PublicKey, SessionNo)> {
        self.sessions.get(id).copied()
    }

    pub(in crate::driver) fn open_packet(
        &mut self,
        call: CallId,
        from: PublicKey,
        no: SessionNo,
        frame: &[u8],
    ) -> Result<Packet, OpenError> {
        let peer = self.peer_mut(call, &from).ok_or(OpenError::Session)?;
        let open = peer.sessions.get_mut(&no).ok_or(OpenError::Session)?;
        let (packet, attachment) = open.session.open(frame)?;
        // A session belongs to one call; a packet that names another one is not of our making.
        if packet.call != call {
            return Err(OpenError::Session);
        }
        self.brought = match (&packet.body, attachment) {
            (Body::CallKey(epoch), Some(Attachment::CallKey(key))) => {
                Some(Brought::CallKey(call, epoch.id, key))
            }
            (Body::Roll(roll), Some(Attachment::Signatures(signatures))) => {
                Some(Brought::Words(call, Words::of(roll, &signatures)))
            }
            (Body::Where(whom), Some(Attachment::Where(place))) => Some(Brought::Where(*whom, place)),
            (Body::Turn, Some(Attachment::Turn(pass))) => Some(Brought::Turn(from, pass)),
            (Body::Token | Body::KemKey, Some(attachment)) => Some(Brought::Gift(from, attachment)),
            _ => None,
        };
        Ok(packet)
    }

    /// Where the packet of this step says that somebody is.
    pub(in crate::driver) fn whereabouts(&mut self, whom: &PublicKey) -> Option<Whereabouts> {
        match self.brought.take_if(|b| matches!(b, Brought::Where(of, _) if of == whom))? {
            Brought::Where(_, place) => Some(place),
            _ => None,
        }
    }

    /// The place on that friend's TURN server that the packet of this step brought.
    pub(in crate::driver) fn turn_pass(&mut self, friend: &PublicKey) -> Option<TurnPass> {
        match self.brought.take_if(|b| matches!(b, Brought::Turn(from, _) if from == friend))? {
            Brought::Turn(_, pass) => Some(pass),
            _ => None,
        }
    }

    /// `added`: what the packet is to say that is not kept here.
    pub(in crate::driver) fn seal_packet(
        &mut self,
        to: PublicKey,
        no: SessionNo,
        packet: &Packet,
        added: Option<Attachment>,
    ) -> Result<(Topic, Vec<u8>), VaultError> {
        let keys = self.calls.get_mut(&packet.call).ok_or(VaultError::NoKey)?;
        let attachment = match &packet.body {
            Body::CallKey(epoch) => {
                let (key, _) = keys.rooms.get(&epoch.id).ok_or(VaultError::NoKey)?;
                Some(Attachment::CallKey(key.clone()))
            }
            Body::Roll(roll) => {
                let signatures = keys.words.under(roll).ok_or(VaultError::Unsigned)?;
                Some(Attachment::Signatures(signatures))
            }
            Body::Token => Some(Attachment::Token(self.keys.token().clone())),
            Body::KemKey => Some(Attachment::KemKey(self.keys.kem().public())),
            Body::Where(_) | Body::Turn => added,
            _ => None,
        };
        let peer = keys.peers.get_mut(&to).ok_or(VaultError::NoKey)?;
        let Open { session, seed } = peer.sessions.get_mut(&no).ok_or(VaultError::NoKey)?;
        let topic = Topic::peer(seed);
        let frame = session.seal(packet, attachment.as_ref())?;
        self.topics.insert(topic, TopicRef::Peer { call: packet.call, owner: to });
        Ok((topic, frame))
    }

    /// A message to all participants under the key of an epoch.
    pub(in crate::driver) fn seal_call(
        &mut self,
        call: CallId,
        epoch: EpochId,
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

    /// Whether there is anything with somebody in a call.
    #[cfg(test)]
    pub(in crate::driver) fn shares(&self, call: CallId, with: &PublicKey) -> bool {
        self.calls.get(&call).is_some_and(|c| c.peers.contains_key(with))
    }

    /// How many of the keys that are here open a frame, wherever it was sent.
    #[cfg(test)]
    pub(in crate::driver) fn openers(&mut self, frame: &[u8]) -> usize {
        let own = self.own();
        let opens = |call: &mut super::CallKeys| {
            let rooms = call.rooms.values().filter(|(_, room)| wire::open_call(room, &own, frame).is_ok());
            let rooms = rooms.count();
            let sessions = call.peers.values_mut().flat_map(|peer| peer.sessions.values_mut());
            rooms + sessions.filter_map(|open| open.session.open(frame).ok()).count()
        };
        self.calls.values_mut().map(opens).sum()
    }
}
