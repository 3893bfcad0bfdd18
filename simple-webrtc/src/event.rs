use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::advice::Advice;
use crate::certificate::Certificates;
use crate::channel::Channel;
use crate::description::{Candidate, Description};
use crate::peers::Shared;
use crate::quality::Quality;
use crate::track::{LocalTrack, RemoteTrack, TrackId};

/// Tells the connections that were made to one peer apart; later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that a connection did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Event<K> {
    /// The peer.
    pub peer: K,
    /// Which of the peer's connections.
    pub generation: Generation,
    /// When it happened, on tokio's clock.
    pub at: Instant,
    /// What happened.
    pub kind: EventKind,
}

/// What a connection did.
#[derive(Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// The description to send to the peer: an offer after `dial` and `restart`, an answer after `accept` and after an
    /// offer was applied. It holds no candidates.
    LocalDescription(Description),
    /// A candidate to send to the peer. Always after the description.
    LocalCandidate(Candidate),
    /// No further candidates are to be expected. (After a restart that interrupts a gathering, some may.)
    GatheringDone,
    /// The connection has reached another state.
    State(LinkState),
    /// The first packet of a track of the peer has arrived.
    RemoteTrack(RemoteTrack),
    /// The peer has removed a track. The same is said by `RemoteTrack::recv`, which then gives `None`.
    RemoteTrackEnded(TrackId),
    /// The peer needs a picture of this video that needs no other one: it has lost some, or has just begun. At most four
    /// times a second for each video.
    KeyframeWanted(LocalTrack),
    /// A data channel is open, opened by either side. Each connection has one from the start
    /// ([`Channel::is_signaling`]), which comes once it is connected.
    Channel(Channel),
    /// The handshake is over, with these certificates. Once, before [`LinkState::Connected`] and before any [`Channel`].
    Secured(Certificates),
    /// A STUN or TURN server is of no use to this connection. Told once for each gathering; others may do.
    ServerFailed {
        /// Its URL, as it was configured.
        url: String,
        /// What is wrong with it.
        problem: ServerProblem,
    },
    /// The sound has become poor for one side or both, or is good again; looked at once a second while connected. Poor is a
    /// rating below 60 for 3 s, good again one of 70 and more for 5 s.
    Quality(Quality),
    /// What the encoder should know changed: at most once a second unless less may be sent, and only by a step that matters.
    Advice(Advice),
    /// The addresses of this machine have changed while the connection lived, noticed within 0.5 s; or other servers are to be used and the
    /// first offer has no answer yet, so that its candidates are out of date.
    AddressChanged {
        /// Whether the address that this connection goes out from is gone. Then nothing will come of the path, and
        /// [`Peers::restart`](crate::Peers::restart) finds another one; otherwise it may well work on.
        lost: bool,
    },
}

/// How far a connection has come. Only moves forward, but for `Connected`, `Disconnected` and `Reconnecting`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkState {
    /// Descriptions are being made and exchanged.
    Negotiating,
    /// Both descriptions are set; ICE looks for a path.
    Checking,
    /// There is a path; DTLS is shaking hands over it.
    Securing,
    /// Media flows.
    Connected,
    /// The peer has stopped answering: the last answer came [`ice_disconnected`](crate::Timeouts) before the event. Heals
    /// by itself if the path comes back.
    Disconnected,
    /// A path is being looked for anew, on fresh sockets, because one of the two sides asked for it
    /// ([`Peers::restart`](crate::Peers::restart)). Nothing is sent or received meanwhile.
    Reconnecting,
    /// It did not work, or does no longer. Final: nothing of the connection is left.
    Failed {
        /// The step that failed.
        step: Step,
        /// Why.
        reason: FailReason,
    },
    /// Ended on purpose. Final: nothing of the connection is left.
    Closed {
        /// Whether the peer ended it.
        by_remote: bool,
    },
}

