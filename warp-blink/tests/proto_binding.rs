//! What shows that a link and a session are in the same hands, and what goes over the link afterwards.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod proto_kit;

use std::time::Duration;

use proto_kit::{A, B, Pair, SECOND, Wire, accept, both, early, plain, said};
use warp_blink::{
    CallId,
    config::Config,
    error::Rejected,
    event::{EndReason, LinkState, Presence, Step},
    proto::{
        Command, EffectKind, EngineLink, Input, LinkId, MediaInput,
        signal::{Binding, Body, Fingerprint, Packet, Progress},
    },
};

fn over_link(_: usize, wire: &Wire) -> bool {
    matches!(wire, Wire::OnLink(..))
}

fn state(pair: &Pair, side: usize, call: CallId) -> LinkState {
    pair.sides[side].machine.snapshot().call(call).unwrap().participants[0].link
}

/// How often that side has said over a link what it sees.
fn bounds(pair: &Pair, side: usize) -> usize {
    let bound = |e: &&EffectKind| said(e).is_some_and(|(.., packet)| matches!(packet.body, Body::Bound(_)));
    pair.sides[side].log.iter().filter(bound).count()
}

/// Accepted, with both engines connected, and what goes over the link held back.
fn secured() -> (Pair, CallId) {
    let mut pair = plain();
    pair.hold = over_link;
    let call = pair.ring();
    pair.ask(B, accept(call)).unwrap();
    (pair, call)
}

#[test]
fn a_link_is_connected_once_both_ends_have_shown_who_they_are() {
    let (mut pair, call) = secured();
    for side in [A, B] {
        assert_eq!(state(&pair, side, call), LinkState::Securing);
        assert_ne!(pair.presence(side, 1 - side, call), Some(Presence::Joined));
    }
    // One way is not enough.
    pair.release(|from, _| from == A);
    assert_eq!((state(&pair, A, call), state(&pair, B, call)), (LinkState::Securing, LinkState::Securing));
    pair.release_all();
    pair.assert_joined(&[A, B], call);
    pair.pass(20 * SECOND);
    assert_eq!(
        (bounds(&pair, A), bounds(&pair, B)),
        (3, 3),
        "what it sees, that it has heard, and that it is done"
    );
}

#[test]
fn whatever_is_lost_of_the_exchange_it_ends_and_comes_to_rest() {
    for seed in 0..64_u32 {
        // Which of the first six messages are lost.
        let (mut pair, call) = secured();
        let (mut n, mut rounds) = (0, 0);
        while pair.held.iter().any(|(_, w)| matches!(w, Wire::OnLink(..))) || n < 6 {
            let all = std::mem::take(&mut pair.held);
            for (from, wire) in all {
                let lost = n < 6 && seed & (1 << n) != 0;
                n += 1;
                if !lost {
                    pair.deliver(from, wire);
                }
            }
            pair.pass(Duration::from_millis(50));
            rounds += 1;
            assert!(rounds < 2000, "seed {seed}: they never come to rest");
            if rounds > 200 && pair.held.is_empty() {
                break;
            }
        }
        pair.hold = |_, _| false;
        pair.pass(SECOND);
        pair.assert_joined(&[A, B], call);
        let before = (bounds(&pair, A), bounds(&pair, B));
        pair.pass(60 * SECOND);
        assert_eq!((bounds(&pair, A), bounds(&pair, B)), before, "seed {seed}: it goes on");
        assert!(before.0 <= 12 && before.1 <= 12, "seed {seed}: {before:?}");
    }
}

/// Somebody between the two has made a link with each.
#[test]
fn hostile_link_with_other_certificates_at_its_ends_ends_the_call() {
    let (mut pair, call) = secured();
    let link = pair.link(A, call);
    let [own, remote] = [Fingerprint([7; 32]), Fingerprint(*pair.key(A).as_bytes())];
    pair.held.retain(|(from, _)| *from == A);
    let body = Body::Bound(Binding { own, remote, progress: Progress::Done });
    let packet = Box::new(Packet { seq: 0, ack: 0, ack_bits: 0, call, generation: link.generation, body });
    let session = warp_blink::proto::SessionNo(1);
    pair.feed(A, Input::PacketOnLink { link, session, packet });
    pair.hold = |_, _| false;
    pair.held.clear();
    pair.pass(10 * SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::FingerprintMismatch, None)));
    assert!(pair.ended(B).is_some());
    pair.assert_clean();
}

/// What is said elsewhere than over that very link shows nothing of it.
#[test]
fn hostile_binding_that_did_not_cross_the_link_is_none() {
    let (mut pair, call) = secured();
    let there = pair.link(A, call);
    let [own, remote] = [B, A].map(|side| Fingerprint(*pair.key(side).as_bytes()));
    let body = Body::Bound(Binding { own, remote, progress: Progress::Done });
    let from = pair.key(B);
    let session = warp_blink::proto::SessionNo(1);
    let packet =
        |seq, generation| Box::new(Packet { seq, ack: 0, ack_bits: 0, call, generation, body: body.clone() });
    for seq in [0, 20] {
        pair.feed(A, Input::Packet { from, session, packet: packet(seq, there.generation) });
    }
    let before = LinkId { generation: there.generation + 1, ..there };
    pair.feed(A, Input::PacketOnLink { link: before, session, packet: packet(0, there.generation + 1) });
    pair.feed(A, Input::PacketOnLink { link: there, session, packet: packet(0, there.generation + 1) });
    pair.run();
    assert_eq!(state(&pair, A, call), LinkState::Securing);
}

