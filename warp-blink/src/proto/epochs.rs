//! The keys of a call, by their names: which one is used, and which are still heard.
//!
//! A key is made anew when somebody leaves or is removed. Several members may make one at once, on both sides of a cut even;
//! the rule of [`newer`] lets all choose the same. Where neither of two keys excludes all who are gone, a further one is
//! made.

use std::{cmp::Ordering, collections::BTreeMap};

use super::signal::{Epoch, EpochId, Gone, MAX_SUBJECTS};
use crate::{id::PublicKey, time::Instant};

/// Keys that are heard beside the one in use. Each stands for a departure within two announce periods; the oldest goes
/// first.
const MAX_OLD: usize = 4;

/// Whether everybody who is in `gone` is excluded by a key that was made when `excluded` were.
fn covers(excluded: &[Gone], gone: &[Gone]) -> bool {
    gone.iter().all(|g| excluded.iter().any(|e| e.subject == g.subject && e.number >= g.number))
}

/// Which of two is to be used: the one that excludes more, else the larger number, else the smaller name. `None`: each
/// excludes somebody whom the other does not.
pub(super) fn newer(a: &Epoch, b: &Epoch) -> Option<Ordering> {
    match (covers(&a.gone, &b.gone), covers(&b.gone, &a.gone)) {
        (true, true) => Some(a.id.n.cmp(&b.id.n).then(b.id.key.cmp(&a.id.key))),
        (true, false) => Some(Ordering::Greater),
        (false, true) => Some(Ordering::Less),
        (false, false) => None,
    }
}

/// What became of a key that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is used from now on.
    Used,
    /// It was heard, and is used from now on: more is known of those whom it excludes.
    Chosen,
    /// It is heard for a while, because others may use it.
    Heard,
    /// It is known.
    Known,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Epochs {
    used: Option<Epoch>,
    heard: Vec<(Epoch, Instant)>,
    /// Everybody who is to be excluded.
    gone: BTreeMap<PublicKey, u32>,
    /// What keys of others say of departures that are not known here, and for how long that is believed.
    claims: BTreeMap<(EpochId, PublicKey), (u32, Instant)>,
    /// The highest number seen.
    highest: u32,
    /// A key of this number is being made.
    making: Option<u32>,
}

impl Epochs {
    /// The key that is used, if it excludes all who are gone.
    pub(super) fn sends(&self) -> Option<EpochId> {
        self.used.as_ref().filter(|_| self.is_current()).map(|e| e.id)
    }

    /// The key that was chosen, whether it may still be used or not.
    pub(super) fn used(&self) -> Option<&Epoch> {
        self.used.as_ref()
    }

