//! For tests: what phones publish, and a phone that wipes no key and goes on listening, as somebody might do who was
//! removed from a call.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    id::PublicKey,
    proto::{Input, LinkId},
    wire::{FrameKind, frame},
};

/// Looks at one phone. Clones look at the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tap {
    /// Nothing is wiped, no topic is left.
    pub(crate) hoards: bool,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    published: Vec<Vec<u8>>,
    opened: Vec<PublicKey>,
}

impl Tap {
    fn hoarding() -> Self {
        Self { hoards: true, ..Self::default() }
    }

    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn published(&self, frame: &[u8]) {
        self.seen(|seen| seen.published.push(frame.to_vec()));
    }

    /// Of whom something was opened, other than a first message.
    pub(crate) fn opened(&self, input: &Input) {
        if let Input::Packet { from, .. }
        | Input::PacketOnLink { link: LinkId { peer: from, .. }, .. }
        | Input::CallMessage { from, .. } = input
        {
            self.seen(|seen| seen.opened.push(*from));
        }
    }

    /// What was published since this was last asked.
    fn take_published(&self) -> Vec<Vec<u8>> {
        self.seen(|seen| std::mem::take(&mut seen.published))
    }

    /// Of whom something was opened since this was last asked.
    fn take_opened(&self) -> Vec<PublicKey> {
        self.seen(|seen| std::mem::take(&mut seen.opened))
    }
}

/// How many of these are messages to a whole call.
fn to_all(frames: &[Vec<u8>]) -> usize {
    frames.iter().filter(|data| frame::check(data) == Ok(FrameKind::Call)).count()
}

#[cfg(feature = "node")]
mod tests;
