//! One remote peer's sound: jitter buffer, decoder, and the fine work on the delay.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    BLOCK, Block,
    codec::{Decoder, packet::MAX_SAMPLES},
    error::Error,
    format::Packet,
    jitter::{Advice, JitterBuffer, JitterConfig, Next},
    level::{self, SpeechDetector},
    stats::PeerStats,
};

/// Cuts cross-fade over 5 ms, about a pitch period of a low voice.
const FADE: usize = 240;
/// A jump of the signal is smoothed over 2 ms.
const DECLICK: usize = 96;
/// Sound below this level (as an amplitude, -50 dBov) is taken for silence, where cuts are not heard.
const QUIET: f32 = 0.003;
/// So is sound this much below the recent speech: 26 dB.
const QUIET_SHARE: f32 = 0.05;

/// How many ticks must lie between two cuts in the midst of speech, by the excess of delay in microseconds. A burst of
/// 300 ms is gone in under two seconds; little excess may wait for the next pause between words.
const PACE: [(i64, u32); 3] = [(80_000, 4), (30_000, 8), (0, 200)];

/// Pulls 10 ms at a time out of the packets of one peer.
#[derive(Debug)]
pub(crate) struct Playout {
    epoch: Instant,
    jitter: JitterBuffer,
    decoder: Decoder,
    /// Decoded sound that waits to be played.
    pcm: VecDeque<f32>,
    scratch: Vec<f32>,
    last: f32,
    /// The signal jumps at the start of what is decoded next.
    jump: bool,
    since_cut: u32,
    /// Smoothed amplitude of what is not quiet.
    loudness: f32,
    frame: usize,
    concealed: u64,
    played: u64,
    shortened: u64,
    lengthened: u64,
    current_us: i64,
    level: u8,
    detector: SpeechDetector,
    heard: bool,
}

/// What a pull brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pulled {
    /// The block holds sound of this peer, be it concealed; otherwise it is silence.
    pub(crate) active: bool,
    /// The first decoded sound ever is in this block.
    pub(crate) first: bool,
    /// The peer has just started or stopped to speak.
    pub(crate) speaking: Option<bool>,
}

impl Playout {
    pub(crate) fn new(epoch: Instant, config: JitterConfig) -> Result<Self, Error> {
        Ok(Self {
            epoch,
            jitter: JitterBuffer::new(config),
            decoder: Decoder::new()?,
            pcm: VecDeque::with_capacity(2 * MAX_SAMPLES),
            scratch: vec![0.0; MAX_SAMPLES],
            last: 0.0,
            jump: false,
            since_cut: 0,
            loudness: 0.0,
            frame: 960,
            concealed: 0,
            played: 0,
            shortened: 0,
            lengthened: 0,
            current_us: 0,
            level: level::SILENCE,
            detector: SpeechDetector::new(),
            heard: false,
        })
    }

    /// Takes a packet; `arrival` is when it came from the network.
    pub(crate) fn insert(&mut self, packet: Packet, arrival: Instant) {
        if self.jitter.insert(packet, self.micros(arrival)) {
            self.pcm.clear();
            self.jump = true;
            // A failure would show at the next packet, which is then counted and concealed.
            if let Err(e) = self.decoder.reset() {
                tracing::warn!(error = %e, "the decoder keeps its old state");
            }
        }
    }

    pub(crate) fn overflowed(&mut self, packets: u64) {
        self.jitter.overflowed(packets);
    }

