//! How much delay the path asks for.
//!
//! A packet's *relative delay* is how much later it came than the fastest packet of the last seconds would have. The
//! target is what 95 % of the packets need, learnt with forgetting. A single burst is not enough to move it: waiting
//! for the next one would only keep the delay up. Small hiccups, which come back, hold it up for a while.

use std::{collections::VecDeque, time::Duration};

use super::JitterConfig;

/// Width of a bin of the histogram.
const BIN_US: i64 = 2_000;
/// Bins up to half a second; what is beyond counts as the last.
const BINS: usize = 250;
/// The target covers this share of the packets: the usual one for telephony, beyond which delay grows faster than
/// concealment shrinks (NetEq of WebRTC took 95 % for years).
const QUANTILE: f64 = 0.95;
/// Sound after which a packet's weight has fallen to 1/e: 10 s. Long enough that a burst of 400 ms weighs less than
/// the 5 % that may be late, short enough to follow a new path.
const MEMORY_SAMPLES: f64 = 10.0 * 48_000.0;
/// The fastest packet is looked for in this many spans of [`SPAN_US`]: 10 s, in which clocks drift by at most 1 ms.
const SPANS: usize = 5;
const SPAN_US: i64 = 2_000_000;
/// What comes in one go after a standstill of the path counts for at most this much sound: 300 ms, 3 % of the memory.
const BURST_SAMPLES: i64 = 14_400;
/// Packets that come this close after each other come in one go: half of the shortest frame.
const BURST_GAP_US: i64 = 5_000;
/// Hiccups up to this long hold the target up; longer ones are bursts.
const HICCUP_US: i64 = 60_000;
/// How fast the memory of a hiccup fades: 4 ms per second.
const FADE: f64 = 0.004;
/// Sound after which the histogram is trusted more than the start target: 0.5 s, 25 packets. People draw breath before
/// they speak, so what is too much is mostly cut away before the first word.
const TRUST_SAMPLES: i64 = 24_000;
/// Loss above which the delay is raised until redundancy arrives in time, and below which it is lowered again.
const LOSSY: f64 = 0.02;
const LOSSLESS: f64 = 0.005;
/// Weight of one packet in the share of losses: the last hundred packets count.
const LOSS_WEIGHT: f64 = 0.01;

/// Watches arrivals and recommends a delay. Times are microseconds of any monotonic clock.
#[derive(Debug)]
pub(crate) struct DelayTracker {
    config: JitterConfig,
    histogram: Vec<f64>,
    /// Least arrival minus timestamp, per span of time, newest last.
    least: VecDeque<(i64, i64)>,
    /// Sound that was observed, in samples.
    observed: i64,
    last_arrival: i64,
    burst: i64,
    hiccup_us: f64,
    hiccup_at: i64,
    loss: f64,
    lossy: bool,
    frame_us: i64,
}

impl DelayTracker {
    pub(crate) fn new(config: JitterConfig) -> Self {
        // All of the first weight lies on no delay, so that the first late packets do not count for everything.
        let mut histogram = vec![0.0; BINS];
        histogram[0] = 1.0;
        Self {
            config,
            histogram,
            least: VecDeque::with_capacity(SPANS + 1),
            observed: 0,
            last_arrival: i64::MIN / 2,
            burst: 0,
            hiccup_us: 0.0,
            hiccup_at: 0,
            loss: 0.0,
            lossy: false,
            frame_us: 20_000,
        }
    }

    /// Forgets where the sender's clock stands, but not what the path is like.
    pub(crate) fn new_clock(&mut self) {
        self.least.clear();
    }

    /// Notes that sound of `samples` with this time on the sender's clock came at `arrival`; tells its relative delay.
    pub(crate) fn observe(&mut self, arrival: i64, sent: i64, samples: i64) -> i64 {
        let transit = arrival - sent;
        let span = arrival.div_euclid(SPAN_US);
        match self.least.back_mut() {
            Some((at, least)) if *at >= span => *least = transit.min(*least),
            _ => self.least.push_back((span, transit)),
        }
        while self.least.len() > 1 && self.least.front().is_some_and(|(at, _)| *at <= span - SPANS as i64) {
            self.least.pop_front();
        }
        let relative = transit - self.base();
        let bin = usize::try_from(relative / BIN_US).unwrap_or(0).min(BINS - 1);
        self.observed = self.observed.saturating_add(samples);
        self.frame_us = samples * 1000 / 48;
        let in_one_go = arrival.saturating_sub(self.last_arrival) < BURST_GAP_US;
        self.burst = if in_one_go { self.burst + samples } else { samples };
        self.last_arrival = arrival;
        if self.burst > BURST_SAMPLES {
            return relative;
        }
        let weight = samples as f64 / MEMORY_SAMPLES;
        for mass in &mut self.histogram {
            *mass *= 1.0 - weight;
        }
        self.histogram[bin] += weight;
        relative
    }

