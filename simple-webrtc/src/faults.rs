//! Faults of the network, for tests that have real sockets and no way to have a real network fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What becomes of the datagrams that connections send: some are lost, or all. Clones share it, so it can be changed
/// while connections run. What arrives is left alone: the other end has faults of its own.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Of 2^32 datagrams.
    lost: AtomicU64,
    cut: AtomicBool,
    random: AtomicU64,
}

/// The step of SplitMix64 (Steele, Lea and Flood, 2014).
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Faults {
    /// None so far. The seed decides which datagrams are lost.
    pub fn new(seed: u64) -> Self {
        let (lost, cut) = Default::default();
        Self(Arc::new(Inner { lost, cut, random: AtomicU64::new(seed) }))
    }

    /// Loses this share of the datagrams from now on, 0 to 1, each for itself.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^32")]
    pub fn lose(&self, share: f64) {
        let lost = (share.clamp(0.0, 1.0) * 4_294_967_296.0) as u64;
        self.0.lost.store(lost, Ordering::Relaxed);
    }

    /// Loses everything from now on, or no longer.
    pub fn cut(&self, cut: bool) {
        self.0.cut.store(cut, Ordering::Relaxed);
    }

    /// Whether the next datagram is lost.
    pub(crate) fn take(&self) -> bool {
        let state = self.0.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let drawn = (mixed ^ (mixed >> 31)) >> 32;
        self.0.cut.load(Ordering::Relaxed) || drawn < self.0.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(seed: u64, share: f64) -> Vec<bool> {
        let faults = Faults::new(seed);
        faults.lose(share);
        (0..20_000).map(|_| faults.take()).collect()
    }

    #[test]
    fn the_seed_says_which_are_lost_and_the_share_how_many() {
        let count = |lost: &[bool]| lost.iter().filter(|lost| **lost).count();
        let some = lost(1, 0.05);
        // Four deviations of what is expected.
        assert!((877..=1123).contains(&count(&some)), "{}", count(&some));
        assert_eq!(some, lost(1, 0.05));
        assert_ne!(some, lost(2, 0.05));
        assert_eq!((count(&lost(1, 0.0)), count(&lost(1, 1.0))), (0, 20_000));
        let pairs = some.windows(2).filter(|two| two[0] && two[1]).count();
        assert!(pairs < 100, "{pairs} pairs of 20,000: losses know of each other");
    }

    #[test]
    fn a_cut_takes_everything_until_it_ends_at_each_clone() {
        let faults = Faults::new(1);
        faults.clone().cut(true);
        assert!((0..100).all(|_| faults.take()));
        faults.clone().cut(false);
        assert!((0..100).all(|_| !faults.take()));
    }
}
