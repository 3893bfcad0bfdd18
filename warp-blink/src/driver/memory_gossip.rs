//! Gossip between many nodes in one process, with no network at all: for an app's own tests, and for ours.
//!
//! A [`MemoryHub`] plays the network, [`MemoryHub::endpoint`] adds a node to it. It does what the real one does where
//! it matters: a message reaches the connected nodes that subscribe, fails where there are none, and passes the same
//! check of its shape. Unlike the real one it forwards nothing (who only forwards a topic takes its messages and tells
//! nobody), has no budgets and silences nobody, and it delivers before `publish` returns, in the
//! order of the nodes' names, so that a test plays out the same way every time.
//!
//! [`MemoryHub::set_fate`] decides what becomes of each message: delivered, dropped, repeated, or delayed behind later
//! ones. [`MemoryHub::set_link`] cuts two nodes off from each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{
    id::NodeId,
    ports::gossip::{
        AddressFailure, Answers, ConnectError, EventSink, Gossip, GossipClosed, GossipCounters, GossipEvent,
        GossipEvents, MAX_ADDRESSES, MAX_MESSAGE, MAX_TOPICS, MAX_WATCHED, NodeState, OfflineCause,
        PublishError, Question, ResolveError, SubscribeError, Via, channel,
    },
    wire::{Topic, frame},
};

/// The most messages that wait behind later ones. Above that the oldest is delivered.
const MAX_DELAYED: usize = 4096;

/// The most records that a hub stores.
const MAX_RECORDS: usize = 4096;

/// The most copies of one message.
const MAX_COPIES: u8 = 16;

/// A network in memory: see the [module](self). Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryHub(Arc<Mutex<Hub>>);

/// One message on its way from one node to another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// Its number on this hub, from 0. Each pair of sender and receiver counts on its own.
    pub number: u64,
    /// Who sends.
    pub from: NodeId,
    /// Who should receive.
    pub to: NodeId,
    /// Where to.
    pub topic: Topic,
    /// What.
    pub data: Bytes,
}

/// What becomes of a [`Delivery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It arrives.
    Deliver,
    /// It is lost, and its sender does not know.
    Drop,
    /// It arrives so many times, at most 16. The real gossip hides repetitions within a minute.
    Repeat(u8),
    /// It arrives after so many later deliveries on the hub, or at [`MemoryHub::release`].
    Delay(u32),
}

/// A node on a [`MemoryHub`].
#[derive(Debug)]
pub struct MemoryGossip {
    hub: MemoryHub,
    node: NodeId,
    events: Mutex<Option<GossipEvents>>,
}

type FateFn = Box<dyn FnMut(&Delivery) -> Fate + Send>;

#[derive(Default)]
struct Hub {
    nodes: BTreeMap<NodeId, Node>,
    /// Pairs that cannot connect, the smaller name first.
    cut: BTreeSet<(NodeId, NodeId)>,
    fate: Option<FateFn>,
    /// What names stand for.
    names: BTreeMap<String, Vec<IpAddr>>,
    /// What everybody stores.
    records: BTreeMap<[u8; 32], Bytes>,
    delayed: Vec<(u64, Delivery)>,
    deliveries: u64,
}

struct Node {
    sink: EventSink,
    topics: BTreeSet<Topic>,
    /// Topics that it would hand on.
    forwarded: BTreeSet<Topic>,
    /// Topics that it published on: it is told of their subscribers.
    interest: BTreeSet<Topic>,
    /// Topics of whose subscribers it wants to be told.
    watched: BTreeSet<Topic>,
    peers: BTreeSet<NodeId>,
    counters: GossipCounters,
}

impl MemoryHub {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node. A node of this name that is there already ends, as when a process starts anew.
    pub fn endpoint(&self, node: NodeId) -> MemoryGossip {
        let (sink, events) = channel();
        sink.push(GossipEvent::State(NodeState::Public));
        sink.push(GossipEvent::Listening { address: address(&node) });
        let mut hub = self.lock();
        hub.remove(&node);
        hub.nodes.insert(
            node,
            Node {
                sink,
                topics: BTreeSet::new(),
                forwarded: BTreeSet::new(),
                interest: BTreeSet::new(),
                watched: BTreeSet::new(),
                peers: BTreeSet::new(),
                counters: GossipCounters::default(),
            },
        );
        MemoryGossip { hub: self.clone(), node, events: Mutex::new(Some(events)) }
    }

