//! One message of every kind between the two people of `warp_blink::wire::fuzz`, who have the same secrets there.

use warp_blink::{
    CallId, Identity, NodeId,
    id::Signature,
    proto::signal::{
        Announce, AppData, Body, CallBody, Candidate, Create, Description, DescriptionKind, Epoch, EpochId,
        Gone, Hello, HelloKind, MayInvite, MediaFormat, Packet, Record, RecordKind, Roll, RollHash,
        SUITE_CLASSICAL, SUITE_HYBRID, Status, Sync, VERSION, Welcome,
    },
    time::UnixTime,
    wire::{
        Attachment, CallKey, CallRoom, ContactToken, Door, HelloSecrets, Initiator, KemSecret, PeerSeed,
        Responder, Session, WelcomeSecrets, call_id, encode_saved, seal_call, sign_create, sign_record,
    },
};

use crate::{
    Outcome, Seeds,
    noise::{self, ALICE, ALICE_EPHEMERAL, BOB, BOB_EPHEMERAL, Reader},
};

const CALL_KEY: [u8; 32] = [0x44; 32];

fn call() -> CallId {
    CallId::from_bytes([0x33; 16])
}

fn epoch() -> EpochId {
    EpochId { n: 1, key: CallKey::from_bytes(CALL_KEY).hash() }
}

fn call_key() -> Attachment {
    Attachment::CallKey(CallKey::from_bytes(CALL_KEY))
}

fn hello(kind: HelloKind, app_data: &[u8]) -> Outcome<(Hello, HelloSecrets)> {
    let alice = Identity::from_seed(ALICE).public();
    let hello = Hello {
        kind,
        from: alice,
        node: NodeId::from(alice),
        call: call(),
        sent_at: UnixTime::from_millis(0),
        ring_ms: 30_000,
        versions: vec![VERSION],
        suites: vec![SUITE_HYBRID, SUITE_CLASSICAL],
        media: MediaFormat::default(),
        app_data: AppData::new(app_data)?,
    };
    let secrets = HelloSecrets {
        peer_seed: PeerSeed::from_bytes([0x51; 32]),
        call_key: CallKey::from_bytes([0x52; 32]),
    };
    Ok((hello, secrets))
}

/// A handshake at the open inbox in the classical suite: its two messages and both sessions.
struct Handshake {
    frames: [Vec<u8>; 2],
    caller: Session,
    callee: Session,
}

impl Handshake {
    fn new(kind: HelloKind, app_data: &[u8], status: Status) -> Outcome<Self> {
        let (alice, bob) = (Identity::from_seed(ALICE), Identity::from_seed(BOB));
        let (hello, secrets) = hello(kind, app_data)?;
        let (door, callee) = (Door::Strangers, bob.public());
        let mut initiator =
            Initiator::start(&alice, &callee, &door, None, &hello, &secrets, ALICE_EPHEMERAL)?;
        let message_1 = initiator.frame([0; 8]);
        let welcome =
            Welcome { node: NodeId::from(callee), version: VERSION, suite: SUITE_CLASSICAL, status };
        let secrets = WelcomeSecrets { peer_seed: PeerSeed::from_bytes([0x53; 32]) };
        let opened = Responder::open(&bob, &KemSecret::of(&bob), &door, &message_1)?;
        let (callee, answer) = opened.respond(&welcome, &secrets, BOB_EPHEMERAL)?;
        let message_2 = answer.frame([0; 8]);
        let (caller, ..) = initiator.finish(&message_2)?;
        Ok(Self { frames: [message_1, message_2], caller, callee })
    }

    fn reader(&self) -> Outcome<Reader> {
        Reader::new(&self.frames[0], &self.frames[1])
    }
}

fn bodies() -> Vec<(Body, Option<Attachment>)> {
    let description = |kind, text: &str| Body::Description(Description { kind, text: text.into() });
    let candidate = "candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host";
    let kem = KemSecret::of(&Identity::from_seed(ALICE)).public();
    let gone = Gone { subject: Identity::from_seed(BOB).public(), number: 300 };
    let mut bodies: Vec<(Body, Option<Attachment>)> = vec![
        (Body::CallKey(Epoch { id: epoch(), gone: Vec::new() }), Some(call_key())),
        (Body::CallKey(Epoch { id: epoch(), gone: vec![gone] }), Some(call_key())),
        (Body::Token, Some(Attachment::Token(ContactToken::from_bytes([0x70; 32])))),
        (Body::KemKey, Some(Attachment::KemKey(kem))),
    ];
    let plain = [
        Body::Confirm,
        Body::Ringing,
        Body::Accept(MediaFormat::default()),
        Body::Decline,
        Body::Busy,
        Body::Cancel,
        Body::HangUp,
        description(DescriptionKind::Offer, "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\n"),
        description(DescriptionKind::Answer, &"a=mid:0\r\n".repeat(150)),
        Body::Candidate(Candidate { text: candidate.into() }),
        Body::EndOfCandidates,
        Body::TimedOut,
        Body::Ack,
        Body::LinkLost,
        Body::Incompatible,
        Body::Again,
        Body::Sync(Sync { roll: RollHash([0x5a; 16]), epoch: epoch(), generation: 2 }),
        Body::Removed,
        Body::Here,
    ];
    bodies.extend(plain.map(|body| (body, None)));
    bodies
}

