//! The link to a participant: its states, its steps, and the timeline that they leave.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::{id::PublicKey, stats::LinkStats, time::Instant};

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

/// Where somebody stands in a call, as seen from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Presence {
    /// Called from here; their phone has not said that it rings.
    #[default]
    Calling,
    /// Called from here; their phone rings.
    Ringing,
    /// Belongs to the call, and was not met so far.
    Invited,
    /// In the call; the link to them is being made.
    Connecting,
    /// In the call, and the link is up.
    Joined,
    /// In the call; the link is interrupted.
    Reconnecting,
    /// The link was interrupted for too long, or never came about. Can still come back.
    Lost,
    /// Left. Can still come back.
    Left,
    /// Removed from the call.
    Removed,
    /// Declined.
    Declined,
    /// In another call.
    Busy,
    /// Their phone rang in vain.
    NoAnswer,
    /// Their node could not be reached, or did not answer.
    Unreachable,
    /// Their app and this one do not go together.
    Incompatible,
}

impl Presence {
    /// Is in the call now, whatever the link does.
    pub const fn is_in(self) -> bool {
        matches!(self, Self::Connecting | Self::Joined | Self::Reconnecting)
    }
}

/// What a participant does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParticipantState {
    /// Where it stands.
    pub presence: Presence,
    /// It sends silence.
    pub muted: bool,
    /// It hears nobody.
    pub deafened: bool,
    /// It sends a camera picture.
    pub camera: bool,
    /// It shares a screen.
    pub screen: bool,
    /// It records the call.
    pub recording: bool,
    /// It speaks.
    pub speaking: bool,
    /// It holds the call: sends nothing and hears nobody.
    pub held: bool,
}

impl ParticipantState {
    /// It accepted, and its link was up when this was last heard of it.
    pub const fn joined(&self) -> bool {
        matches!(self.presence, Presence::Joined | Presence::Reconnecting)
    }

    /// Its link is interrupted.
    pub const fn reconnecting(&self) -> bool {
        matches!(self.presence, Presence::Reconnecting)
    }
}

/// One step of the setup, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepTime {
    /// What was waited for.
    pub until: Milestone,
    /// How long, in microseconds, since the milestone before.
    pub took_us: u64,
}

/// The steps of a setup timeline, in order: what each milestone waited for since the one before it.
pub fn steps(timeline: &[Mark]) -> impl Iterator<Item = StepTime> + '_ {
    timeline.windows(2).filter_map(|pair| match pair {
        [from, to] => Some(StepTime {
            until: to.what,
            took_us: u64::try_from(to.at.since(from.at).as_micros()).unwrap_or(u64::MAX),
        }),
        _ => None,
    })
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
    /// At which step it failed, what was tried and what the user can do; `None` if it did not fail.
    pub failure: Option<Failure>,
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
