//! What outlives a run: entries, sealed before a [`Store`] sees them, and what is in them.
//!
//! Everything here blocks as the store does: call it where that is allowed.
//!
//! An entry: `version 1 | nonce 24 | check 16 | sealed contents | tag 16`, XChaCha20-Poly1305 under a hash of the
//! identity's seed, with the entry's name as associated data, so that entries cannot stand in for one another. The
//! check is a hash of key and nonce: it tells an entry of another identity from a damaged one, differs in every entry,
//! and binds the entry to one key, which the cipher alone does not.

mod file;
mod memory;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::Arc,
};

use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305, XNonce};
use minicbor::{Decoder, Encoder, decode, encode};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use self::{file::FileStore, memory::MemoryStore};
use super::clock::random;
pub use crate::ports::store::SealedError;
use crate::{
    id::{Identity, NodeId},
    ports::store::{MAX_VALUE, Store, StoreError, StoreKey, check_size},
    reach::MAX_ADDRESS,
};

const VERSION: u8 = 1;
const NONCE_LEN: usize = 24;
const CHECK_LEN: usize = 16;
const HEADER: usize = 1 + NONCE_LEN + CHECK_LEN;
const TAG_LEN: usize = 16;

/// The most bytes that are sealed into one entry: what [`MAX_VALUE`] leaves after 57 bytes of sealing.
pub const MAX_PLAIN: usize = MAX_VALUE - HEADER - TAG_LEN;

/// The most nodes in an [`AddressBook`].
pub const MAX_NODES: usize = 1024;

/// The most addresses of one node in an [`AddressBook`]: an own node listens on a few, and the rest are old.
pub const MAX_NODE_ADDRESSES: usize = 8;

/// Seals entries under a key of the identity, and opens them again.
///
/// The store below sees names, sizes and times of entries, and can withhold an entry or bring back an older one. It
/// cannot read, make or exchange any.
#[derive(Clone)]
pub struct SealedStore {
    store: Arc<dyn Store>,
    key: Zeroizing<[u8; 32]>,
}

impl SealedStore {
    /// What this identity keeps in this store.
    pub fn new(store: Arc<dyn Store>, identity: &Identity) -> Self {
        let key = labelled_hash(b"warp-blink/1 store-key\0", &[identity.expose_seed()]);
        Self { store, key: Zeroizing::new(key) }
    }

    /// The contents of the entry, overwritten when dropped; `None` if there is no entry.
    ///
    /// # Errors
    /// [`SealedError`] if the entry cannot be read or does not open. It is left as it is.
    pub fn load(&self, key: &StoreKey) -> Result<Option<Zeroizing<Vec<u8>>>, SealedError> {
        let Some(entry) = self.store.load(key)? else { return Ok(None) };
        check_size(key, entry.len() as u64)?;
        self.open(key, &entry).map(Some)
    }

    /// Seals `plain` and makes it the entry.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] above [`MAX_PLAIN`] bytes, and [`SealedError`] if the store refuses.
    pub fn save(&self, key: &StoreKey, plain: &[u8]) -> Result<(), SealedError> {
        let entry = self.seal(key, plain, &random().map_err(|_| SealedError::Entropy)?)?;
        Ok(self.store.save(key, &entry)?)
    }

    /// Removes the entry, if there is one; also one that does not open.
    ///
    /// # Errors
    /// [`SealedError::Store`] if the store refuses.
    pub fn delete(&self, key: &StoreKey) -> Result<(), SealedError> {
        Ok(self.store.delete(key)?)
    }

    fn seal(&self, key: &StoreKey, plain: &[u8], nonce: &[u8; NONCE_LEN]) -> Result<Vec<u8>, SealedError> {
        let size = plain.len() as u64;
        let too_large = || StoreError::TooLarge { key: *key, size, max: MAX_PLAIN };
        if plain.len() > MAX_PLAIN {
            return Err(too_large().into());
        }
        // Overwritten when something fails half way; the capacity is exact, so that growth leaves no copy behind.
        let mut entry = Zeroizing::new(Vec::with_capacity(HEADER + plain.len() + TAG_LEN));
        entry.push(VERSION);
        entry.extend_from_slice(nonce);
        entry.extend_from_slice(&self.check(nonce));
        entry.extend_from_slice(plain);
        let tag = self
            .cipher()
            .encrypt_in_place_detached(XNonce::from_slice(nonce), &context(key), &mut entry[HEADER..])
            .map_err(|_| too_large())?;
        entry.extend_from_slice(&tag);
        Ok(std::mem::take(&mut *entry))
    }

