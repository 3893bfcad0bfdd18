//! What a screen draws.

use serde::{Deserialize, Serialize};

use super::{LinkState, Mark, NodeState, ParticipantState, Protection};
use crate::{
    id::{CallId, NodeId, PublicKey},
    proto::signal::MediaFormat,
    stats::{Counters, LinkStats},
    time::Instant,
};

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
    pub counters: Counters,
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
    /// How the signals between the two are protected; `None` before the first message has been answered.
    pub protection: Option<Protection>,
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
