//! The sockets of one connection: every datagram passes here on its way into the engine and out of it.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll, ready};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Runtime, TokioRuntime, Transmit};

use super::pace::Pace;
use super::{Outbox, Signal};

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
    /// Addresses of STUN and TURN servers.
    servers: RwLock<Vec<SocketAddr>>,
    /// The peer has sent an alert, which the engine has not looked at yet.
    alert: AtomicBool,
    /// A certificate was refused, by either side.
    refused: AtomicBool,
    /// Datagrams that the system did not take.
    unsent: AtomicU64,
}

impl Watch {
    pub(super) fn new(pace: Arc<Pace>, outbox: Outbox) -> Self {
        let (alert, refused, unsent) = Default::default();
        Self { pace, outbox, servers: RwLock::default(), alert, refused, unsent }
    }

    pub(super) fn add_servers(&self, found: &[SocketAddr]) {
        let mut servers = self.servers.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for address in found {
            if !servers.contains(address) {
                servers.push(*address);
            }
        }
    }

    fn is_server(&self, address: SocketAddr) -> bool {
        self.servers.read().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&address)
    }

    /// The engine has worked off what it was given.
    pub(super) fn settled(&self) {
        if self.alert.swap(false, Ordering::AcqRel) {
            self.outbox.put(Signal::PerhapsClosed);
        }
    }

    fn received(&self, datagram: &[u8]) {
        self.pace.input();
        if datagram.first() == Some(&ALERT) {
            if is_bad_certificate(datagram) && !self.refused.swap(true, Ordering::AcqRel) {
                self.outbox.put(Signal::CertificateRefused { by_us: false });
            }
            self.alert.store(true, Ordering::Release);
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
}

impl Socket {
    pub(super) fn new(socket: Arc<dyn AsyncUdpSocket>, watch: Arc<Watch>) -> Self {
        Self { socket, watch }
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let to_server = self.watch.is_server(transmit.destination);
        let sent = ready!(self.socket.poll_send(cx, transmit));
        self.watch.sending(transmit.contents, to_server);
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
        let received = ready!(self.socket.poll_recv(cx, bufs, meta));
        if let Ok(messages) = received {
            for (buf, meta) in bufs.iter().zip(meta.iter()).take(messages) {
                for datagram in buf.get(..meta.len).unwrap_or_default().chunks(meta.stride.max(1)) {
                    self.watch.received(datagram);
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
