//! Reads the RTCP that passes, which the engine's statistics do not tell: they leave the round trip and the peer's view at
//! zero.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{Attribute, Packet, StreamInfo, TaggedPacket, convert_twcc};
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::shared::marshal::MarshalSize;

use super::settings::{AUDIO_LEVEL_URI, FEEDBACK_URI};
use super::tap::{Look, is_audio};
use crate::congestion::{Delay, Fate, Total};
use crate::meter::{Meter, Report};
use crate::track::TrackKind;
use crate::trend::Trend;

/// Packets that wait for a report. 1024: a second of video at 10 Mbit/s, five intervals of feedback.
const UNREPORTED: usize = 1024;

/// Nearest to the wire, where everything passes that leaves or comes.
pub(super) struct Reports {
    meter: Arc<Meter>,
    streams: Vec<(u32, Jitter)>,
    sent: Sent,
}

/// RFC 3550 section A.8, of packets in order only. The engine counts what was sent again, too, and loses its way when
/// timestamps wrap.
struct Jitter {
    clock: f64,
    last: Option<(Instant, u16, u32)>,
    /// In units of the clock.
    jitter: f64,
}

impl Reports {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Self { meter, streams: Vec::new(), sent: Sent::default() }
    }

    fn reported(&self, now: Instant, reports: &[ReceptionReport]) {
        for report in reports {
            let said = Report {
                fraction_lost: report.fraction_lost,
                total_lost: report.total_lost,
                jitter: report.jitter,
                last_sender_report: report.last_sender_report,
                delay: report.delay,
            };
            self.meter.on_report(now, report.ssrc, said);
        }
    }
}

impl Jitter {
    fn on_packet(&mut self, now: Instant, sequence: u16, timestamp: u32) {
        if let Some((arrival, before, stamp)) = self.last {
            if (sequence.wrapping_sub(before) as i16) <= 0 {
                return;
            }
            let spacing = now.saturating_duration_since(arrival).as_secs_f64() * self.clock;
            let sent = f64::from(timestamp.wrapping_sub(stamp) as i32);
            self.jitter += ((spacing - sent).abs() - self.jitter) / 16.0;
        }
        self.last = Some((now, sequence, timestamp));
    }
}

impl Look for Reports {
    fn incoming(&mut self, packet: &mut TaggedPacket) -> bool {
        let now = packet.now;
        match &packet.message.packet {
            Packet::Rtp(rtp) => {
                let header = &rtp.header;
                self.meter.on_received(now, header.ssrc, rtp.marshal_size());
                if let Some((_, jitter)) = self.streams.iter_mut().find(|(ssrc, _)| *ssrc == header.ssrc) {
                    jitter.on_packet(now, header.sequence_number, header.timestamp);
                }
            }
            Packet::Rtcp(packets) => {
                for packet in packets {
                    if let Some(report) = packet.as_any().downcast_ref::<ReceiverReport>() {
                        self.reported(now, &report.reports);
                    } else if let Some(report) = packet.as_any().downcast_ref::<SenderReport>() {
                        self.reported(now, &report.reports);
                    } else if let Some(feedback) = packet.as_any().downcast_ref::<TransportLayerCc>() {
                        if self.sent.path != self.meter.paths() {
                            // What the last one took says nothing of this one.
                            (self.sent.path, self.sent.trend) = (self.meter.paths(), Trend::default());
                        }
                        let (fates, delay) = self.sent.on_feedback(feedback);
                        self.meter.on_fates(now, &fates, delay);
                    }
                }
            }
            _ => {}
        }
        true
    }

    fn outgoing(&mut self, packet: &mut TaggedPacket) -> bool {
        let (now, again) = (packet.now, packet.message.has(&Attribute::Retransmission));
        match &mut packet.message.packet {
            Packet::Rtp(rtp) => {
                let bytes = rtp.marshal_size();
                self.meter.on_sent(now, rtp.header.ssrc, bytes, again);
                self.sent.on_packet(now, rtp, bytes);
            }
            Packet::Rtcp(packets) => {
                for packet in packets {
                    if let Some(report) = packet.as_any().downcast_ref::<SenderReport>() {
                        self.meter.on_sender_report(now, report.ntp_time);
                    } else if let Some(report) = packet.as_any().downcast_ref::<ReceiverReport>() {
                        let mut report = report.clone();
                        for of in &mut report.reports {
                            if let Some((_, own)) = self.streams.iter().find(|(ssrc, _)| *ssrc == of.ssrc) {
                                of.jitter = own.jitter as u32;
                            }
                        }
                        *packet = Box::new(report);
                    }
                }
            }
            _ => {}
        }
        true
    }

    fn sends(&mut self, info: &StreamInfo) {
        self.sends_no_more(info);
        self.meter.bind_local(info.ssrc, kind(info));
        let number = info.rtp_header_extensions.iter().find(|extension| extension.uri == FEEDBACK_URI);
        let number = number.and_then(|extension| u8::try_from(extension.id).ok());
        self.sent.streams.extend(number.map(|id| (info.ssrc, id)));
    }

    fn sends_no_more(&mut self, info: &StreamInfo) {
        self.meter.unbind(info.ssrc);
        self.sent.streams.retain(|(ssrc, _)| *ssrc != info.ssrc);
    }

