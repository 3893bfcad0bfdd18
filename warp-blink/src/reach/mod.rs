//! A reach: the machine that finds and keeps a connection to one node.
//!
//! Pure: time and jitter arrive with the inputs, and what is to be done leaves as [`Effect`]s. One machine serves all
//! calls with its node: a connection is reused, and given up when it was idle for [`ReachConfig::idle`].
//!
//! ```text
//! Disconnected --Connect--> Connecting --Dialed ok--> Connected
//!                           ^        \--Dialed err--> Retry --(backoff)--> Connecting
//!                           |                           \--(attempts used up)--> ConnectionFailed
//! ```
//! [`ReachInput::Disconnect`] leads to `Disconnected` from everywhere, [`ReachInput::Reset`] from a failure, and
//! [`ReachInput::Connect`] starts anew after one. A connection that the other node opens counts in every state.

mod config;
mod machine;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::{
    config::ReachConfig,
    machine::{Reach, ReachRejected},
};
use crate::time::Instant;

/// The most addresses that one reach keeps.
pub const MAX_REACH_ADDRESSES: usize = 16;

/// The most bytes of one address.
pub const MAX_ADDRESS: usize = 512;

/// How a node is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Via {
    /// Straight.
    Direct,
    /// Through a relay, which sees the addresses and the timing of both sides, but no content.
    Relay,
}

/// What one address answered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFailure {
    /// The address as it was given.
    pub address: String,
    /// Why it did not work, for people.
    pub cause: String,
}

impl fmt::Display for AddressFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.cause)
    }
}

impl fmt::Debug for AddressFailure {
    /// Without the address, which belongs in no log above trace. The cause often repeats it, so neither is here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressFailure(..)")
    }
}

/// Where a reach stands, as an app shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReachState {
    /// No connection, and none wanted.
    Disconnected,
    /// An attempt runs: all addresses are dialed at the same time.
    Connecting {
        /// When the attempt began.
        since: Instant,
        /// The addresses, in the order given.
        addresses: Addresses,
        /// Which attempt, from 1.
        attempt: u32,
        /// After so many it is given up.
        max_attempts: u32,
    },
    /// There is a connection.
    Connected {
        /// Since when.
        since: Instant,
        /// How the node is reached.
        via: Via,
    },
    /// An attempt failed, and the next one waits.
    Retry {
        /// When the attempt failed.
        since: Instant,
        /// When the next one begins.
        at: Instant,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// After so many it is given up.
        max_attempts: u32,
        /// What the addresses answered.
        error: ReachError,
    },
    /// All attempts failed.
    ConnectionFailed {
        /// Since when.
        since: Instant,
        /// How many were made.
        attempts: u32,
        /// What the addresses answered at last.
        error: ReachError,
    },
}

/// Addresses that stay out of logs: `Debug` only counts them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addresses(pub Vec<String>);

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} addresses", self.0.len())
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// Each address failed for its own reason.
    #[error("no address worked: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Addresses(Vec<AddressFailure>),
    /// No address answered within [`ReachConfig::attempt_timeout`].
    #[error("no address answered in time")]
    TimedOut,
    /// The connection came about and was closed at once, several times.
    #[error("the connection closes as soon as it is open")]
    Unstable,
}

/// The name of one dialing. It never returns, so a result that comes late finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DialId(pub u64);

/// A random number that spreads the retries of many nodes: all 16 bits evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jitter(pub u16);

/// What happens to a reach.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReachInput {
    /// A connection is wanted, at these addresses or those that are known. Before each [`ReachInput::Release`].
    Connect {
        /// Addresses, the most promising first. They replace those that are known; empty keeps those.
        addresses: Vec<String>,
    },
    /// Nobody needs the connection now: it is kept for [`ReachConfig::idle`].
    Release,
    /// The connection is wanted no longer.
    Disconnect,
    /// Forget the failures.
    Reset,
    /// An [`Effect::Dial`] ended.
    Dialed {
        /// Which.
        dial: DialId,
        /// How the node is reached, or what the addresses answered.
        result: Result<Via, ReachError>,
        /// For the backoff.
        jitter: Jitter,
    },
    /// A connection is open, whoever opened it.
    PeerConnected {
        /// How the node is reached.
        via: Via,
    },
    /// The last connection is closed.
    PeerDisconnected {
        /// For the backoff.
        jitter: Jitter,
    },
    /// [`Reach::next_timeout`] has come.
    Timeout {
        /// For the backoff.
        jitter: Jitter,
    },
}

/// What is to be done for a reach.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Dial all these addresses at the same time. Ends in one [`ReachInput::Dialed`].
    Dial {
        /// The name of this dialing.
        dial: DialId,
        /// Which attempt, from 1.
        attempt: u32,
        /// The addresses.
        addresses: Addresses,
    },
    /// Close the connection. Ends in [`ReachInput::PeerDisconnected`], which changes nothing any more.
    Close,
}
