//! Opening and losing connections.

use warp_blink::{
    driver::node::NodeError,
    ports::gossip::{ConnectError, GossipEvent},
};

use super::*;

#[tokio::test]
async fn every_address_says_why_it_failed() {
    let a = Node::start(TCP).await;
    let nobody = key().node_id();
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let texts = [format!("/ip4/127.0.0.1/tcp/{free}"), "/ip4/127.0.0.1".into(), "/dnsaddr/localhost".into()];
    let error = a.gossip.connect(&nobody, &texts).await.unwrap_err();
    let ConnectError::Failed(failures) = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 3, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(a.gossip.connect(&nobody, &[]).await, Err(ConnectError::NoAddresses));
    assert_eq!(a.gossip.connect(&a.id(), &a.gossip.listening()).await, Err(ConnectError::Itself));
    a.end().await;
}

#[tokio::test]
async fn a_stranger_at_the_address_is_told_apart_and_passed_over() {
    for listen in [TCP, QUIC] {
        let (a, stranger, b) =
            (Node::start(listen).await, Node::start(listen).await, Node::start(listen).await);
        let bare = |node: &Node| {
            node.gossip
                .listening()
                .iter()
                .map(|a| a.split("/p2p/").next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let nobody = key().node_id();
        let error = a.gossip.connect(&nobody, &bare(&stranger)).await.unwrap_err();
        // TCP meets the stranger first; QUIC's handshake fails with one.
        match &error {
            ConnectError::WrongNode { expected, found, .. } => {
                assert_eq!((*expected, *found), (nobody, stranger.id()));
            }
            ConnectError::Failed(failures) => assert_eq!(failures.len(), 1, "{error}"),
            _ => panic!("{error}"),
        }
        let both = [bare(&stranger), bare(&b)].concat();
        assert_eq!(a.gossip.connect(&b.id(), &both).await, Ok(Via::Direct));
        for node in [a, stranger, b] {
            node.end().await;
        }
    }
}

#[tokio::test]
async fn both_sides_hear_of_a_connection_and_of_its_end() {
    let (mut a, mut b) = (Node::start(TCP).await, Node::start(TCP).await);
    let (a_id, b_id) = (a.id(), b.id());
    a.connect(&b).await;
    // Again is the same connection.
    a.connect(&b).await;
    assert_eq!(a.gossip.connect(&b_id, &[]).await, Ok(Via::Direct));
    let connected = |node| {
        move |e: &GossipEvent| (*e == GossipEvent::PeerConnected { node, via: Via::Direct }).then_some(())
    };
    let lost = |node| move |e: &GossipEvent| (*e == GossipEvent::PeerDisconnected { node }).then_some(());
    a.until(connected(b_id)).await;
    b.until(connected(a_id)).await;
    b.gossip.disconnect(&a_id).await.unwrap();
    a.until(lost(b_id)).await;
    b.until(lost(a_id)).await;
    assert!(a.gossip.connected().is_empty() && b.gossip.connected().is_empty());
    // And anew, from the other side.
    b.connect(&a).await;
    a.until(connected(b_id)).await;
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn both_dial_at_once_and_both_succeed() {
    let (mut a, mut b) = (Node::start(QUIC).await, Node::start(QUIC).await);
    a.gossip.subscribe(topic(1)).await.unwrap();
    b.gossip.subscribe(topic(1)).await.unwrap();
    tokio::join!(a.connect(&b), b.connect(&a));
    a.publish(topic(1), frame_of(1, false)).await;
    assert_eq!(b.message().await.1, frame_of(1, false));
    b.publish(topic(1), frame_of(2, false)).await;
    assert_eq!(a.message().await.1, frame_of(2, false));
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn a_node_that_does_not_listen_reaches_others() {
    let mut b = Node::start(TCP).await;
    let a = NodeConfig::new(key()).with_listen(Vec::<String>::new()).start().await.unwrap();
    let a = Node::of(a);
    assert!(a.gossip.listening().is_empty());
    a.gossip.subscribe(topic(1)).await.unwrap();
    a.connect(&b).await;
    let mut a = a;
    b.publish(topic(1), frame_of(1, false)).await;
    assert_eq!(a.message().await.1, frame_of(1, false));
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let held = format!("/ip4/127.0.0.1/tcp/{port}");
    for address in [held.as_str(), "/ip4/192.0.2.1/tcp/0", "/ip4/127.0.0.1/sctp/1", "127.0.0.1:1"] {
        let error = NodeConfig::new(key()).with_listen([TCP, address]).start().await.unwrap_err();
        assert!(matches!(&error, NodeError::Listen { address: a, .. } if a == address), "{error}");
    }
}

#[tokio::test]
async fn two_nodes_do_not_share_a_port() {
    let first = Node::start(TCP).await;
    let address = first.gossip.listening().remove(0).split("/p2p/").next().unwrap().to_owned();
    let error = NodeConfig::new(key()).with_listen([&address]).start().await.unwrap_err();
    assert!(matches!(error, NodeError::Listen { .. }), "{error}");
    first.end().await;
    // Free again, it can be taken again.
    Node::start(&address).await.end().await;
}
