//! How loud sound is, and whether somebody speaks.

use crate::Block;

/// Silence in the scale of RFC 6464.
pub(crate) const SILENCE: u8 = 127;

/// Root of the mean square, full scale being 1.0.
pub(crate) fn rms(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt()
}

/// A root mean square as the level of RFC 6464: -dBov, rounded, 0 the loudest and 127 silence.
pub(crate) fn dbov(rms: f32) -> u8 {
    if rms <= 0.0 || !rms.is_finite() {
        return SILENCE;
    }
    (-20.0 * rms.log10()).round().clamp(0.0, f32::from(SILENCE)) as u8
}

/// Finds out from energy alone whether somebody speaks: clearly above the background, with a start and an end.
#[derive(Debug)]
pub(crate) struct SpeechDetector {
    /// Estimate of the background, as a mean square.
    floor: f32,
    loud_ticks: u8,
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

impl SpeechDetector {
    pub(crate) fn new() -> Self {
        Self { floor: LEAST, loud_ticks: 0, quiet_ticks: 0, speaking: false }
    }

    pub(crate) fn speaking(&self) -> bool {
        self.speaking
    }

    /// Takes the next 10 ms; tells the new state if it changed.
    pub(crate) fn feed(&mut self, block: &Block) -> Option<bool> {
        let power = block.iter().map(|s| s * s).sum::<f32>() / block.len() as f32;
        // The background falls at once and rises slowly (a tenth of a dB per tick), so that long speech is not
        // mistaken for background within a sentence.
        self.floor = if power < self.floor { power.max(LEAST / ABOVE_FLOOR) } else { self.floor * 1.003 };
        if power > LEAST && power > self.floor * ABOVE_FLOOR {
            self.loud_ticks = self.loud_ticks.saturating_add(1);
            self.quiet_ticks = 0;
        } else {
            self.quiet_ticks = self.quiet_ticks.saturating_add(1);
            self.loud_ticks = 0;
        }
        let now = match self.speaking {
            false => self.loud_ticks >= START_TICKS,
            true => self.quiet_ticks < END_TICKS,
        };
        (now != self.speaking).then(|| {
            self.speaking = now;
            now
        })
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
