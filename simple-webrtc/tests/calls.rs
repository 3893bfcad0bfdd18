//! Whole connections over loopback.

mod support;

use std::time::Duration;

use simple_webrtc::{CandidateKind, EventKind, Generation, LinkState, Remote, RemoteTrack};
use support::*;

use LinkState::{Checking, Connected, Negotiating, Securing};

/// Sends numbered frames and checks that they come in order and unchanged.
async fn check_flow(writer: &simple_webrtc::LocalTrack, readers: &mut [&mut RemoteTrack]) {
    // What is still on its way from before carries a lower number than these.
    const START: u32 = 100_000;
    for n in START..START + 20 {
        writer.write(frame(n)).expect("fits");
        for reader in readers.iter_mut() {
            let packet = loop {
                let packet =
                    tokio::time::timeout(PATIENCE, reader.recv()).await.expect("in time").expect("open");
                if packet.timestamp >= frame(START).timestamp {
                    break packet;
                }
            };
            let sent = frame(n);
            assert_eq!((packet.timestamp, packet.marker), (sent.timestamp, sent.marker));
            assert_eq!(packet.payload, sent.payload);
            assert_eq!(packet.audio_level, sent.audio_level);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_both_ways_through_every_state() {
    let mut a = Side::new(loopback().build().expect("valid"));
    let mut b = Side::new(loopback().build().expect("valid"));
    a.peers.dial("b", FIRST).expect("dial");
    let (seen_a, seen_b) = connect(&mut a, &mut b, Connected).await;
    assert_eq!(seen_a, [Negotiating, Checking, Securing, Connected]);
    assert_eq!(seen_b, [Negotiating, Checking, Securing, Connected]);

    let mut from_a = first_track(&a.track, &mut b).await;
    let mut from_b = first_track(&b.track, &mut a).await;
    check_flow(&a.track, &mut [&mut from_a]).await;
    check_flow(&b.track, &mut [&mut from_b]).await;

    let stats = a.peers.stats(&"b").await.expect("connected");
    let route = stats.route.expect("a pair is nominated");
    assert_eq!((route.local, route.is_relayed()), (CandidateKind::Host, false));
    assert!(stats.round_trip_ms.is_some_and(|ms| ms < 1000.0), "{stats:?}");
    assert!(stats.sent.packets >= 20 && stats.sent.bytes == stats.sent.packets * 100, "{stats:?}");
    assert!(stats.received.packets >= 20 && stats.received.jitter_ms.is_some(), "{stats:?}");
    assert_eq!((stats.received.lost, stats.received.dropped, stats.sent.refused), (0, 0, 0), "{stats:?}");
    let timeline: Vec<LinkState> = stats.timeline.iter().map(|(state, _)| *state).collect();
    assert_eq!(timeline, seen_a);
    assert!(stats.timeline.is_sorted_by_key(|(_, at)| *at));

    a.peers.shutdown().await;
    b.peers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_track_is_heard_by_two_peers_and_by_one_that_is_connected_before_it() {
    let mut a = Side::new(loopback().build().expect("valid"));
    a.peers.remove_track(&a.track);
    let mut b = Side::new(loopback().build().expect("valid"));
    let mut c = Side::new(loopback().build().expect("valid"));
    a.peers.dial("b", FIRST).expect("dial");
    connect(&mut a, &mut b, Connected).await;
    // Added once b is connected, before c is.
    a.peers.add_track(&a.track).expect("none is there");
    a.peers.add_track(&a.track).expect("the same one");
    assert!(matches!(
        a.peers.add_track(&simple_webrtc::LocalTrack::audio()),
        Err(simple_webrtc::Error::TrackKindTaken { .. })
    ));
    a.peers.dial("c", FIRST).expect("dial");
    loop {
        // Here c knows a as "a", and a calls the two "b" and "c".
        let connected = tokio::select! {
            event = a.next() => { carry("a", event, &c); false }
            event = c.next() => match carry("c", event, &a) {
                Some(event) => matches!(event.kind, EventKind::State(Connected)),
                None => false,
            },
        };
        if connected {
            break;
        }
    }
    let mut at_b = first_track(&a.track, &mut b).await;
    let mut at_c = first_track(&a.track, &mut c).await;
    check_flow(&a.track, &mut [&mut at_b, &mut at_c]).await;

    assert!(a.peers.remove_track(&a.track));
    assert!(!a.peers.remove_track(&a.track));
    for side in [a, b, c] {
        side.peers.shutdown().await;
    }
}

/// Candidates can overtake the answer; they must not be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_that_overtake_the_answer_wait_for_it() {
    let mut a = Side::new(loopback().build().expect("valid"));
    let mut b = Side::new(loopback().build().expect("valid"));
    a.peers.dial("b", FIRST).expect("dial");

    // b never hears of a's candidates, so that only b's, which come first, can make the path.
    let (mut answer, mut gathered) = (None, false);
    while answer.is_none() || !gathered {
        tokio::select! {
            event = a.next() => match event.kind {
                EventKind::LocalDescription(offer) => b.peers.accept("a", FIRST, offer).expect("accept"),
                EventKind::State(state) => assert_eq!(state, Negotiating),
                _ => {}
            },
            event = b.next() => match event.kind {
                EventKind::LocalDescription(description) => answer = Some(description),
                EventKind::LocalCandidate(candidate) => {
                    a.peers.apply(&"b", FIRST, Remote::Candidate(candidate)).expect("parked");
                }
                EventKind::GatheringDone => gathered = true,
                _ => {}
            },
        }
    }
    let answer = answer.expect("seen above");
    a.peers.apply(&"b", FIRST, Remote::Answer(answer.clone())).expect("apply");
    a.peers.apply(&"b", FIRST, Remote::Answer(answer)).expect("a repetition does no harm");
    while a.next_state().await.1 != Connected {}
    while b.next_state().await.1 != Connected {}
    a.peers.shutdown().await;
    b.peers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redialling_replaces_a_connection_that_is_still_dying() {
    let mut a = Side::new(loopback().build().expect("valid"));
    let mut b = Side::new(loopback().build().expect("valid"));
    a.peers.dial("b", FIRST).expect("dial");
    connect(&mut a, &mut b, Connected).await;

    let second = Generation(2);
    assert!(a.peers.dial("b", FIRST).is_err(), "the same generation");
    a.peers.hang_up(&"b", FIRST).expect("hang up");
    a.peers.dial("b", second).expect("dial again at once");
    assert_eq!(a.peers.generation(&"b"), Some(second));
    assert!(a.peers.hang_up(&"b", FIRST).is_err(), "stale");

    // Nothing of the first generation comes any more, neither here nor, once it accepts, at b.
    let mut connected = (false, false);
    while connected != (true, true) {
        tokio::select! {
            event = a.next() => {
                assert_eq!(event.generation, second, "{event:?}");
                if let Some(event) = carry("a", event, &b) {
                    connected.0 |= matches!(event.kind, EventKind::State(Connected));
                }
            }
            event = b.next() => {
                assert!(event.generation == second || b.peers.generation(&"a") != Some(second), "{event:?}");
                if event.generation == second
                    && let Some(event) = carry("b", event, &a)
                {
                    connected.1 |= matches!(event.kind, EventKind::State(Connected));
                }
            }
        }
    }
    let mut from_a = first_track(&a.track, &mut b).await;
    check_flow(&a.track, &mut [&mut from_a]).await;
    a.peers.shutdown().await;
    b.peers.shutdown().await;
}

/// Prints how long a setup takes; asserts nothing about speed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measure_the_setup() {
    let (mut connected, mut first, mut closed, mut noticed) = (vec![], vec![], vec![], vec![]);
    for _ in 0..10 {
        let mut a = Side::new(loopback().build().expect("valid"));
        let mut b = Side::new(loopback().build().expect("valid"));
        let start = std::time::Instant::now();
        a.peers.dial("b", FIRST).expect("dial");
        connect(&mut a, &mut b, Connected).await;
        connected.push(start.elapsed());
        let mut track = first_track(&a.track, &mut b).await;
        track.recv().await.expect("a packet");
        first.push(start.elapsed());
        let start = std::time::Instant::now();
        a.peers.hang_up(&"b", FIRST).expect("hang up");
        while !a.next_state().await.1.is_final() {}
        closed.push(start.elapsed());
        while !b.next_state().await.1.is_final() {}
        noticed.push(start.elapsed());
    }
    for (what, mut times) in [
        ("dial to both connected", connected),
        ("dial to first packet", first),
        ("hanging up to closed", closed),
        ("hanging up to closed at the peer", noticed),
    ] {
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        println!("{what}: median {:.1} ms, worst {:.1} ms", ms(times[5]), ms(times[9]));
    }
}
