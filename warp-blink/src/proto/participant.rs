//! Somebody else in a call, as the machine sees it.

use std::time::Duration;

use super::{
    delivery::Delivery,
    effect::SessionNo,
    link::Link,
    machine::ARRIVING,
    schedule::Schedule,
    sessions::{Held, Retired},
    signal::{Announce, EpochId, Hello, HelloKind, Welcome},
};
use crate::{
    event::{LinkState, Mark, Milestone, ParticipantState, Presence, Protection},
    id::{CallId, PublicKey},
    stats::LinkStats,
    time::Instant,
};

/// The most entries of a timeline; later ones are left out.
const MAX_MARKS: usize = 64;

/// How long a member is asked for a session before it is taken for absent: as `Config::reach_timeout`.
const PATIENCE: Duration = Duration::from_secs(15);

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
    /// When it was sent last.
    pub(super) last: Option<Instant>,
    since: Instant,
}

impl HelloOut {
    pub(super) fn new(hello: Box<Hello>, suite: u8, session: SessionNo, now: Instant) -> Self {
        Self {
            hello,
            suite,
            session,
            attempts: 0,
            schedule: Schedule::at(now),
            published: false,
            last: None,
            since: now,
        }
    }

    /// The answer is here: so long do signals and their answers take.
    pub(super) fn answered(&self, now: Instant, delivery: &mut Delivery) {
        if let Some(last) = self.last {
            delivery.answered(now.since(last));
        }
    }

    /// On its way for six transmissions and more.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        now.since(self.since) >= PATIENCE
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
    pub(super) since: Instant,
    /// The first message was an invitation into a call that was left from here.
    pub(super) invites: Option<Box<Hello>>,
}

impl WelcomeOut {
    /// Its receiver has had the time to confirm it.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        now.since(self.since) >= ARRIVING
    }
}

/// Where somebody stands in a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    /// Called from here; no answer so far.
    Called { ring_until: Instant, reach_until: Instant },
    /// Belongs to the call, and was not met in it so far.
    Expected,
    /// In the call.
    In,
    /// Was in the call, and nothing is heard of it any more. Can come back.
    Lost,
    /// Not in the call, or not any more, for this reason.
    Out(Presence),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Participant {
    pub(super) key: PublicKey,
    pub(super) stage: Stage,
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
    /// This side called it.
    pub(super) called: bool,
    /// The app was told that our offer goes out.
    pub(super) offering: bool,
    /// The app carries our offer as well, however long that takes.
    pub(super) exported: bool,
    /// Nobody was found at the addresses that were known.
    pub(super) unreached: bool,
    /// How often they were looked for after that.
    pub(super) sought_again: u32,
    /// The app was told that it joined, and not yet that it is gone.
    pub(super) joined: bool,
    /// What it last said came over the link, and not over gossip.
    pub(super) heard_over_link: bool,
    /// It was given our ML-KEM key and, if it is a contact, our token.
    pub(super) introduced: bool,
    /// The farewell is ours to say, and over once it is acknowledged.
    pub(super) said_it: bool,
    /// When a session with it is opened from here.
    pub(super) pair_at: Option<Instant>,
    /// When it is told again that this side is there.
    pub(super) here_at: Option<Instant>,
    /// When our roll was last sent because its roll was another.
    pub(super) rolled_at: Option<Instant>,
    /// The number of the next word about it when it went: a later one brings it back.
    pub(super) gone_at: u32,
    /// When everything about it is wiped.
    pub(super) wipe_at: Option<Instant>,
    /// Lost how often without having been connected in between, and when it may be taken back.
    pub(super) losses: u32,
    pub(super) revive_at: Option<Instant>,
    pub(super) announced: Option<Announce>,
    /// The version of its last announcement, in this life of it.
    pub(super) heard: u64,
    /// The key under which it last announced itself.
    pub(super) heard_under: Option<EpochId>,
    /// What the app was last told of it.
    pub(super) told: ParticipantState,
    pub(super) timeline: Vec<Mark>,
    pub(super) stats: LinkStats,
    pub(super) stats_at: Option<Instant>,
}

impl Participant {
    pub(super) fn new(call: CallId, key: PublicKey, stage: Stage) -> Self {
        let mut this = Self {
            key,
            stage,
            session: None,
            retired: None,
            last_session: 0,
            protection: None,
            delivery: Delivery::new(call),
            hello: None,
            welcome: None,
            link: Link::default(),
            ringing: false,
            called: matches!(stage, Stage::Called { .. }),
            offering: false,
            exported: false,
            unreached: false,
            sought_again: 0,
            joined: false,
            heard_over_link: false,
            introduced: false,
            said_it: false,
            pair_at: None,
            here_at: None,
            rolled_at: None,
            gone_at: 0,
            wipe_at: None,
            losses: 0,
            revive_at: None,
            announced: None,
            heard: 0,
            heard_under: None,
            told: ParticipantState::default(),
            timeline: Vec::new(),
            stats: LinkStats::default(),
            stats_at: None,
        };
        this.told = this.state();
        this
    }

