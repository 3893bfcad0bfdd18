//! Calls of more than two: joining, leaving, removing, coming back, and the keys that go with it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use proto_kit::{Pair, SECOND, accept, call_id, offer_all, said};
use warp_blink::{
    config::Config,
    error::Rejected,
    event::{EndReason, Phase, Presence},
    proto::{
        Command, EffectKind, Other, TopicRef,
        signal::{AppData, Body, MayInvite},
    },
    time::UnixTime,
};

fn plain() -> Config {
    Config::default()
}

fn invite(call: warp_blink::CallId, to: &[warp_blink::PublicKey]) -> Command {
    Command::Invite { call, to: to.to_vec(), app_data: AppData::default(), sent_at: UnixTime::default() }
}

#[test]
fn four_who_are_called_together_are_all_joined_with_one_another() {
    let (room, call) = Pair::conference(4, &plain());
    room.assert_joined(&[0, 1, 2, 3], call);
}

#[test]
fn sixteen_fill_a_call() {
    let (mut room, call) = Pair::conference(16, &plain());
    room.assert_joined(&(0..16).collect::<Vec<_>>(), call);
    let one_more = warp_blink::Identity::from_seed([17; 32]).public();
    assert_eq!(room.ask(0, invite(call, &[one_more])), Err(Rejected::CallFull { most: 16 }));
    for side in 0..16 {
        // The last one is alone, and its call ends by itself.
        let _ = room.ask(side, Command::HangUp { call });
    }
    room.assert_clean();
}

#[test]
fn who_declines_does_not_end_the_call_for_the_others() {
    let mut room = Pair::many(4, &plain());
    let (call, to) = (call_id(1), [1, 2, 3].map(|side| room.key(side)));
    room.ask(0, offer_all(call, &to)).unwrap();
    room.ask(1, Command::Decline { call }).unwrap();
    assert_eq!(room.presence(0, 1, call), Some(Presence::Declined));
    assert_eq!(room.phase(0, call), Some(Phase::Outgoing));
    room.ask(2, accept(call)).unwrap();
    room.ask(3, accept(call)).unwrap();
    room.pass(10 * SECOND);
    room.assert_joined(&[0, 2, 3], call);
    assert_eq!(room.ended(1), Some((EndReason::Declined, Some(1))));
}

#[test]
fn when_all_decline_the_call_is_declined() {
    let mut room = Pair::many(3, &plain());
    let (call, to) = (call_id(1), [1, 2].map(|side| room.key(side)));
    room.ask(0, offer_all(call, &to)).unwrap();
    room.ask(1, Command::Decline { call }).unwrap();
    room.ask(2, Command::Decline { call }).unwrap();
    assert_eq!(room.ended(0), Some((EndReason::Declined, Some(2))));
    room.assert_clean();
}

#[test]
fn a_caller_who_hangs_up_stops_every_phone_that_still_rings() {
    let mut room = Pair::many(4, &plain());
    let (call, to) = (call_id(1), [1, 2, 3].map(|side| room.key(side)));
    room.ask(0, offer_all(call, &to)).unwrap();
    room.ask(1, accept(call)).unwrap();
    room.pass(SECOND);
    room.ask(0, Command::HangUp { call }).unwrap();
    room.pass(SECOND);
    assert_eq!(room.ended(2), Some((EndReason::Cancelled, Some(0))));
    assert_eq!(room.ended(3), Some((EndReason::Cancelled, Some(0))));
}

#[test]
fn when_one_leaves_the_others_go_on_with_a_key_that_it_does_not_have() {
    let (mut room, call) = Pair::conference(4, &plain());
    let before = room.speaks_in(1, call);
    room.ask(2, Command::HangUp { call }).unwrap();
    room.pass(10 * SECOND);
    room.assert_joined(&[0, 1, 3], call);
    assert_ne!(room.speaks_in(1, call), before);
    assert_eq!(room.speaks_in(1, call).n, 2, "one new key, not one of each");
    assert_eq!(room.presence(0, 2, call), Some(Presence::Left));
    assert_eq!(room.ended(2), Some((EndReason::HungUp, Some(2))));
    let heard = |s: &proto_kit::Side| s.topics.iter().filter(|t| matches!(t, TopicRef::Call { .. })).count();
    room.pass(11 * SECOND);
    assert_eq!([0, 1, 3].map(|side| heard(&room.sides[side])), [1, 1, 1], "old keys are heard no longer");
}

