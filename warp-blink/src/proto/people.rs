//! Whom this side knows: contacts, blocked keys, and what each peer has given. Decides who may ring.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::signal::Lane;
use crate::{config::Admission, error::Rejected, id::PublicKey};

/// The most contacts, and the most blocked keys. At the bound a further one is refused.
pub const MAX_PEOPLE: usize = 10_000;

/// The most peers of whom a token or a key is kept.
pub const MAX_KNOWN: usize = 8192;

/// Of these, the most that are no contacts, so that strangers leave room. Above it theirs are not taken any more.
const MAX_KNOWN_STRANGERS: usize = MAX_KNOWN / 4 * 3;

/// What a peer has given inside a confirmed session. Only these flags get here; the driver keeps what they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Known {
    /// Its contact token: calls to it go over the contacts' lane.
    pub token: bool,
    /// Its ML-KEM key: calls to it are protected against quantum computers, from then on always.
    pub kem: bool,
}

/// Everybody who matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct People {
    contacts: BTreeSet<PublicKey>,
    /// By their X25519 form: a key and its mirror image have one owner, who is blocked under both.
    blocked: BTreeSet<[u8; 32]>,
    known: BTreeMap<PublicKey, Known>,
}

impl People {
    pub(super) fn contacts(&self) -> impl Iterator<Item = PublicKey> {
        self.contacts.iter().copied()
    }

    pub(super) fn is_contact(&self, peer: &PublicKey) -> bool {
        self.contacts.contains(peer)
    }

    pub(super) fn is_blocked(&self, peer: &PublicKey) -> bool {
        !self.blocked.is_empty() && self.blocked.contains(&peer.to_x25519())
    }

    /// `false` if it was one already.
    pub(super) fn add_contact(&mut self, peer: PublicKey) -> Result<bool, Rejected> {
        if self.contacts.len() >= MAX_PEOPLE && !self.contacts.contains(&peer) {
            return Err(Rejected::ListFull(MAX_PEOPLE));
        }
        self.blocked.remove(&peer.to_x25519());
        Ok(self.contacts.insert(peer))
    }

    /// `false` if it was none.
    pub(super) fn remove_contact(&mut self, peer: &PublicKey) -> bool {
        self.contacts.remove(peer)
    }

    pub(super) fn block(&mut self, peer: &PublicKey) -> Result<(), Rejected> {
        if self.blocked.len() >= MAX_PEOPLE && !self.is_blocked(peer) {
            return Err(Rejected::ListFull(MAX_PEOPLE));
        }
        self.contacts.remove(peer);
        self.blocked.insert(peer.to_x25519());
        Ok(())
    }

    pub(super) fn unblock(&mut self, peer: &PublicKey) {
        self.blocked.remove(&peer.to_x25519());
    }

    pub(super) fn known(&self, peer: &PublicKey) -> Known {
        self.known.get(peer).copied().unwrap_or_default()
    }

    /// Whether there is room for what a peer gives.
    pub(super) fn has_room(&self, peer: &PublicKey) -> bool {
        let strangers = || self.known.keys().filter(|k| !self.is_contact(k)).count();
        self.known.contains_key(peer)
            || (self.known.len() < MAX_KNOWN && (self.is_contact(peer) || strangers() < MAX_KNOWN_STRANGERS))
    }

    /// Takes what was kept from earlier runs, all of it: its bound was kept when it was learnt.
    pub(super) fn restore(&mut self, peer: PublicKey, known: Known) {
        self.known.insert(peer, known);
    }

    /// Adds to what is known of a peer. Nothing that is known is ever unlearnt: a call that could be protected stays so.
    pub(super) fn learn(&mut self, peer: PublicKey, more: Known) {
        if self.has_room(&peer) {
            let known = self.known.entry(peer).or_default();
            known.token |= more.token;
            known.kem |= more.kem;
        }
    }

