//! What the app is told: discrete events, and the snapshot that a screen draws.
//!
//! Events of one call come in order: `Offering` or `Incoming`, then `Ringing`, `Accepted`, `Link` and `Participant`,
//! and `Ended` exactly once.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::{CallId, NodeId, PublicKey},
    proto::signal::{AppData, MediaFormat},
    stats::LinkStats,
    time::{Instant, UnixTime},
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The node's state changed.
    Node {
        /// The new state.
        state: NodeState,
    },
    /// The callee's node is connected.
    Reached {
        /// Who.
        peer: PublicKey,
        /// Over what.
        via: Via,
        /// How long it took, in milliseconds.
        ms: u64,
    },
    /// An offer of ours goes out.
    Offering {
        /// The call.
        call: CallId,
        /// The callee.
        peer: PublicKey,
    },
    /// Somebody calls: answer, decline, or let it ring.
    Incoming {
        /// The call.
        call: CallId,
        /// The caller, whose key the handshake has proven.
        from: PublicKey,
        /// What the caller's app put into the offer.
        app_data: AppData,
        /// The audio offered.
        media: MediaFormat,
        /// When the caller says it was sent, by the caller's clock.
        sent_at: UnixTime,
    },
    /// The callee's phone rings.
    Ringing {
        /// The call.
        call: CallId,
        /// The callee.
        peer: PublicKey,
    },
    /// The call was accepted: by the callee, or by us.
    Accepted {
        /// The call.
        call: CallId,
        /// The other side.
        peer: PublicKey,
        /// The audio format agreed.
        media: MediaFormat,
    },
    /// The link to a participant changed.
    Link {
        /// The call.
        call: CallId,
        /// The participant.
        peer: PublicKey,
        /// Its new state.
        state: LinkState,
        /// How the link runs, once it is connected.
        route: Option<String>,
    },
    /// A participant joined, changed or left.
    Participant {
        /// The call.
        call: CallId,
        /// The participant.
        peer: PublicKey,
        /// Its state.
        state: ParticipantState,
    },
    /// The microphone and the speaker run.
    MediaStarted {
        /// The call.
        call: CallId,
        /// When sample 0 of the microphone was taken, in microseconds since the Unix epoch; `None` if there is no microphone.
        mic_us: Option<u64>,
        /// When sample 0 was played, in microseconds since the Unix epoch; `None` if there is no speaker.
        speaker_us: Option<u64>,
    },
    /// The first decoded audio of a participant was played.
    FirstAudio {
        /// The call.
        call: CallId,
        /// The participant.
        peer: PublicKey,
    },
    /// Something works less well than it should; the call goes on.
    Warning {
        /// What.
        warning: Warning,
    },
    /// A call that nobody here could answer.
    Missed {
        /// The call.
        call: CallId,
        /// The caller.
        from: PublicKey,
        /// Why it did not ring, or rang in vain.
        reason: EndReason,
    },
    /// The call is over. Nothing about it follows.
    Ended {
        /// The call.
        call: CallId,
        /// Why.
        reason: EndReason,
        /// Who ended it; `None` if nobody did (a time-out, a failure).
        by: Option<PublicKey>,
        /// How it went.
        summary: Summary,
    },
}

/// Over what a node is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Via {
    /// Straight.
    Direct,
    /// Through a relay node.
    Relay,
}

/// What the node that carries signals does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeState {
    /// It starts.
    #[default]
    Starting,
    /// It listens.
    Online,
    /// It reaches nobody and nobody reaches it.
    Offline {
        /// Why.
        cause: String,
    },
}

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// Somebody hung up.
    HungUp,
    /// The callee declined.
    Declined,
    /// The callee is in another call.
    Busy,
    /// The caller withdrew before an answer.
    Cancelled,
    /// It rang in vain.
    TimedOut,
    /// Another device of the callee took it.
    AnsweredElsewhere,
    /// Removed from the call.
    Removed,
    /// The callee's node could not be reached, or did not answer.
    Unreachable,
    /// No protocol version, suite or media format in common.
    Incompatible,
    /// The link was interrupted for longer than the reconnect window.
    Lost,
    /// The other end of the link does not hold the certificate that the signaling named.
    FingerprintMismatch,
    /// A step of the set-up failed or took too long.
    Failed {
        /// Which.
        step: Step,
    },
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HungUp => f.write_str("hung up"),
            Self::Declined => f.write_str("declined"),
            Self::Busy => f.write_str("busy"),
            Self::Cancelled => f.write_str("cancelled by the caller"),
            Self::TimedOut => f.write_str("nobody answered"),
            Self::AnsweredElsewhere => f.write_str("answered on another device"),
            Self::Removed => f.write_str("removed from the call"),
            Self::Unreachable => f.write_str("the other side could not be reached"),
            Self::Incompatible => f.write_str("the two apps have no version or format in common"),
            Self::Lost => f.write_str("the connection was lost"),
            Self::FingerprintMismatch => f.write_str("the connection led to somebody else"),
            Self::Failed { step } => write!(f, "the connection failed while {step}"),
        }
    }
}

/// A step on the way to a connected link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Waiting for the other side's description.
    Signaling,
    /// Making or applying a description.
    Negotiating,
    /// Looking for a path (ICE, RFC 8445).
    Checking,
    /// Agreeing on keys (DTLS, RFC 6347).
    Securing,
    /// Opening the sound devices.
    Media,
    /// Connected before, interrupted now.
    Connected,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signaling => "waiting for the other side's description",
            Self::Negotiating => "negotiating",
            Self::Checking => "looking for a path between the two networks",
            Self::Securing => "agreeing on keys",
            Self::Media => "opening the sound devices",
            Self::Connected => "being connected",
        })
    }
}

