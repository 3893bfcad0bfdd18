//! Where the packets of one track of the peer go, which the peer can remove and add again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::engine::{Outbox, Signal};
use crate::queue::Queue;
use crate::track::{IN_QUEUE, IN_VIDEO_QUEUE, Packet, RemoteTrack, TrackId, VideoCodec};

/// Packets pass while the peer says that it sends the track; each time it begins to, a new track is told of.
#[derive(Debug)]
pub(crate) struct Sink {
    codec: Option<VideoCodec>,
    ids: Arc<AtomicU32>,
    outbox: Outbox,
    keyframe: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: bool,
    present: Option<(TrackId, Arc<Queue<Packet>>)>,
}

impl Sink {
    pub(crate) fn new(codec: Option<VideoCodec>, open: bool, ids: Arc<AtomicU32>, outbox: Outbox) -> Self {
        let state = Mutex::new(State { open, present: None });
        Self { codec, ids, outbox, keyframe: Arc::default(), state }
    }

    pub(crate) fn push(&self, packet: Packet) {
        let queue = {
            let mut state = self.lock();
            if !state.open {
                return;
            }
            match &state.present {
                Some((_, queue)) => queue.clone(),
                None => {
                    let capacity = if self.codec.is_some() { IN_VIDEO_QUEUE } else { IN_QUEUE };
                    let queue = Arc::new(Queue::new(capacity));
                    let id = TrackId(self.ids.fetch_add(1, Ordering::Relaxed));
                    state.present = Some((id, queue.clone()));
                    let (codec, keyframe) = (self.codec, self.keyframe.clone());
                    self.outbox.put(Signal::Heard(RemoteTrack { id, codec, queue: queue.clone(), keyframe }));
                    queue
                }
            }
        };
        queue.push(packet);
    }

    /// The peer says whether it sends the track. The name of the one that has ended, if there was one.
    pub(crate) fn set_open(&self, open: bool) -> Option<TrackId> {
        let mut state = self.lock();
        state.open = open;
        if open {
            return None;
        }
        let (id, queue) = state.present.take()?;
        queue.close();
        Some(id)
    }

    /// Nothing comes any more.
    pub(crate) fn end(&self) {
        self.set_open(false);
    }

    /// Whoever plays the track needs a whole picture.
    pub(crate) async fn keyframe_wanted(&self) {
        self.keyframe.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The lock is never held across anything that can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
