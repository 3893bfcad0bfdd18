//! What connections take of the machine, over loopback and in real time. Both ends of each are in this process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{self, Instant};

use super::super::bare::{self, Place};
use super::super::virtual_tests::loopback;
use super::{TICK, Who, patient, print};
use crate::queue::Queue;
use crate::*;

/// As long as a frame of 20 ms at 32 kb/s.
fn payload() -> Bytes {
    Bytes::from_static(&[7; 80])
}

fn frame(n: u32) -> Frame {
    Frame { payload: payload(), timestamp: n.wrapping_mul(960), marker: false, audio_level: Some((30, true)) }
}

/// What this process has used of the processors.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Kilobytes of memory that this process has in use.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// One who speaks to many: each connection is to another one, who hears.
struct Speaker {
    peers: Peers<usize>,
    events: Events<usize>,
    track: LocalTrack,
    listeners: Vec<(Peers<usize>, Events<usize>)>,
}

impl Speaker {
    fn new() -> Self {
        let config = loopback().max_links(200).build().expect("valid");
        let (peers, events) = Peers::new(config).expect("inside a runtime");
        let track = LocalTrack::audio();
        peers.add_track(&track).expect("the first");
        Self { peers, events, track, listeners: Vec::new() }
    }

    /// One more listener. How long it took.
    async fn connect(&mut self) -> Duration {
        let (peers, mut events) = Peers::new(loopback().build().expect("valid")).expect("inside a runtime");
        peers.add_track(&LocalTrack::audio()).expect("the first");
        let (name, generation) = (self.listeners.len(), Generation(1));
        let start = Instant::now();
        self.peers.dial(name, generation).expect("dial");
        let mut connected = [false; 2];
        while connected != [true; 2] {
            let (event, to) = patient(async {
                tokio::select! {
                    event = self.events.recv() => (event.expect("open"), &peers),
                    event = events.recv() => (event.expect("open"), &self.peers),
                }
            })
            .await;
            let at = usize::from(!std::ptr::eq(to, &peers));
            match event.kind {
                EventKind::LocalDescription(offer) if offer.kind() == DescriptionKind::Offer => {
                    to.accept(name, generation, offer).expect("accept");
                }
                EventKind::LocalDescription(answer) => {
                    to.apply(&name, generation, Remote::Answer(answer)).expect("apply");
                }
                EventKind::LocalCandidate(candidate) => {
                    to.apply(&name, generation, Remote::Candidate(candidate)).expect("apply");
                }
                EventKind::State(state) => connected[at] = state == LinkState::Connected,
                _ => {}
            }
        }
        self.listeners.push((peers, events));
        start.elapsed()
    }

    /// Until the last listener hears something.
    async fn heard(&mut self) -> (Duration, RemoteTrack) {
        let start = Instant::now();
        let mut tick = time::interval(TICK);
        let (_, events) = self.listeners.last_mut().expect("one");
        for n in 0.. {
            tick.tick().await;
            self.track.write(frame(n)).expect("fits");
            let heard = async {
                loop {
                    if let EventKind::RemoteTrack(mut track) = events.recv().await.expect("open").kind {
                        track.recv().await.expect("a packet");
                        return track;
                    }
                }
            };
            if let Ok(track) = time::timeout(TICK, heard).await {
                return (start.elapsed(), track);
            }
        }
        unreachable!("the range has no end")
    }

    async fn close(self) {
        self.peers.shutdown().await;
        for (peers, _) in self.listeners {
            peers.shutdown().await;
        }
    }
}

/// Until both are connected, and until the first packet.
pub(super) async fn set_up() -> (Duration, Duration) {
    let mut speaker = Speaker::new();
    let connected = speaker.connect().await;
    let first = connected + speaker.heard().await.0;
    speaker.close().await;
    (connected, first)
}

fn drain(mut track: RemoteTrack) {
    tokio::spawn(async move { while track.recv().await.is_some() {} });
}

