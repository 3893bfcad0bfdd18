//! When and how much to stretch: brings the delay to what the jitter buffer advises, where that is not heard.

use super::{
    line::{Line, PAST},
    stretch::{Direction, Jump, LEAST_LAG, MOST_LAG, Stretcher},
};
use crate::{BLOCK, level};

/// Sound below this level (as an amplitude, -50 dBov) is taken for silence, where nothing is heard of a change.
const QUIET: f32 = 0.003;
/// So is sound this much below the recent speech: 26 dB.
const QUIET_SHARE: f32 = 0.05;
/// Compared with the sound ahead must be the cross-fade of a jump.
const FADE: usize = 240;

/// How urgent it is, by the excess of delay in microseconds: the change of tempo, and how much both sides of a jump must
/// be alike. Up to 10 % are hardly noticed in speech, 25 % hardly disturb if they last for a second or two (Liang, Färber
/// and Girod went up to 30 to 50 % per packet). With the first row a burst of 300 ms is gone in under 1.5 s.
const PACE: [(i64, f32, f32); 4] =
    [(100_000, 0.25, 0.1), (40_000, 0.2, 0.5), (15_000, 0.12, 0.75), (0, 0.06, 0.9)];
/// The same for delay that is missing.
const SLOW: [(i64, f32, f32); 3] = [(30_000, 0.2, 0.5), (15_000, 0.15, 0.7), (0, 0.1, 0.8)];
/// The tempo is bounded over about this much sound: 30 ms, two of the longest jumps.
const MOST_CREDIT: f32 = 2.0 * MOST_LAG as f32;
/// What goes on for longer than a second becomes more urgent each tick, by 0.4 ms of excess.
const PATIENCE: u32 = 100;
const GROWING_US: i64 = 400;
const BLOCK_US: i64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Warp {
    stretcher: Stretcher,
    /// Samples that may be left out or put in now without going beyond the change of tempo, for a change of 100 %.
    credit: f32,
    /// Ticks since the delay was right.
    waiting: u32,
    /// Smoothed amplitude of what is not quiet.
    loudness: f32,
    seed: u32,
    pub(super) shortened: u64,
    pub(super) lengthened: u64,
    pub(super) jumps: u64,
}

impl Warp {
    /// Samples beyond a block that a search looks at.
    pub(super) const AHEAD: usize = MOST_LAG + FADE;

    pub(super) fn new() -> Self {
        Self {
            stretcher: Stretcher::new(),
            credit: 0.0,
            waiting: 0,
            loudness: 0.0,
            seed: 1,
            shortened: 0,
            lengthened: 0,
            jumps: 0,
        }
    }

    /// Notes the amplitude of a block that was played.
    pub(super) fn heard(&mut self, rms: f32) {
        if rms > QUIET {
            self.loudness += (rms - self.loudness) * 0.05;
        }
    }

    /// A tick has passed at which the delay was wrong by this much. A part of a block disturbs nobody.
    pub(super) fn tick(&mut self, by: i64) {
        self.waiting = if by < BLOCK_US { 0 } else { self.waiting.saturating_add(1) };
    }

    /// Leaves out up to `by` microseconds of what waits beyond the next block, if now is a good moment.
    pub(super) fn shorten(&mut self, line: &mut Line, by: i64) {
        let wanted = usize::try_from(by * 6 / 125).unwrap_or(0);
        let most = wanted.min(line.len().saturating_sub(BLOCK)).min(MOST_LAG);
        if most == 0 {
            return;
        }
        let (from, to) = (PAST - FADE, PAST + most + FADE.min(line.len() - most));
        if self.quiet(&line.all()[from..to]) {
            self.jump(line, Direction::Ahead, most, 0.0);
            return;
        }
        let (tempo, alike) = pace(&PACE, by + self.impatience());
        self.earn(tempo);
        if self.credit < LEAST_LAG as f32 || most < LEAST_LAG {
            return;
        }
        match self.stretcher.search(line, Direction::Ahead, most) {
            Some(Jump { lag, likeness }) if likeness >= alike && lag as f32 <= self.credit => {
                self.credit -= lag as f32;
                self.jump(line, Direction::Ahead, lag, likeness);
            }
            _ => {}
        }
    }

    /// Puts in about `by` microseconds in front of what waits, or a part of it, if now is a good moment.
    pub(super) fn lengthen(&mut self, line: &mut Line, by: i64) {
        if line.len() < FADE {
            return;
        }
        let wanted = usize::try_from(by * 6 / 125).unwrap_or(0);
        let (tempo, alike) = pace(&SLOW, by + self.impatience());
        if self.quiet(&line.all()[PAST - MOST_LAG..PAST + FADE]) {
            // Of another length each time, lest the repetitions become a tone; and not more than is new.
            self.earn(0.5);
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let lag = wanted.min(BLOCK + (self.seed >> 24) as usize % (MOST_LAG - BLOCK)).max(1);
            if lag as f32 <= self.credit {
                self.credit -= lag as f32;
                self.jump(line, Direction::Back, lag, 0.0);
            }
            return;
        }
        self.earn(tempo);
        if self.credit < LEAST_LAG as f32 {
            return;
        }
        match self.stretcher.search(line, Direction::Back, MOST_LAG) {
            Some(Jump { lag, likeness }) if likeness >= alike && lag as f32 <= self.credit => {
                self.credit -= lag as f32;
                self.jump(line, Direction::Back, lag, likeness);
            }
            _ => {}
        }
    }

    fn earn(&mut self, tempo: f32) {
        self.credit = (self.credit + tempo * BLOCK as f32).min(MOST_CREDIT);
    }

    fn impatience(&self) -> i64 {
        i64::from(self.waiting.saturating_sub(PATIENCE)) * GROWING_US
    }

    fn quiet(&self, sound: &[f32]) -> bool {
        level::rms(sound) < QUIET.max(self.loudness * QUIET_SHARE)
    }

    fn jump(&mut self, line: &mut Line, direction: Direction, lag: usize, likeness: f32) {
        let likeness = if likeness > 0.0 { likeness } else { 0.5 };
        self.stretcher.jump(line, direction, Jump { lag, likeness });
        self.jumps += 1;
        match direction {
            Direction::Ahead => self.shortened += lag as u64,
            Direction::Back => self.lengthened += lag as u64,
        }
    }
}

fn pace(table: &[(i64, f32, f32)], by: i64) -> (f32, f32) {
    let row = table.iter().find(|(above, ..)| by > *above).or(table.last());
    row.map_or((0.0, 1.0), |(_, tempo, alike)| (*tempo, *alike))
}
