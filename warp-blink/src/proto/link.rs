//! The link to a participant, as the machine sees it.

use std::collections::VecDeque;

use super::{
    ahead::Ahead,
    binding::Bind,
    signal::{Body, Candidate, Description},
};
use crate::{
    event::{LinkState, PoorSide, Step},
    time::Instant,
};

/// The most candidates that wait for their description: as many as simple-webrtc parks.
const MAX_PARKED: usize = 64;

/// What of the other side's link signals waits for permission to connect.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parked {
    pub(super) generation: u32,
    pub(super) offer: Option<Description>,
    pub(super) candidates: VecDeque<Candidate>,
    pub(super) end_of_candidates: bool,
}

/// The link to the participant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Link {
    /// The generation in use; 0 before the first.
    pub(super) generation: u32,
    /// simple-webrtc has a connection of this generation.
    pub(super) open: bool,
    pub(super) state: LinkState,
    /// The engine was connected once, in this generation.
    pub(super) was_connected: bool,
    /// The answer to our offer of this generation is here.
    pub(super) answered: bool,
    /// The microphone's sound may go out on it.
    pub(super) sending: bool,
    /// Attempts since it was last connected.
    pub(super) attempts: u32,
    /// How far any of these came that failed.
    pub(super) failed: Option<Step>,
    /// Until when it must be connected, or connected again.
    pub(super) until: Option<Instant>,
    /// When it is tried again.
    pub(super) retry_at: Option<Instant>,
    /// When another path is looked for.
    pub(super) restart_at: Option<Instant>,
    /// When it was interrupted, or another path was last looked for.
    pub(super) silent_since: Instant,
    /// When a signal of the other side last came.
    pub(super) heard: Instant,
    /// Whose sound was last said to be poor.
    pub(super) poor: Option<PoorSide>,
    pub(super) parked: Parked,
    /// Our offer went ahead, and nobody has accepted so far.
    pub(super) ahead: Option<Ahead>,
    pub(super) route: Option<String>,
    /// What the two ends have said of each other's certificates, once its signaling channel is open.
    pub(super) bind: Option<Bind>,
    pub(super) connected_at: Option<Instant>,
    pub(super) disconnected_at: Option<Instant>,
}

impl Link {
    /// The step that the link is at, for a failure. One that is tried anew is where those before it failed: between two attempts,
    /// and at the start of each, nothing is wrong yet.
    pub(super) fn step(&self) -> Step {
        let at = match self.state {
            LinkState::Init | LinkState::OfferSent => Step::Signaling,
            LinkState::OfferCreated
            | LinkState::OfferReceived
            | LinkState::AnswerCreated
            | LinkState::AnswerReceived => Step::Negotiating,
            LinkState::AnswerSent | LinkState::Checking => Step::Checking,
            LinkState::Securing => Step::Securing,
            LinkState::Connected | LinkState::Reconnecting { .. } | LinkState::Closed => Step::Connected,
            LinkState::Failed { step } => step,
        };
        self.failed.map_or(at, |failed| failed.max(at))
    }

    /// Begins a connection: what was said of the one before is no longer true.
    pub(super) fn begin(&mut self, generation: u32) {
        self.generation = generation;
        self.attempts = self.attempts.saturating_add(1);
        (self.retry_at, self.restart_at) = (None, None);
        (self.open, self.sending) = (true, true);
        (self.was_connected, self.answered) = (false, false);
        (self.bind, self.ahead) = (None, None);
        self.state = LinkState::Init;
    }

    /// How far a state is. Within one generation the state never steps back.
    pub(super) fn rank(state: LinkState) -> u8 {
        match state {
            LinkState::Init => 0,
            LinkState::OfferCreated | LinkState::OfferReceived => 1,
            LinkState::OfferSent | LinkState::AnswerCreated => 2,
            LinkState::AnswerReceived | LinkState::AnswerSent => 3,
            LinkState::Checking => 4,
            LinkState::Securing => 5,
            LinkState::Connected | LinkState::Reconnecting { .. } => 6,
            LinkState::Failed { .. } | LinkState::Closed => 7,
        }
    }

    /// Keeps a signal of the other side until the link may start. `false`: the bound was met, or it is of an older
    /// generation.
    pub(super) fn park(&mut self, generation: u32, body: Body) -> bool {
        if generation < self.parked.generation || generation <= self.generation {
            return false;
        }
        if generation > self.parked.generation {
            self.parked = Parked { generation, ..Parked::default() };
        }
        match body {
            Body::Description(d) => self.parked.offer = Some(d),
            Body::Candidate(c) if self.parked.candidates.len() < MAX_PARKED => {
                self.parked.candidates.push_back(c)
            }
            Body::EndOfCandidates => self.parked.end_of_candidates = true,
            _ => return false,
        }
        true
    }
}
