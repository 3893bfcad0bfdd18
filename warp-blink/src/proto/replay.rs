//! The memory of calls that rang on their first message alone.
//!
//! A first message can be recorded and sent again. Where a call rings only when its session is confirmed this is harmless,
//! since a replay never confirms. A contact's call rings at once, one round trip earlier, if its first message cannot be a
//! replay: it was sent within [`WINDOW`] of this clock, and its call is not in this memory, which reaches back as far as
//! `since`. The memory is kept in the store before the phone rings, so that a restart forgets nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{id::CallId, time::UnixTime};

/// How far the clocks of two people may be apart for a first message to ring by itself: PROTOCOL's five minutes.
pub const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Calls that are remembered. The oldest is forgotten first, and what was sent before it must be confirmed from then on.
pub const MAX_REMEMBERED: usize = 512;

/// Which calls rang on their first message alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayMemory {
    calls: BTreeMap<CallId, UnixTime>,
    order: VecDeque<CallId>,
    since: UnixTime,
}

impl ReplayMemory {
    /// An empty memory, which begins now: what a process had heard before that ended is not known. Until the window is
    /// over, first messages must be confirmed, since one with a clock ahead of ours may have been heard before.
    pub fn beginning(now: UnixTime) -> Self {
        Self { since: later(now, WINDOW), ..Self::default() }
    }

    /// A memory that was kept: the calls, oldest first, and the time from which on it is complete.
    pub fn restored(since: UnixTime, calls: impl IntoIterator<Item = (CallId, UnixTime)>) -> Self {
        let mut memory = Self { since, ..Self::default() };
        for (call, sent_at) in calls {
            memory.remember(call, sent_at);
        }
        memory
    }

    /// Whether this first message was certainly not heard before.
    pub fn is_fresh(&self, call: CallId, sent_at: UnixTime, now: UnixTime) -> bool {
        let apart = sent_at.as_millis().abs_diff(now.as_millis());
        u128::from(apart) <= WINDOW.as_millis() && self.is_new(call, sent_at)
    }

    /// Whether it is neither here nor older than what is here.
    pub fn is_new(&self, call: CallId, sent_at: UnixTime) -> bool {
        sent_at > self.since && !self.calls.contains_key(&call)
    }

    /// Remembers that a call rang.
    pub fn remember(&mut self, call: CallId, sent_at: UnixTime) {
        if self.calls.insert(call, sent_at).is_none() {
            self.order.push_back(call);
        }
        if self.order.len() > MAX_REMEMBERED
            && let Some(sent_at) = self.order.pop_front().and_then(|oldest| self.calls.remove(&oldest))
        {
            self.since = self.since.max(sent_at);
        }
    }

    /// The time after which it is complete.
    pub const fn since(&self) -> UnixTime {
        self.since
    }

    /// What it holds, oldest first.
    pub fn calls(&self) -> impl Iterator<Item = (CallId, UnixTime)> + '_ {
        self.order.iter().filter_map(|call| Some((*call, *self.calls.get(call)?)))
    }
}

fn later(time: UnixTime, by: Duration) -> UnixTime {
    UnixTime::from_millis(time.as_millis().saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn at(minute: u64) -> UnixTime {
        UnixTime::from_millis(1_700_000_000_000 + minute * MINUTE)
    }

    fn call(n: u16) -> CallId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        CallId::from_bytes(bytes)
    }

    #[test]
    fn a_call_is_fresh_once_and_within_the_window() {
        let mut memory = ReplayMemory::restored(at(0), []);
        assert!(memory.is_fresh(call(1), at(10), at(10)));
        assert!(memory.is_fresh(call(1), at(5), at(10)) && memory.is_fresh(call(1), at(15), at(10)));
        assert!(!memory.is_fresh(call(1), at(4), at(10)) && !memory.is_fresh(call(1), at(16), at(10)));
        memory.remember(call(1), at(10));
        assert!(!memory.is_fresh(call(1), at(10), at(10)));
        assert!(memory.is_fresh(call(2), at(10), at(10)));
    }

    #[test]
    fn hostile_replay_after_a_restart_without_a_memory_is_never_fresh() {
        // Heard at minute 10 from a caller whose clock is as far ahead as it may be; then the process restarts.
        let sent_at = at(15);
        let memory = ReplayMemory::beginning(at(10));
        for minute in 10..30 {
            assert!(!memory.is_fresh(call(1), sent_at, at(minute)), "minute {minute}");
        }
        assert!(memory.is_fresh(call(2), at(17), at(17)), "what is sent later rings again");
    }

    #[test]
    fn hostile_replay_of_what_was_forgotten_is_never_fresh() {
        let mut memory = ReplayMemory::restored(at(0), []);
        for n in 0..2 * MAX_REMEMBERED as u16 {
            memory.remember(call(n), at(10));
        }
        assert_eq!(memory.calls().count(), MAX_REMEMBERED);
        assert!(!memory.is_fresh(call(0), at(10), at(10)));
        assert!(memory.is_fresh(call(9999), at(11), at(11)));
    }
}
