//! How connections end, and that nothing is left of them. In a file of its own: it counts what the whole process holds.

mod support;

use std::time::Duration;

use simple_webrtc::{
    Description, DescriptionKind, Error, EventKind, FailReason, Generation, LinkState, Peers, Remote, Step,
    Timeouts,
};
use support::*;
use tokio::sync::Mutex;

use LinkState::{Checking, Closed, Connected, Failed, Negotiating};

/// Tests here look at what the process holds, so they take turns.
static TURN: Mutex<()> = Mutex::const_new(());

fn sockets() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("Linux")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits for what is still being dropped by other workers; fails after `PATIENCE`.
async fn back_to(sockets_before: usize, tasks_before: usize) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while sockets() > sockets_before || tasks() > tasks_before {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{} sockets of {sockets_before}, {} tasks of {tasks_before} left",
            sockets(),
            tasks()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn connected_pair() -> (Side, Side) {
    let mut a = Side::new(loopback().build().expect("valid"));
    let mut b = Side::new(loopback().build().expect("valid"));
    a.peers.dial("b", FIRST).expect("dial");
    connect(&mut a, &mut b, Connected).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_up_ends_both_sides_and_leaves_nothing() {
    let _turn = TURN.lock().await;
    let before = (sockets(), tasks());
    let (mut a, mut b) = connected_pair().await;
    let mut track = first_track(&a.track, &mut b).await;
    assert!(sockets() > before.0 && tasks() > before.1);

    a.peers.hang_up(&"b", FIRST).expect("hang up");
    assert_eq!(a.peers.hang_up(&"b", FIRST), Err(Error::NoLink), "already closing");
    assert_eq!(a.next_state().await, ("b", Closed { by_remote: false }));
    // The peer learns it from the close_notify alone, long before ICE would miss its keepalives.
    assert_eq!(b.next_state().await, ("a", Closed { by_remote: true }));
    while track.recv().await.is_some() {}
    assert_eq!(a.peers.generation(&"b"), None);
    assert!(a.peers.stats(&"b").await.is_none());
    back_to(before.0, before.1).await;
    assert!(format!("{:?}", a.track).contains("listeners: 0"));
    // The peer can be dialled again with any generation.
    a.peers.dial("b", FIRST).expect("dial");
    a.peers.shutdown().await;
    back_to(before.0, before.1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_peers_or_events_closes_everything() {
    let _turn = TURN.lock().await;
    let before = (sockets(), tasks());
    let (a, b) = connected_pair().await;
    drop(a.peers);
    drop(b.events);
    back_to(before.0, before.1).await;
    assert_eq!(b.peers.generation(&"a"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_does_not_wait_for_a_reader_of_events() {
    let _turn = TURN.lock().await;
    let before = (sockets(), tasks());
    // Room for one event: the connection is stuck on its second.
    let side = Side::new(loopback().event_capacity(1).build().expect("valid"));
    side.peers.dial("b", FIRST).expect("dial");
    tokio::time::timeout(PATIENCE, side.peers.shutdown()).await.expect("ends");
    assert_eq!(side.peers.dial("b", Generation(2)), Err(Error::ShutDown));
    drop(side);
    back_to(before.0, before.1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_up_works_in_every_step() {
    let _turn = TURN.lock().await;
    let before = (sockets(), tasks());
    let mut side = Side::new(loopback().build().expect("valid"));
    let mut other = Side::new(loopback().build().expect("valid"));

    // Before anything has run.
    side.peers.dial("b", Generation(1)).expect("dial");
    side.peers.hang_up(&"b", Generation(1)).expect("hang up");
    while side.next_state().await.1 != (Closed { by_remote: false }) {}

    // With an offer but no answer.
    side.peers.dial("b", Generation(2)).expect("dial");
    let offer = loop {
        if let EventKind::LocalDescription(offer) = side.next().await.kind {
            break offer;
        }
    };
    side.peers.hang_up(&"b", Generation(2)).expect("hang up");
    assert_eq!(side.next_state().await.1, Closed { by_remote: false });

    // Looking for a path that does not exist.
    other.peers.accept("a", Generation(2), offer).expect("accept");
    while other.next_state().await.1 != Checking {}
    other.peers.hang_up(&"a", Generation(2)).expect("hang up");
    assert_eq!(other.next_state().await.1, Closed { by_remote: false });

    back_to(before.0, before.1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_takes_too_long_fails_and_says_which() {
    let _turn = TURN.lock().await;
    let before = (sockets(), tasks());
    let mut timeouts = Timeouts::default();
    let short = Duration::from_millis(50);
    timeouts.negotiating = short;
    timeouts.checking = short;
    let config = loopback().timeouts(timeouts).build().expect("valid");
    let mut a = Side::new(config.clone());
    let mut b = Side::new(config);
    a.peers.dial("b", FIRST).expect("dial");
    let reason = FailReason::TimedOut { after: short };
    loop {
        let event = a.next().await;
        match event.kind {
            // No candidate reaches b, and no answer a.
            EventKind::LocalDescription(offer) => b.peers.accept("a", FIRST, offer).expect("accept"),
            EventKind::State(Negotiating) => {}
            EventKind::State(state) => {
                assert_eq!(state, Failed { step: Step::Negotiating, reason });
                break;
            }
            _ => {}
        }
    }
    assert_eq!(b.next_state().await.1, Negotiating);
    assert_eq!(b.next_state().await.1, Checking);
    assert_eq!(b.next_state().await.1, Failed { step: Step::Checking, reason });
    back_to(before.0, before.1).await;
}

/// The engine never ends a handshake whose certificate does not match.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_certificate_fails_while_securing() {
    let _turn = TURN.lock().await;
    let mut timeouts = Timeouts::default();
    timeouts.securing = Duration::from_millis(500);
    let config = loopback().timeouts(timeouts).build().expect("valid");
    let mut a = Side::new(config.clone());
    let mut b = Side::new(config);
    a.peers.dial("b", FIRST).expect("dial");
    let (mut end_a, mut end_b) = (None, None);
    while end_a.is_none() || end_b.is_none() {
        let (event, is_a) = tokio::select! {
            event = a.next() => (event, true),
            event = b.next() => (event, false),
        };
        match event.kind {
            EventKind::State(state) => {
                assert_ne!(state, Connected);
                if state.is_final() {
                    let end = if is_a { &mut end_a } else { &mut end_b };
                    *end = Some(state);
                }
            }
            EventKind::LocalDescription(answer) if !is_a => {
                let hash = answer.as_str().find("sha-256 ").expect("a fingerprint") + 8;
                let mut sdp = answer.as_str().to_owned();
                let other = if &sdp[hash..=hash] == "0" { "1" } else { "0" };
                let right = sdp[hash..hash + 95].to_owned();
                let wrong = format!("{other}{}", &right[1..]);
                sdp = sdp.replace(&right, &wrong);
                let forged = Description::parse(DescriptionKind::Answer, &sdp).expect("well formed");
                a.peers.apply(&"b", FIRST, Remote::Answer(forged)).expect("apply");
            }
            EventKind::LocalDescription(offer) => b.peers.accept("a", FIRST, offer).expect("accept"),
            EventKind::LocalCandidate(candidate) => {
                let (to, name) = if is_a { (&b, "a") } else { (&a, "b") };
                // One side may have failed before the other.
                let _ = to.peers.apply(&name, FIRST, Remote::Candidate(candidate));
            }
            _ => {}
        }
    }
    for end in [end_a, end_b] {
        assert!(matches!(end, Some(Failed { step: Step::Securing, .. })), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_description_that_cannot_be_used_fails_the_connection() {
    let _turn = TURN.lock().await;
    let before = (sockets(), tasks());
    let mut a = Side::new(loopback().build().expect("valid"));
    let fingerprint = ["AB"; 32].join(":");
    let sdp = format!("v=0\r\na=fingerprint:sha-256 {fingerprint}\r\nnonsense\r\n");
    let offer = Description::parse(DescriptionKind::Offer, &sdp).expect("has a fingerprint");
    let answer = Description::parse(DescriptionKind::Answer, &sdp).expect("has a fingerprint");
    assert_eq!(a.peers.accept("b", FIRST, answer.clone()), Err(Error::NotAnOffer));
    assert_eq!(a.peers.apply(&"b", FIRST, Remote::Answer(answer.clone())), Err(Error::NoLink));

    a.peers.accept("b", FIRST, offer.clone()).expect("well formed");
    assert_eq!(a.peers.apply(&"b", FIRST, Remote::Answer(answer.clone())), Err(Error::UnexpectedDescription));
    assert_eq!(a.next_state().await.1, Negotiating);
    let bad = Failed { step: Step::Negotiating, reason: FailReason::BadDescription };
    assert_eq!(a.next_state().await.1, bad);

    a.peers.dial("b", FIRST).expect("dial");
    assert_eq!(a.peers.apply(&"b", FIRST, Remote::Answer(offer)), Err(Error::UnexpectedDescription));
    a.peers.apply(&"b", FIRST, Remote::Answer(answer)).expect("well formed");
    assert_eq!(a.next_state().await.1, Negotiating);
    assert_eq!(a.next_state().await.1, bad);
    back_to(before.0, before.1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_connections_is_bounded() {
    let _turn = TURN.lock().await;
    let side = Side::new(loopback().max_links(2).build().expect("valid"));
    side.peers.dial("b", FIRST).expect("dial");
    side.peers.dial("c", FIRST).expect("dial");
    assert_eq!(side.peers.dial("d", FIRST), Err(Error::TooManyLinks { limit: 2 }));
    side.peers.shutdown().await;
}

#[test]
fn without_a_runtime_there_are_no_peers() {
    assert_eq!(Peers::<Name>::new(loopback().build().expect("valid")).err(), Some(Error::NoRuntime));
}
