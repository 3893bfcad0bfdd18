//! Prepared connections of the real engine, in virtual time: what they save, and that nothing else is different.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::net::Net;
use super::virtual_tests::*;
use super::*;
use crate::*;

const DELAY: Duration = Duration::from_millis(50);

/// From dialling to the offer, to the first candidate of a kind, and to the end of gathering.
async fn shown(pair: &mut Pair, kind: CandidateKind) -> [Duration; 3] {
    let start = Instant::now();
    pair.a.peers.dial("peer", Generation(1)).expect("dial");
    let mut shown = [None; 3];
    while shown[2].is_none() {
        let at = match pair.event().await.1.kind {
            EventKind::LocalDescription(_) => 0,
            EventKind::LocalCandidate(candidate) if candidate.kind() == kind => 1,
            EventKind::GatheringDone => 2,
            _ => continue,
        };
        shown[at].get_or_insert(start.elapsed());
    }
    shown.map(|shown| shown.expect("shown"))
}

/// Offer and candidates are there at once, and not a round trip to a STUN server or three to a TURN server later.
#[tokio::test(start_paused = true)]
async fn what_was_prepared_is_shown_at_once() {
    for (relayed, kind) in [(false, CandidateKind::ServerReflexive), (true, CandidateKind::Relay)] {
        let mut both = [[Duration::ZERO; 3]; 2];
        for (prepared, shown_after) in [false, true].into_iter().zip(&mut both) {
            let net = Net::new(DELAY);
            let server = relay::start(&net);
            let config = || match relayed {
                true => loopback()
                    .ice_server(IceServer::turn(format!("turn:{server}"), "user", "secret"))
                    .relay_only(true),
                false => loopback().ice_server(IceServer::stun(format!("stun:{server}"))),
            };
            let mut pair = Pair::with(net, true, config);
            if prepared {
                pair.a.peers.prepare(1).expect("room");
                time::sleep(Duration::from_secs(5)).await;
            }
            *shown_after = shown(&mut pair, kind).await;
            println!("{kind:?}, prepared {prepared}: offer, candidate and end after {shown_after:?}");
            pair.shutdown().await;
        }
        assert_eq!(both[1], [Duration::ZERO; 3]);
        assert!(both[0][1] >= 2 * DELAY, "nothing is saved: {both:?}");
    }
}

/// It connects like any other, also after a while: sound, channels, a video that came in between, and another certificate
/// each time.
#[tokio::test(start_paused = true)]
async fn a_prepared_connection_does_what_any_other_does() {
    let mut pair = Pair::with(Net::new(DELAY), true, loopback);
    pair.a.peers.prepare(1).expect("room");
    let mut certificates = BTreeSet::new();
    for generation in 1..=3 {
        time::sleep(Duration::from_secs(200)).await;
        let start = Instant::now();
        pair.a.peers.dial("other", Generation(generation)).expect("dial");
        let offer = loop {
            if let EventKind::LocalDescription(offer) = pair.event().await.1.kind {
                break offer;
            }
        };
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(certificates.insert(format!("{:?}", offer.fingerprint().as_bytes())), "a certificate twice");
    }
    pair.a.peers.hang_up(&"other", Generation(3)).expect("hang up");
    while !matches!(pair.event().await.1.kind, EventKind::State(state) if state.is_final()) {}

    let video = LocalTrack::video(VideoCodec::Vp8);
    for with_video in [false, true] {
        time::sleep(Duration::from_secs(1)).await;
        if with_video {
            pair = Pair::with(Net::new(DELAY), true, loopback);
            pair.a.peers.prepare(1).expect("room");
            time::sleep(Duration::from_secs(1)).await;
            pair.a.peers.add_track(&video).expect("room");
        }
        let up = pair.connect().await;
        // Nine ways, as without.
        assert_eq!(up, 9 * DELAY, "video {with_video}");
        assert!(pair.heard().await <= DELAY + Duration::from_millis(40));
        let (a, mut b) = pair.channel("signaling").await;
        a.send(Message::Text("bound".to_owned())).await.expect("open");
        assert_eq!(b.recv().await, Some(Message::Text("bound".to_owned())));
        let mut seen = false;
        for n in 0..50 {
            video.write(frame(n)).expect("fits");
            pair.run(Duration::from_millis(20)).await;
            seen |= pair.hears_video(false).await;
        }
        assert_eq!(seen, with_video);
        pair.a.peers.restart(&"peer", Generation(1)).expect("restart");
        pair.until(LinkState::Connected).await;
        assert!(pair.heard().await <= DELAY + Duration::from_millis(40));
        tokio::join!(pair.a.peers.shutdown(), pair.b.peers.shutdown());
    }
}

/// It has gathered when it is told of a video and has to offer again. Still its first offer names no address, so that it may cross before
/// anything may that does.
#[tokio::test(start_paused = true)]
async fn a_first_offer_names_no_candidate_also_if_it_is_made_after_gathering() {
    let mut pair = Pair::with(Net::new(DELAY), true, loopback);
    pair.a.peers.prepare(1).expect("room");
    time::sleep(Duration::from_secs(1)).await;
    pair.a.peers.add_track(&LocalTrack::video(VideoCodec::Vp8)).expect("room");
    pair.a.peers.dial("other", Generation(1)).expect("dial");
    let (mut offers, mut candidates) = (0, 0);
    loop {
        match pair.event().await.1.kind {
            EventKind::LocalDescription(offer) => {
                assert!(!offer.as_str().contains("a=candidate"), "{}", offer.as_str());
                assert!(offer.as_str().contains("m=video"));
                offers += 1;
            }
            EventKind::LocalCandidate(_) => candidates += 1,
            EventKind::GatheringDone => break,
            _ => {}
        }
    }
    assert_eq!((offers, candidates), (1, 1));
    pair.shutdown().await;
}
