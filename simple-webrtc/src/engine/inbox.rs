use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::{self, error::TrySendError};

use super::Signal;

/// Signals that may wait for the owner of a connection; a setup makes about 20.
const SIGNALS: usize = 256;

/// Where signals arrive, in order.
pub(crate) struct Inbox {
    receiver: mpsc::Receiver<Signal>,
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
        Self { receiver, outbox: Outbox { sender, overflowed: Arc::default() } }
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
        self.receiver.recv().await
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
        assert!(inbox.recv().await.is_none());
    }
}
