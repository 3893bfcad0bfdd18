//! Pseudonyms of public keys that keep their order.
//!
//! The machine compares keys, and iterates over them in their order: which side dials, whose session stays, whose turn it is.
//! So a pseudonym is itself a well-formed key that stands to all others as its key stood. Keys come one by one, and a
//! pseudonym that was given never changes; a new one is looked for in the middle between its neighbours.
//!
//! A key and its mirror image (the same point with the other sign) have one owner, and who is blocked is blocked under both.
//! Their pseudonyms are mirror images too. The two differ in the last bit of their order, so the pseudonym keeps the sign of
//! its key, and no two pseudonyms that are not mirror images share their first 31 bytes.
//!
//! Keys that come in their order would halve one gap again and again. The longer such a row, the nearer to their neighbour
//! they are put, so that as many find room as anybody has contacts.

use std::collections::{BTreeMap, BTreeSet};

use curve25519_dalek::edwards::CompressedEdwardsY;
use sha2::{Digest, Sha256};

use crate::id::PublicKey;

/// No point of the curve was found between two pseudonyms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// What the order of two keys rests on, unless they are mirror images: all bytes but the last, as one number.
type Place = [u8; 31];

const LOWEST: Place = [0; 31];
const HIGHEST: Place = [0xff; 31];

/// The bit of the last byte that tells a key from its mirror image.
const SIGN: u8 = 0x80;

/// A pseudonym lies within 1/256 of the gap around its place. The bits below are as good as random, so that two
/// pseudonyms do not look alike.
const SPREAD: u32 = 8;

/// In a long row each key takes 1/64 of the gap: 10,000 keys take 230 of the 248 bits that there are.
const NEAR: u32 = 6;

/// One in 16 strings is a point of the prime-order group (half of them are points, one in eight of these is in it), so
/// that this many tries all fail once in 10^28 gaps.
const TRIES: u32 = 1024;

/// The pseudonyms given so far.
#[derive(Default)]
pub(super) struct Keys {
    given: BTreeMap<[u8; 32], PublicKey>,
    last: Option<[u8; 32]>,
    /// How many came one above the other before; negative: one below the other.
    row: i64,
}

impl Keys {
    /// The pseudonyms of all these at once, evenly spread: what a phone book holds would be slow to insert one by one.
    pub(super) fn of(keys: &BTreeSet<PublicKey>) -> Result<Self, NoRoom> {
        // Mirror images are neighbours, unless another key stands between them, which nobody makes by chance.
        let mut places: Vec<[u8; 32]> = keys.iter().map(|key| unsigned(*key.as_bytes())).collect();
        places.dedup();
        if !places.is_sorted_by(|a, b| a < b) {
            return Err(NoRoom);
        }
        let pool = pool(places.len())?;
        let mut this = Self::default();
        for key in keys {
            let at = places.partition_point(|place| place < &unsigned(*key.as_bytes()));
            let pseudonym =
                pool.get(at).and_then(|bytes| point(*bytes, sign(key.as_bytes()))).ok_or(NoRoom)?;
            this.given.insert(*key.as_bytes(), pseudonym);
        }
        Ok(this)
    }

    /// The pseudonym of a key, the same every time.
    pub(super) fn pseudonym(&mut self, key: &PublicKey) -> Result<PublicKey, NoRoom> {
        let real = *key.as_bytes();
        if let Some(given) = self.given.get(&real) {
            return Ok(*given);
        }
        let below = self.given.range(..real).next_back();
        let above = self.given.range(real..).next();
        self.row = match self.last {
            Some(last) if below.is_some_and(|(key, _)| *key == last) => self.row.max(0) + 1,
            Some(last) if above.is_some_and(|(key, _)| *key == last) => self.row.min(0) - 1,
            _ => 0,
        };
        let (below, above) = (below.map(|(_, given)| *given), above.map(|(_, given)| *given));
        let mut image = real;
        image[31] ^= SIGN;
        let found = match self.given.get(&image) {
            Some(image) => point(*image.as_bytes(), sign(&real))
                .filter(|found| below.is_none_or(|b| b < *found) && above.is_none_or(|a| *found < a)),
            None => between(
                &below.map_or(LOWEST, |b| place(b.as_bytes())),
                &above.map_or(HIGHEST, |a| place(a.as_bytes())),
                self.row,
                sign(&real),
            ),
        };
        let found = found.ok_or(NoRoom)?;
        self.given.insert(real, found);
        self.last = Some(real);
        Ok(found)
    }
}

