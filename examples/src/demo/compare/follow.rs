//! The way of the delay through a recording.

use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};
use warp_blink::audio::measure;

use super::{FINE_RATE, GAP_MS, QUIET};

/// How far apart the windows begin, in milliseconds.
const HOP_MS: u32 = 10;
/// How far from the delay of the whole a window is searched, in milliseconds: more than a jitter buffer ever holds on
/// one machine, less than the distance of two equal words.
const REACH_MS: u32 = 200;
/// What a jump of the delay costs, in windows that match completely: less, and the way would jump between the periods
/// of a vowel; more, and it would miss a delay that lasts for a tenth of a second.
const JUMP: f32 = 1.5;
/// What a change by one sample costs.
const DRIFT: f32 = 0.05;

pub(super) const PER_MS: usize = FINE_RATE as usize / 1000;
pub(super) const WINDOW: usize = GAP_MS as usize * PER_MS;
pub(super) const HOP: usize = HOP_MS as usize * PER_MS;
pub(super) const REACH: usize = REACH_MS as usize * PER_MS;
const LAGS: usize = 2 * REACH + 1;

/// A window of the original and where it was found.
pub(super) struct Window {
    pub(super) start: usize,
    /// Somebody speaks in it.
    pub(super) speech: bool,
    pub(super) level: f32,
    /// Samples that the copy is later than the whole's delay, plus [`REACH`].
    pub(super) lag: usize,
    /// How well it matches there.
    pub(super) matches: f32,
    /// Samples of 48 kHz that the copy is later, exactly.
    pub(super) exact: i64,
}

/// The copy, read from a place on that may lie before its beginning; outside there is silence.
pub(super) struct Padded<'a> {
    pub(super) samples: &'a [f32],
    pub(super) from: i64,
}

impl Padded<'_> {
    pub(super) fn part(&self, at: i64, length: usize) -> Vec<f32> {
        let sample =
            |i: i64| usize::try_from(i).ok().and_then(|i| self.samples.get(i)).copied().unwrap_or(0.0);
        (0..length as i64).map(|i| sample(self.from + at + i)).collect()
    }
}

/// Searches every window between `from` and `to` and finds the way through the matches. `None` if there is no window.
pub(super) fn follow(a: &[f32], around: &Padded<'_>, from: usize, to: usize) -> Option<Vec<Window>> {
    // Windows start at the same places whatever the delay is.
    let starts: Vec<usize> =
        (from.next_multiple_of(HOP)..to.saturating_sub(WINDOW).max(from)).step_by(HOP).collect();
    let levels: Vec<f32> = starts.iter().map(|s| measure::rms(&a[*s..*s + WINDOW])).collect();
    let least = (QUIET * talking_level(&levels)).max(1e-5);
    let mut search = Search::new();
    let mut best = vec![0.0_f32; LAGS];
    // For each window and lag: the lag of the window before.
    let mut before: Vec<Vec<u16>> = Vec::with_capacity(starts.len());
    let mut all: Vec<Vec<f32>> = Vec::with_capacity(starts.len());
    for (start, level) in starts.iter().zip(&levels) {
        let found = match *level >= least {
            true => {
                search.run(&a[*start..*start + WINDOW], &around.part(*start as i64, WINDOW + 2 * REACH))?
            }
            false => vec![0.0; LAGS],
        };
        let top = (0..LAGS).max_by(|x, y| best[*x].total_cmp(&best[*y]))?;
        let mut next = Vec::with_capacity(LAGS);
        let mut came = Vec::with_capacity(LAGS);
        for lag in 0..LAGS {
            let mut from = (best[lag], lag);
            for near in [lag.wrapping_sub(1), lag + 1] {
                if best.get(near).is_some_and(|b| b - DRIFT > from.0) {
                    from = (best[near] - DRIFT, near);
                }
            }
            if best[top] - JUMP > from.0 {
                from = (best[top] - JUMP, top);
            }
            next.push(from.0 + found[lag]);
            came.push(from.1 as u16);
        }
        best = next;
        before.push(came);
        all.push(found);
    }
    let mut lag = (0..LAGS).max_by(|x, y| best[*x].total_cmp(&best[*y]))?;
    let mut windows = Vec::with_capacity(starts.len());
    for (index, start) in starts.iter().enumerate().rev() {
        let (level, matches) = (levels[index], all[index][lag]);
        windows.push(Window { start: *start, speech: level >= least, level, lag, matches, exact: 0 });
        lag = usize::from(before[index][lag]);
    }
    windows.reverse();
    (!windows.is_empty()).then_some(windows)
}

/// The level of somebody who talks: the mean power of the louder half of the windows that are not nearly silent.
fn talking_level(levels: &[f32]) -> f32 {
    let mut loud: Vec<f32> = levels.iter().copied().filter(|l| *l > 0.003).collect();
    loud.sort_by(f32::total_cmp);
    let half = &loud[loud.len() / 2..];
    if half.is_empty() { 0.0 } else { (half.iter().map(|l| l * l).sum::<f32>() / half.len() as f32).sqrt() }
}

/// Normalised correlation of a window with every place of its surroundings.
struct Search {
    forward: Arc<dyn RealToComplex<f32>>,
    back: Arc<dyn ComplexToReal<f32>>,
}

impl Search {
    fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let n = (WINDOW + 2 * REACH).next_power_of_two();
        Self { forward: planner.plan_fft_forward(n), back: planner.plan_fft_inverse(n) }
    }

    fn spectrum(&self, samples: &[f32]) -> Option<Vec<Complex<f32>>> {
        let mut input = self.forward.make_input_vec();
        input[..samples.len()].copy_from_slice(samples);
        let mut output = self.forward.make_output_vec();
        self.forward.process(&mut input, &mut output).ok()?;
        Some(output)
    }

    /// One value for each lag. `None` only if the transform were set up wrongly.
    fn run(&mut self, window: &[f32], around: &[f32]) -> Option<Vec<f32>> {
        let (a, b) = (self.spectrum(window)?, self.spectrum(around)?);
        let mut product: Vec<_> = a.iter().zip(&b).map(|(x, y)| x.conj() * y).collect();
        // Rounding leaves a trace of an imaginary part where there can be none.
        if let [first, .., last] = product.as_mut_slice() {
            (first.im, last.im) = (0.0, 0.0);
        }
        let mut dots = self.back.make_output_vec();
        self.back.process(&mut product, &mut dots).ok()?;
        let n = dots.len() as f32;
        let own: f64 = window.iter().map(|s| f64::from(*s).powi(2)).sum();
        let mut there: f64 = around[..WINDOW].iter().map(|s| f64::from(*s).powi(2)).sum();
        let mut out = Vec::with_capacity(LAGS);
        for (lag, dot) in dots.iter().enumerate().take(LAGS) {
            // What is nearly silent would match anything by chance.
            let norm = (own * there.max(own * 1e-3)).sqrt().max(1e-9);
            out.push((f64::from(*dot / n) / norm) as f32);
            if let (Some(leaves), Some(enters)) = (around.get(lag), around.get(lag + WINDOW)) {
                there += f64::from(*enters).powi(2) - f64::from(*leaves).powi(2);
            }
        }
        Some(out)
    }
}
