//! The two lanes of first messages: bounded queues that are served at bounded rates, contacts first.
//!
//! What waits here has passed a MAC and costs a handshake to open: 0.18 to 0.3 ms (docs/benchmarks.md). Rates and queues
//! make sure that whoever floods one lane takes nothing from the other, and both no more than a fiftieth of one core.

use std::{collections::VecDeque, time::Duration};

use super::signal::Lane;
use crate::time::Instant;

/// First messages that wait, in each lane. A contact has one or two under way; 64 leaves room for a whole family that
/// calls while this device wakes up.
pub const MAX_WAITING: usize = 64;

/// How many a lane opens at once, and how often one more after that.
struct Rate {
    burst: u32,
    every: Duration,
}

/// 50 a second: 1.5 % of a core at most, and more than all contacts together send.
const CONTACTS: Rate = Rate { burst: 32, every: Duration::from_millis(20) };

/// 20 a second: half a percent of a core. A stranger who calls is opened within 50 ms as long as nobody floods.
const STRANGERS: Rate = Rate { burst: 16, every: Duration::from_millis(50) };

/// The queues. `T` is what waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Lanes<T> {
    contacts: Queue<T>,
    strangers: Queue<T>,
}

/// A lane is full: what came was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lane is full")]
pub struct LaneFull;

impl<T> Lanes<T> {
    /// Empty lanes, which may open their bursts at once.
    pub const fn new() -> Self {
        Self { contacts: Queue::new(CONTACTS.burst), strangers: Queue::new(STRANGERS.burst) }
    }

    /// Queues what arrived.
    ///
    /// # Errors
    /// [`LaneFull`] above [`MAX_WAITING`]: the newest is dropped, since its sender sends again, and the oldest has waited
    /// longest.
    pub fn push(&mut self, lane: Lane, item: T) -> Result<(), LaneFull> {
        let queue = match lane {
            Lane::Contacts => &mut self.contacts,
            Lane::Strangers => &mut self.strangers,
        };
        if queue.waiting.len() >= MAX_WAITING {
            return Err(LaneFull);
        }
        queue.waiting.push_back(item);
        Ok(())
    }

    /// The next one to open: a contact's, if one waits and the rate allows it, else a stranger's.
    pub fn pop(&mut self, now: Instant) -> Option<(Lane, T)> {
        let contact = self.contacts.pop(now, &CONTACTS).map(|item| (Lane::Contacts, item));
        contact.or_else(|| Some((Lane::Strangers, self.strangers.pop(now, &STRANGERS)?)))
    }

    /// When [`pop`](Self::pop) will give something again; `None` if nothing waits.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        [self.contacts.next(now, &CONTACTS), self.strangers.next(now, &STRANGERS)].into_iter().flatten().min()
    }

    /// Whether such a one waits in that lane.
    pub fn any(&self, lane: Lane, is: impl Fn(&T) -> bool) -> bool {
        match lane {
            Lane::Contacts => self.contacts.waiting.iter().any(is),
            Lane::Strangers => self.strangers.waiting.iter().any(is),
        }
    }

    /// How many wait in that lane.
    pub fn waiting(&self, lane: Lane) -> usize {
        match lane {
            Lane::Contacts => self.contacts.waiting.len(),
            Lane::Strangers => self.strangers.waiting.len(),
        }
    }
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A queue behind a token bucket.
#[derive(Clone, Debug, PartialEq)]
struct Queue<T> {
    waiting: VecDeque<T>,
    tokens: u32,
    /// When the last token was added.
    filled: Instant,
}

impl<T> Queue<T> {
    const fn new(tokens: u32) -> Self {
        Self { waiting: VecDeque::new(), tokens, filled: Instant::from_micros(0) }
    }

    fn pop(&mut self, now: Instant, rate: &Rate) -> Option<T> {
        self.fill(now, rate);
        if self.tokens == 0 {
            return None;
        }
        let item = self.waiting.pop_front()?;
        self.tokens -= 1;
        Some(item)
    }

    fn fill(&mut self, now: Instant, rate: &Rate) {
        let missing = rate.burst.saturating_sub(self.tokens);
        let every = rate.every.as_micros().max(1);
        let earned = u32::try_from(now.since(self.filled).as_micros() / every).unwrap_or(u32::MAX);
        if earned >= missing {
            self.tokens = rate.burst;
            self.filled = now;
        } else {
            self.tokens += earned;
            self.filled = self.filled + rate.every * earned;
        }
    }

    fn next(&self, now: Instant, rate: &Rate) -> Option<Instant> {
        self.waiting.front()?;
        Some(if self.tokens > 0 { now } else { (self.filled + rate.every).max(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(10_000_000 + ms * 1000)
    }

    #[test]
    fn strangers_wait_for_contacts_and_never_the_other_way_round() {
        let mut lanes = Lanes::new();
        for n in 0..20 {
            lanes.push(Lane::Strangers, n).unwrap();
        }
        lanes.push(Lane::Contacts, 100).unwrap();
        assert_eq!(lanes.pop(at(0)), Some((Lane::Contacts, 100)));
        assert_eq!(lanes.pop(at(0)), Some((Lane::Strangers, 0)));
    }

    #[test]
    fn a_lane_is_served_at_its_rate_after_its_burst() {
        let mut lanes = Lanes::new();
        let mut opened = 0;
        for ms in 0..1000 {
            while lanes.push(Lane::Strangers, ()).is_ok() {}
            while lanes.pop(at(ms)).is_some() {
                opened += 1;
            }
            assert!(lanes.waiting(Lane::Strangers) <= MAX_WAITING);
        }
        assert_eq!(opened, 16 + 19);
    }

    #[test]
    fn what_waits_has_a_time_and_what_is_empty_has_none() {
        let mut lanes = Lanes::new();
        assert_eq!(lanes.next_timeout(at(0)), None);
        for n in 0..17 {
            lanes.push(Lane::Strangers, n).unwrap();
        }
        assert_eq!(lanes.next_timeout(at(0)), Some(at(0)));
        while lanes.pop(at(0)).is_some() {}
        assert_eq!(lanes.waiting(Lane::Strangers), 1);
        let next = lanes.next_timeout(at(0)).unwrap();
        assert_eq!(next, at(50));
        assert_eq!(lanes.pop(at(49)), None);
        assert_eq!(lanes.pop(next), Some((Lane::Strangers, 16)));
    }

    #[test]
    fn the_newest_is_dropped_at_the_bound_of_its_own_lane() {
        let mut lanes = Lanes::new();
        for n in 0..MAX_WAITING {
            lanes.push(Lane::Strangers, n).unwrap();
        }
        assert_eq!(lanes.push(Lane::Strangers, 99), Err(LaneFull));
        assert_eq!(lanes.push(Lane::Contacts, 1), Ok(()));
    }
}
