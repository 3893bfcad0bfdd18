mod own;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    event::Findable,
    id::{Identity, NodeKey},
    reach::Place,
    time::UnixTime,
};

const J: Jitter = Jitter(u16::MAX);

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn person(n: u8) -> PublicKey {
    Identity::from_seed([n; 32]).public()
}

fn wall(ms: u64) -> UnixTime {
    UnixTime::from_millis(1_700_000_000_000 + ms)
}

fn addresses(texts: &[&str]) -> Addresses {
    Addresses(texts.iter().map(|text| (*text).to_owned()).collect())
}

const A: &str = "/ip4/203.0.113.1/tcp/1";
const B: &str = "/ip4/203.0.113.2/tcp/1";

fn look(n: u8, given: &[&str], remembered: &[&str]) -> FindInput {
    let (given, remembered) = (addresses(given), addresses(remembered));
    FindInput::Look { who: person(n), node: person(n).into(), given, remembered }
}

fn answered(lookup: LookupId, found: Option<Found>) -> FindInput {
    FindInput::Answered { lookup, found, jitter: J }
}

fn found(n: u8, sequence: Option<u64>, texts: &[&str]) -> Option<Found> {
    Some(Found { sequence, nodes: vec![(person(n).into(), addresses(texts))] })
}

fn step(finder: &mut Finder, now: Instant, input: FindInput) -> Vec<FindEffect> {
    let effects = finder.handle(now, input).unwrap();
    finder.check().unwrap();
    effects
}

/// Every timer up to then.
/// With longer times than the default, so that what happens in between can be told apart.
fn calm() -> FindConfig {
    let five = Duration::from_secs(5);
    FindConfig { settle: five, settle_first: five, again_first: five, ..FindConfig::default() }
}

fn until(finder: &mut Finder, end: Instant) -> Vec<(Instant, FindEffect)> {
    let mut out = Vec::new();
    while let Some(now) = finder.next_timeout().filter(|at| *at <= end) {
        let effects = step(finder, now, FindInput::Timeout { wall: wall(now.as_micros() / 1000), jitter: J });
        out.extend(effects.into_iter().map(|effect| (now, effect)));
        assert!(finder.next_timeout().is_none_or(|next| next > now), "a timer that does nothing");
    }
    out
}

/// Whom these effects ask.
fn asked(effects: &[FindEffect]) -> Vec<(Source, LookupId)> {
    let ask = |effect: &FindEffect| match effect {
        FindEffect::Lookup { source, lookup, .. } => Some((*source, *lookup)),
        _ => None,
    };
    effects.iter().filter_map(ask).collect()
}

fn told(effects: &[FindEffect]) -> Vec<(Source, Vec<String>)> {
    let tell = |effect: &FindEffect| match effect {
        FindEffect::Tell { source, addresses, .. } => Some((*source, addresses.0.clone())),
        _ => None,
    };
    effects.iter().filter_map(tell).collect()
}

fn published(effects: &[(Instant, FindEffect)]) -> Vec<(Instant, OwnRecord)> {
    let publish = |(at, effect): &(Instant, FindEffect)| match effect {
        FindEffect::Publish(record) => Some((*at, record.clone())),
        _ => None,
    };
    effects.iter().filter_map(publish).collect()
}