/// Alice made a call, and added Bob; then he left, and was removed: its id, after how many words, and the signatures.
fn rolls() -> Vec<(CallId, Roll, Vec<Signature>)> {
    let (alice, bob) = (Identity::from_seed(ALICE), Identity::from_seed(BOB));
    let (creator, subject) = (alice.public(), bob.public());
    let create = Create { creator, random: [0x52; 16], may_invite: MayInvite::Members, most: 16 };
    let first = sign_create(&alice, &create);
    let call = call_id(&create, &first);
    let (mut roll, mut signatures) = (Roll { create, records: Vec::new() }, vec![first]);
    let mut rolls = vec![(call, roll.clone(), signatures.clone())];
    for (number, kind, signer) in
        [(1, RecordKind::Add, &alice), (2, RecordKind::Leave, &bob), (300, RecordKind::Remove, &alice)]
    {
        let record = Record { subject, number, kind, by: signer.public() };
        roll.records.push(record);
        signatures.push(sign_record(signer, call, &record));
        rolls.push((call, roll.clone(), signatures.clone()));
    }
    rolls
}

pub(crate) fn add(seeds: &mut Seeds) -> Outcome<()> {
    let statuses =
        [Status::Open, Status::Busy, Status::Cancelled, Status::Incompatible, Status::Version, Status::Suite];
    let kinds = [
        HelloKind::Offer,
        HelloKind::Pair,
        HelloKind::Cancel,
        HelloKind::Resume,
        HelloKind::Missed,
        HelloKind::Turn,
    ];
    for (number, status) in statuses.into_iter().enumerate() {
        let app_data = vec![0x61; 40 * number];
        let handshake = Handshake::new(kinds[number % kinds.len()], &app_data, status)?;
        seeds.add_session(&handshake.reader()?, &[])?;
    }

    let mut handshake = Handshake::new(HelloKind::Offer, b"", Status::Open)?;
    let mut frames = Vec::new();
    for ((body, attachment), seq) in bodies().into_iter().zip(1..) {
        let packet = Packet { seq, ack: 1, ack_bits: 3, call: call(), generation: 0, body };
        frames.push(handshake.caller.seal(&packet, attachment.as_ref())?);
    }
    for (call, roll, signatures) in rolls() {
        seeds.add("saved", &encode_saved(&roll, &signatures, MediaFormat::default()));
        let packet = Packet { seq: 40, ack: 1, ack_bits: 3, call, generation: 0, body: Body::Roll(roll) };
        frames.push(handshake.caller.seal(&packet, Some(&Attachment::Signatures(signatures)))?);
    }
    // All of them are taken: a seed that is refused would teach nothing.
    for frame in &frames {
        handshake.callee.open(frame)?;
    }
    seeds.add_session(&handshake.reader()?, &frames)?;
    // As they arrive: some, since all but the header is noise to a fuzzer.
    frames.iter().take(3).chain(&handshake.frames).for_each(|frame| seeds.add_frame(frame));

    add_doors(seeds)?;
    add_calls(seeds)?;
    add_names(seeds);
    Ok(())
}

/// Message 1 by each door and in each suite.
fn add_doors(seeds: &mut Seeds) -> Outcome<()> {
    let (alice, bob) = (Identity::from_seed(ALICE), Identity::from_seed(BOB));
    let (token, key) = (ContactToken::from_bytes([0x70; 32]), KemSecret::of(&bob).public());
    let (hello, secrets) = hello(HelloKind::Offer, b"")?;
    for door in [Door::Strangers, Door::Contacts(&token)] {
        for kem in [None, Some((&key, [0xe3; 32]))] {
            let initiator =
                Initiator::start(&alice, &bob.public(), &door, kem, &hello, &secrets, ALICE_EPHEMERAL)?;
            seeds.add_frame(&initiator.frame([0; 8]));
        }
    }
    seeds.add("kem_key", key.as_bytes());
    Ok(())
}

fn add_calls(seeds: &mut Seeds) -> Outcome<()> {
    let (alice, bob) = (Identity::from_seed(ALICE), Identity::from_seed(BOB));
    let room = CallRoom::new(call(), epoch(), CallKey::from_bytes(CALL_KEY));
    let mut announce = Announce::default();
    (announce.version, announce.joined, announce.speaking) = (7, true, true);
    (announce.held, announce.roll) = (true, RollHash([0x5a; 16]));
    // A message of alice's, which opens, and one that came back to bob.
    for (sender, version, body) in [
        (&alice, 7, CallBody::Announce(announce)),
        (&alice, 300, CallBody::Leave),
        (&bob, 1, CallBody::Leave),
    ] {
        let frame = seal_call(sender, &room, version, &body, [9; 24])?;
        let padded = noise::open_call(&room, &CALL_KEY, &frame)?;
        seeds.add_frame(&frame);
        seeds.add("call", &padded);
        seeds.add("padding", &padded);
        // Length and signature stand before what is signed, zeros behind it.
        let len = usize::from(u16::from_be_bytes([padded[0], padded[1]]));
        seeds.add("call_contents", &padded[2 + 64..2 + len]);
    }
    Ok(())
}

fn add_names(seeds: &mut Seeds) {
    let key = Identity::from_seed(ALICE).public();
    for target in ["public_key", "node_id"] {
        seeds.add(target, key.to_peer_id_string().as_bytes());
    }
    seeds.add("public_key", key.as_bytes());
    seeds.add("public_key", key.to_string().as_bytes());
    // Well formed, of another kind: a secp256k1 did:key and a sha2-256 PeerId.
    seeds.add("public_key", b"did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme");
    seeds.add("node_id", b"QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N");
    seeds.add("node_id", NodeId::from(key).as_bytes());
    seeds.add("node_id", &[&[0x12, 0x20][..], &[0x5a; 32]].concat());
    seeds.add("call_id", call().to_string().as_bytes());
    seeds.add("call_id", b"00112233445566778899AABBCCDDEEFF");
}
