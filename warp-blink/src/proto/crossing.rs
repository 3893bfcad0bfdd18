//! Two people who call each other at once: one call comes of it, without anybody pressing anything.
//!
//! Both sides see both ids and keep the smaller one. Its callee, whose own call is merged into it, accepts it: they were
//! calling, so they want to talk.

use super::{
    call::{Call, State},
    ending::Ending,
    input::Other,
    machine::{Machine, Out},
};
use crate::{
    event::Event,
    id::{CallId, PublicKey},
    time::Instant,
};

impl Machine {
    /// `theirs`, which has been confirmed and does not ring yet, meets a call of ours with the same person.
    pub(super) fn cross(
        &mut self,
        now: Instant,
        mine: CallId,
        theirs: CallId,
        peer: PublicKey,
        out: &mut Out<'_>,
    ) {
        if mine < theirs && self.calls.get(&theirs).is_some_and(|c| c.crossed) {
            // Ours stays, or they talk in it already. The other side finds that out in the same way.
            self.end(now, theirs, Ending::merged(), out);
            return;
        }
        if !self.calls.get(&mine).is_some_and(Call::is_outgoing) {
            // They talk, and the other side calls anew: it has lost the call, and this is a new one.
            self.ring_anyway(now, theirs, out);
            return;
        }
        self.end(now, mine, Ending::merged(), out);
        self.aliases.insert(mine, theirs);
        out.emit(Event::Merged { call: mine, into: theirs, peer });
        if let Some(call) = self.calls.get_mut(&theirs) {
            let ring_until = now + self.config.max_ring;
            call.state = State::Incoming { ring_until, confirm_until: None, heard_until: ring_until };
        }
        // It is there and rings, in this very step: nothing can refuse.
        if let Err(rejected) = self.accept(now, theirs, Other::End, out) {
            tracing::error!(%rejected, "a call that crossed another was not accepted");
        }
    }
}
