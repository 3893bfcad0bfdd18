//! Calls that come to nothing, between two machines: busy, incompatible, unreachable, unanswered.

mod proto_kit;

use std::time::Duration;

use proto_kit::{A, B, Pair, SECOND, Wire, call_id, identities, offer, opens_audio, plain, reject_when_busy};
use warp_blink::{
    config::Config,
    error::Rejected,
    event::{EndReason, Mismatch, Phase, Via},
    proto::{
        Command, EffectKind, Input, Outcome, TopicRef,
        signal::{Body, Hello, HelloKind, Lane, MediaFormat, Status},
    },
};

/// What a caller is told whose version the callee does not speak.
const OLDER: EndReason = EndReason::Incompatible { mismatch: Mismatch::PeerIsOlder { version: 1 } };

const MEDIA: EndReason = EndReason::Incompatible { mismatch: Mismatch::Media };

#[test]
fn a_callee_in_a_call_is_busy_if_so_configured() {
    let mut pair = Pair::new(Config::default(), reject_when_busy());
    // B calls somebody else, whom nobody hears: B is under way.
    pair.hold = |from, _| from == B;
    let third = identities(3).remove(2).public();
    pair.ask(B, offer(call_id(9), third)).unwrap();
    pair.hold = |from, w| from == B && w.is_hello(HelloKind::Offer);
    pair.ring();
    assert_eq!(pair.ended(A), Some((EndReason::Busy, Some(B))));
    assert_eq!(pair.events(B), ["reached", "offering", "missed Busy"]);
    pair.ask(B, Command::Cancel { call: call_id(9) }).unwrap();
    pair.assert_clean();
}

#[test]
fn a_callee_with_too_many_pending_calls_is_busy() {
    let mut config = Config::default();
    config.max_pending = 0;
    let mut pair = Pair::new(Config::default(), config);
    pair.ring();
    assert_eq!(pair.ended(A), Some((EndReason::Busy, Some(B))));
    assert_eq!(pair.events(B), ["missed Busy"]);
    pair.assert_clean();
}

#[test]
fn nobody_answers() {
    let mut pair = plain();
    pair.ring();
    pair.pass(59 * SECOND);
    assert_eq!(pair.ended(A), None);
    pair.pass(SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::TimedOut, None)));
    assert_eq!(pair.ended(B), Some((EndReason::TimedOut, None)));
    assert_eq!(pair.events(B), ["incoming", "missed TimedOut", "ended TimedOut"]);
    pair.assert_clean();
}

#[test]
fn a_callee_that_rings_for_less_than_the_caller_wishes_tells_so() {
    let mut config = Config::default();
    config.max_ring = Duration::from_secs(5);
    let mut pair = Pair::new(Config::default(), config);
    pair.ring();
    pair.pass(5 * SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::TimedOut, None)));
    assert_eq!(pair.ended(B), Some((EndReason::TimedOut, None)));
    pair.assert_clean();
}

#[test]
fn an_unreachable_callee_ends_the_call_soon() {
    let mut pair = plain();
    pair.sides[A].publish = Outcome::NoPeers;
    pair.sides[A].reach = Outcome::Failed("no address answers".into());
    pair.ring();
    pair.pass(Duration::from_millis(2900));
    assert_eq!(pair.ended(A), None);
    pair.pass(Duration::from_millis(100));
    assert_eq!(pair.ended(A), Some((EndReason::Unreachable, None)));
    assert!(pair.events(B).is_empty());
    pair.assert_clean();
}

#[test]
fn a_callee_that_is_offline_is_unreachable_after_the_reach_time() {
    let mut pair = plain();
    pair.hold = |_, _| true;
    pair.ring();
    pair.pass(14 * SECOND);
    assert_eq!(pair.ended(A), None);
    pair.pass(SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::Unreachable, None)));
    let offers = pair.held.iter().filter(|(_, w)| w.is_hello(HelloKind::Offer)).count();
    assert_eq!(offers, 7, "0, 0.25, 0.75, 1.75, 3.75, 7.75, 11.75 s");
    pair.held.clear();
    pair.assert_clean();
}

