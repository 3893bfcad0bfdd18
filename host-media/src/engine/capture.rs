//! The way up: from blocks of the source to encoded frames.

use std::time::Duration;

use bytes::BytesMut;

use crate::{
    BLOCK, Block, SAMPLE_RATE, SILENT,
    codec::{
        Encoded, Encoder,
        policy::Settings,
        pool::Pool,
        red::{Copies, MAX_RED, Writer},
    },
    error::Error,
    format::{EncodedFrame, FrameLength},
    level, play,
};

/// Collects blocks into frames and encodes them.
#[derive(Debug)]
pub(super) struct Upstream {
    encoder: Encoder,
    pool: Pool,
    red: Writer,
    redundant: BytesMut,
    copies: Copies,
    frame: Vec<f32>,
    timestamp: u32,
    voice: bool,
    /// Gain of the last block: 0 while muted, with a ramp of one block between. None if nothing went before: then it
    /// begins as it is to be.
    gain: Option<f32>,
    /// Sound to add to the next block after mute.
    also: Option<Block>,
    /// The last block as it was sent.
    heard: Option<Block>,
    pub(super) level: u8,
    /// Frames that were handed out, and such as were not because they hold silence.
    pub(super) frames: u64,
    pub(super) silent: u64,
}

impl Upstream {
    pub(super) fn new(encoder: Encoder) -> Self {
        Self {
            encoder,
            pool: Pool::new(),
            red: Writer::new(),
            redundant: BytesMut::with_capacity(MAX_RED),
            copies: Copies::default(),
            frame: Vec::with_capacity(FrameLength::Ms60.samples()),
            timestamp: 0,
            voice: false,
            gain: None,
            also: None,
            heard: None,
            level: level::SILENCE,
            frames: 0,
            silent: 0,
        }
    }

    pub(super) fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    pub(super) fn copies(&self) -> Copies {
        self.copies
    }

    /// Sets what the next frame is encoded with. A frame that was begun keeps its length.
    pub(super) fn apply(&mut self, settings: &Settings, complexity: u8, dtx: bool) -> Result<(), Error> {
        if self.frame.is_empty() {
            self.encoder.set_frame(settings.frame);
        }
        self.copies = settings.red;
        self.encoder.set_complexity(complexity)?;
        self.encoder.set_dtx(dtx)?;
        self.encoder.apply(settings)
    }

    /// Delay in here: a frame must be complete, and the codec looks ahead.
    pub(super) fn latency(&self) -> (Duration, Duration) {
        let time = |samples: usize| Duration::from_secs_f64(samples as f64 / f64::from(SAMPLE_RATE));
        (time(self.encoder.frame().samples()), time(self.encoder.lookahead()))
    }

    /// Adds sound to the next block, whether oneself is muted or not.
    pub(super) fn add(&mut self, block: &Block) {
        self.also = Some(*block);
    }

    /// The last block as it was sent: after mute, with what was added.
    pub(super) fn heard(&mut self) -> Option<Block> {
        self.heard.take()
    }

    /// Takes the next block, and whether it holds a voice; tells the frame that it completes. An error means that one
    /// frame is missing; the next ones are tried again.
    pub(super) fn push(
        &mut self,
        block: &Block,
        muted: bool,
        voice: bool,
    ) -> Result<Option<EncodedFrame>, Error> {
        self.level = level::dbov(level::rms(block));
        let to = if muted { 0.0 } else { 1.0 };
        let from = self.gain.replace(to).unwrap_or(to);
        let mut heard: Block = match (from, to) {
            (1.0, 1.0) => *block,
            (0.0, 0.0) => SILENT,
            _ => std::array::from_fn(|i| block[i] * (from + (to - from) * (i + 1) as f32 / BLOCK as f32)),
        };
        for (sample, also) in heard.iter_mut().zip(self.also.take().iter().flatten()) {
            *sample = play::sum(*sample, *also);
        }
        self.heard = Some(heard);
        self.voice |= voice;
        self.frame.extend_from_slice(&heard);
        let samples = self.encoder.frame().samples();
        if self.frame.len() < samples {
            return Ok(None);
        }
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(samples as u32);
        let level = level::dbov(level::rms(&self.frame));
        let voice = std::mem::take(&mut self.voice);
        let encoded = self.encoder.encode(&self.frame);
        self.frame.clear();
        let Encoded::Packet(packet) = encoded? else {
            self.silent += 1;
            return Ok(None);
        };
        let payload = self.pool.copy(packet);
        self.redundant.clear();
        let redundant = self.red.write(timestamp, &payload, self.copies, &mut self.redundant);
        let red = redundant.then(|| self.pool.copy(&self.redundant));
        let frame = EncodedFrame { timestamp, samples: samples as u32, payload, level, voice, red };
        self.frames += 1;
        Ok(Some(frame))
    }

