//! The state that a screen draws.

use super::{call::Call, machine::Machine, membership::Membership, participant::Participant};
use crate::event::{CallSnapshot, LinkStatistics, ParticipantSnapshot, Snapshot, Statistics};

impl Machine {
    /// Everything at this moment. Addresses are the driver's to add.
    pub fn snapshot(&self) -> Snapshot {
        let mut calls: Vec<CallSnapshot> =
            self.calls.values().filter_map(|c| self.call_snapshot(c)).collect();
        calls.sort_by_key(|c| (c.since, c.id));
        Snapshot {
            node: self.node_state.clone(),
            findable: self.findable,
            node_id: Some(self.node),
            addresses: Vec::new(),
            calls,
            ended: self.history.iter().cloned().collect(),
            resumable: self.resumable(),
            local: self.local.clone(),
            errors: self.errors.iter().cloned().collect(),
            statistics: Statistics {
                links: self.link_statistics(),
                counters: self.counters,
                sound: self.sound,
            },
        }
    }

    fn call_snapshot(&self, call: &Call) -> Option<CallSnapshot> {
        Some(CallSnapshot {
            id: call.id,
            phase: call.phase()?,
            since: call.since,
            connected_at: call.connected_at,
            held: call.held,
            caller: call.caller,
            creator: call.members.as_ref().map(|m| m.create().creator),
            may_invite: call.members.as_ref().is_some_and(|m: &Membership| m.may_invite(&self.own)),
            media: call.media,
            participants: call.peers.values().map(participant).collect(),
        })
    }

    fn link_statistics(&self) -> Vec<LinkStatistics> {
        let of = |c: &Call, p: &Participant| {
            Some(LinkStatistics { call: c.id, peer: p.key, updated: p.stats_at?, stats: p.stats.clone() })
        };
        let open = self.calls.values().filter(|c| c.phase().is_some());
        open.flat_map(|c| c.peers.values().filter_map(move |p| of(c, p))).collect()
    }
}

fn participant(p: &Participant) -> ParticipantSnapshot {
    ParticipantSnapshot {
        peer: p.key,
        state: p.state(),
        link: p.link.state,
        timeline: p.timeline.clone(),
        protection: p.protection,
        route: p.link.route.clone(),
        connected_at: p.link.connected_at,
        disconnected_at: p.link.disconnected_at,
    }
}
