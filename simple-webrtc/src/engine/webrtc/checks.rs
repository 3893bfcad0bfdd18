//! The checks that ICE makes, as they pass the socket: what is mended here is who chooses the path, and when a restart begins.
//!
//! Chromium decides in each ICE restart anew who chooses (RFC 8445 section 6.1.1), the engine and Firefox do not, so that both
//! ends may think that they do, or neither. The engine ignores the answer that its role is taken (487, section 7.2.5.1); and
//! where it gives way itself, it asks the peer to give way, too. Then both have the other wrong role. So the engine is told when
//! a check of its own is answered so, in the one way there is: a check that claims the role which it is to give up, with a
//! tie-breaker that wins. The engine looks at that before anything else, and then throws the check away. And where it gives
//! way, its request to do the same does not leave.
//!
//! Firefox, when it offers a restart, gathers for the offer and again for the answer. For some milliseconds its first sockets
//! still answer, and the engine, if it chooses, never gives up what it has chosen. So its checks wait for a moment.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::servers::attribute;

/// RFC 8445 section 16.1.
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;
/// RFC 8489 sections 5, 14.8 and 18.2.
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_ERROR: [u8; 2] = [0x01, 0x11];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const ERROR_CODE: u16 = 0x0009;
/// Checks that are remembered each way. 64: one every 20 ms for more than a second.
const REMEMBERED: usize = 64;

/// How long checks wait after such an offer. 100 ms: the first sockets were gone within 20 ms of the answer on a busy machine.
const MOMENT: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether the engine is to choose, until a check of its own shows that it knows.
    wanted: Option<bool>,
    wait_until: Option<Instant>,
    sent: VecDeque<Check>,
    received: VecDeque<Check>,
}

#[derive(Clone, Copy, Debug)]
struct Check {
    transaction: [u8; 12],
    controlling: bool,
    tie_breaker: u64,
}

impl Check {
    fn read(datagram: &[u8]) -> Option<Self> {
        if !datagram.starts_with(&BINDING_REQUEST) || datagram.get(4..8) != Some(&MAGIC_COOKIE) {
            return None;
        }
        let controlling = attribute(datagram, ICE_CONTROLLING);
        let value = controlling.or_else(|| attribute(datagram, ICE_CONTROLLED))?;
        Some(Self {
            transaction: datagram.get(8..20)?.try_into().ok()?,
            controlling: controlling.is_some(),
            tie_breaker: u64::from_be_bytes(value.try_into().ok()?),
        })
    }

    fn write(self) -> Vec<u8> {
        let claimed = if self.controlling { ICE_CONTROLLING } else { ICE_CONTROLLED };
        let attribute = [&claimed.to_be_bytes()[..], &[0, 8], &self.tie_breaker.to_be_bytes()].concat();
        [&BINDING_REQUEST[..], &[0, 12], &MAGIC_COOKIE, &self.transaction, &attribute].concat()
    }

    /// What makes the engine choose, or not.
    fn reminder(wanted: bool) -> Vec<u8> {
        let tie_breaker = if wanted { 0 } else { u64::MAX };
        Self { transaction: [0; 12], controlling: !wanted, tie_breaker }.write()
    }
}

/// What becomes of a datagram on its way to the peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    Goes,
    Dropped,
    /// Does not leave; this comes to the engine instead.
    Reminds(Vec<u8>),
}

impl Checks {
    /// The peer has offered a restart.
    pub(super) fn restarted(&self, offer: &str) {
        if offer.contains("\r\no=mozilla") {
            self.lock().wait_until = Some(Instant::now() + MOMENT);
        }
    }

    /// Before a datagram goes to the peer.
    pub(super) fn sending(&self, datagram: &[u8]) -> Leaving {
        if let Some(check) = Check::read(datagram) {
            let mut state = self.lock();
            if state.wait_until.is_some_and(|until| Instant::now() < until) {
                return Leaving::Dropped;
            }
            if let Some(wanted) = state.wanted
                && wanted != check.controlling
            {
                return Leaving::Reminds(Check::reminder(wanted));
            }
            state.wanted = None;
            remember(&mut state.sent, check);
        } else if let Some(transaction) = conflict(datagram) {
            let state = self.lock();
            let theirs = state.received.iter().find(|check| check.transaction == transaction);
            if let (Some(own), Some(theirs)) = (state.sent.back(), theirs) {
                let gives_way = match theirs.controlling {
                    true => own.tie_breaker < theirs.tie_breaker,
                    false => own.tie_breaker > theirs.tie_breaker,
                };
                return if gives_way { Leaving::Dropped } else { Leaving::Goes };
            }
        }
        Leaving::Goes
    }

