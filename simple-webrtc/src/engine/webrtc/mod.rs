//! The only place that knows the WebRTC engine.

#[cfg(test)]
mod accept_tests;
#[cfg(test)]
mod bare;
#[cfg(test)]
mod bare_traps;
#[cfg(test)]
mod bench;
mod certificates;
mod channel;
#[cfg(test)]
mod channel_tests;
#[cfg(test)]
mod chaos_tests;
mod checks;
mod faulty;
mod handler;
mod handshake;
#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod hostile_tests;
mod keyframes;
mod media;
#[cfg(test)]
mod net;
mod pace;
mod pairs;
mod path;
#[cfg(test)]
mod pool_tests;
#[cfg(test)]
mod quality_tests;
mod red;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod relay_tests;
mod repairs;
mod reports;
mod role;
mod runtime;
mod servers;
mod settings;
mod signaling;
mod socket;
mod tap;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trap_tests;
mod tunnel;
mod video;
#[cfg(test)]
mod video_tests;
#[cfg(test)]
mod virtual_tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::peer_connection::transport::RTCDtlsTransportState;
use tokio::task::JoinHandle;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCIceCandidateInit, RTCSdpType, RTCSessionDescription,
    StatsSelector,
};
use webrtc::rtp_transceiver::RtpSender;

use self::pace::Pace;
use self::role::Role;
use self::servers::Servers;
use self::socket::{Sockets, Watch};
use super::{Connection, Dtls, Engine, EngineError, Outbox, Path, Signal, VideoSlot};
use crate::certificate::Certificates;
use crate::channel::{ChannelOptions, RawChannel, SEND_BUFFER};
use crate::config::Config;
use crate::description::{Candidate, Description, DescriptionKind};
use crate::meter::Meter;
use crate::queue::Queue;
use crate::stats::{Counters, PairStats};
use crate::track::{VideoCodec, Written};

fn failed(doing: &'static str, error: impl fmt::Display) -> EngineError {
    tracing::trace!(doing, %error, "the engine failed");
    EngineError::Failed { doing }
}

/// Makes connections with the `webrtc` crate.
#[derive(Debug)]
pub(crate) struct Webrtc {
    sockets: Arc<dyn Sockets>,
    /// Off only to measure what it, and the early use of the signaling channel, are for.
    paced: bool,
    #[cfg(test)]
    paces: std::sync::Mutex<Vec<Arc<Pace>>>,
}

impl Default for Webrtc {
    fn default() -> Self {
        Self {
            sockets: Arc::new(socket::Real),
            paced: true,
            #[cfg(test)]
            paces: std::sync::Mutex::default(),
        }
    }
}

#[async_trait]
impl Engine for Webrtc {
    async fn open(&self, config: &Config, outbox: Outbox) -> Result<Arc<dyn Connection>, EngineError> {
        Ok(Arc::new(WebrtcConnection::open(self, config, outbox).await?))
    }
}

/// One PeerConnection with one audio section that sends and receives.
struct WebrtcConnection {
    engine: Arc<dyn PeerConnection>,
    /// Of the sound.
    outlet: media::Outlet,
    servers: Arc<Servers>,
    role: Arc<Role>,
    watch: Arc<Watch>,
    meter: Arc<Meter>,
    /// The payload type of redundant sound in our descriptions; 0 if there is none.
    red: Arc<AtomicU8>,
    /// The peer's ICE session.
    session: Mutex<Option<String>>,
    /// Descriptions so far.
    described: AtomicU64,
    closed: AtomicBool,
}

