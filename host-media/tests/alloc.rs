//! Nothing is allocated or freed on the tick once everything has been used once: an allocator that counts refuses it.

// A test program's helpers may panic as its tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use assert_no_alloc::{AllocDisabler, assert_no_alloc, permit_alloc, reset_violation_count, violation_count};
use common::speech;
use host_media::{
    Core, EncodedFrame, Engine, MemorySource, Packet, PayloadKind, PeerId, Processing, SinkSpec, SourceSpec,
    TICK,
};

#[global_allocator]
static COUNTING: AllocDisabler = AllocDisabler;

/// Everything that grows has grown by then: 20 s.
const WARM: u32 = 2_000;
const TICKS: u32 = 1_000;

struct Bench {
    core: Core,
    frames: Arc<Mutex<Vec<EncodedFrame>>>,
    start: Instant,
    peers: Vec<host_media::PeerInput>,
    sequence: u16,
}

impl Bench {
    fn new(peers: u64, processing: Processing) -> Self {
        let frames: Arc<Mutex<Vec<EncodedFrame>>> = Arc::default();
        frames.lock().unwrap().reserve(64);
        let made = Arc::clone(&frames);
        let start = Instant::now();
        let core = Engine::builder()
            .source(SourceSpec::Memory(MemorySource::new(speech(40.0, 48_000))))
            .sink(SinkSpec::Null)
            .processing(processing)
            .on_frame(move |frame| made.lock().unwrap().push(frame))
            .build(start, SystemTime::UNIX_EPOCH)
            .unwrap();
        let controls = core.controls();
        let peers = (0..peers).map(|n| controls.add_peer(PeerId(n)).unwrap()).collect();
        Self { core, frames, start, peers, sequence: 0 }
    }

    /// The ticks in which something was allocated or freed, after the warming up.
    fn run(&mut self, lost: impl Fn(u16) -> bool) -> u32 {
        let mut bad = 0;
        for tick in 0..WARM + TICKS {
            // The network's part: it may do what it likes.
            let now = self.start + TICK * tick;
            let frames: Vec<_> = self.frames.lock().unwrap().drain(..).collect();
            for frame in frames {
                self.sequence = self.sequence.wrapping_add(1);
                if lost(self.sequence) {
                    continue;
                }
                for peer in &self.peers {
                    let payload = frame.payload.clone();
                    let packet = Packet {
                        sequence: self.sequence,
                        timestamp: frame.timestamp,
                        payload,
                        kind: PayloadKind::Opus,
                    };
                    peer.push(packet, now);
                }
            }
            if tick < WARM {
                self.core.tick(now);
                continue;
            }
            reset_violation_count();
            assert_no_alloc(|| self.core.tick(now));
            bad += u32::from(violation_count() > 0);
        }
        bad
    }
}

#[test]
fn the_allocator_sees_what_is_allocated_in_between() {
    reset_violation_count();
    let kept = assert_no_alloc(|| vec![1_u8; 100]);
    assert_eq!(violation_count(), 1);
    assert_no_alloc(|| permit_alloc(|| drop(kept)));
    assert_eq!(violation_count(), 1);
}

#[test]
fn an_engine_without_a_network_allocates_nothing() {
    // No source gives no frame to hand out; everything else of a tick is there.
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let start = Instant::now();
    let mut core = Engine::builder()
        .source(SourceSpec::Tone)
        .sink(SinkSpec::Null)
        .on_event(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .build(start, SystemTime::UNIX_EPOCH)
        .unwrap();
    let mut bad = 0;
    for tick in 0..300 {
        reset_violation_count();
        assert_no_alloc(|| core.tick(start + TICK * tick));
        // A frame is handed out every second tick, in memory of its own as long as the encoder makes it so.
        bad += u32::from(tick > 100 && tick % 2 == 0 && violation_count() > 0);
    }
    assert_eq!(bad, 0);
    assert!(count.load(Ordering::Relaxed) > 0 && core.controls().stats().latency.frame > Duration::ZERO);
}

#[test]
fn a_tick_with_peers_allocates_nothing() {
    let bad = Bench::new(4, Processing::off()).run(|_| false);
    assert_eq!(bad, 0, "of {TICKS} ticks");
}

#[test]
fn a_tick_that_conceals_losses_allocates_nothing() {
    let bad = Bench::new(4, Processing::off()).run(|sequence| sequence % 10 == 3);
    assert_eq!(bad, 0, "of {TICKS} ticks");
}

/// sonora 0.2 allocates for each block that it processes: the exception. When this fails it has stopped to, and the tick
/// can be held to nothing with voice processing as well.
#[test]
fn voice_processing_still_allocates_in_its_library() {
    let bad = Bench::new(1, Processing::on()).run(|_| false);
    assert!(bad > 0, "voice processing allocates nothing any more: hold it to that here");
}
