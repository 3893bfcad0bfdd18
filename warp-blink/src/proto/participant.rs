//! The other side of a call, as the machine sees it.

use std::collections::VecDeque;

use super::{
    delivery::{Delivery, Schedule},
    input::SessionNo,
    sessions::{Held, Retired, replaces},
    signal::{Announce, Body, Candidate, Description, Hello, HelloKind, Welcome},
};
use crate::{
    event::{LinkState, Mark, Milestone, ParticipantState, Protection, Step},
    id::{CallId, PublicKey},
    stats::LinkStats,
    time::Instant,
};

/// The most entries of a timeline; later ones are left out.
const MAX_MARKS: usize = 64;

/// The most candidates that wait for their description: as many as simple-webrtc parks.
const MAX_PARKED: usize = 64;

/// A first message on its way.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HelloOut {
    pub(super) hello: Box<Hello>,
    pub(super) suite: u8,
    pub(super) session: SessionNo,
    /// Transmissions, those that found nobody included: they choose the lane.
    pub(super) attempts: u32,
    pub(super) schedule: Schedule,
    /// It left this node at least once.
    pub(super) published: bool,
}

impl HelloOut {
    pub(super) fn new(hello: Box<Hello>, suite: u8, session: SessionNo, now: Instant) -> Self {
        Self { hello, suite, session, attempts: 0, schedule: Schedule::at(now), published: false }
    }
}

/// The answer to a first message, kept for when it must be repeated.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WelcomeOut {
    pub(super) welcome: Welcome,
    pub(super) session: SessionNo,
    pub(super) kind: HelloKind,
    pub(super) schedule: Schedule,
    pub(super) last: Option<Instant>,
}

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
    /// Was connected once, in this generation.
    pub(super) was_connected: bool,
    /// The answer to our offer of this generation is here.
    pub(super) answered: bool,
    pub(super) parked: Parked,
    pub(super) route: Option<String>,
}

impl Link {
    /// The step that the link is at, for a failure.
    pub(super) fn step(&self) -> Step {
        match self.state {
            LinkState::Init | LinkState::OfferSent => Step::Signaling,
            LinkState::OfferCreated
            | LinkState::OfferReceived
            | LinkState::AnswerCreated
            | LinkState::AnswerReceived => Step::Negotiating,
            LinkState::AnswerSent | LinkState::Checking => Step::Checking,
            LinkState::Securing => Step::Securing,
            LinkState::Connected | LinkState::Reconnecting { .. } | LinkState::Closed => Step::Connected,
            LinkState::Failed { step } => step,
        }
    }

    /// Begins a connection: what was said of the one before is no longer true.
    pub(super) fn begin(&mut self, generation: u32) {
        self.generation = generation;
        self.open = true;
        (self.was_connected, self.answered) = (false, false);
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

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Participant {
    pub(super) key: PublicKey,
    /// The session in use; `None` before one is confirmed.
    pub(super) session: Option<Held>,
    pub(super) retired: Option<Retired>,
    last_session: u32,
    pub(super) protection: Option<Protection>,
    pub(super) delivery: Delivery,
    pub(super) hello: Option<HelloOut>,
    pub(super) welcome: Option<WelcomeOut>,
    pub(super) link: Link,
    pub(super) ringing: bool,
    pub(super) state: ParticipantState,
    pub(super) announced: Option<Announce>,
    pub(super) timeline: Vec<Mark>,
    pub(super) stats: LinkStats,
}

impl Participant {
    pub(super) fn new(call: CallId, key: PublicKey) -> Self {
        Self {
            key,
            session: None,
            retired: None,
            last_session: 0,
            protection: None,
            delivery: Delivery::new(call),
            hello: None,
            welcome: None,
            link: Link::default(),
            ringing: false,
            state: ParticipantState::default(),
            announced: None,
            timeline: Vec::new(),
            stats: LinkStats::default(),
        }
    }

    /// The number of the next session.
    pub(super) fn new_session(&mut self) -> SessionNo {
        self.last_session = self.last_session.saturating_add(1);
        SessionNo(self.last_session)
    }

    /// A session was confirmed. Gives the one that is to be wiped now, if there is one.
    pub(super) fn confirmed(&mut self, now: Instant, new: Held, smaller: bool) -> Option<SessionNo> {
        let retired = match self.session {
            None => {
                self.session = Some(new);
                None
            }
            Some(used) if replaces(new, used, smaller) => {
                self.session = Some(new);
                Some(Retired::new(used.no, now, self.delivery.restart(now)))
            }
            Some(_) => Some(Retired::new(new.no, now, (0, 0))),
        };
        self.delivery.confirm();
        let retired = retired?;
        self.retired.replace(retired).map(|before| before.no)
    }

    /// Adds to the timeline, unless the milestone is the last one already or the timeline is full.
    pub(super) fn mark(&mut self, now: Instant, what: Milestone) {
        if self.timeline.len() < MAX_MARKS && self.timeline.last().is_none_or(|m| m.what != what) {
            self.timeline.push(Mark { what, at: now });
        }
    }

    /// When something to this participant is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let hello = self.hello.as_ref().and_then(|h| h.schedule.next);
        let welcome = self.welcome.as_ref().and_then(|w| w.schedule.next);
        let retired = self.retired.as_ref().map(|r| r.until);
        [hello, welcome, retired, self.delivery.next_timeout()].into_iter().flatten().min()
    }
}