    /// Whether that peer may ring. `verdict` is what the app's callback said, where it was asked.
    pub(super) fn admits(&self, admission: &Admission, peer: &PublicKey, verdict: Option<bool>) -> bool {
        if self.is_blocked(peer) {
            return false;
        }
        match admission {
            Admission::Everyone => true,
            Admission::Contacts => self.is_contact(peer),
            Admission::Only(these) => these.contains(peer),
            Admission::Ask => verdict == Some(true),
        }
    }
}

impl Known {
    /// Both flags.
    pub const fn new(token: bool, kem: bool) -> Self {
        Self { token, kem }
    }
}

/// As many attempts as make [`lane`] choose the strangers' lane: the contacts' lane had nobody who listens.
pub(super) const AFTER_NOBODY: u32 = 3;

/// The lane of the next transmission of a first message, after so many attempts. Where its token is known the contacts'
/// lane comes first, twice; then the two take turns, since the token may have been replaced and nobody listens there.
pub(super) fn lane(known: Known, attempts: u32) -> Lane {
    if known.token && (attempts < 2 || attempts.is_multiple_of(2)) { Lane::Contacts } else { Lane::Strangers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    fn key(n: u8) -> PublicKey {
        Identity::from_seed([n; 32]).public()
    }

    #[test]
    fn who_is_blocked_is_refused_whatever_else_holds() {
        let mut people = People::default();
        people.add_contact(key(1)).unwrap();
        people.block(&key(1)).unwrap();
        let only = Admission::Only([key(1)].into());
        for admission in [Admission::Everyone, Admission::Contacts, only.clone(), Admission::Ask] {
            assert!(!people.admits(&admission, &key(1), Some(true)));
        }
        people.unblock(&key(1));
        assert!(people.admits(&only, &key(1), None));
        assert!(!people.admits(&Admission::Contacts, &key(1), None), "a blocked contact is none any more");
    }

    #[test]
    fn each_admission_lets_in_whom_it_names() {
        let mut people = People::default();
        people.add_contact(key(1)).unwrap();
        let cases = [
            (Admission::Everyone, [true, true]),
            (Admission::Contacts, [true, false]),
            (Admission::Only([key(2)].into()), [false, true]),
            (Admission::Ask, [false, false]),
        ];
        for (admission, expected) in cases {
            let found = [key(1), key(2)].map(|k| people.admits(&admission, &k, None));
            assert_eq!(found, expected, "{admission:?}");
        }
        assert!(people.admits(&Admission::Ask, &key(2), Some(true)));
        assert!(!people.admits(&Admission::Ask, &key(1), Some(false)));
    }

    #[test]
    fn what_is_known_is_never_unlearnt() {
        let mut people = People::default();
        people.learn(key(1), Known::new(false, true));
        people.learn(key(1), Known::new(true, false));
        assert_eq!(people.known(&key(1)), Known::new(true, true));
    }

    #[test]
    fn what_was_kept_comes_back_whole_and_strangers_leave_room() {
        let numbered = |n: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            Identity::from_seed(bytes).public()
        };
        let mut people = People::default();
        for n in 0..MAX_KNOWN as u16 {
            people.restore(numbered(n), Known::new(false, true));
        }
        assert!(people.known.values().all(|k| k.kem) && people.known.len() == MAX_KNOWN);
        assert!(!people.has_room(&numbered(9999)));
        // The same people, learnt: strangers up to their share, then contacts.
        let mut people = People::default();
        for n in 0..MAX_KNOWN_STRANGERS as u16 {
            people.restore(numbered(n), Known::new(false, true));
        }
        people.learn(numbered(9998), Known::new(false, true));
        assert!(!people.known(&numbered(9998)).kem);
        people.add_contact(numbered(9999)).unwrap();
        people.learn(numbered(9999), Known::new(false, true));
        assert!(people.known(&numbered(9999)).kem);
    }

    #[test]
    fn the_lanes_take_turns_after_two_attempts() {
        use Lane::{Contacts as C, Strangers as S};
        let lanes: Vec<_> = (0..6).map(|n| lane(Known::new(true, false), n)).collect();
        assert_eq!(lanes, [C, C, C, S, C, S]);
        assert!((0..6).all(|n| lane(Known::new(false, true), n) == S));
    }
}
