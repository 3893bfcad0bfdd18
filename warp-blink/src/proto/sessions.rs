//! The sessions with one participant of one call: which one is used, and what an older one still brings.
//!
//! There is one as a rule. A second one comes about when a side returns after a crash (`resume`), or when both sides open
//! one at once (`pair`).

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

/// Whether the session that was confirmed last replaces the one in use.
///
/// Whoever comes back after a crash has lost the old one, so the newest is used. Where each side opened one, the smaller
/// key's stays; both sides see that alike, whatever order they see the two in. `smaller`: our key is the smaller one.
pub(super) fn replaces(new: Held, used: Held, smaller: bool) -> bool {
    if new.kind == HelloKind::Resume || new.ours == used.ours { true } else { new.ours == smaller }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_keep_the_same_one_of_two_that_crossed() {
        for order in [[true, false], [false, true]] {
            // What each side uses in the end, told by who opened it: `true` is the smaller key.
            let ends = [true, false].map(|smaller| {
                let mut used: Option<Held> = None;
                for by_smaller in order {
                    let no = SessionNo(u32::from(by_smaller));
                    let new = Held { no, kind: HelloKind::Pair, ours: by_smaller == smaller };
                    if used.is_none_or(|u| replaces(new, u, smaller)) {
                        used = Some(new);
                    }
                }
                used.unwrap().ours == smaller
            });
            assert_eq!(ends, [true, true]);
        }
    }

    #[test]
    fn who_comes_back_brings_the_session_that_is_used() {
        let used = Held { no: SessionNo(1), kind: HelloKind::Offer, ours: true };
        for (ours, smaller) in [(true, true), (true, false), (false, true), (false, false)] {
            assert!(replaces(Held { no: SessionNo(2), kind: HelloKind::Resume, ours }, used, smaller));
        }
        let returned = Held { no: SessionNo(2), kind: HelloKind::Resume, ours: false };
        let again = Held { no: SessionNo(3), ..returned };
        assert!(replaces(again, returned, true), "a second crash");
    }
}