/// Over a path that loses much it takes long to connect, and as long again until an offer has crossed it.
#[test]
fn a_callee_whose_node_is_reached_late_has_as_long_again_to_say_something() {
    let mut pair = plain();
    pair.hold = |_, _| true;
    pair.withhold = true;
    pair.ring();
    pair.pass(10 * SECOND);
    pair.withhold = false;
    for (side, effect, outcome) in std::mem::take(&mut pair.undone) {
        pair.feed(side, Input::Done { effect, outcome });
    }
    pair.pass(14 * SECOND);
    assert_eq!(pair.ended(A), None);
    pair.pass(SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::Unreachable, None)));
    pair.held.clear();
    pair.assert_clean();
}

#[test]
fn who_is_woken_some_other_way_is_waited_for_as_long_as_it_would_ring() {
    let mut pair = plain();
    pair.sides[A].publish = Outcome::NoPeers;
    pair.sides[A].reach = Outcome::Failed("no address answers".into());
    let export = Command::Export { call: call_id(1), peer: pair.key(B) };
    assert_eq!(pair.ask(A, export.clone()), Err(Rejected::NoSuchCall(call_id(1))));
    pair.ring();
    pair.ask(A, export.clone()).unwrap();
    pair.pass(59 * SECOND);
    assert_eq!(pair.ended(A), None);
    pair.sides[A].publish = Outcome::Ok;
    let inbox = TopicRef::Inbox { owner: pair.key(B), lane: Lane::Strangers };
    pair.feed(A, Input::PeerSubscribed(inbox));
    pair.run();
    assert_eq!(pair.phase(B, call_id(1)), Some(Phase::Incoming));
    assert_eq!(pair.ask(A, export), Ok(()), "it rings: there is nothing to wait for, and no harm");
    pair.pass(2 * SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::TimedOut, None)));
    pair.assert_clean();
}

#[test]
fn a_callee_that_comes_online_in_time_rings() {
    let mut pair = plain();
    pair.sides[A].publish = Outcome::NoPeers;
    pair.ring();
    pair.pass(10 * SECOND);
    pair.sides[A].publish = Outcome::Ok;
    let inbox = TopicRef::Inbox { owner: pair.key(B), lane: Lane::Strangers };
    pair.feed(A, Input::PeerSubscribed(inbox));
    pair.run();
    assert_eq!(pair.events(B), ["incoming"]);
    assert_eq!(pair.events(A), ["reached", "offering", "ringing"]);
}

/// Finding somebody takes what it takes. What is said then is said again as soon as ever, until it is acknowledged.
#[test]
fn the_time_until_somebody_is_found_is_no_round_trip() {
    for lane in [Lane::Contacts, Lane::Strangers] {
        let mut pair = plain();
        pair.sides[A].publish = Outcome::NoPeers;
        pair.ring();
        pair.pass(3 * SECOND);
        pair.sides[A].publish = Outcome::Ok;
        pair.hold = |from, wire| from == A && wire.body().is_some();
        let inbox = TopicRef::Inbox { owner: pair.key(B), lane };
        pair.feed(A, Input::PeerSubscribed(inbox));
        pair.run();
        let said = |pair: &Pair| {
            pair.sides[A].log.iter().filter(|effect| matches!(effect, EffectKind::Send { .. })).count()
        };
        let before = said(&pair);
        assert!(before > 0, "{lane:?}: the session is there");
        pair.pass(Duration::from_millis(300));
        assert!(said(&pair) > before, "{lane:?}");
    }
}

