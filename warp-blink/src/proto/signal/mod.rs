//! The vocabulary of signaling: what two peers say to each other, without keys. `wire` gives it bytes and seals it.

mod member;

use std::{fmt, time::Duration};

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{
    id::{CallId, NodeId, PublicKey},
    time::UnixTime,
};

pub use self::member::{
    Create, Epoch, EpochId, Gone, KeyHash, MAX_MEMBERS, MAX_RECORDS, MAX_SUBJECTS, MayInvite, Record,
    RecordKind, Roll, RollHash, Sync,
};

/// The protocol version that this build speaks.
pub const VERSION: u8 = 1;

/// Noise_IKpsk0_25519_ChaChaPoly_SHA256 with a zero psk: the suite that this build speaks.
pub const SUITE_CLASSICAL: u8 = 1;

/// The same with an ML-KEM-768 secret as its psk, encapsulated to the callee's key: what is recorded today stays closed
/// to a quantum computer of tomorrow.
pub const SUITE_HYBRID: u8 = 2;

/// The way by which a first message arrives. Each has a topic, a queue and a rate of its own, so that strangers never
/// delay a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// For those who hold the callee's contact token.
    Contacts,
    /// For everybody who knows the callee's public key.
    Strangers,
}

/// The most app data that an offer carries, in bytes.
pub const MAX_APP_DATA: usize = 1024;

/// The largest session description that a signal carries, in bytes.
pub const MAX_DESCRIPTION: usize = 12 * 1024;

/// The largest candidate line that a signal carries, in bytes.
pub const MAX_CANDIDATE: usize = 1024;

/// The longest that credentials for a TURN server hold: PROTOCOL's ten minutes.
pub const MAX_TURN_LIFE: Duration = Duration::from_secs(600);

/// Why a first message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum HelloKind {
    /// Rings the callee.
    #[n(0)]
    Offer,
    /// Opens a session between two members of one call.
    #[n(1)]
    Pair,
    /// Withdraws an offer that has not been answered.
    #[n(2)]
    Cancel,
    /// Comes back to a running call after a crash.
    #[n(3)]
    Resume,
    /// Tells of a call that was missed: [`Hello::sent_at`] is when it was made, by the caller's clock, and
    /// [`Hello::ring_ms`] how long ago that is, in seconds.
    #[n(4)]
    Missed,
    /// Asks for a place on the receiver's TURN server. [`Hello::call`] names the asking, and no call.
    #[n(5)]
    Turn,
}

/// What the audio of a call looks like. The answer may narrow what the offer says, never widen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MediaFormat {
    /// Opus frame length in milliseconds: 10, 20, 40 or 60.
    #[n(0)]
    pub frame_ms: u8,
    /// Channels: 1 or 2.
    #[n(1)]
    pub channels: u8,
    /// The most that the encoder may spend, in bits per second (RFC 6716: 6,000 to 510,000).
    #[n(2)]
    pub max_bitrate: u32,
}

impl Default for MediaFormat {
    /// 20 ms (the default of RFC 7587), mono, 40 kb/s: the upper end of what RFC 7587 section 3.1.1
    /// names for full-band speech (28 to 40), where a low voice still correlates with the original above 0.96.
    fn default() -> Self {
        Self { frame_ms: 20, channels: 1, max_bitrate: 40_000 }
    }
}

/// The first message to a peer: it opens a session, and says why. Its secrets (the peer topic's seed and the key of
/// epoch 0) are added by the driver, which keeps them by call id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Why it was sent.
    pub kind: HelloKind,
    /// The sender.
    pub from: PublicKey,
    /// The sender's node.
    pub node: NodeId,
    /// The call.
    pub call: CallId,
    /// The sender's wall clock, for display.
    pub sent_at: UnixTime,
    /// How long it rings from now on, in milliseconds.
    pub ring_ms: u32,
    /// Protocol versions that the sender speaks, best first; at most 8.
    pub versions: Vec<u8>,
    /// Suites that the sender speaks, best first; at most 8.
    pub suites: Vec<u8>,
    /// The audio offered.
    pub media: MediaFormat,
    /// The app's own data.
    pub app_data: AppData,
}

