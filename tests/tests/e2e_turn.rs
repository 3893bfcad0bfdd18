//! Calls that only a friend's TURN server makes possible, between real nodes: gossip, media and the relay over loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use blink_tests::e2e::phone::{LOOPBACK, Phone, early, fresh};
use warp_blink::{
    Blink, Builder, CallId, Config, EndReason, Event, Identity, TurnConfig, TurnFor,
    event::{Step, Warning},
    proto::turn::TurnLimits,
};

/// Serves these, with credentials that hold so long.
fn serving(identity: Identity, friends: &[&Identity], life: Duration) -> Builder {
    let mut config = Config::default();
    config.turn_for = TurnFor::Only(friends.iter().map(|friend| friend.public()).collect());
    let turn = TurnConfig::new((LOOPBACK, 0).into()).limits(TurnLimits::default().with_life(life));
    Blink::builder(identity).config(config).turn_for_friends(turn)
}

/// Talks through the friend only.
fn relayed(identity: &Identity, friend: &Phone, config: Config) -> Builder {
    Blink::builder(identity.clone()).config(config).relayed_media().turn_friend(friend.key())
}

async fn talk(from: &mut Phone, to: &mut Phone) -> CallId {
    let call = from.blink.offer([to.key()]).await.unwrap();
    assert_eq!(to.incoming().await, call);
    to.blink.answer(call).await.unwrap();
    from.heard().await;
    to.heard().await;
    call
}

async fn is_relayed(phone: &Phone) {
    phone
        .seen("a relayed path", |s| {
            let routes = s.calls.iter().flat_map(|c| &c.participants).map(|p| p.route.as_deref());
            routes.eq([Some("relay")])
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_show_no_address_talk_through_a_third() {
    for config in [Config::default(), early()] {
        let (of_alice, of_bob) = (fresh(), fresh());
        let life = Duration::from_secs(600);
        let carol = Phone::built(serving(fresh(), &[&of_alice, &of_bob], life), &[]).await;
        let mut bob = Phone::built(relayed(&of_bob, &carol, config.clone()), &[&carol]).await;
        let mut alice = Phone::built(relayed(&of_alice, &carol, config), &[&carol, &bob]).await;
        let call = talk(&mut alice, &mut bob).await;
        is_relayed(&alice).await;
        is_relayed(&bob).await;
        assert!(carol.blink.snapshot().calls.is_empty(), "it is no call of hers");
        alice.blink.hang_up(call).await.unwrap();
        assert_eq!(bob.ended(call).await.0, EndReason::HungUp);
    }
}

/// Where no UDP comes through to the friend, whose machine is known by the same address over TCP.
#[tokio::test(flavor = "multi_thread")]
async fn two_who_reach_the_third_over_tcp_alone_talk_all_the_same() {
    let (of_alice, of_bob) = (fresh(), fresh());
    let mut config = Config::default();
    config.turn_for = TurnFor::Only([of_alice.public(), of_bob.public()].into());
    let turn = TurnConfig::new((LOOPBACK, 0).into()).only_tcp();
    let carol = Phone::built(Blink::builder(fresh()).config(config).turn_for_friends(turn), &[]).await;
    let mut bob = Phone::built(relayed(&of_bob, &carol, Config::default()), &[&carol]).await;
    let mut alice = Phone::built(relayed(&of_alice, &carol, Config::default()), &[&carol, &bob]).await;
    let call = talk(&mut alice, &mut bob).await;
    is_relayed(&alice).await;
    is_relayed(&bob).await;
    alice.blink.hang_up(call).await.unwrap();
    assert_eq!(bob.ended(call).await.0, EndReason::HungUp);
}

/// Without being vouched for there is no relay, and without a relay no call: the friend's server does serve nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn whom_the_friend_does_not_know_is_not_relayed() {
    let mut config = Config::default();
    config.connect_timeout = Duration::from_secs(5);
    let (of_alice, of_bob) = (fresh(), fresh());
    let carol = Phone::built(serving(fresh(), &[&of_bob], Duration::from_secs(600)), &[]).await;
    let mut bob = Phone::built(relayed(&of_bob, &carol, config.clone()), &[&carol]).await;
    let mut alice = Phone::built(relayed(&of_alice, &carol, config), &[&carol, &bob]).await;
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, call);
    bob.blink.answer(call).await.unwrap();
    let silent = |e: &Event| match e {
        Event::Warning { warning: Warning::FriendSilent { peer } } => Some(*peer),
        _ => None,
    };
    assert_eq!(alice.wait("who gives nothing", silent).await, carol.key());
    let (reason, _) = alice.ended(call).await;
    assert_eq!(reason, EndReason::Failed { step: Step::Checking });
    assert!(carol.blink.snapshot().statistics.counters.refused.admission > 0);
}

/// The credentials end after three seconds; the call is still heard when five times that is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_outlives_the_credentials_that_it_began_with() {
    let (of_alice, of_bob) = (fresh(), fresh());
    let life = Duration::from_secs(3);
    let carol = Phone::built(serving(fresh(), &[&of_alice, &of_bob], life), &[]).await;
    let mut bob = Phone::built(relayed(&of_bob, &carol, Config::default()), &[&carol]).await;
    let mut alice = Phone::built(relayed(&of_alice, &carol, Config::default()), &[&carol, &bob]).await;
    let call = talk(&mut alice, &mut bob).await;
    is_relayed(&alice).await;
    let interrupted = |e: &Event| match e {
        Event::Link { state, .. } => Some(format!("{state:?}")),
        Event::Ended { reason, .. } => Some(format!("{reason:?}")),
        _ => None,
    };
    // Nothing may happen to the link in this time: what ends with the credentials would be noticed within two seconds.
    let news = alice.wait("news of the link", |e| interrupted(e).filter(|s| s != "Connected"));
    let news = tokio::time::timeout(5 * life, news).await;
    assert!(news.is_err(), "{news:?}");
    is_relayed(&alice).await;
    alice.blink.hang_up(call).await.unwrap();
    assert_eq!(bob.ended(call).await.0, EndReason::HungUp);
}

