//! Attacks that need a forger's tools: messages that our own sealing functions refuse to make.

use std::sync::LazyLock;

use curve25519_dalek::{constants::EIGHT_TORSION, edwards::CompressedEdwardsY};

use super::{
    codec,
    frame::{
        CALL_HEADER, FrameKind, HELLO_BUCKET, HELLO_HEADER, HELLO_NOISE, TAG_LEN, TRANSPORT_BUCKETS,
        WELCOME_HEADER, WELCOME_NOISE,
    },
    noise::{self, Ephemeral, NO_PSK},
    secret::mac,
    *,
};
use crate::{
    id::{CallId, Identity, KeyError, NodeId, PublicKey},
    proto::signal::{
        AppData, Body, CallBody, EpochId, Hello, HelloKind, MediaFormat, Packet, SUITE_CLASSICAL, Status,
        VERSION, Welcome,
    },
    time::UnixTime,
};

mod groups;
mod ways;

fn alice() -> Identity {
    Identity::from_seed([0xa1; 32])
}

fn bob() -> Identity {
    Identity::from_seed([0xb0; 32])
}

fn kem() -> &'static KemSecret {
    static KEM: LazyLock<KemSecret> = LazyLock::new(|| KemSecret::of(&bob()));
    &KEM
}

fn mallory() -> Identity {
    Identity::from_seed([0x66; 32])
}

/// The same point with the other sign.
fn twin(key: &PublicKey) -> PublicKey {
    let point = CompressedEdwardsY(*key.as_bytes()).decompress().unwrap();
    PublicKey::from_bytes((-point).compress().0).unwrap()
}

fn hello(from: PublicKey) -> Hello {
    Hello {
        kind: HelloKind::Offer,
        from,
        node: NodeId::from(from),
        call: CallId::from_bytes([3; 16]),
        sent_at: UnixTime::from_millis(1_700_000_000_000),
        ring_ms: 30_000,
        versions: vec![VERSION],
        suites: vec![SUITE_CLASSICAL],
        media: MediaFormat::default(),
        app_data: AppData::default(),
    }
}

fn secrets() -> HelloSecrets {
    HelloSecrets { peer_seed: PeerSeed::from_bytes([4; 32]), call_key: CallKey::from_bytes([5; 32]) }
}

fn welcome() -> (Welcome, WelcomeSecrets) {
    let welcome = Welcome {
        node: NodeId::from(bob().public()),
        version: VERSION,
        suite: SUITE_CLASSICAL,
        status: Status::Open,
    };
    (welcome, WelcomeSecrets { peer_seed: PeerSeed::from_bytes([6; 32]) })
}

fn packet() -> Packet {
    Packet {
        seq: 1,
        ack: 0,
        ack_bits: 0,
        call: CallId::from_bytes([3; 16]),
        generation: 0,
        body: Body::Confirm,
    }
}

fn start() -> Initiator {
    Initiator::start(
        &alice(),
        &bob().public(),
        &Door::Strangers,
        None,
        &hello(alice().public()),
        &secrets(),
        [7; 32],
    )
    .unwrap()
}

/// A frame around Noise bytes, with the MAC that anybody who knows the callee's key can make.
fn address(callee: &PublicKey, noise: &[u8]) -> Vec<u8> {
    let header = [&[VERSION, FrameKind::Hello.byte(), SUITE_CLASSICAL][..], &[0; 8]].concat();
    let mac = mac(b"warp-blink/1 lane-strangers\0", callee.as_bytes(), &[&header, noise]);
    [&header, &mac[..], noise].concat()
}

/// Message 1 with any contents, under any static key.
fn forge(static_key: &Identity, contents: &[u8]) -> Vec<u8> {
    let callee = bob().public();
    let ephemeral = Ephemeral::default();
    ephemeral.give(&[8; 32]);
    let prologue = noise::prologue(SUITE_CLASSICAL, &Topic::inbox(&callee), &[]);
    let mut state =
        noise::initiator(&static_key.x25519_secret(), &callee.to_x25519(), &prologue, &NO_PSK, &ephemeral)
            .unwrap();
    let mut noise = vec![0; HELLO_NOISE];
    let len = state.write_message(&codec::pad(contents, &[HELLO_BUCKET], "").unwrap(), &mut noise).unwrap();
    assert_eq!(len, HELLO_NOISE);
    address(&callee, &noise)
}

