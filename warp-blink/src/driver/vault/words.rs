//! What is signed about who belongs to a call: our words, and those of others that the machine keeps.

use std::collections::BTreeMap;

use super::{Brought, Vault, VaultError};
use crate::{
    driver::clock::random,
    id::{CallId, Signature},
    proto::signal::{Create, MAX_RECORDS, MayInvite, Record, Roll, RollHash},
    wire::{call_id, roll_hash, sign_create, sign_record},
};

/// The most words that are signed here and that no roll has been kept with since. The machine keeps one in the step in
/// which it signs; a step signs at most a word about each subject, of which there are fewer.
const MAX_LOOSE: usize = MAX_RECORDS;

/// The signatures under the words about one call.
#[derive(Clone, Default)]
pub(in crate::driver) struct Words {
    create: Option<Signature>,
    records: BTreeMap<Record, Signature>,
}

impl Words {
    /// Of a roll and its signatures, which have been verified: the create's, then one for each record.
    pub(in crate::driver) fn of(roll: &Roll, signatures: &[Signature]) -> Self {
        let records = roll.records.iter().copied().zip(signatures.iter().skip(1).copied()).collect();
        Self { create: signatures.first().copied(), records }
    }

    /// What this roll is signed with.
    pub(super) fn under(&self, roll: &Roll) -> Option<Vec<Signature>> {
        let records = roll.records.iter().map(|record| self.records.get(record).copied());
        std::iter::once(self.create).chain(records).collect()
    }

    /// Keeps what this roll is signed with, and no more. Without all of it, nothing changes.
    fn keep(&mut self, roll: &Roll, brought: Option<&Self>) -> Result<(), VaultError> {
        let create = self.create.or(brought.and_then(|b| b.create)).ok_or(VaultError::Unsigned)?;
        let find = |r: &Record| self.records.get(r).or_else(|| brought?.records.get(r)).copied();
        let signed = |r: &Record| Ok((*r, find(r).ok_or(VaultError::Unsigned)?));
        self.records = roll.records.iter().map(signed).collect::<Result<_, VaultError>>()?;
        self.create = Some(create);
        Ok(())
    }
}

impl Vault {
    /// How a new call of ours comes to be, and its id. Whoever gives it up again [forgets](Self::forget) it.
    pub(in crate::driver) fn create(
        &mut self,
        may_invite: MayInvite,
        most: u8,
    ) -> Result<(CallId, Create), VaultError> {
        let create = Create { creator: self.own(), random: random()?, may_invite, most };
        let signature = sign_create(self.keys.identity(), &create);
        let call = call_id(&create, &signature);
        self.call(call)?.words.create = Some(signature);
        Ok((call, create))
    }

    /// Signs a word of ours.
    pub(in crate::driver) fn sign(&mut self, call: CallId, record: &Record) -> Result<(), VaultError> {
        if record.by != self.own() {
            return Err(VaultError::Unsigned);
        }
        let signature = sign_record(self.keys.identity(), call, record);
        let words = &mut self.call(call)?.words;
        if words.records.len() >= MAX_RECORDS + MAX_LOOSE {
            return Err(VaultError::Unsigned);
        }
        words.records.insert(*record, signature);
        Ok(())
    }

    /// Keeps what this roll is signed with, and gives its name.
    pub(in crate::driver) fn keep_roll(&mut self, call: CallId, roll: &Roll) -> Result<RollHash, VaultError> {
        // The step may keep a further roll.
        let brought = self.brought.take();
        let words = match &brought {
            Some(Brought::Words(of, words)) if *of == call => Some(words),
            _ => None,
        };
        let kept = self.call(call).and_then(|keys| keys.words.keep(roll, words));
        self.brought = brought;
        kept.map(|()| roll_hash(call, roll))
    }

    /// What this roll is signed with.
    pub(in crate::driver) fn signatures(
        &self,
        call: CallId,
        roll: &Roll,
    ) -> Result<Vec<Signature>, VaultError> {
        self.calls.get(&call).and_then(|c| c.words.under(roll)).ok_or(VaultError::Unsigned)
    }

    /// What a call of an earlier run is signed with, for when it is resumed.
    pub(in crate::driver) fn restore(&mut self, call: CallId, words: Words) {
        self.saved.insert(call, words);
    }