    /// Decides from now on what becomes of each message. It runs while the hub is locked, so it must not use it.
    pub fn set_fate(&self, fate: impl FnMut(&Delivery) -> Fate + Send + 'static) {
        self.lock().fate = Some(Box::new(fate));
    }

    /// What a name stands for from now on. Names that were not told do not exist.
    pub fn set_name(&self, name: impl Into<String>, addresses: impl IntoIterator<Item = IpAddr>) {
        self.lock().names.insert(name.into(), addresses.into_iter().collect());
    }

    /// Delivers everything that is delayed, in the order in which it was sent.
    pub fn release(&self) {
        let mut hub = self.lock();
        let delayed = std::mem::take(&mut hub.delayed);
        for (_, delivery) in delayed {
            hub.arrive(&delivery);
        }
    }

    /// Cuts two nodes off from each other, or joins them again. Cutting ends their connection; joining makes none.
    pub fn set_link(&self, a: &NodeId, b: &NodeId, up: bool) {
        let mut hub = self.lock();
        let pair = if a < b { (*a, *b) } else { (*b, *a) };
        if up {
            hub.cut.remove(&pair);
        } else {
            hub.cut.insert(pair);
            hub.disconnect(a, b);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        // A panic in a test's own `fate` leaves the hub whole: it runs between changes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryHub")
    }
}

fn address(node: &NodeId) -> String {
    format!("/memory/1/p2p/{node}")
}

impl Hub {
    fn node(&mut self, node: &NodeId) -> Result<&mut Node, GossipClosed> {
        self.nodes.get_mut(node).ok_or(GossipClosed)
    }

    fn subscribe(
        &mut self,
        node: &NodeId,
        topic: Topic,
        how: impl FnOnce(&mut Node) -> &mut BTreeSet<Topic>,
    ) -> Result<(), SubscribeError> {
        let here = self.node(node)?;
        let new = !here.subscribes(&topic);
        if new && here.topics.union(&here.forwarded).count() >= MAX_TOPICS {
            return Err(SubscribeError::TooMany);
        }
        how(here).insert(topic);
        if new {
            self.tell_peers(node, topic, |topic| GossipEvent::PeerSubscribed { topic });
        }
        Ok(())
    }

    fn watch(&mut self, node: &NodeId, topics: BTreeSet<Topic>) -> Result<(), GossipClosed> {
        let here = self.node(node)?;
        let topics: BTreeSet<Topic> = topics.into_iter().take(MAX_WATCHED).collect();
        let before = std::mem::replace(&mut here.watched, topics.clone());
        let peers = here.peers.clone();
        for topic in topics.difference(&before) {
            if peers.iter().any(|p| self.nodes.get(p).is_some_and(|n| n.subscribes(topic))) {
                self.node(node)?.sink.push(GossipEvent::PeerSubscribed { topic: *topic });
            }
        }
        Ok(())
    }

    fn publish(&mut self, from: NodeId, topic: Topic, data: &Bytes) -> Result<(), PublishError> {
        let sender = self.node(&from)?;
        if data.len() > MAX_MESSAGE {
            return Err(PublishError::TooLarge { size: data.len() });
        }
        if sender.interest.len() < MAX_TOPICS {
            sender.interest.insert(topic);
        }
        let peers = sender.peers.clone();
        let to: Vec<NodeId> =
            peers.into_iter().filter(|p| self.nodes.get(p).is_some_and(|n| n.subscribes(&topic))).collect();
        let sender = self.node(&from)?;
        if to.is_empty() {
            sender.counters.without_peers += 1;
            return Err(PublishError::NoPeers);
        }
        sender.counters.published += 1;
        for to in to {
            let number = self.deliveries;
            self.deliveries += 1;
            self.deliver(Delivery { number, from, to, topic, data: data.clone() });
            self.arrive_due();
        }
        Ok(())
    }

