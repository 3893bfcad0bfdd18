//! Ways in for a fuzzer, also to what stands behind a seal. Each takes any bytes and must return.
//!
//! What decodes must have one encoding: where it has another, these functions panic, which is what a fuzzer looks for.
//! They are for test programs; nothing else calls them.

use std::sync::LazyLock;

use super::{
    CallKey, CallRoom, ContactToken, Door, HelloSecrets, Initiator, KemKey, KemSecret, OpenError, PeerSeed,
    Responder, Session, WelcomeSecrets, codec,
    frame::{self, CALL_BUCKET, FrameKind, HELLO_HEADER, TRANSPORT_BUCKETS},
    open_call, record, roll,
    secret::MAC_LEN,
};
use crate::{
    id::{CallId, Identity, NodeId},
    proto::signal::{
        AppData, EpochId, Hello, HelloKind, MediaFormat, SUITE_CLASSICAL, SUITE_HYBRID, Status, VERSION,
        Welcome,
    },
    time::UnixTime,
};

/// Two people who know each other.
struct Fixed {
    alice: Identity,
    bob: Identity,
    kem: KemSecret,
    token: ContactToken,
    room: CallRoom,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let bob = Identity::from_seed([0xb0; 32]);
    Fixed {
        alice: Identity::from_seed([0xa1; 32]),
        kem: KemSecret::of(&bob),
        bob,
        token: ContactToken::from_bytes([0x70; 32]),
        room: {
            let key = CallKey::from_bytes([0x44; 32]);
            CallRoom::new(CallId::from_bytes([0x33; 16]), EpochId { n: 1, key: key.hash() }, key)
        },
    }
});

impl Fixed {
    fn hello(&self) -> (Hello, HelloSecrets) {
        let hello = Hello {
            kind: HelloKind::Offer,
            from: self.alice.public(),
            node: NodeId::from(self.alice.public()),
            call: self.room.call(),
            sent_at: UnixTime::from_millis(0),
            ring_ms: 30_000,
            versions: vec![VERSION],
            suites: vec![SUITE_HYBRID, SUITE_CLASSICAL],
            media: MediaFormat::default(),
            app_data: AppData::default(),
        };
        let secrets = HelloSecrets {
            peer_seed: PeerSeed::from_bytes([0x51; 32]),
            call_key: CallKey::from_bytes([0x52; 32]),
        };
        (hello, secrets)
    }

    /// A handshake in the classical suite: nothing but the sessions behind it matters here.
    fn initiator(&self) -> Option<Initiator> {
        let (hello, secrets) = self.hello();
        let callee = self.bob.public();
        Initiator::start(&self.alice, &callee, &Door::Strangers, None, &hello, &secrets, [0xe1; 32]).ok()
    }

    fn sessions(&self) -> Option<(Session, Session)> {
        let mut initiator = self.initiator()?;
        let frame = initiator.frame([0; 8]);
        let opened = Responder::open(&self.bob, &self.kem, &Door::Strangers, &frame).ok()?;
        let welcome = Welcome {
            node: NodeId::from(self.bob.public()),
            version: VERSION,
            suite: SUITE_CLASSICAL,
            status: Status::Open,
        };
        let secrets = WelcomeSecrets { peer_seed: PeerSeed::from_bytes([0x53; 32]) };
        let (theirs, answer) = opened.respond(&welcome, &secrets, [0xe2; 32]).ok()?;
        let (ours, ..) = initiator.finish(&answer.frame([0; 8])).ok()?;
        Some((ours, theirs))
    }
}

/// What decoded from `bytes` is encoded as them.
fn same(bytes: &[u8], again: Result<codec::SecretBytes, super::SealError>) {
    assert!(again.is_ok_and(|again| *again == bytes), "decodes from two encodings");
}

/// The contents of message 1.
pub fn hello_contents(bytes: &[u8]) {
    if let Ok((hello, secrets)) = codec::decode_hello(bytes) {
        same(bytes, codec::encode_hello(&hello, &secrets));
    }
}

/// The contents of message 2.
pub fn welcome_contents(bytes: &[u8]) {
    if let Ok((welcome, secrets)) = codec::decode_welcome(bytes) {
        same(bytes, codec::encode_welcome(&welcome, &secrets));
    }
}

/// The contents of a transport message.
pub fn packet_contents(bytes: &[u8]) {
    if let Ok((packet, attachment)) = codec::decode_packet(bytes) {
        same(bytes, codec::encode_packet(&packet, attachment.as_ref()));
    }
}

/// What is signed in a call message.
pub fn call_contents(bytes: &[u8]) {
    if let Ok((from, version, body)) = codec::decode_call(bytes) {
        same(bytes, codec::encode_call(&from, version, &body));
    }
}

/// A padded bucket.
pub fn padding(bytes: &[u8]) {
    if let Ok(contents) = codec::unpad(bytes) {
        let again = codec::pad(contents, &[bytes.len()], "bucket");
        same(bytes, again);
    }
}

