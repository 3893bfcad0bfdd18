//! Conversion between any rate and the 48 kHz inside, as a stream. The only file that knows the resampler's crate.

#[cfg(any(feature = "devices", test))]
use rubato::Adjustable;
use rubato::{
    Async, FixedAsync, Resampler, Resizable, SincInterpolationParameters, WindowFunction,
    audioadapter_buffers::direct::InterleavedSlice,
};

use crate::{BLOCK, Block, SAMPLE_RATE, error::Error};

/// The lowest and highest rate that is converted, in Hz.
pub(crate) const RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;

/// Length of the filter. 128 points cost 1.3 ms of delay at 48 kHz and leave speech flat up to 20 kHz.
const FILTER: usize = 128;

/// How far the ratio may be bent to follow a clock: far more than crystals differ (0.02 %), far less than is heard.
pub(crate) const MAX_BEND: f64 = 0.005;

fn make(from: u32, to: u32, fixed: FixedAsync) -> Result<Async<f32>, Error> {
    let parameters = SincInterpolationParameters::new(FILTER, WindowFunction::BlackmanHarris2);
    let ratio = f64::from(to) / f64::from(from);
    Async::new_sinc(ratio, 1.0 + 2.0 * MAX_BEND, &parameters, BLOCK, 1, fixed).map_err(|e| Error::Resample {
        from,
        to,
        cause: e.to_string(),
    })
}

/// Makes blocks of 48 kHz from samples of another rate, which it asks for as it needs them.
#[derive(Debug)]
pub(crate) struct Puller {
    inner: Async<f32>,
    input: Vec<f32>,
    from: u32,
}

impl Puller {
    pub(crate) fn new(from: u32) -> Result<Self, Error> {
        let inner = make(from, SAMPLE_RATE, FixedAsync::Output)?;
        Ok(Self { input: vec![0.0; inner.input_frames_max()], inner, from })
    }

    /// How many input samples the next block takes.
    #[cfg(any(feature = "devices", test))]
    pub(crate) fn needs(&self) -> usize {
        self.inner.input_frames_next()
    }

    /// How long a sample is under way in here, in seconds.
    #[cfg(any(feature = "devices", test))]
    pub(crate) fn delay(&self) -> f64 {
        self.inner.output_delay() as f64 / f64::from(SAMPLE_RATE)
    }

    /// Makes the next block. `fill` writes the input, all of it.
    pub(crate) fn pull(&mut self, mut fill: impl FnMut(&mut [f32]), out: &mut Block) -> Result<(), Error> {
        self.process(&mut fill, out)
    }

    /// Takes the filter's delay off the front, so that the first block starts with the first sample. Only for inputs
    /// that can be read ahead of time.
    pub(crate) fn trim(&mut self, mut fill: impl FnMut(&mut [f32])) -> Result<(), Error> {
        let delay = self.inner.output_delay();
        let mut waste = [0.0; BLOCK];
        for n in std::iter::repeat_n(BLOCK, delay / BLOCK).chain([delay % BLOCK]).filter(|&n| n > 0) {
            self.inner.set_chunk_size(n).map_err(|e| self.error(&e))?;
            self.process(&mut fill, &mut waste[..n])?;
        }
        self.inner.set_chunk_size(BLOCK).map_err(|e| self.error(&e))
    }

    /// Takes input `bend` faster (positive) or slower than its nominal rate; limited to [`MAX_BEND`].
    #[cfg(any(feature = "devices", test))]
    pub(crate) fn bend(&mut self, bend: f64) -> Result<(), Error> {
        let relative = 1.0 / (1.0 + bend.clamp(-MAX_BEND, MAX_BEND));
        self.inner.set_resample_ratio_relative(relative, true).map_err(|e| self.error(&e))
    }

    fn process(&mut self, fill: &mut impl FnMut(&mut [f32]), out: &mut [f32]) -> Result<(), Error> {
        let n = self.inner.input_frames_next();
        if self.input.len() < n {
            self.input.resize(n, 0.0);
        }
        fill(&mut self.input[..n]);
        let frames = out.len();
        let from = self.from;
        let run = || -> Result<(), String> {
            let input = InterleavedSlice::new(&self.input[..n], 1, n).map_err(|e| e.to_string())?;
            let mut output = InterleavedSlice::new_mut(out, 1, frames).map_err(|e| e.to_string())?;
            self.inner.process_into_buffer(&input, &mut output, None).map_err(|e| e.to_string())?;
            Ok(())
        };
        let mut run = run;
        run().map_err(|cause| Error::Resample { from, to: SAMPLE_RATE, cause })
    }

    fn error(&self, e: &rubato::ResampleError) -> Error {
        Error::Resample { from: self.from, to: SAMPLE_RATE, cause: e.to_string() }
    }
}

/// Makes samples of another rate from blocks of 48 kHz.
#[derive(Debug)]
pub(crate) struct Pusher {
    inner: Async<f32>,
    output: Vec<f32>,
    to: u32,
}