/// Whoever is looked for in vain may be there a moment later, found by another path or having come by themselves. The app hears of it, as often
/// as somebody may knock.
#[test]
fn who_is_there_after_all_is_told_as_reached() {
    let mut pair = plain();
    pair.sides[A].publish = Outcome::NoPeers;
    pair.sides[A].reach = Outcome::Failed("no address answers".into());
    pair.ring();
    pair.pass(SECOND);
    let inbox = Input::PeerSubscribed(TopicRef::Inbox { owner: pair.key(B), lane: Lane::Strangers });
    // Somebody else listens where the callee would.
    pair.feed(A, inbox.clone());
    pair.run();
    assert_eq!(pair.events(A).iter().filter(|e| e.starts_with("warning NotReached")).count(), 2);
    pair.sides[A].reach = Outcome::Reached(Via::Relay);
    pair.sides[A].publish = Outcome::Ok;
    pair.feed(A, inbox.clone());
    pair.feed(A, inbox.clone());
    pair.run();
    assert_eq!(pair.events(A), ["reached", "offering", "ringing"]);
    assert_eq!(pair.phase(B, call_id(1)), Some(Phase::Incoming));
}

#[test]
fn who_only_knocks_is_not_looked_for_without_end() {
    let mut pair = plain();
    pair.sides[A].publish = Outcome::NoPeers;
    pair.sides[A].reach = Outcome::Failed("no address answers".into());
    pair.ring();
    let inbox = Input::PeerSubscribed(TopicRef::Inbox { owner: pair.key(B), lane: Lane::Strangers });
    for _ in 0..20 {
        pair.feed(A, inbox.clone());
        pair.run();
    }
    assert_eq!(pair.events(A).len(), 4, "once, and three times again");
}

#[test]
fn an_offer_without_a_common_version_or_format_is_incompatible() {
    use Mismatch::{Media, PeerIsNewer, PeerIsOlder, Protection};
    let (older, newer) = (PeerIsOlder { version: 1 }, PeerIsNewer { version: 2 });
    type Spoil = fn(&mut Hello);
    let spoil: [(Spoil, Mismatch, Mismatch); 6] = [
        (|h| h.versions = vec![3, 2], older, newer),
        (|h| h.versions = vec![0], older, PeerIsOlder { version: 0 }),
        (|h| h.versions = vec![], older, PeerIsOlder { version: 0 }),
        (|h| h.suites = vec![], Protection, Protection),
        (|h| h.media.frame_ms = 5, Media, Media),
        (|h| h.media.max_bitrate = 1_000_000, Media, Media),
    ];
    for (change, told, found) in spoil {
        let mut pair = plain();
        pair.hold = |_, w| w.is_hello(HelloKind::Offer);
        pair.ring();
        for (_, wire) in &mut pair.held {
            if let Wire::Hello(_, _, arrived) = wire {
                change(&mut arrived.hello);
            }
        }
        pair.release_all();
        assert_eq!(pair.ended(A), Some((EndReason::Incompatible { mismatch: told }, Some(B))));
        let missed = EndReason::Incompatible { mismatch: found };
        assert_eq!(pair.events(B), [format!("missed {missed:?}")]);
        pair.assert_clean();
    }
}

#[test]
fn a_refusal_that_is_lost_is_said_again() {
    let mut pair = plain();
    pair.hold = |_, w| w.is_hello(HelloKind::Offer) || matches!(w, Wire::Welcome(..));
    pair.ring();
    pair.pass(SECOND);
    for (_, wire) in &mut pair.held {
        if let Wire::Hello(_, _, arrived) = wire {
            arrived.hello.versions = vec![2];
        }
    }
    let mut offers = std::mem::take(&mut pair.held).into_iter();
    let (from, first) = offers.next().unwrap();
    pair.deliver(from, first);
    assert_eq!(pair.held.len(), 1, "one refusal");
    pair.held.clear();
    pair.hold = |_, w| w.is_hello(HelloKind::Offer);
    pair.pass(SECOND);
    let (from, again) = offers.next().unwrap();
    pair.deliver(from, again);
    assert_eq!(pair.ended(A), Some((OLDER, Some(B))));
    assert_eq!(pair.events(B), ["missed Incompatible { mismatch: PeerIsNewer { version: 2 } }"]);
    pair.held.clear();
    pair.assert_clean();
}

