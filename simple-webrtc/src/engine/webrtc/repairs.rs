//! Asks for sound that did not come, and limits what is sent again.
//!
//! The engine's own generator wakes the loop every interval for ever, and asks at each for everything that is missing: at
//! 10 ms and a round trip of 200 ms, twenty times for each packet, which then comes twenty times. This one wakes the loop
//! when something is missing, and asks again when the answer to the last request should have been there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rtc::interceptor::{Attribute, AttributedPacket, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::shared::TransportContext;

use super::tap::{Look, is_audio};
use crate::meter::Meter;

/// How long a packet may be late before it is asked for. 5 ms: the mean of a timer of 10 ms, with which 8 % loss were measured
/// to heal in 25 ms (median) on one machine.
const PATIENCE: Duration = Duration::from_millis(5);
/// A round trip that is not known yet. 100 ms: that of a call across a continent.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// From this round trip on, nothing is asked for that comes with copies of what was lost (RFC 2198): they are there sooner.
/// 40 ms: two packets of speech, after which a copy of the frame before the last has come. What were sent again then would be
/// heard by nobody, and be paid for on the way. Who makes the copies has a limit of its own (in host-media, `codec::policy`), as long;
/// should the two differ, some losses are repaired twice.
const LATE: Duration = Duration::from_millis(40);
/// From this round trip on nothing is asked for at all, and while the path is congested no sound is sent again. 300 ms: what comes then
/// has been on its way for longer than ITU-T G.114 allows for a conversation (400 ms one way, the way of what is in time included), so
/// that no jitter buffer waits for it. Such a round trip is mostly a queue, and more packets make it longer: before a place of
/// 60 kbit/s, requests alone were up to a third of what was sent (37 of 109 kbit/s, measured in the lab).
const IN_VAIN: Duration = Duration::from_millis(300);
/// How often a packet is asked for. 4: at 20 % loss in both directions, three of a thousand packets never come (a request
/// stays without answer with 0.36; 0.36^4 is 1.7 %, of the 20 % that were lost).
const TRIES: u8 = 4;
/// Packets that may be asked for with each that comes, and at once. Half of one: enough for 25 % of loss with two requests each, on the
/// short paths where packets are asked for; beyond that it is redundancy that helps. Where half of everything was lost before a place of
/// 40 kbit/s, requests alone were 43 kbit/s (measured in the lab). The second: those of a gap that can be filled.
const ASKS: (f64, f64) = (0.5, HISTORY as f64);
/// Packets that are asked for at once, and sent ones that can be had again. 64: 1.3 s of speech at 20 ms. What is older comes
/// too late for any jitter buffer; and a gap that is wider is an outage, of which only the end is of use.
pub(super) const HISTORY: u16 = 64;
/// Packets that may be sent again at once, beyond one for each new one. A peer that asks for everything all the time gets
/// twice the rate and no more.
const BUDGET: u32 = 64;

pub(super) struct Repairs {
    meter: Arc<Meter>,
    /// The payload type of redundant sound; 0 if there is none.
    red_type: Arc<AtomicU8>,
    streams: Vec<Stream>,
    /// Names us in requests.
    own: u32,
    budget: u32,
}

/// A stream of the peer that can be asked for packets.
struct Stream {
    ssrc: u32,
    /// The highest number so far, counted on over wraps.
    highest: Option<u64>,
    missing: BTreeMap<u64, Missing>,
    /// Whether the last packet brought copies.
    redundant: bool,
    /// So many packets may be asked for.
    asks: f64,
}

struct Missing {
    due: Instant,
    /// How often it was its turn.
    asked: u8,
    /// Whether a request has left.
    requested: bool,
}

impl Repairs {
    /// `own` names us in requests.
    pub(super) fn new(meter: Arc<Meter>, red_type: Arc<AtomicU8>, own: u32) -> Self {
        Self { meter, red_type, streams: Vec::new(), own, budget: BUDGET }
    }
}

impl Stream {
    /// Whether the packet had been asked for.
    fn on_packet(&mut self, now: Instant, sequence: u16) -> bool {
        let (each, most) = ASKS;
        self.asks = (self.asks + each).min(most);
        let Some(highest) = self.highest else {
            // One cycle up leaves room for what was sent before.
            self.highest = Some(u64::from(sequence) + (1 << 16));
            return false;
        };
        let step = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        let number = highest.saturating_add_signed(step);
        if number <= highest {
            return self.missing.remove(&number).is_some_and(|missing| missing.requested);
        }
        let first = (highest + 1).max(number.saturating_sub(u64::from(HISTORY)));
        for missing in first..number {
            self.missing.insert(missing, Missing { due: now + PATIENCE, asked: 0, requested: false });
        }
        self.missing = self.missing.split_off(&number.saturating_sub(u64::from(HISTORY)));
        self.highest = Some(number);
        false
    }

