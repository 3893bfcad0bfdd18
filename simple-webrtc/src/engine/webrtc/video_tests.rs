//! Videos: added and removed in mid-call, by both sides, in virtual time.

use std::time::Duration;

use bytes::Bytes;
use tokio::time;

use super::virtual_tests::*;
use crate::*;

const DELAY: Duration = Duration::from_millis(10);

fn piece(n: u32) -> Frame {
    let payload = Bytes::from([&n.to_be_bytes()[..], &[0x5a; 1100]].concat());
    Frame { payload, timestamp: n * 3000, marker: true, audio_level: None }
}

/// The next video that the second side, or the first, is told of, while `track` is being written.
async fn arrives(pair: &mut Pair, at_a: bool, track: &LocalTrack) -> RemoteTrack {
    for n in 0..500 {
        track.write(piece(n)).expect("fits");
        pair.run(Duration::from_millis(20)).await;
        if let Some(heard) = pair.take_track(at_a, TrackKind::Video) {
            return heard;
        }
    }
    panic!("nothing arrives");
}

/// Writes until it is heard that everything passes in order and as it is.
async fn flows(track: &LocalTrack, heard: &mut RemoteTrack) {
    const START: u32 = 10_000;
    for n in START..START + 50 {
        track.write(piece(n)).expect("fits");
        loop {
            let packet =
                time::timeout(Duration::from_secs(5), heard.recv()).await.expect("in time").expect("open");
            if packet.timestamp >= START * 3000 {
                assert_eq!(
                    (packet.timestamp, packet.marker, &packet.payload),
                    (n * 3000, true, &piece(n).payload)
                );
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_video_comes_and_goes_and_comes_in_mid_call() {
    for (codec, at_a) in [(VideoCodec::Vp8, false), (VideoCodec::H264, true)] {
        let mut pair = Pair::new(DELAY, true);
        pair.connect().await;
        pair.heard().await;
        let own = if at_a { pair.b.peers.clone() } else { pair.a.peers.clone() };
        for round in 0..3 {
            let camera = LocalTrack::video(codec);
            own.add_track(&camera).expect("room");
            let mut heard = arrives(&mut pair, at_a, &camera).await;
            assert_eq!((heard.kind(), heard.codec()), (TrackKind::Video, Some(codec)), "round {round}");
            flows(&camera, &mut heard).await;
            assert!(own.remove_track(&camera));
            pair.run(Duration::from_millis(200)).await;
            assert_eq!(pair.ended(), [heard.id()], "round {round}");
            assert_eq!(heard.recv().await, None);
            camera.write(piece(1)).expect("fits");
            pair.run(Duration::from_secs(1)).await;
            assert!(
                pair.take_track(at_a, TrackKind::Video).is_none(),
                "round {round}: it is heard all the same"
            );
        }
        assert!(pair.heard().await <= DELAY + Duration::from_millis(20), "sound went on");
        pair.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn videos_that_are_there_before_the_call_are_heard_from_its_start() {
    let mut pair = Pair::new(DELAY, true);
    let (camera, screen) = (LocalTrack::video(VideoCodec::Vp8), LocalTrack::video(VideoCodec::H264));
    pair.a.peers.add_track(&camera).expect("room");
    pair.b.peers.add_track(&screen).expect("room");
    pair.connect().await;
    let mut at_b = arrives(&mut pair, false, &camera).await;
    let mut at_a = arrives(&mut pair, true, &screen).await;
    flows(&camera, &mut at_b).await;
    flows(&screen, &mut at_a).await;
    let stats = pair.a.peers.stats(&"peer").await.expect("connected");
    assert!(stats.video_sent.packets >= 50 && stats.video_received.packets >= 50, "{stats:?}");
    assert_eq!((stats.video_sent.refused, stats.video_received.lost), (0, 0), "{stats:?}");
    pair.shutdown().await;
}

/// Both sides offer at the same moment: one gives way, and then has its turn.
#[tokio::test(start_paused = true)]
async fn both_sides_add_a_video_at_once() {
    for _ in 0..5 {
        let mut pair = Pair::new(DELAY, true);
        pair.connect().await;
        let (ours, theirs) = (LocalTrack::video(VideoCodec::Vp8), LocalTrack::video(VideoCodec::Vp8));
        pair.a.peers.add_track(&ours).expect("room");
        pair.b.peers.add_track(&theirs).expect("room");
        let mut at_b = arrives(&mut pair, false, &ours).await;
        let mut at_a = arrives(&mut pair, true, &theirs).await;
        flows(&ours, &mut at_b).await;
        flows(&theirs, &mut at_a).await;
        // And a restart with it.
        pair.a.peers.restart(&"peer", Generation(1)).expect("restart");
        pair.b.peers.remove_track(&theirs);
        pair.run(Duration::from_secs(2)).await;
        assert_eq!(pair.ended(), [at_a.id()]);
        flows(&ours, &mut at_b).await;
        pair.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_keyframe_is_asked_for_and_not_too_often() {
    let mut pair = Pair::new(DELAY, true);
    let camera = LocalTrack::video(VideoCodec::Vp8);
    pair.a.peers.add_track(&camera).expect("room");
    pair.connect().await;
    let mut heard = arrives(&mut pair, false, &camera).await;
    flows(&camera, &mut heard).await;
    assert_eq!(pair.keyframes(), 0);
    heard.request_keyframe();
    pair.run(Duration::from_millis(100)).await;
    assert_eq!(pair.keyframes(), 1);
    time::sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        heard.request_keyframe();
        pair.run(Duration::from_millis(50)).await;
    }
    let asked = pair.keyframes();
    assert!((3..=5).contains(&asked), "{asked} in a second");
    pair.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_sent_nothing_gets_no_video_either() {
    let mut pair = Pair::new(DELAY, true);
    let camera = LocalTrack::video(VideoCodec::Vp8);
    pair.connect().await;
    pair.a.peers.set_sending(&"peer", Generation(1), false).expect("connected");
    pair.a.peers.add_track(&camera).expect("room");
    for n in 0..50 {
        camera.write(piece(n)).expect("fits");
        pair.run(Duration::from_millis(20)).await;
    }
    assert!(pair.take_track(false, TrackKind::Video).is_none());
    pair.a.peers.set_sending(&"peer", Generation(1), true).expect("connected");
    let mut heard = arrives(&mut pair, false, &camera).await;
    flows(&camera, &mut heard).await;
    pair.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_number_of_tracks_is_bounded() {
    let pair = Pair::new(DELAY, true);
    for _ in 0..4 {
        pair.a.peers.add_track(&LocalTrack::video(VideoCodec::Vp8)).expect("room");
    }
    let further = pair.a.peers.add_track(&LocalTrack::video(VideoCodec::Vp8));
    assert_eq!(further, Err(Error::TooManyVideos { limit: 4 }));
    pair.shutdown().await;
}
