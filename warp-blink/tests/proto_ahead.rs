//! Offers that go ahead while a phone rings, where nothing may connect before somebody accepts.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use std::time::Duration;

use proto_kit::{A, B, Pair, SECOND, accept, call_id, early, offer_all};
use warp_blink::{
    config::{Config, PreConnect},
    event::{LinkState, Phase, Step},
    id::CallId,
    proto::{
        Command, EffectKind, EngineLink, Input, LinkCommand, LinkId, MediaInput, Other,
        signal::{AppData, Body, Candidate, Description, DescriptionKind},
    },
    time::UnixTime,
};

fn never() -> Config {
    let mut config = Config::default();
    config.pre_connect = PreConnect::Never;
    config
}

/// Two, of whom the first has the larger key, so that whoever calls offers.
fn ringing() -> (Pair, CallId) {
    let mut pair = Pair::swapped(never(), never());
    let call = pair.ring();
    (pair, call)
}

/// What this side told its engine about links.
fn commands(pair: &Pair, side: usize) -> Vec<LinkCommand> {
    let command = |e: &EffectKind| match e {
        EffectKind::Link { command, .. } => Some(command.clone()),
        _ => None,
    };
    pair.sides[side].log.iter().filter_map(command).collect()
}

/// What this side said about links, each thing once.
fn said(pair: &Pair, side: usize) -> Vec<(u32, String)> {
    let mut all = Vec::new();
    for effect in &pair.sides[side].log {
        let EffectKind::Send { packet, .. } = effect else { continue };
        let what = match &packet.body {
            Body::Description(description) => description.text.clone(),
            Body::Candidate(candidate) => candidate.text.clone(),
            Body::EndOfCandidates => "end".to_owned(),
            Body::Accept(_) => "accept".to_owned(),
            _ => continue,
        };
        if !all.contains(&(packet.generation, what.clone())) {
            all.push((packet.generation, what));
        }
    }
    all
}

/// The engine of the caller has gathered.
fn gather(pair: &mut Pair, call: CallId, candidates: usize) -> LinkId {
    let link = pair.link(A, call);
    for n in 0..candidates {
        let candidate = Candidate { text: format!("candidate {n} of {}", link.generation) };
        pair.feed(A, Input::Media(MediaInput::LocalCandidate { link, candidate }));
    }
    pair.feed(A, Input::Media(MediaInput::GatheringDone { link }));
    pair.run();
    link
}

fn link_state(pair: &Pair, side: usize, call: CallId) -> LinkState {
    pair.sides[side].machine.snapshot().call(call).unwrap().participants[0].link
}

fn one(generation: u32, what: &str) -> (u32, String) {
    (generation, what.to_owned())
}

/// The wire is crossed three times between the acceptance and the last of the two descriptions where the caller offers after it, and once
/// here: this is what the round trip is saved by.
#[test]
fn the_acceptance_and_the_answer_to_what_went_ahead_leave_together() {
    let (mut pair, call) = ringing();
    gather(&mut pair, call, 1);
    assert_eq!(said(&pair, A), [one(1, "Offer 1")], "no candidate");
    assert_eq!((commands(&pair, A), commands(&pair, B)), (vec![LinkCommand::Dial], vec![]));
    assert_eq!([link_state(&pair, A, call), link_state(&pair, B, call)], [LinkState::Init; 2]);
    assert!(pair.events(A).iter().all(|e| !e.starts_with("link")));

    // Nothing of what B says from now on arrives, so whatever it says it says by itself.
    pair.hold = |from, _| from == B;
    pair.ask(B, accept(call)).unwrap();
    assert_eq!(said(&pair, B), [one(0, "accept"), one(1, "Answer 1")]);
    assert_eq!(said(&pair, A).len(), 1);

    pair.release_all();
    assert_eq!(said(&pair, A)[1..], [one(1, "candidate 0 of 1"), one(1, "end")]);
    pair.assert_joined(&[A, B], call);
    let events = pair.events(A);
    let at = |name: &str| events.iter().position(|e| e == name);
    assert!(at("accepted") < at("link offer_created") && at("link offer_created") < at("link offer_sent"));
    assert!(at("link offer_created").is_some() && at("link offer_sent") < at("link answer_received"));
    pair.ask(A, Command::HangUp { call }).unwrap();
    pair.assert_clean();
}

