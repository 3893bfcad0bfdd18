//! How much delay the path asks for.
//!
//! A packet's *relative delay* is how much later it came than the fastest packet of the last seconds would have. The
//! target is where more delay would cost more than the late packets that it saves, learnt with forgetting, or a little
//! more where small hiccups come back again and again. A single burst does not move it: waiting for the next one would
//! only keep the delay up.
//!
//! Arrivals are counted from the end of a packet's sound, when it can be sent at the earliest, so that frames of
//! another length are not taken for a slower path.

use std::{collections::VecDeque, time::Duration};

use super::{JitterConfig, repair::Repairs};

/// Width of a bin of the histogram.
const BIN_US: i64 = 2_000;
/// Bins up to half a second; what is beyond counts as the last.
const BINS: usize = 250;
/// What one percent of late packets is worth in delay: 40 ms. By the E-model (ITU-T G.107) one percent costs four to five
/// points of R, and so do 40 ms beyond 177 ms, or 200 ms below. NetEq of WebRTC takes 20 ms. Where delays vary by 30 ms
/// (normal), 40 ms score 4.48 (PESQ) and 20 ms 4.36, for 5 ms less delay; 80 ms score 4.49 for 10 ms more.
const PERCENT_US: f64 = 40_000.0;
/// What is sent again counts as half, so one percent of it is worth 20 ms: to wait for it takes a round trip and more all the time, and with 40 ms it
/// is waited for beside copies that bring nearly all of it (tests/resent.rs).
const AGAIN_COUNTS: f64 = 0.5;
/// Within this share of what jitter asks for beyond the second, up to the third, the delay is not made shorter: what is
/// learnt of much jitter wavers, and each change is heard more than the delay is. Where delays vary by 30 ms that makes
/// 4.48 (PESQ) of 4.0, for 6 ms; on a path that varies by 5 ms it changes nothing.
const BAND: f64 = 0.5;
const BAND_FROM_US: i64 = 20_000;
const WIDEST_BAND_US: i64 = 40_000;
/// Sound after which a packet's weight has fallen to 1/e: 6 s. Half a second of what is new is enough to be covered, and
/// what was is forgotten after 18 s.
const MEMORY_SAMPLES: f64 = 6.0 * 48_000.0;
/// The fastest packet is looked for in this many spans of [`SPAN_US`]: 5 s, in which clocks drift by at most 1.5 ms.
const SPANS: usize = 5;
const SPAN_US: i64 = 1_000_000;
/// What comes in one go after a standstill of the path counts for at most this much sound: 160 ms, 2.7 % of the memory.
const BURST_SAMPLES: i64 = 7_680;
/// Packets that come this close after each other come in one go: half of the shortest frame.
const BURST_GAP_US: i64 = 5_000;
/// Hiccups up to this long can hold the target up; longer ones are bursts.
const HICCUP_US: i64 = 60_000;
/// Hiccups are remembered for this many seconds, and hold the target up if they come in at least two of them. So one
/// alone moves nothing, and those that do come back are covered all the time: the delay does not go up and down with
/// each of them, as happens on a machine that is busy.
const HICCUP_SECONDS: usize = 20;
/// Sound after which the histogram is trusted more than the start target: 0.5 s, 25 packets. People draw breath before
/// they speak, so what is too much is mostly cut away before the first word.
const TRUST_SAMPLES: i64 = 24_000;
/// The delay is not made shorter than what the last packets needed, whatever the histogram knows yet.
const RECENT: usize = 4;
/// A packet that was sent again and comes later than this is as good as lost: 150 ms one way is what ITU-T G.114 allows in
/// all.
const AGAIN_US: i64 = 150_000;
/// So many packets must have been shorter before the frame length is taken to be theirs.
const SHORTER: u8 = 10;

/// Watches arrivals and recommends a delay. Times are microseconds of any monotonic clock.
#[derive(Debug)]
pub(crate) struct DelayTracker {
    config: JitterConfig,
    histogram: Vec<f64>,
    /// Where the histogram's zero lies: the least transit at which it was last aligned.
    origin: i64,
    /// Least arrival minus time of the last sample, per span of time, newest last.
    least: VecDeque<(i64, i64)>,
    /// The transit up to which packets are waited for.
    held: i64,
    /// Sound that was observed, in samples.
    observed: i64,
    last_arrival: i64,
    /// Sound that came in one go, and the relative delay of the first of it.
    burst: i64,
    burst_relative: i64,
    /// The largest hiccup of each of the last seconds.
    hiccups: [(i64, i64); HICCUP_SECONDS],
    /// Transit of the last packets.
    recent: [i64; RECENT],
    recent_at: usize,
    frame_us: i64,
    shorter: u8,
    longest_shorter: i64,
    pub(super) repairs: Repairs,
    /// To the sender and back; 0 if nobody knows.
    pub(super) round_trip: i64,
}

