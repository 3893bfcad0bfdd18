//! The gossip port: topics on which nodes hear each other, and the connections that carry them.
//!
//! Two implementations: a libp2p node (`driver::node`) and many endpoints in one process (`driver::memory_gossip`).
//! What both promise:
//! - [`publish`](Gossip::publish) reaches the connected nodes that subscribe to the topic, and fails at once with
//!   [`PublishError::NoPeers`] where there is none. Nothing is queued for later: publish again after
//!   [`GossipEvent::PeerSubscribed`].
//! - A message comes back to its sender never. It names no author, because the node that hands it on need not have
//!   written it.
//! - What arrives has passed [`frame::check`](crate::wire::frame::check); the rest is counted and goes no further.
//! - Messages wait for the reader in a queue that is bounded and fair by topic: see [`GossipEvents`].
//! - Gossip does not cross a node that does not subscribe: connect to the callee first, then publish. Who
//!   [forwards](Gossip::forward) a topic subscribes to it for others.

mod error;
mod queue;

use std::{collections::BTreeSet, fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

pub(crate) use self::queue::channel;
pub use self::{
    error::{ConnectError, GossipClosed, PublishError, SubscribeError},
    queue::{
        Dropped, EventSink, GossipEvents, MAX_QUEUED_BYTES, MAX_QUEUED_BYTES_PER_TOPIC, MAX_QUEUED_CONTROL,
        MAX_QUEUED_MESSAGES, MAX_QUEUED_PER_TOPIC,
    },
};
pub use crate::reach::{
    AddressFailure, Advice, Answers, LocalCause, OfflineCause, Question, ResolveError, Via,
};
use crate::{
    id::NodeId,
    reach::{Facts, Standing},
    wire::Topic,
};

/// The most bytes of one message. One KiB is left of the 64 KiB that go over the wire for the topic and the framing:
/// a frame above that limit would cost the receiver the whole stream, not only the message.
pub const MAX_MESSAGE: usize = 63 * 1024;

/// The most topics that one node subscribes to. A call needs two or three.
pub const MAX_TOPICS: usize = 256;

/// The most topics that one node [watches](Gossip::watch): the inboxes of 256 people, two each, and room to grow.
pub const MAX_WATCHED: usize = 1024;

/// The most addresses that one [`connect`](Gossip::connect) takes.
pub const MAX_ADDRESSES: usize = 16;

/// A node's gossip: see the [module](self).
#[async_trait]
pub trait Gossip: Send + Sync + 'static {
    /// This node.
    fn node(&self) -> NodeId;

    /// The events. `None` after the first time: there is one reader.
    fn take_events(&self) -> Option<GossipEvents>;

    /// Hears a topic from now on. Subscribing twice is one subscription.
    ///
    /// Call messages, which have many readers, are handed on to others that subscribe. All others end here: this node
    /// is their only reader, so handing them on would multiply a flood.
    ///
    /// # Errors
    /// [`SubscribeError::TooMany`] above [`MAX_TOPICS`], or the node is gone.
    async fn subscribe(&self, topic: Topic) -> Result<(), SubscribeError>;

    /// Hands on what has the right shape on this topic to others that subscribe, and tells the reader nothing of it:
    /// what a forwarder does for the owner of an inbox, whose keys it does not have. A topic may be heard as well.
    ///
    /// # Errors
    /// As [`subscribe`](Gossip::subscribe); topics that are forwarded count as subscribed.
    async fn forward(&self, topic: Topic) -> Result<(), SubscribeError>;

    /// Hears and forwards a topic no longer. Without a subscription, nothing happens.
    ///
    /// # Errors
    /// The node is gone.
    async fn unsubscribe(&self, topic: Topic) -> Result<(), SubscribeError>;

    /// Tells from now on of those who subscribe to these topics, though nothing is heard or published there; no longer of
    /// those that were named before, and of no more than [`MAX_WATCHED`]. Who subscribes to a new one already is told at
    /// once. Others see nothing of it.
    ///
    /// # Errors
    /// The node is gone.
    async fn watch(&self, topics: BTreeSet<Topic>) -> Result<(), GossipClosed>;

    /// Sends to the connected nodes that subscribe to the topic.
    ///
    /// # Errors
    /// See [`PublishError`]. After [`PublishError::NoPeers`] the same bytes may be sent again, after the others they
    /// count as sent.
    async fn publish(&self, topic: Topic, data: Bytes) -> Result<(), PublishError>;

    /// Connects to a node at any of these addresses, and says how it is reached. Without an address, this only
    /// succeeds where there is a connection. Dropping the future gives the dialing up: a connection that still comes of it
    /// is closed.
    ///
    /// # Errors
    /// See [`ConnectError`], which keeps what each address answered.
    async fn connect(&self, node: &NodeId, addresses: &[String]) -> Result<Via, ConnectError>;

    /// Looks a name up.
    ///
    /// # Errors
    /// [`ResolveError::NoSuchName`] where asking again gives the same, otherwise [`ResolveError::Failed`].
    async fn resolve(&self, question: &Question) -> Result<Answers, ResolveError>;

    /// Asks others what they have stored under a name. What they say comes as they say it: signed records, forged ones,
    /// anything. It ends when all who are to be asked have answered, and at once where nobody may be asked; dropping it asks
    /// no more.
    async fn records(&self, name: [u8; 32]) -> BoxStream<'static, Bytes>;

    /// Asks others where a node is. What they say proves nothing.
    async fn whereabouts(&self, node: &NodeId) -> Vec<String>;

    /// Has others store a signed record under a name, for so long at most. Says how many did, as far as they tell.
    async fn store_record(&self, name: [u8; 32], record: Bytes, life: Duration) -> usize;

    /// Where the local network says that a node is, as far as it was heard.
    async fn nearby(&self, node: &NodeId) -> Vec<String>;

    /// Gives the connection up. Where the node belongs to the app, its connections are left to it.
    ///
    /// # Errors
    /// The node is gone.
    async fn disconnect(&self, node: &NodeId) -> Result<(), GossipClosed>;

    /// The connected nodes.
    fn connected(&self) -> Vec<(NodeId, Via)>;

    /// The address at which this node has dialed one that is connected; nothing where the other one has dialed, or where addresses
    /// do not matter.
    fn dialed(&self, _node: &NodeId) -> Option<String> {
        None
    }

    /// The addresses under which others reach this node, each with `/p2p/` and its name.
    fn listening(&self) -> Vec<String>;

    /// How the node is.
    fn state(&self) -> NodeState;

    /// What was counted so far.
    fn counters(&self) -> GossipCounters;

    /// Ends it: topics are given up, an own node ends with all its connections and tasks, an app's node goes on.
    /// [`GossipEvent::Stopped`] is the last event. Takes two seconds at most; a second call does nothing.
    async fn shutdown(&self);
}

