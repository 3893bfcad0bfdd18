use futures::FutureExt;

use super::*;
use crate::{
    id::{Identity, NodeKey},
    ports::gossip::MAX_QUEUED_PER_TOPIC,
    proto::signal::VERSION,
    wire::PeerSeed,
};

fn node(n: u8) -> NodeId {
    NodeKey::from_seed([n; 32]).node_id()
}

fn topic(n: u8) -> Topic {
    Topic::peer(&PeerSeed::from_bytes([n; 32]))
}

/// A frame of the right shape: a transport message of the smallest bucket.
fn frame_of(fill: u8) -> Bytes {
    let mut frame = vec![fill; 546];
    (frame[0], frame[1]) = (VERSION, 3);
    assert!(frame::check(&frame).is_ok());
    frame.into()
}

struct Peer {
    gossip: MemoryGossip,
    events: GossipEvents,
}

impl Peer {
    fn new(hub: &MemoryHub, n: u8) -> Self {
        let gossip = hub.endpoint(node(n));
        let mut events = gossip.take_events().unwrap();
        assert_eq!(events.try_recv(), Some(GossipEvent::State(NodeState::Public)));
        assert!(matches!(events.try_recv(), Some(GossipEvent::Listening { .. })));
        assert!(gossip.take_events().is_none(), "there is one reader");
        Self { gossip, events }
    }

    fn heard(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        while let Some(event) = self.events.try_recv() {
            if let GossipEvent::Message { data, .. } = event {
                heard.push(data[545]);
            }
        }
        heard
    }

    fn publish(&self, fill: u8) -> Result<(), PublishError> {
        self.gossip.publish(topic(1), frame_of(fill)).now_or_never().unwrap()
    }
}

fn pair() -> (MemoryHub, Peer, Peer) {
    let hub = MemoryHub::new();
    let (a, b) = (Peer::new(&hub, 1), Peer::new(&hub, 2));
    a.gossip.connect(&node(2), &[]).now_or_never().unwrap().unwrap();
    b.gossip.subscribe(topic(1)).now_or_never().unwrap().unwrap();
    (hub, a, b)
}

#[tokio::test]
async fn a_message_reaches_the_connected_subscribers_and_nobody_else() {
    let hub = MemoryHub::new();
    let [a, mut b, mut c, mut d] = [1, 2, 3, 4].map(|n| Peer::new(&hub, n));
    assert_eq!(a.publish(1), Err(PublishError::NoPeers));
    for other in [2, 3] {
        assert_eq!(a.gossip.connect(&node(other), &[]).await, Ok(Via::Direct));
    }
    a.gossip.subscribe(topic(1)).await.unwrap();
    assert_eq!(a.publish(1), Err(PublishError::NoPeers), "oneself does not count");
    b.gossip.subscribe(topic(1)).await.unwrap();
    d.gossip.subscribe(topic(1)).await.unwrap();
    a.publish(2).unwrap();
    assert_eq!((b.heard(), c.heard(), d.heard()), (vec![2], vec![], vec![]));
    b.publish(3).unwrap();
    let mut a = a;
    assert_eq!(a.heard(), vec![3]);
    b.gossip.unsubscribe(topic(1)).await.unwrap();
    assert_eq!(a.publish(4), Err(PublishError::NoPeers));
    assert_eq!(a.gossip.counters().published, 1);
    assert_eq!(a.gossip.counters().without_peers, 3);
}

#[tokio::test]
async fn who_published_is_told_of_subscribers() {
    let hub = MemoryHub::new();
    let (mut a, b) = (Peer::new(&hub, 1), Peer::new(&hub, 2));
    a.gossip.connect(&node(2), &[]).await.unwrap();
    b.gossip.subscribe(topic(2)).await.unwrap();
    assert_eq!(a.publish(1), Err(PublishError::NoPeers));
    b.gossip.subscribe(topic(1)).await.unwrap();
    assert_eq!(a.events.try_recv(), Some(GossipEvent::PeerConnected { node: node(2), via: Via::Direct }));
    assert_eq!(a.events.try_recv(), Some(GossipEvent::PeerSubscribed { topic: topic(1) }));
    assert_eq!(a.events.try_recv(), None, "not of topics that it has nothing to do with");
}

#[tokio::test]
async fn who_watches_is_told_of_subscribers_old_and_new() {
    let hub = MemoryHub::new();
    let (mut a, b) = (Peer::new(&hub, 1), Peer::new(&hub, 2));
    b.gossip.subscribe(topic(1)).await.unwrap();
    a.gossip.connect(&node(2), &[]).await.unwrap();
    a.gossip.watch([topic(1), topic(2)].into()).await.unwrap();
    b.gossip.subscribe(topic(2)).await.unwrap();
    a.gossip.watch([topic(2), topic(3)].into()).await.unwrap();
    b.gossip.unsubscribe(topic(1)).await.unwrap();
    b.gossip.subscribe(topic(1)).await.unwrap();
    let told: Vec<_> = std::iter::from_fn(|| a.events.try_recv()).skip(1).collect();
    assert_eq!(told, [1, 2].map(|n| GossipEvent::PeerSubscribed { topic: topic(n) }));
}

#[test]
fn fates_are_played_out_exactly() {
    let (hub, a, mut b) = pair();
    hub.set_fate(|delivery| match delivery.number {
        0 => Fate::Drop,
        1 => Fate::Repeat(3),
        2 => Fate::Delay(2),
        6 => Fate::Delay(1000),
        _ => Fate::Deliver,
    });
    (0..8).for_each(|n| a.publish(n).unwrap());
    assert_eq!(b.heard(), [1, 1, 1, 3, 4, 2, 5, 7]);
    hub.release();
    assert_eq!(b.heard(), [6]);
}

