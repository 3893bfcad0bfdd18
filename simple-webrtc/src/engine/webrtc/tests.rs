//! What the engine does, and what we do about it, over loopback.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::engine::Inbox;

async fn connection() -> (WebrtcConnection, Inbox) {
    let config = Config::builder().addresses([IpAddr::from(Ipv4Addr::LOCALHOST)]).build().expect("valid");
    let inbox = Inbox::new();
    let connection =
        WebrtcConnection::open(&Webrtc::default(), &config, inbox.sender()).await.expect("loopback");
    (connection, inbox)
}

fn lines<'a>(description: &'a Description, prefix: &str) -> Vec<&'a str> {
    description.as_str().lines().filter(|line| line.starts_with(prefix)).collect()
}

/// One section in each description carries both directions, with Opus and nothing else, and no address.
#[tokio::test]
async fn both_directions_share_one_section() {
    let (a, _a) = connection().await;
    let (b, _b) = connection().await;
    let offer = a.offer(false).await.expect("offer");
    let answer = b.answer(&offer).await.expect("answer");
    a.accept_answer(&answer).await.expect("accept");
    for description in [&offer, &answer] {
        let media = lines(description, "m=");
        assert_eq!(media.len(), 1, "{media:?}");
        assert!(media[0].starts_with("m=audio ") && media[0].ends_with(" 111"), "{media:?}");
        assert_eq!(lines(description, "a=sendrecv").len(), 1);
        assert_eq!(lines(description, "a=fmtp:"), ["a=fmtp:111 minptime=10;useinbandfec=1"]);
        assert_eq!(lines(description, "a=rtpmap:"), ["a=rtpmap:111 opus/48000/2"]);
        // The level of sound, and numbers for feedback.
        assert_eq!(lines(description, "a=extmap:").len(), 2);
        let feedback = ["a=rtcp-fb:111 nack", "a=rtcp-fb:111 transport-cc"];
        assert_eq!(lines(description, "a=rtcp-fb:"), feedback);
        let fingerprints = lines(description, "a=fingerprint:");
        assert!(!fingerprints.is_empty() && fingerprints.iter().all(|line| *line == fingerprints[0]));
        assert!(fingerprints[0].starts_with("a=fingerprint:sha-256 "), "{fingerprints:?}");
        assert_eq!(lines(description, "a=candidate:").len(), 0);
        assert!(!description.as_str().contains("127.0.0.1"));
    }
    // A certificate serves one connection, so that connections cannot be linked by it.
    assert_ne!(offer.fingerprint(), answer.fingerprint());
    let (c, _c) = connection().await;
    assert_ne!(c.offer(false).await.expect("offer").fingerprint(), offer.fingerprint());
    // And it for as long as it lives.
    assert_eq!(a.offer(true).await.expect("restart").fingerprint(), offer.fingerprint());
    for connection in [a, b, c] {
        connection.close().await;
    }
}

/// Guards what the owner has to do itself: the engine refuses candidates that come before the description.
#[tokio::test]
async fn the_engine_still_refuses_early_candidates() {
    let (a, _a) = connection().await;
    a.offer(false).await.expect("offer");
    let init = RTCIceCandidateInit {
        candidate: "candidate:1 1 udp 1 127.0.0.1 9 typ host".to_owned(),
        ..RTCIceCandidateInit::default()
    };
    assert!(a.engine.add_ice_candidate(init).await.is_err());
    a.close().await;
}

/// A connection that is dropped without being closed is closed by itself.
#[tokio::test]
async fn dropping_a_connection_frees_its_socket() {
    let (a, mut inbox) = connection().await;
    a.offer(false).await.expect("offer");
    let port = loop {
        if let Some(Signal::Candidate(candidate)) = inbox.recv().await {
            break candidate.as_str().split(' ').nth(5).expect("port").parse::<u16>().expect("number");
        }
    };
    let address = (Ipv4Addr::LOCALHOST, port);
    assert!(std::net::UdpSocket::bind(address).is_err(), "in use");
    drop(a);
    let freed = async {
        while std::net::UdpSocket::bind(address).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), freed).await.expect("freed");
}

/// Guards what `describe` makes up for: the engine's versions are of the clock, so that they can go down.
#[tokio::test]
async fn our_descriptions_count_and_the_engines_still_do_not() {
    let (a, _a) = connection().await;
    let (b, _b) = connection().await;
    let mut engines = Vec::new();
    for version in 1..=3 {
        let offer = a.offer(version > 1).await.expect("offer");
        let own = a.engine.pending_local_description().await.expect("set").sdp;
        engines.push(Description::parse(DescriptionKind::Offer, &own).expect("valid").version());
        let answer = b.answer(&offer).await.expect("answer");
        a.accept_answer(&answer).await.expect("accept");
        assert_eq!((offer.version(), answer.version()), (Some(version), Some(version)));
        assert!(answer.can_answer(Some(version)) && !answer.can_answer(Some(version + 1)));
    }
    let steps: Vec<bool> =
        engines.windows(2).map(|pair| pair[1] == pair[0].map(|version| version + 1)).collect();
    assert_ne!(steps, [true, true], "it counts now: `numbered` is not needed any more");
    a.close().await;
    b.close().await;
}

/// Guards what `role` makes up for: in an answer the engine always says that it began the handshake.
#[tokio::test]
async fn our_answers_keep_to_the_first_one_and_the_engines_still_do_not() {
    let (a, _a) = connection().await;
    let (b, _b) = connection().await;
    let offer = a.offer(false).await.expect("offer");
    let answer = b.answer(&offer).await.expect("answer");
    assert!(answer.as_str().contains("a=setup:active\r\n"));
    a.accept_answer(&answer).await.expect("accept");
    let offer = b.offer(true).await.expect("offer");
    let answer = a.answer(&offer).await.expect("answer");
    assert!(answer.as_str().contains("a=setup:passive\r\n") && !answer.as_str().contains("a=setup:active"));
    let own = a.engine.current_local_description().await.expect("set").sdp;
    assert!(own.contains("a=setup:active\r\n"), "it keeps its part now: `role` is not needed any more");
    a.close().await;
    b.close().await;
}
