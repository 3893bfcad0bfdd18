//! What a screen draws.

use serde::{Deserialize, Serialize};

use super::{EndReason, Findable, LinkState, Mark, NodeState, ParticipantState, Protection, Summary};
use crate::{
    id::{CallId, NodeId, PublicKey},
    proto::signal::MediaFormat,
    stats::{Counters, LinkStats, SoundStats},
    time::Instant,
};

/// Everything that a screen needs, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The node's state.
    pub node: NodeState,
    /// Whether people find this identity who know nothing but its key.
    pub findable: Findable,
    /// The node's own id, once it runs.
    pub node_id: Option<NodeId>,
    /// The addresses that it listens on.
    pub addresses: Vec<String>,
    /// The calls that have not ended, oldest first.
    pub calls: Vec<CallSnapshot>,
    /// The calls that ended last, newest first, at most [`MAX_ENDED_CALLS`].
    pub ended: Vec<EndedCall>,
    /// Calls of an earlier run, to which this side can come back.
    pub resumable: Vec<ResumableCall>,
    /// What is going on with the own microphone and speaker.
    pub local: LocalMedia,
    /// What went wrong last, one note for each peer and one for everything else, newest first, at most [`MAX_ERRORS`].
    pub errors: Vec<ErrorNote>,
    /// Numbers, apart from the state: they change all the time.
    pub statistics: Statistics,
}

/// The most calls in [`Snapshot::ended`]: a page of a call list.
pub const MAX_ENDED_CALLS: usize = 16;

/// The most notes in [`Snapshot::errors`]: one for each of two full calls.
pub const MAX_ERRORS: usize = 32;

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
    /// When the first link of it was up.
    pub connected_at: Option<Instant>,
    /// This side holds it.
    pub held: bool,
    /// Who called, if it was not this side.
    pub caller: Option<PublicKey>,
    /// Who made the call; `None` before this is known.
    pub creator: Option<PublicKey>,
    /// This side may bring others into it.
    pub may_invite: bool,
    /// The audio format, offered or agreed.
    pub media: MediaFormat,
    /// The others, also those who have left or did not come.
    pub participants: Vec<ParticipantSnapshot>,
}

/// A call that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndedCall {
    /// Its id.
    pub id: CallId,
    /// When it ended.
    pub at: Instant,
    /// Why.
    pub reason: EndReason,
    /// Who ended it; `None` if nobody did.
    pub by: Option<PublicKey>,
    /// How it went.
    pub summary: Summary,
}

/// A call of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ResumableCall {
    /// Its id.
    pub id: CallId,
    /// Who else belonged to it.
    pub participants: Vec<PublicKey>,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorNote {
    /// When.
    pub at: Instant,
    /// In which call, if in one.
    pub call: Option<CallId>,
    /// With whom, if with somebody.
    pub peer: Option<PublicKey>,
    /// What, and what to do, for people.
    pub text: String,
}

/// Numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Of each link that has any.
    pub links: Vec<LinkStatistics>,
    /// What arrived and was not used, and other counts.
    pub counters: Counters,
    /// What the own sound engine does; `None` while no devices are open, and in the first second.
    #[serde(default)]
    pub sound: Option<SoundStats>,
}

impl Statistics {
    /// Of the link to that participant of that call.
    pub fn link(&self, call: CallId, peer: &PublicKey) -> Option<&LinkStatistics> {
        self.links.iter().find(|l| l.call == call && l.peer == *peer)
    }
}

/// The numbers of one link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LinkStatistics {
    /// The call.
    pub call: CallId,
    /// The participant.
    pub peer: PublicKey,
    /// When they were measured.
    pub updated: Instant,
    /// What was measured.
    pub stats: LinkStats,
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
    /// Left; can be joined again while it lasts.
    Left,
}

/// One participant of a [`CallSnapshot`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParticipantSnapshot {
    /// Who.
    pub peer: PublicKey,
    /// What it does.
    pub state: ParticipantState,
    /// The link to it.
    pub link: LinkState,
    /// The setup timeline so far.
    pub timeline: Vec<Mark>,
    /// How the signals between the two are protected; `None` before the first message has been answered.
    pub protection: Option<Protection>,
    /// How the link runs, once it is connected, by the end that is farther from its machine: `host` (straight), `srflx` or `prflx`
    /// (straight, through a NAT), `relay` (over a TURN server).
    pub route: Option<String>,
    /// When the link was up for the first time.
    pub connected_at: Option<Instant>,
    /// When the link was last lost or closed, if it is not up.
    pub disconnected_at: Option<Instant>,
}

/// The own microphone and speaker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The app sends a camera picture.
    pub camera: bool,
    /// The app shares a screen.
    pub screen: bool,
    /// Something is recorded: by `Blink::record`, or by the app itself, which has said so.
    pub recording: bool,
    /// The user speaks.
    pub speaking: bool,
    /// The microphone in use, as the system calls it; `None` while no call needs one, or if there is none.
    pub microphone: Option<String>,
    /// The speaker in use, likewise.
    pub speaker: Option<String>,
}
