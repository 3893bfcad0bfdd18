//! Bytes from somebody who means ill, on every topic.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod wire_common;

use proptest::prelude::*;
use warp_blink::{
    id::CallId,
    proto::signal::{Body, CallBody},
    wire::{
        CallKey, CallRoom, Door, FrameError, Initiator, KemSecret, OpenError, Responder, Session, frame,
        open_call, seal_call,
    },
};
use wire_common::*;

/// Every way of opening a frame that a node has.
fn open_all(initiator: &mut Initiator, session: &mut Session, frame: &[u8]) -> Vec<OpenError> {
    vec![
        Responder::screen(&bob().public(), &Door::Strangers, frame).unwrap_err(),
        Responder::open(&bob(), kem(), &Door::Strangers, frame).unwrap_err(),
        initiator.finish(frame).unwrap_err(),
        session.open(frame).unwrap_err(),
        open_call(&room(), &bob().public(), frame).unwrap_err(),
    ]
}

/// A frame of each kind, with what opens it.
fn frames() -> (Vec<Vec<u8>>, Initiator, Session) {
    let initiator = start();
    let (theirs, answer) = respond(&initiator.frame([1; 8]));
    let mut other = start();
    let (mut ours, ..) = other.finish(&answer.frame([1; 8])).unwrap();
    let frames = vec![
        initiator.frame([1; 8]),
        answer.frame([1; 8]),
        ours.seal(&packet(1, Body::Confirm), None).unwrap(),
        seal_call(&alice(), &room(), 1, &CallBody::Leave, [7; 24]).unwrap(),
    ];
    (frames, initiator, theirs)
}

#[test]
fn hostile_truncation_at_every_length() {
    let (frames, mut initiator, mut session) = frames();
    for frame in &frames {
        for cut in 0..frame.len() {
            for error in open_all(&mut initiator, &mut session, &frame[..cut]) {
                assert!(matches!(error, OpenError::Frame(_)), "{error:?} at {cut}");
            }
        }
        for more in 1..20 {
            let long = [&frame[..], &vec![0; more]].concat();
            for error in open_all(&mut initiator, &mut session, &long) {
                assert!(matches!(error, OpenError::Frame(_)), "{error:?} with {more} more");
            }
        }
    }
    assert!(Responder::open(&bob(), kem(), &Door::Strangers, &frames[0]).is_ok());
    assert!(initiator.finish(&frames[1]).is_ok());
    assert!(session.open(&frames[2]).is_ok());
    assert!(open_call(&room(), &bob().public(), &frames[3]).is_ok());
}

#[test]
fn hostile_flip_of_every_bit() {
    let (frames, mut initiator, mut session) = frames();
    for frame in &frames {
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Each of them refuses, with errors of its own.
            open_all(&mut initiator, &mut session, &flipped);
        }
    }
    assert!(initiator.finish(&frames[1]).is_ok());
    assert!(session.open(&frames[2]).is_ok());
}

#[test]
fn hostile_replay_of_transport() {
    let (mut ours, mut theirs) = confirmed();
    let old = ours.seal(&packet(2, Body::Ack), None).unwrap();
    assert!(theirs.open(&old).is_ok());
    for n in 0..1024 {
        assert_eq!(theirs.open(&old), Err(OpenError::Replay), "after {n}");
        theirs.open(&ours.seal(&packet(3, Body::Ack), None).unwrap()).unwrap();
    }
    assert_eq!(theirs.open(&old), Err(OpenError::TooOld));
}

#[test]
fn hostile_nonce_in_the_header_moves_nothing() {
    let (mut ours, mut theirs) = confirmed();
    let good = ours.seal(&packet(2, Body::Ack), None).unwrap();
    for nonce in [0, 2, 3, 1_000_000, u64::MAX - 1, u64::MAX] {
        let mut forged = good.clone();
        forged[10..18].copy_from_slice(&u64::to_be_bytes(nonce));
        let error = theirs.open(&forged).unwrap_err();
        assert!(matches!(error, OpenError::Seal | OpenError::Replay), "{error:?}");
    }
    assert_eq!(theirs.open(&good), Ok((packet(2, Body::Ack), None)));
}

#[test]
fn hostile_forgery_confirms_nobody() {
    let (mut ours, mut theirs) = sessions();
    let mut frame = ours.seal(&packet(1, Body::Confirm), None).unwrap();
    frame[40] ^= 1;
    assert_eq!(theirs.open(&frame), Err(OpenError::Seal));
    assert!(!theirs.is_confirmed());
}

#[test]
fn hostile_reflection_to_the_author() {
    let initiator = start();
    assert_eq!(
        Responder::open(&alice(), &KemSecret::of(&alice()), &Door::Strangers, &initiator.frame([0; 8]))
            .unwrap_err(),
        OpenError::Mac
    );
    let (mut ours, _) = confirmed();
    let frame = ours.seal(&packet(2, Body::Ack), None).unwrap();
    assert_eq!(ours.open(&frame), Err(OpenError::Session));
    let mut renamed = frame.clone();
    renamed[2..10].copy_from_slice(ours.id().as_bytes());
    assert_eq!(ours.open(&renamed), Err(OpenError::Seal));
    let said = seal_call(&alice(), &room(), 1, &CallBody::Leave, [1; 24]).unwrap();
    assert_eq!(open_call(&room(), &alice().public(), &said), Err(OpenError::Reflected));
}

