//! Relays on loopback: places there, connections through them, and what they show.

use warp_blink::{
    RelayConfig, RelayLimits, RelayNode,
    driver::node::NodeFinding,
    ports::gossip::{Advice, ConnectError, GossipEvent, LocalCause, NodeState, OfflineCause},
};

use super::*;

async fn relay(limits: RelayLimits) -> RelayNode {
    relay_at(&key(), TCP, limits).await
}

async fn relay_at(key: &NodeKey, listen: &str, limits: RelayLimits) -> RelayNode {
    let config = RelayConfig::new(NodeKey::from_seed(*key.expose_seed())).with_listen([listen]);
    config.with_limits(limits).start().await.expect("a relay starts on loopback")
}

/// A node that nobody reaches straight, with these relays.
async fn hidden(relays: &[&RelayNode]) -> Node {
    let config = NodeConfig::new(key()).with_listen(Vec::<String>::new());
    Node::of(config.with_relays(addresses(relays)).with_hole_punching(false).start().await.unwrap())
}

fn addresses(relays: &[&RelayNode]) -> Vec<String> {
    relays.iter().flat_map(|relay| relay.addresses()).collect()
}

impl Node {
    /// Waits for a place at this relay, and says where others reach this node there.
    async fn placed(&mut self, relay: NodeId) -> Vec<String> {
        let at = |state: &NodeState| matches!(state, NodeState::Relayed { by, .. } if by.contains(&relay));
        if !at(&self.gossip.state()) {
            self.until(|e| matches!(e, GossipEvent::State(state) if at(state)).then_some(())).await;
        }
        let through = format!("/p2p/{relay}/p2p-circuit/p2p/{}", self.id());
        let mine: Vec<_> = self.gossip.listening().into_iter().filter(|a| a.contains(&through)).collect();
        assert!(!mine.is_empty(), "{:?} names {through}", self.gossip.listening());
        mine
    }

    /// Waits for the loss of its places.
    async fn displaced(&mut self) {
        let lost = |state: &NodeState| !matches!(state, NodeState::Relayed { .. });
        if !lost(&self.gossip.state()) {
            self.until(|e| matches!(e, GossipEvent::State(state) if lost(state)).then_some(())).await;
        }
    }
}

/// Each says something that the other hears.
async fn talk(a: &mut Node, b: &mut Node, n: u8) {
    a.gossip.subscribe(topic(n)).await.unwrap();
    b.gossip.subscribe(topic(n + 1)).await.unwrap();
    a.publish(topic(n + 1), frame_of(n, true)).await;
    assert_eq!(b.message().await, (topic(n + 1), frame_of(n, true)));
    b.publish(topic(n), frame_of(n, false)).await;
    assert_eq!(a.message().await, (topic(n), frame_of(n, false)));
}

#[tokio::test]
async fn two_that_nobody_reaches_talk_through_a_relay() {
    for listen in [TCP, QUIC] {
        let relay = relay_at(&key(), listen, RelayLimits::default()).await;
        let (mut a, mut b) = (hidden(&[]).await, hidden(&[&relay]).await);
        let at = b.placed(relay.node()).await;
        assert_eq!(a.gossip.connect(&b.id(), &at).await, Ok(Via::Relay));
        let (a_id, b_id) = (a.id(), b.id());
        a.until(|e| (*e == GossipEvent::PeerConnected { node: b_id, via: Via::Relay }).then_some(())).await;
        b.until(|e| (*e == GossipEvent::PeerConnected { node: a_id, via: Via::Relay }).then_some(())).await;
        talk(&mut a, &mut b, 1).await;
        assert!(relay.connected() >= 2);
        a.end().await;
        b.end().await;
        relay.shutdown().await;
    }
}

#[tokio::test]
async fn a_relay_that_starts_anew_keeps_a_place_again() {
    let name = key();
    let first = relay_at(&name, TCP, RelayLimits::default()).await;
    let listen = first.addresses()[0].split("/p2p/").next().unwrap().to_owned();
    let mut b = hidden(&[&first]).await;
    b.placed(first.node()).await;
    first.shutdown().await;
    b.displaced().await;
    assert!(b.gossip.listening().is_empty(), "nobody is told of a place that is gone");
    let second = relay_at(&name, &listen, RelayLimits::default()).await;
    let at = b.placed(second.node()).await;
    let mut a = hidden(&[]).await;
    assert_eq!(a.gossip.connect(&b.id(), &at).await, Ok(Via::Relay));
    talk(&mut a, &mut b, 1).await;
    for node in [a, b] {
        node.end().await;
    }
    second.shutdown().await;
}

