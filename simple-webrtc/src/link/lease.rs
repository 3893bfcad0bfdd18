use std::sync::Arc;

use tokio::sync::mpsc;

use super::now;
use crate::event::{Event, EventKind, FailReason, Generation, LinkState, Step};
use crate::peers::Shared;

/// A connection's place among those that live; given back exactly once, also if its task panics.
pub(crate) struct Lease<K: Clone + Ord> {
    pub(crate) shared: Arc<Shared<K>>,
    pub(crate) peer: K,
    pub(crate) generation: Generation,
    pub(crate) events: mpsc::Sender<Event<K>>,
    pub(crate) released: bool,
}

impl<K: Clone + Ord> Lease<K> {
    pub(super) fn release(&mut self) {
        if !std::mem::replace(&mut self.released, true) {
            self.shared.release(&self.peer, self.generation);
        }
    }
}

impl<K: Clone + Ord> Drop for Lease<K> {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        self.release();
        if std::thread::panicking() {
            tracing::error!(generation = self.generation.0, "the owner of a connection panicked");
            let reason = FailReason::Engine { doing: "go on: it panicked" };
            let kind = EventKind::State(LinkState::Failed { step: Step::Negotiating, reason });
            let event = Event { peer: self.peer.clone(), generation: self.generation, at: now(), kind };
            // Without room for it there is nothing more to be done here.
            let _ = self.events.try_send(event);
        }
    }
}
