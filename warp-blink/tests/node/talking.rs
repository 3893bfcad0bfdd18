//! Messages between nodes.

use warp_blink::ports::gossip::{GossipEvent, MAX_MESSAGE, PublishError};

use super::*;

#[tokio::test]
async fn both_ways_over_tcp() {
    both_ways(TCP).await;
}

#[tokio::test]
async fn both_ways_over_quic() {
    both_ways(QUIC).await;
}

async fn both_ways(listen: &str) {
    let (mut a, mut b) = (Node::start(listen).await, Node::start(listen).await);
    assert_eq!(a.gossip.publish(topic(1), frame_of(0, false)).await, Err(PublishError::NoPeers));
    a.connect(&b).await;
    assert_eq!(a.gossip.publish(topic(1), frame_of(0, false)).await, Err(PublishError::NoPeers));
    b.gossip.subscribe(topic(1)).await.unwrap();
    a.gossip.subscribe(topic(2)).await.unwrap();
    // A message that found nobody was not kept, and may be sent again.
    a.subscribed(topic(1)).await;
    a.gossip.publish(topic(1), frame_of(0, false)).await.unwrap();
    assert_eq!(b.message().await, (topic(1), frame_of(0, false)));
    b.publish(topic(2), frame_of(1, true)).await;
    assert_eq!(a.message().await, (topic(2), frame_of(1, true)));
    assert_eq!(a.gossip.publish(topic(1), frame_of(0, false)).await, Err(PublishError::Duplicate));
    assert_eq!(a.gossip.counters().published, 1);
    assert_eq!(a.gossip.counters().without_peers, 2);
    assert_eq!(a.gossip.connected(), [(b.id(), Via::Direct)]);
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn messages_of_every_size_cross_and_leave_the_way_open() {
    let (mut a, mut b) = pair(TCP).await;
    let too_large = a.gossip.publish(topic(1), vec![0; MAX_MESSAGE + 1].into()).await;
    assert_eq!(too_large, Err(PublishError::TooLarge { size: MAX_MESSAGE + 1 }));
    // The largest one crosses the wire, to be judged by its shape. Were it too large for the wire, the stream would
    // end, and with the fifth stream the connection.
    for fill in 0..6 {
        a.publish(topic(1), vec![fill; MAX_MESSAGE].into()).await;
        b.publish(topic(1), vec![100 + fill; MAX_MESSAGE].into()).await;
        a.publish(topic(1), frame_of(fill, true)).await;
        b.publish(topic(1), frame_of(100 + fill, true)).await;
        assert_eq!(b.message().await.1, frame_of(fill, true));
        assert_eq!(a.message().await.1, frame_of(100 + fill, true));
        for node in [&a, &b] {
            let counters = node.gossip.counters();
            assert_eq!(counters.rejected + counters.ignored, u64::from(fill) + 1);
        }
    }
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn wrong_shapes_change_nothing_but_counters() {
    let (mut a, mut b) = pair(QUIC).await;
    for size in [0, 1, 11, 12, 100, 16_000] {
        a.publish(topic(1), vec![VERSION; size].into()).await;
        a.publish(topic(1), vec![VERSION + 1; size + 2].into()).await;
    }
    a.publish(topic(1), frame_of(9, false)).await;
    assert_eq!(b.message().await.1, frame_of(9, false), "the first that is told");
    let counters = b.gossip.counters();
    assert_eq!((counters.received, counters.rejected, counters.ignored), (1, 6, 6));
    a.end().await;
    b.end().await;
}

/// Two nodes that hear topic 1, each connected only to the one in the middle, which forwards it or hears it too.
async fn row(forward: bool) -> (Node, Node, Node) {
    let (mut a, middle, mut b) = (Node::start(TCP).await, Node::start(TCP).await, Node::start(TCP).await);
    if forward {
        middle.gossip.forward(topic(1)).await.unwrap();
    } else {
        middle.gossip.subscribe(topic(1)).await.unwrap();
    }
    for node in [&a, &b] {
        node.gossip.subscribe(topic(1)).await.unwrap();
    }
    for node in [&mut a, &mut b] {
        node.connect(&middle).await;
        node.subscribed(topic(1)).await;
    }
    (a, middle, b)
}

#[tokio::test]
async fn a_forwarder_hands_on_unheard_and_nobody_hears_himself() {
    let (mut a, mut middle, mut b) = row(true).await;
    a.publish(topic(1), frame_of(1, false)).await;
    assert_eq!(b.message().await.1, frame_of(1, false));
    // What comes back to `a` would come before this.
    b.publish(topic(1), frame_of(2, false)).await;
    assert_eq!(a.message().await.1, frame_of(2, false));
    assert_eq!(a.gossip.counters().received, 1);
    let counters = middle.gossip.counters();
    assert_eq!((counters.received, counters.forwarded), (0, 2));
    // The gate knows the messages that make meshes by how they print. They come before what is handed on.
    assert_eq!((counters.control_stopped, b.gossip.counters().control_stopped), (0, 0));
    // It may read as well, and go on forwarding.
    middle.gossip.subscribe(topic(1)).await.unwrap();
    a.publish(topic(1), frame_of(3, false)).await;
    assert_eq!(middle.message().await.1, frame_of(3, false));
    assert_eq!(b.message().await.1, frame_of(3, false));
    for node in [a, b, middle] {
        node.end().await;
    }
}

/// A flood on an inbox would otherwise come out of its owner again, once for each of its forwarders.
#[tokio::test]
async fn a_reader_hands_on_what_has_many_readers_and_nothing_else() {
    let (mut a, mut middle, mut b) = row(false).await;
    a.publish(topic(1), frame_of(1, false)).await;
    assert_eq!(middle.message().await.1, frame_of(1, false));
    let mut call = vec![2; 298];
    (call[0], call[1]) = (VERSION, 4);
    a.publish(topic(1), call.clone().into()).await;
    assert_eq!(middle.message().await.1, call);
    assert_eq!(b.message().await.1, call, "the first that arrives");
    assert_eq!(middle.gossip.counters().forwarded, 1);
    for node in [a, b, middle] {
        node.end().await;
    }
}

#[tokio::test]
async fn whoever_unsubscribed_hears_nothing_more() {
    let (mut a, b) = pair(TCP).await;
    b.gossip.unsubscribe(topic(1)).await.unwrap();
    a.until(|e| (*e == GossipEvent::PeerUnsubscribed { topic: topic(1) }).then_some(())).await;
    assert_eq!(a.gossip.publish(topic(1), frame_of(1, false)).await, Err(PublishError::NoPeers));
    b.gossip.subscribe(topic(1)).await.unwrap();
    a.subscribed(topic(1)).await;
    // Straight after, although gossipsub keeps such a node out of the mesh for ten seconds.
    let mut b = b;
    a.publish(topic(1), frame_of(2, false)).await;
    assert_eq!(b.message().await.1, frame_of(2, false));
    a.end().await;
    b.end().await;
}
