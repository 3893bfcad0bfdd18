//! The paths that a call can take, between two machines: what the app sees on both sides, in order.

mod proto_kit;

use std::time::Duration;

use proto_kit::{
    A, B, Pair, SECOND, Wire, call_id, looks_for_path, offer, opens_audio, plain, short, touches_link,
};
use warp_blink::{
    config::Config,
    error::Rejected,
    event::{EndReason, Event, LinkState, NodeState, Phase},
    proto::{
        Command, EffectKind, EngineLink, Input, Outcome,
        signal::{Body, HelloKind},
    },
};

#[test]
fn a_call_rings_is_accepted_connects_and_is_hung_up() {
    for mut pair in [plain(), Pair::swapped(Config::default(), Config::default())] {
        let call = pair.ring();
        assert_eq!(pair.events(A), ["reached", "offering", "ringing"]);
        assert_eq!(pair.events(B), ["incoming"]);
        assert!(!opens_audio(&pair, A) && !opens_audio(&pair, B));
        pair.pass(10 * SECOND);
        assert!(!opens_audio(&pair, A) && !opens_audio(&pair, B));
        assert!(!looks_for_path(&pair, A) && !touches_link(&pair, B));

        pair.ask(B, proto_kit::accept(call)).unwrap();
        pair.pass(SECOND);
        let dialing = [
            "accepted",
            "media",
            "link offer_created",
            "link offer_sent",
            "link answer_received",
            "link checking",
            "link securing",
            "link connected",
            "participant joined",
        ];
        let answering = [
            "accepted",
            "media",
            "link offer_received",
            "link answer_created",
            "link answer_sent",
            "link checking",
            "link securing",
            "link connected",
            "participant joined",
        ];
        // An offer that went ahead is there with the acceptance, and the devices open after it.
        let (mut ahead, mut taken) = (dialing, answering);
        ahead[1..4].rotate_left(1);
        taken[1..3].rotate_left(1);
        let (a, b) = if pair.key(A) > pair.key(B) { (ahead, taken) } else { (answering, dialing) };
        assert_eq!(pair.events(A), a);
        assert_eq!(pair.events(B), b);
        for side in [A, B] {
            let snapshot = pair.sides[side].machine.snapshot();
            let seen = snapshot.call(call).unwrap();
            assert_eq!((seen.phase, seen.participants[0].link), (Phase::Active, LinkState::Connected));
            assert!(snapshot.local.open);
        }

        pair.ask(A, Command::HangUp { call }).unwrap();
        assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(A))));
        assert_eq!(pair.ended(B), Some((EndReason::HungUp, Some(A))));
        assert_eq!(pair.events(A), ["link closed", "ended HungUp"]);
        assert_eq!(pair.events(B), ["link closed", "ended HungUp"]);
        pair.assert_clean();
    }
}

#[test]
fn the_callee_can_hang_up_too() {
    let mut pair = plain();
    let call = pair.connected();
    pair.ask(B, Command::HangUp { call }).unwrap();
    assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(B))));
    assert_eq!(pair.ended(B), Some((EndReason::HungUp, Some(B))));
    pair.assert_clean();
}

#[test]
fn both_hang_up_at_once() {
    let mut pair = plain();
    let call = pair.connected();
    pair.hold = |_, _| true;
    pair.ask(A, Command::HangUp { call }).unwrap();
    pair.ask(B, Command::HangUp { call }).unwrap();
    pair.release_all();
    assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(A))));
    assert_eq!(pair.ended(B), Some((EndReason::HungUp, Some(B))));
    // Both heard that they were heard: nobody talks to a wall for the whole farewell time.
    pair.pass(Duration::from_millis(100));
    assert!(pair.sides.iter().all(|s| s.machine.is_idle()));
    pair.assert_clean();
}