    fn deliver(&mut self, delivery: Delivery) {
        match self.fate.as_mut().map_or(Fate::Deliver, |fate| fate(&delivery)) {
            Fate::Deliver => self.arrive(&delivery),
            Fate::Drop => {}
            Fate::Repeat(copies) => (0..copies.min(MAX_COPIES)).for_each(|_| self.arrive(&delivery)),
            Fate::Delay(later) => {
                if self.delayed.len() >= MAX_DELAYED {
                    let (_, oldest) = self.delayed.remove(0);
                    self.arrive(&oldest);
                }
                self.delayed.push((delivery.number + u64::from(later), delivery));
            }
        }
    }

    fn arrive_due(&mut self) {
        while let Some(due) = self.delayed.iter().position(|(at, _)| *at < self.deliveries) {
            let (_, delivery) = self.delayed.remove(due);
            self.arrive(&delivery);
        }
    }

    fn arrive(&mut self, delivery: &Delivery) {
        // What was on its way when a connection or a subscription ended is lost with it.
        let Some(node) = self.nodes.get_mut(&delivery.to) else { return };
        if !node.peers.contains(&delivery.from) || !node.subscribes(&delivery.topic) {
            return;
        }
        match frame::check(&delivery.data) {
            Ok(_) if node.topics.contains(&delivery.topic) => {
                node.counters.received += 1;
                node.sink.push(GossipEvent::Message { topic: delivery.topic, data: delivery.data.clone() });
            }
            Ok(_) => {}
            Err(error) if error.is_violation() => node.counters.rejected += 1,
            Err(_) => node.counters.ignored += 1,
        }
    }

    fn connect(&mut self, a: NodeId, b: NodeId) -> bool {
        let pair = if a < b { (a, b) } else { (b, a) };
        if self.cut.contains(&pair) || !self.nodes.contains_key(&a) || !self.nodes.contains_key(&b) {
            return false;
        }
        for (here, there) in [(a, b), (b, a)] {
            let topics: Vec<Topic> = self
                .nodes
                .get(&there)
                .map(|n| n.topics.union(&n.forwarded).copied().collect())
                .unwrap_or_default();
            let Some(node) = self.nodes.get_mut(&here) else { continue };
            if node.peers.insert(there) {
                node.sink.push(GossipEvent::PeerConnected { node: there, via: Via::Direct });
                for topic in topics {
                    node.tell(topic, |topic| GossipEvent::PeerSubscribed { topic });
                }
            }
        }
        true
    }

    fn disconnect(&mut self, a: &NodeId, b: &NodeId) {
        for (here, there) in [(a, b), (b, a)] {
            if let Some(node) = self.nodes.get_mut(here)
                && node.peers.remove(there)
            {
                node.sink.push(GossipEvent::PeerDisconnected { node: *there });
            }
        }
    }

    /// Tells the peers of `node` about its subscriptions.
    fn tell_peers(&mut self, node: &NodeId, topic: Topic, event: fn(Topic) -> GossipEvent) {
        let peers = self.nodes.get(node).map(|n| n.peers.clone()).unwrap_or_default();
        for peer in peers {
            if let Some(peer) = self.nodes.get(&peer) {
                peer.tell(topic, event);
            }
        }
    }

    fn remove(&mut self, node: &NodeId) {
        let peers = self.nodes.get(node).map(|n| n.peers.clone()).unwrap_or_default();
        for peer in peers {
            self.disconnect(node, &peer);
        }
        if let Some(node) = self.nodes.remove(node) {
            node.sink.push(GossipEvent::State(NodeState::Offline { cause: OfflineCause::Stopped }));
            node.sink.push(GossipEvent::Stopped);
        }
    }
}

impl Node {
    /// As others see it.
    fn subscribes(&self, topic: &Topic) -> bool {
        self.topics.contains(topic) || self.forwarded.contains(topic)
    }

    fn tell(&self, topic: Topic, event: impl FnOnce(Topic) -> GossipEvent) {
        if self.subscribes(&topic) || self.interest.contains(&topic) || self.watched.contains(&topic) {
            self.sink.push(event(topic));
        }
    }
}

#[async_trait]
impl Gossip for MemoryGossip {
    fn node(&self) -> NodeId {
        self.node
    }

    fn take_events(&self) -> Option<GossipEvents> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn subscribe(&self, topic: Topic) -> Result<(), SubscribeError> {
        self.hub.lock().subscribe(&self.node, topic, |node| &mut node.topics)
    }

