//! A TURN server for friends (RFC 8656), and what friends gave of theirs.
//!
//! The server is the one of the webrtc-rs family (crate `turn`), request by request: the loops around it are ours (`server` over UDP,
//! `streams` over TCP, which the crate does not know; `serving` is what both do with a message), since
//! its own keeps a nonce for whoever asks, for an hour each, and knows no quota. What a message asks for is looked at first
//! (`gate`, `message`); who may have it, how long and how much is decided by [`proto::turn`](crate::proto::turn); sockets that
//! are relayed through count and refuse (`relay`).

mod client;
mod config;
mod credentials;
mod desk;
mod framing;
mod gate;
mod message;
mod outgoing;
mod relay;
mod server;
mod serving;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use client::{Friends, Given};
pub use config::{TurnConfig, TurnError};
pub use server::TurnServer;
