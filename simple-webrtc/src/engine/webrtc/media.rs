use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rtc::rtp::header::Header;
use rtc::rtp::packet::Packet as RtpPacket;
use tokio::task::JoinHandle;
use tokio::time;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::rtp_transceiver::RtpSender;

use super::pace::Pace;
use super::settings::{AUDIO_LEVEL_URI, OPUS};
use crate::engine::Incoming;
use crate::queue::Queue;
use crate::stats::Counters;
use crate::track::{Frame, Packet};

/// What of a packet is particular to one connection.
struct Stamp {
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
    audio_level: Option<u8>,
}

impl Stamp {
    async fn negotiated(sender: &Arc<dyn RtpSender>) -> Option<Self> {
        let parameters = sender.get_parameters().await.ok()?;
        let codecs = &parameters.rtp_parameters.codecs;
        let opus = codecs.iter().find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(OPUS))?;
        let ssrc = parameters.encodings.first()?.rtp_coding_parameters.ssrc?;
        let extensions = &parameters.rtp_parameters.header_extensions;
        let audio_level = extensions.iter().find(|extension| extension.uri == AUDIO_LEVEL_URI);
        let mut random = [0; 2];
        getrandom::fill(&mut random).ok()?;
        Some(Self {
            payload_type: opus.payload_type,
            ssrc,
            // RFC 3711 section 3.3.1: losses around a first wrap could otherwise desynchronise the roll-over counter.
            sequence: u16::from_ne_bytes(random) & 0x7fff,
            // One-byte headers end at 14 (RFC 8285 section 4.2).
            audio_level: audio_level.and_then(|e| u8::try_from(e.id).ok()).filter(|id| (1..15).contains(id)),
        })
    }

    fn packet(&mut self, frame: Frame) -> RtpPacket {
        let mut header = Header {
            version: 2,
            marker: frame.marker,
            payload_type: self.payload_type,
            sequence_number: self.sequence,
            timestamp: frame.timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        self.sequence = self.sequence.wrapping_add(1);
        if let (Some(id), Some((level, voice))) = (self.audio_level, frame.audio_level) {
            let byte = level.min(127) | if voice { 0x80 } else { 0 };
            if let Err(error) = header.set_extension(id, Bytes::copy_from_slice(&[byte])) {
                tracing::trace!(%error, "no audio level");
            }
        }
        RtpPacket { header, payload: frame.payload }
    }
}

/// Sends frames until the queue is closed or the connection is gone.
pub(super) async fn write(
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
    queue: Arc<Queue<Frame>>,
    counters: Arc<Counters>,
    pace: Arc<Pace>,
) {
    let Some(mut stamp) = Stamp::negotiated(&sender).await else {
        // The peer takes no audio from us; it may still send.
        tracing::warn!("no codec to send audio with was negotiated");
        return;
    };
    while let Some(frame) = queue.pop().await {
        let payload = frame.payload.len();
        match track.write_rtp(stamp.packet(frame)).await {
            Ok(()) => {
                // It is in the loop's hands now: through a relay it would leave with the next one only.
                pace.input();
                counters.on_sent(payload);
            }
            Err(error) => {
                tracing::trace!(%error, "a frame was refused");
                counters.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A track of the peer whose first packet has arrived.
pub(super) struct IncomingTrack {
    track: Arc<dyn TrackRemote>,
}

impl IncomingTrack {
    pub(super) fn new(track: Arc<dyn TrackRemote>) -> Self {
        Self { track }
    }
}

impl fmt::Debug for IncomingTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IncomingTrack(..)")
    }
}

impl Incoming for IncomingTrack {
    /// The engine drops what it cannot put anywhere, so this never waits for a reader.
    fn read_into(self: Box<Self>, queue: Arc<Queue<Packet>>, counters: Arc<Counters>) -> JoinHandle<()> {
        tokio::spawn(async move {
            while let Some(event) = self.track.poll().await {
                match event {
                    TrackRemoteEvent::OnRtpPacket(rtp) => {
                        let arrival = time::Instant::now().into_std();
                        let header = &rtp.header;
                        counters.reception().on_packet(
                            arrival,
                            header.ssrc,
                            header.sequence_number,
                            header.timestamp,
                            rtp.payload.len(),
                        );
                        queue.push(packet(rtp, arrival));
                    }
                    TrackRemoteEvent::OnEnded => break,
                    _ => {}
                }
            }
            queue.close();
        })
    }
}

fn packet(rtp: RtpPacket, arrival: std::time::Instant) -> Packet {
    // The audio level is the only extension that is registered, so it is the only one that can be negotiated.
    let audio_level = rtp.header.extensions.first().and_then(|e| e.payload.first());
    Packet {
        sequence: rtp.header.sequence_number,
        timestamp: rtp.header.timestamp,
        marker: rtp.header.marker,
        payload_type: rtp.header.payload_type,
        ssrc: rtp.header.ssrc,
        audio_level: audio_level.map(|byte| (byte & 0x7f, byte & 0x80 != 0)),
        payload: rtp.payload,
        arrival,
    }
}
