//! The addresses of nodes, remembered between runs.

use super::{shelf::Shelf, store::AddressBook};
use crate::{id::NodeId, ports::store::StoreKey};

/// The book, and where it is kept.
pub(super) struct Book {
    book: AddressBook,
    shelf: Shelf,
    changed: bool,
}

impl Book {
    /// What was remembered. A book that cannot be read is left as it is, and nothing is remembered in this run.
    pub(super) async fn load(mut shelf: Shelf) -> Self {
        let book = shelf.load(StoreKey::ADDRESSES, AddressBook::decode).await.unwrap_or_default();
        Self { book, shelf, changed: false }
    }

    pub(super) fn remember(&mut self, node: NodeId, address: &str) {
        self.changed |= self.book.remember(node, address);
    }

    pub(super) fn addresses(&self, node: &NodeId) -> Vec<String> {
        self.book.addresses(node).map(str::to_owned).collect()
    }

    /// Starts to save if there is something new.
    pub(super) fn save(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        match self.book.encode() {
            // A failure is logged where it happens.
            Ok(bytes) => drop(self.shelf.save(StoreKey::ADDRESSES, bytes)),
            Err(error) => tracing::warn!(%error, "the addresses are not remembered"),
        }
    }

    /// Saves what is new, and waits for it.
    pub(super) async fn close(&mut self) {
        self.save();
        self.shelf.close().await;
    }
}
