//! Bytes from somebody who means ill, on every topic.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod wire_common;

use proptest::prelude::*;
use warp_blink::{
    id::CallId,
    proto::signal::{Body, CallBody, Description, DescriptionKind, MAX_DESCRIPTION, Welcome},
    wire::{
        CallKey, CallRoom, ContactToken, Door, FrameError, Initiator, KemSecret, OpenError, Responder,
        SealError, Session, frame, open_call, seal_call,
    },
};
use wire_common::*;

/// Both doors of Bob, at each of which a first message can be screened and opened.
fn open_at_doors(frame: &[u8]) -> Vec<OpenError> {
    let token = token();
    let doors = [Door::Strangers, Door::Contacts(&token)];
    let open = |door: &Door<'_>| Responder::open(&bob(), kem(), door, frame).unwrap_err();
    let screen = |door: &Door<'_>| Responder::screen(&bob().public(), door, frame).unwrap_err();
    doors.iter().map(open).chain(doors.iter().map(screen)).collect()
}

/// Every way of opening a frame that a node has.
fn open_all(initiator: &mut Initiator, session: &mut Session, frame: &[u8]) -> Vec<OpenError> {
    let mut errors = open_at_doors(frame);
    errors.push(initiator.finish(frame).unwrap_err());
    errors.push(session.open(frame).unwrap_err());
    errors.push(open_call(&room(), &bob().public(), frame).unwrap_err());
    errors
}

/// What a node can receive: message 1 by each way, message 2, transport messages of two buckets and a call message.
struct Frames {
    hellos: Vec<(Option<ContactToken>, Vec<u8>)>,
    others: Vec<Vec<u8>>,
    initiator: Initiator,
    session: Session,
}

fn frames() -> Frames {
    let mut hellos = Vec::new();
    each_way(|door, key| {
        let token = matches!(door, Door::Contacts(_)).then(token);
        hellos.push((token, start_by(door, key).frame([1; 8])));
    });
    let initiator = start();
    let (session, answer) = respond(&initiator.frame([1; 8]));
    let (mut ours, ..) = start().finish(&answer.frame([1; 8])).unwrap();
    let text = "x".repeat(600);
    let description = Body::Description(Description { kind: DescriptionKind::Offer, text });
    let others = vec![
        answer.frame([1; 8]),
        ours.seal(&packet(1, Body::Confirm), None).unwrap(),
        ours.seal(&packet(2, description), None).unwrap(),
        seal_call(&alice(), &room(), 1, &CallBody::Leave, [7; 24]).unwrap(),
    ];
    Frames { hellos, others, initiator, session }
}

impl Frames {
    fn all(&self) -> Vec<Vec<u8>> {
        self.hellos.iter().map(|(_, frame)| frame).chain(&self.others).cloned().collect()
    }

    /// What was tried before has used nothing up: every frame still opens.
    fn still_open(mut self) {
        for (token, frame) in &self.hellos {
            let door = token.as_ref().map_or(Door::Strangers, Door::Contacts);
            assert!(Responder::open(&bob(), kem(), &door, frame).is_ok());
        }
        assert!(self.initiator.finish(&self.others[0]).is_ok());
        assert!(self.session.open(&self.others[1]).is_ok());
        assert!(self.session.open(&self.others[2]).is_ok());
        assert!(open_call(&room(), &bob().public(), &self.others[3]).is_ok());
    }
}

#[test]
fn hostile_truncation_at_every_length() {
    let mut frames = frames();
    for frame in frames.all() {
        for cut in 0..frame.len() {
            for error in open_all(&mut frames.initiator, &mut frames.session, &frame[..cut]) {
                // A transport frame cut to a smaller bucket is a frame, which does not verify.
                let bucket = error == OpenError::Seal && (frame[1], cut) == (3, 546);
                assert!(bucket || matches!(error, OpenError::Frame(_)), "{error:?} at {cut}");
            }
        }
        for more in 1..20 {
            let long = [&frame[..], &vec![0; more]].concat();
            for error in open_all(&mut frames.initiator, &mut frames.session, &long) {
                assert!(matches!(error, OpenError::Frame(_)), "{error:?} with {more} more");
            }
        }
    }
    frames.still_open();
}

#[test]
fn hostile_flip_of_every_bit() {
    let mut frames = frames();
    let tokens = frames.hellos.iter().map(|(token, _)| token.clone()).collect::<Vec<_>>();
    for (frame, token) in frames.all().iter().zip(tokens.iter().chain(&vec![None; 4])) {
        let door = token.as_ref().map_or(Door::Strangers, Door::Contacts);
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Each of them refuses, with errors of its own. Behind version and kind, only those of its kind look on.
            if bit < 16 {
                open_all(&mut frames.initiator, &mut frames.session, &flipped);
                continue;
            }
            let error = match flipped[1] {
                1 => Responder::open(&bob(), kem(), &door, &flipped).err(),
                2 => frames.initiator.finish(&flipped).err(),
                3 => frames.session.open(&flipped).err(),
                _ => open_call(&room(), &bob().public(), &flipped).err(),
            };
            let expected = match (flipped[1], bit / 8) {
                // The suite, whose other values are unknown or have another length.
                (1, 2) => matches!(error, Some(OpenError::Suite(_) | OpenError::Frame(FrameError::Length))),
                (1 | 2, _) => error == Some(OpenError::Mac),
                (3, 2..10) => error == Some(OpenError::Session),
                (_, _) => error == Some(OpenError::Seal),
            };
            assert!(expected, "{error:?} for bit {bit} of kind {}", flipped[1]);
        }
    }
    frames.still_open();
}

