//! What goes over real links between real nodes, beside the sound.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blink_tests::e2e::phone::{PATIENCE, Phone};
use warp_blink::{
    CallId, Config, EndReason, Error, Event, IceServer, Rejected,
    channel::{Channel, ChannelOptions, Message},
    event::LinkState,
};

/// The channel of that name, once it is open.
async fn channel(phone: &mut Phone, wanted: &str) -> Channel {
    let open = phone.wait("a channel", |e| match e {
        Event::Channel { channel, name, .. } if name == wanted => Some(*channel),
        _ => None,
    });
    let id = open.await;
    phone.blink.channel(id).await.unwrap().expect("nobody else has asked for it")
}

fn link(phone: &Phone, call: CallId) -> Option<LinkState> {
    Some(phone.blink.snapshot().call(call)?.participants[0].link)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_talks_over_channels_of_its_own_and_replaces_its_servers_during_the_call() {
    let mut bob = Phone::start(Config::default(), &[]).await;
    let mut alice = Phone::start(Config::default(), &[&bob]).await;
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, call);
    let chat = || ChannelOptions::reliable("chat");
    let early = alice.blink.open_channel(call, bob.key(), chat()).await;
    assert!(matches!(early, Err(Error::Rejected(Rejected::NotActive(_)))), "{early:?}");
    bob.blink.answer(call).await.unwrap();
    for phone in [&alice, &bob] {
        phone.seen("the link", |_| link(phone, call) == Some(LinkState::Connected)).await;
    }

    alice.blink.open_channel(call, bob.key(), chat()).await.unwrap();
    let (here, mut there) = (channel(&mut alice, "chat").await, channel(&mut bob, "chat").await);
    for n in 0..100 {
        here.send(Message::Text(format!("line {n}"))).await.unwrap();
    }
    for n in 0..100 {
        let line = tokio::time::timeout(PATIENCE, there.recv()).await.expect("it arrives");
        assert_eq!(line, Some(Message::Text(format!("line {n}"))));
    }
    let nameless = alice.blink.open_channel(call, bob.key(), ChannelOptions::reliable("")).await;
    assert!(matches!(nameless, Err(Error::Media(_))), "{nameless:?}");

    // Nobody is there: the call goes on, and the app is told at the next gathering.
    alice.blink.set_ice_servers(vec![IceServer::stun("stun:127.0.0.1:9")]).await.unwrap();
    let wrong = alice.blink.set_ice_servers(vec![IceServer::stun("nothing")]).await;
    assert!(matches!(wrong, Err(Error::Media(_))), "{wrong:?}");
    here.send(Message::Text("still here".to_owned())).await.unwrap();
    let last = tokio::time::timeout(PATIENCE, there.recv()).await.expect("it arrives");
    assert_eq!(last, Some(Message::Text("still here".to_owned())));

    bob.blink.hang_up(call).await.unwrap();
    assert_eq!(alice.ended(call).await, (EndReason::HungUp, Some(bob.key())));
    let over = tokio::time::timeout(PATIENCE, there.recv()).await.expect("it ends with the call");
    assert_eq!(over, None);
    let late = alice.blink.open_channel(call, bob.key(), chat()).await;
    assert!(matches!(late, Err(Error::Rejected(Rejected::NoSuchCall(_)))), "{late:?}");
}
