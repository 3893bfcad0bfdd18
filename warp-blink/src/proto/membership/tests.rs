use proptest::prelude::*;

use super::*;
use crate::id::Identity;

fn key(n: u8) -> PublicKey {
    Identity::from_seed([n + 1; 32]).public()
}

fn create(may_invite: MayInvite) -> Create {
    Create { creator: key(0), random: [0; 16], may_invite, most: 16 }
}

fn record(subject: u8, number: u32, kind: RecordKind, by: u8) -> Record {
    Record { subject: key(subject), number, kind, by: key(by) }
}

fn of(records: &[Record]) -> Membership {
    let mut members = Membership::new(create(MayInvite::Members));
    members.merge(records);
    members
}

use RecordKind::{Add, Leave, Remove};

#[test]
fn a_chain_of_additions_leads_to_the_creator() {
    let members =
        of(&[record(1, 1, Add, 0), record(2, 1, Add, 1), record(3, 1, Add, 2), record(5, 1, Add, 4)]);
    assert!([0, 1, 2, 3].iter().all(|n| members.is_present(&key(*n))));
    assert!(
        !members.is_entitled(&key(4)) && !members.is_entitled(&key(5)),
        "nobody has named who named them"
    );
    let mut only_creator = Membership::new(create(MayInvite::Creator));
    only_creator.merge(&[record(1, 1, Add, 0), record(2, 1, Add, 1)]);
    assert!(only_creator.is_present(&key(1)) && !only_creator.is_entitled(&key(2)));
}

#[test]
fn a_removal_wins_over_a_leave_over_an_addition_of_the_same_number() {
    let all = [record(1, 3, Add, 0), record(1, 3, Leave, 1), record(1, 3, Remove, 0)];
    assert!(of(&all[..1]).is_present(&key(1)));
    assert!(of(&all[..2]).has_left(&key(1)) && of(&all[..2]).is_entitled(&key(1)));
    assert!(of(&all).was_removed(&key(1)));
    assert!(of(&[all[2], record(1, 4, Add, 0)]).is_present(&key(1)), "a later addition brings back");
    assert!(of(&[all[2], record(1, 9, Add, 1)]).was_removed(&key(1)), "but not one of their own");
}

#[test]
fn who_left_comes_back_by_their_own_word_as_long_as_nobody_removes_them() {
    let mut members = of(&[record(1, 1, Add, 0), record(1, 2, Leave, 1)]);
    assert!(!members.is_present(&key(1)));
    members.merge(&[record(1, 3, Add, 1)]);
    assert!(members.is_present(&key(1)));
    // The removal was made at the same time as the leave.
    members.merge(&[record(1, 2, Remove, 0)]);
    assert!(members.was_removed(&key(1)), "no word of their own is an addition");
}

#[test]
fn whom_a_removed_one_brought_goes_with_them_unless_the_creator_adds_them() {
    let mut members = of(&[record(1, 1, Add, 0), record(2, 1, Add, 1)]);
    assert_eq!(members.invited_by_members(), [key(2)]);
    members.merge(&[record(1, 2, Remove, 0)]);
    assert!(!members.is_entitled(&key(2)) && !members.was_removed(&key(2)));
    let mut kept = of(&[record(1, 1, Add, 0), record(2, 1, Add, 1), record(2, 2, Add, 0)]);
    kept.merge(&[record(1, 2, Remove, 0), record(2, 900, Add, 1)]);
    assert!(kept.is_present(&key(2)), "what the removed one says later takes nothing away");
}

#[test]
fn hostile_words_that_nobody_may_say_change_nothing() {
    let mut members = of(&[record(1, 1, Add, 0), record(2, 1, Add, 0)]);
    let before = members.clone();
    let hostile = [
        record(2, 5, Remove, 1),
        record(0, 5, Remove, 1),
        record(0, 5, Remove, 0),
        record(2, 5, Leave, 1),
        record(7, 5, Leave, 7),
        record(7, 6, Add, 7),
        record(8, 1, Add, 7),
    ];
    assert!(!members.merge(&hostile));
    assert_eq!(members, before);
}