impl Pusher {
    pub(crate) fn new(to: u32) -> Result<Self, Error> {
        let inner = make(SAMPLE_RATE, to, FixedAsync::Input)?;
        Ok(Self { output: vec![0.0; inner.output_frames_max()], inner, to })
    }

    /// How many output samples a sample is under way in here.
    pub(crate) fn delay_samples(&self) -> usize {
        self.inner.output_delay()
    }

    /// How long a sample is under way in here, in seconds.
    #[cfg(any(feature = "devices", test))]
    pub(crate) fn delay(&self) -> f64 {
        self.inner.output_delay() as f64 / f64::from(self.to)
    }

    /// Converts a block; the number of samples varies around the ratio of the rates.
    pub(crate) fn push(&mut self, block: &Block) -> Result<&[f32], Error> {
        let to = self.to;
        let mut run = || -> Result<usize, String> {
            let n = self.inner.output_frames_next();
            if self.output.len() < n {
                self.output.resize(n, 0.0);
            }
            let input = InterleavedSlice::new(&block[..], 1, BLOCK).map_err(|e| e.to_string())?;
            let mut output = InterleavedSlice::new_mut(&mut self.output, 1, n).map_err(|e| e.to_string())?;
            let (_, made) =
                self.inner.process_into_buffer(&input, &mut output, None).map_err(|e| e.to_string())?;
            Ok(made)
        };
        let made = run().map_err(|cause| Error::Resample { from: SAMPLE_RATE, to, cause })?;
        Ok(&self.output[..made])
    }

    /// Makes output `bend` faster (positive: more samples) or slower than the nominal rate; limited to [`MAX_BEND`].
    #[cfg(any(feature = "devices", test))]
    pub(crate) fn bend(&mut self, bend: f64) -> Result<(), Error> {
        let relative = 1.0 + bend.clamp(-MAX_BEND, MAX_BEND);
        self.inner.set_resample_ratio_relative(relative, true).map_err(|e| Error::Resample {
            from: SAMPLE_RATE,
            to: self.to,
            cause: e.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: f64, i: usize) -> f32 {
        (i as f64 / rate * 997.0 * std::f64::consts::TAU).sin() as f32
    }

    #[test]
    fn any_rate_becomes_48_khz_aligned_to_the_sample() {
        for rate in [8_000, 16_000, 22_050, 44_100, 48_000, 96_000] {
            let mut at = 0;
            let mut fill = |out: &mut [f32]| {
                for s in out {
                    *s = tone(f64::from(rate), at);
                    at += 1;
                }
            };
            let mut puller = Puller::new(rate).unwrap();
            puller.trim(&mut fill).unwrap();
            let mut made = Vec::new();
            for _ in 0..50 {
                let mut block = [0.0; BLOCK];
                puller.pull(&mut fill, &mut block).unwrap();
                made.extend_from_slice(&block);
            }
            // The filter rings in at the hard start; after that each sample is where it belongs.
            let worst = (2_000..made.len()).map(|i| (made[i] - tone(48_000.0, i)).abs()).fold(0.0, f32::max);
            assert!(worst < 0.15, "{rate} Hz: off by {worst}, more than one sample of delay");
        }
    }

    #[test]
    fn blocks_become_any_rate_at_the_right_speed() {
        for rate in [8_000, 16_000, 44_100, 48_000, 192_000] {
            let mut pusher = Pusher::new(rate).unwrap();
            let delay = pusher.delay_samples();
            let mut made = Vec::new();
            for b in 0..100 {
                let block = std::array::from_fn(|i| tone(48_000.0, b * BLOCK + i));
                made.extend_from_slice(pusher.push(&block).unwrap());
            }
            let missing = rate as usize - made.len();
            assert!(missing <= 2 * delay + 20, "{rate} Hz: {} samples of one second", made.len());
            let worst = (delay + rate as usize / 20..made.len())
                .map(|i| (made[i] - tone(f64::from(rate), i - delay)).abs())
                .fold(0.0, f32::max);
            assert!(worst < 0.8, "{rate} Hz: off by {worst}");
        }
    }

    #[test]
    fn a_bent_ratio_takes_more_and_gives_more() {
        let mut puller = Puller::new(48_000).unwrap();
        puller.bend(MAX_BEND).unwrap();
        let (mut taken, mut block) = (0, [0.0; BLOCK]);
        for _ in 0..100 {
            puller.pull(|input| taken += input.len(), &mut block).unwrap();
        }
        assert!((48_180..48_420).contains(&taken), "{taken}");
        let mut pusher = Pusher::new(48_000).unwrap();
        pusher.bend(-MAX_BEND).unwrap();
        let made: usize = (0..100).map(|_| pusher.push(&block).unwrap().len()).sum();
        assert!((47_600..47_820).contains(&made), "{made}");
    }
}
