use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{NackResponderBuilder, Slot, TwccReceiverBuilder, TwccSenderBuilder};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use webrtc::error::{Error, Result};
use webrtc::peer_connection::{
    MediaEngine, RTCConfiguration, RTCConfigurationBuilder, RTCIceServer, RTCIceTransportPolicy, Registry,
    SettingEngine, SettingEngineBuilder, configure_rtcp_reports,
};

use crate::channel::{MAX_MESSAGE_BYTES, SEND_BUFFER};
use crate::config::{Config, IceServer};
use crate::track::{AUDIO_CLOCK_RATE, VIDEO_CLOCK_RATE, VideoCodec};

use super::Outbox;
use super::keyframes::Keyframes;
use super::repairs::{self, Repairs};
use super::reports::{Levels, Reports};
use super::servers::engine_url;
use super::tap::Tap;
use crate::meter::Meter;

/// What the peer may send until we have worked it off: what one channel of ours may have on its way.
const SCTP_RECEIVE_BUFFER: u32 = SEND_BUFFER as u32;
/// Nearest to the application, where nothing else is.
const KEYFRAMES_SLOT: usize = 14_000;
const LEVELS_SLOT: usize = 15_000;
/// Nearest to the wire, where everything passes that leaves or comes.
const REPORTS_SLOT: usize = 500;
/// Between what sends again and what numbers each packet for feedback: what is dropped here must not be numbered.
const REPAIRS_SLOT: usize = 3_500;
/// Between two reports on what became of each packet. 200 ms: 74 bytes for ten packets of speech with all headers, 3 kbit/s,
/// which is the 5 % that RFC 3550 section 6.2 leaves for RTCP of a call of 60 kbit/s. The engine's 100 ms cost twice that.
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(200);
/// draft-holmer-rmcat-transport-wide-cc-extensions-01.
pub(super) const FEEDBACK_URI: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// RFC 6464.
pub(super) const AUDIO_LEVEL_URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub(super) const OPUS: &str = "audio/opus";
/// What browsers use; the answerer follows the offer.
pub(super) const OPUS_PAYLOAD_TYPE: u8 = 111;
/// RFC 2198 with the clock of Opus, as browsers have it.
pub(super) const RED: &str = "audio/red";
const RED_PAYLOAD_TYPE: u8 = 63;
/// One earlier frame or more, all of payload type 111.
const RED_PARAMETERS: &str = "111/111";
/// In-band FEC lets a receiver rebuild a lost frame from the next one (RFC 7587 section 6.1).
const OPUS_PARAMETERS: &str = "minptime=10;useinbandfec=1";

/// What browsers use, too.
const VP8_PAYLOAD_TYPE: u8 = 96;
const H264_PAYLOAD_TYPE: u8 = 102;
/// Constrained baseline, which every implementation has (RFC 7742 section 6.2), in pieces of a packet each.
const H264_PARAMETERS: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

/// Of sound only Opus: registering telephone-event makes the engine write an answer that names a codec nobody offered.
///
/// Of videos both codecs, and in every description: the first answer with a video freezes what its kind can use.
///
/// Sound and videos are numbered for feedback: the stream of both has to say so (`transport-cc`) and to have the extension,
/// or the engine's interceptors let its packets pass as they are.
pub(super) fn media(
    config: &Config,
    outbox: Outbox,
    meter: &Arc<Meter>,
    red_type: &Arc<AtomicU8>,
) -> Result<(MediaEngine, Registry)> {
    let mut media = MediaEngine::default();
    let opus = RTCRtpCodecParameters { rtp_codec: opus(), payload_type: OPUS_PAYLOAD_TYPE };
    media.register_codec(opus, RtpCodecKind::Audio)?;
    if config.redundancy {
        // Behind Opus, so that browsers do not send it by themselves.
        let red = RTCRtpCodecParameters { rtp_codec: red(), payload_type: RED_PAYLOAD_TYPE };
        media.register_codec(red, RtpCodecKind::Audio)?;
    }
    for codec in video_codecs(VideoCodec::Vp8) {
        media.register_codec(codec, RtpCodecKind::Video)?;
    }
    let level = RTCRtpHeaderExtensionCapability { uri: AUDIO_LEVEL_URI.to_owned() };
    media.register_header_extension(level, RtpCodecKind::Audio, None)?;
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        let number = RTCRtpHeaderExtensionCapability { uri: FEEDBACK_URI.to_owned() };
        media.register_header_extension(number, kind, None)?;
    }
    let own = getrandom::u32().map_err(|error| Error::Other(error.to_string()))?;
    let receiver = TwccReceiverBuilder::new().with_interval(FEEDBACK_INTERVAL).build();
    let responder = NackResponderBuilder::new().with_size(repairs::HISTORY).build();
    let registry = configure_rtcp_reports(Registry::new())
        .with(Slot::from(REPORTS_SLOT), Tap::new(Reports::new(meter.clone())))
        .with(Slot::TwccSender, TwccSenderBuilder::new().build())
        .with(Slot::from(REPAIRS_SLOT), Tap::new(Repairs::new(meter.clone(), red_type.clone(), own)))
        .with(Slot::NackResponder, responder)
        .with(Slot::TwccReceiver, receiver)
        .with(Slot::from(KEYFRAMES_SLOT), Keyframes::new(outbox))
        .with(Slot::from(LEVELS_SLOT), Tap::new(Levels::default()));
    Ok((media, registry))
}

