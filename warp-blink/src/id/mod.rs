//! Who somebody is: the identity that people call, and the key of the node that carries their signals.

mod call;
mod node;
mod public;

pub use call::CallId;
pub use node::NodeId;
pub use public::{KeyError, PublicKey};
