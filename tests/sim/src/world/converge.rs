//! Everything heals, and all agree within a stated time.

use std::time::Duration;

use warp_blink::{
    event::{CallSnapshot, Phase, Presence, Snapshot},
    id::CallId,
};

use super::{Fault, Happening, World, roll::Gone};

/// Within this time after everything has healed, all agree on each call.
pub(super) const SETTLED: Duration = Duration::from_secs(90);

/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

impl World {
    /// What the script still has in store happens.
    pub(super) fn play_out(&mut self) -> Result<(), Fault> {
        let scripted = |h: &Happening| {
            matches!(
                h,
                Happening::Act { .. }
                    | Happening::Wake { .. }
                    | Happening::Start { .. }
                    | Happening::Resume { .. }
            )
        };
        loop {
            let script = self.queue.iter().rev().find(|(_, h)| scripted(h)).map(|((t, _), _)| *t);
            let heal = self.cuts.iter().map(|c| c.until).max();
            match script.max(heal).filter(|t| *t > self.now) {
                Some(last) => self.run_for(last.since(self.now))?,
                None => return Ok(()),
            }
        }
    }

    /// All cuts are over, who sleeps wakes, who is dead is started.
    pub(super) fn heal(&mut self) -> Result<(), Fault> {
        let now = self.now;
        for n in 0..self.cuts.len() {
            let cut = self.cuts[n];
            if cut.until > now {
                self.cuts[n].until = now.max(cut.from);
                self.cut_changed(cut.island);
            }
        }
        for node in 0..self.nodes.len() {
            self.wake(node)?;
            if !self.nodes[node].up {
                self.start(node)?;
            }
        }
        Ok(())
    }

    /// Everything heals; within `SETTLED` all who are in a call agree on it. Says how long it took.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn settle(&mut self) -> Result<Duration, Fault> {
        self.play_out()?;
        self.heal()?;
        let begin = self.now;
        loop {
            match self.disagreement() {
                None => return Ok(self.now.since(begin)),
                Some((node, what)) if self.now.since(begin) >= SETTLED => {
                    return Err(self.fault(node, format!("{SETTLED:?} after everything healed, {what}")));
                }
                Some(_) => self.run_for(LOOK)?,
            }
        }
    }

    /// How many take part in the call that most take part in.
    pub fn largest(&self) -> usize {
        let mut members = std::collections::BTreeMap::<CallId, usize>::new();
        for node in &self.nodes {
            for call in node.machine.snapshot().calls.iter().filter(|c| c.phase == Phase::Active) {
                *members.entry(call.id).or_default() += 1;
            }
        }
        members.into_values().max().unwrap_or(0)
    }

    /// In what two nodes that are in a call together disagree, if they do.
    pub fn disagreement(&self) -> Option<(usize, String)> {
        let seen: Vec<Snapshot> = self.nodes.iter().map(|n| n.machine.snapshot()).collect();
        // Who was removed and has not heard of it takes part in nothing.
        let active = |n: usize, call: CallId| {
            let active = |c: &&CallSnapshot| c.phase == Phase::Active && !self.was_removed(n, call, &seen);
            seen[n].call(call).filter(active)
        };
        for (node, snapshot) in seen.iter().enumerate() {
            for call in snapshot.calls.iter().filter(|c| active(node, c.id).is_some()) {
                let members: Vec<(usize, &CallSnapshot)> =
                    (0..seen.len()).filter_map(|n| Some((n, active(n, call.id)?))).collect();
                for p in &call.participants {
                    let Some(other) = self.index(&p.peer) else { continue };
                    let there = members.iter().any(|(n, _)| *n == other);
                    if !there && p.state.presence.is_in() {
                        let what = format!(
                            "shows node {other} as {:?}, who is not in {}",
                            p.state.presence, call.id
                        );
                        return Some((node, what));
                    }
                }
                for (other, _) in members.iter().filter(|(n, _)| *n != node) {
                    if let Some(what) = self.differ(node, *other, call.id, &seen) {
                        return Some((node, what));
                    }
                }
            }
        }
        None
    }

    /// Somebody in the call knows that this one was removed, and nobody has brought it back.
    fn was_removed(&self, node: usize, call: CallId, seen: &[Snapshot]) -> bool {
        let key = self.nodes[node].key;
        let active = |n: &usize| seen[*n].call(call).is_some_and(|c| c.phase == Phase::Active);
        let mut views = (0..self.nodes.len()).filter(active).filter_map(|n| self.nodes[n].views.get(&call));
        views.any(|view| {
            matches!(view.gone.get(&key), Some(Gone::Removed(_))) && self.is_out(call, &key, view)
        })
    }

    fn differ(&self, a: usize, b: usize, call: CallId, seen: &[Snapshot]) -> Option<String> {
        let shared = |c: &&CallSnapshot| {
            c.phase == Phase::Active && seen[b].call(c.id).is_some_and(|c| c.phase == Phase::Active)
        };
        let key = self.nodes[b].key;
        let of = seen[a].call(call)?.participants.iter().find(|p| p.peer == key).map(|p| p.state.presence);
        // Two people have one link, whatever calls they share.
        if of != Some(Presence::Joined) && seen[a].calls.iter().filter(shared).count() == 1 {
            return Some(format!("shows node {b} as {of:?}, who is in {call}"));
        }
        let (one, two) = (self.nodes[a].views.get(&call), self.nodes[b].views.get(&call));
        if one.map(|v| v.hash) != two.map(|v| v.hash) {
            return Some(format!("keeps another roll of {call} than node {b}: {one:?}, {two:?}"));
        }
        let (one, two) = (self.nodes[a].said.get(&call), self.nodes[b].said.get(&call));
        let lately = |said: Option<&(warp_blink::time::Instant, _, _)>| {
            let period = self.nodes[a].config.announce_period;
            said.is_some_and(|(t, ..)| self.now.since(*t) <= period + LOOK)
        };
        if !lately(one) || !lately(two) || one.map(|s| (s.1, s.2)) != two.map(|s| (s.1, s.2)) {
            return Some(format!("does not announce what node {b} does in {call}: {one:?}, {two:?}"));
        }
        None
    }
}
