//! Defects that the simulated world found, one test each.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use proto_kit::{Pair, SECOND, Wire, accept, call_id, early, offer_all, said};
use warp_blink::{
    config::Config,
    event::{EndReason, Presence},
    id::Identity,
    proto::{
        Command, EffectKind, Input, Other,
        signal::{
            AppData, Body, CallBody, Description, Epoch, EpochId, HelloKind, KeyHash, Packet, Record,
            RecordKind, Roll,
        },
    },
    time::UnixTime,
};

#[test]
fn regression_a_link_offered_by_somebody_who_is_out_is_not_made() {
    let mut room = Pair::many(3, &early());
    let mut short = early();
    short.max_ring = 3 * SECOND;
    room.configure(1, &short);
    // And what takes its place when it is withdrawn.
    room.hold = |from, w| from == 1 && matches!(w.body(), Some(Body::Description(_) | Body::Confirm));
    let (call, to) = (call_id(1), [1, 2].map(|side| room.key(side)));
    room.ask(0, offer_all(call, &to)).unwrap();
    room.pass(4 * SECOND);
    assert_eq!(room.presence(0, 1, call), Some(Presence::NoAnswer));
    // The answer of the phone has overtaken the link that it offered while it rang.
    let late: Vec<Wire> = std::mem::take(&mut room.held).into_iter().map(|(_, wire)| wire).collect();
    let offers =
        late.iter().filter(|w| matches!(w.body(), Some(Body::Description(Description { .. })))).count();
    assert!(offers > 0, "something is late");
    for wire in late {
        room.deliver_to(1, 0, wire);
    }
    let peer = room.key(1);
    assert!(!room.sides[0].links.iter().any(|link| link.peer == peer), "a link to somebody who is out");
}

#[test]
fn regression_whom_a_removed_member_had_brought_back_stays() {
    let (mut room, call) = Pair::conference(4, &Config::default());
    let [one, three] = [1, 3].map(|side| room.key(side));
    room.ask(0, Command::Remove { call, peer: three }).unwrap();
    room.pass(10 * SECOND);
    let back =
        Command::Invite { call, to: vec![three], app_data: AppData::default(), sent_at: UnixTime::default() };
    room.ask(1, back).unwrap();
    room.ask(3, accept(call)).unwrap();
    room.pass(10 * SECOND);
    room.assert_joined(&[0, 1, 2, 3], call);
    // The invariants are checked in every step: nobody who was removed takes part.
    room.ask(0, Command::Remove { call, peer: one }).unwrap();
    room.pass(10 * SECOND);
    room.assert_joined(&[0, 2, 3], call);
}

#[test]
fn regression_members_who_were_never_met_are_looked_for_though_nobody_was_lost() {
    let (mut room, call) = Pair::conference(2, &Config::default());
    let (from, somebody) = (room.key(0), Identity::from_seed([201; 32]).public());
    let last = room.sides[0].log.iter().filter_map(said).map(|(_, session, packet)| (session, packet.seq));
    let (session, last) = last.max_by_key(|(_, seq)| *seq).unwrap();
    // Whoever invited them says so, and nothing is ever heard of them.
    let word = Record { subject: somebody, number: 1, kind: RecordKind::Add, by: from };
    let body = Body::Roll(Roll { create: proto_kit::create(from), records: vec![word] });
    let packet = Box::new(Packet { seq: last + 1, ack: 0, ack_bits: 0, call, generation: 0, body });
    room.feed(1, Input::Packet { from, session, packet });
    let asked = |room: &Pair| {
        let pairs = |e: &EffectKind| matches!(e, EffectKind::SendHello { to, hello, .. } if *to == somebody && hello.kind == HelloKind::Pair);
        room.sides[1].log.iter().any(pairs)
    };
    assert!(!asked(&room));
    room.pass(35 * SECOND);
    assert!(asked(&room), "a session is opened from here");
}

#[test]
fn regression_a_caller_whom_no_acceptance_reached_hears_that_it_was_in_vain() {
    let mut pair = Pair::many(2, &Config::default());
    let call = pair.ring();
    pair.hold = |from, _| from == 1;
    pair.ask(1, accept(call)).unwrap();
    pair.until(40 * SECOND, |pair| pair.ended(1).is_some());
    // What was lost is lost: of all this only the last word arrives.
    pair.held.clear();
    pair.hold = |_, _| false;
    pair.pass(5 * SECOND);
    assert_eq!(pair.ended(0), Some((EndReason::Unreachable, None)));
}

