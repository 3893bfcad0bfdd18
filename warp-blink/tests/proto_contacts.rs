//! Who may ring, when it rings, and what contacts are given: two machines.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use std::time::Duration;

use proto_kit::{
    A, B, Pair, SECOND, SENT_AT, Wire, call_id, contacts, first_message, identities, looks_for_path, offer,
    opens_audio, packet, plain, rings, sent, touches_link, wall,
};
use warp_blink::{
    config::{Admission, Config, PostQuantum, PreConnect},
    error::Rejected,
    event::{EndReason, Phase, Protection},
    id::{Identity, PublicKey},
    proto::{
        Command, EffectKind, Gift, Input, Known, Outcome, ReplayMemory, SessionNo, TopicRef,
        signal::{Body, HelloKind, Lane, SUITE_CLASSICAL, SUITE_HYBRID},
    },
};

const DAY: u64 = 24 * 3600 * 1000;

#[test]
fn a_contact_rings_on_its_first_message_alone() {
    let mut pair = contacts();
    pair.hold = |from, _| from == B;
    pair.ring();
    assert!(rings(&pair), "before anything has come back from A");
    assert!(
        !touches_link(&pair, B) && pair.sides[B].links.is_empty(),
        "no address is shown to what may be a replay"
    );
    pair.release_all();
    let events = pair.events(B);
    assert_eq!(events.iter().filter(|e| *e == "incoming").count(), 1, "{events:?}");
    assert!(touches_link(&pair, B), "now it may connect early, as with any contact");
    pair.ask(B, proto_kit::accept(call_id(1))).unwrap();
    pair.pass(SECOND);
    assert_eq!(pair.sides[A].machine.snapshot().call(call_id(1)).unwrap().phase, Phase::Active);
}

#[test]
fn a_stranger_rings_when_it_has_confirmed() {
    let mut pair = plain();
    pair.hold = |from, _| from == B;
    pair.ring();
    assert!(!rings(&pair));
    pair.release_all();
    assert!(rings(&pair));
}

#[test]
fn hostile_replay_of_a_contacts_first_message_stops_ringing_and_opens_nothing() {
    let mut pair = contacts();
    let a = identities(2).remove(A);
    pair.feed(B, Input::Hello(Box::new(first_message(&a, 1, HelloKind::Offer))));
    pair.run();
    assert!(rings(&pair));
    // The user picks up what nobody confirms.
    pair.pass(9 * SECOND);
    assert!(rings(&pair));
    pair.pass(SECOND);
    assert!(!rings(&pair));
    assert_eq!(pair.ended(B), Some((EndReason::Unreachable, None)));
    assert_eq!(pair.events(B), ["incoming", "missed Unreachable", "ended Unreachable"]);
    assert!(!touches_link(&pair, B) && !opens_audio(&pair, B));
    // Once more, after the bytes are no longer remembered.
    pair.feed(B, Input::Hello(Box::new(first_message(&a, 1, HelloKind::Offer))));
    pair.run();
    assert!(!rings(&pair) && pair.events(B).is_empty());
    pair.assert_clean();
}

#[test]
fn hostile_replay_after_a_restart_does_not_ring() {
    let a = identities(2).remove(A);
    let kept = ReplayMemory::restored(wall(-600_000), [(call_id(1), SENT_AT)]);
    for memory in [kept, ReplayMemory::beginning(wall(10_000))] {
        let mut pair = contacts();
        pair.sides[B].machine = pair.sides[B].machine.clone().with_memory(memory);
        let mut replay = first_message(&a, 1, HelloKind::Offer);
        replay.wall = wall(10_000);
        pair.feed(B, Input::Hello(Box::new(replay)));
        pair.run();
        assert!(!rings(&pair));
        pair.pass(11 * SECOND);
        assert!(pair.events(B).is_empty());
        pair.assert_clean();
    }
}

#[test]
fn what_cannot_be_written_down_waits_for_confirmation() {
    let mut pair = contacts();
    pair.withhold = true;
    let a = identities(2).remove(A);
    let effects = pair.feed(B, Input::Hello(Box::new(first_message(&a, 1, HelloKind::Offer))));
    assert!(effects.iter().any(|e| matches!(e, EffectKind::Remember { .. })));
    pair.withhold = false;
    for (side, effect, _) in std::mem::take(&mut pair.undone) {
        pair.feed(side, Input::Done { effect, outcome: Outcome::Failed("disk full".into()) });
    }
    assert!(!rings(&pair));
    pair.feed(
        B,
        Input::Packet { from: a.public(), session: SessionNo(1), packet: packet(1, 1, Body::Confirm) },
    );
    assert!(rings(&pair));
}