/// The state of the link to a participant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LinkState {
    /// Nothing yet.
    #[default]
    Init,
    /// The own offer is made.
    OfferCreated,
    /// The own offer is on its way.
    OfferSent,
    /// The answer is here.
    AnswerReceived,
    /// The other side's offer is here.
    OfferReceived,
    /// The own answer is made.
    AnswerCreated,
    /// The own answer is on its way.
    AnswerSent,
    /// Looking for a path.
    Checking,
    /// Agreeing on keys.
    Securing,
    /// Media flows.
    Connected,
    /// Interrupted; it may heal.
    Reconnecting {
        /// Since when.
        since: Instant,
        /// The attempt, from 1.
        attempt: u32,
    },
    /// Given up.
    Failed {
        /// Where.
        step: Step,
    },
    /// Closed.
    Closed,
}

impl LinkState {
    /// The state's name, as in the events of the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::OfferCreated => "offer_created",
            Self::OfferSent => "offer_sent",
            Self::AnswerReceived => "answer_received",
            Self::OfferReceived => "offer_received",
            Self::AnswerCreated => "answer_created",
            Self::AnswerSent => "answer_sent",
            Self::Checking => "checking",
            Self::Securing => "securing",
            Self::Connected => "connected",
            Self::Reconnecting { .. } => "reconnecting",
            Self::Failed { .. } => "failed",
            Self::Closed => "closed",
        }
    }
}

/// What a participant does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParticipantState {
    /// Its link is up, and it accepted.
    pub joined: bool,
    /// It sends silence.
    pub muted: bool,
    /// It hears nobody.
    pub deafened: bool,
    /// Its link is interrupted.
    pub reconnecting: bool,
}

/// Something that works less well than it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// No microphone: the call goes on, and the others hear nothing from here.
    ListenOnly {
        /// Why, and what to do.
        cause: String,
    },
    /// No speaker: the call goes on, and nothing is heard here.
    NoSpeaker {
        /// Why, and what to do.
        cause: String,
    },
    /// A sound device went away.
    DeviceLost {
        /// Which.
        device: String,
    },
}

/// One entry of the setup timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What happened.
    pub what: Milestone,
    /// When.
    pub at: Instant,
}

/// What the setup timeline records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Milestone {
    /// The app asked for the call, or its offer arrived.
    Started,
    /// The callee's node was connected.
    Reached,
    /// The session's handshake was answered.
    Answered,
    /// The session is confirmed.
    Confirmed,
    /// It rings.
    Ringing,
    /// The own offer of the link was made.
    OfferCreated,
    /// The own offer of the link was sent.
    OfferSent,
    /// The other side's offer of the link arrived.
    OfferReceived,
    /// The own answer of the link was made.
    AnswerCreated,
    /// The own answer of the link was sent.
    AnswerSent,
    /// The other side's answer of the link arrived.
    AnswerReceived,
    /// ICE looks for a path.
    Checking,
    /// DTLS agrees on keys.
    Securing,
    /// The link is connected.
    Connected,
    /// Accepted by the callee.
    Accepted,
    /// Microphone and speaker run.
    MediaStarted,
    /// First audio of the other side was played.
    FirstAudio,
    /// Ended.
    Ended,
}

/// How a call went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// The setup timeline of the link to each participant.
    pub participants: Vec<ParticipantSummary>,
}

/// How a call went with one participant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParticipantSummary {
    /// Who.
    pub peer: PublicKey,
    /// What happened when.
    pub timeline: Vec<Mark>,
    /// The last statistics.
    pub stats: LinkStats,
}

/// Everything that a screen needs, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The node's state.
    pub node: NodeState,
    /// The node's own id, once it runs.
    pub node_id: Option<NodeId>,
    /// The addresses that it listens on.
    pub addresses: Vec<String>,
    /// The calls that have not ended, oldest first.
    pub calls: Vec<CallSnapshot>,
    /// What is going on with the own microphone and speaker.
    pub local: LocalMedia,
    /// What arrived and was not used, and other counts.
    pub counters: crate::stats::Counters,
}

impl Snapshot {
    /// The call of that id, if it has not ended.
    pub fn call(&self, id: CallId) -> Option<&CallSnapshot> {
        self.calls.iter().find(|c| c.id == id)
    }
}

/// One call of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallSnapshot {
    /// Its id.
    pub id: CallId,
    /// Where it stands.
    pub phase: Phase,
    /// When it began, by the machine's clock.
    pub since: Instant,
    /// The audio format, offered or agreed.
    pub media: MediaFormat,
    /// The others.
    pub participants: Vec<ParticipantSnapshot>,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Ours, not answered yet.
    Outgoing,
    /// Theirs, not answered yet.
    Incoming,
    /// Accepted.
    Active,
}

/// One participant of a [`CallSnapshot`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParticipantSnapshot {
    /// Who.
    pub peer: PublicKey,
    /// What it does.
    pub state: ParticipantState,
    /// Whether its phone rings.
    pub ringing: bool,
    /// The link to it.
    pub link: LinkState,
    /// The setup timeline so far.
    pub timeline: Vec<Mark>,
    /// Statistics of the link.
    pub stats: LinkStats,
}

/// The own microphone and speaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LocalMedia {
    /// The microphone is open: someone's call was accepted here or there.
    pub open: bool,
    /// Silence is sent.
    pub muted: bool,
    /// Nothing is played.
    pub deafened: bool,
    /// There is no microphone.
    pub listen_only: bool,
}
