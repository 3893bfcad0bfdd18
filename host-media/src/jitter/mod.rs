//! The jitter buffer: puts packets in order, decides what is played next and how much delay there should be.
//!
//! It is pure. It neither decodes nor reads a clock: times come in, and what comes out is what to decode, to recover
//! or to conceal. Delay grows only by waiting for a late packet, and shrinks by leaving sound out; the decoder's side
//! ([`crate::peer`]) does the latter, as advised by [`JitterBuffer::advice`].

mod delay;
mod sequence;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use crate::{
    BLOCK,
    codec::packet::{self, Head},
    format::Packet,
    jitter::{
        delay::{DelayTracker, micros},
        sequence::{Extended, Seen},
    },
};

/// Bounds for the delay of a jitter buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JitterConfig {
    /// Delay to aim for during the first half second, while nothing is known about the path. Default 40 ms: two frames.
    pub start: Duration,
    /// The least delay to aim for. Default 10 ms, one tick: on a clean path a packet that is one tick early is in time.
    pub min: Duration,
    /// The most delay that is ever held. Default 400 ms: ITU-T G.114 calls longer one-way delay unacceptable.
    pub max: Duration,
}

impl JitterConfig {
    /// Sets the delay to start with.
    #[must_use]
    pub fn start(mut self, delay: Duration) -> Self {
        self.start = delay;
        self
    }

    /// Sets the least delay.
    #[must_use]
    pub fn min(mut self, delay: Duration) -> Self {
        self.min = delay;
        self
    }

    /// Sets the most delay.
    #[must_use]
    pub fn max(mut self, delay: Duration) -> Self {
        self.max = delay;
        self
    }

    /// The same with bounds that make sense together: 10 ms <= min <= start <= max <= 2 s.
    fn sane(self) -> Self {
        let min = self.min.clamp(Duration::from_millis(10), Duration::from_secs(2));
        let max = self.max.clamp(min, Duration::from_secs(2));
        Self { min, max, start: self.start.clamp(min, max) }
    }
}

impl Default for JitterConfig {
    fn default() -> Self {
        Self {
            start: Duration::from_millis(40),
            min: Duration::from_millis(10),
            max: Duration::from_millis(400),
        }
    }
}

/// More packets than 2 s of 10 ms frames make; beyond that the oldest is left out.
const MAX_PACKETS: usize = 256;
/// A sequence number this far ahead is a new stream rather than a loss (RFC 3550 appendix A.1, MAX_DROPOUT).
const MAX_DROPOUT: i64 = 3_000;
/// A sequence number this far back is a new stream rather than reordering (RFC 3550 appendix A.1, MAX_MISORDER).
const MAX_MISORDER: i64 = 100;
/// A timestamp that runs this much apart from the arrivals is a new stream: 2 s.
const MAX_SLIP_US: i64 = 2_000_000;
/// Beyond [`JitterConfig::max`] the delay may go by this much before sound is cut away at once.
const SLACK_US: i64 = 20_000;
/// A delay above target plus a tick plus this is worth a cut.
const HYSTERESIS_US: i64 = 2_000;

/// What happened, for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
    pub(crate) reordered: u64,
    pub(crate) malformed: u64,
    pub(crate) overflowed: u64,
    pub(crate) resets: u64,
    pub(crate) recovered: u64,
}

/// What is to be played next. All lengths are samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Decode this packet and leave out the first `skip` samples: their time has passed.
    Packet { payload: Bytes, skip: usize },
    /// Recover `samples` from the redundancy in this packet, which stays, and leave out the first `skip`.
    Recover { payload: Bytes, samples: usize, skip: usize },
    /// This much is lost: conceal it.
    Lost { samples: usize },
    /// The sender sent nothing for this much time, on purpose.
    Pause { samples: usize },
    /// Nothing is there (yet).
    Empty,
}