    /// Notes that playout had to wait for a packet with this relative delay.
    pub(crate) fn waited_for(&mut self, now: i64, relative: i64) {
        if relative <= HICCUP_US {
            self.hiccup_us = self.hiccup(now).max(relative as f64);
            self.hiccup_at = now;
        }
    }

    /// Notes that packets were played or lost.
    pub(crate) fn outcome(&mut self, lost: bool) {
        self.loss += (f64::from(u8::from(lost)) - self.loss) * LOSS_WEIGHT;
        self.lossy = self.loss > if self.lossy { LOSSLESS } else { LOSSY };
    }

    /// Arrival minus sender's time of the fastest packet.
    pub(crate) fn base(&self) -> i64 {
        self.least.iter().map(|(_, least)| *least).min().unwrap_or(0)
    }

    /// The delay to aim for, in microseconds.
    pub(crate) fn target(&self, now: i64) -> i64 {
        let mut target = self.quantile().max(self.hiccup(now) as i64).max(micros(self.config.min));
        if self.lossy {
            // Redundancy for a frame arrives with the packet after it.
            target += self.frame_us;
        }
        if self.observed < TRUST_SAMPLES {
            target = target.max(micros(self.config.start));
        }
        target.clamp(micros(self.config.min), micros(self.config.max))
    }

    fn hiccup(&self, now: i64) -> f64 {
        (self.hiccup_us - (now - self.hiccup_at) as f64 * FADE).max(0.0)
    }

    fn quantile(&self) -> i64 {
        let mut above = 0.0;
        for (bin, mass) in self.histogram.iter().enumerate().rev() {
            above += mass;
            if above > 1.0 - QUANTILE {
                return (bin as i64 + 1) * BIN_US;
            }
        }
        BIN_US
    }
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(tracker: &mut DelayTracker, from: i64, packets: i64, delay: impl Fn(i64) -> i64) {
        for i in from..from + packets {
            tracker.observe(i * 20_000 + delay(i), i * 20_000, 960);
        }
    }

    #[test]
    fn starts_careful_and_goes_down_on_a_clean_path() {
        let mut tracker = DelayTracker::new(JitterConfig::default());
        assert_eq!(tracker.target(0), 40_000);
        feed(&mut tracker, 0, 100, |i| 5_000 + i % 3 * 400);
        assert_eq!(tracker.target(2_000_000), 10_000);
    }

    #[test]
    fn follows_steady_jitter_and_a_slower_path() {
        let mut tracker = DelayTracker::new(JitterConfig::default());
        feed(&mut tracker, 0, 1000, |i| i * 7919 % 60 * 1000);
        let target = tracker.target(20_000_000);
        assert!((52_000..=60_000).contains(&target), "{target}");
        feed(&mut tracker, 1000, 2000, |_| 200_000);
        let target = tracker.target(60_000_000);
        assert_eq!(target, 10_000, "a longer way is not jitter");
    }

    #[test]
    fn a_single_burst_does_not_move_it() {
        let mut tracker = DelayTracker::new(JitterConfig::default());
        feed(&mut tracker, 0, 60, |_| 0);
        feed(&mut tracker, 60, 15, |i| (75 - i) * 20_000);
        assert!(tracker.target(1_500_000) <= 12_000, "{}", tracker.target(1_500_000));
        feed(&mut tracker, 1000, 100, |i| (1100 - i) * 20_000);
        assert!(tracker.target(23_000_000) <= 12_000, "nor does a long one: {}", tracker.target(23_000_000));
        for n in 0..10 {
            feed(&mut tracker, 1200 + 25 * n, 20, |_| 0);
            feed(&mut tracker, 1220 + 25 * n, 5, |i| (1225 + 25 * n - i) * 20_000);
        }
        assert!(tracker.target(30_000_000) >= 60_000, "but many do: {}", tracker.target(30_000_000));
    }

    #[test]
    fn a_hiccup_is_remembered_and_fades() {
        let mut tracker = DelayTracker::new(JitterConfig::default());
        feed(&mut tracker, 0, 100, |_| 0);
        tracker.waited_for(2_000_000, 30_000);
        assert_eq!(tracker.target(2_000_000), 30_000);
        assert_eq!(tracker.target(4_500_000), 20_000);
        assert_eq!(tracker.target(20_000_000), 10_000);
        tracker.waited_for(20_000_000, 300_000);
        assert_eq!(tracker.target(20_000_000), 10_000, "a burst is no hiccup");
    }

    #[test]
    fn one_loss_changes_nothing_and_many_make_room_for_redundancy() {
        let mut tracker = DelayTracker::new(JitterConfig::default());
        feed(&mut tracker, 0, 100, |_| 0);
        tracker.outcome(true);
        assert_eq!(tracker.target(2_000_000), 10_000);
        for i in 0..200 {
            tracker.outcome(i % 12 == 0);
        }
        assert_eq!(tracker.target(2_000_000), 30_000);
        for _ in 0..300 {
            tracker.outcome(false);
        }
        assert_eq!(tracker.target(2_000_000), 10_000);
    }
}
