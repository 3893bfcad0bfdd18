//! A whole call through the public handle, in memory: gossip is sealed for real, links and devices are played.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use warp_blink::{
    AppData, Blink, CallId, Config, EndReason, Error, Event, Events, Identity, Memory, PreConnect, Rejected,
    WhenBusy, driver::memory_gossip::Fate, event::Phase, ports::gossip::Gossip,
};

/// Long enough that only a call that hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

async fn phone(memory: &Memory, seed: u8, config: Config) -> (Blink, Events) {
    let identity = Identity::from_seed([seed; 32]);
    let blink = Blink::builder(identity).memory(memory).config(config).spawn().await.unwrap();
    let events = blink.events();
    (blink, events)
}

async fn wait<T>(events: &mut Events, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(PATIENCE, async {
        while let Some(event) = events.next().await {
            if let Some(found) = pick(&event) {
                return Some(found);
            }
            seen.push(event);
        }
        None
    })
    .await;
    match found {
        Ok(Some(found)) => found,
        other => panic!("the event did not come ({:?}); seen: {seen:#?}", other.is_err()),
    }
}

async fn incoming(events: &mut Events) -> CallId {
    wait(events, |e| if let Event::Incoming { call, .. } = e { Some(*call) } else { None }).await
}

async fn ended(events: &mut Events) -> EndReason {
    wait(events, |e| if let Event::Ended { reason, .. } = e { Some(*reason) } else { None }).await
}

#[tokio::test]
async fn a_call_rings_is_answered_heard_and_hung_up() {
    for early in [PreConnect::Never, PreConnect::Always] {
        let memory = Memory::default();
        let mut config = Config::default();
        config.pre_connect = early;
        let (alice, mut of_alice) = phone(&memory, 1, config.clone()).await;
        let (bob, mut of_bob) = phone(&memory, 2, config).await;
        let data = AppData::new(b"hello".to_vec()).unwrap();
        let call = alice.offer_with([bob.public_key()], data.clone()).await.unwrap();
        let (from, got) = wait(&mut of_bob, |e| match e {
            Event::Incoming { call: c, from, app_data, .. } if *c == call => Some((*from, app_data.clone())),
            _ => None,
        })
        .await;
        assert_eq!((from, got), (alice.public_key(), data));
        wait(&mut of_alice, |e| matches!(e, Event::Ringing { .. }).then_some(())).await;
        assert!(!bob.snapshot().local.open, "no microphone before accept");
        bob.answer(call).await.unwrap();
        wait(&mut of_alice, |e| matches!(e, Event::FirstAudio { .. }).then_some(())).await;
        wait(&mut of_bob, |e| matches!(e, Event::FirstAudio { .. }).then_some(())).await;
        assert_eq!(alice.snapshot().call(call).map(|c| c.phase), Some(Phase::Active));
        // Shared state travels under the call key.
        bob.set_muted(true).await.unwrap();
        wait(&mut of_alice, |e| matches!(e, Event::Participant { state, .. } if state.muted).then_some(()))
            .await;
        alice.hang_up(call).await.unwrap();
        assert_eq!(ended(&mut of_alice).await, EndReason::HungUp);
        assert_eq!(ended(&mut of_bob).await, EndReason::HungUp);
        alice.shutdown().await;
        bob.shutdown().await;
        assert!(of_alice.next().await.is_some_and(|e| matches!(e, Event::Node { .. })));
    }
}

#[tokio::test]
async fn the_ways_in_which_a_call_does_not_come_about() {
    let memory = Memory::default();
    let (alice, mut of_alice) = phone(&memory, 1, Config::default()).await;
    let mut busy = Config::default();
    busy.when_busy = WhenBusy::Reject;
    let (bob, mut of_bob) = phone(&memory, 2, busy).await;
    let (carol, mut of_carol) = phone(&memory, 3, Config::default()).await;

    // Declined.
    alice.offer([bob.public_key()]).await.unwrap();
    let call = incoming(&mut of_bob).await;
    bob.decline(call).await.unwrap();
    assert_eq!(ended(&mut of_alice).await, EndReason::Declined);
    assert_eq!(ended(&mut of_bob).await, EndReason::Declined);

    // Cancelled.
    let call = alice.offer([bob.public_key()]).await.unwrap();
    assert_eq!(incoming(&mut of_bob).await, call);
    alice.cancel(call).await.unwrap();
    assert_eq!(ended(&mut of_alice).await, EndReason::Cancelled);
    assert_eq!(ended(&mut of_bob).await, EndReason::Cancelled);

    // Busy.
    let call = carol.offer([bob.public_key()]).await.unwrap();
    incoming(&mut of_bob).await;
    bob.answer(call).await.unwrap();
    wait(&mut of_carol, |e| matches!(e, Event::Accepted { .. }).then_some(())).await;
    alice.offer([bob.public_key()]).await.unwrap();
    assert_eq!(ended(&mut of_alice).await, EndReason::Busy);
    wait(&mut of_bob, |e| matches!(e, Event::Missed { reason: EndReason::Busy, .. }).then_some(())).await;

    // Nobody there.
    let nobody = Identity::from_seed([9; 32]).public();
    alice.offer([nobody]).await.unwrap();
    assert_eq!(ended(&mut of_alice).await, EndReason::Unreachable);

    // Oneself, and nobody at all.
    assert!(matches!(alice.offer([alice.public_key()]).await, Err(Error::Rejected(Rejected::SelfCall))));
    assert!(matches!(alice.offer([]).await, Err(Error::Rejected(Rejected::NobodyToCall))));
}

