//! What the app of a node is told of each call: in the order that `warp_blink::event` promises.
//!
//! A call has rounds at a node: from its offer, or from its ringing, to its one end. Who declined, left or was removed
//! can be invited again, which begins the next round.

use std::collections::{BTreeMap, BTreeSet};

use warp_blink::{
    event::{EndReason, Event, Presence},
    id::{CallId, PublicKey},
    time::Instant,
};

use super::{Fault, Happening, World};

/// How a call ended at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why.
    pub reason: EndReason,
    /// Which node ended it; `None` if nobody did.
    pub by: Option<usize>,
    /// When this node knew.
    pub at: Instant,
}

/// What a node's app has been told of one call.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// A round is under way.
    pub(super) began: bool,
    offered: BTreeSet<PublicKey>,
    ringing: BTreeSet<PublicKey>,
    pub(super) accepted: bool,
    left: bool,
    held: bool,
    presence: BTreeMap<PublicKey, Presence>,
    /// First messages of this call that were opened here.
    pub(super) offers: u32,
    misses: u32,
    pub(super) missed: Option<EndReason>,
    /// The end of the last round.
    pub(super) outcome: Option<Outcome>,
    /// Until when it may ring here.
    pub(super) rings_until: Option<Instant>,
    /// Until when others may be called from here.
    pub(super) called: BTreeMap<PublicKey, Instant>,
}

impl Watch {
    fn begin(&mut self) -> bool {
        let fresh = !self.began;
        let Self { offers, misses, missed, called, .. } = std::mem::take(self);
        *self = Self { began: true, offers, misses, missed, called, ..Self::default() };
        fresh
    }

    /// These are called, perhaps again.
    pub(super) fn calls(&mut self, peer: PublicKey, until: Instant) {
        self.offered.remove(&peer);
        self.ringing.remove(&peer);
        self.called.insert(peer, until);
    }

    /// Takes an event; whether it may come now.
    fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Offering { peer, .. } => {
                let ours = self.began || (self.outcome.is_none() && self.begin());
                ours && self.offered.insert(*peer)
            }
            Event::Incoming { .. } => !self.began && self.begin(),
            Event::Ringing { peer, .. } => {
                self.began && self.offered.contains(peer) && self.ringing.insert(*peer)
            }
            Event::Accepted { .. } => self.began && !std::mem::replace(&mut self.accepted, true),
            Event::Participant { peer, state, .. } => {
                let known = self.presence.insert(*peer, state.presence);
                let again = known == Some(Presence::Joined) || state.presence != Presence::Reconnecting;
                let again = again || known == Some(Presence::Reconnecting);
                self.began && (self.accepted || !state.presence.is_in()) && again
            }
            Event::Left { .. } => self.accepted && !std::mem::replace(&mut self.left, true),
            Event::Rejoined { .. } if self.began => self.accepted && std::mem::take(&mut self.left),
            Event::Rejoined { .. } => {
                // An earlier run was in it.
                self.begin();
                self.accepted = true;
                true
            }
            Event::Held { held, .. } => self.accepted && std::mem::replace(&mut self.held, *held) != *held,
            Event::MediaStarted { .. } | Event::FirstAudio { .. } => self.began && self.accepted,
            Event::Missed { reason, .. } => {
                self.misses += 1;
                self.missed = Some(*reason);
                if !self.began {
                    // What rang before and was given up came again, and this is how that ended.
                    self.outcome = None;
                }
                !(self.began && self.accepted) && self.misses <= self.offers
            }
            // A link that fails while it rings is made anew when somebody answers.
            Event::Ended { reason: EndReason::Failed { .. }, .. } if !self.accepted => false,
            Event::Ended { .. } => std::mem::take(&mut self.began),
            _ => self.began,
        }
    }
}

/// Which call an event is about.
fn subject(event: &Event) -> Option<CallId> {
    match event {
        Event::Offering { call, .. }
        | Event::Incoming { call, .. }
        | Event::Ringing { call, .. }
        | Event::Accepted { call, .. }
        | Event::Link { call, .. }
        | Event::Held { call, .. }
        | Event::Left { call }
        | Event::Rejoined { call }
        | Event::Participant { call, .. }
        | Event::MediaStarted { call, .. }
        | Event::FirstAudio { call, .. }
        | Event::Missed { call, .. }
        | Event::Ended { call, .. } => Some(*call),
        _ => None,
    }
}

impl World {
    /// After each event.
    pub(super) fn told(&mut self, node: usize, event: &Event) -> Result<(), Fault> {
        if let Event::Merged { call, into, .. } = event {
            return self.merged(node, *call, *into);
        }
        let Some(call) = subject(event) else { return Ok(()) };
        let watch = self.nodes[node].watch.entry(call).or_default();
        let before = self.verbose.then(|| watch.clone());
        if !watch.take(event) {
            let before = before.map_or(String::new(), |b| format!("; before it: {b:?}"));
            return Err(self.fault(node, format!("out of order: {event:?}{before}")));
        }
        match event {
            Event::Held { held, .. } => {
                let all = &mut self.nodes[node].held;
                let changed = if *held { all.insert(call) } else { all.remove(&call) };
                if !changed {
                    return Err(self.fault(node, "held twice, or not at all"));
                }
            }
            Event::Incoming { from, .. } => self.rang(node, call, from),
            Event::Ended { reason, by, .. } => {
                let creator = self.nodes[node].views.get(&call).map(|v| v.creator);
                if *reason == EndReason::Removed && by.is_some() && *by != creator {
                    return Err(self.fault(node, format!("removed by {by:?}, not by the creator")));
                }
                let by = by.and_then(|by| self.index(&by));
                let outcome = Outcome { reason: *reason, by, at: self.now };
                self.nodes[node].held.remove(&call);
                if let Some(watch) = self.nodes[node].watch.get_mut(&call) {
                    watch.outcome = Some(outcome);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// It rings here, until its caller's time or this side's is over.
    fn rang(&mut self, node: usize, call: CallId, from: &PublicKey) {
        let theirs = self.index(from).map(|from| self.nodes[from].config.ring_timeout);
        let longest = self.nodes[node].config.max_ring;
        let longest = theirs.map_or(longest, |theirs| theirs.min(longest));
        let until = self.now + longest;
        if let Some(watch) = self.nodes[node].watch.get_mut(&call) {
            watch.rings_until = Some(until);
        }
        let life = self.nodes[node].life;
        self.later(longest + super::rules::AT_ONCE, Happening::Silent { node, life, call, peer: None });
    }

    /// Whoever called accepts; the own call is over with that, for both ends.
    fn merged(&mut self, node: usize, call: CallId, into: CallId) -> Result<(), Fault> {
        self.accepted.insert(into);
        self.calls.remove(&call);
        let at = self.now;
        let watches = &mut self.nodes[node].watch;
        let kept = watches.entry(into).or_default();
        if !kept.began {
            kept.begin();
        }
        let mine = watches.entry(call).or_default();
        mine.began = false;
        mine.outcome = Some(Outcome { reason: EndReason::Cancelled, by: None, at });
        Ok(())
    }
}
