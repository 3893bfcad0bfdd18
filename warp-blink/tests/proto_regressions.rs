//! Defects that calling systems before this one had, one test each.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use proto_kit::{A, B, Pair, SECOND, accept, call_id, early, offer, offer_all, plain, short};
use warp_blink::{
    config::Config,
    event::{EndReason, Event, Presence},
    proto::{
        Command, EffectKind, EngineLink, LinkCommand, Other,
        signal::{Body, DescriptionKind},
    },
    time::UnixTime,
};

#[test]
fn regression_a_lost_description_does_not_deadlock_a_pair() {
    for kind in [DescriptionKind::Offer, DescriptionKind::Answer] {
        for swapped in [false, true] {
            let mut pair =
                if swapped { Pair::swapped(Config::default(), Config::default()) } else { plain() };
            pair.hold = match kind {
                DescriptionKind::Offer => {
                    |_, w| matches!(w.body(), Some(Body::Description(d)) if d.kind == DescriptionKind::Offer)
                }
                DescriptionKind::Answer => {
                    |_, w| matches!(w.body(), Some(Body::Description(d)) if d.kind == DescriptionKind::Answer)
                }
            };
            let call = pair.ring();
            pair.ask(B, accept(call)).unwrap();
            pair.pass(SECOND);
            assert!(!pair.held.is_empty());
            // Those three are lost for good; what is sent from now on arrives.
            pair.held.clear();
            pair.hold = |_, _| false;
            pair.pass(5 * SECOND);
            pair.assert_joined(&[A, B], call);
        }
    }
}

#[test]
fn regression_a_cancel_reaches_a_callee_whose_phone_rings() {
    let mut pair = plain();
    let call = pair.ring();
    // Whatever else is lost.
    pair.hold = |_, _| true;
    pair.ask(A, Command::Cancel { call }).unwrap();
    pair.pass(2 * SECOND);
    pair.held.clear();
    pair.hold = |_, _| false;
    pair.pass(3 * SECOND);
    assert_eq!(pair.ended(B), Some((EndReason::Cancelled, Some(A))));
    pair.assert_clean();
}

#[test]
fn regression_leaving_and_coming_back_works_at_once() {
    let (mut room, call) = Pair::conference(3, &Config::default());
    // Without a moment in between, before anybody has heard of the leave.
    room.hold = |_, _| true;
    room.ask(2, Command::Leave { call }).unwrap();
    room.ask(2, Command::Rejoin { call, other: Other::End }).unwrap();
    room.held.clear();
    room.hold = |_, _| false;
    room.pass(20 * SECOND);
    room.assert_joined(&[0, 1, 2], call);
    // And a call of two that was hung up can be made again at once.
    let mut pair = plain();
    let call = pair.connected();
    pair.ask(B, Command::HangUp { call }).unwrap();
    let (again, to) = (call_id(2), pair.key(A));
    pair.ask(B, offer(again, to)).unwrap();
    pair.ask(A, accept(again)).unwrap();
    pair.pass(5 * SECOND);
    pair.assert_joined(&[A, B], again);
}

#[test]
fn regression_a_disconnect_that_one_side_alone_sees_heals() {
    for seen_by in [A, B] {
        // Interrupted for a while, and failed for good.
        let (mut pair, call) = (plain().connected_pair(), call_id(1));
        pair.engine_at(seen_by, call, EngineLink::Disconnected);
        pair.pass(5 * SECOND);
        pair.engine_at(seen_by, call, EngineLink::Connected);
        pair.assert_joined(&[A, B], call);
        let (mut pair, call) = (plain().connected_pair(), call_id(1));
        pair.engine_at(seen_by, call, EngineLink::Disconnected);
        pair.engine_at(seen_by, call, EngineLink::Failed(warp_blink::event::Step::Connected));
        pair.pass(5 * SECOND);
        pair.assert_joined(&[A, B], call);
        assert!(
            pair.sides.iter().all(|s| s.links.iter().all(|l| l.generation == 2)),
            "a new link at both ends"
        );
    }
}