    fn open(&self, key: &StoreKey, entry: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        let damaged = || SealedError::Damaged { key: *key };
        let (&version, rest) = entry.split_first().ok_or_else(damaged)?;
        if version != VERSION {
            return Err(SealedError::Version { key: *key, found: version });
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let (check, rest) = rest.split_first_chunk::<CHECK_LEN>().ok_or_else(damaged)?;
        let (sealed, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or_else(damaged)?;
        if *check != self.check(nonce) {
            return Err(SealedError::OtherIdentity { key: *key });
        }
        let mut plain = Zeroizing::new(sealed.to_vec());
        self.cipher()
            .decrypt_in_place_detached(XNonce::from_slice(nonce), &context(key), &mut plain, tag.into())
            .map_err(|_| damaged())?;
        Ok(plain)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.key).into())
    }

    fn check(&self, nonce: &[u8; NONCE_LEN]) -> [u8; CHECK_LEN] {
        let hash = labelled_hash(b"warp-blink/1 store-check\0", &[&*self.key, nonce]);
        std::array::from_fn(|i| hash[i])
    }
}

impl fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedStore(..)")
    }
}

/// What an entry is sealed with besides its contents.
fn context(key: &StoreKey) -> Vec<u8> {
    [&b"warp-blink/1 store-entry\0"[..], &[VERSION], key.name().as_bytes()].concat()
}

/// Hashes parts of fixed lengths under a label of its own.
fn labelled_hash(label: &'static [u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(label);
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// Where nodes were last found: the contents of [`StoreKey::ADDRESSES`].
///
/// Holds at most [`MAX_NODES`] nodes, [`MAX_NODE_ADDRESSES`] addresses of each, and [`MAX_PLAIN`] bytes when encoded,
/// which very long addresses reach first; at a bound the oldest is forgotten. `Debug` only counts.
///
/// Encoded it is CBOR (RFC 8949): a list of nodes, the oldest first, each a list of the bytes of its [`NodeId`] and of
/// the list of its addresses, the newest first.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AddressBook {
    /// The oldest first; no node twice, none without an address.
    nodes: VecDeque<(NodeId, VecDeque<String>)>,
}

impl AddressBook {
    /// A book with no node.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the node last among the nodes and the address first among its addresses. Says whether that changed the
    /// book, which is then worth saving. An address that is empty or has more than [`MAX_ADDRESS`] bytes is not taken.
    pub fn remember(&mut self, node: NodeId, address: &str) -> bool {
        if address.is_empty() || address.len() > MAX_ADDRESS {
            return false;
        }
        let at = self.nodes.iter().position(|(known, _)| *known == node);
        let newest = at.is_some_and(|at| at + 1 == self.nodes.len());
        let mut addresses = at.and_then(|at| self.nodes.remove(at)).map(|(_, a)| a).unwrap_or_default();
        let same = newest && addresses.front().is_some_and(|first| first == address);
        addresses.retain(|known| known != address);
        addresses.push_front(address.to_owned());
        addresses.truncate(MAX_NODE_ADDRESSES);
        self.nodes.push_back((node, addresses));
        // One node alone is far below the bound on bytes, so the one just named stays.
        while self.nodes.len() > MAX_NODES || self.most_bytes() > MAX_PLAIN {
            self.nodes.pop_front();
        }
        !same
    }

    /// Forgets the node. Says whether it was known.
    pub fn forget(&mut self, node: &NodeId) -> bool {
        let known = self.nodes.len();
        self.nodes.retain(|(n, _)| n != node);
        self.nodes.len() < known
    }

    /// The addresses of the node, the newest first; none if it is not known.
    pub fn addresses(&self, node: &NodeId) -> impl Iterator<Item = &str> {
        self.nodes.iter().find(|(n, _)| n == node).into_iter().flat_map(|(_, a)| a).map(String::as_str)
    }