impl DelayTracker {
    pub(crate) fn new(config: JitterConfig) -> Self {
        // All of the first weight lies on no delay, so that the first late packets do not count for everything.
        let mut histogram = vec![0.0; BINS];
        histogram[0] = 1.0;
        Self {
            config,
            histogram,
            origin: 0,
            least: VecDeque::with_capacity(SPANS + 2),
            held: i64::MIN,
            observed: 0,
            last_arrival: i64::MIN / 2,
            burst: 0,
            burst_relative: 0,
            hiccups: [(i64::MIN / 2, 0); HICCUP_SECONDS],
            recent: [i64::MIN / 2; RECENT],
            recent_at: 0,
            frame_us: 20_000,
            shorter: 0,
            longest_shorter: 0,
            repairs: Repairs::new(),
            round_trip: 0,
        }
    }

    /// Forgets where the sender's clock stands, but not what the path is like.
    pub(crate) fn new_clock(&mut self) {
        self.least.clear();
        self.held = i64::MIN;
        self.recent = [i64::MIN / 2; RECENT];
    }

    /// Notes that sound of `samples` with this time on the sender's clock came at `arrival`; tells its relative delay.
    pub(crate) fn observe(&mut self, arrival: i64, sent: i64, samples: i64) -> i64 {
        self.observe_as(arrival, sent, samples, 1.0)
    }

    /// The same of sound that was sent again.
    pub(super) fn observe_again(&mut self, arrival: i64, sent: i64, samples: i64) -> i64 {
        self.observe_as(arrival, sent, samples, AGAIN_COUNTS)
    }

    fn observe_as(&mut self, arrival: i64, sent: i64, samples: i64, counts: f64) -> i64 {
        let length = samples * 125 / 6;
        let transit = arrival - sent - length;
        let first = self.least.is_empty();
        let span = arrival.div_euclid(SPAN_US);
        match self.least.back_mut() {
            Some((at, least)) if *at >= span => *least = transit.min(*least),
            _ => self.least.push_back((span, transit)),
        }
        while self.least.len() > 1 && self.least.front().is_some_and(|(at, _)| *at <= span - SPANS as i64) {
            self.least.pop_front();
        }
        self.align(first);
        self.learn_length(length);
        let relative = transit - self.fastest();
        self.observed = self.observed.saturating_add(samples);
        let in_one_go = arrival.saturating_sub(self.last_arrival) < BURST_GAP_US;
        self.burst = if in_one_go { self.burst + samples } else { samples };
        if !in_one_go {
            self.burst_relative = relative;
        }
        self.last_arrival = arrival;
        self.recent[self.recent_at] = transit;
        self.recent_at = (self.recent_at + 1) % RECENT;
        self.repairs.advance(arrival);
        if relative <= HICCUP_US && self.burst_relative <= HICCUP_US {
            let second = arrival.div_euclid(1_000_000);
            let slot = &mut self.hiccups[second.rem_euclid(HICCUP_SECONDS as i64) as usize];
            if slot.0 != second {
                *slot = (second, 0);
            }
            slot.1 = slot.1.max(relative);
        }
        if self.burst <= BURST_SAMPLES {
            let bin = usize::try_from(relative / BIN_US).unwrap_or(0).min(BINS - 1);
            let weight = samples as f64 / MEMORY_SAMPLES;
            for mass in &mut self.histogram {
                *mass *= 1.0 - weight;
            }
            self.histogram[bin] += weight * counts;
            self.histogram[0] += weight * (1.0 - counts);
        }
        self.hold(arrival);
        relative
    }

    /// Whether a packet that came after later ones was asked for and sent again: it is late by a round trip, at least.
    /// Where nobody knows how long that is, nobody asks.
    pub(super) fn is_again(&self, arrival: i64, timestamp: i64, samples: usize) -> bool {
        self.round_trip > 0 && self.late(arrival, timestamp, samples) >= self.round_trip
    }

