//! People whose nodes have other keys than they have: only a signed record says where they are.

use std::collections::BTreeSet;

use futures::StreamExt;
use warp_blink::{
    Blink, Config, EndReason, Event, Memory, NodeKey,
    event::{Findable, Warning},
    id::NodeId,
    ports::gossip::{Gossip, GossipEvent},
    wire::{read_record, record_key},
};

use super::phone::{PATIENCE, Phone, identity};

#[tokio::test]
async fn a_record_leads_to_a_node_of_another_key_and_without_one_nobody_is_asked() {
    let memory = Memory::default();
    let common = Phone::start(&memory, 1, Config::default()).await;
    let through = format!("/memory/1/p2p/{}", common.blink.node_id());
    let node_key = NodeKey::from_seed([9; 32]);
    let of = |seed| Blink::builder(identity(seed)).memory(&memory);
    let mut bob = Phone::of(of(2).node_key(node_key).bootstrap(through.clone())).await;
    let alice = Phone::of(of(3).bootstrap(through)).await;
    bob.wait("that his record is out", |e| {
        matches!(e, Event::Findable { state: Findable::Published }).then_some(())
    })
    .await;
    assert_eq!(bob.blink.snapshot().findable, Findable::Published);
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, call);

    let mut carol = Phone::start(&memory, 4, Config::default()).await;
    let call = carol.blink.offer([bob.key()]).await.unwrap();
    let cause = carol
        .wait("that he is not found", |e| match e {
            Event::Warning { warning: Warning::NotReached { cause, .. } } => Some(cause.clone()),
            _ => None,
        })
        .await;
    assert!(!cause.contains("asked"), "{cause}");
    assert_eq!(carol.ended(call).await.0, EndReason::Unreachable);
}

/// Waits until the stored record of somebody names these nodes.
async fn named(memory: &Memory, who: warp_blink::PublicKey, nodes: &[NodeId]) {
    let reader = memory.hub.endpoint(NodeKey::from_seed([77; 32]).node_id());
    let wanted: BTreeSet<NodeId> = nodes.iter().copied().collect();
    let named = async {
        loop {
            let stored = reader.records(record_key(&who)).await.next().await;
            let nodes = stored.map(|bytes| read_record(&bytes).unwrap().1.nodes).unwrap_or_default();
            if nodes.iter().map(|place| place.node).collect::<BTreeSet<_>>() == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, named).await.expect("they are named");
}

#[tokio::test]
async fn two_devices_of_one_identity_are_found_beside_each_other() {
    let memory = Memory::default();
    let common = Phone::start(&memory, 1, Config::default()).await;
    let through = format!("/memory/1/p2p/{}", common.blink.node_id());
    let of = |seed| Blink::builder(identity(seed)).memory(&memory).bootstrap(through.clone());
    let (one, two) = (NodeKey::from_seed([12; 32]), NodeKey::from_seed([13; 32]));
    let mut first = Phone::of(of(2).node_key(one.clone())).await;
    named(&memory, first.key(), &[one.node_id()]).await;
    let second = Phone::of(of(2).node_key(two.clone())).await;
    named(&memory, first.key(), &[one.node_id(), two.node_id()]).await;
    // Whoever published last is gone; the other one rings.
    second.blink.shutdown().await;
    let alice = Phone::of(of(3)).await;
    let call = alice.blink.offer([first.key()]).await.unwrap();
    assert_eq!(first.incoming().await, call);
    alice.blink.cancel(call).await.unwrap();
    first.ended(call).await;
    // And the other way round.
    let mut second = Phone::of(of(2).node_key(two)).await;
    first.blink.shutdown().await;
    let call = alice.blink.offer([second.key()]).await.unwrap();
    assert_eq!(second.incoming().await, call);
}

#[tokio::test]
async fn a_bootstrap_name_that_does_not_exist_is_named_at_once() {
    let memory = Memory::default();
    let nobody = NodeKey::from_seed([99; 32]).node_id();
    let through = format!("/dns4/no.such.name/tcp/4001/p2p/{nobody}");
    let mut alice = Phone::of(Blink::builder(identity(3)).memory(&memory).bootstrap(&through)).await;
    let call = alice.blink.offer([identity(4).public()]).await.unwrap();
    let cause = alice
        .wait("why nobody is found", |e| match e {
            Event::Warning { warning: Warning::NotReached { cause, .. } } => Some(cause.clone()),
            _ => None,
        })
        .await;
    let said = format!("no bootstrap node answers: no address worked: {through}: there is no such name");
    assert!(cause.contains(&said), "{cause}");
    assert_eq!(alice.ended(call).await.0, EndReason::Unreachable);
    // The name comes into being: nobody has to do anything.
    let common = memory.hub.endpoint(nobody);
    let mut events = common.take_events().unwrap();
    memory.hub.set_name("no.such.name", [[192, 0, 2, 1].into()]);
    let connected =
        async { while !matches!(events.recv().await, Some(GossipEvent::PeerConnected { .. })) {} };
    tokio::time::timeout(PATIENCE, connected).await.expect("it is tried again");
}
