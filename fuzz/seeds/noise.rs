//! Reads what is sealed, with both sides' secrets and with the bare libraries.

use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305};
use sha2::{Digest, Sha256};
use snow::{Builder, HandshakeState, StatelessTransportState};
use warp_blink::{
    Identity,
    proto::signal::{SUITE_CLASSICAL, VERSION},
    wire::{CallRoom, Topic},
};

use crate::Outcome;

/// The people of the golden vectors and of the targets, and their ephemeral keys.
pub(crate) const ALICE: [u8; 32] = [0xa1; 32];
pub(crate) const BOB: [u8; 32] = [0xb0; 32];
pub(crate) const ALICE_EPHEMERAL: [u8; 32] = [0xe1; 32];
pub(crate) const BOB_EPHEMERAL: [u8; 32] = [0xe2; 32];

/// Where the Noise message begins, and how long the frames' headers are.
const HELLO_HEADER: usize = 27;
const WELCOME_HEADER: usize = 26;
const TRANSPORT_HEADER: usize = 18;
const CALL_HEADER: usize = 26;
const TAG: usize = 16;

/// Both sides of a handshake in the classical suite at the open inbox.
pub(crate) struct Reader {
    /// What message 1 sealed, with its padding.
    pub(crate) hello: Vec<u8>,
    /// What message 2 sealed, with its padding.
    pub(crate) welcome: Vec<u8>,
    sides: [StatelessTransportState; 2],
}

impl Reader {
    /// Goes through the handshake as both sides did, and makes the same two messages.
    pub(crate) fn new(message_1: &[u8], message_2: &[u8]) -> Outcome<Self> {
        let first = message_1.get(HELLO_HEADER..).ok_or("message 1 is too short")?;
        let second = message_2.get(WELCOME_HEADER..).ok_or("message 2 is too short")?;
        let mut bytes = vec![0; 65_535];

        let mut callee = side(BOB, &BOB_EPHEMERAL, None)?;
        let len = callee.read_message(first, &mut bytes)?;
        let hello = bytes[..len].to_vec();

        let mut caller = side(ALICE, &ALICE_EPHEMERAL, Some(x25519(&BOB)))?;
        let len = caller.write_message(&hello, &mut bytes)?;
        same(&bytes[..len], first)?;
        let len = caller.read_message(second, &mut bytes)?;
        let welcome = bytes[..len].to_vec();

        let len = callee.write_message(&welcome, &mut bytes)?;
        same(&bytes[..len], second)?;
        let sides = [caller.into_stateless_transport_mode()?, callee.into_stateless_transport_mode()?];
        Ok(Self { hello, welcome, sides })
    }

    /// The padded contents of a transport frame, if it belongs to this session.
    pub(crate) fn open(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let nonce = u64::from_be_bytes(frame.get(10..TRANSPORT_HEADER)?.try_into().ok()?);
        let sealed = frame.get(TRANSPORT_HEADER..)?;
        let mut padded = vec![0; sealed.len()];
        let len = self.sides.iter().find_map(|side| side.read_message(nonce, sealed, &mut padded).ok())?;
        padded.truncate(len);
        Some(padded)
    }
}

/// The padded contents of a call frame.
pub(crate) fn open_call(room: &CallRoom, key: &[u8; 32], frame: &[u8]) -> Outcome<Vec<u8>> {
    let (header, sealed) = frame.split_at_checked(CALL_HEADER).ok_or("too short")?;
    let (sealed, tag) = sealed.split_last_chunk::<TAG>().ok_or("too short")?;
    let context = [
        &b"warp-blink/1 call\0"[..],
        &[VERSION],
        room.topic().as_bytes(),
        room.call().as_bytes(),
        &room.epoch().n.to_be_bytes(),
    ]
    .concat();
    let mut padded = sealed.to_vec();
    XChaCha20Poly1305::new(key.into())
        .decrypt_in_place_detached(header[2..].into(), &context, &mut padded, tag.into())
        .map_err(|_| "the call frame does not open")?;
    Ok(padded)
}

fn side(seed: [u8; 32], ephemeral: &[u8; 32], callee: Option<[u8; 32]>) -> Outcome<HandshakeState> {
    let secret = ed25519_dalek::SigningKey::from_bytes(&seed).to_scalar_bytes();
    let ciphertext = hash(b"warp-blink/1 encapsulation\0", &[]);
    let inbox = Topic::inbox(&Identity::from_seed(BOB).public());
    let prologue =
        hash(b"warp-blink/1 handshake\0", &[&[VERSION, SUITE_CLASSICAL], inbox.as_bytes(), &ciphertext]);
    let builder = Builder::new("Noise_IKpsk0_25519_ChaChaPoly_SHA256".parse()?)
        .local_private_key(&secret)?
        .prologue(&prologue)?
        .psk(0, &[0; 32])?
        .fixed_ephemeral_key_for_testing_only(ephemeral);
    Ok(match callee {
        Some(callee) => builder.remote_public_key(&callee)?.build_initiator()?,
        None => builder.build_responder()?,
    })
}

fn x25519(seed: &[u8; 32]) -> [u8; 32] {
    Identity::from_seed(*seed).public().to_x25519()
}

fn hash(label: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(label);
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn same(made: &[u8], given: &[u8]) -> Outcome<()> {
    if made == given { Ok(()) } else { Err("the handshake was not made by these people".into()) }
}
