//! Calls of several people, and who belongs to them.

use proptest::prelude::*;
use warp_blink::{
    id::{CallId, Identity, PublicKey, Signature},
    proto::signal::{
        Body, Create, Epoch, EpochId, Gone, KeyHash, MAX_MEMBERS, MAX_RECORDS, MAX_SUBJECTS, MayInvite,
        Packet, Record, RecordKind, Roll, RollHash, Sync,
    },
    wire::{Attachment, CallKey, call_id, sign_create, sign_record},
};

use super::packet;

/// Somebody, by number.
pub fn person(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

/// A call, who belongs to it, and the signatures that say so.
#[derive(Clone, Debug)]
pub struct Group {
    pub call: CallId,
    pub roll: Roll,
    pub signatures: Vec<Signature>,
}

/// Of whom by number, which word, what, and by whom.
pub type Word = (u8, u32, RecordKind, u8);

impl Group {
    /// Made by this person, with these words. Words that are there twice are there once.
    pub fn of(creator: u8, may_invite: MayInvite, most: u8, words: &[Word]) -> Self {
        let create = Create { creator: person(creator).public(), random: [0xc7; 16], may_invite, most };
        let first = sign_create(&person(creator), &create);
        let call = call_id(&create, &first);
        let mut said: Vec<(Record, u8)> = words
            .iter()
            .map(|&(subject, number, kind, by)| {
                let (subject, signer) = (person(subject).public(), person(by).public());
                (Record { subject, number, kind, by: signer }, by)
            })
            .collect();
        said.sort_unstable();
        said.dedup();
        let signed = said.iter().map(|(record, by)| sign_record(&person(*by), call, record));
        let signatures = std::iter::once(first).chain(signed).collect();
        let records = said.into_iter().map(|(record, _)| record).collect();
        Self { call, roll: Roll { create, records }, signatures }
    }

    /// Somebody made it, and calls somebody.
    pub fn of_two() -> Self {
        Self::of(1, MayInvite::Members, 2, &[(2, 1, RecordKind::Add, 1)])
    }

    /// As many words as there may be, of as many people as there may be, with the longest numbers.
    pub fn full() -> Self {
        let creator = u8::try_from(MAX_SUBJECTS).unwrap();
        let words: Vec<Word> = (0..creator)
            .flat_map(|n| {
                [
                    (n, u32::MAX - 2, RecordKind::Add, creator),
                    (n, u32::MAX - 1, RecordKind::Leave, n),
                    (n, u32::MAX, RecordKind::Remove, creator),
                ]
            })
            .collect();
        let full = Self::of(creator, MayInvite::Creator, u8::try_from(MAX_MEMBERS).unwrap(), &words);
        assert_eq!(full.roll.records.len(), MAX_RECORDS);
        full
    }

    pub fn body(&self) -> Body {
        Body::Roll(self.roll.clone())
    }

    pub fn attachment(&self) -> Attachment {
        Attachment::Signatures(self.signatures.clone())
    }

    pub fn packet(&self, seq: u32) -> Packet {
        Packet { call: self.call, ..packet(seq, self.body()) }
    }
}

/// The name of this key in an epoch.
pub fn epoch_id(n: u32, key: &CallKey) -> EpochId {
    EpochId { n, key: key.hash() }
}

/// An epoch of this key, which these people have left.
pub fn epoch(n: u32, key: &CallKey, gone: &[u8]) -> Epoch {
    let mut gone: Vec<Gone> =
        gone.iter().map(|n| Gone { subject: person(*n).public(), number: 2 + u32::from(*n) }).collect();
    gone.sort_unstable();
    Epoch { id: epoch_id(n, key), gone }
}

pub fn any_group() -> impl Strategy<Value = Group> {
    use RecordKind::{Add, Leave, Remove};
    let kind = proptest::sample::select(vec![Add, Leave, Remove]);
    let number = prop_oneof![0u32..4, any::<u32>()];
    let words = proptest::collection::vec((1..9u8, number, kind, 0..9u8), 0..12);
    let may_invite = proptest::sample::select(vec![MayInvite::Members, MayInvite::Creator]);
    (may_invite, 2..=u8::try_from(MAX_MEMBERS).unwrap(), words).prop_map(|(may_invite, most, mut words)| {
        // Person 0 made it. Whoever cannot say a word does not.
        for (subject, _, kind, by) in &mut words {
            *by = match kind {
                Add => *by,
                Leave => *subject,
                Remove => 0,
            };
        }
        Group::of(0, may_invite, most, &words)
    })
}

pub fn any_epoch_id() -> impl Strategy<Value = EpochId> {
    any::<(u32, [u8; 16])>().prop_map(|(n, key)| EpochId { n, key: KeyHash(key) })
}

pub fn any_roll_hash() -> impl Strategy<Value = RollHash> {
    any::<[u8; 16]>().prop_map(RollHash)
}

pub fn any_sync() -> impl Strategy<Value = Sync> {
    (any_roll_hash(), any_epoch_id(), any::<u32>()).prop_map(|(roll, epoch, generation)| Sync {
        roll,
        epoch,
        generation,
    })
}

/// An epoch of this key.
pub fn any_epoch(key: CallKey) -> impl Strategy<Value = Epoch> {
    let people: Vec<PublicKey> = (0..40).map(|n| person(n).public()).collect();
    let gone = proptest::sample::subsequence(people, 0..=MAX_SUBJECTS);
    let numbers = proptest::collection::vec(any::<u32>(), 40);
    (1..=u32::MAX, gone, numbers).prop_map(move |(n, gone, numbers)| {
        let mut gone: Vec<Gone> =
            gone.into_iter().zip(numbers).map(|(subject, number)| Gone { subject, number }).collect();
        gone.sort_unstable();
        Epoch { id: epoch_id(n, &key), gone }
    })
}
