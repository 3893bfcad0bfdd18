//! What must hold after every step. Tests call it; an app has no need to.

use super::{
    call::State,
    machine::{MAX_CALLS, MAX_ENDED, Machine},
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
        for call in self.calls.values() {
            if call.audio != call.is_active() {
                return Err(Violation::OpenMicrophone(call.id));
            }
            if call.peer.link.open && self.calls.values().any(|c| c.id != call.id && c.audio) {
                return Err(Violation::Overheard(call.id));
            }
            if call.peer.link.open && call.peer.session.is_none() {
                return Err(Violation::Unconfirmed(call.id));
            }
            let live = |c: &super::call::Call| c.peer.key == call.peer.key && c.peer.link.open;
            if call.peer.link.open && self.calls.values().filter(|c| live(c)).count() > 1 {
                return Err(Violation::TwoLinks(call.id));
            }
            let unclean = call.peer.link.open || call.audio || call.announce_at.is_some();
            if matches!(call.state, State::Leaving { .. }) && unclean {
                return Err(Violation::NotClean(call.id));
            }
            let early = matches!(call.state, State::Arriving { .. });
            if early && (call.peer.link.state != LinkState::Init || call.audio) {
                return Err(Violation::NotClean(call.id));
            }
            if call.deadline().is_some_and(|t| t < now) {
                return Err(Violation::Overdue(call.id));
            }
        }
        Ok(())
    }
}