    /// Lets the clock of the timestamps run on over ticks that were left out.
    pub(super) fn skip(&mut self, ticks: u64) {
        // What comes next does not follow what was: a microphone that appears while muted is not faded out, and nobody
        // needs copies of what was said before the gap.
        self.gain = None;
        self.red.forget();
        // A frame that was begun is continued after the gap: the gap lies before its start.
        self.timestamp = self.timestamp.wrapping_add((ticks.wrapping_mul(BLOCK as u64)) as u32);
    }
}

#[cfg(test)]
mod tests {
    use assert_no_alloc::{assert_no_alloc, violation_count};

    use super::*;
    use crate::format::Format;

    fn run(upstream: &mut Upstream, block: &Block, muted: bool, ticks: usize) -> Vec<EncodedFrame> {
        (0..ticks).filter_map(|_| upstream.push(block, muted, !muted).unwrap()).collect()
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

    #[test]
    fn memory_is_used_again_when_the_network_has_dropped_it() {
        let mut upstream = Upstream::new(Encoder::new(Format::default()).unwrap());
        let wanted = Settings {
            frame: FrameLength::Ms20,
            bitrate: 32_000,
            fec: false,
            expected_loss: 0,
            dred: 0,
            red: Copies { count: 2, spacing: 1 },
        };
        upstream.apply(&wanted, 5, false).unwrap();
        let mut out = std::collections::VecDeque::new();
        let mut fresh = 0;
        for tick in 0..6_000_usize {
            let block = std::array::from_fn(|i| 0.2 * (((tick * BLOCK + i) as f32 * 0.02).sin()));
            // Counted for this thread alone: where memory lies depends on what else asks for some at the same time.
            let before = violation_count();
            let pushed = assert_no_alloc(|| upstream.push(&block, false, true)).unwrap();
            fresh += if tick > 2_000 { violation_count() - before } else { 0 };
            let Some(frame) = pushed else { continue };
            assert!(frame.red.is_some() || tick < 4);
            // A second of packets is kept, as for repairs.
            out.push_back(frame);
            if out.len() > 50 {
                out.pop_front();
            }
        }
        assert!(fresh == 0, "memory was asked for {fresh} times in the steady state");
    }

    #[test]
    fn what_comes_after_a_gap_begins_as_it_is_to_be_and_copies_nothing_from_before() {
        let loud: Block = std::array::from_fn(|i| 0.1 * (i as f32 * 0.1).sin());
        let mut upstream = Upstream::new(Encoder::new(Format::default()).unwrap());
        let wanted = Settings {
            frame: FrameLength::Ms20,
            bitrate: 32_000,
            fec: false,
            expected_loss: 0,
            dred: 0,
            red: Copies { count: 1, spacing: 1 },
        };
        upstream.apply(&wanted, 5, false).unwrap();
        let frames = run(&mut upstream, &loud, true, 4);
        assert!(frames.iter().all(|f| f.level == 127), "muted from the first sample on");
        let frames = run(&mut upstream, &loud, false, 8);
        assert!(frames.iter().all(|f| f.level < 30 && f.red.is_some()));
        upstream.skip(1);
        let frames = run(&mut upstream, &loud, true, 4);
        assert!(frames.iter().all(|f| f.level == 127), "nothing is faded out");
        assert!(
            frames[0].red.is_none() && frames[1].red.is_some(),
            "nothing from before the gap is sent again"
        );
        upstream.skip(1);
        assert_eq!(run(&mut upstream, &loud, false, 2)[0].level, 23, "and nothing faded in");
    }
}