#[test]
fn the_callee_declines() {
    let mut pair = plain();
    let call = pair.ring();
    pair.ask(B, Command::Decline { call }).unwrap();
    assert_eq!(pair.ended(A), Some((EndReason::Declined, Some(B))));
    assert_eq!(pair.ended(B), Some((EndReason::Declined, Some(B))));
    assert_eq!(pair.events(B), ["incoming", "ended Declined"]); // whoever declines has not missed it
    pair.assert_clean();
    assert!(!opens_audio(&pair, A) && !opens_audio(&pair, B));
}

#[test]
fn the_caller_cancels_while_it_rings() {
    let mut pair = plain();
    let call = pair.ring();
    pair.ask(A, Command::Cancel { call }).unwrap();
    assert_eq!(pair.ended(A), Some((EndReason::Cancelled, Some(A))));
    assert_eq!(pair.ended(B), Some((EndReason::Cancelled, Some(A))));
    assert_eq!(pair.events(B), ["incoming", "missed Cancelled", "ended Cancelled"]);
    pair.assert_clean();
}

#[test]
fn a_cancel_before_the_offer_left_takes_one_step_and_says_nothing() {
    let mut pair = plain();
    pair.sides[A].publish = Outcome::NoPeers;
    let call = pair.ring();
    let effects = pair.feed(A, Command::Cancel { call }.into());
    assert!(effects.iter().any(|e| matches!(e, EffectKind::Emit(Event::Ended { .. }))));
    assert!(!effects.iter().any(|e| matches!(e, EffectKind::SendHello { .. })));
    assert!(pair.sides[A].machine.is_idle());
    assert_eq!(pair.sides[A].machine.next_timeout(), None);
    pair.run();
    assert_eq!(pair.ended(A), Some((EndReason::Cancelled, Some(A))));
    assert!(pair.events(B).is_empty());
    pair.assert_clean();
}

#[test]
fn a_cancel_in_the_same_moment_as_the_offer_ends_in_its_own_step() {
    let mut pair = plain();
    pair.withhold = true;
    let call = pair.ring();
    let effects = pair.feed(A, Command::Cancel { call }.into());
    assert!(effects.iter().any(|e| matches!(e, EffectKind::Emit(Event::Ended { .. }))));
    for (side, effect, outcome) in std::mem::take(&mut pair.undone) {
        pair.feed(side, Input::Done { effect, outcome });
    }
    pair.withhold = false;
    pair.run();
    pair.assert_clean();
}

#[test]
fn a_cancel_before_any_answer_reaches_the_callee_by_itself() {
    let mut pair = plain();
    pair.hold = |_, w| matches!(w, Wire::Welcome(..));
    let call = pair.ring();
    let effects = pair.feed(A, Command::Cancel { call }.into());
    assert!(effects.iter().any(|e| matches!(e, EffectKind::Emit(Event::Ended { .. }))));
    pair.run();
    assert_eq!(pair.ended(A), Some((EndReason::Cancelled, Some(A))));
    assert!(pair.events(B).iter().all(|e| e != "incoming"));
    pair.release_all();
    pair.assert_clean();
}

#[test]
fn a_cancel_whose_offer_was_answered_meanwhile_goes_through_the_session() {
    let mut pair = plain();
    pair.hold = |_, w| matches!(w, Wire::Welcome(..)) || w.is_hello(HelloKind::Cancel);
    let call = pair.ring();
    pair.ask(A, Command::Cancel { call }).unwrap();
    pair.release(|_, w| matches!(w, Wire::Welcome(..)));
    assert_eq!(pair.events(B), ["missed Cancelled"]);
    pair.release_all();
    pair.pass(SECOND);
    assert!(pair.sides[A].machine.is_idle(), "the cancel was acknowledged");
    pair.assert_clean();
}

#[test]
fn a_cancel_that_overtakes_its_offer_keeps_it_from_ringing() {
    let mut pair = plain();
    pair.hold = |_, w| w.is_hello(HelloKind::Offer);
    let call = pair.ring();
    pair.ask(A, Command::Cancel { call }).unwrap();
    assert!(pair.sides[A].machine.is_idle(), "the cancel was answered");
    pair.release_all();
    pair.pass(SECOND);
    assert!(pair.events(B).is_empty());
    assert_eq!(pair.sides[B].machine.snapshot().statistics.counters.late, 1);
    pair.assert_clean();
}

