//! The ways in which a call ends, between real nodes: gossip and media over loopback, nothing played.
//!
//! Each test is two phones in one process with nodes of their own. Sound is silence into nowhere; what is heard is the
//! business of `e2e_audio`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use blink_tests::e2e::phone::{LOOPBACK, PATIENCE, Phone, early, fresh};
use rust_ipfs::builder::IpfsBuilder;
use warp_blink::{
    Audio, Blink, BlinkBehaviour, CallId, Config, EndReason, Error, Event, FileStore, Identity, WhenBusy,
    event::{NodeState, Snapshot},
    wire::Topic,
};

/// Two phones, the second of which knows where the first is; a call that both hear.
async fn connected(config: Config) -> (Phone, Phone, CallId) {
    let mut bob = Phone::start(config.clone(), &[]).await;
    let mut alice = Phone::start(config, &[&bob]).await;
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, call);
    bob.blink.answer(call).await.unwrap();
    alice.heard().await;
    bob.heard().await;
    (alice, bob, call)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_heard_and_hung_up_by_either_side_with_and_without_connecting_early() {
    for config in [Config::default(), early()] {
        for caller_hangs_up in [true, false] {
            let (mut alice, mut bob, call) = connected(config.clone()).await;
            let who = if caller_hangs_up { &alice } else { &bob };
            let key = who.key();
            who.blink.hang_up(call).await.unwrap();
            assert_eq!(alice.ended(call).await, (EndReason::HungUp, Some(key)));
            assert_eq!(bob.ended(call).await, (EndReason::HungUp, Some(key)));
            alice.blink.shutdown().await;
            bob.blink.shutdown().await;
            // The streams end with the phones.
            while alice.events.next().await.is_some() {}
            while bob.events.next().await.is_some() {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn declined_cancelled_and_busy_are_told_to_both_sides() {
    let mut config = Config::default();
    config.when_busy = WhenBusy::Reject;
    let mut bob = Phone::start(config, &[]).await;
    let mut alice = Phone::start(Config::default(), &[&bob]).await;
    let mut carol = Phone::start(Config::default(), &[&bob]).await;

    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, call);
    bob.blink.decline(call).await.unwrap();
    assert_eq!(alice.ended(call).await, (EndReason::Declined, Some(bob.key())));
    assert_eq!(bob.ended(call).await, (EndReason::Declined, Some(bob.key())));

    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, call);
    alice.blink.cancel(call).await.unwrap();
    assert!(alice.blink.snapshot().call(call).is_none(), "a cancelled call is over when cancel returns");
    assert_eq!(alice.ended(call).await, (EndReason::Cancelled, Some(alice.key())));
    assert_eq!(bob.ended(call).await, (EndReason::Cancelled, Some(alice.key())));

    let taken = carol.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, taken);
    bob.blink.answer(taken).await.unwrap();
    carol.heard().await;
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(alice.ended(call).await, (EndReason::Busy, Some(bob.key())));
    let missed = |e: &Event| match e {
        Event::Missed { call, reason, .. } => Some((*call, *reason)),
        _ => None,
    };
    // The cancelled call was missed too, before.
    loop {
        if bob.wait("a missed call", missed).await == (call, EndReason::Busy) {
            break;
        }
    }
    assert!(bob.blink.snapshot().call(taken).is_some(), "the call that was taken goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_call_times_out_on_both_sides() {
    let mut bob = Phone::start(Config::default(), &[]).await;
    let mut config = Config::default();
    config.ring_timeout = Duration::from_secs(1);
    let mut alice = Phone::start(config, &[&bob]).await;
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, call);
    assert_eq!(alice.ended(call).await, (EndReason::TimedOut, None));
    assert_eq!(bob.ended(call).await, (EndReason::TimedOut, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_and_a_callee_that_is_offline_are_unreachable() {
    let bob = Phone::start(Config::default(), &[]).await;
    let mut alice = Phone::start(Config::default(), &[&bob]).await;
    // Somebody lives at the address, but not who was called.
    let call = alice.blink.offer([fresh().public()]).await.unwrap();
    assert_eq!(alice.ended(call).await, (EndReason::Unreachable, None));
    assert_eq!(bob.blink.snapshot().calls.len(), 0);
    // Nobody lives there any more.
    let (key, address) = (bob.key(), bob.address().await);
    bob.blink.shutdown().await;
    alice.blink.add_address(&address).await.unwrap();
    let call = alice.blink.offer([key]).await.unwrap();
    assert_eq!(alice.ended(call).await, (EndReason::Unreachable, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_hangs_up() {
    let (alice, mut bob, call) = connected(Config::default()).await;
    let key = alice.key();
    drop(alice.blink);
    assert_eq!(bob.ended(call).await, (EndReason::HungUp, Some(key)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_remembered_between_runs() {
    let dir = tempfile::tempdir().unwrap();
    let bob = Phone::start(Config::default(), &[]).await;
    let alice = fresh();
    let seed = *alice.expose_seed();
    let phone = |peer: Option<String>| {
        let mut builder = Blink::builder(Identity::from_seed(seed))
            .media(Audio::silent())
            .listen("/ip4/127.0.0.1/tcp/0")
            .ice_address(LOOPBACK)
            .store(FileStore::open(dir.path().join("store")).unwrap());
        if let Some(peer) = peer {
            builder = builder.peer(peer);
        }
        builder.spawn()
    };
    let first = phone(Some(bob.address().await)).await.unwrap();
    first.shutdown().await;
    let blink = phone(None).await.unwrap();
    let mut again = Phone { events: blink.events(), blink };
    let call = again.blink.offer([bob.key()]).await.unwrap();
    again.wait("ringing", |e| matches!(e, Event::Ringing { .. }).then_some(())).await;
    again.blink.cancel(call).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_node_and_an_apps_node_call_each_other() {
    let (behaviour, link) = BlinkBehaviour::new();
    let ipfs = app_node(behaviour).await;
    let blink = Blink::builder(fresh())
        .media(Audio::silent())
        .ice_address(LOOPBACK)
        .node(ipfs.clone(), link)
        .spawn()
        .await
        .unwrap();
    let mut app = Phone { events: blink.events(), blink };
    assert_ne!(app.blink.node_id(), app.key().into(), "the app's node has a key of its own");
    let mut own = Phone::start(Config::default(), &[&app]).await;

    let call = own.blink.offer([app.key()]).await.unwrap();
    assert_eq!(app.incoming().await, call);
    app.blink.answer(call).await.unwrap();
    own.heard().await;
    app.heard().await;
    own.blink.hang_up(call).await.unwrap();
    app.ended(call).await;

    let call = app.blink.offer([own.key()]).await.unwrap();
    assert_eq!(own.incoming().await, call);
    own.blink.answer(call).await.unwrap();
    app.heard().await;
    // The app ends its node: its calls are over, and it is told so.
    ipfs.exit_daemon().await;
    assert_eq!(app.ended(call).await.0, EndReason::Lost);
    let offline = |s: &Snapshot| matches!(s.node, NodeState::Offline { .. });
    assert!(offline(&app.blink.snapshot()) || app.blink.snapshots().wait_for(|s| offline(s)).await.is_ok());
    assert!(matches!(app.blink.offer([own.key()]).await, Err(Error::Closed | Error::Rejected(_))));
}

async fn app_node(behaviour: BlinkBehaviour) -> rust_ipfs::Ipfs {
    let runtime = tokio::runtime::Handle::current();
    // The builder is not Send.
    let start = move || {
        let builder = IpfsBuilder::new()
            .enable_tcp()
            .with_custom_behaviour(move |_| Ok(behaviour))
            .add_listening_addr("/ip4/127.0.0.1/tcp/0".parse().unwrap());
        runtime.block_on(builder.start()).unwrap()
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// Random bytes on every topic of a running call change nothing but a counter, and the call goes on.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_on_every_topic_change_nothing_but_a_counter() {
    use warp_blink::{
        driver::node::NodeConfig,
        id::NodeKey,
        ports::gossip::{Gossip, PublishError},
    };
    let (mut alice, bob, call) = connected(Config::default()).await;
    let stranger =
        NodeConfig::new(NodeKey::from(&fresh())).with_listen(["/ip4/127.0.0.1/tcp/0"]).start().await.unwrap();
    stranger.connect(&bob.blink.node_id(), &[bob.address().await]).await.unwrap();
    let before = bob.blink.snapshot();
    let mut sent = 0_u64;
    // The topics of the call itself are hashes of secrets, which a stranger does not know; the hostile suite of the
    // wire and of the post office attacks those. The inbox is open to everybody.
    for topic in [Topic::inbox(&bob.key())] {
        for (n, size) in [0_usize, 1, 11, 12, 100, 16_000].into_iter().enumerate() {
            // A fixed pattern without structure, another for each size.
            let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n as u64 + 1);
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            })
            .take(size)
            .collect();
            let published = tokio::time::timeout(PATIENCE, async {
                loop {
                    match stranger.publish(topic, bytes.clone().into()).await {
                        // The subscription is still on its way.
                        Err(PublishError::NoPeers) => tokio::task::yield_now().await,
                        other => break other,
                    }
                }
            })
            .await;
            published.unwrap().unwrap();
            sent += 1;
        }
    }
    let counted = before.statistics.counters.refused.total() + sent;
    bob.seen("every message counted", |s| s.statistics.counters.refused.total() >= counted).await;
    let after = bob.blink.snapshot();
    assert_eq!(after.statistics.counters.refused.total(), counted);
    assert_eq!(after.calls.len(), 1);
    assert_eq!(after.calls[0].participants[0].link, before.calls[0].participants[0].link);
    // Still there, both ways.
    bob.blink.set_muted(true).await.unwrap();
    alice
        .wait("the other side muted", |e| {
            matches!(e, Event::Participant { state, call: c, .. } if state.muted && *c == call).then_some(())
        })
        .await;
    alice.blink.hang_up(call).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_call_each_other_at_once_talk_without_pressing_anything() {
    let mut bob = Phone::start(Config::default(), &[]).await;
    let mut alice = Phone::start(Config::default(), &[&bob]).await;
    // From here on each is connected to the other.
    let first = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, first);
    bob.blink.decline(first).await.unwrap();
    alice.ended(first).await;
    bob.ended(first).await;

    let (to_alice, to_bob) = ([alice.key()], [bob.key()]);
    let (by_alice, by_bob) = tokio::join!(alice.blink.offer(to_bob), bob.blink.offer(to_alice));
    let (by_alice, by_bob) = (by_alice.unwrap(), by_bob.unwrap());
    alice.heard().await;
    bob.heard().await;
    let calls = |phone: &Phone| phone.blink.snapshot().calls.iter().map(|c| c.id).collect::<Vec<_>>();
    let kept = calls(&alice);
    assert!(kept == [by_alice] || kept == [by_bob], "{kept:?}");
    assert_eq!(calls(&bob), kept);
    // The id that his own `offer` returned is a name for it, whichever it was.
    bob.blink.hang_up(by_bob).await.unwrap();
    let [kept] = kept[..] else { panic!("one call") };
    assert_eq!(alice.ended(kept).await, (EndReason::HungUp, Some(bob.key())));
    assert_eq!(bob.ended(kept).await.0, EndReason::HungUp);
}
