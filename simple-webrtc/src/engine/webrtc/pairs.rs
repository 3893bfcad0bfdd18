//! Candidate pairs, as their checks pass the sockets: the engine tells of the one in use only.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::servers::{attribute, transaction};
use crate::meter::Meter;
use crate::stats::PairState;

/// Pairs that are remembered. 256: 16 candidates of ours with as many of the peer.
const MAX_PAIRS: usize = 256;
/// Checks of a pair that wait for their answer. 8: at one each 20 ms, a round trip of 160 ms; of later answers the round trip is not
/// known.
const WAITING: usize = 8;
/// Without an answer to a check for so long a pair counts as failed. 39.5 s: RFC 8863 section 3.
const FAILED: Duration = Duration::from_millis(39_500);
/// How long a check waits for its answer before the next one may leave, each time twice as long. The engine asks each 20 ms and does not
/// stop: with three addresses at each end that is 150 kbit/s, and before a place of 60 kbit/s they waited for three seconds, and the
/// handshake behind them (measured in the lab). 20 ms at first, since a check may be lost; 400 ms at last: near the
/// 500 of RFC 8445 section 14.3, and below the half second after which a path that is in use is checked anyway.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(400));

/// RFC 8489 section 5 and RFC 8445 section 7.1.2.
const BINDING: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const BINDING_ERROR: [u8; 2] = [0x01, 0x11];
const USE_CANDIDATE: u16 = 0x0025;
/// RFC 8656 section 17 and 18.
const CHANNEL_BIND: [u8; 2] = [0x00, 0x09];
const SEND: [u8; 2] = [0x00, 0x16];
const DATA: [u8; 2] = [0x00, 0x17];
const CHANNEL_NUMBER: u16 = 0x000c;
const PEER_ADDRESS: u16 = 0x0012;
const DATA_ATTRIBUTE: u16 = 0x0013;
#[derive(Debug)]
pub(super) struct Pairs {
    meter: Arc<Meter>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    pairs: VecDeque<Pair>,
    /// Of relays: our socket, the server, the number, and the peer behind it.
    channels: VecDeque<(SocketAddr, SocketAddr, u16, SocketAddr)>,
}

/// One pair that was checked.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The server, if it goes through one of ours.
    pub(super) relay: Option<SocketAddr>,
    pub(super) round_trip: Option<Duration>,
    pub(super) nominated: bool,
    began: Instant,
    answered: bool,
    /// Names of checks, when each left, and whether it nominates.
    asked: VecDeque<([u8; 12], Instant, bool)>,
    /// How long the last check waits, and when the next one may leave.
    wait: Duration,
    next: Option<Instant>,
}

impl Pair {
    pub(super) fn state(&self, now: Instant) -> PairState {
        match self.answered {
            true => PairState::Succeeded,
            false if now.saturating_duration_since(self.began) >= FAILED => PairState::Failed,
            false => PairState::InProgress,
        }
    }
}

/// What passes, taken out of what carries it.
struct Inside<'a> {
    peer: SocketAddr,
    relay: Option<SocketAddr>,
    message: &'a [u8],
}

