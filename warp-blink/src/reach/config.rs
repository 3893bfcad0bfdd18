//! The numbers of a reach.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Jitter;

/// The numbers of a reach. Each default says where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReachConfig {
    /// After so many failed attempts in a row it is given up; at least 1. Default 6: with the other defaults that is
    /// 8 to 16 s of waiting, about as long as a caller listens to nothing.
    pub max_attempts: u32,
    /// How long one attempt takes at most, with all of its addresses. Default 10 s: the time that libp2p gives the
    /// upgrade of a connection; the last of [`MAX_DIALS`](super::MAX_DIALS) addresses begins after 4.6 s.
    pub attempt_timeout: Duration,
    /// The pause between two addresses of one attempt, while neither has failed. Default 200 ms: RFC 8305, section 8
    /// recommends 250 and allows 100 to 2,000; what is left of 250 is for the timer that is late.
    pub address_delay: Duration,
    /// How long the IPv4 addresses of a name wait for its IPv6 addresses. Default 50 ms (RFC 8305, section 8).
    pub resolution_delay: Duration,
    /// How long a name may take to resolve. Default 5 s: so long the resolver of glibc waits for one server.
    pub resolve_timeout: Duration,
    /// So many direct addresses begin before the first relayed one, if there are as many. Default 4, which is 0.8 s:
    /// IPv6 and IPv4 in the same house, and of the house; whoever is behind a NAT answers at neither.
    pub direct_first: u32,
    /// Only addresses behind a relay are dialed, so that this machine's address is never shown to who is called. Default
    /// false.
    pub relay_only: bool,
    /// The pause after the first failure. Default 0.5 s: two round trips of a bad mobile network.
    pub backoff_first: Duration,
    /// The longest pause. Default 30 s.
    pub backoff_most: Duration,
    /// A connection that lived so long was a good one: when it is lost, the attempts count from 1, and the first
    /// begins at once. Default 10 s.
    pub stable_after: Duration,
    /// How long a connection is kept that no call uses. Default 10 minutes: calling back needs no new connection.
    pub idle: Duration,
}

impl Default for ReachConfig {
    fn default() -> Self {
        Self {
            max_attempts: 6,
            attempt_timeout: Duration::from_secs(10),
            address_delay: Duration::from_millis(200),
            resolution_delay: Duration::from_millis(50),
            resolve_timeout: Duration::from_secs(5),
            direct_first: 4,
            relay_only: false,
            backoff_first: Duration::from_millis(500),
            backoff_most: Duration::from_secs(30),
            stable_after: Duration::from_secs(10),
            idle: Duration::from_secs(600),
        }
    }
}

impl ReachConfig {
    /// The same with another number of attempts (0 counts as 1).
    #[must_use]
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = max_attempts.max(1);
        self
    }

    /// The same with another time for one attempt.
    #[must_use]
    pub fn with_attempt_timeout(mut self, attempt_timeout: Duration) -> Self {
        self.attempt_timeout = attempt_timeout;
        self
    }

    /// The same with another pause between addresses: at most 250 ms (RFC 8305, section 8).
    #[must_use]
    pub fn with_address_delay(mut self, address_delay: Duration) -> Self {
        self.address_delay = address_delay.min(Duration::from_millis(250));
        self
    }

    /// The same, where only relays may be used or everything may.
    #[must_use]
    pub fn with_relay_only(mut self, relay_only: bool) -> Self {
        self.relay_only = relay_only;
        self
    }

    /// The same with another first and longest pause.
    #[must_use]
    pub fn with_backoff(mut self, first: Duration, most: Duration) -> Self {
        self.backoff_first = first;
        self.backoff_most = most;
        self
    }

    /// The same with another idle time.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// The pause after the `failed`th failure (from 1): it doubles each time up to the longest, and the jitter takes
    /// up to half of it away.
    pub(super) fn backoff(&self, failed: u32, jitter: Jitter) -> Duration {
        let doublings = failed.saturating_sub(1).min(20);
        let whole = self.backoff_first.saturating_mul(1 << doublings).min(self.backoff_most);
        let half = whole / 2;
        half + Duration::from_nanos(
            u64::try_from((whole - half).as_nanos() * u128::from(jitter.0) / u128::from(u16::MAX))
                .unwrap_or(u64::MAX),
        )
    }
}
