//! What the driver needs from outside, each with a real and an in-memory implementation.

pub mod gossip;
pub mod media;
pub mod store;
