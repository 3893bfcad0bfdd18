use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
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
    let mut finder = Finder::new(FindConfig::default(), 0);
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
    let mut finder = Finder::new(FindConfig::default(), 0);
    let sources: Vec<Source> =
        asked(&step(&mut finder, at(0), look(1, &[], &[]))).iter().map(|a| a.0).collect();
    assert_eq!(sources, [Source::Mdns, Source::Record, Source::Kademlia]);
    let mut finder = Finder::new(FindConfig::default(), 0);
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
    let mut finder = Finder::new(FindConfig::default().with_mdns(false), 0);
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
    let mut finder = Finder::new(FindConfig::default().with_mdns(false), 0);
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
    let mut finder = Finder::new(FindConfig::default().with_mdns(false), 0);
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
    let mut finder = Finder::new(FindConfig::default().with_mdns(false), 0);
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
    let mut finder = Finder::new(FindConfig::default(), 0);
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

#[test]
fn the_own_record_is_published_when_addresses_change_and_at_half_of_its_life() {
    let mut finder = Finder::new(FindConfig::default(), 5);
    let own = |texts: &[&str], ms| FindInput::Own { addresses: addresses(texts), wall: wall(ms) };
    let stored = || FindInput::Published { sequence: 0, stored: true, jitter: J };
    assert_eq!(step(&mut finder, at(0), own(&[A, "/ip4/192.168.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1"], 0)), []);
    step(&mut finder, at(1000), own(&[B, A], 1000));
    let all = until(&mut finder, at(60_000));
    let [(when, record)] = &published(&all)[..] else { panic!("{all:?}") };
    assert_eq!(*when, at(6000), "5 s after the last change");
    assert_eq!(record.addresses, addresses(&[A, B]), "nothing of the own house");
    assert_eq!(record.expires.as_millis(), wall(6000).as_millis() + 6 * 3_600_000);
    assert_eq!(record.sequence, wall(6000).as_millis());
    step(&mut finder, at(7000), stored());
    // The same again, in another order, is no news, and no more is what was there a moment ago.
    step(&mut finder, at(8000), own(&[A, B], 8000));
    step(&mut finder, at(8000), own(&[], 8000));
    step(&mut finder, at(9000), own(&[A, B], 9000));
    let half = at(6000) + Duration::from_secs(3 * 3600);
    assert_eq!(finder.next_timeout(), Some(at(67_000)), "it is looked for soon");
    assert_eq!(until(&mut finder, at(67_000)), [(at(67_000), FindEffect::Review)]);
    let quarter = Duration::from_secs(15 * 60);
    assert_eq!(finder.next_timeout(), Some(at(67_000) + quarter), "and then from time to time");
    // A node that is asked and has come back may have forgotten it.
    let node = NodeKey::from_seed([1; 32]).node_id();
    step(&mut finder, at(80_000), FindInput::Through { node, place: Place::Public });
    assert_eq!(until(&mut finder, at(85_000)), [(at(85_000), FindEffect::Review)]);
    let again = at(85_000) + quarter;
    assert_eq!(until(&mut finder, again), [(again, FindEffect::Review)]);
    let renewed = published(&until(&mut finder, half));
    assert_eq!(renewed.len(), 1);
    assert!(renewed[0].1.sequence > record.sequence);
    step(&mut finder, half, stored());
    // A change soon after waits for 30 s to be over.
    step(&mut finder, half + Duration::from_secs(1), own(&[B], 0));
    assert_eq!(finder.next_timeout(), Some(half + Duration::from_secs(30)));
    // And back: there is nothing to say.
    step(&mut finder, half + Duration::from_secs(2), own(&[A, B], 0));
    assert_eq!(published(&until(&mut finder, half + Duration::from_secs(3600))), []);
    assert_eq!(published(&until(&mut finder, half + Duration::from_secs(3 * 3600 - 1))), []);
    assert_eq!(published(&until(&mut finder, half + Duration::from_secs(3 * 3600))).len(), 1);
}

