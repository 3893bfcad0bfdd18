//! Calls of several people, and several calls of one.

use std::time::Duration;

use warp_blink::{
    Config, EndReason, Error, Event, MayInvite, Memory, Other, Rejected, event::Presence, select,
};

use crate::phone::{Phone, talking};

async fn three(config: Config) -> [Phone; 3] {
    let memory = Memory::default();
    [
        Phone::start(&memory, 1, config.clone()).await,
        Phone::start(&memory, 2, config.clone()).await,
        Phone::start(&memory, 3, config).await,
    ]
}

#[tokio::test]
async fn three_talk_and_one_leaves_comes_back_and_is_removed() {
    let mut config = Config::default();
    config.empty_call_grace = Duration::from_millis(300);
    let [alice, mut bob, mut carol] = three(config).await;
    let call = talking(&alice, &mut [&mut bob, &mut carol]).await;
    // Those who did not call each other hear each other, too.
    bob.heard(call, carol.key()).await;
    carol.heard(call, bob.key()).await;
    carol.blink.set_muted(true).await.unwrap();
    alice.sees(call, &carol, |s| s.muted).await;
    bob.sees(call, &carol, |s| s.muted).await;
    bob.blink.set_recording(true).await.unwrap();
    bob.blink.set_camera(true).await.unwrap();
    bob.blink.set_screen(true).await.unwrap();
    carol.sees(call, &bob, |s| s.recording && s.camera && s.screen).await;

    carol.blink.leave(call).await.unwrap();
    carol.wait("having left", |e| matches!(e, Event::Left { .. }).then_some(())).await;
    for phone in [&alice, &bob] {
        phone.sees(call, &carol, |s| s.presence == Presence::Left).await;
    }
    carol.blink.rejoin(call, Other::End).await.unwrap();
    carol.with(call, &[&alice, &bob]).await;
    bob.with(call, &[&alice, &carol]).await;

    // Only who made the call removes others.
    let refused = carol.blink.remove(call, bob.key()).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::MayNotRemove(_)))), "{refused:?}");
    alice.blink.remove(call, bob.key()).await.unwrap();
    assert_eq!(bob.ended(call).await, (EndReason::Removed, Some(alice.key())));
    alice.with(call, &[&carol]).await;
    carol.with(call, &[&alice]).await;
    carol.sees(call, &bob, |s| s.presence == Presence::Removed).await;
    // Under a key that the removed one has not.
    carol.blink.set_muted(false).await.unwrap();
    alice.sees(call, &carol, |s| !s.muted).await;
    alice.blink.hang_up(call).await.unwrap();
    // Who is left alone waits a while for somebody to come back.
    assert_eq!(carol.ended(call).await, (EndReason::HungUp, None));
}

#[tokio::test]
async fn a_member_brings_somebody_in_and_the_call_goes_on_when_that_member_goes() {
    let [mut alice, mut bob, mut carol] = three(Config::default()).await;
    let call = talking(&alice, &mut [&mut bob]).await;
    assert!(alice.blink.snapshot().call(call).unwrap().may_invite);
    bob.blink.invite(call, [carol.key()]).await.unwrap();
    assert_eq!(carol.incoming().await, call);
    carol.blink.answer(call).await.unwrap();
    carol.with(call, &[&alice, &bob]).await;
    alice.with(call, &[&bob, &carol]).await;
    carol.heard(call, alice.key()).await;
    alice.heard(call, carol.key()).await;
    bob.blink.hang_up(call).await.unwrap();
    alice.with(call, &[&carol]).await;
    carol.with(call, &[&alice]).await;
    let again = alice.blink.invite(call, [carol.key()]).await;
    assert!(matches!(again, Err(Error::Rejected(Rejected::AlreadyInCall(_)))), "{again:?}");
    // Somebody who has gone can be brought in again.
    alice.blink.invite(call, [bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, call);
    bob.blink.answer(call).await.unwrap();
    bob.with(call, &[&alice, &carol]).await;
}

#[tokio::test]
async fn who_made_the_call_says_who_may_invite_and_how_many_it_holds() {
    let mut config = Config::default();
    (config.may_invite, config.max_members) = (MayInvite::Creator, 2);
    let [alice, mut bob, carol] = three(config).await;
    let both = alice.blink.offer([bob.key(), carol.key()]).await;
    assert!(matches!(both, Err(Error::Rejected(Rejected::CallFull { most: 2 }))), "{both:?}");
    let call = talking(&alice, &mut [&mut bob]).await;
    assert!(!bob.blink.snapshot().call(call).unwrap().may_invite);
    let refused = bob.blink.invite(call, [carol.key()]).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::MayNotInvite(_)))), "{refused:?}");
    let full = alice.blink.invite(call, [carol.key()]).await;
    assert!(matches!(full, Err(Error::Rejected(Rejected::CallFull { .. }))), "{full:?}");
}

#[tokio::test]
async fn one_call_is_held_while_another_is_answered_and_each_goes_on_in_turn() {
    let [mut alice, mut bob, carol] = three(Config::default()).await;
    let first = talking(&alice, &mut [&mut bob]).await;
    let second = carol.blink.offer([alice.key()]).await.unwrap();
    assert_eq!(alice.incoming().await, second);
    alice.blink.answer_holding(second).await.unwrap();
    alice.with(second, &[&carol]).await;
    bob.sees(first, &alice, |s| s.held).await;
    let mut active = alice.blink.watch(select::active_call());
    assert_eq!(active.now(), Some(second));
    alice.blink.unhold(first, Other::Hold).await.unwrap();
    assert_eq!(active.changed().await, Some(Some(first)));
    bob.sees(first, &alice, |s| !s.held).await;
    carol.sees(second, &alice, |s| s.held).await;
    alice.heard(first, bob.key()).await;
    // What goes on takes the place of what is active.
    alice.blink.unhold(second, Other::End).await.unwrap();
    assert_eq!(bob.ended(first).await, (EndReason::HungUp, Some(alice.key())));
    carol.sees(second, &alice, |s| !s.held).await;
    alice.blink.hold(second).await.unwrap();
    let twice = alice.blink.hold(second).await;
    assert!(matches!(twice, Err(Error::Rejected(Rejected::IsHeld(_)))), "{twice:?}");
    carol.blink.hang_up(second).await.unwrap();
    assert_eq!(alice.ended(second).await, (EndReason::HungUp, Some(carol.key())));
}
