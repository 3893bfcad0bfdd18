//! Who is out of a call stays out until they are let in again, and who has left is rung as any caller rings somebody.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use proto_kit::{A, B, Pair, SECOND, Wire, accept, call_id, plain, said};
use warp_blink::{
    CallId, PublicKey,
    config::{Admission, Config},
    error::Rejected,
    event::{EndReason, Phase, Presence},
    proto::{
        Command, EffectKind, Input, Other,
        signal::{AppData, Body, CallBody, HelloKind},
    },
    time::UnixTime,
};

fn invite(call: CallId, whom: PublicKey) -> Command {
    Command::Invite { call, to: vec![whom], app_data: AppData::default(), sent_at: UnixTime::default() }
}

/// The first few of a room are in a call.
fn some_of(all: u8, joined: usize) -> (Pair, CallId) {
    let mut room = Pair::many(all, &Config::default());
    let call = call_id(1);
    let to: Vec<PublicKey> = (1..joined).map(|side| room.key(side)).collect();
    room.ask(0, proto_kit::offer_all(call, &to)).unwrap();
    for side in 1..joined {
        room.ask(side, accept(call)).unwrap();
    }
    room.pass(20 * SECOND);
    room.assert_joined(&(0..joined).collect::<Vec<_>>(), call);
    (room, call)
}

#[test]
fn whoever_was_called_off_stays_so_when_something_else_changes() {
    let (mut room, call) = some_of(5, 3);
    let (third, fourth) = (room.key(3), room.key(4));
    room.ask(1, invite(call, third)).unwrap();
    assert_eq!(room.phase(3, call), Some(Phase::Incoming));
    // What is said to call them off is not acknowledged.
    room.hold = |from, _| from == 3;
    room.ask(1, Command::Remove { call, peer: third }).unwrap();
    let before = room.sides[1].log.len();
    room.ask(0, invite(call, fourth)).unwrap();
    room.ask(4, accept(call)).unwrap();
    room.pass(30 * SECOND);
    assert_eq!(room.presence(1, 3, call), Some(Presence::Left));
    let key_to_them = |e: &&EffectKind| {
        said(e).is_some_and(|(to, _, packet)| to == third && matches!(packet.body, Body::CallKey(_)))
    };
    assert_eq!(room.sides[1].log[before..].iter().filter(key_to_them).count(), 0);
    room.assert_joined(&[0, 1, 2, 4], call);
    // A new invitation brings them in.
    room.held.clear();
    room.hold = |_, _| false;
    room.pass(30 * SECOND);
    room.ask(0, invite(call, third)).unwrap_or_else(|rejected| panic!("{rejected}"));
    room.ask(3, accept(call)).unwrap();
    room.pass(20 * SECOND);
    room.assert_joined(&[0, 1, 2, 3, 4], call);
}

#[test]
fn hostile_member_who_called_somebody_in_cannot_send_them_away() {
    let (mut room, call) = some_of(4, 3);
    let late = room.key(3);
    room.record();
    room.ask(1, invite(call, late)).unwrap();
    room.ask(3, accept(call)).unwrap();
    room.pass(20 * SECOND);
    let inviter = room.key(1);
    for (n, body) in (0..).zip([Body::TimedOut, Body::Cancel, Body::Removed]) {
        let trace = room.recorded();
        let (session, last) = trace.last_of(3, inviter);
        let mut packet = last.clone();
        (packet.seq, packet.body) = (last.seq + 1 + n, body);
        room.feed(3, Input::Packet { from: inviter, session, packet: Box::new(packet) });
        assert_eq!(room.ended(3), None);
    }
    room.assert_joined(&[0, 1, 2, 3], call);
}

#[test]
fn a_cancel_that_crosses_an_answer_in_a_group_closes_the_microphone_at_once() {
    let mut room = Pair::many(3, &Config::default());
    let (call, to) = (call_id(1), [1, 2].map(|side| room.key(side)));
    room.ask(0, proto_kit::offer_all(call, &to)).unwrap();
    room.ask(1, accept(call)).unwrap();
    room.pass(SECOND);
    // Their answer is on its way while they are called off.
    room.hold = |from, _| from == 2;
    room.ask(2, accept(call)).unwrap();
    room.ask(0, Command::Remove { call, peer: to[1] }).unwrap();
    assert_eq!(room.ended(2), Some((EndReason::Cancelled, Some(0))));
    assert!(room.sides[2].audio.is_empty());
}