impl Pairs {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Self { meter, inner: Mutex::default() }
    }

    /// Whether a datagram is of any interest here: STUN, or what carries STUN through a relay.
    pub(super) fn concerns(datagram: &[u8]) -> bool {
        match datagram.first() {
            Some(0..=1) => true,
            Some(0x40..=0x4f) => matches!(datagram.get(4), Some(0..=1)),
            _ => false,
        }
    }

    /// Whether this may leave: a check that is sent again too soon may not.
    pub(super) fn may_leave(
        &self,
        now: Instant,
        own: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        to_server: bool,
    ) -> bool {
        let inner = self.lock();
        let Some(inside) = inner.open(own, to, datagram, to_server, SEND) else { return true };
        if !inside.message.starts_with(&BINDING) {
            return true;
        }
        let mut pairs = inner.pairs.iter();
        let Some(pair) = pairs.find(|pair| pair.is(own, inside.peer, inside.relay)) else { return true };
        pair.next.is_none_or(|next| now >= next) || pair.is_new(inside.message)
    }

    pub(super) fn sent(
        &self,
        now: Instant,
        own: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        to_server: bool,
    ) {
        let mut inner = self.lock();
        if to_server && datagram.starts_with(&CHANNEL_BIND) {
            inner.bind(own, to, datagram);
            return;
        }
        let Some(inside) = inner.open(own, to, datagram, to_server, SEND) else { return };
        if !inside.message.starts_with(&BINDING) {
            return;
        }
        let (peer, relay) = (inside.peer, inside.relay);
        let (Some(name), nominates) =
            (transaction(inside.message), attribute(inside.message, USE_CANDIDATE).is_some())
        else {
            return;
        };
        let pair = inner.pair(now, own, peer, relay);
        let (first, last) = PATIENCE;
        pair.wait = if pair.is_new(inside.message) { first } else { (pair.wait * 2).min(last) };
        pair.next = Some(now + pair.wait);
        if pair.asked.len() >= WAITING {
            pair.asked.pop_front();
        }
        pair.asked.push_back((name, now, nominates));
    }

    pub(super) fn received(
        &self,
        now: Instant,
        own: SocketAddr,
        from: SocketAddr,
        datagram: &[u8],
        of_server: bool,
    ) {
        let mut inner = self.lock();
        let Some(inside) = inner.open(own, from, datagram, of_server, DATA) else { return };
        let (peer, relay, message) = (inside.peer, inside.relay, inside.message);
        if message.starts_with(&BINDING) {
            // Where the peer gets through, so may we now, and it waits for that (RFC 8445 section 7.3.1.4).
            if let Some(pair) = inner.pairs.iter_mut().find(|pair| pair.is(own, peer, relay)) {
                pair.next = None;
            }
            // The controlling side nominates so; what it nominates has to have worked for us, too.
            if attribute(message, USE_CANDIDATE).is_some() {
                inner.pair(now, own, peer, relay).nominated = true;
            }
        } else if message.starts_with(&BINDING_SUCCESS) || message.starts_with(&BINDING_ERROR) {
            let Some(name) = transaction(message) else { return };
            let pair = inner.pairs.iter_mut().find(|pair| pair.is(own, peer, relay));
            let Some(pair) = pair else { return };
            let Some(at) = pair.asked.iter().position(|(asked, ..)| *asked == name) else { return };
            let asked = pair.asked.drain(..=at).next_back();
            if let (Some((_, left, nominates)), true) = (asked, message.starts_with(&BINDING_SUCCESS)) {
                let round_trip = now.saturating_duration_since(left);
                (pair.answered, pair.round_trip) = (true, Some(round_trip));
                (pair.wait, pair.next) = (Duration::ZERO, None);
                pair.nominated |= nominates;
                if pair.nominated {
                    self.meter.on_checked(now, round_trip);
                }
            }
        }
    }

    /// Of the path in use, once it is nominated.
    pub(super) fn round_trip(&self, now: Instant) -> Option<Duration> {
        self.meter.round_trip(now)
    }

    /// A socket is gone, as after a restart.
    pub(super) fn closed(&self, own: SocketAddr) {
        self.meter.on_path_lost();
        let mut inner = self.lock();
        inner.pairs.retain(|pair| pair.local != own);
        inner.channels.retain(|(local, ..)| *local != own);
    }

    pub(super) fn list(&self) -> Vec<Pair> {
        self.lock().pairs.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The lock is never held across anything that can panic half way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pair {
    /// Whether this check is not one of those that wait already: the first one, or the first that nominates.
    fn is_new(&self, check: &[u8]) -> bool {
        let nominates = attribute(check, USE_CANDIDATE).is_some();
        self.wait.is_zero() || self.asked.back().is_none_or(|(.., before)| *before != nominates)
    }

    fn is(&self, own: SocketAddr, peer: SocketAddr, relay: Option<SocketAddr>) -> bool {
        self.local == own && self.remote == peer && self.relay == relay
    }
}

impl Inner {
    fn pair(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        relay: Option<SocketAddr>,
    ) -> &mut Pair {
        let at = self.pairs.iter().position(|pair| pair.is(local, remote, relay));
        let at = at.unwrap_or_else(|| {
            if self.pairs.len() >= MAX_PAIRS {
                self.pairs.pop_front();
            }
            let (asked, round_trip) = (VecDeque::new(), None);
            self.pairs.push_back(Pair {
                local,
                remote,
                relay,
                round_trip,
                nominated: false,
                began: now,
                answered: false,
                asked,
                wait: Duration::ZERO,
                next: None,
            });
            self.pairs.len() - 1
        });
        &mut self.pairs[at]
    }

    fn bind(&mut self, own: SocketAddr, server: SocketAddr, request: &[u8]) {
        let number = attribute(request, CHANNEL_NUMBER);
        let (Some(&[high, low, ..]), Some(peer)) = (number, peer_of(request)) else {
            return;
        };
        if self.channels.len() >= MAX_PAIRS {
            self.channels.pop_front();
        }
        self.channels.push_back((own, server, u16::from_be_bytes([high, low]), peer));
    }

    fn open<'a>(
        &self,
        own: SocketAddr,
        other: SocketAddr,
        datagram: &'a [u8],
        server: bool,
        indication: [u8; 2],
    ) -> Option<Inside<'a>> {
        if !server {
            return Some(Inside { peer: other, relay: None, message: datagram });
        }
        let relay = Some(other);
        if datagram.starts_with(&indication) {
            let peer = peer_of(datagram)?;
            return Some(Inside { peer, relay, message: attribute(datagram, DATA_ATTRIBUTE)? });
        }
        let number = u16::from_be_bytes([*datagram.first()?, *datagram.get(1)?]);
        let channel = |(local, server, of, _): &&(SocketAddr, SocketAddr, u16, SocketAddr)| {
            (*local, *server, *of) == (own, other, number)
        };
        let (.., peer) = self.channels.iter().rev().find(channel)?;
        Some(Inside { peer: *peer, relay, message: datagram.get(4..)? })
    }
}

