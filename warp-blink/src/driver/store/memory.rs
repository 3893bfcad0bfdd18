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
    use super::*;
    use crate::ports::store::MAX_VALUE;

    #[test]
    fn entries_are_replaced_deleted_and_shared_by_clones() {
        let store = MemoryStore::new();
        let (a, b) = (StoreKey::ADDRESSES, StoreKey::new("other/1").unwrap());
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
        store.save(&StoreKey::ADDRESSES, &vec![1; MAX_VALUE]).unwrap();
        let error = store.save(&StoreKey::ADDRESSES, &vec![2; MAX_VALUE + 1]).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { size: 1_048_577, .. }), "{error}");
        assert_eq!(store.load(&StoreKey::ADDRESSES).unwrap().unwrap()[0], 1, "the old entry stays");
    }
}
