//! Two sides that restart, and add and remove videos, whenever it suits them, while what they signal takes its time and
//! comes twice. When they are left in peace they are connected, and hear each other.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::net::Net;
use super::virtual_tests::*;
use crate::*;

const FIRST: Generation = Generation(1);

/// Small and repeatable; quality does not matter here.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What is on its way to one side, in order.
#[derive(Default)]
struct Way(VecDeque<(Instant, Remote)>);

impl Way {
    fn put(&mut self, dice: &mut Dice, message: Remote) {
        let earliest = self.0.back().map_or(Instant::now(), |(due, _)| *due);
        for _ in 0..=u64::from(dice.roll(5) == 0) {
            let due = earliest.max(Instant::now() + Duration::from_millis(dice.roll(400)));
            self.0.push_back((due, message.clone()));
        }
    }

    fn due(&self) -> Option<Instant> {
        self.0.front().map(|(due, _)| *due)
    }
}

async fn run(seed: u64) {
    let mut dice = Dice(seed);
    let mut pair = Pair::with(Net::new(Duration::from_millis(1 + dice.roll(60))), true, loopback);
    pair.connect().await;
    // Some of it happens on a network that loses a datagram in eleven.
    pair.net.lose_every([0, 0, 11][dice.roll(3) as usize]);
    let mut ways = [Way::default(), Way::default()];
    let mut states = [LinkState::Connected; 2];
    let mut videos: [Option<LocalTrack>; 2] = [None, None];
    let mut actions = 12;
    let mut next = Instant::now();
    let mut quiet = None;
    loop {
        let sides = [pair.a.peers.clone(), pair.b.peers.clone()];
        let due = ways.iter().filter_map(Way::due).min();
        let arrival = async {
            match due {
                Some(due) => time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let end: Instant = quiet.unwrap_or(Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            biased;
            (at, event) = pair.event() => {
                let to = 1 - at;
                match event.kind {
                    EventKind::LocalDescription(description) => {
                        let message = match description.kind() {
                            DescriptionKind::Offer => Remote::Offer(description),
                            DescriptionKind::Answer => Remote::Answer(description),
                        };
                        ways[to].put(&mut dice, message);
                    }
                    EventKind::LocalCandidate(candidate) => ways[to].put(&mut dice, Remote::Candidate(candidate)),
                    EventKind::State(state) => {
                        assert!(!state.is_final(), "seed {seed}: {state}");
                        states[at] = state;
                    }
                    EventKind::RemoteTrack(track) => pair.keep_track(at == 0, track),
                    _ => {}
                }
            }
            () = arrival => {
                for (at, way) in ways.iter_mut().enumerate() {
                    while way.due().is_some_and(|due| due <= Instant::now()) {
                        let (_, message) = way.0.pop_front().expect("looked at above");
                        sides[at].apply(&"peer", FIRST, message).expect("the connection lives");
                    }
                }
            }
            () = time::sleep_until(next), if actions > 0 => {
                let at = dice.roll(2) as usize;
                match dice.roll(3) {
                    0 => sides[at].restart(&"peer", FIRST).expect("restart"),
                    _ => match videos[at].take() {
                        Some(track) => assert!(sides[at].remove_track(&track)),
                        None => {
                            let codec = [VideoCodec::Vp8, VideoCodec::H264][dice.roll(2) as usize];
                            let track = LocalTrack::video(codec);
                            sides[at].add_track(&track).expect("room");
                            videos[at] = Some(track);
                        }
                    },
                }
                next += Duration::from_millis(dice.roll(700));
                actions -= 1;
                if actions == 0 {
                    pair.net.lose_every(0);
                    quiet = Some(Instant::now() + Duration::from_secs(20));
                }
            }
            () = time::sleep_until(end) => break,
        }
    }
    assert_eq!(states, [LinkState::Connected; 2], "seed {seed}");
    let heard = pair.heard().await;
    assert!(heard < Duration::from_secs(1), "seed {seed}: {heard:?}");
    for (at, track) in videos.iter().enumerate() {
        let Some(track) = track else { continue };
        // Written for a second, it arrives.
        let mut arrives = false;
        for n in 0..50 {
            track.write(frame(n)).expect("fits");
            pair.run(Duration::from_millis(20)).await;
            arrives |= pair.hears_video(at == 1).await;
        }
        assert!(arrives, "seed {seed}: the video of side {at} does not arrive");
    }
    pair.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn two_sides_that_change_their_mind_all_the_time_end_up_connected() {
    for seed in 0..60 {
        run(seed).await;
    }
}
