//! The checks that ICE makes, as they pass the socket.
//!
//! Firefox, when it offers a restart, gathers for the offer and again for the answer. For some milliseconds its first sockets
//! still answer, and the engine, if it chooses the path, never gives up what it has chosen. So its checks wait for a moment.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// RFC 8489 section 5.
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
/// How long checks wait after such an offer. 100 ms: the first sockets were gone within 20 ms of the answer on a busy machine.
const MOMENT: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Checks {
    wait_until: Mutex<Option<Instant>>,
}

impl Checks {
    /// The peer has offered a restart.
    pub(super) fn restarted(&self, offer: &str) {
        if offer.contains("\r\no=mozilla") {
            *self.wait_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + MOMENT);
        }
    }

    /// Whether this may go to the peer.
    pub(super) fn may_leave(&self, datagram: &[u8]) -> bool {
        let until = *self.wait_until.lock().unwrap_or_else(PoisonError::into_inner);
        !datagram.starts_with(&BINDING_REQUEST) || until.is_none_or(|until| Instant::now() >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn checks_wait_for_a_moment_when_firefox_restarts() {
        let checks = Checks::default();
        checks.restarted("v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\n");
        assert!(checks.may_leave(&BINDING_REQUEST));
        checks.restarted("v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 1 2 IN IP4 0.0.0.0\r\n");
        assert!(!checks.may_leave(&BINDING_REQUEST));
        assert!(checks.may_leave(b"no check"));
        tokio::time::advance(MOMENT).await;
        assert!(checks.may_leave(&BINDING_REQUEST));
    }
}
