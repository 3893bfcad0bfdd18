//! A link that works no more: when another path is looked for, by whom, and what the app sees meanwhile.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use std::time::Duration;

use proto_kit::{A, B, Pair, SECOND, plain};
use warp_blink::{
    CallId,
    config::Config,
    event::{EndReason, LinkState, Presence},
    proto::{EffectKind, EngineLink, Input, LinkCommand, MediaInput},
};

/// How often that side has looked for another path.
fn restarts(pair: &Pair, side: usize) -> usize {
    let restart = |e: &&EffectKind| matches!(e, EffectKind::Link { command: LinkCommand::Restart, .. });
    pair.sides[side].log.iter().filter(restart).count()
}

fn state(pair: &Pair, side: usize, call: CallId) -> LinkState {
    pair.sides[side].machine.snapshot().call(call).unwrap().participants[0].link
}

fn address_changed(pair: &mut Pair, side: usize, call: CallId, lost: bool) {
    let link = pair.link(side, call);
    pair.feed(side, Input::Media(MediaInput::AddressChanged { link, lost }));
    pair.run();
}

/// Both ends say that the path is interrupted, and nothing crosses any more, signals neither.
fn interrupted() -> (Pair, CallId) {
    let mut pair = plain();
    let call = pair.connected();
    pair.cut = |_, _| true;
    pair.engine_at(A, call, EngineLink::Disconnected);
    pair.engine_at(B, call, EngineLink::Disconnected);
    (pair, call)
}

#[test]
fn an_interruption_that_ends_by_itself_is_left_alone() {
    let (mut pair, call) = interrupted();
    pair.pass(5 * SECOND);
    pair.cut = |_, _| false;
    pair.engine_at(A, call, EngineLink::Connected);
    pair.engine_at(B, call, EngineLink::Connected);
    pair.pass(20 * SECOND);
    assert_eq!((restarts(&pair, A), restarts(&pair, B)), (0, 0));
    pair.assert_joined(&[A, B], call);
}

/// Signals cross, and the path does not work.
fn blocked() -> (Pair, CallId) {
    let mut pair = plain();
    let call = pair.connected();
    pair.path = false;
    pair.engine_at(A, call, EngineLink::Disconnected);
    pair.engine_at(B, call, EngineLink::Disconnected);
    (pair, call)
}

#[test]
fn one_that_does_not_is_restarted_after_six_seconds_first_by_the_larger_key() {
    let (mut pair, call) = blocked();
    pair.pass(Duration::from_millis(5900));
    assert_eq!((restarts(&pair, A), restarts(&pair, B)), (0, 0));
    pair.pass(Duration::from_millis(200));
    assert_eq!((restarts(&pair, A), restarts(&pair, B)), (0, 1), "B has the larger key");
    assert!(matches!(state(&pair, B, call), LinkState::Reconnecting { attempt: 2, .. }));
    pair.pass(2 * SECOND);
    assert_eq!((restarts(&pair, A), restarts(&pair, B)), (1, 1));
    pair.path = true;
    pair.pass(10 * SECOND);
    pair.assert_joined(&[A, B], call);
    assert_eq!((state(&pair, A, call), state(&pair, B, call)), (LinkState::Connected, LinkState::Connected));
    let before = (restarts(&pair, A), restarts(&pair, B));
    pair.pass(60 * SECOND);
    assert_eq!((restarts(&pair, A), restarts(&pair, B)), before);
    assert_eq!(pair.link(A, call).generation, 1, "the same connection");
}

#[test]
fn while_no_signal_crosses_the_old_path_is_kept_since_it_may_come_back() {
    let (mut pair, call) = interrupted();
    pair.pass(33 * SECOND);
    assert_eq!((restarts(&pair, A), restarts(&pair, B)), (0, 0));
    // The network is back, and the engines have found their path again before anybody gave it up.
    pair.cut = |_, _| false;
    pair.pass(SECOND);
    pair.engine_at(A, call, EngineLink::Connected);
    pair.engine_at(B, call, EngineLink::Connected);
    pair.pass(30 * SECOND);
    assert_eq!((restarts(&pair, A), restarts(&pair, B)), (0, 0));
    pair.assert_joined(&[A, B], call);
}

