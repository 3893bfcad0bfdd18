//! The numbers of records, in the store: of the own one, so that it never goes back, and the highest of others.

use minicbor::{Decoder, Encoder};

use crate::{
    driver::shelf::{Saved, Shelf},
    id::PublicKey,
    ports::store::StoreKey,
    reach::MAX_REMEMBERED,
};

type Numbers = Vec<(PublicKey, u64)>;

/// What was kept: zero and nobody if there is nothing.
pub(super) async fn load(shelf: &mut Shelf) -> (u64, Numbers) {
    let kept = shelf.load(StoreKey::RECORDS, |b| decode(b).ok_or("its contents are malformed")).await;
    kept.unwrap_or_default()
}

/// Keeps these, and no others.
pub(super) fn save(shelf: &mut Shelf, own: u64, numbers: impl Iterator<Item = (PublicKey, u64)>) -> Saved {
    shelf.save(StoreKey::RECORDS, encode(own, numbers))
}

/// The own number, then a list of `[who, number]` without a length.
fn encode(own: u64, numbers: impl Iterator<Item = (PublicKey, u64)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut e = Encoder::new(&mut bytes);
    // Writing into memory cannot fail.
    let _ = e.u64(own).and_then(Encoder::begin_array);
    for (who, number) in numbers {
        let _ = e.array(2).and_then(|e| e.bytes(who.as_bytes())).and_then(|e| e.u64(number));
    }
    let _ = e.end();
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, Numbers)> {
    let mut d = Decoder::new(bytes);
    let own = d.u64().ok()?;
    if d.array().ok()?.is_some() {
        return None;
    }
    let mut numbers = Vec::new();
    while d.datatype().ok()? != minicbor::data::Type::Break {
        if d.array().ok()? != Some(2) || numbers.len() >= MAX_REMEMBERED {
            return None;
        }
        let who = PublicKey::from_bytes(d.bytes().ok()?.try_into().ok()?).ok()?;
        numbers.push((who, d.u64().ok()?));
    }
    Some((own, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{driver::store::MAX_PLAIN, id::Identity};

    #[test]
    fn numbers_come_back_as_they_were_and_never_in_part() {
        let of = |n: u8| (Identity::from_seed([n; 32]).public(), u64::from(n) << 40);
        let numbers: Numbers = (0..3).map(of).collect();
        let bytes = encode(17, numbers.iter().copied());
        assert_eq!(decode(&bytes), Some((17, numbers)));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "cut at {len}");
        }
        let full = encode(u64::MAX, (0..MAX_REMEMBERED).map(|_| (of(1).0, u64::MAX)));
        assert!(full.len() <= MAX_PLAIN && decode(&full).is_some());
    }
}
