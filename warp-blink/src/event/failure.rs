//! Why a call, or one participant of it, failed: at which step, what was tried, and what can be done.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{EndReason, Mark, Milestone, Step};
use crate::time::Instant;

/// Why it failed, for people. `Display` says all of it in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// Why.
    pub reason: EndReason,
    /// The last thing that worked, if anything did.
    pub reached: Option<Milestone>,
    /// How long the step after it took, before it was given up, in milliseconds; of a call that was lost, how long its link had been
    /// interrupted.
    pub waited_ms: u64,
    /// How often a link was tried.
    pub attempts: u32,
    /// What the user can do.
    pub advice: String,
}

impl Failure {
    /// Of this end, if it is a failure: somebody who hangs up or declines has not failed.
    pub(crate) fn of(
        reason: EndReason,
        timeline: &[Mark],
        attempts: u32,
        interrupted: Option<Instant>,
        now: Instant,
    ) -> Option<Self> {
        let advice = advice(reason)?;
        let last = timeline.iter().rev().find(|m| m.what != Milestone::Ended);
        // What was tried since a link broke is of no interest, but how long that took.
        let since = interrupted.filter(|_| reason == EndReason::Lost).or(last.map(|m| m.at));
        let waited = since.map_or(Duration::ZERO, |at| now.since(at));
        Some(Self {
            reason,
            reached: last.map(|m| m.what),
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            attempts,
            advice: advice.to_owned(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if self.waited_ms > 0 {
            write!(f, " after {:.1} s", self.waited_ms as f64 / 1000.0)?;
        }
        if self.attempts > 1 {
            write!(f, " and {} attempts", self.attempts)?;
        }
        write!(f, ": {}", self.advice)
    }
}

/// What a user can do about it; `None` if nothing has failed.
const fn advice(reason: EndReason) -> Option<&'static str> {
    Some(match reason {
        EndReason::Unreachable => {
            "see whether both are online; they are told of this call when they are next reached"
        }
        EndReason::Incompatible { .. } => "one of the two apps has to be updated, or its settings changed",
        EndReason::Lost => "see whether both networks work, and call again",
        EndReason::FingerprintMismatch => {
            "somebody may stand between the two: do not go on over this network"
        }
        EndReason::Failed { step } => match step {
            Step::Signaling => "the other side stopped answering: call again",
            Step::Negotiating => "the two apps did not agree: update both, and call again",
            Step::Checking => {
                "the two networks let no path through (a firewall, or a strict NAT): try another network, or configure a \
                 TURN server"
            }
            Step::Securing => "the path loses too much, or something on it blocks DTLS: try another network",
            Step::Connected => "see whether both networks work, and call again",
        },
        EndReason::HungUp
        | EndReason::Declined
        | EndReason::Busy
        | EndReason::Cancelled
        | EndReason::TimedOut
        | EndReason::AnsweredElsewhere
        | EndReason::Removed => return None,
    })
}
