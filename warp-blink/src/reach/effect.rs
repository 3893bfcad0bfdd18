//! What happens to a reach, and what is to be done for it.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::{Address, Addresses, Via};

/// The name of one dialing. It never returns, so a result that comes late finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DialId(pub u64);

/// The name of one question. It never returns either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueryId(pub u64);

/// A random number that spreads the retries of many nodes: all 16 bits evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jitter(pub u16);

/// What to ask the system's resolver.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// The IPv4 addresses of this name (A).
    Ip4(String),
    /// The IPv6 addresses of this name (AAAA).
    Ip6(String),
    /// The texts of this name (TXT), which begins with `_dnsaddr.`.
    Text(String),
}

impl fmt::Debug for Question {
    /// Without the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip4(_) => "Ip4(..)",
            Self::Ip6(_) => "Ip6(..)",
            Self::Text(_) => "Text(..)",
        })
    }
}

/// What the resolver says. No answer of the kind that was asked for is an empty list.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answers {
    /// To [`Question::Ip4`].
    Ip4(Vec<Ipv4Addr>),
    /// To [`Question::Ip6`].
    Ip6(Vec<Ipv6Addr>),
    /// To [`Question::Text`].
    Text(Vec<String>),
}

impl fmt::Debug for Answers {
    /// Without what they say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip4(found) => write!(f, "Ip4({})", found.len()),
            Self::Ip6(found) => write!(f, "Ip6({})", found.len()),
            Self::Text(found) => write!(f, "Text({})", found.len()),
        }
    }
}

/// Why a name was not looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// There is no such name: asking again gives the same.
    #[error("{0}")]
    NoSuchName(String),
    /// Something else, which may pass.
    #[error("{0}")]
    Failed(String),
}

/// What happens to a reach.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReachInput {
    /// A connection is wanted, at these addresses or those that are known. Before each [`ReachInput::Release`].
    Connect {
        /// Addresses, the most promising first. They replace those that are known; none keeps those.
        addresses: Addresses,
    },
    /// Nobody needs the connection now: it is kept for [`ReachConfig::idle`](super::ReachConfig::idle).
    Release,
    /// The connection is wanted no longer.
    Disconnect,
    /// Forget the failures, and the attempt that runs.
    Reset,
    /// An [`Effect::Dial`] ended.
    Dialed {
        /// Which.
        dial: DialId,
        /// How the node is reached, or what the address answered.
        result: Result<Via, String>,
        /// For the backoff.
        jitter: Jitter,
    },
    /// An [`Effect::Resolve`] ended.
    Resolved {
        /// Which.
        query: QueryId,
        /// What the resolver says.
        result: Result<Answers, ResolveError>,
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
    /// [`Reach::next_timeout`](super::Reach::next_timeout) has come.
    Timeout {
        /// For the backoff.
        jitter: Jitter,
    },
}

/// What is to be done for a reach, at once and in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Look a name up. Ends in one [`ReachInput::Resolved`]; nobody minds one that nobody waits for.
    Resolve {
        /// The name of this question.
        query: QueryId,
        /// What to ask.
        question: Question,
    },
    /// Dial one address. Ends in one [`ReachInput::Dialed`], unless it is aborted; other dialings may run beside it.
    Dial {
        /// The name of this dialing.
        dial: DialId,
        /// Which attempt, from 1.
        attempt: u32,
        /// The address, with the name of the node at its end.
        address: Address,
    },
    /// End this dialing: a connection that still comes of it is closed. Its [`ReachInput::Dialed`] means nothing any more.
    Abort {
        /// Which.
        dial: DialId,
    },
    /// Close the connection. Ends in [`ReachInput::PeerDisconnected`], which changes nothing any more.
    Close,
}
