//! Two people, and frames of theirs and of others.

use sha2::{Digest, Sha256};
use snow::{
    Builder,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver, FallbackResolver},
    types::{Cipher, Dh, Hash, Random},
};
use warp_blink::{
    CallId, Identity, NodeId,
    proto::signal::{
        Announce, AppData, Body, CallBody, Description, DescriptionKind, EpochId, Hello, HelloKind,
        MAX_DESCRIPTION, MediaFormat, Packet, SUITE_CLASSICAL, SUITE_HYBRID, Status, VERSION, Welcome,
    },
    time::UnixTime,
    wire::{
        CallKey, CallRoom, ContactToken, Door, HelloSecrets, Initiator, KemKey, KemSecret, Opened, PeerSeed,
        Responder, ResponderFrame, Session, WelcomeSecrets, seal_call,
    },
};

/// Suite and door.
pub(crate) const WAYS: [&str; 4] =
    ["classical_strangers", "classical_contacts", "hybrid_strangers", "hybrid_contacts"];

/// The insides of transport messages.
pub(crate) const BUCKETS: [usize; 6] = [512, 1024, 2048, 4096, 8192, 16384];

/// Where the MAC of message 1 stands, and what comes behind it.
pub(crate) const MAC_AT: usize = 11;
pub(crate) const HELLO_HEADER: usize = MAC_AT + 16;

const TOKEN: [u8; 32] = [0x70; 32];

pub(crate) fn alice() -> Identity {
    Identity::from_seed([0xa1; 32])
}

pub(crate) fn bob() -> Identity {
    Identity::from_seed([0xb0; 32])
}

/// Both people, and the way between them.
pub(crate) struct People {
    pub(crate) alice: Identity,
    pub(crate) bob: Identity,
    pub(crate) kem: KemSecret,
    key: KemKey,
    hybrid: bool,
    token: Option<ContactToken>,
}

impl People {
    pub(crate) fn of(way: &str) -> Self {
        let kem = KemSecret::of(&bob());
        Self {
            alice: alice(),
            bob: bob(),
            key: kem.public(),
            kem,
            hybrid: way.starts_with("hybrid"),
            token: way.ends_with("contacts").then(|| ContactToken::from_bytes(TOKEN)),
        }
    }

    pub(crate) fn door(&self) -> Door<'_> {
        self.token.as_ref().map_or(Door::Strangers, Door::Contacts)
    }

    pub(crate) fn offer(&self, entropy: [u8; 32]) -> Initiator {
        let kem = self.hybrid.then_some((&self.key, [0xe3; 32]));
        let hello = Hello {
            kind: HelloKind::Offer,
            from: self.alice.public(),
            node: NodeId::from(self.alice.public()),
            call: CallId::from_bytes([0x33; 16]),
            sent_at: UnixTime::from_millis(1_700_000_000_000),
            ring_ms: 45_000,
            versions: vec![VERSION],
            suites: vec![SUITE_HYBRID, SUITE_CLASSICAL],
            media: MediaFormat::default(),
            app_data: AppData::default(),
        };
        let secrets = HelloSecrets {
            peer_seed: PeerSeed::from_bytes([0x51; 32]),
            call_key: CallKey::from_bytes([0x52; 32]),
        };
        Initiator::start(&self.alice, &self.bob.public(), &self.door(), kem, &hello, &secrets, entropy)
            .unwrap()
    }
}

pub(crate) fn offer(way: &str) -> Initiator {
    People::of(way).offer([0xe1; 32])
}

/// Message 2 in the classical suite.
pub(crate) fn respond(opened: Opened) -> (Session, ResponderFrame) {
    let welcome = Welcome {
        node: NodeId::from(bob().public()),
        version: VERSION,
        suite: SUITE_CLASSICAL,
        status: Status::Open,
    };
    let secrets = WelcomeSecrets { peer_seed: PeerSeed::from_bytes([0x53; 32]) };
    opened.respond(&welcome, &secrets, [0xe2; 32]).unwrap()
}

pub(crate) fn answer(frame: &[u8]) -> (Session, ResponderFrame) {
    let people = People::of(WAYS[0]);
    respond(Responder::open(&people.bob, &people.kem, &people.door(), frame).unwrap())
}

/// The caller's and the callee's.
pub(crate) fn sessions() -> (Session, Session) {
    let mut initiator = offer(WAYS[0]);
    let (theirs, answer) = answer(&initiator.frame([0; 8]));
    let (ours, ..) = initiator.finish(&answer.frame([0; 8])).unwrap();
    (ours, theirs)
}