    /// Plays the next 10 ms.
    pub(crate) fn pull(&mut self, now: Instant, out: &mut Block) -> Pulled {
        let now = self.micros(now);
        let mut pulled = Pulled::default();
        if !self.jitter.playing() && !self.jitter.start(now) {
            self.current_us = 0;
            if self.pcm.is_empty() {
                out.fill(0.0);
                self.fade_out(out);
                return self.finish(out, pulled);
            }
            // The last packet's rest is still to be played.
            self.pcm.resize(BLOCK.max(self.pcm.len()), 0.0);
        }
        if self.jitter.enforce(now, self.pcm.len()) {
            self.shortened += self.pcm.len() as u64;
            self.pcm.clear();
            self.jump = true;
        }
        self.current_us = self.jitter.current(now, self.pcm.len()).unwrap_or(0);
        let heard = self.heard;
        self.fill(now, BLOCK);
        self.since_cut = self.since_cut.saturating_add(1);
        let made = match self.jitter.advice(now, self.pcm.len()) {
            Advice::Shorten(excess) => self.shorten(now, excess, out),
            Advice::Lengthen => self.lengthen(out),
            Advice::Keep => false,
        };
        if !made {
            self.take(out);
        }
        self.played += BLOCK as u64;
        pulled.active = true;
        pulled.first = self.heard && !heard;
        self.finish(out, pulled)
    }

    fn finish(&mut self, out: &Block, mut pulled: Pulled) -> Pulled {
        let rms = level::rms(out);
        self.level = level::dbov(rms);
        if rms > QUIET {
            self.loudness += (rms - self.loudness) * 0.05;
        }
        self.last = out[BLOCK - 1];
        pulled.speaking = self.detector.feed(out);
        pulled
    }

    /// Decodes until `samples` are there or nothing more comes.
    fn fill(&mut self, now: i64, samples: usize) {
        while self.pcm.len() < samples {
            let next = self.jitter.next(now);
            self.concealed = self.concealed.saturating_sub(self.jitter.excused() as u64);
            match next {
                Next::Packet { payload, skip } => match self.decoder.decode(&payload, &mut self.scratch) {
                    Ok(n) => {
                        self.frame = n.max(120);
                        self.heard = true;
                        self.append(skip, n);
                    }
                    Err(e) => {
                        tracing::debug!(error = %e, bytes = payload.len(), "a packet cannot be decoded");
                        self.jitter.undecodable();
                        let n = crate::codec::packet::head(&payload).map_or(960, |h| h.samples);
                        self.conceal(n.saturating_sub(skip));
                    }
                },
                Next::Recover { payload, samples, skip } => {
                    let room = samples.min(MAX_SAMPLES);
                    match self.decoder.recover(&payload, &mut self.scratch[..room]) {
                        Ok(n) => self.append(skip, n),
                        Err(e) => {
                            tracing::debug!(error = %e, "redundancy cannot be decoded");
                            self.conceal(samples.saturating_sub(skip));
                        }
                    }
                }
                Next::Lost { samples } => self.conceal(samples),
                Next::Pause { samples } => {
                    let before = self.concealed;
                    self.conceal(samples);
                    self.concealed = before;
                }
                Next::Empty => return,
            }
        }
    }

    /// Appends what was decoded, without the first `skip` samples.
    fn append(&mut self, skip: usize, n: usize) {
        let skip = skip.min(n);
        if skip > 0 {
            self.jump = true;
        }
        if self.jump {
            let before = self.pcm.back().copied().unwrap_or(self.last);
            let by = before - self.scratch.get(skip).copied().unwrap_or(0.0);
            for (i, sample) in self.scratch[skip..n].iter_mut().take(DECLICK).enumerate() {
                *sample += by * (1.0 - i as f32 / DECLICK as f32);
            }
            self.jump = n == skip;
        }
        self.pcm.extend(&self.scratch[skip..n]);
    }

    /// Makes up at least `samples` and appends them.
    fn conceal(&mut self, samples: usize) {
        // The codec makes up multiples of 2.5 ms only. Odd lengths come from odd timestamps only.
        let mut left = samples.div_ceil(120) * 120;
        self.concealed += left as u64;
        while left > 0 {
            let n = left.min(960);
            if let Err(e) = self.decoder.conceal(&mut self.scratch[..n]) {
                tracing::debug!(error = %e, "the decoder cannot conceal");
                self.scratch[..n].fill(0.0);
                self.jump = true;
            }
            self.append(0, n);
            left -= n;
        }
    }