    /// The number of the next session.
    pub(super) fn new_session(&mut self) -> SessionNo {
        self.last_session = self.last_session.saturating_add(1);
        SessionNo(self.last_session)
    }

    /// The last session that was begun, if there was any.
    pub(super) fn last_session(&self) -> Option<u32> {
        (self.last_session > 0).then_some(self.last_session)
    }

    /// Counts sessions on from there.
    pub(super) fn sessions_from(&mut self, last: Option<u32>) {
        self.last_session = last.unwrap_or(0);
    }

    /// A session was confirmed. Gives the one that is to be wiped now, if there is one.
    pub(super) fn confirmed(&mut self, now: Instant, new: Held) -> Option<SessionNo> {
        self.delivery.confirm();
        // It may have lost more than the session, and count anew.
        self.heard = 0;
        let used = self.session.replace(new)?;
        let retired = Retired::new(used.no, now, self.delivery.restart(now));
        self.retired.replace(retired).map(|before| before.no)
    }

    /// It calls this side anew, in a new session: nothing else of before counts.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.stage = Stage::In;
        (self.called, self.offering, self.exported, self.ringing) = (false, false, false, false);
        (self.joined, self.introduced, self.said_it) = (false, false, false);
        (self.hello, self.pair_at, self.here_at, self.wipe_at) = (None, None, None, None);
        (self.link.until, self.link.retry_at, self.announced) = (None, None, None);
        (self.losses, self.revive_at) = (0, None);
        self.link.parked = Default::default();
        (self.stats, self.stats_at) = (LinkStats::default(), None);
        self.timeline.clear();
        self.mark(now, Milestone::Started);
        self.mark(now, Milestone::Confirmed);
        self.told = self.state();
    }

    /// Adds to the timeline, unless the milestone is the last one already or the timeline is full.
    pub(super) fn mark(&mut self, now: Instant, what: Milestone) {
        if self.timeline.len() < MAX_MARKS && self.timeline.last().is_none_or(|m| m.what != what) {
            self.timeline.push(Mark { what, at: now });
        }
    }

    pub(super) fn is_called(&self) -> bool {
        matches!(self.stage, Stage::Called { .. })
    }

    /// In the call, or was until it was lost.
    pub(super) fn is_in(&self) -> bool {
        self.stage == Stage::In
    }

    /// May still come, or come back, by itself.
    pub(super) fn may_come(&self) -> bool {
        !matches!(self.stage, Stage::Out(_))
    }

    fn presence(&self) -> Presence {
        match self.stage {
            Stage::Called { .. } if self.ringing => Presence::Ringing,
            Stage::Called { .. } => Presence::Calling,
            Stage::Expected => Presence::Invited,
            Stage::In => match self.link.state {
                LinkState::Connected if self.joined => Presence::Joined,
                _ if self.joined => Presence::Reconnecting,
                _ => Presence::Connecting,
            },
            Stage::Lost => Presence::Lost,
            Stage::Out(presence) => presence,
        }
    }

    /// What the app is to see of it.
    pub(super) fn state(&self) -> ParticipantState {
        let said = self.announced.unwrap_or_default();
        ParticipantState {
            presence: self.presence(),
            muted: said.muted,
            deafened: said.deafened,
            camera: said.camera,
            screen: said.screen,
            recording: said.recording,
            speaking: said.speaking,
            held: said.held,
        }
    }

    /// When something to this participant, or about it, is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let hello = self.hello.as_ref().and_then(|h| h.schedule.next);
        let welcome = self.welcome.as_ref().and_then(|w| w.schedule.next);
        let retired = self.retired.as_ref().map(|r| r.until);
        let called = match self.stage {
            Stage::Called { ring_until, reach_until } => {
                Some(if self.delivery.is_confirmed() { ring_until } else { ring_until.min(reach_until) })
            }
            _ => None,
        };
        let own = [hello, welcome, retired, called, self.pair_at, self.here_at, self.wipe_at];
        let link = [self.link.until, self.link.retry_at, self.link.restart_at, self.link.bound_at()];
        own.into_iter().chain(link).chain([self.delivery.next_timeout()]).flatten().min()
    }
}