#[test]
fn who_was_removed_hears_that_and_nothing_more() {
    let (mut room, call) = Pair::conference(4, &plain());
    let before = room.speaks_in(0, call);
    let removed = room.key(3);
    let from: Vec<usize> = (0..3).map(|side| room.sides[side].log.len()).collect();
    room.ask(0, Command::Remove { call, peer: removed }).unwrap();
    room.pass(10 * SECOND);
    assert_eq!(room.ended(3), Some((EndReason::Removed, Some(0))));
    room.assert_joined(&[0, 1, 2], call);
    for (side, from) in from.into_iter().enumerate() {
        // The last word goes over the link and over gossip.
        let mut said: Vec<_> = room.sides[side].log[from..]
            .iter()
            .filter_map(|e| match e {
                EffectKind::SendCall { epoch, .. } if *epoch == before => Some(Body::Here),
                e => said(e).filter(|(to, ..)| *to == removed).map(|(.., packet)| packet.body.clone()),
            })
            .filter(|body| *body != Body::Ack)
            .collect();
        said.dedup();
        let wanted = if side == 0 { vec![Body::Removed] } else { Vec::new() };
        assert_eq!(said, wanted, "what {side} says to the removed one");
    }
    assert_eq!(room.ask(1, Command::Remove { call, peer: room.key(2) }), Err(Rejected::MayNotRemove(call)));
}

#[test]
fn a_removed_one_can_be_invited_again() {
    let (mut room, call) = Pair::conference(3, &plain());
    let key = room.key(2);
    room.ask(0, Command::Remove { call, peer: key }).unwrap();
    room.pass(20 * SECOND);
    room.ask(0, invite(call, &[key])).unwrap();
    assert_eq!(room.phase(2, call), Some(Phase::Incoming));
    room.ask(2, accept(call)).unwrap();
    room.pass(20 * SECOND);
    room.assert_joined(&[0, 1, 2], call);
}

#[test]
fn one_who_is_invited_late_is_joined_with_all_and_knows_their_state() {
    let mut room = Pair::many(4, &plain());
    let (call, to) = (call_id(1), [1, 2].map(|side| room.key(side)));
    room.ask(0, offer_all(call, &to)).unwrap();
    room.ask(1, accept(call)).unwrap();
    room.ask(2, accept(call)).unwrap();
    room.pass(10 * SECOND);
    room.ask(2, Command::SetMuted(true)).unwrap();
    room.ask(1, Command::SetRecording(true)).unwrap();
    let late = room.key(3);
    assert_eq!(room.ask(1, invite(call, &[room.key(2)])), Err(Rejected::AlreadyInCall(room.key(2))));
    room.ask(1, invite(call, &[late])).unwrap();
    room.ask(3, accept(call)).unwrap();
    let took =
        room.until(10 * SECOND, |r| (0..3).all(|of| r.presence(3, of, call) == Some(Presence::Joined)));
    println!("a late one is joined with all three after {took:?}");
    room.pass(10 * SECOND);
    room.assert_joined(&[0, 1, 2, 3], call);
    let snapshot = room.sides[3].machine.snapshot();
    let state = |side: usize| {
        let key = room.key(side);
        snapshot.call(call).unwrap().participants.iter().find(|p| p.peer == key).unwrap().state
    };
    assert!(state(2).muted && !state(2).recording && state(1).recording && !state(1).muted);
    assert_eq!(snapshot.call(call).unwrap().caller, Some(room.key(1)));
    assert_eq!(snapshot.call(call).unwrap().creator, Some(room.key(0)));
}

#[test]
fn only_those_who_may_invite() {
    let mut room = Pair::many(4, &plain());
    room.may_invite = MayInvite::Creator;
    let (call, to) = (call_id(1), [1, 2].map(|side| room.key(side)));
    room.ask(0, offer_all(call, &to)).unwrap();
    room.ask(1, accept(call)).unwrap();
    room.ask(2, accept(call)).unwrap();
    room.pass(5 * SECOND);
    let late = room.key(3);
    assert_eq!(room.ask(1, invite(call, &[late])), Err(Rejected::MayNotInvite(call)));
    room.ask(0, invite(call, &[late])).unwrap();
    room.ask(3, accept(call)).unwrap();
    room.pass(10 * SECOND);
    room.assert_joined(&[0, 1, 2, 3], call);
}

