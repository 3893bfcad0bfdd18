//! Makes the microphone worth hearing: high-pass, echo canceller, noise suppression, gain control.
//!
//! Each stage stands alone and is switched by [`Blend`] while the others go on; [`bands`] are made only while echo or
//! noise need them. The stages are those of WebRTC, in the port `sonora`.

mod automute;
mod bands;
mod blend;
mod echo;
mod gain;
mod high_pass;
mod hints;
mod near;
mod settings;
mod voice;

pub use settings::{NoiseLevel, Processing, VoiceStats};

pub(crate) use near::{Heard, Hint, Near, Wanted};
pub(crate) use settings::VoiceSettings;
pub(crate) use voice::Voice;

use std::time::Duration;

use sonora::three_band_filter_bank::ThreeBandFilterBank;
use sonora_ns::{config::NsConfig, noise_suppressor::NoiseSuppressor};

use crate::{Block, SAMPLE_RATE};
use bands::{Bands, merge, split};
use blend::Blend;
use echo::Echo;
use gain::Gain;
use high_pass::HighPass;

/// Samples at 48 kHz by which splitting and merging delay.
const BANK_DELAY: usize = 48;
/// The same for the canceller: its blocks, and the overlap of its suppressor; 4 ms each.
const ECHO_DELAY: usize = 384;
/// The same for noise suppression: its windows overlap by 96 of 256 samples at 16 kHz.
const NOISE_DELAY: usize = 288;

/// The processing of one microphone.
#[derive(Default)]
pub(crate) struct Processor {
    wanted: Processing,
    high_pass: Stage<HighPass>,
    split: Stage<Split>,
    echo: Stage<Echo>,
    noise: Stage<NoiseSuppressor>,
    level: Option<NoiseLevel>,
    gain: Stage<Gain>,
    told_delay: i32,
}

/// A stage that is there while it runs.
struct Stage<T> {
    blend: Blend,
    inner: Option<Box<T>>,
}

impl<T> Default for Stage<T> {
    fn default() -> Self {
        Self { blend: Blend::default(), inner: None }
    }
}

impl<T> Stage<T> {
    /// Switches the stage and gives it, if it runs.
    fn run(&mut self, on: bool, make: impl FnOnce() -> T) -> Option<(&mut T, Blend)> {
        self.blend = self.blend.next(on);
        if !self.blend.runs() {
            self.inner = None;
            return None;
        }
        let blend = self.blend;
        Some((&mut **self.inner.get_or_insert_with(|| Box::new(make())), blend))
    }
}

#[derive(Default)]
struct Split {
    bank: ThreeBandFilterBank,
}

impl Processor {
    pub(crate) fn set(&mut self, wanted: Processing) {
        self.wanted = wanted;
    }

    /// Takes what is being played. Costs nothing while there is no echo canceller.
    pub(crate) fn reference(&mut self, block: &Block) {
        if let Some(echo) = &mut self.echo.inner {
            echo.reference(block);
        }
    }

    /// Tells the delay of speaker and microphone together as far as it is known.
    pub(crate) fn device_delay(&mut self, delay: Duration) {
        let ms = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX).min(500);
        if let Some(echo) = &mut self.echo.inner
            && ms != self.told_delay
        {
            self.told_delay = ms;
            echo.delay(ms);
        }
    }

    /// Whether a voice detector is needed behind the processing.
    pub(crate) fn wants_voice(&self) -> bool {
        self.wanted.gain || self.gain.blend.runs()
    }

    /// What came of it so far.
    pub(crate) fn stats(&self) -> VoiceStats {
        let wanted = self.wanted;
        let of = |wanted: bool, samples: usize| if wanted { samples } else { 0 };
        let samples = of(wanted.bands(), BANK_DELAY)
            + of(wanted.echo, ECHO_DELAY)
            + of(wanted.noise.is_some(), NOISE_DELAY)
            + of(wanted.gain, Gain::delay());
        let echo = self.echo.inner.as_ref().map(|echo| echo.metrics());
        VoiceStats {
            processing: wanted,
            automuted: false,
            echo_reduction: echo.map(|(reduction, _)| reduction),
            echo_delay: echo.map(|(_, ms)| Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
            latency: Duration::from_secs_f64(samples as f64 / f64::from(SAMPLE_RATE)),
        }
    }

    /// Processes the next block in place, up to and without the gain.
    pub(crate) fn clean(&mut self, block: &mut Block) {
        let wanted = self.wanted;
        let clipped = echo::clipped(block);
        // The canceller cannot model what a microphone's offset and rumble do, so it brings the filter along.
        if let Some((high_pass, blend)) = self.high_pass.run(wanted.high_pass || wanted.echo, HighPass::new) {
            let mut wet = *block;
            high_pass.process(&mut wet);
            blend.apply(block, &wet);
        }
        // A suppressor of another strength is another one; it fades in from what is unprocessed.
        let same = self.level == wanted.noise;
        if !same && !self.noise.blend.runs() {
            self.level = wanted.noise;
        }
        let suppress = wanted.noise.is_some() && self.level == wanted.noise;
        let Some((bank, blend)) = self.split.run(wanted.bands(), Split::default) else {
            (self.echo, self.noise) = (Stage::default(), Stage::default());
            return;
        };
        let (mut bands, mut wet) = ([[0.0; 160]; 3], *block);
        split(&mut bank.bank, block, &mut bands);
        let raw = bands[0];
        if let Some((echo, blend)) = self.echo.run(wanted.echo, Echo::new) {
            let mut wet = bands;
            echo.process(&mut wet, clipped);
            fade(blend, &mut bands, &wet);
        }
        let level = self.level.unwrap_or_default();
        if let Some((noise, blend)) = self.noise.run(suppress, || level.suppressor()) {
            let mut wet = bands;
            // Noise is learnt from what the microphone hears, not from the canceller's comfort noise.
            noise.analyze(&raw);
            suppress_noise(noise, &mut wet);
            fade(blend, &mut bands, &wet);
        }
        merge(&mut bank.bank, &bands, &mut wet);
        blend.apply(block, &wet);
    }

    /// The last stage, which must know how likely the block holds a voice.
    pub(crate) fn amplify(&mut self, block: &mut Block, voice: f32) {
        if let Some((gain, blend)) = self.gain.run(self.wanted.gain, Gain::new) {
            let mut wet = *block;
            gain.process(&mut wet, voice);
            blend.apply(block, &wet);
        }
    }
}

impl NoiseLevel {
    fn suppressor(self) -> NoiseSuppressor {
        NoiseSuppressor::new_with_bands(NsConfig { target_level: self.target() }, 3)
    }
}

fn suppress_noise(noise: &mut NoiseSuppressor, bands: &mut Bands) {
    let [low, upper @ ..] = bands;
    noise.process(low);
    let gain = noise.upper_band_gain();
    for (i, band) in upper.iter_mut().enumerate() {
        noise.process_upper_band(band, i, gain);
    }
}

fn fade(blend: Blend, bands: &mut Bands, wet: &Bands) {
    for (band, wet) in bands.iter_mut().zip(wet) {
        blend.apply(band, wet);
    }
}

#[cfg(test)]
mod clocks;
#[cfg(test)]
mod tests;
