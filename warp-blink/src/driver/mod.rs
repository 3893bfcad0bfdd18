//! The only tokio code: gossip, media, timers and store, joined to the machines.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the driver is the edge where time, randomness and maps enter")]

pub mod memory_gossip;
pub mod node;
