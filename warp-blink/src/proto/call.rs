//! One call, as the machine sees it.

use super::{participant::Participant, signal::MediaFormat};
use crate::{
    event::Phase,
    id::{CallId, PublicKey},
    time::{Instant, UnixTime},
};

use super::signal::AppData;

/// Where a call stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Ours: until the callee answers.
    Outgoing { ring_until: Instant, reach_until: Instant },
    /// Theirs: the first message is here, and its sender has not yet shown that it is no replay.
    Arriving { until: Instant, ring_ms: u32 },
    /// Theirs: it rings.
    Incoming {
        ring_until: Instant,
        /// It rings on its first message alone, and until then its caller must have shown that it is there.
        confirm_until: Option<Instant>,
    },
    /// Accepted.
    Active { connect_until: Option<Instant>, reconnect_until: Option<Instant> },
    /// Over for the app; the other side is still being told.
    Leaving { until: Instant },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) state: State,
    pub(super) since: Instant,
    /// What was offered, narrowed by the answer.
    pub(super) media: MediaFormat,
    pub(super) app_data: AppData,
    pub(super) sent_at: UnixTime,
    /// We made it.
    pub(super) ours: bool,
    /// The other side. Groups come with their own issue of the protocol; the messages are theirs already.
    pub(super) peer: Participant,
    /// We listen on our peer topic for it.
    pub(super) listening: bool,
    /// The app was told that our offer goes out.
    pub(super) offering: bool,
    /// It arrived while a call of ours to the same person was on its way.
    pub(super) crossed: bool,
    /// The other side was given our ML-KEM key and, if it is a contact, our token.
    pub(super) introduced: bool,
    /// Microphone and speaker are open for it.
    pub(super) audio: bool,
    /// The newest epoch whose key we have; 0 before accept.
    pub(super) epoch: u32,
    /// The farewell is ours to say, and over once it is acknowledged.
    pub(super) said_it: bool,
    pub(super) announce_at: Option<Instant>,
    pub(super) announce_version: u64,
    pub(super) announced_at: Option<Instant>,
}

impl Call {
    pub(super) fn new(id: CallId, peer: PublicKey, now: Instant, state: State, media: MediaFormat) -> Self {
        Self {
            id,
            state,
            since: now,
            media,
            app_data: AppData::default(),
            sent_at: UnixTime::default(),
            ours: false,
            peer: Participant::new(id, peer),
            listening: false,
            offering: false,
            crossed: false,
            introduced: false,
            audio: false,
            epoch: 0,
            said_it: false,
            announce_at: None,
            announce_version: 0,
            announced_at: None,
        }
    }

    /// What the app sees of it; `None` before it rings and after it has ended.
    pub(super) fn phase(&self) -> Option<Phase> {
        match self.state {
            State::Outgoing { .. } => Some(Phase::Outgoing),
            State::Incoming { .. } => Some(Phase::Incoming),
            State::Active { .. } => Some(Phase::Active),
            State::Arriving { .. } | State::Leaving { .. } => None,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self.state, State::Active { .. })
    }

    /// Takes the place of the one call that can be under way.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.state, State::Outgoing { .. } | State::Active { .. })
    }

    pub(super) fn is_arriving(&self) -> bool {
        matches!(self.state, State::Arriving { .. })
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving { .. })
    }

    /// The deadlines of the state itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Outgoing { ring_until, reach_until } => {
                Some(if self.peer.delivery.is_confirmed() { ring_until } else { ring_until.min(reach_until) })
            }
            State::Arriving { until, .. } | State::Leaving { until } => Some(until),
            State::Incoming { ring_until, confirm_until } => {
                Some(confirm_until.map_or(ring_until, |t| t.min(ring_until)))
            }
            State::Active { connect_until, reconnect_until } => {
                [connect_until, reconnect_until].into_iter().flatten().min()
            }
        }
    }
}
