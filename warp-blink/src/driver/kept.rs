//! The calls to which a later run can come back, in the store: all in one entry.

use std::time::Duration;

use minicbor::{Decoder, Encoder};

use super::{
    shelf::{self, Shelf},
    vault::Words,
};
use crate::{
    id::{CallId, Signature},
    ports::store::StoreKey,
    proto::{
        Saved,
        signal::{MediaFormat, Roll},
    },
    time::UnixTime,
    wire::{decode_saved, encode_saved, roll_hash},
};

/// The most calls that are kept: one that was active, and those that were held. Beyond, the oldest goes.
const MAX_KEPT: usize = 8;

/// How long a call is offered to later runs after it was last saved, which is when somebody came or went: who comes back
/// after a day and a night finds it over.
const KEPT: Duration = Duration::from_secs(24 * 3600);

struct Entry {
    call: CallId,
    at: UnixTime,
    bytes: Vec<u8>,
}

/// What is kept, and where.
pub(super) struct KeptCalls {
    shelf: Shelf,
    /// Oldest first.
    calls: Vec<Entry>,
}

impl KeptCalls {
    /// What was kept, with what each is signed with. What is too old, or does not verify, is left out.
    pub(super) async fn load(mut shelf: Shelf, now: UnixTime) -> (Self, Vec<(Saved, Words)>) {
        let read = shelf.load(StoreKey::RESUME, |b| decode(b).ok_or("its contents are malformed")).await;
        let mut calls = read.unwrap_or_default();
        let mut found = Vec::new();
        calls.retain(|Entry { call, at, bytes }| {
            let age = now.as_millis().saturating_sub(at.as_millis());
            let fresh = u128::from(age) <= KEPT.as_millis();
            let Some((roll, signatures, media)) = decode_saved(*call, bytes).filter(|_| fresh) else {
                return false;
            };
            let words = Words::of(&roll, &signatures);
            let hash = roll_hash(*call, &roll);
            found.push((Saved::new(*call, roll, media, hash), words));
            true
        });
        (Self { shelf, calls }, found)
    }

    /// Keeps a call, in the place of what was kept of it.
    pub(super) fn keep(
        &mut self,
        call: CallId,
        now: UnixTime,
        (roll, signatures): (&Roll, &[Signature]),
        media: MediaFormat,
    ) -> shelf::Saved {
        self.calls.retain(|entry| entry.call != call);
        self.calls.push(Entry { call, at: now, bytes: encode_saved(roll, signatures, media) });
        self.calls.drain(..self.calls.len().saturating_sub(MAX_KEPT));
        self.save()
    }

    /// Keeps a call no longer.
    pub(super) fn drop(&mut self, call: CallId) -> shelf::Saved {
        self.calls.retain(|entry| entry.call != call);
        self.save()
    }

    fn save(&mut self) -> shelf::Saved {
        self.shelf.save(StoreKey::RESUME, encode(&self.calls))
    }

    /// Waits for what is being saved.
    pub(super) async fn close(&mut self) {
        self.shelf.close().await;
    }
}

