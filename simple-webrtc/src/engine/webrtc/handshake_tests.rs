//! How long it takes to connect over a path that loses packets, with the whole engine in virtual time.

use std::time::Duration;

use tokio::time::Instant;

use super::virtual_tests::*;
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