#[test]
fn a_phone_whose_clock_is_a_day_off_rings_and_calls() {
    for off in [-(DAY as i64), -301_000, 301_000, DAY as i64] {
        let mut pair = contacts();
        pair.wall = wall(off);
        pair.hold = |from, _| from == B;
        let call = pair.ring();
        assert!(!rings(&pair), "{off} ms: confirmation is asked for");
        pair.release_all();
        assert!(rings(&pair), "{off} ms: never dropped");
        pair.ask(B, proto_kit::accept(call)).unwrap();
        pair.pass(SECOND);
        assert_eq!(pair.sides[A].machine.snapshot().call(call).unwrap().phase, Phase::Active);
    }
    for near in [-299_000, 299_000] {
        let mut pair = contacts();
        pair.wall = wall(near);
        pair.hold = |from, _| from == B;
        pair.ring();
        assert!(rings(&pair), "{near} ms");
    }
}

#[test]
fn what_is_answered_before_the_caller_confirmed_is_told_when_it_does() {
    for (command, reason) in [
        (Command::Decline { call: call_id(1) }, Some(EndReason::Declined)),
        (proto_kit::accept(call_id(1)), None),
    ] {
        let mut pair = contacts();
        pair.hold = |from, _| from == B;
        let call = pair.ring();
        pair.ask(B, command).unwrap();
        assert!(!touches_link(&pair, B));
        pair.pass(SECOND);
        pair.release_all();
        pair.pass(SECOND);
        assert_eq!(pair.ended(A), reason.map(|r| (r, Some(B))));
        let active = pair.sides[A].machine.snapshot().call(call).map(|c| c.phase);
        assert_eq!(active, reason.is_none().then_some(Phase::Active));
        pair.held.clear();
        if reason.is_none() {
            pair.ask(A, Command::HangUp { call }).unwrap();
        }
        pair.assert_clean();
    }
}

#[test]
fn who_is_not_admitted_meets_silence() {
    let b_only = |key: PublicKey| Admission::Only([key].into());
    let third = identities(3).remove(2).public();
    for admission in [Admission::Contacts, b_only(third), Admission::Ask] {
        let mut config = Config::default();
        config.admission = admission;
        let mut pair = Pair::new(Config::default(), config);
        pair.ring();
        pair.pass(16 * SECOND);
        assert_eq!(pair.ended(A), Some((EndReason::Unreachable, None)), "as if B were offline");
        assert!(pair.events(B).is_empty());
        let said =
            pair.sides[B].log.iter().filter(|e| !matches!(e, EffectKind::Subscribe(TopicRef::Inbox { .. })));
        assert_eq!(said.count(), 0, "nothing was sent, and nothing subscribed");
        assert!(pair.sides[B].machine.snapshot().statistics.counters.refused.admission >= 1);
    }
}

#[test]
fn whom_the_callback_lets_in_rings() {
    let mut config = Config::default();
    config.admission = Admission::Ask;
    for verdict in [true, false] {
        let mut pair = Pair::new(Config::default(), config.clone());
        let stranger = identities(3).remove(2);
        let mut arrived = first_message(&stranger, 1, HelloKind::Offer);
        arrived.verdict = Some(verdict);
        let effects = pair.feed(B, Input::Hello(Box::new(arrived)));
        assert_eq!(effects.is_empty(), !verdict);
    }
}

#[test]
fn a_blocked_caller_is_gone_at_once_under_both_of_its_keys() {
    let mut pair = contacts();
    let call = pair.connected();
    let a = pair.key(A);
    pair.ask(B, Command::Block(a)).unwrap();
    assert_eq!(pair.ended(A), Some((EndReason::HungUp, Some(B))));
    pair.pass(6 * SECOND);
    pair.events(B);
    let again = call_id(2);
    pair.ask(A, offer(again, pair.key(B))).unwrap();
    pair.pass(16 * SECOND);
    assert!(pair.events(B).is_empty());
    assert_ne!(call, again);
    // The mirror image of a key has the same owner.
    let mut twin = *a.as_bytes();
    twin[31] ^= 0x80;
    let mut arrived = first_message(&identities(2).remove(A), 3, HelloKind::Offer);
    arrived.hello.from = PublicKey::from_bytes(twin).unwrap();
    assert!(pair.feed(B, Input::Hello(Box::new(arrived))).is_empty());
    pair.assert_clean();
}