fn contents(from: PublicKey) -> codec::SecretBytes {
    codec::encode_hello(&hello(from), &secrets()).unwrap()
}

#[test]
fn hostile_sender_claims_another_key() {
    assert!(
        Responder::open(&bob(), kem(), &Door::Strangers, &forge(&alice(), &contents(alice().public())))
            .is_ok()
    );
    let frame = forge(&mallory(), &contents(alice().public()));
    assert_eq!(Responder::open(&bob(), kem(), &Door::Strangers, &frame).unwrap_err(), OpenError::Impostor);
}

#[test]
fn hostile_sign_twin_is_its_owners_alone() {
    let victim = alice().public();
    let frame = forge(&mallory(), &contents(twin(&victim)));
    assert_eq!(Responder::open(&bob(), kem(), &Door::Strangers, &frame).unwrap_err(), OpenError::Impostor);
    // The owner of a key has its twin too, as it has any other key that it cares to make: another identity, never
    // this one.
    let opened =
        Responder::open(&bob(), kem(), &Door::Strangers, &forge(&alice(), &contents(twin(&victim)))).unwrap();
    assert_ne!(opened.hello.from, victim);
    assert_eq!(opened.hello.from.to_x25519(), victim.to_x25519());
    // Nor does a call to a key reach its twin: the twin's inbox and handshake are others.
    assert_ne!(Topic::inbox(&victim), Topic::inbox(&twin(&victim)));
}

#[test]
fn hostile_identity_forms_are_refused() {
    let honest = alice().public();
    let good = contents(honest);
    let at = good.windows(32).position(|w| w == honest.as_bytes()).unwrap();
    let with = |key: [u8; 32]| {
        let mut bytes = good.clone();
        bytes[at..at + 32].copy_from_slice(&key);
        Responder::open(&bob(), kem(), &Door::Strangers, &forge(&alice(), &bytes)).unwrap_err()
    };
    let point = CompressedEdwardsY(*honest.as_bytes()).decompress().unwrap();
    for torsion in &EIGHT_TORSION[1..] {
        assert_eq!(with((point + torsion).compress().0), OpenError::Identity(KeyError::Torsion));
    }
    let mut second_encoding = [0xff; 32];
    second_encoding[0] = 0xee;
    second_encoding[31] = 0x7f;
    assert_eq!(with(second_encoding), OpenError::Identity(KeyError::NotCanonical));
    assert_eq!(with([0; 32]), OpenError::Identity(KeyError::Torsion));
}

#[test]
fn hostile_contents_are_refused_by_stage() {
    let good = contents(alice().public());
    let refused =
        |bytes: &[u8]| Responder::open(&bob(), kem(), &Door::Strangers, &forge(&alice(), bytes)).unwrap_err();
    assert_eq!(refused(&[&good[..], &[0]].concat()), OpenError::Decode);
    assert_eq!(refused(&good[..good.len() - 1]), OpenError::Decode);
    assert_eq!(refused(&[]), OpenError::Decode);
    let mut unknown = good.to_vec();
    unknown[1] = 20;
    assert_eq!(refused(&unknown), OpenError::Unknown);
    assert_eq!(refused(&contents(bob().public())), OpenError::Impostor);
    // A message in our own name can only come from whoever has our key.
    assert_eq!(
        Responder::open(&bob(), kem(), &Door::Strangers, &forge(&bob(), &contents(bob().public())))
            .unwrap_err(),
        OpenError::Reflected
    );
}

#[test]
fn hostile_offer_is_readdressed() {
    let noise = start().frame([0; 8])[HELLO_HEADER..].to_vec();
    let frame = address(&mallory().public(), &noise);
    assert!(
        Responder::screen(&mallory().public(), &Door::Strangers, &frame).is_ok(),
        "the MAC alone is no protection"
    );
    assert_eq!(
        Responder::open(&mallory(), &KemSecret::of(&mallory()), &Door::Strangers, &frame).unwrap_err(),
        OpenError::Handshake
    );
}

