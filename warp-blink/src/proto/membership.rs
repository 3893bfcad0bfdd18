//! Who belongs to a call: what all signed words about it come to.
//!
//! The words are kept by subject, the highest number of each sort. Whatever order they arrive in, and however often, they
//! come to the same: two members who have exchanged their rolls agree.

use std::collections::{BTreeMap, BTreeSet};

use super::signal::{Create, Gone, MAX_RECORDS, MAX_SUBJECTS, MayInvite, Record, RecordKind, Roll};
use crate::id::PublicKey;

/// The words about one person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// Added by the creator.
    by_creator: Option<u32>,
    /// Added by a member, who must belong to the call for it to count.
    by_member: Option<(u32, PublicKey)>,
    /// The last word of their own: `true` if they left with it, `false` if they came back.
    own: Option<(u32, bool)>,
    removed: Option<u32>,
}

impl Standing {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes away what can make no difference any more, so that all who know the same hold the same.
    fn settle(&mut self) {
        let removed = self.removed;
        self.by_creator = self.by_creator.filter(|n| Some(*n) > removed);
        let floor = removed.max(self.by_creator);
        self.by_member = self.by_member.filter(|(n, _)| Some(*n) > floor);
        self.own = self.own.filter(|(n, _)| Some(*n) > removed);
    }

    fn records(&self, subject: PublicKey, creator: PublicKey) -> impl Iterator<Item = Record> + use<> {
        let record = move |number, kind, by| Record { subject, number, kind, by };
        let own = self
            .own
            .map(|(n, left)| record(n, if left { RecordKind::Leave } else { RecordKind::Add }, subject));
        [
            self.by_creator.map(|n| record(n, RecordKind::Add, creator)),
            self.by_member.map(|(n, by)| record(n, RecordKind::Add, by)),
            own,
            self.removed.map(|n| record(n, RecordKind::Remove, creator)),
        ]
        .into_iter()
        .flatten()
    }

    /// The highest number of a departure. It never falls, whatever comes.
    fn departed(&self) -> Option<u32> {
        let own = self.own.map(|(n, left)| if left { n } else { n.saturating_sub(1) });
        own.max(self.removed)
    }

    fn highest(&self) -> u32 {
        let numbers =
            [self.by_creator, self.by_member.map(|(n, _)| n), self.own.map(|(n, _)| n), self.removed];
        numbers.into_iter().flatten().max().unwrap_or(0)
    }
}

/// Who belongs to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    create: Create,
    standings: BTreeMap<PublicKey, Standing>,
    /// Follows from the rest: who has a chain of valid words to the creator.
    entitled: BTreeSet<PublicKey>,
}

impl Membership {
    pub(super) fn new(create: Create) -> Self {
        let mut this = Self { create, standings: BTreeMap::new(), entitled: BTreeSet::new() };
        this.settle();
        this
    }

    pub(super) fn from_roll(roll: &Roll) -> Self {
        let mut this = Self::new(roll.create);
        this.merge(&roll.records);
        this
    }

    pub(super) const fn create(&self) -> &Create {
        &self.create
    }

    /// Everything, in the order that is sent.
    pub(super) fn roll(&self) -> Roll {
        let creator = self.create.creator;
        let mut records: Vec<Record> =
            self.standings.iter().flat_map(|(subject, s)| s.records(*subject, creator)).collect();
        records.sort_unstable();
        Roll { create: self.create, records }
    }

    /// Takes words whose signatures are good; whether that changed anything. What finds no room changes nothing.
    pub(super) fn merge(&mut self, records: &[Record]) -> bool {
        let before = self.standings.clone();
        for record in records {
            self.take(record);
        }
        self.settle();
        let count: usize = self
            .standings
            .values()
            .map(|s| s.records(self.create.creator, self.create.creator).count())
            .sum();
        if self.standings.len() > MAX_SUBJECTS || count > MAX_RECORDS {
            self.standings = before;
            self.settle();
            return false;
        }
        self.standings != before
    }

