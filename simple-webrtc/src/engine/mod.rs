//! The only place that knows the WebRTC engine.

mod handler;
#[cfg(test)]
mod hostile_tests;
mod media;
mod runtime;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rtc::peer_connection::transport::RTCDtlsTransportState;
use tokio::task::JoinHandle;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCIceCandidateInit, RTCIceCandidateType, RTCSdpType,
    RTCSessionDescription, RTCStatsReportEntry, StatsSelector,
};
use webrtc::rtp_transceiver::RtpSender;

use crate::config::Config;
use crate::description::{Candidate, CandidateKind, Description, DescriptionKind};
use crate::queue::Queue;
use crate::stats::{Counters, Route};
use crate::track::Frame;

pub(crate) use handler::{Inbox, Outbox, Signal};
pub(crate) use media::IncomingTrack;

/// What the engine could not do. What it says about it can hold addresses and descriptions, so that goes to the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineError {
    BadDescription,
    NoAddress,
    Failed { doing: &'static str },
}

impl EngineError {
    fn new(doing: &'static str, error: impl fmt::Display) -> Self {
        tracing::trace!(doing, %error, "the engine failed");
        Self::Failed { doing }
    }
}

/// The path in use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Path {
    pub(crate) round_trip_ms: Option<f64>,
    pub(crate) route: Option<Route>,
}

/// One PeerConnection with one audio section that sends and receives. Never reused.
pub(crate) struct Connection {
    engine: Arc<dyn PeerConnection>,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
    closed: AtomicBool,
}

impl Connection {
    /// Binds the sockets. Must not be cancelled: the engine would keep what it had made so far.
    pub(crate) async fn open(config: &Config, outbox: Outbox) -> Result<Self, EngineError> {
        let failed = |error| EngineError::new("set up a connection", error);
        let (media, interceptors) = settings::media().map_err(failed)?;
        let engine = PeerConnectionBuilder::new()
            .with_configuration(settings::configuration(config))
            .with_setting_engine(settings::setting_engine(config))
            .with_media_engine(media)
            .with_interceptor_registry(interceptors)
            .with_runtime(Arc::new(runtime::Watched::new(outbox.clone())))
            .with_handler(Arc::new(handler::Handler::new(outbox)))
            .with_udp_addrs(settings::bind_addresses(config))
            .build()
            .await
            .map_err(|error| {
                tracing::trace!(%error, "no socket");
                EngineError::NoAddress
            })?;
        let engine: Arc<dyn PeerConnection> = Arc::new(engine);
        match Self::add_audio(&engine).await {
            Ok((track, sender)) => Ok(Self { engine, track, sender, closed: AtomicBool::new(false) }),
            Err(error) => {
                close(&engine).await;
                Err(failed(error))
            }
        }
    }

    /// Both sides add the transceiver before any description: the offer then has it, and the engine puts the answerer's
    /// onto the offered section, so that both directions share one.
    async fn add_audio(
        engine: &Arc<dyn PeerConnection>,
    ) -> Result<(Arc<TrackLocalStaticRTP>, Arc<dyn RtpSender>), webrtc::error::Error> {
        let track = Arc::new(TrackLocalStaticRTP::new(settings::audio_track()?));
        let transceiver = engine.add_transceiver_from_track(track.clone(), None).await?;
        let sender = transceiver.sender().await?;
        let sender = sender.ok_or(webrtc::error::Error::ErrRTPSenderNotExisted)?;
        Ok((track, sender))
    }

    pub(crate) async fn offer(&self) -> Result<Description, EngineError> {
        let doing = "make an offer";
        let offer = self.engine.create_offer(None).await.map_err(|error| EngineError::new(doing, error))?;
        self.describe(doing, DescriptionKind::Offer, offer).await
    }

    pub(crate) async fn answer(&self, offer: &Description) -> Result<Description, EngineError> {
        self.set_remote(offer).await?;
        let doing = "make an answer";
        let answer = self.engine.create_answer(None).await.map_err(|error| EngineError::new(doing, error))?;
        self.describe(doing, DescriptionKind::Answer, answer).await
    }

