//! The jitter buffer: puts packets in order, decides what is played next and how much delay there should be.
//!
//! It is pure. It neither decodes nor reads a clock: times come in, and what comes out is what to decode, to recover
//! or to conceal. Delay grows by waiting for a late packet, and otherwise grows and shrinks as [`JitterBuffer::advice`]
//! says and the decoder's side ([`crate::playout`]) finds a good moment to carry out; in pauses that the sender makes it
//! is put right here, at no cost.
//!
//! Sound is played in blocks of one tick, so a packet is needed at the tick in whose block it begins. What counts is
//! therefore the *reserve*: how late the next packet may be and still be there at that tick. The delay is the reserve
//! and the part of the block before the packet, which serves nothing and is given back where that is not heard.

mod config;
mod delay;
mod intake;
mod losses;
mod repair;
mod ring;
mod sequence;
mod types;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use self::config::JitterConfig;
pub(crate) use self::types::{Advice, Counters, Deep, Gap, Next};
use self::{
    delay::{DelayTracker, micros},
    intake::Clocks,
    losses::Losses,
    ring::Ring,
    types::Position,
};
use crate::{BLOCK, codec::packet, format::Packet};

/// Beyond [`JitterConfig::max`] the delay may go by this much before sound is cut away at once.
const SLACK_US: i64 = 20_000;
/// The reserve is made longer when it is this much too short, ...
const TOO_SHORT_US: i64 = 1_500;
/// ... and shorter when so much more than the target is left. Together 2 ms, so that it does not go to and fro.
const LEFT_US: i64 = 500;
/// In a pause that the sender announced (DTX) comfort noise is made for this long before playing ends. libopus sends
/// one packet in 400 ms then; so some of them may be lost.
const LONGEST_PAUSE_US: i64 = 2_000_000;
/// A packet after so much of a pause is most likely its noise, and the pause goes on: what libopus leaves out is 360 to
/// 400 ms, by the length of its frames.
const REFRESH_US: i64 = 350_000;
const BLOCK_US: i64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct JitterBuffer {
    config: JitterConfig,
    packets: Ring,
    clocks: Option<Clocks>,
    position: Option<Position>,
    delay: DelayTracker,
    counters: Counters,
    losses: Losses,
    /// Where playing ended because nothing came, and what was made up there: it may have been a pause.
    ended: Option<Position>,
    /// A packet that does not fit the stream; if its successor comes too, they are a new stream.
    suspect: Option<(Packet, i64)>,
    /// Length of the last packet, in samples.
    frame: usize,
    /// The packet that was handed out last is music (CELT): in-band copies cannot be decoded after it.
    celt: bool,
}

