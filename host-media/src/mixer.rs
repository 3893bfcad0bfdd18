//! Adds the peers up without ever exceeding full scale.

use crate::{BLOCK, Block, SILENT};

/// Peaks above this are turned down: -0.4 dBov, so that a resampler behind the mixer has some room to overshoot.
const CEILING: f32 = 0.95;
/// How fast the gain comes back after a peak, per block of 10 ms: half of the way in about 70 ms.
const RELEASE: f32 = 0.1;

/// Sums blocks and limits the sum. Below the ceiling the sum passes unchanged.
#[derive(Debug)]
pub(crate) struct Mixer {
    sum: Block,
    gain: f32,
}

impl Mixer {
    pub(crate) fn new() -> Self {
        Self { sum: SILENT, gain: 1.0 }
    }

    /// Adds a block; its gain runs linearly from `from` to `to`, so that a changed volume does not click.
    pub(crate) fn add(&mut self, block: &Block, from: f32, to: f32) {
        let step = (to - from) / BLOCK as f32;
        for (i, (sum, sample)) in self.sum.iter_mut().zip(block).enumerate() {
            *sum += sample * (from + step * (i + 1) as f32);
        }
    }

    /// Takes the limited sum and starts a new one.
    pub(crate) fn take(&mut self) -> Block {
        let mut block = std::mem::replace(&mut self.sum, SILENT);
        let mut peak = 0.0_f32;
        for sample in &mut block {
            // A hostile or broken stream must not poison what everybody else hears.
            if !sample.is_finite() {
                *sample = 0.0;
            }
            peak = peak.max(sample.abs());
        }
        let wanted = if peak > CEILING { CEILING / peak } else { 1.0 };
        let (from, to) = match wanted < self.gain {
            // A peak: the lower gain holds for the whole block, reached within its first 2 ms.
            true => (self.gain, wanted),
            false => (self.gain, wanted.min(self.gain + (1.0 - self.gain) * RELEASE + 1e-4)),
        };
        if from == 1.0 && to == 1.0 {
            return block;
        }
        let ramp = if to < from { BLOCK / 5 } else { BLOCK };
        for (i, sample) in block.iter_mut().enumerate() {
            let gain = if i < ramp { from + (to - from) * (i + 1) as f32 / ramp as f32 } else { to };
            *sample = soft_clip(*sample * gain);
        }
        self.gain = to;
        block
    }
}

/// Passes up to the ceiling and bends what is above it towards full scale. Only the first 2 ms of a sudden peak ever
/// get there.
fn soft_clip(sample: f32) -> f32 {
    let size = sample.abs();
    if size <= CEILING {
        return sample;
    }
    let room = 1.0 - CEILING;
    (CEILING + room * ((size - CEILING) / room).tanh()).copysign(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(amplitude: f32) -> Block {
        std::array::from_fn(|i| amplitude * (i as f32 * 0.13).sin())
    }

    #[test]
    fn quiet_sound_passes_unchanged() {
        let mut mixer = Mixer::new();
        mixer.add(&sine(0.4), 1.0, 1.0);
        mixer.add(&sine(0.4), 1.0, 1.0);
        let mix = mixer.take();
        for (a, b) in mix.iter().zip(sine(0.8)) {
            assert!((a - b).abs() < 1e-6);
        }
    }

    #[test]
    fn loud_sound_stays_below_full_scale_and_the_gain_comes_back() {
        let mut mixer = Mixer::new();
        for _ in 0..10 {
            for _ in 0..8 {
                mixer.add(&sine(1.0), 4.0, 4.0);
            }
            let mix = mixer.take();
            assert!(mix.iter().all(|s| s.abs() <= 1.0), "limited");
            assert!(mix.iter().any(|s| s.abs() > 0.9), "but not silenced");
        }
        for _ in 0..200 {
            mixer.add(&sine(0.5), 1.0, 1.0);
            mixer.take();
        }
        mixer.add(&sine(0.5), 1.0, 1.0);
        assert_eq!(mixer.take(), sine(0.5), "transparent again");
    }

    #[test]
    fn what_is_not_a_number_is_silence() {
        let mut mixer = Mixer::new();
        mixer.add(&[f32::NAN; BLOCK], 1.0, 1.0);
        mixer.add(&[f32::INFINITY; BLOCK], 1.0, 1.0);
        assert_eq!(mixer.take(), SILENT);
        mixer.add(&sine(0.5), 1.0, 1.0);
        assert_eq!(mixer.take(), sine(0.5));
    }

    #[test]
    fn a_new_gain_is_reached_without_a_step() {
        let mut mixer = Mixer::new();
        mixer.add(&[0.5; BLOCK], 0.0, 1.0);
        let mix = mixer.take();
        assert!(mix.windows(2).all(|w| (w[1] - w[0]).abs() < 0.002));
        assert_eq!(mix[BLOCK - 1], 0.5);
    }
}
