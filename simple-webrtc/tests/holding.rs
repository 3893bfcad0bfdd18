//! Connections that stay open while nothing is sent on them.

mod support;

use std::time::Duration;

use simple_webrtc::{Error, EventKind, Generation, LinkState, LocalTrack, Packet, RemoteTrack, Timeouts};
use support::*;

use LinkState::{Checking, Connected, Negotiating, Securing};

/// Frames that tests write one by one have higher numbers than those that `first_track` writes.
const START: u32 = 100_000;

async fn packet(track: &mut RemoteTrack) -> Packet {
    tokio::time::timeout(PATIENCE, track.recv()).await.expect("in time").expect("open")
}

/// The next packet of the frames from `START` on.
async fn numbered(track: &mut RemoteTrack) -> Packet {
    loop {
        let packet = packet(track).await;
        if packet.timestamp >= frame(START).timestamp {
            return packet;
        }
    }
}

/// Writes these frames, each when the one before has arrived, and checks that this reader hears them all without a gap.
async fn heard(
    writer: &LocalTrack,
    reader: &mut RemoteTrack,
    last: &mut Option<u16>,
    numbers: std::ops::Range<u32>,
) {
    for n in numbers {
        writer.write(frame(n)).expect("fits");
        let packet = numbered(reader).await;
        assert_eq!((packet.timestamp, packet.payload), (frame(n).timestamp, frame(n).payload));
        if let Some(last) = last.replace(packet.sequence) {
            assert_eq!(packet.sequence, last.wrapping_add(1), "frame {n}");
        }
    }
}

/// Carries signals between `a` and `c`, who calls the other "a" and is called `name` there, until both are connected.
async fn connect_third(a: &mut Side, c: &mut Side, name: Name) {
    let mut connected = (false, false);
    while connected != (true, true) {
        let (left, by_a) = tokio::select! {
            event = a.next() => (carry("a", event, c), true),
            event = c.next() => (carry(name, event, a), false),
        };
        if let Some(event) = left
            && matches!(event.kind, EventKind::State(Connected))
        {
            if by_a { connected.0 |= event.peer == name } else { connected.1 = true }
        }
    }
}