    /// The nodes, the one that was named longest ago first.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().map(|(node, _)| *node)
    }

    /// The book as [`AddressBook::decode`] takes it: at most [`MAX_PLAIN`] bytes, overwritten when dropped.
    ///
    /// # Errors
    /// [`AddressBookError`] if the encoder refuses, which it has no reason to.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, AddressBookError> {
        // Large enough from the start, so that growth leaves no copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.most_bytes()));
        self.write(&mut Encoder::new(&mut *bytes)).map_err(|_| AddressBookError("not encoded"))?;
        Ok(bytes)
    }

    /// Takes what [`AddressBook::encode`] gave, and nothing else: bounds are checked before anything is stored, and
    /// every book has one encoding.
    ///
    /// # Errors
    /// [`AddressBookError`] for everything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, AddressBookError> {
        if bytes.len() > MAX_PLAIN {
            return Err(AddressBookError("too many bytes"));
        }
        let book =
            Self::read(&mut Decoder::new(bytes)).map_err(|_| AddressBookError("not a list of nodes"))?;
        let mut seen = BTreeSet::new();
        let sound = |(node, addresses): &(NodeId, VecDeque<String>)| {
            seen.insert(*node)
                && !addresses.is_empty()
                && addresses.iter().all(|a| (1..=MAX_ADDRESS).contains(&a.len()))
                && addresses.iter().enumerate().all(|(i, a)| addresses.iter().take(i).all(|b| a != b))
        };
        if !book.nodes.iter().all(sound) {
            return Err(AddressBookError("a node or an address that is empty, too long or there twice"));
        }
        // Refuses what a lenient decoder lets through: trailing bytes, lengths written long or left open.
        if *book.encode()? != bytes || book.most_bytes() > MAX_PLAIN {
            return Err(AddressBookError("not the encoding that this version writes"));
        }
        Ok(book)
    }

    fn write(&self, e: &mut Encoder<&mut Vec<u8>>) -> Result<(), encode::Error<std::convert::Infallible>> {
        e.array(self.nodes.len() as u64)?;
        for (node, addresses) in &self.nodes {
            e.array(2)?.bytes(node.as_bytes())?.array(addresses.len() as u64)?;
            for address in addresses {
                e.str(address)?;
            }
        }
        Ok(())
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, decode::Error> {
        let mut nodes = VecDeque::new();
        for _ in 0..items(d, MAX_NODES)? {
            if items(d, 2)? != 2 {
                return Err(decode::Error::message("node"));
            }
            let node = NodeId::from_bytes(d.bytes()?).map_err(decode::Error::message)?;
            let mut addresses = VecDeque::new();
            for _ in 0..items(d, MAX_NODE_ADDRESSES)? {
                addresses.push_back(d.str()?.to_owned());
            }
            nodes.push_back((node, addresses));
        }
        Ok(Self { nodes })
    }

    /// At least the encoded length: each head as if it had three bytes, and none has more.
    fn most_bytes(&self) -> usize {
        let of_node = |(node, addresses): &(NodeId, VecDeque<String>)| {
            9 + node.as_bytes().len() + addresses.iter().map(|a| 3 + a.len()).sum::<usize>()
        };
        3 + self.nodes.iter().map(of_node).sum::<usize>()
    }
}

impl fmt::Debug for AddressBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressBook({} nodes)", self.nodes.len())
    }
}

/// The head of a list of at most `max` items.
fn items(d: &mut Decoder<'_>, max: usize) -> Result<u64, decode::Error> {
    d.array()?.filter(|n| *n <= max as u64).ok_or_else(|| decode::Error::message("list"))
}

