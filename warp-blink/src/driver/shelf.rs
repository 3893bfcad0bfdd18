//! What is kept between runs, from a task that must not block: loads and saves on threads where blocking is allowed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::oneshot, task::JoinHandle};
use zeroize::Zeroizing;

use super::store::SealedStore;
use crate::ports::store::StoreKey;

/// Entries of a store, or of none.
pub(super) struct Shelf {
    store: Option<Arc<SealedStore>>,
    /// Entries that could not be read: they are left as they are, for somebody who can.
    unreadable: BTreeSet<StoreKey>,
    queue: Arc<Mutex<Queue>>,
    saving: Option<JoinHandle<()>>,
}

/// What waits to be saved.
#[derive(Default)]
struct Queue {
    waiting: BTreeMap<StoreKey, Entry>,
    /// Somebody works on it, and looks once more before they stop.
    running: bool,
}

/// An entry to be saved. A newer one takes its place: what waits is bounded by the number of names.
struct Entry {
    bytes: Zeroizing<Vec<u8>>,
    done: Vec<oneshot::Sender<Result<(), String>>>,
}

/// How a save will have ended.
pub(super) struct Saved(Option<oneshot::Receiver<Result<(), String>>>);

impl Saved {
    /// Waits for it. Without a store nothing can fail, and nothing is kept.
    pub(super) async fn done(self) -> Result<(), String> {
        match self.0 {
            Some(result) => result.await.unwrap_or_else(|_| Err("the store has closed".to_owned())),
            None => Ok(()),
        }
    }
}

impl Shelf {
    pub(super) fn new(store: Option<Arc<SealedStore>>) -> Self {
        Self { store, unreadable: BTreeSet::new(), queue: Arc::default(), saving: None }
    }

    /// The entry, if there is one and it can be read.
    pub(super) async fn load<T, E: std::fmt::Display>(
        &mut self,
        key: StoreKey,
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Option<T> {
        let store = self.store.clone()?;
        let read = match tokio::task::spawn_blocking(move || store.load(&key)).await {
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(entry))) => decode(&entry).map_err(|e| e.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        read.inspect_err(|error| {
            tracing::warn!(%key, error, "what was kept cannot be read: it is left as it is, and not used");
            self.unreadable.insert(key);
        })
        .ok()
    }

    /// Saves the entry, unless a newer one comes first.
    pub(super) fn save(&mut self, key: StoreKey, bytes: impl Into<Zeroizing<Vec<u8>>>) -> Saved {
        let bytes = bytes.into();
        let Some(store) = self.store.clone().filter(|_| !self.unreadable.contains(&key)) else {
            return Saved(None);
        };
        let (done, result) = oneshot::channel();
        let mut queue = lock(&self.queue);
        let entry = queue
            .waiting
            .entry(key)
            .or_insert_with(|| Entry { bytes: Zeroizing::default(), done: Vec::new() });
        entry.bytes = bytes;
        // Whoever no longer waits is not kept either.
        entry.done.retain(|done| !done.is_closed());
        entry.done.push(done);
        let idle = !std::mem::replace(&mut queue.running, true);
        drop(queue);
        if idle {
            self.start(store);
        }
        Saved(Some(result))
    }

    fn start(&mut self, store: Arc<SealedStore>) {
        let queue = self.queue.clone();
        self.saving = Some(tokio::task::spawn_blocking(move || {
            while let Some((key, Entry { bytes, done })) = next(&queue) {
                let saved = store.save(&key, &bytes).map_err(|e| e.to_string());
                if let Err(error) = &saved {
                    tracing::warn!(%key, error, "this is not kept");
                }
                for done in done {
                    // Nobody need be waiting.
                    let _ = done.send(saved.clone());
                }
            }
        }));
    }

    /// Waits until everything is saved.
    pub(super) async fn close(&mut self) {
        if let Some(saving) = self.saving.take() {
            // Failures were logged one by one.
            let _ = saving.await;
        }
    }
}

fn next(queue: &Mutex<Queue>) -> Option<(StoreKey, Entry)> {
    let mut queue = lock(queue);
    let next = queue.waiting.pop_first();
    queue.running = next.is_some();
    next
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        driver::store::MemoryStore,
        id::Identity,
        ports::store::{Store, StoreError},
    };

    fn shelf(store: Arc<dyn Store>) -> Shelf {
        Shelf::new(Some(Arc::new(SealedStore::new(store, &Identity::from_seed([1; 32])))))
    }

    #[tokio::test]
    async fn the_last_of_many_saves_is_what_stays_and_each_is_told_how_it_ended() {
        let store = Arc::new(MemoryStore::default());
        let mut kept = shelf(store.clone());
        let saves: Vec<Saved> = (0..50).map(|n| kept.save(StoreKey::REPLAY, vec![n])).collect();
        for saved in saves {
            assert_eq!(saved.done().await, Ok(()));
        }
        kept.save(StoreKey::TOKEN, vec![7]);
        kept.close().await;
        let mut again = shelf(store);
        let read = |bytes: &[u8]| Ok::<_, String>(bytes.to_vec());
        assert_eq!(again.load(StoreKey::REPLAY, read).await, Some(vec![49]));
        assert_eq!(again.load(StoreKey::TOKEN, read).await, Some(vec![7]));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_written_over() {
        let store = Arc::new(MemoryStore::default());
        let mut kept = shelf(store.clone());
        assert_eq!(kept.save(StoreKey::REPLAY, vec![1]).done().await, Ok(()));
        let mut newer = shelf(store.clone());
        let refuse = |_: &[u8]| Err::<(), _>("of a later build");
        assert_eq!(newer.load(StoreKey::REPLAY, refuse).await, None);
        assert_eq!(newer.save(StoreKey::REPLAY, vec![2]).done().await, Ok(()));
        newer.close().await;
        let read = |bytes: &[u8]| Ok::<_, String>(bytes.to_vec());
        assert_eq!(shelf(store).load(StoreKey::REPLAY, read).await, Some(vec![1]));
    }

    #[tokio::test]
    async fn a_failed_save_is_told() {
        struct Full;
        impl Store for Full {
            fn load(&self, _: &StoreKey) -> Result<Option<Vec<u8>>, StoreError> {
                Ok(None)
            }
            fn save(&self, _: &StoreKey, _: &[u8]) -> Result<(), StoreError> {
                Err(StoreError::backend("disk full"))
            }
            fn delete(&self, _: &StoreKey) -> Result<(), StoreError> {
                Ok(())
            }
        }
        let saved = shelf(Arc::new(Full)).save(StoreKey::TOKEN, vec![1]).done().await;
        assert!(saved.unwrap_err().contains("disk full"));
        assert_eq!(Shelf::new(None).save(StoreKey::TOKEN, vec![1]).done().await, Ok(()));
    }
}
