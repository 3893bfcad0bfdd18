//! How the node that carries signals stands in the network.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::NodeId,
    reach::{Advice, LocalCause},
};

/// How the node that carries signals stands, from worst to best.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeState {
    /// It starts.
    #[default]
    Starting,
    /// It reaches nobody and nobody reaches it.
    Offline {
        /// Why.
        cause: String,
    },
    /// It reaches others. Those in the same network reach it, others only where it is connected with them already.
    LocalOnly {
        /// Why.
        cause: LocalCause,
        /// What helps, the best first.
        advice: Vec<Advice>,
    },
    /// Everybody reaches it, through these relays.
    Relayed {
        /// The relays.
        by: Vec<NodeId>,
        /// What would make it straight, the best first.
        advice: Vec<Advice>,
    },
    /// Everybody reaches it straight.
    Public,
}

/// Whether people find this identity who know nothing but its key, and a bootstrap node that is named here too. Who was called before, was given an
/// address or is in the same network (with mDNS) needs none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Findable {
    /// Nothing is told: that is switched off ([`Builder::publish`](crate::Builder::publish)), or there is no address yet that is worth telling.
    #[default]
    Hidden,
    /// The record that says where this node is goes out, or will within seconds: there is none so far, or the last one says something else or
    /// has got lost.
    Publishing,
    /// Others keep the record, and it says where this node is.
    Published,
    /// Nobody took the record when it was sent last; it is tried again, with growing pauses. No bootstrap node is named, or none can be
    /// reached. What was stored before may still be there, and end within hours.
    NotStored,
}

impl NodeState {
    /// Whether the node runs and reaches others.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::LocalOnly { .. } | Self::Relayed { .. } | Self::Public)
    }

    /// Whether people reach it who are neither in the same network nor connected with it.
    pub fn is_reachable(&self) -> bool {
        matches!(self, Self::Relayed { .. } | Self::Public)
    }

    /// What the user can do, in a sentence; nothing where nothing is to be done.
    pub fn what_to_do(&self) -> Option<String> {
        let advice = match self {
            Self::Starting | Self::Public => &[][..],
            // Also where the app has ended the node: then nobody asks.
            Self::Offline { .. } => &[Advice::JoinANetwork],
            Self::LocalOnly { advice, .. } | Self::Relayed { advice, .. } => advice,
        };
        let each: Vec<String> = advice.iter().map(ToString::to_string).collect();
        (!each.is_empty()).then(|| each.join("; or "))
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Offline { cause } => write!(f, "offline: {cause}"),
            Self::LocalOnly { cause, .. } => write!(f, "reachable in the same network only: {cause}"),
            Self::Relayed { by, .. } if by.len() == 1 => f.write_str("reachable through a relay"),
            Self::Relayed { by, .. } => write!(f, "reachable through {} relays", by.len()),
            Self::Public => f.write_str("reachable from everywhere"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_says_what_it_is_and_what_to_do() {
        let alone = NodeState::LocalOnly {
            cause: LocalCause::Closed,
            advice: vec![Advice::GiveRelay, Advice::ForwardPort],
        };
        assert!(alone.is_up() && !alone.is_reachable());
        assert!(alone.to_string().contains("the router"), "{alone}");
        let what = alone.what_to_do().unwrap();
        assert!(what.contains("--relay") && what.contains("; or forward the port"), "{what}");
        assert_eq!((NodeState::Public.what_to_do(), NodeState::Starting.what_to_do()), (None, None));
        let offline = NodeState::Offline { cause: "no network".into() };
        assert!(!offline.is_up() && offline.what_to_do().is_some());
    }

    #[test]
    fn a_state_is_the_same_after_writing_and_reading() {
        let states = [
            NodeState::Starting,
            NodeState::LocalOnly { cause: LocalCause::NoRelay, advice: vec![Advice::GiveRelay] },
            NodeState::Relayed { by: Vec::new(), advice: Vec::new() },
            NodeState::Public,
        ];
        for state in states {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<NodeState>(&text).unwrap(), state, "{text}");
        }
    }
}