#[test]
fn a_delayed_message_does_not_outlive_the_subscription() {
    let (hub, a, mut b) = pair();
    hub.set_fate(|_| Fate::Delay(10));
    a.publish(1).unwrap();
    b.gossip.unsubscribe(topic(1)).now_or_never().unwrap().unwrap();
    hub.release();
    assert_eq!(b.heard(), [0; 0]);
}

#[tokio::test]
async fn a_cut_ends_the_connection_and_prevents_the_next() {
    let (hub, mut a, mut b) = pair();
    while a.events.try_recv().is_some() {}
    hub.set_link(&node(2), &node(1), false);
    assert_eq!(a.events.try_recv(), Some(GossipEvent::PeerDisconnected { node: node(2) }));
    assert_eq!(a.publish(1), Err(PublishError::NoPeers));
    let error = a.gossip.connect(&node(2), &["/memory/1".into()]).await.unwrap_err();
    assert!(matches!(error, ConnectError::Failed(failures) if failures[0].address == "/memory/1"));
    hub.set_link(&node(1), &node(2), true);
    a.gossip.connect(&node(2), &[]).await.unwrap();
    a.publish(2).unwrap();
    assert_eq!(b.heard(), [2]);
}

#[tokio::test]
async fn wrong_shapes_change_nothing_but_counters() {
    let (_hub, a, mut b) = pair();
    for size in [0, 1, 11, 12, 100, 16_000] {
        a.gossip.publish(topic(1), vec![VERSION; size].into()).await.unwrap();
    }
    a.gossip.publish(topic(1), vec![99; 600].into()).await.unwrap();
    let too_large = a.gossip.publish(topic(1), vec![0; MAX_MESSAGE + 1].into()).await;
    assert_eq!(too_large, Err(PublishError::TooLarge { size: MAX_MESSAGE + 1 }));
    assert_eq!(b.heard(), [0; 0]);
    let counters = b.gossip.counters();
    assert_eq!((counters.received, counters.rejected, counters.ignored), (0, 6, 1));
}

#[tokio::test]
async fn a_node_that_ends_says_so_and_refuses_everything() {
    let (_hub, a, mut b) = pair();
    b.gossip.shutdown().await;
    b.gossip.shutdown().await;
    let mut last = None;
    while let Some(event) = b.events.recv().await {
        last = Some(event);
    }
    assert_eq!(last, Some(GossipEvent::Stopped));
    assert_eq!(b.gossip.state(), NodeState::Offline { cause: OfflineCause::Stopped });
    assert_eq!(b.gossip.subscribe(topic(1)).await, Err(GossipClosed.into()));
    assert_eq!(b.publish(1), Err(GossipClosed.into()));
    assert_eq!(b.gossip.connect(&node(1), &[]).await, Err(GossipClosed.into()));
    assert!(a.gossip.connected().is_empty());
    assert_eq!(a.publish(1), Err(PublishError::NoPeers));
}

#[tokio::test]
async fn commands_with_nonsense_are_refused() {
    let (_hub, a, _b) = pair();
    assert_eq!(a.gossip.connect(&node(1), &[]).await, Err(ConnectError::Itself));
    assert_eq!(a.gossip.connect(&node(9), &[]).await, Err(ConnectError::NoAddresses));
    let many = vec![String::new(); MAX_ADDRESSES + 1];
    assert_eq!(
        a.gossip.connect(&node(9), &many).await,
        Err(ConnectError::TooManyAddresses(MAX_ADDRESSES + 1))
    );
    for n in 0..=u8::MAX {
        a.gossip.subscribe(topic(n)).await.unwrap();
    }
    let one_more = Topic::inbox(&Identity::from_seed([1; 32]).public());
    assert_eq!(a.gossip.subscribe(one_more).await, Err(SubscribeError::TooMany));
    assert_eq!(a.gossip.subscribe(topic(0)).await, Ok(()), "twice is once");
}

#[tokio::test]
async fn who_forwards_is_a_subscriber_to_others_and_hears_nothing() {
    let hub = MemoryHub::new();
    let (mut a, mut b) = (Peer::new(&hub, 1), Peer::new(&hub, 2));
    a.gossip.connect(&node(2), &[]).await.unwrap();
    assert_eq!(a.publish(1), Err(PublishError::NoPeers));
    b.gossip.forward(topic(1)).await.unwrap();
    let told = std::iter::from_fn(|| a.events.try_recv()).last();
    assert_eq!(told, Some(GossipEvent::PeerSubscribed { topic: topic(1) }));
    a.publish(2).unwrap();
    // It may hear as well, which tells the others nothing new.
    b.gossip.subscribe(topic(1)).await.unwrap();
    assert_eq!(a.events.try_recv(), None);
    a.publish(3).unwrap();
    assert_eq!(b.heard(), [3]);
    b.gossip.unsubscribe(topic(1)).await.unwrap();
    assert_eq!(a.publish(4), Err(PublishError::NoPeers), "both ended");
}

#[tokio::test]
async fn hostile_flood_of_one_topic_leaves_room_for_the_others() {
    let (_hub, a, mut b) = pair();
    b.gossip.subscribe(topic(2)).await.unwrap();
    for _ in 0..500 {
        a.publish(0).unwrap();
    }
    a.gossip.publish(topic(2), frame_of(7)).await.unwrap();
    let counters = b.gossip.counters();
    assert_eq!(counters.dropped_messages, 500 - MAX_QUEUED_PER_TOPIC as u64);
    assert_eq!(counters.dropped_topic_full, counters.dropped_messages);
    assert_eq!(b.heard()[..2], [0, 7], "the second that is read");
}
