//! Transport messages: what two peers say inside a session.
//!
//! `version 1 | kind 1 | session id 8 | nonce 8 | sealed bucket`, all numbers big-endian. The nonce counts
//! transmissions, so a resend is a new frame; it is never stored, and a session does not outlive its process.

use std::fmt;

use snow::{HandshakeState, StatelessTransportState};
use zeroize::Zeroizing;

use super::{
    CallKey, ContactToken, KemKey, OpenError, PeerSeed, SealError, SessionId, TurnPass, Whereabouts, codec,
    frame::{self, FrameKind, TAG_LEN, TRANSPORT_BUCKETS, TRANSPORT_HEADER},
    secret::{labelled_hash, same},
    window::{Place, Window},
};
use crate::{
    id::{PublicKey, Signature},
    proto::signal::{Packet, VERSION},
};

/// Noise keeps this nonce for itself (Noise specification, section 5.1).
const RESERVED: u64 = u64::MAX;

/// Which side of the handshake this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Sent message 1.
    Initiator,
    /// Sent message 2.
    Responder,
}

/// What goes with a [`Body`](crate::proto::signal::Body) of the same name, or as signatures with a roll, and with no
/// other: the core says that it is sent, and the keeper of keys adds it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Attachment {
    /// The key of an epoch of the call.
    CallKey(CallKey),
    /// The sender's contact token.
    Token(ContactToken),
    /// The sender's ML-KEM key.
    KemKey(KemKey),
    /// What a [`Roll`](crate::proto::signal::Body::Roll) is signed with: its create, then each record in order.
    Signatures(Vec<Signature>),
    /// Where the member is found of whom the body speaks.
    Where(Whereabouts),
    /// A place on the sender's TURN server.
    Turn(TurnPass),
}

/// One side of a session between two identities' nodes. It does not grow with what goes through it.
///
/// Its two cipher keys are overwritten when it is dropped; no other field holds a secret. `snow` leaves copies of them
/// on the stack and in freed memory when the handshake becomes a session.
pub struct Session {
    transport: StatelessTransportState,
    peer: PublicKey,
    outgoing: SessionId,
    incoming: SessionId,
    next_nonce: u64,
    window: Window,
    confirmed: bool,
}

impl Session {
    /// Takes over a completed handshake.
    pub(super) fn open_from(
        state: HandshakeState,
        role: Role,
        peer: PublicKey,
        initiator: &PeerSeed,
        responder: &PeerSeed,
    ) -> Result<Self, OpenError> {
        // The handshake hash alone can be computed by whoever saw both messages: the seeds make the names private.
        let hash = Zeroizing::new(state.get_handshake_hash().to_vec());
        let name = |direction: u8| {
            let name = labelled_hash(
                b"warp-blink/1 session-id\0",
                &[&hash, initiator.expose(), responder.expose(), &[direction]],
            );
            let [a, b, c, d, e, f, g, h, ..] = name;
            SessionId([a, b, c, d, e, f, g, h])
        };
        let (outgoing, incoming) = match role {
            Role::Initiator => (name(1), name(2)),
            Role::Responder => (name(2), name(1)),
        };
        let transport = state.into_stateless_transport_mode().map_err(|_| OpenError::Handshake)?;
        let confirmed = role == Role::Initiator;
        Ok(Self { transport, peer, outgoing, incoming, next_nonce: 0, window: Window::new(), confirmed })
    }

    /// The name in the header of the frames that this side receives, by which a receiver finds the session
    /// ([`frame::session_id`]).
    pub const fn id(&self) -> SessionId {
        self.incoming
    }

    /// Whose session it is.
    pub const fn peer(&self) -> PublicKey {
        self.peer
    }

    /// Whether the other side is known to be there now: for the initiator from the start, since message 2 answered
    /// its own fresh key; for the responder from the first frame that opened. Until then message 1 may have been a
    /// replay.
    pub const fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Seals a packet for the other side's [peer topic](super::Topic::peer). Sealing the same packet again gives a new
    /// frame, which gossip does not suppress.
    ///
    /// # Errors
    /// [`SealError::Unconfirmed`], [`SealError::Attachment`] and [`SealError::TooLong`] change nothing;
    /// [`SealError::Exhausted`] is final; [`SealError::Engine`] has used up a nonce.
    pub fn seal(&mut self, packet: &Packet, attachment: Option<&Attachment>) -> Result<Vec<u8>, SealError> {
        if !self.confirmed {
            return Err(SealError::Unconfirmed);
        }
        let padded = codec::pad(&codec::encode_packet(packet, attachment)?, &TRANSPORT_BUCKETS, "packet")?;
        self.seal_padded(&padded)
    }

    /// Seals any bytes that fill a bucket.
    pub(super) fn seal_padded(&mut self, padded: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = self.next_nonce;
        if nonce == RESERVED {
            return Err(SealError::Exhausted);
        }
        // Burnt before it is used: whatever happens next, no second text is sealed under it.
        self.next_nonce += 1;
        let len = TRANSPORT_HEADER + padded.len() + TAG_LEN;
        let mut frame = Vec::with_capacity(len);
        frame.extend_from_slice(&[VERSION, FrameKind::Transport.byte()]);
        frame.extend_from_slice(self.outgoing.as_bytes());
        frame.extend_from_slice(&nonce.to_be_bytes());
        frame.resize(len, 0);
        match self.transport.write_message(nonce, padded, &mut frame[TRANSPORT_HEADER..]) {
            Ok(sealed) if sealed == padded.len() + TAG_LEN => Ok(frame),
            _ => Err(SealError::Engine),
        }
    }

    /// Opens a frame of the other side. The attachment is there if, and only if, the body has one of its name. A roll
    /// has been [verified](super::verify_roll) for the packet's call, and an epoch names the key that comes with it.
    ///
    /// # Errors
    /// The stage at which the frame failed. Nothing changes before the tag has verified; after that the frame counts
    /// as received, even if its contents are malformed or [unknown](OpenError::Unknown).
    pub fn open(&mut self, frame: &[u8]) -> Result<(Packet, Option<Attachment>), OpenError> {
        let (header, sealed) = frame::open(frame, FrameKind::Transport, TRANSPORT_HEADER)?;
        let (id, nonce) = header[2..].split_at(8);
        if !same(id, self.incoming.as_bytes()) {
            return Err(OpenError::Session);
        }
        let nonce = u64::from_be_bytes(nonce.try_into().map_err(|_| OpenError::Decode)?);
        match self.window.place(nonce) {
            _ if nonce == RESERVED => return Err(OpenError::Seal),
            Place::Fresh => {}
            Place::Seen => return Err(OpenError::Replay),
            Place::Old => return Err(OpenError::TooOld),
        }
        let mut padded = Zeroizing::new(vec![0; sealed.len()]);
        let len = self.transport.read_message(nonce, sealed, &mut padded).map_err(|_| OpenError::Seal)?;
        self.window.mark(nonce);
        self.confirmed = true;
        codec::decode_packet(codec::unpad(&padded[..len])?)
    }
}

#[cfg(test)]
impl Session {
    /// Goes on with this nonce.
    pub(super) fn skip_to(&mut self, nonce: u64) {
        self.next_nonce = nonce;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.incoming)
            .field("peer", &self.peer)
            .field("confirmed", &self.confirmed)
            .field("sent", &self.next_nonce)
            .finish_non_exhaustive()
    }
}
