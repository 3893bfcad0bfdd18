//! Calls by public key, with no server in the middle.

pub mod id;
pub mod proto;
pub mod reach;
pub mod time;
pub mod wire;

#[cfg(feature = "node")]
pub mod blink;
#[cfg(feature = "node")]
pub mod driver;
#[cfg(feature = "node")]
pub mod ports;
