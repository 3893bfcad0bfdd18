//! How connections end, and that nothing is left of them. In a file of its own: it counts what the whole process holds.

mod support;

use std::time::Duration;

use simple_webrtc::{
    Description, DescriptionKind, Error, EventKind, FailReason, Generation, LinkState, Peers, Remote,
    ServerProblem, Step, Timeouts,
};
use support::*;
use tokio::sync::Mutex;

use LinkState::{Checking, Closed, Connected, Failed, Negotiating};

/// Tests here look at what the process holds, so they take turns.
static TURN: Mutex<()> = Mutex::const_new(());

/// UDP sockets of this process. Others come and go with the runtimes of other tests.
fn sockets() -> usize {
    let mut udp = std::collections::HashSet::new();
    for table in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        let table = std::fs::read_to_string(table).expect("Linux");
        let inodes = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9));
        udp.extend(inodes.map(|inode| format!("socket:[{inode}]")));
    }
    std::fs::read_dir("/proc/self/fd")
        .expect("Linux")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| udp.contains(&*target.to_string_lossy()))
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_up_ends_both_sides_and_leaves_nothing() {
    let _turn = TURN.lock().await;
    let before = (sockets(), tasks());
    let mut a = Side::new(loopback().build().expect("valid"));
    // Silence alone tells b nothing.
    let mut timeouts = Timeouts::default();
    timeouts.ice_disconnected = Duration::from_secs(3600);
    let mut b = Side::new(loopback().timeouts(timeouts).build().expect("valid"));
    a.peers.dial("b", FIRST).expect("dial");
    connect(&mut a, &mut b, Connected).await;
    let mut track = first_track(&a.track, &mut b).await;
    assert!(sockets() > before.0 && tasks() > before.1);

    a.peers.hang_up(&"b", FIRST).expect("hang up");
    assert_eq!(a.peers.hang_up(&"b", FIRST), Err(Error::NoLink), "already closing");
    assert_eq!(a.next_state().await, ("b", Closed { by_remote: false }));
    // From the close_notify alone.
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
    let mut a = Side::new(loopback().build().expect("valid"));
    let mut b = Side::new(loopback().build().expect("valid"));
    a.peers.dial("b", FIRST).expect("dial");
    connect(&mut a, &mut b, Connected).await;
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

/// The same description with another certificate.
fn forged(description: &Description) -> Description {
    let at = description.as_str().find("sha-256 ").expect("a fingerprint") + 8;
    let right = &description.as_str()[at..at + 95];
    let other = if right.starts_with('0') { "1" } else { "0" };
    let sdp = description.as_str().replace(right, &format!("{other}{}", &right[1..]));
    Description::parse(description.kind(), &sdp).expect("well formed")
}

/// The engine never ends a handshake whose certificate does not match, and takes the end of one for a connection.
/// Whoever is lied to ends it at once; the other side, which would wait for ever, hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_certificate_never_connects() {
    let _turn = TURN.lock().await;
    let side = |after| {
        let mut timeouts = Timeouts::default();
        timeouts.securing = after;
        Side::new(loopback().timeouts(timeouts).build().expect("valid"))
    };
    for lie in [DescriptionKind::Offer, DescriptionKind::Answer] {
        let (mut deceived, mut other) = (side(Duration::from_secs(3600)), side(Duration::from_secs(3600)));
        let (from, to) = match lie {
            DescriptionKind::Answer => (&deceived, &other),
            _ => (&other, &deceived),
        };
        from.peers.dial("peer", FIRST).expect("dial");
        assert_eq!(to.peers.generation(&"peer"), None);
        let (mut end, mut other_end) = (None, None);
        while end.is_none() || other_end.is_none() {
            let (event, is_deceived) = tokio::select! {
                event = deceived.next() => (event, true),
                event = other.next() => (event, false),
            };
            if let EventKind::State(state) = event.kind {
                assert_ne!(state, Connected, "the lie is in the {lie:?}, deceived: {is_deceived}");
                if state.is_final() {
                    *(if is_deceived { &mut end } else { &mut other_end }) = Some(state);
                }
                continue;
            }
            let to = if is_deceived { &other } else { &deceived };
            let signalled = match event.kind {
                EventKind::LocalDescription(mut description) => {
                    if description.kind() == lie {
                        description = forged(&description);
                    }
                    match description.kind() {
                        DescriptionKind::Offer => to.peers.accept("peer", FIRST, description),
                        _ => to.peers.apply(&"peer", FIRST, Remote::Answer(description)),
                    }
                }
                EventKind::LocalCandidate(candidate) => {
                    to.peers.apply(&"peer", FIRST, Remote::Candidate(candidate))
                }
                _ => Ok(()),
            };
            assert_eq!(signalled, Ok(()));
        }
        let reason = FailReason::FingerprintMismatch;
        assert_eq!(end, Some(Failed { step: Step::Securing, reason }), "the lie is in the {lie:?}");
        assert_eq!(other_end, Some(Closed { by_remote: true }), "the lie is in the {lie:?}");
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
    assert_eq!(a.next_state().await.1, Negotiating);
    let bad = Failed { step: Step::Negotiating, reason: FailReason::BadDescription };
    assert_eq!(a.next_state().await.1, bad);

    a.peers.dial("b", FIRST).expect("dial");
    assert_eq!(a.peers.apply(&"b", FIRST, Remote::Answer(offer)), Err(Error::UnexpectedDescription));
    a.peers.apply(&"b", FIRST, Remote::Answer(answer.clone())).expect("well formed");
    assert_eq!(a.next_state().await.1, Negotiating);
    assert_eq!(a.next_state().await.1, bad);

    // Who accepts gets no answer.
    a.peers.dial("c", FIRST).expect("dial");
    let offer = loop {
        if let EventKind::LocalDescription(offer) = a.next().await.kind {
            break offer;
        }
    };
    a.peers.accept("d", FIRST, offer).expect("accept");
    assert_eq!(a.peers.apply(&"d", FIRST, Remote::Answer(answer)), Err(Error::UnexpectedDescription));
    a.peers.shutdown().await;
    back_to(before.0, before.1).await;
}

/// A peer whose machine is switched off says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_vanishes_is_noticed_and_then_given_up() {
    let _turn = TURN.lock().await;
    let mut timeouts = Timeouts::default();
    timeouts.ice_keepalive = Duration::from_millis(50);
    timeouts.ice_disconnected = Duration::from_millis(200);
    timeouts.ice_failed = Duration::from_millis(300);
    let mut a = Side::new(loopback().timeouts(timeouts).build().expect("valid"));
    let machine = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut b = {
        let _inside = machine.enter();
        Side::new(loopback().build().expect("valid"))
    };
    a.peers.dial("b", FIRST).expect("dial");
    connect(&mut a, &mut b, Connected).await;
    machine.shutdown_background();
    assert_eq!(a.next_state().await.1, LinkState::Disconnected);
    assert_eq!(a.next_state().await.1, Failed { step: Step::Connected, reason: FailReason::PathLost });
}