impl WebrtcConnection {
    async fn open(own: &Webrtc, config: &Config, outbox: Outbox) -> Result<Self, EngineError> {
        let failed = |error| failed("set up a connection", error);
        let (meter, red) = (Arc::new(Meter::default()), Arc::new(AtomicU8::new(0)));
        let (media, interceptors) = settings::media(config, outbox.clone(), &meter, &red).map_err(failed)?;
        let pace = Arc::new(Pace::new(own.paced));
        let servers = Arc::new(Servers::new(&config.ice_servers, outbox.clone()));
        #[cfg(test)]
        own.paces.lock().expect("not poisoned").push(pace.clone());
        let watch = Arc::new(Watch::new(pace.clone(), outbox.clone(), servers.clone(), meter.clone()));
        let sockets = match config.faults.clone() {
            Some(faults) => Arc::new(faulty::Faulty { sockets: own.sockets.clone(), faults }),
            None => own.sockets.clone(),
        };
        let runtime = runtime::Watched::new(outbox.clone(), sockets, watch.clone());
        let engine = PeerConnectionBuilder::new()
            .with_configuration(settings::configuration(config))
            .with_setting_engine(settings::setting_engine(config))
            .with_media_engine(media)
            .with_interceptor_registry(interceptors)
            .with_runtime(Arc::new(runtime))
            .with_handler(Arc::new(handler::Handler::new(outbox, pace.clone(), servers.clone(), red.clone())))
            .with_data_channel_send_buffer_limit(SEND_BUFFER)
            .with_udp_addrs(settings::bind_addresses(config))
            .build()
            .await
            .map_err(|error| {
                tracing::trace!(%error, "no socket");
                EngineError::NoAddress
            })?;
        let engine: Arc<dyn PeerConnection> = Arc::new(engine);
        match Self::add_audio(&engine).await {
            Ok((track, sender, sequence)) => {
                let outlet = media::Outlet { track, sender, sequence: Arc::new(sequence), pace };
                let (described, closed) = (AtomicU64::new(0), AtomicBool::new(false));
                let (role, session) = Default::default();
                Ok(Self { engine, outlet, servers, role, watch, meter, red, session, described, closed })
            }
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
    ) -> Result<(Arc<TrackLocalStaticRTP>, Arc<dyn RtpSender>, media::Sequence), webrtc::error::Error> {
        let track = Arc::new(TrackLocalStaticRTP::new(settings::audio_track()?));
        let transceiver = engine.add_transceiver_from_track(track.clone(), None).await?;
        let sender = transceiver.sender().await?;
        let sender = sender.ok_or(webrtc::error::Error::ErrRTPSenderNotExisted)?;
        Ok((track, sender, media::Sequence::random()?))
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
        let set = self.engine.set_remote_description(parsed.map_err(bad)?).await.map_err(bad);
        self.outlet.pace.turn();
        set?;
        *self.session() = description.ufrag().map(str::to_owned);
        Ok(())
    }

    fn session(&self) -> MutexGuard<'_, Option<String>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn describe(
        &self,
        doing: &'static str,
        kind: DescriptionKind,
        sdp: RTCSessionDescription,
    ) -> Result<Description, EngineError> {
        debug_assert_eq!(sdp.sdp_type == RTCSdpType::Offer, kind == DescriptionKind::Offer);
        let text = match kind {
            // Candidates are told one by one. What is said first must name none, since it may be said before they are.
            DescriptionKind::Offer if self.session().is_none() => without_candidates(&sdp.sdp),
            DescriptionKind::Offer => sdp.sdp.clone(),
            DescriptionKind::Answer => self.role.in_answer(&sdp.sdp),
        };
        let description = Description::parse(kind, &text).map_err(|error| failed(doing, error))?;
        self.red.store(red::payload_type(&text), Ordering::Relaxed);
        self.engine.set_local_description(sdp).await.map_err(|error| failed(doing, error))?;
        // The engine writes the nanoseconds of the clock there, so that a later description can have the lower number;
        // RFC 8866 section 5.2 wants it to count.
        Ok(description.numbered(1 + self.described.fetch_add(1, Ordering::Relaxed)))
    }
}

#[async_trait]
impl Connection for WebrtcConnection {
    async fn offer(&self, restart: bool) -> Result<Description, EngineError> {
        let doing = "make an offer";
        let options = RTCOfferOptions { ice_restart: restart };
        let offer = self.engine.create_offer(Some(options)).await.map_err(|error| failed(doing, error))?;
        self.describe(doing, DescriptionKind::Offer, offer).await
    }

