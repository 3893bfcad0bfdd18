//! Records a call: a file for oneself, one for each peer, and one of everybody together, in step with each other.
//!
//! The tick only copies blocks into a bounded ring, each with the number of its tick ([`tap`]). A thread of the
//! recording takes them out, encodes and writes ([`worker`]): a block lies in its file where its tick lies in the
//! recording, and what did not come is silence. So nothing that is muted, late, lost or too slow moves anything else.

mod files;
mod roster;
mod tap;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use tap::{PATIENCE, Taps};

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use self::{
    files::{Directory, Files},
    roster::Roster,
    tap::{Feed, Tap},
    worker::Worker,
};
use crate::{
    BLOCK,
    engine::Controls,
    error::{Error, RecordFault},
    event::Event,
    format::PeerId,
    lock,
};

/// Bit rate of a participant's file in bit/s: 28 to 40 kb/s is what RFC 7587 section 3.1.1 gives for fullband speech.
const BITRATE: u32 = 32_000;
/// Bit rate of the file of everybody, in bit/s: half as much again, for voices that overlap.
const MIX_BITRATE: u32 = 48_000;

/// What to record, and where to.
///
/// The files are Ogg Opus (RFC 7845), 48 kHz mono, and named `<start>-<label>.opus` with the start in UTC as
/// `yyyymmdd-hhmmss`. No file is ever overwritten: a number after the start, or after a label, tells apart what would
/// have the same name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordSpec {
    /// The folder for the files; it must exist.
    pub dir: PathBuf,
    /// The label of the file of what oneself sends. Default `me`.
    pub own: String,
    /// The label of the file of what everybody says. Default `all`.
    pub mix: String,
    /// When the recording starts, for the names of its files. Default: now.
    pub start: Option<SystemTime>,
    /// Whether ticks wait for the disk when it is too slow. Default false: what does not fit is silence. True is for a
    /// [`Core`](crate::Core) that is driven faster than the clock, and never right for an [`Engine`](crate::Engine).
    pub lockstep: bool,
}

impl RecordSpec {
    /// Records into this folder.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), own: "me".to_owned(), mix: "all".to_owned(), start: None, lockstep: false }
    }

    /// The same with these labels for the file of oneself and for the file of everybody.
    #[must_use]
    pub fn labels(mut self, own: impl Into<String>, mix: impl Into<String>) -> Self {
        self.own = own.into();
        self.mix = mix.into();
        self
    }

    /// The same with another start in the names of the files.
    #[must_use]
    pub fn start(mut self, start: SystemTime) -> Self {
        self.start = Some(start);
        self
    }

    /// The same with ticks that wait for the disk.
    #[must_use]
    pub fn lockstep(mut self, lockstep: bool) -> Self {
        self.lockstep = lockstep;
        self
    }
}

/// Tells one recording of an engine from the others. They are counted from 1 on, in the order in which they were begun;
/// no two of an engine have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordingId(pub u64);

/// How a recording is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordStats {
    /// Which one.
    pub id: RecordingId,
    /// What was recorded until now.
    pub length: Duration,
    /// Sound of all files together that is silence because the disk was too slow.
    pub missing: Duration,
    /// Files that are being written.
    pub files: usize,
    /// How much of the length was not taken up by the thread that writes so far; zero on a disk that keeps up, but for some
    /// 100 ms at a time.
    pub behind: Duration,
}

/// The recordings of an engine, as its handles and its ticks share them.
#[derive(Debug, Default)]
pub(crate) struct Recordings {
    roster: Arc<Roster>,
    /// Held while files are created, so that ticks never wait for it.
    starting: Mutex<()>,
    state: Mutex<State>,
    /// There is something new in `state` for the next tick.
    changed: AtomicBool,
    outbox: Arc<Outbox>,
    /// How many there were.
    count: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// A recording for the next tick to begin.
    waiting: Option<Tap>,
    /// The recording that runs, or waits.
    current: Option<Arc<Feed>>,
    /// The next tick shall end what it records.
    stop: bool,
    /// The recordings whose threads may still work.
    open: Vec<Arc<Feed>>,
    /// There are no more ticks.
    over: bool,
}

/// What threads of recordings want the application to be told by the next tick.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    events: Mutex<VecDeque<Event>>,
    any: AtomicBool,
}

impl Outbox {
    fn post(&self, event: Event) {
        lock(&self.events).push_back(event);
        self.any.store(true, Ordering::Release);
    }

    /// Posts the end of a recording, unless that was done.
    fn end(&self, feed: &Feed) {
        let mut events = lock(&self.events);
        if !feed.told.swap(true, Ordering::Relaxed) {
            events.push_back(feed.stopped());
            self.any.store(true, Ordering::Release);
        }
    }