    fn receives(&mut self, info: &StreamInfo) {
        self.receives_no_more(info);
        self.meter.bind_remote(info.ssrc, kind(info));
        let jitter = Jitter { clock: f64::from(info.clock_rate), last: None, jitter: 0.0 };
        self.streams.push((info.ssrc, jitter));
    }

    fn receives_no_more(&mut self, info: &StreamInfo) {
        self.meter.unbind(info.ssrc);
        self.streams.retain(|(ssrc, _)| *ssrc != info.ssrc);
    }
}

fn kind(info: &StreamInfo) -> TrackKind {
    if is_audio(info) { TrackKind::Audio } else { TrackKind::Video }
}

/// Leaves packets of the peer the one extension that goes up, so that no other is taken for it: the level of sound.
#[derive(Default)]
pub(super) struct Levels(Vec<(u32, Option<u8>)>);

impl Look for Levels {
    fn incoming(&mut self, packet: &mut TaggedPacket) -> bool {
        if let Packet::Rtp(rtp) = &mut packet.message.packet {
            let level = self.0.iter().find(|(ssrc, _)| *ssrc == rtp.header.ssrc).and_then(|(_, id)| *id);
            // It is not sent on, so its padding does not matter any more.
            rtp.header.extensions.retain(|extension| Some(extension.id) == level);
        }
        true
    }

    fn receives(&mut self, info: &StreamInfo) {
        self.receives_no_more(info);
        let level = info.rtp_header_extensions.iter().find(|extension| extension.uri == AUDIO_LEVEL_URI);
        self.0.push((info.ssrc, level.and_then(|extension| u8::try_from(extension.id).ok())));
    }

    fn receives_no_more(&mut self, info: &StreamInfo) {
        self.0.retain(|(ssrc, _)| *ssrc != info.ssrc);
    }
}

/// What was sent, until the peer has said what became of it.
///
/// The engine has a history of its own, which takes what no report ever named for lost: one lost report is ten lost packets
/// then. Here only what a report names counts.
#[derive(Default)]
struct Sent {
    /// Streams that are numbered, and the extension that holds the number.
    streams: Vec<(u32, u8)>,
    packets: VecDeque<Packed>,
    total: Total,
    /// Of this path, by its number.
    trend: Trend,
    path: u64,
}

struct Packed {
    number: u16,
    left: Instant,
    sent: Total,
}

impl Sent {
    fn on_packet(&mut self, now: Instant, rtp: &rtc::rtp::Packet, bytes: usize) {
        let header = &rtp.header;
        let Some((_, id)) = self.streams.iter().find(|(ssrc, _)| *ssrc == header.ssrc) else { return };
        let number = header.get_extension(*id);
        let Some(&[high, low]) = number.as_deref() else { return };
        if self.packets.len() >= UNREPORTED {
            self.packets.pop_front();
        }
        self.total.packets += 1;
        self.total.bytes += bytes as u64;
        let number = u16::from_be_bytes([high, low]);
        self.packets.push_back(Packed { number, left: now, sent: self.total });
    }

    /// What became of which packet, and how long they took.
    fn on_feedback(&mut self, feedback: &TransportLayerCc) -> (Vec<Fate>, Delay) {
        let mut ways = Vec::new();
        let mut fates = Vec::new();
        // The last chunk has room for 7 or 14 packets, and what is not used of it looks like lost ones.
        let said = convert_twcc(feedback).into_iter().take(feedback.packet_status_count.into());
        for said in said {
            // Both are in the order of sending; what is passed over has been reported before, or never will be.
            let Some(at) = self.packets.iter().position(|packet| packet.number == said.sequence_number)
            else {
                continue;
            };
            self.packets.drain(..at);
            let Some(packet) = self.packets.pop_front() else { continue };
            ways.extend(said.arrival.map(|came| (packet.left, came)));
            fates.push(Fate {
                left: packet.left,
                arrived: said.arrived,
                came: said.arrival,
                sent: packet.sent,
            });
        }
        let delay = self.trend.on_report(ways);
        (fates, delay)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc, SymbolTypeTcc,
    };

    use super::*;

    #[test]
    fn what_a_chunk_has_room_for_beyond_its_packets_is_not_lost() {
        let start = Instant::now();
        let mut sent = Sent::default();
        for number in 0..14 {
            let left = start + Duration::from_millis(20 * u64::from(number));
            sent.packets.push_back(Packed { number, left, sent: Total::default() });
        }
        // Ten packets, the fourth of them lost; four are still on their way.
        let mut symbol_list = vec![SymbolTypeTcc::PacketReceivedWithoutDelta; 10];
        symbol_list[3] = SymbolTypeTcc::PacketNotReceived;
        symbol_list.resize(14, SymbolTypeTcc::PacketNotReceived);
        let chunk = StatusVectorChunk {
            type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
            symbol_size: SymbolSizeTypeTcc::OneBit,
            symbol_list,
        };
        let feedback = TransportLayerCc {
            packet_status_count: 10,
            packet_chunks: vec![PacketStatusChunk::StatusVectorChunk(chunk)],
            ..TransportLayerCc::default()
        };
        let (fates, _) = sent.on_feedback(&feedback);
        assert_eq!((fates.len(), fates.iter().filter(|fate| !fate.arrived).count()), (10, 1));
        assert_eq!(sent.packets.len(), 4, "they have their report to come");
    }
}
