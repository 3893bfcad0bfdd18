//! How well what was heard matches what was said.
//!
//! A jitter buffer changes its delay during a call: it starts with a margin, gives it up in the pauses, and waits when
//! a packet is late. One delay for the whole recording would call that a bad copy. So the delay is followed: every
//! window of speech is searched in the copy, and of all ways through the matches the best with the fewest jumps is
//! taken.

mod follow;
mod likeness;

use warp_blink::audio::{SAMPLE_RATE, measure};

use self::{
    follow::{HOP, PER_MS, Padded, REACH, WINDOW, Window, follow},
    likeness::{Colours, Products},
};
use super::{
    record::Series,
    sound::{Clip, resample},
};

/// The rate at which windows are searched: what the recordings hold (up to 8 kHz), at a third of the work.
pub const FINE_RATE: u32 = 16_000;
/// A window without the reference in it is a gap: 60 ms, three Opus frames of 20 ms. One lost frame is concealed from
/// its neighbours and cannot be heard; three in a row can.
pub const GAP_MS: u32 = 60;
/// Below a tenth of the talker's own level (-20 dB) a window of the original is a pause, and one of the copy is silent.
const QUIET: f32 = 0.1;
/// A window of the copy whose samples match less than this, and whose colour less than [`OTHER_COLOUR`], is something
/// else. Measured on the two recordings through Opus at 32 kbit/s: half of the windows match by more than 0.98, the
/// worst by 0.59 (hissing consonants); of other speech half match by less than 0.08.
const UNRELATED: f32 = 0.4;
/// Likeness of two spectra in bands of a third of an octave. At low rates Opus keeps the colour of a hissing consonant
/// rather than its samples. Measured as above: 0.97 in the worst window; 0.63 in half of those of other speech.
const OTHER_COLOUR: f32 = 0.9;
/// How many samples of 48 kHz one of [`FINE_RATE`] takes.
const FACTOR: usize = 3;

/// How a copy relates to its original.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Where most of the copy lies in its file, in milliseconds after the same place of the original.
    pub shift_ms: f64,
    /// Normalised correlation with the delay followed: 1 is the same up to its volume, 0 is unrelated.
    pub correlation: f64,
    /// Normalised correlation with one delay for the whole.
    pub rigid_correlation: f64,
    /// How many seconds of the original the copy covers.
    pub covered_s: f64,
    /// Volume of the copy against the original, in decibels.
    pub gain_db: f64,
    /// Where the copy lies (milliseconds later) over seconds of the original, wherever somebody speaks.
    pub shifts: Series,
    /// Stretches in which somebody speaks in the original and the copy is silent or something else.
    pub gaps: Vec<Gap>,
}

/// Something that was said and not heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    /// Beginning in the original, in seconds.
    pub at_s: f64,
    /// Length in milliseconds, at least [`GAP_MS`].
    pub ms: f64,
    /// Whether nothing was heard, rather than something else.
    pub silent: bool,
}

/// Compares a copy with its original, both at any rate.
pub fn compare(said: &Clip, heard: &Clip) -> Comparison {
    let original = resample(&said.samples, said.rate, SAMPLE_RATE);
    let copy = resample(&heard.samples, heard.rate, SAMPLE_RATE);
    let a = resample(&original, SAMPLE_RATE, FINE_RATE);
    let b = resample(&copy, SAMPLE_RATE, FINE_RATE);
    let shift = measure::align(&a, &b, FINE_RATE).delay_samples;
    let (from, to) = overlap(a.len(), b.len(), shift);
    // Where the window that starts at the beginning of the original, searched REACH earlier, begins in the copy.
    let around = Padded { samples: &b, from: shift - REACH as i64 };
    let Some(mut windows) = follow(&a, &around, from, to) else { return Comparison::default() };
    let copy = Padded { samples: &copy, from: 0 };
    let correlation = refine(&original, &copy, shift, &mut windows);
    let shifts: Series = windows
        .iter()
        .filter(|w| w.speech && w.matches >= UNRELATED)
        .map(|w| (w.start as f64 / f64::from(FINE_RATE), w.exact as f64 / f64::from(SAMPLE_RATE) * 1000.0))
        .collect();
    let gain = measure::rms(&b[place(from, shift)..place(to, shift)]) / measure::rms(&a[from..to]).max(1e-9);
    let whole_ms = shift as f64 / PER_MS as f64;
    Comparison {
        shift_ms: super::result::median(shifts.iter().map(|s| s.1)).unwrap_or(whole_ms),
        correlation,
        rigid_correlation: f64::from(measure::align(&original, copy.samples, SAMPLE_RATE).correlation),
        covered_s: (to - from) as f64 / f64::from(FINE_RATE),
        gain_db: 20.0 * f64::from(gain.max(1e-6)).log10(),
        gaps: gaps(&a, &b, &windows),
        shifts,
    }
}