/// What a [`Gossip`] tells.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GossipEvent {
    /// A message of the right shape arrived. Who wrote it, only its content can say.
    Message {
        /// Where it was sent to.
        topic: Topic,
        /// What was sent.
        data: Bytes,
    },
    /// A connected node subscribed to a topic that this node subscribes to, watches, or has published on.
    PeerSubscribed {
        /// The topic.
        topic: Topic,
    },
    /// A connected node gave such a topic up.
    PeerUnsubscribed {
        /// The topic.
        topic: Topic,
    },
    /// A node is connected: the first connection with it is open, or the first one that is straight.
    PeerConnected {
        /// The node.
        node: NodeId,
        /// How it is reached.
        via: Via,
    },
    /// A node is connected no longer: the last connection with it is closed.
    PeerDisconnected {
        /// The node.
        node: NodeId,
    },
    /// The connections with a node were closed because they went out from an address that this machine has no longer. After
    /// [`PeerDisconnected`](Self::PeerDisconnected).
    CutOff {
        /// The node.
        node: NodeId,
        /// Where it can be reached, as far as is known.
        addresses: Vec<String>,
    },
    /// A connected node does not speak this gossip, so calls with it are not possible.
    PeerUnsupported {
        /// The node.
        node: NodeId,
    },
    /// The local network says where a node is.
    Nearby {
        /// The node.
        node: NodeId,
        /// Where it may be: nobody has tried.
        addresses: Vec<String>,
    },
    /// Others reach this node at one more address.
    Listening {
        /// The address, with `/p2p/`.
        address: String,
    },
    /// Others reach this node at that address no longer.
    ListeningNoMore {
        /// The address, with `/p2p/`.
        address: String,
    },
    /// The node's state changed.
    State(NodeState),
    /// The reader was slower than the network, and events were dropped: see the bounds of [`GossipEvents`].
    /// [`Gossip::connected`], [`Gossip::listening`] and [`Gossip::state`] tell what holds now.
    Lagged {
        /// How many were dropped since the last event.
        dropped: u64,
    },
    /// The last event.
    Stopped,
}