/// Answers every Allocate request with an error, as RFC 8489 lays it out: the first asks for credentials, which the second
/// then finds wrong.
async fn refuse_everybody(socket: tokio::net::UdpSocket) {
    let mut buffer = [0; 1500];
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        assert!(len >= 20 && buffer[..2] == [0x00, 0x03], "an Allocate request");
        let has_credentials = buffer[..len].windows(4).any(|window| window == b"user");
        let mut attributes = vec![0x00, 0x09, 0x00, 0x04, 0x00, 0x00, 0x04, 0x01];
        if has_credentials {
            attributes[7] = 0x03;
        } else {
            attributes.extend_from_slice(b"\x00\x14\x00\x04home\x00\x15\x00\x04once");
        }
        let mut answer = vec![0x01, 0x13, 0x00, attributes.len() as u8];
        answer.extend_from_slice(&buffer[4..20]);
        answer.extend_from_slice(&attributes);
        socket.send_to(&answer, from).await.expect("loopback");
    }
}

/// The engine logs a TURN server that refuses, and waits for a silent one for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_relay_a_relayed_connection_fails_and_shows_no_address() {
    let _turn = TURN.lock().await;
    for silent in [false, true] {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let port = socket.local_addr().expect("bound").port();
        let server = tokio::spawn(async move {
            match silent {
                true => {
                    let _open = socket;
                    std::future::pending().await
                }
                false => refuse_everybody(socket).await,
            }
        });
        let mut timeouts = Timeouts::default();
        if silent {
            timeouts.gathering = Duration::from_millis(100);
        } else {
            // So that it cannot be this that ends it.
            timeouts.gathering = Duration::from_secs(3600);
        }
        let relay = simple_webrtc::IceServer::turn(format!("turn:127.0.0.1:{port}"), "user", "secret");
        let config = loopback().ice_server(relay).relay_only(true).timeouts(timeouts);
        let mut side = Side::new(config.build().expect("valid"));
        side.peers.dial("b", FIRST).expect("dial");
        let problem = if silent { ServerProblem::Unreachable } else { ServerProblem::Refused { code: 403 } };
        let mut told = 0;
        let end = loop {
            match side.next().await.kind {
                EventKind::ServerFailed { url, problem: found } => {
                    assert_eq!((url, found), (format!("turn:127.0.0.1:{port}"), problem));
                    told += 1;
                }
                EventKind::LocalCandidate(candidate) => panic!("shown: {candidate:?}"),
                EventKind::LocalDescription(offer) => assert!(!offer.as_str().contains("127.0.0.1")),
                EventKind::State(state) if state.is_final() => break state,
                _ => {}
            }
        };
        assert_eq!(end, Failed { step: Step::Gathering, reason: FailReason::NoRelay { problem } });
        assert_eq!(told, 1);
        server.abort();
    }
}

/// A server that is down must not keep what else was gathered from being enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gathering_ends_though_a_server_is_silent() {
    let _turn = TURN.lock().await;
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("turn:{}", silent.local_addr().expect("bound"));
    let mut timeouts = Timeouts::default();
    timeouts.gathering = Duration::from_millis(100);
    let relay = simple_webrtc::IceServer::turn(url, "user", "secret");
    let mut side = Side::new(loopback().ice_server(relay).timeouts(timeouts).build().expect("valid"));
    side.peers.dial("b", FIRST).expect("dial");
    let mut candidates = 0;
    loop {
        match side.next().await.kind {
            EventKind::LocalCandidate(_) => candidates += 1,
            EventKind::GatheringDone => break,
            EventKind::State(state) => assert_eq!(state, Negotiating),
            _ => {}
        }
    }
    assert_eq!(candidates, 1);
    side.peers.shutdown().await;
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