impl JitterBuffer {
    pub(crate) fn new(config: JitterConfig) -> Self {
        let config = config.sane();
        Self {
            config,
            packets: Ring::new(),
            clocks: None,
            position: None,
            delay: DelayTracker::new(config),
            counters: Counters::default(),
            losses: Losses::default(),
            ended: None,
            suspect: None,
            frame: 960,
            celt: false,
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters { lost: self.losses.lost(), ..self.counters }
    }

    /// Samples that were made up while waiting and nobody knows yet why.
    pub(crate) fn waited(&self) -> u64 {
        let pending = self.position.filter(|p| !p.pausing).map_or(0, |p| p.waited);
        u64::try_from(pending).unwrap_or(0)
    }

    /// How long it takes to the sender and back, in microseconds; 0 if nobody knows.
    pub(crate) fn set_round_trip(&mut self, micros: i64) {
        self.delay.round_trip = micros;
    }

    /// The delay that is aimed for, in microseconds.
    pub(crate) fn target(&self) -> i64 {
        self.delay.target()
    }

    /// The part of the target that waits for redundancy, in microseconds.
    pub(crate) fn repair(&self) -> i64 {
        self.delay.repairs.level()
    }

    /// Length of the packets, in samples.
    pub(crate) fn frame(&self) -> usize {
        self.frame
    }

    /// Counts a packet that turned out not to be decodable.
    pub(crate) fn undecodable(&mut self) {
        self.counters.malformed += 1;
    }

    /// Counts packets that were lost before they came here.
    pub(crate) fn overflowed(&mut self, packets: u64) {
        self.counters.overflowed += packets;
    }

    /// What was told to be lost was not concealed, but rebuilt.
    pub(crate) fn rebuilt(&mut self, samples: usize) {
        self.counters.made_lost = self.counters.made_lost.saturating_sub(samples as u64);
    }

    /// Learns from a loss that is over, and what the deep redundancy after it is of, in samples before its packet.
    pub(crate) fn learn(&mut self, now: i64, gap: &Gap, reach: Range<usize>) {
        // Behind copies the packet with deep redundancy comes later than the end of the loss.
        let behind = gap.deep.as_ref().map_or(0, |deep| deep.ago.saturating_sub(gap.samples));
        let deep = reach.end.min(behind + gap.samples).saturating_sub(reach.start.max(behind));
        let repairable = gap.samples.min(gap.fec.max(deep));
        self.delay.repairs.note(now, to_us((repairable + behind) as i64), to_us(repairable as i64));
    }

    pub(crate) fn playing(&self) -> bool {
        self.position.is_some()
    }

    /// Begins to play if enough is there; false as long as there is not.
    pub(crate) fn start(&mut self, now: i64) -> bool {
        // Whatever is older than the bound has had its time.
        while let Some(first) = self.packets.first() {
            let (timestamp, sequence, copy) = (first.timestamp, first.sequence, first.copy);
            let delay = now - to_us(timestamp) - self.delay.base();
            if delay > micros(self.config.max) && self.packets.iter().nth(1).is_some() {
                self.drop_first();
                continue;
            }
            if delay < self.delay.target() {
                return false;
            }
            let position = Position::at(timestamp, sequence);
            self.losses.turn(sequence, copy);
            self.position = Some(position);
            self.after_an_end(position);
            return true;
        }
        false
    }

    /// Playing has ended for want of packets and begins anew. If fewer are missing than there was time, the sender had
    /// made a pause.
    fn after_an_end(&mut self, position: Position) {
        let Some(ended) = self.ended.take() else { return };
        let missing = (position.sequence - ended.sequence).max(0);
        let pause = position.timestamp - ended.timestamp - missing * ended.frame;
        let made_up = if ended.pausing { 0 } else { ended.waited };
        let noise = u64::try_from(pause.min(made_up)).unwrap_or(0).min(self.counters.made_late);
        self.counters.made_late -= noise;
        self.counters.made_pause += noise;
    }

    fn drop_first(&mut self) {
        let Some(dropped) = self.packets.pop() else { return };
        self.losses.turn(dropped.sequence, dropped.copy);
        self.counters.late += u64::from(!dropped.copy);
    }

    /// The delay of the sample that is played at `now`, if `decoded` samples before the position wait to be played.
    pub(crate) fn current(&self, now: i64, decoded: usize) -> Option<i64> {
        let position = self.position?;
        Some(now - to_us(position.timestamp - decoded as i64) - self.delay.base())
    }

    /// Whether the sender pauses, as far as is known.
    pub(crate) fn pausing(&self) -> bool {
        self.position.is_some_and(|p| p.pausing)
    }

    /// Whether playing does not wait for anything just now.
    pub(crate) fn settled(&self) -> bool {
        self.position.is_none_or(|p| p.waited == 0)
    }

    /// What to do about the delay at `now`.
    pub(crate) fn advice(&self, now: i64, decoded: usize) -> Advice {
        let Some(current) = self.current(now, decoded) else { return Advice::Keep };
        // Where the next packet begins within its block; of short frames the last one that begins in a block.
        let (offset, waste) = match self.frame {
            frame if frame < BLOCK => {
                let waste = decoded % frame;
                (waste + (BLOCK - 1 - waste) / frame * frame, waste)
            }
            _ => (decoded % BLOCK, decoded % BLOCK),
        };
        let (reserve, waste) = (current - to_us(offset as i64), to_us(waste as i64));
        let target = self.delay.target();
        if reserve < target - TOO_SHORT_US {
            let blocks = (target - reserve + BLOCK_US - 1) / BLOCK_US;
            return Advice::Lengthen(blocks * BLOCK_US - waste);
        }
        let blocks = (reserve - LEFT_US - target.max(self.delay.recent())) / BLOCK_US;
        match waste + blocks.max(0) * BLOCK_US {
            excess if excess >= 1_000 => Advice::Shorten(excess),
            _ => Advice::Keep,
        }
    }

    /// Whether at least `samples` of sound wait in packets that follow each other without a gap.
    pub(crate) fn holds(&self, samples: usize) -> bool {
        let Some(position) = self.position else { return false };
        let mut at = position.timestamp;
        for stored in self.packets.iter() {
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
        let target = self.delay.target();
        self.settle();
        while let Some(first) = self.packets.first() {
            if now - to_us(first.timestamp) - base <= target.max(max / 2) {
                self.position = Some(Position::at(first.timestamp, first.sequence));
                return true;
            }
            self.drop_first();
        }
        self.position = None;
        true
    }

    /// What comes next, if `decoded` samples wait to be played before it.
    pub(crate) fn next(&mut self, now: i64, decoded: usize) -> Next {
        loop {
            let Some(position) = &mut self.position else { return Next::Empty };
            let Some(first) = self.packets.first() else { return Next::Empty };
            let sequence = first.sequence;
            if first.end() <= position.timestamp {
                self.drop_first();
                continue;
            }
            // A copy is played in place of a packet that is lost.
            self.losses.turn(sequence, first.copy);
            let missing = (sequence - position.sequence).max(0);
            let gap = first.timestamp - position.timestamp;
            if gap <= 0 {
                return self.packet(gap);
            }
            // No more is lost than the missing packets can have held: the rest is a pause, also if it was the
            // announcement of it that was lost.
            let length = first.head.samples as i64;
            let held = missing * if position.pausing { length } else { length.max(position.frame) };
            let lost = gap.min(held);
            if lost < gap {
                match self.pause(now, decoded, gap - lost) {
                    0 => continue,
                    samples => return Next::Pause { samples },
                }
            }
            // What was made up while waiting has filled a part of the gap, or all of it.
            let filled = position.waited.min(gap);
            position.waited -= filled;
            position.timestamp += filled;
            position.gap += filled;
            self.counters.made_lost += filled as u64;
            if position.pausing {
                // It was taken for noise.
                self.counters.made_pause = self.counters.made_pause.saturating_sub(filled as u64);
            }
            if filled < gap {
                return self.lost(gap - filled);
            }
        }
    }

    /// The next piece of a gap of which this much is left, with a packet behind it.
    fn lost(&mut self, gap: i64) -> Next {
        let deep = self.position.and_then(|position| self.deep(position.timestamp));
        let (Some(position), Some(first)) = (&mut self.position, self.packets.first()) else {
            return Next::Empty;
        };
        position.pausing = false;
        let frame = first.head.frame as i64;
        let copied = first.head.redundancy && !self.celt;
        if copied && gap <= frame {
            let payload = first.payload.clone();
            position.timestamp = first.timestamp;
            position.gap += gap;
            position.waited = 0;
            return Next::Recover { payload, samples: frame as usize, skip: (frame - gap) as usize };
        }
        let keep = if copied { frame } else { 0 };
        let samples = (gap - keep).min(BLOCK as i64);
        position.timestamp += samples;
        position.gap += samples;
        self.counters.made_lost += samples as u64;
        Next::Lost { samples: samples as usize, deep }
    }

    /// The first packet that came by itself, for what was lost at this timestamp.
    fn deep(&self, timestamp: i64) -> Option<Deep> {
        let bearer = self.packets.iter().find(|stored| !stored.copy)?;
        let ago = usize::try_from(bearer.timestamp - timestamp).ok()?;
        Some(Deep { sequence: bearer.sequence, payload: bearer.payload.clone(), ago })
    }

    /// The next piece of a pause that the sender made, with a packet behind it; none if it is over. Here the delay can
    /// be put right without anybody hearing it.
    fn pause(&mut self, now: i64, decoded: usize, gap: i64) -> usize {
        let (base, target) = (self.delay.base(), self.delay.target().max(self.delay.recent()));
        let Some(position) = &mut self.position else { return 0 };
        let filled = position.waited.min(gap);
        if !position.pausing {
            position.pausing = true;
            self.counters.made_pause += position.waited as u64;
        }
        position.waited -= filled;
        position.timestamp += filled;
        position.rest += filled;
        let mut left = gap - filled;
        if left > 0 && !position.adapted {
            position.adapted = true;
            // The packet is to begin with a block, and with the least reserve that is enough.
            let delay = now - to_us(position.timestamp - decoded as i64) - base;
            let offset = (decoded as i64 + left) % BLOCK as i64;
            let blocks = (delay - to_us(offset) - target).div_euclid(BLOCK_US);
            let wanted = (left - offset - blocks * BLOCK as i64).clamp(0, left + 10 * BLOCK as i64);
            position.timestamp += left - wanted;
            position.rest += left - wanted;
            left = wanted;
        }
        let samples = left.min(BLOCK as i64);
        position.timestamp += samples;
        position.rest += samples;
        self.counters.made_pause += samples as u64;
        samples as usize
    }

    /// The first packet, which begins this much (not above zero) after the position.
    fn packet(&mut self, gap: i64) -> Next {
        self.settle();
        let lost = self.position.as_mut().map_or(0, |position| std::mem::take(&mut position.gap));
        let deep = match (&self.position, lost) {
            (Some(position), 1..) if gap == 0 => self.deep(position.timestamp - lost),
            _ => None,
        };
        let Some(stored) = self.packets.pop() else { return Next::Empty };
        let Some(position) = &mut self.position else { return Next::Empty };
        let fec = if stored.head.redundancy && !self.celt { stored.head.frame } else { 0 };
        self.celt = stored.head.celt;
        self.losses.turn(stored.sequence, stored.copy);
        let lost = (lost > 0 && gap == 0).then(|| Gap { samples: lost as usize, fec, deep });
        if stored.copy {
            self.counters.red += 1;
            self.counters.red_samples += (stored.end() - position.timestamp) as u64;
        }
        position.timestamp = stored.end();
        position.sequence = (stored.sequence + 1).max(position.sequence);
        position.frame = stored.head.samples as i64;
        let refresh = to_us(std::mem::take(&mut position.rest)) >= REFRESH_US;
        position.pausing = refresh || packet::is_rest(&stored.payload);
        position.adapted = false;
        Next::Packet { payload: stored.payload, skip: (-gap) as usize, gap: lost }
    }

    /// What was made up while waiting was for something that came too late, or never.
    fn settle(&mut self) {
        let Some(position) = &mut self.position else { return };
        let waited = std::mem::take(&mut position.waited) as u64;
        if !position.pausing {
            self.counters.made_late += waited;
        }
    }

    /// Notes that `samples` had to be made up because nothing was there. False if that has gone on for longer than
    /// the bound: playing has ended then.
    pub(crate) fn wait(&mut self, samples: usize) -> bool {
        let Some(position) = &mut self.position else { return false };
        position.waited += samples as i64;
        let most = if position.pausing {
            self.counters.made_pause += samples as u64;
            LONGEST_PAUSE_US
        } else {
            micros(self.config.max)
        };
        if to_us(position.waited) > most {
            self.ended = self.position;
            self.settle();
            self.position = None;
        }
        self.position.is_some()
    }
}

/// Samples at 48 kHz as microseconds.
fn to_us(samples: i64) -> i64 {
    samples.saturating_mul(125) / 6
}
