//! When a message is sent, and when again.

use std::time::Duration;

use super::round_trip::RoundTrip;
use crate::time::Instant;

/// Waits after a publish that found no subscriber. A subscription takes one exchange between neighbours; measured on
/// loopback it is there after 5 to 60 ms.
const NO_PEERS: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];

/// When something is sent next, and how often it was.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schedule {
    pub(super) next: Option<Instant>,
    pub(super) sent: u32,
    missed: usize,
}

impl Schedule {
    pub(super) fn at(now: Instant) -> Self {
        Self { next: Some(now), sent: 0, missed: 0 }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|t| t <= now)
    }

    /// Counts one transmission and sets the time of the next, not knowing how long answers take.
    pub(super) fn transmitted(&mut self, now: Instant) {
        self.transmitted_over(now, RoundTrip::default());
    }

    /// The same knowing it.
    pub(super) fn transmitted_over(&mut self, now: Instant, trip: RoundTrip) {
        let wait = trip.wait(self.sent);
        self.sent = self.sent.saturating_add(1);
        self.next = Some(now + wait);
    }

    /// Takes back one transmission that found nobody. From the last step of its ladder on it waits as a resend does.
    pub(super) fn found_nobody(&mut self, now: Instant) {
        self.sent = self.sent.saturating_sub(1);
        let late = u32::try_from(self.missed.saturating_sub(NO_PEERS.len())).unwrap_or(u32::MAX);
        let wait = NO_PEERS.get(self.missed).copied().unwrap_or_else(|| RoundTrip::default().wait(late));
        self.missed = self.missed.saturating_add(1);
        self.next = Some(now + wait);
    }

    /// Somebody subscribed: if nobody was there before, go at once. Says whether it does.
    pub(super) fn somebody_came(&mut self, now: Instant) -> bool {
        let goes = self.missed > 0 && self.sent == 0;
        if goes {
            self.missed = 0;
            self.next = Some(now);
        }
        goes
    }
}
