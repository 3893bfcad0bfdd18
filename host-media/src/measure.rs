//! Measures on sound: how well a copy matches its original, and where it lies.

use realfft::{RealFftPlanner, num_complex::Complex};

use crate::level;

/// Where a copy lies in relation to its original.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Alignment {
    /// How many samples later the copy is: `heard[n + delay_samples]` matches `reference[n]`. Negative if it is
    /// earlier.
    pub delay_samples: i64,
    /// Normalised correlation at that place, over where both overlap: 1 is the same up to its volume, 0 is unrelated.
    /// Negative if the copy is upside down, which never wins against a positive match.
    pub correlation: f32,
}

/// One piece of an original and where its copy lies.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Segment {
    /// First sample of the piece in the original.
    pub start: usize,
    /// Where its copy lies.
    pub alignment: Alignment,
    /// Level of the piece of the original as root mean square, full scale being 1.0.
    pub rms: f32,
}

/// How well a copy matches its original, whatever its delay does meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// Correlation of the pieces, weighted by their energy: 1 is the same up to its volume.
    pub correlation: f32,
    /// Correlation of the worst piece.
    pub worst: f32,
    /// Median of the pieces' delays, in samples.
    pub delay_samples: i64,
    /// Pieces that were compared.
    pub pieces: usize,
    /// Pieces that could not be found: their correlation is below 0.5.
    pub gaps: usize,
}

/// Rate at which the search begins: coarse enough to be quick, fine enough to have a clear peak.
const COARSE: u32 = 4_000;
/// A place counts only if this share of the shorter signal overlaps there.
const LEAST_OVERLAP: f64 = 0.5;

/// Finds the delay at which `heard` matches `reference` best. Both are mono at `rate` Hz.
///
/// The whole of both is searched, at 4 kHz first and then sample by sample around the best place. At least half of the
/// shorter one must overlap. Two empty or silent signals match nowhere: delay 0, correlation 0.
#[must_use]
pub fn align(reference: &[f32], heard: &[f32], rate: u32) -> Alignment {
    let factor = (rate / COARSE).max(1) as usize;
    let (a, b) = (decimate(reference, factor), decimate(heard, factor));
    let Some(coarse) = search(&a, &b) else { return Alignment::default() };
    let middle = coarse * factor as i64;
    let reach = 2 * factor as i64;
    refine(reference, heard, middle - reach, middle + reach)
}

/// Finds the delay of each piece of `window` samples of `reference`, within `reach` samples of the delay of the whole.
/// Pieces whose level is below -50 dBov are left out: in silence there is nothing to find.
#[must_use]
pub fn segments(reference: &[f32], heard: &[f32], rate: u32, window: usize, reach: usize) -> Vec<Segment> {
    let whole = align(reference, heard, rate).delay_samples;
    let window = window.max(1);
    let mut found = Vec::new();
    for start in (0..reference.len().saturating_sub(window - 1)).step_by(window) {
        let piece = &reference[start..start + window];
        let rms = level::rms(piece);
        if rms < 0.003 {
            continue;
        }
        // A part of what was heard, with the reach on both sides.
        let from = start as i64 + whole - reach as i64;
        let cut_from = usize::try_from(from).unwrap_or(0).min(heard.len());
        let cut_to =
            usize::try_from(from + (window + 2 * reach) as i64).unwrap_or(0).clamp(cut_from, heard.len());
        let mut alignment = align(piece, &heard[cut_from..cut_to], rate);
        alignment.delay_samples += cut_from as i64 - start as i64;
        found.push(Segment { start, alignment, rms });
    }
    found
}

