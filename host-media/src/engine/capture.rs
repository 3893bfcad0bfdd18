//! The way up: from blocks of the source to encoded frames.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    BLOCK, Block, SAMPLE_RATE, SILENT,
    codec::Encoder,
    error::Error,
    format::EncodedFrame,
    level::{self, SpeechDetector},
};

/// Collects blocks into frames and encodes them.
#[derive(Debug)]
pub(super) struct Upstream {
    encoder: Encoder,
    frame: Vec<f32>,
    timestamp: u32,
    voice: bool,
    detector: SpeechDetector,
    /// Gain of the last block: 0 while muted, with a ramp of one block between.
    gain: f32,
    pub(super) level: u8,
    pub(super) frames: u64,
}

/// What a block brought.
#[derive(Debug, Default)]
pub(super) struct Upstreamed {
    pub(super) frame: Option<EncodedFrame>,
    pub(super) speaking: Option<bool>,
}

impl Upstream {
    pub(super) fn new(encoder: Encoder) -> Self {
        Self {
            frame: Vec::with_capacity(encoder.frame().samples()),
            encoder,
            timestamp: 0,
            voice: false,
            detector: SpeechDetector::new(),
            gain: 1.0,
            level: level::SILENCE,
            frames: 0,
        }
    }

    pub(super) fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Delay in here: a frame must be complete, and the codec looks ahead.
    pub(super) fn latency(&self) -> (Duration, Duration) {
        let time = |samples: usize| Duration::from_secs_f64(samples as f64 / f64::from(SAMPLE_RATE));
        (time(self.encoder.frame().samples()), time(self.encoder.lookahead()))
    }

    /// Takes the next block. An error means that one frame is missing; the next ones are tried again.
    pub(super) fn push(&mut self, block: &Block, muted: bool) -> Result<Upstreamed, Error> {
        self.level = level::dbov(level::rms(block));
        let mut done = Upstreamed::default();
        let to = if muted { 0.0 } else { 1.0 };
        let from = std::mem::replace(&mut self.gain, to);
        let heard: Block = match (from, to) {
            (1.0, 1.0) => *block,
            (0.0, 0.0) => SILENT,
            _ => std::array::from_fn(|i| block[i] * (from + (to - from) * (i + 1) as f32 / BLOCK as f32)),
        };
        done.speaking = self.detector.feed(&heard);
        self.voice |= self.detector.speaking();
        self.frame.extend_from_slice(&heard);
        let samples = self.encoder.frame().samples();
        if self.frame.len() < samples {
            return Ok(done);
        }
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(samples as u32);
        let level = level::dbov(level::rms(&self.frame));
        let voice = std::mem::take(&mut self.voice);
        let payload = self.encoder.encode(&self.frame).map(Bytes::copy_from_slice);
        self.frame.clear();
        done.frame =
            Some(EncodedFrame { timestamp, samples: samples as u32, payload: payload?, level, voice });
        self.frames += 1;
        Ok(done)
    }

    /// Lets the clock of the timestamps run on over ticks that were left out.
    pub(super) fn skip(&mut self, ticks: u64) {
        // A frame that was begun is continued after the gap: the gap lies before its start.
        self.timestamp = self.timestamp.wrapping_add((ticks.wrapping_mul(BLOCK as u64)) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Format, FrameLength};

    fn run(upstream: &mut Upstream, block: &Block, muted: bool, ticks: usize) -> Vec<EncodedFrame> {
        (0..ticks).filter_map(|_| upstream.push(block, muted).unwrap().frame).collect()
    }

    #[test]
    fn frames_follow_each_other_without_a_gap_while_muted_and_not() {
        for frame in [FrameLength::Ms10, FrameLength::Ms20, FrameLength::Ms40, FrameLength::Ms60] {
            let mut upstream = Upstream::new(Encoder::new(Format::new(frame)).unwrap());
            let loud = std::array::from_fn(|i| 0.1 * (i as f32 * 0.1).sin());
            let mut frames = run(&mut upstream, &loud, false, 60);
            frames.extend(run(&mut upstream, &loud, true, 60));
            assert_eq!(frames.len(), 1200 / usize::from(frame.ms()));
            for (i, f) in frames.iter().enumerate() {
                assert_eq!(f.timestamp as usize, i * frame.samples());
                assert_eq!(f.samples as usize, frame.samples());
            }
            assert_eq!((frames[4].level, frames[4].voice), (23, true));
            let last = frames.last().unwrap();
            assert_eq!((last.level, last.voice), (127, false));
            assert_eq!(upstream.level, 23, "the level of the source shows while muted");
        }
    }

    #[test]
    fn skipped_time_shows_in_the_timestamps() {
        let mut upstream = Upstream::new(Encoder::new(Format::default()).unwrap());
        assert_eq!(run(&mut upstream, &SILENT, false, 2)[0].timestamp, 0);
        upstream.skip(10);
        assert_eq!(run(&mut upstream, &SILENT, false, 2)[0].timestamp, 960 + 4800);
    }
}
