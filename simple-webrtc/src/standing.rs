//! Whether a queue stands on the path, as its round trips show.
//!
//! [`crate::trend`] sees a queue fill up by the packets that are sent. It misses one that was full before the first of them, because the
//! handshake and the signals of a call had to wait there too. The checks of the path have seen it empty, and the round trip knows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::congestion::Delay;

/// Round trips are compared with the shortest of this time and the same before: 60 s. Who lets a queue stand for longer is taken at its word.
const MEMORY: Duration = Duration::from_secs(60);
/// A queue is what all round trips of so long have in common, of so many at least. 4 s and 3: checks are answered twice a second and
/// reports once, and where half of everything is lost each way one of four comes. One that was held up by a machine or a radio is not
/// alone in it.
const LATELY: (Duration, usize) = (Duration::from_secs(4), 3);
/// Where so few came, they count if the queue is as long as this: twice what follows.
const SURELY: Duration = Duration::from_millis(400);
/// The most that are remembered of that time: twice as many as come.
const MOST: usize = 24;
/// What counts as a queue that stands. 200 ms: as in [`crate::trend`], half of what ITU-T G.114 allows for the whole way.
const STANDS: Duration = Duration::from_millis(200);

/// So long after the first round trip the handshake fills the path. 5 s: DTLS and the first signals through 40 kbit/s (lab). Later
/// on somebody's phone rings, and what waits then waits for a radio.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The round trips of one path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    lately: VecDeque<(Instant, Duration)>,
    /// The shortest of the present period, which began then, and of the one before.
    least: Option<(Instant, Duration)>,
    before: Option<Duration>,
    /// The first one, and the longest two of the [`HANDSHAKE`], the longest first: one alone may have been held up.
    first: Option<Instant>,
    longest: [Duration; 2],
}

impl Standing {
    pub(crate) fn on_round_trip(&mut self, now: Instant, trip: Duration) {
        self.least = Some(match self.least {
            Some((began, least)) if now.saturating_duration_since(began) < MEMORY => (began, least.min(trip)),
            past => {
                self.before = past.map(|(_, least)| least);
                (now, trip)
            }
        });
        if now.saturating_duration_since(*self.first.get_or_insert(now)) < HANDSHAKE {
            let [first, second] = self.longest;
            self.longest = [first.max(trip), second.max(first.min(trip))];
        }
        if self.lately.len() >= MOST {
            self.lately.pop_front();
        }
        self.lately.push_back((now, trip));
    }

    /// It is another path from now on.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// How long packets wait, given what the one direction alone shows.
    pub(crate) fn with(&self, now: Instant, way: Delay) -> Delay {
        match way {
            Delay::Even if self.stands(now) => Delay::Stands,
            Delay::Even if self.waits(now) => Delay::Waits,
            way => way,
        }
    }

    /// The queue that the handshake met, if any.
    pub(crate) fn stood(&self) -> Duration {
        let [_, longest] = self.longest;
        self.empty().map_or(Duration::ZERO, |empty| longest.saturating_sub(empty))
    }

    /// Whether the last two that were answered waited so long: not for certain, but soon.
    pub(crate) fn waits(&self, now: Instant) -> bool {
        let mut last = self.lately.iter().rev().take(2);
        let fresh = |(at, trip): &(Instant, Duration)| {
            (now.saturating_duration_since(*at) <= LATELY.0).then_some(*trip)
        };
        let shortest = last.clone().filter_map(fresh).min();
        let two = last.all(|trip| fresh(trip).is_some()) && self.lately.len() > 1;
        two && shortest.zip(self.empty()).is_some_and(|(trip, empty)| trip > empty + STANDS)
    }

    /// The shortest, which is the path without a queue.
    fn empty(&self) -> Option<Duration> {
        self.least.map(|(_, least)| self.before.map_or(least, |before| before.min(least)))
    }

    /// Whether something has waited all the time lately, in one direction or the other.
    fn stands(&self, now: Instant) -> bool {
        let (time, count) = LATELY;
        let lately = self.lately.iter().filter(|(at, _)| now.saturating_duration_since(*at) <= time);
        let shortest = lately.clone().map(|(_, trip)| *trip).min();
        let most = if lately.count() >= count { STANDS } else { SURELY };
        shortest.zip(self.empty()).is_some_and(|(shortest, empty)| shortest > empty + most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three round trips a second, from one second to another.
    fn feed(
        standing: &mut Standing,
        start: Instant,
        seconds: std::ops::Range<u64>,
        trip: impl Fn(u64) -> u64,
    ) {
        for n in seconds.start * 3..seconds.end * 3 {
            standing.on_round_trip(start + Duration::from_millis(n * 333), Duration::from_millis(trip(n)));
        }
    }

    #[test]
    fn a_queue_that_stands_is_known_by_what_the_checks_saw_before() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut standing = Standing::default();
        assert!(!standing.stands(start));
        feed(&mut standing, start, 0..1, |_| 110);
        feed(&mut standing, start, 1..3, |n| 900 + n % 100);
        assert!(!standing.stands(at(3)), "one of the last 4 s was short");
        feed(&mut standing, start, 3..30, |n| 900 + n % 100);
        assert!(standing.stands(at(30)));
        assert!(!standing.stands(at(40)), "nothing is known of lately");
        standing.on_round_trip(at(40), Duration::from_millis(500));
        assert!(!standing.stands(at(40)), "one may have been held up");
        standing.on_round_trip(at(44) + LATELY.0, Duration::from_millis(600));
        assert!(standing.stands(at(44) + LATELY.0), "so long hardly");
        assert!(!standing.waits(at(44) + LATELY.0), "one alone");
        standing.on_round_trip(at(45) + LATELY.0, Duration::from_millis(500));
        assert!(standing.waits(at(45) + LATELY.0) && !standing.waits(at(60)));
        feed(&mut standing, start, 50..53, |_| 110);
        assert!(!standing.stands(at(53)));
        feed(&mut standing, start, 53..60, |_| 600);
        assert!(standing.stands(at(60)));
        standing.forget();
        feed(&mut standing, start, 60..70, |_| 600);
        assert!(!standing.stands(at(70)), "another path is as long as it is");
    }

    #[test]
    fn jitter_is_no_queue_and_a_longer_path_is_none_after_two_minutes() {
        let start = Instant::now();
        let mut standing = Standing::default();
        for second in 0..60 {
            feed(&mut standing, start, second..second + 1, |n| 100 + n * 7_919 % 500);
            assert!(!standing.stands(start + Duration::from_secs(second + 1)), "second {second}");
        }
        feed(&mut standing, start, 60..200, |_| 400);
        assert!(!standing.stands(start + Duration::from_secs(200)));
        assert!(standing.lately.len() <= MOST);
    }
}
