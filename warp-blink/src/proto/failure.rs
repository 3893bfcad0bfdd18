//! What went wrong last, in words that say what to do.

use super::machine::Machine;
use crate::{
    event::{EndReason, ErrorNote, Failure, MAX_ERRORS, Warning},
    id::{CallId, PublicKey},
    time::Instant,
};

impl Machine {
    /// Notes why somebody could not be talked to, or why a call ended, unless that is how calls end.
    pub(super) fn note_failure(
        &mut self,
        now: Instant,
        id: CallId,
        peer: Option<PublicKey>,
        reason: EndReason,
    ) {
        let peer = peer.or_else(|| self.calls.get(&id).and_then(super::call::Call::only_peer));
        let Some(failure) = self.failure(now, id, peer.as_ref(), reason) else { return };
        self.add_error(ErrorNote { at: now, call: Some(id), peer, text: failure.to_string() });
    }

    pub(super) fn note_warning(&mut self, now: Instant, warning: &Warning) {
        let peer = match warning {
            Warning::NotReached { peer, .. } | Warning::FriendSilent { peer } => Some(*peer),
            _ => None,
        };
        self.add_error(ErrorNote { at: now, call: None, peer, text: warning.to_string() });
    }

    fn add_error(&mut self, note: ErrorNote) {
        self.errors.retain(|e| e.peer != note.peer);
        self.errors.truncate(MAX_ERRORS - 1);
        self.errors.push_front(note);
    }

    /// Why it did not come about, if it failed: at which step, what was tried, and what the user can do.
    pub(super) fn failure(
        &self,
        now: Instant,
        id: CallId,
        peer: Option<&PublicKey>,
        reason: EndReason,
    ) -> Option<Failure> {
        let Some(p) = peer.and_then(|key| self.peer(id, key)) else {
            return Failure::of(reason, &[], 0, None, now);
        };
        Failure::of(reason, &p.timeline, p.link.attempts, p.link.disconnected_at, now)
    }
}
