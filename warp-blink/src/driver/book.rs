//! The addresses of nodes, remembered between runs.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::store::{AddressBook, SealedStore};
use crate::{id::NodeId, ports::store::StoreKey};

/// The book, and the store that keeps it. Saves one at a time, away from the task that owns it.
pub(super) struct Book {
    book: AddressBook,
    store: Option<Arc<SealedStore>>,
    changed: bool,
    saving: Option<JoinHandle<()>>,
}

impl Book {
    /// What was remembered. A book that cannot be read is left as it is, and nothing is remembered in this run.
    pub(super) async fn load(mut store: Option<Arc<SealedStore>>) -> Self {
        let mut book = AddressBook::new();
        if let Some(kept) = store.clone() {
            let read = tokio::task::spawn_blocking(move || {
                let bytes = kept.load(&StoreKey::ADDRESSES).map_err(|e| e.to_string())?;
                bytes.map(|b| AddressBook::decode(&b).map_err(|e| e.to_string())).transpose()
            });
            match read.await {
                Ok(Ok(Some(read))) => book = read,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(
                        error,
                        "the remembered addresses cannot be read: none are remembered in this run"
                    );
                    store = None;
                }
                Err(error) => tracing::warn!(%error, "reading the remembered addresses"),
            }
        }
        Self { book, store, changed: false, saving: None }
    }

    pub(super) fn remember(&mut self, node: NodeId, address: &str) {
        self.changed |= self.book.remember(node, address);
    }

    pub(super) fn addresses(&self, node: &NodeId) -> Vec<String> {
        self.book.addresses(node).map(str::to_owned).collect()
    }

    /// Starts to save if there is something new and nothing is being saved.
    pub(super) fn save(&mut self) {
        let busy = self.saving.as_ref().is_some_and(|s| !s.is_finished());
        let Some(store) = self.store.clone().filter(|_| self.changed && !busy) else { return };
        self.changed = false;
        match self.book.encode() {
            Ok(bytes) => {
                self.saving = Some(tokio::task::spawn_blocking(move || {
                    if let Err(error) = store.save(&StoreKey::ADDRESSES, &bytes) {
                        tracing::warn!(%error, "the addresses are not remembered");
                    }
                }));
            }
            Err(error) => tracing::warn!(%error, "the addresses are not remembered"),
        }
    }

    /// Saves what is new, and waits for it.
    pub(super) async fn close(&mut self) {
        for _ in 0..2 {
            if let Some(saving) = self.saving.take()
                && let Err(error) = saving.await
            {
                tracing::warn!(%error, "saving the addresses");
            }
            self.save();
        }
        if let Some(saving) = self.saving.take() {
            // Its own failure was logged by itself.
            let _ = saving.await;
        }
    }
}
