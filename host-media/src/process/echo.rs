//! Takes out of the microphone what the loudspeaker plays.
//!
//! The reference is what is given to the sink, in the engine's own time. A speaker and a microphone have clocks of their
//! own, but both rings bend their rates until their devices follow the ticks ([`crate::device`]): behind that drift
//! control, which is where the microphone is read, an echo stays where it is in relation to the reference. What is left is
//! the slow wander of the two controls, which the canceller's own search for the delay follows. A reference in the time of
//! the speaker's device would drift away from the microphone by the difference of the clocks.

use sonora::three_band_filter_bank::ThreeBandFilterBank;
use sonora_aec3::{block::Block as Slice, block_processor::BlockProcessor, config::EchoCanceller3Config};

use super::bands::{Bands, Framer, split};
use crate::{Block, SAMPLE_RATE};

/// A sample this loud is taken for clipped: the linear part of the echo's path ends there.
const CLIPPED: f32 = 32_700.0 / 32_768.0;

pub(super) struct Echo {
    canceller: BlockProcessor,
    bank: ThreeBandFilterBank,
    far: Framer,
    near: Framer,
    done: Framer,
    slice: Slice,
}

impl Echo {
    pub(super) fn new() -> Self {
        Self {
            canceller: BlockProcessor::new(&EchoCanceller3Config::default(), SAMPLE_RATE as usize, 1, 1),
            bank: ThreeBandFilterBank::new(),
            far: Framer::new(),
            near: Framer::new(),
            done: Framer::primed(),
            slice: Slice::new(3, 1),
        }
    }

    /// Takes what is being played.
    pub(super) fn reference(&mut self, block: &Block) {
        let mut bands = [[0.0; 160]; 3];
        split(&mut self.bank, block, &mut bands);
        self.far.push_bands(&bands);
        while self.far.pull_slice(&mut self.slice) {
            self.canceller.buffer_render(&self.slice);
        }
    }

    /// Tells how long it takes from the reference to the microphone as far as devices and rings know, in milliseconds. The
    /// canceller begins its search there.
    pub(super) fn delay(&mut self, ms: i32) {
        self.canceller.set_audio_buffer_delay(ms);
    }

    /// Takes the echo out of the microphone's bands; `clipped` is whether the microphone was too loud.
    pub(super) fn process(&mut self, bands: &mut Bands, clipped: bool) {
        self.near.push_bands(bands);
        while self.near.pull_slice(&mut self.slice) {
            self.canceller.process_capture(false, clipped, None, &mut self.slice);
            self.done.push_slice(&self.slice);
        }
        self.done.pull_bands(bands);
    }

    /// Echo return loss enhancement in dB, and the delay in milliseconds that was found.
    pub(super) fn metrics(&self) -> (f64, i32) {
        let metrics = self.canceller.get_metrics();
        (metrics.echo_return_loss_enhancement, metrics.delay_ms)
    }
}

pub(super) fn clipped(block: &Block) -> bool {
    block.iter().any(|s| s.abs() >= CLIPPED)
}