    async fn forward(&self, topic: Topic) -> Result<(), SubscribeError> {
        self.hub.lock().subscribe(&self.node, topic, |node| &mut node.forwarded)
    }

    async fn unsubscribe(&self, topic: Topic) -> Result<(), SubscribeError> {
        let mut hub = self.hub.lock();
        let node = hub.node(&self.node)?;
        // Both end.
        if node.topics.remove(&topic) | node.forwarded.remove(&topic) {
            hub.tell_peers(&self.node, topic, |topic| GossipEvent::PeerUnsubscribed { topic });
        }
        Ok(())
    }

    async fn watch(&self, topics: BTreeSet<Topic>) -> Result<(), GossipClosed> {
        self.hub.lock().watch(&self.node, topics)
    }

    async fn publish(&self, topic: Topic, data: Bytes) -> Result<(), PublishError> {
        self.hub.lock().publish(self.node, topic, &data)
    }

    /// Connects by name: the addresses only show where a node cannot be reached.
    async fn connect(&self, node: &NodeId, addresses: &[String]) -> Result<Via, ConnectError> {
        if *node == self.node {
            return Err(ConnectError::Itself);
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(ConnectError::TooManyAddresses(addresses.len()));
        }
        let mut hub = self.hub.lock();
        hub.node(&self.node)?;
        if hub.connect(self.node, *node) {
            return Ok(Via::Direct);
        }
        if addresses.is_empty() {
            return Err(ConnectError::NoAddresses);
        }
        let failure = |address: &String| AddressFailure {
            address: address.clone(),
            cause: "no such node on this hub, or cut off from it".into(),
        };
        Err(ConnectError::Failed(addresses.iter().map(failure).collect()))
    }

    async fn resolve(&self, question: &Question) -> Result<Answers, ResolveError> {
        let hub = self.hub.lock();
        let (Question::Ip4(name) | Question::Ip6(name)) = question else {
            return Err(ResolveError::NoSuchName("names stand for no texts on this hub".into()));
        };
        let none = || ResolveError::NoSuchName("no such name on this hub".into());
        let ips = hub.names.get(name).ok_or_else(none)?;
        Ok(match question {
            Question::Ip4(_) => Answers::Ip4(
                ips.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }).collect(),
            ),
            _ => Answers::Ip6(
                ips.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None }).collect(),
            ),
        })
    }

    /// The hub stores what came last, without looking at it.
    async fn records(&self, name: [u8; 32]) -> BoxStream<'static, Bytes> {
        let stored = self.hub.lock().records.get(&name).cloned();
        Box::pin(futures::stream::iter(stored))
    }

    async fn whereabouts(&self, _: &NodeId) -> Vec<String> {
        Vec::new()
    }

    async fn store_record(&self, name: [u8; 32], record: Bytes, _: Duration) -> usize {
        let records = &mut self.hub.lock().records;
        let room = records.len() < MAX_RECORDS || records.contains_key(&name);
        if room {
            records.insert(name, record);
        }
        usize::from(room)
    }

    async fn nearby(&self, _: &NodeId) -> Vec<String> {
        Vec::new()
    }

    async fn disconnect(&self, node: &NodeId) -> Result<(), GossipClosed> {
        let mut hub = self.hub.lock();
        hub.node(&self.node)?;
        hub.disconnect(&self.node, node);
        Ok(())
    }

    fn connected(&self) -> Vec<(NodeId, Via)> {
        let hub = self.hub.lock();
        hub.nodes
            .get(&self.node)
            .map(|n| n.peers.iter().map(|p| (*p, Via::Direct)).collect())
            .unwrap_or_default()
    }

    fn listening(&self) -> Vec<String> {
        if self.state() == NodeState::Public { vec![address(&self.node)] } else { Vec::new() }
    }

    fn state(&self) -> NodeState {
        if self.hub.lock().nodes.contains_key(&self.node) {
            NodeState::Public
        } else {
            NodeState::Offline { cause: OfflineCause::Stopped }
        }
    }

    fn counters(&self) -> GossipCounters {
        let hub = self.hub.lock();
        let Some(node) = hub.nodes.get(&self.node) else { return GossipCounters::default() };
        node.counters.with(node.sink.dropped())
    }

    async fn shutdown(&self) {
        self.hub.lock().remove(&self.node);
    }
}

#[cfg(test)]
mod tests;