    fn take(&mut self, record: &Record) {
        let creator = self.create.creator;
        let Record { subject, number, kind, by } = *record;
        let standing = self.standings.entry(subject).or_default();
        match kind {
            RecordKind::Add if by == subject => standing.own = standing.own.max(Some((number, false))),
            RecordKind::Add if by == creator => standing.by_creator = standing.by_creator.max(Some(number)),
            RecordKind::Add => standing.by_member = standing.by_member.max(Some((number, by))),
            RecordKind::Leave if by == subject => standing.own = standing.own.max(Some((number, true))),
            RecordKind::Remove if by == creator && subject != creator => {
                standing.removed = standing.removed.max(Some(number));
            }
            RecordKind::Leave | RecordKind::Remove => {}
        }
    }

    fn settle(&mut self) {
        self.standings.values_mut().for_each(Standing::settle);
        let mut entitled = BTreeSet::from([self.create.creator]);
        let members_invite = self.create.may_invite == MayInvite::Members;
        loop {
            let more: Vec<PublicKey> = self
                .standings
                .iter()
                .filter(|(subject, _)| !entitled.contains(subject))
                .filter(|(_, s)| {
                    let invited = s.by_member.is_some_and(|(_, by)| members_invite && entitled.contains(&by));
                    // Additions that a removal is newer than were taken away.
                    s.by_creator.is_some() || invited
                })
                .map(|(subject, _)| *subject)
                .collect();
            if more.is_empty() {
                break;
            }
            entitled.extend(more);
        }
        // Whoever has no chain to the creator and was not removed is nobody, whatever they sign.
        self.standings
            .retain(|subject, s| !s.is_empty() && (entitled.contains(subject) || s.removed.is_some()));
        self.entitled = entitled;
    }

    /// Has a valid chain to the creator, whether they are in the call now or not.
    pub(super) fn is_entitled(&self, key: &PublicKey) -> bool {
        self.entitled.contains(key)
    }

    /// Entitled, and left by themselves.
    pub(super) fn has_left(&self, key: &PublicKey) -> bool {
        let Some(standing) = self.standings.get(key) else { return false };
        let added = standing.by_creator.max(standing.by_member.map(|(n, _)| n));
        matches!(standing.own, Some((n, true)) if Some(n) >= added)
    }

    /// Entitled, and has not left.
    pub(super) fn is_present(&self, key: &PublicKey) -> bool {
        self.is_entitled(key) && !self.has_left(key)
    }

    pub(super) fn was_removed(&self, key: &PublicKey) -> bool {
        !self.is_entitled(key) && self.standings.get(key).is_some_and(|s| s.removed.is_some())
    }

    /// Those who are entitled and have not left.
    pub(super) fn present(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.entitled.iter().copied().filter(|key| !self.has_left(key))
    }

    /// Everybody who was ever named, the creator included.
    pub(super) fn subjects(&self) -> usize {
        self.standings.len() + usize::from(!self.standings.contains_key(&self.create.creator))
    }

    /// Only two people ever took part.
    pub(super) fn is_pair(&self) -> bool {
        self.subjects() <= 2
    }

    pub(super) fn may_invite(&self, key: &PublicKey) -> bool {
        *key == self.create.creator || (self.create.may_invite == MayInvite::Members && self.is_present(key))
    }

    /// The number of the next word about somebody.
    pub(super) fn next_number(&self, subject: &PublicKey) -> u32 {
        self.standings.get(subject).map_or(0, Standing::highest).saturating_add(1)
    }

    /// Who departed last with which number, ordered by key.
    pub(super) fn gone(&self) -> Vec<Gone> {
        let departed = |(subject, s): (&PublicKey, &Standing)| {
            Some(Gone { subject: *subject, number: s.departed().filter(|n| *n > 0)? })
        };
        self.standings.iter().filter_map(departed).collect()
    }

    /// Those who belong here because of somebody else than the creator: a removal may take their chain away.
    pub(super) fn invited_by_members(&self) -> Vec<PublicKey> {
        let by_member = |s: &Standing| s.by_creator.is_none() && s.by_member.is_some();
        self.present().filter(|key| self.standings.get(key).is_some_and(by_member)).collect()
    }
}

#[cfg(test)]
mod tests;
