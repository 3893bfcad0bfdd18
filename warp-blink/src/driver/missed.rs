//! The notices of missed calls that are still to be delivered, in the store.

use minicbor::{Decoder, Encoder};

use super::shelf::{Saved, Shelf};
use crate::{
    id::{CallId, PublicKey},
    ports::store::StoreKey,
    proto::Notice,
    time::UnixTime,
};

/// The most notices that are read: what the machine holds at most.
const MAX_NOTICES: usize = 256;

/// What was kept.
pub(super) async fn load(shelf: &mut Shelf) -> Vec<Notice> {
    let kept = shelf.load(StoreKey::MISSED, |b| decode(b).ok_or("its contents are malformed")).await;
    kept.unwrap_or_default()
}

/// Keeps these, and no others.
pub(super) fn save(shelf: &mut Shelf, notices: impl Iterator<Item = Notice>) -> Saved {
    shelf.save(StoreKey::MISSED, encode(notices))
}

/// A list of `[to, call, made at]`.
fn encode(notices: impl Iterator<Item = Notice>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut e = Encoder::new(&mut bytes);
    // Writing into memory cannot fail.
    let _ = e.begin_array();
    for notice in notices {
        let _ = e
            .array(3)
            .and_then(|e| e.bytes(notice.to.as_bytes()))
            .and_then(|e| e.bytes(notice.call.as_bytes()))
            .map(|e| e.u64(notice.made_at.as_millis()));
    }
    let _ = e.end();
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<Notice>> {
    let mut d = Decoder::new(bytes);
    if d.array().ok()?.is_some() {
        return None;
    }
    let mut notices = Vec::new();
    while d.datatype().ok()? != minicbor::data::Type::Break {
        if d.array().ok()? != Some(3) || notices.len() >= MAX_NOTICES {
            return None;
        }
        let to = PublicKey::from_bytes(d.bytes().ok()?.try_into().ok()?).ok()?;
        let call = CallId::from_bytes(d.bytes().ok()?.try_into().ok()?);
        notices.push(Notice::new(to, call, UnixTime::from_millis(d.u64().ok()?)));
    }
    Some(notices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{driver::store::MAX_PLAIN, id::Identity};

    #[test]
    fn notices_come_back_as_they_were_and_never_in_part() {
        let of = |n: u8| {
            let to = Identity::from_seed([n; 32]).public();
            Notice::new(to, CallId::from_bytes([n; 16]), UnixTime::from_millis(u64::from(n) << 40))
        };
        let notices: Vec<Notice> = (0..3).map(of).collect();
        let bytes = encode(notices.iter().copied());
        assert_eq!(decode(&bytes), Some(notices));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "cut at {len}");
        }
        let full = encode((0..MAX_NOTICES).map(|n| of(n as u8)));
        assert!(full.len() <= MAX_PLAIN && decode(&full).is_some());
        assert_eq!(decode(&encode((0..=MAX_NOTICES).map(|n| of(n as u8)))), None);
    }
}