/// The answer to a [`Hello`], which makes the session usable for its sender.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// The answering node.
    pub node: NodeId,
    /// The version chosen.
    pub version: u8,
    /// The suite chosen.
    pub suite: u8,
    /// What becomes of the hello.
    pub status: Status,
}

/// What becomes of a [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Status {
    /// The session is open; what follows goes through it.
    #[n(0)]
    Open,
    /// In another call, and configured to say so.
    #[n(1)]
    Busy,
    /// No media format in common.
    #[n(2)]
    Incompatible,
    /// A cancel was understood; nothing follows.
    #[n(3)]
    Cancelled,
    /// No protocol version in common; [`Welcome::version`] is the callee's best.
    #[n(4)]
    Version,
    /// No suite in common, or not one that the callee takes; [`Welcome::suite`] is the callee's best.
    #[n(5)]
    Suite,
}

/// What is said inside a confirmed session.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Body {
    /// The initiator's first message, which confirms the session for the responder.
    #[n(0)]
    Confirm,
    /// The callee's phone rings.
    #[n(1)]
    Ringing,
    /// The callee accepts, with the audio format narrowed to what it wants.
    #[n(2)]
    Accept(#[n(0)] MediaFormat),
    /// The callee declines.
    #[n(3)]
    Decline,
    /// The callee is in another call.
    #[n(4)]
    Busy,
    /// The caller withdraws.
    #[n(5)]
    Cancel,
    /// The call ends for the sender.
    #[n(6)]
    HangUp,
    /// The key of an epoch of the call; the driver adds the key itself.
    #[n(7)]
    CallKey(#[n(0)] Epoch),
    /// A session description of the link.
    #[n(8)]
    Description(#[n(0)] Description),
    /// A candidate of the link.
    #[n(9)]
    Candidate(#[n(0)] Candidate),
    /// No further candidates follow for this generation.
    #[n(10)]
    EndOfCandidates,
    /// The ringing ended without an answer.
    #[n(11)]
    TimedOut,
    /// Only acknowledges; has no sequence number of its own.
    #[n(12)]
    Ack,
    /// The call ends for the sender because the link between the two did not come about, or was lost.
    #[n(13)]
    LinkLost,
    /// The call ends for the sender because nothing that both can do is left.
    #[n(14)]
    Incompatible,
    /// The link of this generation did not come about: the side that offers links should offer another.
    #[n(15)]
    Again,
    /// The sender's contact token, which opens the contacts' lane to it; the driver adds the token itself.
    #[n(16)]
    Token,
    /// The sender's ML-KEM key, to which later calls are encapsulated; the driver adds the key itself.
    #[n(17)]
    KemKey,
    /// Who belongs to the call; the driver adds the signatures. As the initiator's first message it confirms the session.
    #[n(18)]
    Roll(#[n(0)] Roll),
    /// What the sender knows of the call, in short.
    #[n(19)]
    Sync(#[n(0)] Sync),
    /// The receiver was removed from the call: the last that it hears.
    #[n(20)]
    Removed,
    /// The sender is there. Says so while a phone rings, where nothing else is said.
    #[n(21)]
    Here,
    /// Where that member's node was found; the driver adds it. Told to those who have just met in a call, since nothing
    /// else brings their nodes together.
    #[n(22)]
    Where(#[n(0)] PublicKey),
    /// Which certificates are at the two ends of the link of this generation. Crosses that link's own signaling channel, and
    /// has no sequence number.
    #[n(23)]
    Bound(#[n(0)] Binding),
    /// The sender's TURN server may be used; the driver adds where it is, and the credentials.
    #[n(24)]
    Turn,
}

impl Body {
    /// Whether the body says how the link is made, rather than how the call goes on.
    pub(crate) fn is_link(&self) -> bool {
        matches!(self, Self::Description(_) | Self::Candidate(_) | Self::EndOfCandidates)
    }
}

/// The SHA-256 fingerprint of a certificate (RFC 8122 section 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Fingerprint(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 32],
);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// What one end of a link says of the certificates that secure it: said inside the session, over the link, it shows that both
/// are in the same hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
pub struct Binding {
    /// The speaker's own.
    #[n(0)]
    pub own: Fingerprint,
    /// The one that was met at the other end.
    #[n(1)]
    pub remote: Fingerprint,
    /// How far the speaker is.
    #[n(2)]
    pub progress: Progress,
}

/// How far one end of a link is with showing who it is.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
pub enum Progress {
    /// It has heard nothing yet.
    #[n(0)]
    #[default]
    Alone,
    /// It has heard that the other end sees the same.
    #[n(1)]
    Heard,
    /// It also knows that the other end has heard it: an answer would tell it nothing.
    #[n(2)]
    Done,
}

/// Whether a description offers or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
pub enum DescriptionKind {
    /// An offer.
    #[n(0)]
    Offer,
    /// An answer.
    #[n(1)]
    Answer,
}

/// A session description, opaque to the core.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Description {
    /// Offer or answer.
    #[n(0)]
    pub kind: DescriptionKind,
    /// Its text, at most [`MAX_DESCRIPTION`] bytes.
    #[n(1)]
    pub text: String,
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Description({:?}, {} bytes)", self.kind, self.text.len())
    }
}

/// An ICE candidate, opaque to the core.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Candidate {
    /// Its text, at most [`MAX_CANDIDATE`] bytes.
    #[n(0)]
    pub text: String,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Candidate({} bytes)", self.text.len())
    }
}

/// One message inside a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Packet {
    /// Its place among the sender's messages of this session, from 1; 0 for a bare acknowledgement.
    pub seq: u32,
    /// Every message up to this one has arrived.
    pub ack: u32,
    /// Which of the 32 messages after `ack` + 1 have arrived too: bit n stands for `ack` + 2 + n.
    pub ack_bits: u32,
    /// The call.
    pub call: CallId,
    /// The link's generation that the body speaks of; 0 where it speaks of none.
    pub generation: u32,
    /// What is said.
    pub body: Body,
}

/// A participant's state, repeated on the call's topic under the call key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Announce {
    /// Grows with every change of the sender's state.
    #[n(0)]
    pub version: u64,
    /// Takes part now.
    #[n(1)]
    pub joined: bool,
    /// Sends silence.
    #[n(2)]
    pub muted: bool,
    /// Hears nobody.
    #[n(3)]
    pub deafened: bool,
    /// Sends a camera picture.
    #[n(4)]
    pub camera: bool,
    /// Shares a screen.
    #[n(5)]
    pub screen: bool,
    /// Records the call.
    #[n(6)]
    pub recording: bool,
    /// Speaks.
    #[n(7)]
    pub speaking: bool,
    /// Holds the call: sends nothing and hears nobody.
    #[n(8)]
    pub held: bool,
    /// Who belongs to the call, as the sender knows it.
    #[n(9)]
    pub roll: RollHash,
}

/// What is said to all participants under the call key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CallBody {
    /// The sender's whole state.
    #[n(0)]
    Announce(#[n(0)] Announce),
    /// The sender leaves.
    #[n(1)]
    Leave,
}

/// The app's own bytes in an offer: at most [`MAX_APP_DATA`].
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AppData(Vec<u8>);

/// More app data than an offer carries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an offer carries at most {MAX_APP_DATA} bytes of app data, not {0}: send a reference to the rest")]
pub struct AppDataTooLong(pub usize);

impl AppData {
    /// Takes the bytes if they fit.
    ///
    /// # Errors
    /// [`AppDataTooLong`] above [`MAX_APP_DATA`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, AppDataTooLong> {
        let bytes = bytes.into();
        if bytes.len() > MAX_APP_DATA { Err(AppDataTooLong(bytes.len())) } else { Ok(Self(bytes)) }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for AppData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppData({} bytes)", self.0.len())
    }
}
