//! Who may ring, and how signals are protected, between real nodes: gossip and media over loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use blink_tests::e2e::phone::{Phone, fresh};
use warp_blink::{
    Admission, Blink, CallId, Config, EndReason, Error, Event, Identity, MemoryStore, PostQuantum, Rejected,
    event::Protection,
};

/// `from` calls `to`, which answers; both hear each other.
async fn talk(from: &mut Phone, to: &mut Phone) -> CallId {
    let call = from.blink.offer([to.key()]).await.unwrap();
    assert_eq!(to.incoming().await, call);
    to.blink.answer(call).await.unwrap();
    from.heard().await;
    to.heard().await;
    call
}

fn protection(phone: &Phone, call: CallId) -> Option<Protection> {
    phone.blink.snapshot().call(call).and_then(|c| c.participants[0].protection)
}

/// A phone of that identity which keeps what it learns.
async fn keeping(identity: &Identity, store: &Arc<MemoryStore>, config: Config, peers: &[&Phone]) -> Phone {
    Phone::built(Blink::builder(identity.clone()).config(config).store(store.clone()), peers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_every_first_signal_is_lost_connects() {
    let lossy = || Blink::builder(fresh()).lose_first_transmissions();
    let mut bob = Phone::built(lossy(), &[]).await;
    let mut alice = Phone::built(lossy(), &[&bob]).await;
    let call = talk(&mut alice, &mut bob).await;
    for phone in [&alice, &bob] {
        let counters = phone.blink.snapshot().statistics.counters;
        assert!(counters.resent >= 3, "{counters:?}");
    }
    alice.blink.hang_up(call).await.unwrap();
    assert_eq!(bob.ended(call).await.0, EndReason::HungUp);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_call_brought_protects_the_next_one_also_after_a_restart() {
    let (of_alice, of_bob) = (fresh(), fresh());
    let (alice_keeps, bob_keeps) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
    let mut required = Config::default();
    required.post_quantum = PostQuantum::Require;

    let mut bob = keeping(&of_bob, &bob_keeps, Config::default(), &[]).await;
    let mut alice = keeping(&of_alice, &alice_keeps, Config::default(), &[&bob]).await;
    bob.blink.add_contact(alice.key()).await.unwrap();
    let call = talk(&mut alice, &mut bob).await;
    assert_eq!(protection(&alice, call), Some(Protection::Classical));
    // Both keys and the token have crossed once nothing is left to be acknowledged; a hang-up comes after them.
    alice.blink.hang_up(call).await.unwrap();
    assert_eq!(bob.ended(call).await.0, EndReason::HungUp);
    alice.blink.shutdown().await;
    bob.blink.shutdown().await;

    let mut bob = keeping(&of_bob, &bob_keeps, required.clone(), &[]).await;
    let mut alice = keeping(&of_alice, &alice_keeps, required.clone(), &[&bob]).await;
    let call = talk(&mut alice, &mut bob).await;
    for phone in [&alice, &bob] {
        assert_eq!(protection(phone, call), Some(Protection::PostQuantum));
    }
    let stranger = Phone::start(required, &[&bob]).await;
    let refused = stranger.blink.offer([bob.key()]).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::NoPostQuantumKey(key))) if key == bob.key()));
    alice.blink.hang_up(call).await.unwrap();
    bob.ended(call).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_admitted_or_was_blocked_reaches_nobody() {
    let mut only_contacts = Config::default();
    only_contacts.admission = Admission::Contacts;
    let mut impatient = Config::default();
    impatient.reach_timeout = std::time::Duration::from_secs(3);
    let mut bob = Phone::start(only_contacts, &[]).await;
    let mut alice = Phone::start(impatient, &[&bob]).await;
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(alice.ended(call).await, (EndReason::Unreachable, None));
    assert!(bob.blink.snapshot().statistics.counters.refused.admission >= 1);

    bob.blink.add_contact(alice.key()).await.unwrap();
    let call = talk(&mut alice, &mut bob).await;
    bob.blink.block(alice.key()).await.unwrap();
    assert_eq!(alice.ended(call).await, (EndReason::HungUp, Some(bob.key())));
    assert_eq!(bob.ended(call).await.0, EndReason::HungUp);
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(alice.ended(call).await.0, EndReason::Unreachable);

    bob.blink.add_contact(alice.key()).await.unwrap();
    bob.blink.set_admission(Admission::Everyone).await.unwrap();
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    // The calls before rang nowhere: this is the next that the app hears of.
    let next = bob.wait("the next call", |e| match e {
        Event::Incoming { call, .. } | Event::Missed { call, .. } => Some(*call),
        _ => None,
    });
    assert_eq!(next.await, call);
    bob.blink.decline(call).await.unwrap();
    assert_eq!(alice.ended(call).await.0, EndReason::Declined);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callback_of_the_app_lets_in_whom_it_knows() {
    let caller = fresh();
    let known = caller.public();
    let mut bob = Phone::built(Blink::builder(fresh()).admit(move |c| c.key == known), &[]).await;
    let mut impatient = Config::default();
    impatient.reach_timeout = std::time::Duration::from_secs(3);
    let mut stranger = Phone::start(impatient, &[&bob]).await;
    let refused = stranger.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(stranger.ended(refused).await.0, EndReason::Unreachable);
    let mut alice = Phone::of(caller, Config::default(), &[&bob]).await;
    let call = talk(&mut alice, &mut bob).await;
    bob.blink.hang_up(call).await.unwrap();
    assert_eq!(alice.ended(call).await, (EndReason::HungUp, Some(bob.key())));
}
