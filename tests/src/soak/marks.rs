//! Sound in which each moment can be told: a short chirp a second, upwards and downwards in turns. What was heard of it tells
//! how long it was on its way.

use std::{f64::consts::TAU, path::Path, sync::LazyLock};

use hound::{SampleFormat, WavSpec, WavWriter};

/// The rate of the files: all of a chirp lies below 4 kHz.
pub const RATE: u32 = 8000;
/// A chirp: three packets, so that one that is lost does not take it away.
const LENGTH: usize = RATE as usize * 60 / 1000;
/// Between two of them, in samples.
const PERIOD: usize = RATE as usize;
/// The first and the last frequency of one that goes up, in Hz. Wide enough that the correlation has one peak.
const BAND: (f64, f64) = (500.0, 2500.0);
/// Correlation at which one is recognised. Through the codec it has 0.9 and more; the other direction has 0.3.
const ALIKE: f64 = 0.6;

static CHIRPS: LazyLock<[Vec<f64>; 2]> = LazyLock::new(|| {
    let length = LENGTH as f64;
    let chirp = |(from, to): (f64, f64)| {
        (0..LENGTH)
            .map(|k| {
                let k = k as f64;
                let turns = (from * k + (to - from) * k * k / (2.0 * length)) / f64::from(RATE);
                // Without edges.
                let window = 0.5 - 0.5 * (TAU * k / length).cos();
                window * (TAU * turns).sin()
            })
            .collect()
    };
    [chirp(BAND), chirp((BAND.1, BAND.0))]
});

/// The sound of so many seconds, from its first sample on.
fn sound(seconds: usize) -> impl Iterator<Item = f64> {
    (0..seconds * PERIOD).map(|at| {
        let (second, within) = (at / PERIOD, at % PERIOD);
        CHIRPS[second % 2].get(within).map_or(0.0, |sample| 0.5 * sample)
    })
}

/// Writes so many seconds of it: one channel, 16 bits.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, seconds: usize) -> Result<(), hound::Error> {
    let (bits_per_sample, sample_format) = (16, SampleFormat::Int);
    let spec = WavSpec { channels: 1, sample_rate: RATE, bits_per_sample, sample_format };
    let mut writer = WavWriter::create(path, spec)?;
    for sample in sound(seconds) {
        writer.write_sample((sample * 32_767.0) as i16)?;
    }
    writer.finalize()
}

/// When sample 0 of a file was said or heard, in seconds, and how many seconds a second of it takes by that clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    /// When sample 0 was.
    pub from: f64,
    /// 1, but where the clock of that side is made to drift.
    pub pace: f64,
}

impl Clock {
    fn at(&self, sample: usize) -> f64 {
        self.from + sample as f64 / f64::from(RATE) * self.pace
    }
}

/// The delays of all chirps in this piece of what was heard, whose first sample has number `first`, in seconds from 0 to 2.
#[must_use]
pub fn delays(heard: &[f32], first: usize, hearing: Clock, saying: Clock) -> Vec<f64> {
    let of = |(place, down): (usize, bool)| {
        let at = hearing.at(first + place);
        // Those of this direction were said two seconds apart, by the clock of who said them.
        let round = 2.0 * saying.pace;
        (at - saying.at(usize::from(down) * PERIOD)).rem_euclid(round)
    };
    find(heard).into_iter().map(of).collect()
}

/// Where chirps begin, and whether they go down.
fn find(heard: &[f32]) -> Vec<(usize, bool)> {
    let mut found: Vec<(usize, bool, f64)> = Vec::new();
    let windows = heard.len().saturating_sub(LENGTH - 1);
    for place in 0..windows {
        let piece = &heard[place..place + LENGTH];
        let own: f64 = piece.iter().map(|s| f64::from(*s).powi(2)).sum();
        // A pause.
        if own < 0.01 {
            continue;
        }
        for (down, chirp) in [false, true].into_iter().zip(CHIRPS.iter()) {
            let (mut both, mut other) = (0.0, 0.0);
            for (a, b) in piece.iter().zip(chirp) {
                both += f64::from(*a) * b;
                other += b * b;
            }
            let alike = both / (own * other).sqrt();
            if alike < ALIKE {
                continue;
            }
            // Of those that overlap the best is it.
            match found.last_mut().filter(|last| place - last.0 < LENGTH) {
                Some(last) if last.2 < alike => *last = (place, down, alike),
                Some(_) => {}
                None => found.push((place, down, alike)),
            }
        }
    }
    found.into_iter().map(|(place, down, _)| (place, down)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Clock = Clock { from: 100.0, pace: 1.0 };

    fn heard(late: usize, seconds: usize) -> Vec<f32> {
        // Quieter, and with some noise.
        let noise = |k: usize| ((k * 7919 % 1000) as f64 / 1000.0 - 0.5) * 0.02;
        let silence = std::iter::repeat_n(0.0, late);
        silence.chain(sound(seconds)).enumerate().map(|(k, s)| (s * 0.4 + noise(k)) as f32).collect()
    }

    fn close(delays: &[f64], wanted: f64, count: usize) {
        assert_eq!(delays.len(), count, "{delays:?}");
        assert!(delays.iter().all(|delay| (delay - wanted).abs() < 0.001), "{delays:?}, not {wanted}");
    }

    #[test]
    fn the_delay_is_found_to_the_millisecond_wherever_the_piece_begins() {
        let all = heard(1000, 10);
        close(&delays(&all, 0, CLOCK, CLOCK), 0.125, 10);
        close(&delays(&all[20_000..52_000], 20_000, CLOCK, CLOCK), 0.125, 4);
        // The microphone began earlier than the speaker.
        let saying = Clock { from: 99.0, ..CLOCK };
        close(&delays(&all, 0, CLOCK, saying), 1.125, 10);
    }

    #[test]
    fn a_clock_that_drifts_is_told_from_a_delay_that_grows() {
        // Who says it has a clock that is faster by 1,000 millionths; all of its marks come after 0.2 s.
        let fast = Clock { pace: 0.999, ..CLOCK };
        let mut all = vec![0.0_f32; 21 * RATE as usize];
        for second in 0..20 {
            let at = (fast.at(second * PERIOD) - CLOCK.from + 0.2) * f64::from(RATE);
            for (k, sample) in CHIRPS[second % 2].iter().enumerate() {
                all[at.round() as usize + k] = *sample as f32;
            }
        }
        close(&delays(&all, 0, CLOCK, fast), 0.2, 20);
        let wrong = delays(&all, 0, CLOCK, CLOCK);
        assert!(wrong[0] - wrong[19] > 0.018, "{wrong:?}");
    }

    #[test]
    fn noise_a_tone_and_silence_are_no_chirps() {
        let tone: Vec<f32> = (0..16_000).map(|k| (f64::from(k) * 0.3).sin() as f32).collect();
        assert_eq!(find(&tone), []);
        assert_eq!(find(&vec![0.0; 16_000]), []);
        let mut state = 1_u32;
        let noise: Vec<f32> = (0..16_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (f64::from(state) / f64::from(u32::MAX) - 0.5) as f32
            })
            .collect();
        assert_eq!(find(&noise), []);
    }

    #[test]
    fn what_is_written_is_what_is_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks.wav");
        write(&path, 4).unwrap();
        let mut reader = hound::WavReader::open(&path).unwrap();
        let all: Vec<f32> =
            reader.samples::<i16>().map(|sample| f32::from(sample.unwrap()) / 32_768.0).collect();
        close(&delays(&all, 0, CLOCK, CLOCK), 0.0, 4);
    }
}
