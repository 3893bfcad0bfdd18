use proptest::prelude::*;

use super::*;
use crate::{id::Identity, proto::signal::KeyHash};

const LATER: Instant = Instant::from_micros(10_000_000);

fn key(n: u8) -> PublicKey {
    Identity::from_seed([n + 1; 32]).public()
}

fn gone(who: &[(u8, u32)]) -> Vec<Gone> {
    let mut all: Vec<Gone> =
        who.iter().map(|(n, number)| Gone { subject: key(*n), number: *number }).collect();
    all.sort_unstable();
    all
}

fn epoch(n: u32, name: u8, who: &[(u8, u32)]) -> Epoch {
    Epoch { id: EpochId { n, key: KeyHash([name; 16]) }, gone: gone(who) }
}

#[test]
fn the_key_that_excludes_more_is_used_then_the_larger_number_then_the_smaller_name() {
    let all = [epoch(9, 1, &[]), epoch(1, 9, &[(1, 2)]), epoch(2, 9, &[(1, 2)]), epoch(2, 3, &[(1, 2)])];
    for (i, a) in all.iter().enumerate() {
        for (j, b) in all.iter().enumerate() {
            assert_eq!(newer(a, b), Some(i.cmp(&j)), "{a:?} {b:?}");
        }
    }
    assert_eq!(newer(&epoch(1, 1, &[(1, 2)]), &epoch(1, 1, &[(2, 2)])), None);
}

#[test]
fn nothing_is_sent_under_a_key_that_somebody_who_is_gone_has() {
    let mut epochs = Epochs::default();
    assert_eq!(epochs.take(epoch(1, 1, &[]), LATER), Taken::Used);
    assert!(epochs.sends().is_some());
    epochs.depart(&gone(&[(1, 2)]));
    assert_eq!(epochs.sends(), None);
    assert_eq!(epochs.make(), Some(2));
    assert_eq!(epochs.make(), None, "one at a time");
    assert!(epochs.made(2) && !epochs.made(2));
    assert_eq!(epochs.take(epoch(2, 1, &[(1, 2)]), LATER), Taken::Used);
    assert_eq!(epochs.sends().map(|e| e.n), Some(2));
    assert_eq!(epochs.all().count(), 2, "the old one is heard");
    assert_eq!(epochs.expired(LATER).len(), 1);
    assert_eq!(epochs.all().count(), 1);
}

#[test]
fn hostile_key_that_claims_a_removal_before_it_happened_does_not_exclude_anybody() {
    let mut epochs = Epochs::default();
    epochs.take(epoch(1, 1, &[]), LATER);
    // Made while 1 was in the call, who has it.
    epochs.take(epoch(2, 1, &[(1, u32::MAX), (2, 7)]), LATER);
    epochs.depart(&gone(&[(1, 5)]));
    assert_eq!(epochs.sends(), None, "a new one is made");
    assert_eq!(epochs.take(epoch(3, 1, &[(1, 5)]), LATER), Taken::Used);
    assert!(epochs.sends().is_some());
}

#[test]
fn hostile_floods_of_keys_are_bounded() {
    let mut epochs = Epochs::default();
    for n in 1..1000 {
        epochs.take(epoch(n, 1, &[]), LATER);
        epochs.expired(Instant::default());
        assert!(epochs.all().count() <= 1 + MAX_OLD);
    }
    epochs.take(epoch(u32::MAX, 1, &[]), LATER);
    epochs.depart(&gone(&[(1, 1)]));
    assert_eq!(epochs.make(), Some(u32::MAX), "the number has an end, the rule has not");
    assert_eq!(epochs.take(epoch(u32::MAX, 2, &[(1, 1)]), LATER), Taken::Used);
}

fn any_epoch() -> impl Strategy<Value = Epoch> {
    let who = proptest::collection::btree_map(0u8..3, 1u32..3, 0..3);
    (1u32..4, 0u8..4, who).prop_map(|(n, name, who)| epoch(n, name, &who.into_iter().collect::<Vec<_>>()))
}

proptest! {
    #[test]
    fn of_two_keys_both_sides_choose_the_same(a in any_epoch(), b in any_epoch()) {
        prop_assert_eq!(newer(&a, &b), newer(&b, &a).map(Ordering::reverse));
    }

    #[test]
    fn the_order_has_no_circles(a in any_epoch(), b in any_epoch(), c in any_epoch()) {
        if newer(&a, &b) == Some(Ordering::Greater) && newer(&b, &c) == Some(Ordering::Greater) {
            prop_assert_eq!(newer(&a, &c), Some(Ordering::Greater));
        }
    }

    /// All hear of all departures and all keys, in any order, and each makes one more where none is good for all.
    #[test]
    fn all_who_heard_the_same_keys_use_the_same(
        keys in proptest::collection::vec(any_epoch(), 1..6).prop_shuffle(),
        order in any::<proptest::sample::Index>(),
    ) {
        let known = gone(&[(0, 2), (1, 2), (2, 2)]);
        let mut shuffled = keys.clone();
        let turn = order.index(keys.len());
        shuffled.rotate_left(turn);
        let one = epoch(9, 0, &[(0, 2), (1, 2), (2, 2)]);
        let used = [keys, shuffled].map(|keys| {
            let mut epochs = Epochs::default();
            epochs.depart(&known);
            for key in keys {
                epochs.take(key, LATER);
            }
            epochs.take(one.clone(), LATER);
            epochs.sends()
        });
        prop_assert_eq!(used[0], Some(one.id));
        prop_assert_eq!(used[1], Some(one.id));
    }
}

#[test]
fn a_key_is_handed_on_with_what_it_was_said_to_exclude() {
    let now = Instant::from_micros(1);
    let mut epochs = Epochs::default();
    epochs.depart(&gone(&[(1, 2)]));
    // Its words come later than it does.
    let key_2 = epoch(2, 1, &[(1, 2), (2, 4)]);
    assert_eq!(epochs.take(key_2.clone(), LATER), Taken::Used);
    assert_eq!(epochs.handed(now), Some(key_2), "whoever gets it must keep it from them too");
    assert_eq!(epochs.used(), Some(&epoch(2, 1, &[(1, 2)])), "and believes no more than before");
    assert_eq!(epochs.handed(LATER), Some(epoch(2, 1, &[(1, 2)])), "for a while");
    // What is said of one key says nothing of another.
    assert_eq!(epochs.take(epoch(3, 1, &[(1, 2)]), LATER), Taken::Used);
    assert_eq!(epochs.handed(now), Some(epoch(3, 1, &[(1, 2)])));
    assert_eq!(epochs.claims(&key(2), now), 4);
    // At the bound what is known is not left out.
    let many: Vec<(u8, u32)> = (3..3 + MAX_SUBJECTS as u8).map(|n| (n, 1)).collect();
    epochs.take(epoch(4, 1, &[&[(1, 2)], many.as_slice()].concat()), LATER);
    let handed = epochs.handed(now).map(|e| e.gone).unwrap_or_default();
    assert!(handed.len() <= MAX_SUBJECTS && handed.contains(&gone(&[(1, 2)])[0]), "{}", handed.len());
}
