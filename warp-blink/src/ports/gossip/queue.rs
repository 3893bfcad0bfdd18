//! The bounded queue between a node and the one reader of its events.
//!
//! A node must never wait for its reader, and what strangers send must neither push out nor delay what the reader
//! waits for. So:
//! - Each topic has a **lane** of its own with a bound of its own. A flood on the open inbox fills that lane and no
//!   other.
//! - The reader is served in **turns**: events that are no messages, then one message of the topic whose turn it is,
//!   then events again. A message that is the first of its topic waits for one message of each other topic that has
//!   some, however many there are. Within a topic, and among the other events, the order is that of arrival. Between
//!   the two it is not: a reader that is behind hears of a lost node before the messages that had come earlier.
//! - At a topic's bound the arriving message is dropped, so what is queued is read: if the oldest went instead, a
//!   flood could flush out what waits already. Above the total, the fullest topic loses its newest message to one
//!   of an emptier topic.
//!
//! Each cause has a counter: [`Dropped`].

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::GossipEvent;
use crate::wire::Topic;

/// The most messages that wait for the reader: eight topics at their bound. A whole call's set-up is about a hundred.
pub const MAX_QUEUED_MESSAGES: usize = 1024;

/// The most bytes of messages that wait for the reader: eight topics at their bound.
pub const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// The most messages of one topic that wait for the reader: a whole call's set-up, which is about a hundred and is
/// spread over several topics. A reader that opens 5,000 first messages a second is behind by 26 ms then.
pub const MAX_QUEUED_PER_TOPIC: usize = 128;

/// The most bytes of messages of one topic that wait for the reader: 31 frames of the largest size, where a call
/// sends one or two.
pub const MAX_QUEUED_BYTES_PER_TOPIC: usize = 512 * 1024;

/// The most other events that wait for the reader.
pub const MAX_QUEUED_CONTROL: usize = 1024;

/// Of these, the most that tell of subscriptions, which any connected node can cause in any number.
const MAX_QUEUED_SUBSCRIPTIONS: usize = 256;

/// The reader's end: a stream that ends after [`GossipEvent::Stopped`].
///
/// At most [`MAX_QUEUED_MESSAGES`] messages with [`MAX_QUEUED_BYTES`] bytes wait, of one topic
/// [`MAX_QUEUED_PER_TOPIC`] with [`MAX_QUEUED_BYTES_PER_TOPIC`], and [`MAX_QUEUED_CONTROL`] other events. What is
/// above that is dropped, counted, and told by [`GossipEvent::Lagged`]. Topics are read in turns.
#[derive(Debug)]
pub struct GossipEvents(Arc<Mutex<Queue>>);

/// The node's end. Never blocks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventSink(Arc<Mutex<Queue>>);

/// What was dropped because the reader was slow, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// Messages of a topic at its bound.
    pub topic_full: u64,
    /// Messages that arrived when all together were at the bound and no topic was fuller than theirs.
    pub all_full: u64,
    /// Queued messages of the fullest topic, which made room for one of an emptier topic.
    pub displaced: u64,
    /// Subscriptions told.
    pub subscriptions: u64,
    /// Other events.
    pub others: u64,
}

impl Dropped {
    /// All messages.
    pub const fn messages(&self) -> u64 {
        self.topic_full + self.all_full + self.displaced
    }

    /// All events that are no messages.
    pub const fn events(&self) -> u64 {
        self.subscriptions + self.others
    }
}

/// The messages of one topic. Never empty while it is kept.
#[derive(Debug, Default)]
struct Lane {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    lanes: BTreeMap<Topic, Lane>,
    /// The topics that have a lane, the one whose turn it is first.
    turns: VecDeque<Topic>,
    messages: usize,
    bytes: usize,
    control: VecDeque<GossipEvent>,
    subscriptions: usize,
    /// What the reader gets next, if there is any of it.
    turn: Turn,
    lagged: u64,
    dropped: Dropped,
    stopped: bool,
    told_stopped: bool,
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
    /// Queues an event, or drops one at a bound. After [`GossipEvent::Stopped`] nothing is queued.
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

    /// What was dropped so far.
    pub fn dropped(&self) -> Dropped {
        lock(&self.0).dropped
    }
}

/// The kinds of event, which the reader gets in turns.
#[derive(Clone, Copy, Debug, Default)]
enum Turn {
    /// The word that events were dropped.
    #[default]
    Lagged,
    Control,
    Message,
}

impl Turn {
    const ALL: usize = 3;

    const fn next(self) -> Self {
        match self {
            Self::Lagged => Self::Control,
            Self::Control => Self::Message,
            Self::Message => Self::Lagged,
        }
    }
}