#[test]
fn hostile_versions_that_nobody_speaks() {
    let mut frames = frames();
    for frame in frames.all() {
        for version in (0..=255).filter(|version| *version != 1) {
            let mut other = frame.clone();
            other[0] = version;
            for error in open_all(&mut frames.initiator, &mut frames.session, &other) {
                assert_eq!(error, OpenError::Frame(FrameError::Version(version)));
            }
        }
    }
    frames.still_open();
}

#[test]
fn hostile_suites_that_nobody_speaks() {
    let frames = frames();
    for (_, frame) in &frames.hellos {
        for suite in (0..=255).filter(|suite| *suite != 1 && *suite != 2) {
            let mut other = frame.clone();
            other[2] = suite;
            assert_eq!(open_at_doors(&other), [OpenError::Suite(suite); 4]);
            assert!(!frame::check(&other).unwrap_err().is_violation());
        }
    }
    frames.still_open();
}

/// The name of a message 1 is that of what the handshake is made of: neither more, or a resend would be answered anew,
/// nor less, or a frame with another ciphertext would be taken for it.
#[test]
fn hostile_names_of_message_1() {
    let token = token();
    let mut names = Vec::new();
    each_way(|door, key| {
        let initiator = start_by(door, key);
        let name = |salt| Responder::screen(&bob().public(), door, &initiator.frame(salt)).unwrap();
        assert_eq!((name([1; 8]), name([2; 8])), (initiator.id(), initiator.id()));
        names.push(initiator.id());
    });
    let door = Door::Contacts(&token);
    let (key, hello) = (kem().public(), modern_hello());
    let with = |kem: u8, own: u8| {
        let key = Some((&key, [kem; 32]));
        let to = bob().public();
        Initiator::start(&alice(), &to, &door, key, &hello, &hello_secrets(), [own; 32]).unwrap().id()
    };
    names.extend([with(1, 1), with(1, 2), with(2, 1)]);
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "{at}");
    }
}

#[test]
fn hostile_replay_of_a_whole_call() {
    each_way(|door, key| {
        let mut initiator = start_by(door, key);
        let frame = initiator.frame([1; 8]);
        let (mut theirs, answer) = respond_by(door, &frame);
        let (mut ours, ..) = initiator.finish(&answer.frame([2; 8])).unwrap();
        let confirm = ours.seal(&packet(1, Body::Confirm), None).unwrap();
        theirs.open(&confirm).unwrap();

        // Somebody recorded it all. Message 1 opens again, which is why nothing rings on it alone.
        let opened = Responder::open(&bob(), kem(), door, &frame).unwrap();
        let welcome = Welcome { suite: opened.suite, ..welcome() };
        let (mut again, second) = opened.respond(&welcome, &welcome_secrets(), [0xe9; 32]).unwrap();
        assert_eq!(again.open(&confirm), Err(OpenError::Session));
        let mut renamed = confirm;
        renamed[2..10].copy_from_slice(again.id().as_bytes());
        assert_eq!(again.open(&renamed), Err(OpenError::Seal));
        assert!(!again.is_confirmed());
        assert_eq!(again.seal(&packet(1, Body::Ringing), None), Err(SealError::Unconfirmed));
        // And the recorded message 2 answers no other call, nor this one a second time.
        assert_eq!(initiator.finish(&answer.frame([3; 8])).unwrap_err(), OpenError::Repeated);
        // To the caller the second answer is another device, with a session of its own.
        assert_ne!(initiator.finish(&second.frame([2; 8])).unwrap().0.id(), ours.id());
    });
}

/// Nothing that a receiver is shown makes it use a nonce twice.
#[test]
fn hostile_nonce_reuse() {
    let (mut ours, mut theirs) = confirmed();
    let mut nonces = Vec::new();
    for round in 0..50 {
        let frame = ours.seal(&packet(1, Body::Ack), None).unwrap();
        nonces.push(u64::from_be_bytes(frame[10..18].try_into().unwrap()));
        // Refused inputs in between: a packet that is too large, one without its key, and frames that do not open.
        let text = "x".repeat(MAX_DESCRIPTION + round);
        let body = Body::Description(Description { kind: DescriptionKind::Offer, text });
        let _ = ours.seal(&packet(1, body), None);
        assert_eq!(ours.seal(&packet(1, Body::Token), None), Err(SealError::Attachment));
        assert_eq!(ours.open(&frame), Err(OpenError::Session));
        theirs.open(&frame).unwrap();
        let mut answer = theirs.seal(&packet(1, Body::Ack), None).unwrap();
        answer[20] ^= 1;
        assert_eq!(ours.open(&answer), Err(OpenError::Seal));
    }
    assert!(nonces.windows(2).all(|pair| pair[0] < pair[1]), "{nonces:?}");
}

