//! Nodes that the app runs.

use futures::{StreamExt, stream::BoxStream};
use rust_ipfs::{Ipfs, builder::IpfsBuilder, p2p::PubsubConfig};
use warp_blink::{
    driver::node::{AttachError, BlinkBehaviour, IpfsGossip},
    ports::gossip::{ConnectError, GossipEvent},
};

use super::*;

type Builder = IpfsBuilder<BlinkBehaviour>;

/// An app's node on TCP that carries our behaviour.
pub(super) async fn start(more: impl FnOnce(Builder) -> Builder) -> (Ipfs, Node) {
    let (behaviour, link) = BlinkBehaviour::new();
    let builder = Builder::new().enable_tcp().with_identify(Default::default());
    let ipfs = more(builder).with_custom_behaviour(move |_| Ok(behaviour)).start().await.unwrap();
    ipfs.add_listening_address(TCP.parse().unwrap()).await.unwrap();
    let gossip = IpfsGossip::attach(ipfs.clone(), link).await.unwrap();
    assert_eq!(gossip.node().to_string(), ipfs.keypair().public().to_peer_id().to_string());
    (ipfs, Node::of(gossip))
}

/// Waits for an event of the app's own pubsub. Its type has no public name.
async fn heard<E: std::fmt::Debug>(events: &mut BoxStream<'static, E>, what: &str) {
    let found = async {
        while let Some(event) = events.next().await {
            if format!("{event:?}").contains(what) {
                return;
            }
        }
        panic!("the app's pubsub ended");
    };
    tokio::time::timeout(STUCK, found).await.expect("the app's pubsub works");
}

#[tokio::test]
async fn an_own_node_and_an_apps_node_hear_each_other() {
    let (ipfs, mut theirs) = start(|b| b).await;
    let mut ours = Node::start(TCP).await;
    theirs.gossip.subscribe(topic(1)).await.unwrap();
    ours.gossip.subscribe(topic(2)).await.unwrap();
    ours.connect(&theirs).await;
    ours.publish(topic(1), frame_of(1, true)).await;
    assert_eq!(theirs.message().await, (topic(1), frame_of(1, true)));
    theirs.publish(topic(2), frame_of(2, true)).await;
    assert_eq!(ours.message().await, (topic(2), frame_of(2, true)));
    // The app's connections are the app's.
    theirs.gossip.disconnect(&ours.id()).await.unwrap();
    theirs.gossip.shutdown().await;
    assert_eq!(theirs.until(|e| (*e == GossipEvent::Stopped).then_some(())).await, ());
    ours.until(|e| (*e == GossipEvent::PeerUnsubscribed { topic: topic(1) }).then_some(())).await;
    assert_eq!(ipfs.connected().await.unwrap().len(), 1, "the node goes on");
    ours.end().await;
    ipfs.exit_daemon().await;
}

#[tokio::test]
async fn the_apps_own_pubsub_and_ours_do_not_mix() {
    let with_pubsub = |b: Builder| b.with_pubsub(PubsubConfig::default());
    let (ipfs_a, a) = start(with_pubsub).await;
    let (ipfs_b, mut b) = start(with_pubsub).await;
    // The same name on both.
    let name = topic(1).to_string();
    let mut own_a = ipfs_a.pubsub_listener(name.as_str()).await.unwrap();
    let mut own_b = ipfs_b.pubsub_listener(name.as_str()).await.unwrap();
    ipfs_a.pubsub_subscribe(name.as_str()).await.unwrap();
    ipfs_b.pubsub_subscribe(name.as_str()).await.unwrap();
    b.gossip.subscribe(topic(1)).await.unwrap();
    a.connect(&b).await;
    let mut a = a;
    a.publish(topic(1), frame_of(1, false)).await;
    assert_eq!(b.message().await.1, frame_of(1, false));
    heard(&mut own_a, "Subscribed").await;
    ipfs_a.pubsub_publish(name.as_str(), b"from the app".to_vec()).await.unwrap();
    heard(&mut own_b, "from the app").await;
    a.publish(topic(1), frame_of(2, false)).await;
    assert_eq!(b.message().await.1, frame_of(2, false));
    assert_eq!(b.gossip.counters().received, 2);
    assert_eq!(b.gossip.counters().rejected, 0, "the app's message is not judged by us");
    ipfs_a.exit_daemon().await;
    ipfs_b.exit_daemon().await;
}

#[tokio::test]
async fn a_node_without_the_behaviour_is_refused() {
    let bare = Builder::new().enable_tcp().start().await.unwrap();
    let (behaviour, link) = BlinkBehaviour::new();
    let refused = IpfsGossip::attach(bare.clone(), link).await.unwrap_err();
    assert_eq!(refused, AttachError::Foreign);
    assert!(refused.to_string().contains("with_custom_behaviour"), "{refused}");
    drop(behaviour);
    let (_, link) = BlinkBehaviour::new();
    assert_eq!(IpfsGossip::attach(bare.clone(), link).await.unwrap_err(), AttachError::Foreign);
    // The link of another node.
    let (behaviour, link) = BlinkBehaviour::new();
    let other =
        Builder::new().enable_tcp().with_custom_behaviour(move |_| Ok(behaviour)).start().await.unwrap();
    assert_eq!(IpfsGossip::attach(bare.clone(), link).await.unwrap_err(), AttachError::Foreign);
    bare.exit_daemon().await;
    other.exit_daemon().await;
}

#[tokio::test]
async fn a_peer_without_calls_is_told_apart() {
    let bare = Builder::new().enable_tcp().start().await.unwrap();
    bare.add_listening_address(TCP.parse().unwrap()).await.unwrap();
    let address = bare.listening_addresses().await.unwrap().remove(0).to_string();
    let node: NodeId = bare.keypair().public().to_peer_id().to_string().parse().unwrap();
    let mut ours = Node::start(TCP).await;
    ours.gossip.subscribe(topic(1)).await.unwrap();
    assert_eq!(ours.gossip.connect(&node, &[address]).await, Ok(Via::Direct));
    ours.until(|e| (*e == GossipEvent::PeerUnsupported { node }).then_some(())).await;
    bare.exit_daemon().await;
    let refused = ours.gossip.connect(&key().node_id(), &["/ip4/127.0.0.1/tcp/1".into()]).await;
    assert!(matches!(refused, Err(ConnectError::Failed(_))));
    ours.end().await;
}

/// A node whose idle time is far shorter than the pauses of a call keeps the connection that gossip uses.
#[tokio::test]
async fn gossip_keeps_its_connection() {
    let (ipfs, mut theirs) = start(|b| b.set_idle_connection_timeout(1)).await;
    let mut ours = Node::start(TCP).await;
    theirs.gossip.subscribe(topic(1)).await.unwrap();
    ours.gossip.subscribe(topic(2)).await.unwrap();
    ours.connect(&theirs).await;
    ours.publish(topic(1), frame_of(1, false)).await;
    theirs.message().await;
    // No event says that something stays; three times the idle time does.
    let lost = ours.until(|e| matches!(e, GossipEvent::PeerDisconnected { .. }).then_some(()));
    assert!(tokio::time::timeout(Duration::from_secs(3), lost).await.is_err(), "the connection was closed");
    theirs.publish(topic(2), frame_of(2, false)).await;
    assert_eq!(ours.message().await.1, frame_of(2, false));
    ours.end().await;
    ipfs.exit_daemon().await;
}