/// The peer behind a relay (RFC 8489 section 14.2).
fn peer_of(message: &[u8]) -> Option<SocketAddr> {
    let value = attribute(message, PEER_ADDRESS)?;
    // The cookie and the transaction.
    let mask = message.get(4..20)?;
    let port = u16::from_be_bytes([value.get(2)? ^ mask.first()?, value.get(3)? ^ mask.get(1)?]);
    let clear: Vec<u8> = value.get(4..)?.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    let address = match value.get(1)? {
        1 => IpAddr::from(<[u8; 4]>::try_from(clear).ok()?),
        2 => IpAddr::from(<[u8; 16]>::try_from(clear).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8489 section 5.
    const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

    fn message(kind: [u8; 2], name: u8, nominates: bool) -> Vec<u8> {
        let mut message = [&kind[..], &[0, 0], &COOKIE, &[name; 12]].concat();
        if nominates {
            message.extend([0x00, 0x25, 0, 0]);
        }
        message
    }

    #[test]
    fn a_pair_is_what_its_checks_say() {
        let meter = Arc::new(Meter::default());
        let pairs = Pairs::new(meter.clone());
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let own: SocketAddr = "192.0.2.1:5".parse().expect("valid");
        let peer: SocketAddr = "192.0.2.2:6".parse().expect("valid");
        let silent: SocketAddr = "192.0.2.3:6".parse().expect("valid");
        for (name, to) in [(1, peer), (2, silent)] {
            pairs.sent(at(0), own, to, &message(BINDING, name, false), false);
        }
        // Not from where it was asked, and of another name.
        pairs.received(at(5), own, silent, &message(BINDING_SUCCESS, 1, false), false);
        pairs.received(at(5), own, peer, &message(BINDING_SUCCESS, 9, false), false);
        assert!(pairs.list().iter().all(|pair| pair.state(at(6)) == PairState::InProgress));
        pairs.received(at(30), own, peer, &message(BINDING_SUCCESS, 1, false), false);
        let first = pairs.list()[0].clone();
        assert_eq!((first.state(at(30)), first.nominated), (PairState::Succeeded, false));
        assert_eq!((first.round_trip, meter.round_trip(at(30))), (Some(Duration::from_millis(30)), None));
        pairs.sent(at(40), own, peer, &message(BINDING, 3, true), false);
        pairs.received(at(60), own, peer, &message(BINDING_SUCCESS, 3, false), false);
        assert!(pairs.list()[0].nominated);
        assert_eq!(meter.round_trip(at(60)), Some(Duration::from_millis(20)));
        assert_eq!(pairs.list()[1].state(at(39_500)), PairState::Failed);
        pairs.closed(own);
        assert!(pairs.list().is_empty());
        for port in 0..1_000 {
            pairs.sent(at(0), own, SocketAddr::new(peer.ip(), port), &message(BINDING, 1, false), false);
        }
        assert_eq!(pairs.list().len(), MAX_PAIRS);
    }

    #[test]
    fn a_check_leaves_less_and_less_often_until_it_is_answered_or_the_peer_gets_through() {
        let pairs = Pairs::new(Arc::default());
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let own: SocketAddr = "192.0.2.1:5".parse().expect("valid");
        let peer: SocketAddr = "192.0.2.2:6".parse().expect("valid");
        let other: SocketAddr = "192.0.2.3:6".parse().expect("valid");
        // As the engine does: each pair at each 20 ms.
        let ask = |ms: u64, nominates: bool| {
            let check = message(BINDING, (ms / 20) as u8, nominates);
            let leaves = pairs.may_leave(at(ms), own, peer, &check, false);
            if leaves {
                pairs.sent(at(ms), own, peer, &check, false);
            }
            leaves
        };
        let left: Vec<u64> = (0..150).map(|n| n * 20).filter(|ms| ask(*ms, false)).collect();
        assert_eq!(left, [0, 20, 60, 140, 300, 620, 1_020, 1_420, 1_820, 2_220, 2_620]);
        assert!(pairs.may_leave(at(3_000), own, other, &message(BINDING, 1, false), false), "another pair");
        assert!(pairs.may_leave(at(3_000), own, peer, b"no check", false));
        // The peer's own check came through, so ours goes at once; and only the one.
        pairs.received(at(3_000), own, peer, &message(BINDING, 7, false), false);
        assert!(ask(3_000, false) && !ask(3_020, false));
        // The first that nominates does not wait for those that do not.
        assert!(ask(3_040, true) && ask(3_060, true) && !ask(3_080, true));
        pairs.received(at(3_080), own, peer, &message(BINDING_SUCCESS, (3_060 / 20) as u8, false), false);
        assert!(ask(3_080, true), "an answered one begins anew");
        // Of an answered pair the keepalives, each half second, always leave.
        assert!((8..20).all(|n| ask(n * 500, true)));
    }

    #[test]
    fn anything_may_pass() {
        let pairs = Pairs::new(Arc::default());
        let own: SocketAddr = "192.0.2.1:5".parse().expect("valid");
        for head in [BINDING, BINDING_SUCCESS, CHANNEL_BIND, SEND, DATA, [0x40, 0]] {
            for length in 0..40 {
                for fill in [0, 0x12, 0xff] {
                    let mut datagram = vec![fill; length];
                    datagram.splice(..length.min(2), head.into_iter().take(length.min(2)));
                    for server in [true, false] {
                        pairs.sent(Instant::now(), own, own, &datagram, server);
                        pairs.received(Instant::now(), own, own, &datagram, server);
                    }
                }
            }
        }
    }
}
