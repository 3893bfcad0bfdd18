//! The others of a call, by key.

use std::collections::BTreeMap;

use super::participant::Participant;
use crate::PublicKey;

/// Each is held by a pointer: a map keeps room for eleven in every node, and most calls are of two.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Peers(BTreeMap<PublicKey, Box<Participant>>);

impl Peers {
    pub(super) fn get(&self, key: &PublicKey) -> Option<&Participant> {
        self.0.get(key).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: &PublicKey) -> Option<&mut Participant> {
        self.0.get_mut(key).map(Box::as_mut)
    }

    /// Replaces who was there under that key.
    pub(super) fn insert(&mut self, key: PublicKey, participant: Participant) {
        self.0.insert(key, Box::new(participant));
    }

    pub(super) fn contains_key(&self, key: &PublicKey) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.keys()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Participant> {
        self.0.values().map(Box::as_ref)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Participant> {
        self.0.values_mut().map(Box::as_mut)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
