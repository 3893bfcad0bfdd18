//! Brings quiet and loud talkers to the same level.

use sonora_agc2::{
    adaptive_digital_gain_controller::{AdaptiveDigitalGainController, FrameInfo},
    common::{ADJACENT_SPEECH_FRAMES_THRESHOLD, SATURATION_PROTECTOR_INITIAL_HEADROOM_DB, float_s16_to_dbfs},
    noise_level_estimator::NoiseLevelEstimator,
    saturation_protector::SaturationProtector,
    speech_level_estimator::{AdaptiveDigitalConfig, SpeechLevelEstimator},
};

use super::bands::SCALE;
use crate::{Block, level, limiter::Limiter};

/// The controller only ever makes things louder, so that a loud talker would stay as loud as before: it is given everything
/// 12 dB down, which nothing is lost by in floating point. A talker above that is loud.
const BEFORE: f32 = 0.25;

pub(super) struct Gain {
    noise: NoiseLevelEstimator,
    speech: SpeechLevelEstimator,
    headroom: SaturationProtector,
    controller: AdaptiveDigitalGainController,
    limiter: Limiter,
    /// Peak behind the gain and before the limiter, of the last block.
    peak: f32,
}

impl Gain {
    pub(super) fn new() -> Self {
        let config = AdaptiveDigitalConfig::default();
        let adjacent = ADJACENT_SPEECH_FRAMES_THRESHOLD;
        Self {
            noise: NoiseLevelEstimator::default(),
            speech: SpeechLevelEstimator::new(&config, adjacent),
            headroom: SaturationProtector::new(SATURATION_PROTECTOR_INITIAL_HEADROOM_DB, adjacent),
            controller: AdaptiveDigitalGainController::new(config, adjacent),
            limiter: Limiter::new(),
            peak: 0.0,
        }
    }

    /// Samples that the limiter looks ahead.
    pub(super) const fn delay() -> usize {
        Limiter::LOOK_AHEAD
    }

    /// Changes the level of the next block; `voice` is how likely it holds a voice.
    pub(super) fn process(&mut self, block: &mut Block, voice: f32) {
        for sample in block.iter_mut() {
            *sample *= BEFORE * SCALE;
        }
        let peak = level::peak(block);
        let rms_dbfs = float_s16_to_dbfs(level::rms(block));
        let noise_rms_dbfs = self.noise.analyze(&[&block[..]]);
        self.speech.update(rms_dbfs, voice);
        self.headroom.analyze(voice, float_s16_to_dbfs(peak), self.speech.level_dbfs());
        let info = FrameInfo {
            speech_probability: voice,
            speech_level_dbfs: self.speech.level_dbfs(),
            speech_level_reliable: self.speech.is_confident(),
            noise_rms_dbfs,
            headroom_db: self.headroom.headroom_db(),
            limiter_envelope_dbfs: float_s16_to_dbfs(self.peak * SCALE),
        };
        self.controller.process(&info, &mut [&mut block[..]]);
        for sample in block.iter_mut() {
            *sample /= SCALE;
        }
        self.peak = level::peak(block);
        self.limiter.process(block);
    }
}