/// Bytes that are no address book.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address book ({0}): delete the entry addresses/1, and addresses are learnt anew")]
pub struct AddressBookError(&'static str);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: StoreKey = StoreKey::ADDRESSES;

    fn sealed(seed: u8) -> (MemoryStore, SealedStore) {
        let store = MemoryStore::new();
        let sealed = SealedStore::new(Arc::new(store.clone()), &Identity::from_seed([seed; 32]));
        (store, sealed)
    }

    fn node(n: u16) -> NodeId {
        let [a, b] = n.to_be_bytes();
        NodeId::from_bytes(&[0, 2, a, b]).unwrap()
    }

    #[test]
    fn entries_come_back_and_never_look_alike() {
        let (store, sealed) = sealed(1);
        assert!(sealed.load(&KEY).unwrap().is_none());
        let mut entries = Vec::new();
        for plain in [&b"a secret place"[..], b"a secret place", b""] {
            sealed.save(&KEY, plain).unwrap();
            assert_eq!(sealed.load(&KEY).unwrap().unwrap().as_slice(), plain);
            let entry = store.load(&KEY).unwrap().unwrap();
            assert_eq!(entry.len(), plain.len() + 57);
            assert!(!entry.windows(6).any(|w| w == b"secret"));
            entries.push(entry);
        }
        assert_ne!(entries[0][1..41], entries[1][1..41], "nonce and check are new each time");
        assert_ne!(entries[0][41..], entries[1][41..]);
        sealed.delete(&KEY).unwrap();
        assert!(sealed.load(&KEY).unwrap().is_none());
        assert_eq!(format!("{sealed:?}"), "SealedStore(..)");
    }

    #[test]
    fn the_form_of_an_entry_is_frozen() {
        // Made outside of this program, from the description at the top.
        let (_, sealed) = sealed(7);
        let nonce = std::array::from_fn(|i| i as u8);
        let entry = sealed.seal(&KEY, b"frozen", &nonce).unwrap();
        let hex: String = entry.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "01000102030405060708090a0b0c0d0e0f10111213141516179942c23b23e15680e78396fee4",
                "033c686cdffc4b557ef40eae04a64bff6d4f579989876100af",
            )
        );
        assert_eq!(sealed.open(&KEY, &entry).unwrap().as_slice(), b"frozen");
    }

    #[test]
    fn hostile_changes_are_refused_and_told_apart() {
        let (store, sealed) = sealed(1);
        sealed.save(&KEY, b"contents").unwrap();
        let good = store.load(&KEY).unwrap().unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            store.save(&KEY, &bad).unwrap();
            let error = sealed.load(&KEY).unwrap_err();
            match at {
                0 => assert!(matches!(error, SealedError::Version { found: 0, .. }), "{error}"),
                1..41 => assert!(matches!(error, SealedError::OtherIdentity { .. }), "{at}: {error}"),
                _ => assert!(matches!(error, SealedError::Damaged { .. }), "{at}: {error}"),
            }
            assert!(error.to_string().contains("addresses/1"), "{error}");
        }
        for cut in 0..good.len() {
            store.save(&KEY, &good[..cut]).unwrap();
            assert!(matches!(sealed.load(&KEY), Err(SealedError::Damaged { .. })), "{cut}");
        }
        store.save(&KEY, &[&good[..], &[0]].concat()).unwrap();
        assert!(matches!(sealed.load(&KEY), Err(SealedError::Damaged { .. })));
        store.save(&KEY, &good).unwrap();
        assert_eq!(sealed.load(&KEY).unwrap().unwrap().as_slice(), b"contents");
    }

    #[test]
    fn the_newest_addresses_come_first_and_the_oldest_go() {
        let mut book = AddressBook::new();
        for n in 0..10 {
            assert!(book.remember(node(1), &n.to_string()));
        }
        assert!(!book.remember(node(1), "9"), "nothing new");
        assert!(book.remember(node(1), "4"));
        assert!(book.addresses(&node(1)).eq(["4", "9", "8", "7", "6", "5", "3", "2"]));
        assert!(book.remember(node(2), "x") && book.remember(node(1), "4"), "node 1 is the newer one now");
        assert!(book.nodes().eq([node(2), node(1)]));
        assert!(!book.remember(node(3), "") && !book.remember(node(3), &"x".repeat(MAX_ADDRESS + 1)));
        assert!(book.forget(&node(2)) && !book.forget(&node(2)) && book.addresses(&node(2)).next().is_none());
        assert_eq!(format!("{book:?}"), "AddressBook(1 nodes)");
    }

    #[test]
    fn a_full_book_is_bounded_in_nodes_and_in_bytes() {
        let long = |n: usize, len: usize| format!("{n}{}", "x".repeat(len - 1));
        let fit = (MAX_PLAIN - 3) / (13 + MAX_NODE_ADDRESSES * (3 + MAX_ADDRESS));
        for (len, nodes) in [(100, MAX_NODES), (MAX_ADDRESS, fit)] {
            let mut book = AddressBook::new();
            for n in 0..MAX_NODES as u16 + 10 {
                (0..MAX_NODE_ADDRESSES).for_each(|a| assert!(book.remember(node(n), &long(a, len))));
            }
            assert_eq!(book.nodes().count(), nodes);
            assert_eq!(book.nodes().last(), Some(node(MAX_NODES as u16 + 9)), "the newest stays");
            let bytes = book.encode().unwrap();
            assert!(bytes.len() <= book.most_bytes() && bytes.len() <= MAX_PLAIN);
            assert!(AddressBook::decode(&bytes).unwrap() == book);
        }
    }

    fn written(nodes: &[(&[u8], &[&str])]) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        e.array(nodes.len() as u64).unwrap();
        for (node, addresses) in nodes {
            e.array(2).unwrap().bytes(node).unwrap().array(addresses.len() as u64).unwrap();
            for address in *addresses {
                e.str(address).unwrap();
            }
        }
        e.into_writer()
    }

    #[test]
    fn hostile_books_are_refused() {
        let (a, b) = (node(1), node(2));
        let (a, b) = (a.as_bytes(), b.as_bytes());
        let good = written(&[(a, &["x", "y"]), (b, &["x"])]);
        let book = AddressBook::decode(&good).unwrap();
        assert!(*book.encode().unwrap() == good && book.addresses(&node(1)).eq(["x", "y"]));
        let many: Vec<_> = (0..=MAX_NODES as u16).map(node).collect();
        let many: Vec<_> = many.iter().map(|n| (n.as_bytes(), &["x"][..])).collect();
        assert!(AddressBook::decode(&written(&many[1..])).is_ok());
        let long = "x".repeat(MAX_ADDRESS + 1);
        for (what, bad) in [
            ("a node twice", written(&[(a, &["x"]), (a, &["y"])])),
            ("an address twice", written(&[(a, &["x", "x"])])),
            ("no address", written(&[(a, &[])])),
            ("an empty address", written(&[(a, &[""])])),
            ("a long address", written(&[(a, &[&long])])),
            ("nine addresses", written(&[(a, &["1", "2", "3", "4", "5", "6", "7", "8", "9"])])),
            ("no node id", written(&[(b"x", &["x"])])),
            ("too many nodes", written(&many)),
            ("too many bytes", vec![0x80; MAX_PLAIN + 1]),
            ("trailing", [&good[..], &[0]].concat()),
            ("open list", [&[0x9f][..], &good[1..], &[0xff]].concat()),
            ("long head", [&[0x98, 2][..], &good[1..]].concat()),
            ("huge list", vec![0x9b, 255, 255, 255, 255, 255, 255, 255, 255]),
            ("a triple", vec![0x81, 0x83, 0x44, 0, 2, 0, 1, 0x81, 0x61, b'x', 0]),
            ("bad text", vec![0x81, 0x82, 0x44, 0, 2, 0, 1, 0x81, 0x61, 0xff]),
        ] {
            assert!(AddressBook::decode(&bad).is_err(), "{what}");
        }
        (0..good.len()).for_each(|cut| assert!(AddressBook::decode(&good[..cut]).is_err()));
    }

    proptest! {
        /// Whatever the bytes, nothing panics; and what decodes has this one encoding.
        #[test]
        fn changed_books_never_panic(changes in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..4)) {
            let (a, b) = (node(1), node(2));
            let mut bytes = written(&[(a.as_bytes(), &["x", "long"]), (b.as_bytes(), &["y"])]);
            for (at, value) in changes {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            if let Ok(book) = AddressBook::decode(&bytes) {
                prop_assert_eq!(&*book.encode().unwrap(), &bytes);
            }
        }
    }
}
