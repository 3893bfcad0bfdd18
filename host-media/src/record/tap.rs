//! The ticks' side of a recording: copies, counts, and never waits.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use ringbuf::{
    HeapCons, HeapProd, HeapRb,
    traits::{Observer, Producer, Split},
};

use super::{RecordStats, RecordingId, Recordings, Track, duration};
use crate::{Block, event::Event, format::PeerId, lock};

/// Blocks that may wait to be written, of all files together; silence takes no room. 4 MB: 20 s of one voice, 4 s of
/// five at once. A disk that stands still for longer costs sound.
const RING: usize = 2048;

/// A standstill is recorded as silence of the same length, up to 10 minutes: so that a machine that slept does not
/// fill its disk. It is the bound of WAV sinks too.
const MAX_SKIP: u64 = 60_000;

/// How long the end of an engine waits for the disk, which is asked for what it has not written yet: 10 s of sound at most
/// (`worker::SYNC`). As long as for a device that is just being closed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A block on its way to its file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tick: u64,
    pub(super) track: Track,
    pub(super) block: Block,
}

/// What the ticks and the thread of a recording share.
#[derive(Debug, Default)]
pub(super) struct Feed {
    pub(super) id: RecordingId,
    /// Whether ticks wait for the disk.
    lockstep: bool,
    /// All files, in the order in which they were begun.
    pub(super) paths: Mutex<Vec<PathBuf>>,
    /// Ticks whose blocks are all in the ring.
    pub(super) ticks: AtomicU64,
    /// There will be no more ticks.
    pub(super) ended: AtomicBool,
    /// Ticks whose blocks are all in the files, or in the buffers of files.
    pub(super) written: AtomicU64,
    /// Blocks that did not fit.
    pub(super) missing: AtomicU64,
    /// Files that are written.
    pub(super) files: AtomicUsize,
    /// Nobody reads any more; all files are closed.
    pub(super) over: AtomicBool,
    /// The application has been told of the end, or will be.
    pub(super) told: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Feed {
    pub(super) fn over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn belongs_to(&self, thread: Thread) {
        // It is set once, where the thread is started.
        let _ = self.thread.set(thread);
    }

    pub(super) fn stats(&self) -> RecordStats {
        let written = self.written.load(Ordering::Acquire);
        let ticks = self.ticks.load(Ordering::Acquire);
        RecordStats {
            id: self.id,
            behind: duration(ticks.saturating_sub(written)),
            length: duration(ticks),
            missing: duration(self.missing.load(Ordering::Relaxed)),
            files: self.files.load(Ordering::Relaxed),
        }
    }

    /// What tells of the end.
    pub(super) fn stopped(&self) -> Event {
        let length = duration(self.ticks.load(Ordering::Acquire));
        Event::RecordingStopped { id: self.id, files: lock(&self.paths).clone(), length }
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// What a recording takes from the ticks. Its end is the end of the recording.
pub(super) struct Tap {
    feed: Arc<Feed>,
    ring: HeapProd<Entry>,
    tick: u64,
    /// What is begun with, to be told.
    files: Vec<PathBuf>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("tick", &self.tick).finish_non_exhaustive()
    }
}

pub(super) fn pair(id: RecordingId, lockstep: bool) -> (Tap, Arc<Feed>, HeapCons<Entry>) {
    let (ring, blocks) = HeapRb::new(RING).split();
    let feed = Arc::new(Feed { id, lockstep, ..Feed::default() });
    (Tap { feed: Arc::clone(&feed), ring, tick: 0, files: Vec::new() }, feed, blocks)
}

impl Tap {
    pub(super) fn with_files(mut self, files: Vec<PathBuf>) -> Self {
        self.files = files;
        self
    }

    fn push(&mut self, track: Track, block: &Block) {
        // Silence is what a file holds anyway.
        if block.iter().all(|s| *s == 0.0) {
            return;
        }
        while self.feed.lockstep && self.ring.is_full() && !self.feed.over() {
            // What this tick has pushed already may be all that is in the ring.
            self.feed.wake();
            std::thread::sleep(Duration::from_micros(200));
        }
        if self.ring.try_push(Entry { tick: self.tick, track, block: *block }).is_err() {
            self.feed.missing.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn advance(&mut self, ticks: u64) {
        self.tick += ticks;
        self.feed.ticks.store(self.tick, Ordering::Release);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.feed.ended.store(true, Ordering::Release);
        self.feed.wake();
    }
}

/// The hook in the engine: is told what is heard, whether anything is recorded or not.
#[derive(Debug)]
pub(crate) struct Taps {
    shared: Arc<Recordings>,
    tap: Option<Tap>,
}

impl Taps {
    pub(crate) fn new(shared: Arc<Recordings>) -> Self {
        Self { shared, tap: None }
    }

    /// What oneself sends in this tick. Without a call it is silence.
    pub(crate) fn own(&mut self, block: &Block) {
        if let Some(tap) = &mut self.tap {
            tap.push(Track::Own, block);
        }
    }

    /// What is played of a peer in this tick, before gains. Without a call it is silence.
    pub(crate) fn peer(&mut self, peer: PeerId, block: &Block) {
        if let Some(tap) = &mut self.tap {
            tap.push(Track::Peer(peer), block);
        }
    }

    /// Ends the tick. A recording begins and ends between two ticks.
    pub(crate) fn end(&mut self, tell: &mut dyn FnMut(Event)) {
        if let Some(tap) = &mut self.tap {
            tap.advance(1);
        }
        if self.shared.changed.swap(false, Ordering::AcqRel) {
            self.change(tell);
        }
        if self.tap.as_ref().is_some_and(|tap| tap.feed.over()) {
            self.tap = None;
        }
        while let Some(event) = self.shared.outbox.take() {
            tell(event);
        }
    }

    /// The engine stood still for this many ticks.
    pub(crate) fn skip(&mut self, ticks: u64) {
        if let Some(tap) = &mut self.tap {
            tap.advance(ticks.min(MAX_SKIP));
        }
    }

    /// Ends for good: waits until all files are closed, but not for ever. In lockstep it is the disk's time that counts.
    pub(crate) fn finish(&mut self, patience: Duration, tell: &mut dyn FnMut(Event)) {
        let (open, waiting) = {
            let mut state = lock(&self.shared.state);
            state.over = true;
            state.current = None;
            (std::mem::take(&mut state.open), state.waiting.take())
        };
        self.tap = None;
        drop(waiting);
        let until = Instant::now() + patience;
        for feed in open {
            while !feed.over() && (feed.lockstep || Instant::now() < until) {
                feed.wake();
                std::thread::sleep(Duration::from_millis(1));
            }
            if !feed.over() {
                tracing::warn!(
                    "the disk is too slow to end a recording; its files are closed when it goes on"
                );
                self.shared.outbox.end(&feed);
            }
        }
        while let Some(event) = self.shared.outbox.take() {
            tell(event);
        }
    }

    fn change(&mut self, tell: &mut dyn FnMut(Event)) {
        let (stop, waiting) = {
            let mut state = lock(&self.shared.state);
            (std::mem::take(&mut state.stop), state.waiting.take())
        };
        if stop && let Some(tap) = self.tap.take() {
            let feed = Arc::clone(&tap.feed);
            drop(tap);
            while feed.lockstep && !feed.over() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        if let Some(mut tap) = waiting {
            tell(Event::RecordingStarted { id: tap.feed.id, files: std::mem::take(&mut tap.files) });
            self.tap = Some(tap);
        }
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        self.finish(PATIENCE, &mut |_| {});
    }
}
