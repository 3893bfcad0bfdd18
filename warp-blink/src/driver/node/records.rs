//! Records that this node stores for others: only such as their owner has signed, and only so many.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p_kad::{
    RecordKey,
    store::{MemoryStore, MemoryStoreConfig, RecordStore},
};
use rust_ipfs::PeerId;

use crate::{
    time::UnixTime,
    wire::record::{MAX_RECORD, Record, read_record, record_key},
};

/// The most records. Default 4096, which is 16 MiB if each is as long as it may be, and 1 MiB as they are: in a network of
/// 4,000 nodes each stores twenty, so a node that stores more is one of the few that a closed circle has.
const MAX_RECORDS: usize = 4096;

/// The most records that one node brings. Default 64: it has one of its own, and hands on none.
const MAX_PER_SOURCE: usize = 64;

/// No record is stored for longer, whatever it says: eight lives of one of this build (48 hours, as in libp2p).
const MAX_LIFE: Duration = Duration::from_secs(48 * 3600);

/// What is stored, beside the store that libp2p reads.
#[derive(Debug, Default)]
pub(super) struct Records(BTreeMap<[u8; 32], Entry>);

#[derive(Debug)]
struct Entry {
    sequence: u64,
    from: PeerId,
    until: Instant,
}

/// Why a record is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Nobody's, of somebody else than its name says, or nobody has signed it.
    Forged,
    /// There is a newer one, or it has ended.
    Old,
    /// There is no room.
    Full,
}

impl Records {
    /// What libp2p keeps the bytes in.
    pub(super) fn store(local: PeerId) -> MemoryStore {
        let config = MemoryStoreConfig {
            // One place is for the own record.
            max_records: MAX_RECORDS + 1,
            // It refuses what is as long as that.
            max_value_bytes: MAX_RECORD + 1,
            max_providers_per_key: 0,
            max_provided_keys: 0,
        };
        MemoryStore::with_config(local, config)
    }

    /// Stores a record that `from` brought, if it is one.
    pub(super) fn offer(
        &mut self,
        store: &mut MemoryStore,
        (now, wall): (Instant, UnixTime),
        from: PeerId,
        record: libp2p_kad::Record,
    ) -> Result<(), Refused> {
        let (name, read) = check(&record).ok_or(Refused::Forged)?;
        let left = read.expires.as_millis().saturating_sub(wall.as_millis());
        if left == 0 {
            return Err(Refused::Old);
        }
        // What the sender says of its life is signed by nobody: whoever has read it could send it again, to end it at once.
        let until = now + Duration::from_millis(left).min(MAX_LIFE);
        self.forget_old(store, now);
        match self.0.get(&name) {
            Some(known) if known.sequence > read.sequence => return Err(Refused::Old),
            // It is here, or another one that its owner has signed under the same number: the first one stays.
            Some(known) if known.sequence == read.sequence => return Ok(()),
            Some(_) => {}
            None => {
                let brought = self.0.values().filter(|entry| entry.from == from).count();
                if brought >= MAX_PER_SOURCE || self.0.len() >= MAX_RECORDS {
                    return Err(Refused::Full);
                }
            }
        }
        // Who brought it is nobody's business, and the record itself says whose it is.
        let record = libp2p_kad::Record { publisher: None, expires: Some(until), ..record };
        store.put(record).map_err(|_| Refused::Full)?;
        self.0.insert(name, Entry { sequence: read.sequence, from, until });
        Ok(())
    }

    fn forget_old(&mut self, store: &mut MemoryStore, now: Instant) {
        for (name, _) in self.0.extract_if(.., |_, entry| entry.until <= now) {
            store.remove(&RecordKey::new(&name));
        }
    }
}

