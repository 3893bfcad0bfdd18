//! How long it takes to connect over a path that loses packets, with the whole engine in virtual time.

use std::future::poll_fn;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{self, Instant};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::net::Net;
use super::pace::Pace;
use super::servers::Servers;
use super::socket::{Socket, Watch};
use super::virtual_tests::*;
use crate::engine::Inbox;
use crate::*;

/// One way.
const DELAY: Duration = Duration::from_millis(50);
const SEEDS: u64 = 40;

/// Over so much loss, of a thousand: until both sides are connected, until a word is heard, and until the signaling channel has
/// carried one, each sorted.
async fn connects(of_1000: u64) -> [Vec<Duration>; 3] {
    let mut times: [Vec<Duration>; 3] = Default::default();
    for seed in 1..=SEEDS {
        let mut pair = Pair::new(DELAY, true);
        pair.net.lose(of_1000, 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let start = Instant::now();
        times[0].push(pair.connect().await);
        pair.heard().await;
        times[1].push(start.elapsed());
        let (one, mut other) = pair.channel("signaling").await;
        one.send(Message::Text("bound".to_owned())).await.expect("open");
        assert_eq!(other.recv().await, Some(Message::Text("bound".to_owned())));
        times[2].push(start.elapsed());
        pair.shutdown().await;
    }
    for (what, times) in ["connected", "a word heard", "a message carried"].into_iter().zip(&mut times) {
        times.sort();
        println!(
            "{of_1000} of 1,000 lost: {what} after {:?} (median), {:?} (nine of ten), {:?} (worst)",
            median(times),
            times[times.len() * 9 / 10],
            times[times.len() - 1]
        );
    }
    times
}

fn median(times: &[Duration]) -> Duration {
    times[times.len() / 2]
}

/// Where the engine alone repeats what is lost, the first six took 1.5, 1.5, 9.5, 4.5, 0.5 and 2.5 s, and the seventh did not come about.
/// Keys are random, and so is what is lost: of 1,000 connections half came within 0.65 s and all within 2.9 s, half of their first
/// messages within 1.1 s and all within 5 s.
#[tokio::test(start_paused = true)]
async fn a_path_that_loses_a_fifth_connects_within_seconds() {
    let [clean, ..] = connects(0).await;
    // What no handshake can do without: three ways of checks, six of DTLS.
    assert_eq!(clean.first(), clean.last());
    assert_eq!(clean[0], 9 * DELAY);
    let [connected, heard, carried] = connects(200).await;
    assert!(median(&connected) <= 2 * clean[0], "{:?}", median(&connected));
    assert!(median(&carried) <= 3 * clean[0], "{:?}", median(&carried));
    assert!(heard[heard.len() - 1] <= Duration::from_secs(5), "{heard:?}");
    assert!(carried[carried.len() - 1] <= Duration::from_secs(9), "{carried:?}");
}

/// What is sent while nobody says a word, from another turn of the loop than the one that reads, is sent again in time all the same.
#[tokio::test(start_paused = true)]
async fn silence_does_not_keep_a_flight_from_being_sent_again() {
    let net = Net::new(DELAY);
    let inbox = Inbox::new();
    let servers = Arc::new(Servers::new(&[], inbox.sender()));
    let watch = Watch::new(Arc::new(Pace::new(true)), inbox.sender(), servers, Arc::default());
    let (silent, socket) = (net.open(), Arc::new(Socket::new(net.open(), Arc::new(watch))));
    let to = silent.local_addr().expect("a port");
    let reader = socket.clone();
    let reading = tokio::spawn(poll_fn(move |cx| {
        let mut bytes = [0; 100];
        let (mut bufs, mut meta) = ([IoSliceMut::new(&mut bytes)], [RecvMeta::default()]);
        reader.poll_recv(cx, &mut bufs, &mut meta).map(drop)
    }));
    time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let contents = &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 7];
    let (ecn, segment_size, src_ip) = (None, None, None);
    let hello = Transmit { destination: to, ecn, contents, segment_size, src_ip };
    poll_fn(|cx| socket.poll_send(cx, &hello)).await.expect("sent");
    time::sleep(Duration::from_millis(350)).await;
    let sent: Vec<Duration> = net.log().iter().map(|(at, ..)| *at - start).collect();
    assert_eq!(sent, [0, 100, 300].map(Duration::from_millis));
    reading.abort();
}
