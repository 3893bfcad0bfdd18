//! The own record: when it is published anew.

use super::{
    super::{Addresses, Jitter},
    config::{FindConfig, backoff},
};
use crate::time::{Instant, UnixTime};

/// What an own record is to say, but for what the driver knows by itself (nodes, versions, suites, keys).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRecord {
    /// Its number, above all before it.
    pub sequence: u64,
    /// Until then it holds.
    pub expires: UnixTime,
    /// Where this node is reached.
    pub addresses: Addresses,
}

/// When to publish what.
#[derive(Clone, Debug)]
pub(super) struct Own {
    sequence: u64,
    /// What the next record says; nothing was ever to be said if it is `None`.
    wanted: Option<Vec<String>>,
    /// What the last record said that somebody stored.
    stored: Option<Vec<String>>,
    /// The record that is being stored now.
    storing: Option<Vec<String>>,
    /// When the last one was made.
    made: Option<Instant>,
    /// When the next one is to be made.
    due: Option<Instant>,
    failures: u32,
}

impl Own {
    pub(super) fn new(sequence: u64) -> Self {
        Self { sequence, wanted: None, stored: None, storing: None, made: None, due: None, failures: 0 }
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        // What is being stored is waited for.
        self.due.filter(|_| self.storing.is_none())
    }

    /// The own addresses have changed.
    pub(super) fn changed(&mut self, now: Instant, config: &FindConfig, addresses: Vec<String>) {
        // Without an address there is nothing to say: the old record ends by itself, or a new address comes.
        if addresses.is_empty() || self.wanted.as_ref() == Some(&addresses) {
            return;
        }
        let known = self.storing.as_ref().or(self.stored.as_ref()) == Some(&addresses);
        self.wanted = Some(addresses);
        self.failures = 0;
        if known {
            // Back to what was said last: that is renewed in its time.
            self.due = self.made.map(|made| made + config.life / 2);
            return;
        }
        let earliest = self.made.map_or(now, |made| made + config.between);
        self.due = Some(earliest.max(now + config.settle));
    }

    /// A record of this identity was seen.
    pub(super) fn seen(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// Makes the record that is due.
    pub(super) fn on_time(
        &mut self,
        now: Instant,
        wall: UnixTime,
        config: &FindConfig,
    ) -> Option<super::FindEffect> {
        self.next_timeout().filter(|due| *due <= now)?;
        let addresses = self.wanted.clone()?;
        // The time of day, so that a lost store does not bring old numbers back; more than the last, so that a clock that
        // was set back does not either.
        self.sequence = self.sequence.saturating_add(1).max(wall.as_millis());
        let life = u64::try_from(config.life.as_millis()).unwrap_or(u64::MAX);
        let expires = UnixTime::from_millis(wall.as_millis().saturating_add(life));
        self.storing = Some(addresses.clone());
        self.made = Some(now);
        self.due = Some(now + config.life / 2);
        Some(super::FindEffect::Publish(OwnRecord {
            sequence: self.sequence,
            expires,
            addresses: Addresses(addresses),
        }))
    }

    /// It was stored, or not.
    pub(super) fn published(&mut self, now: Instant, config: &FindConfig, stored: bool, jitter: Jitter) {
        let Some(storing) = self.storing.take() else { return };
        if stored {
            self.failures = 0;
            self.stored = Some(storing);
            return;
        }
        self.failures += 1;
        let again = now + backoff(config.publish_again, config.again_most, self.failures, jitter);
        self.due = Some(again.min(self.due.unwrap_or(again)));
    }
}
