//! What must hold after every step. Tests call it; an app has no need to.

use super::{
    call::{Call, State},
    machine::{MAX_CALLS, MAX_ENDED, Machine},
    participant::Stage,
    signal::MAX_SUBJECTS,
};
use crate::{event::LinkState, id::CallId, time::Instant};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Microphone and speaker are open for a call that nobody accepted, or two at once.
    #[error("the microphone is open for {0} without an accepted call")]
    OpenMicrophone(CallId),
    /// The snapshot says something else about the microphone than the calls do.
    #[error("the local media state does not match the calls")]
    LocalMedia,
    /// More than one call under way.
    #[error("two calls are under way")]
    TwoCalls,
    /// Two live links to one peer.
    #[error("two live links to the peer of {0}")]
    TwoLinks(CallId),
    /// Somebody who was not accepted could hear the microphone.
    #[error("the microphone is open and {0}, another call, has a link")]
    Overheard(CallId),
    /// Somebody who was removed is treated as if they took part.
    #[error("somebody who was removed from {0} still takes part")]
    Removed(CallId),
    /// A link to somebody who has not shown that it is there.
    #[error("{0} has a link without a confirmed session")]
    Unconfirmed(CallId),
    /// An ended call still holds a link, an open device or a timer other than its farewell.
    #[error("{0} has ended and still holds something")]
    NotClean(CallId),
    /// A deadline lies in the past after its step.
    #[error("{0} has a deadline in the past")]
    Overdue(CallId),
    /// A bound is exceeded.
    #[error("a bound is exceeded: {0}")]
    Bound(&'static str),
}

impl Machine {
    /// Checks the invariants.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn check(&self, now: Instant) -> Result<(), Violation> {
        if self.calls.values().filter(|c| c.is_under_way()).count() > 1 {
            return Err(Violation::TwoCalls);
        }
        if self.calls.len() > MAX_CALLS {
            return Err(Violation::Bound("calls"));
        }
        if self.ended.len() > MAX_ENDED {
            return Err(Violation::Bound("ended calls"));
        }
        if self.local.open != self.calls.values().any(|c| c.audio) {
            return Err(Violation::LocalMedia);
        }
        if self.calls.values().filter(|c| c.held).count() > self.config.max_held {
            return Err(Violation::Bound("held calls"));
        }
        for call in self.calls.values() {
            self.check_call(call, now)?;
        }
        Ok(())
    }

    fn check_call(&self, call: &Call, now: Instant) -> Result<(), Violation> {
        if call.audio != (call.is_active() && !call.held) {
            return Err(Violation::OpenMicrophone(call.id));
        }
        if call.held && !call.is_active() {
            return Err(Violation::NotClean(call.id));
        }
        if call.peers.len() > MAX_SUBJECTS {
            return Err(Violation::Bound("participants"));
        }
        let heard = |id: CallId| self.calls.values().any(|c| c.id != id && c.audio);
        for p in call.peers.values() {
            if p.link.open && p.link.sending && (call.held || heard(call.id)) {
                return Err(Violation::Overheard(call.id));
            }
            if p.link.open && p.session.is_none() {
                return Err(Violation::Unconfirmed(call.id));
            }
            let live = |c: &Call| c.peers.get(&p.key).is_some_and(|p| p.link.open);
            if p.link.open && self.calls.values().filter(|c| live(c)).count() > 1 {
                return Err(Violation::TwoLinks(call.id));
            }
            let removed = call.members.as_ref().is_some_and(|m| m.was_removed(&p.key));
            if removed && call.is_active() && (p.link.open || p.may_come()) {
                return Err(Violation::Removed(call.id));
            }
            if matches!(p.stage, Stage::Out(_)) && (p.link.open || p.joined) {
                return Err(Violation::NotClean(call.id));
            }
        }
        let links = call.peers.values().any(|p| p.link.open);
        let unclean = links || call.audio || call.announce_at.is_some() || call.epochs.all().next().is_some();
        if (call.is_leaving() || matches!(call.state, State::Left { .. })) && unclean {
            return Err(Violation::NotClean(call.id));
        }
        let begun = call.peers.values().any(|p| p.link.state != LinkState::Init);
        if call.is_arriving() && (begun || call.audio) {
            return Err(Violation::NotClean(call.id));
        }
        if call.next_timeout().is_some_and(|t| t <= now) {
            return Err(Violation::Overdue(call.id));
        }
        Ok(())
    }
}
