//! Why somebody is not reached: address by address.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::time::Instant;

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

/// One address that was tried in vain.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The address.
    pub address: String,
    /// In which attempt, from 1.
    pub attempt: u32,
    /// When it was dialed, or its name looked up; `None` if it came to neither.
    pub began: Option<Instant>,
    /// When that failed.
    pub ended: Instant,
    /// Why.
    pub cause: Cause,
}

impl fmt::Debug for Tried {
    /// Without the address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tried(attempt {}, {:?})", self.attempt, self.cause)
    }
}

/// Why an address did not work.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// It cannot be dialed: what is wrong with it.
    #[error("{0}")]
    Invalid(String),
    /// It is not behind a relay, and nothing else may be dialed.
    #[error(
        "it is not behind a relay, and only relays may be used: allow direct connections, or give a relay"
    )]
    RelayOnly,
    /// There is no such name.
    #[error("there is no such name: {0}")]
    NoSuchName(String),
    /// The name has no address that could be dialed.
    #[error("the name stands for no address that could be dialed")]
    NoAddress,
    /// The name could not be looked up now.
    #[error("the name cannot be resolved: {0}")]
    Unresolved(String),
    /// Names that stand for names, for too long.
    #[error("names stand for names, more than {} deep", super::MAX_DEPTH)]
    TooDeep,
    /// More than are tried in one attempt.
    #[error("at most {} addresses and {} names are tried at a time", super::MAX_DIALS, super::MAX_NAMES)]
    TooMany,
    /// What the dialing answered.
    #[error("{0}")]
    Refused(String),
    /// Nobody answered in time.
    #[error("no answer in time")]
    TimedOut,
}

impl Cause {
    /// Whether the same address fails the same way again.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::RelayOnly | Self::NoSuchName(_) | Self::NoAddress | Self::TooDeep => {
                true
            }
            Self::Unresolved(_) | Self::TooMany | Self::Refused(_) | Self::TimedOut => false,
        }
    }
}

impl fmt::Debug for Cause {
    /// Without the words of others, which often repeat the address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid(_) => "Invalid",
            Self::RelayOnly => "RelayOnly",
            Self::NoSuchName(_) => "NoSuchName",
            Self::NoAddress => "NoAddress",
            Self::Unresolved(_) => "Unresolved",
            Self::TooDeep => "TooDeep",
            Self::TooMany => "TooMany",
            Self::Refused(_) => "Refused",
            Self::TimedOut => "TimedOut",
        })
    }
}

/// Why an attempt, or all of them, failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// Each address failed for its own reason: in the order of their ends, the newest [`MAX_TRIED`](super::MAX_TRIED).
    #[error("no address worked: {}", summary(.0))]
    Addresses(Vec<Tried>),
    /// The connection came about and was closed at once, several times.
    #[error("the connection closes as soon as it is open")]
    Unstable,
}

/// Each address once, in the order in which they first failed, with its last cause.
fn summary(tried: &[Tried]) -> String {
    let mut order = Vec::new();
    let mut last: BTreeMap<&str, (&Cause, usize)> = BTreeMap::new();
    for one in tried {
        let (cause, times) = last.entry(&one.address).or_insert_with(|| {
            order.push(one.address.as_str());
            (&one.cause, 0)
        });
        *cause = &one.cause;
        *times += 1;
    }
    let said = order.iter().filter_map(|address| {
        let (cause, times) = last.get(address)?;
        Some(if *times > 1 {
            format!("{address}: {cause} ({times} times)")
        } else {
            format!("{address}: {cause}")
        })
    });
    said.collect::<Vec<_>>().join("; ")
}
