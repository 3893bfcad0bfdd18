//! The engine as it comes: its defaults, no settings of ours, nothing mended. For measuring, and for what it does that we rely
//! on or wish it did not.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::rtp::header::Header;
use rtc::rtp::packet::Packet;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceCandidateInit, RTCIceGatheringState, RTCIceServer, RTCIceTransportPolicy,
    RTCPeerConnectionIceErrorEvent, RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription,
    Registry, SettingEngine,
};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

use super::net::{Net, Wires};
use super::socket::Sockets;

const PAYLOAD_TYPE: u8 = 111;
/// One every 20 ms, as speech has them.
const TICK: Duration = Duration::from_millis(20);
/// Nothing here takes that long, in whatever time.
const PATIENCE: Duration = Duration::from_secs(60);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tokio on its own clock, over a network in memory, and nothing else that is ours.
#[derive(Debug)]
struct Virtual(Arc<Net>);

impl Runtime for Virtual {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Wires(self.0.clone()).wrap(socket)
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, remote: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn now(&self) -> Instant {
        time::Instant::now().into_std()
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn name(&self) -> &'static str {
        "tokio"
    }
}

pub(super) enum Event {
    Candidate(RTCIceCandidateInit),
    CandidateError,
    Gathered,
    State(RTCPeerConnectionState),
    Track(Arc<dyn TrackRemote>),
}

struct Handler(UnboundedSender<Event>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(candidate) = event.candidate.to_json() {
            let _ = self.0.send(Event::Candidate(candidate));
        }
    }

    async fn on_ice_candidate_error(&self, _event: RTCPeerConnectionIceErrorEvent) {
        let _ = self.0.send(Event::CandidateError);
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.0.send(Event::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let _ = self.0.send(Event::State(state));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _ = self.0.send(Event::Track(track));
    }
}

/// Where connections are made: on a network in memory, or on this machine; through a relay or not; with what settings.
#[derive(Clone, Default)]
pub(super) struct Place {
    pub(super) net: Option<Arc<Net>>,
    pub(super) servers: Vec<RTCIceServer>,
    pub(super) relay_only: bool,
    pub(super) pool: u8,
    pub(super) settings: Option<fn() -> SettingEngine>,
    /// Offered besides what is there by default.
    pub(super) codecs: Option<fn(&mut MediaEngine)>,
}

impl Place {
    pub(super) fn on(net: &Arc<Net>) -> Self {
        Self { net: Some(net.clone()), ..Self::default() }
    }

    pub(super) fn relayed(net: &Arc<Net>, relay: SocketAddr) -> Self {
        Self { servers: vec![turn(&format!("turn:{relay}"))], relay_only: true, ..Self::on(net) }
    }
}

pub(super) fn turn(url: &str) -> RTCIceServer {
    let (username, credential) = ("user".to_owned(), "secret".to_owned());
    RTCIceServer { urls: vec![url.to_owned()], username, credential }
}

/// One end, with nothing in it yet.
pub(super) struct Side {
    pub(super) engine: Arc<dyn PeerConnection>,
    pub(super) events: UnboundedReceiver<Event>,
}

impl Side {
    pub(super) async fn new(place: &Place) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let mut media = MediaEngine::default();
        match place.codecs {
            Some(register) => register(&mut media),
            None => media.register_default_codecs().expect("codecs"),
        }
        let interceptors = register_default_interceptors(Registry::new(), &mut media).expect("interceptors");
        let mut configuration = RTCConfigurationBuilder::new()
            .with_ice_servers(place.servers.clone())
            .with_ice_candidate_pool_size(place.pool);
        if place.relay_only {
            configuration = configuration.with_ice_transport_policy(RTCIceTransportPolicy::Relay);
        }
        let runtime: Arc<dyn Runtime> = match &place.net {
            Some(net) => Arc::new(Virtual(net.clone())),
            None => Arc::new(TokioRuntime),
        };
        let mut builder = PeerConnectionBuilder::new()
            .with_configuration(configuration.build())
            .with_media_engine(media)
            .with_interceptor_registry(interceptors)
            .with_runtime(runtime)
            .with_handler(Arc::new(Handler(sender)))
            .with_udp_addrs(vec!["127.0.0.1:0"]);
        if let Some(settings) = place.settings {
            builder = builder.with_setting_engine(settings());
        }
        Self { engine: Arc::new(builder.build().await.expect("loopback")), events }
    }

    /// With a track, and as ours has, a channel from the start.
    pub(super) async fn speaking(place: &Place, voice: &Voice) -> Self {
        let side = Self::new(place).await;
        side.engine.add_track(voice.track.clone()).await.expect("a track");
        side.engine.create_data_channel("signaling", None).await.expect("a channel");
        side
    }

    pub(super) async fn event(&mut self) -> Event {
        self.events.recv().await.expect("lives")
    }

    pub(super) async fn offer(&self, restart: bool) -> RTCSessionDescription {
        let options = RTCOfferOptions { ice_restart: restart };
        let offer = self.engine.create_offer(Some(options)).await.expect("an offer");
        self.engine.set_local_description(offer.clone()).await.expect("set");
        offer
    }

    pub(super) async fn answer(&self, offer: RTCSessionDescription) -> RTCSessionDescription {
        self.engine.set_remote_description(offer).await.expect("set");
        let answer = self.engine.create_answer(None).await.expect("an answer");
        self.engine.set_local_description(answer.clone()).await.expect("set");
        answer
    }

    pub(super) async fn close(&self) {
        self.engine.close().await.expect("closed");
    }
}

/// A source of sound.
pub(super) struct Voice {
    pub(super) track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
}