#[test]
fn hostile_frames_on_the_wrong_topic() {
    let (frames, mut initiator, mut session) = frames();
    for (kind, frame) in (1..=4u8).zip(&frames) {
        let wrong = Err(OpenError::Frame(FrameError::Kind(kind)));
        if kind != 1 {
            assert_eq!(Responder::screen(&bob().public(), &Door::Strangers, frame).map(drop), wrong);
        }
        if kind != 2 {
            assert_eq!(initiator.finish(frame).map(drop), wrong);
        }
        if kind != 3 {
            assert_eq!(session.open(frame).map(drop), wrong);
            assert_eq!(frame::session_id(frame), None);
        }
        if kind != 4 {
            assert_eq!(open_call(&room(), &bob().public(), frame).map(drop), wrong);
        }
    }
}

#[test]
fn hostile_messages_moved_between_calls_epochs_and_keys() {
    let frame = seal_call(&alice(), &room(), 1, &CallBody::Leave, [1; 24]).unwrap();
    let key = || CallKey::from_bytes([0x54; 32]);
    let open = |room: CallRoom| open_call(&room, &bob().public(), &frame).map(|m| m.version);
    assert_eq!(open(CallRoom::new(call(), 1, key())), Ok(1));
    assert_eq!(open(CallRoom::new(CallId::from_bytes([0; 16]), 1, key())), Err(OpenError::Seal));
    assert_eq!(open(CallRoom::new(call(), 2, key())), Err(OpenError::Seal));
    assert_eq!(open(CallRoom::new(call(), 1, CallKey::from_bytes([0x55; 32]))), Err(OpenError::Seal));
}

#[test]
fn hostile_answer_to_another_handshake() {
    let initiator = start();
    let mut second = Initiator::start(
        &alice(),
        &bob().public(),
        &Door::Strangers,
        None,
        &hello(),
        &hello_secrets(),
        [0xe9; 32],
    )
    .unwrap();
    let (_, answer) = respond(&initiator.frame([0; 8]));
    assert_eq!(second.finish(&answer.frame([0; 8])).unwrap_err(), OpenError::Mac);
}

#[test]
fn hostile_other_callee_answers() {
    // Carol knows the peer seed, since she is called too, and saw the message 1 to Bob; only Bob can answer it.
    let frame = start().frame([0; 8]);
    assert_eq!(
        Responder::open(&carol(), &KemSecret::of(&carol()), &Door::Strangers, &frame).unwrap_err(),
        OpenError::Mac
    );
}

#[test]
fn hostile_frames_of_another_session() {
    let (mut ours, _) = confirmed();
    let mut initiator = Initiator::start(
        &alice(),
        &bob().public(),
        &Door::Strangers,
        None,
        &hello(),
        &hello_secrets(),
        [0xe9; 32],
    )
    .unwrap();
    let (mut theirs, answer) = respond(&initiator.frame([0; 8]));
    initiator.finish(&answer.frame([0; 8])).unwrap();
    let frame = ours.seal(&packet(2, Body::Ack), None).unwrap();
    assert_eq!(theirs.open(&frame), Err(OpenError::Session));
    let mut renamed = frame;
    renamed[2..10].copy_from_slice(theirs.id().as_bytes());
    assert_eq!(theirs.open(&renamed), Err(OpenError::Seal));
}

#[test]
fn hostile_suites_and_versions() {
    let frame = start().frame([0; 8]);
    for suite in (0..=255).filter(|suite| *suite != 1 && *suite != 2) {
        let mut other = frame.clone();
        other[2] = suite;
        assert_eq!(
            Responder::screen(&bob().public(), &Door::Strangers, &other).unwrap_err(),
            OpenError::Suite(suite)
        );
    }
    let mut later = frame;
    later[0] = 2;
    assert_eq!(
        Responder::screen(&bob().public(), &Door::Strangers, &later).unwrap_err(),
        OpenError::Frame(FrameError::Version(2))
    );
}

#[test]
fn hostile_oversize() {
    let (_, mut initiator, mut session) = frames();
    for len in [frame::MAX_FRAME, frame::MAX_FRAME + 1, 1 << 16, 1 << 24] {
        for kind in 0..6 {
            let mut frame = vec![0xaa; len];
            (frame[0], frame[1]) = (1, kind);
            open_all(&mut initiator, &mut session, &frame);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Random bytes behind a header and of a length that fit, and bytes that are random from the first one on.
    #[test]
    fn hostile_arbitrary_bytes(kind in 0u8..6, at in 0usize..10, seed: u64, raw in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let (_, mut initiator, mut session) = frames();
        open_all(&mut initiator, &mut session, &raw);
        let len = [1659, 330, 546, 1058, 2082, 4130, 8226, 16418, 298, 700][at];
        let mut state = seed | 1;
        let mut shaped: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(len)
        .collect();
        (shaped[0], shaped[1], shaped[2]) = (1, kind, 1);
        open_all(&mut initiator, &mut session, &shaped);
    }
}
