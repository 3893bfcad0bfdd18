//! An engine that does what a test says, on tokio's clock.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time;

use super::{Connection, Dtls, Engine, EngineError, Outbox, Path, Signal, VideoSlot};
use crate::certificate::{Certificates, Fingerprint};
use crate::channel::{ChannelOptions, Message, RawChannel, RawEvent};
use crate::config::Config;
use crate::description::{Candidate, CandidateKind, Description, DescriptionKind};
use crate::meter::Meter;
use crate::queue::Queue;
use crate::stats::{Counters, Family, PairStats, Protocol, Route};
use crate::track::{VideoCodec, Written};

/// How the engine takes one kind of call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    At,
    After(Duration),
    Fail(EngineError),
    Never,
    Panic,
}

impl Reply {
    async fn come(self) -> Result<(), EngineError> {
        match self {
            Self::At => Ok(()),
            Self::After(delay) => {
                time::sleep(delay).await;
                Ok(())
            }
            Self::Fail(error) => Err(error),
            Self::Never => std::future::pending().await,
            Self::Panic => panic!("on purpose"),
        }
    }
}

/// How connections behave that are opened from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    pub(crate) open: Reply,
    pub(crate) offer: Reply,
    pub(crate) answer: Reply,
    pub(crate) accept: Reply,
    pub(crate) candidate: Reply,
    pub(crate) state: Reply,
    pub(crate) close: Reply,
}

impl Default for Script {
    fn default() -> Self {
        let at = Reply::At;
        Self { open: at, offer: at, answer: at, accept: at, candidate: at, state: at, close: at }
    }
}

/// What was asked of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Offer { restart: bool },
    Answer(Description),
    Accept(Description),
    RollBack,
    Candidate(Candidate),
    Write,
    AddVideo(VideoCodec),
    SetServers(usize),
    Close,
}

#[derive(Debug)]
pub(crate) struct FakeEngine {
    script: Mutex<Script>,
    made: mpsc::UnboundedSender<Arc<Fake>>,
}

impl FakeEngine {
    /// With it comes every connection, as soon as it is opened.
    pub(crate) fn new(script: Script) -> (Arc<Self>, mpsc::UnboundedReceiver<Arc<Fake>>) {
        let (made, connections) = mpsc::unbounded_channel();
        (Arc::new(Self { script: Mutex::new(script), made }), connections)
    }

    pub(crate) fn set(&self, script: Script) {
        *self.script.lock().expect("not poisoned") = script;
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn open(&self, _config: &Config, outbox: Outbox) -> Result<Arc<dyn Connection>, EngineError> {
        let script = *self.script.lock().expect("not poisoned");
        script.open.come().await?;
        let fake = Arc::new(Fake {
            script: Mutex::new(script),
            outbox,
            calls: Mutex::default(),
            described: Mutex::new((0, 0)),
            dtls: Mutex::new(Dtls::Opening),
            path: AtomicBool::new(false),
            meter: Arc::default(),
        });
        let _ = self.made.send(fake.clone());
        Ok(fake)
    }
}

/// One connection: it records what is asked of it, and signals what the test says.
#[derive(Debug)]
pub(crate) struct Fake {
    script: Mutex<Script>,
    outbox: Outbox,
    calls: Mutex<Vec<Call>>,
    /// Descriptions and ICE sessions so far.
    described: Mutex<(u64, u64)>,
    dtls: Mutex<Dtls>,
    path: AtomicBool,
    meter: Arc<Meter>,
}

/// Room for a video that goes nowhere.
#[derive(Debug)]
struct FakeSlot;

#[async_trait]
impl VideoSlot for FakeSlot {
    async fn set_active(&self, _active: bool) -> Result<(), EngineError> {
        Ok(())
    }

    fn ssrc(&self) -> u32 {
        7
    }

    fn write_from(&self, queue: Arc<Queue<Written>>, _counters: Arc<Counters>) -> JoinHandle<()> {
        tokio::spawn(async move { while queue.pop().await.is_some() {} })
    }
}

/// A channel that never opens.
#[derive(Debug)]
pub(crate) struct FakeChannel {
    options: Option<ChannelOptions>,
    events: mpsc::UnboundedSender<RawEvent>,
    incoming: tokio::sync::Mutex<mpsc::UnboundedReceiver<RawEvent>>,
}

#[async_trait]
impl RawChannel for FakeChannel {
    fn is_signaling(&self) -> bool {
        self.options.is_none()
    }

    async fn about(&self) -> Option<(String, bool)> {
        None
    }

    async fn next(&self) -> Option<RawEvent> {
        self.incoming.lock().await.recv().await
    }

    async fn send(&self, _message: Message) -> bool {
        true
    }

    async fn drain(&self) {}

    async fn close(&self) {
        let _ = self.events.send(RawEvent::Closed);
    }
}

impl Fake {
    pub(crate) fn signal(&self, signal: Signal) {
        self.outbox.put(signal);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("not poisoned").clone()
    }

    pub(crate) fn set(&self, script: Script) {
        *self.script.lock().expect("not poisoned") = script;
    }

    pub(crate) fn set_dtls(&self, dtls: Dtls) {
        *self.dtls.lock().expect("not poisoned") = dtls;
    }

