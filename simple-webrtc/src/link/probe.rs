use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::advice::Advice;
use crate::engine::{Connection, Path};
use crate::quality::{JITTER_BUFFER, Quality};
use crate::queue::Queue;
use crate::stats::{Counters, PairStats, Stats};
use crate::track::{OUT_QUEUE, Packet, TrackKind, VIDEO_CLOCK_RATE, VIDEO_QUEUE, Written};

/// How long statistics wait for the engine, which answers in well below a millisecond if it answers at all.
const PATH: Duration = Duration::from_secs(1);

/// What is looked at and set from outside, without disturbing the owner.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(super) connection: OnceLock<Weak<dyn Connection>>,
    pub(super) counters: Arc<Counters>,
    pub(super) video_counters: Arc<Counters>,
    pub(super) outgoing: Arc<Queue<Written>>,
    incoming: Mutex<Vec<(TrackKind, Weak<Queue<Packet>>)>>,
    videos: Mutex<Vec<Weak<Queue<Written>>>>,
    sending: AtomicBool,
    offered: AtomicBool,
    /// Microseconds that the jitter buffer of this side adds.
    playout: AtomicU64,
    judged: Mutex<(Quality, Advice)>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            connection: OnceLock::new(),
            counters: Arc::default(),
            video_counters: Arc::new(Counters::new(VIDEO_CLOCK_RATE)),
            videos: Mutex::default(),
            sending: AtomicBool::new(true),
            outgoing: Arc::new(Queue::new(OUT_QUEUE)),
            incoming: Mutex::default(),
            offered: AtomicBool::new(false),
            playout: AtomicU64::new(JITTER_BUFFER.as_micros() as u64),
            judged: Mutex::default(),
        }
    }
}

impl Probe {
    pub(crate) async fn stats(&self) -> Stats {
        let dropped = |wanted: TrackKind| -> u64 {
            let incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
            let of_kind = incoming.iter().filter(|(kind, _)| *kind == wanted);
            of_kind.filter_map(|(_, queue)| Some(queue.upgrade()?.dropped())).sum()
        };
        let mut stats = self.counters.snapshot(self.outgoing.dropped(), dropped(TrackKind::Audio));
        let dropped_videos =
            self.videos().iter().filter_map(Weak::upgrade).map(|queue| queue.dropped()).sum();
        let videos = self.video_counters.snapshot(dropped_videos, dropped(TrackKind::Video));
        (stats.quality, stats.advice) = *self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        stats.redundancy = self.outgoing.is_redundant();
        stats.video_sent = videos.sent;
        stats.video_received = videos.received;
        if let Some(connection) = self.connection.get().and_then(Weak::upgrade) {
            stats.add(&connection.meter().measured(super::now()));
            let path: Path = tokio::time::timeout(PATH, connection.path()).await.unwrap_or_default();
            stats.round_trip_ms = path.round_trip_ms;
            stats.route = path.route;
            stats.security = path.security;
        }
        stats
    }

    pub(crate) async fn pairs(&self) -> Vec<PairStats> {
        let Some(connection) = self.connection.get().and_then(Weak::upgrade) else { return Vec::new() };
        tokio::time::timeout(PATH, connection.pairs()).await.unwrap_or_default()
    }

    /// The queue is there before the connection is, so this holds from the first frame on.
    pub(crate) fn set_sending(&self, sending: bool) {
        let videos = self.videos();
        self.sending.store(sending, Ordering::Release);
        self.outgoing.set_taking(sending);
        for queue in videos.iter().filter_map(Weak::upgrade) {
            queue.set_taking(sending);
        }
    }

    pub(crate) fn set_playout_delay(&self, delay: Duration) {
        self.playout.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn playout_delay(&self) -> Duration {
        Duration::from_micros(self.playout.load(Ordering::Relaxed))
    }

    pub(super) fn judged(&self, quality: Quality, advice: Advice) {
        *self.judged.lock().unwrap_or_else(PoisonError::into_inner) = (quality, advice);
    }

    /// A queue for one more video, which takes frames as the others do.
    pub(super) fn add_video(&self) -> Arc<Queue<Written>> {
        let mut videos = self.videos();
        let queue = Arc::new(Queue::new(VIDEO_QUEUE));
        queue.set_taking(self.sending.load(Ordering::Acquire));
        videos.retain(|queue| queue.strong_count() > 0);
        videos.push(Arc::downgrade(&queue));
        queue
    }

    fn videos(&self) -> MutexGuard<'_, Vec<Weak<Queue<Written>>>> {
        self.videos.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether we ever made an offer, so that an answer can come.
    pub(crate) fn has_offered(&self) -> bool {
        self.offered.load(Ordering::Acquire)
    }

    pub(crate) fn set_offered(&self) {
        self.offered.store(true, Ordering::Release);
    }

    /// Counts what the reader of this track is too slow for, as long as the track is there.
    pub(super) fn heard(&self, kind: TrackKind, queue: &Arc<Queue<Packet>>) {
        let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        incoming.retain(|(_, queue)| queue.strong_count() > 0);
        incoming.push((kind, Arc::downgrade(queue)));
    }
}