    /// Plays the next block, made up if it is not there.
    fn take(&mut self, out: &mut Block) {
        if self.pcm.len() < BLOCK {
            let missing = (BLOCK - self.pcm.len()).div_ceil(120) * 120;
            self.conceal(missing);
            if !self.jitter.wait(missing) {
                // Nothing came for as long as delay may ever be: fade to silence and wait for a new start.
                let n = self.pcm.len().max(1) as f32;
                for (i, sample) in self.pcm.iter_mut().enumerate() {
                    *sample *= 1.0 - i as f32 / n;
                }
            }
        }
        for (out, sample) in out.iter_mut().zip(self.pcm.drain(..BLOCK)) {
            *out = sample;
        }
    }

    /// Plays the next two blocks in the time of one, if now is a good moment. True if it did.
    fn shorten(&mut self, now: i64, excess: i64, out: &mut Block) -> bool {
        let there = self.pcm.len() >= 2 * BLOCK || self.jitter.holds(2 * BLOCK - self.pcm.len());
        if !there {
            return false;
        }
        self.fill(now, 2 * BLOCK);
        if self.pcm.len() < 2 * BLOCK {
            return false;
        }
        let quiet = level::rms(self.head(2 * BLOCK)) < QUIET.max(self.loudness * QUIET_SHARE);
        let pace = PACE.iter().find(|(above, _)| excess > *above).map_or(u32::MAX, |(_, pace)| *pace);
        if !quiet && self.since_cut < pace {
            return false;
        }
        let two = self.head(2 * BLOCK);
        for (i, out) in out.iter_mut().enumerate() {
            let new = (i as f32 / FADE as f32).min(1.0);
            *out = two[i] * (1.0 - new) + two[i + BLOCK] * new;
        }
        self.pcm.drain(..2 * BLOCK);
        self.shortened += BLOCK as u64;
        self.since_cut = 0;
        true
    }

    /// Plays the next block without using it up, if it is quiet. True if it did.
    fn lengthen(&mut self, out: &mut Block) -> bool {
        if self.pcm.len() < BLOCK {
            return false;
        }
        let block = self.head(BLOCK);
        if level::rms(block) > QUIET {
            return false;
        }
        out.copy_from_slice(block);
        self.lengthened += BLOCK as u64;
        // The same block follows once more.
        let (first, last) = (self.pcm[0], out[BLOCK - 1]);
        for (i, sample) in self.pcm.iter_mut().take(DECLICK).enumerate() {
            *sample += (last - first) * (1.0 - i as f32 / DECLICK as f32);
        }
        true
    }

    fn head(&mut self, n: usize) -> &[f32] {
        &self.pcm.make_contiguous()[..n]
    }

    /// Smooths the step from sound to silence.
    fn fade_out(&self, out: &mut Block) {
        for (i, sample) in out.iter_mut().take(DECLICK).enumerate() {
            *sample += self.last * (1.0 - i as f32 / DECLICK as f32);
        }
    }

    pub(crate) fn stats(&self, now: Instant) -> PeerStats {
        let c = self.jitter.counters();
        PeerStats {
            received: c.received,
            lost: c.lost,
            late: c.late,
            duplicates: c.duplicates,
            reordered: c.reordered,
            malformed: c.malformed,
            overflowed: c.overflowed,
            resets: c.resets,
            concealed_frames: self.concealed.div_ceil(self.frame as u64),
            fec_recovered: c.recovered,
            concealed: samples(self.concealed),
            played: samples(self.played),
            shortened: samples(self.shortened),
            lengthened: samples(self.lengthened),
            jitter_buffer: Duration::from_micros(u64::try_from(self.current_us).unwrap_or(0)),
            jitter_target: Duration::from_micros(
                u64::try_from(self.jitter.target(self.micros(now))).unwrap_or(0),
            ),
            level: self.level,
            speaking: self.detector.speaking(),
            gain: 1.0,
        }
    }

    fn micros(&self, at: Instant) -> i64 {
        match at.checked_duration_since(self.epoch) {
            Some(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX / 4),
            None => -i64::try_from((self.epoch - at).as_micros()).unwrap_or(i64::MAX / 4),
        }
    }
}

fn samples(n: u64) -> Duration {
    Duration::from_nanos(n.saturating_mul(62_500) / 3)
}
