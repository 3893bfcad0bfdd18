//! Two people with fixed keys, and random messages.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses a part of it, and it is for tests alone"
)]

mod groups;

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use proptest::prelude::*;
use warp_blink::{
    id::{CallId, Identity, NodeId, NodeKey, PublicKey},
    proto::signal::{
        Announce, AppData, Body, CallBody, Candidate, Description, DescriptionKind, Hello, HelloKind,
        MAX_APP_DATA, MediaFormat, Packet, SUITE_CLASSICAL, SUITE_HYBRID, Status, VERSION, Welcome,
    },
    time::UnixTime,
    wire::{
        Attachment, CallKey, CallRoom, ContactToken, Door, HelloSecrets, Initiator, KemKey, KemSecret,
        NodePlace, PeerSeed, Record, Responder, ResponderFrame, SealError, Session, TurnPass, WelcomeSecrets,
        Whereabouts,
    },
};

pub use groups::*;

pub fn alice() -> Identity {
    Identity::from_seed([0xa1; 32])
}

pub fn bob() -> Identity {
    Identity::from_seed([0xb0; 32])
}

pub fn carol() -> Identity {
    Identity::from_seed([0xc4; 32])
}

/// Bob's ML-KEM secret.
pub fn kem() -> &'static KemSecret {
    static KEM: LazyLock<KemSecret> = LazyLock::new(|| KemSecret::of(&bob()));
    &KEM
}

/// What Bob gave to his contacts.
pub fn token() -> ContactToken {
    ContactToken::from_bytes([0x55; 32])
}

pub fn call() -> CallId {
    CallId::from_bytes(*b"sixteen bytes ok")
}

/// Where Alice is: at two nodes.
pub fn node_record() -> Record {
    let relay = NodeKey::from_seed([0x12; 32]).node_id();
    let place = |seed, addresses: &[String]| NodePlace {
        node: NodeKey::from_seed([seed; 32]).node_id(),
        until: UnixTime::from_millis(1_700_000_000_000 + 1_000_000 * u64::from(seed)),
        addresses: addresses.to_vec(),
    };
    let mut nodes = vec![
        place(0x11, &["/ip4/203.0.113.7/udp/4001/quic-v1".into(), "/ip6/2001:db8::7/tcp/4001".into()]),
        place(0x13, &[format!("/dns4/relay.example.org/tcp/4001/p2p/{relay}/p2p-circuit")]),
    ];
    nodes.sort_by_key(|place| place.node);
    Record {
        sequence: 1_700_000_000_000,
        expires: UnixTime::from_millis(1_700_021_600_000),
        nodes,
        versions: vec![VERSION],
        suites: vec![SUITE_HYBRID, SUITE_CLASSICAL],
        kem: Some(kem().public().hash()),
    }
}

pub fn hello() -> Hello {
    Hello {
        kind: HelloKind::Offer,
        from: alice().public(),
        node: NodeKey::from_seed([0x11; 32]).node_id(),
        call: call(),
        sent_at: UnixTime::from_millis(1_700_000_000_000),
        ring_ms: 45_000,
        versions: vec![VERSION],
        suites: vec![SUITE_CLASSICAL],
        media: media(),
        app_data: AppData::new(*b"what the app says").unwrap(),
    }
}

pub fn hello_secrets() -> HelloSecrets {
    HelloSecrets { peer_seed: PeerSeed::from_bytes([0x51; 32]), call_key: CallKey::from_bytes([0x52; 32]) }
}

pub fn welcome() -> Welcome {
    Welcome {
        node: NodeKey::from(&bob()).node_id(),
        version: VERSION,
        suite: SUITE_CLASSICAL,
        status: Status::Open,
    }
}

pub fn welcome_secrets() -> WelcomeSecrets {
    WelcomeSecrets { peer_seed: PeerSeed::from_bytes([0x53; 32]) }
}

pub fn start() -> Initiator {
    start_with(&hello(), 0xe1).unwrap()
}

/// The same with another hello, or another ephemeral key.
pub fn start_with(hello: &Hello, entropy: u8) -> Result<Initiator, SealError> {
    let callee = bob().public();
    Initiator::start(&alice(), &callee, &Door::Strangers, None, hello, &hello_secrets(), [entropy; 32])
}

/// As an old hello, from somebody who speaks the hybrid suite too.
pub fn modern_hello() -> Hello {
    Hello { suites: vec![SUITE_HYBRID, SUITE_CLASSICAL], ..hello() }
}

