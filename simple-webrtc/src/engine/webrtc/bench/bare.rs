//! The engine as it comes: its defaults, no settings of ours, nothing mended.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::media_stream::MediaStreamTrack;
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
    RTCIceCandidateInit, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent,
    RTCPeerConnectionState, Registry,
};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

use super::super::net::{Net, Wires};
use super::super::socket::Sockets;
use super::{TICK, median, patient};

const PAYLOAD_TYPE: u8 = 111;

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

enum Event {
    Candidate(RTCIceCandidateInit),
    Connected,
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

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            let _ = self.0.send(Event::Connected);
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _ = self.0.send(Event::Track(track));
    }
}

struct Side {
    engine: Arc<dyn PeerConnection>,
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    events: UnboundedReceiver<Event>,
}

/// Where connections are made: on a network in memory, or on this machine; through a relay or not.
#[derive(Clone, Default)]
pub(super) struct Place {
    pub(super) net: Option<Arc<Net>>,
    pub(super) relay: Option<SocketAddr>,
}

impl Side {
    async fn new(place: &Place, ssrc: u32) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let mut media = MediaEngine::default();
        media.register_default_codecs().expect("codecs");
        let interceptors = register_default_interceptors(Registry::new(), &mut media).expect("interceptors");
        let mut configuration = RTCConfigurationBuilder::new();
        if let Some(relay) = place.relay {
            let server = RTCIceServer {
                urls: vec![format!("turn:{relay}")],
                username: "user".to_owned(),
                credential: "secret".to_owned(),
            };
            configuration = configuration.with_ice_servers(vec![server]);
            configuration = configuration.with_ice_transport_policy(RTCIceTransportPolicy::Relay);
        }
        let runtime: Arc<dyn Runtime> = match &place.net {
            Some(net) => Arc::new(Virtual(net.clone())),
            None => Arc::new(TokioRuntime),
        };
        let engine = PeerConnectionBuilder::new()
            .with_configuration(configuration.build())
            .with_media_engine(media)
            .with_interceptor_registry(interceptors)
            .with_runtime(runtime)
            .with_handler(Arc::new(Handler(sender)))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("loopback");
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
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        engine.add_track(track.clone()).await.expect("a track");
        // As ours has: a channel from the start.
        engine.create_data_channel("signaling", None).await.expect("a channel");
        Self { engine: Arc::new(engine), track, ssrc, events }
    }

    async fn write(&self, n: u16) {
        let header = Header {
            version: 2,
            payload_type: PAYLOAD_TYPE,
            sequence_number: n,
            timestamp: u32::from(n) * 960,
            ssrc: self.ssrc,
            ..Default::default()
        };
        let packet = Packet { header, payload: super::load::payload() };
        self.track.write_rtp(packet).await.expect("connected");
    }
}

/// Two bare connections with each other.
pub(super) struct Pair {
    a: Side,
    b: Side,
    remote: Option<Arc<dyn TrackRemote>>,
    written: u16,
}

impl Pair {
    /// From the first offer until both say that they are connected, with a signaling that takes no time.
    pub(super) async fn connect(place: &Place) -> (Self, Duration) {
        let (mut a, mut b) = (Side::new(place, 1).await, Side::new(place, 2).await);
        let start = time::Instant::now();
        let offer = a.engine.create_offer(None).await.expect("an offer");
        a.engine.set_local_description(offer.clone()).await.expect("set");
        b.engine.set_remote_description(offer).await.expect("set");
        let answer = b.engine.create_answer(None).await.expect("an answer");
        b.engine.set_local_description(answer.clone()).await.expect("set");
        a.engine.set_remote_description(answer).await.expect("set");
        let (mut connected, mut remote) = ((false, false), None);
        while connected != (true, true) {
            let (event, at_a) = patient(async {
                tokio::select! {
                    event = a.events.recv() => (event.expect("lives"), true),
                    event = b.events.recv() => (event.expect("lives"), false),
                }
            })
            .await;
            match event {
                Event::Candidate(candidate) => {
                    let to = if at_a { &b } else { &a };
                    to.engine.add_ice_candidate(candidate).await.expect("a candidate");
                }
                Event::Connected if at_a => connected.0 = true,
                Event::Connected => connected.1 = true,
                Event::Track(track) => remote = remote.or(Some(track)),
            }
        }
        (Self { a, b, remote, written: 0 }, start.elapsed())
    }

    /// The first side speaks every 20 ms until it is heard. How long that takes.
    pub(super) async fn heard(&mut self) -> Duration {
        let start = time::Instant::now();
        let mut tick = time::interval(TICK);
        loop {
            tick.tick().await;
            self.a.write(self.written).await;
            self.written += 1;
            let packet = async {
                loop {
                    match &self.remote {
                        Some(track) => {
                            if let Some(TrackRemoteEvent::OnRtpPacket(_)) = track.poll().await {
                                return;
                            }
                        }
                        None => {
                            if let Some(Event::Track(track)) = self.b.events.recv().await {
                                self.remote = Some(track);
                            }
                        }
                    }
                }
            };
            // A little before the next one, so that the clock does not choose between them.
            if time::timeout(TICK - Duration::from_millis(1), packet).await.is_ok() {
                return start.elapsed();
            }
        }
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
            self.a.write(self.written).await;
            self.written += 1;
        }
        let mut ways = Vec::new();
        for _ in 0..100 {
            let (sequence, at) = patient(arrivals.recv()).await.expect("open");
            ways.push(at.duration_since(left[usize::from(sequence - first)]));
        }
        reader.abort();
        (median(ways.clone()), ways.into_iter().max().expect("a hundred"))
    }

    /// Reads what arrives at the second side, for good.
    pub(super) fn drain(&self) {
        if let Some(track) = self.remote.clone() {
            tokio::spawn(async move { while track.poll().await.is_some() {} });
        }
    }

    pub(super) async fn write(&mut self) {
        self.a.write(self.written).await;
        self.written = self.written.wrapping_add(1);
    }

    pub(super) async fn close(self) {
        for side in [&self.a, &self.b] {
            side.engine.close().await.expect("closed");
        }
    }
}