#[test]
fn more_people_than_a_call_remembers_find_no_room() {
    let mut members = of(&[]);
    for n in 1..=MAX_SUBJECTS as u8 {
        assert!(members.merge(&[record(n, 1, Add, 0)]), "{n}");
    }
    let before = members.clone();
    assert!(!members.merge(&[record(200, 1, Add, 0)]));
    assert_eq!(members, before);
    assert!(members.merge(&[record(3, 2, Remove, 0)]), "what is said of those who are known is heard");
}

#[test]
fn departures_are_counted_and_never_fall() {
    let mut members = of(&[record(1, 1, Add, 0)]);
    let gone = |m: &Membership| m.gone().iter().map(|g| g.number).collect::<Vec<_>>();
    assert_eq!(gone(&members), Vec::<u32>::new());
    members.merge(&[record(1, 2, Leave, 1)]);
    assert_eq!(gone(&members), [2]);
    members.merge(&[record(1, 3, Add, 1)]);
    assert_eq!(gone(&members), [2], "the key was changed for that departure, and need not be again");
    members.merge(&[record(1, 4, Leave, 1)]);
    assert_eq!(gone(&members), [4]);
    members.merge(&[record(1, 5, Remove, 0)]);
    assert_eq!(gone(&members), [5]);
    assert_eq!(members.next_number(&key(1)), 6);
    assert_eq!(members.next_number(&key(9)), 1);
}

#[test]
fn two_are_a_pair_until_a_third_was_ever_named() {
    let mut members = of(&[record(1, 1, Add, 0)]);
    assert!(members.is_pair());
    members.merge(&[record(2, 1, Add, 1), record(2, 2, Remove, 0)]);
    assert!(!members.is_pair());
}

fn any_record() -> impl Strategy<Value = Record> {
    let kind = prop_oneof![Just(Add), Just(Add), Just(Leave), Just(Remove)];
    (0u8..6, 1u32..6, kind, 0u8..6).prop_map(|(subject, number, kind, by)| record(subject, number, kind, by))
}

proptest! {
    /// Whatever order they hear things in, and however often: after exchanging their rolls, both ways, two agree.
    #[test]
    fn two_who_exchanged_their_rolls_agree(
        records in proptest::collection::vec(any_record(), 0..30),
        split in 0usize..30,
    ) {
        let split = split.min(records.len());
        let (mut a, mut b) = (of(&records[..split]), of(&records[split..]));
        for _ in 0..8 {
            let (from_a, from_b) = (a.roll(), b.roll());
            a.merge(&from_b.records);
            b.merge(&from_a.records);
        }
        prop_assert_eq!(a.roll(), b.roll());
        let present = |m: &Membership| m.present().collect::<Vec<_>>();
        prop_assert_eq!(present(&a), present(&b));
    }

    #[test]
    fn a_roll_says_all_and_hearing_it_again_changes_nothing(
        records in proptest::collection::vec(any_record(), 0..30),
    ) {
        let mut members = of(&records);
        let roll = members.roll();
        prop_assert!(roll.records.is_sorted());
        prop_assert!(!members.merge(&roll.records));
        let again = Membership::from_roll(&roll);
        prop_assert_eq!(again.roll(), roll);
        prop_assert_eq!(again.gone(), members.gone());
    }

    #[test]
    fn nobody_who_was_removed_is_present_and_the_creator_always_belongs(
        records in proptest::collection::vec(any_record(), 0..30),
    ) {
        let members = of(&records);
        prop_assert!(members.is_entitled(&key(0)));
        for n in 0..6 {
            prop_assert!(!(members.was_removed(&key(n)) && members.is_present(&key(n))));
        }
    }
}
