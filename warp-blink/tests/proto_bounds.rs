//! What happens at the bounds, and what waits for its time.

mod proto_kit;

use proto_kit::{A, B, Pair, SECOND, Wire, early, identities, offer, said};
use warp_blink::{
    config::Config,
    id::{CallId, Identity, NodeKey},
    proto::{
        Arrived, Command, EffectKind, EngineLink, Input, LinkCommand, MediaInput, SessionNo,
        signal::{
            AppData, Body, Candidate, Description, DescriptionKind, Hello, HelloKind, MediaFormat, Packet,
            Record, RecordKind, Roll, SUITE_CLASSICAL,
        },
    },
    time::UnixTime,
};

fn stranger_call(n: u8) -> CallId {
    CallId::from_bytes([100 + n; 16])
}

/// A first message of a stranger to `side`.
fn stranger(pair: &mut Pair, side: usize, n: u8, version: u8) {
    let stranger = &identities(3)[2];
    arrive(pair, side, stranger, n, version);
}

/// A first message of that identity to `side`.
fn arrive(pair: &mut Pair, side: usize, stranger: &Identity, n: u8, version: u8) {
    let hello = Hello {
        kind: HelloKind::Offer,
        from: stranger.public(),
        node: NodeKey::from(stranger).node_id(),
        call: stranger_call(n),
        sent_at: UnixTime::default(),
        ring_ms: 60_000,
        versions: vec![version],
        suites: vec![SUITE_CLASSICAL],
        media: MediaFormat::default(),
        app_data: AppData::default(),
    };
    pair.feed(side, Input::Hello(Box::new(Arrived::new(hello))));
}

#[test]
fn an_own_call_finds_room_in_a_crowd_that_never_confirms() {
    let mut pair = Pair::new(Config::default(), Config::default());
    for n in 0..100 {
        arrive(&mut pair, A, &Identity::from_seed([100 + n; 32]), n, 1);
    }
    assert_eq!(pair.sides[A].machine.snapshot().statistics.counters.refused.crowded, 100 - 32);
    let call = pair.ring();
    assert!(pair.sides[A].machine.snapshot().call(call).is_some());
    pair.ask(B, proto_kit::accept(call)).unwrap();
    pair.ask(B, Command::HangUp { call }).unwrap();
    pair.assert_clean();
}

#[test]
fn one_sender_has_four_first_messages_waiting_and_no_more() {
    let mut pair = Pair::new(Config::default(), Config::default());
    for n in 0..10 {
        stranger(&mut pair, A, n, 1);
    }
    assert_eq!(pair.sides[A].machine.snapshot().statistics.counters.refused.crowded, 10 - 4);
    pair.assert_clean();
}

#[test]
fn pending_calls_leave_room_for_an_own_one_whatever_is_configured() {
    let mut config = Config::default();
    config.max_pending = usize::MAX;
    let mut pair = Pair::new(config, Config::default());
    let from = identities(3)[2].public();
    // Strangers leave half of the places to contacts.
    pair.ask(A, Command::AddContact(from)).unwrap();
    for n in 0..100 {
        stranger(&mut pair, A, n, 1);
        let (call, body) = (stranger_call(n), Body::Confirm);
        let packet = Box::new(Packet { seq: 1, ack: 0, ack_bits: 0, call, generation: 0, body });
        pair.feed(A, Input::Packet { from, session: SessionNo(1), packet });
    }
    let call = pair.ring();
    assert!(pair.sides[A].machine.snapshot().call(call).is_some());
    assert_eq!(pair.sides[A].machine.snapshot().calls.len(), 64);
    pair.pass(70 * SECOND);
    pair.assert_clean();
}

#[test]
fn a_flood_of_refused_offers_does_not_drop_a_farewell() {
    let mut pair = Pair::new(Config::default(), Config::default());
    let call = pair.connected();
    pair.hold = |_, _| true;
    pair.ask(A, Command::HangUp { call }).unwrap();
    for n in 0..100 {
        stranger(&mut pair, A, n, 9);
    }
    pair.held.clear();
    pair.hold = |_, _| false;
    pair.pass(SECOND);
    assert!(pair.ended(B).is_some(), "the farewell is said again");
    pair.assert_clean();
}

#[test]
fn too_many_candidates_cost_candidates_and_not_the_call() {
    let mut pair = Pair::swapped(early(), early());
    pair.path = false;
    let call = pair.ring();
    pair.hold = |_, _| true;
    let link = pair.link(B, call);
    for n in 0..500 {
        let candidate = Candidate { text: format!("candidate {n}") };
        pair.feed(B, Input::Media(MediaInput::LocalCandidate { link, candidate }));
    }
    assert!(pair.sides[B].machine.snapshot().statistics.counters.expired > 300);
    pair.ask(B, proto_kit::accept(call)).unwrap();
    pair.release_all();
    pair.pass(5 * SECOND);
    assert!(pair.events(A).contains(&"accepted".to_owned()));
}

