use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp::header::Header;
use rtc::rtp::packet::Packet as RtpPacket;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::task::JoinHandle;
use tokio::time;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::rtp_transceiver::RtpSender;

use super::pace::Pace;
use super::red;
use super::settings::{AUDIO_LEVEL_URI, OPUS, RED, video_mime};
use crate::engine::Incoming;
use crate::queue::Queue;
use crate::sink::Sink;
use crate::stats::Counters;
use crate::track::{Frame, Packet, PayloadKind, VideoCodec, Written};

/// The sequence numbers of one source. They go on where a source falls silent and is used again: the receiver's roll-over
/// counter (RFC 3711 section 3.3.1) would take a fresh start for packets from long ago, and drop them.
#[derive(Debug)]
pub(super) struct Sequence(AtomicU16);

impl Sequence {
    /// Begins in the lower half: losses around a first wrap could desynchronise that counter, too.
    pub(super) fn random() -> Result<Self, webrtc::error::Error> {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(|error| webrtc::error::Error::Other(error.to_string()))?;
        Ok(Self(AtomicU16::new(u16::from_ne_bytes(random) & 0x7fff)))
    }

    fn next(&self) -> u16 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Where packets of one source go.
#[derive(Clone)]
pub(super) struct Outlet {
    pub(super) track: Arc<TrackLocalStaticRTP>,
    pub(super) sender: Arc<dyn RtpSender>,
    pub(super) sequence: Arc<Sequence>,
    pub(super) pace: Arc<Pace>,
}

/// What of a packet is particular to one connection.
struct Stamp {
    payload_type: u8,
    /// Of redundant sound.
    red: Option<u8>,
    ssrc: u32,
    audio_level: Option<u8>,
}

impl Stamp {
    async fn negotiated(sender: &Arc<dyn RtpSender>, mime: &str) -> Option<Self> {
        let parameters = sender.get_parameters().await.ok()?;
        let codecs = &parameters.rtp_parameters.codecs;
        let codec = codecs.iter().find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(mime))?;
        let ssrc = parameters.encodings.first()?.rtp_coding_parameters.ssrc?;
        let extensions = &parameters.rtp_parameters.header_extensions;
        let audio_level = extensions.iter().find(|extension| extension.uri == AUDIO_LEVEL_URI);
        let red = codecs.iter().find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(RED));
        Some(Self {
            payload_type: codec.payload_type,
            red: red.filter(|_| mime == OPUS).map(|codec| codec.payload_type),
            ssrc,
            // One-byte headers end at 14 (RFC 8285 section 4.2).
            audio_level: audio_level.and_then(|e| u8::try_from(e.id).ok()).filter(|id| (1..15).contains(id)),
        })
    }

    /// The payload that this peer gets, and its type.
    fn payload(&self, frame: &Frame, red: Option<&Bytes>) -> (Bytes, u8) {
        let red = self
            .red
            .zip(red)
            .and_then(|(red_type, red)| Some((red::of_type(red, self.payload_type)?, red_type)));
        red.unwrap_or_else(|| (frame.payload.clone(), self.payload_type))
    }

    fn packet(&self, sequence: u16, frame: &Frame, (payload, payload_type): (Bytes, u8)) -> RtpPacket {
        let mut header = Header {
            version: 2,
            marker: frame.marker,
            payload_type,
            sequence_number: sequence,
            timestamp: frame.timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        if let (Some(id), Some((level, voice))) = (self.audio_level, frame.audio_level) {
            let byte = level.min(127) | if voice { 0x80 } else { 0 };
            if let Err(error) = header.set_extension(id, Bytes::copy_from_slice(&[byte])) {
                tracing::trace!(%error, "no audio level");
            }
        }
        RtpPacket { header, payload }
    }
}

