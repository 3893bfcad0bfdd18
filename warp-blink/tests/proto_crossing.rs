//! Two who call each other at once, between two machines.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use proto_kit::{A, B, Pair, SECOND, both, call_id, contacts, offer, plain, reject_when_busy, touches_link};
use warp_blink::{
    config::{Admission, Config},
    event::{EndReason, Event, Phase},
    id::CallId,
    proto::{Command, signal::HelloKind},
};

/// Both offers are on their way before either arrives: A's call is 1, B's is 2.
fn crossed(mut pair: Pair, first: usize, second: usize) -> (Pair, CallId, CallId) {
    pair.hold = |_, w| w.is_hello(HelloKind::Offer);
    let ids = [call_id(1), call_id(2)];
    for side in [first, second] {
        let to = pair.key(1 - side);
        pair.ask(side, offer(ids[side], to)).unwrap();
    }
    (pair, ids[A], ids[B])
}

fn active(pair: &Pair, call: CallId) -> bool {
    [A, B].iter().all(|side| {
        let snapshot = pair.sides[*side].machine.snapshot();
        snapshot.calls.len() == 1 && snapshot.calls[0].id == call && snapshot.calls[0].phase == Phase::Active
    })
}

#[test]
fn two_calls_that_cross_become_one_and_both_ids_mean_it() {
    for make in [plain, || both(&reject_when_busy()), contacts] {
        for (first, second) in [(A, B), (B, A)] {
            let (mut pair, kept, merged) = crossed(make(), first, second);
            pair.release_all();
            pair.pass(SECOND);
            assert!(active(&pair, kept), "the smaller id stays");
            let told = |e: &&Event| matches!(e, Event::Merged { call, into, .. } if (*call, *into) == (merged, kept));
            assert_eq!(pair.sides[B].events.iter().filter(told).count(), 1);
            let noise =
                |e: &Event| matches!(e, Event::Incoming { .. } | Event::Missed { .. } | Event::Ended { .. });
            for side in [A, B] {
                assert!(!pair.sides[side].events.iter().any(noise), "{:?}", pair.events(side));
                let accepted = |e: &&Event| matches!(e, Event::Accepted { call, .. } if *call == kept);
                assert_eq!(pair.sides[side].events.iter().filter(accepted).count(), 1);
            }
            assert!(touches_link(&pair, A) && touches_link(&pair, B));
            // The id that `offer` returned stays a name for it.
            pair.ask(B, Command::HangUp { call: merged }).unwrap();
            assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(B))));
            assert_eq!(pair.ended(B), Some((EndReason::HungUp, Some(B))));
            pair.assert_clean();
            assert!(pair.ask(B, Command::HangUp { call: merged }).is_err(), "as long as that lasts");
        }
    }
}

#[test]
fn whom_we_call_may_call_us_whoever_else_is_admitted() {
    let mut closed = Config::default();
    closed.admission = Admission::Contacts;
    for (first, second) in [(A, B), (B, A)] {
        let (mut pair, kept, _) = crossed(both(&closed), first, second);
        pair.release_all();
        pair.pass(SECOND);
        assert!(active(&pair, kept), "{:?} {:?}", pair.events(A), pair.events(B));
    }
}

#[test]
fn an_offer_that_arrives_long_after_the_two_talk_changes_nothing() {
    for make in [plain, contacts] {
        let (mut pair, kept, _) = crossed(make(), A, B);
        pair.release(|from, _| from == A);
        pair.pass(SECOND);
        assert!(active(&pair, kept));
        pair.events(A);
        pair.release_all();
        pair.pass(SECOND);
        assert!(active(&pair, kept));
        let told = pair.events(A);
        assert!(!told.iter().any(|e| e.starts_with("missed") || e == "incoming"), "{told:?}");
    }
}

#[test]
fn calling_who_rings_here_answers_them() {
    let mut pair = plain();
    let call = pair.ring();
    pair.events(B);
    let a = pair.key(A);
    pair.ask(B, offer(call_id(9), a)).unwrap();
    pair.pass(SECOND);
    assert!(active(&pair, call));
    assert_eq!(pair.events(B)[..2], ["merged", "accepted"]);
    assert!(pair.events(A).contains(&"accepted".to_owned()));
    pair.ask(B, Command::HangUp { call: call_id(9) }).unwrap();
    assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(B))));
    pair.assert_clean();
}

#[test]
fn two_calls_cross_whatever_arrives_first_and_however_late() {
    // Every order in which what each side sends can be let through, four steps deep.
    for order in 0..16_u32 {
        let (mut pair, kept, _) = crossed(plain(), A, B);
        pair.hold = |_, _| true;
        for step in 0..4 {
            let side = if order >> step & 1 == 0 { A } else { B };
            pair.release(|from, _| from == side);
        }
        pair.release_all();
        pair.pass(5 * SECOND);
        assert!(active(&pair, kept), "order {order:04b}: {:?} {:?}", pair.events(A), pair.events(B));
        pair.ask(A, Command::HangUp { call: kept }).unwrap();
        pair.assert_clean();
    }
}

#[test]
fn who_calls_again_during_a_call_rings() {
    // B has lost the call and calls anew: this is another one, and A decides.
    let mut pair = plain();
    let call = pair.connected();
    let b = proto_kit::identities(2).remove(B);
    let again = proto_kit::first_message(&b, 7, HelloKind::Offer);
    pair.hold = |from, _| from == A;
    pair.feed(A, warp_blink::proto::Input::Hello(Box::new(again)));
    let confirm = proto_kit::packet(7, 1, warp_blink::proto::signal::Body::Confirm);
    let session = warp_blink::proto::SessionNo(1);
    pair.feed(A, warp_blink::proto::Input::Packet { from: b.public(), session, packet: confirm });
    let snapshot = pair.sides[A].machine.snapshot();
    assert_eq!(snapshot.call(call_id(7)).map(|c| c.phase), Some(Phase::Incoming));
    assert_eq!(snapshot.call(call).map(|c| c.phase), Some(Phase::Active));
}
