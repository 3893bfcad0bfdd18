//! What the app is told: discrete events, and the snapshot that a screen draws.
//!
//! Events of one call come in order: `Offering` or `Incoming`, then `Ringing`, `Accepted`, `Link` and `Participant`,
//! and `Ended` exactly once. Where both sides called each other, `Merged` takes the place of the own call's end, and of
//! `Incoming` for the call that is left.

mod failure;
mod link;
mod node;
mod snapshot;

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use self::{
    failure::Failure,
    link::{
        LinkState, Mark, Milestone, ParticipantState, ParticipantSummary, Presence, Step, StepTime, Summary,
        steps,
    },
    node::{Findable, NodeState},
    snapshot::{
        CallSnapshot, EndedCall, ErrorNote, LinkStatistics, LocalMedia, MAX_ENDED_CALLS, MAX_ERRORS,
        ParticipantSnapshot, Phase, ResumableCall, Snapshot, Statistics,
    },
};
pub use crate::reach::{Advice, LocalCause, Via};
use crate::{
    id::{CallId, PublicKey},
    proto::signal::{AppData, MediaFormat},
    time::UnixTime,
};

/// Tells the data channels of one phone apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelId(pub u64);

/// Who of two hears the other badly. Poor is an estimate that nearly everybody would be dissatisfied with, for three seconds
/// (simple-webrtc, `Quality`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoorSide {
    /// This side: what arrives here is bad, so it may be the own network, or the other one's way out.
    Ours,
    /// The other side, as it reports.
    Theirs,
    /// Both.
    Both,
}

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
    /// Whether people find this identity who know nothing but its key has changed.
    Findable {
        /// How it is now.
        state: Findable,
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
    /// An offer of ours goes out: the callee's node is reached.
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
    /// Both sides called each other: one call is left. What is asked of `call` is asked of `into` from now on, and its
    /// end is that of `into`.
    Merged {
        /// The call of ours that is no more; its id stays a name for the other one.
        call: CallId,
        /// The call that is left.
        into: CallId,
        /// The other side.
        peer: PublicKey,
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
    /// This side holds the call, or goes on with it.
    Held {
        /// The call.
        call: CallId,
        /// Held now.
        held: bool,
    },
    /// A data channel to a participant is open, whoever of the two opened it. [`Blink::channel`](crate::Blink::channel) gives
    /// it.
    Channel {
        /// The call.
        call: CallId,
        /// Whose other end it is.
        peer: PublicKey,
        /// Which.
        channel: ChannelId,
        /// What both sides call it.
        name: String,
    },
    /// The sound between this side and a participant has become poor, or is good again.
    Quality {
        /// The call.
        call: CallId,
        /// The participant.
        peer: PublicKey,
        /// Who hears badly; `None`: nobody any more.
        poor: Option<PoorSide>,
    },
    /// This side has left the call, and can come back while it lasts.
    Left {
        /// The call.
        call: CallId,
    },
    /// This side is back in a call that it had left, or that an earlier run of it was in.
    Rejoined {
        /// The call.
        call: CallId,
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
    /// Another microphone or speaker is in use, or none: the app chose one, it went away, or it came back. While a call lasts
    /// what is in use also stands in [`LocalMedia`].
    Device {
        /// The call.
        call: CallId,
        /// Which of the two.
        kind: DeviceKind,
        /// What the system calls it; `None`: there is none, and the call goes on without.
        name: Option<String>,
    },
    /// A recording runs, or has ended and its files are complete. The others are told by [`ParticipantState::recording`].
    ///
    /// Closing files takes as long as the disk takes, so the end of one may come after the beginning of the next.
    Recording {
        /// The call.
        call: CallId,
        /// Which recording: its end has the same number as its beginning. They count up.
        number: u64,
        /// It runs.
        running: bool,
        /// Its files until now: the own voice, all together, and those who are there; whoever comes in later has one from then on.
        files: Vec<PathBuf>,
        /// Why it could not even begin, if every call is to be recorded.
        cause: Option<String>,
    },
    /// A sound file that was played into the call has come to its end, or cannot be played any further.
    Played {
        /// The call.
        call: CallId,
        /// Why it cannot be played any further; `None`: it was played to its end, or stopped.
        cause: Option<String>,
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
        /// How long ago it was, in seconds, if this side was not there when it was made and is told of it now.
        ago: Option<u64>,
    },
    /// This reader was too slow: events were dropped. Rebuild from the snapshot.
    Lagged {
        /// How many.
        missed: u64,
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

/// The microphone or the speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Sound comes from it.
    Microphone,
    /// Sound goes to it.
    Speaker,
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
    /// The two apps do not go together.
    Incompatible {
        /// In what.
        mismatch: Mismatch,
    },
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
            Self::Incompatible { mismatch } => write!(f, "{mismatch}"),
            Self::Lost => f.write_str("the connection was lost"),
            Self::FingerprintMismatch => f.write_str("the connection led to somebody else"),
            Self::Failed { step } => write!(f, "the connection failed while {step}"),
        }
    }
}

/// In what two apps do not go together. Known from what the other side said under its own key, never from an
/// unauthenticated answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mismatch {
    /// The other app is older: it speaks this protocol version at best.
    PeerIsOlder {
        /// Its best version.
        version: u8,
    },
    /// The other app is newer: it speaks this protocol version, and ours no more.
    PeerIsNewer {
        /// Its version that is nearest to ours.
        version: u8,
    },
    /// The two have no common way to protect signals: one side requires post-quantum protection.
    Protection,
    /// No audio format in common.
    Media,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerIsOlder { version } => {
                write!(f, "the other app is too old (protocol version {version}): it has to be updated")
            }
            Self::PeerIsNewer { version } => {
                write!(f, "the other app is newer (protocol version {version}): update this one")
            }
            Self::Protection => {
                f.write_str("one of the two apps requires post-quantum protection, and this call had none")
            }
            Self::Media => f.write_str("the two apps have no audio format in common"),
        }
    }
}

