//! What is sealed opens as what it was, for those it is meant for.

mod wire_common;

use proptest::prelude::*;
use warp_blink::{
    proto::signal::{Body, Epoch, RecordKind, SUITE_CLASSICAL, SUITE_HYBRID},
    wire::{
        Attachment, CallKey, CallRoom, ContactToken, Door, HelloSecrets, Initiator, OpenError, PeerSeed,
        Responder, SealError, Topic, WelcomeSecrets, decode_saved, encode_saved,
        frame::{self, FrameKind},
        hello::MAX_ANSWERS,
        open_call, seal_call, verify_roll,
    },
};
use wire_common::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn handshakes(
        hello in any_hello(alice().public()),
        seeds in any::<[[u8; 32]; 4]>(),
        (hybrid, welcome) in any::<bool>().prop_flat_map(|hybrid| {
            (Just(hybrid), any_welcome(if hybrid { SUITE_HYBRID } else { SUITE_CLASSICAL }))
        }),
        token in proptest::option::of(any::<[u8; 32]>()),
        salts in any::<[[u8; 8]; 2]>(),
    ) {
        let (token, key) = (token.map(ContactToken::from_bytes), kem().public());
        let door = token.as_ref().map_or(Door::Strangers, Door::Contacts);
        let key = hybrid.then_some((&key, seeds[3]));
        let secrets = HelloSecrets {
            peer_seed: PeerSeed::from_bytes(seeds[0]),
            call_key: CallKey::from_bytes(seeds[1]),
        };
        let to = bob().public();
        let mut initiator = Initiator::start(&alice(), &to, &door, key, &hello, &secrets, seeds[2]).unwrap();
        let frame = initiator.frame(salts[0]);
        prop_assert_eq!(frame::check(&frame), Ok(FrameKind::Hello));
        let opened = Responder::open(&bob(), kem(), &door, &frame).unwrap();
        prop_assert_eq!((opened.suite, opened.lane), (initiator.suite(), door.lane()));
        prop_assert_eq!(&opened.hello, &hello);
        prop_assert_eq!(&opened.secrets, &secrets);
        prop_assert_eq!(opened.id, initiator.id());

        let answer_secrets = WelcomeSecrets { peer_seed: PeerSeed::from_bytes(seeds[3]) };
        let (theirs, answer) = opened.respond(&welcome, &answer_secrets, seeds[0]).unwrap();
        let frame = answer.frame(salts[1]);
        prop_assert_eq!(frame::check(&frame), Ok(FrameKind::Welcome));
        let (ours, read, read_secrets) = initiator.finish(&frame).unwrap();
        prop_assert_eq!(read, welcome);
        prop_assert_eq!(read_secrets, answer_secrets);
        prop_assert_eq!((ours.peer(), theirs.peer()), (bob().public(), alice().public()));
    }

    #[test]
    fn packets((packet, attachment) in any_packet()) {
        let (mut ours, mut theirs) = confirmed();
        let frame = ours.seal(&packet, attachment.as_ref()).unwrap();
        prop_assert_eq!(frame::check(&frame), Ok(FrameKind::Transport));
        prop_assert_eq!(frame::session_id(&frame), Some(theirs.id()));
        prop_assert_eq!(theirs.open(&frame), Ok((packet.clone(), attachment.clone())));
        let frame = theirs.seal(&packet, attachment.as_ref()).unwrap();
        prop_assert_eq!(frame::session_id(&frame), Some(ours.id()));
        prop_assert_eq!(ours.open(&frame), Ok((packet, attachment)));
    }

    #[test]
    fn call_messages((version, body) in any_call_body(), call in any_call(), epoch in any_epoch_id(), nonce: [u8; 24]) {
        let room = CallRoom::new(call, epoch, hello_secrets().call_key);
        let frame = seal_call(&alice(), &room, version, &body, nonce).unwrap();
        prop_assert_eq!(frame::check(&frame), Ok(FrameKind::Call));
        prop_assert_eq!(room.epoch(), epoch);
        let opened = open_call(&room, &bob().public(), &frame).unwrap();
        prop_assert_eq!((opened.from, opened.version, opened.body), (alice().public(), version, body));
    }

    /// What was kept of a call comes back, for that call only.
    #[test]
    fn saved_rolls(group in any_group(), media in any_media(), other in any_call()) {
        prop_assert_eq!(verify_roll(group.call, &group.roll, &group.signatures), Ok(()));
        let saved = encode_saved(&group.roll, &group.signatures, media);
        let read = Some((group.roll.clone(), group.signatures.clone(), media));
        prop_assert_eq!(decode_saved(group.call, &saved), read);
        prop_assert_eq!(decode_saved(other, &saved), None);
        prop_assert_eq!(verify_roll(other, &group.roll, &group.signatures), Err(OpenError::Signature));
    }

    /// Frames arrive in any order, some of them twice: each opens once.
    #[test]
    fn reordering_inside_the_window(order in Just((0..200usize).collect::<Vec<_>>()).prop_shuffle()) {
        let (mut ours, mut theirs) = sessions();
        let frames: Vec<_> =
            (0..200).map(|seq| ours.seal(&packet(seq, Body::Candidate(candidate())), None).unwrap()).collect();
        for at in order {
            prop_assert_eq!(theirs.open(&frames[at]).map(|(p, _)| p.seq as usize), Ok(at));
            prop_assert_eq!(theirs.open(&frames[at]), Err(OpenError::Replay));
        }
    }
}

