//! Which nonces have been received.

/// How far behind the newest nonce a frame may be, in transmissions. Gossip reorders by seconds; at the highest rate
/// of a session, a burst of resends, this is more than ten of them.
pub(super) const WIDTH: u64 = 1024;

/// The last [`WIDTH`] nonces, one bit each (RFC 6479 shows the idea; shifting is fast enough for signals).
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// One more than the newest nonce received; 0 if none was.
    next: u64,
    /// Bit `n % WIDTH` stands for the one nonce of that remainder in `next - WIDTH .. next`.
    seen: [u64; (WIDTH / 64) as usize],
}

/// What a nonce is to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not received so far.
    Fresh,
    /// Received before.
    Seen,
    /// Behind the window.
    Old,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self { next: 0, seen: [0; (WIDTH / 64) as usize] }
    }

    /// Where `nonce` stands. Changes nothing, so that it may be asked before the tag is verified.
    pub(super) fn place(&self, nonce: u64) -> Place {
        if nonce >= self.next {
            Place::Fresh
        } else if self.next - nonce > WIDTH {
            Place::Old
        } else if self.seen[Self::word(nonce)] & Self::bit(nonce) == 0 {
            Place::Fresh
        } else {
            Place::Seen
        }
    }

    /// Marks `nonce`, whose frame verified, as received.
    pub(super) fn mark(&mut self, nonce: u64) {
        if nonce >= self.next {
            if nonce - self.next >= WIDTH {
                self.seen.fill(0);
            } else {
                (self.next..nonce).for_each(|skipped| self.seen[Self::word(skipped)] &= !Self::bit(skipped));
            }
            self.next = nonce.saturating_add(1);
        } else if self.next - nonce > WIDTH {
            return;
        }
        self.seen[Self::word(nonce)] |= Self::bit(nonce);
    }

    const fn word(nonce: u64) -> usize {
        (nonce % WIDTH / 64) as usize
    }

    const fn bit(nonce: u64) -> u64 {
        1 << (nonce % 64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain definition: a set of all nonces, and the width.
        #[test]
        fn it_is_a_set_that_forgets_what_is_old(steps in proptest::collection::vec((any::<bool>(), 0u64..3000), 1..400)) {
            let (mut window, mut all, mut base) = (Window::new(), BTreeSet::new(), 0u64);
            for (jump, offset) in steps {
                let nonce = if jump { base.saturating_add(offset) } else { base.saturating_sub(offset) };
                let newest = all.last().copied();
                let expected = match newest {
                    Some(newest) if nonce + WIDTH <= newest => Place::Old,
                    _ if all.contains(&nonce) => Place::Seen,
                    _ => Place::Fresh,
                };
                prop_assert_eq!(window.place(nonce), expected, "nonce {} newest {:?}", nonce, newest);
                window.mark(nonce);
                if expected != Place::Old {
                    all.insert(nonce);
                    base = base.max(nonce);
                }
            }
        }
    }

    #[test]
    fn the_edges() {
        let mut window = Window::new();
        assert_eq!(window.place(0), Place::Fresh);
        window.mark(0);
        assert_eq!(window.place(0), Place::Seen);
        window.mark(WIDTH - 1);
        assert_eq!(window.place(0), Place::Seen);
        window.mark(WIDTH);
        assert_eq!(window.place(0), Place::Old);
        assert_eq!(window.place(1), Place::Fresh);
        window.mark(u64::MAX - 1);
        assert_eq!(window.place(u64::MAX - 1), Place::Seen);
        assert_eq!(window.place(u64::MAX - 2), Place::Fresh);
        assert_eq!(window.place(WIDTH), Place::Old);
    }
}
