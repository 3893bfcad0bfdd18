//! Who somebody is: the identity that people call, and the key of the node that carries their signals.
//!
//! Keys arrive through [`PublicKey::from_bytes`] and [`str::parse`] only, so a value of these types is well formed
//! wherever it turns up.

mod call;
#[cfg(feature = "node")]
mod file;
mod identity;
mod node;
mod public;

pub use call::{CallId, CallIdError};
#[cfg(feature = "node")]
pub use file::KeyFileError;
pub use identity::{Identity, NodeKey};
pub use node::{NodeId, NodeIdError};
pub use public::{KeyError, Label, PublicKey, Signature, SignatureError};