#[test]
fn addresses_that_are_gone_are_named_in_no_further_record() {
    let mut finder = Finder::new(FindConfig::default(), 5);
    let own = |texts: &[&str], ms| FindInput::Own { addresses: addresses(texts), wall: wall(ms) };
    step(&mut finder, at(0), own(&[A], 0));
    assert_eq!(published(&until(&mut finder, at(60_000))).len(), 1);
    step(&mut finder, at(60_000), FindInput::Published { sequence: 0, stored: true, jitter: J });
    step(&mut finder, at(61_000), own(&[], 61_000));
    // Nor if somebody else has driven the last one out, or one that was under way fails.
    let seen = OwnSeen { sequence: u64::MAX / 2, here: None };
    step(&mut finder, at(62_000), FindInput::OwnSeen { seen, jitter: J });
    step(&mut finder, at(62_000), FindInput::Published { sequence: 0, stored: false, jitter: J });
    assert_eq!(published(&until(&mut finder, at(24 * 3_600_000))), []);
    // The next one comes after the last number that was seen.
    let next = at(24 * 3_600_000);
    step(&mut finder, next, own(&[B], 24 * 3_600_000));
    let all = published(&until(&mut finder, next + Duration::from_secs(60)));
    let [(_, record)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((&record.addresses, record.sequence), (&addresses(&[B]), u64::MAX / 2 + 1));
}

#[test]
fn a_record_that_nobody_stored_is_tried_again() {
    let mut finder = Finder::new(FindConfig::default(), 0);
    let input = FindInput::Own { addresses: addresses(&[A]), wall: wall(0) };
    step(&mut finder, at(0), input);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let due = finder.next_timeout().unwrap();
        assert_eq!(published(&until(&mut finder, due)).len(), 1);
        assert_eq!(finder.next_timeout(), None, "one at a time");
        step(&mut finder, due, FindInput::Published { sequence: 0, stored: false, jitter: J });
        pauses.push((finder.next_timeout().unwrap() - due).as_secs());
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
}

fn seen(sequence: u64, here: Option<&[&str]>) -> FindInput {
    FindInput::OwnSeen { seen: OwnSeen { sequence, here: here.map(addresses) }, jitter: J }
}

#[test]
fn a_record_that_another_device_has_put_in_its_place_is_mended() {
    let mut finder = Finder::new(FindConfig::default(), 0);
    let stored = |sequence| FindInput::Published { sequence, stored: true, jitter: J };
    step(&mut finder, at(0), FindInput::Own { addresses: addresses(&[A]), wall: wall(0) });
    assert_eq!(published(&until(&mut finder, at(5000))).len(), 1);
    let number = wall(5000).as_millis() + 7;
    step(&mut finder, at(6000), stored(number));
    assert_eq!(until(&mut finder, at(66_000)), [(at(66_000), FindEffect::Review)]);
    step(&mut finder, at(66_100), seen(number, Some(&[A])));
    let later = at(66_000) + Duration::from_secs(15 * 60);
    assert_eq!(finder.next_timeout(), Some(later), "it is there");
    // Nobody has it any more.
    assert_eq!(until(&mut finder, later), [(later, FindEffect::Review)]);
    step(&mut finder, later, seen(0, None));
    let [(when, _)] = &published(&until(&mut finder, later + Duration::from_secs(60)))[..] else { panic!() };
    assert_eq!((*when - later).as_secs(), 30);
    step(&mut finder, *when, stored(number));
    step(&mut finder, *when + Duration::from_secs(60), seen(number, Some(&[A])));
    let mut pauses = Vec::new();
    let mut now = later + Duration::from_secs(120);
    for (count, here) in [None, Some(&[B][..]), None, None, None, None].into_iter().enumerate() {
        step(&mut finder, now, seen(number + 100 * (count as u64 + 1), here));
        let due = finder.next_timeout().unwrap();
        pauses.push((due - now).as_secs());
        let [(_, record)] = &published(&until(&mut finder, due))[..] else { panic!("{count}") };
        assert!(record.sequence > number + 100 * (count as u64 + 1));
        step(&mut finder, due, stored(record.sequence));
        now = finder.next_timeout().unwrap();
        assert_eq!(until(&mut finder, now), [(now, FindEffect::Review)]);
    }
    assert_eq!(
        pauses,
        [30, 60, 120, 240, 300, 300],
        "two that drive each other out do not do so at full speed"
    );
    // What comes while one is being stored says nothing of that one.
    step(&mut finder, now, FindInput::Own { addresses: addresses(&[B]), wall: wall(0) });
    let due = finder.next_timeout().unwrap();
    assert_eq!(published(&until(&mut finder, due)).len(), 1);
    step(&mut finder, due, seen(number, None));
    step(&mut finder, due, stored(0));
    assert_eq!(finder.next_timeout(), Some(due + Duration::from_secs(60)), "to look, not to publish");
}

#[test]
fn an_own_record_names_other_devices_as_long_as_what_they_said_holds() {
    let node = |n: u8| NodeKey::from_seed([n; 32]).node_id();
    let device = |n, ms| Device { node: node(n), until: wall(ms), addresses: addresses(&[A]) };
    let own = |sequence| OwnRecord {
        sequence,
        expires: wall(1000),
        addresses: addresses(&[B]),
        others: Vec::new(),
    };
    let stored = vec![device(0, 900), device(1, 101), device(2, 100), device(3, 99)];
    let beside = own(7).beside(node(0), wall(100), 5, stored.clone());
    assert_eq!((beside.sequence, beside.others), (7, vec![device(1, 101)]), "not this one, nor what is over");
    assert_eq!(own(7).beside(node(0), wall(100), 7, Vec::new()).sequence, 8);
    assert_eq!(own(7).beside(node(0), wall(100), u64::MAX, Vec::new()).sequence, u64::MAX);
    let many = (1..9).map(|n| device(n, 200 * u64::from(n))).collect();
    let kept = own(7).beside(node(0), wall(100), 5, many).others;
    let mut last = [5, 6, 7, 8].map(|n| device(n, 1000));
    last.sort_by_key(|device| std::cmp::Reverse(device.node));
    assert_eq!(kept, last[..3], "three of those that hold longest, and none for longer than this record");
}

#[test]
fn numbers_rise_whatever_the_clock_says() {
    let mut finder = Finder::new(FindConfig::default(), wall(1 << 40).as_millis());
    let before = finder.own_sequence();
    step(&mut finder, at(0), FindInput::Own { addresses: addresses(&[A]), wall: wall(0) });
    until(&mut finder, at(5000));
    assert_eq!(finder.own_sequence(), before + 1, "the clock was set back");
    // Another device, or a run whose store is lost, was further.
    step(&mut finder, at(6000), seen(before + 50, None));
    step(&mut finder, at(6000), seen(3, None));
    step(&mut finder, at(6000), FindInput::Published { sequence: before + 50, stored: true, jitter: J });
    step(&mut finder, at(6000), FindInput::Own { addresses: addresses(&[B]), wall: wall(0) });
    until(&mut finder, at(60_000));
    assert_eq!(finder.own_sequence(), before + 51);
    let mut end = Finder::new(FindConfig::default(), u64::MAX);
    step(&mut end, at(0), FindInput::Own { addresses: addresses(&[A]), wall: wall(0) });
    until(&mut end, at(5000));
    assert_eq!(end.own_sequence(), u64::MAX);
}

#[test]
fn addresses_of_the_house_are_told_where_those_who_are_asked_are_in_it() {
    let mut finder = Finder::new(FindConfig::default(), 0);
    let (house, machine) = ("/ip4/192.168.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1");
    let own = |ms| FindInput::Own { addresses: addresses(&[A, house, machine]), wall: wall(ms) };
    let says = |finder: &mut Finder, ms| {
        step(finder, at(ms), own(ms));
        let all = published(&until(finder, at(ms + 40_000)));
        step(finder, at(ms + 40_000), FindInput::Published { sequence: 0, stored: true, jitter: J });
        all.last().map(|(_, record)| record.addresses.clone())
    };
    assert_eq!(says(&mut finder, 0), Some(addresses(&[A])));
    let through = |n: u8, place| FindInput::Through { node: NodeKey::from_seed([n; 32]).node_id(), place };
    step(&mut finder, at(50_000), through(1, Place::Private));
    assert_eq!(says(&mut finder, 50_000), Some(addresses(&[house, A])));
    // One on this machine opens no more, as long as one in the house gets the record as well.
    step(&mut finder, at(100_000), through(2, Place::Loopback));
    assert_eq!(says(&mut finder, 100_000), None);
    // The first is on this machine too, as it turns out.
    step(&mut finder, at(150_000), through(1, Place::Loopback));
    assert_eq!(says(&mut finder, 150_000), Some(addresses(&[machine, house, A])));
    // What is stored far away says nothing of the house.
    step(&mut finder, at(200_000), through(3, Place::Public));
    assert_eq!(says(&mut finder, 200_000), Some(addresses(&[A])));
    step(&mut finder, at(250_000), through(1, Place::Private));
    assert_eq!(says(&mut finder, 250_000), None);
}

#[test]
fn a_machine_with_many_addresses_names_its_relays_all_the_same() {
    let relay = NodeKey::from_seed([2; 32]).node_id();
    let straight = (1..=12).map(|n| format!("/ip6/2001:db8::{n}/tcp/1"));
    let behind = (1..=6).map(|n| format!("/ip4/198.51.100.{n}/tcp/1/p2p/{relay}/p2p-circuit"));
    let named = |own: Vec<String>| {
        let all = FindConfig::default().publishable(&Addresses(own));
        (all.len(), all.iter().filter(|text| text.ends_with("/p2p-circuit")).count())
    };
    assert_eq!(named(straight.clone().chain(behind.clone()).collect()), (8, 4));
    assert_eq!(named(straight.clone().chain(behind.clone().take(1)).collect()), (8, 1));
    assert_eq!(named(straight.clone().take(3).chain(behind.clone()).collect()), (8, 5));
    assert_eq!((named(straight.collect()), named(behind.collect())), ((8, 0), (6, 6)));
}

#[test]
fn under_relay_only_the_record_names_relays_only() {
    let relay = NodeKey::from_seed([2; 32]).node_id();
    let through = |ip: &str| format!("/ip4/{ip}/tcp/1/p2p/{relay}/p2p-circuit");
    let (outside, inside) = (through("198.51.100.1"), through("192.168.0.2"));
    let own = addresses(&[A, &outside, &inside, "/dns4/example.org/tcp/1"]);
    let publishable = |relay_only| FindConfig::default().with_relay_only(relay_only).publishable(&own);
    assert_eq!(publishable(true), std::slice::from_ref(&outside));
    assert_eq!(publishable(false), [A, "/dns4/example.org/tcp/1", &outside]);
    let many: Vec<String> = (0..50).map(|n| format!("/ip4/203.0.113.{n}/tcp/1")).collect();
    assert_eq!(FindConfig::default().publishable(&Addresses(many)).len(), config::MAX_PUBLISHED);
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
            .prop_map(|(sequence, here)| seen(sequence.into(), if here { Some(&[A]) } else { None })),
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
