//! The public handle with several phones in one process: gossip is sealed for real, links and devices are played.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod finding;
mod groups;
mod handles;
mod later;
mod phone;
mod push;
