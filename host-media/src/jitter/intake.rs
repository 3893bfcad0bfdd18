//! Packets on their way in: which stream they belong to, and where in it.

use std::ops::Range;

use super::{
    JitterBuffer,
    ring::Stored,
    sequence::{Extended, Known, Seen},
    to_us,
};
use crate::{
    codec::{
        packet::{self, Head},
        red,
    },
    format::{Packet, PayloadKind},
};

/// A sequence number this far ahead is a new stream rather than a loss (RFC 3550 appendix A.1, MAX_DROPOUT).
const MAX_DROPOUT: i64 = 3_000;
/// A sequence number this far back is a new stream rather than reordering (RFC 3550 appendix A.1, MAX_MISORDER).
const MAX_MISORDER: i64 = 100;
/// A timestamp that runs this much apart from the arrivals is a new stream: 2 s.
const MAX_SLIP_US: i64 = 2_000_000;

#[derive(Debug)]
pub(super) struct Clocks {
    sequence: Extended,
    timestamp: Extended,
    arrival: i64,
    first: i64,
    seen: Seen,
    /// Numbers of which a copy came.
    copied: Seen,
    /// Which number has which time.
    known: Known,
    /// Numbers of which some kind of redundancy came, in-band or a copy.
    covered: Seen,
}

impl JitterBuffer {
    /// Forgets the stream, but not what the path is like: the next packet begins another one.
    pub(crate) fn restart(&mut self) {
        self.packets.clear();
        self.position = None;
        self.clocks = None;
        self.suspect = None;
        self.losses.restart();
        self.ended = None;
        self.celt = false;
        self.delay.new_clock();
        self.counters.resets += 1;
    }

    /// Takes a packet that came at `arrival` (microseconds). True if a new stream began.
    pub(crate) fn insert(&mut self, packet: Packet, arrival: i64) -> bool {
        let Some((head, _)) = own(&packet) else {
            self.counters.malformed += 1;
            return false;
        };
        let Some(clocks) = &self.clocks else {
            self.begin(packet, arrival);
            return false;
        };
        let sequence = clocks.sequence.near16(packet.sequence);
        let timestamp = clocks.timestamp.near32(packet.timestamp);
        let ahead = sequence - clocks.sequence.last();
        let advance = timestamp - clocks.timestamp.last();
        let slip = to_us(advance) - (arrival - clocks.arrival);
        let near = (-MAX_MISORDER..=MAX_DROPOUT).contains(&ahead);
        let backwards = ahead > 0 && advance + head.samples as i64 <= 0;
        if !near || backwards || slip.abs() > MAX_SLIP_US {
            return self.suspect(packet, arrival);
        }
        self.suspect = None;
        self.store(packet, sequence, timestamp, arrival);
        false
    }

    fn begin(&mut self, packet: Packet, arrival: i64) {
        let (sequence, timestamp) = (i64::from(packet.sequence), i64::from(packet.timestamp));
        self.clocks = Some(Clocks {
            sequence: Extended::new(sequence),
            timestamp: Extended::new(timestamp),
            arrival,
            first: sequence,
            seen: Seen::default(),
            copied: Seen::default(),
            known: Known::default(),
            covered: Seen::default(),
        });
        self.store(packet, sequence, timestamp, arrival);
    }

    /// Two packets in a row that belong together but not to the stream are a new stream; one alone is a stray.
    fn suspect(&mut self, packet: Packet, arrival: i64) -> bool {
        let follows = |first: &Packet| {
            let step = packet.sequence.wrapping_sub(first.sequence);
            let time = packet.timestamp.wrapping_sub(first.timestamp);
            (1..=3).contains(&step) && (1..=3 * packet::MAX_SAMPLES as u32).contains(&time)
        };
        match self.suspect.take() {
            Some((first, at)) if follows(&first) => {
                self.restart();
                self.begin(first, at);
                self.insert(packet, arrival);
                true
            }
            stray => {
                if stray.is_some() {
                    self.counters.late += 1;
                }
                self.suspect = Some((packet, arrival));
                false
            }
        }
    }