/// A description that just fits into this bucket, or the longest one.
pub(crate) fn packet(bucket: usize) -> Packet {
    // What stands around the text is 30 bytes and the length of the contents.
    let text = "a".repeat((bucket - 40).min(MAX_DESCRIPTION));
    let body = Body::Description(Description { kind: DescriptionKind::Offer, text });
    Packet { seq: 1, ack: 0, ack_bits: 0, call: CallId::from_bytes([0x33; 16]), generation: 0, body }
}

pub(crate) fn room() -> CallRoom {
    let key = CallKey::from_bytes([0x44; 32]);
    CallRoom::new(CallId::from_bytes([0x33; 16]), EpochId { n: 1, key: key.hash() }, key)
}

pub(crate) fn announce() -> CallBody {
    let mut announce = Announce::default();
    (announce.version, announce.joined) = (3, true);
    CallBody::Announce(announce)
}

pub(crate) fn call_frame() -> Vec<u8> {
    seal_call(&alice(), &room(), 3, &announce(), [9; 24]).unwrap()
}

/// Some bytes that belong to nobody.
pub(crate) fn name(number: u32) -> [u8; 32] {
    Sha256::digest(number.to_be_bytes()).into()
}

/// Makes bytes unlike any that were sealed.
pub(crate) fn scramble(bytes: &mut [u8]) {
    for (number, chunk) in (0..).zip(bytes.chunks_mut(32)) {
        chunk.copy_from_slice(&name(number)[..chunk.len()]);
    }
}

fn hash(label: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(label);
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// The header of message 1 and other bytes behind it, with the MAC of this door.
pub(crate) fn readdressed(way: &str, header: &[u8], rest: &[u8]) -> Vec<u8> {
    let people = People::of(way);
    let (header, callee) = (&header[..MAC_AT], people.bob.public());
    let mac = match people.door() {
        Door::Strangers => hash(b"warp-blink/1 lane-strangers\0", &[callee.as_bytes(), header, rest]),
        Door::Contacts(_) => hash(b"warp-blink/1 lane-contacts\0", &[&TOKEN, header, rest]),
    };
    [header, &mac[..16], rest].concat()
}

/// A Noise message 1 with the contents of this one, under the static key of somebody else.
pub(crate) fn forged(noise: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut callee = side(&[0xb0; 32]).build_responder().unwrap();
    let len = callee.read_message(noise, &mut bytes).unwrap();
    let contents = bytes[..len].to_vec();
    let callee = bob().public().to_x25519();
    let mut mallory = side(&[0x66; 32]).remote_public_key(&callee).unwrap().build_initiator().unwrap();
    let len = mallory.write_message(&contents, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

/// One side of a handshake with bob in the classical suite at the open inbox, made by the bare library.
fn side(seed: &[u8; 32]) -> Builder<'static> {
    let secret = ed25519_dalek::SigningKey::from_bytes(seed).to_scalar_bytes();
    let inbox = Door::Strangers.topic(&bob().public());
    let ciphertext = hash(b"warp-blink/1 encapsulation\0", &[]);
    let version = [VERSION, SUITE_CLASSICAL];
    let prologue = hash(b"warp-blink/1 handshake\0", &[&version, inbox.as_bytes(), &ciphertext]);
    let resolver = FallbackResolver::new(Box::new(DefaultResolver), Box::new(NotRandom));
    // The builder keeps what it is given by reference, and a benchmark may leave a few bytes behind.
    let (secret, prologue): (&'static [u8; 32], &'static [u8; 32]) =
        (Box::leak(Box::new(secret)), Box::leak(Box::new(prologue)));
    Builder::with_resolver("Noise_IKpsk0_25519_ChaChaPoly_SHA256".parse().unwrap(), Box::new(resolver))
        .local_private_key(secret)
        .and_then(|builder| builder.prologue(prologue))
        .and_then(|builder| builder.psk(0, &[0; 32]))
        .map(|builder| builder.fixed_ephemeral_key_for_testing_only(&[0x67; 32]))
        .unwrap()
}

/// The library asks for a random source, and with a fixed ephemeral key uses none.
struct NotRandom;

impl CryptoResolver for NotRandom {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Self))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        None
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        None
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        None
    }
}

impl Random for NotRandom {
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), snow::Error> {
        Err(snow::Error::Rng)
    }
}
