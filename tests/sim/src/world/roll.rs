//! Who belongs to a call, as the world reads it from the words that were kept: not with the machine's own code.

use std::collections::BTreeMap;

use warp_blink::{
    id::{CallId, PublicKey},
    proto::signal::{MayInvite, Record, RecordKind, Roll, RollHash},
};

use super::World;

/// How somebody is gone, and with which word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Left(u32),
    Removed(u32),
}

impl Gone {
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Left(n) | Self::Removed(n) => n,
        }
    }
}

/// What one node has last kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) creator: PublicKey,
    pub(super) hash: RollHash,
    pub(super) gone: BTreeMap<PublicKey, Gone>,
}

impl View {
    pub(super) fn new(roll: &Roll, hash: RollHash) -> Self {
        let mut gone = BTreeMap::new();
        for subject in roll.records.iter().map(|r| r.subject) {
            gone.entry(subject).or_insert_with(|| standing(roll, subject));
        }
        let gone = gone.into_iter().filter_map(|(subject, gone)| Some((subject, gone?))).collect();
        Self { creator: roll.create.creator, hash, gone }
    }
}

fn standing(roll: &Roll, subject: PublicKey) -> Option<Gone> {
    let of = |which: &dyn Fn(&Record) -> bool| {
        roll.records.iter().filter(|r| r.subject == subject && which(r)).map(|r| r.number).max()
    };
    let own = |r: &Record| r.by == subject;
    let added = of(&|r| r.kind == RecordKind::Add && !own(r));
    if let Some(removed) = of(&|r| r.kind == RecordKind::Remove).filter(|n| Some(*n) >= added) {
        return Some(Gone::Removed(removed));
    }
    let left = of(&|r| r.kind == RecordKind::Leave)?;
    let back = of(&|r| r.kind == RecordKind::Add && own(r));
    (Some(left) >= back && Some(left) >= added).then_some(Gone::Left(left))
}

impl World {
    /// A word was asked to be signed.
    pub(super) fn signs(&mut self, call: CallId, record: Record) {
        self.signed.entry((call, record.subject)).or_default().push(record);
    }

    /// Whoever has kept this roll takes that one for gone, and nobody has brought them back since, known there or not. What
    /// those say who were removed themselves brings nobody back.
    pub(super) fn is_out(&self, call: CallId, subject: &PublicKey, view: &View) -> bool {
        self.outcast(call, subject, view, &mut Vec::new())
    }

    fn outcast(&self, call: CallId, subject: &PublicKey, view: &View, met: &mut Vec<PublicKey>) -> bool {
        let Some(gone) = view.gone.get(subject) else { return false };
        if met.contains(subject) {
            // They vouch for one another.
            return true;
        }
        met.push(*subject);
        let back = |r: &&Record| r.kind == RecordKind::Add && r.number > gone.number();
        let all = self.signed.get(&(call, *subject)).into_iter().flatten();
        !all.filter(back).any(|r| match gone {
            // Whoever left comes back by themselves, or is invited again by whoever belongs to the call.
            Gone::Left(_) if r.by == *subject => true,
            _ => {
                let removed = matches!(view.gone.get(&r.by), Some(Gone::Removed(_)));
                !(removed && self.outcast(call, &r.by, view, met))
            }
        })
    }

    /// Names what a roll says.
    pub(super) fn roll_hash(&self, call: CallId, roll: &Roll) -> RollHash {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.add(call.as_bytes());
        hash.add(roll.create.creator.as_bytes());
        hash.add(&roll.create.random);
        hash.add(&[u8::from(roll.create.may_invite == MayInvite::Creator), roll.create.most]);
        for record in &roll.records {
            hash.add(&record.subject.as_bytes()[..8]);
            hash.add(&record.by.as_bytes()[..8]);
            hash.add(&record.number.to_be_bytes());
            hash.add(&[record.kind as u8]);
        }
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&hash.0.to_be_bytes());
        hash.add(b"again");
        bytes[8..].copy_from_slice(&hash.0.to_be_bytes());
        RollHash(bytes)
    }
}

/// FNV-1a: good enough to tell apart what nobody forges.
struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}
