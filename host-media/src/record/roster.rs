//! Who takes part, and what their files are to be called.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{MAX_PEERS, format::PeerId, lock};

/// Labels that are kept for peers that are not there: as many again as can be there.
const MAX_LABELS: usize = 2 * MAX_PEERS;

/// The peers of an engine with their labels. Written by its handles, read by the threads of its recordings.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    peers: Mutex<BTreeMap<PeerId, Entry>>,
    version: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    label: Option<String>,
    present: bool,
}

impl Roster {
    pub(crate) fn joined(&self, peer: PeerId) {
        lock(&self.peers).entry(peer).or_default().present = true;
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn left(&self, peer: PeerId) {
        let mut peers = lock(&self.peers);
        match peers.get_mut(&peer) {
            Some(entry) if entry.label.is_some() => entry.present = false,
            _ => drop(peers.remove(&peer)),
        }
    }

    pub(crate) fn set_label(&self, peer: PeerId, label: &str) {
        let mut peers = lock(&self.peers);
        if !peers.contains_key(&peer) && peers.len() >= MAX_LABELS {
            peers.retain(|_, entry| entry.present);
        }
        peers.entry(peer).or_default().label = Some(label.to_owned());
    }

    /// The label that was set for a peer.
    pub(super) fn label(&self, peer: PeerId) -> Option<String> {
        lock(&self.peers).get(&peer).and_then(|entry| entry.label.clone())
    }

    /// Counts the peers that came.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The peers that are there, in order.
    pub(super) fn present(&self) -> Vec<PeerId> {
        lock(&self.peers).iter().filter(|(_, entry)| entry.present).map(|(peer, _)| *peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_may_come_first_and_stay_for_those_who_come_back() {
        let roster = Roster::default();
        roster.set_label(PeerId(1), "Ann");
        assert_eq!(roster.present(), []);
        roster.joined(PeerId(1));
        roster.joined(PeerId(2));
        assert_eq!(roster.present(), [PeerId(1), PeerId(2)]);
        roster.left(PeerId(1));
        roster.left(PeerId(2));
        assert_eq!(roster.present(), []);
        assert_eq!(roster.label(PeerId(1)).as_deref(), Some("Ann"));
        assert_eq!(roster.label(PeerId(2)), None);
    }

    #[test]
    fn labels_are_bounded() {
        let roster = Roster::default();
        roster.set_label(PeerId(0), "here");
        roster.joined(PeerId(0));
        for i in 1..10_000 {
            roster.set_label(PeerId(i), "x");
            assert!(lock(&roster.peers).len() <= MAX_LABELS);
        }
        assert_eq!(roster.label(PeerId(0)).as_deref(), Some("here"));
        assert_eq!(roster.label(PeerId(9_999)).as_deref(), Some("x"));
    }
}