/// The friend goes in the middle of the call. Whoever may show its address goes on without; who may not is told that the call is
/// lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_friend_who_leaves_ends_the_call_of_those_who_have_no_other_path() {
    let mut config = Config::default();
    config.reconnect_window = Duration::from_secs(8);
    let (of_alice, of_bob) = (fresh(), fresh());
    let life = Duration::from_secs(600);
    let carol = Phone::built(serving(fresh(), &[&of_alice, &of_bob], life), &[]).await;
    let mut bob = Phone::built(relayed(&of_bob, &carol, config.clone()), &[&carol]).await;
    let mut alice = Phone::built(relayed(&of_alice, &carol, config), &[&carol, &bob]).await;
    let call = talk(&mut alice, &mut bob).await;
    is_relayed(&alice).await;
    carol.blink.shutdown().await;
    let (reason, _) = alice.ended(call).await;
    assert!(matches!(reason, EndReason::Lost | EndReason::Failed { .. }), "{reason:?}");
    bob.ended(call).await;
}

/// Of two friends the one whose server is in use goes: the call goes on over the other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_friend_who_leaves_does_not_end_the_call_of_those_who_have_another_path() {
    let (of_alice, of_bob) = (fresh(), fresh());
    let life = Duration::from_secs(600);
    let carol = Phone::built(serving(fresh(), &[&of_alice, &of_bob], life), &[]).await;
    let dave = Phone::built(serving(fresh(), &[&of_alice, &of_bob], life), &[]).await;
    let two = |of: &Identity| relayed(of, &carol, Config::default()).turn_friend(dave.key());
    let mut bob = Phone::built(two(&of_bob), &[&carol, &dave]).await;
    let mut alice = Phone::built(two(&of_alice), &[&carol, &dave, &bob]).await;
    let call = talk(&mut alice, &mut bob).await;
    is_relayed(&alice).await;
    carol.blink.shutdown().await;
    // Whether the path went over her is chance; if it did, another one is found.
    let mut states = Vec::new();
    let lost = alice.wait("the end", |e| match e {
        Event::Link { state, .. } => {
            states.push(format!("{state:?}"));
            None
        }
        Event::Ended { .. } => Some(()),
        _ => None,
    });
    assert!(tokio::time::timeout(Duration::from_secs(20), lost).await.is_err(), "the call is lost");
    println!("what became of the link: {states:?}");
    assert!(states.last().is_none_or(|state| state == "Connected"), "{states:?}");
    is_relayed(&alice).await;
    alice.blink.hang_up(call).await.unwrap();
    assert_eq!(bob.ended(call).await.0, EndReason::HungUp);
}

/// Of two friends one comes only when the call runs, and then the other goes, whose server carries it: those who talk go over to the one
/// who is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_friend_who_comes_in_mid_call_carries_it_on_when_the_other_leaves() {
    let (of_alice, of_bob, of_dave) = (fresh(), fresh(), fresh());
    let life = Duration::from_secs(600);
    let carol = Phone::built(serving(fresh(), &[&of_alice, &of_bob], life), &[]).await;
    let two = |of: &Identity| relayed(of, &carol, Config::default()).turn_friend(of_dave.public());
    let mut bob = Phone::built(two(&of_bob), &[&carol]).await;
    let mut alice = Phone::built(two(&of_alice), &[&carol, &bob]).await;
    let call = talk(&mut alice, &mut bob).await;
    is_relayed(&alice).await;
    let dave = Phone::built(serving(of_dave, &[&of_alice, &of_bob], life), &[&alice, &bob]).await;
    carol.blink.shutdown().await;
    let link = |wanted: &'static str| {
        move |e: &Event| match e {
            Event::Link { state, .. } => format!("{state:?}").starts_with(wanted).then_some(()),
            Event::Ended { reason, .. } => panic!("the call ended while {wanted} was waited for: {reason:?}"),
            _ => None,
        }
    };
    for phone in [&mut alice, &mut bob] {
        phone.wait("that the path is gone", link("Reconnecting")).await;
        phone.wait("another path", link("Connected")).await;
        is_relayed(phone).await;
    }
    assert!(dave.blink.snapshot().calls.is_empty(), "it is no call of his");
    alice.blink.hang_up(call).await.unwrap();
    assert_eq!(bob.ended(call).await.0, EndReason::HungUp);
}
