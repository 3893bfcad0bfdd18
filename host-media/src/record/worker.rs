//! The thread of a recording: puts each block where it belongs in its file, and silence everywhere else.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ringbuf::{HeapCons, traits::Consumer};

use super::{
    BITRATE, MIX_BITRATE, Outbox, RecordSpec, Track, blocks, file_fault,
    files::{Files, Out},
    roster::Roster,
    tap::{Entry, Feed},
};
use crate::{
    BLOCK, Block, MAX_PEERS, SILENT,
    container::{BeginFault, Writer},
    error::{Error, RecordFault},
    event::Event,
    format::PeerId,
    lock,
    mixer::Mixer,
};

/// How often it looks for new blocks: a fortieth of what the ring takes of five voices.
const NAP: Duration = Duration::from_millis(100);
/// Files of one recording: everybody that an engine mixes, oneself, and the mix. Whoever else comes when others have
/// left is in the mix only.
const MAX_FILES: usize = MAX_PEERS + 2;
/// How much of a recording, in ticks, a loss of power costs at most, but for the time that the disk takes: 10 s. Linux
/// itself leaves what was written in memory for 30 s (`vm.dirty_expire_centisecs`), and a file that has grown since may
/// then be found without it. More often would keep disks awake for 4 kB a second.
const SYNC: u64 = 1_000;
/// Blocks after the last sound that the mixer is still asked for what it may hold back: far more than any limiter looks
/// ahead, and enough for its gain to come back.
const MIX_TAIL: u64 = 50;

/// Peers whose files are remembered. Beyond it, those that have left are forgotten.
const MAX_KNOWN: usize = 16 * MAX_PEERS;

/// A file of the recording.
struct Written {
    path: PathBuf,
    /// What the application calls the peer that it is of.
    label: Option<String>,
    /// The ticks that were recorded when it was last brought to the disk.
    synced: u64,
    /// None once it has failed.
    writer: Option<Writer<Box<dyn Out>>>,
}

pub(super) struct Worker {
    files: Box<dyn Files>,
    tracks: BTreeMap<Track, Written>,
    /// The file of each peer: one who comes back under another number continues theirs.
    known: BTreeMap<PeerId, Track>,
    feed: Arc<Feed>,
    ring: HeapCons<Entry>,
    roster: Arc<Roster>,
    version: Option<u64>,
    outbox: Arc<Outbox>,
    mixer: Mixer,
    /// The tick whose blocks go into the mixer.
    mixed: u64,
    /// Blocks for which the mixer is still asked.
    tail: u64,
    warned: bool,
    crowded: bool,
}

impl Worker {
    /// Begins the files of oneself, of everybody, and of all who are there. None is left behind if one cannot be begun.
    pub(super) fn new(
        files: Box<dyn Files>,
        spec: &RecordSpec,
        feed: Arc<Feed>,
        ring: HeapCons<Entry>,
        roster: Arc<Roster>,
        outbox: Arc<Outbox>,
    ) -> Result<Self, Error> {
        let mut worker = Self {
            files,
            tracks: BTreeMap::new(),
            known: BTreeMap::new(),
            feed,
            ring,
            version: Some(roster.version()),
            roster,
            outbox,
            mixer: Mixer::new(),
            mixed: 0,
            tail: 0,
            warned: false,
            crowded: false,
        };
        let begun = worker.begin_all(spec);
        if begun.is_err() {
            worker.tracks.clear();
            for path in std::mem::take(&mut *lock(&worker.feed.paths)) {
                worker.files.discard(&path);
            }
        }
        begun.map(|()| worker)
    }

