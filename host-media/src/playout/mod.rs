//! One remote peer's sound: jitter buffer, decoder, and the fine work on the delay.
//!
//! What is lost is repaired in this order: a copy in another packet (RFC 2198; the jitter buffer puts it in the place of
//! the packet that it is of), the copy inside of the next packet (in-band FEC), deep redundancy, concealment.

mod line;
#[cfg(test)]
mod pause_tests;
#[cfg(test)]
mod repair_tests;
mod stretch;
mod tally;
#[cfg(test)]
mod tests;
mod warp;

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use self::{line::Line, tally::Tally, warp::Warp};
use crate::{
    BLOCK, Block,
    codec::{
        Decoder,
        packet::{self, MAX_SAMPLES},
    },
    error::Error,
    format::Packet,
    jitter::{Advice, Deep, JitterBuffer, JitterConfig, Next},
    level::{self, SpeechDetector},
    stats::PeerStats,
};

/// Opus makes sound up in multiples of 2.5 ms.
const GRAIN: usize = 120;

/// Pulls 10 ms at a time out of the packets of one peer.
#[derive(Debug)]
pub(crate) struct Playout {
    epoch: Instant,
    jitter: JitterBuffer,
    decoder: Decoder,
    line: Line,
    warp: Warp,
    scratch: Vec<f32>,
    /// The packet whose deep redundancy was read last, and what that is of, in samples before it.
    deep: Option<(i64, Range<usize>)>,
    tally: Tally,
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
            line: Line::new(),
            warp: Warp::new(),
            scratch: vec![0.0; MAX_SAMPLES],
            deep: None,
            tally: Tally::default(),
            current_us: 0,
            level: level::SILENCE,
            detector: SpeechDetector::new(),
            heard: false,
        })
    }

    /// The same with a decoder of another effort, 0 to 10.
    pub(crate) fn decoder_complexity(mut self, complexity: u8) -> Result<Self, Error> {
        self.decoder = Decoder::with_complexity(complexity)?;
        Ok(self)
    }

    /// Takes a packet; `arrival` is when it came from the network.
    pub(crate) fn insert(&mut self, packet: Packet, arrival: Instant) {
        if self.jitter.insert(packet, self.micros(arrival)) {
            self.forget();
        }
    }

    /// How long it takes to the sender and back, in microseconds; 0 if nobody knows.
    pub(crate) fn set_round_trip(&mut self, micros: u32) {
        self.jitter.set_round_trip(micros.into());
    }

    /// The packets from now on are another stream.
    pub(crate) fn restart(&mut self) {
        self.jitter.restart();
        self.forget();
    }

    fn forget(&mut self) {
        self.line.clear();
        self.deep = None;
        // A failure would show at the next packet, which is then counted and concealed.
        if let Err(e) = self.decoder.reset() {
            tracing::warn!(error = %e, "the decoder keeps its old state");
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
            // The last packet's rest may still be to be played.
            pulled.active = !self.line.is_empty();
            self.tally.played += self.line.len().min(BLOCK) as u64;
            self.line.take(out);
            self.count_frames();
            return self.finish(out, pulled);
        }
        if self.jitter.enforce(now, self.line.len()) {
            self.tally.discarded += self.line.len() as u64;
            self.line.clear();
        }
        // While nothing is there, how much delay that will have been is known when it comes.
        if self.jitter.settled() {
            self.current_us = self.jitter.current(now, self.line.len()).unwrap_or(0);
        }
        let heard = self.heard;
        self.fill(now, BLOCK);
        self.adjust(now);
        self.take(out);
        self.tally.played += BLOCK as u64;
        self.count_frames();
        pulled.active = true;
        pulled.first = self.heard && !heard;
        self.finish(out, pulled)
    }

    fn count_frames(&mut self) {
        let concealed = self.concealed();
        self.tally.count_frames(concealed, self.jitter.frame() as u64);
    }

    /// Samples that were made up because of losses.
    fn concealed(&self) -> u64 {
        let c = self.jitter.counters();
        c.made_late + self.jitter.waited() + c.made_lost + self.tally.undecodable
    }

    fn finish(&mut self, out: &Block, mut pulled: Pulled) -> Pulled {
        let rms = level::rms(out);
        self.level = level::dbov(rms);
        self.warp.heard(rms);
        pulled.speaking = self.detector.feed(out);
        pulled
    }

    /// Decodes until `samples` are there or nothing more comes.
    fn fill(&mut self, now: i64, samples: usize) {
        while self.line.len() < samples {
            match self.jitter.next(now, self.line.len()) {
                Next::Packet { payload, skip, gap } => {
                    if let Some(gap) = gap {
                        let reach = gap.deep.as_ref().map_or(0..0, |deep| self.reach(deep));
                        self.jitter.learn(now, &gap, reach);
                    }
                    self.decode(&payload, skip);
                }
                Next::Recover { payload, samples, skip } => {
                    let room = samples.min(MAX_SAMPLES);
                    match self.decoder.recover(&payload, &mut self.scratch[..room]) {
                        Ok(n) => {
                            self.tally.fec += n.saturating_sub(skip) as u64;
                            self.tally.fec_frames += 1;
                            self.append(skip, n);
                        }
                        Err(e) => {
                            tracing::debug!(error = %e, "redundancy cannot be decoded");
                            self.tally.undecodable += samples.saturating_sub(skip) as u64;
                            self.conceal(samples.saturating_sub(skip), false);
                        }
                    }
                }
                Next::Lost { samples, deep } => {
                    if !deep.is_some_and(|deep| self.rebuild(samples, &deep)) {
                        self.conceal(samples, false);
                    }
                }
                Next::Pause { samples } => self.conceal(samples, true),
                Next::Empty => return,
            }
        }
    }

    fn decode(&mut self, payload: &[u8], skip: usize) {
        match self.decoder.decode(payload, &mut self.scratch) {
            Ok(n) => {
                self.heard = true;
                self.append(skip, n);
            }
            Err(e) => {
                tracing::debug!(error = %e, bytes = payload.len(), "a packet cannot be decoded");
                self.jitter.undecodable();
                let n = packet::head(payload).map_or(960, |h| h.samples).saturating_sub(skip);
                self.tally.undecodable += n as u64;
                self.conceal(n, false);
            }
        }
    }

    /// Of what the deep redundancy of this packet is, in samples before it; it is ready to be decoded then.
    fn reach(&mut self, deep: &Deep) -> Range<usize> {
        if let Some((read, reach)) = &self.deep
            && *read == deep.sequence
        {
            return reach.clone();
        }
        let reach = self.decoder.read_dred(&deep.payload).unwrap_or_else(|e| {
            tracing::debug!(error = %e, "deep redundancy cannot be read");
            0..0
        });
        self.deep = Some((deep.sequence, reach.clone()));
        reach
    }

    /// Rebuilds what is lost from deep redundancy; false if there is none for it.
    fn rebuild(&mut self, samples: usize, deep: &Deep) -> bool {
        let n = samples.div_ceil(GRAIN) * GRAIN;
        let reach = self.reach(deep);
        // Where there is silence in front of the packet the redundancy may end before it.
        let held = deep.ago.saturating_sub(reach.start).min(samples);
        if n > MAX_SAMPLES || reach.end < deep.ago || held == 0 {
            return false;
        }
        match self.decoder.dred(deep.ago, &mut self.scratch[..n]) {
            Ok(n) => {
                self.jitter.rebuilt(held);
                self.tally.rebuilt(held as u64, self.jitter.frame() as u64);
                self.append(0, n);
                true
            }
            Err(e) => {
                tracing::debug!(error = %e, "deep redundancy cannot be decoded");
                false
            }
        }
    }

    /// Appends what was decoded, without the first `skip` samples.
    fn append(&mut self, skip: usize, n: usize) {
        if skip > 0 {
            self.line.jump();
        }
        let missing = self.line.append(&self.scratch[skip.min(n)..n]);
        self.tally.discarded += missing as u64;
    }

    /// Makes up at least `samples` and appends them: for something that is missing, or in a pause.
    fn conceal(&mut self, samples: usize, pause: bool) {
        // Odd lengths come from odd timestamps only.
        let mut left = samples.div_ceil(GRAIN) * GRAIN;
        while left > 0 {
            let n = left.min(960);
            let out = &mut self.scratch[..n];
            if let Err(e) = if pause { self.decoder.comfort(out) } else { self.decoder.conceal(out) } {
                tracing::debug!(error = %e, "the decoder cannot conceal");
                self.scratch[..n].fill(0.0);
                self.line.jump();
            }
            self.append(0, n);
            left -= n;
        }
    }

    /// Makes what waits shorter or longer if the delay is not right.
    fn adjust(&mut self, now: i64) {
        match self.jitter.advice(now, self.line.len()) {
            Advice::Keep => self.warp.tick(0),
            Advice::Shorten(by) => {
                self.warp.tick(by);
                // What lies ahead is looked at only if it is there in one piece.
                let wanted = BLOCK + Warp::AHEAD;
                if self.line.len() < wanted && self.jitter.holds(wanted - self.line.len()) {
                    self.fill(now, wanted);
                }
                self.warp.shorten(&mut self.line, by);
            }
            Advice::Lengthen(by) => {
                self.warp.tick(by);
                self.warp.lengthen(&mut self.line, by);
            }
        }
    }

    /// Plays the next block, made up if it is not there.
    fn take(&mut self, out: &mut Block) {
        if self.line.len() < BLOCK {
            let missing = (BLOCK - self.line.len()).div_ceil(GRAIN) * GRAIN;
            self.conceal(missing, self.jitter.pausing());
            if !self.jitter.wait(missing) {
                // Nothing came for as long as delay may ever be: fade to silence and wait for a new start.
                let waiting = self.line.waiting();
                let n = waiting.len().max(1) as f32;
                for (i, sample) in waiting.iter_mut().enumerate() {
                    *sample *= 1.0 - i as f32 / n;
                }
            }
        }
        self.line.take(out);
    }

    pub(crate) fn stats(&self) -> PeerStats {
        let c = self.jitter.counters();
        let made_late = c.made_late + self.jitter.waited();
        let concealed = self.concealed();
        let micros = |us: i64| Duration::from_micros(u64::try_from(us).unwrap_or(0));
        PeerStats {
            received: c.received,
            lost: c.lost,
            late: c.late,
            duplicates: c.duplicates,
            reordered: c.reordered,
            malformed: c.malformed,
            overflowed: c.overflowed,
            resets: c.resets,
            concealed_frames: self.tally.concealed_frames.count(),
            fec_recovered: self.tally.fec_frames,
            red_recovered: c.red,
            dred_recovered: self.tally.deep_frames.count(),
            concealed: samples(concealed),
            concealed_late: samples(made_late),
            comfort_noise: samples(c.made_pause),
            recovered: samples(self.tally.fec + self.tally.deep + c.red_samples),
            played: samples(self.tally.played),
            shortened: samples(self.warp.shortened),
            lengthened: samples(self.warp.lengthened),
            stretches: self.warp.jumps,
            discarded: samples(self.tally.discarded),
            jitter_buffer: micros(self.current_us),
            jitter_target: micros(self.jitter.target()),
            repair_delay: micros(self.jitter.repair()),
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
