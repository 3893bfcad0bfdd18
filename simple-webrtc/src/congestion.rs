//! What feedback about single packets says of the path: whether it is congested, and what may be sent then.
//!
//! The engine's own controller (Google congestion control) raises its estimate for as long as nothing goes wrong, whether
//! or not so much is sent: for speech it ends at its upper bound. And its detector of growing delay is too coarse for
//! speech ([`crate::trend`]). So both are ours; there is no limit as long as nothing has gone wrong.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::loss::{Fates, Loss};
use crate::rate::WINDOW;

/// How much of what arrives may be sent after congestion. 0.85: draft-ietf-rmcat-gcc-02 section 5.5.
const DECREASE: f64 = 0.85;
/// How much a limit rises in a second without congestion. 8 %: the same section.
const INCREASE: f64 = 1.08;
/// And at least so much in a second, in bit/s: 1,000 bits in each response time of 200 ms (a round trip of 100 ms and 100 ms), the
/// same section. With 8 % alone speech that was limited to 16 kbit/s would wait half a minute for what it needs.
const LEAST_INCREASE: f64 = 5_000.0;
/// Loss above this is taken for congestion, and below the other one it is not. 10 % and 2 %: draft-ietf-rmcat-gcc-02 section 6.
const HEAVY_LOSS: f64 = 0.10;
const LIGHT_LOSS: f64 = 0.02;
/// Loss up to the first, while delay does not grow and a lower rate has not shown less of it ([`Cause`]), is that of the path
/// itself (a weak radio) as far as speech goes: it limits nothing below the second, in bit/s, which is what speech takes with the
/// redundancy that makes up for it. Limited to 16 kbit/s instead, sound at 20 % loss falls from 4.0 to 1.9 (PESQ, method in
/// docs/audio-quality.md). 35 %: what that redundancy is good for.
/// The circuit breaker of RFC 8083 (section 4.3: ten times the rate of TCP) stops packets of 160 bytes at 35 % loss and a round trip of
/// 100 ms beyond 265 kbit/s, at 300 ms beyond 88.
const OF_THE_PATH: (f64, f64) = (0.35, 80_000.0);
/// So many packets must have been heard of since the last decrease before their loss counts as heavy. 150: 3 s of speech; of 25 a
/// path that loses a fifth by chance loses more than a third each minute, and one that loses in bursts far more often.
const ENOUGH: usize = 150;
/// Or so many, of which so large a share was lost: 1 s of speech and 45 %. By chance a path that loses a fifth comes to that in one of
/// 33,000 stretches of that length (binomial).
const SURELY: (usize, f64) = (50, 0.45);
/// Losses in a row beyond these are an outage, which says nothing of what may be sent after it: half a second of speech.
const OUTAGE: usize = 25;
/// Between two decreases: what is sent has to be heard of first. 1 s: a feedback interval, and a round trip with a full
/// queue of half a second.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it counts as congested after the last sign. 2 s: two decreases.
const HELD: Duration = Duration::from_secs(2);
/// Packets of a second that are counted. 2,048: video of 20 Mbit/s.
const MOST: usize = 2_048;
/// A limit this many times above what is sent limits nothing.
const FAR_ABOVE: f64 = 2.0;
/// The lowest limit, in bit/s. 16,000: Opus at its lowest useful rate for speech (6 kbit/s, RFC 6716 section 2) and the headers of
/// 20 ms packets, 40 bytes with IPv4, UDP and RTP each, of which ten bytes are ours to count.
const LOWEST: f64 = 16_000.0;

/// What became of one packet, as the peer says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fate {
    pub(crate) left: Instant,
    pub(crate) arrived: bool,
    /// When, on the peer's clock.
    pub(crate) came: Option<Duration>,
}

/// How long packets wait on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// As long as ever.
    Even,
    /// Longer and longer ([`crate::trend`]).
    Grows,
    /// As long as a full queue lasts ([`crate::standing`]), in one direction or the other.
    Stands,
}

