//! What handles of calls must know and no snapshot says: which call has become another one, and which were connected.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    event::{Event, Snapshot},
    id::CallId,
};

/// The most calls of either sort: as many as the machine has in any state. The oldest is forgotten.
const MAX: usize = 64;

/// The task writes it before it shows a snapshot; handles read it.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    merged: VecDeque<(CallId, CallId)>,
    connected: VecDeque<CallId>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call that this id is a name for.
    pub(crate) fn resolve(&self, call: CallId) -> CallId {
        let entries = self.lock();
        entries.merged.iter().rev().find(|(old, _)| *old == call).map_or(call, |(_, into)| *into)
    }

    /// Whether the call was accepted and the link to one of the others up.
    pub(crate) fn was_connected(&self, call: CallId) -> bool {
        self.lock().connected.contains(&call)
    }

    /// Something is about to be told.
    pub(super) fn note_event(&self, event: &Event) {
        match event {
            Event::Merged { call, into, .. } => {
                let mut entries = self.lock();
                for (_, name) in entries.merged.iter_mut().filter(|(_, name)| name == call) {
                    *name = *into;
                }
                push(&mut entries.merged, (*call, *into));
            }
            // Invited again to a call that had ended here: it begins anew.
            Event::Incoming { call, .. } => {
                self.lock().connected.retain(|known| known != call);
            }
            _ => {}
        }
    }

    /// A snapshot is about to be shown.
    pub(super) fn note(&self, snapshot: &Snapshot) {
        let mut connected = snapshot.calls.iter().filter(|c| c.connected_at.is_some()).peekable();
        if connected.peek().is_none() {
            return;
        }
        let mut entries = self.lock();
        for call in connected {
            if !entries.connected.contains(&call.id) {
                push(&mut entries.connected, call.id);
            }
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, entry: T) {
    if queue.len() >= MAX {
        queue.pop_front();
    }
    queue.push_back(entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    #[test]
    fn a_merged_call_is_a_name_for_the_other_and_the_oldest_go() {
        let id = |n: u8| CallId::from_bytes([n; 16]);
        let merged = |call, into| {
            let peer = Identity::from_seed([1; 32]).public();
            Event::Merged { call, into, peer }
        };
        let ledger = Ledger::default();
        ledger.note_event(&merged(id(1), id(2)));
        ledger.note_event(&merged(id(2), id(3)));
        assert_eq!([1, 2, 3, 4].map(|n| ledger.resolve(id(n))), [id(3), id(3), id(3), id(4)]);
        for n in 0..MAX as u8 {
            ledger.note_event(&merged(id(100 + n), id(200)));
        }
        assert_eq!(ledger.resolve(id(1)), id(1));
        assert_eq!(ledger.resolve(id(100)), id(200));
    }
}
