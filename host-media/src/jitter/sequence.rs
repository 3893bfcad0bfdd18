//! Sequence numbers and timestamps that no longer wrap.

/// Extends a counter of 16 or 32 bits: each value is taken to be the nearest to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extended {
    last: i64,
}

impl Extended {
    pub(crate) fn new(start: i64) -> Self {
        Self { last: start }
    }

    /// A sequence number, without moving on.
    pub(crate) fn near16(self, value: u16) -> i64 {
        self.last + i64::from(value.wrapping_sub(self.last as u16) as i16)
    }

    /// A timestamp, without moving on.
    pub(crate) fn near32(self, value: u32) -> i64 {
        self.last + i64::from(value.wrapping_sub(self.last as u32) as i32)
    }

    /// Takes an extended value as the one that the next ones are near to.
    pub(crate) fn move_to(&mut self, value: i64) {
        self.last = value;
    }

    pub(crate) fn last(self) -> i64 {
        self.last
    }
}

/// Remembers which of the last 128 sequence numbers came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    highest: i64,
    bits: u128,
}

impl Seen {
    /// Whether this sequence number came, as far as that is known.
    pub(crate) fn has(&self, sequence: i64) -> bool {
        let back = self.highest - sequence;
        self.bits != 0 && (0..128).contains(&back) && self.bits >> back & 1 == 1
    }

    /// Notes a sequence number; false if it came before.
    pub(crate) fn note(&mut self, sequence: i64) -> bool {
        if self.bits == 0 {
            *self = Self { highest: sequence, bits: 1 };
            return true;
        }
        if sequence > self.highest {
            let by = sequence - self.highest;
            self.bits = if by < 128 { self.bits << by | 1 } else { 1 };
            self.highest = sequence;
            return true;
        }
        let back = self.highest - sequence;
        if back >= 128 {
            // Too old to know; it is far too late to be played in any case.
            return true;
        }
        let bit = 1 << back;
        let new = self.bits & bit == 0;
        self.bits |= bit;
        new
    }
}

/// Packets of which number and time are remembered: as many of 10 ms as there are in a bit more than 341 ms, the most
/// that a copy can be behind (14 bits; RFC 2198 section 3).
const KNOWN: usize = 40;

/// Which number had which time, of the last packets. Numbers run on by one from packet to packet; times do not, where
/// the sender pauses.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Number, time and length.
    packets: [Option<(i64, i64, i64)>; KNOWN],
}

impl Default for Known {
    fn default() -> Self {
        Self { packets: [None; KNOWN] }
    }
}

impl Known {
    pub(crate) fn note(&mut self, sequence: i64, timestamp: i64, samples: i64) {
        let place = &mut self.packets[sequence.rem_euclid(KNOWN as i64) as usize];
        if place.is_none_or(|(known, ..)| known <= sequence) {
            *place = Some((sequence, timestamp, samples));
        }
    }

    /// The number of what began at this time and is this long; it came with the packet of the first number. None if
    /// what is known leaves no room for it, or if it is known itself.
    pub(crate) fn number(&self, with: i64, timestamp: i64, samples: i64) -> Option<i64> {
        let of = |number: i64| {
            self.packets[number.rem_euclid(KNOWN as i64) as usize].filter(|(known, ..)| *known == number)
        };
        let mut after = of(with)?;
        let mut before = None;
        for known in (1..KNOWN as i64).filter_map(|back| of(with - back)) {
            if known.1 <= timestamp {
                before = Some(known);
                break;
            }
            after = known;
        }
        // Counted back from what came after it, as if no pause lay between.
        let steps = |time: i64| time.div_euclid(samples);
        let (number, time, _) = after;
        if time < timestamp + samples {
            return None;
        }
        let from_behind = number - steps(time - timestamp);
        let Some((first, time, length)) = before else {
            return (time - timestamp).rem_euclid(samples).eq(&0).then_some(from_behind);
        };
        if timestamp < time + length || number - first < 2 {
            return None;
        }
        // If that is too far back, the pause was there; then it is counted from what came before.
        let found =
            if from_behind > first { from_behind } else { first + 1 + steps(timestamp - time - length) };
        Some(found.clamp(first + 1, number - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_run_on_across_their_wrap_in_both_directions() {
        let mut sequence = Extended::new(65_534);
        for (value, expected) in [(65_535, 65_535), (0, 65_536), (65_533, 65_533), (2, 65_538)] {
            assert_eq!(sequence.near16(value), expected);
        }
        sequence.move_to(65_538);
        assert_eq!(sequence.near16(65_530), 65_530);
        let timestamp = Extended::new(i64::from(u32::MAX) - 10);
        assert_eq!(timestamp.near32(9), i64::from(u32::MAX) + 10);
        assert_eq!(Extended::new(0).near32(u32::MAX), -1);
    }

    #[test]
    fn duplicates_are_known_for_a_while() {
        let mut seen = Seen::default();
        assert!(seen.note(100) && !seen.note(100));
        assert!(seen.note(102) && seen.note(101) && !seen.note(101) && !seen.note(102));
        assert!(seen.note(229) && !seen.note(102) && seen.note(103));
        assert!(seen.note(1_000_000) && seen.note(999_999));
        assert!(seen.has(999_999) && !seen.has(999_998) && !seen.has(1_000_001) && !seen.has(1));
    }
}
