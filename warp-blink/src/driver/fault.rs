//! A fault for tests over a real network: the first transmission of every signal is lost, each resend arrives.

use std::collections::BTreeSet;

use crate::id::{CallId, PublicKey};

/// What makes a signal the same one again: its kind, its call, to whom if it is for one, its session or epoch, its number.
pub(super) type Name = (&'static str, CallId, Option<PublicKey>, u32, u32);

pub(super) struct Losses(Option<BTreeSet<Name>>);

impl Losses {
    pub(super) fn new(on: bool) -> Self {
        Self(on.then(BTreeSet::new))
    }

    /// Whether this transmission is lost.
    pub(super) fn loses(&mut self, name: Name) -> bool {
        self.0.as_mut().is_some_and(|sent| sent.insert(name))
    }
}