#[test]
fn who_left_comes_back_at_once() {
    let (mut room, call) = Pair::conference(4, &plain());
    for round in 0..3 {
        room.ask(2, Command::Leave { call }).unwrap();
        assert_eq!(room.phase(2, call), Some(Phase::Left));
        room.pass(SECOND);
        assert_eq!(room.presence(0, 2, call), Some(Presence::Left), "round {round}");
        room.ask(2, Command::Rejoin { call, other: Other::End }).unwrap();
        let took = room.until(5 * SECOND, |r| {
            [0, 1, 3].iter().all(|of| r.presence(2, *of, call) == Some(Presence::Joined))
        });
        println!("back after {took:?}");
        room.pass(10 * SECOND);
        room.assert_joined(&[0, 1, 2, 3], call);
    }
    assert_eq!(room.ask(2, Command::Rejoin { call, other: Other::End }), Err(Rejected::NotLeft(call)));
}

#[test]
fn who_left_and_is_invited_again_rings() {
    for answers in [true, false] {
        let (mut room, call) = Pair::conference(3, &plain());
        room.ask(2, Command::Leave { call }).unwrap();
        room.pass(SECOND);
        room.ask(1, invite(call, &[room.key(2)])).unwrap();
        assert_eq!(room.phase(2, call), Some(Phase::Incoming));
        assert_eq!(room.ended(2), Some((EndReason::HungUp, None)), "what was before is over");
        assert_eq!(room.ask(2, Command::Rejoin { call, other: Other::End }), Err(Rejected::NotLeft(call)));
        if answers {
            room.ask(2, accept(call)).unwrap();
            room.pass(20 * SECOND);
            room.assert_joined(&[0, 1, 2], call);
        } else {
            room.ask(2, Command::Decline { call }).unwrap();
            assert_eq!(room.presence(1, 2, call), Some(Presence::Declined));
            room.pass(20 * SECOND);
            room.assert_joined(&[0, 1], call);
        }
    }
}

#[test]
fn one_of_two_leaves_and_comes_back() {
    let (mut room, call) = Pair::conference(2, &plain());
    room.ask(1, Command::Leave { call }).unwrap();
    room.pass(20 * SECOND);
    assert_eq!(room.phase(0, call), Some(Phase::Active), "it waits");
    room.ask(1, Command::Rejoin { call, other: Other::End }).unwrap();
    room.pass(20 * SECOND);
    room.assert_joined(&[0, 1], call);
    room.ask(1, Command::Leave { call }).unwrap();
    room.pass(31 * SECOND);
    assert_eq!(room.ended(0), Some((EndReason::HungUp, None)), "it does not wait for ever");
    assert_eq!(room.ended(1), Some((EndReason::HungUp, Some(0))), "and says so");
    room.assert_clean();
}

#[test]
fn the_last_one_waits_for_somebody_to_come_back() {
    let (mut room, call) = Pair::conference(3, &plain());
    room.ask(0, Command::HangUp { call }).unwrap();
    room.ask(1, Command::HangUp { call }).unwrap();
    room.pass(29 * SECOND);
    assert_eq!(room.phase(2, call), Some(Phase::Active));
    room.pass(2 * SECOND);
    assert_eq!(room.ended(2), Some((EndReason::HungUp, None)));
    room.assert_clean();
}

#[test]
fn who_crashes_is_reconnecting_then_lost_and_comes_back_without_ringing_anyone() {
    for crashed in 0..4 {
        let (mut room, call) = Pair::conference(4, &plain());
        let others: Vec<usize> = (0..4).filter(|s| *s != crashed).collect();
        room.crash(crashed, call);
        room.interrupted(crashed, call);
        for at in &others {
            assert_eq!(room.presence(*at, crashed, call), Some(Presence::Reconnecting));
        }
        room.pass(61 * SECOND);
        for at in &others {
            assert_eq!(room.presence(*at, crashed, call), Some(Presence::Lost));
        }
        let resumable = room.sides[crashed].machine.snapshot().resumable;
        assert_eq!(resumable.len(), 1);
        assert_eq!(resumable[0].participants.len(), 3);
        let resume =
            Command::Resume { call, sent_at: UnixTime::from_millis(1_700_000_000_000), other: Other::End };
        room.ask(crashed, resume).unwrap();
        let took = room.until(20 * SECOND, |r| {
            others.iter().all(|of| r.presence(crashed, *of, call) == Some(Presence::Joined))
        });
        println!("{crashed} is back after {took:?}");
        room.pass(10 * SECOND);
        room.assert_joined(&[0, 1, 2, 3], call);
        for at in others {
            let rang =
                room.sides[at].events.iter().filter(|e| matches!(e, warp_blink::Event::Incoming { .. }));
            assert!(rang.count() <= 1, "{at} is not rung again");
        }
    }
}

