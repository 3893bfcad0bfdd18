//! The keys that outlive a call: the own identity, ML-KEM key and contact token, and what peers gave of theirs.

use std::collections::BTreeMap;

use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use super::{
    clock::{NoRandomness, random},
    shelf::Shelf,
};
use crate::{
    id::{Identity, PublicKey},
    ports::store::StoreKey,
    proto::{Gift, Known},
    wire::{Attachment, ContactToken, Door, KemKey, KemSecret, Topic},
};

/// The most peers in one of the sixteen entries: each takes up to 1,256 bytes of the mebibyte that an entry holds.
const MAX_PER_ENTRY: usize = 800;

/// The most bytes of one peer: its key, token and ML-KEM key, with their heads.
const MAX_CARD: usize = 1 + 34 + 34 + 3 + 1184;

const MALFORMED: &str = "its contents are malformed";

/// What one peer gave.
#[derive(Clone, Default)]
struct Card {
    token: Option<ContactToken>,
    kem: Option<KemKey>,
}

pub(super) struct Keyring {
    identity: Identity,
    kem: KemSecret,
    token: ContactToken,
    peers: BTreeMap<PublicKey, Card>,
    shelf: Shelf,
}

impl Keyring {
    /// What was kept, or fresh keys where nothing was. What cannot be read is left as it is, and not written in this run.
    pub(super) async fn load(identity: Identity, shelf: Shelf) -> Result<Self, NoRandomness> {
        let kem = KemSecret::of(&identity);
        let mut ring = Self { identity, kem, token: new_token()?, peers: BTreeMap::new(), shelf };
        match ring.shelf.load(StoreKey::TOKEN, |b| decode_token(b).ok_or(MALFORMED)).await {
            Some(token) => ring.token = token,
            None => drop(ring.shelf.save(StoreKey::TOKEN, Zeroizing::new(ring.token.expose().to_vec()))),
        }
        for key in StoreKey::PEERS {
            ring.peers
                .extend(ring.shelf.load(key, |b| decode_peers(b).ok_or(MALFORMED)).await.unwrap_or_default());
        }
        Ok(ring)
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn kem(&self) -> &KemSecret {
        &self.kem
    }

    pub(super) fn token(&self) -> &ContactToken {
        &self.token
    }

    pub(super) fn contacts_inbox(&self) -> Topic {
        Topic::contacts(&self.identity.public(), &self.token)
    }

    /// The way to a contact of ours who gave us its token.
    pub(super) fn door_of(&self, peer: &PublicKey) -> Option<Door<'_>> {
        self.peers.get(peer)?.token.as_ref().map(Door::Contacts)
    }

    pub(super) fn kem_of(&self, peer: &PublicKey) -> Option<&KemKey> {
        self.peers.get(peer)?.kem.as_ref()
    }

    /// What is known of whom.
    pub(super) fn known(&self) -> impl Iterator<Item = (PublicKey, Known)> + '_ {
        self.peers.iter().map(|(peer, card)| (*peer, Known::new(card.token.is_some(), card.kem.is_some())))
    }

    /// A new contact token, kept from now on.
    pub(super) fn new_token(&mut self) -> Result<(), NoRandomness> {
        self.token = new_token()?;
        // A failure is logged where it happens: the token then holds for this run.
        drop(self.shelf.save(StoreKey::TOKEN, Zeroizing::new(self.token.expose().to_vec())));
        Ok(())
    }

    /// Keeps what a peer gave. `false`: its entry is full.
    pub(super) fn keep(&mut self, peer: PublicKey, gift: Gift, what: Attachment) -> bool {
        let entry = entry_of(&peer);
        let full = self.peers.keys().filter(|k| entry_of(k) == entry).count() >= MAX_PER_ENTRY;
        if full && !self.peers.contains_key(&peer) {
            return false;
        }
        let card = self.peers.entry(peer).or_default();
        match (gift, what) {
            // Said again: nothing to write.
            (Gift::Token, Attachment::Token(token)) if card.token.as_ref() == Some(&token) => return true,
            (Gift::Token, Attachment::Token(token)) => card.token = Some(token),
            (Gift::KemKey, Attachment::KemKey(key)) => card.kem = Some(key),
            _ => return false,
        }
        let bytes = encode_peers(self.peers.iter().filter(|(k, _)| entry_of(k) == entry).collect());
        drop(self.shelf.save(StoreKey::PEERS[entry], bytes));
        true
    }

    /// Waits for what is being saved.
    pub(super) async fn close(&mut self) {
        self.shelf.close().await;
    }
}

fn new_token() -> Result<ContactToken, NoRandomness> {
    random().map(ContactToken::from_bytes)
}