fn candidate() -> warp_blink::proto::signal::Candidate {
    warp_blink::proto::signal::Candidate { text: "candidate:1 1 udp 1 192.0.2.1 9 typ host".into() }
}

#[test]
fn a_resend_is_another_frame_of_the_same_handshake() {
    let mut initiator = start();
    let (first, again) = (initiator.frame([1; 8]), initiator.frame([2; 8]));
    assert_ne!(first, again);
    assert_eq!(Responder::screen(&bob().public(), &Door::Strangers, &first), Ok(initiator.id()));
    assert_eq!(Responder::screen(&bob().public(), &Door::Strangers, &again), Ok(initiator.id()));
    let (_, answer) = respond(&again);
    let (answered, repeated) = (answer.frame([3; 8]), answer.frame([4; 8]));
    assert_ne!(answered, repeated);
    initiator.finish(&answered).unwrap();
    assert_eq!(initiator.finish(&repeated).unwrap_err(), OpenError::Repeated);
}

#[test]
fn the_responder_waits_until_it_is_confirmed() {
    let (mut ours, mut theirs) = sessions();
    assert!(ours.is_confirmed() && !theirs.is_confirmed());
    assert_eq!(theirs.seal(&packet(1, Body::Ringing), None), Err(SealError::Unconfirmed));
    theirs.open(&ours.seal(&packet(1, Body::Confirm), None).unwrap()).unwrap();
    assert!(theirs.is_confirmed());
    let frame = theirs.seal(&packet(1, Body::Ringing), None).unwrap();
    assert_eq!(ours.open(&frame), Ok((packet(1, Body::Ringing), None)));
}

#[test]
fn a_repeated_packet_is_another_frame() {
    let (mut ours, mut theirs) = confirmed();
    let (a, b) =
        (ours.seal(&packet(2, Body::Ack), None).unwrap(), ours.seal(&packet(2, Body::Ack), None).unwrap());
    assert_ne!(a, b);
    assert_eq!(theirs.open(&b), theirs.open(&a));
}

#[test]
fn each_device_of_the_callee_gets_a_session_up_to_the_bound() {
    let mut initiator = start();
    let frame = initiator.frame([0; 8]);
    let device = |n: u8| {
        let opened = Responder::open(&bob(), kem(), &Door::Strangers, &frame).unwrap();
        let secrets = WelcomeSecrets { peer_seed: PeerSeed::from_bytes([n; 32]) };
        opened.respond(&welcome(), &secrets, [n; 32]).unwrap()
    };
    let mut pairs = Vec::new();
    for n in 0..MAX_ANSWERS {
        let (theirs, answer) = device(u8::try_from(n).unwrap() + 1);
        pairs.push((initiator.finish(&answer.frame([0; 8])).unwrap().0, theirs));
    }
    for (ours, theirs) in &mut pairs {
        theirs.open(&ours.seal(&packet(1, Body::Confirm), None).unwrap()).unwrap();
    }
    assert_eq!(initiator.finish(&device(99).1.frame([0; 8])).unwrap_err(), OpenError::TooManyAnswers);
}

