//! Data channels of the real engine, in virtual time.

use std::time::Duration;

use bytes::Bytes;
use tokio::time;

use super::net::Net;
use super::relay;
use super::virtual_tests::*;
use crate::*;

const FIRST: Generation = Generation(1);
const DELAY: Duration = Duration::from_millis(10);

fn numbered(n: u32, len: usize) -> Message {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.resize(len.max(4), 7);
    Message::Binary(Bytes::from(bytes))
}

fn number(message: &Message) -> u32 {
    match message {
        Message::Binary(bytes) => u32::from_be_bytes(bytes[..4].try_into().expect("four bytes")),
        Message::Text(_) => panic!("binary"),
    }
}

async fn connected() -> Pair {
    let mut pair = Pair::new(DELAY, true);
    pair.connect().await;
    pair
}

#[tokio::test(start_paused = true)]
async fn every_connection_has_one_for_signaling_and_either_side_opens_more() {
    let mut pair = connected().await;
    let (signaling_a, mut signaling_b) = pair.channel("signaling").await;
    assert!(signaling_a.is_signaling() && signaling_b.is_signaling());
    signaling_a.send(Message::Text("bound".to_owned())).await.expect("open");
    assert_eq!(signaling_b.recv().await, Some(Message::Text("bound".to_owned())));

    pair.a.peers.open_channel(&"peer", FIRST, ChannelOptions::reliable("chat")).expect("open");
    pair.b.peers.open_channel(&"peer", FIRST, ChannelOptions::unreliable("position", 0)).expect("open");
    // Nothing keeps an app from using that name, but it is another channel.
    pair.a.peers.open_channel(&"peer", FIRST, ChannelOptions::reliable("signaling")).expect("open");
    let (mut chat_a, mut chat_b) = pair.channel("chat").await;
    let (position_a, position_b) = pair.channel("position").await;
    let (other_a, other_b) = pair.channel("signaling").await;
    assert!(!other_a.is_signaling() && !other_b.is_signaling());
    assert!(!position_a.is_reliable() && !position_b.is_reliable());
    assert!(chat_a.is_reliable() && chat_b.is_reliable());
    let long = numbered(1, MAX_MESSAGE_BYTES);
    chat_a.send(long.clone()).await.expect("fits");
    chat_b.send(Message::Text(String::new())).await.expect("fits");
    assert_eq!(chat_b.recv().await, Some(long));
    assert_eq!(chat_a.recv().await, Some(Message::Text(String::new())));
    let len = MAX_MESSAGE_BYTES + 1;
    assert_eq!(chat_a.send(numbered(1, len)).await, Err(SendError::TooLong { len }));
    assert_eq!(chat_a.try_send(numbered(1, len)), Err(SendError::TooLong { len }));

    let open = |name: &str| pair.a.peers.open_channel(&"peer", FIRST, ChannelOptions::reliable(name));
    assert_eq!(open(""), Err(Error::ChannelName { len: 0 }));
    assert_eq!(open(&"x".repeat(65)), Err(Error::ChannelName { len: 65 }));
    pair.shutdown().await;
    assert_eq!(chat_a.recv().await, None);
    assert_eq!(chat_b.try_send(Message::Text(String::new())), Err(SendError::Closed));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_the_end_arrives_and_then_the_end() {
    let mut pair = connected().await;
    pair.a.peers.open_channel(&"peer", FIRST, ChannelOptions::reliable("chat")).expect("open");
    let (chat_a, mut chat_b) = pair.channel("chat").await;
    let sender = chat_a.sender();
    drop(chat_a);
    for n in 0..100 {
        sender.send(numbered(n, 1000)).await.expect("open");
    }
    drop(sender);
    for n in 0..100 {
        assert_eq!(chat_b.recv().await, Some(numbered(n, 1000)), "{n}");
    }
    assert_eq!(chat_b.recv().await, None);
    assert_eq!(chat_b.try_send(numbered(1, 4)), Err(SendError::Closed));
    // Its place is free again.
    for n in 0..40 {
        let name = format!("number {n}");
        pair.a.peers.open_channel(&"peer", FIRST, ChannelOptions::reliable(&name)).expect("open");
        let (a, mut b) = pair.channel(&name).await;
        drop(a);
        assert_eq!(b.recv().await, None);
    }
    pair.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_makes_the_sender_wait_and_nobody_else() {
    let mut pair = connected().await;
    for name in ["stuck", "other"] {
        pair.a.peers.open_channel(&"peer", FIRST, ChannelOptions::reliable(name)).expect("open");
    }
    let (stuck_a, mut stuck_b) = pair.channel("stuck").await;
    let mut sent = 0;
    while time::timeout(Duration::from_secs(20), stuck_a.send(numbered(sent, 10_000))).await.is_ok() {
        sent += 1;
        assert!(sent < 1_000, "nothing holds it back");
    }
    println!("{sent} messages of 10 kB went before the sender had to wait");
    assert_eq!(stuck_a.try_send(numbered(sent, 10_000)), Err(SendError::Full));
    assert!(pair.heard().await <= DELAY + Duration::from_millis(40), "sound goes on");
    // The send that timed out may have been taken or not, as it is with cancelled sends; everything else comes, in order.
    for n in 0..sent {
        let message = time::timeout(Duration::from_secs(60), stuck_b.recv()).await.expect("in time");
        assert_eq!(message.as_ref().map(number), Some(n));
    }
    pair.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn lost_messages_come_again_or_are_given_up_as_was_said() {
    let mut pair = connected().await;
    for options in [ChannelOptions::reliable("sure"), ChannelOptions::unreliable("quick", 0)] {
        pair.a.peers.open_channel(&"peer", FIRST, options).expect("open");
    }
    let (sure_a, mut sure_b) = pair.channel("sure").await;
    let (quick_a, mut quick_b) = pair.channel("quick").await;
    pair.net.lose_every(7);
    for n in 0..200 {
        sure_a.send(numbered(n, 100)).await.expect("open");
        quick_a.send(numbered(n, 100)).await.expect("open");
        time::sleep(Duration::from_millis(20)).await;
    }
    for n in 0..200 {
        let message = time::timeout(Duration::from_secs(60), sure_b.recv()).await.expect("in time");
        assert_eq!(message.as_ref().map(number), Some(n));
    }
    pair.net.lose_every(0);
    let mut quick = Vec::new();
    while let Ok(Some(message)) = time::timeout(Duration::from_secs(20), quick_b.recv()).await {
        quick.push(number(&message));
    }
    println!("{} of 200 arrived on the unreliable channel", quick.len());
    assert!((140..200).contains(&quick.len()), "{}", quick.len());
    quick_a.send(numbered(999, 4)).await.expect("still open");
    assert_eq!(quick_b.recv().await.as_ref().map(number), Some(999));
    pair.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn channels_outlive_a_restart() {
    let mut pair = connected().await;
    let (mut signaling_a, signaling_b) = pair.channel("signaling").await;
    pair.net.kill_present();
    signaling_b.send(Message::Text("from before".to_owned())).await.expect("open");
    pair.a.peers.restart(&"peer", FIRST).expect("restart");
    pair.until(LinkState::Connected).await;
    let message = time::timeout(Duration::from_secs(20), signaling_a.recv()).await.expect("in time");
    assert_eq!(message, Some(Message::Text("from before".to_owned())));
    pair.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_number_of_channels_is_bounded_on_both_sides() {
    let mut pair = connected().await;
    for n in 0..40 {
        let name = format!("number {n}");
        pair.a.peers.open_channel(&"peer", FIRST, ChannelOptions::reliable(&name)).expect("open");
    }
    // The one for signaling is among them.
    for n in 0..15 {
        pair.channel(&format!("number {n}")).await;
    }
    drop(time::timeout(Duration::from_secs(20), pair.until(LinkState::Negotiating)).await);
    let further: Vec<_> = pair.channels.iter().filter(|(_, channel)| channel.name() != "signaling").collect();
    assert!(further.is_empty(), "{further:?}");
    pair.shutdown().await;
}

/// DTLS records that carry SCTP.
const APPLICATION_DATA: u8 = 23;

/// Both sides speak on the signaling channel as soon as it is open at their end. Whether the first and the second one is
/// heard by the other.
async fn speak_at_once(mut pair: Pair) -> [bool; 2] {
    pair.a.peers.dial("peer", FIRST).expect("dial");
    let (mut heard, mut open) = ([false; 2], Vec::new());
    // Seven losses in a row, from 1 s doubling, are 127 s.
    let until = time::Instant::now() + Duration::from_secs(200);
    while heard != [true; 2] && time::Instant::now() < until {
        drop(time::timeout(Duration::from_millis(100), pair.step()).await);
        for (at_a, channel) in pair.channels.drain(..) {
            channel.send(Message::Text("bound".to_owned())).await.expect("open");
            open.push((at_a, channel));
        }
        for (at_a, channel) in &mut open {
            if let Ok(message) = time::timeout(Duration::ZERO, channel.recv()).await {
                assert_eq!(message, Some(Message::Text("bound".to_owned())));
                heard[usize::from(*at_a)] = true;
            }
        }
    }
    pair.shutdown().await;
    heard
}

/// Whatever of the first datagrams is lost, what both sides say at once arrives. The engine alone throws away what comes
/// before it has heard that the association is up, though it has acknowledged it.
#[tokio::test(start_paused = true)]
async fn what_is_said_at_once_on_the_signaling_channel_arrives() {
    let mut unheard = [0, 0];
    for (mended, unheard) in [true, false].into_iter().zip(&mut unheard) {
        for pattern in 0..128_u32 {
            let pair = Pair::new(DELAY, mended);
            pair.net.lose_picked(APPLICATION_DATA, (0..7).filter(|at| pattern & (1 << at) != 0));
            let heard = speak_at_once(pair).await;
            assert!(!mended || heard == [true; 2], "{pattern:07b}: {heard:?}");
            *unheard += usize::from(heard != [true; 2]);
        }
    }
    println!("of 128 patterns of loss the engine alone loses a message in {}", unheard[1]);
    assert!(unheard[1] > 0, "it keeps them now: `signaling` is not needed any more");
    for pattern in 0..32_u32 {
        let net = Net::new(DELAY);
        let server = format!("turn:{}", relay::start(&net));
        let config = || loopback().ice_server(IceServer::turn(&server, "user", "secret")).relay_only(true);
        // Between the relays everything is as it was.
        net.lose_picked(APPLICATION_DATA, (0..5).filter(|at| pattern & (1 << at) != 0));
        assert_eq!(speak_at_once(Pair::with(net, true, config)).await, [true; 2], "relayed, {pattern:05b}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_end_knows_both_certificates_before_it_is_connected() {
    let pair = connected().await;
    let of = |a: bool| {
        let mut told = pair.certificates.iter().filter(|(is_a, _)| *is_a == a).map(|(_, told)| *told);
        (told.next().expect("told"), told.next())
    };
    let ((a, again), (b, _)) = (of(true), of(false));
    assert_eq!(again, None, "once");
    assert_eq!((a.local, a.remote), (b.remote, b.local));
    assert_ne!(a.local, a.remote);
}

#[tokio::test(start_paused = true)]
async fn a_word_before_the_end_of_the_connection_arrives_before_the_end() {
    for _ in 0..20 {
        let mut pair = connected().await;
        let (a, mut b) = pair.channel("signaling").await;
        a.try_send(Message::Text("goodbye".to_owned())).expect("room");
        pair.a.peers.hang_up(&"peer", FIRST).expect("there");
        assert_eq!(b.recv().await, Some(Message::Text("goodbye".to_owned())));
        let closed = time::timeout(Duration::from_secs(10), async {
            while !matches!(pair.step().await, (false, LinkState::Closed { by_remote: true })) {}
        });
        closed.await.expect("and the other side hears of the end");
    }
}
