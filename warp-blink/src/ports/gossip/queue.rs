//! The bounded queue between a node and the one reader of its events.
//!
//! A node must never wait for its reader, and what strangers send must never push out what the reader needs to
//! know. So messages and other events have bounds of their own, and the newest is dropped at the bound.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{Stream, StreamExt};

use super::GossipEvent;

/// The most messages that wait for the reader. A whole call's set-up is about a hundred.
pub const MAX_QUEUED_MESSAGES: usize = 1024;

/// The most bytes of messages that wait for the reader.
pub const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// The most other events that wait for the reader.
pub const MAX_QUEUED_CONTROL: usize = 1024;

/// Of these, the most that tell of subscriptions, which any connected node can cause in any number.
const MAX_QUEUED_SUBSCRIPTIONS: usize = 256;

/// The reader's end: a stream that ends after [`GossipEvent::Stopped`].
///
/// At most [`MAX_QUEUED_MESSAGES`] messages with [`MAX_QUEUED_BYTES`] bytes, and [`MAX_QUEUED_CONTROL`] other events
/// wait. Above that the newest are dropped, counted, and told by [`GossipEvent::Lagged`].
#[derive(Debug)]
pub struct GossipEvents(Arc<Mutex<Queue>>);

/// The node's end. Never blocks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventSink(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<GossipEvent>,
    messages: usize,
    bytes: usize,
    subscriptions: usize,
    lagged: u64,
    dropped_messages: u64,
    dropped_events: u64,
    stopped: bool,
    reader_gone: bool,
    waker: Option<Waker>,
}

