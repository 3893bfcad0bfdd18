//! The only tokio code: gossip, media, timers and store, joined to the machines.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the driver is the edge where time, randomness and maps enter"
)]

mod book;
pub(crate) mod clock;
pub(crate) mod core;
pub(crate) mod diary;
pub(crate) mod door;
mod fault;
mod finder;
#[cfg(test)]
pub(crate) mod hoard;
mod kept;
mod keyring;
pub(crate) mod ledger;
pub(crate) mod media;
pub mod memory_gossip;
pub mod memory_media;
mod missed;
pub mod node;
mod post;
mod push;
mod reaches;
mod recall;
mod shelf;
mod sounds;
pub mod store;
pub mod turn;
mod vault;
mod workers;
