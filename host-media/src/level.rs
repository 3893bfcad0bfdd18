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
/// A start needs a block that is voice with this probability, the one from which on gain control believes the detector:
/// white noise reaches 0.91, each vowel of a sentence 0.98.
const CERTAIN: f32 = 0.95;
/// Speech that has begun goes on with blocks of this probability: consonants, a voice that fades.
const LIKELY: f32 = 0.5;
/// One such block counts for 100 ms.
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
        let enough = if self.speaking { LIKELY } else { CERTAIN };
        self.unvoiced_ticks = if probability >= enough { 0 } else { self.unvoiced_ticks.saturating_add(1) };
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
    use crate::{
        BLOCK, SILENT,
        source::{Read, Source},
    };

    #[test]
    fn levels_follow_rfc_6464() {
        assert_eq!(dbov(0.0), 127);
        assert_eq!(dbov(1.0), 0);
        assert_eq!(dbov(2.0), 0, "above full scale is still the loudest");
        assert_eq!(dbov(0.1), 20);
        assert_eq!(dbov(f32::NAN), 127);
        assert_eq!(dbov(1e-9), 127);
    }

    /// Real speech, 48 kHz.
    fn speech(name: &str) -> Vec<Block> {
        let path = format!("{}/../examples/assets/{name}.wav", env!("CARGO_MANIFEST_DIR"));
        let mut source = crate::source::open_wav(path.as_ref()).unwrap();
        let mut blocks = Vec::new();
        loop {
            let mut block = SILENT;
            let read = source.read(&mut block);
            blocks.push(block);
            if read == Read::Ended {
                return blocks;
            }
        }
    }

    fn changes(blocks: impl IntoIterator<Item = Block>) -> Vec<(usize, bool)> {
        let mut detector = SpeechDetector::new();
        blocks.into_iter().enumerate().filter_map(|(t, b)| detector.feed(&b).map(|now| (t, now))).collect()
    }

    #[test]
    fn speech_has_a_start_and_an_end() {
        for name in ["speech-a", "speech-b"] {
            let blocks = speech(name);
            let loud = |b: &Block| dbov(rms(b)) < 40;
            let first = blocks.iter().position(loud).unwrap();
            let last = blocks.len() - 1 - blocks.iter().rev().position(loud).unwrap();
            let found = changes(blocks.iter().copied().chain([SILENT; 100]));
            println!("{name}: loud from {first} to {last}, speaking {found:?}");
            let (start, end) = (found[0], *found.last().unwrap());
            assert!(start.1 && (first..first + 20).contains(&start.0), "{name}: {found:?}");
            assert!(!end.1 && (last - 20..=last + 31).contains(&end.0), "{name}: {found:?}");
            assert!(found.len() <= 8, "pauses between sentences only: {found:?}");
        }
    }

    #[test]
    fn what_is_loud_and_no_voice_is_not_speech() {
        let mut seed = 7_u32;
        let mut noise = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed as f32 / u32::MAX as f32 - 0.5
        };
        // Half a second of noise each second; keys, twice as loud as any voice; the hum of mains that comes and goes.
        let bursts: Vec<Block> = (0..1_000)
            .map(|t| if t % 100 < 50 { [0.0; BLOCK].map(|_| 0.2 * noise()) } else { SILENT })
            .collect();
        assert_eq!(changes(bursts), []);
        let keys = (0..1_000).map(|t| {
            let key = t % 13 == 0 || t % 29 == 1;
            std::array::from_fn(|i| if key { noise() * (-(i as f32) / 100.0).exp() } else { 0.001 * noise() })
        });
        assert_eq!(changes(keys.collect::<Vec<_>>()), []);
        let hum = (0..1_000).map(|t| {
            std::array::from_fn(|i| {
                let at = (t * BLOCK + i) as f64 / 48_000.0;
                if t % 200 < 100 { 0.05 * (at * 50.0 * std::f64::consts::TAU).sin() as f32 } else { 0.0 }
            })
        });
        assert_eq!(changes(hum), []);
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
