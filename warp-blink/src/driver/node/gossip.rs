//! The gossip port over a node.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use rust_ipfs::{DialOpts, Ipfs, Keypair, Multiaddr, PeerId};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{debug, warn};

use super::{
    address::{dialable, node_of, peer_of},
    link::{Command, Find, NodeLink, Shared},
};
use crate::{
    id::NodeId,
    ports::gossip::{
        Answers, ConnectError, Gossip, GossipClosed, GossipCounters, GossipEvents, MAX_ADDRESSES, NodeState,
        PublishError, Question, ResolveError, SubscribeError, Via,
    },
    wire::Topic,
};

/// A node answers within a millisecond; one that takes longer than this is blocked. Long enough for a machine that
/// swaps.
pub(super) const STALLED: Duration = Duration::from_secs(5);

/// How long connections and then the node's task may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// Records that were found and wait for who asked: as many as one question brings at most, so that none is lost.
const FOUND: usize = 64;

/// How long a connection may take by default: what libp2p gives its handshake.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// Gossip over a libp2p node, own or the app's: see the [module](super).
#[derive(Debug)]
pub struct IpfsGossip {
    node: NodeId,
    peer: PeerId,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    events: Mutex<Option<GossipEvents>>,
    /// `None` once it has ended.
    ipfs: Mutex<Option<Ipfs>>,
    /// Whether the node ends with this.
    own: bool,
    connect_timeout: Duration,
}

/// A node and a link that could not be joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The node does not run the link's behaviour. Its own pubsub does not do: that one signs every message with the
    /// node's key.
    #[error(
        "this node does not run the BlinkBehaviour that the link belongs to: hand the behaviour to \
         IpfsBuilder::with_custom_behaviour, and the link to the node that this builder starts"
    )]
    Foreign,
    /// The node did not answer.
    #[error("the node did not answer for {after:?}: its task is blocked or starved")]
    Stalled {
        /// How long it was waited for.
        after: Duration,
    },
}

impl IpfsGossip {
    /// Joins a node that the app runs with the link of the behaviour in its custom slot. The node stays the app's:
    /// [`Gossip::shutdown`] leaves it running.
    ///
    /// # Errors
    /// [`AttachError::Foreign`] if the node runs no behaviour of ours, or another one.
    pub fn attach(ipfs: Ipfs, link: NodeLink) -> BoxFuture<'static, Result<Self, AttachError>> {
        Box::pin(Self::join(ipfs, link, false, false, CONNECT))
    }

    pub(super) async fn join(
        ipfs: Ipfs,
        link: NodeLink,
        own: bool,
        will_listen: bool,
        connect_timeout: Duration,
    ) -> Result<Self, AttachError> {
        probe(&ipfs, &link.shared).await?;
        let peer = ipfs.keypair().public().to_peer_id();
        let node = node_of(&peer).ok_or(AttachError::Foreign)?;
        link.shared.join(peer, will_listen);
        debug!(own, "joined with the node");
        Ok(Self {
            node,
            peer,
            commands: link.commands,
            shared: link.shared,
            events: Mutex::new(Some(link.events)),
            ipfs: Mutex::new(Some(ipfs)),
            own,
            connect_timeout,
        })
    }

    /// The node listens, as far as it was told to: from now on it asks for places at relays.
    pub(super) async fn begin(&self) {
        // A node that is gone asks nobody.
        let _ = self.commands.send(Command::Begin).await;
    }

    /// Has the node hold this under a name and tell it to all who ask, whatever it is: what a liar does, for tests.
    #[doc(hidden)]
    pub async fn forge(&self, name: [u8; 32], record: Bytes) {
        let _ = self.commands.send(Command::Find(Find::Forge { name, record })).await;
    }

    /// Asks the part that finds others. It takes its time; whoever asks bounds it. Nothing: it may not ask, or is gone.
    async fn find<T>(&self, find: impl FnOnce(oneshot::Sender<T>) -> Find) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Find(find(reply))).await.ok()?;
        answer.await.ok()
    }

    /// Asks the behaviour, and waits for its answer as long as it is alive, but no longer than a blocked one is worth.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Asked> {
        let (reply, answer) = oneshot::channel();
        within(STALLED, async {
            self.commands.send(command(reply)).await.map_err(|_| Asked::Closed)?;
            answer.await.map_err(|_| Asked::Closed)
        })
        .await
    }
}

/// Why there is no answer.
enum Asked {
    Closed,
    Stalled,
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Asked>>) -> Result<T, Asked> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => {
            warn!(?limit, "the node does not answer");
            Err(Asked::Stalled)
        }
    }
}

/// Has the node dial nobody at no address, which fails, and sees whether the behaviour hears of that failure. Nothing
/// leaves the machine.
async fn probe(ipfs: &Ipfs, shared: &Shared) -> Result<(), AttachError> {
    let nobody = Keypair::generate_ed25519().public().to_peer_id();
    let nowhere = DialOpts::peer_id(nobody).addresses(Vec::new()).build();
    shared.watch_probe(nowhere.connection_id());
    if timeout(STALLED, ipfs.connect(nowhere)).await.is_err() {
        return Err(AttachError::Stalled { after: STALLED });
    }
    if shared.probe_seen() { Ok(()) } else { Err(AttachError::Foreign) }
}

#[async_trait]
impl Gossip for IpfsGossip {
    fn node(&self) -> NodeId {
        self.node
    }

