//! Pseudonyms of keys keep their order, and their mirror images, whatever order they come in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::{prelude::*, test_runner::RngSeed};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use warp_blink::{
    config::Config,
    event::Event,
    id::{CallId, Identity, NodeKey, PublicKey},
    proto::{
        Arrived, Command, EffectKind, Input,
        journal::{Happened, Journal, Stop},
        signal::{AppData, Hello, HelloKind, MediaFormat, SUITE_CLASSICAL, VERSION},
    },
    time::Instant,
};

use crate::kit::*;

fn key(n: u32) -> PublicKey {
    let mut seed = [0x33; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    Identity::from_seed(seed).public()
}

fn mirror(key: PublicKey) -> PublicKey {
    let mut bytes = *key.as_bytes();
    bytes[31] ^= 0x80;
    PublicKey::from_bytes(bytes).unwrap()
}

/// Names these keys one by one, after those at the beginning: each key with its pseudonym, as far as there was room.
fn named(first: &[PublicKey], then: &[PublicKey]) -> (Vec<(PublicKey, PublicKey)>, Option<Stop>) {
    let beginning = beginning(&Config::default(), &identity(1)).with_people(first.iter().copied(), []);
    let mut node = Node::new(&beginning, 16 * 1024 * 1024);
    for key in then {
        // Nobody else is a contact, so this always does the same.
        node.handle(Instant::default(), Command::Unblock(*key).into()).unwrap();
    }
    let stopped = node.recorder.stopped();
    node.finish();
    if node.text.is_empty() {
        return (Vec::new(), stopped);
    }
    let journal = Journal::parse(&node.text).unwrap();
    assert_eq!(journal.end(), stopped.or(Some(Stop::Finished)));
    let given = journal.steps().iter().map(|step| match &step.happened {
        Happened::Input(_, input) => match &**input {
            Input::Command(Command::Unblock(key)) => *key,
            other => panic!("{other:?}"),
        },
        Happened::Start => panic!("it was not started"),
    });
    let begun = journal.beginning();
    let mut all = vec![(beginning.own, begun.own)];
    all.extend(first.iter().copied().zip(begun.contacts.iter().copied()));
    all.extend(then.iter().copied().zip(given));
    (all, stopped)
}

/// Different keys have different pseudonyms, in the same order, and none is a key that was there.
fn assert_order(mut all: Vec<(PublicKey, PublicKey)>) {
    let real: BTreeSet<_> = all.iter().map(|(real, _)| *real).collect();
    assert!(all.iter().all(|(_, given)| !real.contains(given)));
    all.sort_unstable();
    all.dedup();
    for pair in all.windows(2) {
        let [(a, x), (b, y)] = pair else { unreachable!() };
        assert!(a < b && x < y, "{a:?} < {b:?}, but {x:?} and {y:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_a_thousand_keys_is_kept(seed in any::<u32>(), repeats in 1..8u32) {
        // Some come twice, and some have their mirror images with them.
        let keys: Vec<_> = (0..1000).map(|n| {
            let n: u32 = n;
            let key = key(seed.wrapping_add(n - n % repeats));
            if n.is_multiple_of(3) { mirror(key) } else { key }
        }).collect();
        let (first, then) = keys.split_at(seed as usize % 500);
        let (all, stopped) = named(first, then);
        prop_assert_eq!((all.len(), stopped), (1001, None));
        // Mirror images stay mirror images, and no others become some.
        let given: BTreeMap<_, _> = all.iter().copied().collect();
        let images = |(key, _): &(&PublicKey, &PublicKey)| given.contains_key(&mirror(**key));
        let (with, without): (Vec<_>, Vec<_>) = given.iter().partition(images);
        prop_assert!(repeats < 2 || with.len() > 100, "{} {}", with.len(), without.len());
        for (key, pseudonym) in with {
            prop_assert_eq!(given[&mirror(*key)], mirror(*pseudonym));
        }
        let pseudonyms: BTreeSet<_> = given.values().copied().collect();
        for (_, pseudonym) in without {
            prop_assert!(!pseudonyms.contains(&mirror(*pseudonym)));
        }
        assert_order(all);
    }
}

#[test]
fn a_large_phone_book_is_named_at_once() {
    // More than fit on one line, and not in their order.
    let keys: Vec<_> = (0..1200).map(key).collect();
    let (all, stopped) = named(&keys, &[key(5000)]);
    assert_eq!((all.len(), stopped), (1202, None));
    assert_order(all);
}

/// So many keys above the own one, in their order.
fn above_own(n: usize) -> Vec<PublicKey> {
    let own = identity(1).public();
    let mut keys: Vec<_> = (0..).map(key).filter(|key| *key > own).take(n).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn hostile_orders_end_the_recording_and_never_break_the_order() {
    let sorted = above_own(400);
    // Always into the one gap that is left, from below or from above.
    let nested = |from_below: &mut dyn FnMut() -> bool| {
        let mut left: VecDeque<_> = sorted.iter().copied().collect();
        let next = || if from_below() { left.pop_front() } else { left.pop_back() };
        std::iter::from_fn(next).collect::<Vec<_>>()
    };
    let mut turn = 0;
    let mut every = |n: u32, of: u32| {
        turn += 1;
        turn % of < n
    };
    let mut cases = vec![
        ("each between the two before it".to_owned(), nested(&mut || every(1, 2))),
        ("two up, one down".to_owned(), nested(&mut || every(2, 3))),
        ("four up, one down".to_owned(), nested(&mut || every(4, 5))),
        ("eight up, eight down".to_owned(), nested(&mut || every(8, 16))),
    ];
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for percent in [50, 50, 50, 60, 75, 90] {
        let keys = nested(&mut || random.next_u32() % 100 < percent);
        cases.push((format!("{percent} of 100 from below"), keys));
    }
    for (name, keys) in cases {
        let (all, stopped) = named(&[], &keys);
        println!("{name}: room for {} keys", all.len());
        assert!(
            stopped == Some(Stop::NoRoom) || (stopped.is_none() && all.len() == 401),
            "{name}: {stopped:?}"
        );
        assert!(all.len() > 150, "{name}: only {}", all.len());
        assert_order(all);
        // Those that are known at the beginning find room, however many there are.
        let (all, stopped) = named(&keys, &[]);
        assert_eq!((all.len(), stopped), (keys.len() + 1, None), "{name}");
        assert_order(all);
    }
}

#[test]
fn keys_that_come_in_their_order_find_room() {
    let upwards = above_own(2000);
    let downwards: Vec<_> = upwards.iter().rev().copied().collect();
    // Somebody in between comes later.
    let mut gaps = upwards.clone();
    let between = gaps.extract_if(.., |key| key.as_bytes()[5].is_multiple_of(4)).collect::<Vec<_>>();
    gaps.extend(between);
    for keys in [upwards, downwards, gaps] {
        let (all, stopped) = named(&[], &keys);
        assert_eq!((all.len(), stopped), (2001, None));
        assert_order(all);
    }
}

#[test]
fn hostile_neighbours_of_a_key_and_its_mirror_image_end_the_recording() {
    // Two points that differ in the last byte only, so that one stands between the other and its mirror image.
    let twins = |n| {
        let mut bytes = *key(n).as_bytes();
        bytes[31] &= 0x7f;
        let low = PublicKey::from_bytes(bytes).unwrap();
        let high = (bytes[31] + 1..0x80).find_map(|last| {
            bytes[31] = last;
            PublicKey::from_bytes(bytes).ok()
        });
        high.map(|high| (low, high))
    };
    let (low, high) = (0..100).find_map(twins).unwrap();
    assert!(low < high && high < mirror(low) && mirror(low) < mirror(high));
    let (all, stopped) = named(&[], &[low, high]);
    assert_eq!((all.len(), stopped), (3, None), "the two alone are two keys as any others");
    assert_order(all);
    let (all, stopped) = named(&[], &[low, high, mirror(low)]);
    assert_eq!((all.len(), stopped), (3, Some(Stop::NoRoom)));
    assert_order(all);
    let (all, stopped) = named(&[], &[low, mirror(low), high]);
    assert_eq!(stopped, Some(Stop::NoRoom));
    assert_order(all);
    // At the beginning there is no journal at all then.
    for keys in [vec![low, high, mirror(low)], vec![mirror(low), high]] {
        assert_eq!(named(&keys, &[]), (Vec::new(), Some(Stop::NoRoom)));
    }
}

#[test]
fn who_is_blocked_stays_blocked_under_the_mirror_image() {
    let (blocked, stranger) = (key(1), key(2));
    // The mirror image is not known before it calls.
    let beginning = beginning(&Config::default(), &identity(1)).with_people([], [blocked]);
    let mut node = Node::new(&beginning, LARGE);
    let hello = |from, n| Hello {
        kind: HelloKind::Offer,
        from,
        node: NodeKey::from(&identity(9)).node_id(),
        call: call_id(n),
        sent_at: WALL,
        ring_ms: 60_000,
        versions: vec![VERSION],
        suites: vec![SUITE_CLASSICAL],
        media: MediaFormat::default(),
        app_data: AppData::default(),
    };
    let mut effects = Vec::new();
    for (from, n) in [(mirror(blocked), 1), (stranger, 2)] {
        let input = Input::Hello(Box::new(Arrived::new(hello(from, n))));
        effects.extend(node.handle(Instant::default(), input).unwrap());
    }
    let answered: Vec<CallId> = effects
        .iter()
        .filter_map(|e| match e.kind {
            EffectKind::SendWelcome { call, .. } => Some(call),
            _ => None,
        })
        .collect();
    assert_eq!(answered, [call_id(2)]);
    node.finish();
    let journal = Journal::parse(&node.text).unwrap();
    let replayed = journal.replay().unwrap_or_else(|divergence| panic!("{divergence}"));
    assert_eq!(replayed.machine.snapshot().statistics.counters.refused.admission, 1);
    assert!(!effects.iter().any(|e| matches!(e.kind, EffectKind::Emit(Event::Incoming { .. }))));
}
