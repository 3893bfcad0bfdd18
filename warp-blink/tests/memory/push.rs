//! Offers that the app carries over a channel of its own.

use std::sync::Arc;

use warp_blink::{
    Blink, CallId, Config, EndReason, Error, Event, ImportError, Memory, MemoryStore,
    config::Admission,
    driver::memory_gossip::Fate,
    wire::{FrameKind, frame},
};

use crate::phone::{Phone, identity, talking};

/// First messages do not get through over gossip.
fn without_offers() -> Memory {
    let memory = Memory::default();
    lose_offers(&memory);
    memory
}

fn lose_offers(memory: &Memory) {
    memory.hub.set_fate(|delivery| match frame::check(&delivery.data) {
        Ok(FrameKind::Hello) => Fate::Drop,
        _ => Fate::Deliver,
    });
}

fn refused(result: Result<(), Error>) -> Option<ImportError> {
    match result {
        Err(Error::Import(error)) => Some(error),
        Ok(()) => None,
        other => panic!("{other:?}"),
    }
}

async fn calling(alice: &Phone, bob: &Phone) -> (CallId, Vec<u8>) {
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    (call, alice.blink.export_offer(call, bob.key()).await.unwrap())
}

#[tokio::test]
async fn an_imported_offer_rings_once_and_everything_else_goes_over_gossip() {
    let memory = without_offers();
    let alice = Phone::start(&memory, 1, Config::default()).await;
    let mut bob = Phone::start(&memory, 2, Config::default()).await;
    let carol = Phone::start(&memory, 3, Config::default()).await;
    let (call, offer) = calling(&alice, &bob).await;
    // What is not all of it, or for somebody else, changes nothing.
    for len in [0, 1, 2, 100, offer.len() - 1] {
        assert_eq!(refused(bob.blink.import_offer(&offer[..len]).await), Some(ImportError::Malformed));
    }
    let mut newer = offer.clone();
    newer[0] = 9;
    assert_eq!(refused(bob.blink.import_offer(newer).await), Some(ImportError::Newer(9)));
    assert_eq!(refused(carol.blink.import_offer(offer.clone()).await), Some(ImportError::NotForUs));
    let mut forged = offer.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(bob.blink.import_offer(forged).await), Some(ImportError::NotForUs));
    // Twice at once, and again when it rings.
    for _ in 0..2 {
        assert_eq!(refused(bob.blink.import_offer(offer.clone()).await), None);
    }
    assert_eq!(bob.incoming().await, call);
    assert_eq!(refused(bob.blink.import_offer(offer.clone()).await), None);
    let here = alice.blink.call(call);
    bob.blink.answer(call).await.unwrap();
    assert_eq!(here.connected().await, Ok(()));
    // Nobody waits for it to be answered any more.
    let again = here.export_offer(bob.key()).await;
    assert!(matches!(again, Err(Error::NothingToExport { .. })), "{again:?}");
    assert_eq!(refused(bob.blink.import_offer(offer.clone()).await), None);
    alice.blink.hang_up(call).await.unwrap();
    let mut rang = 0;
    bob.wait("the end", |e| {
        rang += u32::from(matches!(e, Event::Incoming { .. }));
        matches!(e, Event::Ended { .. }).then_some(())
    })
    .await;
    assert_eq!(rang, 0, "once");
    // An offer of a call that is over.
    let late = alice.blink.export_offer(call, bob.key()).await;
    assert!(matches!(late, Err(Error::NothingToExport { .. })), "{late:?}");
}

/// The callee's node is asleep when it is called. The offer wakes the app, whose node then finds that of the caller.
#[tokio::test]
async fn an_imported_offer_brings_the_nodes_together() {
    let memory = without_offers();
    let mut alice = Phone::start(&memory, 1, Config::default()).await;
    let bob = identity(2).public();
    let call = alice.blink.offer([bob]).await.unwrap();
    let offer = alice.blink.export_offer(call, bob).await.unwrap();
    let mut bob = Phone::start(&memory, 2, Config::default()).await;
    bob.blink.import_offer(offer).await.unwrap();
    assert_eq!(bob.incoming().await, call);
    alice.wait("ringing", |e| matches!(e, Event::Ringing { .. }).then_some(())).await;
    bob.blink.decline(call).await.unwrap();
    assert_eq!(alice.ended(call).await.0, EndReason::Declined);
}

#[tokio::test]
async fn who_may_not_ring_over_gossip_may_not_ring_so_either() {
    let memory = without_offers();
    let alice = Phone::start(&memory, 1, Config::default()).await;
    let mut config = Config::default();
    config.admission = Admission::Contacts;
    let bob = Phone::start(&memory, 2, config.clone()).await;
    let (call, offer) = calling(&alice, &bob).await;
    // To its caller this looks as if nobody was there.
    assert_eq!(refused(bob.blink.import_offer(offer).await), None);
    let snapshot = bob.blink.snapshot();
    assert_eq!((snapshot.statistics.counters.refused.admission, snapshot.calls.len()), (1, 0));
    alice.blink.cancel(call).await.unwrap();
    // Where strangers have no inbox, the app is told.
    config.open_inbox = false;
    let carol = Phone::start(&memory, 3, config).await;
    let (_, offer) = calling(&alice, &carol).await;
    assert_eq!(refused(carol.blink.import_offer(offer).await), Some(ImportError::Closed));
}

#[tokio::test]
async fn a_contacts_offer_has_its_own_lane() {
    let memory = Memory::default();
    let [of_alice, of_bob] = [1, 2].map(identity);
    let known = |me: u8, other: &warp_blink::Identity| {
        let builder = Blink::builder(identity(me)).memory(&memory).contacts([other.public()]);
        Phone::of(builder.store(Arc::new(MemoryStore::default())))
    };
    let (mut alice, mut bob) = (known(1, &of_bob).await, known(2, &of_alice).await);
    // They talk, and each has the other's token and key from then on.
    let call = talking(&alice, &mut [&mut bob]).await;
    alice.blink.hang_up(call).await.unwrap();
    bob.ended(call).await;
    alice.ended(call).await;
    lose_offers(&memory);
    let (call, offer) = calling(&alice, &bob).await;
    assert_eq!(offer[..2], [1, 1], "the contacts' lane");
    let mut stranger = offer.clone();
    stranger[1] = 0;
    assert_eq!(refused(bob.blink.import_offer(stranger).await), Some(ImportError::NotForUs));
    bob.blink.import_offer(offer).await.unwrap();
    assert_eq!(bob.incoming().await, call);
}