    fn take_events(&self) -> Option<GossipEvents> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn subscribe(&self, topic: Topic) -> Result<(), SubscribeError> {
        self.ask(|reply| Command::Subscribe { topic, reply }).await?
    }

    async fn forward(&self, topic: Topic) -> Result<(), SubscribeError> {
        self.ask(|reply| Command::Forward { topic, reply }).await?
    }

    async fn unsubscribe(&self, topic: Topic) -> Result<(), SubscribeError> {
        self.ask(|reply| Command::Unsubscribe { topic, reply }).await?
    }

    async fn watch(&self, topics: BTreeSet<Topic>) -> Result<(), GossipClosed> {
        self.ask(|reply| Command::Watch { topics, reply }).await.map_err(|_| GossipClosed)
    }

    async fn publish(&self, topic: Topic, data: Bytes) -> Result<(), PublishError> {
        self.ask(|reply| Command::Publish { topic, data, reply }).await?
    }

    async fn connect(&self, node: &NodeId, addresses: &[String]) -> Result<Via, ConnectError> {
        let peer = peer_of(node).ok_or(ConnectError::NoAddresses)?;
        if peer == self.peer {
            return Err(ConnectError::Itself);
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(ConnectError::TooManyAddresses(addresses.len()));
        }
        let via = self.shared.view().via(&peer);
        if let Some(via) = via {
            return Ok(via);
        }
        let after = self.connect_timeout;
        timeout(after, self.dial(peer, addresses)).await.unwrap_or(Err(ConnectError::TimedOut { after }))
    }

    async fn resolve(&self, question: &Question) -> Result<Answers, ResolveError> {
        super::names::lookup(question).await
    }

    async fn records(&self, name: [u8; 32]) -> BoxStream<'static, Bytes> {
        let (found, all) = futures::channel::mpsc::channel(FOUND);
        // A node that is gone finds nothing, and what is dropped here is the end of it.
        let _ = self.commands.send(Command::Find(Find::Records { name, found })).await;
        Box::pin(all)
    }

    async fn whereabouts(&self, node: &NodeId) -> Vec<String> {
        let Some(peer) = peer_of(node) else { return Vec::new() };
        let ask = |public| self.find(move |reply| Find::Node { peer, public, reply });
        let (ours, public) = futures::join!(ask(false), ask(true));
        let mut found = texts(ours);
        found.extend(texts(public));
        found
    }

    async fn store_record(&self, name: [u8; 32], record: Bytes, life: Duration) -> usize {
        self.find(|reply| Find::Store { name, record, life, reply }).await.unwrap_or(0)
    }

    async fn nearby(&self, node: &NodeId) -> Vec<String> {
        let Some(peer) = peer_of(node) else { return Vec::new() };
        texts(self.find(|reply| Find::Nearby { peer, reply }).await)
    }

    async fn disconnect(&self, node: &NodeId) -> Result<(), GossipClosed> {
        match peer_of(node) {
            Some(peer) if self.own => {
                self.ask(|reply| Command::Close { peer, reply }).await.map_err(|_| GossipClosed)
            }
            _ if self.commands.is_closed() => Err(GossipClosed),
            _ => Ok(()),
        }
    }

    fn dialed(&self, node: &NodeId) -> Option<String> {
        self.shared.view().dialed(&peer_of(node)?)
    }

    fn connected(&self) -> Vec<(NodeId, Via)> {
        self.shared.view().connected()
    }

    fn listening(&self) -> Vec<String> {
        self.shared.view().listening()
    }

    fn state(&self) -> NodeState {
        self.shared.view().state()
    }

    fn counters(&self) -> GossipCounters {
        self.shared.counters()
    }

    async fn shutdown(&self) {
        let Some(ipfs) = self.ipfs.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if !self.own {
            // Fails only if the node is gone, which is as good.
            let _ = timeout(ENDING, self.ask(|reply| Command::Detach { reply })).await;
            return;
        }
        // Without a goodbye, the others would notice after half a minute.
        if timeout(ENDING, self.ask(|reply| Command::CloseAll { reply })).await.is_err() {
            debug!("not all connections closed in time");
        }
        ipfs.exit_daemon().await;
        // The node's task is gone when the behaviour's end of the link is.
        if timeout(ENDING, self.commands.closed()).await.is_err() {
            warn!(after = ?ENDING, "the node's task has not ended yet: something blocks it");
        }
    }
}

impl IpfsGossip {
    async fn dial(&self, peer: PeerId, texts: &[String]) -> Result<Via, ConnectError> {
        let (addresses, failures) = dialable(peer, texts).await;
        if addresses.is_empty() && !failures.is_empty() {
            return Err(ConnectError::Failed(failures));
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Connect { peer, addresses, reply };
        self.commands.send(command).await.map_err(|_| GossipClosed)?;
        match answer.await.map_err(|_| GossipClosed)? {
            Err(ConnectError::Failed(more)) => Err(ConnectError::Failed([failures, more].concat())),
            other => other,
        }
    }
}

fn texts(addresses: Option<Vec<Multiaddr>>) -> Vec<String> {
    addresses.unwrap_or_default().iter().map(ToString::to_string).collect()
}

impl From<Asked> for SubscribeError {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Closed => Self::Closed(GossipClosed),
            Asked::Stalled => Self::Stalled { after: STALLED },
        }
    }
}

impl From<Asked> for PublishError {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Closed => Self::Closed(GossipClosed),
            Asked::Stalled => Self::Stalled { after: STALLED },
        }
    }
}