/// Message 1 by this door, in the suite that Bob's key allows if it is known.
pub fn start_by(door: &Door<'_>, key: Option<&KemKey>) -> Initiator {
    let (key, hello) = (key.map(|key| (key, [0xe3; 32])), modern_hello());
    Initiator::start(&alice(), &bob().public(), door, key, &hello, &hello_secrets(), [0xe1; 32]).unwrap()
}

/// Every door of Bob and every suite.
pub fn each_way(mut test: impl FnMut(&Door<'_>, Option<&KemKey>)) {
    let (token, key) = (token(), kem().public());
    for door in [Door::Strangers, Door::Contacts(&token)] {
        for key in [None, Some(&key)] {
            test(&door, key);
        }
    }
}

pub fn respond(frame: &[u8]) -> (Session, ResponderFrame) {
    respond_by(&Door::Strangers, frame)
}

/// Bob's answer to what came by this door, in the suite that it came in.
pub fn respond_by(door: &Door<'_>, frame: &[u8]) -> (Session, ResponderFrame) {
    let opened = Responder::open(&bob(), kem(), door, frame).unwrap();
    let welcome = Welcome { suite: opened.suite, ..welcome() };
    opened.respond(&welcome, &welcome_secrets(), [0xe2; 32]).unwrap()
}

/// The caller's and the callee's side, the latter not yet confirmed.
pub fn sessions() -> (Session, Session) {
    let mut initiator = start();
    let (theirs, answer) = respond(&initiator.frame([1; 8]));
    let (ours, ..) = initiator.finish(&answer.frame([2; 8])).unwrap();
    (ours, theirs)
}

/// Both sides confirmed.
pub fn confirmed() -> (Session, Session) {
    let (mut ours, mut theirs) = sessions();
    theirs.open(&ours.seal(&packet(1, Body::Confirm), None).unwrap()).unwrap();
    (ours, theirs)
}

pub fn packet(seq: u32, body: Body) -> Packet {
    Packet { seq, ack: 0, ack_bits: 0, call: call(), generation: 0, body }
}

pub fn room() -> CallRoom {
    let key = CallKey::from_bytes([0x54; 32]);
    CallRoom::new(call(), epoch_id(1, &key), key)
}

pub fn any_key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(|seed| Identity::from_seed(seed).public())
}

pub fn any_node() -> impl Strategy<Value = NodeId> {
    prop_oneof![
        any_key().prop_map(NodeId::from),
        any::<[u8; 32]>().prop_map(|hash| NodeId::from_bytes(&[&[0x12, 0x20][..], &hash].concat()).unwrap()),
    ]
}

pub fn any_call() -> impl Strategy<Value = CallId> {
    any::<[u8; 16]>().prop_map(CallId::from_bytes)
}

/// The format in the frozen frames, which the defaults may move away from.
pub fn media() -> MediaFormat {
    let mut media = MediaFormat::default();
    (media.frame_ms, media.channels, media.max_bitrate) = (20, 1, 32_000);
    media
}

pub fn any_media() -> impl Strategy<Value = MediaFormat> {
    any::<(u8, u8, u32)>().prop_map(|(frame_ms, channels, max_bitrate)| {
        let mut media = MediaFormat::default();
        (media.frame_ms, media.channels, media.max_bitrate) = (frame_ms, channels, max_bitrate);
        media
    })
}

/// A hello of `from`, who speaks both suites and perhaps more.
pub fn any_hello(from: PublicKey) -> impl Strategy<Value = Hello> {
    use HelloKind::{Cancel, Missed, Offer, Pair, Resume, Turn};
    let list = || proptest::collection::vec(any::<u8>(), 0..=8);
    let kind = proptest::sample::select(vec![Offer, Pair, Cancel, Resume, Missed, Turn]);
    let app_data =
        proptest::collection::vec(any::<u8>(), 0..=MAX_APP_DATA).prop_map(|d| AppData::new(d).unwrap());
    ((kind, any_node(), any_call(), any::<u64>(), any::<u32>()), (list(), list(), any_media(), app_data))
        .prop_map(move |((kind, node, call, sent_at, ring_ms), (versions, mut suites, media, app_data))| {
            suites.truncate(6);
            suites.extend([SUITE_HYBRID, SUITE_CLASSICAL]);
            let sent_at = UnixTime::from_millis(sent_at);
            Hello { kind, from, node, call, sent_at, ring_ms, versions, suites, media, app_data }
        })
}

