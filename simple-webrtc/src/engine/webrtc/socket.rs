//! The sockets of one connection: every datagram passes here on its way into the engine and out of it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::time::{Instant, Sleep, sleep_until};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Runtime, TokioRuntime, Transmit};

use super::checks::Checks;
use super::handshake::Handshake;
use super::pace::Pace;
use super::pairs::Pairs;
use super::servers::Servers;
use super::signaling::Early;
use super::tunnel::{Arrived, Tunnel};
use super::{Outbox, Signal};
use crate::meter::Meter;

/// The content type of what DTLS carries for others, which is SCTP (RFC 6347 section 4.1).
const APPLICATION_DATA: u8 = 23;
/// The content type of an alert (RFC 6347 section 4.1), which is in clear also where the alert is not.
const ALERT: u8 = 21;
/// Where level and description are in an alert that is in clear: behind the header of its record.
const ALERT_BODY: usize = 13;
/// RFC 5246 section 7.2.2.
const BAD_CERTIFICATE: u8 = 42;

/// Where sockets come from.
pub(super) trait Sockets: Send + Sync + fmt::Debug {
    fn wrap(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>>;
}

/// The sockets of this machine.
#[derive(Debug)]
pub(super) struct Real;

impl Sockets for Real {
    fn wrap(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }
}

/// What the sockets of a connection have in common.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) pace: Arc<Pace>,
    outbox: Outbox,
    pub(super) servers: Arc<Servers>,
    pub(super) checks: Checks,
    pub(super) early: Arc<Early>,
    pub(super) pairs: Pairs,
    /// The peer has sent an alert, which the engine has not looked at yet.
    alert: AtomicBool,
    /// A certificate was refused, by either side.
    refused: AtomicBool,
    /// Datagrams that the system did not take.
    unsent: AtomicU64,
}

impl Watch {
    pub(super) fn new(pace: Arc<Pace>, outbox: Outbox, servers: Arc<Servers>, meter: Arc<Meter>) -> Self {
        let pairs = Pairs::new(meter);
        let (checks, early, alert, refused, unsent) = Default::default();
        Self { pace, outbox, servers, checks, early, pairs, alert, refused, unsent }
    }

    /// The engine has worked off what it was given.
    pub(super) fn settled(&self) {
        if self.alert.swap(false, Ordering::AcqRel) {
            self.outbox.put(Signal::PerhapsClosed);
        }
        self.early.settled();
    }

    fn received(&self, from: SocketAddr, datagram: &[u8]) {
        self.pace.input();
        // STUN (RFC 7983).
        if matches!(datagram.first(), Some(0..=3)) {
            self.servers.received(from, datagram);
        }
        if datagram.first() == Some(&ALERT) {
            if is_bad_certificate(datagram) && !self.refused.swap(true, Ordering::AcqRel) {
                self.outbox.put(Signal::CertificateRefused { by_us: false });
            }
            self.alert.store(true, Ordering::Release);
        }
        let carries_sctp = match datagram.first() {
            Some(&APPLICATION_DATA) => true,
            // ChannelData of a relay, or a Data indication (RFC 8656 sections 12.4 and 11.4), in which it may be.
            Some(0x40..=0x4f) => datagram.get(4) == Some(&APPLICATION_DATA),
            Some(0x00) => datagram.get(1) == Some(&0x17),
            _ => false,
        };
        if carries_sctp {
            self.early.arrived();
        }
    }

    fn sending(&self, datagram: &[u8], to_server: bool) {
        match datagram.first() {
            // ChannelData, or a Send indication: what goes to the peer goes through a relay (RFC 8656 sections 10 and 12).
            Some(0x40..=0x4f) if to_server => self.pace.set_relayed(true),
            Some(0x00) if to_server && datagram.get(1) == Some(&0x16) => self.pace.set_relayed(true),
            // DTLS, RTP or RTCP, which go along the path in use (RFC 7983).
            Some(20..=63 | 128..=191) if !to_server => self.pace.set_relayed(false),
            _ => {}
        }
        // The engine answers such an alert with the same one, which then says nothing of the peer's certificate.
        if to_server {
            self.servers.sent(datagram);
        }
        if is_bad_certificate(datagram) && !self.refused.swap(true, Ordering::AcqRel) {
            self.outbox.put(Signal::CertificateRefused { by_us: true });
        }
    }
}