/// Processor time for each connection, both ends, that carries 50 packets a second one way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, run by `scripts/bench.sh links`"]
async fn measure_processor() {
    const TIME: Duration = Duration::from_secs(10);
    for count in [1, 4, 16] {
        for who in Who::BOTH {
            let (start, before);
            match who {
                Who::Ours => {
                    let mut speaker = Speaker::new();
                    for _ in 0..count {
                        speaker.connect().await;
                        drain(speaker.heard().await.1);
                    }
                    time::sleep(Duration::from_secs(1)).await;
                    (start, before) = (Instant::now(), used());
                    let (mut tick, mut n) = (time::interval(TICK), 1_000);
                    while start.elapsed() < TIME {
                        tick.tick().await;
                        speaker.track.write(frame(n)).expect("fits");
                        n += 1;
                    }
                    report(count, who, start, before);
                    speaker.close().await;
                }
                Who::Bare => {
                    let mut pairs = Vec::new();
                    for _ in 0..count {
                        let (mut pair, _) = bare::Pair::connect(&Place::default()).await;
                        pair.heard().await;
                        pair.drain();
                        pairs.push(pair);
                    }
                    time::sleep(Duration::from_secs(1)).await;
                    (start, before) = (Instant::now(), used());
                    let mut tick = time::interval(TICK);
                    while start.elapsed() < TIME {
                        tick.tick().await;
                        for pair in &mut pairs {
                            pair.write().await;
                        }
                    }
                    report(count, who, start, before);
                    for pair in pairs {
                        pair.close().await;
                    }
                }
            }
        }
    }
}

fn report(count: u32, who: Who, start: Instant, before: Duration) {
    let share = (used() - before).as_secs_f64() / start.elapsed().as_secs_f64() / f64::from(count);
    // Of one processor, in millionths.
    print("processor_ppm", &format!("{count}/{}", who.name()), (share * 1e6).round() as u128);
}

/// Memory of each end of a connection, which has carried a packet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, run by `scripts/bench.sh links`"]
async fn measure_memory_of_ours() {
    const COUNT: u64 = 50;
    set_up().await;
    let before = memory();
    let mut speaker = Speaker::new();
    let mut tracks = Vec::new();
    for _ in 0..COUNT {
        speaker.connect().await;
        tracks.push(speaker.heard().await.1);
    }
    print("memory_kb", "ours", u128::from((memory() - before) / (2 * COUNT)));
    drop(tracks);
    speaker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, run by `scripts/bench.sh links`"]
async fn measure_memory_of_the_bare_engine() {
    const COUNT: u64 = 50;
    let (mut pair, _) = bare::Pair::connect(&Place::default()).await;
    pair.heard().await;
    pair.close().await;
    let before = memory();
    let mut pairs = Vec::new();
    for _ in 0..COUNT {
        let (mut pair, _) = bare::Pair::connect(&Place::default()).await;
        pair.heard().await;
        pairs.push(pair);
    }
    print("memory_kb", "bare", u128::from((memory() - before) / (2 * COUNT)));
    for pair in pairs {
        pair.close().await;
    }
}

/// What it takes to hand a frame to a track that many hear, and to the engine for one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, run by `scripts/bench.sh links`"]
async fn measure_listeners() {
    const WRITES: u32 = 20_000;
    for listeners in [0, 1, 4, 16] {
        let track = LocalTrack::audio();
        let queues: Vec<_> = (0..listeners).map(|_| Arc::new(Queue::new(crate::track::OUT_QUEUE))).collect();
        let _subscribed: Vec<_> = queues.iter().map(|queue| track.subscribe(queue.clone())).collect();
        let mut best = Duration::MAX;
        for _ in 0..20 {
            let start = std::time::Instant::now();
            for n in 0..WRITES {
                track.write(frame(n)).expect("fits");
            }
            best = best.min(start.elapsed());
        }
        print("write_ns", &format!("{listeners}/ours"), best.as_nanos() / u128::from(WRITES));
    }
    let (mut pair, _) = bare::Pair::connect(&Place::default()).await;
    pair.heard().await;
    pair.drain();
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = std::time::Instant::now();
        for _ in 0..100 {
            pair.write().await;
        }
        best = best.min(start.elapsed());
        // What was written has to leave, too.
        time::sleep(Duration::from_millis(100)).await;
    }
    print("write_ns", "1/bare", best.as_nanos() / 100);
    pair.close().await;
}