    /// Whether what was sent again came too late to be worth waiting for.
    pub(super) fn is_beyond(&self, arrival: i64, timestamp: i64, samples: usize) -> bool {
        self.late(arrival, timestamp, samples) > AGAIN_US
    }

    fn late(&self, arrival: i64, timestamp: i64, samples: usize) -> i64 {
        arrival - super::to_us(timestamp + samples as i64) - self.fastest()
    }

    /// When the fastest packet is forgotten and the path turns out to be slower, all that was learnt moves with it.
    fn align(&mut self, first: bool) {
        let fastest = self.fastest();
        let bins = if first { 0 } else { (fastest - self.origin) / BIN_US };
        if bins < 1 {
            self.origin = if first { fastest } else { fastest.min(self.origin) };
            return;
        }
        self.origin += bins * BIN_US;
        let by = usize::try_from(bins).unwrap_or(BINS).min(BINS - 1);
        let below: f64 = self.histogram[..by].iter().sum();
        self.histogram.copy_within(by.., 0);
        self.histogram[BINS - by..].fill(0.0);
        self.histogram[0] += below;
        for (_, hiccup) in &mut self.hiccups {
            *hiccup = (*hiccup - bins * BIN_US).max(0);
        }
    }

    /// A longer frame counts at once, a shorter one when all have been for a while.
    fn learn_length(&mut self, length: i64) {
        if length >= self.frame_us {
            (self.frame_us, self.shorter, self.longest_shorter) = (length, 0, 0);
            return;
        }
        self.shorter += 1;
        self.longest_shorter = self.longest_shorter.max(length);
        if self.shorter >= SHORTER {
            (self.frame_us, self.shorter, self.longest_shorter) = (self.longest_shorter, 0, 0);
        }
    }

    fn fastest(&self) -> i64 {
        self.least.iter().map(|(_, least)| *least).min().unwrap_or(0)
    }

    /// Arrival minus sender's time of the first sample of the fastest packet.
    pub(crate) fn base(&self) -> i64 {
        self.fastest() + self.frame_us
    }

    /// The most that one of the last packets was late.
    pub(crate) fn recent(&self) -> i64 {
        let latest = self.recent.iter().copied().max().unwrap_or(0);
        (latest - self.fastest()).max(0)
    }

    /// The delay to aim for, in microseconds.
    pub(crate) fn target(&self) -> i64 {
        let jitter = self.held.saturating_sub(self.fastest()).max(0);
        let mut target = (jitter + self.repairs.level()).max(micros(self.config.min));
        if self.observed < TRUST_SAMPLES {
            target = target.max(micros(self.config.start));
        }
        target.clamp(micros(self.config.min), micros(self.config.max))
    }

    /// Learns up to when packets are waited for: at once what is later, and what is earlier only beyond the band.
    fn hold(&mut self, now: i64) {
        let jitter = self.worth().max(self.hiccup(now));
        let band = ((jitter - BAND_FROM_US) as f64 * BAND) as i64;
        let aim = self.fastest() + jitter;
        self.held = self.held.clamp(aim, aim + band.clamp(0, WIDEST_BAND_US));
    }

    /// The second largest hiccup of the last seconds.
    fn hiccup(&self, now: i64) -> i64 {
        let oldest = now.div_euclid(1_000_000) - HICCUP_SECONDS as i64;
        let (mut first, mut second) = (0, 0);
        for &(at, hiccup) in &self.hiccups {
            if at > oldest && hiccup > second {
                second = hiccup.min(first);
                first = hiccup.max(first);
            }
        }
        second
    }

    /// The delay at which a bit more of it would cost more than the late packets that it saves.
    fn worth(&self) -> i64 {
        let (mut best, mut delay, mut late) = (f64::INFINITY, BIN_US, 0.0);
        for (bin, mass) in self.histogram.iter().enumerate().rev() {
            let covers = (bin as i64 + 1) * BIN_US;
            let cost = covers as f64 + late * 100.0 * PERCENT_US;
            if cost <= best {
                (best, delay) = (cost, covers);
            }
            late += mass;
        }
        delay
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
        assert_eq!(tracker.target(), 40_000);
        feed(&mut tracker, 0, 100, |i| 5_000 + i % 3 * 400);
        assert_eq!(tracker.target(), 10_000);
    }

