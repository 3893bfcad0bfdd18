use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded queue for one reader that forgets its oldest entry when it is full, because late media is worth less
/// than new media.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    filled: Notify,
    capacity: usize,
    /// Whether the reader has a use for redundancy.
    redundant: AtomicBool,
}

#[derive(Debug)]
struct Inner<T> {
    entries: VecDeque<T>,
    dropped: u64,
    taking: bool,
    closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                entries: VecDeque::with_capacity(capacity),
                dropped: 0,
                taking: true,
                closed: false,
            }),
            filled: Notify::new(),
            capacity,
            redundant: AtomicBool::new(false),
        }
    }

    /// Never waits. Without effect once closed, and while nothing is taken.
    pub(crate) fn push(&self, entry: T) {
        {
            let mut inner = self.lock();
            if inner.closed || !inner.taking {
                return;
            }
            if inner.entries.len() >= self.capacity {
                inner.entries.pop_front();
                inner.dropped += 1;
            }
            inner.entries.push_back(entry);
        }
        self.filled.notify_one();
    }

    /// The oldest entry; `None` once closed and empty. Cancel safe.
    pub(crate) async fn pop(&self) -> Option<T> {
        loop {
            {
                let mut inner = self.lock();
                if let Some(entry) = inner.entries.pop_front() {
                    return Some(entry);
                }
                if inner.closed {
                    return None;
                }
            }
            // A push in between leaves a permit, so that no wake-up is lost.
            self.filled.notified().await;
        }
    }

    /// Lets the reader finish what is left and then end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Whether what is pushed is taken; it is at first. Switched off, what waits is forgotten, too, at once and without
    /// being counted: nobody was too slow for it.
    pub(crate) fn set_taking(&self, taking: bool) {
        let mut inner = self.lock();
        inner.taking = taking;
        if !taking {
            inner.entries.clear();
        }
    }

    pub(crate) fn set_redundant(&self, redundant: bool) {
        self.redundant.store(redundant, Ordering::Release);
    }

    pub(crate) fn is_redundant(&self) -> bool {
        self.redundant.load(Ordering::Acquire)
    }

    pub(crate) fn clear(&self) {
        self.lock().entries.clear();
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // The lock is never held across anything that can panic half way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_entry_goes_and_is_counted() {
        let queue = Queue::new(3);
        for i in 0..5 {
            queue.push(i);
        }
        queue.close();
        queue.push(9);
        let mut left = Vec::new();
        while let Some(entry) = queue.pop().await {
            left.push(entry);
        }
        assert_eq!(left, [2, 3, 4]);
        assert_eq!(queue.dropped(), 2);
    }

    #[tokio::test]
    async fn a_waiting_reader_wakes_for_an_entry_and_for_the_end() {
        let queue = std::sync::Arc::new(Queue::new(1));
        let reader = tokio::spawn({
            let queue = queue.clone();
            async move { (queue.pop().await, queue.pop().await) }
        });
        tokio::task::yield_now().await;
        queue.push(7);
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(reader.await.expect("reader"), (Some(7), None));
    }
}
