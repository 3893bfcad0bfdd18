//! The ends of nodes.

use warp_blink::ports::gossip::{GossipClosed, GossipEvent, NodeState, OfflineCause};

use super::*;

const GONE: NodeState = NodeState::Offline { cause: OfflineCause::Stopped };

async fn drain(node: &mut Node) -> Vec<GossipEvent> {
    let mut events = Vec::new();
    while let Some(event) = tokio::time::timeout(STUCK, node.events.recv()).await.expect("the events end") {
        events.push(event);
    }
    events
}

#[tokio::test]
async fn a_shutdown_is_complete_and_the_other_side_knows_at_once() {
    for listen in [TCP, QUIC] {
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let (mut a, mut b) = pair(listen).await;
        assert!(tasks() > before);
        let a_id = a.id();
        a.gossip.shutdown().await;
        a.gossip.shutdown().await;
        b.until(|e| (*e == GossipEvent::PeerDisconnected { node: a_id }).then_some(())).await;
        let events = drain(&mut a).await;
        assert_eq!(events.last(), Some(&GossipEvent::Stopped));
        assert!(events.contains(&GossipEvent::State(GONE)));
        assert_eq!(a.gossip.state(), GONE);
        assert_eq!(a.gossip.subscribe(topic(3)).await, Err(GossipClosed.into()));
        assert_eq!(a.gossip.publish(topic(1), frame_of(1, false)).await, Err(GossipClosed.into()));
        assert_eq!(a.gossip.connect(&b.id(), &b.gossip.listening()).await, Err(GossipClosed.into()));
        b.end().await;
        // The runtime has one thread, so what was aborted is gone as soon as it had its turn.
        let gone = async {
            while tasks() > before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(STUCK, gone).await.expect("no task is left");
    }
}

#[tokio::test]
async fn a_dropped_node_ends_as_well() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let Node { gossip, events } = Node::start(TCP).await;
    drop(gossip);
    let mut rest = events;
    let mut last = None;
    while let Some(event) = tokio::time::timeout(STUCK, rest.recv()).await.expect("the events end") {
        last = Some(event);
    }
    assert_eq!(last, Some(GossipEvent::Stopped));
    let gone = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(STUCK, gone).await.expect("no task is left");
}

#[tokio::test]
async fn an_app_that_ends_its_node_is_noticed() {
    let (ipfs, mut node) = app::start(|b| b).await;
    ipfs.exit_daemon().await;
    let events = drain(&mut node).await;
    assert_eq!(events.last(), Some(&GossipEvent::Stopped));
    assert!(events.contains(&GossipEvent::State(GONE)));
    assert_eq!(node.gossip.publish(topic(1), frame_of(1, false)).await, Err(GossipClosed.into()));
}