/// The record, if it is signed and lies under its owner's name.
fn check(record: &libp2p_kad::Record) -> Option<([u8; 32], Record)> {
    let (who, read) = read_record(&record.value).ok()?;
    let name = record_key(&who);
    (record.key.as_ref() == name).then_some((name, read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{Identity, NodeKey},
        wire::record::{NodePlace, seal_record},
    };

    const NOW: UnixTime = UnixTime::from_millis(1_700_000_000_000);

    fn sealed(n: u8, sequence: u64, life: u64) -> (RecordKey, Vec<u8>) {
        let who = Identity::from_seed([n; 32]);
        let node = NodeKey::from_seed([n; 32]).node_id();
        let until = UnixTime::from_millis(NOW.as_millis() + life);
        let record = Record {
            sequence,
            expires: until,
            nodes: vec![NodePlace { node, until, addresses: vec!["/ip4/192.0.2.1/tcp/1".into()] }],
            versions: vec![1],
            suites: vec![1],
            kem: None,
        };
        (RecordKey::new(&record_key(&who.public())), seal_record(&who, &record).unwrap())
    }

    fn offer(
        records: &mut Records,
        store: &mut MemoryStore,
        from: PeerId,
        key: RecordKey,
        value: Vec<u8>,
    ) -> Result<(), Refused> {
        records.offer(store, (Instant::now(), NOW), from, libp2p_kad::Record::new(key, value))
    }

    #[test]
    fn only_what_its_owner_has_signed_is_stored_under_its_name_and_never_goes_back() {
        let (mut records, from) = (Records::default(), PeerId::random());
        let mut store = Records::store(PeerId::random());
        let (key, first) = sealed(1, 5, 1000);
        assert_eq!(offer(&mut records, &mut store, from, key.clone(), first.clone()), Ok(()));
        assert_eq!(store.get(&key).unwrap().value, first);
        let (other, _) = sealed(2, 5, 1000);
        assert_eq!(offer(&mut records, &mut store, from, other, first.clone()), Err(Refused::Forged));
        let mut forged = sealed(1, 9, 1000).1;
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(offer(&mut records, &mut store, from, key.clone(), forged), Err(Refused::Forged));
        assert_eq!(offer(&mut records, &mut store, from, key.clone(), vec![1; 200]), Err(Refused::Forged));
        assert_eq!(
            offer(&mut records, &mut store, from, key.clone(), sealed(1, 4, 9000).1),
            Err(Refused::Old)
        );
        assert_eq!(offer(&mut records, &mut store, from, key.clone(), sealed(1, 9, 0).1), Err(Refused::Old));
        let newer = sealed(1, 6, 1000).1;
        assert_eq!(offer(&mut records, &mut store, from, key.clone(), newer.clone()), Ok(()));
        assert_eq!(store.get(&key).unwrap().value, newer);
    }

    #[test]
    fn who_brings_a_record_again_cannot_end_it() {
        let (mut records, from) = (Records::default(), PeerId::random());
        let mut store = Records::store(PeerId::random());
        let (key, value) = sealed(1, 5, 60_000);
        let begin = Instant::now();
        let mut offer = |at: Instant, value: &[u8], life: Option<Duration>| {
            let mut record = libp2p_kad::Record::new(key.clone(), value.to_vec());
            record.expires = life.map(|life| at + life);
            records.offer(&mut store, (at, NOW), from, record)
        };
        assert_eq!(
            offer(begin, &value, Some(Duration::from_secs(1))),
            Ok(()),
            "a short life is not believed"
        );
        assert_eq!(offer(begin, &value, Some(Duration::from_secs(1))), Ok(()), "nor when it comes again");
        let later = begin + Duration::from_secs(30);
        assert_eq!(offer(later, &sealed(1, 4, 60_000).1, None), Err(Refused::Old), "it is not forgotten");
        assert_eq!(store.get(&key).unwrap().value, value);
    }

    #[test]
    fn one_source_cannot_fill_the_store() {
        let (mut records, from) = (Records::default(), PeerId::random());
        let mut store = Records::store(PeerId::random());
        for n in 0..=MAX_PER_SOURCE as u8 {
            let (key, value) = sealed(n, 1, 1000);
            let stored = offer(&mut records, &mut store, from, key, value);
            assert_eq!(stored.is_ok(), usize::from(n) < MAX_PER_SOURCE, "{n}");
        }
        let (key, value) = sealed(200, 1, 1000);
        assert_eq!(offer(&mut records, &mut store, PeerId::random(), key, value), Ok(()));
    }
}
