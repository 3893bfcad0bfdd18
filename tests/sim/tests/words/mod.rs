//! Arbitrary words about who belongs to a call, and keys that exclude those who do not.

use proptest::prelude::*;
use warp_blink::{
    id::PublicKey,
    proto::{
        Other,
        signal::{Create, Epoch, EpochId, Gone, KeyHash, MayInvite, Record, RecordKind, Roll},
    },
};

use crate::{keys, small};

pub(crate) fn create(creator: PublicKey) -> Create {
    Create { creator, random: [0; 16], may_invite: MayInvite::Members, most: 16 }
}

/// Keys of few names, so that some are known, and departures that nobody may have heard of.
pub(crate) fn epochs() -> impl Strategy<Value = Epoch> {
    (small(), 0..3u8, prop::collection::btree_map(keys(), small(), 0..3)).prop_map(|(n, name, gone)| {
        let gone = gone.into_iter().map(|(subject, number)| Gone { subject, number }).collect();
        Epoch { id: EpochId { n, key: KeyHash([name; 16]) }, gone }
    })
}

/// Words that anybody may have signed, as the driver lets them through.
pub(crate) fn rolls() -> impl Strategy<Value = Roll> {
    let kinds = prop_oneof![Just(RecordKind::Add), Just(RecordKind::Leave), Just(RecordKind::Remove)];
    let records = (keys(), small(), kinds, keys()).prop_map(|(subject, number, kind, by)| Record {
        subject,
        number,
        kind,
        by,
    });
    (keys(), prop::collection::btree_set(records, 0..6)).prop_map(|(creator, records)| Roll {
        create: create(creator),
        records: records.into_iter().collect(),
    })
}

pub(crate) fn others() -> impl Strategy<Value = Other> {
    prop_oneof![Just(Other::End), Just(Other::Hold)]
}