#[tokio::test]
async fn an_unanswered_call_ends_on_both_sides() {
    let memory = Memory::default();
    let mut config = Config::default();
    config.ring_timeout = Duration::from_millis(300);
    let (alice, mut of_alice) = phone(&memory, 1, config).await;
    let (bob, mut of_bob) = phone(&memory, 2, Config::default()).await;
    alice.offer([bob.public_key()]).await.unwrap();
    assert_eq!(ended(&mut of_alice).await, EndReason::TimedOut);
    assert_eq!(ended(&mut of_bob).await, EndReason::TimedOut);
}

#[tokio::test]
async fn dropping_the_last_handle_hangs_up() {
    let memory = Memory::default();
    let (alice, mut of_alice) = phone(&memory, 1, Config::default()).await;
    let (bob, mut of_bob) = phone(&memory, 2, Config::default()).await;
    alice.offer([bob.public_key()]).await.unwrap();
    let call = incoming(&mut of_bob).await;
    bob.answer(call).await.unwrap();
    wait(&mut of_alice, |e| matches!(e, Event::Accepted { .. }).then_some(())).await;
    drop(alice);
    assert_eq!(ended(&mut of_bob).await, EndReason::HungUp);
}

/// Random bytes of awkward lengths on every topic that a running call uses change nothing but a counter.
#[tokio::test]
async fn hostile_bytes_on_every_topic_change_nothing_but_a_counter() {
    let memory = Memory::default();
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let (alice, mut of_alice) = phone(&memory, 1, Config::default()).await;
    let (bob, mut of_bob) = phone(&memory, 2, Config::default()).await;
    let topics = seen.clone();
    memory.hub.set_fate(move |delivery| {
        topics.lock().unwrap().insert(delivery.topic);
        Fate::Deliver
    });
    alice.offer([bob.public_key()]).await.unwrap();
    let call = incoming(&mut of_bob).await;
    bob.answer(call).await.unwrap();
    wait(&mut of_alice, |e| matches!(e, Event::FirstAudio { .. }).then_some(())).await;
    wait(&mut of_bob, |e| matches!(e, Event::FirstAudio { .. }).then_some(())).await;
    // A change of state goes over the call's own topic, both ways.
    bob.set_muted(true).await.unwrap();
    wait(&mut of_alice, |e| matches!(e, Event::Participant { state, .. } if state.muted).then_some(())).await;
    alice.set_muted(true).await.unwrap();
    wait(&mut of_bob, |e| matches!(e, Event::Participant { state, .. } if state.muted).then_some(())).await;

    let topics = seen.lock().unwrap().clone();
    assert_eq!(topics.len(), 4, "the callee's inbox, a peer topic of each, and the call's");
    let mallory = memory.hub.endpoint(Identity::from_seed([66; 32]).public().into());
    for peer in [&alice, &bob] {
        mallory.connect(&peer.node_id(), &[]).await.unwrap();
    }
    let counters = |b: &Blink| b.snapshot().statistics.counters;
    let before = (counters(&alice), counters(&bob));
    let shown = |b: &Blink| b.snapshot().call(call).cloned().unwrap();
    let calls = (shown(&alice), shown(&bob));
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut sent = 0;
    for topic in &topics {
        for size in [0, 1, 11, 12, 100, 16_000] {
            let mut bytes = vec![0; size];
            rng.fill_bytes(&mut bytes);
            mallory.publish(*topic, bytes.into()).await.unwrap();
            // The call's topic has two listeners, each other one.
            sent += 1;
        }
    }
    let heard_by_both = 6;
    let all = |b: &Blink| {
        let c = b.snapshot().statistics.counters;
        c.refused.total() + c.stray
    };
    let want = before.0.refused.total()
        + before.0.stray
        + before.1.refused.total()
        + before.1.stray
        + sent
        + heard_by_both;
    let counted = tokio::time::timeout(PATIENCE, async {
        while all(&alice) + all(&bob) < want {
            tokio::task::yield_now().await;
        }
    });
    assert!(counted.await.is_ok(), "{} of {want}", all(&alice) + all(&bob));
    assert_eq!(all(&alice) + all(&bob), want);
    assert_eq!((shown(&alice), shown(&bob)), calls);
    alice.hang_up(call).await.unwrap();
    assert_eq!(ended(&mut of_bob).await, EndReason::HungUp);
}

/// What was written, to be looked at while its writer is elsewhere.
#[derive(Clone, Default)]
struct Paper(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_journal_of_a_call_replays_and_names_nobody() {
    let (memory, paper) = (Memory::default(), Paper::default());
    let [a, b] = [81, 82].map(|seed| Identity::from_seed([seed; 32]));
    let keys = [a.public(), b.public()];
    let alice = Blink::builder(a).memory(&memory).journal(paper.clone(), 1 << 22).spawn().await.unwrap();
    let bob = Blink::builder(b).memory(&memory).spawn().await.unwrap();
    let mut events = bob.events();
    let call = alice.offer([keys[1]]).await.unwrap();
    while !matches!(events.next().await, Some(Event::Incoming { .. })) {}
    bob.answer(call).await.unwrap();
    alice.call(call).connected().await.unwrap();
    alice.set_muted(true).await.unwrap();
    alice.hang_up(call).await.unwrap();
    while !matches!(events.next().await, Some(Event::Ended { .. })) {}
    alice.shutdown().await;
    bob.shutdown().await;
    let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
    for key in keys {
        assert!(!text.contains(&key.to_string()) && !text.contains(&key.to_peer_id_string()));
    }
    let journal = warp_blink::proto::journal::Journal::parse(&text).unwrap();
    assert!(journal.steps().len() > 50, "{} steps", journal.steps().len());
    journal.replay().unwrap();
}