    /// What is asked for now.
    fn due(&mut self, now: Instant, again: Duration, late: bool, in_vain: bool) -> Vec<u16> {
        if in_vain || late && self.redundant {
            self.missing.clear();
        }
        self.missing.retain(|_, missing| missing.due > now || missing.asked < TRIES);
        // The newest first, which are the likeliest to come in time. Others wait as if they had been asked for.
        let due = self.missing.iter_mut().rev().filter(|(_, missing)| missing.due <= now);
        let mut asked: Vec<u16> = Vec::new();
        for (number, missing) in due {
            missing.asked += 1;
            missing.due = now + again;
            if self.asks >= 1.0 {
                self.asks -= 1.0;
                missing.requested = true;
                asked.push(*number as u16);
            }
        }
        asked.reverse();
        asked
    }
}

impl Look for Repairs {
    fn incoming(&mut self, packet: &mut TaggedPacket) -> bool {
        match &packet.message.packet {
            Packet::Rtp(rtp) => {
                let header = &rtp.header;
                let red_type = self.red_type.load(Ordering::Relaxed);
                if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == header.ssrc) {
                    stream.redundant = red_type != 0 && header.payload_type == red_type;
                    if stream.on_packet(packet.now, header.sequence_number) {
                        self.meter.on_healed();
                    }
                }
            }
            Packet::Rtcp(packets) => {
                for packet in packets {
                    if let Some(nack) = packet.as_any().downcast_ref::<TransportLayerNack>() {
                        let packets = |pair: u16| 1 + pair.count_ones() as usize;
                        self.meter
                            .on_requested(nack.nacks.iter().map(|pair| packets(pair.lost_packets)).sum());
                    }
                }
            }
            _ => {}
        }
        true
    }

    fn outgoing(&mut self, packet: &mut TaggedPacket) -> bool {
        let Packet::Rtp(rtp) = &packet.message.packet else { return true };
        let source = rtp.header.ssrc;
        if !packet.message.has(&Attribute::Retransmission) {
            self.budget = (self.budget + 1).min(BUDGET);
            return true;
        }
        match self.budget.checked_sub(1) {
            Some(left) if !self.meter.is_sound_congested(packet.now, source) => {
                self.budget = left;
                true
            }
            _ => false,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let due = self.streams.iter().flat_map(|stream| stream.missing.values());
        due.map(|missing| missing.due).min()
    }

    fn timeout(&mut self, now: Instant) -> Option<TaggedPacket> {
        // A bit more than the round trip: the answer is on its way for as long as that, and the network is not that even.
        let round_trip = self.meter.round_trip(now).unwrap_or(ROUND_TRIP);
        let again = round_trip * 5 / 4 + 2 * PATIENCE;
        let (late, in_vain) = (round_trip >= LATE, round_trip >= IN_VAIN);
        let mut requests: Vec<Box<dyn rtc::rtcp::Packet>> = Vec::new();
        for stream in &mut self.streams {
            let due = stream.due(now, again, late, in_vain);
            if due.is_empty() {
                continue;
            }
            self.meter.on_asked(due.len());
            let nacks = nack_pairs_from_sequence_numbers(&due);
            requests.push(Box::new(TransportLayerNack {
                sender_ssrc: self.own,
                media_ssrc: stream.ssrc,
                nacks,
            }));
        }
        // An empty packet has another meaning to the engine.
        (!requests.is_empty()).then(|| TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: AttributedPacket::new(Packet::Rtcp(requests)),
        })
    }

    fn receives(&mut self, info: &StreamInfo) {
        self.receives_no_more(info);
        let nack =
            info.rtcp_feedback.iter().any(|feedback| feedback.typ == "nack" && feedback.parameter.is_empty());
        if nack && is_audio(info) {
            self.streams.push(Stream {
                ssrc: info.ssrc,
                highest: None,
                missing: BTreeMap::new(),
                redundant: false,
                asks: ASKS.1,
            });
        }
    }

    fn receives_no_more(&mut self, info: &StreamInfo) {
        self.streams.retain(|stream| stream.ssrc != info.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::TrackKind;

    fn stream() -> Stream {
        Stream { ssrc: 1, highest: None, missing: BTreeMap::new(), redundant: false, asks: ASKS.1 }
    }

    #[test]
    fn what_is_missing_is_asked_for_in_time_and_not_for_ever() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let again = Duration::from_millis(50);
        let mut stream = stream();
        for number in [65_533_u16, 65_534, 1, 0] {
            assert!(!stream.on_packet(start, number), "none of them was asked for");
        }
        assert_eq!(stream.due(at(4), again, false, false), Vec::<u16>::new());
        assert_eq!(stream.due(at(5), again, false, false), [65_535]);
        assert_eq!(stream.due(at(54), again, false, false), Vec::<u16>::new(), "the answer is on its way");
        assert_eq!(stream.due(at(55), again, false, false), [65_535]);
        assert!(stream.on_packet(at(65), 65_535), "it was asked for");
        assert!(!stream.on_packet(at(66), 65_535), "healed once");
        stream.on_packet(at(100), 3);
        let asked = (0..1_000).map(|ms| stream.due(at(110 + ms), again, false, false).len()).sum::<usize>();
        assert_eq!((asked, stream.missing.len()), (usize::from(TRIES), 0));
    }

    #[test]
    fn what_comes_with_copies_is_asked_for_only_where_the_answer_is_sooner() {
        let start = Instant::now();
        let again = Duration::from_millis(50);
        let mut stream = Stream { redundant: true, ..stream() };
        let mut asked = |from: u16, late: bool| {
            stream.on_packet(start, from);
            stream.on_packet(start, from + 2);
            stream.due(start + PATIENCE, again, late, false)
        };
        assert_eq!((asked(0, false), asked(10, true)), (vec![1], vec![]));
        stream.redundant = false;
        stream.on_packet(start, 20);
        stream.on_packet(start, 22);
        assert_eq!(
            stream.due(start + PATIENCE, again, true, false).last(),
            Some(&21),
            "without copies it is better than nothing"
        );
        stream.on_packet(start, 30);
        stream.on_packet(start, 32);
        assert_eq!(
            stream.due(start + PATIENCE, again, true, true),
            Vec::<u16>::new(),
            "it would be too late"
        );
    }

    #[test]
    fn a_gap_of_any_width_is_bounded() {
        let now = Instant::now();
        let mut stream = stream();
        for number in [0_u16, 20_000, 40_000, 60_000, 14_000] {
            stream.on_packet(now, number);
            assert!(stream.missing.len() <= usize::from(HISTORY), "{}", stream.missing.len());
        }
        let asked = stream.due(now + PATIENCE, PATIENCE, false, false);
        assert_eq!(asked.first().zip(asked.last()), Some((&(14_000 - HISTORY), &13_999)));
    }

    #[test]
    fn where_half_is_lost_not_everything_is_asked_for() {
        let start = Instant::now();
        let mut stream = stream();
        let mut asked = 0;
        for n in 0..1_000_u16 {
            let now = start + Duration::from_millis(20) * u32::from(n);
            if n % 2 == 0 {
                stream.on_packet(now, n);
            }
            asked += stream.due(now + PATIENCE, Duration::from_millis(40), false, false).len();
        }
        assert!((250..=250 + usize::from(HISTORY)).contains(&asked), "{asked}");
    }

    #[test]
    fn no_sound_is_sent_again_while_the_path_is_congested() {
        let now = Instant::now();
        let meter = Arc::new(Meter::default());
        let mut repairs = Repairs::new(meter.clone(), Arc::default(), 7);
        meter.bind_local(1, TrackKind::Audio);
        meter.bind_local(2, TrackKind::Video);
        let mut again = |ssrc| {
            let header = rtc::rtp::header::Header { ssrc, ..Default::default() };
            let message =
                AttributedPacket::new(Packet::Rtp(rtc::rtp::Packet { header, ..Default::default() }));
            let message = message.with(Attribute::Retransmission);
            repairs.outgoing(&mut TaggedPacket { now, transport: TransportContext::default(), message })
        };
        assert!(again(1) && again(2));
        meter.on_fates(now, &[], crate::congestion::Delay::Grows);
        assert!(!again(1) && again(2), "a video would stand still until it begins anew");
    }

    #[test]
    fn a_peer_that_asks_for_everything_gets_twice_the_rate_at_most() {
        let mut repairs = Repairs::new(Arc::default(), Arc::default(), 7);
        let now = Instant::now();
        let packet = |again: bool| {
            let message = AttributedPacket::new(Packet::Rtp(rtc::rtp::Packet::default()));
            let message = if again { message.with(Attribute::Retransmission) } else { message };
            TaggedPacket { now, transport: TransportContext::default(), message }
        };
        let mut again = 0;
        for _ in 0..1_000 {
            assert!(repairs.outgoing(&mut packet(false)));
            again += (0..17).filter(|_| repairs.outgoing(&mut packet(true))).count();
        }
        assert!((1_000..=1_000 + BUDGET as usize).contains(&again), "{again}");
    }
}