    /// The files that were begun, oneself's first, then everybody's.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        lock(&self.feed.paths).clone()
    }

    fn begin_all(&mut self, spec: &RecordSpec) -> Result<(), Error> {
        self.begin(Track::Own, Some(spec.own.clone()))?;
        self.begin(Track::Mix, Some(spec.mix.clone()))?;
        for peer in self.roster.present() {
            self.known.insert(peer, Track::Peer(peer));
            self.begin(Track::Peer(peer), self.roster.label(peer))?;
        }
        Ok(())
    }

    fn begin(&mut self, track: Track, given: Option<String>) -> Result<(), Error> {
        let label = &name(track, given.as_deref());
        let (path, out) = self.files.create(label).map_err(Error::Record)?;
        let count = {
            let mut paths = lock(&self.feed.paths);
            paths.push(path.clone());
            paths.len()
        };
        let serial = self.files.seed().wrapping_add(count as u32);
        // The mixer looks ahead; what it gives is later than what the other files hold.
        let (bitrate, delay) = if track == Track::Mix { (MIX_BITRATE, Mixer::DELAY) } else { (BITRATE, 0) };
        let date = self.files.date();
        let writer = Writer::begin(out, serial, bitrate, delay, &[("TITLE", label), ("DATE", &date)]);
        let writer = writer.map_err(|fault| match fault {
            BeginFault::Io(e) => Error::Record(file_fault(&path, e)),
            BeginFault::Codec(e) => e,
        })?;
        self.tracks.insert(track, Written { path, label: given, synced: 0, writer: Some(writer) });
        self.count();
        Ok(())
    }

    pub(super) fn run(mut self) {
        // Also if something panics: the ticks must not wait for a thread that is gone, and nobody for its end.
        let _over = Over(Arc::clone(&self.feed), Arc::clone(&self.outbox));
        loop {
            // In this order: what is in the ring when the ticks have ended is all that there will be.
            let ended = self.feed.ended.load(Ordering::Acquire);
            let ticks = self.feed.ticks.load(Ordering::Acquire);
            self.drain(ticks);
            self.feed.written.store(ticks, Ordering::Release);
            self.sync(ticks);
            if ended || self.tracks.values().all(|track| track.writer.is_none()) {
                self.close(ticks);
                return;
            }
            std::thread::park_timeout(NAP);
        }
    }

    /// Writes what the ticks until `ticks` have brought.
    fn drain(&mut self, ticks: u64) {
        while self.ring.first().is_some_and(|entry| entry.tick < ticks) {
            let Some(entry) = self.ring.try_pop() else { break };
            self.mix(entry.tick);
            self.tail = 1 + MIX_TAIL;
            self.mixer.add(&entry.block, 1.0, 1.0);
            let track = match entry.track {
                Track::Peer(peer) => self.welcome(peer),
                track => Some(track),
            };
            if let Some(track) = track {
                self.write(track, entry.tick, Some(&entry.block));
            }
        }
        self.mix(ticks);
        let version = self.roster.version();
        if self.version.replace(version) != Some(version) {
            for peer in self.roster.present() {
                self.welcome(peer);
            }
        }
        for track in self.tracks.keys().copied().collect::<Vec<_>>() {
            self.write(track, ticks, None);
        }
        let missing = self.feed.missing.load(Ordering::Relaxed);
        if missing > 0 && !self.warned {
            self.warned = true;
            tracing::warn!(
                ms = missing * 10,
                "the disk is too slow for the recording: silence instead of sound"
            );
        }
    }

    /// Writes the mix of all ticks before this one.
    fn mix(&mut self, until: u64) {
        while self.mixed < until && self.tail > 0 {
            let block = self.mixer.take();
            if block != SILENT {
                self.write(Track::Mix, self.mixed, Some(&block));
            }
            self.mixed += 1;
            self.tail -= 1;
        }
        self.mixed = self.mixed.max(until);
    }

    /// The file of a peer, which is begun if there is none.
    fn welcome(&mut self, peer: PeerId) -> Option<Track> {
        if let Some(track) = self.known.get(&peer) {
            return Some(*track);
        }
        let label = self.roster.label(peer);
        let present = self.roster.present();
        if self.known.len() >= MAX_KNOWN {
            self.known.retain(|peer, _| present.contains(peer));
        }
        if let Some(track) = self.left_by(label.as_deref(), &present) {
            self.known.insert(peer, track);
            return Some(track);
        }
        if self.tracks.len() >= MAX_FILES {
            if !self.crowded {
                self.crowded = true;
                tracing::warn!(
                    max = MAX_FILES,
                    "no more files in this recording: new peers are in the mix only"
                );
            }
            return None;
        }
        let track = Track::Peer(peer);
        self.known.insert(peer, track);
        if let Err(e) = self.begin(track, label.clone()) {
            let file = match &e {
                Error::Record(RecordFault::File { path, .. }) => path.clone(),
                _ => PathBuf::from(name(track, label.as_deref())),
            };
            // So that it is not tried again with each block.
            self.tracks.insert(track, Written { path: file.clone(), label, synced: 0, writer: None });
            self.failed(file, e.to_string());
        }
        Some(track)
    }

    /// The file of somebody with this label who has left: they have come back.
    fn left_by(&self, label: Option<&str>, present: &[PeerId]) -> Option<Track> {
        let label = label?;
        let here =
            |track: &Track| self.known.iter().any(|(peer, theirs)| theirs == track && present.contains(peer));
        let mut tracks = self.tracks.iter().filter(|(track, _)| matches!(track, Track::Peer(_)));
        let found = tracks.find(|(track, file)| file.label.as_deref() == Some(label) && !here(track));
        found.map(|(track, _)| *track)
    }

    /// Fills a file with silence up to a tick, and adds the block of that tick.
    fn write(&mut self, track: Track, tick: u64, block: Option<&Block>) {
        let Some(written) = self.tracks.get_mut(&track) else { return };
        let Some(writer) = &mut written.writer else { return };
        let done = blocks(writer.samples());
        if block.is_some() && tick < done {
            // Two at once would be one too many: nothing may move what comes after it.
            return;
        }
        let behind = tick.saturating_sub(done);
        let done = writer.silence(behind).and_then(|()| block.map_or(Ok(()), |block| writer.push(block)));
        if let Err(e) = done {
            written.writer = None;
            let path = written.path.clone();
            self.failed(path, e.to_string());
        }
    }

    /// Brings the file to the disk that has waited longest, if that is long enough. One in each round: a disk takes a while
    /// for each, and the ring holds only seconds.
    fn sync(&mut self, ticks: u64) {
        let open = self.tracks.values_mut().filter(|written| written.writer.is_some());
        let Some(written) = open.min_by_key(|written| written.synced) else { return };
        if ticks < written.synced + SYNC {
            return;
        }
        written.synced = ticks;
        let Some(Err(e)) = written.writer.as_mut().map(|writer| writer.out().sync()) else { return };
        written.writer = None;
        let path = written.path.clone();
        self.failed(path, e.to_string());
    }

    fn failed(&mut self, file: PathBuf, cause: String) {
        tracing::warn!(%cause, "a recording cannot be written");
        self.count();
        self.outbox.post(Event::RecordingFailed { id: self.feed.id, file, cause });
    }

    fn count(&self) {
        let files = self.tracks.values().filter(|track| track.writer.is_some()).count();
        self.feed.files.store(files, Ordering::Relaxed);
    }

    fn close(&mut self, ticks: u64) {
        let mut faults = Vec::new();
        for written in self.tracks.values_mut() {
            let Some(mut writer) = written.writer.take() else { continue };
            debug_assert_eq!(writer.samples(), ticks * BLOCK as u64);
            if let Err(e) = writer.finish().and_then(|()| writer.out().sync()) {
                faults.push((written.path.clone(), e.to_string()));
            }
        }
        for (path, cause) in faults {
            self.failed(path, cause);
        }
    }
}

/// What a file is called.
fn name(track: Track, label: Option<&str>) -> String {
    match (label, track) {
        (Some(label), _) => label.to_owned(),
        (None, Track::Peer(peer)) => format!("peer-{}", peer.0),
        (None, Track::Own) => "me".to_owned(),
        (None, Track::Mix) => "all".to_owned(),
    }
}

/// Tells the end and that nobody reads any more, however the thread ends.
struct Over(Arc<Feed>, Arc<Outbox>);

impl Drop for Over {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a recording ended in a panic");
        }
        self.1.end(&self.0);
        self.0.over.store(true, Ordering::Release);
    }
}