    pub(crate) fn candidate(&self, port: u16) {
        let text = format!("candidate:1 1 udp 1 192.0.2.7 {port} typ host");
        self.signal(Signal::Candidate(Candidate::parse(&text).expect("valid")));
    }

    /// Tells of a path, which there then is until the next restart.
    pub(crate) fn path_found(&self) {
        self.path.store(true, Ordering::Release);
        self.signal(Signal::PathFound);
    }

    /// All the way up.
    pub(crate) fn connect(&self) {
        self.candidate(1);
        self.signal(Signal::GatheringDone);
        self.path_found();
        self.set_dtls(Dtls::Connected);
        self.signal(Signal::Secured);
    }

    fn called(&self, call: Call) -> Script {
        self.calls.lock().expect("not poisoned").push(call);
        *self.script.lock().expect("not poisoned")
    }

    fn describe(&self, kind: DescriptionKind, restart: bool) -> Description {
        let (version, session) = {
            let mut described = self.described.lock().expect("not poisoned");
            described.0 += 1;
            if restart || described.1 == 0 {
                described.1 += 1;
                self.path.store(false, Ordering::Release);
            }
            *described
        };
        description(kind, version, &format!("s{session}"))
    }
}

/// One that counts as `version`, of an ICE session with this name.
pub(crate) fn description(kind: DescriptionKind, version: u64, session: &str) -> Description {
    let hash = ["AB"; 32].join(":");
    let text = format!(
        "v=0\r\no=- 1 {version} IN IP4 0.0.0.0\r\na=fingerprint:sha-256 {hash}\r\nm=audio 9 x 0\r\na=ice-ufrag:{session}\r\n"
    );
    Description::parse(kind, &text).expect("valid")
}

#[async_trait]
impl Connection for Fake {
    async fn offer(&self, restart: bool) -> Result<Description, EngineError> {
        self.called(Call::Offer { restart }).offer.come().await?;
        Ok(self.describe(DescriptionKind::Offer, restart))
    }

    async fn answer(&self, offer: &Description) -> Result<Description, EngineError> {
        // The peer has restarted if it describes another session than before.
        let before = self.calls().into_iter().rev().find_map(|call| match call {
            Call::Answer(description) | Call::Accept(description) => Some(description),
            _ => None,
        });
        let restart = before.is_some_and(|before| before.ufrag() != offer.ufrag());
        self.called(Call::Answer(offer.clone())).answer.come().await?;
        Ok(self.describe(DescriptionKind::Answer, restart).answering(offer))
    }

    async fn accept_answer(&self, answer: &Description) -> Result<(), EngineError> {
        self.called(Call::Accept(answer.clone())).accept.come().await
    }

    async fn roll_back(&self) -> Result<(), EngineError> {
        self.called(Call::RollBack);
        Ok(())
    }

    async fn add_candidate(&self, candidate: &Candidate) {
        let script = self.called(Call::Candidate(candidate.clone()));
        let _ = script.candidate.come().await;
    }

    fn write_from(&self, queue: Arc<Queue<Written>>, counters: Arc<Counters>) -> JoinHandle<()> {
        self.called(Call::Write);
        tokio::spawn(async move {
            while let Some(frame) = queue.pop().await {
                counters.on_sent(frame.frame.payload.len());
            }
        })
    }

    async fn add_video(&self, codec: VideoCodec) -> Result<Arc<dyn VideoSlot>, EngineError> {
        self.called(Call::AddVideo(codec));
        Ok(Arc::new(FakeSlot))
    }

    async fn open_channel(
        &self,
        options: Option<&ChannelOptions>,
    ) -> Result<Arc<dyn RawChannel>, EngineError> {
        let (events, incoming) = mpsc::unbounded_channel();
        Ok(Arc::new(FakeChannel {
            options: options.cloned(),
            events,
            incoming: tokio::sync::Mutex::new(incoming),
        }))
    }

    fn gathering_is_over(&self) {}

    async fn set_servers(&self, config: &Config) -> Result<(), EngineError> {
        self.called(Call::SetServers(config.ice_servers.len()));
        Ok(())
    }

    fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    async fn dtls(&self) -> Dtls {
        let reply = self.script.lock().expect("not poisoned").state;
        let _ = reply.come().await;
        *self.dtls.lock().expect("not poisoned")
    }

    async fn certificates(&self) -> Option<Certificates> {
        let [local, remote] = [[1; 32], [2; 32]].map(Fingerprint::from_bytes);
        Some(Certificates { local, remote })
    }

    async fn path(&self) -> Path {
        let reply = self.script.lock().expect("not poisoned").state;
        let _ = reply.come().await;
        let (family, protocol) = (Family::Ipv4, Protocol::Udp);
        let route = Route { local: CandidateKind::Host, remote: CandidateKind::Host, family, protocol };
        let up = self.path.load(Ordering::Acquire);
        let own = IpAddr::from([192, 0, 2, 7]);
        Path { round_trip_ms: None, route: up.then_some(route), local: up.then_some(own), security: None }
    }

    async fn pairs(&self) -> Vec<PairStats> {
        Vec::new()
    }

    async fn close(&self) {
        let script = self.called(Call::Close);
        let _ = script.close.come().await;
    }
}
