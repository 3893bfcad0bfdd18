//! What a connection needs of an engine, and what an engine tells. The real one is in `webrtc`; tests of everything
//! above it use one that follows a script (`fake`).

#[cfg(test)]
pub(crate) mod fake;
mod inbox;
pub(crate) mod webrtc;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use crate::certificate::Certificates;
use crate::channel::{Channel, ChannelOptions, RawChannel};
use crate::config::Config;
use crate::description::{Candidate, Description};
use crate::event::ServerProblem;
use crate::meter::Meter;
use crate::queue::Queue;
use crate::sink::Sink;
use crate::stats::{Counters, PairStats, Route, Security};
use crate::track::{RemoteTrack, VideoCodec, Written};

pub(crate) use inbox::{Inbox, Outbox};

/// What the engine could not do. What it says about it can hold addresses and descriptions, so that goes to the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineError {
    BadDescription,
    NoAddress,
    Failed { doing: &'static str },
}

/// How far the DTLS transport has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtls {
    /// Not shaken hands yet, or not known.
    Opening,
    Connected,
    /// Closed, by us or by the peer.
    Closed,
    Failed,
}

/// The path in use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Path {
    pub(crate) round_trip_ms: Option<f64>,
    pub(crate) route: Option<Route>,
    /// The address of this machine that it goes out from.
    pub(crate) local: Option<IpAddr>,
    pub(crate) security: Option<Security>,
}

/// What the engine reports.
#[derive(Debug)]
pub(crate) enum Signal {
    Candidate(Candidate),
    GatheringDone,
    PathFound,
    PathSilent,
    /// DTLS is connected, or closed already.
    Secured,
    /// ICE or DTLS has failed.
    Failed,
    /// Something passed by that can mean that the peer has closed: ask for the state of DTLS.
    PerhapsClosed,
    /// A side has refused the other's certificate. That of the peer is not authenticated: anybody could say it.
    CertificateRefused {
        by_us: bool,
    },
    Track(Box<dyn Incoming>),
    /// The first packet after a track was added, or added again.
    Heard(RemoteTrack),
    /// The peer wants a picture of one of our videos that needs no other one.
    KeyframeWanted {
        ssrc: u32,
    },
    /// The peer opens a channel.
    ChannelOpening(Arc<dyn RawChannel>),
    /// A channel of either side is open.
    Channel(Channel),
    /// The server at this place in the configuration is of no use.
    ServerFailed {
        index: usize,
        problem: ServerProblem,
    },
    /// The engine's task has ended, though nobody closed the connection.
    Stopped,
}

/// Makes connections.
#[async_trait]
pub(crate) trait Engine: Send + Sync + fmt::Debug + 'static {
    /// Binds the sockets. Must not be cancelled: the engine would keep what it had made so far.
    async fn open(&self, config: &Config, outbox: Outbox) -> Result<Arc<dyn Connection>, EngineError>;
}

/// One connection of an engine. Never reused. Dropping it without `close` closes it in the background.
#[async_trait]
pub(crate) trait Connection: Send + Sync + fmt::Debug + 'static {
    /// Makes an offer and sets it. With `restart`, ICE begins anew on fresh sockets; without, nothing changes for ICE. May
    /// be called again before an answer has come.
    async fn offer(&self, restart: bool) -> Result<Description, EngineError>;
    /// Sets the peer's offer, makes an answer and sets it. ICE restarts if the offer asks for that.
    async fn answer(&self, offer: &Description) -> Result<Description, EngineError>;
    async fn accept_answer(&self, answer: &Description) -> Result<(), EngineError>;
    /// Takes our own offer back, so that the peer's can be answered.
    async fn roll_back(&self) -> Result<(), EngineError>;
    /// One that the engine does not take is of no use; others may be.
    async fn add_candidate(&self, candidate: &Candidate);
    /// Sends what comes in the queue, until it is closed. Only after negotiation: the payload type is known then.
    fn write_from(&self, queue: Arc<Queue<Written>>, counters: Arc<Counters>) -> JoinHandle<()>;
    /// Makes room for one more video, active. The next offer tells the peer.
    async fn add_video(&self, codec: VideoCodec) -> Result<Arc<dyn VideoSlot>, EngineError>;
    /// Opens a channel; without options, the one that both sides know of without a word, which has to be there before the
    /// first description.
    async fn open_channel(
        &self,
        options: Option<&ChannelOptions>,
    ) -> Result<Arc<dyn RawChannel>, EngineError>;
    /// Gathering has had its time: servers that have not answered by now are told of.
    fn gathering_is_over(&self);
    /// Uses these servers, and their credentials, from the next description on.
    async fn set_servers(&self, config: &Config) -> Result<(), EngineError>;
    /// What the packets that pass say.
    fn meter(&self) -> Arc<Meter>;
    async fn dtls(&self) -> Dtls;
    /// What secures it; `None` before the handshake is over.
    async fn certificates(&self) -> Option<Certificates>;
    async fn path(&self) -> Path;
    /// All pairs of addresses that are looked at.
    async fn pairs(&self) -> Vec<PairStats>;
    /// Ends everything the engine holds: sockets, its task, the streams of the tracks. Tells the peer.
    async fn close(&self);
}

/// Room for one video in a connection. What it is told holds from the next negotiation on.
#[async_trait]
pub(crate) trait VideoSlot: Send + Sync + fmt::Debug + 'static {
    async fn set_active(&self, active: bool) -> Result<(), EngineError>;
    fn ssrc(&self) -> u32;
    /// As that of the connection.
    fn write_from(&self, queue: Arc<Queue<Written>>, counters: Arc<Counters>) -> JoinHandle<()>;
}

/// A track of the peer whose first packet has arrived.
#[async_trait]
pub(crate) trait Incoming: Send + Sync + fmt::Debug + 'static {
    /// Its name in the peer's description, and its codec if it is a video.
    async fn about(&self) -> (String, Option<VideoCodec>);
    /// Moves packets into the sink until the track ends, without ever waiting for a reader; asks for keyframes.
    fn read_into(self: Box<Self>, sink: Arc<Sink>, counters: Arc<Counters>) -> JoinHandle<()>;
}
