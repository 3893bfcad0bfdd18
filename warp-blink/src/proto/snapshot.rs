//! The state that a screen draws.

use super::machine::Machine;
use crate::event::{CallSnapshot, ParticipantSnapshot, Snapshot};

impl Machine {
    /// Everything at this moment. Addresses are the driver's to add.
    pub fn snapshot(&self) -> Snapshot {
        let mut calls: Vec<CallSnapshot> = self
            .calls
            .values()
            .filter_map(|c| {
                let participant = ParticipantSnapshot {
                    peer: c.peer.key,
                    state: c.peer.state,
                    ringing: c.peer.ringing,
                    link: c.peer.link.state,
                    timeline: c.peer.timeline.clone(),
                    protection: c.peer.protection,
                    stats: c.peer.stats.clone(),
                };
                Some(CallSnapshot {
                    id: c.id,
                    phase: c.phase()?,
                    since: c.since,
                    media: c.media,
                    participants: vec![participant],
                })
            })
            .collect();
        calls.sort_by_key(|c| (c.since, c.id));
        Snapshot {
            node: self.node_state.clone(),
            node_id: Some(self.node),
            addresses: Vec::new(),
            calls,
            local: self.local,
            counters: self.counters,
        }
    }
}
