//! Likeness of sounds by more than one measure.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::{FINE_RATE, follow::WINDOW};

/// Sums of products of two signals.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Products {
    ab: f64,
    aa: f64,
    bb: f64,
}

impl Products {
    pub(super) fn of(a: &[f32], b: &[f32]) -> Self {
        let mut all = Self::default();
        for (x, y) in a.iter().zip(b) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            all.add(&Self { ab: x * y, aa: x * x, bb: y * y });
        }
        all
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.ab += other.ab;
        self.aa += other.aa;
        self.bb += other.bb;
    }

    pub(super) fn correlation(&self) -> f64 {
        if self.aa > 0.0 && self.bb > 0.0 { self.ab / (self.aa * self.bb).sqrt() } else { 0.0 }
    }
}

/// The colour of a window: how its sound is spread over the bands that an ear tells apart.
pub(super) struct Colours {
    forward: Arc<dyn RealToComplex<f32>>,
}

impl Colours {
    pub(super) fn new() -> Self {
        Self { forward: RealFftPlanner::new().plan_fft_forward(WINDOW) }
    }

    /// Amplitudes in bands of a third of an octave, from 125 Hz to 8 kHz.
    fn bands(&self, window: &[f32]) -> Vec<f32> {
        let mut input: Vec<f32> = window
            .iter()
            .enumerate()
            .map(|(i, s)| s * (std::f32::consts::PI * i as f32 / WINDOW as f32).sin())
            .collect();
        let mut output = self.forward.make_output_vec();
        let mut bands = [0.0_f32; 18];
        if self.forward.process(&mut input, &mut output).is_ok() {
            for (i, bin) in output.iter().enumerate() {
                let octaves = (i as f32 * FINE_RATE as f32 / WINDOW as f32 / 125.0).log2();
                if let Some(band) = bands.get_mut((octaves * 3.0).floor() as usize).filter(|_| octaves >= 0.0)
                {
                    *band += bin.norm_sqr();
                }
            }
        }
        bands.iter().map(|power| power.sqrt()).collect()
    }

    /// 1 if both have the same colour, whatever their volume; 0 if they share no band.
    pub(super) fn likeness(&self, a: &[f32], b: &[f32]) -> f32 {
        Products::of(&self.bands(a), &self.bands(b)).correlation() as f32
    }
}