/// The part of the first that overlaps with the second when that is `shift` samples later.
fn overlap(a: usize, b: usize, shift: i64) -> (usize, usize) {
    let from = place(0, -shift).min(a);
    let to = place(b, -shift).min(a);
    (from, to.max(from))
}

fn place(at: usize, shift: i64) -> usize {
    usize::try_from(at as i64 + shift).unwrap_or(0)
}

/// Finds the delay of each window to the sample of 48 kHz, and tells the correlation of everything that they cover,
/// each at its own delay.
fn refine(original: &[f32], copy: &Padded<'_>, shift: i64, windows: &mut [Window]) -> f64 {
    let mut whole = Products::default();
    for run in windows.chunk_by_mut(|x, y| x.lag == y.lag) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        // Each window speaks for the hop in its middle.
        let from = FACTOR * (first.start + (WINDOW - HOP) / 2);
        let to = (FACTOR * (last.start + (WINDOW + HOP) / 2)).min(original.len());
        let around = FACTOR as i64 * (shift + first.lag as i64 - REACH as i64);
        let near = 1 - FACTOR as i64..FACTOR as i64;
        let best = near
            .map(|by| {
                let part = copy.part(from as i64 + around + by, to - from);
                (around + by, Products::of(&original[from..to], &part))
            })
            .max_by(|x, y| x.1.correlation().total_cmp(&y.1.correlation()));
        let Some((exact, products)) = best else { continue };
        whole.add(&products);
        for window in run {
            window.exact = exact;
            let start = FACTOR * window.start;
            let end = (start + FACTOR * WINDOW).min(original.len());
            let part = copy.part(start as i64 + exact, end - start);
            window.matches = Products::of(&original[start..end], &part).correlation() as f32;
        }
    }
    whole.correlation()
}

