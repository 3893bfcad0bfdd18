//! What comes through to the server at all, and how it is answered if not.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{
    desk::{Desk, Transport, Tuple},
    message::{
        ALLOCATE, BINDING, CHANNEL_BIND, CREATE_PERMISSION, EVEN_PORT, MESSAGE_INTEGRITY, Message, REFRESH,
        RESERVATION_TOKEN, SEND,
    },
};
use crate::{proto::turn::User, time::Instant};

/// First requests of strangers that are answered over each transport: so many at once, and so many a second after that. Each answer names a
/// nonce that is kept for a minute, so there are 6,200 at most. A phone sends one over each transport for each of its addresses and links.
///
/// As many Binding requests besides (RFC 8489), which need no credentials: each is answered with 40 bytes (52 over IPv6) for its 20, with the
/// headers of IP and UDP 1.4 times (1.5) what came. So whoever forges a sender has 5 kB a second sent there.
const BURST: u32 = 100;
const PER_SECOND: u32 = 50;

/// Nonces are looked through when there are more than this, which is more than strangers can make in the time they are kept for.
pub(super) const MAX_NONCES: usize = 8192;
const NONCE_KEPT: Duration = Duration::from_secs(60);

/// RFC 8656 section 18.13 and RFC 8489 section 14.8.
const UNAUTHORIZED: u16 = 401;
const FORBIDDEN: u16 = 403;
const INSUFFICIENT: u16 = 508;

/// What becomes of a datagram.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It goes no further, and nobody hears of it.
    Drop,
    /// It goes no further, and this says why.
    Refuse(Vec<u8>),
    /// The server may have it. A request for an allocation comes with its user.
    Pass(Option<User>),
}

/// How much of strangers is let in.
#[derive(Debug)]
pub(super) struct Gate {
    /// First requests over UDP, whose senders may be forged, and over TCP. Somebody who asks for addresses only takes nothing from those
    /// who come to be relayed.
    first: [Bucket; 2],
    bindings: Bucket,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    filled: Instant,
}

impl Gate {
    pub(super) fn new(now: Instant) -> Self {
        Self { first: [Bucket::new(now), Bucket::new(now)], bindings: Bucket::new(now) }
    }

    /// Looks at a message of somebody: a datagram, or what one would be of a stream.
    pub(super) fn look(&mut self, now: Instant, desk: &Desk, from: Tuple, datagram: &[u8]) -> Verdict {
        let known = desk.is_client(from);
        // Data for a channel: two bits say so (RFC 8656 section 12).
        if datagram.first().is_some_and(|byte| byte & 0xc0 == 0x40) {
            return if known { Verdict::Pass(None) } else { Verdict::Drop };
        }
        let Some(message) = Message::parse(datagram) else { return Verdict::Drop };
        match (message.kind(), known) {
            // What is sent is looked at where it leaves.
            (SEND, true) => return Verdict::Pass(None),
            // Under which address it is seen here. Whoever demands more than that, as one end of a call does of the other, is no business
            // of a server.
            (BINDING, _) => {
                let answers = !message.demands() && self.bindings.takes_one(now);
                return if answers { Verdict::Pass(None) } else { Verdict::Drop };
            }
            (ALLOCATE, _) | (REFRESH | CREATE_PERMISSION | CHANNEL_BIND, true) => {}
            // What needs an allocation needs it first.
            _ => return Verdict::Drop,
        }
        let [over_udp, over_tcp] = &mut self.first;
        let first = match from.transport {
            Transport::Udp => over_udp,
            Transport::Tcp => over_tcp,
        };
        if message.attribute(MESSAGE_INTEGRITY).is_none() {
            // It asks for a nonce.
            return if known || first.takes_one(now) { Verdict::Pass(None) } else { Verdict::Drop };
        }
        let Some(user) = desk.authenticate(&message, from) else {
            return if known || first.takes_one(now) {
                Verdict::Refuse(message.refusal(UNAUTHORIZED))
            } else {
                Verdict::Drop
            };
        };
        match message.kind() {
            // Pairs of ports are of the days of separate RTCP; the server would bind sockets until it finds an even one.
            ALLOCATE if [EVEN_PORT, RESERVATION_TOKEN].iter().any(|a| message.attribute(*a).is_some()) => {
                Verdict::Refuse(message.refusal(INSUFFICIENT))
            }
            ALLOCATE => Verdict::Pass(Some(user)),
            CREATE_PERMISSION | CHANNEL_BIND => match message.peers() {
                Some(peers) if desk.permit(from, &peers) => Verdict::Pass(None),
                Some(_) => Verdict::Refuse(message.refusal(FORBIDDEN)),
                None => Verdict::Drop,
            },
            _ => Verdict::Pass(None),
        }
    }
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now }
    }

    fn takes_one(&mut self, now: Instant) -> bool {
        let passed = u64::try_from(now.since(self.filled).as_millis()).unwrap_or(u64::MAX);
        let new = passed.saturating_mul(PER_SECOND.into()) / 1000;
        if new > 0 {
            self.filled = now;
            self.tokens = self.tokens.saturating_add(u32::try_from(new).unwrap_or(u32::MAX)).min(BURST);
        }
        let takes = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        takes
    }
}

/// Forgets nonces that were given out a while ago, when there are many. Whoever still uses one is told a new one (438).
///
/// `used`: those of whoever has an allocation stay, since their software does not take the loss well: a call would be silent for minutes.
pub(super) fn prune(
    nonces: &mut HashMap<String, tokio::time::Instant>,
    now: tokio::time::Instant,
    used: impl FnOnce() -> BTreeSet<String>,
) {
    if nonces.len() <= MAX_NONCES {
        return;
    }
    let used = used();
    nonces.retain(|nonce, made| used.contains(nonce) || now.saturating_duration_since(*made) < NONCE_KEPT);
    if nonces.len() > MAX_NONCES {
        nonces.retain(|nonce, _| used.contains(nonce));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    #[test]
    fn strangers_are_answered_so_often_and_no_more() {
        let mut gate = Bucket::new(at(0));
        assert_eq!((0..1000).filter(|_| gate.takes_one(at(0))).count(), BURST as usize);
        let second = (1..=1000).filter(|millis| gate.takes_one(at(*millis))).count();
        assert_eq!(second, PER_SECOND as usize);
        assert_eq!((0..1000).filter(|_| gate.takes_one(at(3_600_000))).count(), BURST as usize);
    }

    #[test]
    fn nonces_do_not_grow_without_bound() {
        let start = tokio::time::Instant::now();
        let mut nonces: HashMap<_, _> = (0..MAX_NONCES).map(|n| (n.to_string(), start)).collect();
        prune(&mut nonces, start, BTreeSet::new);
        assert_eq!(nonces.len(), MAX_NONCES);
        let later = start + NONCE_KEPT;
        nonces.insert("new".to_owned(), later);
        let used = || BTreeSet::from(["7".to_owned()]);
        prune(&mut nonces, later, used);
        assert_eq!(nonces.len(), 2, "whose nonce is in use is not sent away");
        nonces.extend((0..=MAX_NONCES).map(|n| (n.to_string(), later)));
        prune(&mut nonces, later, used);
        assert_eq!(nonces.len(), 1, "however fast they come");
    }
}