    async fn answer(&self, offer: &Description) -> Result<Description, EngineError> {
        if self.session().as_deref().is_some_and(|session| Some(session) != offer.ufrag()) {
            self.watch.checks.restarted(offer.as_str());
        }
        self.set_remote(offer).await?;
        let doing = "make an answer";
        let answer = self.engine.create_answer(None).await.map_err(|error| failed(doing, error))?;
        let answer = self.describe(doing, DescriptionKind::Answer, answer).await?;
        Ok(answer.answering(offer))
    }

    async fn accept_answer(&self, answer: &Description) -> Result<(), EngineError> {
        self.set_remote(answer).await?;
        self.role.answered(answer.as_str());
        Ok(())
    }

    async fn roll_back(&self) -> Result<(), EngineError> {
        let mut rollback = RTCSessionDescription::default();
        rollback.sdp_type = RTCSdpType::Rollback;
        let done = self.engine.set_local_description(rollback).await;
        done.map_err(|error| failed("take its offer back", error))
    }

    async fn add_candidate(&self, candidate: &Candidate) {
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
        // Nothing tells the loop that there is one more to be checked.
        self.outlet.pace.turn();
    }

    fn write_from(&self, queue: Arc<Queue<Written>>, counters: Arc<Counters>) -> JoinHandle<()> {
        tokio::spawn(media::write(self.outlet.clone(), settings::OPUS, queue, counters))
    }

    async fn add_video(&self, codec: VideoCodec) -> Result<Arc<dyn VideoSlot>, EngineError> {
        let slot = video::Slot::open(&self.engine, codec, self.outlet.pace.clone()).await;
        Ok(Arc::new(slot.map_err(|error| failed("make room for a video", error))?))
    }

    async fn open_channel(
        &self,
        options: Option<&ChannelOptions>,
    ) -> Result<Arc<dyn RawChannel>, EngineError> {
        let (pace, failed) = (self.outlet.pace.clone(), |error| failed("open a channel", error));
        Ok(match options {
            Some(options) => {
                Arc::new(channel::WebrtcChannel::open(&self.engine, pace, options).await.map_err(failed)?)
            }
            None => {
                let opened =
                    signaling::Signaling::open(&self.engine, pace, &self.watch.early, self.role.clone())
                        .await;
                Arc::new(opened.map_err(failed)?)
            }
        })
    }

    fn gathering_is_over(&self) {
        self.servers.time_is_up();
    }

    async fn set_servers(&self, config: &Config) -> Result<(), EngineError> {
        self.servers.set(&config.ice_servers);
        let set = self.engine.set_configuration(settings::configuration(config)).await;
        set.map_err(|error| failed("take other servers", error))
    }

    fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    async fn dtls(&self) -> Dtls {
        let state = match self.outlet.sender.transport().await {
            Ok(Some(transport)) => transport.state().await.ok(),
            _ => None,
        };
        match state {
            Some(RTCDtlsTransportState::Connected) => Dtls::Connected,
            Some(RTCDtlsTransportState::Closed) => Dtls::Closed,
            Some(RTCDtlsTransportState::Failed) => Dtls::Failed,
            _ => Dtls::Opening,
        }
    }

    async fn certificates(&self) -> Option<Certificates> {
        let now = tokio::time::Instant::now().into_std();
        certificates::of(&self.engine.get_stats(now, StatsSelector::None).await)
    }

    async fn path(&self) -> Path {
        self.find_path().await
    }

    async fn pairs(&self) -> Vec<PairStats> {
        self.list_pairs().await
    }

    async fn close(&self) {
        close(&self.engine).await;
        self.closed.store(true, Ordering::Release);
    }
}

impl Drop for WebrtcConnection {
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

impl fmt::Debug for WebrtcConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebrtcConnection").field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// A description without the candidates that were gathered before it was made (RFC 8840 section 4.1).
fn without_candidates(sdp: &str) -> String {
    let names = |line: &str| line.starts_with("a=candidate:") || line.trim_end() == "a=end-of-candidates";
    sdp.split_inclusive('\n').filter(|line| !names(line)).collect()
}

async fn close(engine: &Arc<dyn PeerConnection>) {
    if let Err(error) = engine.close().await {
        tracing::trace!(%error, "closing");
    }
}