#[test]
fn who_was_removed_while_cut_off_from_the_creator_hears_of_it_and_by_whom() {
    let (mut room, call) = some_of(4, 4);
    room.cut = |from, to| from == 0 && to == 3;
    room.ask(0, Command::Remove { call, peer: room.key(3) }).unwrap();
    room.pass(2 * SECOND);
    room.cut = |_, _| false;
    room.pass(10 * SECOND);
    assert_eq!(room.ended(3), Some((EndReason::Removed, Some(0))));
}

#[test]
fn somebody_who_left_is_rung_by_those_only_who_may_ring_and_are_there() {
    let (mut room, call) = some_of(3, 3);
    room.ask(2, Command::SetAdmission(Admission::Contacts)).unwrap();
    room.ask(2, Command::Leave { call }).unwrap();
    room.pass(SECOND);
    let left = room.key(2);
    room.ask(1, invite(call, left)).unwrap();
    assert_eq!(room.phase(2, call), Some(Phase::Left), "whoever may not ring is not heard");
    room.ask(1, Command::Remove { call, peer: left }).unwrap();
    room.pass(10 * SECOND);

    // Whoever may ring, and has not shown that they are there: a copy of what they once said looks the same.
    room.ask(2, Command::SetAdmission(Admission::Everyone)).unwrap();
    room.hold = |from, w| from == 1 && !w.is_hello(HelloKind::Offer);
    room.ask(1, invite(call, left)).unwrap();
    room.pass(20 * SECOND);
    assert_eq!(room.phase(2, call), Some(Phase::Left));
    room.held.clear();
    room.hold = |_, _| false;
    assert_eq!(room.ask(2, Command::Rejoin { call, other: Other::End }), Ok(()));
    room.pass(20 * SECOND);
    room.assert_joined(&[0, 1, 2], call);
}

#[test]
fn an_invitation_back_that_is_withdrawn_does_not_go_on_ringing() {
    let (mut room, call) = some_of(3, 3);
    room.ask(2, Command::Leave { call }).unwrap();
    room.pass(SECOND);
    room.events(2);
    room.hold = |from, w| from == 1 && !w.is_hello(HelloKind::Offer);
    let left = room.key(2);
    room.ask(1, invite(call, left)).unwrap();
    room.held.clear();
    room.ask(1, Command::Remove { call, peer: left }).unwrap();
    room.hold = |_, _| false;
    room.pass(10 * SECOND);
    let events = room.events(2);
    assert_eq!(events.first().map(String::as_str), Some("ended HungUp"), "of what was before: {events:?}");
    assert_eq!(events.last().map(String::as_str), Some("ended Cancelled"), "{events:?}");
    assert_eq!(room.phase(2, call), None);
    assert_eq!(room.presence(1, 2, call), Some(Presence::Left));
    room.assert_joined(&[0, 1], call);
}

#[test]
fn hostile_repetition_of_what_a_lost_one_announced_does_not_bring_them_back() {
    let (mut room, call) = some_of(3, 3);
    room.record();
    room.pass(6 * SECOND);
    let lost = room.key(2);
    let trace = room.recorded();
    let said = trace.of(0).filter_map(|(_, input)| match input {
        Input::CallMessage { from, body: CallBody::Announce(_), .. } if from == &lost => Some(input.clone()),
        _ => None,
    });
    let said = said.last().expect("it announces itself");
    room.crash(2, call);
    room.interrupted(2, call);
    room.pass(62 * SECOND);
    assert_eq!(room.presence(0, 2, call), Some(Presence::Lost));
    for _ in 0..20 {
        room.feed(0, said.clone());
        room.pass(2 * SECOND);
        assert_eq!(room.presence(0, 2, call), Some(Presence::Lost));
    }
}

#[test]
fn whose_answer_came_too_late_is_told_of_a_call_once() {
    let mut pair = plain();
    pair.hold = |from, w| (from == B && matches!(w, Wire::Welcome(..))) || w.is_hello(HelloKind::Cancel);
    let call = pair.ring();
    pair.ask(A, Command::Cancel { call }).unwrap();
    assert_eq!(pair.sides[A].machine.notices().count(), 1, "for all that is known here, they heard nothing");
    // The withdrawal is lost, and the answer comes late: the session says it.
    pair.hold = |_, w| w.is_hello(HelloKind::Cancel);
    pair.release(|from, _| from == B);
    pair.pass(SECOND);
    assert_eq!(pair.events(B).last().map(String::as_str), Some("missed Cancelled"));
    assert_eq!(pair.sides[A].machine.notices().count(), 0, "they did");
    assert_eq!(pair.ask(A, Command::Cancel { call }), Err(Rejected::NoSuchCall(call)));
}
