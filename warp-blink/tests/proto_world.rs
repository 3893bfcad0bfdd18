//! Defects that the simulated world found, one test each.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use proto_kit::{Pair, SECOND, Wire, accept, call_id, early, offer_all};
use warp_blink::{
    config::Config,
    event::Presence,
    id::Identity,
    proto::{
        Command, EffectKind, Input,
        signal::{AppData, Body, Description, HelloKind, Packet, Record, RecordKind, Roll},
    },
    time::UnixTime,
};

#[test]
fn regression_a_link_offered_by_somebody_who_is_out_is_not_made() {
    let mut room = Pair::many(3, &early());
    let mut short = early();
    short.max_ring = 3 * SECOND;
    room.configure(1, &short);
    room.hold = |from, w| from == 1 && matches!(w.body(), Some(Body::Description(_)));
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
    let last = room.sides[0].log.iter().filter_map(|e| match e {
        EffectKind::Send { session, packet, .. } => Some((*session, packet.seq)),
        _ => None,
    });
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
