//! What must hold: at each step of each machine, for the events of each call, and between the two ends of a call.

use std::time::Duration;

use warp_blink::{
    event::{EndReason, Event, Phase},
    id::CallId,
    proto::{Command, TopicRef},
    time::Instant,
};

use super::{Fault, World};

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
    began: bool,
    ringing: bool,
    accepted: bool,
    missed: Option<EndReason>,
    pub(super) outcome: Option<Outcome>,
}

/// A first message may take this long to be confirmed, before its call rings.
const ARRIVING: Duration = Duration::from_secs(10);

/// Where nothing is lost, an end is known to the other one within this time: one message, of at most 0.6 s in the
/// scenarios, and as long again for a subscription on which it waits.
const TOLD: Duration = Duration::from_millis(1500);

/// After the last thing that the app does, this much later nothing is left: the longest ring (120 s) is over for
/// calls that nobody answers, links that nobody told of their end are lost (1.5 s + 60 s), and farewells said (5 s).
const REST: Duration = Duration::from_secs(200);

impl World {
    /// After each step of a machine.
    pub(super) fn check(&self, node: usize) -> Result<(), Fault> {
        let machine = &self.nodes[node].machine;
        machine.check(self.now).map_err(|violation| self.fault(node, violation.to_string()))?;
        if machine.next_timeout().is_some_and(|t| t <= self.now) {
            return Err(self.fault(node, "a timeout that is over already"));
        }
        let snapshot = machine.snapshot();
        if snapshot.local.open != self.nodes[node].audio.is_some() {
            return Err(self.fault(node, "the microphone is not as the snapshot says"));
        }
        let config = &self.nodes[node].config;
        for call in &snapshot.calls {
            let longest = match call.phase {
                Phase::Outgoing => config.ring_timeout,
                Phase::Incoming => config.max_ring + ARRIVING,
                _ => continue,
            };
            if self.now.since(call.since) > longest {
                return Err(self.fault(node, format!("{} rings beyond its deadline", call.id)));
            }
        }
        Ok(())
    }

