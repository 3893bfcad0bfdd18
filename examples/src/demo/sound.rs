//! Recordings, from files of any kind.

use std::{error, fmt, path::Path};

use realfft::{RealFftPlanner, num_complex::Complex};
use warp_blink::audio::SAMPLE_RATE;

/// Mono sound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clip {
    /// Samples, full scale being 1.0.
    pub samples: Vec<f32>,
    /// Samples per second.
    pub rate: u32,
}

/// A file that cannot be compared.
#[derive(Debug)]
pub struct SoundError {
    file: String,
    cause: String,
}

impl fmt::Display for SoundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {}: {}", self.file, self.cause)
    }
}

impl error::Error for SoundError {}

impl Clip {
    /// Reads a WAV file, mixes it to mono and converts it to 48 kHz.
    ///
    /// # Errors
    /// [`SoundError`] with the path and the cause if it is missing or no WAV file of a common kind.
    pub fn read(path: &Path) -> Result<Self, SoundError> {
        let fail = |cause: String| SoundError { file: path.display().to_string(), cause };
        let mut reader = hound::WavReader::open(path).map_err(|e| fail(e.to_string()))?;
        let spec = reader.spec();
        if spec.channels == 0 || spec.sample_rate == 0 {
            return Err(fail("it has no channels or no rate".to_owned()));
        }
        let all: Result<Vec<f32>, _> = match spec.sample_format {
            hound::SampleFormat::Float => reader.samples::<f32>().collect(),
            hound::SampleFormat::Int => {
                let full = 2.0_f32.powi(i32::from(spec.bits_per_sample) - 1);
                reader.samples::<i32>().map(|s| s.map(|s| s as f32 / full)).collect()
            }
        };
        let all = all.map_err(|e| fail(e.to_string()))?;
        let channels = usize::from(spec.channels);
        let mono: Vec<f32> =
            all.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect();
        let samples = resample(&mono, spec.sample_rate, SAMPLE_RATE);
        Ok(Self { samples, rate: SAMPLE_RATE })
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate.max(1))
    }
}

/// Converts the rate of a whole recording at once, by way of its spectrum: exact up to the lower of the two band
/// limits, and without delay. Not for sound that is still arriving.
pub fn resample(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
    if from == to || samples.is_empty() || from == 0 || to == 0 {
        return samples.to_vec();
    }
    let divisor = gcd(from, to);
    let (down, up) = ((from / divisor) as usize, (to / divisor) as usize);
    // A length that becomes a whole number of samples at the other rate, with a margin against wrapping round.
    let blocks = samples.len().div_ceil(down) + 2;
    let (n, m) = (blocks * down, blocks * up);
    let mut planner = RealFftPlanner::<f32>::new();
    let (forward, back) = (planner.plan_fft_forward(n), planner.plan_fft_inverse(m));
    let mut input = forward.make_input_vec();
    input[..samples.len()].copy_from_slice(samples);
    let mut spectrum = forward.make_output_vec();
    let mut output = back.make_output_vec();
    let mut wanted = back.make_input_vec();
    let shared = spectrum.len().min(wanted.len());
    if forward.process(&mut input, &mut spectrum).is_err() {
        return Vec::new();
    }
    wanted[..shared].copy_from_slice(&spectrum[..shared]);
    // The first and, for an even length, the last bin of a real signal are real.
    for edge in [0, wanted.len() - 1] {
        wanted[edge] = Complex::new(wanted[edge].re, 0.0);
    }
    if back.process(&mut wanted, &mut output).is_err() {
        return Vec::new();
    }
    output.truncate((samples.len() * up).div_ceil(down));
    output.iter_mut().for_each(|s| *s /= n as f32);
    output
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resampling_keeps_a_tone_and_its_place() {
        for (from, to) in [(16_000, 48_000), (44_100, 48_000), (48_000, 44_100), (48_000, 16_000)] {
            let wave = |rate: u32, n: usize| -> Vec<f32> {
                let shape = |i: usize| {
                    let t = i as f64 / f64::from(rate);
                    ((t * 997.0 * std::f64::consts::TAU).sin() * (-((t - 0.5) / 0.1).powi(2)).exp()) as f32
                };
                (0..n).map(shape).collect()
            };
            let made = resample(&wave(from, from as usize), from, to);
            let ideal = wave(to, to as usize);
            assert_eq!(made.len(), ideal.len(), "{from} to {to}");
            let worst = made.iter().zip(&ideal).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{from} to {to}: {worst}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Clip::read(Path::new("no/such.wav")).unwrap_err().to_string();
        assert!(error.contains("no/such.wav") && error.contains("No such file"), "{error}");
    }
}
