//! Gossip over real nodes on loopback. Every wait is for an event; the limits only say when to give up.
#![cfg(feature = "node")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may fail, and is at the edge where randomness enters"
)]

mod app;
mod connecting;
mod ending;
mod finding;
mod flood;
mod interop;
mod memory;
mod relays;
mod talking;

use std::time::Duration;

use bytes::Bytes;
use warp_blink::{
    driver::node::{IpfsGossip, NodeConfig},
    id::{NodeId, NodeKey},
    ports::gossip::{Gossip, GossipEvent, GossipEvents, PublishError, Via},
    proto::signal::VERSION,
    wire::{PeerSeed, Topic, frame},
};

/// A machine that needs longer is stuck.
const STUCK: Duration = Duration::from_secs(30);

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// A node of our own and what it tells.
struct Node {
    gossip: IpfsGossip,
    events: GossipEvents,
}

fn key() -> NodeKey {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has randomness");
    NodeKey::from_seed(seed)
}

fn topic(n: u8) -> Topic {
    Topic::peer(&PeerSeed::from_bytes([n; 32]))
}

/// A transport message of the smallest or largest size that passes every node's check.
fn frame_of(fill: u8, large: bool) -> Bytes {
    let mut bytes = vec![fill; if large { frame::MAX_FRAME } else { 546 }];
    (bytes[0], bytes[1]) = (VERSION, 3);
    frame::check(&bytes).expect("this is what the wire module lets pass");
    bytes.into()
}

impl Node {
    async fn start(listen: &str) -> Self {
        Self::of(
            NodeConfig::new(key()).with_listen([listen]).start().await.expect("a node starts on loopback"),
        )
    }

    fn of(gossip: IpfsGossip) -> Self {
        let events = gossip.take_events().expect("nobody took them yet");
        Self { gossip, events }
    }

    fn id(&self) -> NodeId {
        self.gossip.node()
    }

    /// The first event that fits; others are passed over.
    async fn until<T>(&mut self, fits: impl Fn(&GossipEvent) -> Option<T>) -> T {
        let found = tokio::time::timeout(STUCK, async {
            while let Some(event) = self.events.recv().await {
                if let Some(found) = fits(&event) {
                    return found;
                }
            }
            panic!("the events ended before what was waited for")
        });
        found.await.expect("what was waited for did not happen")
    }

    async fn subscribed(&mut self, topic: Topic) {
        self.until(|e| (*e == GossipEvent::PeerSubscribed { topic }).then_some(())).await;
    }

    async fn message(&mut self) -> (Topic, Bytes) {
        self.until(|e| match e {
            GossipEvent::Message { topic, data } => Some((*topic, data.clone())),
            _ => None,
        })
        .await
    }

    /// Publishes as an app does: again whenever somebody subscribes.
    async fn publish(&mut self, topic: Topic, data: Bytes) {
        while let Err(error) = self.gossip.publish(topic, data.clone()).await {
            assert_eq!(error, PublishError::NoPeers);
            self.subscribed(topic).await;
        }
    }

    async fn connect(&self, to: &Self) {
        let via = self.gossip.connect(&to.id(), &to.gossip.listening()).await;
        assert_eq!(via, Ok(Via::Direct));
    }

    async fn end(self) {
        self.gossip.shutdown().await;
    }
}

/// Two nodes that are connected and hear topic 1.
async fn pair(listen: &str) -> (Node, Node) {
    let (mut a, mut b) = (Node::start(listen).await, Node::start(listen).await);
    a.gossip.subscribe(topic(1)).await.unwrap();
    b.gossip.subscribe(topic(1)).await.unwrap();
    a.connect(&b).await;
    a.subscribed(topic(1)).await;
    b.subscribed(topic(1)).await;
    (a, b)
}
