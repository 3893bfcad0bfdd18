//! Entries in memory, gone with the process.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::ports::store::{Store, StoreError, StoreKey, check_size};

/// Keeps entries in memory: for tests, and where nothing may stay on a disk.
///
/// Clones share their entries, so that a test can end a phone and start it again. There are at most as many entries as
/// the program has names for, of [`MAX_VALUE`](crate::ports::store::MAX_VALUE) bytes each.
#[derive(Clone, Default)]
pub struct MemoryStore {
    entries: Arc<Mutex<BTreeMap<StoreKey, Vec<u8>>>>,
}

impl MemoryStore {
    /// A store with no entry.
    pub fn new() -> Self {
        Self::default()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<StoreKey, Vec<u8>>> {
        // Whoever panicked here did so before or after one whole change of the map.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&self, key: &StoreKey) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.entries().get(key).cloned())
    }

    fn save(&self, key: &StoreKey, value: &[u8]) -> Result<(), StoreError> {
        check_size(key, value.len() as u64)?;
        self.entries().insert(*key, value.to_vec());
        Ok(())
    }

    fn delete(&self, key: &StoreKey) -> Result<(), StoreError> {
        self.entries().remove(key);
        Ok(())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore ")?;
        f.debug_set().entries(self.entries().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{MAX_PLAIN, SealedError, SealedStore},
        *,
    };
    use crate::{id::Identity, ports::store::MAX_VALUE};

    const KEY: StoreKey = StoreKey::ADDRESSES;

    /// A store that plays tricks below the sealing.
    fn sealed() -> (MemoryStore, SealedStore) {
        let store = MemoryStore::new();
        let sealed = SealedStore::new(Arc::new(store.clone()), &Identity::from_seed([1; 32]));
        (store, sealed)
    }

    #[test]
    fn entries_are_replaced_deleted_and_shared_by_clones() {
        let store = MemoryStore::new();
        let (a, b) = (KEY, StoreKey::new("other/1").unwrap());
        assert_eq!(store.load(&a).unwrap(), None);
        store.save(&a, b"one").unwrap();
        store.save(&a, b"two").unwrap();
        assert_eq!(store.clone().load(&a).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(store.load(&b).unwrap(), None);
        store.delete(&b).unwrap();
        store.delete(&a).unwrap();
        assert_eq!(store.load(&a).unwrap(), None);
        assert_eq!(MemoryStore::new().load(&a).unwrap(), None);
    }

    #[test]
    fn the_size_is_bounded() {
        let store = MemoryStore::new();
        store.save(&KEY, &vec![1; MAX_VALUE]).unwrap();
        let error = store.save(&KEY, &vec![2; MAX_VALUE + 1]).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { size: 1_048_577, .. }), "{error}");
        assert_eq!(store.load(&KEY).unwrap().unwrap()[0], 1, "the old entry stays");
    }

    #[test]
    fn hostile_exchanges_of_entries_are_refused() {
        let (store, sealed) = sealed();
        let other = StoreKey::new("addresses/2").unwrap();
        sealed.save(&KEY, b"one").unwrap();
        sealed.save(&other, b"two").unwrap();
        let (one, two) = (store.load(&KEY).unwrap().unwrap(), store.load(&other).unwrap().unwrap());
        store.save(&KEY, &two).unwrap();
        store.save(&other, &one).unwrap();
        for key in [KEY, other] {
            assert!(matches!(sealed.load(&key), Err(SealedError::Damaged { .. })));
        }
    }

    #[test]
    fn another_identity_cannot_read_and_destroys_nothing() {
        let (store, sealed) = sealed();
        sealed.save(&KEY, b"mine").unwrap();
        let stranger = SealedStore::new(Arc::new(store), &Identity::from_seed([2; 32]));
        assert!(matches!(stranger.load(&KEY), Err(SealedError::OtherIdentity { .. })));
        assert_eq!(sealed.load(&KEY).unwrap().unwrap().as_slice(), b"mine");
    }

    #[test]
    fn the_size_is_bounded_and_a_store_that_breaks_the_bound_is_refused() {
        struct Generous;
        impl Store for Generous {
            fn load(&self, _: &StoreKey) -> Result<Option<Vec<u8>>, StoreError> {
                Ok(Some(vec![1; MAX_VALUE + 1]))
            }
            fn save(&self, _: &StoreKey, _: &[u8]) -> Result<(), StoreError> {
                Err(StoreError::backend("full"))
            }
            fn delete(&self, _: &StoreKey) -> Result<(), StoreError> {
                Ok(())
            }
        }
        let (_, sealed) = sealed();
        sealed.save(&KEY, &vec![1; MAX_PLAIN]).unwrap();
        let error = sealed.save(&KEY, &vec![1; MAX_PLAIN + 1]).unwrap_err();
        assert!(matches!(error, SealedError::Store(StoreError::TooLarge { max: MAX_PLAIN, .. })), "{error}");
        assert_eq!(sealed.load(&KEY).unwrap().unwrap().len(), MAX_PLAIN, "the old entry stays");
        let sealed = SealedStore::new(Arc::new(Generous), &Identity::from_seed([1; 32]));
        assert!(matches!(sealed.load(&KEY), Err(SealedError::Store(StoreError::TooLarge { .. }))));
        assert_eq!(sealed.save(&KEY, b"x").unwrap_err().to_string(), "the app's store failed: full");
    }
}
