//! Asking a friend for a place on its TURN server: who is given one, in what session, and that no call comes of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use proto_kit::{A, B, Pair, SECOND, accept, both, call_id, offer, plain};
use warp_blink::{
    Config, TurnFor,
    error::Rejected,
    proto::{
        Command, EffectKind,
        signal::{Body, HelloKind},
    },
};

/// B serves whom its configuration names; A asks it.
fn serving(turn_for: TurnFor) -> Pair {
    let mut config = Config::default();
    config.turn_for = turn_for;
    Pair::new(Config::default(), config)
}

fn ask(pair: &mut Pair, n: u8) {
    let friend = pair.key(B);
    pair.ask(A, Command::AskTurn { call: call_id(n), friend }).unwrap();
    pair.run();
}

fn given(pair: &Pair) -> usize {
    pair.sides[A].log.iter().filter(|e| matches!(e, EffectKind::KeepTurn { .. })).count()
}

fn answers(pair: &Pair) -> usize {
    let turn = |e: &&EffectKind| matches!(e, EffectKind::Send { packet, .. } if packet.body == Body::Turn);
    pair.sides[B].log.iter().filter(turn).count()
}

#[test]
fn whom_the_friend_names_is_given_a_place_and_the_session_ends() {
    let named = TurnFor::Only([plain().key(A)].into());
    let mut pair = serving(named);
    ask(&mut pair, 1);
    pair.pass(SECOND);
    assert_eq!((given(&pair), answers(&pair)), (1, 1));
    pair.pass(10 * SECOND);
    pair.assert_clean();
    for side in &pair.sides {
        assert!(side.events.is_empty(), "the app hears nothing of it: {:?}", side.events);
    }
    ask(&mut pair, 2);
    pair.pass(SECOND);
    assert_eq!(given(&pair), 2, "and again");
}

#[test]
fn whom_nobody_vouches_for_hears_nothing() {
    let other = plain().key(B);
    for turn_for in [TurnFor::Nobody, TurnFor::Contacts, TurnFor::Only([other].into())] {
        let mut pair = serving(turn_for.clone());
        ask(&mut pair, 1);
        pair.pass(20 * SECOND);
        assert_eq!((given(&pair), answers(&pair)), (0, 0), "{turn_for:?}");
        assert!(pair.sides[B].machine.snapshot().statistics.counters.refused.admission > 0);
        let said = pair.sides[B].log.iter().any(|e| matches!(e, EffectKind::SendWelcome { .. }));
        assert!(!said, "it looks offline");
        pair.assert_clean();
    }
    let contact = serving(TurnFor::Contacts);
    let (mut pair, key) = (contact, plain().key(A));
    pair.ask(B, Command::AddContact(key)).unwrap();
    ask(&mut pair, 1);
    pair.pass(SECOND);
    assert_eq!(given(&pair), 1);
    pair.ask(B, Command::Block(key)).unwrap();
    ask(&mut pair, 2);
    pair.pass(20 * SECOND);
    assert_eq!(given(&pair), 1, "blocked");
}

/// An asking that is replayed, or whose sender is gone, is answered with a second message, and with nothing that is worth anything.
#[test]
fn without_confirmation_nothing_is_given() {
    let mut pair = serving(TurnFor::Only([plain().key(A)].into()));
    pair.hold = |from, wire| from == A && wire.body() == Some(&Body::Confirm);
    ask(&mut pair, 1);
    pair.pass(20 * SECOND);
    assert_eq!((given(&pair), answers(&pair)), (0, 0));
    pair.held.clear();
    pair.assert_clean();
}

#[test]
fn it_survives_that_each_message_is_lost_at_first() {
    let mut pair = serving(TurnFor::Only([plain().key(A)].into()));
    for held in [
        |from: usize, wire: &proto_kit::Wire| from == A && wire.is_hello(HelloKind::Turn),
        |from: usize, wire: &proto_kit::Wire| from == A && wire.body() == Some(&Body::Confirm),
        |from: usize, wire: &proto_kit::Wire| from == B && wire.body() == Some(&Body::Turn),
    ] {
        let before = given(&pair);
        pair.hold = held;
        ask(&mut pair, u8::try_from(before).unwrap() + 1);
        assert_eq!(given(&pair), before);
        pair.held.clear();
        pair.hold = |_, _| false;
        pair.pass(5 * SECOND);
        assert_eq!(given(&pair), before + 1);
        pair.pass(15 * SECOND);
        pair.assert_clean();
    }
}

/// It stands beside a call with the same friend, and touches nothing of it.
#[test]
fn a_call_with_the_friend_goes_on_beside_it() {
    let mut pair = serving(TurnFor::Only([plain().key(A)].into()));
    assert!(!pair.sides[A].machine.wants_relay());
    let to = pair.key(B);
    pair.ask(A, offer(call_id(9), to)).unwrap();
    pair.run();
    assert!(pair.sides[A].machine.wants_relay() && !pair.sides[B].machine.wants_relay());
    pair.ask(B, accept(call_id(9))).unwrap();
    pair.run();
    assert!(pair.sides[B].machine.wants_relay());
    ask(&mut pair, 1);
    pair.pass(20 * SECOND);
    assert_eq!(given(&pair), 1);
    assert!(pair.sides[A].machine.snapshot().call(call_id(9)).is_some());
    assert_eq!(pair.ended(A), None);
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut pair = both(&Config::default());
    let (own, other) = (pair.key(A), pair.key(B));
    let refused = pair.ask(A, Command::AskTurn { call: call_id(1), friend: own });
    assert_eq!(refused, Err(Rejected::OwnKey));
    ask(&mut pair, 1);
    let again = pair.ask(A, Command::AskTurn { call: call_id(1), friend: other });
    assert_eq!(again, Err(Rejected::IdInUse(call_id(1))));
}