    #[test]
    fn follows_steady_jitter_and_a_slower_path() {
        let mut tracker = DelayTracker::new(JitterConfig::default());
        feed(&mut tracker, 0, 1000, |i| i * 7919 % 60 * 1000);
        let target = tracker.target();
        assert!((52_000..=60_000).contains(&target), "{target}");
        feed(&mut tracker, 1000, 400, |_| 200_000);
        let target = tracker.target();
        assert!(target <= 60_000, "a longer way is not jitter: {target}");
        feed(&mut tracker, 1400, 800, |_| 200_000);
        assert_eq!(tracker.target(), 10_000, "and what was is forgotten");
    }

    #[test]
    fn where_delays_vary_much_few_packets_are_late() {
        // Normal with 30 ms, by the sum of twelve numbers, and none overtakes another.
        let (mut state, mut last) = (7_u64, 0);
        let mut arrivals = (0..6_000_i64).map(|i| {
            let mut sum = 0;
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                sum += (state >> 40) as i64;
            }
            let varied = (sum - 6 * (1 << 24)) * 30_000 / (1 << 24);
            last = (i * 20_000 + 60_000 + varied.max(-60_000)).max(last);
            last
        });
        let mut tracker = DelayTracker::new(JitterConfig::default());
        let (mut late, mut delay, packets) = (0, 0, 5_500);
        let (mut until, mut moved) = (0, 0);
        for (i, arrival) in (0..).zip(arrivals.by_ref()) {
            let target = tracker.target();
            let relative = tracker.observe(arrival, i * 20_000, 960);
            let before = std::mem::replace(&mut until, tracker.base() + tracker.target());
            if i >= 500 {
                late += i64::from(relative > target);
                delay += target;
                moved += (until - before).abs();
            }
        }
        // Each time that what is played moves, it is stretched or cut.
        assert!(moved < 250_000, "{moved} us in 110 s");
        assert!(late * 100 <= packets, "{late} of {packets}");
        assert!(delay / packets < 150_000, "{} us", delay / packets);
    }

    #[test]
    fn a_single_burst_does_not_move_it() {
        let mut tracker = DelayTracker::new(JitterConfig::default());
        feed(&mut tracker, 0, 60, |_| 0);
        feed(&mut tracker, 60, 15, |i| (75 - i) * 20_000);
        assert!(tracker.target() <= 12_000, "{}", tracker.target());
        feed(&mut tracker, 75, 925, |_| 0);
        feed(&mut tracker, 1000, 100, |i| (1100 - i) * 20_000);
        assert!(tracker.target() <= 12_000, "nor does a long one: {}", tracker.target());
        feed(&mut tracker, 1100, 100, |_| 0);
        for n in 0..10 {
            feed(&mut tracker, 1200 + 25 * n, 20, |_| 0);
            feed(&mut tracker, 1220 + 25 * n, 5, |i| (1225 + 25 * n - i) * 20_000);
        }
        assert!(tracker.target() >= 60_000, "but many do: {}", tracker.target());
    }

    #[test]
    fn a_hiccup_moves_nothing_and_those_that_come_back_hold_it_up_without_going_up_and_down() {
        let mut tracker = DelayTracker::new(JitterConfig::default());
        feed(&mut tracker, 0, 100, |_| 0);
        feed(&mut tracker, 100, 100, |i| if i == 150 { 30_000 } else { 0 });
        assert_eq!(tracker.target(), 10_000);
        feed(&mut tracker, 200, 100, |i| if i == 250 { 24_000 } else { 0 });
        // One every five seconds from now on.
        for n in 0..10 {
            let from = 300 + 250 * n;
            feed(&mut tracker, from, 250, |i| if i == from + 200 { 25_000 } else { 0 });
            let target = tracker.target();
            assert!((24_000..=30_000).contains(&target), "{target}");
        }
        feed(&mut tracker, 2_800, 1_100, |_| 0);
        assert_eq!(tracker.target(), 10_000);
    }

    #[test]
    fn frames_of_another_length_are_no_jitter() {
        let mut tracker = DelayTracker::new(JitterConfig::default());
        let mut time = 0;
        for samples in [960, 2_880, 480, 1_920, 120, 5_760] {
            let length = samples * 125 / 6;
            let mut relative = 0;
            for _ in 0..60 {
                relative = tracker.observe(time + length + 7_000, time, samples).max(relative);
                time += length;
            }
            assert!(relative <= 1, "{samples}: {relative}");
            assert_eq!(tracker.base(), 7_000 + length, "{samples}");
        }
        assert_eq!(tracker.target(), 10_000);
    }
}