    pub(super) fn opens_audio(&mut self, node: usize, call: CallId) -> Result<(), Fault> {
        if let Some(other) = self.nodes[node].audio.replace(call) {
            return Err(self.fault(node, format!("opens the microphone for {call}, open for {other}")));
        }
        if !self.accepted.contains(&call) {
            return Err(self.fault(node, format!("opens the microphone, but nobody accepted {call}")));
        }
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

    /// After each event: the order that `warp_blink::event` promises.
    pub(super) fn told(&mut self, node: usize, event: &Event) -> Result<(), Fault> {
        if let Event::Merged { call, into, .. } = event {
            // Whoever called accepts; the own call is over with that, for both ends.
            self.accepted.insert(*into);
            self.calls.remove(call);
            let node = &mut self.nodes[node];
            node.watch.entry(*into).or_default().began = true;
            let merged = Outcome { reason: EndReason::Cancelled, by: None, at: self.now };
            node.watch.entry(*call).or_default().outcome = Some(merged);
            return Ok(());
        }
        let (call, name) = match event {
            Event::Offering { call, .. } => (*call, "offering"),
            Event::Incoming { call, .. } => (*call, "incoming"),
            Event::Ringing { call, .. } => (*call, "ringing"),
            Event::Accepted { call, .. } => (*call, "accepted"),
            Event::Link { call, .. } => (*call, "link"),
            Event::Participant { call, .. } => (*call, "participant"),
            Event::MediaStarted { call, .. } => (*call, "media"),
            Event::FirstAudio { call, .. } => (*call, "first audio"),
            Event::Missed { call, .. } => (*call, "missed"),
            Event::Ended { call, .. } => (*call, "ended"),
            _ => return Ok(()),
        };
        let outcome = match event {
            Event::Ended { reason, by, .. } => {
                let by = by.and_then(|by| self.index(by));
                Some(Outcome { reason: *reason, by, at: self.now })
            }
            _ => None,
        };
        let watch = self.nodes[node].watch.entry(call).or_default();
        let ok = watch.outcome.is_none()
            && match name {
                "offering" | "incoming" => {
                    !std::mem::replace(&mut watch.began, true) && watch.missed.is_none()
                }
                "ringing" => watch.began && !watch.accepted && !std::mem::replace(&mut watch.ringing, true),
                "accepted" => watch.began && !std::mem::replace(&mut watch.accepted, true),
                "participant" | "media" | "first audio" => watch.accepted,
                "missed" => !watch.accepted && watch.missed.is_none(),
                _ => watch.began,
            };
        if let Event::Missed { reason, .. } = event {
            watch.missed = Some(*reason);
        }
        watch.outcome = watch.outcome.or(outcome);
        if ok {
            return Ok(());
        }
        let watch = format!("{watch:?}");
        Err(self.fault(node, format!("{name} of {call} out of order; before it: {watch}")))
    }

    /// Ends the run: the network heals, what is left is hung up, and in the end nothing remains and both ends of each
    /// call agree.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn finish(&mut self) -> Result<(), Fault> {
        // What the scenario still has in store happens first.
        let script = self.queue.iter().rev().find(|(_, h)| matches!(h, super::Happening::Act { .. }));
        let heal = self.cuts.iter().map(|c| c.until).max();
        if let Some(last) = script.map(|((t, _), _)| *t).max(heal) {
            self.run_for(last.since(self.now))?;
        }
        self.run_for(Duration::from_secs(20))?;
        for node in 0..self.nodes.len() {
            for call in self.nodes[node].machine.snapshot().calls {
                // The other end may have just ended it.
                let _ = self.command(node, Command::HangUp { call: call.id })?;
            }
        }
        self.run_for(REST)?;
        for node in 0..self.nodes.len() {
            self.rests(node)?;
        }
        let calls: Vec<_> = self.calls.iter().map(|(call, ends)| (*call, *ends)).collect();
        calls.into_iter().try_for_each(|(call, (from, to))| self.agree(call, from, to))
    }

    /// An idle node holds nothing.
    fn rests(&self, index: usize) -> Result<(), Fault> {
        let node = &self.nodes[index];
        let left: Vec<_> = node
            .topics
            .iter()
            .filter(|t| !matches!(t, TopicRef::Inbox { owner, .. } if *owner == node.key))
            .collect();
        let what = if !node.machine.is_idle() {
            format!("not idle: {:?}", node.machine)
        } else if let Some(t) = node.machine.next_timeout() {
            format!("idle, and a timer is left: {t:?}")
        } else if !left.is_empty() {
            format!("idle, and still listens to {left:?}")
        } else if !self.open_links(index).is_empty() {
            format!("idle, and links are open: {:?}", self.open_links(index))
        } else if let Some(call) = node.audio {
            format!("idle, and the microphone is open for {call}")
        } else if let Some((call, watch)) = node.watch.iter().find(|(_, w)| w.began && w.outcome.is_none()) {
            format!("idle, and {call} never ended: {watch:?}")
        } else {
            return Ok(());
        };
        Err(self.fault(index, what))
    }

    /// Both ends tell the same story.
    fn agree(&self, call: CallId, from: usize, to: usize) -> Result<(), Fault> {
        let Some(caller) = self.outcome(from, call) else {
            return Err(self.fault(from, format!("the call {call} never ended for its caller")));
        };
        let watch = self.nodes[to].watch.get(&call);
        let fits = match watch {
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
}

impl World {
    /// Where nothing is lost, the second end knows soon after the first, whatever crossed.
    fn in_time(&self, one: Outcome, two: Outcome) -> bool {
        let first = one.at.min(two.at);
        let reliable =
            self.conditions.loss == 0.0 && self.cuts.iter().all(|c| c.until < first || c.from > first + TOLD);
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