    /// Before a datagram comes to the engine. If that is a check, and the engine may be in the wrong role, then what this gives
    /// has to come before it.
    pub(super) fn receiving(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        if let Some(check) = Check::read(datagram) {
            let mut state = self.lock();
            remember(&mut state.received, check);
            return state.wanted.map(Check::reminder);
        }
        let transaction = conflict(datagram)?;
        let mut state = self.lock();
        let of = state.sent.iter().find(|check| check.transaction == transaction)?.controlling;
        // Not if it has given way already.
        if state.wanted.is_none() && state.sent.back().is_some_and(|last| last.controlling == of) {
            state.wanted = Some(!of);
        }
        None
    }

    /// Where such a reminder comes from: nobody (RFC 5737, RFC 3849), so that no answer is sent.
    pub(super) fn nobody(own: SocketAddr) -> SocketAddr {
        match own {
            SocketAddr::V4(_) => ([192, 0, 2, 1], 9).into(),
            SocketAddr::V6(_) => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember(list: &mut VecDeque<Check>, check: Check) {
    if list.len() >= REMEMBERED {
        list.pop_front();
    }
    list.push_back(check);
}

/// The transaction that is answered by saying that the role is taken.
fn conflict(datagram: &[u8]) -> Option<[u8; 12]> {
    let code = datagram.starts_with(&BINDING_ERROR).then(|| attribute(datagram, ERROR_CODE))??;
    if code.get(2..4) == Some(&[4, 87]) { datagram.get(8..20)?.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(n: u8, controlling: bool, tie_breaker: u64) -> Vec<u8> {
        Check { transaction: [n; 12], controlling, tie_breaker }.write()
    }

    fn taken(n: u8) -> Vec<u8> {
        [&BINDING_ERROR[..], &[0, 8], &MAGIC_COOKIE, &[n; 12], &[0, 9, 0, 4, 0, 0, 4, 87]].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn checks_wait_for_a_moment_when_firefox_restarts() {
        let checks = Checks::default();
        checks.restarted("v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\n");
        assert_eq!(checks.sending(&check(1, true, 5)), Leaving::Goes);
        checks.restarted("v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 1 2 IN IP4 0.0.0.0\r\n");
        assert_eq!(checks.sending(&check(2, true, 5)), Leaving::Dropped);
        assert_eq!(checks.sending(b"no check"), Leaving::Goes);
        tokio::time::advance(MOMENT).await;
        assert_eq!(checks.sending(&check(3, true, 5)), Leaving::Goes);
    }

    #[test]
    fn whoever_is_told_that_its_role_is_taken_gives_way() {
        let checks = Checks::default();
        assert_eq!(checks.sending(&check(1, true, 5)), Leaving::Goes);
        assert_eq!(checks.receiving(&taken(9)), None);
        assert_eq!(checks.sending(&check(2, true, 5)), Leaving::Goes, "that was an answer to nobody");
        assert_eq!(checks.receiving(&taken(1)), None);
        assert_eq!(checks.sending(&check(3, true, 5)), Leaving::Reminds(check(0, true, u64::MAX)));
        assert_eq!(checks.receiving(&check(6, true, 7)), Some(check(0, true, u64::MAX)));
        assert_eq!(checks.sending(&check(4, false, 5)), Leaving::Goes);
        assert_eq!(checks.receiving(&taken(2)), None);
        assert_eq!(checks.sending(&check(5, false, 5)), Leaving::Goes, "it has given way already");
    }

    #[test]
    fn whoever_gives_way_does_not_ask_for_the_same() {
        let checks = Checks::default();
        assert_eq!(checks.sending(&check(1, true, 5)), Leaving::Goes);
        for (n, controlling, theirs, wanted) in [
            (2, true, 7, Leaving::Dropped),
            (3, true, 3, Leaving::Goes),
            (4, false, 3, Leaving::Dropped),
            (5, false, 7, Leaving::Goes),
        ] {
            assert_eq!(checks.receiving(&check(n, controlling, theirs)), None);
            assert_eq!(checks.sending(&taken(n)), wanted);
        }
        assert_eq!(checks.sending(&taken(9)), Leaving::Goes);
    }
}
