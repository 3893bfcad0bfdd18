//! Packets by sequence number, in memory of fixed size.

use bytes::Bytes;

use crate::codec::packet::Head;

/// More packets than 2 s of 10 ms frames make; what is further ahead pushes the oldest out.
pub(super) const SLOTS: usize = 256;

/// A packet that waits.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) sequence: i64,
    pub(super) timestamp: i64,
    pub(super) head: Head,
    pub(super) payload: Bytes,
    /// It came inside of a later packet, as a copy (RFC 2198).
    pub(super) copy: bool,
}

impl Stored {
    /// The timestamp of what follows it.
    pub(super) fn end(&self) -> i64 {
        self.timestamp + self.head.samples as i64
    }
}

#[derive(Debug)]
pub(super) struct Ring {
    slots: Vec<Option<Stored>>,
    /// Sequence numbers of the first and the last packet, if there is any.
    low: i64,
    high: i64,
    len: usize,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| None).collect(), low: 0, high: 0, len: 0 }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first packet, if it must go before this one can be put in.
    pub(super) fn crowded_out_by(&mut self, sequence: i64) -> Option<Stored> {
        if self.low <= sequence - SLOTS as i64 { self.pop() } else { None }
    }

    /// Puts a packet in, in place of one with the same number; false if it is too far away. Whatever it crowds out is
    /// gone.
    pub(super) fn insert(&mut self, stored: Stored) -> bool {
        let sequence = stored.sequence;
        if self.len > 0 && sequence <= self.high - SLOTS as i64 {
            return false;
        }
        while self.crowded_out_by(sequence).is_some() {}
        if self.len == 0 {
            (self.low, self.high) = (sequence, sequence);
        }
        (self.low, self.high) = (self.low.min(sequence), self.high.max(sequence));
        let slot = &mut self.slots[index(sequence)];
        if slot.is_none() {
            self.len += 1;
        }
        *slot = Some(stored);
        true
    }

    pub(super) fn first(&self) -> Option<&Stored> {
        if self.len == 0 { None } else { self.slots[index(self.low)].as_ref() }
    }

    pub(super) fn pop(&mut self) -> Option<Stored> {
        if self.len == 0 {
            return None;
        }
        let found = self.slots[index(self.low)].take();
        self.len -= 1;
        if self.len > 0 {
            while self.low < self.high {
                self.low += 1;
                if self.slots[index(self.low)].is_some() {
                    break;
                }
            }
        }
        found
    }

    /// All packets in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stored> {
        let all = if self.len == 0 { 0..0 } else { self.low..self.high + 1 };
        all.filter_map(|sequence| self.slots[index(sequence)].as_ref())
    }

    pub(super) fn clear(&mut self) {
        self.slots.fill_with(|| None);
        self.len = 0;
    }
}

fn index(sequence: i64) -> usize {
    sequence.rem_euclid(SLOTS as i64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn stored(sequence: i64) -> Stored {
        let head = Head { frame: 960, samples: 960, redundancy: false, celt: true };
        let payload = Bytes::new();
        Stored { sequence, timestamp: sequence * 960, head, payload, copy: false }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// As an ordered map that holds nothing further apart than the ring is long.
        #[test]
        fn it_is_an_ordered_map_of_bounded_width(steps in prop::collection::vec((0..3_u8, -400..400_i64), 1..300)) {
            let (mut ring, mut map) = (Ring::new(), BTreeMap::new());
            let mut at = 0;
            for (kind, by) in steps {
                if kind == 0 {
                    prop_assert_eq!(ring.pop().map(|s| s.sequence), map.pop_first().map(|(k, ())| k));
                } else {
                    at += by / (if kind == 1 { 1 } else { 100 });
                    let width = SLOTS as i64;
                    let fits = map.last_key_value().is_none_or(|(last, ())| at > last - width);
                    if fits {
                        while map.first_key_value().is_some_and(|(first, ())| *first <= at - width) {
                            prop_assert_eq!(
                                ring.crowded_out_by(at).map(|s| s.sequence),
                                map.pop_first().map(|(k, ())| k)
                            );
                        }
                        map.insert(at, ());
                    }
                    prop_assert!(ring.crowded_out_by(at).is_none());
                    prop_assert_eq!(ring.insert(stored(at)), fits);
                }
                prop_assert_eq!(ring.len(), map.len());
                prop_assert_eq!(ring.first().map(|s| s.sequence), map.keys().next().copied());
                let all: Vec<_> = ring.iter().map(|s| s.sequence).collect();
                prop_assert_eq!(all, map.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}
