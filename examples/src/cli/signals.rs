//! Ctrl-C and its relatives.

use std::io;

/// What asks the program to end: Ctrl-C, and on Unix also SIGTERM and SIGHUP.
#[derive(Debug)]
pub(super) struct Signals {
    #[cfg(unix)]
    all: [tokio::signal::unix::Signal; 3],
}

impl Signals {
    /// From now on these signals end the program by way of [`recv`](Self::recv) only.
    #[cfg(unix)]
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            all: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ],
        })
    }

    /// From now on these signals end the program by way of [`recv`](Self::recv) only.
    #[cfg(not(unix))]
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub(super) async fn recv(&mut self) {
        let [a, b, c] = &mut self.all;
        tokio::select! { _ = a.recv() => {}, _ = b.recv() => {}, _ = c.recv() => {} }
    }

    /// Waits for the next one.
    #[cfg(not(unix))]
    pub(super) async fn recv(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // The system gives no such signal: there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }
}
