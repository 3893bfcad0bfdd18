//! What can go wrong with gossip, one type for each operation.

use std::time::Duration;

use super::{AddressFailure, MAX_ADDRESSES, MAX_MESSAGE, MAX_TOPICS};
use crate::id::NodeId;

/// The node has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has ended: start a new one")]
pub struct GossipClosed;

/// A subscription that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// [`MAX_TOPICS`] topics are subscribed.
    #[error("{MAX_TOPICS} topics are subscribed, which is the most: end a call first")]
    TooMany,
    /// The node has ended.
    #[error(transparent)]
    Closed(#[from] GossipClosed),
    /// The node did not answer.
    #[error("the node did not answer for {after:?}: its task is blocked or starved")]
    Stalled {
        /// How long it was waited for.
        after: Duration,
    },
}

/// A message that was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// No connected node subscribes to the topic. Try again when one does.
    #[error("no connected node hears this topic yet: try again when one subscribes")]
    NoPeers,
    /// More than [`MAX_MESSAGE`] bytes.
    #[error("a message has at most {MAX_MESSAGE} bytes, not {size}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The same bytes went to the same topic within the last minute, so every node would ignore them.
    #[error("the same bytes were sent to this topic a moment ago, and would be ignored: change them")]
    Duplicate,
    /// The queues to all the nodes that hear the topic are full: they are too slow. The message counts as sent, so
    /// the same bytes would be a [`PublishError::Duplicate`].
    #[error("the queues to {peers} nodes are full: send less")]
    QueueFull {
        /// How many nodes hear the topic.
        peers: usize,
    },
    /// The node has ended.
    #[error(transparent)]
    Closed(#[from] GossipClosed),
    /// The node did not answer. Whether the message went out is unknown.
    #[error("the node did not answer for {after:?}: its task is blocked or starved")]
    Stalled {
        /// How long it was waited for.
        after: Duration,
    },
}

/// A connection that did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address was given, and there is no connection.
    #[error("no address is known for this node: give one such as /ip4/192.0.2.1/tcp/4001/p2p/<peer id>")]
    NoAddresses,
    /// More than [`MAX_ADDRESSES`] addresses.
    #[error("at most {MAX_ADDRESSES} addresses are tried, not {0}")]
    TooManyAddresses(usize),
    /// The node is this node.
    #[error("this is the own node: there is nothing to connect to")]
    Itself,
    /// Somebody else lives at the address.
    #[error("at {address} lives node {found}, not {expected}: the address is out of date")]
    WrongNode {
        /// The address.
        address: String,
        /// Who was looked for.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// Every address failed, each with its own reason.
    #[error("no address worked: {}", list(.0))]
    Failed(Vec<AddressFailure>),
    /// No address answered in time.
    #[error("no address answered within {after:?}")]
    TimedOut {
        /// How long it was tried.
        after: Duration,
    },
    /// The own node refuses the connection, by its connection limits or its block list.
    #[error("the own node refuses the connection: {0}")]
    Refused(String),
    /// Too many connections are being opened at the same time.
    #[error("{0} connections are being opened already: wait for one")]
    Busy(usize),
    /// The node has ended.
    #[error(transparent)]
    Closed(#[from] GossipClosed),
}

fn list(failures: &[AddressFailure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