impl Voice {
    pub(super) fn new(ssrc: u32) -> Self {
        let codec = RTCRtpCodec {
            mime_type: "audio/opus".to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
            rtcp_feedback: Vec::new(),
        };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
            codec,
            ..Default::default()
        };
        let name = |what: &str| format!("{what}-{ssrc}");
        let track = MediaStreamTrack::new(
            name("stream"),
            name("track"),
            name("label"),
            RtpCodecKind::Audio,
            vec![encoding],
        );
        Self { track: Arc::new(TrackLocalStaticRTP::new(track)), ssrc }
    }

    /// Whether the engine takes it.
    pub(super) async fn write(&self, n: u16) -> bool {
        let header = Header {
            version: 2,
            payload_type: PAYLOAD_TYPE,
            sequence_number: n,
            timestamp: u32::from(n) * 960,
            ssrc: self.ssrc,
            ..Default::default()
        };
        let packet = Packet { header, payload: bytes::Bytes::from_static(&[7; 80]) };
        self.track.write_rtp(packet).await.is_ok()
    }
}

/// Two bare connections with each other, of which the first one speaks.
pub(super) struct Pair {
    pub(super) a: Side,
    pub(super) b: Side,
    pub(super) voice: Voice,
    pub(super) remote: Option<Arc<dyn TrackRemote>>,
    /// The last states.
    pub(super) states: [RTCPeerConnectionState; 2],
    pub(super) written: u16,
}

impl Pair {
    pub(super) async fn new(place: &Place) -> Self {
        let voice = Voice::new(1);
        let (a, b) = (Side::speaking(place, &voice).await, Side::speaking(place, &Voice::new(2)).await);
        Self::of(a, b, voice)
    }

    pub(super) fn of(a: Side, b: Side, voice: Voice) -> Self {
        Self { a, b, voice, remote: None, states: [RTCPeerConnectionState::New; 2], written: 0 }
    }

    /// From the first offer until both say that they are connected, with a signaling that takes no time.
    pub(super) async fn connect(place: &Place) -> (Self, Duration) {
        let mut pair = Self::new(place).await;
        let start = time::Instant::now();
        pair.negotiate(false).await;
        pair.until(RTCPeerConnectionState::Connected).await;
        (pair, start.elapsed())
    }

    pub(super) async fn negotiate(&self, restart: bool) {
        let answer = self.b.answer(self.a.offer(restart).await).await;
        self.a.engine.set_remote_description(answer).await.expect("set");
    }

    pub(super) async fn until(&mut self, state: RTCPeerConnectionState) {
        let done = async {
            while self.states != [state; 2] {
                self.step().await;
            }
        };
        time::timeout(PATIENCE, done).await.expect("in time");
    }

    /// Carries signals for this long.
    pub(super) async fn run(&mut self, time: Duration) {
        let until = time::Instant::now() + time;
        while time::timeout_at(until, self.step()).await.is_ok() {}
    }

    async fn step(&mut self) {
        let (event, at) = tokio::select! {
            event = self.a.events.recv() => (event.expect("lives"), 0),
            event = self.b.events.recv() => (event.expect("lives"), 1),
        };
        match event {
            Event::Candidate(candidate) => {
                let to = if at == 0 { &self.b } else { &self.a };
                // One that comes before the description is gathered again or of no use.
                let _ = to.engine.add_ice_candidate(candidate).await;
            }
            Event::State(state) => self.states[at] = state,
            Event::Track(track) if at == 1 => self.remote = Some(track),
            _ => {}
        }
    }

    /// The first side speaks every 20 ms until it is heard. How long that takes.
    pub(super) async fn heard(&mut self) -> Duration {
        self.heard_within(PATIENCE).await.expect("heard")
    }

    pub(super) async fn heard_within(&mut self, patience: Duration) -> Option<Duration> {
        let start = time::Instant::now();
        let mut tick = time::interval(TICK);
        while start.elapsed() < patience {
            tick.tick().await;
            self.write().await;
            let packet = async {
                loop {
                    match self.remote.clone() {
                        Some(track) => {
                            if let Some(TrackRemoteEvent::OnRtpPacket(_)) = track.poll().await {
                                return;
                            }
                        }
                        None => self.step().await,
                    }
                }
            };
            // A little before the next one, so that the clock does not choose between them.
            if time::timeout(TICK - Duration::from_millis(1), packet).await.is_ok() {
                return Some(start.elapsed());
            }
        }
        None
    }

    /// What a hundred packets take that leave every 20 ms: the median, and the longest.
    pub(super) async fn one_way(&mut self) -> (Duration, Duration) {
        self.heard().await;
        let track = self.remote.clone().expect("heard");
        while time::timeout(10 * TICK, track.poll()).await.is_ok() {}
        let first = self.written;
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    let _ = arrived.send((packet.header.sequence_number, time::Instant::now()));
                }
            }
        });
        let (mut tick, mut left) = (time::interval(TICK), Vec::new());
        for _ in 0..100 {
            tick.tick().await;
            left.push(time::Instant::now());
            self.write().await;
        }
        let mut ways = Vec::new();
        for _ in 0..100 {
            let arrival = time::timeout(PATIENCE, arrivals.recv()).await.expect("in time");
            let (sequence, at) = arrival.expect("open");
            ways.push(at.duration_since(left[usize::from(sequence - first)]));
        }
        reader.abort();
        ways.sort_unstable();
        (ways[50], ways[99])
    }

    /// Reads what arrives at the second side, for good.
    pub(super) fn drain(&self) {
        if let Some(track) = self.remote.clone() {
            tokio::spawn(async move { while track.poll().await.is_some() {} });
        }
    }

    pub(super) async fn write(&mut self) {
        assert!(self.voice.write(self.written).await, "connected");
        self.written = self.written.wrapping_add(1);
    }

    pub(super) async fn close(self) {
        self.a.close().await;
        self.b.close().await;
    }
}
