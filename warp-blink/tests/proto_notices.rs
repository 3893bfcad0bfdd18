//! Calls that were missed because the callee was not there: who is told of them, when, and for how long.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use proto_kit::{
    A, B, Pair, SECOND, SENT_AT, Wire, accept, call_id, first_message, identities, offer, plain,
};
use warp_blink::{
    config::Admission,
    event::{EndReason, Event},
    proto::{
        Command, EffectKind, Input, Notice, TopicRef,
        signal::{HelloKind, Lane},
    },
    time::UnixTime,
};

const DAY: u64 = 24 * 3600;

fn later(seconds: u64) -> UnixTime {
    UnixTime::from_millis(SENT_AT.as_millis() + seconds * 1000)
}

/// A has called B in vain, who was not there.
fn missed() -> Pair {
    let mut pair = plain();
    pair.feed(A, Input::Clock(SENT_AT));
    pair.hold = |_, _| true;
    let call = pair.ring();
    pair.pass(16 * SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::Unreachable, None)), "{call}");
    pair.held.clear();
    pair.pass(10 * SECOND);
    pair.held.clear();
    pair.hold = |_, _| false;
    pair
}

/// B's node listens.
fn seen(pair: &mut Pair) {
    let owner = pair.key(B);
    pair.feed(A, Input::PeerSubscribed(TopicRef::Inbox { owner, lane: Lane::Strangers }));
    pair.run();
}

fn notices(pair: &Pair) -> usize {
    pair.sides[A].machine.notices().count()
}

fn told(pair: &Pair) -> Vec<(EndReason, Option<u64>)> {
    let of = |e: &Event| match e {
        Event::Missed { reason, ago, .. } => Some((*reason, *ago)),
        _ => None,
    };
    pair.sides[B].events.iter().filter_map(of).collect()
}

#[test]
fn whoever_was_not_there_is_told_when_they_are() {
    let mut pair = missed();
    assert_eq!(notices(&pair), 1);
    assert!(pair.sides[A].log.contains(&EffectKind::SaveNotices));
    pair.feed(A, Input::Clock(later(3600)));
    seen(&mut pair);
    pair.pass(SECOND);
    assert_eq!(told(&pair), [(EndReason::Unreachable, Some(3600))]);
    assert_eq!(notices(&pair), 0, "told once");
    let rang = pair.sides[B].events.iter().any(|e| matches!(e, Event::Incoming { .. } | Event::Ended { .. }));
    assert!(!rang, "it rings nobody");
    seen(&mut pair);
    pair.assert_clean();
    assert_eq!(told(&pair).len(), 1);
}

#[test]
fn it_survives_that_every_message_is_lost_at_first() {
    let mut pair = missed();
    pair.hold = |_, _| true;
    seen(&mut pair);
    pair.pass(11 * SECOND);
    pair.held.clear();
    pair.hold = |_, _| false;
    assert_eq!(notices(&pair), 1, "nobody has confirmed it");
    seen(&mut pair);
    pair.pass(2 * SECOND);
    assert_eq!(told(&pair), [], "an attempt a minute, however often the other is seen");
    pair.pass(60 * SECOND);
    seen(&mut pair);
    pair.pass(5 * SECOND);
    assert_eq!(told(&pair).len(), 1);
    assert_eq!(notices(&pair), 0);
    pair.assert_clean();
}

#[test]
fn the_newest_call_is_the_one_that_is_told() {
    let mut pair = missed();
    let to = pair.key(B);
    pair.hold = |_, _| true;
    pair.feed(A, Input::Clock(later(600)));
    pair.ask(A, offer(call_id(2), to)).unwrap();
    pair.pass(30 * SECOND);
    pair.held.clear();
    pair.hold = |_, _| false;
    let all: Vec<Notice> = pair.sides[A].machine.notices().collect();
    assert_eq!(all.iter().map(|n| n.call).collect::<Vec<_>>(), [call_id(2)], "one for each person");
}

#[test]
fn it_is_kept_for_seven_days_and_over_a_restart() {
    let mut pair = missed();
    pair.feed(A, Input::Clock(later(7 * DAY - 60)));
    assert_eq!(notices(&pair), 1);
    let kept: Vec<Notice> = pair.sides[A].machine.notices().collect();
    pair.crash(A, call_id(1));
    assert_eq!(notices(&pair), 0);
    for notice in kept {
        pair.feed(A, Input::Notice(notice));
    }
    assert_eq!(notices(&pair), 1);
    pair.feed(A, Input::Clock(later(7 * DAY + 60)));
    assert_eq!(notices(&pair), 0, "who wants to know after a week");
}

#[test]
fn it_is_withdrawn_when_the_two_talk() {
    let mut pair = missed();
    let to = pair.key(B);
    pair.ask(A, offer(call_id(2), to)).unwrap();
    pair.ask(B, accept(call_id(2))).unwrap();
    pair.pass(SECOND);
    assert_eq!(notices(&pair), 0);
    pair.ask(A, Command::HangUp { call: call_id(2) }).unwrap();
    pair.pass(20 * SECOND);
    seen(&mut pair);
    pair.pass(SECOND);
    assert_eq!(told(&pair), []);
}

#[test]
fn a_call_that_rang_is_not_told_again() {
    let mut pair = plain();
    pair.feed(A, Input::Clock(SENT_AT));
    let call = pair.ring();
    pair.ask(A, Command::Cancel { call }).unwrap();
    assert_eq!(notices(&pair), 0);
    // The answer that would have said so was lost: the callee knows better.
    let mut pair = plain();
    pair.feed(A, Input::Clock(SENT_AT));
    pair.hold = |from, w| from == B && matches!(w, Wire::Welcome(..));
    pair.ring();
    pair.pass(70 * SECOND);
    pair.held.clear();
    pair.hold = |_, _| false;
    assert_eq!(notices(&pair), 1);
    seen(&mut pair);
    pair.pass(5 * SECOND);
    assert_eq!(notices(&pair), 0);
    assert!(told(&pair).len() <= 1);
}

#[test]
fn hostile_notices_are_believed_only_of_those_who_may_ring_and_are_there() {
    let a = identities(2).remove(A);
    let mut pair = plain();
    let mut arrived = first_message(&a, 1, HelloKind::Missed);
    arrived.hello.ring_ms = 60;
    pair.hold = |_, _| true;
    pair.feed(B, Input::Hello(Box::new(arrived.clone())));
    pair.run();
    pair.pass(20 * SECOND);
    assert_eq!(told(&pair), [], "a replay never confirms");
    pair.held.clear();
    pair.ask(B, Command::SetAdmission(Admission::Contacts)).unwrap();
    let effects = pair.feed(B, Input::Hello(Box::new(arrived.clone())));
    assert!(effects.is_empty());
    pair.ask(B, Command::SetAdmission(Admission::Everyone)).unwrap();
    arrived.hello.ring_ms = (8 * DAY) as u32;
    arrived.hello.call = call_id(3);
    assert!(pair.feed(B, Input::Hello(Box::new(arrived))).is_empty(), "older than any notice");
}
