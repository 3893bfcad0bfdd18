use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::engine::{Connection, Path};
use crate::queue::Queue;
use crate::stats::{Counters, Stats};
use crate::track::{Frame, OUT_QUEUE, Packet};

/// How long statistics wait for the engine, which answers in well below a millisecond if it answers at all.
const PATH: Duration = Duration::from_secs(1);

/// What is looked at and set from outside, without disturbing the owner.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(super) connection: OnceLock<Weak<dyn Connection>>,
    pub(super) counters: Arc<Counters>,
    pub(super) outgoing: Arc<Queue<Frame>>,
    incoming: Mutex<Vec<Arc<Queue<Packet>>>>,
    offered: AtomicBool,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            connection: OnceLock::new(),
            counters: Arc::default(),
            outgoing: Arc::new(Queue::new(OUT_QUEUE)),
            incoming: Mutex::default(),
            offered: AtomicBool::new(false),
        }
    }
}

impl Probe {
    pub(crate) async fn stats(&self) -> Stats {
        let dropped_in = self.incoming().iter().map(|queue| queue.dropped()).sum();
        let mut stats = self.counters.snapshot(self.outgoing.dropped(), dropped_in);
        if let Some(connection) = self.connection.get().and_then(Weak::upgrade) {
            let path: Path = tokio::time::timeout(PATH, connection.path()).await.unwrap_or_default();
            stats.round_trip_ms = path.round_trip_ms;
            stats.route = path.route;
        }
        stats
    }

    /// The queue is there before the connection is, so this holds from the first frame on.
    pub(crate) fn set_sending(&self, sending: bool) {
        self.outgoing.set_taking(sending);
    }

    /// Whether we ever made an offer, so that an answer can come.
    pub(crate) fn has_offered(&self) -> bool {
        self.offered.load(Ordering::Acquire)
    }

    pub(crate) fn set_offered(&self) {
        self.offered.store(true, Ordering::Release);
    }

    pub(super) fn incoming(&self) -> MutexGuard<'_, Vec<Arc<Queue<Packet>>>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