/// Windows in which somebody speaks and the copy does not.
fn gaps(a: &[f32], b: &[f32], windows: &[Window]) -> Vec<Gap> {
    let colours = Colours::new();
    let copy = Padded { samples: b, from: 0 };
    let mut found: Vec<Gap> = Vec::new();
    for window in windows.iter().filter(|w| w.speech) {
        let at_s = window.start as f64 / f64::from(FINE_RATE);
        let there = copy.part(window.start as i64 + window.exact / FACTOR as i64, WINDOW);
        let silent = measure::rms(&there) < QUIET * window.level;
        let known = || {
            window.matches >= UNRELATED
                || colours.likeness(&a[window.start..window.start + WINDOW], &there) >= OTHER_COLOUR
        };
        if !silent && known() {
            continue;
        }
        match found.last_mut() {
            Some(last) if (at_s - last.at_s) * 1000.0 <= last.ms => {
                last.ms = (at_s - last.at_s) * 1000.0 + f64::from(GAP_MS);
                last.silent |= silent;
            }
            _ => found.push(Gap { at_s, ms: f64::from(GAP_MS), silent }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEECH: &[u8] = include_bytes!("../../../assets/speech-b.wav");

    fn speech() -> Clip {
        let mut reader = hound::WavReader::new(SPEECH).unwrap();
        let rate = reader.spec().sample_rate;
        let samples: Vec<f32> = reader.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_768.0).collect();
        Clip { samples: resample(&samples, rate, 48_000), rate: 48_000 }
    }

    fn later(clip: &Clip, ms: usize) -> Clip {
        let mut samples = vec![0.0; ms * 48];
        samples.extend_from_slice(&clip.samples);
        Clip { samples, rate: clip.rate }
    }

    /// The middle of the loudest 100 ms, in samples.
    fn loudest(clip: &Clip) -> usize {
        let parts = clip.samples.chunks(4800).map(measure::rms).enumerate();
        parts.max_by(|x, y| x.1.total_cmp(&y.1)).unwrap().0 * 4800 + 2400
    }

    #[test]
    fn a_delayed_copy_has_its_delay_and_no_gap() {
        let said = speech();
        let mut heard = later(&said, 73);
        heard.samples.iter_mut().for_each(|s| *s *= 0.5);
        let found = compare(&said, &heard);
        assert!((found.shift_ms - 73.0).abs() < 0.05 && found.correlation > 0.999, "{found:?}");
        assert!(found.rigid_correlation > 0.999, "{found:?}");
        assert!((found.gain_db + 6.02).abs() < 0.05, "{}", found.gain_db);
        assert!(found.gaps.is_empty(), "{:?}", found.gaps);
        assert!(found.shifts.len() > 200 && found.covered_s > 9.0);
        assert!(found.shifts.iter().all(|s| (s.1 - 73.0).abs() < 0.1), "{:?}", found.shifts);
    }

    #[test]
    fn a_delay_that_changes_is_followed() {
        let said = speech();
        let at = loudest(&said) / 480 * 480;
        let mut heard = later(&said, 90);
        // 20 ms less in the midst of a word, and 40 ms more later on.
        heard.samples.drain(at..at + 960);
        let later = at + 2 * 48_000;
        heard.samples.splice(later..later, vec![0.0; 1920]);
        let found = compare(&said, &heard);
        assert!(found.correlation > 0.98, "{}", found.correlation);
        assert!(found.rigid_correlation < 0.9, "{}", found.rigid_correlation);
        assert!(found.gaps.is_empty(), "{:?}", found.gaps);
        for (after, wanted) in
            [(0.0, 90.0), (at as f64 / 48_000.0 + 0.2, 70.0), (at as f64 / 48_000.0 + 2.5, 110.0)]
        {
            let there = found.shifts.iter().find(|s| s.0 >= after).unwrap();
            assert!((there.1 - wanted).abs() < 0.2, "after {after}: {there:?}, not {wanted}");
        }
    }

    #[test]
    fn silence_and_other_sound_in_the_middle_are_gaps() {
        let said = speech();
        let at = loudest(&said) + 50 * 48;
        let cut = |ms: usize| at - ms * 24..at + ms * 24;
        let mut heard = later(&said, 50);
        heard.samples[cut(80)].iter_mut().for_each(|s| *s = 0.0);
        let found = compare(&said, &heard).gaps;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].silent && (60.0..=120.0).contains(&found[0].ms), "{found:?}");
        assert!((found[0].at_s - (at as f64 / 48_000.0 - 0.09)).abs() < 0.05, "{found:?}");

        let mut heard = later(&said, 50);
        let mut seed = 1_u32;
        for sample in &mut heard.samples[cut(100)] {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = 0.3 * (seed as f32 / u32::MAX as f32 - 0.5);
        }
        let found = compare(&said, &heard).gaps;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(!found[0].silent, "{found:?}");
    }

    #[test]
    fn a_single_lost_frame_is_no_gap() {
        let said = speech();
        let at = loudest(&said);
        let mut heard = later(&said, 50);
        heard.samples[at..at + 960].iter_mut().for_each(|s| *s = 0.0);
        let found = compare(&said, &heard);
        assert!(found.gaps.is_empty() && found.correlation > 0.95, "{found:?}");
    }

    #[test]
    fn other_speech_and_nothing_do_not_match() {
        let said = speech();
        let backwards = Clip { samples: said.samples.iter().rev().copied().collect(), rate: said.rate };
        let found = compare(&said, &backwards);
        assert!(found.correlation < 0.6 && !found.gaps.is_empty(), "{}: {:?}", found.correlation, found.gaps);
        let nothing = Clip { samples: vec![0.0; 480_000], rate: said.rate };
        let found = compare(&said, &nothing);
        assert!(
            found.correlation == 0.0 && found.gaps.iter().map(|g| g.ms).sum::<f64>() > 2000.0,
            "{found:?}"
        );
        assert_eq!(compare(&Clip::default(), &nothing), Comparison::default());
        assert_eq!(compare(&nothing, &Clip::default()), Comparison::default());
    }
}