#[test]
fn hostile_key_of_zero_in_message_1() {
    let mut noise = start().frame([0; 8])[HELLO_HEADER..].to_vec();
    noise[..32].fill(0);
    assert_eq!(
        Responder::open(&bob(), kem(), &Door::Strangers, &address(&bob().public(), &noise)).unwrap_err(),
        OpenError::WeakKey
    );
}

#[test]
fn hostile_change_anywhere_in_the_noise_of_message_1() {
    let noise = start().frame([0; 8])[HELLO_HEADER..].to_vec();
    for at in 0..noise.len() {
        let mut changed = noise.clone();
        changed[at] ^= 1 << (at % 8);
        let frame = address(&bob().public(), &changed);
        assert_eq!(
            Responder::open(&bob(), kem(), &Door::Strangers, &frame).unwrap_err(),
            OpenError::Handshake,
            "byte {at}"
        );
    }
}

/// Message 2 around any Noise bytes, with the MAC that every callee of this call can make.
fn answer(initiator: &Initiator, noise: &[u8]) -> Vec<u8> {
    let key = welcome::WelcomeKey::new(&secrets().peer_seed, &initiator.id());
    ResponderFrame::new(key, noise.to_vec()).frame([0; 8])
}

fn answer_noise(initiator: &Initiator, contents: &[u8]) -> Vec<u8> {
    let ephemeral = Ephemeral::default();
    let prologue = noise::prologue(SUITE_CLASSICAL, &Topic::inbox(&bob().public()), &[]);
    let mut state = noise::responder(&bob().x25519_secret(), &prologue, &NO_PSK, &ephemeral).unwrap();
    state.read_message(&initiator.frame([0; 8])[HELLO_HEADER..], &mut vec![0; HELLO_NOISE]).unwrap();
    ephemeral.give(&[9; 32]);
    let mut noise = vec![0; WELCOME_NOISE];
    let len = state.write_message(contents, &mut noise).unwrap();
    assert_eq!(len, WELCOME_NOISE);
    noise
}

#[test]
fn hostile_message_2_does_not_use_up_the_initiator() {
    let mut initiator = start();
    let (welcome, secrets) = welcome();
    let good = codec::pad(&codec::encode_welcome(&welcome, &secrets).unwrap(), &[256], "").unwrap();
    let noise = answer_noise(&initiator, &good);

    let mut zero_key = noise.clone();
    zero_key[..32].fill(0);
    let frame = answer(&initiator, &zero_key);
    assert_eq!(initiator.finish(&frame).unwrap_err(), OpenError::WeakKey);
    for at in (0..WELCOME_NOISE).step_by(3) {
        let mut changed = noise.clone();
        changed[at] ^= 1 << (at % 8);
        let frame = answer(&initiator, &changed);
        assert_eq!(initiator.finish(&frame).unwrap_err(), OpenError::Handshake, "byte {at}");
    }
    let frame = answer(&initiator, &answer_noise(&initiator, &[0xff; 256]));
    assert_eq!(initiator.finish(&frame).unwrap_err(), OpenError::Padding);
    let frame = answer(&initiator, &answer_noise(&initiator, &[0; 256]));
    assert_eq!(initiator.finish(&frame).unwrap_err(), OpenError::Decode);

    let frame = answer(&initiator, &noise);
    let (session, read, read_secrets) = initiator.finish(&frame).unwrap();
    assert_eq!((read, read_secrets), (welcome, secrets));
    assert!(session.is_confirmed() && session.peer() == bob().public());
    assert_eq!(initiator.finish(&frame).unwrap_err(), OpenError::Repeated);
}