#[test]
fn a_block_while_it_rings_says_nothing() {
    let mut pair = plain();
    pair.ring();
    pair.events(B);
    let a = pair.key(A);
    let before = pair.sides[B].log.len();
    pair.ask(B, Command::Block(a)).unwrap();
    assert_eq!(pair.events(B), ["ended Declined"]);
    let spoke = |e: &EffectKind| matches!(e, EffectKind::Send { packet, .. } if packet.body != Body::Ack);
    assert!(!pair.sides[B].log[before..].iter().any(spoke));
    pair.pass(61 * SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::TimedOut, None)));
    pair.assert_clean();
}

#[test]
fn an_accepted_call_gives_the_key_to_all_and_the_token_to_contacts() {
    let mut pair = contacts();
    pair.connected();
    assert_eq!((sent(&pair, A, &Body::KemKey), sent(&pair, B, &Body::KemKey)), (1, 1));
    assert_eq!((sent(&pair, A, &Body::Token), sent(&pair, B, &Body::Token)), (0, 1), "B is no contact of A");
    let (a, b) = (pair.key(A), pair.key(B));
    assert!(pair.sides[A].log.contains(&EffectKind::Keep { peer: b, gift: Gift::Token }));
    assert!(pair.sides[B].log.contains(&EffectKind::Keep { peer: a, gift: Gift::KemKey }));
    pair.ask(A, Command::AddContact(b)).unwrap();
    assert_eq!(sent(&pair, A, &Body::Token), 1, "during the call, too");
}

#[test]
fn a_declined_call_gives_nothing() {
    let mut pair = contacts();
    let call = pair.ring();
    pair.ask(B, Command::Decline { call }).unwrap();
    pair.pass(SECOND);
    for side in [A, B] {
        assert_eq!((sent(&pair, side, &Body::KemKey), sent(&pair, side, &Body::Token)), (0, 0));
    }
}

#[test]
fn blocking_or_removing_somebody_gives_the_others_a_new_token() {
    let mut pair = contacts();
    pair.connected();
    let third = identities(3).remove(2).public();
    let fourth = Identity::from_seed([77; 32]).public();
    pair.ask(B, Command::AddContact(third)).unwrap();
    let before = sent(&pair, B, &Body::Token);
    for (n, command) in [Command::RemoveContact(third), Command::Block(fourth)].into_iter().enumerate() {
        pair.ask(B, command).unwrap();
        assert_eq!(pair.sides[B].log.iter().filter(|e| **e == EffectKind::NewToken).count(), n + 1);
        assert_eq!(sent(&pair, B, &Body::Token), before + n + 1, "A, in a call with B, has it at once");
    }
    let again = pair.sides[B].log.len();
    pair.ask(B, Command::Block(fourth)).unwrap();
    assert!(!pair.sides[B].log[again..].contains(&EffectKind::NewToken), "nothing new");
    let inbox = TopicRef::Inbox { owner: pair.key(B), lane: Lane::Contacts };
    assert!(pair.sides[B].topics.contains(&inbox));
}

#[test]
fn with_a_token_the_contacts_lane_comes_first_and_the_strangers_lane_still_comes() {
    let mut pair = plain();
    let b = pair.key(B);
    pair.feed(A, Input::Known { peer: b, known: Known::new(true, false) });
    pair.hold = |_, _| true;
    pair.ring();
    pair.pass(8 * SECOND);
    let lanes: Vec<Lane> = pair
        .held
        .iter()
        .filter_map(|(_, w)| if let Wire::Hello(_, lane, _) = w { Some(*lane) } else { None })
        .collect();
    use Lane::{Contacts as C, Strangers as S};
    assert_eq!(lanes, [C, C, C, S, C, S]);
}

#[test]
fn an_offer_over_both_lanes_is_one_call_and_either_copy_asks_for_its_answer() {
    let mut pair = plain();
    let b = pair.key(B);
    pair.feed(A, Input::Known { peer: b, known: Known::new(true, false) });
    // The first copies of each lane arrive, and all answers but the third are lost.
    pair.hold = |from, _| from == B;
    pair.ring();
    pair.pass(2 * SECOND);
    let answers = pair.held.iter().filter(|(_, w)| matches!(w, Wire::Welcome(..))).count();
    assert_eq!(answers, 4, "one to each of the transmissions at 0, 0.25, 0.75 and 1.75 s");
    pair.release_all();
    assert!(rings(&pair));
    assert_eq!(pair.events(B).iter().filter(|e| *e == "incoming").count(), 1);
}