/// What to do about the delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// It is right.
    Keep,
    /// There is this much too much of it, in microseconds.
    Shorten(i64),
    /// There is too little: add a tick where nobody hears it.
    Lengthen,
}

#[derive(Debug)]
struct Stored {
    timestamp: i64,
    head: Head,
    payload: Bytes,
    relative: i64,
}

impl Stored {
    fn end(&self) -> i64 {
        self.timestamp + self.head.samples as i64
    }
}

/// Where playout stands.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// Timestamp of the next sample to decode.
    timestamp: i64,
    /// Sequence number of the next packet.
    sequence: i64,
    /// Samples that were made up at this position while waiting.
    waited: i64,
    /// Sequence numbers from `began` up to here were counted as lost if they had not come.
    counted: i64,
    began: i64,
}

impl Position {
    fn at(timestamp: i64, sequence: i64) -> Self {
        Self { timestamp, sequence, waited: 0, counted: sequence, began: sequence }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct JitterBuffer {
    config: JitterConfig,
    packets: BTreeMap<i64, Stored>,
    clocks: Option<Clocks>,
    position: Option<Position>,
    delay: DelayTracker,
    counters: Counters,
    /// A packet that does not fit the stream; if its successor comes too, they are a new stream.
    suspect: Option<(Packet, i64)>,
    /// Samples that were made up while waiting for what turned out to be a pause of the sender.
    excused: i64,
}

#[derive(Debug)]
struct Clocks {
    sequence: Extended,
    timestamp: Extended,
    arrival: i64,
    seen: Seen,
}

impl JitterBuffer {
    pub(crate) fn new(config: JitterConfig) -> Self {
        let config = config.sane();
        Self {
            config,
            packets: BTreeMap::new(),
            clocks: None,
            position: None,
            delay: DelayTracker::new(config),
            counters: Counters::default(),
            suspect: None,
            excused: 0,
        }
    }

    /// Samples that were made up while waiting but need not count as concealed: the sender meant to be silent. Tells
    /// each sample once.
    pub(crate) fn excused(&mut self) -> usize {
        usize::try_from(std::mem::take(&mut self.excused)).unwrap_or(0)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// The delay that is aimed for, in microseconds.
    pub(crate) fn target(&self, now: i64) -> i64 {
        self.delay.target(now)
    }

    /// Counts a packet that turned out not to be decodable.
    pub(crate) fn undecodable(&mut self) {
        self.counters.malformed += 1;
    }

    /// Counts packets that were lost before they came here.
    pub(crate) fn overflowed(&mut self, packets: u64) {
        self.counters.overflowed += packets;
    }

    /// Takes a packet that came at `arrival` (microseconds). True if a new stream began.
    pub(crate) fn insert(&mut self, packet: Packet, arrival: i64) -> bool {
        let Some(head) = packet::head(&packet.payload) else {
            self.counters.malformed += 1;
            return false;
        };
        let Some(clocks) = &self.clocks else {
            self.begin(packet, head, arrival);
            return false;
        };
        let sequence = clocks.sequence.near16(packet.sequence);
        let timestamp = clocks.timestamp.near32(packet.timestamp);
        let ahead = sequence - clocks.sequence.last();
        let slip = to_us(timestamp - clocks.timestamp.last()) - (arrival - clocks.arrival);
        let near = (-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead);
        if !near || slip.abs() > MAX_SLIP_US {
            return self.suspect(packet, head, arrival);
        }
        self.suspect = None;
        self.store(packet.payload, head, sequence, timestamp, arrival);
        false
    }

    fn begin(&mut self, packet: Packet, head: Head, arrival: i64) {
        let (sequence, timestamp) = (i64::from(packet.sequence), i64::from(packet.timestamp));
        self.clocks = Some(Clocks {
            sequence: Extended::new(sequence),
            timestamp: Extended::new(timestamp),
            arrival,
            seen: Seen::default(),
        });
        self.store(packet.payload, head, sequence, timestamp, arrival);
    }

    /// Two packets in a row that belong together but not to the stream are a new stream; one alone is a stray.
    fn suspect(&mut self, packet: Packet, head: Head, arrival: i64) -> bool {
        let follows = |first: &Packet| {
            let step = packet.sequence.wrapping_sub(first.sequence);
            let time = packet.timestamp.wrapping_sub(first.timestamp);
            (1..=3).contains(&step) && (1..=3 * packet::MAX_SAMPLES as u32).contains(&time)
        };
        match self.suspect.take() {
            Some((first, at)) if follows(&first) => {
                self.packets.clear();
                self.position = None;
                self.clocks = None;
                self.delay.new_clock();
                self.counters.resets += 1;
                if let Some(head) = packet::head(&first.payload) {
                    self.begin(first, head, at);
                }
                self.insert(packet, arrival);
                true
            }
            stray => {
                if stray.is_some() {
                    self.counters.late += 1;
                }
                let _ = head;
                self.suspect = Some((packet, arrival));
                false
            }
        }
    }

    fn store(&mut self, payload: Bytes, head: Head, sequence: i64, timestamp: i64, arrival: i64) {
        let Some(clocks) = &mut self.clocks else { return };
        if !clocks.seen.note(sequence) {
            self.counters.duplicates += 1;
            return;
        }
        self.counters.received += 1;
        if sequence < clocks.sequence.last() {
            self.counters.reordered += 1;
        } else {
            clocks.sequence.move_to(sequence);
            clocks.timestamp.move_to(timestamp);
            clocks.arrival = arrival;
        }
        let relative = self.delay.observe(arrival, to_us(timestamp), head.samples as i64);
        let stored = Stored { timestamp, head, payload, relative };
        if let Some(position) = &self.position {
            if (position.began..position.counted).contains(&sequence) {
                // It was given up before it came.
                self.counters.lost = self.counters.lost.saturating_sub(1);
            }
            if stored.end() <= position.timestamp {
                self.counters.late += 1;
                return;
            }
        }
        self.packets.insert(sequence, stored);
        if self.packets.len() > MAX_PACKETS {
            self.packets.pop_first();
            self.counters.overflowed += 1;
        }
    }

    pub(crate) fn playing(&self) -> bool {
        self.position.is_some()
    }

    /// Begins to play if enough is there; false as long as there is not.
    pub(crate) fn start(&mut self, now: i64) -> bool {
        // Whatever is older than the bound has had its time.
        while let Some((&sequence, first)) = self.packets.first_key_value() {
            let timestamp = first.timestamp;
            let delay = now - to_us(timestamp) - self.delay.base();
            if delay > micros(self.config.max) && self.packets.len() > 1 {
                self.packets.pop_first();
                self.counters.late += 1;
                continue;
            }
            if delay < self.delay.target(now) {
                return false;
            }
            self.position = Some(Position::at(timestamp, sequence));
            return true;
        }
        false
    }

    /// The delay of the sample that is played at `now`, if `decoded` samples before the position wait to be played.
    pub(crate) fn current(&self, now: i64, decoded: usize) -> Option<i64> {
        let position = self.position?;
        Some(now - to_us(position.timestamp - decoded as i64) - self.delay.base())
    }

    /// What to do about the delay at `now`.
    pub(crate) fn advice(&self, now: i64, decoded: usize) -> Advice {
        let Some(current) = self.current(now, decoded) else { return Advice::Keep };
        let target = self.delay.target(now);
        let excess = current - target - to_us(BLOCK as i64);
        if excess > HYSTERESIS_US {
            Advice::Shorten(excess)
        } else if current < target {
            Advice::Lengthen
        } else {
            Advice::Keep
        }
    }

    /// Whether at least `samples` of sound wait in packets that follow each other without a gap.
    pub(crate) fn holds(&self, samples: usize) -> bool {
        let Some(position) = self.position else { return false };
        let mut at = position.timestamp;
        for stored in self.packets.values() {
            if stored.timestamp > at {
                return false;
            }
            at = at.max(stored.end());
            if at - position.timestamp >= samples as i64 {
                return true;
            }
        }
        false
    }

    /// Cuts away at once what is over the bound; true if something was.
    pub(crate) fn enforce(&mut self, now: i64, decoded: usize) -> bool {
        let max = micros(self.config.max);
        match self.current(now, decoded) {
            Some(current) if current > max + SLACK_US => {}
            _ => return false,
        }
        // The packets that would be later than the target go; what is left starts there.
        let base = self.delay.base();
        let target = self.delay.target(now);
        let began = self.position.map_or(0, |p| p.sequence);
        while let Some((&sequence, first)) = self.packets.first_key_value() {
            if now - to_us(first.timestamp) - base <= target.max(max / 2) {
                self.position = Some(Position { began, ..Position::at(first.timestamp, sequence) });
                return true;
            }
            self.packets.pop_first();
            self.counters.late += 1;
        }
        self.position = None;
        true
    }

    /// What comes next.
    pub(crate) fn next(&mut self, now: i64) -> Next {
        loop {
            let Some(position) = &mut self.position else { return Next::Empty };
            let Some(entry) = self.packets.first_entry() else { return Next::Empty };
            let (sequence, first) = (*entry.key(), entry.get());
            if first.end() <= position.timestamp {
                entry.remove();
                self.counters.late += 1;
                continue;
            }
            let gap = first.timestamp - position.timestamp;
            let missing = sequence - position.sequence;
            if gap > 0 {
                let in_loss = missing > 0;
                let new = sequence - position.counted.max(position.sequence);
                if in_loss && new > 0 {
                    position.counted = sequence;
                    self.counters.lost += new as u64;
                    for _ in 0..new.min(100) {
                        self.delay.outcome(true);
                    }
                }
                // What was made up while waiting has filled a part of the gap, or all of it.
                let filled = position.waited.min(gap);
                position.waited -= filled;
                position.timestamp += filled;
                if !in_loss {
                    self.excused += filled;
                }
                let gap = gap - filled;
                if gap == 0 {
                    position.sequence = sequence;
                    continue;
                }
                let frame = first.head.frame as i64;
                if in_loss && first.head.redundancy && gap <= frame {
                    let payload = first.payload.clone();
                    position.timestamp = first.timestamp;
                    position.sequence = sequence;
                    position.waited = 0;
                    self.counters.recovered += 1;
                    return Next::Recover { payload, samples: frame as usize, skip: (frame - gap) as usize };
                }
                let keep = if in_loss && first.head.redundancy { frame } else { 0 };
                let samples = (gap - keep).min(BLOCK as i64);
                position.timestamp += samples;
                let samples = samples as usize;
                return if in_loss { Next::Lost { samples } } else { Next::Pause { samples } };
            }
            if position.waited > 0 {
                self.delay.waited_for(now, first.relative);
            }
            self.delay.outcome(false);
            let skip = (-gap) as usize;
            let stored = entry.remove();
            position.timestamp = stored.end();
            position.sequence = (sequence + 1).max(position.sequence);
            position.counted = position.counted.max(position.sequence);
            position.waited = 0;
            return Next::Packet { payload: stored.payload, skip };
        }
    }

    /// Notes that `samples` had to be made up because nothing was there. False if that has gone on for longer than
    /// the bound: playing has ended then.
    pub(crate) fn wait(&mut self, samples: usize) -> bool {
        let Some(position) = &mut self.position else { return false };
        position.waited += samples as i64;
        if to_us(position.waited) > micros(self.config.max) {
            self.position = None;
        }
        self.position.is_some()
    }
}

/// Samples at 48 kHz as microseconds.
fn to_us(samples: i64) -> i64 {
    samples.saturating_mul(125) / 6
}
