//! The lab: real programs in network namespaces, joined by links that lose, delay and reorder packets.
//!
//! A [`Lab`] has hosts, each with its own network stack and addresses of both families. Every packet between two hosts
//! crosses a TUN device into this process, which decides its fate and writes it to the other's device. What a link does
//! to its k-th packet is a function of the seed and k ([`Link`]), so two programs that send as many packets meet the same
//! network. Needs Linux, root and `ip`; not every kernel has netem, and netem draws its own luck.
//!
//! - [`link`], [`packet`], [`mesh`]: pure, tested without root.
//! - `host`, `router`, `nat`: namespaces, devices and the threads that carry packets.
//! - [`sound`]: a signal that is known at every moment, and an ear that finds it again in a recording.
//! - [`profile`]: the networks that whole calls are measured over; `calls`: those calls, with `blink` and with Chromium.
//! - `phone`, `bootstrap`, `relay`: the `blink` command, as a phone and as a node in between, and coturn as processes in hosts.
//! - `processor`: what processes, and the whole machine, take of the processor.

pub mod link;
pub mod mesh;
pub mod packet;
pub mod profile;
pub mod sound;

#[cfg(target_os = "linux")]
mod bootstrap;
#[cfg(target_os = "linux")]
pub mod calls;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod names;
#[cfg(target_os = "linux")]
mod namespace;
#[cfg(target_os = "linux")]
mod nat;
#[cfg(target_os = "linux")]
mod phone;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
pub mod processor;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
mod router;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod upnp;

pub use link::{Bursts, Conditions, Jitter, Late, Link, Rate};
pub use mesh::Counters;
pub use profile::Profile;

#[cfg(target_os = "linux")]
pub use {
    bootstrap::Bootstrap,
    host::{Host, Lab},
    names::Names,
    nat::Nat,
    phone::{Heard, Key, Phone, Signals, Talk, blink, unix},
    process::Process,
    relay::Relay,
    table::{Found, Row},
};

/// What can go wrong in the lab itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Namespaces and devices belong to root.
    #[error("the lab makes network namespaces, which only root may: run it as root")]
    NotRoot,
    /// A command of the system failed.
    #[error("`{command}`: {cause}")]
    Command {
        /// As it would be typed.
        command: String,
        /// What it said.
        cause: String,
    },
    /// A file or a device.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program in the lab did not do what it was waited for.
    #[error("{0}")]
    Program(String),
}

impl Error {
    #[cfg(target_os = "linux")]
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