/// A list of `[call, saved at, what]`.
fn encode(calls: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut e = Encoder::new(&mut bytes);
    // Writing into memory cannot fail.
    let _ = e.begin_array();
    for Entry { call, at, bytes } in calls {
        let _ = e
            .array(3)
            .and_then(|e| e.bytes(call.as_bytes()))
            .and_then(|e| e.u64(at.as_millis()))
            .map(|e| e.bytes(bytes));
    }
    let _ = e.end();
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut d = Decoder::new(bytes);
    if d.array().ok()?.is_some() {
        return None;
    }
    let mut calls = Vec::new();
    while d.datatype().ok()? != minicbor::data::Type::Break {
        if d.array().ok()? != Some(3) || calls.len() >= MAX_KEPT {
            return None;
        }
        let call = CallId::from_bytes(d.bytes().ok()?.try_into().ok()?);
        let at = UnixTime::from_millis(d.u64().ok()?);
        calls.push(Entry { call, at, bytes: d.bytes().ok()?.to_vec() });
    }
    Some(calls)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        driver::store::{MAX_PLAIN, MemoryStore, SealedStore},
        id::Identity,
        proto::signal::{Create, MAX_RECORDS, MayInvite, Record, RecordKind},
        wire::{call_id, sign_create, sign_record},
    };

    const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);

    fn identity() -> Identity {
        Identity::from_seed([1; 32])
    }

    fn shelf(store: &Arc<MemoryStore>) -> Shelf {
        Shelf::new(Some(Arc::new(SealedStore::new(store.clone(), &identity()))))
    }

    fn call(n: u8, records: usize) -> (CallId, Roll, Vec<Signature>) {
        let creator = identity().public();
        let create = Create { creator, random: [n; 16], may_invite: MayInvite::Members, most: 16 };
        let signature = sign_create(&identity(), &create);
        let call = call_id(&create, &signature);
        let subject = Identity::from_seed([2; 32]).public();
        let record = |number| Record { subject, number, kind: RecordKind::Add, by: creator };
        let records: Vec<Record> = (1..=records as u32).map(record).collect();
        let signed = records.iter().map(|r| sign_record(&identity(), call, r));
        let signatures = std::iter::once(signature).chain(signed).collect();
        (call, Roll { create, records }, signatures)
    }

    #[tokio::test]
    async fn calls_come_back_with_their_signatures_until_they_are_dropped_or_too_old() {
        let store = Arc::new(MemoryStore::default());
        let (mut kept, none) = KeptCalls::load(shelf(&store), NOW).await;
        assert!(none.is_empty());
        let media = MediaFormat::default();
        for n in 0..=MAX_KEPT as u8 {
            let (id, roll, signatures) = call(n, 1);
            assert_eq!(kept.keep(id, NOW, (&roll, &signatures), media).done().await, Ok(()));
        }
        let (gone, ..) = call(1, 1);
        assert_eq!(kept.drop(gone).done().await, Ok(()));
        let (_, found) = KeptCalls::load(shelf(&store), NOW).await;
        let want: Vec<CallId> = (2..=MAX_KEPT as u8).map(|n| call(n, 1).0).collect();
        assert_eq!(found.iter().map(|(saved, _)| saved.call).collect::<Vec<_>>(), want);
        let (saved, _) = &found[0];
        let (_, roll, _) = call(2, 1);
        assert_eq!((&saved.roll, saved.hash), (&roll, roll_hash(saved.call, &roll)));
        let day = NOW.as_millis() + 24 * 3_600_000;
        let (_, still) = KeptCalls::load(shelf(&store), UnixTime::from_millis(day)).await;
        assert_eq!(still.len(), want.len());
        let (_, late) = KeptCalls::load(shelf(&store), UnixTime::from_millis(day + 1)).await;
        assert!(late.is_empty());
    }

    #[tokio::test]
    async fn hostile_entry_with_a_word_that_nobody_signed_is_left_out() {
        let store = Arc::new(MemoryStore::default());
        let (mut kept, _) = KeptCalls::load(shelf(&store), NOW).await;
        let (good, roll, signatures) = call(1, 2);
        drop(kept.keep(good, NOW, (&roll, &signatures), MediaFormat::default()));
        let (other, mut forged, signatures) = call(2, 2);
        forged.records[1].number = 9;
        drop(kept.keep(other, NOW, (&forged, &signatures), MediaFormat::default()));
        kept.close().await;
        let (_, found) = KeptCalls::load(shelf(&store), NOW).await;
        assert_eq!(found.iter().map(|(saved, _)| saved.call).collect::<Vec<_>>(), [good]);
    }

    #[test]
    fn eight_full_calls_fit_the_store_and_damaged_entries_are_refused() {
        let (id, roll, signatures) = call(1, MAX_RECORDS);
        let bytes = encode_saved(&roll, &signatures, MediaFormat::default());
        let entry = |n: u8| Entry { call: CallId::from_bytes([n; 16]), at: NOW, bytes: bytes.clone() };
        let full = encode(&(0..MAX_KEPT as u8).map(entry).collect::<Vec<_>>());
        assert!(full.len() <= MAX_PLAIN, "{}", full.len());
        assert_eq!(decode(&full).map(|calls| calls.len()), Some(MAX_KEPT));
        let many = encode(&(0..=MAX_KEPT as u8).map(entry).collect::<Vec<_>>());
        assert!(decode(&many).is_none());
        let one = encode(&[Entry { call: id, at: NOW, bytes: vec![7; 30] }]);
        for len in 0..one.len() {
            assert!(decode(&one[..len]).is_none(), "cut at {len}");
        }
    }
}