    pub(crate) async fn accept_answer(&self, answer: &Description) -> Result<(), EngineError> {
        self.set_remote(answer).await
    }

    /// One that the engine does not take is of no use; others may be.
    pub(crate) async fn add_candidate(&self, candidate: &Candidate) {
        let init = RTCIceCandidateInit {
            candidate: candidate.as_str().to_owned(),
            sdp_mid: None,
            // Everything is bundled onto the first section.
            sdp_mline_index: Some(0),
            username_fragment: None,
            url: None,
        };
        if let Err(error) = self.engine.add_ice_candidate(init).await {
            tracing::trace!(%error, "the engine refused a candidate of the peer");
        }
    }

    /// Sends what comes in the queue, until it is closed. Only after negotiation: the payload type is known then.
    pub(crate) fn write_from(&self, queue: Arc<Queue<Frame>>, counters: Arc<Counters>) -> JoinHandle<()> {
        tokio::spawn(media::write(self.track.clone(), self.sender.clone(), queue, counters))
    }

    /// Whether the peer has closed the DTLS transport. The engine reports nothing of the kind for media.
    pub(crate) async fn remote_closed(&self) -> bool {
        self.dtls().await == Some(RTCDtlsTransportState::Closed)
    }

    /// Whether it was the handshake that failed.
    pub(crate) async fn handshake_failed(&self) -> bool {
        self.dtls().await == Some(RTCDtlsTransportState::Failed)
    }

    async fn dtls(&self) -> Option<RTCDtlsTransportState> {
        self.sender.transport().await.ok()??.state().await.ok()
    }

    pub(crate) async fn path(&self) -> Path {
        let selected = match self.sender.transport().await {
            Ok(Some(dtls)) => dtls.ice_transport().get_selected_candidate_pair().await.ok().flatten(),
            _ => None,
        };
        let Some(pair) = selected else { return Path::default() };
        let route = kind(pair.local().typ)
            .zip(kind(pair.remote().typ))
            .map(|(local, remote)| Route { local, remote });
        let now = tokio::time::Instant::now().into_std();
        let report = self.engine.get_stats(now, StatsSelector::None).await;
        let round_trip_ms = report.iter().find_map(|entry| match entry {
            RTCStatsReportEntry::IceCandidatePair(stats)
                if stats.local_candidate_id.ends_with(&pair.local().id)
                    && stats.remote_candidate_id.ends_with(&pair.remote().id)
                    && stats.responses_received > 0 =>
            {
                Some(stats.current_round_trip_time * 1000.0)
            }
            _ => None,
        });
        Path { round_trip_ms, route }
    }

    /// Ends everything the engine holds: sockets, its task, the streams of the tracks. Tells the peer.
    pub(crate) async fn close(&self) {
        close(&self.engine).await;
        self.closed.store(true, Ordering::Release);
    }

    async fn set_remote(&self, description: &Description) -> Result<(), EngineError> {
        let sdp = description.as_str().to_owned();
        let parsed = match description.kind() {
            DescriptionKind::Offer => RTCSessionDescription::offer(sdp),
            DescriptionKind::Answer => RTCSessionDescription::answer(sdp),
        };
        let bad = |error| {
            tracing::trace!(%error, "the engine refused the peer's description");
            EngineError::BadDescription
        };
        self.engine.set_remote_description(parsed.map_err(bad)?).await.map_err(bad)
    }

    async fn describe(
        &self,
        doing: &'static str,
        kind: DescriptionKind,
        sdp: RTCSessionDescription,
    ) -> Result<Description, EngineError> {
        debug_assert_eq!(sdp.sdp_type == RTCSdpType::Offer, kind == DescriptionKind::Offer);
        let description =
            Description::parse(kind, &sdp.sdp).map_err(|error| EngineError::new(doing, error))?;
        self.engine.set_local_description(sdp).await.map_err(|error| EngineError::new(doing, error))?;
        Ok(description)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The engine's task owns its sockets and does not end because its handle is dropped.
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let engine = self.engine.clone();
            runtime.spawn(async move { close(&engine).await });
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.closed).finish_non_exhaustive()
    }
}

