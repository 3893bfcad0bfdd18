//! The own record: when it is published anew.

use std::{cmp::Reverse, collections::VecDeque};

use super::{
    super::{Addresses, Jitter},
    config::{FindConfig, backoff},
    types::OwnSeen,
};
use crate::{
    event::Findable,
    id::NodeId,
    time::{Instant, UnixTime},
};

/// So many records may follow each other without a pause: a node that starts has its own addresses, then a place at a relay, and then
/// what others have confirmed; and it may move in the same half minute, when all of that comes again.
const BURST: usize = 6;

/// The most other devices that an own record names: one less than a reader takes nodes.
const MAX_OTHERS: usize = 3;

/// What a record says of one device of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its node.
    pub node: NodeId,
    /// Until then it holds.
    pub until: UnixTime,
    /// Where it is reached.
    pub addresses: Addresses,
}

/// What an own record is to say, but for what the driver knows by itself (the own node, versions, suites, keys).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRecord {
    /// Its number, above all before it.
    pub sequence: u64,
    /// Until then it holds.
    pub expires: UnixTime,
    /// Where this node is reached.
    pub addresses: Addresses,
    /// What it says of other devices of this identity, the one that holds longest first.
    pub others: Vec<Device>,
}

impl OwnRecord {
    /// The same beside what is stored already, of this number: what other devices have said of themselves stays, as long as it
    /// holds. `here` is this node, `wall` the time of day.
    #[must_use]
    pub fn beside(mut self, here: NodeId, wall: UnixTime, number: u64, stored: Vec<Device>) -> Self {
        self.sequence = self.sequence.max(number.saturating_add(1));
        let (end, others) = (self.expires, stored.into_iter());
        self.others = others
            .filter(|device| device.node != here && device.until > wall)
            // Whose clock is ahead is not in here for longer than others.
            .map(|device| Device { until: device.until.min(end), ..device })
            .collect();
        self.others.sort_by_key(|device| Reverse((device.until, device.node)));
        self.others.truncate(MAX_OTHERS);
        self
    }
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
    /// When the last ones were made, the latest at the end. Bounded by [`BURST`].
    made: VecDeque<Instant>,
    /// When the next one is to be made.
    due: Option<Instant>,
    /// When to look whether the last one is still there.
    review: Option<Instant>,
    failures: u32,
    /// How often in a row it was not.
    lost: u32,
    /// It was not there when it was looked for last, and was not stored since.
    missing: bool,
}

impl Own {
    pub(super) fn new(sequence: u64) -> Self {
        Self {
            sequence,
            wanted: None,
            stored: None,
            storing: None,
            made: VecDeque::new(),
            due: None,
            review: None,
            failures: 0,
            lost: 0,
            missing: false,
        }
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        // What is being stored is waited for.
        self.due.into_iter().chain(self.review).min().filter(|_| self.storing.is_none())
    }

    /// How it stands with the own record.
    pub(super) fn findable(&self) -> Findable {
        match &self.wanted {
            None => Findable::Hidden,
            Some(_) if self.failures > 0 => Findable::NotStored,
            Some(_) if !self.missing && self.stored == self.wanted => Findable::Published,
            Some(_) => Findable::Publishing,
        }
    }

    /// The own addresses have changed.
    pub(super) fn changed(&mut self, now: Instant, config: &FindConfig, addresses: Vec<String>) {
        if addresses.is_empty() {
            // There is nothing to say: the old record is not renewed, and ends by itself, or a new address comes.
            (self.wanted, self.due) = (None, None);
            return;
        }
        if self.wanted.as_ref() == Some(&addresses) {
            return;
        }
        let known = self.storing.as_ref().or(self.stored.as_ref()) == Some(&addresses);
        self.wanted = Some(addresses);
        self.failures = 0;
        if known {
            // Back to what was said last: that is renewed in its time.
            self.due = self.made.back().map(|made| *made + config.life / 2);
            if self.stored.is_some() {
                self.review.get_or_insert(now + config.review_after);
            }
            return;
        }
        let full = self.made.len() >= BURST;
        let earliest = self.made.front().filter(|_| full).map_or(now, |made| *made + config.between);
        let settle = if self.made.is_empty() { config.settle_first } else { config.settle };
        self.due = Some(earliest.max(now + settle));
    }

    /// A record of this identity was seen, which says that this node is there, or nothing of it. If that is not what was said
    /// last, another device has published at the same moment, and did not know.
    pub(super) fn seen(&mut self, now: Instant, config: &FindConfig, seen: OwnSeen, jitter: Jitter) {
        self.sequence = self.sequence.max(seen.sequence);
        if self.wanted.is_none() {
            return;
        }
        let Some(stored) = self.stored.as_ref().filter(|_| self.storing.is_none()) else { return };
        if seen.here.as_ref().is_some_and(|here| here.0 == *stored) {
            (self.lost, self.missing) = (0, false);
            return;
        }
        self.lost += 1;
        self.missing = true;
        let again = now + backoff(config.between, config.again_most, self.lost, jitter);
        self.due = Some(again.min(self.due.unwrap_or(again)));
    }

    /// Who stores the own record may have forgotten it.
    pub(super) fn look_soon(&mut self, now: Instant, config: &FindConfig) {
        let soon = now + config.settle;
        self.review = self.review.map(|review| review.min(soon));
        if self.failures > 0 {
            // Nobody was there who would have stored it.
            self.due = self.due.map(|due| due.min(soon));
        }
    }

    /// Makes the record that is due, or looks after the last one.
    pub(super) fn on_time(
        &mut self,
        now: Instant,
        wall: UnixTime,
        config: &FindConfig,
    ) -> Option<super::FindEffect> {
        self.next_timeout().filter(|due| *due <= now)?;
        if self.wanted.is_none() {
            // Nobody is to find anything.
            self.review = None;
            return None;
        }
        if self.due.is_none_or(|due| due > now) {
            self.review = Some(now + config.review_every);
            return Some(super::FindEffect::Review);
        }
        let addresses = self.wanted.clone()?;
        self.review = None;
        // The time of day, so that a lost store does not bring old numbers back; more than the last, so that a clock that
        // was set back does not either.
        self.sequence = self.sequence.saturating_add(1).max(wall.as_millis());
        let life = u64::try_from(config.life.as_millis()).unwrap_or(u64::MAX);
        let expires = UnixTime::from_millis(wall.as_millis().saturating_add(life));
        self.storing = Some(addresses.clone());
        self.made.push_back(now);
        if self.made.len() > BURST {
            self.made.pop_front();
        }
        self.due = Some(now + config.life / 2);
        Some(super::FindEffect::Publish(OwnRecord {
            sequence: self.sequence,
            expires,
            addresses: Addresses(addresses),
            others: Vec::new(),
        }))
    }

    /// It was stored under this number, or not.
    pub(super) fn published(
        &mut self,
        now: Instant,
        config: &FindConfig,
        sequence: u64,
        stored: bool,
        jitter: Jitter,
    ) {
        self.sequence = self.sequence.max(sequence);
        let Some(storing) = self.storing.take() else { return };
        if stored {
            (self.failures, self.missing) = (0, false);
            self.stored = Some(storing);
            self.review = Some(now + config.review_after);
            return;
        }
        if self.wanted.is_none() {
            return;
        }
        self.failures += 1;
        let again = now + backoff(config.publish_again, config.again_most, self.failures, jitter);
        self.due = Some(again.min(self.due.unwrap_or(again)));
    }
}
