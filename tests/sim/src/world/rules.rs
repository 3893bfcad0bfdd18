//! What must hold: after each step of each machine, and in the end of a run.

use std::time::Duration;

use warp_blink::{
    event::{EndReason, Phase, Presence},
    id::{CallId, PublicKey},
    proto::TopicRef,
};

use super::{Fault, Nodes, Outcome, World};

/// Who made a call, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its creator.
    pub from: usize,
    /// Whom the creator called at first.
    pub to: Nodes,
    /// More than two were ever meant to take part, or one of two left it to come back.
    pub crowd: bool,
    /// A process that took part died.
    pub torn: bool,
}

/// Where nothing is lost, an end is known to the other one within this time: one message, of at most 0.6 s in the
/// scenarios, and as long again for a subscription on which it waits.
const TOLD: Duration = Duration::from_millis(1500);

/// A timer that is due at some moment has run when this much is over.
pub(super) const AT_ONCE: Duration = Duration::from_micros(1);

/// After the last thing that the app does, this much later nothing is left: the longest ring (120 s) is over for
/// calls that nobody answers, links that nobody told of their end are lost (1.5 s + 60 s) and who is alone then has
/// waited (30 s), and farewells are said (5 s).
const REST: Duration = Duration::from_secs(200);

/// Before everybody hangs up: what is agreed on stays so.
const CALM: Duration = Duration::from_secs(20);

impl World {
    /// After each step of a machine.
    pub(super) fn check(&self, node: usize) -> Result<(), Fault> {
        let machine = &self.nodes[node].machine;
        machine.check(self.now).map_err(|violation| self.fault(node, violation.to_string()))?;
        if machine.next_timeout().is_some_and(|t| t <= self.now) {
            return Err(self.fault(node, "a timeout that is over already"));
        }
        Ok(())
    }

    /// After each step that has to do with sound: who hears the microphone.
    pub(super) fn check_media(&self, index: usize) -> Result<(), Fault> {
        let node = &self.nodes[index];
        if node.machine.snapshot().local.open != node.audio.is_some() {
            return Err(self.fault(index, "the microphone is not as the snapshot says"));
        }
        let heard = |call: &CallId| node.audio.is_some_and(|open| open != *call) || node.held.contains(call);
        match self.sends_for(index).find(heard) {
            Some(call) => {
                Err(self.fault(index, format!("the microphone is heard in {call}, which is not the one")))
            }
            None => Ok(()),
        }
    }

    pub(super) fn opens_audio(&mut self, node: usize, call: CallId) -> Result<(), Fault> {
        if let Some(other) = self.nodes[node].audio.replace(call) {
            return Err(self.fault(node, format!("opens the microphone for {call}, open for {other}")));
        }
        if !self.accepted.contains(&call) {
            return Err(self.fault(node, format!("opens the microphone, but nobody accepted {call}")));
        }
        // Who goes on with a held call says so in the same step, but later.
        if !self.nodes[node].watch.get(&call).is_some_and(|w| w.accepted) {
            return Err(
                self.fault(node, format!("opens the microphone before it says that {call} is accepted"))
            );
        }
        Ok(())
    }

    pub(super) fn closes_audio(&mut self, node: usize, call: CallId) -> Result<(), Fault> {
        match self.nodes[node].audio.take() {
            Some(open) if open == call => Ok(()),
            open => Err(self.fault(node, format!("closes the microphone of {call}; open is {open:?}"))),
        }
    }

    /// The time of a ring is over: here, or that of somebody whom this node calls.
    pub(super) fn is_silent(
        &mut self,
        node: usize,
        call: CallId,
        peer: Option<PublicKey>,
    ) -> Result<(), Fault> {
        self.tick(node)?;
        let Some(watch) = self.nodes[node].watch.get(&call) else { return Ok(()) };
        let over = |t: &warp_blink::time::Instant| *t < self.now;
        let snapshot = self.nodes[node].machine.snapshot();
        let Some(seen) = snapshot.call(call) else { return Ok(()) };
        let rings = match peer {
            None => watch.rings_until.as_ref().is_some_and(over) && seen.phase == Phase::Incoming,
            Some(peer) => {
                let of = seen.participants.iter().find(|p| p.peer == peer).map(|p| p.state.presence);
                watch.called.get(&peer).is_some_and(over)
                    && matches!(of, Some(Presence::Calling | Presence::Ringing))
            }
        };
        if rings {
            return Err(self.fault(node, format!("{call} rings beyond its deadline ({peer:?})")));
        }
        Ok(())
    }

    /// A process dies: what it had agreed on with others is torn.
    pub(super) fn tear(&mut self, index: usize) {
        self.troubled = true;
        let open = self.nodes[index].watch.iter().filter(|(_, w)| w.began).map(|(call, _)| *call);
        for call in open.collect::<Vec<_>>() {
            if let Some(made) = self.calls.get_mut(&call) {
                made.torn = true;
            }
        }
        // What it had said of ended calls may be lost with it.
        for made in self.calls.values_mut().filter(|m| m.from == index || m.to.has(index)) {
            made.torn = true;
        }
    }

