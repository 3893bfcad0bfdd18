//! A source from memory, for tests and for sound that a program makes.

use std::sync::Arc;

use super::{Read, Source};
use crate::{
    BLOCK, Block, SAMPLE_RATE,
    error::{Error, WavFault},
    resample::{Puller, RATES},
};

/// Mono samples that play in real time, then silence. Cheap to clone; each engine plays it from the start.
#[derive(Clone, Debug)]
pub struct MemorySource {
    samples: Arc<[f32]>,
    rate: u32,
}

impl MemorySource {
    /// Samples at 48 kHz; full scale is -1.0..=1.0.
    #[must_use]
    pub fn new(samples: impl Into<Arc<[f32]>>) -> Self {
        Self { samples: samples.into(), rate: SAMPLE_RATE }
    }

    /// Samples at another rate in Hz, 4000 to 384000.
    #[must_use]
    pub fn with_rate(samples: impl Into<Arc<[f32]>>, rate: u32) -> Self {
        Self { samples: samples.into(), rate }
    }

    pub(crate) fn open(&self) -> Result<Playing<Cursor>, Error> {
        Playing::new(Cursor { samples: Arc::clone(&self.samples), at: 0 }, self.rate)
    }
}

/// Something that gives mono samples one after the other.
pub(crate) trait Samples: Send {
    /// Fills as much of `out` as there is; fewer means the end. The text says why reading failed.
    fn next(&mut self, out: &mut [f32]) -> Result<usize, String>;
}

/// The samples of a [`MemorySource`].
#[derive(Debug)]
pub(crate) struct Cursor {
    samples: Arc<[f32]>,
    at: usize,
}

impl Samples for Cursor {
    fn next(&mut self, out: &mut [f32]) -> Result<usize, String> {
        let rest = &self.samples[self.at..];
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }
}

/// Plays [`Samples`] of any rate in real time.
pub(crate) struct Playing<S> {
    samples: S,
    puller: Option<Puller>,
    /// Input samples that remain to be pushed through the resampler after the end, or the outcome.
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Playing,
    /// The samples have ended; so many blocks still hold what is inside the resampler.
    Draining(u32),
    Failed(String),
    Over,
}

impl<S: Samples> Playing<S> {
    pub(crate) fn new(mut samples: S, rate: u32) -> Result<Self, Error> {
        if !RATES.contains(&rate) {
            return Err(Error::Resample { from: rate, to: SAMPLE_RATE, cause: unsupported_rate(rate) });
        }
        let mut state = State::Playing;
        let puller = match rate {
            SAMPLE_RATE => None,
            rate => {
                let mut puller = Puller::new(rate)?;
                puller.trim(|input| fill(&mut samples, &mut state, input))?;
                Some(puller)
            }
        };
        Ok(Self { samples, puller, state })
    }
}

pub(crate) fn unsupported_rate(rate: u32) -> String {
    format!("its rate is {rate} Hz; rates from {} to {} Hz can be used", RATES.start(), RATES.end())
}

impl From<String> for WavFault {
    fn from(text: String) -> Self {
        Self::Unsupported(text)
    }
}

fn fill(samples: &mut impl Samples, state: &mut State, input: &mut [f32]) {
    let mut n = 0;
    if *state == State::Playing {
        match samples.next(input) {
            Ok(got) => {
                n = got;
                if n < input.len() {
                    // One more block covers the resampler's delay, which is far below 10 ms at any speech rate.
                    *state = State::Draining(1);
                }
            }
            Err(cause) => *state = State::Failed(cause),
        }
    }
    input[n..].fill(0.0);
}

impl<S: Samples> Source for Playing<S> {
    fn read(&mut self, out: &mut Block) -> Read {
        if self.state == State::Over {
            out.fill(0.0);
            return Read::Sound;
        }
        let draining = matches!(self.state, State::Draining(_));
        match &mut self.puller {
            None => fill(&mut self.samples, &mut self.state, out),
            Some(puller) => {
                let Self { samples, state, .. } = self;
                if let Err(e) = puller.pull(|input| fill(samples, state, input), out) {
                    *state = State::Failed(e.to_string());
                }
            }
        }
        match &mut self.state {
            State::Playing | State::Over => Read::Sound,
            State::Draining(left) if *left > 0 && self.puller.is_some() => {
                // The block in which the end was met does not count.
                if draining {
                    *left -= 1;
                }
                Read::Sound
            }
            State::Draining(_) => {
                self.state = State::Over;
                Read::Ended
            }
            State::Failed(cause) => {
                let cause = std::mem::take(cause);
                self.state = State::Over;
                out.fill(0.0);
                Read::Failed(cause)
            }
        }
    }

    fn skip(&mut self, ticks: u64) {
        let mut waste = [0.0; BLOCK];
        for _ in 0..ticks {
            // At the end nothing is left to skip; the next read tells it.
            if self.state != State::Playing {
                return;
            }
            match &mut self.puller {
                None => fill(&mut self.samples, &mut self.state, &mut waste),
                Some(puller) => {
                    let Self { samples, state, .. } = self;
                    if let Err(e) = puller.pull(|input| fill(samples, state, input), &mut waste) {
                        *state = State::Failed(e.to_string());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plays_once_tells_the_end_once_and_goes_on_with_silence() {
        let mut source = MemorySource::new(vec![0.5; 1000]).open().unwrap();
        let mut block = [0.0; BLOCK];
        assert_eq!(source.read(&mut block), Read::Sound);
        assert_eq!(source.read(&mut block), Read::Sound);
        assert_eq!(source.read(&mut block), Read::Ended);
        assert_eq!((block[39], block[40]), (0.5, 0.0));
        assert_eq!(source.read(&mut block), Read::Sound);
        assert!(block.iter().all(|s| *s == 0.0));
    }

    #[test]
    fn skipping_keeps_real_time() {
        let ramp: Vec<f32> = (0..4800).map(|i| i as f32 / 4800.0).collect();
        let mut source = MemorySource::new(ramp.clone()).open().unwrap();
        let mut block = [0.0; BLOCK];
        source.read(&mut block);
        source.skip(3);
        source.read(&mut block);
        assert_eq!(block[0], ramp[4 * BLOCK]);
        source.skip(u64::MAX);
        assert_eq!(source.read(&mut block), Read::Ended);
    }

    #[test]
    fn another_rate_keeps_its_first_and_last_samples() {
        let tone: Vec<f32> = (0..8_000).map(|i| (i as f32 * 0.3).sin()).collect();
        let mut source = MemorySource::with_rate(tone, 16_000).open().unwrap();
        let (mut all, mut block) = (Vec::new(), [0.0; BLOCK]);
        loop {
            let read = source.read(&mut block);
            all.extend_from_slice(&block);
            if read == Read::Ended {
                break;
            }
        }
        let loud = |s: &&f32| s.abs() > 0.2;
        assert!(all.iter().position(|s| loud(&s)).unwrap() < 10);
        let last = all.len() - all.iter().rev().position(|s| loud(&s)).unwrap();
        assert!((23_980..24_020).contains(&last), "{last}");
    }
}
