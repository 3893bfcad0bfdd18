//! Pure bytes: what signals look like on the wire, and who can read them.
//!
//! Nothing here has a clock, a random source or a socket: randomness is an argument. What any node may check without
//! a key is in [`frame`]; everything else fails with one [`OpenError`], which says how far the bytes came and is
//! meant to be counted, not answered.
//!
//! | Frame | Module | Bytes | Opened by |
//! |---|---|---|---|
//! | message 1 | [`hello`] | 1,659 | the callee's [`Identity`](crate::id::Identity) |
//! | message 2 | [`welcome`] | 330 | the caller's [`Initiator`] |
//! | transport | [`session`] | 546, 1,058, 2,082, 4,130, 8,226 or 16,418 | the [`Session`] |
//! | call | [`call`] | 298 | the [`CallRoom`] of the epoch |

pub mod call;
mod codec;
mod error;
pub mod frame;
pub mod hello;
mod noise;
mod secret;
pub mod session;
mod topic;
pub mod welcome;
mod window;

#[cfg(test)]
mod hostile;

pub use call::{CallMessage, CallRoom, open_call, seal_call};
pub use error::{OpenError, SealError};
pub use frame::{FrameError, FrameKind, MAX_FRAME, SessionId};
pub use hello::{HandshakeId, HelloSecrets, Initiator, Opened, Responder};
pub use secret::{CallKey, PeerSeed};
pub use session::Session;
pub use topic::Topic;
pub use welcome::{ResponderFrame, WelcomeSecrets};
