//! Calls of two who meet at a relay: gossip through it, media over loopback, nothing played.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use blink_tests::e2e::phone::{Phone, fresh};
use warp_blink::{
    Audio, Blink, CallId, Config, EndReason, Error, Event, IceServer, NodeKey, RelayConfig, RelayLimits,
    RelayNode,
    event::{NodeState, Phase, Via},
};

async fn relay(limits: RelayLimits) -> RelayNode {
    let key = NodeKey::from(&fresh());
    RelayConfig::new(key).with_listen(["/ip4/127.0.0.1/tcp/0"]).with_limits(limits).start().await.unwrap()
}

/// A phone that others reach at this relay.
async fn placed(relay: &RelayNode) -> (Phone, String) {
    let builder = Blink::builder(fresh()).relay(relay.addresses().remove(0)).hole_punching(false);
    let phone = Phone::built(builder, &[]).await;
    phone.seen("a place", |s| matches!(s.node, NodeState::Relayed { .. })).await;
    let circuit = |s: &warp_blink::Snapshot| {
        s.addresses.iter().find(|address| address.contains("/p2p-circuit")).cloned()
    };
    phone.seen("its address", |s| circuit(s).is_some()).await;
    let at = circuit(&phone.blink.snapshot()).unwrap();
    (phone, at)
}

/// One that knows somebody by this address.
async fn caller(at: &str) -> Phone {
    Phone::built(Blink::builder(fresh()).hole_punching(false).peer(at), &[]).await
}

/// Waits for the end of the call.
async fn ends(phone: &mut Phone, call: CallId) {
    while let Some(event) = phone.events.next().await {
        if matches!(event, Event::Ended { call: ended, .. } if ended == call) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_call_each_other_through_a_relay() {
    let relay = relay(RelayLimits::default()).await;
    let (mut bob, at) = placed(&relay).await;
    let mut alice = caller(&at).await;
    for (from, to) in [(0, 1), (1, 0)] {
        let mut both = [&mut alice, &mut bob];
        let whom = both[to].key();
        let call = both[from].blink.offer([whom]).await.unwrap();
        let via = |e: &Event| if let Event::Reached { via, .. } = e { Some(*via) } else { None };
        assert_eq!(both[from].wait("reached", via).await, Via::Relay);
        assert_eq!(both[to].incoming().await, call);
        both[to].blink.answer(call).await.unwrap();
        both[from].heard().await;
        both[to].heard().await;
        both[from].blink.hang_up(call).await.unwrap();
        for phone in &mut both {
            assert_eq!(phone.ended(call).await.0, EndReason::HungUp);
        }
    }
    alice.blink.shutdown().await;
    bob.blink.shutdown().await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_when_its_circuit_is_used_up_and_when_the_relay_dies() {
    // Three circuits one after the other, at least.
    let relay = relay(RelayLimits::default().with_circuit(Duration::from_secs(2), 4 << 20)).await;
    let (mut bob, at) = placed(&relay).await;
    let mut alice = caller(&at).await;
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, call);
    bob.blink.answer(call).await.unwrap();
    alice.heard().await;
    bob.heard().await;
    // No event says that something goes on.
    assert!(
        tokio::time::timeout(Duration::from_secs(7), ends(&mut alice, call)).await.is_err(),
        "the call ended"
    );
    alice.blink.set_muted(true).await.unwrap();
    let key = alice.key();
    let muted = |s: &warp_blink::Snapshot| {
        let call = s.call(call).filter(|call| call.phase == Phase::Active);
        call.is_some_and(|c| c.participants.iter().any(|p| p.peer == key && p.state.muted))
    };
    bob.seen("that she is muted", muted).await;
    relay.shutdown().await;
    assert!(
        tokio::time::timeout(Duration::from_secs(3), ends(&mut bob, call)).await.is_err(),
        "the call ended"
    );
    alice.blink.hang_up(call).await.unwrap();
    assert_eq!(bob.ended(call).await.0, EndReason::HungUp);
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_only_without_a_turn_server_is_refused_with_the_reason() {
    let relay = relay(RelayLimits::default()).await;
    let builder = || {
        Blink::builder(fresh())
            .media(Audio::silent())
            .config(Config::default())
            .relay(relay.addresses().remove(0))
            .relay_only(true)
    };
    let error = builder().spawn().await.expect_err("sound has no way");
    assert!(matches!(&error, Error::Media(why) if why.contains("TURN")), "{error}");
    // With one, it starts, and listens behind the relay only.
    let server = IceServer::turn("turn:127.0.0.1:9", "user", "secret");
    let blink = builder().ice_server(server).spawn().await.unwrap();
    let mut snapshots = blink.snapshots();
    let found = snapshots.wait_for(|s| s.node.is_reachable() && !s.addresses.is_empty());
    let snapshot = tokio::time::timeout(Duration::from_secs(30), found).await.unwrap().unwrap().clone();
    assert!(snapshot.addresses.iter().all(|address| address.contains("/p2p-circuit")), "{snapshot:?}");
    assert!(snapshot.node.what_to_do().is_none());
    blink.shutdown().await;
    relay.shutdown().await;
}
