//! Sessions that replace one another, and attacks on what is said in them: two machines.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use std::time::Duration;

use proto_kit::{
    A, B, SECOND, Wire, call_id, contacts, first_message, identities, packet, plain, said, sent, touches_link,
};
use warp_blink::{
    event::EndReason,
    proto::{
        Command, EffectKind, Input, SessionNo, TopicRef,
        signal::{Body, Epoch, EpochId, HelloKind},
    },
};

#[test]
fn who_returns_after_a_crash_goes_on_in_a_session_of_its_own() {
    let mut pair = plain();
    let call = pair.connected();
    let b = identities(2).remove(B);
    // What A says now is lost with B's crash.
    pair.hold = |_, _| true;
    pair.ask(A, Command::AddContact(b.public())).unwrap();
    pair.held.clear();
    pair.feed(A, Input::Hello(Box::new(first_message(&b, 1, HelloKind::Resume))));
    pair.run();
    let answered = |w: &(usize, Wire)| matches!(w, (A, Wire::Welcome(_, SessionNo(2), _)));
    assert!(pair.held.iter().any(answered));
    pair.held.clear();
    let before = pair.sides[A].log.len();
    let confirm =
        Input::Packet { from: b.public(), session: SessionNo(2), packet: packet(1, 1, Body::Confirm) };
    pair.feed(A, confirm);
    pair.run();
    let said: Vec<_> = pair.sides[A].log[before..]
        .iter()
        .filter_map(said)
        .map(|(_, session, packet)| (session.0, packet.seq, packet.body.clone()))
        .collect();
    let numbers: Vec<_> = said.iter().map(|(session, seq, _)| (*session, *seq)).collect();
    assert_eq!(numbers[..4], [(2, 1), (2, 2), (2, 3), (2, 4)], "numbered anew");
    let bodies: Vec<_> = said.iter().map(|(.., body)| body).collect();
    assert!(
        matches!(bodies[..4], [Body::Token, Body::Sync(_), Body::Roll(_), Body::CallKey(_)]),
        "what was on its way, and all that it lost: {bodies:?}"
    );
    // The old session is heard for ten seconds, and then wiped.
    let old = |body| Input::Packet { from: b.public(), session: SessionNo(1), packet: packet(1, 999, body) };
    pair.feed(A, old(Body::Confirm));
    assert!(!pair.sides[A].log.iter().any(|e| matches!(e, EffectKind::DropSession { .. })));
    pair.pass(10 * SECOND);
    let dropped = EffectKind::DropSession { call, peer: b.public(), session: SessionNo(1) };
    assert!(pair.sides[A].log.contains(&dropped));
    let unexpected = pair.sides[A].machine.snapshot().statistics.counters.unexpected;
    pair.feed(A, old(Body::HangUp));
    assert_eq!(pair.sides[A].machine.snapshot().statistics.counters.unexpected, unexpected + 1);
}

#[test]
fn hostile_resume_by_others_or_without_a_call_is_not_answered() {
    let stranger = identities(3).remove(2);
    let b = identities(2).remove(B);
    let mut pair = plain();
    pair.connected();
    for arrived in [
        first_message(&stranger, 1, HelloKind::Resume),
        first_message(&stranger, 1, HelloKind::Pair),
        first_message(&b, 9, HelloKind::Resume),
    ] {
        let effects = pair.feed(A, Input::Hello(Box::new(arrived)));
        assert!(effects.is_empty(), "{effects:?}");
    }
}

#[test]
fn hostile_resume_that_is_a_replay_changes_no_session() {
    let mut pair = plain();
    let call = pair.connected();
    let b = identities(2).remove(B);
    for _ in 0..5 {
        pair.feed(A, Input::Hello(Box::new(first_message(&b, 1, HelloKind::Resume))));
        pair.run();
    }
    pair.ask(B, Command::HangUp { call }).unwrap();
    assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(B))), "the session in use goes on");
    pair.assert_clean();
}

#[test]
fn hostile_repeats_of_a_first_message_are_answered_four_times_a_second_at_most() {
    let mut pair = plain();
    let stranger = identities(3).remove(2);
    pair.feed(B, Input::Hello(Box::new(first_message(&stranger, 1, HelloKind::Offer))));
    pair.run();
    for _ in 0..1000 {
        let again = Input::HelloAgain { call: call_id(1), from: stranger.public(), session: SessionNo(1) };
        pair.feed(B, again);
        pair.pass(Duration::from_millis(5));
    }
    let answers = pair.sides[B].log.iter().filter(|e| matches!(e, EffectKind::SendWelcome { .. })).count();
    assert!((15..=21).contains(&answers), "{answers} answers to 1,001 first messages within 5 s");
    assert_eq!(sent(&pair, B, &Body::Ringing), 0);
}

#[test]
fn hostile_repeats_of_a_signal_are_acknowledged_twenty_times_a_second_at_most() {
    let mut pair = plain();
    pair.connected();
    let before = sent(&pair, A, &Body::Ack);
    let from = pair.key(B);
    for _ in 0..1000 {
        pair.feed(A, Input::Packet { from, session: SessionNo(1), packet: packet(1, 1, Body::Confirm) });
        pair.pass(Duration::from_millis(1));
    }
    let acks = sent(&pair, A, &Body::Ack) - before;
    assert!((15..=21).contains(&acks), "{acks} acknowledgements of 1,000 repeats within 1 s");
    // Acknowledgements themselves are never acknowledged.
    let before = pair.sides[A].log.len();
    for _ in 0..100 {
        pair.feed(A, Input::Packet { from, session: SessionNo(1), packet: packet(1, 0, Body::Ack) });
        pair.pass(Duration::from_millis(1));
    }
    let spoke = |e: &&EffectKind| said(e).is_some();
    assert_eq!(pair.sides[A].log[before..].iter().filter(spoke).count(), 0);
}

#[test]
fn hostile_membership_is_not_granted_before_the_session_is_confirmed() {
    let mut pair = contacts();
    let a = identities(2).remove(A);
    let from = a.public();
    pair.feed(B, Input::Hello(Box::new(first_message(&a, 1, HelloKind::Offer))));
    pair.run();
    pair.ask(B, proto_kit::accept(call_id(1))).unwrap();
    // A recorded announce, and bodies under sessions that were never confirmed.
    pair.feed(
        B,
        Input::CallMessage {
            call: call_id(1),
            epoch: EpochId::default(),
            from,
            body: warp_blink::proto::signal::CallBody::Leave,
        },
    );
    let key = Body::CallKey(Epoch { id: EpochId::default(), gone: Vec::new() });
    for session in [0, 2, 7] {
        pair.feed(B, Input::Packet { from, session: SessionNo(session), packet: packet(1, 1, key.clone()) });
    }
    assert!(!touches_link(&pair, B));
    let spoke = |e: &&EffectKind| said(e).is_some() || matches!(e, EffectKind::SendCall { .. });
    assert_eq!(pair.sides[B].log.iter().filter(spoke).count(), 0);
    let topics = &pair.sides[B].topics;
    assert!(!topics.iter().any(|t| matches!(t, TopicRef::Call { .. })));
    pair.pass(31 * SECOND);
    assert!(matches!(pair.ended(B), Some((EndReason::Failed { .. }, None))));
    pair.assert_clean();
}