/// Compares piece by piece, 500 ms each, within half a second of the delay of the whole.
///
/// This is the measure for sound that went through a jitter buffer: such a buffer shifts its delay by some milliseconds
/// now and then, in silence, and one shift ruins the correlation of the whole though nobody hears it.
#[must_use]
pub fn compare(reference: &[f32], heard: &[f32], rate: u32) -> Comparison {
    let half = rate as usize / 2;
    let pieces = segments(reference, heard, rate, half, half);
    if pieces.is_empty() {
        return Comparison::default();
    }
    let energy = |s: &Segment| f64::from(s.rms) * f64::from(s.rms);
    let total: f64 = pieces.iter().map(energy).sum();
    let weighted: f64 = pieces.iter().map(|s| energy(s) * f64::from(s.alignment.correlation)).sum();
    let mut delays: Vec<_> = pieces.iter().map(|s| s.alignment.delay_samples).collect();
    delays.sort_unstable();
    Comparison {
        correlation: (weighted / total) as f32,
        worst: pieces.iter().map(|s| s.alignment.correlation).fold(1.0, f32::min),
        delay_samples: delays[delays.len() / 2],
        pieces: pieces.len(),
        gaps: pieces.iter().filter(|s| s.alignment.correlation < 0.5).count(),
    }
}

/// Root mean square; full scale is 1.0.
#[must_use]
pub fn rms(samples: &[f32]) -> f32 {
    level::rms(samples)
}

/// Level in -dBov as RFC 6464 counts it: 0 is the loudest, 127 is silence.
#[must_use]
pub fn level(samples: &[f32]) -> u8 {
    level::dbov(level::rms(samples))
}

/// Averages groups of samples, which keeps enough of speech for a search.
fn decimate(samples: &[f32], factor: usize) -> Vec<f32> {
    samples.chunks(factor).map(|c| c.iter().sum::<f32>() / c.len() as f32).collect()
}

/// The best delay in samples of what is given, over all places with enough overlap.
fn search(a: &[f32], b: &[f32]) -> Option<i64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let n = (a.len() + b.len()).next_power_of_two().max(2);
    let mut planner = RealFftPlanner::<f32>::new();
    let (forward, back) = (planner.plan_fft_forward(n), planner.plan_fft_inverse(n));
    let spectrum = |samples: &[f32]| -> Option<Vec<Complex<f32>>> {
        let mut input = forward.make_input_vec();
        input[..samples.len()].copy_from_slice(samples);
        let mut output = forward.make_output_vec();
        forward.process(&mut input, &mut output).ok()?;
        Some(output)
    };
    let (sa, sb) = (spectrum(a)?, spectrum(b)?);
    let mut product: Vec<_> = sa.iter().zip(&sb).map(|(x, y)| x.conj() * y).collect();
    // Rounding leaves a trace of an imaginary part where there can be none.
    if let [first, .., last] = product.as_mut_slice() {
        first.im = 0.0;
        last.im = 0.0;
    }
    let mut correlation = back.make_output_vec();
    back.process(&mut product, &mut correlation).ok()?;
    let (ea, eb) = (Energy::new(a), Energy::new(b));
    let least = ((a.len().min(b.len()) as f64 * LEAST_OVERLAP) as i64).max(1);
    // Pieces that are nearly silent correlate with anything by chance.
    let floor = 1e-3 * (ea.between(0, a.len()) * eb.between(0, b.len())).sqrt() + 1e-12;
    let mut best = None;
    for delay in -(a.len() as i64) + least..=b.len() as i64 - least {
        let (from, to) = overlap(a.len(), b.len(), delay);
        if to - from < least {
            continue;
        }
        let dot = f64::from(correlation[delay.rem_euclid(n as i64) as usize]) / n as f64;
        let (x, y) = (from as usize, to as usize);
        let norm = (ea.between(x, y) * eb.between((from + delay) as usize, (to + delay) as usize)).sqrt();
        let value = dot / norm.max(floor);
        if best.is_none_or(|(most, _)| value > most) {
            best = Some((value, delay));
        }
    }
    best.map(|(_, delay)| delay)
}