#[tokio::test]
async fn a_place_is_renewed_before_its_time_is_over() {
    let time = Duration::from_secs(4);
    let relay = relay(RelayLimits::default().with_place_time(time)).await;
    let mut b = hidden(&[&relay]).await;
    let at = b.placed(relay.node()).await;
    // No event says that something stays; half of its time more than all of it does.
    let lost = |e: &GossipEvent| matches!(e, GossipEvent::State(_)).then_some(());
    assert!(tokio::time::timeout(time + time / 2, b.until(lost)).await.is_err(), "the place was lost");
    let mut a = hidden(&[]).await;
    assert_eq!(a.gossip.connect(&b.id(), &at).await, Ok(Via::Relay));
    talk(&mut a, &mut b, 1).await;
    for node in [a, b] {
        node.end().await;
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn a_full_relay_refuses_and_a_place_that_becomes_free_is_taken() {
    let relay = relay(RelayLimits::default().with_places(1)).await;
    let mut first = hidden(&[&relay]).await;
    first.placed(relay.node()).await;
    let mut second = hidden(&[&relay]).await;
    let relay_id = relay.node();
    second
        .until(|e| (*e == GossipEvent::PeerConnected { node: relay_id, via: Via::Direct }).then_some(()))
        .await;
    let state = second.gossip.state();
    let local = NodeState::LocalOnly {
        cause: LocalCause::NotListening,
        advice: vec![Advice::GiveRelay, Advice::ListenOnAll],
    };
    assert_eq!(state, local);
    first.end().await;
    second.placed(relay.node()).await;
    second.end().await;
    relay.shutdown().await;
}

#[tokio::test]
async fn a_circuit_that_is_used_up_is_cut_and_can_be_made_anew() {
    let relay = relay(RelayLimits::default().with_circuit(Duration::from_secs(2), 4 << 20)).await;
    let (mut a, mut b) = (hidden(&[]).await, hidden(&[&relay]).await);
    let at = b.placed(relay.node()).await;
    let (a_id, b_id) = (a.id(), b.id());
    for n in [1, 3] {
        assert_eq!(a.gossip.connect(&b_id, &at).await, Ok(Via::Relay));
        talk(&mut a, &mut b, n).await;
        a.until(|e| (*e == GossipEvent::PeerDisconnected { node: b_id }).then_some(())).await;
        b.until(|e| (*e == GossipEvent::PeerDisconnected { node: a_id }).then_some(())).await;
    }
    b.placed(relay.node()).await;
    for node in [a, b] {
        node.end().await;
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn the_way_becomes_straight_where_that_is_possible() {
    let relay = relay(RelayLimits::default()).await;
    let start = || async {
        let config = NodeConfig::new(key()).with_listen([TCP]).with_relays(addresses(&[&relay]));
        Node::of(config.start().await.unwrap())
    };
    let (mut a, mut b) = (start().await, start().await);
    let (at, b_id) = (b.placed(relay.node()).await, b.id());
    a.placed(relay.node()).await;
    assert_eq!(a.gossip.connect(&b_id, &at).await, Ok(Via::Relay));
    a.until(|e| (*e == GossipEvent::PeerConnected { node: b_id, via: Via::Direct }).then_some(())).await;
    talk(&mut a, &mut b, 1).await;
    for node in [a, b] {
        node.end().await;
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn under_relay_only_nothing_leads_straight_and_no_address_is_told() {
    let (relay, other) = (relay(RelayLimits::default()).await, relay(RelayLimits::default()).await);
    // The callee is an app's node, which knows what others tell of themselves.
    let (ipfs, mut callee) = app::start(|builder| builder.with_relay(false)).await;
    for relay in [&relay, &other] {
        let circuit = format!("{}/p2p-circuit", relay.addresses()[0]);
        ipfs.add_listening_address(circuit.parse().unwrap()).await.unwrap();
    }
    let through = |relay: &RelayNode| {
        let part = format!("/p2p/{}/p2p-circuit", relay.node());
        callee.gossip.listening().into_iter().filter(|a| a.contains(&part)).collect::<Vec<_>>()
    };
    let straight: Vec<String> =
        callee.gossip.listening().into_iter().filter(|a| !a.contains("/p2p-circuit")).collect();
    let (named, strange) = (through(&relay), through(&other));
    assert!(!straight.is_empty() && !named.is_empty() && !strange.is_empty());

    // Listening is given up, not only forgotten.
    let config = NodeConfig::new(key()).with_listen([TCP]).with_relays(addresses(&[&relay]));
    let mut caller = Node::of(config.with_relay_only(true).start().await.unwrap());
    let mine = caller.placed(relay.node()).await;
    assert_eq!(caller.gossip.listening(), mine, "it listens behind its relay only");
    for (addresses, why) in [(&straight, "straight"), (&strange, "another one")] {
        let refused = caller.gossip.connect(&callee.id(), addresses).await.unwrap_err();
        assert!(matches!(&refused, ConnectError::Refused(said) if said.contains(why)), "{refused}");
        assert!(callee.gossip.connected().iter().all(|(node, _)| *node != caller.id()));
    }
    assert_eq!(caller.gossip.connect(&callee.id(), &named).await, Ok(Via::Relay));
    talk(&mut caller, &mut callee, 1).await;
    // What it tells others of itself is where it listens.
    assert_eq!(caller.gossip.listening(), mine);
    assert_eq!(caller.gossip.connected().iter().find(|(n, _)| *n == callee.id()).unwrap().1, Via::Relay);
    caller.end().await;
    callee.end().await;
    ipfs.exit_daemon().await;
    relay.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn under_relay_only_nobody_else_says_where_a_relay_is() {
    let relay = relay(RelayLimits::default()).await;
    let config = NodeConfig::new(key()).with_relays(addresses(&[&relay])).with_relay_only(true);
    let mut caller = Node::of(config.start().await.unwrap());
    caller.placed(relay.node()).await;
    let name = relay.node();
    relay.shutdown().await;
    caller.displaced().await;
    // Whoever is called says that the relay lives here, and waits.
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let at = format!("/ip4/127.0.0.1/tcp/{}/p2p/{name}/p2p-circuit", trap.local_addr().unwrap().port());
    let refused = caller.gossip.connect(&key().node_id(), &[at]).await.unwrap_err();
    assert!(matches!(&refused, ConnectError::Refused(said) if said.contains("not connected")), "{refused}");
    assert_eq!(trap.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody has knocked");
    caller.end().await;
}

#[tokio::test]
async fn a_relay_dials_back_and_the_place_there_stays() {
    let relay = relay(RelayLimits::default()).await;
    let config = NodeConfig::new(key()).with_listen([TCP]).with_relays(addresses(&[&relay]));
    let mut b = Node::of(config.start().await.unwrap());
    let at = b.placed(relay.node()).await;
    // No event says so: who gets through within one machine says nothing of others. It is asked within five seconds.
    let dialed = async {
        while b.gossip.counters().dialed_back == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(STUCK, dialed).await.expect("the relay gets through");
    while let Some(event) = b.events.try_recv() {
        let lost = matches!(
            event,
            GossipEvent::PeerDisconnected { .. }
                | GossipEvent::State(_)
                | GossipEvent::ListeningNoMore { .. }
        );
        assert!(!lost, "{event:?}");
    }
    let mut a = hidden(&[]).await;
    assert_eq!(a.gossip.connect(&b.id(), &at).await, Ok(Via::Relay));
    talk(&mut a, &mut b, 1).await;
    for node in [a, b] {
        node.end().await;
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn a_bootstrap_node_is_asked_for_a_place_unless_a_relay_was_named() {
    let (relay, bootstrap) = (relay(RelayLimits::default()).await, relay(RelayLimits::default()).await);
    let finding = NodeFinding::default().with_bootstrap([bootstrap.node()]);
    let config = || NodeConfig::new(key()).with_listen(Vec::<String>::new()).with_finding(finding.clone());
    let mut b = Node::of(config().start().await.unwrap());
    b.gossip.connect(&bootstrap.node(), &bootstrap.addresses()).await.unwrap();
    b.placed(bootstrap.node()).await;
    // By name: this one, and one more.
    let mut c = Node::of(config().with_relays(addresses(&[&relay])).start().await.unwrap());
    c.placed(relay.node()).await;
    c.gossip.connect(&bootstrap.node(), &bootstrap.addresses()).await.unwrap();
    c.placed(bootstrap.node()).await;
    for node in [b, c] {
        node.end().await;
    }
    relay.shutdown().await;
    bootstrap.shutdown().await;
}

#[tokio::test]
async fn a_node_says_how_it_stands() {
    let local = |cause, advice: &[Advice]| NodeState::LocalOnly { cause, advice: advice.to_vec() };
    let listening = Node::start(TCP).await;
    assert_eq!(listening.gossip.state(), local(LocalCause::ThisMachineOnly, &[Advice::ListenOnAll]));
    let relay = relay(RelayLimits::default()).await;
    let mut b = hidden(&[&relay]).await;
    let first = b.until(|e| match e {
        GossipEvent::State(state) => Some(state.clone()),
        _ => None,
    });
    let quiet = local(LocalCause::NotListening, &[Advice::GiveRelay, Advice::ListenOnAll]);
    assert_eq!(first.await, quiet);
    b.placed(relay.node()).await;
    relay.shutdown().await;
    b.displaced().await;
    b.gossip.shutdown().await;
    assert_eq!(b.gossip.state(), NodeState::Offline { cause: OfflineCause::Stopped });
    listening.end().await;
}

#[tokio::test]
async fn what_is_no_relay_is_refused_at_the_start() {
    let relay = relay(RelayLimits::default()).await;
    let circuit = format!("{}/p2p-circuit/p2p/{}", relay.addresses()[0], key().node_id());
    let many = vec![relay.addresses()[0].clone(); 9];
    for (relays, why) in [
        (vec!["/ip4/127.0.0.1/tcp/1".to_owned()], "/p2p/"),
        (vec!["nonsense".to_owned()], "no address"),
        (vec![circuit], "behind a relay"),
        (many, "8 relays"),
    ] {
        let error = NodeConfig::new(key()).with_relays(relays).start().await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    relay.shutdown().await;
}
