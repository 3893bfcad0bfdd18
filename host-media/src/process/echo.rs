//! Takes out of the microphone what the loudspeaker plays.
//!
//! The reference is what is given to the sink, in the engine's own time. A speaker and a microphone have clocks of their
//! own, but both rings bend their rates until their devices follow the ticks ([`crate::device`]): behind that drift
//! control, which is where the microphone is read, an echo stays where it is in relation to the reference. What is left is
//! the slow wander of the two controls, which the canceller's own search for the delay follows. A reference in the time of
//! the speaker's device would drift away from the microphone by the difference of the clocks.

use sonora::three_band_filter_bank::ThreeBandFilterBank;
use sonora_aec3::{
    block::Block as Slice,
    block_processor::BlockProcessor,
    config::{EchoCanceller3Config, MaskingThresholds},
};

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
            canceller: BlockProcessor::new(&config(), SAMPLE_RATE as usize, 1, 1),
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

/// The canceller's settings, where they are not its own: measured with a room of 250 ms, real speech on both sides and PESQ
/// of what is left of the near end while both speak (docs/audio-echo.md).
fn config() -> EchoCanceller3Config {
    let mut config = EchoCanceller3Config::default();
    // A model of 120 ms of the room instead of 52 ms: the echo of an ordinary room is still loud then.
    config.filter.refined.length_blocks = 30;
    config.filter.coarse.length_blocks = 30;
    // With the longer model the echo is known better, so that less must be suppressed on suspicion.
    config.erle.max_l = 8.0;
    config.erle.max_h = 4.0;
    let suppressor = &mut config.suppressor;
    mask(&mut suppressor.normal_tuning.mask_lf, 0.5, 0.67);
    mask(&mut suppressor.normal_tuning.mask_hf, 0.25, 0.36);
    mask(&mut suppressor.nearend_tuning.mask_hf, 1.0, 3.0);
    // A voice that sets in is let through within two blocks, not within ten: its first sounds are what makes it
    // intelligible.
    suppressor.nearend_average_blocks = 1;
    suppressor.normal_tuning.max_inc_factor = 10.0;
    suppressor.nearend_tuning.max_inc_factor = 10.0;
    suppressor.floor_first_increase = 0.01;
    // A gap between two harmonics at 2 kHz says nothing of what is above.
    suppressor.high_frequency_suppression.bands_in_limiting_gain = 0;
    config
}

fn mask(thresholds: &mut MaskingThresholds, transparent: f32, suppress: f32) {
    thresholds.enr_transparent = transparent;
    thresholds.enr_suppress = suppress;
}
