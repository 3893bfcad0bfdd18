//! The sessions with one participant of one call: which one is used, and what an older one still brings.
//!
//! There is one as a rule. A second one comes about when a side has lost the first: after a crash (`resume`), or since it
//! had seen the other off (`pair`, or another offer). So the one that was confirmed last is used. Two that cross do not
//! come about: who has a first message of its own on its way answers one of the smaller key only, and takes its own back
//! (`pairing`).

use std::time::Duration;

use super::{delivery::Received, effect::SessionNo, signal::HelloKind};
use crate::time::Instant;

/// How long the session that was replaced is still heard: PROTOCOL's ten seconds, two and a half of the longest resend.
pub(super) const RETIRED: Duration = Duration::from_secs(10);

/// A confirmed session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) no: SessionNo,
    pub(super) kind: HelloKind,
    /// We sent its first message.
    pub(super) ours: bool,
}

/// A session that was replaced: it brings what is on its way, and is answered nothing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Retired {
    pub(super) no: SessionNo,
    pub(super) until: Instant,
    cumulative: u32,
    bits: u32,
}

impl Retired {
    pub(super) fn new(no: SessionNo, now: Instant, (cumulative, bits): (u32, u32)) -> Self {
        Self { no, until: now + RETIRED, cumulative, bits }
    }

    pub(super) fn receive(&mut self, seq: u32) -> Received {
        super::delivery::receive(&mut self.cumulative, &mut self.bits, seq)
    }
}
