//! People who know of each other nothing but public keys: real nodes on loopback, one of which all have in common.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use blink_tests::e2e::phone::{LOOPBACK, PATIENCE, Phone, fresh};
use rust_ipfs::{builder::IpfsBuilder, swarm::derive_prelude::futures::*};
use warp_blink::{
    Audio, Blink, BlinkBehaviour, CallId, Config, EndReason, Event, FileStore, Identity, PublicKey,
    driver::node::{IpfsGossip, NodeConfig, NodeFinding},
    event::Warning,
    id::NodeKey,
    ports::gossip::Gossip,
    wire::{NodePlace, Record, read_record, record_key, seal_record},
};

/// A phone that knows nothing but a node that is up.
async fn through(common: &Phone, identity: Identity, node_key: Option<NodeKey>) -> Phone {
    let mut builder = Blink::builder(identity).config(Config::default()).bootstrap(common.address().await);
    if let Some(key) = node_key {
        builder = builder.node_key(key);
    }
    Phone::built(builder, &[]).await
}

/// Waits until the record of somebody is stored, some seconds after their start. Until then they may be called all the same, since
/// nodes that have one in common meet soon, and a call teaches at which node somebody is; that is not what is wanted here.
async fn stored(common: &Phone, who: &Phone) {
    let finding = NodeFinding::default().with_serves(false).with_bootstrap([common.blink.node_id()]);
    let config = NodeConfig::new(NodeKey::from(&fresh())).with_finding(finding);
    let reader = config.with_listen(["/ip4/127.0.0.1/tcp/0"]).start().await.unwrap();
    reader.connect(&common.blink.node_id(), &[common.address().await]).await.unwrap();
    let reading = async {
        loop {
            let all: Vec<_> = reader.records(record_key(&who.key())).await.collect().await;
            if all.iter().any(|bytes| read_record(bytes).is_ok_and(|(signer, _)| signer == who.key())) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it is stored");
    reader.shutdown().await;
}

/// Calls somebody until their node is found.
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
            // It may have ended by itself.
            let _ = caller.blink.cancel(call).await;
            caller.ended(call).await;
        }
    };
    tokio::time::timeout(PATIENCE, tries).await.expect("they are found")
}

async fn talk(caller: &mut Phone, callee: &mut Phone) -> CallId {
    let call = found(caller, callee.key()).await;
    let rings = |e: &Event| matches!(e, Event::Incoming { call: c, .. } if *c == call);
    callee.wait("the call", |e| rings(e).then_some(())).await;
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
    stored(&common, &bob).await;
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
async fn a_node_to_find_people_through_may_be_a_name_and_one_that_does_not_exist_is_told_of_at_once() {
    let common = Phone::start(Config::default(), &[]).await;
    let of = async |name: &str| common.address().await.replace("/ip4/127.0.0.1/", &format!("/dns4/{name}/"));
    let named = async |name| Phone::built(Blink::builder(fresh()).bootstrap(of(name).await), &[]).await;
    let (mut alice, mut bob) = (named("localhost").await, named("localhost").await);
    talk(&mut alice, &mut bob).await;

    // RFC 6761, section 6.4: no resolver need be asked.
    let mut carol = named("blink.invalid").await;
    let call = carol.blink.offer([bob.key()]).await.unwrap();
    let cause = carol
        .wait("why nobody is found", |e| match e {
            Event::Warning { warning: Warning::NotReached { cause, .. } } => Some(cause.clone()),
            _ => None,
        })
        .await;
    let name = of("blink.invalid").await;
    assert!(
        cause.contains(&format!(
            "no bootstrap node answers: no address worked: {name}: there is no such name"
        )),
        "{cause}"
    );
    assert_eq!(carol.ended(call).await, (EndReason::Unreachable, None));
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

/// A phone on an app's node, which listens on this address and finds others through that node.
async fn on_an_apps_node(common: &Phone, listens: &str) -> (Phone, rust_ipfs::Ipfs, impl AsyncFnOnce(&str)) {
    let (behaviour, link) = BlinkBehaviour::new();
    let keypair = rust_ipfs::Keypair::generate_ed25519();
    let finding = NodeFinding::default().with_bootstrap([common.blink.node_id()]);
    let behaviour = behaviour.with_finding(&keypair, &finding).unwrap();
    let runtime = tokio::runtime::Handle::current();
    // The builder is not Send.
    let start = move || {
        let builder = IpfsBuilder::with_keypair(keypair).unwrap().enable_tcp();
        let builder = builder.with_identify(Default::default()).with_custom_behaviour(move |_| Ok(behaviour));
        runtime.block_on(builder.start()).unwrap()
    };
    let ipfs = tokio::task::spawn_blocking(start).await.unwrap();
    let old = ipfs.add_listening_address(listens.parse().unwrap()).await.unwrap();
    let builder = Blink::builder(fresh()).media(Audio::silent()).ice_address(LOOPBACK);
    let blink = builder.bootstrap(common.address().await).node(ipfs.clone(), link).spawn().await.unwrap();
    let node = ipfs.clone();
    let moves = async move |to: &str| {
        node.remove_listening_address(old).await.unwrap();
        node.add_listening_address(to.parse().unwrap()).await.unwrap();
    };
    (Phone { events: blink.events(), blink }, ipfs, moves)
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_moves_while_their_phone_runs_is_found_at_the_new_address() {
    let common = Phone::start(Config::default(), &[]).await;
    let mut alice = through(&common, fresh(), None).await;
    let (mut bob, node, moves) = on_an_apps_node(&common, "/ip4/127.0.0.1/tcp/0").await;
    let call = talk(&mut alice, &mut bob).await;
    alice.blink.hang_up(call).await.unwrap();
    bob.ended(call).await;
    // What went out from the address that is gone, or came in there, is closed; nobody tells alice where bob is now.
    moves("/ip4/127.0.0.2/tcp/0").await;
    let there = |address: &String| address.starts_with("/ip4/127.0.0.2/");
    bob.seen("the new address", |s| !s.addresses.is_empty() && s.addresses.iter().all(there)).await;
    talk(&mut alice, &mut bob).await;
    node.exit_daemon().await;
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
    let until = warp_blink::time::UnixTime::from_millis(u64::MAX);
    let record = Record {
        sequence: u64::MAX,
        expires: until,
        nodes: vec![NodePlace {
            node: NodeKey::from_seed([202; 32]).node_id(),
            until,
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
    // Whom it tries to make believe it refuses.
    let before = common.blink.snapshot().statistics.counters.refused.record;
    liar.store_record(name, forged.clone().into(), Duration::from_secs(60)).await;
    // What its node counts is shown with whatever happens next.
    common.blink.add_address(&liar.listening()[0]).await.unwrap();
    common.seen("a forged record", |s| s.statistics.counters.refused.record > before).await;

    stored(&common, &bob).await;
    // Now that the true one has come to it as well, it says the other all the same.
    liar.forge(name, forged.into()).await;
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
