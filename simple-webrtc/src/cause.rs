//! Whose losses they are: of the path itself, as of a weak radio, or of ours, who send more than it carries.
//!
//! A queue that fills up shows ([`crate::trend`]). Some paths have none: a policer drops what is too much at once. What
//! tells it from a weak radio is the answer to a change of the rate, and rates do change, since redundancy comes when
//! packets are lost. A path that carries `c` loses `1 - c / rate` of a higher rate, and a radio as much as before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::congestion::Fate;

/// Rates and losses are of windows of up to 4 s: 200 packets of speech, of which a radio that loses a fifth loses 17 to 23 %.
const WINDOW: Duration = Duration::from_secs(4);
/// A window is made of pieces of 1 s, in which the rate of speech is even, and ends where the rate has changed so much.
const PIECE: Duration = Duration::from_secs(1);
const EVEN: f64 = 1.25;
/// Fewer packets say nothing: less than half a second of speech.
const ENOUGH: f64 = 25.0;
/// Rates that can be compared: by half apart. The rate of speech itself goes up and down by a quarter, so that closer ones would
/// be compared every few seconds, until chance has made them differ. Redundancy for frames of 20 ms at 24 kbit/s comes with two
/// thirds more, which tells; for the usual 40 kbit/s with a quarter, which does not, so that a policer below it is noticed only
/// when the rate has been limited for another reason, or when the loss is beyond what is left to the path.
const APART: f64 = 1.5;
/// Windows that are compared with the present one: half a minute at most, in which a path has not become another one.
const MEMORY: usize = 8;
/// Losses are ours if they follow the rate at least by this share of what a path would show that is full at both rates,
/// and by 8 points. A third: the lower rate may have been below what it carries. 8 points: less is not worth a change.
const FOLLOWS: (f64, f64) = (0.33, 0.08);
/// And by more than chance does, three standard deviations of losses in runs of two, of which there are half as many.
const CHANCE: f64 = 3.0 * std::f64::consts::SQRT_2;

/// What was sent for some time, and what became of it.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    packets: f64,
    lost: f64,
    bytes: f64,
    lasted: Duration,
}

impl Shown {
    fn rate(&self) -> f64 {
        self.bytes * 8.0 / self.lasted.as_secs_f64()
    }

    fn loss(&self) -> f64 {
        self.lost / self.packets
    }

    /// Whether the other rate is this far from this one.
    fn is_apart(&self, other: &Self, by: f64) -> bool {
        self.rate() > other.rate() * by || other.rate() > self.rate() * by
    }

    /// By how much losses may differ by chance. The variance of a share is that of both together, since a few losses less
    /// would make chance look small.
    fn chance(&self, other: &Self) -> f64 {
        let loss = self.and(other).loss();
        CHANCE * (loss * (1.0 - loss) * (1.0 / self.packets + 1.0 / other.packets)).sqrt()
    }

    fn is_another_path(&self, other: &Self) -> bool {
        (self.loss() - other.loss()).abs() > self.chance(other).max(FOLLOWS.1)
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            lost: self.lost + other.lost,
            bytes: self.bytes + other.bytes,
            lasted: self.lasted + other.lasted,
        }
    }
}

/// Compares losses at different rates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cause {
    began: Option<Instant>,
    /// The last report.
    heard: Option<Instant>,
    piece: Shown,
    window: Option<Shown>,
    /// Newest last.
    windows: VecDeque<Shown>,
    ours: bool,
}