#[test]
fn a_refusal_that_finds_nobody_is_said_again() {
    let mut pair = plain();
    pair.hold = |_, w| w.is_hello(HelloKind::Offer);
    pair.ring();
    for (_, wire) in &mut pair.held {
        if let Wire::Hello(_, _, arrived) = wire {
            arrived.hello.versions = vec![2];
        }
    }
    pair.sides[B].publish = Outcome::NoPeers;
    pair.release(|_, _| true);
    assert_eq!(pair.ended(A), None);
    pair.sides[B].publish = Outcome::Ok;
    pair.pass(Duration::from_millis(20));
    assert_eq!(pair.ended(A), Some((OLDER, Some(B))));
    pair.held.clear();
    pair.assert_clean();
}

#[test]
fn an_answer_of_another_version_or_that_refuses_ends_the_call() {
    for (version, status, reason) in [
        (2, Status::Open, EndReason::Incompatible { mismatch: Mismatch::PeerIsNewer { version: 2 } }),
        (2, Status::Version, EndReason::Incompatible { mismatch: Mismatch::PeerIsNewer { version: 2 } }),
        (0, Status::Version, EndReason::Incompatible { mismatch: Mismatch::PeerIsOlder { version: 0 } }),
        (1, Status::Suite, EndReason::Incompatible { mismatch: Mismatch::Protection }),
        (1, Status::Incompatible, MEDIA),
        (1, Status::Busy, EndReason::Busy),
        (1, Status::Cancelled, MEDIA),
    ] {
        let mut pair = plain();
        pair.hold = |_, w| matches!(w, Wire::Welcome(..));
        pair.ring();
        for (_, wire) in &mut pair.held {
            if let Wire::Welcome(.., welcome) = wire {
                (welcome.version, welcome.status) = (version, status);
            }
        }
        pair.release_all();
        assert_eq!(pair.ended(A), Some((reason, Some(B))));
        pair.assert_clean();
    }
}

#[test]
fn the_answer_narrows_the_offer() {
    let (mut a, mut b) = (Config::default(), Config::default());
    (a.media.channels, a.media.max_bitrate) = (2, 64_000);
    (b.media.frame_ms, b.media.max_bitrate) = (40, 24_000);
    let mut pair = Pair::new(a, b);
    let call = pair.connected();
    let mut agreed = MediaFormat::default();
    (agreed.frame_ms, agreed.channels, agreed.max_bitrate) = (40, 1, 24_000);
    for side in [A, B] {
        assert_eq!(pair.sides[side].machine.snapshot().call(call).unwrap().media, agreed);
        assert!(pair.sides[side].log.contains(&EffectKind::OpenAudio { call, media: agreed }));
    }
}

#[test]
fn an_answer_that_widens_the_offer_ends_the_call() {
    let mut pair = plain();
    let call = pair.ring();
    pair.hold = |from, _| from == B;
    pair.ask(B, proto_kit::accept(call)).unwrap();
    for (_, wire) in &mut pair.held {
        if let Wire::Packet(_, packet) = wire
            && let Body::Accept(media) = &mut packet.body
        {
            media.channels = 2;
        }
    }
    pair.release_all();
    assert_eq!(pair.ended(A), Some((MEDIA, None)));
    assert_eq!(pair.ended(B), Some((MEDIA, None)));
    assert!(!opens_audio(&pair, A));
    pair.assert_clean();
}

#[test]
fn an_offer_whose_sender_never_confirms_does_not_ring_and_is_forgotten() {
    let mut pair = plain();
    pair.hold = |_, w| matches!(w, Wire::Welcome(..));
    pair.ring();
    pair.pass(30 * SECOND);
    assert!(pair.events(B).is_empty());
    pair.assert_clean();
}