#[test]
fn regression_who_missed_a_new_key_is_given_it_though_all_announcements_were_lost() {
    let (mut room, call) = Pair::conference(3, &Config::default());
    let (from, to) = (room.key(1), room.key(2));
    let last = room.sides[1]
        .log
        .iter()
        .filter_map(said)
        .filter(|(whom, ..)| *whom == to)
        .map(|(_, session, packet)| (session, packet.seq));
    let (session, last) = last.max_by_key(|(_, seq)| *seq).unwrap();
    let key = Epoch { id: EpochId { n: 2, key: KeyHash([1; 16]) }, gone: Vec::new() };
    let body = Body::CallKey(key.clone());
    let packet = Box::new(Packet { seq: last + 1, ack: 0, ack_bits: 0, call, generation: 0, body });
    room.hold = |_, w| matches!(w, Wire::Call(..));
    room.feed(2, Input::Packet { from, session, packet });
    // Until nobody hears the old key any more.
    room.pass(9 * SECOND);
    assert_ne!(room.speaks_in(0, call), key.id);
    room.pass(3 * SECOND);
    room.held.clear();
    room.hold = |_, _| false;
    room.pass(6 * SECOND);
    assert_eq!(room.speaks_in(0, call), key.id);
    room.assert_joined(&[0, 1, 2], call);
}

#[test]
fn regression_a_held_call_has_its_link_again_when_the_one_that_took_it_is_over() {
    let mut pair = Pair::many(2, &Config::default());
    let first = pair.connected();
    pair.ask(0, Command::Hold { call: first }).unwrap();
    let (second, to) = (call_id(2), pair.key(1));
    pair.ask(0, offer_all(second, &[to])).unwrap();
    pair.ask(1, Command::Accept { call: second, other: Other::Hold }).unwrap();
    pair.pass(SECOND);
    assert_eq!(pair.presence(0, 1, second), Some(Presence::Joined));
    assert_eq!(pair.presence(0, 1, first), Some(Presence::Reconnecting));
    pair.ask(0, Command::HangUp { call: second }).unwrap();
    pair.pass(7 * SECOND);
    assert_eq!([pair.presence(0, 1, first), pair.presence(1, 0, first)], [Some(Presence::Joined); 2]);
}

#[test]
fn regression_older_words_of_the_removed_are_answered_nothing() {
    let (mut room, call) = Pair::conference(3, &Config::default());
    let [zero, one, two] = [0, 1, 2].map(|side| room.key(side));
    let last = room.sides[2]
        .log
        .iter()
        .filter_map(said)
        .filter(|(whom, ..)| *whom == zero)
        .map(|(_, session, packet)| (session, packet.seq));
    let (session, last) = last.max_by_key(|(_, seq)| *seq).unwrap();
    room.hold = |_, _| true;
    room.ask(0, Command::Remove { call, peer: two }).unwrap();
    let before = room.sides[0].log.len();
    // It has not heard of its removal, and knows something that its remover does not.
    let word = |subject, number, kind, by| Record { subject, number, kind, by };
    let mut records = vec![
        word(one, 1, RecordKind::Add, zero),
        word(one, 2, RecordKind::Leave, one),
        word(two, 1, RecordKind::Add, zero),
    ];
    records.sort_unstable();
    let body = Body::Roll(Roll { create: proto_kit::create(zero), records });
    let packet = Box::new(Packet { seq: last + 1, ack: 0, ack_bits: 0, call, generation: 0, body });
    room.feed(0, Input::Packet { from: two, session, packet });
    room.pass(2 * SECOND);
    assert_eq!(room.presence(0, 1, call), Some(Presence::Left), "the words themselves count");
    let said = room.sides[0].log[before..].iter().filter_map(said);
    let said = said.filter(|(to, ..)| *to == two).map(|(.., packet)| packet.body.clone());
    let said: Vec<Body> = said.filter(|b| !matches!(b, Body::Removed | Body::Confirm | Body::Ack)).collect();
    assert_eq!(said, []);
}

#[test]
fn regression_of_two_rolls_that_are_kept_the_last_counts_whatever_result_comes_first() {
    let (mut room, call) = Pair::conference(4, &Config::default());
    room.withhold = true;
    for side in [2, 3] {
        let peer = room.key(side);
        room.ask(0, Command::Remove { call, peer }).unwrap();
    }
    room.withhold = false;
    for (side, effect, outcome) in std::mem::take(&mut room.undone).into_iter().rev() {
        room.feed(side, Input::Done { effect, outcome });
    }
    room.pass(6 * SECOND);
    let log = &room.sides[0].log;
    let kept = log.iter().rev().find_map(|e| match e {
        EffectKind::KeepRoll { roll, .. } => Some(proto_kit::roll_hash(roll)),
        _ => None,
    });
    let said = log.iter().rev().find_map(|e| match e {
        EffectKind::SendCall { body: CallBody::Announce(announce), .. } => Some(announce.roll),
        _ => None,
    });
    assert_eq!(said, kept);
    assert!(said.is_some());
}