fn is_bad_certificate(datagram: &[u8]) -> bool {
    datagram.first() == Some(&ALERT)
        // Of epoch 0, so that it is in clear.
        && datagram.get(3..5) == Some(&[0, 0])
        && datagram.get(ALERT_BODY + 1) == Some(&BAD_CERTIFICATE)
}

/// One socket.
#[derive(Debug)]
pub(super) struct Socket {
    socket: Arc<dyn AsyncUdpSocket>,
    watch: Arc<Watch>,
    /// To servers over TCP and TLS.
    tunnels: Mutex<HashMap<SocketAddr, Tunnel>>,
    arrived: Arc<Arrived>,
    handshake: Mutex<Again>,
}

/// What is to be sent again, when that is due, and who reads then.
#[derive(Debug, Default)]
struct Again {
    handshake: Handshake,
    timer: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
}

impl Socket {
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>, watch: Arc<Watch>) -> Self {
        let (tunnels, arrived, handshake) = Default::default();
        Self { socket, watch, tunnels, arrived, handshake }
    }

    /// A datagram leaves, or would but for the system.
    fn leaves(&self, transmit: &Transmit<'_>, to_server: bool) {
        let now = Instant::now().into_std();
        let round_trip = self.watch.pairs.round_trip(now);
        // A batch is no handshake: those that are long enough to be sent as one come later.
        if transmit.segment_size.is_none() {
            let mut again = self.again();
            let before = again.handshake.next();
            again.handshake.sent(now, transmit.destination, transmit.contents, round_trip);
            let next = again.handshake.next();
            // Whoever reads has gone to sleep without this time, or with a later one.
            if next.is_some_and(|next| before.is_none_or(|before| next < before))
                && let Some(reader) = again.reader.take()
            {
                reader.wake();
            }
        }
        self.check_sent(transmit, to_server);
        self.watch.sending(transmit.contents, to_server);
    }

    fn comes(&self, from: SocketAddr, datagram: &[u8]) {
        let now = Instant::now().into_std();
        self.again().handshake.received(now, datagram, self.watch.pairs.round_trip(now));
        self.check_received(from, datagram);
        self.watch.received(from, datagram);
    }

    fn again(&self) -> MutexGuard<'_, Again> {
        self.handshake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends again what the handshake has waited for long enough, and wakes the reader for the next time.
    fn poll_handshake(&self, cx: &mut Context<'_>) {
        let mut again = self.again();
        let Again { handshake, timer, reader } = &mut *again;
        *reader = Some(cx.waker().clone());
        while let Some(next) = handshake.next().map(Instant::from_std) {
            let sleep = timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if sleep.deadline() != next {
                sleep.as_mut().reset(next);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return;
            }
            let now = Instant::now().into_std();
            for (destination, contents) in handshake.due(now, self.watch.pairs.round_trip(now)) {
                let (ecn, segment_size, src_ip) = (None, None, None);
                let again = Transmit { destination: *destination, ecn, contents, segment_size, src_ip };
                if self.watch.servers.contains(*destination) && self.takes_tunnel(&again) {
                    continue;
                }
                // What the system does not take now is sent at the next time, or by the engine.
                if let Poll::Ready(Err(error)) = self.socket.poll_send(cx, &again) {
                    tracing::debug!(%error, "a part of the handshake could not be sent again");
                }
            }
        }
        *timer = None;
    }

    /// Whether it is no check that was sent a moment ago. What is held back counts as lost: the engine asks again anyway.
    fn may_check(&self, now: std::time::Instant, transmit: &Transmit<'_>, to_server: bool) -> bool {
        let Transmit { destination, contents, .. } = transmit;
        match (Pairs::concerns(contents), self.socket.local_addr()) {
            (true, Ok(own)) => self.watch.pairs.may_leave(now, own, *destination, contents, to_server),
            _ => true,
        }
    }

    fn check_sent(&self, transmit: &Transmit<'_>, to_server: bool) {
        if let (true, Ok(own)) = (Pairs::concerns(transmit.contents), self.socket.local_addr()) {
            let now = Instant::now().into_std();
            self.watch.pairs.sent(now, own, transmit.destination, transmit.contents, to_server);
        }
    }

    fn check_received(&self, from: SocketAddr, datagram: &[u8]) {
        if let (true, Ok(own)) = (Pairs::concerns(datagram), self.socket.local_addr()) {
            let now = Instant::now().into_std();
            self.watch.pairs.received(now, own, from, datagram, self.watch.servers.contains(from));
        }
    }

    /// Whether this is for a tunnel. Then it is on its way.
    fn takes_tunnel(&self, transmit: &Transmit<'_>) -> bool {
        let alias = transmit.destination;
        let mut tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tunnel) = tunnels.get(&alias) {
            tunnel.send(transmit.contents);
            return true;
        }
        let (Some((index, exit)), Ok(own)) = (self.watch.servers.exit(alias), self.socket.local_addr())
        else {
            return false;
        };
        let servers = self.watch.servers.clone();
        let failed = move |problem| servers.failed(index, problem);
        let tunnel = Tunnel::open(exit, own, alias, self.arrived.clone(), failed);
        tunnel.send(transmit.contents);
        tunnels.insert(alias, tunnel);
        true
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Ok(own) = self.socket.local_addr() {
            self.watch.pairs.closed(own);
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let to_server = self.watch.servers.contains(transmit.destination);
        let now = Instant::now().into_std();
        if to_server && self.watch.servers.gives_way(now, transmit.destination, transmit.contents) {
            return Poll::Ready(Ok(transmit.contents.len()));
        }
        if !self.may_check(now, transmit, to_server) {
            return Poll::Ready(Ok(transmit.contents.len()));
        }
        if to_server && self.takes_tunnel(transmit) {
            self.leaves(transmit, true);
            return Poll::Ready(Ok(transmit.contents.len()));
        }
        if !to_server && !self.watch.checks.may_leave(transmit.contents) {
            return Poll::Ready(Ok(transmit.contents.len()));
        }
        let sent = ready!(self.socket.poll_send(cx, transmit));
        self.leaves(transmit, to_server);
        match sent {
            Err(error) if !to_server => {
                // The engine would write one error for each, 50 in a second while it looks for a path. What is lost is
                // lost, as on any network; only for a server does it draw a conclusion.
                let before = self.watch.unsent.fetch_add(1, Ordering::Relaxed);
                if before.is_power_of_two() || before == 0 {
                    tracing::debug!(%error, unsent = before + 1, "datagrams could not be sent");
                }
                Poll::Ready(Ok(transmit.contents.len()))
            }
            sent => Poll::Ready(sent),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.poll_handshake(cx);
        ready!(self.watch.early.poll_read(cx));
        if let (Some((from, datagram)), Some(buf), Some(meta)) =
            (self.arrived.pop(cx.waker()), bufs.first_mut(), meta.first_mut())
        {
            let len = datagram.len().min(buf.len());
            buf[..len].copy_from_slice(&datagram[..len]);
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from, len, len.max(1));
            self.comes(from, &datagram);
            return Poll::Ready(Ok(1));
        }
        let received = ready!(self.socket.poll_recv(cx, bufs, meta));
        if let Ok(messages) = received {
            for (buf, meta) in bufs.iter().zip(meta.iter()).take(messages) {
                for datagram in buf.get(..meta.len).unwrap_or_default().chunks(meta.stride.max(1)) {
                    self.comes(meta.addr, datagram);
                }
            }
        }
        Poll::Ready(received)
    }

    fn max_gso_segments(&self) -> usize {
        self.socket.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.socket.max_gro_segments()
    }
}
