//! How much delay is worth spending so that what is lost can be repaired.
//!
//! Redundancy comes with later packets: in-band copies with the next one, RFC 2198 copies with one after that, deep
//! redundancy with the first packet after the loss, however long that was. It helps only if playing waits for it. So
//! each loss is noted with its *span*: how long before the packet that could repair it its sound should have been
//! played. The delay is raised to what repairs nearly all of it, and kept for a while.

/// The most delay that is spent: 120 ms, six frames of 20 ms. ITU-T G.114 finds little harm up to 150 ms one way.
const MOST_US: i64 = 120_000;
/// In steps of a tick.
const STEP_US: i64 = 10_000;
/// What was lost in the last five seconds counts.
const WINDOW_US: i64 = 5_000_000;
/// One in so many of sound may stay unrepaired, 1 %: concealment hides that. With half of it 20 % of random loss cost 10 ms more
/// delay and bursts of 3 packets as much, for the same score (PESQ 3.97 and 3.98, 3.79 and 3.81).
const SPARED: i64 = 100;
/// But as much in any case: a frame of 20 ms.
const SPARED_US: i64 = 25_000;
/// Losses within this count as one.
const SAME_US: i64 = 100_000;
/// A level is kept for this long after it was last needed. Losses come in phases; each change of the delay is a risk.
const HOLD_US: i64 = 30_000_000;
/// Losses that are remembered; more of them within the window say nothing new.
const NOTES: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
struct Note {
    at: i64,
    span: i64,
    lost: i64,
}

/// See the module. Times are microseconds.
#[derive(Debug)]
pub(super) struct Repairs {
    notes: [Note; NOTES],
    next: usize,
    level: i64,
    needed_at: i64,
    updated_at: i64,
}

impl Repairs {
    pub(super) fn new() -> Self {
        let never = i64::MIN / 4;
        let notes = [Note { at: never, ..Note::default() }; NOTES];
        Self { notes, next: 0, level: 0, needed_at: never, updated_at: never }
    }

    /// Notes that `lost` could have been repaired if what begins `span` before the packet that came at `at` had waited.
    pub(super) fn note(&mut self, at: i64, span: i64, lost: i64) {
        if lost <= 0 || span <= 0 {
            return;
        }
        self.notes[self.next] = Note { at, span, lost };
        self.next = (self.next + 1) % NOTES;
        self.update(at);
    }

    /// Lets time go by; cheap.
    pub(super) fn advance(&mut self, now: i64) {
        if now - self.updated_at > 500_000 {
            self.update(now);
        }
    }

    /// The delay to spend.
    pub(super) fn level(&self) -> i64 {
        self.level
    }

    fn update(&mut self, now: i64) {
        self.updated_at = now;
        let needed = self.needed(now);
        if needed >= self.level {
            self.level = needed;
            self.needed_at = now;
        } else if now - self.needed_at > HOLD_US {
            // One step after the other, as the need went down.
            self.level = needed.max(self.level - 2 * STEP_US);
            self.needed_at = now - HOLD_US + 1_000_000;
        }
    }

    fn needed(&self, now: i64) -> i64 {
        let within = self.notes.iter().map(|note| now - note.at).filter(|ago| *ago <= WINDOW_US);
        let spared = SPARED_US.max(within.max().unwrap_or(0) / SPARED);
        let mut level = 0;
        while level < MOST_US {
            let (mut lost, mut times, mut last) = (0, 0, i64::MIN / 2);
            // From the oldest to the newest.
            for note in self.notes[self.next..].iter().chain(&self.notes[..self.next]) {
                let beyond = (note.span - level).min(note.lost);
                if beyond <= 0 || now - note.at > WINDOW_US {
                    continue;
                }
                lost += beyond;
                if note.at - last > SAME_US {
                    times += 1;
                    last = note.at;
                }
            }
            // Neither one burst nor two single losses change anything.
            let enough = if level == 0 { 3 } else { 2 };
            let bursts = level == 0 && times == 2 && lost > 4 * SPARED_US;
            if lost <= spared || times < enough && !bursts {
                break;
            }
            level += STEP_US;
        }
        level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000;

    #[test]
    fn single_losses_change_nothing_and_steady_ones_are_worth_a_frame() {
        let mut repairs = Repairs::new();
        repairs.note(0, 20 * MS, 20 * MS);
        repairs.note(3_000 * MS, 20 * MS, 20 * MS);
        assert_eq!(repairs.level(), 0);
        for i in 0..10 {
            repairs.note((60_000 + i * 200) * MS, 20 * MS, 20 * MS);
        }
        assert_eq!(repairs.level(), 20 * MS);
    }

    #[test]
    fn two_bursts_are_worth_their_length_and_one_is_not() {
        let mut repairs = Repairs::new();
        repairs.note(1_000 * MS, 80 * MS, 80 * MS);
        assert_eq!(repairs.level(), 0);
        repairs.note(1_800 * MS, 80 * MS, 80 * MS);
        assert_eq!(repairs.level(), 70 * MS);
        repairs.note(2_600 * MS, 80 * MS, 80 * MS);
        assert_eq!(repairs.level(), 80 * MS);
        repairs.note(3_000 * MS, 400 * MS, 400 * MS);
        repairs.note(3_500 * MS, 400 * MS, 400 * MS);
        assert_eq!(repairs.level(), 120 * MS, "bounded");
    }

    #[test]
    fn of_heavy_losses_the_last_few_are_not_waited_for() {
        for (rare, level) in [(25, 20), (8, 40)] {
            let mut repairs = Repairs::new();
            // A fifth of 250 packets; some of them need twice as long.
            for i in 0..50 {
                let span = if (i + 1) % rare == 0 { 40 } else { 20 };
                repairs.note(i * 100 * MS, span * MS, 20 * MS);
            }
            assert_eq!(repairs.level(), level * MS, "one in {rare}");
        }
    }

    #[test]
    fn copies_need_all_of_their_distance() {
        let mut repairs = Repairs::new();
        for i in 0..5 {
            repairs.note(i * 300 * MS, 40 * MS, 20 * MS);
        }
        assert_eq!(repairs.level(), 40 * MS);
    }

    #[test]
    fn it_is_kept_for_half_a_minute_and_then_given_back() {
        let mut repairs = Repairs::new();
        for i in 0..10 {
            repairs.note(i * 500 * MS, 80 * MS, 80 * MS);
        }
        let mut seen = Vec::new();
        for second in 5..60 {
            for tick in 0..100 {
                repairs.advance((second * 1_000 + tick * 10) * MS);
            }
            seen.push((second, repairs.level() / MS));
        }
        let at = |second| seen.iter().find(|(s, _)| *s == second).unwrap().1;
        assert_eq!([10, 30, 33].map(at), [80; 3]);
        assert_eq!([45, 59].map(at), [0; 2], "{seen:?}");
        assert!(seen.windows(2).all(|w| w[0].1 - w[1].1 <= 20), "little by little: {seen:?}");
    }
}
