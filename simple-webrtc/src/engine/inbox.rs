use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::{self, error::TrySendError};

use super::Signal;

/// Signals that may wait for the owner of a connection; a setup makes about 20.
const SIGNALS: usize = 256;

/// Where signals arrive, in order.
pub(crate) struct Inbox {
    receiver: mpsc::Receiver<Signal>,
    /// Looked at, and not taken yet.
    seen: VecDeque<Signal>,
    outbox: Outbox,
}

/// Where the engine leaves signals, without ever waiting: its one task also drives ICE and DTLS.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Signal>,
    overflowed: Arc<AtomicBool>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(SIGNALS);
        Self { receiver, seen: VecDeque::new(), outbox: Outbox { sender, overflowed: Arc::default() } }
    }

    pub(crate) fn sender(&self) -> Outbox {
        self.outbox.clone()
    }

    /// The next signal; `None` once any was lost, as the state of the connection is then unknown.
    pub(crate) async fn recv(&mut self) -> Option<Signal> {
        // The channel is full when a signal is lost, so this is looked at in time.
        if self.outbox.overflowed.load(Ordering::Acquire) {
            return None;
        }
        match self.seen.pop_front() {
            Some(signal) => Some(signal),
            None => self.receiver.recv().await,
        }
    }

    /// What has arrived so far, which stays to be received; `None` once any was lost.
    pub(crate) fn look(&mut self) -> Option<&VecDeque<Signal>> {
        while self.seen.len() < SIGNALS
            && let Ok(signal) = self.receiver.try_recv()
        {
            self.seen.push_back(signal);
        }
        (!self.outbox.overflowed.load(Ordering::Acquire)).then_some(&self.seen)
    }
}

impl Outbox {
    pub(crate) fn put(&self, signal: Signal) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(signal) {
            self.overflowed.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lost_signal_is_noticed_at_once() {
        let mut inbox = Inbox::new();
        let outbox = inbox.sender();
        for _ in 0..SIGNALS {
            outbox.put(Signal::PathFound);
        }
        assert!(inbox.recv().await.is_some());
        outbox.put(Signal::PathFound);
        assert!(inbox.recv().await.is_some(), "full, but nothing lost yet");
        outbox.put(Signal::PathFound);
        outbox.put(Signal::PathSilent);
        assert!(inbox.recv().await.is_none() && inbox.look().is_none());
    }

    #[tokio::test]
    async fn looking_takes_nothing_away() {
        let mut inbox = Inbox::new();
        inbox.sender().put(Signal::PathFound);
        assert_eq!(inbox.look().map(VecDeque::len), Some(1));
        inbox.sender().put(Signal::PathSilent);
        assert_eq!(inbox.look().map(VecDeque::len), Some(2));
        inbox.sender().put(Signal::Stopped);
        assert!(matches!(inbox.recv().await, Some(Signal::PathFound)));
        assert!(matches!(inbox.recv().await, Some(Signal::PathSilent)));
        assert!(matches!(inbox.recv().await, Some(Signal::Stopped)));
    }
}
