//! How likely it is that a block holds a voice.

use sonora_agc2::vad_wrapper::VoiceActivityDetectorWrapper;

use super::bands::SCALE;
use crate::{Block, SAMPLE_RATE};

/// The network of the detector remembers; it is set back every 1.5 s as where it comes from.
const RESET_MS: i32 = 1_500;

/// A small neural network that knows voices, for one stream of sound.
#[derive(Debug)]
pub(crate) struct Voice {
    detector: VoiceActivityDetectorWrapper,
}

impl Voice {
    pub(crate) fn new() -> Self {
        let backend = sonora_simd::detect_backend();
        Self {
            detector: VoiceActivityDetectorWrapper::with_reset_period(RESET_MS, backend, SAMPLE_RATE as i32),
        }
    }

    /// How likely the next block is voice, 0 to 1.
    pub(crate) fn probability(&mut self, block: &Block) -> f32 {
        let scaled: Block = std::array::from_fn(|i| block[i] * SCALE);
        self.detector.analyze(&scaled)
    }
}
