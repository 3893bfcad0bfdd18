//! The own record.

use super::*;

#[test]
fn the_own_record_is_published_when_addresses_change_and_at_half_of_its_life() {
    let mut finder = Finder::new(calm(), 5);
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
    let hour = Duration::from_secs(3600);
    assert_eq!(finder.next_timeout(), Some(at(67_000) + hour), "and then from time to time");
    // A node that is asked and has come back may have forgotten it.
    let node = NodeKey::from_seed([1; 32]).node_id();
    step(&mut finder, at(80_000), FindInput::Through { node, place: Place::Public });
    assert_eq!(until(&mut finder, at(85_000)), [(at(85_000), FindEffect::Review)]);
    let again = at(85_000) + hour;
    assert_eq!(until(&mut finder, again), [(again, FindEffect::Review)]);
    let renewed = published(&until(&mut finder, half));
    assert_eq!(renewed.len(), 1);
    assert!(renewed[0].1.sequence > record.sequence);
    step(&mut finder, half, stored());
    step(&mut finder, half + Duration::from_secs(1), own(&[B], 0));
    assert_eq!(finder.next_timeout(), Some(half + Duration::from_secs(6)));
    // And back: there is nothing to say.
    step(&mut finder, half + Duration::from_secs(2), own(&[A, B], 0));
    assert_eq!(published(&until(&mut finder, half + Duration::from_secs(3600))), []);
    assert_eq!(published(&until(&mut finder, half + Duration::from_secs(3 * 3600 - 1))), []);
    assert_eq!(published(&until(&mut finder, half + Duration::from_secs(3 * 3600))).len(), 1);
}

/// What an app is told: a phone that says where it is before anybody has stored it, or that says so of an address that is gone, is called in vain.
#[test]
fn who_is_called_by_key_alone_is_told_whether_that_works() {
    let mut finder = Finder::new(calm(), 0);
    let own = |texts: &[&str]| FindInput::Own { addresses: addresses(texts), wall: wall(0) };
    let end = |stored| FindInput::Published { sequence: 0, stored, jitter: J };
    assert_eq!(finder.findable(), Findable::Hidden);
    step(&mut finder, at(0), own(&["/ip4/127.0.0.1/tcp/1"]));
    assert_eq!(finder.findable(), Findable::Hidden, "nobody is told that");
    step(&mut finder, at(0), own(&[A]));
    until(&mut finder, at(5000));
    assert_eq!(finder.findable(), Findable::Publishing);
    step(&mut finder, at(5000), end(false));
    assert_eq!(finder.findable(), Findable::NotStored);
    until(&mut finder, at(15_000));
    assert_eq!(finder.findable(), Findable::NotStored, "until it is");
    step(&mut finder, at(15_000), end(true));
    assert_eq!(finder.findable(), Findable::Published);
    // It moves, and while that is being said it moves on.
    step(&mut finder, at(20_000), own(&[B]));
    assert_eq!(finder.findable(), Findable::Publishing);
    until(&mut finder, at(25_000));
    step(&mut finder, at(25_000), own(&[A, B]));
    step(&mut finder, at(25_000), end(true));
    assert_eq!(finder.findable(), Findable::Publishing);
    until(&mut finder, at(30_000));
    step(&mut finder, at(30_000), end(true));
    assert_eq!(finder.findable(), Findable::Published);
    // Another device drives it out.
    step(&mut finder, at(31_000), seen(u64::MAX / 2, None));
    assert_eq!(finder.findable(), Findable::Publishing);
    // It is there again as soon as somebody has taken it, and not only when that was looked after.
    let again = finder.next_timeout().unwrap();
    until(&mut finder, again);
    step(&mut finder, again, end(true));
    assert_eq!(finder.findable(), Findable::Published);
    step(&mut finder, again, seen(u64::MAX / 2 + 9, None));
    assert_eq!(finder.findable(), Findable::Publishing);
    step(&mut finder, again, own(&[]));
    assert_eq!(finder.findable(), Findable::Hidden);
}

