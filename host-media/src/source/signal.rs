//! Sources that are computed.

use super::{Nature, Read, Source};
use crate::{BLOCK, Block, SAMPLE_RATE};

/// Silence.
#[derive(Debug)]
pub(crate) struct Silence;

impl Source for Silence {
    fn nature(&self) -> Nature {
        Nature::Silence
    }

    fn read(&mut self, out: &mut Block) -> Read {
        out.fill(0.0);
        Read::Sound
    }

    fn skip(&mut self, _ticks: u64) {}
}

/// 440 Hz, the tuning tone.
const FREQUENCY: u64 = 440;
/// The amplitude of a sine whose level is -20 dBov (root of two times a tenth).
const AMPLITUDE: f64 = 0.141_421_356;

/// A sine.
#[derive(Debug, Default)]
pub(crate) struct Tone {
    at: u64,
}

impl Source for Tone {
    fn read(&mut self, out: &mut Block) -> Read {
        for sample in out.iter_mut() {
            // The phase repeats every second, so that it stays exact forever.
            let phase = (self.at * FREQUENCY % u64::from(SAMPLE_RATE)) as f64 / f64::from(SAMPLE_RATE);
            *sample = (AMPLITUDE * (phase * std::f64::consts::TAU).sin()) as f32;
            self.at = (self.at + 1) % u64::from(SAMPLE_RATE);
        }
        Read::Sound
    }

    fn skip(&mut self, ticks: u64) {
        self.at = (self.at + ticks % 100 * BLOCK as u64) % u64::from(SAMPLE_RATE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level;

    #[test]
    fn the_tone_has_its_level_and_no_seam() {
        let mut tone = Tone::default();
        let mut all = Vec::new();
        for _ in 0..250 {
            let mut block = [0.0; BLOCK];
            assert_eq!(tone.read(&mut block), Read::Sound);
            all.extend_from_slice(&block);
        }
        assert_eq!(level::dbov(level::rms(&all)), 20);
        assert!(all.windows(2).all(|w| (w[1] - w[0]).abs() < 0.01));
    }
}
