//! What the targets share: mutation that knows the encoding of contents.
//!
//! A number has one encoding only, whose length follows from its value. Mutation that is blind to that spends nearly
//! all of its inputs on what the first check refuses: it did not find a number that was planted in a packet in seven
//! million inputs.

use libfuzzer_sys::fuzzer_mutate;

/// Mutates contents in place, as libFuzzer does or, every other time, by giving one of its numbers another value. Gives
/// the new length.
pub fn mutate_contents(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(u64::from(seed) | 1 << 40);
    let numbers = numbers(&data[..size]);
    if numbers.is_empty() || random.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let (at, len) = numbers[random.below(numbers.len())];
    let head = data[at] & 0xe0;
    let new = encoded(head, random.number());
    let grown = size - len + new.len();
    if grown > max_size || grown > data.len() {
        return fuzzer_mutate(data, size, max_size);
    }
    data.copy_within(at + len..size, at + new.len());
    data[at..at + new.len()].copy_from_slice(&new);
    grown
}

/// Where the unsigned numbers stand, and how long they are (RFC 8949, section 3). Ends where the bytes are malformed.
fn numbers(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(&head) = bytes.get(at) {
        let extra = match head & 0x1f {
            0..24 => 0,
            short @ 24..28 => 1 << (short - 24),
            _ => break,
        };
        let Some(argument) = bytes.get(at + 1..at + 1 + extra) else { break };
        let argument = argument.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        let argument = if extra == 0 { u64::from(head & 0x1f) } else { argument };
        match head >> 5 {
            0 => found.push((at, 1 + extra)),
            // Strings are passed over; all others have their insides behind their head.
            2 | 3 => at = at.saturating_add(usize::try_from(argument).unwrap_or(usize::MAX)),
            _ => {}
        }
        at = at.saturating_add(1 + extra);
    }
    found
}

/// The one encoding of a number.
fn encoded(head: u8, number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    match number {
        0..24 => vec![head | bytes[7]],
        24..0x100 => vec![head | 24, bytes[7]],
        0x100..0x1_0000 => [&[head | 25], &bytes[6..]].concat(),
        0x1_0000..0x1_0000_0000 => [&[head | 26], &bytes[4..]].concat(),
        _ => [&[head | 27], &bytes[..]].concat(),
    }
}

/// SplitMix64: what is drawn follows from libFuzzer's seed, so that a run can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or(0)
    }

    /// Of each length as often as of any other, and now and then at the end of one.
    fn number(&mut self) -> u64 {
        let bits = [5, 8, 16, 32, 64][self.below(5)];
        let number = self.next() >> (64 - bits);
        match self.below(8) {
            0 => u64::MAX >> (64 - bits),
            _ => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_and_written_in_their_one_encoding() {
        // [7, h'0102', 300, [1], -1]
        let bytes = [0x85, 0x07, 0x42, 0x01, 0x02, 0x19, 0x01, 0x2c, 0x81, 0x01, 0x20];
        assert_eq!(numbers(&bytes), [(1, 1), (5, 3), (9, 1)]);
        assert_eq!(numbers(&[0x85, 0x07, 0x19, 0x01]), [(1, 1)]);
        assert_eq!(numbers(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), []);
        for number in [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let bytes = encoded(0, number);
            assert_eq!(numbers(&bytes), [(0, bytes.len())]);
        }
        assert_eq!(encoded(0, 300), [0x19, 0x01, 0x2c]);
    }
}