#[test]
fn both_of_two_crash_and_come_back_in_either_order() {
    for (first, second) in [(0, 1), (1, 0)] {
        for gap in [0, 1] {
            let (mut room, call) = Pair::conference(2, &plain());
            room.crash(0, call);
            room.crash(1, call);
            let resume = || Command::Resume { call, sent_at: UnixTime::from_millis(1), other: Other::End };
            room.input(first, resume().into()).unwrap();
            if gap == 1 {
                room.pass(SECOND);
            }
            room.input(second, resume().into()).unwrap();
            room.run();
            room.pass(20 * SECOND);
            room.assert_joined(&[0, 1], call);
        }
    }
}

#[test]
fn nobody_answers_who_comes_back_to_a_call_that_is_over() {
    let (mut room, call) = Pair::conference(3, &plain());
    room.crash(2, call);
    room.ask(0, Command::HangUp { call }).unwrap();
    room.ask(1, Command::HangUp { call }).unwrap();
    room.pass(60 * SECOND);
    let resume = Command::Resume { call, sent_at: UnixTime::from_millis(1), other: Other::End };
    room.ask(2, resume.clone()).unwrap();
    room.pass(61 * SECOND);
    assert_eq!(room.ended(2), Some((EndReason::Unreachable, None)));
    assert_eq!(room.ask(2, resume), Err(Rejected::NothingToResume(call)));
    room.assert_clean();
}

#[test]
fn whoever_comes_back_to_a_call_of_two_that_is_over_finds_nobody_or_can_let_it_be() {
    for resumes in [true, false] {
        let (mut room, call) = Pair::conference(2, &plain());
        room.crash(1, call);
        room.ask(0, Command::HangUp { call }).unwrap();
        room.pass(60 * SECOND);
        let resume = Command::Resume { call, sent_at: UnixTime::from_millis(1), other: Other::End };
        if resumes {
            room.ask(1, resume.clone()).unwrap();
            room.pass(31 * SECOND);
            assert_eq!(room.ended(1), Some((EndReason::Unreachable, None)));
        } else {
            room.ask(1, Command::HangUp { call }).unwrap();
            assert_eq!(room.sides[1].log.last(), Some(&EffectKind::UnsaveCall { call }));
            assert!(room.sides[1].machine.snapshot().resumable.is_empty());
        }
        assert_eq!(room.ask(1, resume), Err(Rejected::NothingToResume(call)));
        room.assert_clean();
    }
}

#[test]
fn a_cut_heals_and_all_share_one_key_again() {
    // Two and two, while one of each side leaves and comes back.
    let (mut room, call) = Pair::conference(5, &plain());
    room.cut = |a, b| (a < 2) != (b < 2);
    for (a, b) in [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)] {
        for (at, of) in [(a, b), (b, a)] {
            room.told(at, of, call, warp_blink::proto::EngineLink::Disconnected);
        }
    }
    room.ask(1, Command::Leave { call }).unwrap();
    room.ask(4, Command::Leave { call }).unwrap();
    room.pass(20 * SECOND);
    let (one, other) = (room.speaks_in(0, call), room.speaks_in(2, call));
    assert_ne!(one, other, "each side has a key without whom it knows to be gone");
    room.pass(60 * SECOND);
    room.cut = |_, _| false;
    let took = room.until(120 * SECOND, |r| {
        [(0, 2), (0, 3), (2, 3)].iter().all(|(a, b)| r.presence(*a, *b, call) == Some(Presence::Joined))
    });
    println!("joined again {took:?} after the cut");
    room.pass(10 * SECOND);
    room.assert_joined(&[0, 2, 3], call);
    assert!(room.speaks_in(0, call).n >= 3, "neither of the two keys was good for all");
}

#[test]
fn a_hold_is_seen_by_the_others_and_nothing_is_sent_meanwhile() {
    let (mut room, call) = Pair::conference(3, &plain());
    room.ask(1, Command::Hold { call }).unwrap();
    room.pass(SECOND);
    let key = room.key(1);
    let held = |r: &Pair, at: usize| {
        let snapshot = r.sides[at].machine.snapshot();
        snapshot.call(call).unwrap().participants.iter().find(|p| p.peer == key).unwrap().state.held
    };
    assert!(held(&room, 0) && held(&room, 2));
    assert!(room.sides[1].audio.is_empty() && room.sides[1].machine.snapshot().call(call).unwrap().held);
    assert_eq!(room.ask(1, Command::Hold { call }), Err(Rejected::IsHeld(call)));
    // Another call meanwhile.
    let third = call_id(2);
    room.ask(0, Command::HangUp { call }).unwrap();
    room.pass(SECOND);
    room.ask(0, offer_all(third, &[key])).unwrap();
    room.ask(1, accept(third)).unwrap();
    room.pass(5 * SECOND);
    room.assert_joined(&[0, 1], third);
    room.ask(1, Command::Unhold { call, other: Other::Hold }).unwrap();
    room.pass(5 * SECOND);
    assert_eq!(room.presence(1, 2, call), Some(Presence::Joined));
    assert!(room.sides[1].audio.contains(&call) && !room.sides[1].audio.contains(&third));
    assert!(room.sides[1].machine.snapshot().call(third).unwrap().held);
}