#[test]
fn what_is_known_is_tried_before_anybody_far_away_is_asked() {
    let mut finder = Finder::new(calm(), 0);
    let effects = step(&mut finder, at(0), look(1, &[A], &[B]));
    assert_eq!(told(&effects), [(Source::Given, vec![A.into()]), (Source::Remembered, vec![B.into()])]);
    let [(Source::Mdns, _)] = asked(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(finder.next_timeout(), Some(at(500)));
    let effects = step(&mut finder, at(500), FindInput::Timeout { wall: wall(0), jitter: J });
    let sources: Vec<Source> = asked(&effects).into_iter().map(|(source, _)| source).collect();
    assert_eq!(sources, [Source::Record, Source::Kademlia], "both at the same time");
    // Found: nobody is asked any more.
    let effects = step(&mut finder, at(600), FindInput::Stop { who: person(1) });
    assert_eq!(effects.iter().filter(|e| matches!(e, FindEffect::Cancel { .. })).count(), 3);
    assert_eq!(finder.next_timeout(), None);
}

#[test]
fn others_are_asked_at_once_where_nothing_is_known_or_nothing_works() {
    let mut finder = Finder::new(calm(), 0);
    let sources: Vec<Source> =
        asked(&step(&mut finder, at(0), look(1, &[], &[]))).iter().map(|a| a.0).collect();
    assert_eq!(sources, [Source::Mdns, Source::Record, Source::Kademlia]);
    let mut finder = Finder::new(calm(), 0);
    step(&mut finder, at(0), look(1, &[A], &[]));
    let effects = step(&mut finder, at(30), FindInput::Missed { who: person(1) });
    assert_eq!(asked(&effects).len(), 2);
    // Said again it changes nothing, also after a round of questions that did not help.
    assert_eq!(step(&mut finder, at(40), FindInput::Missed { who: person(1) }), []);
    for (_, lookup) in asked(&effects) {
        step(&mut finder, at(50), answered(lookup, None));
    }
    assert_eq!(step(&mut finder, at(60), FindInput::Missed { who: person(1) }), []);
}

#[test]
fn questions_are_repeated_with_pauses_that_double_and_are_bounded() {
    let mut finder = Finder::new(calm().with_mdns(false), 0);
    let mut effects = step(&mut finder, at(0), look(1, &[], &[]));
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        for (_, lookup) in asked(&effects) {
            step(&mut finder, now, answered(lookup, None));
        }
        let due = finder.next_timeout().unwrap();
        pauses.push((due - now).as_secs());
        now = due;
        effects = step(&mut finder, now, FindInput::Timeout { wall: wall(0), jitter: J });
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    // One that does not answer is waited for in bounds.
    let end = finder.next_timeout().unwrap();
    assert_eq!(end - now, Duration::from_secs(10));
    let effects = step(&mut finder, end, FindInput::Timeout { wall: wall(0), jitter: Jitter(0) });
    assert_eq!(effects.len(), 2, "both are cancelled: {effects:?}");
    assert_eq!(finder.next_timeout().unwrap() - end, Duration::from_secs(150), "jitter takes half at most");
}

#[test]
fn each_source_has_a_switch() {
    let all = FindConfig::default;
    let cases = [
        (all().with_mdns(false), vec![Source::Record, Source::Kademlia]),
        (all().with_records(false), vec![Source::Mdns, Source::Kademlia]),
        (all().with_kademlia(false), vec![Source::Mdns, Source::Record]),
        (all().with_relay_only(true), vec![Source::Record, Source::Kademlia]),
        (FindConfig::silent(), vec![]),
    ];
    for (config, wanted) in cases {
        let mut finder = Finder::new(config.clone(), 0);
        let effects = step(&mut finder, at(0), look(1, &[], &[]));
        assert_eq!(asked(&effects).iter().map(|a| a.0).collect::<Vec<_>>(), wanted, "{config:?}");
        let node = person(1).into();
        let near = step(&mut finder, at(1), FindInput::Seen(Seen { node, addresses: addresses(&[A]) }));
        assert_eq!(told(&near).is_empty(), !wanted.contains(&Source::Mdns), "{config:?}");
    }
    // Who asks nobody tells what is given, and has no timer.
    let mut finder = Finder::new(FindConfig::silent(), 0);
    assert_eq!(told(&step(&mut finder, at(0), look(1, &[A], &[]))).len(), 1);
    assert_eq!(step(&mut finder, at(1), FindInput::Missed { who: person(1) }), []);
    step(&mut finder, at(1), FindInput::Own { addresses: addresses(&[A]), wall: wall(0) });
    assert_eq!(finder.next_timeout(), None);
}

#[test]
fn only_the_newest_record_counts_and_only_a_record_moves_somebody() {
    let mut finder = Finder::new(calm().with_mdns(false), 0);
    let record = |finder: &mut Finder, n: u8, sequence, texts: &[&str]| {
        finder.handle(at(0), FindInput::Stop { who: person(n) }).unwrap();
        let effects = step(finder, at(0), look(n, &[], &[]));
        let (_, lookup) = asked(&effects)[0];
        told(&step(finder, at(1), answered(lookup, found(n, Some(sequence), texts))))
    };
    assert_eq!(record(&mut finder, 1, 7, &[A]), [(Source::Record, vec![A.into()])]);
    assert_eq!(record(&mut finder, 1, 6, &[B]), [], "an older one is played back");
    assert_eq!(record(&mut finder, 1, 7, &[A]), [(Source::Record, vec![A.into()])]);
    assert_eq!(record(&mut finder, 1, 8, &[B]), [(Source::Record, vec![B.into()])]);
    assert_eq!((finder.highest(&person(1)), finder.ignored()), (Some(8), 1));
    finder.remember(at(0), person(2), 100);
    assert_eq!(record(&mut finder, 2, 99, &[A]), [], "of an earlier run");
    // Elsewhere: a record may say so, Kademlia may not.
    let elsewhere = NodeKey::from_seed([9; 32]).node_id();
    let moved = |sequence| Some(Found { sequence, nodes: vec![(elsewhere, addresses(&[A]))] });
    let effects = step(&mut finder, at(0), look(3, &[], &[]));
    let [(Source::Record, record), (Source::Kademlia, kademlia)] = asked(&effects)[..] else { panic!() };
    assert_eq!(told(&step(&mut finder, at(1), answered(kademlia, moved(None)))), []);
    let effects = step(&mut finder, at(1), answered(record, moved(Some(1))));
    assert!(matches!(&effects[..], [FindEffect::Tell { node, .. }] if *node == elsewhere));
}

#[test]
fn what_is_found_is_bounded_and_readable() {
    let mut finder = Finder::new(calm().with_mdns(false), 0);
    let effects = step(&mut finder, at(0), look(1, &["nonsense"], &["nonsense"]));
    assert_eq!(told(&effects), [(Source::Given, vec!["nonsense".into()])], "the app sees its own error");
    let many: Vec<String> = (0..500u16).map(|n| format!("/ip4/203.0.113.1/tcp/{}", n / 2 + 1)).collect();
    let of_other = format!("{A}/p2p/{}", NodeKey::from_seed([9; 32]).node_id());
    let texts: Vec<&str> =
        ["nonsense", &of_other, A, A].into_iter().chain(many.iter().map(String::as_str)).collect();
    let effects = until(&mut finder, at(500));
    let (_, lookup) = asked(&effects.into_iter().map(|(_, e)| e).collect::<Vec<_>>())[1];
    let effects = step(&mut finder, at(501), answered(lookup, found(1, None, &texts)));
    let [(Source::Kademlia, told)] = &told(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((told.len(), told[0].as_str()), (MAX_REACH_ADDRESSES, A));
    // A late answer is nobody's.
    assert_eq!(step(&mut finder, at(502), answered(lookup, found(1, None, &[A]))), []);
    assert_eq!(finder.ignored(), 1);
}

#[test]
fn so_many_are_looked_for_at_a_time() {
    let mut finder = Finder::new(calm().with_mdns(false), 0);
    let mut open = Vec::new();
    for n in 0..MAX_SOUGHT {
        open.extend(asked(&step(&mut finder, at(n as u64), look(u8::try_from(n).unwrap(), &[], &[]))));
    }
    assert_eq!(open.len(), MAX_LOOKUPS);
    let before = format!("{finder:?}");
    assert_eq!(finder.handle(at(99), look(200, &[], &[])), Err(FindRejected::TooMany));
    assert_eq!(format!("{finder:?}"), before);
    // Those who wait have their turn as soon as there is room, in the order of their coming.
    let mut next = Vec::new();
    for (_, lookup) in open.drain(..2) {
        next.extend(step(&mut finder, at(100), answered(lookup, None)));
    }
    let whom = |effect: &FindEffect| match effect {
        FindEffect::Lookup { who, .. } => Some(*who),
        _ => None,
    };
    assert_eq!(next.iter().filter_map(whom).collect::<Vec<_>>(), [person(16), person(16)]);
    assert_eq!(finder.lookups.len(), MAX_LOOKUPS);
}

#[test]
fn so_many_numbers_are_remembered_and_the_oldest_goes() {
    let mut finder = Finder::new(calm(), 0);
    let person = |n: usize| {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        Identity::from_seed(seed).public()
    };
    for n in 0..MAX_REMEMBERED {
        finder.remember(at(n as u64), person(n), 1);
    }
    assert_eq!(finder.highest(&person(0)), Some(1));
    finder.remember(at(1 << 20), person(0), 1);
    finder.remember(at(1 << 20), person(MAX_REMEMBERED), 1);
    finder.check().unwrap();
    assert_eq!(finder.numbers.len(), MAX_REMEMBERED);
    assert_eq!((finder.highest(&person(0)), finder.highest(&person(1))), (Some(1), None), "seen longest ago");
}

fn input() -> impl Strategy<Value = FindInput> {
    let who = (1..5u8).prop_map(person);
    prop_oneof![
        (1..5u8, any::<bool>()).prop_map(|(n, known)| look(n, if known { &[A] } else { &[] }, &[])),
        who.clone().prop_map(|who| FindInput::Stop { who }),
        who.prop_map(|who| FindInput::Missed { who }),
        (0..60u64, 0..5u8, any::<Option<u8>>()).prop_map(|(lookup, n, sequence)| {
            let found = if n == 0 { None } else { found(n, sequence.map(u64::from), &[A, "x"]) };
            answered(LookupId(lookup), found)
        }),
        (1..5u8).prop_map(|n| FindInput::Seen(Seen { node: person(n).into(), addresses: addresses(&[B]) })),
        any::<bool>().prop_map(|a| FindInput::Own {
            addresses: addresses(if a { &[A] } else { &[B] }),
            wall: wall(0)
        }),
        (any::<u32>(), any::<bool>())
            .prop_map(|(sequence, here)| own::seen(sequence.into(), if here { Some(&[A]) } else { None })),
        any::<bool>().prop_map(|stored| FindInput::Published { sequence: 0, stored, jitter: J }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold(
        switches in any::<[bool; 5]>(),
        steps in proptest::collection::vec((0..20_000u64, input()), 1..80),
    ) {
        let [mdns, records, kademlia, publish, relay_only] = switches;
        let config = FindConfig::default().with_mdns(mdns).with_records(records).with_kademlia(kademlia);
        let mut finder = Finder::new(config.with_publish(publish).with_relay_only(relay_only), 0);
        let (mut now, mut sequence) = (at(0), 0);
        let mut lookups = std::collections::BTreeSet::new();
        for (pause, input) in steps {
            now = now + Duration::from_millis(pause);
            let mut effects: Vec<FindEffect> = until(&mut finder, now).into_iter().map(|(_, e)| e).collect();
            effects.extend(step(&mut finder, now, input));
            for effect in effects {
                match effect {
                    FindEffect::Lookup { lookup, .. } => prop_assert!(lookups.insert(lookup), "it returned"),
                    FindEffect::Cancel { lookup } => prop_assert!(lookups.contains(&lookup)),
                    FindEffect::Publish(record) => {
                        prop_assert!(publish && record.sequence > sequence);
                        prop_assert!(!relay_only, "there is no relay");
                        sequence = record.sequence;
                    }
                    FindEffect::Review => prop_assert!(publish && sequence > 0),
                    FindEffect::Tell { addresses, .. } => prop_assert!(!addresses.0.is_empty()),
                }
            }
        }
    }
}