#[test]
fn an_offer_during_a_call_stays_pending_and_accepting_it_ends_the_other() {
    let mut pair = plain();
    let first = pair.ring();
    let to = pair.key(A);
    pair.hold = |_, _| false;
    pair.ask(B, proto_kit::accept(first)).unwrap();
    pair.pass(SECOND);
    // B's machine is restarted elsewhere in life; here A's own second offer is refused, as a call is under way.
    assert_eq!(pair.ask(B, offer(call_id(2), to)), Err(Rejected::InCall(first)));
    pair.ask(A, Command::HangUp { call: first }).unwrap();
    pair.events(A);
    pair.events(B);
    // A's call rings at B, who calls A: that is its answer.
    let (a, b) = (pair.key(A), pair.key(B));
    pair.ask(A, offer(call_id(3), b)).unwrap();
    pair.ask(B, offer(call_id(4), a)).unwrap();
    pair.pass(SECOND);
    let active = |p: &Pair, side: usize| {
        p.sides[side].machine.snapshot().calls.iter().map(|c| (c.id, c.phase)).collect::<Vec<_>>()
    };
    assert_eq!(active(&pair, A), [(call_id(3), Phase::Active)]);
    assert_eq!(active(&pair, B), [(call_id(3), Phase::Active)]);
    pair.ask(A, Command::HangUp { call: call_id(3) }).unwrap();
    pair.assert_clean();
}

#[test]
fn an_accept_that_crosses_the_callers_time_out_ends_on_both_sides() {
    let mut pair = plain();
    let call = pair.ring();
    pair.pass(59 * SECOND);
    pair.hold = |_, _| true;
    pair.ask(B, proto_kit::accept(call)).unwrap();
    pair.pass(SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::TimedOut, None)));
    pair.release_all();
    pair.pass(SECOND);
    assert_eq!(pair.ended(B), Some((EndReason::TimedOut, None)));
    pair.assert_clean();
}

#[test]
fn an_accept_that_crosses_a_cancel_ends_on_both_sides() {
    let mut pair = plain();
    let call = pair.ring();
    pair.hold = |_, _| true;
    pair.ask(A, Command::Cancel { call }).unwrap();
    pair.ask(B, proto_kit::accept(call)).unwrap();
    pair.release_all();
    pair.pass(SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::Cancelled, Some(A))));
    assert_eq!(pair.ended(B), Some((EndReason::Cancelled, Some(A))));
    assert!(!opens_audio(&pair, A));
    pair.assert_clean();
}

#[test]
fn a_callee_that_accepts_and_hangs_up_before_the_caller_hears_of_it() {
    let mut pair = plain();
    let call = pair.ring();
    pair.hold = |from, _| from == B;
    pair.ask(B, proto_kit::accept(call)).unwrap();
    pair.ask(B, Command::HangUp { call }).unwrap();
    // The farewell overtakes the acceptance.
    pair.release(|_, w| w.body() == Some(&Body::HangUp));
    assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(B))));
    pair.release_all();
    assert!(!opens_audio(&pair, A));
    pair.assert_clean();
}

#[test]
fn shutdown_ends_everything_and_refuses_the_rest() {
    let mut pair = plain();
    let call = pair.connected();
    pair.ask(B, Command::Shutdown).unwrap();
    assert_eq!(pair.ended(B), Some((EndReason::HungUp, Some(B))));
    assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(B))));
    pair.pass(SECOND);
    assert!(pair.sides[B].machine.is_idle(), "the farewell was acknowledged");
    assert_eq!(pair.ask(B, Command::HangUp { call }), Err(Rejected::ShuttingDown));
    let to = pair.key(B);
    pair.ask(A, offer(call_id(2), to)).unwrap();
    pair.pass(16 * SECOND);
    assert!(pair.sides[B].machine.is_idle());
    pair.assert_clean();
    assert!(pair.sides[B].topics.is_empty(), "the inbox is left, in a node that the app goes on using");
}