impl Cause {
    /// `sending` is in bit/s: what reports do not name, since they were lost themselves, was sent all the same.
    pub(crate) fn on_feedback(&mut self, now: Instant, fates: &[Fate], sending: Option<u64>) {
        let Some(sending) = sending else { return };
        let began = *self.began.get_or_insert(now);
        let since = now.saturating_duration_since(self.heard.replace(now).unwrap_or(now));
        self.piece.bytes += sending as f64 / 8.0 * since.as_secs_f64();
        for fate in fates {
            self.piece.packets += 1.0;
            self.piece.lost += f64::from(u8::from(!fate.arrived));
        }
        let lasted = now.saturating_duration_since(began);
        if lasted < PIECE {
            return;
        }
        self.began = Some(now);
        let piece = Shown { lasted, ..std::mem::take(&mut self.piece) };
        // Someone who pauses, or feedback that was held up, tells nothing of a rate.
        if piece.packets < ENOUGH || lasted > 2 * PIECE {
            self.end();
            return;
        }
        let window = match self.window.take() {
            Some(window) if window.is_apart(&piece, EVEN) => {
                self.keep(window);
                piece
            }
            Some(window) => window.and(&piece),
            None => piece,
        };
        self.window = Some(window);
        let even = self.windows.iter().rev().find(|then| !then.is_apart(&window, EVEN));
        let apart = self.windows.iter().rev().find(|then| then.is_apart(&window, APART));
        if even.is_some_and(|then| then.is_another_path(&window)) {
            // As much was sent, and something else became of it. What was before says nothing any more.
            self.windows.clear();
            self.ours = false;
        } else if let Some(then) = apart {
            self.ours = follows(then, &window).unwrap_or(self.ours);
        }
        if window.lasted >= WINDOW {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(window) = self.window.take() {
            self.keep(window);
        }
    }

    fn keep(&mut self, window: Shown) {
        if self.windows.len() >= MEMORY {
            self.windows.pop_front();
        }
        self.windows.push_back(window);
        if self.windows.iter().all(|window| window.loss() < FOLLOWS.1) {
            self.ours = false;
        }
    }

    /// Whether more was lost because more was sent, as far as that has shown.
    pub(crate) fn is_ours(&self) -> bool {
        self.ours
    }
}

/// Whether so much more was lost at the higher rate that it must be the reason, or so little that it is not; none if chance
/// may have decided.
fn follows(one: &Shown, other: &Shown) -> Option<bool> {
    let (low, high) = if one.rate() < other.rate() { (one, other) } else { (other, one) };
    let full = (1.0 - low.loss()) * (1.0 - low.rate() / high.rate());
    let chance = low.chance(high);
    let (share, least) = FOLLOWS;
    let (more, enough) = (high.loss() - low.loss(), (full * share).max(least));
    match more > enough.max(chance) {
        true => Some(true),
        false => (more + chance / 3.0 < enough).then_some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::Total;

    /// Feedback each 200 ms for so many seconds on 50 packets a second, of which `lost` says which are.
    fn feed(
        cause: &mut Cause,
        from: Instant,
        seconds: u64,
        bytes: usize,
        lost: impl Fn(u64) -> bool,
    ) -> Instant {
        for n in 0..seconds * 5 {
            let fates: Vec<Fate> = (n * 10..n * 10 + 10)
                .map(|packet| Fate { left: from, arrived: !lost(packet), came: None, sent: Total::default() })
                .collect();
            cause.on_feedback(from + Duration::from_millis(n * 200), &fates, Some(bytes as u64 * 8 * 50));
        }
        from + Duration::from_secs(seconds)
    }

    /// By chance, with this probability.
    fn chance(seed: u64, share: f64) -> impl Fn(u64) -> bool {
        move |packet| {
            let mut x =
                (packet + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed.wrapping_mul(0xD1B5_4A32_D192_ED03);
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 <= share
        }
    }

    #[test]
    fn a_radio_loses_as_much_of_a_higher_rate_and_a_policer_more() {
        let mut wrong = [0, 0];
        for seed in 0..200 {
            let mut radio = Cause::default();
            let now = feed(&mut radio, Instant::now(), 8, 100, chance(seed, 0.2));
            assert!(!radio.is_ours(), "nothing has shown yet");
            let now = feed(&mut radio, now, 10, 170, chance(seed + 100, 0.2));
            wrong[0] += u32::from(radio.is_ours());
            feed(&mut radio, now, 10, 100, chance(seed + 200, 0.2));
            assert!(!radio.is_ours(), "less did not help: seed {seed}");

            // 40 kbit/s, of which 30 get through.
            let mut policer = Cause::default();
            let now = feed(&mut policer, Instant::now(), 8, 100, chance(seed, 0.25));
            let now = feed(&mut policer, now, 10, 170, chance(seed + 100, 1.0 - 30.0 / 68.0));
            wrong[1] += u32::from(!policer.is_ours());
            let now = feed(&mut policer, now, 10, 70, |_| false);
            assert!(policer.is_ours(), "less did help: seed {seed}");
            feed(&mut policer, now, 40, 70, |_| false);
            assert!(!policer.is_ours(), "long ago: seed {seed}");
        }
        assert!(wrong[0] == 0 && wrong[1] <= 2, "{wrong:?} of 200");
    }

    #[test]
    fn a_fade_while_one_speaks_is_not_ours_though_nothing_was_lost_while_one_listened() {
        for seed in 0..50 {
            let mut cause = Cause::default();
            let now = feed(&mut cause, Instant::now(), 5, 70, |_| false);
            let mut now = feed(&mut cause, now, 10, 130, |_| false);
            for second in 0..15 {
                now = feed(&mut cause, now, 1, 130, chance(seed * 100 + second, 0.25));
                assert!(second < 2 || !cause.is_ours(), "seed {seed}, second {second}");
            }
        }
    }

    #[test]
    fn losses_that_begin_before_the_rate_goes_up_are_not_ours() {
        let mut cause = Cause::default();
        let now = feed(&mut cause, Instant::now(), 20, 100, |_| false);
        let now = feed(&mut cause, now, 5, 100, chance(1, 0.15));
        feed(&mut cause, now, 20, 170, chance(2, 0.15));
        assert!(!cause.is_ours());
    }

    #[test]
    fn speech_that_goes_up_and_down_on_a_bad_radio_is_not_ours() {
        let mut said = 0;
        for seed in 0..50 {
            let (mut cause, mut now) = (Cause::default(), Instant::now());
            for second in 0..60 {
                let loud = chance(seed * 1_000 + second, 0.5)(7);
                now = feed(&mut cause, now, 1, if loud { 170 } else { 80 }, chance(seed * 60 + second, 0.2));
                said += u32::from(cause.is_ours());
            }
        }
        assert_eq!(said, 0, "of 3,000 seconds");
    }

    #[test]
    fn pauses_say_nothing() {
        let mut cause = Cause::default();
        let now = feed(&mut cause, Instant::now(), 8, 100, |_| false);
        let now = feed(&mut cause, now + Duration::from_secs(30), 1, 200, |_| true);
        feed(&mut cause, now + Duration::from_secs(30), 1, 200, |_| true);
        assert!(!cause.is_ours());
    }
}
