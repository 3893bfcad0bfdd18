//! The memory of calls that rang on their first message alone, in the store.

use minicbor::{Decoder, Encoder};

use super::shelf::{Saved, Shelf};
use crate::{
    id::CallId,
    ports::store::StoreKey,
    proto::{MAX_REMEMBERED, ReplayMemory},
    time::UnixTime,
};

/// What was kept, or a memory that begins now.
pub(super) async fn load(shelf: &mut Shelf, now: UnixTime) -> ReplayMemory {
    shelf
        .load(StoreKey::REPLAY, |b| decode(b).ok_or("its contents are malformed"))
        .await
        .unwrap_or_else(|| ReplayMemory::beginning(now))
}

/// Saves it, before the phone rings.
pub(super) fn save(shelf: &mut Shelf, memory: &ReplayMemory) -> Saved {
    shelf.save(StoreKey::REPLAY, encode(memory))
}

/// `[since, [call, sent at]*]`.
fn encode(memory: &ReplayMemory) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut e = Encoder::new(&mut bytes);
    // Writing into memory cannot fail.
    let _ = e.begin_array().and_then(|e| e.u64(memory.since().as_millis()));
    for (call, sent_at) in memory.calls() {
        let _ = e.bytes(call.as_bytes()).and_then(|e| e.u64(sent_at.as_millis()));
    }
    let _ = e.end();
    bytes
}

fn decode(bytes: &[u8]) -> Option<ReplayMemory> {
    let mut d = Decoder::new(bytes);
    if d.array().ok()?.is_some() {
        return None;
    }
    let since = UnixTime::from_millis(d.u64().ok()?);
    let mut calls = Vec::new();
    while d.datatype().ok()? != minicbor::data::Type::Break {
        if calls.len() >= MAX_REMEMBERED {
            return None;
        }
        let call = CallId::from_bytes(d.bytes().ok()?.try_into().ok()?);
        calls.push((call, UnixTime::from_millis(d.u64().ok()?)));
    }
    Some(ReplayMemory::restored(since, calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_comes_back_as_it_was_and_never_in_part() {
        let at = UnixTime::from_millis;
        let calls = (0..20).map(|n| (CallId::from_bytes([n; 16]), at(1000 + u64::from(n))));
        let memory = ReplayMemory::restored(at(7), calls);
        let bytes = encode(&memory);
        assert_eq!(decode(&bytes), Some(memory));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "cut at {len}");
        }
        let full = (0..MAX_REMEMBERED as u16).map(|n| (CallId::from_bytes([n as u8; 16]), at(n.into())));
        assert!(encode(&ReplayMemory::restored(at(0), full)).len() <= 13 + 26 * MAX_REMEMBERED);
    }
}