/// The two ends of a new queue.
pub(crate) fn channel() -> (EventSink, GossipEvents) {
    let queue = Arc::new(Mutex::new(Queue::default()));
    (EventSink(queue.clone()), GossipEvents(queue))
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // Nothing panics while it is held, so what is inside is whole even if it says poisoned.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventSink {
    /// Queues an event, or drops it at the bound. After [`GossipEvent::Stopped`] nothing is queued.
    pub fn push(&self, event: GossipEvent) {
        let waker = {
            let mut queue = lock(&self.0);
            if queue.stopped || queue.reader_gone {
                return;
            }
            queue.push(event);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Messages and other events that were dropped at the bound.
    pub fn dropped(&self) -> (u64, u64) {
        let queue = lock(&self.0);
        (queue.dropped_messages, queue.dropped_events)
    }
}

impl Queue {
    fn push(&mut self, event: GossipEvent) {
        match &event {
            GossipEvent::Message { data, .. } => {
                if self.messages >= MAX_QUEUED_MESSAGES || self.bytes + data.len() > MAX_QUEUED_BYTES {
                    self.dropped_messages += 1;
                    self.lagged += 1;
                    return;
                }
                self.messages += 1;
                self.bytes += data.len();
            }
            GossipEvent::PeerSubscribed { .. } | GossipEvent::PeerUnsubscribed { .. } => {
                if self.subscriptions >= MAX_QUEUED_SUBSCRIPTIONS {
                    self.dropped_events += 1;
                    self.lagged += 1;
                    return;
                }
                self.subscriptions += 1;
            }
            // The end must arrive, and there is only one.
            GossipEvent::Stopped => self.stopped = true,
            _ => {
                let control = self.events.len() - self.messages - self.subscriptions;
                if control >= MAX_QUEUED_CONTROL - MAX_QUEUED_SUBSCRIPTIONS {
                    self.dropped_events += 1;
                    self.lagged += 1;
                    return;
                }
            }
        }
        self.events.push_back(event);
    }

    fn pop(&mut self) -> Option<GossipEvent> {
        if self.lagged > 0 {
            return Some(GossipEvent::Lagged { dropped: std::mem::take(&mut self.lagged) });
        }
        let event = self.events.pop_front()?;
        match &event {
            GossipEvent::Message { data, .. } => {
                self.messages -= 1;
                self.bytes -= data.len();
            }
            GossipEvent::PeerSubscribed { .. } | GossipEvent::PeerUnsubscribed { .. } => {
                self.subscriptions -= 1
            }
            _ => {}
        }
        Some(event)
    }
}

impl GossipEvents {
    /// The next event, or `None` after the last one.
    pub async fn recv(&mut self) -> Option<GossipEvent> {
        self.next().await
    }

    /// An event that waits already.
    pub fn try_recv(&mut self) -> Option<GossipEvent> {
        lock(&self.0).pop()
    }
}

impl Stream for GossipEvents {
    type Item = GossipEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<GossipEvent>> {
        let mut queue = lock(&self.0);
        match queue.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.stopped => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for GossipEvents {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.reader_gone = true;
        queue.events = VecDeque::new();
        queue.messages = 0;
        queue.bytes = 0;
        queue.subscriptions = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        ports::gossip::{NodeState, OfflineCause},
        wire::{PeerSeed, Topic},
    };

    fn topic() -> Topic {
        Topic::peer(&PeerSeed::from_bytes([7; 32]))
    }

    fn message(size: usize) -> GossipEvent {
        GossipEvent::Message { topic: topic(), data: Bytes::from(vec![0; size]) }
    }

    #[test]
    fn a_flood_of_messages_is_bounded_and_does_not_push_out_a_state() {
        let (sink, mut events) = channel();
        for _ in 0..MAX_QUEUED_MESSAGES + 5 {
            sink.push(message(1));
        }
        sink.push(GossipEvent::State(NodeState::Online));
        sink.push(GossipEvent::Stopped);
        assert_eq!(sink.dropped(), (5, 0));
        assert_eq!(events.try_recv(), Some(GossipEvent::Lagged { dropped: 5 }));
        for _ in 0..MAX_QUEUED_MESSAGES {
            assert_eq!(events.try_recv(), Some(message(1)));
        }
        assert_eq!(events.try_recv(), Some(GossipEvent::State(NodeState::Online)));
        assert_eq!(events.try_recv(), Some(GossipEvent::Stopped));
        assert_eq!(events.try_recv(), None);
    }

    #[test]
    fn the_bytes_of_messages_are_bounded_and_come_back_when_read() {
        let (sink, mut events) = channel();
        let big = MAX_QUEUED_BYTES / 64;
        for _ in 0..65 {
            sink.push(message(big));
        }
        assert_eq!(sink.dropped(), (1, 0));
        assert_eq!(events.try_recv(), Some(GossipEvent::Lagged { dropped: 1 }));
        assert!(events.try_recv().is_some());
        sink.push(message(big));
        assert_eq!(sink.dropped(), (1, 0), "room came back");
    }

    #[test]
    fn subscriptions_and_states_have_bounds_of_their_own() {
        let (sink, _events) = channel();
        for _ in 0..MAX_QUEUED_CONTROL {
            sink.push(GossipEvent::PeerSubscribed { topic: topic() });
        }
        let after_subscriptions = sink.dropped().1;
        assert_eq!(after_subscriptions, (MAX_QUEUED_CONTROL - MAX_QUEUED_SUBSCRIPTIONS) as u64);
        sink.push(GossipEvent::State(NodeState::Starting));
        assert_eq!(sink.dropped().1, after_subscriptions);
        for _ in 0..MAX_QUEUED_CONTROL {
            sink.push(GossipEvent::State(NodeState::Offline { cause: OfflineCause::NoListener }));
        }
        assert!(sink.dropped().1 > after_subscriptions);
    }

    #[tokio::test]
    async fn the_stream_wakes_its_reader_and_ends_after_the_last_event() {
        let (sink, mut events) = channel();
        let reader = tokio::spawn(async move { (events.recv().await, events.recv().await) });
        tokio::task::yield_now().await;
        sink.push(GossipEvent::Stopped);
        sink.push(message(1));
        let (first, second) = reader.await.unwrap();
        assert_eq!(first, Some(GossipEvent::Stopped));
        assert_eq!(second, None);
    }

    #[test]
    fn a_reader_that_left_holds_no_memory() {
        let (sink, events) = channel();
        sink.push(message(100));
        drop(events);
        sink.push(message(100));
        assert_eq!(lock(&sink.0).events.len(), 0);
    }
}
