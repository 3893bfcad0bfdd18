//! What an application can switch.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use sonora_ns::config::SuppressionLevel;

use super::Wanted;

/// What is done to the microphone before it is encoded. Each part can be switched at any time with
/// [`Controls::set_processing`](crate::Controls::set_processing).
///
/// An engine that was not told otherwise uses [`Processing::on`] for a microphone and [`Processing::off`] for files,
/// tones, silence and memory, which are sent as they are.
///
/// ```
/// use host_media::{NoiseLevel, Processing};
/// let headset = Processing::on().echo(false).noise(Some(NoiseLevel::High));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Processing {
    /// Takes what the speaker plays out of the microphone; costs 9 ms of delay. It brings the high-pass along.
    pub echo: bool,
    /// Turns steady noise down by this much; costs 6 ms of delay, and 1 ms if there is no echo canceller.
    pub noise: Option<NoiseLevel>,
    /// Brings quiet and loud talkers to the same level; costs 1 ms of delay.
    pub gain: bool,
    /// Takes out what is below 70 Hz: rumble, offsets, part of the hum of mains.
    pub high_pass: bool,
}

/// By how much noise is turned down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NoiseLevel {
    /// 6 dB.
    Low,
    /// 12 dB: the most that leaves voices as they are.
    #[default]
    Moderate,
    /// 18 dB.
    High,
    /// 21 dB: voices in noise begin to sound thin.
    VeryHigh,
}

/// What is done to the source before it is encoded, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct VoiceStats {
    /// What is switched on.
    pub processing: Processing,
    /// Whether automute sends silence now.
    pub automuted: bool,
    /// How much of the echo the canceller takes out by its own account, in dB; none without a canceller.
    pub echo_reduction: Option<f64>,
    /// Delay from what is played to its echo, as the canceller has found it; none without a canceller.
    pub echo_delay: Option<Duration>,
    /// Delay in the processing.
    pub latency: Duration,
}

impl Processing {
    /// Everything, with [`NoiseLevel::Moderate`]: what a microphone and a loudspeaker on a table need.
    #[must_use]
    pub fn on() -> Self {
        Self { echo: true, noise: Some(NoiseLevel::Moderate), gain: true, high_pass: true }
    }

    /// Nothing: the source is sent as it is, sample by sample.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// The same with or without the echo canceller.
    #[must_use]
    pub fn echo(mut self, on: bool) -> Self {
        self.echo = on;
        self
    }

    /// The same with another noise suppression, or none.
    #[must_use]
    pub fn noise(mut self, level: Option<NoiseLevel>) -> Self {
        self.noise = level;
        self
    }

    /// The same with or without the gain control.
    #[must_use]
    pub fn gain(mut self, on: bool) -> Self {
        self.gain = on;
        self
    }

    /// The same with or without the high-pass.
    #[must_use]
    pub fn high_pass(mut self, on: bool) -> Self {
        self.high_pass = on;
        self
    }

    /// Whether anything is worked on in bands.
    pub(crate) fn bands(self) -> bool {
        self.echo || self.noise.is_some()
    }
}

impl NoiseLevel {
    pub(super) fn target(self) -> SuppressionLevel {
        match self {
            Self::Low => SuppressionLevel::K6dB,
            Self::Moderate => SuppressionLevel::K12dB,
            Self::High => SuppressionLevel::K18dB,
            Self::VeryHigh => SuppressionLevel::K21dB,
        }
    }
}

/// What the application has set, shared with the engine.
#[derive(Debug, Default)]
pub(crate) struct VoiceSettings {
    /// None: what the source needs.
    processing: Mutex<Option<Processing>>,
    automute: AtomicBool,
}

impl VoiceSettings {
    pub(crate) fn set_processing(&self, processing: Option<Processing>) {
        *self.processing.lock().unwrap_or_else(PoisonError::into_inner) = processing;
    }

    pub(crate) fn processing(&self) -> Option<Processing> {
        *self.processing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_automute(&self, on: bool) {
        self.automute.store(on, Relaxed);
    }

    pub(crate) fn automute(&self) -> bool {
        self.automute.load(Relaxed)
    }

    /// What a tick does, for a microphone or another source.
    pub(crate) fn wanted(&self, muted: bool, microphone: bool, alive: bool) -> Wanted {
        let usual = if microphone { Processing::on() } else { Processing::off() };
        let processing = self.processing().unwrap_or(usual);
        Wanted { processing, muted, automute: self.automute(), alive }
    }
}