#[test]
fn accepting_another_call_can_hold_the_first() {
    let mut room = Pair::many(3, &plain());
    let (first, second) = (call_id(1), call_id(2));
    let callee = room.key(1);
    room.ask(0, offer_all(first, &[callee])).unwrap();
    room.ask(1, accept(first)).unwrap();
    room.pass(SECOND);
    room.ask(2, offer_all(second, &[callee])).unwrap();
    room.ask(1, Command::Accept { call: second, other: Other::Hold }).unwrap();
    room.pass(5 * SECOND);
    assert_eq!(room.presence(1, 0, first), Some(Presence::Joined), "the first one lasts");
    assert_eq!(room.presence(1, 2, second), Some(Presence::Joined));
    room.ask(1, Command::HangUp { call: second }).unwrap();
    room.ask(1, Command::Unhold { call: first, other: Other::End }).unwrap();
    room.pass(SECOND);
    assert_eq!(room.sides[1].audio.len(), 1);
    room.ask(0, Command::HangUp { call: first }).unwrap();
    room.assert_clean();
}

#[test]
fn a_caller_that_dies_while_it_rings_stops_the_ringing() {
    let mut room = Pair::many(3, &plain());
    let (call, to) = (call_id(1), [1, 2].map(|side| room.key(side)));
    room.ask(0, offer_all(call, &to)).unwrap();
    room.pass(15 * SECOND);
    assert_eq!(room.phase(1, call), Some(Phase::Incoming), "it says that it is there");
    room.crash(0, call);
    room.pass(21 * SECOND);
    for side in [1, 2] {
        assert_eq!(room.ended(side), Some((EndReason::Lost, None)));
    }
    room.assert_clean();
}

#[test]
fn a_signal_that_was_removed_from_the_air_changes_nothing_in_the_end() {
    // Rolls and keys are lost; announces and the short words find the difference.
    let (mut room, call) = Pair::conference(4, &plain());
    room.hold = |_, w| matches!(w.body(), Some(Body::Roll(_) | Body::CallKey(_)));
    room.ask(3, Command::HangUp { call }).unwrap();
    room.pass(2 * SECOND);
    room.held.clear();
    room.hold = |_, _| false;
    room.pass(30 * SECOND);
    room.assert_joined(&[0, 1, 2], call);
}

#[test]
fn who_declined_one_can_come_when_another_calls() {
    let mut room = Pair::many(4, &plain());
    let (call, to) = (call_id(1), [1, 2, 3].map(|side| room.key(side)));
    room.ask(0, offer_all(call, &to)).unwrap();
    room.ask(1, accept(call)).unwrap();
    room.ask(2, accept(call)).unwrap();
    room.ask(3, Command::Decline { call }).unwrap();
    room.pass(10 * SECOND);
    let key = room.key(3);
    room.ask(1, invite(call, &[key])).unwrap();
    room.ask(3, accept(call)).unwrap();
    room.pass(20 * SECOND);
    room.assert_joined(&[0, 1, 2, 3], call);
}

#[test]
fn who_requires_post_quantum_protection_meets_nobody_without_and_says_so() {
    let mut config = plain();
    let mut room = Pair::many(3, &config);
    config.post_quantum = warp_blink::PostQuantum::Require;
    // The others reach it, and it reaches them, in their own calls; between 1 and 2 nothing is known.
    room.configure(1, &config);
    let call = call_id(1);
    let (one, two) = (room.key(1), room.key(2));
    room.knows(0, 1);
    room.knows(1, 0);
    room.ask(0, offer_all(call, &[one, two])).unwrap();
    room.ask(1, accept(call)).unwrap();
    room.ask(2, accept(call)).unwrap();
    room.pass(10 * SECOND);
    assert_eq!(room.presence(1, 0, call), Some(Presence::Joined));
    assert_eq!(room.presence(1, 2, call), Some(Presence::Incompatible));
    let errors = room.sides[1].machine.snapshot().errors;
    assert!(errors.iter().any(|e| e.peer == Some(two) && e.text.contains("post-quantum")), "{errors:?}");
}
