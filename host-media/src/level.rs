//! How loud sound is, and whether somebody speaks.

use crate::{Block, process::Voice};

/// Silence in the scale of RFC 6464.
pub(crate) const SILENCE: u8 = 127;

/// Root of the mean square, full scale being 1.0.
pub(crate) fn rms(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt()
}

/// The largest sample, whatever its sign.
pub(crate) fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |peak, s| s.abs().max(peak))
}

/// A root mean square as the level of RFC 6464: -dBov, rounded, 0 the loudest and 127 silence.
pub(crate) fn dbov(rms: f32) -> u8 {
    if rms <= 0.0 || !rms.is_finite() {
        return SILENCE;
    }
    (-20.0 * rms.log10()).round().clamp(0.0, f32::from(SILENCE)) as u8
}

/// Decides whether somebody speaks: clearly above the background and, as far as a detector of voices tells, a voice;
/// with a start and an end.
#[derive(Debug)]
pub(crate) struct SpeechGate {
    /// Estimate of the background, as a mean square.
    floor: f32,
    loud: bool,
    loud_ticks: u8,
    /// Ticks since the last one that was probably voice.
    unvoiced_ticks: u8,
    quiet_ticks: u8,
    speaking: bool,
}

/// Below this mean square (-55 dBov) nothing is speech.
const LEAST: f32 = 3.2e-6;
/// Speech is this much above the background: 10 dB in power.
const ABOVE_FLOOR: f32 = 10.0;
/// 30 ms above the background make a start, so that a click does not.
const START_TICKS: u8 = 3;
/// 300 ms of background make an end: longer than the pauses between syllables and most words.
const END_TICKS: u8 = 30;
/// From this probability on a block is voice.
const VOICE: f32 = 0.5;
/// A start needs a block of voice among the last 100 ms.
const VOICED_WITHIN: u8 = 10;

impl SpeechGate {
    pub(crate) fn new() -> Self {
        Self {
            floor: LEAST,
            loud: false,
            loud_ticks: 0,
            unvoiced_ticks: u8::MAX,
            quiet_ticks: 0,
            speaking: false,
        }
    }

    pub(crate) fn speaking(&self) -> bool {
        self.speaking
    }

    /// Whether the last block was clearly above the background.
    pub(crate) fn loud(&self) -> bool {
        self.loud
    }

    /// Takes the next 10 ms. `voice` tells how likely a block holds a voice; it is asked for blocks above the background
    /// only, or `always`. Tells that probability, 0 if it was not asked.
    pub(crate) fn feed(&mut self, block: &Block, always: bool, voice: impl FnOnce(&Block) -> f32) -> f32 {
        let power = block.iter().map(|s| s * s).sum::<f32>() / block.len() as f32;
        // The background falls at once and rises slowly (a dB in 0.8 s), so that long speech is not
        // mistaken for background within a sentence.
        self.floor = if power < self.floor { power.max(LEAST / ABOVE_FLOOR) } else { self.floor * 1.003 };
        self.loud = power > LEAST && power > self.floor * ABOVE_FLOOR;
        let probability = if self.loud || always { voice(block) } else { 0.0 };
        self.unvoiced_ticks = if probability >= VOICE { 0 } else { self.unvoiced_ticks.saturating_add(1) };
        self.loud_ticks = if self.loud { self.loud_ticks.saturating_add(1) } else { 0 };
        let voiced = self.unvoiced_ticks < VOICED_WITHIN;
        self.quiet_ticks = if self.loud && voiced { 0 } else { self.quiet_ticks.saturating_add(1) };
        self.speaking = match self.speaking {
            false => self.loud_ticks >= START_TICKS && voiced,
            true => self.quiet_ticks < END_TICKS,
        };
        probability
    }
}

/// A [`SpeechGate`] with a detector of voices of its own, for one stream of sound.
#[derive(Debug)]
pub(crate) struct SpeechDetector {
    gate: SpeechGate,
    voice: Voice,
}

impl SpeechDetector {
    pub(crate) fn new() -> Self {
        Self { gate: SpeechGate::new(), voice: Voice::new() }
    }

    pub(crate) fn speaking(&self) -> bool {
        self.gate.speaking()
    }

    /// Takes the next 10 ms; tells the new state if it changed.
    pub(crate) fn feed(&mut self, block: &Block) -> Option<bool> {
        let before = self.gate.speaking();
        self.gate.feed(block, false, |block| self.voice.probability(block));
        (self.gate.speaking() != before).then_some(!before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BLOCK, SILENT};

    #[test]
    fn levels_follow_rfc_6464() {
        assert_eq!(dbov(0.0), 127);
        assert_eq!(dbov(1.0), 0);
        assert_eq!(dbov(2.0), 0, "above full scale is still the loudest");
        assert_eq!(dbov(0.1), 20);
        assert_eq!(dbov(f32::NAN), 127);
        assert_eq!(dbov(1e-9), 127);
    }

    #[test]
    fn speech_starts_and_ends_once() {
        let mut detector = SpeechDetector::new();
        let loud = std::array::from_fn::<f32, BLOCK, _>(|i| 0.1 * (i as f32 * 0.1).sin());
        let mut changes = Vec::new();
        for tick in 0..200 {
            let block = if (50..100).contains(&tick) { &loud } else { &SILENT };
            if let Some(now) = detector.feed(block) {
                changes.push((tick, now));
            }
        }
        assert_eq!(changes, [(52, true), (129, false)]);
    }

    #[test]
    fn a_click_is_not_speech() {
        let mut detector = SpeechDetector::new();
        let mut click = SILENT;
        click[7] = 1.0;
        for tick in 0..100 {
            assert_eq!(detector.feed(if tick % 10 == 0 { &click } else { &SILENT }), None);
        }
    }
}
