use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::task::JoinHandle;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::PeerConnection;
use webrtc::rtp_transceiver::RtpTransceiver;

use super::pace::Pace;
use super::{failed, media, settings};
use crate::engine::{EngineError, VideoSlot};
use crate::queue::Queue;
use crate::stats::Counters;
use crate::track::{VideoCodec, Written};

/// A section of the description that only we send in. Once there, it stays, so that a video that goes and comes does not
/// make descriptions longer each time.
pub(super) struct Slot {
    transceiver: Arc<dyn RtpTransceiver>,
    outlet: media::Outlet,
    ssrc: u32,
    codec: VideoCodec,
}

impl Slot {
    pub(super) async fn open(
        engine: &Arc<dyn PeerConnection>,
        codec: VideoCodec,
        pace: Arc<Pace>,
    ) -> Result<Self, webrtc::error::Error> {
        let (track, ssrc) = settings::video_track(codec)?;
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        // Not with `add_track`: that takes a section in which the peer only sends, and the peer then never hears of it.
        let transceiver = engine.add_transceiver_from_track(track.clone(), Some(init)).await?;
        // The first answer with a video freezes what its kind can use, so both codecs have to be in the first offer.
        transceiver.set_codec_preferences(settings::video_codecs(codec)).await?;
        let sender = transceiver.sender().await?;
        let sender = sender.ok_or(webrtc::error::Error::ErrRTPSenderNotExisted)?;
        let outlet = media::Outlet { track, sender, sequence: Arc::new(media::Sequence::random()?), pace };
        Ok(Self { transceiver, outlet, ssrc, codec })
    }
}

#[async_trait]
impl VideoSlot for Slot {
    async fn set_active(&self, active: bool) -> Result<(), EngineError> {
        let direction = match active {
            true => RTCRtpTransceiverDirection::Sendonly,
            false => RTCRtpTransceiverDirection::Inactive,
        };
        let set = self.transceiver.set_direction(direction).await;
        set.map_err(|error| failed("change the direction of a video", error))
    }

    fn ssrc(&self) -> u32 {
        self.ssrc
    }

    fn write_from(&self, queue: Arc<Queue<Written>>, counters: Arc<Counters>) -> JoinHandle<()> {
        tokio::spawn(media::write(self.outlet.clone(), settings::video_mime(self.codec), queue, counters))
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("codec", &self.codec).finish_non_exhaustive()
    }
}
