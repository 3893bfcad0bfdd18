//! People who know of each other nothing but public keys: real nodes on loopback, one of which all have in common.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use blink_tests::e2e::phone::{LOOPBACK, PATIENCE, Phone, fresh};
use warp_blink::{
    Audio, Blink, CallId, Config, EndReason, Event, FileStore, Identity, PublicKey,
    driver::node::{IpfsGossip, NodeConfig, NodeFinding},
    event::Warning,
    id::NodeKey,
    ports::gossip::Gossip,
    wire::{NodePlace, Record, record_key, seal_record},
};

/// A phone that knows nothing but a node that is up.
async fn through(common: &Phone, identity: Identity, node_key: Option<NodeKey>) -> Phone {
    let mut builder = Blink::builder(identity).config(Config::default()).bootstrap(common.address().await);
    if let Some(key) = node_key {
        builder = builder.node_key(key);
    }
    Phone::built(builder, &[]).await
}

/// Calls somebody until their node is found: they are found when their record is stored, some seconds after their start.
async fn found(caller: &mut Phone, callee: PublicKey) -> CallId {
    let tries = async {
        loop {
            let call = caller.blink.offer([callee]).await.unwrap();
            let there = caller
                .wait("whether they are found", |e| match e {
                    Event::Reached { peer, .. } if *peer == callee => Some(true),
                    Event::Warning { warning: Warning::NotReached { peer, .. } } if *peer == callee => {
                        Some(false)
                    }
                    _ => None,
                })
                .await;
            if there {
                return call;
            }
            caller.ended(call).await;
        }
    };
    tokio::time::timeout(PATIENCE, tries).await.expect("they are found")
}

async fn talk(caller: &mut Phone, callee: &mut Phone) -> CallId {
    let call = found(caller, callee.key()).await;
    assert_eq!(callee.incoming().await, call);
    callee.blink.answer(call).await.unwrap();
    caller.heard().await;
    callee.heard().await;
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_and_any_node_that_is_up_are_enough_and_that_node_may_go() {
    let common = Phone::start(Config::default(), &[]).await;
    let mut alice = through(&common, fresh(), None).await;
    // Whom one calls and which node answers are two things.
    let mut bob = through(&common, fresh(), Some(NodeKey::from_seed([201; 32]))).await;
    assert_ne!(bob.blink.node_id(), bob.key().into());
    let call = talk(&mut alice, &mut bob).await;
    common.blink.shutdown().await;
    bob.blink.set_muted(true).await.unwrap();
    let key = bob.key();
    alice
        .seen("that the other one is muted", |s| {
            s.call(call).is_some_and(|c| c.participants.iter().any(|p| p.peer == key && p.state.muted))
        })
        .await;
    alice.blink.hang_up(call).await.unwrap();
    assert_eq!(bob.ended(call).await, (EndReason::HungUp, Some(alice.key())));
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_comes_back_at_another_address_is_found_there() {
    let dir = tempfile::tempdir().unwrap();
    let common = Phone::start(Config::default(), &[]).await;
    let mut alice = through(&common, fresh(), None).await;
    let seed = *fresh().expose_seed();
    let address = common.address().await;
    let start = async || {
        let builder = Blink::builder(Identity::from_seed(seed))
            .media(Audio::silent())
            .listen("/ip4/127.0.0.1/tcp/0")
            .ice_address(LOOPBACK)
            .bootstrap(address.clone())
            .store(FileStore::open(dir.path().join("store")).unwrap());
        let blink = builder.spawn().await.unwrap();
        Phone { events: blink.events(), blink }
    };
    let mut bob = start().await;
    let call = talk(&mut alice, &mut bob).await;
    alice.blink.hang_up(call).await.unwrap();
    bob.ended(call).await;
    let before = bob.address().await;
    bob.blink.shutdown().await;
    drop(bob.events);
    let mut bob = start().await;
    assert_ne!(bob.address().await, before);
    talk(&mut alice, &mut bob).await;
}

/// A node that answers for everybody with what it likes.
async fn liar(common: &Phone) -> IpfsGossip {
    let finding = NodeFinding::default().with_bootstrap([common.blink.node_id()]);
    let config = NodeConfig::new(NodeKey::from_seed([202; 32])).with_finding(finding);
    let liar = config.with_listen(["/ip4/127.0.0.1/tcp/0"]).start().await.unwrap();
    liar.connect(&common.blink.node_id(), &[common.address().await]).await.unwrap();
    liar
}

fn sealed(identity: &Identity, address: &str) -> Vec<u8> {
    let record = Record {
        sequence: u64::MAX,
        expires: warp_blink::time::UnixTime::from_millis(u64::MAX),
        nodes: vec![NodePlace {
            node: NodeKey::from_seed([202; 32]).node_id(),
            addresses: vec![address.into()],
        }],
        versions: vec![1],
        suites: vec![1],
        kem: None,
    };
    seal_record(identity, &record).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_records_are_counted_and_do_not_keep_anybody_from_being_found() {
    let common = Phone::start(Config::default(), &[]).await;
    let liar = liar(&common).await;
    let mut bob = through(&common, fresh(), Some(NodeKey::from_seed([203; 32]))).await;
    // Signed by somebody else, which leads to the liar.
    let name = record_key(&bob.key());
    let forged = sealed(&fresh(), &liar.listening()[0]);
    liar.forge(name, forged.clone().into()).await;
    // Whom it tries to make believe it refuses.
    let before = common.blink.snapshot().statistics.counters.refused.record;
    liar.store_record(name, forged.into(), Duration::from_secs(60)).await;
    common.seen("a forged record", |s| s.statistics.counters.refused.record > before).await;

    let mut alice = through(&common, fresh(), None).await;
    talk(&mut alice, &mut bob).await;
    alice.seen("a forged answer", |s| s.statistics.counters.refused.record > 0).await;
    liar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_publish_is_not_found_and_finds_others() {
    let common = Phone::start(Config::default(), &[]).await;
    let builder = Blink::builder(fresh()).bootstrap(common.address().await).publish(false);
    let mut hidden = Phone::built(builder, &[]).await;
    let mut alice = through(&common, fresh(), None).await;
    // By the time that one of the two is found the other would have been.
    let call = talk(&mut hidden, &mut alice).await;
    hidden.blink.hang_up(call).await.unwrap();
    alice.ended(call).await;
    let key = hidden.key();
    assert_eq!(hidden.blink.node_id(), key.into(), "so whoever knows the key knows the name of the node");
    // What the call has taught alice is another matter, so somebody else asks.
    let mut carol = through(&common, fresh(), None).await;
    // Carol can ask: she finds alice.
    let there = found(&mut carol, alice.key()).await;
    carol.blink.cancel(there).await.unwrap();
    carol.ended(there).await;
    let call = carol.blink.offer([key]).await.unwrap();
    assert_eq!(carol.ended(call).await, (EndReason::Unreachable, None));
}
