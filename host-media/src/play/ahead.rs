//! Reads a file ahead of the ticks, on a thread of its own.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use ringbuf::{
    HeapCons, HeapProd, HeapRb,
    traits::{Consumer, Observer, Producer, Split},
};

use crate::{
    Block, SILENT, container,
    error::Error,
    source::{self, Read, Source},
};

/// Blocks that are read ahead: 2 s, 384 kB, more than disks usually stand still.
const RING: usize = 200;
/// Blocks that must be there to begin, and to go on after a gap: 100 ms.
const ENOUGH: usize = 10;
/// How long opening a source waits for them, as for a device: the rest is silence at its start.
const OPENING: Duration = Duration::from_secs(2);
/// How often the thread looks for room: it has 2 s.
const NAP: Duration = Duration::from_millis(100);

/// A block, and whether it is the last one.
struct Item {
    block: Block,
    end: Option<Pull>,
}

/// What there was to play.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pull {
    /// Nothing yet: the disk is too slow. The block is silence.
    Waiting,
    /// A block.
    Sound,
    /// The last block.
    Ended,
    /// Silence, because the file cannot be read any further.
    Failed(String),
}

/// A file that is read ahead.
pub(crate) struct Ahead {
    ring: HeapCons<Item>,
    thread: std::thread::Thread,
    lockstep: bool,
    /// There was enough to begin, and no gap since.
    flowing: bool,
    /// Blocks that are to be left out as soon as they are there.
    behind: u64,
    over: bool,
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ahead").field("over", &self.over).finish_non_exhaustive()
    }
}

/// Whether a name is that of an Ogg file.
pub(crate) fn is_ogg(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["opus", "ogg", "oga"].iter().any(|ogg| e.eq_ignore_ascii_case(ogg)))
}

impl Ahead {
    /// Opens an Ogg Opus or WAV file and begins to read it. In lockstep a pull waits for the disk.
    pub(crate) fn open(path: &Path, lockstep: bool) -> Result<Self, Error> {
        let source: Box<dyn Source> = match is_ogg(path) {
            true => Box::new(container::open(path)?),
            false => Box::new(source::open_wav(path)?),
        };
        Self::read(source, lockstep)
    }

    /// The same as a source, which begins at once: without lockstep it is waited for here, up to 2 s.
    pub(crate) fn source(path: &Path, lockstep: bool) -> Result<Self, Error> {
        let ahead = Self::open(path, lockstep)?;
        ahead.wait(OPENING);
        Ok(ahead)
    }

    pub(super) fn wait(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let enough = if self.lockstep { 0 } else { ENOUGH };
        // In this order: after the thread has gone nothing more comes.
        while self.ring.write_is_held() && self.ring.occupied_len() < enough && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn read(source: Box<dyn Source>, lockstep: bool) -> Result<Self, Error> {
        let (blocks, ring) = HeapRb::new(RING).split();
        let thread = std::thread::Builder::new()
            .name("host-media-play".to_owned())
            .spawn(move || run(source, blocks))
            .map_err(Error::Thread)?;
        Ok(Self { ring, thread: thread.thread().clone(), lockstep, flowing: false, behind: 0, over: false })
    }

    /// Takes the next block. After the end there is silence.
    pub(crate) fn pull(&mut self, out: &mut Block) -> Pull {
        out.fill(0.0);
        if self.over {
            return Pull::Waiting;
        }
        let enough = if self.flowing || self.lockstep { 1 } else { ENOUGH };
        self.await_block();
        self.catch_up();
        // In this order: after the thread has gone nothing more comes.
        let reading = self.ring.write_is_held();
        self.flowing = !reading || self.ring.occupied_len() >= enough;
        if !self.flowing {
            return Pull::Waiting;
        }
        let pulled = match self.ring.try_pop() {
            Some(Item { block, end }) => {
                *out = block;
                end.unwrap_or(Pull::Sound)
            }
            None => Pull::Failed("what reads it ended in a panic".to_owned()),
        };
        self.over = pulled != Pull::Sound;
        pulled
    }
}

impl Ahead {
    /// In lockstep, until there is a block or nothing more comes.
    fn await_block(&self) {
        while self.lockstep && self.ring.is_empty() && self.ring.write_is_held() {
            self.thread.unpark();
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Leaves out what a standstill has cost, as far as it is there.
    fn catch_up(&mut self) {
        let before = self.behind;
        while self.behind > 0 && self.ring.first().is_some_and(|item| item.end.is_none()) {
            let _ = self.ring.try_pop();
            self.behind -= 1;
        }
        if self.behind < before {
            self.thread.unpark();
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The thread sees that nobody takes anything, and ends.
        self.thread.unpark();
    }
}

fn run(mut source: Box<dyn Source>, mut ring: HeapProd<Item>) {
    loop {
        let mut block = SILENT;
        let end = match source.read(&mut block) {
            Read::Sound => None,
            Read::Ended => Some(Pull::Ended),
            Read::Failed(cause) => Some(Pull::Failed(cause)),
            Read::Lost(fault) => Some(Pull::Failed(fault.to_string())),
        };
        let last = end.is_some();
        let mut item = Item { block, end };
        loop {
            if !ring.read_is_held() {
                return;
            }
            match ring.try_push(item) {
                Ok(()) => break,
                Err(back) => item = back,
            }
            std::thread::park_timeout(NAP);
        }
        if last {
            return;
        }
    }
}

/// An Ogg Opus file as a source. In lockstep ticks wait for the disk; otherwise it is silent until the disk goes on.
impl Source for Ahead {
    fn read(&mut self, out: &mut Block) -> Read {
        match self.pull(out) {
            Pull::Waiting | Pull::Sound => Read::Sound,
            Pull::Ended => Read::Ended,
            Pull::Failed(cause) => Read::Failed(cause),
        }
    }

    fn skip(&mut self, ticks: u64) {
        if !self.lockstep {
            self.behind = self.behind.saturating_add(ticks);
            return;
        }
        let mut waste = SILENT;
        for _ in 0..ticks {
            // At the end nothing is left to skip; the next read tells it. A disk that is slower than this has not shown it yet.
            self.await_block();
            if self.over || self.ring.first().is_some_and(|item| item.end.is_some()) {
                return;
            }
            self.pull(&mut waste);
        }
    }
}