    /// That call is not resumed any more.
    pub(in crate::driver) fn unsave(&mut self, call: CallId) {
        self.saved.remove(&call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        driver::{keyring::Keyring, shelf::Shelf},
        id::Identity,
        proto::signal::RecordKind,
        wire::verify_roll,
    };

    async fn vault() -> Vault {
        Vault::new(Keyring::load(Identity::from_seed([1; 32]), Shelf::new(None)).await.unwrap())
    }

    fn add(vault: &Vault, subject: u8, number: u32) -> Record {
        let subject = Identity::from_seed([subject; 32]).public();
        Record { subject, number, kind: RecordKind::Add, by: vault.own() }
    }

    fn roll(create: Create, mut records: Vec<Record>) -> Roll {
        records.sort_unstable();
        Roll { create, records }
    }

    #[tokio::test]
    async fn what_is_signed_here_verifies_and_what_is_not_cannot_be_kept() {
        let mut vault = vault().await;
        let (call, create) = vault.create(MayInvite::Members, 16).unwrap();
        assert_ne!(vault.create(MayInvite::Members, 16).unwrap().0, call, "each call has an id of its own");
        let (bob, carol) = (add(&vault, 2, 1), add(&vault, 3, 1));
        vault.sign(call, &bob).unwrap();
        vault.sign(call, &carol).unwrap();
        let both = roll(create, vec![bob, carol]);
        assert_eq!(vault.keep_roll(call, &both), Ok(roll_hash(call, &both)));
        assert_eq!(verify_roll(call, &both, &vault.signatures(call, &both).unwrap()), Ok(()));
        let unsigned = roll(create, vec![bob, carol, add(&vault, 4, 1)]);
        assert_eq!(vault.keep_roll(call, &unsigned), Err(VaultError::Unsigned));
        assert!(vault.signatures(call, &both).is_ok(), "nothing has changed");
        let by_bob = Record { by: bob.subject, ..carol };
        assert_eq!(vault.sign(call, &by_bob), Err(VaultError::Unsigned));
    }

    #[tokio::test]
    async fn only_the_words_of_the_last_roll_are_kept() {
        let mut vault = vault().await;
        let (call, create) = vault.create(MayInvite::Members, 16).unwrap();
        let [first, second] = [1, 2].map(|number| add(&vault, 2, number));
        for word in [first, second] {
            vault.sign(call, &word).unwrap();
            vault.keep_roll(call, &roll(create, vec![word])).unwrap();
        }
        assert!(vault.signatures(call, &roll(create, vec![second])).is_ok());
        assert_eq!(vault.signatures(call, &roll(create, vec![first])), Err(VaultError::Unsigned));
    }

    #[tokio::test]
    async fn words_that_no_roll_is_kept_with_are_bounded() {
        let mut vault = vault().await;
        let (call, _) = vault.create(MayInvite::Members, 16).unwrap();
        let most = (MAX_RECORDS + MAX_LOOSE) as u32;
        for number in 1..=most {
            vault.sign(call, &add(&vault, 2, number)).unwrap();
        }
        assert_eq!(vault.sign(call, &add(&vault, 2, most + 1)), Err(VaultError::Unsigned));
        vault.forget(call);
        assert!(vault.is_clean());
    }

    #[tokio::test]
    async fn a_resumed_call_has_the_words_of_the_earlier_run() {
        let mut first = vault().await;
        let (call, create) = first.create(MayInvite::Creator, 2).unwrap();
        let bob = add(&first, 2, 1);
        first.sign(call, &bob).unwrap();
        let roll = roll(create, vec![bob]);
        first.keep_roll(call, &roll).unwrap();
        let signatures = first.signatures(call, &roll).unwrap();
        let mut again = vault().await;
        assert_eq!(again.keep_roll(call, &roll), Err(VaultError::Unsigned));
        again.forget(call);
        again.restore(call, Words::of(&roll, &signatures));
        assert_eq!(again.keep_roll(call, &roll), Ok(roll_hash(call, &roll)));
        assert_eq!(again.signatures(call, &roll), Ok(signatures));
    }
}