    /// Ends the run: the network heals, what is left is hung up, and in the end nothing remains and both ends of each
    /// call agree.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn finish(&mut self) -> Result<(), Fault> {
        self.play_out()?;
        self.heal()?;
        self.run_for(CALM)?;
        for node in 0..self.nodes.len() {
            self.hang_up_all(node)?;
            self.resume_all(node)?;
            self.hang_up_all(node)?;
        }
        self.run_for(REST)?;
        for node in 0..self.nodes.len() {
            self.rests(node)?;
        }
        let calls: Vec<_> = self.calls.iter().map(|(call, made)| (*call, *made)).collect();
        calls.into_iter().try_for_each(|(call, made)| self.agree(call, made))
    }

    /// An idle node holds nothing.
    fn rests(&self, index: usize) -> Result<(), Fault> {
        let node = &self.nodes[index];
        let own = |t: &&TopicRef| !matches!(t, TopicRef::Inbox { owner, .. } if *owner == node.key);
        let left: Vec<_> = node.topics.iter().filter(own).collect();
        let what = if !node.machine.is_idle() {
            format!("not idle: {:?}", node.machine)
        } else if let Some(t) = node.machine.next_timeout() {
            format!("idle, and a timer is left: {t:?}")
        } else if !left.is_empty() {
            format!("idle, and still listens to {left:?}")
        } else if !node.vault.left().is_empty() {
            format!("idle, and keys are left: {:?}", node.vault)
        } else if !node.links.is_empty() {
            format!("idle, and links are open: {:?}", node.links)
        } else if !node.saved.is_empty() {
            format!("idle, and calls are saved: {:?}", node.saved)
        } else if let Some(call) = node.audio {
            format!("idle, and the microphone is open for {call}")
        } else if let Some((call, watch)) = node.watch.iter().find(|(_, w)| w.began) {
            format!("idle, and {call} never ended: {watch:?}")
        } else {
            return Ok(());
        };
        Err(self.fault(index, what))
    }

    /// Both ends of a call of two tell the same story.
    fn agree(&self, call: CallId, made: Made) -> Result<(), Fault> {
        let Made { from, to, crowd: false, torn: false } = made else { return Ok(()) };
        let Some(to) = to.iter().next() else { return Ok(()) };
        let Some(caller) = self.outcome(from, call) else {
            return Err(self.fault(from, format!("the call {call} never ended for its caller")));
        };
        let watch = self.nodes[to].watch.get(&call);
        let fits = match watch.filter(|w| w.outcome.is_some() || w.missed.is_some()) {
            // It never rang: the caller gave up or took it back, or nobody was there.
            None => {
                matches!(caller.reason, EndReason::Unreachable | EndReason::Cancelled | EndReason::TimedOut)
            }
            Some(watch) => match (watch.outcome, watch.missed) {
                (Some(callee), _) => {
                    self.in_time(caller, callee)
                        && learned(caller, to, callee)
                        && learned(callee, from, caller)
                }
                (None, Some(EndReason::Busy)) => {
                    matches!(caller.reason, EndReason::Busy) || caller.by != Some(to)
                }
                (None, Some(EndReason::Incompatible { .. })) => {
                    matches!(caller.reason, EndReason::Incompatible { .. }) || caller.by != Some(to)
                }
                (None, _) => caller.by != Some(to),
            },
        };
        if fits {
            return Ok(());
        }
        Err(self.fault(from, format!("the ends of {call} do not agree: {caller:?}, {watch:?}")))
    }

    /// Where nothing is lost, the second end knows soon after the first, whatever crossed.
    fn in_time(&self, one: Outcome, two: Outcome) -> bool {
        let first = one.at.min(two.at);
        let reliable = !self.troubled
            && self.conditions.loss == 0.0
            && self.cuts.iter().all(|c| c.until < first || c.from > first + TOLD);
        !reliable || one.at.max(two.at).since(first) <= TOLD
    }
}

/// What one end says that the other did, the other did: `mine` blames `other`, whose own story is `theirs`.
fn learned(mine: Outcome, other: usize, theirs: Outcome) -> bool {
    if mine.by != Some(other) {
        return true;
    }
    // Whoever learns of an end learns it after it happened, and nobody is blamed by both.
    if theirs.at > mine.at || theirs.by.is_some_and(|by| by != other) {
        return false;
    }
    use EndReason::{Busy, Cancelled, Declined, Failed, HungUp, Incompatible, Lost, TimedOut, Unreachable};
    match mine.reason {
        HungUp => matches!(theirs.reason, HungUp | Lost | Failed { .. } | Incompatible { .. }),
        Cancelled => matches!(theirs.reason, Cancelled | Unreachable | TimedOut),
        Declined => theirs.reason == Declined,
        Busy => theirs.reason == Busy,
        reason => theirs.reason == reason,
    }
}
