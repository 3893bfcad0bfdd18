//! Finding others: a Kademlia of our own, whom it asks, and what it stores.

use futures::StreamExt;
use warp_blink::{
    driver::node::NodeFinding,
    id::Identity,
    time::UnixTime,
    wire::{NodePlace, Record, record_key, seal_record},
};

use super::*;

const LIFE: Duration = Duration::from_secs(3600);

/// A node that finds others through these.
async fn through(common: &[&Node], finding: NodeFinding) -> Node {
    let finding = finding.with_bootstrap(common.iter().map(|node| node.id()));
    let config = NodeConfig::new(key()).with_listen([TCP]).with_finding(finding);
    let node = Node::of(config.start().await.unwrap());
    for other in common {
        node.connect(other).await;
    }
    node
}

fn record(who: &Identity, sequence: u64) -> ([u8; 32], Bytes) {
    let until = UnixTime::from_millis(u64::MAX);
    let addresses = vec!["/ip4/192.0.2.1/tcp/1".into()];
    let record = Record {
        sequence,
        expires: until,
        nodes: vec![NodePlace { node: key().node_id(), until, addresses }],
        versions: vec![1],
        suites: vec![1],
        kem: None,
    };
    (record_key(&who.public()), seal_record(who, &record).unwrap().into())
}

async fn all(node: &Node, name: [u8; 32]) -> Vec<Bytes> {
    let found = async { node.gossip.records(name).await.collect().await };
    tokio::time::timeout(STUCK, found).await.expect("a question ends")
}

#[tokio::test]
async fn a_record_is_found_through_any_node_and_only_a_newer_one_replaces_it() {
    let common = Node::start(TCP).await;
    let a = through(&[&common], NodeFinding::default()).await;
    let b = through(&[&common], NodeFinding::default()).await;
    let who = Identity::from_seed([1; 32]);
    let (name, first) = record(&who, 5);
    assert_eq!(all(&a, name).await, Vec::<Bytes>::new());
    assert!(b.gossip.store_record(name, first.clone(), LIFE).await > 0);
    assert!(all(&a, name).await.contains(&first));
    let (_, old) = record(&who, 4);
    b.gossip.store_record(name, old, LIFE).await;
    assert_eq!(common.gossip.counters().records_refused, 1);
    let (other, _) = record(&Identity::from_seed([2; 32]), 1);
    b.gossip.store_record(other, first, LIFE).await;
    assert_eq!(common.gossip.counters().records_forged, 1);
    for node in [a, b, common] {
        node.end().await;
    }
}

#[tokio::test]
async fn a_node_is_found_by_its_name_and_another_ones_addresses_are_not_taken_for_it() {
    let common = Node::start(TCP).await;
    let a = through(&[&common], NodeFinding::default()).await;
    let b = through(&[&common], NodeFinding::default()).await;
    let found = async {
        loop {
            // Until the node in the middle has heard where that one listens.
            let found = a.gossip.whereabouts(&b.id()).await;
            if !found.is_empty() {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(STUCK, found).await.expect("it is found");
    let ours = b.gossip.listening()[0].clone();
    assert!(found.iter().any(|address| ours.starts_with(address.as_str())), "{found:?} {ours}");
    assert_eq!(a.gossip.whereabouts(&key().node_id()).await, Vec::<String>::new());
    for node in [a, b, common] {
        node.end().await;
    }
}

#[tokio::test]
async fn who_names_no_node_asks_nobody_and_tells_nobody() {
    let common = Node::start(TCP).await;
    let a = through(&[&common], NodeFinding::default()).await;
    let (name, stored) = record(&Identity::from_seed([1; 32]), 5);
    assert!(a.gossip.store_record(name, stored.clone(), LIFE).await > 0);
    // Connected, but not to find anybody; the last one has it switched off.
    let quiet = Node::start(TCP).await;
    let off = NodeConfig::new(key()).with_listen([TCP]).with_finding(NodeFinding::off());
    let off = Node::of(off.start().await.unwrap());
    for node in [&quiet, &off] {
        node.connect(&common).await;
        assert_eq!(all(node, name).await, Vec::<Bytes>::new());
        assert_eq!(node.gossip.store_record(name, stored.clone(), LIFE).await, 0);
        assert_eq!(node.gossip.whereabouts(&a.id()).await, Vec::<String>::new());
    }
    assert_eq!(common.gossip.counters().records_stored, 1);
    for node in [a, quiet, off, common] {
        node.end().await;
    }
}

#[tokio::test]
async fn who_answers_nobody_is_in_nobodys_table_however_much_it_asks() {
    let common = Node::start(TCP).await;
    let hidden = through(&[&common], NodeFinding::default().with_serves(false)).await;
    let a = through(&[&common], NodeFinding::default()).await;
    let asks = async { while hidden.gossip.whereabouts(&a.id()).await.is_empty() {} };
    tokio::time::timeout(STUCK, asks).await.expect("it finds others");
    assert!(
        hidden.gossip.connected().iter().any(|(node, _)| *node == a.id()),
        "it has asked that one as well"
    );
    let c = through(&[&common], NodeFinding::default()).await;
    assert!(!c.gossip.whereabouts(&a.id()).await.is_empty());
    assert_eq!(c.gossip.whereabouts(&hidden.id()).await, Vec::<String>::new());
    for node in [a, c, hidden, common] {
        node.end().await;
    }
}

/// mDNS speaks on no loopback.
#[tokio::test]
#[ignore = "needs a network interface that takes multicast, as in the lab"]
async fn nodes_of_one_network_hear_of_each_other_without_any_address() {
    let nearby = || async {
        let config = NodeConfig::new(key()).with_finding(NodeFinding::off().with_mdns(true));
        Node::of(config.start().await.unwrap())
    };
    let (mut a, b) = (nearby().await, nearby().await);
    let wanted = b.id();
    let addresses = a
        .until(|e| match e {
            GossipEvent::Nearby { node, addresses } if *node == wanted => Some(addresses.clone()),
            _ => None,
        })
        .await;
    assert_eq!(a.gossip.connect(&wanted, &addresses).await, Ok(Via::Direct));
    a.end().await;
    b.end().await;
}
