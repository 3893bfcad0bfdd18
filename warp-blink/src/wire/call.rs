//! Call messages: what is said to all participants, under the call key of an epoch.
//!
//! `version 1 | kind 1 | nonce 24 | sealed bucket 256 + 16` with XChaCha20-Poly1305. The associated data are the
//! protocol, the topic, the call and the number of the epoch, so that a message moved to another place does not open;
//! two keys of one number have two topics. Inside are the sender, its version, what it says, and its signature over all
//! of that: the key is everybody's, so only a signature tells participants apart.

use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::{
    CallKey, OpenError, SealError, Topic,
    codec::{self, SIGNATURE_LEN},
    frame::{self, CALL_BUCKET, CALL_HEADER, FrameKind, TAG_LEN},
};
use crate::{
    id::{CallId, Identity, Label, PublicKey, Signature},
    proto::signal::{CallBody, EpochId, VERSION},
};

/// One epoch of one call: its key, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRoom {
    call: CallId,
    epoch: EpochId,
    key: CallKey,
    topic: Topic,
}

impl CallRoom {
    /// The room of this call, epoch and key.
    pub fn new(call: CallId, epoch: EpochId, key: CallKey) -> Self {
        let topic = Topic::call(&key, epoch.n);
        Self { call, epoch, key, topic }
    }

    /// The call.
    pub const fn call(&self) -> CallId {
        self.call
    }

    /// The epoch, as it was given.
    pub const fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// Where its messages are published.
    pub const fn topic(&self) -> Topic {
        self.topic
    }

    /// Where and in what a message belongs: sealed with it, and signed with it.
    fn context(&self) -> Vec<u8> {
        [
            &b"warp-blink/1 call\0"[..],
            &[VERSION],
            self.topic.as_bytes(),
            self.call.as_bytes(),
            &self.epoch.n.to_be_bytes(),
        ]
        .concat()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.key.expose().into())
    }
}

/// A call message that verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallMessage {
    /// Who signed it.
    pub from: PublicKey,
    /// Grows with every message of the sender. A receiver keeps the highest one of each sender: a replay is none higher.
    /// An announce has the same number.
    pub version: u64,
    /// What it says.
    pub body: CallBody,
}

/// Seals a message to all participants. `nonce` is 24 bytes of a cryptographic random source, new for each call of
/// this function, also for repeats of the same message.
///
/// # Errors
/// [`SealError::Version`] if an announce has another version than `version`.
pub fn seal_call(
    identity: &Identity,
    room: &CallRoom,
    version: u64,
    body: &CallBody,
    nonce: [u8; 24],
) -> Result<Vec<u8>, SealError> {
    let said = codec::encode_call(&identity.public(), version, body)?;
    let context = room.context();
    let signature = identity.sign(Label::CallMessage, &[&context[..], &said[..]].concat());
    let padded = codec::pad(
        &Zeroizing::new([&signature.as_bytes()[..], &said].concat()),
        &[CALL_BUCKET],
        "call message",
    )?;
    seal_padded(room, &padded, nonce)
}

/// Seals any bytes that fill the bucket.
pub(super) fn seal_padded(room: &CallRoom, padded: &[u8], nonce: [u8; 24]) -> Result<Vec<u8>, SealError> {
    let mut frame = Vec::with_capacity(CALL_HEADER + CALL_BUCKET + TAG_LEN);
    frame.extend_from_slice(&[VERSION, FrameKind::Call.byte()]);
    frame.extend_from_slice(&nonce);
    frame.extend_from_slice(padded);
    let tag = room
        .cipher()
        .encrypt_in_place_detached(XNonce::from_slice(&nonce), &room.context(), &mut frame[CALL_HEADER..])
        .map_err(|_| SealError::Engine)?;
    frame.extend_from_slice(&tag);
    Ok(frame)
}

/// Opens a message of a participant other than `me`. Whether the sender takes part in the call, and whether its
/// version is new, is for the receiver to decide.
///
/// # Errors
/// The stage at which the frame failed; [`OpenError::Reflected`] for a message of `me`.
pub fn open_call(room: &CallRoom, me: &PublicKey, frame: &[u8]) -> Result<CallMessage, OpenError> {
    let (header, sealed) = frame::open(frame, FrameKind::Call, CALL_HEADER)?;
    let (sealed, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(OpenError::Decode)?;
    let context = room.context();
    let mut padded = Zeroizing::new(sealed.to_vec());
    room.cipher()
        .decrypt_in_place_detached(XNonce::from_slice(&header[2..]), &context, &mut padded, tag.into())
        .map_err(|_| OpenError::Seal)?;
    let (signature, said) =
        codec::unpad(&padded)?.split_first_chunk::<SIGNATURE_LEN>().ok_or(OpenError::Decode)?;
    let (from, version, body) = codec::decode_call(said)?;
    if from == *me {
        return Err(OpenError::Reflected);
    }
    from.verify(Label::CallMessage, &[&context[..], said].concat(), &Signature::from_bytes(*signature))
        .map_err(|_| OpenError::Signature)?;
    Ok(CallMessage { from, version, body })
}