fn feedback(typ: &str, parameter: &str) -> RTCPFeedback {
    RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() }
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: OPUS.to_owned(),
        clock_rate: AUDIO_CLOCK_RATE,
        channels: 2,
        sdp_fmtp_line: OPUS_PARAMETERS.to_owned(),
        rtcp_feedback: audio_feedback(),
    }
}

/// The track stays one of Opus: whether a packet carries redundancy is said by its payload type alone.
fn red() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: RED.to_owned(),
        clock_rate: AUDIO_CLOCK_RATE,
        channels: 2,
        sdp_fmtp_line: RED_PARAMETERS.to_owned(),
        // Feedback is that of the payload type which comes first.
        rtcp_feedback: audio_feedback(),
    }
}

/// Lost sound is asked for again (RFC 4585 section 4.2).
fn audio_feedback() -> Vec<RTCPFeedback> {
    vec![feedback("nack", ""), feedback("transport-cc", "")]
}

/// All codecs of videos, this one first.
pub(super) fn video_codecs(first: VideoCodec) -> Vec<RTCRtpCodecParameters> {
    let vp8 = RTCRtpCodecParameters { rtp_codec: video(VideoCodec::Vp8), payload_type: VP8_PAYLOAD_TYPE };
    let h264 = RTCRtpCodecParameters { rtp_codec: video(VideoCodec::H264), payload_type: H264_PAYLOAD_TYPE };
    match first {
        VideoCodec::Vp8 => vec![vp8, h264],
        VideoCodec::H264 => vec![h264, vp8],
    }
}

fn video(codec: VideoCodec) -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: video_mime(codec).to_owned(),
        clock_rate: VIDEO_CLOCK_RATE,
        channels: 0,
        sdp_fmtp_line: match codec {
            VideoCodec::Vp8 => String::new(),
            VideoCodec::H264 => H264_PARAMETERS.to_owned(),
        },
        rtcp_feedback: vec![feedback("nack", "pli"), feedback("ccm", "fir"), feedback("transport-cc", "")],
    }
}

pub(super) fn video_mime(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::Vp8 => "video/VP8",
        VideoCodec::H264 => "video/H264",
    }
}

pub(super) fn audio_track() -> Result<MediaStreamTrack> {
    Ok(track(RtpCodecKind::Audio, opus())?.0)
}

/// With its source, which names it in requests for keyframes.
pub(super) fn video_track(codec: VideoCodec) -> Result<(MediaStreamTrack, u32)> {
    track(RtpCodecKind::Video, video(codec))
}

/// A track of one connection; its names mean nothing.
fn track(kind: RtpCodecKind, codec: RTCRtpCodec) -> Result<(MediaStreamTrack, u32)> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(|error| Error::Other(error.to_string()))?;
    let [a, b, c, d, name @ ..] = random;
    let ssrc = u32::from_ne_bytes([a, b, c, d]).max(1);
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
    let encoding =
        RTCRtpEncodingParameters { rtp_coding_parameters: coding, active: true, codec, ..Default::default() };
    let name = format!("{:016x}", u64::from_ne_bytes(name));
    Ok((MediaStreamTrack::new("-".to_owned(), name, String::new(), kind, vec![encoding]), ssrc))
}

pub(super) fn configuration(config: &Config) -> RTCConfiguration {
    let policy = if config.relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
    RTCConfigurationBuilder::new()
        .with_ice_servers(config.ice_servers.iter().enumerate().filter_map(server).collect())
        .with_ice_transport_policy(policy)
        .build()
}

fn server((index, server): (usize, &IceServer)) -> Option<RTCIceServer> {
    Some(RTCIceServer {
        urls: vec![engine_url(index, server)?],
        username: server.username.clone(),
        credential: server.credential.clone(),
    })
}

pub(super) fn setting_engine(config: &Config) -> SettingEngine {
    let t = &config.timeouts;
    let relay_wait = if config.relay_only { Duration::ZERO } else { t.relay_wait };
    SettingEngineBuilder::new()
        .with_ice_timeouts(Some(t.ice_disconnected), Some(t.ice_failed), Some(t.ice_keepalive))
        .with_ice_connection_attempts(Some(t.ice_check_interval), Some(t.ice_check_attempts))
        .with_host_acceptance_min_wait(Some(Duration::ZERO))
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_srflx_acceptance_min_wait(Some(t.srflx_wait))
        .with_relay_acceptance_min_wait(Some(relay_wait))
        .with_discard_local_candidates_during_ice_restart(true)
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_MESSAGE_BYTES as u32))
        .with_sctp_max_receive_buffer_size(SCTP_RECEIVE_BUFFER)
        // Neither asks the local network for names nor shows ours to it.
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .build()
}

/// Unspecified addresses are resolved by the engine when it binds, so that a later restart finds a new network.
pub(super) fn bind_addresses(config: &Config) -> Vec<SocketAddr> {
    if !config.addresses.is_empty() {
        return config.addresses.iter().map(|address| SocketAddr::new(*address, 0)).collect();
    }
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))];
    // Without an address of the family the engine would show the unspecified one.
    if has_ipv6() {
        addresses.push(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    }
    addresses
}

fn has_ipv6() -> bool {
    let Ok(interfaces) = rtc::shared::ifaces::ifaces() else { return false };
    interfaces.iter().filter_map(|interface| interface.addr).any(|address| match address.ip() {
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    })
}