#[test]
fn hostile_reordering_over_the_whole_window() {
    let (mut ours, mut theirs) = confirmed();
    let frames: Vec<_> = (0..1026).map(|seq| ours.seal(&packet(seq, Body::Ack), None).unwrap()).collect();
    // The newest first: of the rest, those within 1,024 transmissions open, each once, and the others never.
    assert!(theirs.open(&frames[1025]).is_ok());
    for (at, frame) in frames.iter().enumerate().rev() {
        let expected = match at {
            1025 => Err(OpenError::Replay),
            2.. => Ok(at),
            _ => Err(OpenError::TooOld),
        };
        assert_eq!(theirs.open(frame).map(|(packet, _)| packet.seq as usize), expected, "{at}");
        let again = if at < 2 { OpenError::TooOld } else { OpenError::Replay };
        assert_eq!(theirs.open(frame), Err(again), "{at} again");
    }
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
    let mut frames = frames();
    for frame in frames.all() {
        let kind = frame[1];
        let wrong = OpenError::Frame(FrameError::Kind(kind));
        if kind != 1 {
            assert_eq!(open_at_doors(&frame), [wrong; 4]);
        }
        if kind != 2 {
            assert_eq!(frames.initiator.finish(&frame).unwrap_err(), wrong);
        }
        if kind != 3 {
            assert_eq!(frames.session.open(&frame).unwrap_err(), wrong);
            assert_eq!(frame::session_id(&frame), None);
        }
        if kind != 4 {
            assert_eq!(open_call(&room(), &bob().public(), &frame).unwrap_err(), wrong);
        }
    }
    frames.still_open();
}

#[test]
fn hostile_messages_moved_between_calls_epochs_and_keys() {
    let frame = seal_call(&alice(), &room(), 1, &CallBody::Leave, [1; 24]).unwrap();
    let key = || CallKey::from_bytes([0x54; 32]);
    let open = |call, n, key: CallKey| {
        let room = CallRoom::new(call, epoch_id(n, &key), key);
        open_call(&room, &bob().public(), &frame).map(|m| m.version)
    };
    assert_eq!(open(call(), 1, key()), Ok(1));
    assert_eq!(open(CallId::from_bytes([0; 16]), 1, key()), Err(OpenError::Seal));
    assert_eq!(open(call(), 2, key()), Err(OpenError::Seal));
    assert_eq!(open(call(), 1, CallKey::from_bytes([0x55; 32])), Err(OpenError::Seal));
}

#[test]
fn hostile_answer_to_another_handshake() {
    let initiator = start();
    let mut second = start_with(&hello(), 0xe9).unwrap();
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
    let mut initiator = start_with(&hello(), 0xe9).unwrap();
    let (mut theirs, answer) = respond(&initiator.frame([0; 8]));
    initiator.finish(&answer.frame([0; 8])).unwrap();
    let frame = ours.seal(&packet(2, Body::Ack), None).unwrap();
    assert_eq!(theirs.open(&frame), Err(OpenError::Session));
    let mut renamed = frame;
    renamed[2..10].copy_from_slice(theirs.id().as_bytes());
    assert_eq!(theirs.open(&renamed), Err(OpenError::Seal));
}

#[test]
fn hostile_oversize() {
    let mut frames = frames();
    for len in [frame::MAX_FRAME, frame::MAX_FRAME + 1, 1 << 16, 1 << 24] {
        for kind in 0..6 {
            for suite in [1, 2, 0xaa] {
                let mut frame = vec![0xaa; len];
                frame[..3].copy_from_slice(&[1, kind, suite]);
                open_all(&mut frames.initiator, &mut frames.session, &frame);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Random bytes behind a header and of a length that fit, and bytes that are random from the first one on.
    #[test]
    fn hostile_arbitrary_bytes(kind in 0u8..6, suite in 1u8..4, at in 0usize..11, seed: u64, raw in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let mut initiator = start();
        let (mut session, _) = respond(&initiator.frame([1; 8]));
        open_all(&mut initiator, &mut session, &raw);
        let len = [1659, 2747, 330, 546, 1058, 2082, 4130, 8226, 16418, 298, 700][at];
        let mut state = seed | 1;
        let mut shaped: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(len)
        .collect();
        (shaped[0], shaped[1], shaped[2]) = (1, kind, suite);
        open_all(&mut initiator, &mut session, &shaped);
    }
}
