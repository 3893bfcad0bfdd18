//! Pure bytes: what signals look like on the wire, and who can read them.

pub mod frame;
mod secret;
mod topic;

pub use frame::{FrameError, MAX_FRAME, SessionId};
pub use secret::{CallKey, PeerSeed};
pub use topic::Topic;