#[test]
fn an_answer_that_overtakes_the_acceptance_waits_for_it() {
    let (mut pair, call) = ringing();
    pair.hold = |from, w| from == B && matches!(w.body(), Some(Body::Accept(_)));
    pair.ask(B, accept(call)).unwrap();
    assert!(said(&pair, B).contains(&one(1, "Answer 1")));
    // Candidates of theirs the engine keeps until it has an answer.
    let link = pair.link(B, call);
    let candidate = Candidate { text: "of B".to_owned() };
    pair.feed(B, Input::Media(MediaInput::LocalCandidate { link, candidate: candidate.clone() }));
    pair.run();
    assert_eq!(commands(&pair, A), [LinkCommand::Dial, LinkCommand::Candidate(candidate.clone())]);
    gather(&mut pair, call, 2);
    assert_eq!(said(&pair, A), [one(1, "Offer 1")]);
    pair.release_all();
    let answer = Description { kind: DescriptionKind::Answer, text: "Answer 1".to_owned() };
    assert_eq!(commands(&pair, A)[2..], [LinkCommand::Apply(answer)]);
    pair.assert_joined(&[A, B], call);
}

/// Whoever may connect early answers what went ahead at once, and shows its own addresses: that is its own choice. The caller does nothing.
#[test]
fn a_callee_who_connects_early_waits_for_the_caller_and_for_as_long_as_it_takes() {
    for wait in [1, 19, 21, 39, 50] {
        let mut pair = Pair::swapped(never(), early());
        let call = pair.ring();
        pair.pass(wait * SECOND);
        let used = commands(&pair, A);
        assert!(
            used.iter().all(|c| matches!(c, LinkCommand::Dial | LinkCommand::Close)),
            "after {wait} s: {used:?}"
        );
        pair.ask(B, accept(call)).unwrap();
        pair.pass(SECOND);
        pair.assert_joined(&[A, B], call);
        pair.ask(B, Command::HangUp { call }).unwrap();
        pair.assert_clean();
    }
}

#[test]
fn it_is_made_anew_when_it_has_grown_old_or_addresses_change() {
    let (mut pair, call) = ringing();
    gather(&mut pair, call, 1);
    pair.pass(19 * SECOND);
    assert_eq!(pair.link(A, call).generation, 1);
    pair.pass(2 * SECOND);
    let link = gather(&mut pair, call, 1);
    assert_eq!(link.generation, 2);
    pair.feed(A, Input::Media(MediaInput::AddressChanged { link, lost: false }));
    pair.run();
    gather(&mut pair, call, 1);
    assert_eq!(said(&pair, A), [one(1, "Offer 1"), one(2, "Offer 2"), one(3, "Offer 3")]);
    pair.ask(B, accept(call)).unwrap();
    pair.assert_joined(&[A, B], call);
    assert_eq!(said(&pair, A)[3..], [one(3, "candidate 0 of 3"), one(3, "end")], "nothing of those before");
    assert_eq!((pair.link(A, call).generation, pair.link(B, call).generation), (3, 3));
    pair.pass(60 * SECOND);
    assert_eq!(pair.link(A, call).generation, 3, "it is no more made anew");
}

#[test]
fn a_link_that_fails_while_its_offer_is_ahead_is_made_anew_on_accept() {
    let (mut pair, call) = ringing();
    let link = pair.link(A, call);
    let failed = EngineLink::Failed(Step::Negotiating);
    pair.feed(A, Input::Media(MediaInput::State { link, state: failed }));
    pair.pass(30 * SECOND);
    assert_eq!(commands(&pair, A), [LinkCommand::Dial, LinkCommand::Close]);
    assert!(pair.events(A).iter().all(|e| !e.starts_with("link")));
    pair.ask(B, accept(call)).unwrap();
    pair.pass(SECOND);
    pair.assert_joined(&[A, B], call);
    assert_eq!(pair.link(A, call).generation, 2);
}