/// The best of the delays between `low` and `high`, computed exactly.
fn refine(reference: &[f32], heard: &[f32], low: i64, high: i64) -> Alignment {
    let mut best = Alignment { delay_samples: (low + high) / 2, correlation: 0.0 };
    for delay in low..=high {
        let (from, to) = overlap(reference.len(), heard.len(), delay);
        if from >= to {
            continue;
        }
        let a = &reference[from as usize..to as usize];
        let b = &heard[(from + delay) as usize..(to + delay) as usize];
        let (mut ab, mut aa, mut bb) = (0.0_f64, 0.0_f64, 0.0_f64);
        for (a, b) in a.chunks(1024).zip(b.chunks(1024)) {
            let (mut x, mut y, mut z) = (0.0_f32, 0.0_f32, 0.0_f32);
            for (a, b) in a.iter().zip(b) {
                x += a * b;
                y += a * a;
                z += b * b;
            }
            ab += f64::from(x);
            aa += f64::from(y);
            bb += f64::from(z);
        }
        let correlation = if aa > 0.0 && bb > 0.0 { (ab / (aa * bb).sqrt()) as f32 } else { 0.0 };
        if correlation > best.correlation || (best.correlation == 0.0 && correlation < 0.0) {
            best = Alignment { delay_samples: delay, correlation };
        }
    }
    if best.correlation == 0.0 {
        best.delay_samples = 0;
    }
    best
}

/// The part of the first signal that overlaps with the second at a delay.
fn overlap(a: usize, b: usize, delay: i64) -> (i64, i64) {
    ((-delay).max(0), (a as i64).min(b as i64 - delay))
}

/// Running energy, for the energy of any part in no time.
struct Energy(Vec<f64>);

impl Energy {
    fn new(samples: &[f32]) -> Self {
        let mut sum = 0.0;
        Self(
            std::iter::once(0.0)
                .chain(samples.iter().map(|s| {
                    sum += f64::from(*s) * f64::from(*s);
                    sum
                }))
                .collect(),
        )
    }

    fn between(&self, from: usize, to: usize) -> f64 {
        self.0[to] - self.0[from]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise with a slow envelope, different for each seed.
    fn noise(n: usize, mut seed: u32) -> Vec<f32> {
        let mut last = 0.0;
        (0..n)
            .map(|i| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                last = 0.9 * last + 0.1 * (seed as f32 / u32::MAX as f32 - 0.5);
                last * (1.0 + (i as f32 / 9000.0).sin())
            })
            .collect()
    }

    #[test]
    fn finds_the_delay_to_the_sample_and_ignores_the_volume() {
        let reference = noise(480_000, 1);
        for delay in [0_usize, 1, 47, 2881, 100_000] {
            let mut heard = vec![0.0; delay];
            heard.extend(reference.iter().map(|s| s * 0.3));
            let found = align(&reference, &heard, 48_000);
            assert_eq!(found.delay_samples, delay as i64);
            assert!(found.correlation > 0.999, "{found:?}");
        }
        let found = align(&reference, &reference[5000..], 48_000);
        assert_eq!(found.delay_samples, -5000);
    }

    #[test]
    fn other_sound_does_not_match() {
        let found = align(&noise(96_000, 1), &noise(96_000, 2), 48_000);
        assert!(found.correlation < 0.3, "{found:?}");
        for (a, b) in [(&[][..], &[1.0, 0.5][..]), (&[0.0; 100], &[0.0; 100]), (&[1.0], &[])] {
            assert_eq!(align(a, b, 48_000), Alignment::default());
        }
    }

    #[test]
    fn pieces_show_where_the_delay_changed() {
        let reference = noise(192_000, 3);
        let mut heard = vec![0.0; 1000];
        heard.extend_from_slice(&reference[..96_000]);
        heard.extend_from_slice(&reference[96_480..]);
        let found = segments(&reference, &heard, 48_000, 24_000, 4800);
        let delays: Vec<_> = found.iter().map(|s| s.alignment.delay_samples).collect();
        assert_eq!(delays, [1000, 1000, 1000, 1000, 520, 520, 520, 520]);
        assert!(align(&reference, &heard, 48_000).correlation < 0.8);
        let compared = compare(&reference, &heard, 48_000);
        assert!(compared.correlation > 0.99 && compared.worst > 0.99, "{compared:?}");
        heard[48_000..72_000].fill(0.0);
        assert_eq!(compare(&reference, &heard, 48_000).gaps, 1);
        assert_eq!(compare(&[], &heard, 48_000), Comparison::default());
    }
}