impl LinkState {
    /// Whether nothing of the connection is left.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Closed { .. })
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negotiating => f.write_str("negotiating"),
            Self::Checking => f.write_str("looking for a path"),
            Self::Securing => f.write_str("securing the path"),
            Self::Connected => f.write_str("connected"),
            Self::Disconnected => f.write_str("disconnected"),
            Self::Reconnecting => f.write_str("reconnecting"),
            Self::Failed { step, reason } => write!(f, "failed while {step}: {reason}"),
            Self::Closed { by_remote: true } => f.write_str("closed by the peer"),
            Self::Closed { by_remote: false } => f.write_str("closed"),
        }
    }
}

/// The steps at which a connection can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Making and exchanging descriptions.
    Negotiating,
    /// Gathering own addresses.
    Gathering,
    /// Looking for a path.
    Checking,
    /// The DTLS handshake.
    Securing,
    /// Once connected.
    Connected,
    /// Looking for another path once connected.
    Reconnecting,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Negotiating => "negotiating",
            Self::Gathering => "gathering addresses",
            Self::Checking => "looking for a path",
            Self::Securing => "securing the path",
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
        })
    }
}

/// What is wrong with a STUN or TURN server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ServerProblem {
    /// Its name is not known, or cannot be looked up now.
    #[error("its name cannot be resolved")]
    Unresolved,
    /// It does not answer, or takes no connection.
    #[error("it does not answer")]
    Unreachable,
    /// Its certificate is not trusted or not its own, or TLS failed otherwise.
    #[error("TLS with it failed")]
    Tls,
    /// It does not take the user name and credential.
    #[error("it refuses the credentials")]
    WrongCredentials,
    /// It refuses for another reason, for instance 486: too many allocations (RFC 8656 section 19).
    #[error("it refuses with error {code}")]
    Refused {
        /// The error code of its answer.
        code: u16,
    },
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailReason {
    /// The step took longer than [`Timeouts`](crate::Timeouts) allows.
    #[error("not done after {after:?}")]
    TimedOut {
        /// The time it was given.
        after: Duration,
    },
    /// Nothing to be reached at: no network, or, with `relay_only`, no relay that accepted us.
    #[error("no address to be reached at (no network, or no relay that accepts the credentials)")]
    NoLocalCandidates,
    /// With `relay_only`: no relay that can be used. This is what is wrong with the first one that failed.
    #[error("no relay can be used: {problem}")]
    NoRelay {
        /// What is wrong with it.
        problem: ServerProblem,
    },
    /// No pair of addresses worked.
    #[error("no path to the peer works")]
    NoPath,
    /// The path stopped working and did not come back in time.
    #[error("the path was lost")]
    PathLost,
    /// The DTLS handshake was refused.
    #[error("the handshake failed")]
    Handshake,
    /// The peer showed another certificate than the one in its description: somebody is in between, or the description is
    /// of another connection.
    #[error("the peer's certificate is not the one it had described")]
    FingerprintMismatch,
    /// The peer says that of our certificate, and the handshake did not end in time.
    #[error("the peer refused our certificate")]
    CertificateRefused,
    /// The peer's description cannot be used, for instance because no codec is common.
    #[error("the peer's description cannot be used")]
    BadDescription,
    /// Events came faster than anybody read them.
    #[error("events were not read in time")]
    Overloaded,
    /// The engine could not do something that it should be able to do.
    #[error("the engine could not {doing}")]
    Engine {
        /// What it should have done.
        doing: &'static str,
    },
}

/// The one ordered stream of what all connections do.
///
/// Bounded ([`event_capacity`](crate::ConfigBuilder::event_capacity)): connections wait for a slow reader. Dropping it
/// closes every connection.
#[derive(Debug)]
pub struct Events<K> {
    pub(crate) receiver: mpsc::Receiver<Event<K>>,
    pub(crate) shared: Arc<Shared<K>>,
}

impl<K: Ord> Events<K> {
    /// The next event; `None` once every [`Peers`](crate::Peers) is dropped and every connection has ended.
    ///
    /// Events of a connection that has been replaced by one of a higher generation are left out, also those that were
    /// already waiting. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event<K>> {
        loop {
            let event = self.receiver.recv().await?;
            if !self.shared.is_stale(&event.peer, event.generation) {
                return Some(event);
            }
            tracing::trace!(generation = event.generation.0, "stale event fell");
        }
    }
}
