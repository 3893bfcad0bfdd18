//! Which sessions a side has, as far as they matter to what it hears.

use warp_blink::{
    id::{CallId, PublicKey},
    proto::SessionNo,
};

use super::Side;

impl Side {
    /// What that one opens from now on is something else than what it opened in an earlier life.
    pub(crate) fn forget(&mut self, key: PublicKey) {
        self.seen.retain(|(_, from, ..)| *from != key);
        self.asked.retain(|(_, from, ..)| *from != key);
        self.numbers.retain(|(_, from, _), _| *from != key);
    }

    pub(super) fn begun(&mut self, call: CallId, with: PublicKey, session: SessionNo) {
        self.begun.insert((call, with), session);
    }

    pub(super) fn is_dead(&self, call: CallId, with: PublicKey, session: SessionNo) -> bool {
        self.dead.get(&(call, with)).is_some_and(|dead| session <= *dead)
    }

    /// This one has, and counts anew.
    pub(super) fn wipe_sessions(&mut self, which: impl Fn(CallId, PublicKey) -> bool) {
        self.begun.retain(|(call, with), _| !which(*call, *with));
        self.dead.retain(|(call, with), _| !which(*call, *with));
        self.numbers.retain(|(call, with, _), _| !which(*call, *with));
    }

    /// The other one has forgotten every session of that call.
    pub(super) fn lose_sessions(&mut self, call: CallId, with: PublicKey) {
        if let Some(last) = self.begun.get(&(call, with)) {
            self.dead.insert((call, with), *last);
        }
        self.seen.retain(|(c, from, ..)| (*c, *from) != (call, with));
        self.asked.retain(|(c, from, ..)| (*c, *from) != (call, with));
        self.numbers.retain(|(c, from, _), _| (*c, *from) != (call, with));
    }

    pub(crate) fn reset(&mut self) {
        self.begun.clear();
        self.dead.clear();
        self.numbers.clear();
        self.seen.clear();
        self.asked.clear();
    }
}