/// Waits until this many further checks of the path to the peer were answered.
async fn checks_answered(side: &Side, peer: Name, times: usize) {
    let wait = async {
        let (mut seen, mut last) = (0, None);
        while seen < times {
            let stats = side.peers.stats(&peer).await.expect("the connection is there");
            if last.is_some() && last != stats.round_trip_ms {
                seen += 1;
            }
            last = stats.round_trip_ms;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("checks are answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_sent_nothing_stays_connected_and_the_others_hear_everything() {
    let mut timeouts = Timeouts::default();
    timeouts.ice_keepalive = Duration::from_millis(50);
    let config = || loopback().timeouts(timeouts.clone()).build().expect("valid");
    let (mut a, mut b, mut c) = (Side::new(config()), Side::new(config()), Side::new(config()));
    assert_eq!(a.peers.set_sending(&"b", FIRST, false), Err(Error::NoLink), "not dialled");
    a.peers.dial("b", FIRST).expect("dial");
    a.peers.set_sending(&"b", FIRST, false).expect("dialled");
    assert_eq!(a.peers.set_sending(&"b", Generation(2), true), Err(Error::NoLink), "another generation");
    connect(&mut a, &mut b, Connected).await;
    a.peers.dial("c", FIRST).expect("dial");
    connect_third(&mut a, &mut c, "c").await;

    // Off since before there was anything: c hears what b must not.
    let mut at_c = first_track(&a.track, &mut c).await;
    let mut last_at_c = None;
    heard(&a.track, &mut at_c, &mut last_at_c, START..START + 40).await;

    assert_eq!(a.peers.stats(&"b").await.expect("connected").sent.packets, 0);

    // On: b's first packet ever is one of those written from now on.
    a.peers.set_sending(&"b", FIRST, true).expect("connected");
    let mut next = START + 40;
    let mut at_b = loop {
        assert!(next < START + 2_000, "b hears nothing");
        heard(&a.track, &mut at_c, &mut last_at_c, next..next + 1).await;
        next += 1;
        let soon = tokio::time::timeout(Duration::from_millis(20), b.events.recv());
        match soon.await.map(|event| event.expect("open").kind) {
            Ok(EventKind::RemoteTrack(track)) => break track,
            Ok(EventKind::Channel(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    };
    let first = packet(&mut at_b).await;
    assert!(first.timestamp >= frame(START + 40).timestamp, "{first:?}");
    let mut last = first;
    while last.timestamp < frame(next - 1).timestamp {
        last = packet(&mut at_b).await;
    }

    // Off and on again, several times, each time for longer than the queue is.
    for _ in 0..3 {
        a.peers.set_sending(&"b", FIRST, false).expect("connected");
        heard(&a.track, &mut at_c, &mut last_at_c, next..next + 20).await;
        checks_answered(&a, "b", 3).await;
        heard(&a.track, &mut at_c, &mut last_at_c, next + 20..next + 40).await;
        a.peers.set_sending(&"b", FIRST, true).expect("connected");
        heard(&a.track, &mut at_c, &mut last_at_c, next + 40..next + 45).await;
        for n in next + 40..next + 45 {
            let packet = packet(&mut at_b).await;
            // The timestamps say how long it was silent, the sequence numbers that nothing was lost.
            assert_eq!(packet.timestamp, frame(n).timestamp);
            assert_eq!(packet.sequence, last.sequence.wrapping_add(1));
            assert_eq!((packet.ssrc, &packet.payload), (last.ssrc, &frame(n).payload));
            last = packet;
        }
        next += 45;
    }

    for (side, peer) in [(&a, "b"), (&b, "a"), (&a, "c"), (&c, "a")] {
        let stats = side.peers.stats(&peer).await.expect("connected");
        let timeline: Vec<LinkState> = stats.timeline.iter().map(|(state, _)| *state).collect();
        assert_eq!(timeline, [Negotiating, Checking, Securing, Connected], "{peer}");
        assert_eq!((stats.received.lost, stats.sent.dropped, stats.sent.refused), (0, 0, 0), "{stats:?}");
    }

    a.peers.hang_up(&"b", FIRST).expect("hang up");
    assert_eq!(a.peers.set_sending(&"b", FIRST, true), Err(Error::NoLink), "closing");
    for side in [a, b, c] {
        side.peers.shutdown().await;
    }
}

/// Who accepts can be silent from the start, too, and a new connection begins with sending on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_for_one_connection_and_for_one_direction() {
    let mut a = Side::new(loopback().build().expect("valid"));
    let mut b = Side::new(loopback().build().expect("valid"));
    a.peers.dial("b", FIRST).expect("dial");
    let offer = loop {
        if let EventKind::LocalDescription(offer) = a.next().await.kind {
            break offer;
        }
    };
    b.peers.accept("a", FIRST, offer).expect("accept");
    b.peers.set_sending(&"a", FIRST, false).expect("accepted");
    connect(&mut a, &mut b, Connected).await;
    let mut at_b = first_track(&a.track, &mut b).await;
    for n in START..START + 20 {
        b.track.write(frame(n)).expect("fits");
        heard(&a.track, &mut at_b, &mut None, n..n + 1).await;
    }
    assert_eq!(b.peers.stats(&"a").await.expect("connected").sent.packets, 0);

    let second = Generation(2);
    a.peers.dial("b", second).expect("dial again");
    assert_eq!(a.peers.set_sending(&"b", FIRST, false), Err(Error::NoLink), "replaced");
    let offer = loop {
        let event = a.next().await;
        if let (EventKind::LocalDescription(offer), true) = (event.kind, event.generation == second) {
            break offer;
        }
    };
    b.peers.accept("a", second, offer).expect("accept");
    while b.peers.generation(&"a") == Some(second) {
        let (from_b, event) = tokio::select! {
            event = a.next() => (false, event),
            event = b.next() => (true, event),
        };
        let (to, name) = if from_b { (&a, "b") } else { (&b, "a") };
        if let Some(event) = carry(name, event, to)
            && from_b
            && matches!(event.kind, EventKind::State(Connected))
        {
            break;
        }
    }
    let mut at_a = first_track(&b.track, &mut a).await;
    heard(&b.track, &mut at_a, &mut None, START..START + 5).await;
    a.peers.shutdown().await;
    b.peers.shutdown().await;
}