async fn close(engine: &Arc<dyn PeerConnection>) {
    if let Err(error) = engine.close().await {
        tracing::trace!(%error, "closing");
    }
}

fn kind(typ: RTCIceCandidateType) -> Option<CandidateKind> {
    match typ {
        RTCIceCandidateType::Host => Some(CandidateKind::Host),
        RTCIceCandidateType::Srflx => Some(CandidateKind::ServerReflexive),
        RTCIceCandidateType::Prflx => Some(CandidateKind::PeerReflexive),
        RTCIceCandidateType::Relay => Some(CandidateKind::Relay),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    async fn connection() -> (Connection, Inbox) {
        let config = Config::builder().addresses([IpAddr::from(Ipv4Addr::LOCALHOST)]).build().expect("valid");
        let inbox = Inbox::new();
        let connection = Connection::open(&config, inbox.sender()).await.expect("loopback");
        (connection, inbox)
    }

    fn lines<'a>(description: &'a Description, prefix: &str) -> Vec<&'a str> {
        description.as_str().lines().filter(|line| line.starts_with(prefix)).collect()
    }

    /// One section in each description carries both directions, with Opus and nothing else, and no address.
    #[tokio::test]
    async fn both_directions_share_one_section() {
        let (a, _a) = connection().await;
        let (b, _b) = connection().await;
        let offer = a.offer().await.expect("offer");
        let answer = b.answer(&offer).await.expect("answer");
        a.accept_answer(&answer).await.expect("accept");
        for description in [&offer, &answer] {
            let media = lines(description, "m=");
            assert_eq!(media.len(), 1, "{media:?}");
            assert!(media[0].starts_with("m=audio ") && media[0].ends_with(" 111"), "{media:?}");
            assert_eq!(lines(description, "a=sendrecv").len(), 1);
            assert_eq!(lines(description, "a=fmtp:"), ["a=fmtp:111 minptime=10;useinbandfec=1"]);
            assert_eq!(lines(description, "a=rtpmap:"), ["a=rtpmap:111 opus/48000/2"]);
            assert_eq!(lines(description, "a=extmap:").len(), 1);
            assert_eq!(lines(description, "a=candidate:").len(), 0);
            assert!(!description.as_str().contains("127.0.0.1"));
        }
        // A certificate serves one connection, so that connections cannot be linked by it.
        assert_ne!(offer.fingerprint(), answer.fingerprint());
        let (c, _c) = connection().await;
        assert_ne!(c.offer().await.expect("offer").fingerprint(), offer.fingerprint());
        for connection in [a, b, c] {
            connection.close().await;
        }
    }

    /// Guards what the owner has to do itself: the engine refuses candidates that come before the description.
    #[tokio::test]
    async fn the_engine_still_refuses_early_candidates() {
        let (a, _a) = connection().await;
        a.offer().await.expect("offer");
        let init = RTCIceCandidateInit {
            candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host".to_owned(),
            ..RTCIceCandidateInit::default()
        };
        assert!(a.engine.add_ice_candidate(init).await.is_err());
        a.close().await;
    }

    /// A connection that is dropped without being closed is closed by itself.
    #[tokio::test]
    async fn dropping_a_connection_frees_its_socket() {
        let (a, mut inbox) = connection().await;
        a.offer().await.expect("offer");
        let port = loop {
            if let Some(Signal::Candidate(candidate)) = inbox.recv().await {
                break candidate.as_str().split(' ').nth(5).expect("port").parse::<u16>().expect("number");
            }
        };
        let address = (Ipv4Addr::LOCALHOST, port);
        assert!(std::net::UdpSocket::bind(address).is_err(), "in use");
        drop(a);
        let freed = async {
            while std::net::UdpSocket::bind(address).is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), freed).await.expect("freed");
    }
}