/// Sends frames until the queue is closed or the connection is gone.
pub(super) async fn write(
    outlet: Outlet,
    mime: &'static str,
    queue: Arc<Queue<Written>>,
    counters: Arc<Counters>,
) {
    let Some(stamp) = Stamp::negotiated(&outlet.sender, mime).await else {
        // The peer takes nothing of the kind from us; it may still send.
        tracing::warn!(mime, "the codec was not negotiated");
        return;
    };
    queue.set_redundant(stamp.red.is_some());
    while let Some(Written { frame, red }) = queue.pop().await {
        let chosen = stamp.payload(&frame, red.as_ref());
        let payload = chosen.0.len();
        match outlet.track.write_rtp(stamp.packet(outlet.sequence.next(), &frame, chosen)).await {
            Ok(()) => {
                // It is in the loop's hands now: through a relay it would leave with the next one only.
                outlet.pace.input();
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
    /// The payload type of redundant sound.
    red: Arc<AtomicU8>,
}

impl IncomingTrack {
    pub(super) fn new(track: Arc<dyn TrackRemote>, red: Arc<AtomicU8>) -> Self {
        Self { track, red }
    }
}

impl fmt::Debug for IncomingTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IncomingTrack(..)")
    }
}

#[async_trait]
impl Incoming for IncomingTrack {
    async fn about(&self) -> (String, Option<VideoCodec>) {
        let mut codec = None;
        if self.track.kind().await == RtpCodecKind::Video {
            let ssrc = self.track.ssrcs().await.first().copied().unwrap_or_default();
            let mime = self.track.codec(ssrc).await.map(|codec| codec.mime_type).unwrap_or_default();
            let is_h264 = mime.eq_ignore_ascii_case(video_mime(VideoCodec::H264));
            codec = Some(if is_h264 { VideoCodec::H264 } else { VideoCodec::Vp8 });
        }
        (self.track.track_id().await, codec)
    }

    /// The engine drops what it cannot put anywhere, so this never waits for a reader.
    fn read_into(self: Box<Self>, sink: Arc<Sink>, counters: Arc<Counters>) -> JoinHandle<()> {
        tokio::spawn(async move {
            let is_video = self.track.kind().await == RtpCodecKind::Video;
            let mut source = 0;
            loop {
                let event = tokio::select! {
                    event = self.track.poll() => event,
                    () = sink.keyframe_wanted() => {
                        let request = PictureLossIndication { sender_ssrc: 0, media_ssrc: source };
                        if let Err(error) = self.track.write_rtcp(vec![Box::new(request)]).await {
                            tracing::trace!(%error, "no keyframe could be asked for");
                        }
                        continue;
                    }
                };
                match event {
                    Some(TrackRemoteEvent::OnRtpPacket(rtp)) => {
                        let arrival = time::Instant::now().into_std();
                        let header = &rtp.header;
                        source = header.ssrc;
                        counters.reception().on_packet(
                            arrival,
                            header.ssrc,
                            header.sequence_number,
                            header.timestamp,
                            rtp.payload.len(),
                        );
                        let kind = match self.red.load(Ordering::Relaxed) {
                            _ if is_video => PayloadKind::Video,
                            0 => PayloadKind::Opus,
                            red if red == rtp.header.payload_type => PayloadKind::Red,
                            _ => PayloadKind::Opus,
                        };
                        sink.push(packet(rtp, arrival, kind));
                    }
                    Some(TrackRemoteEvent::OnEnded) | None => break,
                    Some(_) => {}
                }
            }
            sink.end();
        })
    }
}

fn packet(rtp: RtpPacket, arrival: std::time::Instant, kind: PayloadKind) -> Packet {
    // The only extension that an interceptor of ours leaves (`reports.rs`).
    let audio_level = rtp.header.extensions.first().and_then(|e| e.payload.first());
    Packet {
        sequence: rtp.header.sequence_number,
        timestamp: rtp.header.timestamp,
        marker: rtp.header.marker,
        payload_type: rtp.header.payload_type,
        ssrc: rtp.header.ssrc,
        kind,
        audio_level: audio_level.map(|byte| (byte & 0x7f, byte & 0x80 != 0)),
        payload: rtp.payload,
        arrival,
    }
}
