//! Finding a node and keeping a connection to it: what to do when, decided without doing it.
//!
//! Pure: time, jitter and what others answer arrive with the inputs, and what is to be done leaves as effects. An
//! [`Address`] is read and checked; a [`Reach`] connects to one node and stays connected; a [`Pool`] holds all of them and
//! says who goes when there are too many; a [`Finder`] says where to look for somebody and when to tell others where this
//! node is; [`Relays`] say which relays are asked to keep a place for it,
//! and [`Facts`] how this node itself stands in the network.
//!
//! # A reach
//!
//! One machine serves all calls with its node: a connection is reused, and given up when it was idle for
//! [`ReachConfig::idle`]. An attempt tries all addresses, the next one beginning before the last one has failed (RFC 8305,
//! "happy eyeballs"): see [`Effect::Dial`]. `Idle` is [`ReachState::Connected`] where nobody wants the connection.
//!
//! ```text
//! Disconnected --Connect--> Connecting
//! Disconnected --PeerConnected--> Idle
//! Connecting --DialedOk--> Connected
//! Connecting --LastFailed--> Retry
//! Connecting --Hopeless--> ConnectionFailed
//! Connecting --AttemptOver--> Retry
//! Connecting --PeerConnected--> Connected
//! Connecting --Release--> Disconnected
//! Connecting --Disconnect--> Disconnected
//! Connecting --Reset--> Disconnected
//! Connected --Release--> Idle
//! Connected --Disconnect--> Disconnected
//! Connected --PeerDisconnected--> Connecting
//! Connected --LostAtOnce--> Retry
//! Idle --Connect--> Connected
//! Idle --Disconnect--> Disconnected
//! Idle --PeerDisconnected--> Disconnected
//! Idle --LostAtOnce--> Disconnected
//! Idle --Timeout--> Disconnected
//! Retry --Connect--> Connecting
//! Retry --Timeout--> Connecting
//! Retry --PeerConnected--> Connected
//! Retry --Release--> Disconnected
//! Retry --Disconnect--> Disconnected
//! Retry --Reset--> Disconnected
//! ConnectionFailed --Connect--> Connecting
//! ConnectionFailed --PeerConnected--> Connected
//! ConnectionFailed --Reset--> Disconnected
//! ```
//!
//! Every input in every state: the state after it and the effects; `-` if it means nothing there, and only a counter
//! rises; `refused` for a command that changes nothing. Connecting is drawn with two addresses, of which one is dialed, and
//! with a name that is being looked up; questions for names ([`Effect::Resolve`]) are left out. The last failure of the last
//! attempt leads to `ConnectionFailed` in place of `Retry`.
//!
//! | input | Disconnected | Connecting | Connected | Idle | Retry | ConnectionFailed |
//! |---|---|---|---|---|---|---|
//! | Connect | Connecting Dial | Connecting | Connected | Connected | Connecting Dial | Connecting Dial |
//! | Release | refused | Disconnected Abort Close | Idle | refused | Disconnected | refused |
//! | Disconnect | refused | Disconnected Abort Close | Disconnected Close | Disconnected Close | Disconnected | refused |
//! | Reset | refused | Disconnected Abort Close | refused | refused | Disconnected | Disconnected |
//! | DialedOk | - | Connected | - | - | - | - |
//! | DialedErr | - | Connecting Dial | - | - | - | - |
//! | LastFailed | - | Retry | - | - | - | - |
//! | Hopeless | - | ConnectionFailed | - | - | - | - |
//! | DialedLate | - | - | - | - | - | - |
//! | Resolved | - | Connecting Dial | - | - | - | - |
//! | ResolvedLate | - | - | - | - | - | - |
//! | PeerConnected | Idle | Connected | Connected | Idle | Connected | Connected |
//! | PeerDisconnected | - | - | Connecting Dial | Disconnected | - | - |
//! | LostAtOnce | - | - | Retry | Disconnected | - | - |
//! | Timeout | - | Connecting Dial | - | Disconnected Close | Connecting Dial | - |
//! | AttemptOver | - | Retry Abort | - | Disconnected Close | Connecting Dial | - |

pub mod address;
mod config;
mod effect;
mod failure;
mod find;
mod machine;
mod plan;
mod pool;
mod relays;
mod standing;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::{
    address::{Address, AddressError, Place, Transport},
    config::ReachConfig,
    effect::{Answers, DialId, Effect, Jitter, QueryId, Question, ReachInput, ResolveError},
    failure::{AddressFailure, Cause, ReachError, Tried},
    find::{
        Device, FindConfig, FindEffect, FindInput, FindRejected, Finder, Found, LookupId, MAX_LOOKUPS,
        MAX_REMEMBERED, MAX_SOUGHT, OwnRecord, OwnSeen, Seen, Source,
    },
    machine::{Reach, ReachRejected},
    plan::{MAX_ANSWERS, MAX_DEPTH, MAX_DIALS, MAX_NAMES},
    pool::{Holder, Pool, PoolConfig, PoolRejected},
    relays::{MAX_RELAYS, OFFERED, RelayEffect, Relays},
    standing::{Advice, Facts, LocalCause, OfflineCause, PortMapping, Standing},
};
use crate::time::Instant;

/// The most addresses that one reach keeps.
pub const MAX_REACH_ADDRESSES: usize = 16;

/// The most bytes of one address.
pub const MAX_ADDRESS: usize = 512;

/// The most failures that one reach remembers: all addresses of four attempts.
pub const MAX_TRIED: usize = 4 * MAX_REACH_ADDRESSES;

/// How a node is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Via {
    /// Straight.
    Direct,
    /// Through a relay, which sees the addresses and the timing of both sides, but no content.
    Relay,
}

/// Where a reach stands, as an app shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReachState {
    /// No connection, and none wanted.
    Disconnected,
    /// An attempt runs.
    Connecting {
        /// When the attempt began.
        since: Instant,
        /// The addresses that are being dialed now, the newest last; none while their names are being resolved.
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
        /// What the addresses answered in it.
        error: ReachError,
    },
    /// All attempts failed, or none can ever succeed.
    ConnectionFailed {
        /// Since when.
        since: Instant,
        /// How many were made.
        attempts: u32,
        /// What the addresses answered in all of them.
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
