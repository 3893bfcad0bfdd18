//! Which packets never came, over the whole of a stream: also while nothing was played.

/// Counts the numbers whose turn is over and that did not come. One that comes after all is lost no more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    /// Numbers from the first up to (not including) the second had their turn; none before the stream began.
    turns: Option<(i64, i64)>,
    lost: u64,
}

impl Losses {
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Forgets the numbers, for a new stream.
    pub(super) fn restart(&mut self) {
        self.turns = None;
    }

    /// It is this packet's turn: those before it that did not come are lost. So is the packet itself if all that is
    /// there is a copy of it.
    pub(super) fn turn(&mut self, sequence: i64, copy: bool) {
        let (_, next) = self.turns.get_or_insert((sequence, sequence));
        let missing = sequence + i64::from(copy) - *next;
        self.lost += u64::try_from(missing).unwrap_or(0);
        *next = (*next).max(sequence + 1);
    }

    /// A packet came, for the first time. Of its own it is not known whether that is too late.
    pub(super) fn came(&mut self, sequence: i64) {
        if self.turns.is_some_and(|(first, next)| (first..next).contains(&sequence)) {
            self.lost = self.lost.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_is_lost_once_and_what_comes_late_is_not() {
        let mut losses = Losses::default();
        losses.came(5);
        losses.turn(7, false);
        assert_eq!(losses.lost(), 0, "nobody knows what was before the first");
        losses.turn(8, false);
        losses.turn(12, false);
        losses.turn(12, false);
        assert_eq!(losses.lost(), 3);
        losses.came(10);
        losses.came(13);
        losses.came(6);
        assert_eq!(losses.lost(), 2);
        losses.turn(14, true);
        losses.turn(15, false);
        assert_eq!(losses.lost(), 4, "13, and 14, of which there was a copy only");
        losses.turn(3, false);
        losses.turn(15, false);
        assert_eq!(losses.lost(), 4);
        losses.restart();
        losses.turn(90, false);
        losses.came(20);
        assert_eq!(losses.lost(), 4);
    }
}