fn sessions() -> (Session, Session) {
    let mut initiator = start();
    let opened = Responder::open(&bob(), kem(), &Door::Strangers, &initiator.frame([0; 8])).unwrap();
    let (welcome, secrets) = welcome();
    let (theirs, frame) = opened.respond(&welcome, &secrets, [9; 32]).unwrap();
    let (ours, ..) = initiator.finish(&frame.frame([0; 8])).unwrap();
    (ours, theirs)
}

#[test]
fn nonces_run_out_instead_of_repeating() {
    let (mut ours, mut theirs) = sessions();
    ours.skip_to(u64::MAX - 1);
    let last = ours.seal(&packet(), None).unwrap();
    assert_eq!(theirs.open(&last), Ok((packet(), None)));
    for _ in 0..3 {
        assert_eq!(ours.seal(&packet(), None), Err(SealError::Exhausted));
    }
}

#[test]
fn hostile_transport_contents_count_as_received() {
    let (mut ours, mut theirs) = sessions();
    let frame = ours.seal_padded(&[0xff; 512]).unwrap();
    assert_eq!(theirs.open(&frame), Err(OpenError::Padding));
    assert_eq!(theirs.open(&frame), Err(OpenError::Replay));
    let frame = ours.seal_padded(&[0; 512]).unwrap();
    assert_eq!(theirs.open(&frame), Err(OpenError::Decode));
    assert_eq!(theirs.open(&ours.seal(&packet(), None).unwrap()), Ok((packet(), None)));
}

#[test]
fn hostile_member_signs_for_another() {
    use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305};
    // Mallory takes part in the call and has its key: it re-seals Alice's message with another version, and makes
    // one in her name.
    let key = CallKey::from_bytes([5; 32]);
    let room = CallRoom::new(CallId::from_bytes([3; 16]), EpochId { n: 1, key: key.hash() }, key);
    let frame = seal_call(&alice(), &room, 4, &CallBody::Leave, [1; 24]).unwrap();
    assert!(open_call(&room, &bob().public(), &frame).is_ok());
    let context = [
        &b"warp-blink/1 call\0"[..],
        &[VERSION],
        room.topic().as_bytes(),
        room.call().as_bytes(),
        &room.epoch().n.to_be_bytes(),
    ]
    .concat();
    let cipher = XChaCha20Poly1305::new(&[5; 32].into());
    let reseal = |padded: &mut [u8]| {
        let tag = cipher.encrypt_in_place_detached(&[2; 24].into(), &context, padded).unwrap();
        [&[VERSION, FrameKind::Call.byte()][..], &[2; 24], padded, &tag].concat()
    };
    let mut padded = frame[CALL_HEADER..frame.len() - TAG_LEN].to_vec();
    let tag: [u8; TAG_LEN] = *frame.last_chunk().unwrap();
    cipher.decrypt_in_place_detached(&[1; 24].into(), &context, &mut padded, &tag.into()).unwrap();

    let same = reseal(&mut padded.clone());
    assert_eq!(open_call(&room, &bob().public(), &same).unwrap().version, 4, "the tools work");
    let at = padded.windows(32).position(|w| w == alice().public().as_bytes()).unwrap();
    let mut newer = padded.clone();
    assert_eq!(newer[at + 32], 4);
    newer[at + 32] = 5;
    assert_eq!(open_call(&room, &bob().public(), &reseal(&mut newer)), Err(OpenError::Signature));
    let mut renamed = padded.clone();
    renamed[at..at + 32].copy_from_slice(mallory().public().as_bytes());
    assert_eq!(open_call(&room, &bob().public(), &reseal(&mut renamed)), Err(OpenError::Signature));
    let mut unsigned = padded;
    unsigned[2..66].fill(0);
    assert_eq!(open_call(&room, &bob().public(), &reseal(&mut unsigned)), Err(OpenError::Signature));
}

#[test]
fn frames_have_the_lengths_that_the_table_says() {
    let (mut ours, _) = sessions();
    assert_eq!(start().frame([0; 8]).len(), 1659);
    assert_eq!(WELCOME_HEADER + WELCOME_NOISE, 330);
    assert_eq!(ours.seal(&packet(), None).unwrap().len(), 18 + TRANSPORT_BUCKETS[0] + 16);
}
