//! A TURN server for friends (RFC 8656), and what friends gave of theirs.
//!
//! The server is the one of the webrtc-rs family (crate `turn`), request by request: the loop around it is ours ([`server`]), since
//! its own keeps a nonce for whoever asks, for an hour each, and knows no quota. What a datagram asks for is looked at first
//! ([`gate`], [`message`]); who may have it, how long and how much is decided by [`proto::turn`](crate::proto::turn); sockets that
//! are relayed through count and refuse ([`relay`]).

mod client;
mod config;
mod credentials;
mod desk;
mod gate;
mod message;
mod relay;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use client::{Friends, Given};
pub use config::{TurnConfig, TurnError};
pub use server::TurnServer;