#[test]
fn a_link_whose_other_end_never_shows_who_it_is_has_the_time_of_any_other() {
    let (mut pair, call) = secured();
    pair.hold = |_, _| false;
    pair.cut = |_, _| false;
    // Everything that goes over the link is lost.
    pair.held.clear();
    for _ in 0..40 {
        pair.hold = over_link;
        pair.pass(SECOND);
        pair.held.clear();
    }
    let reason = pair.ended(A).or(pair.ended(B)).expect("it has had its time").0;
    assert_eq!(reason, EndReason::Failed { step: Step::Securing });
    let _ = call;
}

#[test]
fn what_connects_while_it_rings_is_bound_before_it_is_accepted() {
    let mut pair = both(&early());
    let call = pair.ring();
    pair.pass(SECOND);
    assert_eq!((state(&pair, A, call), state(&pair, B, call)), (LinkState::Connected, LinkState::Connected));
    let before = bounds(&pair, A);
    pair.ask(B, accept(call)).unwrap();
    pair.assert_joined(&[A, B], call);
    assert_eq!(bounds(&pair, A), before, "nothing is left to say of it");
}

#[test]
fn a_hang_up_goes_over_the_link_and_is_heard_though_gossip_is_cut_off() {
    for hangs_up in [A, B] {
        let mut pair = plain();
        let call = pair.connected();
        pair.hold = |_, wire| !matches!(wire, Wire::OnLink(..));
        pair.ask(hangs_up, Command::HangUp { call }).unwrap();
        assert_eq!(pair.ended(1 - hangs_up), Some((EndReason::HungUp, Some(hangs_up))));
        pair.held.clear();
        pair.hold = |_, _| false;
        pair.pass(20 * SECOND);
        pair.assert_clean();
    }
}

#[test]
fn what_the_link_swallows_comes_over_gossip_after_the_first_wait() {
    let mut pair = Pair::swapped(Config::default(), Config::default());
    let call = pair.connected();
    let contact = pair.key(B);
    pair.hold = over_link;
    pair.ask(A, Command::AddContact(contact)).unwrap();
    pair.pass(Duration::from_millis(240));
    let keeps =
        |pair: &Pair| pair.sides[B].log.iter().filter(|e| matches!(e, EffectKind::Keep { .. })).count();
    let before = keeps(&pair);
    assert_eq!(pair.held.len(), 1, "it went over the link, and nowhere else");
    pair.held.clear();
    pair.pass(Duration::from_millis(20));
    assert_eq!(keeps(&pair), before + 1);
    // And so does the acknowledgement, or it would be sent for ever.
    pair.pass(20 * SECOND);
    assert!(pair.held.is_empty(), "{:?}", pair.held);
    pair.hold = |_, _| false;
    pair.assert_joined(&[A, B], call);
}

#[test]
fn an_interrupted_link_carries_no_signals() {
    let mut pair = plain();
    let call = pair.connected();
    pair.engine(call, EngineLink::Disconnected);
    let before = pair.sides[A].log.len();
    let contact = pair.key(B);
    pair.ask(A, Command::AddContact(contact)).unwrap();
    pair.pass(SECOND);
    let over = |e: &EffectKind| matches!(e, EffectKind::SendOnLink { .. });
    assert!(!pair.sides[A].log[before..].iter().any(over));
    pair.engine(call, EngineLink::Connected);
    pair.assert_joined(&[A, B], call);
    pair.pass(SECOND);
    assert!(pair.sides[A].log[before..].iter().any(over), "and again when it is back");
}

#[test]
fn a_channel_that_opens_before_the_engine_says_that_it_is_connected_changes_nothing() {
    let mut pair = plain();
    pair.path = false;
    let call = pair.ring();
    pair.ask(B, accept(call)).unwrap();
    for side in [A, B] {
        let link = pair.link(side, call);
        pair.secure(side, link);
    }
    pair.run();
    assert_eq!((state(&pair, A, call), state(&pair, B, call)), (LinkState::Checking, LinkState::Checking));
    for side in [A, B] {
        let link = pair.link(side, call);
        pair.feed(side, Input::Media(MediaInput::State { link, state: EngineLink::Connected }));
    }
    pair.run();
    pair.assert_joined(&[A, B], call);
}

#[test]
fn an_apps_channel_needs_an_accepted_call_and_a_link() {
    let mut pair = plain();
    pair.hold = over_link;
    let (peer, call) = (pair.key(B), pair.ring());
    let to = |pair: &Pair| pair.sides[A].machine.channel_to(call, &peer);
    assert_eq!(to(&pair), Err(Rejected::NotActive(call)));
    pair.ask(B, accept(call)).unwrap();
    assert_eq!(to(&pair), Err(Rejected::NotInCall(peer)), "it is not connected");
    pair.release_all();
    assert_eq!(to(&pair), Ok(pair.link(A, call)));
    assert_eq!(pair.sides[A].machine.channel_to(call, &pair.key(A)), Err(Rejected::NotInCall(pair.key(A))));
    pair.engine(call, EngineLink::Disconnected);
    assert_eq!(to(&pair), Err(Rejected::NotInCall(peer)), "it is interrupted");
    pair.ask(A, Command::HangUp { call }).unwrap();
    assert_eq!(to(&pair), Err(Rejected::NoSuchCall(call)));
}