#[test]
fn both_directions_and_both_topics_look_unrelated() {
    let (mut ours, theirs) = confirmed();
    assert_ne!(ours.id(), theirs.id());
    let frame = ours.seal(&packet(9, Body::Ack), None).unwrap();
    assert!(!frame.windows(8).any(|w| w == ours.id().as_bytes()));
    assert_ne!(Topic::peer(&hello_secrets().peer_seed), Topic::peer(&welcome_secrets().peer_seed));
}

#[test]
fn misuse_is_told() {
    let mut hello = hello();
    let oneself = Initiator::start(
        &alice(),
        &alice().public(),
        &Door::Strangers,
        None,
        &hello,
        &hello_secrets(),
        [1; 32],
    );
    assert_eq!(oneself.unwrap_err(), SealError::Oneself);
    hello.versions = vec![1; 9];
    let many = start_with(&hello, 1);
    assert!(matches!(many.unwrap_err(), SealError::TooLong { len: 9, max: 8, .. }));
    hello.from = carol().public();
    let other = start_with(&hello, 1);
    assert_eq!(other.unwrap_err(), SealError::WrongSender);
    let (mut ours, _) = sessions();
    let key = CallKey::from_bytes([0x54; 32]);
    let of = |epoch: Epoch| packet(1, Body::CallKey(epoch));
    assert_eq!(ours.seal(&of(epoch(1, &key, &[])), None), Err(SealError::Attachment));
    let mut seal = |epoch| ours.seal(&of(epoch), Some(&Attachment::CallKey(key.clone()))).map(drop);
    assert_eq!(seal(epoch(1, &key, &[1, 2])), Ok(()));
    let other = CallKey::from_bytes([0x55; 32]);
    let mut unordered = epoch(1, &key, &[1, 2]);
    unordered.gone.reverse();
    for refused in [epoch(0, &key, &[]), epoch(1, &other, &[]), epoch(1, &key, &[3, 3]), unordered] {
        assert!(matches!(seal(refused), Err(SealError::Epoch(_))));
    }
    let many: Vec<u8> = (0..33).collect();
    assert!(matches!(seal(epoch(1, &key, &many)), Err(SealError::TooLong { len: 33, max: 32, .. })));
    assert_eq!(seal(epoch(1, &key, &many[1..])), Ok(()));
}

#[test]
fn misuse_of_rolls_is_told() {
    let (mut ours, _) = sessions();
    let good = Group::of_two();
    assert_eq!(ours.seal(&good.packet(1), None), Err(SealError::Attachment));
    let mut seal = |change: &dyn Fn(&mut Group)| {
        let mut group = good.clone();
        change(&mut group);
        ours.seal(&group.packet(1), Some(&group.attachment())).map(drop)
    };
    assert_eq!(seal(&|_| {}), Ok(()));
    let changes: [&dyn Fn(&mut Group); 6] = [
        &|group| group.roll.create.most = 1,
        &|group| group.roll.create.most = 17,
        &|group| group.signatures.truncate(1),
        &|group| group.signatures.extend_from_within(..1),
        &|group| group.roll.records[0].kind = RecordKind::Leave,
        &|group| {
            group.roll.records.extend_from_within(..);
            group.signatures.extend_from_within(..1);
        },
    ];
    for (at, change) in changes.iter().enumerate() {
        assert!(matches!(seal(change), Err(SealError::Roll(_))), "{at}");
    }
    let many = |group: &mut Group| {
        group.roll.records = vec![group.roll.records[0]; 97];
        group.signatures = vec![group.signatures[0]; 98];
    };
    assert!(matches!(seal(&many), Err(SealError::TooLong { len: 97, max: 96, .. })));
}

#[test]
fn nothing_that_is_shown_holds_a_secret() {
    let initiator = start();
    let opened = Responder::open(&bob(), kem(), &Door::Strangers, &initiator.frame([0; 8])).unwrap();
    let mut shown = format!("{initiator:?} {opened:?} {:?} {:?}", room(), welcome_secrets());
    let (session, frame) = opened.respond(&welcome(), &welcome_secrets(), [1; 32]).unwrap();
    shown += &format!("{session:?} {frame:?}");
    for secret in ["5151", "5252", "5353", "5454", "e1e1", "81, 81", "82, 82", "83, 83", "84, 84", "225, 225"]
    {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
