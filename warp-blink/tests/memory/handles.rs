//! Handles for calls, and watches.

use warp_blink::{Config, EndReason, Error, Event, Failed, Memory, Rejected, event::Phase, select};

use crate::phone::{PATIENCE, Phone, talking};

async fn pair() -> (Phone, Phone) {
    let memory = Memory::default();
    (Phone::start(&memory, 1, Config::default()).await, Phone::start(&memory, 2, Config::default()).await)
}

#[tokio::test]
async fn a_handle_waits_for_the_connection_and_for_the_end_and_can_be_asked_late() {
    let (alice, mut bob) = pair().await;
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    let here = alice.blink.call(call);
    assert_eq!((here.id(), here.snapshot().map(|c| c.phase)), (call, Some(Phase::Outgoing)));
    let waiting = tokio::spawn({
        let here = here.clone();
        async move { (here.connected().await, here.ended().await) }
    });
    let ringing = bob.incoming().await;
    let there = bob.blink.call(ringing);
    there.answer().await.unwrap();
    assert_eq!(there.connected().await, Ok(()));
    assert_eq!(here.connected().await, Ok(()), "asked again");
    there.hang_up().await.unwrap();
    let (connected, ended) = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(connected, Ok(()));
    let ended = ended.unwrap();
    assert_eq!((ended.id, ended.reason, ended.by), (call, EndReason::HungUp, Some(bob.key())));
    assert_eq!(here.ended().await.unwrap(), ended, "asked again");
    assert_eq!(here.connected().await, Ok(()), "it was, once");
    assert_eq!(here.snapshot(), None);
    assert!(matches!(here.hang_up().await, Err(Error::Rejected(Rejected::NoSuchCall(_)))));
}

#[tokio::test]
async fn a_call_that_does_not_come_about_says_why() {
    let (alice, mut bob) = pair().await;
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    let ringing = bob.incoming().await;
    let there = bob.blink.call(ringing);
    there.decline().await.unwrap();
    let failed = alice.blink.call(call).connected().await.unwrap_err();
    assert!(matches!(&failed, Failed::Ended(e) if e.reason == EndReason::Declined), "{failed:?}");
    assert_eq!(failed.to_string(), EndReason::Declined.to_string());
    // With what can be done about it.
    let nobody = crate::phone::identity(9).public();
    let call = alice.blink.offer([nobody]).await.unwrap();
    let failed = alice.blink.call(call).connected().await.unwrap_err();
    assert!(matches!(&failed, Failed::Ended(e) if e.reason == EndReason::Unreachable), "{failed:?}");
    assert!(failed.to_string().contains("online"), "{failed}");
    let mut error = alice.blink.watch(select::last_error_with(nobody));
    assert!(error.now().is_some());
    // A call that never was.
    let none = warp_blink::CallId::from_bytes([7; 16]);
    assert_eq!(alice.blink.call(none).connected().await, Err(Failed::Unknown(none)));
    assert!(matches!(alice.blink.call(none).ended().await, Err(Error::Rejected(Rejected::NoSuchCall(_)))));
}

#[tokio::test]
async fn a_call_that_ended_by_shutting_down_has_ended() {
    let (alice, mut bob) = pair().await;
    let call = talking(&alice, &mut [&mut bob]).await;
    let (here, there) = (alice.blink.call(call), bob.blink.call(call));
    alice.blink.shutdown().await;
    assert_eq!(here.ended().await.unwrap().reason, EndReason::HungUp);
    assert_eq!(there.ended().await.unwrap().by, Some(crate::phone::identity(1).public()));
    assert_eq!(here.connected().await, Ok(()));
    let late = here.blink().call(warp_blink::CallId::from_bytes([7; 16]));
    assert!(matches!(late.ended().await, Err(Error::Rejected(_) | Error::Closed)));
}

/// Both call each other at once: each side's handle is one of the call that comes of it.
#[tokio::test]
async fn a_handle_of_a_call_that_was_merged_is_one_of_the_call_that_is_left() {
    let (mut alice, mut bob) = pair().await;
    let (ours, theirs) = tokio::join!(alice.blink.offer([bob.key()]), bob.blink.offer([alice.key()]));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    let (a, b) = (alice.blink.call(ours), bob.blink.call(theirs));
    assert_eq!((a.connected().await, b.connected().await), (Ok(()), Ok(())));
    assert_eq!(a.id(), b.id());
    let merged =
        |e: &Event| if let Event::Merged { call, into, .. } = e { Some((*call, *into)) } else { None };
    let (phone, old) = if a.id() == ours { (&mut bob, theirs) } else { (&mut alice, ours) };
    assert_eq!(phone.wait("the merging", merged).await, (old, a.id()));
    // Commands under either name.
    a.hang_up().await.unwrap();
    assert_eq!((a.ended().await.unwrap().id, b.ended().await.unwrap().id), (a.id(), a.id()));
}

#[tokio::test]
async fn watches_tell_of_their_part() {
    let (alice, mut bob) = pair().await;
    let mut pending = bob.blink.watch(select::pending_calls());
    let mut media = bob.blink.watch(select::media_enabled());
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(pending.changed().await, Some(vec![(call, Some(alice.key()))]));
    assert!(!media.now(), "no microphone before accept");
    assert_eq!(bob.incoming().await, call);
    bob.blink.answer(call).await.unwrap();
    assert_eq!((pending.changed().await, media.changed().await), (Some(vec![]), Some(true)));
    let mut counts = bob.blink.watch(select::counts(call));
    assert!(counts.wait_for(|c| c.connected == 1).await.is_some());
    assert_eq!(bob.blink.watch(select::connections()).now(), [(call, alice.key())]);
    bob.blink.shutdown().await;
    assert_eq!(media.wait_for(|open| !open).await, Some(false));
    assert!(pending.changed().await.is_none());
}
