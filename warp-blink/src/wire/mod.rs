//! Pure bytes: what signals look like on the wire, and who can read them.
//!
//! Nothing here has a clock, a random source or a socket: randomness is an argument. What any node may check without
//! a key is in [`frame`]; everything else fails with one [`OpenError`], which says how far the bytes came and is
//! meant to be counted, not answered.
//!
//! | Frame | Module | Bytes | Opened by |
//! |---|---|---|---|
//! | message 1, classical | [`hello`] | 1,659 | the callee's [`Identity`](crate::id::Identity) |
//! | message 1, hybrid | [`hello`] | 2,747 | the callee's identity and its [`KemSecret`] |
//! | message 2 | [`welcome`] | 330 | the caller's [`Initiator`] |
//! | transport | [`session`] | 546, 1,058, 2,082, 4,130, 8,226 or 16,418 | the [`Session`] |
//! | call | [`call`] | 298 | the [`CallRoom`] of the epoch |
//!
//! # Lanes
//!
//! A first message arrives at one of two [doors](Door): the open inbox, or that of those who were given a
//! [`ContactToken`]. Topic, MAC and prologue differ, so a frame of one is nothing at the other.
//!
//! # Suites
//!
//! The classical suite has X25519 alone. The hybrid one adds an ML-KEM-768 secret, encapsulated to a [`KemKey`] that
//! the callee gave inside a session or in a signed record. What the contents of both handshake messages say of the
//! suite must be the suite that they came in; everything else is [`OpenError::Downgrade`].
//!
//! # Groups
//!
//! Who belongs to a call is signed word by word; the call's id is the hash of the first one ([`roll`]).
//!
//! # Where somebody is
//!
//! A [`record`] is signed by an identity and says at which nodes it is reached. Others store it, whom nobody trusts.
//!
//! # Versions
//!
//! Message 1 keeps the framing of version 1 for as long as a caller does not know that its callee speaks more, and
//! lists inside the versions and suites that the caller speaks. So an older callee can open it, tell its user who
//! calls, and answer [`Status::Version`](crate::proto::signal::Status::Version) with the best that it speaks, instead
//! of dropping what it does not know. A later framing is used only towards somebody whose session or signed record has
//! named it. A frame of an unknown version, kind or suite is ignored and counted, never rejected, and never answered:
//! nothing vouches for it.

pub mod call;
mod codec;
mod door;
mod error;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod hello;
pub mod kem;
mod noise;
pub mod record;
pub mod roll;
mod secret;
pub mod session;
mod topic;
pub mod turn;
pub mod welcome;
pub mod whereabouts;
mod window;

#[cfg(test)]
mod hostile;

pub use call::{CallMessage, CallRoom, open_call, seal_call};
pub use door::Door;
pub use error::{OpenError, SealError};
pub use frame::{FrameError, FrameKind, MAX_FRAME, SessionId};
pub use hello::{HandshakeId, HelloSecrets, Initiator, Opened, Responder};
pub use kem::{KemHash, KemKey, KemSecret};
pub use record::{NodePlace, Record, RecordError, open_record, read_record, record_key, seal_record};
pub use roll::{call_id, decode_saved, encode_saved, roll_hash, sign_create, sign_record, verify_roll};
pub use secret::{CallKey, ContactToken, PeerSeed};
pub use session::{Attachment, Session};
pub use topic::Topic;
pub use turn::TurnPass;
pub use welcome::{ResponderFrame, WelcomeSecrets};
pub use whereabouts::Whereabouts;