    /// The names of all keys that are heard.
    pub(super) fn all(&self) -> impl Iterator<Item = EpochId> + '_ {
        self.used.iter().map(|e| e.id).chain(self.heard.iter().map(|(epoch, _)| epoch.id))
    }

    pub(super) fn hears(&self, id: EpochId) -> bool {
        self.all().any(|known| known == id)
    }

    /// Somebody has departed.
    pub(super) fn depart(&mut self, gone: &[Gone]) {
        for Gone { subject, number } in gone {
            let highest = self.gone.entry(*subject).or_default();
            *highest = (*highest).max(*number);
        }
    }

    pub(super) fn gone(&self) -> Vec<Gone> {
        self.gone.iter().map(|(subject, number)| Gone { subject: *subject, number: *number }).collect()
    }

    /// The key in use excludes all who are gone.
    pub(super) fn is_current(&self) -> bool {
        self.used.as_ref().is_some_and(|e| covers(&e.gone, &self.gone()))
    }

    /// Begins to make the next key; its number. `None` while one is being made.
    pub(super) fn make(&mut self) -> Option<u32> {
        if self.making.is_some() {
            return None;
        }
        let n = self.highest.saturating_add(1);
        self.making = Some(n);
        Some(n)
    }

    pub(super) fn is_making(&self) -> bool {
        self.making.is_some()
    }

    /// The key of that number was made, or was not.
    pub(super) fn made(&mut self, n: u32) -> bool {
        self.making.take_if(|making| *making == n).is_some()
    }

    /// Whether that departure is known here, by a signed word.
    fn knows(&self, gone: &Gone) -> bool {
        self.gone.get(&gone.subject).is_some_and(|number| *number >= gone.number)
    }

    /// The number of a departure that a key of somebody else excludes, though the word of it is not here so far. Whoever
    /// it is gets no key until the word is here, or has had the time to come.
    pub(super) fn claims(&self, subject: &PublicKey, now: Instant) -> u32 {
        let about = self.claims.iter().filter(|((_, who), (_, until))| who == subject && *until > now);
        about.map(|(_, (number, _))| *number).max().unwrap_or(0)
    }

    /// The key in use as it is given to others: with what it was said to exclude, known here or not. Who gets it from this
    /// side must not hand it to those either.
    pub(super) fn handed(&self, now: Instant) -> Option<Epoch> {
        let used = self.used.as_ref()?;
        let mut gone: BTreeMap<PublicKey, u32> = used.gone.iter().map(|g| (g.subject, g.number)).collect();
        for ((id, subject), (number, until)) in &self.claims {
            let room = gone.len() < MAX_SUBJECTS || gone.contains_key(subject);
            if *id == used.id && *until > now && room {
                let highest = gone.entry(*subject).or_default();
                *highest = (*highest).max(*number);
            }
        }
        let gone = gone.into_iter().map(|(subject, number)| Gone { subject, number }).collect();
        Some(Epoch { id: used.id, gone })
    }

    /// Takes a key. What is not used any more is heard until then. Of the departures that it claims to exclude only those
    /// count that are known here already: a key that was made before somebody was removed, and says otherwise, is known
    /// to them. Where the words come after the key, that costs one more key.
    pub(super) fn take(&mut self, mut epoch: Epoch, until: Instant) -> Taken {
        self.highest = self.highest.max(epoch.id.n);
        let (known, claimed): (Vec<Gone>, Vec<Gone>) =
            epoch.gone.into_iter().partition(|gone| self.knows(gone));
        epoch.gone = known;
        for gone in claimed {
            // At the bound the claim is not kept: it is one of those who make many.
            let claim = (epoch.id, gone.subject);
            if self.claims.len() < MAX_SUBJECTS || self.claims.contains_key(&claim) {
                self.claims.insert(claim, (gone.number, until));
            }
        }
        if let Some(used) = self.used.as_mut().filter(|used| used.id == epoch.id) {
            used.gone = epoch.gone;
            return Taken::Known;
        }
        let before = self.heard.iter().position(|(heard, _)| heard.id == epoch.id);
        let heard = before.map(|index| self.heard.swap_remove(index).1);
        let better = self.used.as_ref().is_none_or(|used| newer(&epoch, used) == Some(Ordering::Greater));
        if better {
            if let Some(old) = self.used.replace(epoch) {
                self.heard.push((old, until));
            }
            return if heard.is_some() { Taken::Chosen } else { Taken::Used };
        }
        self.heard.push((epoch, heard.unwrap_or(until)));
        if heard.is_some() { Taken::Known } else { Taken::Heard }
    }

    /// The keys that are heard no longer.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<EpochId> {
        self.claims.retain(|_, (_, until)| *until > now);
        let surplus = self.heard.len().saturating_sub(MAX_OLD);
        let mut out: Vec<EpochId> = self.heard.drain(..surplus).map(|(epoch, _)| epoch.id).collect();
        out.extend(self.heard.extract_if(.., |(_, until)| *until <= now).map(|(epoch, _)| epoch.id));
        out
    }

    /// Forgets all keys; their names.
    pub(super) fn clear(&mut self) -> Vec<EpochId> {
        let all: Vec<EpochId> = self.all().collect();
        self.used = None;
        self.heard.clear();
        self.claims.clear();
        self.making = None;
        all
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.heard.iter().map(|(_, until)| *until).min()
    }
}

#[cfg(test)]
mod tests;