/// The way to the peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Congestion {
    fates: Fates,
    /// Those of packets since the last decrease: none is punished twice.
    fresh: Fates,
    /// Losses in a row.
    run: usize,
    cause: Cause,
    /// Packets of the last second, by the peer's clock, and when they left here.
    arrived: VecDeque<(Duration, Instant)>,
    /// In bit/s.
    limit: Option<f64>,
    /// The last sign of congestion.
    signed: Option<Instant>,
    decreased: Option<Instant>,
    raised: Option<Instant>,
    heard: Option<Instant>,
}

impl Congestion {
    /// What the peer says of single packets, how long they wait, and how many bits a second are being sent.
    pub(crate) fn on_feedback(&mut self, now: Instant, fates: &[Fate], delay: Delay, sending: Option<u64>) {
        self.heard = Some(now);
        self.cause.on_feedback(now, fates, sending);
        for fate in fates {
            self.fates.push(!fate.arrived);
            self.run = if fate.arrived { 0 } else { self.run + 1 };
            if self.run <= OUTAGE {
                self.fresh.push(!fate.arrived);
            }
            if let Some(came) = fate.came {
                self.arrived.push_back((came, fate.left));
            }
        }
        let newest = self.arrived.back().map_or(Duration::ZERO, |(came, _)| *came);
        let old = |came: &Duration| newest.saturating_sub(*came) > WINDOW;
        while self.arrived.len() > MOST || self.arrived.front().is_some_and(|(came, _)| old(came)) {
            self.arrived.pop_front();
        }
        let (few, most) = SURELY;
        let packets = self.fresh.packets();
        let loss = self.fresh.loss().map_or(0.0, |loss| loss.share);
        let enough = packets >= ENOUGH || packets >= few && loss >= most;
        let loss = if enough { loss } else { 0.0 };
        let sending = sending.map(|rate| rate as f64);
        // A queue that stands and overflows is full. Which direction it is in the losses say.
        let full = delay == Delay::Stands && loss > HEAVY_LOSS;
        if full || delay == Delay::Grows {
            // What a weak radio loses has been through the queue.
            let lost = if full || self.cause.is_ours() { loss } else { 0.0 };
            let carried = sending.zip(self.pace()).map(|(rate, pace)| rate * pace * (1.0 - lost));
            tracing::debug!(loss, carried, limit = self.limit, "packets wait on their way");
            self.decrease(now, carried.map(|rate| rate * DECREASE));
        } else if loss > HEAVY_LOSS {
            self.on_heavy_loss(now, loss, sending);
        } else if enough {
            self.raise(now, loss, sending);
        }
    }

    /// The same from a report that only says how much was lost, of peers that say nothing of single packets.
    pub(crate) fn on_report(&mut self, now: Instant, loss: f64, sending: Option<u64>) {
        if self.is_told(now) {
            return;
        }
        let sending = sending.map(|rate| rate as f64);
        match loss > HEAVY_LOSS {
            true => self.on_heavy_loss(now, loss, sending),
            false => self.raise(now, loss, sending),
        }
    }

    /// Loss on the way, before anything was repaired; `None` if the peer does not tell.
    pub(crate) fn loss(&self, now: Instant) -> Option<Loss> {
        self.fates.loss().filter(|_| self.is_told(now))
    }

    pub(crate) fn is_congested(&self, now: Instant) -> bool {
        self.signed.is_some_and(|at| now.saturating_duration_since(at) < HELD)
    }

    /// Bits a second that may be sent, RTP headers included; `None` if nothing is known against more.
    pub(crate) fn limit(&self) -> Option<u32> {
        self.limit.map(|limit| limit as u32)
    }

    /// Whether the peer tells of single packets. 5 s: 25 of its intervals.
    fn is_told(&self, now: Instant) -> bool {
        self.heard.is_some_and(|at| now.saturating_duration_since(at) < Duration::from_secs(5))
    }

    /// How much of what is sent the path takes, as its packets come further apart than they left. Packets that no report has
    /// named, because it was lost itself, are missing from both.
    fn pace(&self) -> Option<f64> {
        let ((first, first_left), (last, last_left)) = self.arrived.front().zip(self.arrived.back())?;
        let span = last.saturating_sub(*first);
        if span < WINDOW / 2 {
            return None;
        }
        let left = last_left.saturating_duration_since(*first_left);
        // More than double the time would be an outage, and what comes faster than it left had been held up.
        Some((left.as_secs_f64() / span.as_secs_f64()).clamp(0.5, 1.0))
    }