/// An answer to a hello of this suite.
pub fn any_welcome(suite: u8) -> impl Strategy<Value = Welcome> {
    use Status::{Busy, Cancelled, Incompatible, Open};
    let stays = proptest::sample::select(vec![Open, Busy, Cancelled]).prop_map(move |s| (s, suite));
    let refuses = proptest::sample::select(vec![Incompatible, Status::Version, Status::Suite]);
    let status = prop_oneof![stays, (refuses, any::<u8>())];
    (any_node(), any::<u8>(), status).prop_map(|(node, version, (status, suite))| Welcome {
        node,
        version,
        suite,
        status,
    })
}

/// A body without an attachment.
pub fn any_body() -> impl Strategy<Value = Body> {
    let kind = || proptest::sample::select(vec![DescriptionKind::Offer, DescriptionKind::Answer]);
    let plain = vec![
        Body::Confirm,
        Body::Ringing,
        Body::Decline,
        Body::Busy,
        Body::Cancel,
        Body::HangUp,
        Body::EndOfCandidates,
        Body::TimedOut,
        Body::Ack,
        Body::LinkLost,
        Body::Incompatible,
        Body::Again,
        Body::Removed,
        Body::Here,
    ];
    prop_oneof![
        proptest::sample::select(plain),
        any_media().prop_map(Body::Accept),
        any_sync().prop_map(Body::Sync),
        (kind(), "\\PC{0,3000}").prop_map(|(kind, text)| Body::Description(Description { kind, text })),
        "\\PC{0,200}".prop_map(|text| Body::Candidate(Candidate { text })),
    ]
}

/// What goes with this body, made of this seed.
pub fn attachment(body: &Body, seed: [u8; 32]) -> Option<Attachment> {
    match body {
        Body::CallKey(_) => Some(Attachment::CallKey(CallKey::from_bytes(seed))),
        Body::Token => Some(Attachment::Token(ContactToken::from_bytes(seed))),
        Body::KemKey => Some(Attachment::KemKey(KemSecret::of(&Identity::from_seed(seed)).public())),
        Body::Where(whom) => {
            let addresses = seed.chunks(8).map(|c| format!("/ip4/192.0.2.{}/tcp/{}", c[0], c[1]));
            Some(Attachment::Where(Whereabouts::new((*whom).into(), addresses)))
        }
        Body::Turn => {
            let address = SocketAddr::from(([203, 0, 114, seed[0]], u16::from(seed[1]) + 1));
            let life = Duration::from_secs(u64::from(seed[2]) + 1);
            let pass = TurnPass::new([address], format!("1:{}", seed[3]), "password", life);
            Some(Attachment::Turn(pass.unwrap()))
        }
        _ => None,
    }
}

/// A body, what goes with it, and of which call that is.
pub fn any_said() -> impl Strategy<Value = (CallId, Body, Option<Attachment>)> {
    let of = |body: Body, seed| {
        let attachment = attachment(&body, seed);
        (body, attachment)
    };
    let key = any::<[u8; 32]>().prop_flat_map(move |seed| {
        any_epoch(CallKey::from_bytes(seed)).prop_map(move |epoch| of(Body::CallKey(epoch), seed))
    });
    let somebody = Body::Where(Identity::from_seed([3; 32]).public());
    let gift =
        (proptest::sample::select(vec![Body::Token, Body::KemKey, Body::Turn, somebody]), any::<[u8; 32]>());
    let said = prop_oneof![
        8 => any_body().prop_map(|body| (body, None)),
        1 => gift.prop_map(move |(body, seed)| of(body, seed)),
        1 => key,
    ];
    prop_oneof![
        10 => (any_call(), said).prop_map(|(call, (body, attachment))| (call, body, attachment)),
        2 => any_group().prop_map(|group| (group.call, group.body(), Some(group.attachment()))),
    ]
}

pub fn any_packet() -> impl Strategy<Value = (Packet, Option<Attachment>)> {
    (any::<(u32, u32, u32, u32)>(), any_said()).prop_map(
        |((seq, ack, ack_bits, generation), (call, body, attachment))| {
            (Packet { seq, ack, ack_bits, call, generation, body }, attachment)
        },
    )
}

/// A version and a body that has it.
pub fn any_call_body() -> impl Strategy<Value = (u64, CallBody)> {
    let announce = (any::<(u64, [bool; 8])>(), any_roll_hash()).prop_map(|((version, flags), roll)| {
        let mut announce = Announce::default();
        (announce.version, announce.roll) = (version, roll);
        [
            announce.joined,
            announce.muted,
            announce.deafened,
            announce.camera,
            announce.screen,
            announce.recording,
            announce.speaking,
            announce.held,
        ] = flags;
        (version, CallBody::Announce(announce))
    });
    prop_oneof![announce, any::<u64>().prop_map(|version| (version, CallBody::Leave))]
}