#[test]
fn who_shuts_down_on_a_leave_still_acknowledges_the_hang_up_that_follows_it() {
    let mut pair = plain();
    let call = pair.connected();
    // The leave on the call's topic is there first; the app shuts down as soon as it hears of the end.
    pair.hold = |from, w| from == B && w.body() == Some(&Body::HangUp);
    pair.ask(B, Command::HangUp { call }).unwrap();
    assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(B))));
    pair.ask(A, Command::Shutdown).unwrap();
    pair.release_all();
    pair.pass(Duration::from_millis(150));
    assert!(pair.sides[B].machine.is_idle(), "the hang-up was acknowledged");
    pair.pass(Duration::from_millis(100));
    assert!(pair.sides[A].machine.is_idle(), "and nothing keeps the other side");
    pair.assert_clean();
}

#[test]
fn what_arrives_unconfirmed_before_a_shutdown_does_not_ring_after_it() {
    let mut pair = plain();
    pair.hold = |from, w| from == A && matches!(w, Wire::Packet(..));
    pair.ring();
    pair.ask(B, Command::Shutdown).unwrap();
    pair.release_all();
    assert!(pair.events(B).is_empty());
    assert!(pair.sides[B].machine.is_idle());
    pair.pass(61 * SECOND);
    assert!(pair.ended(A).is_some());
    pair.assert_clean();
}

#[test]
fn the_apps_own_data_arrives_as_it_was_sent() {
    let mut pair = plain();
    pair.ring();
    let Some(Event::Incoming { from, app_data, sent_at, .. }) = pair.sides[B].events.first() else {
        panic!("nothing rings")
    };
    assert_eq!((*from, app_data.as_bytes()), (pair.key(A), &b"conversation 7"[..]));
    assert_eq!(sent_at.as_millis(), 1_700_000_000_000);
}

#[test]
fn duplicates_of_everything_change_nothing_but_counters() {
    for copies in [1, 3] {
        let mut pair = plain();
        pair.copies = copies;
        let call = pair.ring();
        pair.ask(B, proto_kit::accept(call)).unwrap();
        pair.pass(6 * SECOND);
        pair.ask(A, Command::SetMuted(true)).unwrap();
        pair.pass(SECOND);
        for state in [EngineLink::Connected, EngineLink::Connected] {
            pair.engine(call, state);
        }
        pair.ask(A, Command::HangUp { call }).unwrap();
        let a: Vec<_> = pair.sides[A].events.iter().map(short).collect();
        let b: Vec<_> = pair.sides[B].events.iter().map(short).collect();
        let joined = |events: &[String]| events.iter().filter(|e| *e == "participant joined").count();
        assert_eq!((joined(&a), joined(&b)), (1, 1), "{a:?}\n{b:?}");
        assert_eq!(a.iter().filter(|e| *e == "ringing").count(), 1);
        assert_eq!(b.iter().filter(|e| *e == "participant joined+muted").count(), 1);
        assert_eq!((a.len(), b.len()), (14, 13), "{a:?}\n{b:?}");
        let duplicate = pair.sides[B].machine.snapshot().statistics.counters.duplicate;
        assert_eq!(duplicate > 0, copies > 1);
        pair.assert_clean();
    }
}

#[test]
fn a_lost_answer_is_repeated_when_the_offer_is() {
    let mut pair = plain();
    pair.hold = |_, w| matches!(w, Wire::Welcome(..));
    pair.ring();
    pair.held.clear();
    pair.hold = |_, _| false;
    pair.pass(Duration::from_millis(500));
    assert_eq!(pair.events(B), ["incoming"]);
}

#[test]
fn the_nodes_state_is_told_once_per_change() {
    let mut pair = plain();
    for state in [NodeState::Public, NodeState::Public, NodeState::Starting] {
        pair.feed(A, Input::Node(state));
    }
    assert_eq!(pair.events(A), ["node Public", "node Starting"]);
}