#[test]
fn once_signals_cross_a_path_that_is_gone_is_replaced() {
    let (mut pair, call) = interrupted();
    pair.pass(9 * SECOND);
    assert_eq!((restarts(&pair, A), restarts(&pair, B)), (0, 0));
    pair.cut = |_, _| false;
    pair.pass(8 * SECOND);
    assert_eq!(restarts(&pair, B), 1);
    pair.assert_joined(&[A, B], call);
    // After longer the sessions are made anew, and the link with them.
    let (mut pair, call) = interrupted();
    pair.pass(33 * SECOND);
    pair.cut = |_, _| false;
    pair.pass(8 * SECOND);
    pair.assert_joined(&[A, B], call);
}

#[test]
fn it_is_restarted_every_ten_seconds_and_in_the_end_lost() {
    let (mut pair, call) = blocked();
    pair.pass(59 * SECOND);
    assert_eq!(restarts(&pair, B), 6, "at 6, 16, 26, 36, 46 and 56 s");
    assert_eq!(pair.presence(B, A, call), Some(Presence::Reconnecting));
    pair.pass(2 * SECOND);
    assert_eq!(pair.ended(B).map(|e| e.0), Some(EndReason::Lost));
    pair.assert_clean();
}

#[test]
fn whoever_loses_the_address_looks_for_another_path_at_once() {
    for side in [A, B] {
        let mut pair = plain();
        let call = pair.connected();
        // What may work is left alone.
        address_changed(&mut pair, side, call, false);
        assert_eq!(restarts(&pair, side), 0);
        pair.assert_joined(&[A, B], call);
        address_changed(&mut pair, side, call, true);
        assert_eq!((restarts(&pair, side), restarts(&pair, 1 - side)), (1, 0));
        pair.assert_joined(&[A, B], call);
        let reconnected = pair.events(side);
        assert!(reconnected.iter().any(|e| e.contains("reconnecting")), "{reconnected:?}");
    }
}

#[test]
fn both_can_lose_their_address_at_once() {
    let mut pair = plain();
    let call = pair.connected();
    for side in [A, B] {
        let link = pair.link(side, call);
        pair.feed(side, Input::Media(MediaInput::AddressChanged { link, lost: true }));
    }
    pair.run();
    pair.pass(5 * SECOND);
    pair.assert_joined(&[A, B], call);
}

#[test]
fn a_change_of_address_before_the_link_was_ever_up_restarts_nothing() {
    let mut pair = plain();
    pair.path = false;
    let call = pair.ring();
    pair.ask(B, proto_kit::accept(call)).unwrap();
    address_changed(&mut pair, B, call, true);
    assert_eq!(restarts(&pair, B), 0, "a new link is made instead");
}

#[test]
fn hostile_end_with_another_certificate_ends_a_call_and_says_so() {
    let mut pair = plain();
    pair.path = false;
    let call = pair.ring();
    pair.ask(B, proto_kit::accept(call)).unwrap();
    pair.engine_at(A, call, EngineLink::FingerprintMismatch);
    assert_eq!(pair.ended(A), Some((EndReason::FingerprintMismatch, None)));
    assert!(pair.sides[A].audio.is_empty());
    let snapshot = pair.sides[A].machine.snapshot();
    assert!(snapshot.errors[0].text.contains("somebody"), "{:?}", snapshot.errors[0]);
    pair.pass(10 * SECOND);
    pair.assert_clean();
}

#[test]
fn hostile_end_with_another_certificate_is_not_talked_to_in_a_group() {
    let (mut room, call) = Pair::conference(3, &Config::default());
    room.told(0, 1, call, EngineLink::FingerprintMismatch);
    assert_eq!(room.presence(0, 1, call), Some(Presence::Lost));
    assert_eq!(room.presence(0, 2, call), Some(Presence::Joined));
    assert_eq!(room.ended(0), None);
}