    fn take(&self) -> Option<Event> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut events = lock(&self.events);
        let event = events.pop_front();
        self.any.store(!events.is_empty(), Ordering::Release);
        event
    }
}

impl Recordings {
    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Creates the files, and lets the next tick begin.
    pub(crate) fn start(&self, spec: &RecordSpec) -> Result<RecordingId, Error> {
        let start = spec.start.unwrap_or_else(SystemTime::now);
        self.start_with(spec, &mut || Ok(Box::new(Directory::new(&spec.dir, start)?)))
    }

    fn start_with(
        &self,
        spec: &RecordSpec,
        files: &mut dyn FnMut() -> Result<Box<dyn Files>, RecordFault>,
    ) -> Result<RecordingId, Error> {
        let _starting = lock(&self.starting);
        {
            let mut state = lock(&self.state);
            if state.over {
                return Err(Error::Record(RecordFault::Stopped));
            }
            if state.current.as_ref().is_some_and(|feed| !feed.over()) {
                return Err(Error::Record(RecordFault::Already));
            }
            state.open.retain(|feed| !feed.over());
        }
        let files = files().map_err(Error::Record)?;
        let id = RecordingId(self.count.fetch_add(1, Ordering::Relaxed) + 1);
        let (tap, feed, blocks) = tap::pair(id, spec.lockstep);
        let worker = Worker::new(
            files,
            spec,
            Arc::clone(&feed),
            blocks,
            Arc::clone(&self.roster),
            Arc::clone(&self.outbox),
        )?;
        let tap = tap.with_files(worker.files());
        let thread = std::thread::Builder::new()
            .name("host-media-record".to_owned())
            .spawn(move || worker.run())
            .map_err(|e| Error::Record(RecordFault::Thread(e)))?;
        feed.belongs_to(thread.thread().clone());
        let mut state = lock(&self.state);
        state.open.push(Arc::clone(&feed));
        if state.over {
            // The tap ends here, and with it the thread.
            return Err(Error::Record(RecordFault::Stopped));
        }
        state.waiting = Some(tap);
        state.current = Some(feed);
        self.changed.store(true, Ordering::Release);
        Ok(id)
    }

    /// Lets the next tick end the recording. False if there is none.
    pub(crate) fn stop(&self) -> bool {
        let mut state = lock(&self.state);
        let Some(feed) = state.current.take() else { return false };
        // One that no tick has begun ends by itself.
        if state.waiting.take().is_none() {
            state.stop = true;
            self.changed.store(true, Ordering::Release);
        }
        !feed.over()
    }

    pub(crate) fn stats(&self) -> Option<RecordStats> {
        let state = lock(&self.state);
        let feed = state.current.as_ref().filter(|feed| !feed.over())?;
        Some(feed.stats())
    }
}

impl Controls {
    /// Begins to record with the next tick: a file of what oneself sends (silent while muted), one of each peer as it is
    /// played (before its gain), and one of everybody together. All begin at the same moment and are in step with each
    /// other until the end, whoever is muted, late or lost; the file of a peer that comes later begins with silence.
    ///
    /// The files are created here, which may take as long as the disk takes. They are written by a thread of the
    /// recording. [`Event::RecordingStarted`] tells when it runs, and [`Event::RecordingStopped`] its end; both name the
    /// result.
    ///
    /// # Errors
    /// [`Error::Record`] if a recording runs already, the engine has stopped, or a file cannot be created; then none is
    /// left behind. What goes wrong later is told by [`Event::RecordingFailed`].
    pub fn record(&self, spec: &RecordSpec) -> Result<RecordingId, Error> {
        self.recordings().start(spec)
    }

    /// Ends the recording with the next tick. [`Event::RecordingStopped`] tells when its files are closed. False if there
    /// is none. Another one may be begun at once.
    pub fn stop_recording(&self) -> bool {
        self.recordings().stop()
    }

    /// How the recording is doing; none if there is none.
    #[must_use]
    pub fn recording(&self) -> Option<RecordStats> {
        self.recordings().stats()
    }

    /// Says what the files of a peer are to be called, from the next one on; without it they are called `peer-` and its
    /// number. It may be said before the peer is added, and should be, when something is recorded already. Within a
    /// recording, a peer with the label of one who has left continues their file.
    pub fn set_label(&self, peer: PeerId, label: &str) {
        self.recordings().roster().set_label(peer, label);
    }
}

fn duration(blocks: u64) -> Duration {
    Duration::from_millis(blocks.saturating_mul(10))
}

fn blocks(samples: u64) -> u64 {
    samples / BLOCK as u64
}

/// Who or what a file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Track {
    Own,
    Mix,
    Peer(PeerId),
}

fn file_fault(path: &Path, cause: std::io::Error) -> RecordFault {
    RecordFault::File { path: path.to_owned(), cause }
}