fn sign(key: &[u8; 32]) -> u8 {
    key[31] & SIGN
}

fn unsigned(mut key: [u8; 32]) -> [u8; 32] {
    key[31] &= !SIGN;
    key
}

fn place(key: &[u8; 32]) -> Place {
    std::array::from_fn(|i| key[i])
}

/// The key of these bytes with that sign.
fn point(bytes: [u8; 32], sign: u8) -> Option<PublicKey> {
    let mut bytes = unsigned(bytes);
    bytes[31] |= sign;
    PublicKey::from_bytes(bytes).ok()
}

/// So many places, in their order: the multiples of one point. Nobody knows the secret of any of them.
fn pool(n: usize) -> Result<Vec<[u8; 32]>, NoRoom> {
    let first = between(&LOWEST, &HIGHEST, 0, 0).ok_or(NoRoom)?;
    let first = CompressedEdwardsY(*first.as_bytes()).decompress().ok_or(NoRoom)?;
    let mut all = BTreeMap::new();
    let mut next = first;
    for _ in 0..n {
        let bytes = next.compress().0;
        all.insert(place(&bytes), bytes);
        next += first;
    }
    // The places of two multiples are the same once in 2^248.
    if all.len() == n { Ok(all.into_values().collect()) } else { Err(NoRoom) }
}

/// A key with that sign whose place is strictly between the two. What it is depends on them alone, and not on the key that
/// it stands for: in the middle, or after a row of others nearer to the last of them.
fn between(low: &Place, high: &Place, row: i64, sign: u8) -> Option<PublicKey> {
    let gap = combined(high, low, |high, low| high - low)?;
    let share = (1 + row.unsigned_abs().max(1).ilog2()).min(NEAR);
    let free = width(&gap).checked_sub(share + SPREAD).filter(|free| *free > 0)?;
    let part = shifted(gap, share);
    let middle = if row < 0 {
        combined(high, &part, |high, part| high - part)?
    } else {
        combined(low, &part, |low, part| low + part)?
    };
    (0..TRIES).find_map(|n| {
        let noise: [u8; 32] = Sha256::new()
            .chain_update(b"warp-blink journal pseudonym\0")
            .chain_update(low)
            .chain_update(high)
            .chain_update(n.to_be_bytes())
            .finalize()
            .into();
        let mut bytes = [0; 32];
        bytes[..31].copy_from_slice(&scattered(middle, free, &noise));
        bytes[31] = noise[31];
        // That moved it by less than 1/128 of its distance to either end.
        point(bytes, sign)
    })
}

/// The sum or the difference of two places; `None` if it is none.
fn combined(a: &Place, b: &Place, how: impl Fn(i16, i16) -> i16) -> Option<Place> {
    let mut out = LOWEST;
    let mut carried = 0;
    for i in (0..out.len()).rev() {
        carried += how(i16::from(a[i]), i16::from(b[i]));
        out[i] = carried.rem_euclid(256) as u8;
        carried = carried.div_euclid(256);
    }
    (carried == 0).then_some(out)
}

/// The number of bits of a gap.
fn width(gap: &Place) -> u32 {
    let zeros = gap.iter().take_while(|byte| **byte == 0).count();
    gap.get(zeros).map_or(0, |byte| 8 * (gap.len() - zeros) as u32 - byte.leading_zeros())
}

/// A gap divided by two, fewer than eight times.
fn shifted(gap: Place, times: u32) -> Place {
    let mut above = 0;
    gap.map(|byte| {
        let wide = u16::from_be_bytes([above, byte]) >> times;
        above = byte;
        wide as u8
    })
}

/// The same place with its lowest `free` bits exchanged for others.
fn scattered(mut place: Place, free: u32, noise: &[u8; 32]) -> Place {
    let mut left = free;
    for (byte, noise) in place.iter_mut().rev().zip(noise) {
        let mask = ((1u16 << left.min(8)) - 1) as u8;
        *byte = (*byte & !mask) | (noise & mask);
        left = left.saturating_sub(8);
    }
    place
}