#[test]
fn a_token_that_opens_nothing_any_more_costs_20_ms() {
    let mut pair = plain();
    let (a, b) = (pair.key(A), pair.key(B));
    pair.feed(A, Input::Known { peer: b, known: Known::new(true, false) });
    pair.sides[A].publish = Outcome::NoPeers;
    pair.ring();
    pair.sides[A].publish = Outcome::Ok;
    pair.pass(Duration::from_millis(19));
    assert!(!rings(&pair));
    pair.pass(Duration::from_millis(1));
    assert!(rings(&pair), "over the strangers' lane");
    assert_ne!(a, b);
}

#[test]
fn a_known_key_protects_every_further_call_and_off_is_the_apps_word() {
    for (mode, kem, expected) in [
        (PostQuantum::Prefer, true, Ok(SUITE_HYBRID)),
        (PostQuantum::Prefer, false, Ok(SUITE_CLASSICAL)),
        (PostQuantum::Off, true, Ok(SUITE_CLASSICAL)),
        (PostQuantum::Require, true, Ok(SUITE_HYBRID)),
        (PostQuantum::Require, false, Err(())),
    ] {
        let mut config = Config::default();
        config.post_quantum = mode;
        let mut pair = Pair::new(config, Config::default());
        let b = pair.key(B);
        pair.feed(A, Input::Known { peer: b, known: Known::new(false, kem) });
        let result = pair.ask(A, offer(call_id(1), b));
        match expected {
            Err(()) => assert_eq!(result, Err(Rejected::NoPostQuantumKey(b))),
            Ok(suite) => {
                result.unwrap();
                let used = |e: &EffectKind| {
                    matches!(e, EffectKind::SendHello { suite: s, hello, .. }
                    if *s == suite && hello.suites.contains(&suite))
                };
                assert!(pair.sides[A].log.iter().any(used), "{mode:?}");
                let shown =
                    if suite == SUITE_HYBRID { Protection::PostQuantum } else { Protection::Classical };
                for side in [A, B] {
                    let snapshot = pair.sides[side].machine.snapshot();
                    assert_eq!(snapshot.calls[0].participants[0].protection, Some(shown));
                }
            }
        }
    }
}

#[test]
fn hostile_downgrade_is_refused_by_who_requires_protection() {
    let mut config = Config::default();
    config.post_quantum = PostQuantum::Require;
    let mut pair = Pair::new(Config::default(), config);
    pair.ring();
    let mismatch = warp_blink::event::Mismatch::Protection;
    assert_eq!(pair.ended(A), Some((EndReason::Incompatible { mismatch }, Some(B))));
    assert!(!rings(&pair));
    pair.assert_clean();
}

#[test]
fn the_key_of_a_peer_is_learnt_in_its_first_accepted_call() {
    let mut pair = plain();
    let call = pair.connected();
    pair.ask(A, Command::HangUp { call }).unwrap();
    pair.pass(6 * SECOND);
    for (side, n) in [(A, 2), (B, 3)] {
        let to = pair.key(1 - side);
        pair.ask(side, offer(call_id(n), to)).unwrap();
        let hybrid = |e: &EffectKind| matches!(e, EffectKind::SendHello { suite: SUITE_HYBRID, .. });
        assert!(pair.sides[side].log.iter().any(hybrid));
        pair.ask(side, Command::Cancel { call: call_id(n) }).unwrap();
        pair.pass(6 * SECOND);
    }
}

#[test]
fn pre_connecting_is_for_contacts_by_default() {
    assert_eq!(Config::default().pre_connect, PreConnect::Contacts);
    for contact in [true, false] {
        let mut pair = Pair::swapped(Config::default(), Config::default());
        if contact {
            let (a, b) = (pair.key(A), pair.key(B));
            pair.ask(A, Command::AddContact(b)).unwrap();
            pair.ask(B, Command::AddContact(a)).unwrap();
        }
        pair.ring();
        assert_eq!(looks_for_path(&pair, A), contact);
        assert_eq!(touches_link(&pair, B), contact);
    }
}
