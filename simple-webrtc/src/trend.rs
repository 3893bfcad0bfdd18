//! Whether packets wait longer and longer on their way: a queue fills up before it overflows.
//!
//! The engine has a detector of this, which compares the growth from one group of packets to the next with a threshold of 6
//! to 600 ms. Speech is one packet each 20 ms, so what it sends has to exceed the path by a third and more to be noticed;
//! a path that is exceeded by 5 % filled a queue of two seconds without a word. Hence this one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::congestion::Delay;

/// Reports whose delays make a trend. 10: two seconds of one each 200 ms.
const TREND: usize = 10;
/// Reports among which the shortest delay is taken for that of an empty queue. 150: half a minute, after which a path that has
/// become longer for good is taken as it is.
const MEMORY: usize = 150;
/// Growth that counts: 20 ms in a second, which is 2 % more than the path carries.
const SLOPE: f64 = 0.02;
/// And with it so much of a queue. 30 ms: one and a half packets of speech.
const FILLING: f64 = 0.030;
/// A queue does not go away at once: it is what the fastest packets of so many reports have in common. 3: 600 ms; a machine that
/// stands still for a moment holds up one report, or two.
const LASTING: usize = 3;
/// A queue that is full, unless it drains. 200 ms: half of what ITU-T G.114 allows for the whole way.
const FULL: f64 = 0.200;
/// It drains if it gets shorter by so much within [`LASTING`] reports. 30 ms: one of a second and a half is gone after half a minute.
const DRAINS: f64 = 0.030;

/// The way to the peer, as its reports on single packets show it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trend {
    /// When the first packet left. Delays are against the peer's clock, so only their differences mean something.
    origin: Option<Instant>,
    /// Of each report when its fastest packet left, and how long that took, in seconds. The fastest one, since others were
    /// held up by what else happens on a path.
    fastest: VecDeque<(f64, f64)>,
}

impl Trend {
    /// A report: when each packet left here, and when it came on the peer's clock.
    pub(crate) fn on_report(&mut self, ways: impl IntoIterator<Item = (Instant, Duration)>) -> Delay {
        let ways = ways.into_iter().map(|(left, came)| {
            let origin = *self.origin.get_or_insert(left);
            let left = match left.checked_duration_since(origin) {
                Some(since) => since.as_secs_f64(),
                None => -origin.duration_since(left).as_secs_f64(),
            };
            (left, came.as_secs_f64() - left)
        });
        let Some(fastest) = ways.min_by(|(_, a), (_, b)| a.total_cmp(b)) else { return Delay::Even };
        if self.fastest.len() >= MEMORY {
            self.fastest.pop_front();
        }
        self.fastest.push_back(fastest);
        let queue = self.queue();
        if queue > FULL {
            if self.drains() { Delay::Drains } else { Delay::Full }
        } else if queue > FILLING && self.slope() > SLOPE {
            Delay::Grows
        } else {
            Delay::Even
        }
    }

    /// How much longer the last packets took than the fastest ones.
    fn queue(&self) -> f64 {
        let least = |ways: &mut dyn Iterator<Item = f64>| ways.fold(f64::INFINITY, f64::min);
        let mut ways = self.fastest.iter().map(|(_, way)| *way);
        let empty = least(&mut ways);
        let now = least(&mut self.fastest.iter().rev().take(LASTING).map(|(_, way)| *way));
        if self.fastest.len() < LASTING { 0.0 } else { now - empty }
    }

    /// Whether the last packets took less than those of as many reports before, by so much that a full queue is none for long.
    fn drains(&self) -> bool {
        let least = |skip: usize| {
            let ways = self.fastest.iter().rev().skip(skip).take(LASTING).map(|(_, way)| *way);
            ways.fold(f64::INFINITY, f64::min)
        };
        least(0) < least(LASTING) - DRAINS
    }

    /// Least squares: seconds that the way gets longer each second.
    fn slope(&self) -> f64 {
        let last = || self.fastest.iter().rev().take(TREND);
        let count = last().count() as f64;
        let (x, y) = last().fold((0.0, 0.0), |(x, y), (left, way)| (x + left / count, y + way / count));
        let products = last().map(|(left, way)| (left - x) * (way - y)).sum::<f64>();
        let squares = last().map(|(left, _)| (left - x) * (left - x)).sum::<f64>();
        if squares > 0.0 { products / squares } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports on ten packets each; `way` says how many ms a packet takes that leaves after so many.
    fn reports(
        trend: &mut Trend,
        start: Instant,
        ms: std::ops::Range<u64>,
        way: impl Fn(u64) -> u64,
    ) -> Vec<bool> {
        let mut said = Vec::new();
        for report in ms.step_by(200) {
            let packets = (0..10).map(|n| {
                let left = report + n * 20;
                (start + Duration::from_millis(left), Duration::from_millis(5_000 + left + way(left)))
            });
            said.push(matches!(trend.on_report(packets), Delay::Full | Delay::Grows));
        }
        said
    }

    #[test]
    fn a_queue_is_noticed_while_it_fills_and_jitter_is_none() {
        let start = Instant::now();
        let mut trend = Trend::default();
        assert_eq!(trend.on_report([]), Delay::Even);
        // Up to 60 ms of jitter, as on a bad radio link.
        let steady = reports(&mut trend, start, 0..20_000, |ms| 40 + (ms * 7919) % 61);
        assert!(!steady.contains(&true), "{steady:?}");
        // 5 % too much: 50 ms in a second.
        let filling =
            reports(&mut trend, start, 20_000..23_000, |ms| 40 + (ms - 20_000) / 20 + (ms * 7919) % 61);
        let noticed = filling.iter().position(|grows| *grows).expect("noticed");
        assert!(noticed <= 10, "within two seconds, long before 200 ms: {filling:?}");
        let full = reports(&mut trend, start, 23_000..25_000, |_| 300);
        assert!(full[5..].iter().all(|full| *full), "{full:?}");
        let empty = reports(&mut trend, start, 25_000..40_000, |_| 40);
        assert!(!empty.contains(&true), "{empty:?}");
    }

    #[test]
    fn a_machine_that_stands_still_for_a_moment_is_no_queue() {
        let start = Instant::now();
        let mut trend = Trend::default();
        // Each five seconds 400 ms in which nothing moves, after which all comes at once.
        let said = reports(&mut trend, start, 0..60_000, |ms| {
            let held = 400_u64.saturating_sub(ms % 5_000);
            40 + held
        });
        assert!(!said.contains(&true), "{said:?}");
    }

    #[test]
    fn a_longer_path_is_taken_as_it_is_after_a_while() {
        let start = Instant::now();
        let mut trend = Trend::default();
        reports(&mut trend, start, 0..10_000, |_| 40);
        let longer = reports(&mut trend, start, 10_000..60_000, |_| 300);
        assert!(longer[2] && !longer[longer.len() - 1]);
    }
}
