//! Message 2: the callee's node answers on the caller's peer topic.
//!
//! `version 1 | kind 1 | salt 8 | MAC 16 | Noise message 304`. The MAC is made under a key that follows from the
//! caller's peer seed and the name of message 1: the caller finds the handshake that is answered by trying a hash
//! for each, and a node that carries both messages cannot tell that they belong together.

use std::fmt;

use snow::HandshakeState;
use zeroize::Zeroizing;

use super::{
    HandshakeId, OpenError, PeerSeed, SealError, codec,
    frame::{self, FrameKind, WELCOME_BUCKET, WELCOME_HEADER, WELCOME_NOISE},
    secret::{MAC_LEN, labelled_hash, mac, same},
};
use crate::proto::signal::{VERSION, Welcome};

/// The secrets of a [`Welcome`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WelcomeSecrets {
    /// The seed of the topic where the sender receives.
    pub peer_seed: PeerSeed,
}

/// A message 2, kept to be repeated when its message 1 comes again.
pub struct ResponderFrame {
    key: WelcomeKey,
    noise: Vec<u8>,
}

impl ResponderFrame {
    pub(super) const fn new(key: WelcomeKey, noise: Vec<u8>) -> Self {
        Self { key, noise }
    }

    /// The frame for the caller's [peer topic](super::Topic::peer). Each repeat takes another `salt`: gossip drops
    /// a frame that it has seen before. The session stays the same one.
    pub fn frame(&self, salt: [u8; 8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(WELCOME_HEADER + WELCOME_NOISE);
        frame.extend_from_slice(&[VERSION, FrameKind::Welcome.byte()]);
        frame.extend_from_slice(&salt);
        let mac = self.key.mac(&frame, &self.noise);
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&self.noise);
        frame
    }
}

impl fmt::Debug for ResponderFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponderFrame(..)")
    }
}

/// The key of the MAC over message 2.
pub(super) struct WelcomeKey(Zeroizing<[u8; 32]>);

impl zeroize::ZeroizeOnDrop for WelcomeKey {}

impl WelcomeKey {
    pub(super) fn new(caller: &PeerSeed, hello: &HandshakeId) -> Self {
        Self(Zeroizing::new(labelled_hash(
            b"warp-blink/1 welcome-key\0",
            &[caller.expose(), hello.as_bytes()],
        )))
    }

    fn mac(&self, header: &[u8], noise: &[u8]) -> [u8; MAC_LEN] {
        mac(b"warp-blink/1 welcome-mac\0", &self.0, &[header, noise])
    }
}

/// The Noise message of a frame that answers the handshake of `key`.
pub(super) fn screen<'f>(key: &WelcomeKey, frame: &'f [u8]) -> Result<&'f [u8], OpenError> {
    let (header, noise) = frame::open(frame, FrameKind::Welcome, WELCOME_HEADER)?;
    let (header, found) = header.split_at(WELCOME_HEADER - MAC_LEN);
    if same(found, &key.mac(header, noise)) { Ok(noise) } else { Err(OpenError::Mac) }
}

/// Writes the Noise message, which completes the handshake.
pub(super) fn seal(
    state: &mut HandshakeState,
    welcome: &Welcome,
    secrets: &WelcomeSecrets,
) -> Result<Vec<u8>, SealError> {
    let contents = codec::pad(&codec::encode_welcome(welcome, secrets)?, &[WELCOME_BUCKET], "welcome")?;
    let mut noise = vec![0; WELCOME_NOISE];
    match state.write_message(&contents, &mut noise) {
        Ok(WELCOME_NOISE) => Ok(noise),
        Err(snow::Error::Dh) => Err(SealError::WeakKey),
        _ => Err(SealError::Engine),
    }
}
