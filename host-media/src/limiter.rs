//! Keeps sound below full scale without bending it.

use crate::{BLOCK, Block};

/// Nothing passes above this: -0.4 dBov, so that a resampler behind the limiter has some room to overshoot.
pub(crate) const CEILING: f32 = 0.95;
/// A peak's gain is kept for 10 ms, half a period of 50 Hz: the gain does not swing with the waves of a voice, which would
/// be heard as roughness.
const HOLD: usize = 480;
/// The gain comes back with a time constant of 50 ms: 300 ms after a peak it is as before within a hundredth of a dB per
/// dB taken, and slow enough not to be heard as a pop.
const RELEASE: f32 = 1.0 / (0.050 * 48_000.0);
/// A gain this near to 1 is 1.
const NEAR: f32 = 1e-4;

/// A limiter that looks ahead: the gain has come down, in a straight line over 1 ms, when a peak arrives, so that nothing
/// is clipped, and nothing is changed below the ceiling.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// The last samples of the block before.
    late: [f32; Self::LOOK_AHEAD],
    /// Least gain that each of the last samples needs, as a queue in rising order: the front is the least of the window.
    least: [(u64, f32); Self::WINDOW],
    first: usize,
    len: usize,
    now: u64,
    /// Behind hold and release.
    gain: f32,
    /// The last values of `gain`, which are averaged.
    recent: [f32; Self::LOOK_AHEAD + 1],
    at: usize,
    sum: f64,
    /// Samples since anything was turned down; the limiter sleeps when all of its memory is 1.
    idle: usize,
}

impl Limiter {
    /// Samples by which sound comes later: 1 ms.
    pub(crate) const LOOK_AHEAD: usize = 48;
    /// Samples over which the least gain is taken.
    const WINDOW: usize = HOLD + Self::LOOK_AHEAD + 1;

    pub(crate) fn new() -> Self {
        Self {
            late: [0.0; Self::LOOK_AHEAD],
            least: [(0, 1.0); Self::WINDOW],
            first: 0,
            len: 0,
            now: 0,
            gain: 1.0,
            recent: [1.0; Self::LOOK_AHEAD + 1],
            at: 0,
            sum: (Self::LOOK_AHEAD + 1) as f64,
            idle: Self::WINDOW,
        }
    }

    /// Limits the next block, in place.
    pub(crate) fn process(&mut self, block: &mut Block) {
        let mut peak = 0.0_f32;
        for sample in block.iter_mut() {
            // A hostile or broken stream must not poison what everybody else hears.
            if !sample.is_finite() {
                *sample = 0.0;
            }
            peak = peak.max(sample.abs());
        }
        let mut late = [0.0; BLOCK];
        late[..Self::LOOK_AHEAD].copy_from_slice(&self.late);
        late[Self::LOOK_AHEAD..].copy_from_slice(&block[..BLOCK - Self::LOOK_AHEAD]);
        self.late.copy_from_slice(&block[BLOCK - Self::LOOK_AHEAD..]);
        if peak <= CEILING && self.idle >= Self::WINDOW {
            *block = late;
            return;
        }
        for (sample, late) in block.iter_mut().zip(late) {
            let gain = self.advance(sample.abs());
            // For the last bits of the division and of the sum.
            *sample = (late * gain).clamp(-CEILING, CEILING);
        }
    }

    /// Takes the size of the sample that has just come; tells the gain of the one that leaves.
    fn advance(&mut self, size: f32) -> f32 {
        let needed = if size > CEILING { CEILING / size } else { 1.0 };
        let least = self.least(needed);
        if least < self.gain {
            self.gain = least;
        } else {
            self.gain += (least - self.gain) * RELEASE;
            if least == 1.0 && self.gain > 1.0 - NEAR {
                self.gain = 1.0;
            }
        }
        let old = std::mem::replace(&mut self.recent[self.at], self.gain);
        self.at = (self.at + 1) % self.recent.len();
        self.sum += f64::from(self.gain) - f64::from(old);
        if self.gain < 1.0 {
            self.idle = 0;
        } else {
            self.idle = self.idle.saturating_add(1);
            if self.idle == Self::WINDOW {
                // All is 1 again; what rounding has left in the sum goes with it.
                self.sum = self.recent.len() as f64;
                self.len = 0;
            }
        }
        (self.sum / self.recent.len() as f64) as f32
    }

    /// The least of the window, `needed` being its newest value.
    fn least(&mut self, needed: f32) -> f32 {
        let slot = |first: usize, i: usize| (first + i) % Self::WINDOW;
        while self.len > 0 && self.least[slot(self.first, self.len - 1)].1 >= needed {
            self.len -= 1;
        }
        if self.len > 0 && self.least[self.first].0 + Self::WINDOW as u64 <= self.now {
            self.first = slot(self.first, 1);
            self.len -= 1;
        }
        self.least[slot(self.first, self.len)] = (self.now, needed);
        self.len += 1;
        self.now += 1;
        self.least[self.first].1
    }
}

#[cfg(test)]
mod tests;
