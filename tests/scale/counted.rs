//! Counts what a phone hands to gossip and to its links.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use warp_blink::{
    NodeId, Outside,
    channel::Channel,
    event::{ChannelId, Via},
    ports::{
        gossip::{
            Answers, ConnectError, Gossip, GossipClosed, GossipCounters, GossipEvents, NodeState,
            PublishError, Question, ResolveError, SubscribeError,
        },
        media::{Media, MediaCommand, MediaError, MediaEvent},
    },
    wire::Topic,
};

use crate::orders::{Sample, Tally};

#[derive(Debug, Default)]
struct Counter {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn add(&self, bytes: usize) {
        self.messages.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    fn tally(&self) -> Tally {
        Tally { messages: self.messages.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

/// What has passed, and the node that tells the rest.
#[derive(Clone)]
pub(crate) struct Counted {
    published: Arc<Counter>,
    over_links: Arc<Counter>,
    node: Arc<dyn Gossip>,
}

impl Counted {
    /// What counts, and the ports that it counts at.
    pub(crate) fn around(ports: &Outside) -> (Self, Outside) {
        let counted =
            Self { published: Arc::default(), over_links: Arc::default(), node: ports.gossip.clone() };
        let gossip =
            Arc::new(CountedGossip { inner: ports.gossip.clone(), published: counted.published.clone() });
        let media = Arc::new(CountedMedia { inner: ports.media.clone(), sent: counted.over_links.clone() });
        (counted, Outside { gossip, media })
    }

    /// Its part of the figures.
    pub(crate) fn fill(&self, sample: &mut Sample) {
        sample.published = self.published.tally();
        sample.over_links = self.over_links.tally();
        sample.heard_of = self.node.counters().received;
        sample.connected = self.node.connected().len() as u64;
    }
}

struct CountedMedia {
    inner: Arc<dyn Media>,
    sent: Arc<Counter>,
}

#[async_trait]
impl Media for CountedMedia {
    fn take_events(&self) -> Option<mpsc::Receiver<MediaEvent>> {
        self.inner.take_events()
    }

    async fn execute(&self, command: MediaCommand) -> Result<(), MediaError> {
        let signal = if let MediaCommand::Signal { frame, .. } = &command { Some(frame.len()) } else { None };
        let done = self.inner.execute(command).await;
        if let (Some(bytes), Ok(())) = (signal, &done) {
            self.sent.add(bytes);
        }
        done
    }

    fn take_channel(&self, channel: ChannelId) -> Option<Channel> {
        self.inner.take_channel(channel)
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

struct CountedGossip {
    inner: Arc<dyn Gossip>,
    published: Arc<Counter>,
}

#[async_trait]
impl Gossip for CountedGossip {
    fn node(&self) -> NodeId {
        self.inner.node()
    }

    fn take_events(&self) -> Option<GossipEvents> {
        self.inner.take_events()
    }

    async fn subscribe(&self, topic: Topic) -> Result<(), SubscribeError> {
        self.inner.subscribe(topic).await
    }

    async fn forward(&self, topic: Topic) -> Result<(), SubscribeError> {
        self.inner.forward(topic).await
    }

    async fn unsubscribe(&self, topic: Topic) -> Result<(), SubscribeError> {
        self.inner.unsubscribe(topic).await
    }

    async fn watch(&self, topics: BTreeSet<Topic>) -> Result<(), GossipClosed> {
        self.inner.watch(topics).await
    }

    async fn publish(&self, topic: Topic, data: Bytes) -> Result<(), PublishError> {
        let bytes = data.len();
        let done = self.inner.publish(topic, data).await;
        if done.is_ok() {
            self.published.add(bytes);
        }
        done
    }

    async fn connect(&self, node: &NodeId, addresses: &[String]) -> Result<Via, ConnectError> {
        self.inner.connect(node, addresses).await
    }

    async fn resolve(&self, question: &Question) -> Result<Answers, ResolveError> {
        self.inner.resolve(question).await
    }

    async fn records(&self, name: [u8; 32]) -> BoxStream<'static, Bytes> {
        self.inner.records(name).await
    }

    async fn whereabouts(&self, node: &NodeId) -> Vec<String> {
        self.inner.whereabouts(node).await
    }

    async fn store_record(&self, name: [u8; 32], record: Bytes, life: Duration) -> usize {
        self.inner.store_record(name, record, life).await
    }

    async fn nearby(&self, node: &NodeId) -> Vec<String> {
        self.inner.nearby(node).await
    }

    async fn disconnect(&self, node: &NodeId) -> Result<(), GossipClosed> {
        self.inner.disconnect(node).await
    }

    fn connected(&self) -> Vec<(NodeId, Via)> {
        self.inner.connected()
    }

    fn dialed(&self, node: &NodeId) -> Option<String> {
        self.inner.dialed(node)
    }

    fn listening(&self) -> Vec<String> {
        self.inner.listening()
    }

    fn state(&self) -> NodeState {
        self.inner.state()
    }

    fn counters(&self) -> GossipCounters {
        self.inner.counters()
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}
