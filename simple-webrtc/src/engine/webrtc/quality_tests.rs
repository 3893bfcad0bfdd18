//! Loss, congestion and what is told of them, with the whole engine in virtual time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{self, Instant};

use super::net::Net;
use super::virtual_tests::*;
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
    let mut ways = BTreeMap::new();
    let mut hear = |packet: Packet| {
        let n = packet.timestamp / 960;
        if (from..from + frames).contains(&n) {
            let written = start + FRAME * (n - from);
            ways.insert(n, Instant::from_std(packet.arrival).saturating_duration_since(written));
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
    Heard { ways, written: frames, stats }
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
    for (delay, redundant) in [(5, false), (60, false), (5, true)] {
        let delay = Duration::from_millis(delay);
        let mut pair = Pair::with(Net::new(delay), true, move || loopback().redundancy(redundant));
        pair.connect().await;
        // The stream is taken for what its first packet is.
        if redundant {
            pair.a.track.write_redundant(frame(0), Bytes::from_static(&REDUNDANT)).expect("fits");
        }
        pair.heard().await;
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
    // What every peer reports is there all the same. It is of the last four seconds with 200 packets, of which 16 are lost, give or
    // take 4; reports after the last word are of a few packets, and count as much as others.
    let reported = heard.stats.0.reported;
    assert!(reported.is_some_and(|reported| (0.01..0.17).contains(&reported.loss)), "{reported:?}");
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
    // Of the last 250 packets. A lost report on packets says nothing of them.
    let path_loss = |stats: &Stats| stats.advice.path_loss.expect("reported");
    assert!((0.01..0.15).contains(&path_loss(&a)) && path_loss(&b) == 0.0, "{:?} {:?}", a.advice, b.advice);
    // Repaired before it is reported, mostly.
    assert!(of_a.loss < 0.03 && of_b.loss == 0.0, "{of_a:?} {of_b:?}");
    // On a network that is even: what is sent again is no jitter.
    assert!(of_a.jitter_ms < 0.1 && of_b.jitter_ms < 0.1, "{of_a:?} {of_b:?}");
    assert!(of_a.reports >= 9, "{of_a:?}");
    // Whoever plays late hears worse.
    let ours = b.quality.ours.expect("rated").r;
    let late = Duration::from_millis(500);
    pair.b.peers.set_playout_delay(&"peer", Generation(1), late).expect("connected");
    let (a_then, b_then) = speak(&mut pair, 2_000, 200).await.stats;
    assert!(b_then.quality.ours.expect("rated").r < ours - 20.0, "{:?}", b_then.quality);
    assert!(a_then.quality.ours.expect("rated").r > 85.0, "{:?}", a_then.quality);
    pair.shutdown().await;
}

/// Videos are numbered and reported on, too: no sound is sent here.
#[tokio::test(start_paused = true)]
async fn videos_are_reported_on() {
    let mut pair = Pair::new(Duration::from_millis(10), true);
    pair.connect().await;
    let video = LocalTrack::video(VideoCodec::Vp8);
    pair.a.peers.add_track(&video).expect("the first");
    pair.run(Duration::from_secs(1)).await;
    for n in 0..200 {
        let payload = Bytes::from_static(&[0x10; 500]);
        video.write(Frame { payload, ..frame(n) }).expect("fits");
        pair.run(FRAME).await;
    }
    let (a, b) = (stats(&pair.a).await, stats(&pair.b).await);
    assert_eq!((a.advice.path_loss, a.sent.packets), (Some(0.0), 0), "{a:?}");
    // 50 packets of 520 bytes a second.
    for rate in [a.video_sent.bitrate, b.video_received.bitrate] {
        assert!(rate.is_some_and(|rate| (180_000..220_000).contains(&rate)), "{rate:?}");
    }
    assert!(a.video_reported.is_some_and(|reported| reported.loss == 0.0) && a.reported.is_none(), "{a:?}");
    pair.shutdown().await;
}

/// The payload of redundant sound: one earlier frame of two bytes, and this one.
const REDUNDANT: [u8; 11] = [0x80 | 111, 0x0f, 0x00, 0x02, 111, 1, 2, b'o', b'p', b'u', b's'];

/// What the second side hears of frames with redundancy: types of payload and payloads.
async fn redundant(a: bool, b: bool) -> (Vec<(PayloadKind, u8, Vec<u8>)>, [bool; 3]) {
    let mut pair = Pair::with(Net::new(Duration::from_millis(5)), true, loopback);
    pair.a = Side::new(&pair.net, true, loopback().redundancy(a));
    pair.b = Side::new(&pair.net, true, loopback().redundancy(b));
    assert!(!pair.a.track.wants_redundancy());
    pair.connect().await;
    let told =
        [pair.a.track.wants_redundancy(), stats(&pair.a).await.redundancy, stats(&pair.b).await.redundancy];
    let mut tick = time::interval(FRAME);
    for n in 0..20 {
        tick.tick().await;
        pair.run(Duration::from_millis(1)).await;
        // The first packet decides what the engine takes the stream for: it is redundant in one case and not in the other.
        match n % 2 == u32::from(a && b) {
            true => pair.a.track.write(frame(n)).expect("fits"),
            false => pair.a.track.write_redundant(frame(n), Bytes::from_static(&REDUNDANT)).expect("fits"),
        }
    }
    pair.run(Duration::from_millis(100)).await;
    let mut track = pair.take_track(false, TrackKind::Audio).expect("heard");
    let mut heard = Vec::new();
    while let Ok(Some(packet)) = time::timeout(FRAME, track.recv()).await {
        assert_eq!(packet.audio_level, None, "what numbers packets is no level");
        heard.push((packet.kind, packet.payload_type, packet.payload.to_vec()));
    }
    pair.shutdown().await;
    (heard, told)
}

/// Each connection gets what its peer takes, of the same track.
#[tokio::test(start_paused = true)]
async fn redundancy_goes_to_those_that_take_it() {
    let plain = (PayloadKind::Opus, 111, b"opus".to_vec());
    let (heard, told) = redundant(true, true).await;
    assert_eq!(told, [true; 3]);
    let red = (PayloadKind::Red, 63, REDUNDANT.to_vec());
    for (n, packet) in heard.iter().enumerate() {
        assert_eq!(*packet, if n % 2 == 0 { red.clone() } else { plain.clone() }, "{n}");
    }
    assert_eq!(heard.len(), 20);
    for (a, b) in [(true, false), (false, true), (false, false)] {
        let (heard, told) = redundant(a, b).await;
        assert_eq!((told, heard.len()), ([false; 3], 20), "{a} {b}");
        assert!(heard.iter().all(|packet| *packet == plain), "{a} {b}: {heard:?}");
    }
}

/// What the events of each side say while both speak for so many frames of 60 bytes.
async fn told(pair: &mut Pair, frames: u32) -> [Vec<EventKind>; 2] {
    let mut told = [Vec::new(), Vec::new()];
    let mut tick = time::interval(FRAME);
    for n in 0..frames {
        tick.tick().await;
        for track in [&pair.a.track, &pair.b.track] {
            let payload = Bytes::from_static(&[7; 60]);
            track.write(Frame { payload, ..frame(n) }).expect("fits");
        }
        while let Ok((side, event)) = time::timeout(Duration::ZERO, pair.event()).await {
            told[side].push(event.kind);
        }
    }
    told
}

fn qualities(told: &[EventKind]) -> Vec<Option<PoorSide>> {
    let qualities = told.iter().filter_map(|kind| match kind {
        EventKind::Quality(quality) => Some(quality.poor),
        _ => None,
    });
    qualities.collect()
}

fn advice(told: &[EventKind]) -> Vec<Advice> {
    let advice = told.iter().filter_map(|kind| match kind {
        EventKind::Advice(advice) => Some(*advice),
        _ => None,
    });
    advice.collect()
}

/// A queue that fills up is noticed by growing delay, before anything is lost, and what is advised is below what the path
/// carries.
#[tokio::test(start_paused = true)]
async fn a_path_that_fills_up_is_told_to_the_encoder() {
    let mut pair = connected(Duration::from_millis(20), None).await;
    let from = speakers(&pair.net);
    let [before, _] = told(&mut pair, 500).await;
    let before = advice(&before);
    assert!(!before.is_empty() && before.iter().all(|advice| !advice.congested && advice.bitrate.is_none()));
    // 50 packets a second of 118 bytes with all headers are 47 kbit/s, of which RTP is 30; reports and checks come to 10.
    pair.net.shape_only(from);
    pair.net.limit(Some(45_000));
    let start = Instant::now();
    let [of_a, of_b] = told(&mut pair, 250).await;
    let (of_a, of_b) = (advice(&of_a), advice(&of_b));
    println!("13 % too much for {:?}: {of_a:?}", start.elapsed());
    let congested = of_a.iter().find(|advice| advice.congested).expect("noticed");
    let limit = congested.bitrate.expect("limited");
    // 85 % of what gets through, less what is around 38 to 40 packets (12) and beside them (8).
    assert!((16_000..19_500).contains(&limit), "{limit}");
    assert_eq!(congested.path_loss, Some(0.0), "nothing is lost yet");
    assert!(of_b.iter().all(|advice| !advice.congested), "the other way is free: {of_b:?}");
    pair.net.limit(None);
    let [of_a, _] = told(&mut pair, 2_000).await;
    let last = advice(&of_a).last().copied().expect("it is over");
    assert!(!last.congested && last.bitrate.is_none(), "{last:?}");
    assert!(advice(&of_a).len() <= 41, "once a second, and when it is less");
    pair.shutdown().await;
}

/// Loss that is not repaired in one direction only: each side says the same of it from where it is.
#[tokio::test(start_paused = true)]
async fn whose_side_is_poor_is_told_by_both() {
    let mut pair = connected(Duration::from_millis(20), Some(plain)).await;
    let from: Vec<SocketAddr> = pair.net.sockets_of_rtp();
    assert_eq!(from.len(), 1, "only the first has spoken");
    told(&mut pair, 500).await;
    pair.net.shape_only(from);
    pair.net.lose(350, 11);
    let [of_a, of_b] = told(&mut pair, 1_000).await;
    assert_eq!(qualities(&of_a), [Some(PoorSide::Theirs)]);
    assert_eq!(qualities(&of_b), [Some(PoorSide::Ours)]);
    let (a, b) = (stats(&pair.a).await, stats(&pair.b).await);
    println!("{:?}\n{:?}", a.quality, b.quality);
    let (theirs, ours) = (a.quality.theirs.expect("rated"), b.quality.ours.expect("rated"));
    assert!((theirs.r - ours.r).abs() < 15.0, "{theirs:?} {ours:?}");
    assert!(a.quality.ours.expect("rated").r > 85.0);
    // What the encoder is to make up for; the other way nothing is.
    assert_eq!(b.advice.loss, Some(0.0));
    let loss = a.advice.loss.expect("reported");
    assert!((0.25..0.45).contains(&loss), "{loss}");
    pair.net.lose(0, 1);
    let [of_a, of_b] = told(&mut pair, 1_000).await;
    assert_eq!((qualities(&of_a), qualities(&of_b)), (vec![None], vec![None]));
    pair.shutdown().await;
}

/// Which way packets go, what else there is, and what protects them.
#[tokio::test(start_paused = true)]
async fn paths_and_ciphers_are_told() {
    let second = IpAddr::from([127, 0, 0, 2]);
    let config = move || loopback().addresses([IpAddr::from([127, 0, 0, 1]), second]);
    let delay = Duration::from_millis(15);
    let mut pair = Pair::with(Net::new(delay), true, config);
    pair.connect().await;
    pair.heard().await;
    pair.run(Duration::from_secs(2)).await;
    for side in [&pair.a, &pair.b] {
        let stats = stats(side).await;
        let route = stats.route.expect("there is one");
        assert_eq!((route.family, route.protocol, route.is_relayed()), (Family::Ipv4, Protocol::Udp, false));
        let security = stats.security.clone().expect("secured");
        assert_eq!(security.dtls_version, "DTLS 1.2");
        assert!(security.dtls_cipher.starts_with("TLS_ECDHE_ECDSA_WITH_AES_"), "{security:?}");
        assert!(security.srtp_profile.starts_with("SRTP_A"), "{security:?}");
        let pairs = side.peers.pairs(&"peer").await.expect("connected");
        println!("{security:?}\n{pairs:#?}");
        assert_eq!(pairs.len(), 4, "each of two addresses with each of two");
        let selected: Vec<_> = pairs.iter().filter(|pair| pair.selected).collect();
        assert_eq!(selected.len(), 1, "{pairs:?}");
        assert!(selected[0].nominated && selected[0].state == PairState::Succeeded);
        assert_eq!(selected[0].round_trip_ms, Some(30.0));
        assert!(!format!("{pairs:?} {stats:?}").contains("127.0.0"), "addresses are nobody's business");
    }
    pair.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_is_told_too() {
    let net = Net::new(Duration::from_millis(5));
    let server = format!("turn:{}", super::relay::start(&net));
    let config = || loopback().ice_server(IceServer::turn(&server, "user", "secret")).relay_only(true);
    let mut pair = Pair::with(net, true, config);
    pair.connect().await;
    pair.heard().await;
    pair.run(Duration::from_secs(2)).await;
    let route = stats(&pair.a).await.route.expect("there is one");
    assert_eq!((route.local, route.protocol), (CandidateKind::Relay, Protocol::Udp));
    let pairs = pair.a.peers.pairs(&"peer").await.expect("connected");
    let selected = pairs.iter().find(|pair| pair.selected).expect("one is in use");
    assert_eq!((selected.local, selected.state), (CandidateKind::Relay, PairState::Succeeded), "{pairs:?}");
    assert_eq!(selected.round_trip_ms, Some(30.0), "three ways to there, three back");
    pair.shutdown().await;
}