    /// draft-ietf-rmcat-gcc-02 section 6.
    fn on_heavy_loss(&mut self, now: Instant, loss: f64, sending: Option<f64>) {
        let least = self.limit.into_iter().chain(sending).reduce(f64::min);
        let floor = match loss <= OF_THE_PATH.0 && !self.cause.is_ours() {
            true if least.is_none_or(|rate| rate <= OF_THE_PATH.1) => return self.raise(now, loss, sending),
            true => OF_THE_PATH.1,
            false => LOWEST,
        };
        tracing::debug!(
            loss,
            ours = self.cause.is_ours(),
            sending,
            limit = self.limit,
            "too many packets are lost"
        );
        self.decrease(now, least.map(|rate| (rate * (1.0 - 0.5 * loss)).max(floor)));
    }

    fn decrease(&mut self, now: Instant, to: Option<f64>) {
        self.signed = Some(now);
        self.raised = Some(now);
        if self.decreased.is_some_and(|at| now.saturating_duration_since(at) < PATIENCE) {
            return;
        }
        let Some(to) = to else { return };
        self.decreased = Some(now);
        self.fresh = Fates::default();
        self.limit = Some(self.limit.map_or(to, |limit| limit.min(to)).max(LOWEST));
    }

    fn raise(&mut self, now: Instant, loss: f64, sending: Option<f64>) {
        let since = self.raised.replace(now);
        let Some(limit) = self.limit else { return };
        let bearable =
            if limit < OF_THE_PATH.1 && !self.cause.is_ours() { OF_THE_PATH.0 } else { LIGHT_LOSS };
        if self.is_congested(now) || loss > bearable {
            return;
        }
        let seconds = since.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64().min(1.0));
        let limit = (limit * INCREASE.powf(seconds)).max(limit + LEAST_INCREASE * seconds);
        self.limit = Some(limit).filter(|limit| sending.is_none_or(|sending| *limit < FAR_ABOVE * sending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

    /// Feedback each 200 ms on ten packets of 100 bytes (40 kbit/s), of which every `nth` is lost.
    fn feed(
        congestion: &mut Congestion,
        from: Instant,
        seconds: u64,
        nth: u64,
        delay_grows: bool,
    ) -> Instant {
        let epoch = *EPOCH.get_or_init(Instant::now);
        for n in 0..seconds * 5 {
            let fates: Vec<Fate> = (0..10)
                .map(|p| {
                    let arrived = nth == 0 || !(n * 10 + p).is_multiple_of(nth);
                    let came = from.duration_since(epoch) + Duration::from_millis(n * 200 + p * 20);
                    let left = from + Duration::from_millis(n * 200 + p * 20);
                    Fate { left, arrived, came: arrived.then_some(came) }
                })
                .collect();
            let delay = if delay_grows { Delay::Grows } else { Delay::Even };
            congestion.on_feedback(from + Duration::from_millis(n * 200), &fates, delay, Some(40_000));
        }
        from + Duration::from_secs(seconds)
    }

    #[test]
    fn there_is_no_limit_as_long_as_nothing_goes_wrong() {
        let mut congestion = Congestion::default();
        let now = feed(&mut congestion, Instant::now(), 60, 0, false);
        assert_eq!((congestion.limit(), congestion.is_congested(now)), (None, false));
        assert_eq!(congestion.loss(now).map(|loss| loss.share), Some(0.0));
        // 5 % is neither.
        let now = feed(&mut congestion, now, 60, 20, false);
        assert_eq!((congestion.limit(), congestion.is_congested(now)), (None, false));
        assert!(congestion.loss(now).is_some_and(|loss| (loss.share - 0.05).abs() < 0.01));
    }

    #[test]
    fn growing_delay_limits_to_less_than_what_arrives_and_the_limit_rises_again_until_it_is_none() {
        let mut congestion = Congestion::default();
        let now = feed(&mut congestion, Instant::now(), 5, 0, false);
        let now = feed(&mut congestion, now, 1, 0, true);
        let limit = congestion.limit().expect("limited");
        assert!((32_000..=34_000).contains(&limit), "{limit}");
        assert!(congestion.is_congested(now));
        // One sign is one decrease, however often it is said within a second.
        let later = feed(&mut congestion, now, 4, 0, false);
        assert!(!congestion.is_congested(later));
        let raised = congestion.limit().expect("still");
        assert!(raised > limit && raised <= limit + 4 * 5_000, "{raised}");
        feed(&mut congestion, later, 20, 0, false);
        assert_eq!(congestion.limit(), None, "far above what is sent");
    }

    #[test]
    fn heavy_loss_limits_and_light_loss_does_not() {
        let mut congestion = Congestion::default();
        let now = feed(&mut congestion, Instant::now(), 10, 2, false);
        let limit = congestion.limit().expect("limited");
        assert!(limit < 30_500, "{limit}");
        assert!(congestion.is_congested(now));
        let now = feed(&mut congestion, now, 60, 2, false);
        assert_eq!(congestion.limit(), Some(LOWEST as u32), "not to nothing");
        assert!(congestion.loss(now).is_some_and(|loss| loss.share == 0.5));
        assert_eq!(congestion.loss(now + Duration::from_secs(9)), None, "too long ago");
    }

    #[test]
    fn what_a_weak_radio_loses_limits_no_speech_but_much_more_than_speech() {
        let mut congestion = Congestion::default();
        let now = feed(&mut congestion, Instant::now(), 30, 5, false);
        assert_eq!((congestion.limit(), congestion.is_congested(now)), (None, false), "20 % of 40 kbit/s");
        assert!(congestion.loss(now).is_some_and(|loss| (0.19..0.21).contains(&loss.share)));
        // A limit that growing delay has set is raised again though the path goes on losing.
        let now = feed(&mut congestion, now, 3, 5, true);
        assert!(congestion.limit().is_some_and(|limit| limit <= 34_000), "{:?}", congestion.limit());
        feed(&mut congestion, now, 30, 5, false);
        assert_eq!(congestion.limit(), None);

        let mut congestion = Congestion::default();
        for n in 0..60 {
            congestion.on_report(Instant::now() + Duration::from_secs(n), 0.2, Some(500_000));
        }
        assert_eq!(congestion.limit(), Some(80_000), "video gives way until there is room for speech");
    }

    #[test]
    fn a_path_without_a_queue_that_carries_less_gets_less() {
        // Carries 40 kbit/s and drops the rest at once; what is sent follows the limit, with 75 kbit/s at most.
        let mut congestion = Congestion::default();
        let start = Instant::now();
        let (mut sent, mut arrived, mut lost) = (42_000.0, 0.0, Vec::new());
        for n in 0..5 * 60_u64 {
            let now = start + Duration::from_millis(n * 200);
            // Redundancy comes a second after the losses.
            let wanted: f64 = if n > 10 { 75_000.0 } else { 42_000.0 };
            sent = congestion.limit().map_or(wanted, |limit| wanted.min(limit.into())).max(sent * 0.5);
            let fates: Vec<Fate> = (0..10)
                .map(|p| {
                    arrived += (40_000.0 / sent).min(1.0);
                    let came = arrived >= 1.0;
                    arrived -= if came { 1.0 } else { 0.0 };
                    let at = now.duration_since(start) + Duration::from_millis(p * 20);
                    Fate { left: start + at, arrived: came, came: came.then_some(at) }
                })
                .collect();
            lost.extend(fates.iter().map(|fate| !fate.arrived));
            congestion.on_feedback(now, &fates, Delay::Even, Some(sent as u64));
        }
        let late = &lost[lost.len() / 2..];
        let share = late.iter().filter(|lost| **lost).count() as f64 / late.len() as f64;
        assert!(share < HEAVY_LOSS * 1.3, "{share} of what is sent in the second half minute");
        assert!(sent > 25_000.0, "and it is used: {sent}");
    }

    #[test]
    fn a_queue_that_was_full_before_anything_was_sent_is_emptied() {
        // Carries 55 kbit/s and holds 27,500 bits; before the first packet others had filled it.
        let mut congestion = Congestion::default();
        let start = Instant::now();
        let (carries, most, mut trend) = (55_000.0, 27_500.0, crate::trend::Trend::default());
        let (mut queue, mut lost, mut sent): (f64, Vec<(u64, bool)>, f64) = (most, Vec::new(), 80_000.0);
        for n in 0..5 * 30_u64 {
            let now = start + Duration::from_millis(n * 200);
            sent = congestion.limit().map_or(80_000.0, |limit| f64::from(limit).min(80_000.0));
            let fates: Vec<Fate> = (0..10)
                .map(|p| {
                    queue = (queue - carries * 0.02).max(0.0);
                    let arrived = queue + sent * 0.02 <= most;
                    queue += if arrived { sent * 0.02 } else { 0.0 };
                    let left = now + Duration::from_millis(p * 20);
                    let came = left.duration_since(start) + Duration::from_secs_f64(queue / carries);
                    lost.push((n, !arrived));
                    Fate { left, arrived, came: arrived.then_some(came) }
                })
                .collect();
            let ways = fates.iter().filter_map(|fate| Some((fate.left, fate.came?)));
            let delay = match (trend.on_report(ways), queue > 0.2 * carries) {
                (true, _) => Delay::Grows,
                (_, true) => Delay::Stands,
                _ => Delay::Even,
            };
            congestion.on_feedback(now, &fates, delay, Some(sent as u64));
        }
        let late = lost.iter().filter(|(n, _)| *n >= 50);
        let share = late.clone().filter(|(_, lost)| *lost).count() as f64 / late.count() as f64;
        assert!(share < 0.05, "{share} after ten seconds");
        assert!(sent > 35_000.0, "and it is used: {sent}");
        // Where nothing is lost this way, the queue is in the other direction.
        let mut congestion = Congestion::default();
        for n in 0..50 {
            let now = start + Duration::from_millis(n * 200);
            let fates = [Fate { left: now, arrived: true, came: Some(now - start) }; 10];
            congestion.on_feedback(now, &fates, Delay::Stands, Some(40_000));
        }
        assert_eq!(congestion.limit(), None);
    }

    #[test]
    fn losses_by_chance_do_not_look_like_congestion() {
        for (seed, bursts) in (0..40).map(|seed| (seed, seed % 2 == 1)) {
            let (mut congestion, mut state) = (Congestion::default(), seed * 7_919 + 1_u64);
            let (start, mut left) = (Instant::now(), 0);
            let mut lost = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let chance = (state >> 33) as f64 / f64::from(1_u32 << 31);
                // 20 % one by one, 10 % in threes.
                left = if left > 0 {
                    left - 1
                } else if bursts && chance < 0.036 {
                    3
                } else {
                    0
                };
                if bursts { left > 0 } else { chance < 0.2 }
            };
            for n in 0..5 * 120_u64 {
                let fates: Vec<Fate> = (0..10_u64)
                    .map(|p| {
                        let arrived = !lost();
                        let came = Duration::from_millis(n * 200 + p * 20);
                        Fate { left: start + came, arrived, came: arrived.then_some(came) }
                    })
                    .collect();
                congestion.on_feedback(
                    start + Duration::from_millis(n * 200),
                    &fates,
                    Delay::Even,
                    Some(60_000),
                );
            }
            assert_eq!(congestion.limit(), None, "seed {seed}");
        }
    }

    #[test]
    fn an_outage_is_not_punished() {
        let mut congestion = Congestion::default();
        let mut now = feed(&mut congestion, Instant::now(), 10, 0, false);
        for seconds in [1, 3, 10] {
            now = feed(&mut congestion, now, seconds, 1, false);
            now = feed(&mut congestion, now, 5, 0, false);
            assert_eq!(congestion.limit(), None, "after {seconds} s");
        }
    }

    #[test]
    fn reports_count_only_of_peers_that_tell_nothing_better() {
        let start = Instant::now();
        let mut congestion = Congestion::default();
        congestion.on_report(start, 0.4, Some(40_000));
        assert_eq!(congestion.limit(), Some(32_000));
        let mut congestion = Congestion::default();
        let now = feed(&mut congestion, start, 3, 0, false);
        congestion.on_report(now, 0.4, Some(40_000));
        assert_eq!(congestion.limit(), None);
    }
}
