//! Loss, congestion and what is told of them, with the whole engine in virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::net::Net;
use super::virtual_tests::*;
use super::*;
use crate::*;

const FRAME: Duration = Duration::from_millis(20);

/// RTP with a header extension: what is numbered or has a level.
const RTP: u8 = 0x90;

/// The sockets that such packets came from.
fn speakers(net: &Net) -> Vec<SocketAddr> {
    let log = net.log();
    log.iter().rev().find(|(_, _, first)| *first == RTP).map(|(_, from, _)| vec![*from]).unwrap_or_default()
}

/// What the second side hears while the first one speaks: for each frame, how long after it was written it came.
struct Heard {
    ways: BTreeMap<u32, Duration>,
    written: u32,
    payload_types: Vec<u8>,
    /// Of both sides, at the last word.
    stats: (Stats, Stats),
}

impl Heard {
    fn missing(&self) -> usize {
        self.written as usize - self.ways.len()
    }

    /// Of those that came later than most, the median of how much later.
    fn healed(&self) -> (usize, Duration) {
        let least = self.ways.values().min().copied().unwrap_or_default();
        let mut late: Vec<Duration> = self
            .ways
            .values()
            .map(|way| *way - least)
            .filter(|late| *late > Duration::from_millis(1))
            .collect();
        late.sort();
        (late.len(), late.get(late.len() / 2).copied().unwrap_or_default())
    }
}

/// Speaks for so many frames, from this number on, both ways, and listens.
async fn speak(pair: &mut Pair, from: u32, frames: u32) -> Heard {
    let mut track = pair.take_track(false, TrackKind::Audio).expect("heard before");
    while time::timeout(Duration::ZERO, track.recv()).await.is_ok() {}
    let start = Instant::now();
    let mut tick = time::interval(FRAME);
    let (mut ways, mut payload_types) = (BTreeMap::new(), Vec::new());
    let mut hear = |packet: Packet| {
        let n = packet.timestamp / 960;
        if (from..from + frames).contains(&n) {
            let written = start + FRAME * (n - from);
            ways.insert(n, Instant::from_std(packet.arrival).saturating_duration_since(written));
            payload_types.push(packet.payload_type);
        }
    };
    for n in from..from + frames {
        tick.tick().await;
        pair.a.track.write(frame(n)).expect("fits");
        pair.b.track.write(frame(n)).expect("fits");
        while let Ok(Some(packet)) = time::timeout(Duration::ZERO, track.recv()).await {
            hear(packet);
        }
    }
    let stats = (stats(&pair.a).await, stats(&pair.b).await);
    // What was lost last is still on its way.
    for _ in 0..100 {
        if let Ok(Some(packet)) = time::timeout(Duration::from_millis(20), track.recv()).await {
            hear(packet);
        }
    }
    pair.keep_track(false, track);
    Heard { ways, written: frames, payload_types, stats }
}

async fn connected(delay: Duration, rewrite: Option<fn(&str) -> String>) -> Pair {
    let mut pair = Pair::new(delay, true);
    pair.rewrite = rewrite;
    pair.connect().await;
    pair.heard().await;
    pair
}

async fn stats(side: &Side) -> Stats {
    side.peers.stats(&"peer").await.expect("connected")
}

/// Lost sound is asked for and comes again; without that, all of it stays away.
#[tokio::test(start_paused = true)]
async fn lost_sound_is_sent_again() {
    const LOST: u64 = 80;
    for delay in [5, 60] {
        let delay = Duration::from_millis(delay);
        let mut pair = connected(delay, None).await;
        pair.net.lose(LOST, 7);
        let heard = speak(&mut pair, 1_000, 1_000).await;
        let (healed, median) = heard.healed();
        let (a, b) = (stats(&pair.a).await, stats(&pair.b).await);
        println!(
            "8 % lost, {delay:?} one way: {} of 1000 missing, {healed} healed in {median:?} (median); {:?}",
            heard.missing(),
            b.repairs
        );
        assert!(heard.missing() <= 3, "{}", heard.missing());
        assert!(healed > 50, "nothing was lost: {healed}");
        // Noticed with the next frame, asked for a moment later, and there again after a round trip.
        assert!(median <= FRAME + Duration::from_millis(5) + 2 * delay, "{median:?}");
        assert!(b.repairs.healed as usize >= healed, "{:?}", b.repairs);
        assert!(a.repairs.resent >= b.repairs.healed && a.repairs.requested >= a.repairs.resent, "{a:?}");
        // Not for each interval anew: a quarter more than what was lost, for requests that are lost themselves.
        assert!(a.repairs.resent as usize <= healed * 3 / 2, "{} for {healed}", a.repairs.resent);
        pair.shutdown().await;
    }
}

/// A peer that knows nothing of all this: no line of feedback, no numbers.
fn plain(sdp: &str) -> String {
    let kept = sdp.split("\r\n").filter(|line| {
        !line.starts_with("a=rtcp-fb:") && !line.contains("transport-wide-cc") && !line.contains("red/")
    });
    kept.collect::<Vec<_>>().join("\r\n")
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_cannot_repair_is_not_asked() {
    let mut pair = connected(Duration::from_millis(5), Some(plain)).await;
    pair.net.lose(80, 7);
    let heard = speak(&mut pair, 1_000, 1_000).await;
    let (a, b) = (stats(&pair.a).await, stats(&pair.b).await);
    println!("8 % lost and no feedback: {} of 1000 missing", heard.missing());
    assert!((50..=120).contains(&heard.missing()), "{}", heard.missing());
    assert_eq!((a.repairs, b.repairs), (Repairs::default(), Repairs::default()));
    // What every peer reports is there all the same.
    assert!(a.reported.is_some_and(|reported| (0.04..0.13).contains(&reported.loss)), "{:?}", a.reported);
    assert!(a.rtcp_round_trip_ms.is_some());
    pair.shutdown().await;
}

/// Every packet of sound and of videos is numbered, and the peer says what became of it.
#[tokio::test(start_paused = true)]
async fn what_reports_say_is_in_the_statistics() {
    let delay = Duration::from_millis(40);
    let mut pair = connected(delay, None).await;
    let from = speakers(&pair.net);
    assert_eq!(from.len(), 1, "nothing is numbered");
    pair.net.shape_only(from);
    pair.net.lose(50, 3);
    let (a, b) = speak(&mut pair, 1_000, 500).await.stats;
    println!("{a:?}\n{b:?}");
    // The clock of RTCP counts 1/65536 s.
    for (of, side) in [("a", &a), ("b", &b)] {
        let round_trip = side.rtcp_round_trip_ms.expect("reported");
        assert!((round_trip - 80.0).abs() < 0.1, "{of}: {round_trip}");
        // 50 packets with 12 bytes of header, 8 of extension and 4 of payload.
        let sent = side.sent.bitrate.expect("sends");
        assert!((8_000..=12_000).contains(&sent), "{of}: {sent}");
        assert!(side.received.bitrate.is_some_and(|rate| (7_000..=12_500).contains(&rate)), "{of}");
    }
    let (of_a, of_b) = (a.reported.expect("reported"), b.reported.expect("reported"));
    // Repaired before it is reported, mostly.
    assert!(of_a.loss < 0.03 && of_b.loss == 0.0, "{of_a:?} {of_b:?}");
    // On a network that is even: what is sent again is no jitter.
    assert!(of_a.jitter_ms < 0.1 && of_b.jitter_ms < 0.1, "{of_a:?} {of_b:?}");
    assert!(of_a.reports >= 9, "{of_a:?}");
    pair.shutdown().await;
}