#[test]
fn regression_a_candidate_before_its_description_is_used() {
    use warp_blink::proto::{Input, MediaInput, signal::Candidate};
    let mut pair = Pair::swapped(early(), early());
    pair.hold = |_, w| matches!(w.body(), Some(Body::Description(_)));
    let call = pair.ring();
    let link = pair.link(A, call);
    let candidate = Candidate { text: "before its description".into() };
    pair.feed(A, Input::Media(MediaInput::LocalCandidate { link, candidate: candidate.clone() }));
    pair.run();
    let taken = |pair: &Pair| {
        let of = |e: &&EffectKind| matches!(e, EffectKind::Link { command: LinkCommand::Candidate(c), .. } if *c == candidate);
        pair.sides[B].log.iter().filter(of).count()
    };
    assert_eq!(taken(&pair), 0, "there is no link yet");
    pair.release_all();
    pair.pass(SECOND);
    assert_eq!(taken(&pair), 1);
}

#[test]
fn regression_muting_survives_everything() {
    let (mut room, call) = Pair::conference(3, &Config::default());
    room.ask(1, Command::SetMuted(true)).unwrap();
    let muted = |room: &Pair, at: usize| {
        let key = room.key(1);
        let snapshot = room.sides[at].machine.snapshot();
        snapshot.call(call).unwrap().participants.iter().find(|p| p.peer == key).unwrap().state.muted
    };
    let check = |room: &mut Pair, what: &str| {
        room.pass(20 * SECOND);
        for at in [0, 2] {
            assert_eq!(room.presence(at, 1, call), Some(Presence::Joined), "{what}, at {at}");
            assert!(muted(room, at), "{what}: {at} does not see it");
        }
        assert!(room.sides[1].machine.snapshot().local.muted, "{what}");
        let unmuted = room.sides[1].log.contains(&EffectKind::SetMuted(false));
        assert!(!unmuted, "{what}: the microphone was opened");
    };
    check(&mut room, "muted");
    room.told(0, 1, call, EngineLink::Failed(warp_blink::event::Step::Connected));
    check(&mut room, "a new link");
    room.ask(1, Command::Leave { call }).unwrap();
    room.ask(1, Command::Rejoin { call, other: Other::End }).unwrap();
    check(&mut room, "leaving and coming back");
    room.ask(1, Command::Hold { call }).unwrap();
    room.ask(1, Command::Unhold { call, other: Other::End }).unwrap();
    check(&mut room, "a hold");
    room.crash(2, call);
    room.interrupted(2, call);
    room.ask(2, Command::Resume { call, sent_at: UnixTime::from_millis(1), other: Other::End }).unwrap();
    check(&mut room, "a crash of somebody else");
    // And into the next call.
    for side in 0..3 {
        let _ = room.ask(side, Command::HangUp { call });
    }
    room.pass(60 * SECOND);
    let (next, to) = (call_id(2), [room.key(0), room.key(2)]);
    room.ask(1, offer_all(next, &to)).unwrap();
    room.ask(0, accept(next)).unwrap();
    room.pass(10 * SECOND);
    let key = room.key(1);
    let snapshot = room.sides[0].machine.snapshot();
    assert!(snapshot.call(next).unwrap().participants.iter().find(|p| p.peer == key).unwrap().state.muted);
}

#[test]
fn regression_joined_is_told_on_both_sides_and_only_when_the_link_is_up() {
    for config in [Config::default(), early()] {
        let mut pair = proto_kit::both(&config);
        pair.path = false;
        let call = pair.ring();
        pair.ask(B, accept(call)).unwrap();
        pair.pass(SECOND);
        let joined = |pair: &Pair, side: usize| {
            let told = |e: &&Event| short(e) == "participant joined";
            pair.sides[side].events.iter().filter(told).count()
        };
        assert_eq!((joined(&pair, A), joined(&pair, B)), (0, 0), "accepted, and no link");
        pair.engine_at(A, call, EngineLink::Connected);
        assert_eq!((joined(&pair, A), joined(&pair, B)), (0, 0), "the other end has not shown who it is");
        pair.engine_at(B, call, EngineLink::Connected);
        pair.pass(5 * SECOND);
        assert_eq!((joined(&pair, A), joined(&pair, B)), (1, 1));
    }
    // A link that is up before anybody accepts joins nobody.
    let mut pair = proto_kit::both(&early());
    let call = pair.ring();
    pair.pass(SECOND);
    for side in [A, B] {
        assert!(!pair.sides[side].events.iter().any(|e| short(e) == "participant joined"));
    }
    pair.ask(B, accept(call)).unwrap();
    pair.assert_joined(&[A, B], call);
}
