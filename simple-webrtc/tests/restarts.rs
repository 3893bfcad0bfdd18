//! ICE restarts with the real engine, over loopback.

mod support;

use simple_webrtc::{EventKind, LinkState, RemoteTrack};
use support::*;

use LinkState::{Connected, Reconnecting};

async fn hears(writer: &simple_webrtc::LocalTrack, reader: &mut RemoteTrack) {
    // What was sent while there was no path is lost, so it is said until it is heard.
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(10));
    let mut n = 500_000;
    let wait = async {
        loop {
            tokio::select! {
                packet = reader.recv() => {
                    if packet.expect("open").timestamp >= frame(500_000).timestamp {
                        return;
                    }
                }
                _ = tick.tick() => {
                    writer.write(frame(n)).expect("fits");
                    n += 1;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("heard in time");
}

/// Carries signals until both sides are connected again, and returns the ports that they showed on the way.
async fn reconnect(a: &mut Side, b: &mut Side) -> Vec<String> {
    let mut ports = Vec::new();
    let (mut seen_a, mut seen_b) = (Vec::new(), Vec::new());
    while seen_a.last() != Some(&Connected) || seen_b.last() != Some(&Connected) {
        let (event, is_a) = tokio::select! {
            event = a.next() => (event, true),
            event = b.next() => (event, false),
        };
        if let EventKind::LocalCandidate(candidate) = &event.kind {
            ports.push(candidate.as_str().split(' ').nth(5).expect("a port").to_owned());
        }
        let left = if is_a { carry("a", event, b) } else { carry("b", event, a) };
        if let Some(event) = left
            && let EventKind::State(state) = event.kind
        {
            if is_a { seen_a.push(state) } else { seen_b.push(state) }
        }
    }
    assert_eq!(seen_a, [Reconnecting, Connected]);
    assert_eq!(seen_b, [Reconnecting, Connected]);
    ports
}

async fn pair() -> (Side, Side, RemoteTrack, RemoteTrack) {
    let mut a = Side::new(loopback().build().expect("valid"));
    let mut b = Side::new(loopback().build().expect("valid"));
    a.peers.dial("b", FIRST).expect("dial");
    connect(&mut a, &mut b, Connected).await;
    let at_b = first_track(&a.track, &mut b).await;
    let at_a = first_track(&b.track, &mut a).await;
    (a, b, at_a, at_b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_restarts_again_and_again_on_fresh_sockets() {
    let (mut a, mut b, mut at_a, mut at_b) = pair().await;
    let mut ports = Vec::new();
    for round in 0..6 {
        let (side, peer) = if round % 2 == 0 { (&a, "b") } else { (&b, "a") };
        side.peers.restart(&peer, FIRST).expect("restart");
        let start = std::time::Instant::now();
        ports.extend(reconnect(&mut a, &mut b).await);
        println!("restart {round}: {:?}", start.elapsed());
        hears(&a.track, &mut at_b).await;
        hears(&b.track, &mut at_a).await;
    }
    let all = ports.len();
    ports.sort();
    ports.dedup();
    assert_eq!((all, ports.len()), (12, 12), "each restart has new sockets on both sides");
    a.peers.shutdown().await;
    b.peers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_restart_at_once() {
    let (mut a, mut b, mut at_a, mut at_b) = pair().await;
    for _ in 0..5 {
        a.peers.restart(&"b", FIRST).expect("restart");
        b.peers.restart(&"a", FIRST).expect("restart");
        reconnect(&mut a, &mut b).await;
        hears(&a.track, &mut at_b).await;
        hears(&b.track, &mut at_a).await;
    }
    a.peers.shutdown().await;
    b.peers.shutdown().await;
}

/// The network changes again before the first restart is through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_replaces_the_one_before() {
    let (mut a, mut b, mut at_a, mut at_b) = pair().await;
    for _ in 0..3 {
        a.peers.restart(&"b", FIRST).expect("restart");
        a.peers.restart(&"b", FIRST).expect("restart");
        reconnect(&mut a, &mut b).await;
        b.peers.restart(&"a", FIRST).expect("restart");
        b.peers.restart(&"a", FIRST).expect("restart");
        reconnect(&mut a, &mut b).await;
        hears(&a.track, &mut at_b).await;
        hears(&b.track, &mut at_a).await;
    }
    a.peers.shutdown().await;
    b.peers.shutdown().await;
}
