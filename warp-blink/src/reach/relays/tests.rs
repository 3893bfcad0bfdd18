use super::*;
use crate::id::NodeKey;

fn node(n: u8) -> NodeId {
    NodeKey::from_seed([n; 32]).node_id()
}

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

const LATE: Jitter = Jitter(u16::MAX);

fn asked(relays: &mut Relays, now: Instant) -> Vec<RelayEffect> {
    relays.on_time(now, LATE)
}

#[test]
fn a_named_relay_is_asked_at_once_and_again_after_growing_pauses() {
    let mut relays = Relays::default();
    assert!(relays.name(at(0), node(1)));
    assert_eq!(relays.due(), Some(at(0)));
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(asked(&mut relays, now), [RelayEffect::Ask(node(1))]);
        assert_eq!(asked(&mut relays, now), [], "once");
        relays.lost(now, &node(1), LATE);
        let due = relays.due().unwrap();
        pauses.push(due.since(now).as_secs());
        now = due;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    relays.lost(now, &node(1), LATE);
    assert_eq!(relays.due(), Some(now), "nobody has asked since");
}

#[test]
fn a_relay_that_connects_is_asked_without_a_pause() {
    let mut relays = Relays::default();
    relays.name(at(0), node(1));
    asked(&mut relays, at(0));
    relays.lost(at(0), &node(1), LATE);
    relays.connected(at(300), &node(1));
    assert_eq!(relays.due(), Some(at(300)));
    assert_eq!(asked(&mut relays, at(300)), [RelayEffect::Ask(node(1))]);
    relays.connected(at(400), &node(1));
    assert_eq!(asked(&mut relays, at(400)), [], "it is being asked");
}

#[test]
fn a_place_that_is_lost_is_asked_for_again_within_a_second_and_not_by_all_at_once() {
    for (jitter, pause) in [(0, 0), (u16::MAX / 2, 499), (u16::MAX, 1000)] {
        let mut relays = Relays::default();
        relays.name(at(0), node(1));
        asked(&mut relays, at(0));
        relays.kept(&node(1));
        assert_eq!(relays.due(), None);
        relays.lost(at(5000), &node(1), Jitter(jitter));
        assert_eq!(relays.due().unwrap().since(at(5000)).as_millis(), pause);
    }
}

#[test]
fn a_request_that_nobody_answers_ends() {
    let mut relays = Relays::default();
    relays.name(at(0), node(1));
    asked(&mut relays, at(0));
    assert_eq!(relays.due(), Some(at(0) + ASKING));
    assert_eq!(asked(&mut relays, at(0) + ASKING), [RelayEffect::GiveUp(node(1))]);
    assert_eq!(relays.due(), Some(at(0) + ASKING + FIRST));
}

#[test]
fn of_those_that_nobody_named_two_are_asked_and_a_refusal_makes_room_for_another() {
    let mut relays = Relays::default();
    for n in 1..=4 {
        assert!(relays.offer(at(0), node(n)));
    }
    let first = asked(&mut relays, at(0));
    assert_eq!(first.len(), OFFERED);
    let RelayEffect::Ask(one) = first[0] else { panic!("{first:?}") };
    relays.kept(&one);
    let RelayEffect::Ask(two) = first[1] else { panic!("{first:?}") };
    relays.lost(at(0), &two, LATE);
    let then = asked(&mut relays, at(0));
    assert_eq!(then.len(), 1);
    assert!(!first.contains(&then[0]));
}

#[test]
fn who_is_reached_straight_keeps_only_the_places_that_were_asked_for_by_name() {
    let mut relays = Relays::default();
    relays.name(at(0), node(1));
    relays.offer(at(0), node(2));
    assert_eq!(asked(&mut relays, at(0)).len(), 2);
    relays.kept(&node(1));
    relays.kept(&node(2));
    assert_eq!(relays.public(at(1), true), [RelayEffect::GiveUp(node(2))]);
    // Told once more, and lost as the listener ends.
    relays.lost(at(1), &node(2), LATE);
    assert_eq!((relays.public(at(1), true), relays.due()), (Vec::new(), None));
    relays.public(at(2), false);
    assert_eq!(asked(&mut relays, at(2)), [RelayEffect::Ask(node(2))]);
}

#[test]
fn relays_are_bounded_and_a_name_stays_a_name() {
    let mut relays = Relays::default();
    let added = (0..20).filter(|n| relays.offer(at(0), node(*n))).count();
    assert_eq!(added, MAX_RELAYS);
    assert!(relays.name(at(0), node(0)) && relays.knows(&node(0)) && !relays.knows(&node(19)));
    relays.public(at(0), true);
    assert_eq!(asked(&mut relays, at(0)), [RelayEffect::Ask(node(0))], "only this one has a name");
    relays.kept(&node(99));
    relays.lost(at(0), &node(99), LATE);
}