#[test]
fn addresses_that_are_gone_are_named_in_no_further_record() {
    let mut finder = Finder::new(calm(), 5);
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
fn who_has_just_started_can_be_found_a_second_later_and_a_network_that_flaps_costs_six_records() {
    let mut finder = Finder::new(FindConfig::default(), 0);
    let mut records = Vec::new();
    for n in 0..40_u64 {
        let address = format!("/ip4/192.0.2.{}/tcp/1", n + 1);
        let own = FindInput::Own { addresses: addresses(&[&address]), wall: wall(0) };
        step(&mut finder, at(1500 * n), own);
        for (when, _) in published(&until(&mut finder, at(1500 * n + 1499))) {
            records.push(when);
            step(&mut finder, when, FindInput::Published { sequence: 0, stored: true, jitter: J });
        }
    }
    assert_eq!(records[..3], [at(250), at(2500), at(4000)]);
    // One minute has passed: six at once, and then six in each half of it.
    assert!(records.windows(7).all(|seven| seven[6] - seven[0] >= Duration::from_secs(30)), "{records:?}");
    assert!((11..=13).contains(&records.len()), "{records:?}");
}

#[test]
fn a_record_that_nobody_stored_is_tried_again() {
    let mut finder = Finder::new(calm(), 0);
    let input = FindInput::Own { addresses: addresses(&[A]), wall: wall(0) };
    step(&mut finder, at(0), input);
    let (mut pauses, mut last) = (Vec::new(), at(0));
    for _ in 0..7 {
        let due = finder.next_timeout().unwrap();
        assert_eq!(published(&until(&mut finder, due)).len(), 1);
        assert_eq!(finder.next_timeout(), None, "one at a time");
        step(&mut finder, due, FindInput::Published { sequence: 0, stored: false, jitter: J });
        pauses.push((finder.next_timeout().unwrap() - due).as_secs());
        last = due;
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
    // Somebody is back who may store it.
    let now = last + Duration::from_secs(100);
    let node = NodeKey::from_seed([1; 32]).node_id();
    step(&mut finder, now, FindInput::Through { node, place: Place::Public });
    assert_eq!(finder.next_timeout(), Some(now + Duration::from_secs(5)));
}

pub(super) fn seen(sequence: u64, here: Option<&[&str]>) -> FindInput {
    FindInput::OwnSeen { seen: OwnSeen { sequence, here: here.map(addresses) }, jitter: J }
}

#[test]
fn a_record_that_another_device_has_put_in_its_place_is_mended() {
    let mut finder = Finder::new(calm(), 0);
    let stored = |sequence| FindInput::Published { sequence, stored: true, jitter: J };
    step(&mut finder, at(0), FindInput::Own { addresses: addresses(&[A]), wall: wall(0) });
    assert_eq!(published(&until(&mut finder, at(5000))).len(), 1);
    let number = wall(5000).as_millis() + 7;
    step(&mut finder, at(6000), stored(number));
    assert_eq!(until(&mut finder, at(66_000)), [(at(66_000), FindEffect::Review)]);
    step(&mut finder, at(66_100), seen(number, Some(&[A])));
    let later = at(66_000) + Duration::from_secs(3600);
    assert_eq!(finder.next_timeout(), Some(later), "it is there");
    // Nobody has it any more.
    assert_eq!(until(&mut finder, later), [(later, FindEffect::Review)]);
    step(&mut finder, later, seen(0, None));
    let [(when, _)] = &published(&until(&mut finder, later + Duration::from_secs(60)))[..] else { panic!() };
    assert_eq!((*when - later).as_secs(), 30);
    step(&mut finder, *when, stored(number));
    let soon = *when + Duration::from_secs(60);
    assert_eq!(until(&mut finder, soon), [(soon, FindEffect::Review)]);
    step(&mut finder, soon, seen(number, Some(&[A])));
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
    let mut finder = Finder::new(calm(), wall(1 << 40).as_millis());
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
    let mut end = Finder::new(calm(), u64::MAX);
    step(&mut end, at(0), FindInput::Own { addresses: addresses(&[A]), wall: wall(0) });
    until(&mut end, at(5000));
    assert_eq!(end.own_sequence(), u64::MAX);
}

#[test]
fn addresses_of_the_house_are_told_where_those_who_are_asked_are_in_it() {
    let mut finder = Finder::new(calm(), 0);
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