/// How the signals of a call are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Protection {
    /// X25519 and ChaCha20-Poly1305.
    Classical,
    /// The same with ML-KEM-768.
    PostQuantum,
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
    /// No known address of somebody led to their node. The offer still waits a moment for a path that is not known here.
    NotReached {
        /// Who.
        peer: PublicKey,
        /// What each address answered.
        cause: String,
    },
    /// A sound device went away.
    DeviceLost {
        /// Which.
        device: String,
    },
    /// Another microphone or speaker was chosen and cannot be used: the one before stays.
    DeviceRefused {
        /// Which, and why.
        cause: String,
    },
    /// A file of a recording cannot be written any further. Its other files, and the call, go on.
    RecordingFailed {
        /// Which, and why.
        cause: String,
    },
    /// The user speaks, and is muted. At most once in ten seconds.
    SpeakingWhileMuted,
    /// For ten seconds nothing at all has come from the microphone, although it is open and not muted: it may be switched off,
    /// or the wrong one.
    MicrophoneSilent,
    /// A STUN or TURN server is of no use, for as long as the addresses of this machine stay as they are. Calls that need it
    /// may find no path.
    ServerFailed {
        /// Its URL, as it was configured.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A friend who was to relay for us gives no place on its TURN server: it is not there, it serves none, or it does not name us.
    /// It is asked again.
    FriendSilent {
        /// The friend.
        peer: PublicKey,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ListenOnly { cause } => write!(f, "no microphone: {cause}"),
            Self::NoSpeaker { cause } => write!(f, "no speaker: {cause}"),
            Self::NotReached { cause, .. } => write!(f, "their node is not there: {cause}"),
            Self::DeviceLost { device } => write!(f, "{device} has gone"),
            Self::DeviceRefused { cause } => write!(f, "the devices stay as they are: {cause}"),
            Self::RecordingFailed { cause } => write!(f, "not recorded any further: {cause}"),
            Self::SpeakingWhileMuted => f.write_str("you are muted"),
            Self::MicrophoneSilent => f.write_str("nothing comes from the microphone: is it switched off?"),
            Self::ServerFailed { url, cause } => write!(f, "the server {url} is of no use: {cause}"),
            Self::FriendSilent { .. } => f.write_str(
                "a friend who was to relay gives no place on its TURN server: is it up, does it serve one, and does it name this key?",
            ),
        }
    }
}
