//! Calls by public key, with no server in the middle.

pub mod config;
pub mod error;
pub mod event;
pub mod id;
pub mod proto;
pub mod reach;
pub mod stats;
pub mod time;
pub mod wire;

#[cfg(feature = "node")]
pub mod blink;
#[cfg(feature = "node")]
pub mod driver;
#[cfg(feature = "node")]
pub mod ports;