#[test]
fn what_a_link_was_told_too_early_reaches_it_on_accept_in_order() {
    // The caller dials early; the callee does not connect before it accepts.
    let mut pair = Pair::swapped(early(), Config::default());
    let call = pair.ring();
    let link = pair.link(A, call);
    for n in 0..3 {
        let candidate = Candidate { text: format!("candidate {n}") };
        pair.feed(A, Input::Media(MediaInput::LocalCandidate { link, candidate }));
    }
    pair.feed(A, Input::Media(MediaInput::GatheringDone { link }));
    pair.run();
    pair.ask(B, proto_kit::accept(call)).unwrap();
    let told: Vec<String> = pair.sides[B]
        .log
        .iter()
        .filter_map(|e| match e {
            EffectKind::Link { command: LinkCommand::Accept(_), .. } => Some("accept".into()),
            EffectKind::Link { command: LinkCommand::Candidate(c), .. } => Some(c.text.clone()),
            EffectKind::Link { command: LinkCommand::EndOfCandidates, .. } => Some("end".into()),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["accept", "candidate 0", "candidate 1", "candidate 2", "end"]);
}

#[test]
fn candidates_that_overtake_their_description_wait_for_it() {
    let mut pair = Pair::swapped(Config::default(), Config::default());
    pair.hold = |from, w| from == A && matches!(w.body(), Some(Body::Description(_)));
    let call = pair.ring();
    pair.ask(B, proto_kit::accept(call)).unwrap();
    let link = pair.link(A, call);
    let candidate = Candidate { text: "candidate 0".into() };
    pair.feed(A, Input::Media(MediaInput::LocalCandidate { link, candidate }));
    pair.run();
    let told = |pair: &Pair| {
        let links = pair.sides[B].log.iter().filter(|e| matches!(e, EffectKind::Link { .. }));
        links.count()
    };
    assert_eq!(told(&pair), 0);
    pair.release_all();
    assert_eq!(told(&pair), 2);
    // What is older than the link in use is no longer wanted.
    let description = Description { kind: DescriptionKind::Offer, text: "again".into() };
    let packet =
        Packet { seq: 9, ack: 0, ack_bits: 0, call, generation: 0, body: Body::Description(description) };
    pair.deliver(A, Wire::Packet(SessionNo(1), Box::new(packet)));
    assert_eq!(told(&pair), 2);
}

#[test]
fn a_new_generation_replaces_a_link_and_has_its_own_time_to_connect() {
    let mut pair = Pair::swapped(Config::default(), Config::default());
    let call = pair.connected();
    let old = pair.link(B, call);
    let description = Description { kind: DescriptionKind::Offer, text: "anew".into() };
    let packet =
        Packet { seq: 9, ack: 0, ack_bits: 0, call, generation: 2, body: Body::Description(description) };
    pair.deliver(A, Wire::Packet(SessionNo(1), Box::new(packet)));
    assert_eq!(pair.link(B, call).generation, 2);
    // What the old connection still tells is nobody's business.
    pair.feed(B, Input::Media(MediaInput::State { link: old, state: EngineLink::Connected }));
    pair.pass(29 * SECOND);
    assert_eq!(pair.ended(B), None);
    pair.pass(2 * SECOND);
    assert!(pair.ended(B).is_some(), "it never connected");
    pair.assert_clean();
}

#[test]
fn a_spent_call_id_is_not_used_again() {
    let mut pair = Pair::new(Config::default(), Config::default());
    let call = pair.connected();
    pair.ask(A, Command::HangUp { call }).unwrap();
    pair.assert_clean();
    let to = pair.key(B);
    assert!(pair.ask(A, offer(call, to)).is_err());
}

#[test]
fn who_acknowledges_nothing_makes_the_queue_no_longer() {
    let (mut room, call) = Pair::conference(3, &Config::default());
    let (from, somebody) = (room.key(0), Identity::from_seed([201; 32]).public());
    let waiting = |room: &Pair| format!("{:?}", room.sides[1].machine).matches("Waiting {").count();
    let last = room.sides[0]
        .log
        .iter()
        .filter_map(said)
        .filter(|(to, ..)| *to == room.key(1))
        .map(|(_, session, packet)| (session, packet.seq));
    let (session, last) = last.max_by_key(|(_, seq)| *seq).unwrap();
    room.hold = |_, _| true;
    for n in 1..=300 {
        // One word at a time: this side knows more each time, and says so.
        let word = Record { subject: somebody, number: n, kind: RecordKind::Add, by: from };
        let body = Body::Roll(Roll { create: proto_kit::create(from), records: vec![word] });
        let packet = Box::new(Packet { seq: last + n, ack: 0, ack_bits: 0, call, generation: 0, body });
        room.feed(1, Input::Packet { from, session, packet });
        room.run();
    }
    assert!(waiting(&room) < 128, "{} signals wait for one who acknowledges nothing", waiting(&room));
}