fn entry_of(peer: &PublicKey) -> usize {
    // The last byte holds the sign in its highest bit; the four lowest are as good as random.
    usize::from(peer.as_bytes()[31] & 0x0f)
}

fn decode_token(bytes: &[u8]) -> Option<ContactToken> {
    Some(ContactToken::from_bytes(bytes.try_into().ok()?))
}

/// A list of `[key, token or empty, ML-KEM key or empty]`.
fn encode_peers(peers: Vec<(&PublicKey, &Card)>) -> Zeroizing<Vec<u8>> {
    // Large enough from the start, so that growth leaves no copy of a token behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 + MAX_CARD * peers.len()));
    let mut e = Encoder::new(&mut *bytes);
    // Writing into memory cannot fail.
    let _ = e.begin_array();
    for (peer, card) in peers {
        let token = card.token.as_ref().map_or(&[][..], |t| t.expose());
        let kem = card.kem.as_ref().map_or(&[][..], |k| k.as_bytes());
        let _ = e
            .array(3)
            .and_then(|e| e.bytes(peer.as_bytes()))
            .and_then(|e| e.bytes(token))
            .map(|e| e.bytes(kem));
    }
    let _ = e.end();
    bytes
}

fn decode_peers(bytes: &[u8]) -> Option<Vec<(PublicKey, Card)>> {
    let mut d = Decoder::new(bytes);
    if d.array().ok()?.is_some() {
        return None;
    }
    let mut peers = Vec::new();
    while d.datatype().ok()? != minicbor::data::Type::Break {
        if d.array().ok()? != Some(3) || peers.len() >= MAX_PER_ENTRY {
            return None;
        }
        let peer = PublicKey::from_bytes(d.bytes().ok()?.try_into().ok()?).ok()?;
        let token = d.bytes().ok()?;
        let kem = d.bytes().ok()?;
        let card = Card {
            token: if token.is_empty() { None } else { Some(decode_token(token)?) },
            kem: if kem.is_empty() { None } else { Some(KemKey::from_bytes(kem).ok()?) },
        };
        peers.push((peer, card));
    }
    Some(peers)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::driver::store::{MemoryStore, SealedStore};

    fn identity(n: u8) -> Identity {
        Identity::from_seed([n; 32])
    }

    fn shelf(store: &Arc<MemoryStore>) -> Shelf {
        Shelf::new(Some(Arc::new(SealedStore::new(store.clone(), &identity(1)))))
    }

    #[tokio::test]
    async fn what_peers_gave_and_the_own_token_outlive_a_restart() {
        let store = Arc::new(MemoryStore::default());
        let mut ring = Keyring::load(identity(1), shelf(&store)).await.unwrap();
        let (peer, other) = (identity(2).public(), identity(3).public());
        let (token, kem) = (ContactToken::from_bytes([9; 32]), KemSecret::of(&identity(2)).public());
        assert!(ring.keep(peer, Gift::Token, Attachment::Token(token)));
        assert!(ring.keep(peer, Gift::KemKey, Attachment::KemKey(kem.clone())));
        assert!(ring.keep(other, Gift::KemKey, Attachment::KemKey(kem.clone())));
        assert!(!ring.keep(other, Gift::Token, Attachment::KemKey(kem.clone())), "a gift of another kind");
        ring.close().await;
        let again = Keyring::load(identity(1), shelf(&store)).await.unwrap();
        assert_eq!(again.token(), ring.token());
        assert_eq!(again.kem_of(&peer), Some(&kem));
        assert!(again.door_of(&peer).is_some() && again.door_of(&other).is_none());
        let known: BTreeMap<_, _> = again.known().collect();
        assert_eq!(known, [(peer, Known::new(true, true)), (other, Known::new(false, true))].into());
        ring.new_token().unwrap();
        ring.close().await;
        let rotated = Keyring::load(identity(1), shelf(&store)).await.unwrap();
        assert_ne!(rotated.token(), again.token());
        assert_eq!(rotated.token(), ring.token());
    }

    #[test]
    fn a_full_entry_fits_the_store_and_damaged_ones_are_refused() {
        let kem = KemSecret::of(&identity(2)).public();
        let card = Card { token: Some(ContactToken::from_bytes([9; 32])), kem: Some(kem) };
        let one = encode_peers(vec![(&identity(2).public(), &card)]);
        assert_eq!(one.len(), 2 + MAX_CARD);
        assert!((one.len() - 2) * MAX_PER_ENTRY + 2 <= crate::driver::store::MAX_PLAIN, "{}", one.len());
        assert!(decode_peers(&one).is_some());
        for len in 0..one.len() {
            assert!(decode_peers(&one[..len]).is_none(), "cut at {len}");
        }
    }
}
