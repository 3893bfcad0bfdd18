//! Adds the peers up without ever exceeding full scale.

use std::time::Duration;

use crate::{BLOCK, Block, SAMPLE_RATE, SILENT, limiter::Limiter};

/// Sums blocks and limits the sum. Below the ceiling the sum passes unchanged, 1 ms later.
#[derive(Debug)]
pub(crate) struct Mixer {
    sum: Block,
    limiter: Limiter,
}

impl Mixer {
    /// Samples by which the mix is later than what was put in.
    pub(crate) const DELAY: usize = Limiter::LOOK_AHEAD;
    /// The same as time.
    pub(crate) const LATENCY: Duration =
        Duration::from_nanos(Self::DELAY as u64 * 1_000_000_000 / SAMPLE_RATE as u64);

    pub(crate) fn new() -> Self {
        Self { sum: SILENT, limiter: Limiter::new() }
    }

    /// Adds a block; its gain runs linearly from `from` to `to`, so that a changed volume does not click.
    pub(crate) fn add(&mut self, block: &Block, from: f32, to: f32) {
        let step = (to - from) / BLOCK as f32;
        for (i, (sum, sample)) in self.sum.iter_mut().zip(block).enumerate() {
            // A hostile or broken stream must not poison what everybody else says.
            let sample = if sample.is_finite() { *sample } else { 0.0 };
            *sum += sample * (from + step * (i + 1) as f32);
        }
    }

    /// Takes the limited sum and starts a new one.
    pub(crate) fn take(&mut self) -> Block {
        let mut block = std::mem::replace(&mut self.sum, SILENT);
        self.limiter.process(&mut block);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: usize = Mixer::DELAY;

    fn sine(amplitude: f32) -> Block {
        std::array::from_fn(|i| amplitude * (i as f32 * 0.13).sin())
    }

    #[test]
    fn quiet_sound_passes_unchanged() {
        let mut mixer = Mixer::new();
        mixer.add(&sine(0.4), 1.0, 1.0);
        mixer.add(&sine(0.4), 1.0, 1.0);
        let mix = mixer.take();
        for (a, b) in mix[L..].iter().zip(sine(0.8)) {
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
            assert!(mix[L..].iter().any(|s| s.abs() > 0.9), "but not silenced");
        }
        for _ in 0..200 {
            mixer.add(&sine(0.5), 1.0, 1.0);
            mixer.take();
        }
        mixer.add(&sine(0.5), 1.0, 1.0);
        assert_eq!(mixer.take()[L..], sine(0.5)[..BLOCK - L], "transparent again");
    }

    #[test]
    fn one_that_is_not_a_number_does_not_silence_the_others() {
        let mut mixer = Mixer::new();
        mixer.add(&[f32::NAN; BLOCK], 1.0, 1.0);
        mixer.add(&[f32::INFINITY; BLOCK], 1.0, 1.0);
        mixer.add(&sine(0.5), 1.0, 1.0);
        assert_eq!(mixer.take()[L..], sine(0.5)[..BLOCK - L]);
    }

    #[test]
    fn a_new_gain_is_reached_without_a_step() {
        let mut mixer = Mixer::new();
        mixer.add(&[0.5; BLOCK], 0.0, 1.0);
        mixer.add(&SILENT, 1.0, 1.0);
        let mut mix = mixer.take().to_vec();
        mix.extend_from_slice(&mixer.take());
        assert!(mix[..BLOCK + L].windows(2).all(|w| (w[1] - w[0]).abs() < 0.002));
        assert_eq!(mix[BLOCK + L - 1], 0.5);
    }
}