impl fmt::Debug for GossipEvent {
    /// Without content and addresses, which belong in no log above trace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { data, .. } => write!(f, "Message({} bytes)", data.len()),
            Self::PeerSubscribed { .. } => f.write_str("PeerSubscribed"),
            Self::PeerUnsubscribed { .. } => f.write_str("PeerUnsubscribed"),
            Self::PeerConnected { via, .. } => write!(f, "PeerConnected({via:?})"),
            Self::PeerDisconnected { .. } => f.write_str("PeerDisconnected"),
            Self::CutOff { .. } => f.write_str("CutOff"),
            Self::PeerUnsupported { .. } => f.write_str("PeerUnsupported"),
            Self::Nearby { .. } => f.write_str("Nearby"),
            Self::Listening { .. } => f.write_str("Listening"),
            Self::ListeningNoMore { .. } => f.write_str("ListeningNoMore"),
            Self::State(state) => write!(f, "State({state:?})"),
            Self::Lagged { dropped } => write!(f, "Lagged({dropped})"),
            Self::Stopped => f.write_str("Stopped"),
        }
    }
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodeState {
    /// Not yet known.
    Starting,
    /// Cannot be reached, or is gone.
    Offline {
        /// Why.
        cause: OfflineCause,
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

impl From<&Facts> for NodeState {
    fn from(facts: &Facts) -> Self {
        match facts.standing() {
            Standing::Starting => Self::Starting,
            Standing::Offline { cause } => Self::Offline { cause },
            Standing::LocalOnly { cause } => Self::LocalOnly { cause, advice: facts.advice() },
            Standing::Relayed { by } => Self::Relayed { by, advice: facts.advice() },
            Standing::Public => Self::Public,
        }
    }
}

impl From<NodeState> for crate::event::NodeState {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Starting => Self::Starting,
            NodeState::Offline { cause } => Self::Offline { cause: cause.to_string() },
            NodeState::LocalOnly { cause, advice } => Self::LocalOnly { cause, advice },
            NodeState::Relayed { by, advice } => Self::Relayed { by, advice },
            NodeState::Public => Self::Public,
        }
    }
}

/// What a [`Gossip`] counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GossipCounters {
    /// Messages handed to the network.
    pub published: u64,
    /// Messages that found no subscribed node.
    pub without_peers: u64,
    /// Messages that arrived in the right shape, for the reader.
    pub received: u64,
    /// Messages that arrived in the right shape and were handed on.
    pub forwarded: u64,
    /// Messages that arrived in a shape that no correct node sends. Whoever handed them on is to blame.
    pub rejected: u64,
    /// Messages that arrived with an unknown version, kind or suite, which a later build may speak.
    pub ignored: u64,
    /// Messages that arrived on a topic that this node does not subscribe to.
    pub stray: u64,
    /// Messages that arrived in larger numbers than one peer, one topic or all together may send.
    pub throttled: u64,
    /// Messages of peers that are not listened to, because too much of theirs was rejected.
    pub refused: u64,
    /// Messages between the nodes' gossip that were dropped for one of these reasons.
    pub control_stopped: u64,
    /// Messages that arrived and were dropped because the reader was slow: the sum of the next three.
    pub dropped_messages: u64,
    /// Of these, because so many of their topic waited already.
    pub dropped_topic_full: u64,
    /// Of these, because so many of all topics waited already.
    pub dropped_all_full: u64,
    /// Of these, to make room for a message of a topic with fewer that wait.
    pub dropped_displaced: u64,
    /// Other events that were dropped because the reader was slow.
    pub dropped_events: u64,
    /// Records of others that this node stores, each time that one came.
    pub records_stored: u64,
    /// Records that came to be stored and were refused: forged, or under another's name.
    pub records_forged: u64,
    /// Records that came to be stored and were refused for another reason: older than what is stored, over, or too many.
    pub records_refused: u64,
    /// Times that another node has dialed this one back, as it was asked to.
    pub dialed_back: u64,
    /// Times that a peer was too slow to take what was sent to it.
    pub slow_peers: u64,
}

impl GossipCounters {
    /// With what the queue of events dropped.
    pub(crate) fn with(self, dropped: Dropped) -> Self {
        Self {
            dropped_messages: dropped.messages(),
            dropped_topic_full: dropped.topic_full,
            dropped_all_full: dropped.all_full,
            dropped_displaced: dropped.displaced,
            dropped_events: dropped.events(),
            ..self
        }
    }
}
