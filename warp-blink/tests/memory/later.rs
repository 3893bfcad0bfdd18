//! What outlives a run: calls to come back to, and missed calls that are told of later.

use std::sync::Arc;

use warp_blink::{
    Blink, CallId, Config, EndReason, Error, Event, Memory, MemoryStore, NodeKey, Other, PublicKey, Rejected,
    ports::gossip::Gossip, select,
};

use crate::phone::{Phone, identity, talking};

/// The process dies: its node is gone, and nobody is told.
async fn crash(memory: &Memory, mut phone: Phone) {
    let node = memory.hub.endpoint(phone.blink.node_id());
    // Until nothing of it runs, and its store has written what it was given.
    while phone.events.next().await.is_some() {}
    drop(phone);
    node.shutdown().await;
}

#[tokio::test]
async fn who_crashed_comes_back_to_the_call_without_ringing_anyone() {
    let memory = Memory::default();
    let store = Arc::new(MemoryStore::default());
    let alice = Phone::keeping(&memory, 1, &store).await;
    let mut bob = Phone::start(&memory, 2, Config::default()).await;
    let mut carol = Phone::start(&memory, 3, Config::default()).await;
    let call = talking(&alice, &mut [&mut bob, &mut carol]).await;
    crash(&memory, alice).await;

    let mut alice = Phone::keeping(&memory, 1, &store).await;
    let mut resumable = alice.blink.watch(select::resumable_calls());
    let kept = resumable.wait_for(|calls| !calls.is_empty()).await.unwrap();
    assert_eq!(kept.iter().map(|c| c.id).collect::<Vec<_>>(), [call]);
    let mut others: Vec<PublicKey> = vec![bob.key(), carol.key()];
    others.sort_unstable();
    assert_eq!(kept[0].participants, others);
    alice.blink.resume(call, Other::End).await.unwrap();
    alice.with(call, &[&bob, &carol]).await;
    alice.heard(call, bob.key()).await;
    assert!(resumable.now().is_empty());
    // It has the words of the earlier run, and the right to say more.
    bob.blink.set_muted(true).await.unwrap();
    alice.sees(call, &bob, |s| s.muted).await;
    alice.blink.remove(call, carol.key()).await.unwrap();
    assert_eq!(carol.ended(call).await, (EndReason::Removed, Some(alice.key())));
    alice.blink.hang_up(call).await.unwrap();
    alice.blink.shutdown().await;

    // What was hung up is not offered again.
    let alice = Phone::keeping(&memory, 1, &store).await;
    let again = alice.blink.resume(call, Other::End).await;
    assert!(matches!(again, Err(Error::Rejected(Rejected::NothingToResume(_)))), "{again:?}");
    assert!(alice.blink.snapshot().resumable.is_empty());
}

fn missed(event: &Event) -> Option<(CallId, PublicKey, Option<u64>)> {
    match event {
        Event::Missed { call, from, ago, .. } => Some((*call, *from, *ago)),
        _ => None,
    }
}

#[tokio::test]
async fn who_was_away_is_told_of_the_call_when_they_are_there_also_by_a_later_run() {
    for restarts in [false, true] {
        let memory = Memory::default();
        let store = Arc::new(MemoryStore::default());
        let mut alice = Phone::keeping(&memory, 1, &store).await;
        let bob = identity(2).public();
        let call = alice.blink.offer([bob]).await.unwrap();
        assert_eq!(alice.ended(call).await.0, EndReason::Unreachable);
        if restarts {
            alice.blink.shutdown().await;
            alice = Phone::keeping(&memory, 1, &store).await;
        }
        let mut bob = Phone::start(&memory, 2, Config::default()).await;
        bob.meets(&alice).await;
        let (of, from, ago) = bob.wait("the notice", missed).await;
        assert_eq!((of, from), (call, alice.key()));
        assert!(ago.is_some());
        // Once: the next thing that bob hears of alice is that she calls.
        let again = alice.blink.offer([bob.key()]).await.unwrap();
        let next = bob.wait("a call", |e| match e {
            Event::Incoming { call, .. } => Some(*call),
            Event::Missed { call, .. } => panic!("{call} was told of twice"),
            _ => None,
        });
        assert_eq!(next.await, again);
        alice.blink.shutdown().await;
        // A further run has nothing to tell any more.
        let alice = Phone::keeping(&memory, 1, &store).await;
        bob.ended(again).await;
        bob.meets(&alice).await;
        let last = alice.blink.offer([bob.key()]).await.unwrap();
        let next = bob.wait("a call", |e| match e {
            Event::Incoming { call, .. } => Some(*call),
            Event::Missed { call, ago: Some(_), .. } => panic!("{call} was told of again"),
            _ => None,
        });
        assert_eq!(next.await, last);
    }
}

#[tokio::test]
async fn contacts_that_are_kept_are_told_of_a_call_as_soon_as_both_are_there() {
    let memory = Memory::default();
    let store = Arc::new(MemoryStore::default());
    let alice = || Blink::builder(identity(1)).memory(&memory).store(store.clone());
    let bob = identity(2);
    let address = format!("/memory/1/p2p/{}", NodeKey::from(&bob).node_id());
    let mut first = Phone::of(alice()).await;
    first.blink.add_address(&address).await.unwrap();
    let call = first.blink.offer([bob.public()]).await.unwrap();
    assert_eq!(first.ended(call).await.0, EndReason::Unreachable);
    first.blink.shutdown().await;
    let mut bob = Phone::start(&memory, 2, Config::default()).await;
    // Nobody calls, and nobody names an address any more.
    let _kept = Phone::of(alice().contacts([bob.key()]).keep_contacts(true)).await;
    assert_eq!(bob.wait("the notice", missed).await.0, call);
}