    fn store(&mut self, mut packet: Packet, sequence: i64, timestamp: i64, arrival: i64) {
        let (Some(clocks), Some((head, range))) = (&mut self.clocks, own(&packet)) else { return };
        if !clocks.seen.note(sequence) {
            self.counters.duplicates += 1;
            return;
        }
        self.counters.received += 1;
        self.losses.came(sequence);
        clocks.known.note(sequence, timestamp, head.samples as i64);
        let behind = sequence < clocks.sequence.last();
        // What was sent again is waited for only where nothing else brings its sound, and not for long.
        let again = behind && self.delay.is_again(arrival, timestamp, head.samples);
        let counts = !again
            || !clocks.covered.has(sequence) && !self.delay.is_beyond(arrival, timestamp, head.samples);
        if behind {
            self.counters.reordered += 1;
        } else {
            clocks.sequence.move_to(sequence);
            clocks.timestamp.move_to(timestamp);
            clocks.arrival = arrival;
        }
        if head.redundancy {
            clocks.covered.note(sequence - 1);
        }
        if counts {
            let samples = head.samples as i64;
            if again {
                self.delay.observe_again(arrival, to_us(timestamp), samples);
            } else {
                self.delay.observe(arrival, to_us(timestamp), samples);
            }
        }
        self.frame = head.samples.max(120);
        // Moved where it can be: a first clone of these bytes would allocate.
        let payload = match packet.kind {
            PayloadKind::Red => packet.payload.slice(range),
            _ => std::mem::take(&mut packet.payload),
        };
        self.place(Stored { sequence, timestamp, head, payload, copy: false });
        self.copies(&packet, sequence, timestamp, arrival);
    }

    fn place(&mut self, stored: Stored) {
        if self.position.is_some_and(|position| stored.end() <= position.timestamp) {
            self.counters.late += u64::from(!stored.copy);
            return;
        }
        while let Some(old) = self.packets.crowded_out_by(stored.sequence) {
            self.losses.turn(old.sequence, old.copy);
            self.counters.overflowed += u64::from(!old.copy);
        }
        let copy = stored.copy;
        self.counters.overflowed += u64::from(!self.packets.insert(stored) && !copy);
    }

    /// Copies of earlier packets inside of this one take the places of those that did not come.
    fn copies(&mut self, packet: &Packet, sequence: i64, timestamp: i64, arrival: i64) {
        if packet.kind != PayloadKind::Red {
            return;
        }
        for block in red::blocks(&packet.payload).into_iter().flatten().filter(|block| block.ago > 0) {
            let payload = packet.payload.slice(block.range);
            let Some(head) = packet::head(&payload) else { continue };
            let (ago, length) = (i64::from(block.ago), head.samples as i64);
            let Some(clocks) = &mut self.clocks else { return };
            let Some(number) = clocks.known.number(sequence, timestamp - ago, length) else { continue };
            if number < clocks.first || clocks.seen.has(number) || !clocks.copied.note(number) {
                continue;
            }
            clocks.known.note(number, timestamp - ago, length);
            clocks.covered.note(number);
            if head.redundancy {
                clocks.covered.note(number - 1);
            }
            self.delay.repairs.note(arrival, to_us(ago), to_us(length));
            self.place(Stored { sequence: number, timestamp: timestamp - ago, head, payload, copy: true });
        }
    }
}

/// The packet's own frame, without copies of earlier ones, and where it stands; none if it is no Opus.
fn own(packet: &Packet) -> Option<(Head, Range<usize>)> {
    let range = match packet.kind {
        PayloadKind::Red => red::blocks(&packet.payload)?.find(|block| block.ago == 0)?.range,
        _ => 0..packet.payload.len(),
    };
    Some((packet::head(packet.payload.get(range.clone())?)?, range))
}