#[test]
fn nothing_is_left_of_a_call_that_is_not_accepted_and_the_app_hears_of_no_link() {
    for end in [0, 1, 2] {
        let (mut pair, call) = ringing();
        gather(&mut pair, call, 3);
        match end {
            0 => pair.ask(B, Command::Decline { call }).unwrap(),
            1 => pair.ask(A, Command::Cancel { call }).unwrap(),
            _ => pair.pass(Duration::from_secs(200)),
        }
        for side in [A, B] {
            let events = pair.events(side);
            assert!(events.iter().all(|e| !e.starts_with("link")), "{events:?}");
        }
        assert_eq!(commands(&pair, B), []);
        assert!(said(&pair, A).iter().all(|(_, what)| what.starts_with("Offer")));
        pair.assert_clean();
    }
}

#[test]
fn what_waits_to_be_said_is_bounded() {
    let (mut pair, call) = ringing();
    gather(&mut pair, call, 500);
    assert!(pair.sides[A].machine.snapshot().statistics.counters.expired > 400);
    pair.ask(B, accept(call)).unwrap();
    pair.pass(5 * SECOND);
    pair.assert_joined(&[A, B], call);
    assert!(said(&pair, A).len() <= 65);
}

/// In a group as many offers would have to be made as people are called, and most of them for nothing.
#[test]
fn a_group_and_a_caller_with_the_smaller_key_offer_nothing_ahead() {
    let mut room = Pair::many(3, &never());
    let others = [room.key(0), room.key(1)];
    room.ask(2, offer_all(call_id(1), &others)).unwrap();
    room.pass(SECOND);
    assert_eq!(commands(&room, 2), []);
    let mut pair = Pair::new(never(), never());
    pair.ring();
    pair.pass(SECOND);
    assert_eq!((commands(&pair, A), commands(&pair, B)), (vec![], vec![]));
}

/// There is one microphone for all links: whoever accepts a call that is held meanwhile hears nothing of the other one.
#[test]
fn what_went_ahead_in_a_call_that_is_held_is_silent_when_it_is_accepted() {
    for wait in [1, 25] {
        let mut room = Pair::many(4, &never());
        let (own, call, second) = (3, call_id(1), call_id(2));
        room.ask(own, offer_all(call, &[room.key(0)])).unwrap();
        room.pass(SECOND);
        assert_eq!(commands(&room, own), [LinkCommand::Dial], "it goes ahead");
        let invite = Command::Invite {
            call,
            to: vec![room.key(1)],
            app_data: AppData::default(),
            sent_at: UnixTime::default(),
        };
        room.ask(own, invite).unwrap();
        room.pass(SECOND);
        room.ask(1, accept(call)).unwrap();
        room.pass(SECOND);
        assert_eq!(
            (room.phase(own, call), room.phase(0, call)),
            (Some(Phase::Active), Some(Phase::Incoming))
        );
        room.ask(2, offer_all(second, &[room.key(3)])).unwrap();
        room.pass(SECOND);
        room.ask(own, Command::Accept { call: second, other: Other::Hold }).unwrap();
        room.pass(wait * SECOND);
        room.ask(0, accept(call)).unwrap();
        room.pass(5 * SECOND);
        let peer = room.key(0);
        let mut sends = std::collections::BTreeMap::new();
        for effect in &room.sides[own].log {
            let EffectKind::Link { link, command } = effect else { continue };
            if link.call != call || link.peer != peer {
                continue;
            }
            match command {
                LinkCommand::Dial => sends.insert(link.generation, true),
                LinkCommand::Send(sends_now) => sends.insert(link.generation, *sends_now),
                LinkCommand::Close => sends.remove(&link.generation),
                _ => None,
            };
        }
        assert_eq!(sends.len(), 1, "one link lives: {sends:?}");
        assert!(sends.values().all(|sends| !sends), "after {wait} s: {sends:?}");
    }
}