impl Queue {
    fn push(&mut self, event: GossipEvent) {
        let drop = match event {
            GossipEvent::Message { topic, data } => return self.message(topic, data),
            // The end must arrive, and there is only one.
            GossipEvent::Stopped => {
                self.stopped = true;
                return;
            }
            GossipEvent::PeerSubscribed { .. } | GossipEvent::PeerUnsubscribed { .. } => {
                let full = self.subscriptions >= MAX_QUEUED_SUBSCRIPTIONS;
                self.dropped.subscriptions += u64::from(full);
                self.subscriptions += usize::from(!full);
                full
            }
            _ => {
                let full =
                    self.control.len() - self.subscriptions >= MAX_QUEUED_CONTROL - MAX_QUEUED_SUBSCRIPTIONS;
                self.dropped.others += u64::from(full);
                full
            }
        };
        if drop {
            self.lagged += 1;
        } else {
            self.control.push_back(event);
        }
    }

    fn message(&mut self, topic: Topic, data: Bytes) {
        let (waiting, bytes) =
            self.lanes.get(&topic).map_or((0, 0), |lane| (lane.messages.len(), lane.bytes));
        if waiting >= MAX_QUEUED_PER_TOPIC || bytes + data.len() > MAX_QUEUED_BYTES_PER_TOPIC {
            self.dropped.topic_full += 1;
            self.lagged += 1;
            return;
        }
        while self.messages >= MAX_QUEUED_MESSAGES || self.bytes + data.len() > MAX_QUEUED_BYTES {
            // The measure is the one that is met. The arriving message counts with its topic, so two topics do not
            // take the last place from each other in turns.
            let by_bytes = self.messages < MAX_QUEUED_MESSAGES;
            let size = |lane: &Lane| if by_bytes { lane.bytes } else { lane.messages.len() };
            let own = if by_bytes { bytes + data.len() } else { waiting + 1 };
            let fullest = self.lanes.iter().max_by_key(|(_, lane)| size(lane));
            match fullest.map(|(name, lane)| (*name, size(lane))) {
                Some((name, most)) if name != topic && most > own => {
                    self.displace(name);
                    self.dropped.displaced += 1;
                    self.lagged += 1;
                }
                _ => {
                    self.dropped.all_full += 1;
                    self.lagged += 1;
                    return;
                }
            }
        }
        self.messages += 1;
        self.bytes += data.len();
        let lane = self.lanes.entry(topic).or_default();
        if lane.messages.is_empty() {
            self.turns.push_back(topic);
        }
        lane.bytes += data.len();
        lane.messages.push_back(data);
    }

    /// Takes the newest message of a topic away.
    fn displace(&mut self, topic: Topic) {
        let taken = self.lanes.get_mut(&topic).and_then(|lane| lane.messages.pop_back());
        self.taken(topic, taken.map_or(0, |data| data.len()));
    }

    /// Accounts for a message that left the lane of a topic.
    fn taken(&mut self, topic: Topic, size: usize) {
        self.messages -= 1;
        self.bytes -= size;
        if let Some(lane) = self.lanes.get_mut(&topic) {
            lane.bytes -= size;
            if lane.messages.is_empty() {
                self.lanes.remove(&topic);
                self.turns.retain(|turn| *turn != topic);
            }
        }
    }

    fn pop(&mut self) -> Option<GossipEvent> {
        // In turns: a node that subscribes and unsubscribes without end must hold up neither messages nor states, neither
        // by its subscriptions nor by the word that some were dropped.
        for _ in 0..Turn::ALL {
            let turn = self.turn;
            self.turn = turn.next();
            let event = match turn {
                Turn::Lagged => (self.lagged > 0)
                    .then(|| GossipEvent::Lagged { dropped: std::mem::take(&mut self.lagged) }),
                Turn::Control => self.next_control(),
                Turn::Message => self.next_message(),
            };
            if event.is_some() {
                return event;
            }
        }
        (self.stopped && !std::mem::replace(&mut self.told_stopped, true)).then_some(GossipEvent::Stopped)
    }

    fn next_control(&mut self) -> Option<GossipEvent> {
        let event = self.control.pop_front()?;
        if matches!(event, GossipEvent::PeerSubscribed { .. } | GossipEvent::PeerUnsubscribed { .. }) {
            self.subscriptions -= 1;
        }
        Some(event)
    }

    fn next_message(&mut self) -> Option<GossipEvent> {
        let topic = self.turns.pop_front()?;
        let data = self.lanes.get_mut(&topic)?.messages.pop_front()?;
        self.turns.push_back(topic);
        self.taken(topic, data.len());
        Some(GossipEvent::Message { topic, data })
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
        *queue = Queue { reader_gone: true, dropped: queue.dropped, ..Queue::default() };
    }
}

#[cfg(test)]
mod tests;
