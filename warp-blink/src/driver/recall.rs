//! The memory of calls that rang on their first message alone, in the store.

use minicbor::{Decoder, Encoder};

use super::shelf::{Saved, Shelf};
use crate::{
    id::CallId,
    ports::store::StoreKey,
    proto::{MAX_REMEMBERED, ReplayMemory},
    time::UnixTime,
};

/// What was kept, or a memory that begins now. That is kept at once: otherwise a phone that is started often, and not
/// called meanwhile, would begin anew each time, and ask for confirmation for ever.
pub(super) async fn load(shelf: &mut Shelf, now: UnixTime) -> ReplayMemory {
    let kept = shelf.load(StoreKey::REPLAY, |b| decode(b).ok_or("its contents are malformed")).await;
    kept.unwrap_or_else(|| {
        let memory = ReplayMemory::beginning(now);
        // A failure is logged where it happens.
        drop(save(shelf, &memory));
        memory
    })
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
    use std::sync::Arc;

    use super::*;
    use crate::{
        driver::store::{MemoryStore, SealedStore},
        id::Identity,
    };

    #[tokio::test]
    async fn a_memory_begins_once() {
        let store = Arc::new(MemoryStore::default());
        let sealed = Arc::new(SealedStore::new(store, &Identity::from_seed([1; 32])));
        let start = |minute: u64| {
            let mut shelf = Shelf::new(Some(sealed.clone()));
            async move {
                let memory = load(&mut shelf, UnixTime::from_millis(minute * 60_000)).await;
                shelf.close().await;
                memory.since()
            }
        };
        let first = start(10).await;
        assert_eq!(start(20).await, first);
        assert_eq!(first, UnixTime::from_millis(15 * 60_000));
    }

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
