//! What a review found: ways to be told nothing, to be told again, to grow without bound. Two machines.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use std::time::Duration;

use proto_kit::{
    A, B, Pair, SECOND, Wire, befriend, call_id, contacts, first_message, identities, offer, packet, plain,
    reject_when_busy, rings, said, wall,
};
use warp_blink::{
    config::{Admission, Config},
    event::EndReason,
    id::Identity,
    proto::{
        Command, EffectKind, Input, SessionNo,
        signal::{AppData, Body, HelloKind},
    },
};

#[test]
fn a_busy_callee_tells_a_contact_before_it_has_confirmed() {
    let mut pair = Pair::new(Config::default(), reject_when_busy());
    befriend(&mut pair);
    pair.hold = |from, _| from == B;
    let to = Identity::from_seed([99; 32]).public();
    pair.ask(B, offer(call_id(9), to)).unwrap();
    pair.hold = |from, w| from == B && w.is_hello(HelloKind::Offer);
    pair.ring();
    pair.pass(5 * SECOND);
    pair.pass(60 * SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::Busy, Some(B))));
}

#[test]
fn what_is_accepted_and_hung_up_before_the_confirmation_is_told() {
    let mut pair = contacts();
    pair.hold = |from, w| from == A && matches!(w, Wire::Packet(..));
    let call = pair.ring();
    pair.ask(B, proto_kit::accept(call)).unwrap();
    pair.ask(B, Command::HangUp { call }).unwrap();
    pair.release_all();
    pair.pass(5 * SECOND);
    pair.pass(60 * SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(B))));
}

#[test]
fn hostile_removed_contact_who_acknowledges_nothing_does_not_get_the_new_token() {
    let mut pair = contacts();
    let call = pair.ring();
    pair.hold = |from, _| from == A; // A never acknowledges
    pair.ask(B, proto_kit::accept(call)).unwrap();
    pair.pass(SECOND);
    let a = pair.key(A);
    pair.ask(B, Command::RemoveContact(a)).unwrap();
    let log = &pair.sides[B].log;
    let rotated = log.iter().rposition(|e| *e == EffectKind::NewToken).unwrap();
    pair.pass(5 * SECOND);
    let after = pair.sides[B].log[rotated..].iter().filter_map(said);
    let after = after.filter(|(to, _, packet)| *to == a && packet.body == Body::Token);
    assert_eq!(after.count(), 0, "tokens sent to the removed contact after the rotation");
}

#[test]
fn hostile_replay_of_what_rang_when_confirmed_does_not_ring_after_a_restart() {
    let a = identities(2).remove(A);
    let mut pair = contacts();
    let mut first = first_message(&a, 1, HelloKind::Offer);
    first.wall = wall(-360_000); // A's clock is 6 minutes ahead
    pair.feed(B, Input::Hello(Box::new(first.clone())));
    pair.run();
    assert!(!rings(&pair));
    pair.feed(
        B,
        Input::Packet { from: a.public(), session: SessionNo(1), packet: packet(1, 1, Body::Confirm) },
    );
    assert!(rings(&pair));
    let kept = pair.sides[B].machine.memory().clone();
    // Restart; two minutes later the same bytes again.
    let mut pair = contacts();
    pair.sides[B].machine = pair.sides[B].machine.clone().with_memory(kept);
    first.wall = wall(-240_000);
    pair.feed(B, Input::Hello(Box::new(first)));
    pair.run();
    assert!(!rings(&pair), "a replay rings");
}

#[test]
fn a_withdrawal_needs_no_admission_of_its_own() {
    let mut config = Config::default();
    config.admission = Admission::Ask;
    let mut pair = Pair::new(Config::default(), config);
    befriend(&mut pair);
    let a = identities(2).remove(A);
    let mut first = first_message(&a, 1, HelloKind::Offer);
    first.hello.app_data = AppData::new(*b"invite 7").unwrap();
    first.verdict = Some(true);
    pair.feed(B, Input::Hello(Box::new(first)));
    pair.run();
    assert!(rings(&pair));
    let mut cancel = first_message(&a, 1, HelloKind::Cancel);
    cancel.verdict = Some(false); // the callback looks for an invitation, and a cancel has no app data
    pair.feed(B, Input::Hello(Box::new(cancel)));
    pair.run();
    assert!(!rings(&pair), "it still rings");
}

#[test]
fn hostile_sessions_that_nobody_confirms_are_bounded() {
    let mut pair = plain();
    pair.connected();
    let b = identities(2).remove(B);
    let from = pair.sides[A].log.len();
    for _ in 0..1000 {
        pair.feed(A, Input::Hello(Box::new(first_message(&b, 1, HelloKind::Resume))));
        pair.run();
    }
    let log = &pair.sides[A].log[from..];
    let made = log.iter().filter(|e| matches!(e, EffectKind::SendWelcome { .. })).count();
    let dropped = log.iter().filter(|e| matches!(e, EffectKind::DropSession { .. })).count();
    assert!(made - dropped <= 2, "{made} sessions made, {dropped} dropped");
}

#[test]
fn hostile_incompatible_offers_are_told_once_in_ten_seconds() {
    let mut pair = plain();
    for n in 0..200u8 {
        let mut arrived = first_message(&Identity::from_seed([n.wrapping_add(50); 32]), n, HelloKind::Offer);
        arrived.hello.versions = vec![9];
        pair.feed(B, Input::Hello(Box::new(arrived)));
        pair.pass(Duration::from_millis(50));
    }
    let told = pair.events(B).len();
    assert!((1..=2).contains(&told), "{told} of 200 within 10 s");
}

#[test]
fn hostile_neighbour_that_subscribes_again_and_again_gets_few_announces() {
    let mut pair = plain();
    let call = pair.connected();
    let from = pair.sides[A].log.len();
    let topic = pair.call_topic(A, call);
    for _ in 0..1000 {
        pair.feed(A, Input::PeerSubscribed(topic));
    }
    let said = pair.sides[A].log[from..].iter().filter(|e| matches!(e, EffectKind::SendCall { .. })).count();
    assert!(said <= 1, "{said} announces in one instant");
}