/// A frame that arrives at both doors of a callee: as it is, and with the MAC that lets it in.
pub fn frame(bytes: &[u8]) {
    let fixed = &*FIXED;
    let me = fixed.bob.public();
    let kind = frame::check(bytes);
    assert_eq!(frame::session_id(bytes).is_some(), kind == Ok(FrameKind::Transport));
    for door in [Door::Strangers, Door::Contacts(&fixed.token)] {
        let screened = Responder::screen(&me, &door, bytes);
        let opened = Responder::open(&fixed.bob, &fixed.kem, &door, bytes);
        assert!(screened.is_ok() || opened.is_err());
        if kind != Ok(FrameKind::Hello) {
            assert!(screened.is_err());
            continue;
        }
        let mut let_in = bytes.to_vec();
        let (header, rest) = let_in.split_at_mut(HELLO_HEADER);
        let (header, mac) = header.split_at_mut(HELLO_HEADER - MAC_LEN);
        mac.copy_from_slice(&door.mac(&me, header, rest));
        assert!(Responder::screen(&me, &door, &let_in).is_ok());
        if let Ok(opened) = Responder::open(&fixed.bob, &fixed.kem, &door, &let_in) {
            assert_eq!((opened.lane, Some(&opened.suite)), (door.lane(), let_in.get(2)));
        }
    }
}

/// A frame that arrives at a caller who waits for message 2.
pub fn welcome(bytes: &[u8]) {
    if frame::check(bytes) == Ok(FrameKind::Welcome)
        && let Some(mut initiator) = FIXED.initiator()
        && initiator.finish(bytes).is_ok()
    {
        assert_eq!(initiator.finish(bytes).err(), Some(OpenError::Repeated));
    }
}

/// A frame that arrives in a session, and contents that its other side seals.
pub fn transport(bytes: &[u8]) {
    let bucket = TRANSPORT_BUCKETS.contains(&bytes.len());
    if !bucket && frame::session_id(bytes).is_none() {
        return;
    }
    let Some((mut ours, mut theirs)) = FIXED.sessions() else { return };
    if theirs.open(bytes).is_ok() {
        assert_eq!(theirs.open(bytes), Err(OpenError::Replay));
    }
    if bucket && let Ok(frame) = ours.seal_padded(bytes) {
        let opened = theirs.open(&frame);
        assert_eq!(theirs.open(&frame), Err(OpenError::Replay));
        if let Ok((packet, attachment)) = opened
            && let Ok(contents) = codec::unpad(bytes)
        {
            same(contents, codec::encode_packet(&packet, attachment.as_ref()));
        }
    }
}

/// A frame that arrives on the topic of a call, and text that somebody with the call's key sealed.
pub fn call(bytes: &[u8]) {
    let fixed = &*FIXED;
    let me = fixed.bob.public();
    let _ = open_call(&fixed.room, &me, bytes);
    if bytes.len() == CALL_BUCKET
        && let Ok(frame) = super::call::seal_padded(&fixed.room, bytes, [0x77; 24])
    {
        let opened = open_call(&fixed.room, &me, &frame);
        assert!(opened.is_err() || codec::unpad(bytes).is_ok());
    }
}

/// An ML-KEM key.
pub fn kem_key(bytes: &[u8]) {
    if let Ok(key) = KemKey::from_bytes(bytes) {
        assert_eq!(key.as_bytes(), bytes);
        let again = key.encapsulate(&[0x88; 32]);
        assert_eq!(again, key.encapsulate(&[0x88; 32]));
    }
}

/// A record that anybody may hand on: as it is, and what it says, as its owner would sign it.
pub fn record(bytes: &[u8]) {
    if let Ok((who, found)) = record::read_record(bytes) {
        assert!(record::encoded(&found).is_ok_and(|contents| bytes.ends_with(&contents)));
        assert_eq!(record::open_record(bytes, &who, UnixTime::from_millis(0)), Ok(found));
    }
    if let Ok(found) = record::decoded(bytes) {
        let signed = record::seal_record(&FIXED.alice, &found);
        let read = signed.map_err(drop).and_then(|signed| record::read_record(&signed).map_err(drop));
        assert_eq!(read, Ok((FIXED.alice.public(), found)), "decodes and is not signed");
    }
}

/// What was kept of a call.
pub fn saved(bytes: &[u8]) {
    let Some((roll, signatures, media)) = roll::read_saved(bytes) else { return };
    assert!(roll::encode_saved(&roll, &signatures, media) == bytes, "decodes from two encodings");
    // The call that it says it is of, so that the signatures are looked at too.
    if let Some(first) = signatures.first() {
        let call = roll::call_id(&roll.create, first);
        let verified = roll::verify_roll(call, &roll, &signatures).is_ok();
        drop((roll, signatures));
        assert_eq!(roll::decode_saved(call, bytes).is_some(), verified);
    }
}
