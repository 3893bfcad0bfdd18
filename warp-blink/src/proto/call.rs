//! One call, as the machine sees it.

use super::{
    epochs::Epochs,
    membership::Membership,
    participant::{Participant, Stage},
    peers::Peers,
    signal::{AppData, Body, MediaFormat, RollHash},
    turning::TurnErrand,
};
use crate::{
    event::Phase,
    id::{CallId, PublicKey},
    time::{Instant, UnixTime},
};

/// Where a call stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Ours: until somebody answers.
    Outgoing,
    /// Theirs: the first message is here, and its sender has not yet shown that it is no replay.
    Arriving { until: Instant, ring_ms: u32 },
    /// Theirs: it rings.
    Incoming {
        ring_until: Instant,
        /// It rings on its first message alone, and until then its caller must have shown that it is there.
        confirm_until: Option<Instant>,
        /// Until then its caller must have said something again.
        heard_until: Instant,
    },
    /// Accepted.
    Active {
        /// Nobody else is left, and until then somebody must have come back.
        empty_until: Option<Instant>,
    },
    /// Left from here; can be joined again until then.
    Left { until: Instant },
    /// Over for the app; the others are still being told.
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
    /// Who called us; `None`: we called, or came back from an earlier run.
    pub(super) caller: Option<PublicKey>,
    /// The others.
    pub(super) peers: Peers,
    /// Who belongs to it; `None` before the caller has said.
    pub(super) members: Option<Membership>,
    pub(super) roll: RollHash,
    /// How often the words were to be kept.
    pub(super) rolls: u32,
    pub(super) epochs: Epochs,
    /// When a new key is made from here, unless one of somebody else comes first.
    pub(super) rekey_at: Option<Instant>,
    /// When members are looked for who were never met: the one who brought them may be gone.
    pub(super) search_at: Option<Instant>,
    /// We listen on our peer topic for it.
    pub(super) listening: bool,
    /// It arrived while a call of ours to the same person was on its way.
    pub(super) crossed: bool,
    /// It only tells of a call that was missed, this many seconds ago.
    pub(super) notice: Option<u64>,
    /// It is none, but a session in which one side asks the other for a place on its TURN server.
    pub(super) turn: Option<TurnErrand>,
    /// Microphone and speaker are open for it.
    pub(super) audio: bool,
    pub(super) held: bool,
    /// A later run could come back to it.
    pub(super) saved: bool,
    pub(super) connected_at: Option<Instant>,
    pub(super) announce_at: Option<Instant>,
    pub(super) announce_version: u64,
    pub(super) announced_at: Option<Instant>,
}

impl Call {
    pub(super) fn new(id: CallId, now: Instant, state: State, media: MediaFormat) -> Self {
        Self {
            id,
            state,
            since: now,
            media,
            app_data: AppData::default(),
            sent_at: UnixTime::default(),
            caller: None,
            peers: Peers::default(),
            members: None,
            roll: RollHash::default(),
            rolls: 0,
            epochs: Epochs::default(),
            rekey_at: None,
            search_at: None,
            listening: false,
            crossed: false,
            notice: None,
            turn: None,
            audio: false,
            held: false,
            saved: false,
            connected_at: None,
            announce_at: None,
            announce_version: 0,
            announced_at: None,
        }
    }

    /// A call of somebody.
    pub(super) fn of(caller: PublicKey, id: CallId, now: Instant, state: State, media: MediaFormat) -> Self {
        let mut call = Self::new(id, now, state, media);
        call.caller = Some(caller);
        call.peers.insert(caller, Participant::new(id, caller, Stage::In));
        call
    }

    pub(super) fn ours(&self) -> bool {
        self.caller.is_none()
    }

    /// What the app sees of it; `None` before it rings and after it has ended.
    pub(super) fn phase(&self) -> Option<Phase> {
        match self.state {
            State::Outgoing => Some(Phase::Outgoing),
            State::Incoming { .. } => Some(Phase::Incoming),
            State::Active { .. } => Some(Phase::Active),
            State::Left { .. } => Some(Phase::Left),
            State::Arriving { .. } | State::Leaving { .. } => None,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self.state, State::Active { .. })
    }

    pub(super) fn is_outgoing(&self) -> bool {
        matches!(self.state, State::Outgoing)
    }

    pub(super) fn is_incoming(&self) -> bool {
        matches!(self.state, State::Incoming { .. })
    }

    /// Takes the place of the one call that can be under way.
    pub(super) fn is_under_way(&self) -> bool {
        (self.is_outgoing() || self.is_active()) && !self.held
    }

    pub(super) fn is_arriving(&self) -> bool {
        matches!(self.state, State::Arriving { .. })
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving { .. })
    }

    /// Only two people ever took part, as far as is known.
    pub(super) fn is_pair(&self) -> bool {
        self.members.as_ref().map_or(self.peers.len() <= 1, Membership::is_pair)
    }

    /// The one other side of a call of two.
    pub(super) fn only_peer(&self) -> Option<PublicKey> {
        if self.peers.len() == 1 && self.is_pair() { self.peers.keys().next().copied() } else { None }
    }

    /// The one other side of a call of two, if it is this one.
    pub(super) fn is_with(&self, key: &PublicKey) -> bool {
        self.only_peer().as_ref() == Some(key)
    }

    pub(super) fn caller_is(&self, key: &PublicKey) -> bool {
        self.caller.as_ref() == Some(key)
    }

    pub(super) fn is_left(&self) -> bool {
        matches!(self.state, State::Left { .. })
    }

    pub(super) fn keys(&self) -> Vec<PublicKey> {
        self.peers.keys().copied().collect()
    }

    /// Those who are in it, or may come, and with whom there is a session.
    pub(super) fn audience(&self) -> Vec<PublicKey> {
        let hears = |p: &&Participant| p.session.is_some() && p.may_come();
        self.peers.values().filter(hears).map(|p| p.key).collect()
    }

    /// A body of this sort is on its way to that participant.
    pub(super) fn waits(&self, key: &PublicKey, which: impl Fn(&Body) -> bool) -> bool {
        self.peers.get(key).is_some_and(|p| p.delivery.waits(which))
    }

    /// The deadlines of the state itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Outgoing => None,
            State::Arriving { until, .. } | State::Left { until } | State::Leaving { until } => Some(until),
            State::Incoming { ring_until, confirm_until, heard_until } => {
                Some(confirm_until.unwrap_or(heard_until).min(ring_until))
            }
            State::Active { empty_until } => empty_until,
        }
    }

    /// When something about the call is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let own =
            [self.deadline(), self.announce_at, self.rekey_at, self.search_at, self.epochs.next_timeout()];
        own.into_iter().chain(self.peers.values().map(Participant::next_timeout)).flatten().min()
    }
}
