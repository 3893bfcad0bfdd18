//! The RTP clock of the one track that all calls share.

use std::time::{Duration, Instant};

/// Samples of a tick of the sound engine, 10 ms at the clock rate of Opus (RFC 7587 section 4.1: 48 kHz).
const TICK_SAMPLES: u128 = 480;

/// Gives the timestamps of one engine their place among those of the engines before it.
///
/// Each engine counts its samples from 0. A link that was held hears several of them, and to its other end they are one
/// stream, whose timestamps must run on with the time. Where they fall back by less than 2 s, our jitter buffer takes all
/// that comes for late: measured, after a call of 1 s and a hold of 0.3 to 0.9 s more than half of the next 5 s was not
/// heard, against 10 to 30 ms with this clock. A longer fall it notices, but the jitter that it tells is nonsense for
/// two or three seconds (41 s of it after a call of ten minutes).
#[derive(Clone, Copy, Debug)]
pub(super) struct RtpClock {
    since: Instant,
    start: u32,
}

impl RtpClock {
    /// Shows `start` now. RFC 3550 section 5.1 wants it random, or it would tell how long this process runs.
    pub(super) fn new(start: u32) -> Self {
        Self { since: Instant::now(), start }
    }

    /// What to add to the timestamps of an engine whose present frame has this one.
    pub(super) fn offset(&self, timestamp: u32) -> u32 {
        self.at(self.since.elapsed()).wrapping_sub(timestamp)
    }

    /// In whole ticks, so that what one engine leaves and the next one takes up fits the jitter buffer's blocks. Wraps
    /// after a day, as RTP timestamps do.
    fn at(&self, elapsed: Duration) -> u32 {
        let samples = elapsed.as_millis() / 10 * TICK_SAMPLES;
        self.start.wrapping_add((samples % (1 << 32)) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_run_on_with_the_time_and_wrap() {
        let clock = RtpClock::new(u32::MAX - 479);
        assert_eq!(clock.at(Duration::ZERO), u32::MAX - 479);
        assert_eq!(clock.at(Duration::from_millis(19)), 0);
        assert_eq!(clock.at(Duration::from_secs(7)), 7 * 48_000 - 480);
        // 8,947,849 ticks are 2^32 + 224 samples.
        assert_eq!(clock.at(Duration::from_millis(89_478_490)), u32::MAX - 255);
        assert_eq!(clock.at(Duration::from_secs(3 * 89_478)), (3 * 89_478 * 48_000_u64 - 480) as u32);
    }

    #[test]
    fn an_engine_begins_where_the_time_is() {
        let clock = RtpClock::new(5);
        let (before, offset) = (clock.at(clock.since.elapsed()), clock.offset(960));
        let after = clock.at(clock.since.elapsed());
        let first = offset.wrapping_add(960);
        assert!((before..=after).contains(&first), "{before} {first} {after}");
    }
}
