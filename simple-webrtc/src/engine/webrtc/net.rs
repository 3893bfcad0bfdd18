//! A network in memory on tokio's clock, so that the whole engine runs in virtual time.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::socket::Sockets;

/// Every datagram arrives after the same time, or not at all.
#[derive(Debug)]
pub(crate) struct Net {
    delay: Duration,
    ports: Mutex<HashMap<SocketAddr, Arc<Port>>>,
    down: Mutex<bool>,
    /// Every how manyth datagram is lost; 0 for none.
    loss: Mutex<usize>,
    /// Of the datagrams with this first byte, those that are lost, counted from 0.
    picked: Mutex<(u8, Vec<usize>, usize)>,
    shape: Mutex<Shape>,
    dead: Mutex<Vec<SocketAddr>>,
    /// What was sent: when, from where, and its first byte.
    log: Mutex<Vec<(Instant, SocketAddr, u8)>>,
}

/// What a direction of the network does to what is sent.
#[derive(Debug, Default)]
struct Shape {
    /// Of a thousand datagrams so many are lost, as this number says.
    lost: u64,
    random: u64,
    /// Bits a second that leave each socket, and when the last one has left.
    rate: Option<u64>,
    busy: HashMap<SocketAddr, Instant>,
    /// Only what these send is shaped; everything, if there are none.
    from: Vec<SocketAddr>,
}

impl Shape {
    /// How long it waits to leave, and whether it is lost.
    fn pass(&mut self, now: Instant, from: SocketAddr, bytes: usize) -> (Duration, bool) {
        if !self.from.is_empty() && !self.from.contains(&from) {
            return (Duration::ZERO, false);
        }
        // xorshift64.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let lost = self.random % 1000 < self.lost;
        let Some(rate) = self.rate else { return (Duration::ZERO, lost) };
        let busy = self.busy.entry(from).or_insert(now);
        // With the headers of IPv4 and UDP.
        *busy = (*busy).max(now) + Duration::from_nanos((bytes as u64 + 28) * 8 * 1_000_000_000 / rate);
        let wait = *busy - now;
        // A queue of 2 s, as slow links have.
        (wait, lost || wait > Duration::from_secs(2))
    }
}

/// Where datagrams for one socket arrive.
#[derive(Debug, Default)]
struct Port {
    queue: Mutex<VecDeque<(Instant, SocketAddr, Vec<u8>)>>,
    timer: Mutex<Option<Pin<Box<Sleep>>>>,
    waker: Mutex<Option<Waker>>,
}

#[derive(Debug)]
struct VirtualSocket {
    /// Keeps the port from being given to another one; nothing passes through it.
    reserved: std::net::UdpSocket,
    net: Arc<Net>,
    port: Arc<Port>,
}

impl Net {
    pub(crate) fn new(delay: Duration) -> Arc<Self> {
        Arc::new(Self {
            delay,
            ports: Mutex::default(),
            down: Mutex::new(false),
            loss: Mutex::new(0),
            picked: Mutex::default(),
            shape: Mutex::default(),
            dead: Mutex::default(),
            log: Mutex::default(),
        })
    }

    pub(crate) fn set_down(&self, down: bool) {
        *self.down.lock().expect("not poisoned") = down;
    }

    pub(crate) fn lose_every(&self, nth: usize) {
        *self.loss.lock().expect("not poisoned") = nth;
    }

    /// Of the datagrams with this first byte that are sent from now on, these are lost.
    pub(crate) fn lose_picked(&self, first: u8, which: impl IntoIterator<Item = usize>) {
        *self.picked.lock().expect("not poisoned") = (first, which.into_iter().collect(), 0);
    }

    /// Of a thousand datagrams so many are lost, which ones is what the seed decides.
    pub(crate) fn lose(&self, of_1000: u64, seed: u64) {
        let mut shape = self.shape.lock().expect("not poisoned");
        (shape.lost, shape.random) = (of_1000, seed.max(1));
    }

    /// So many bits a second leave each socket; the others wait, up to 2 s.
    pub(crate) fn limit(&self, rate: Option<u64>) {
        self.shape.lock().expect("not poisoned").rate = rate;
    }

    /// What is lost or waits is only what these send.
    pub(crate) fn shape_only(&self, from: Vec<SocketAddr>) {
        self.shape.lock().expect("not poisoned").from = from;
    }

    /// Nothing goes through the sockets any more that are there now.
    pub(crate) fn kill_present(&self) {
        *self.dead.lock().expect("not poisoned") =
            self.ports.lock().expect("not poisoned").keys().copied().collect();
    }

    /// Nothing goes through these sockets any more.
    pub(crate) fn kill(&self, sockets: impl IntoIterator<Item = SocketAddr>) {
        self.dead.lock().expect("not poisoned").extend(sockets);
    }

    pub(crate) fn log(&self) -> Vec<(Instant, SocketAddr, u8)> {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Where RTP or RTCP was last sent from by whoever sends most of it, be it numbered or not.
    pub(crate) fn sockets_of_rtp(&self) -> Vec<SocketAddr> {
        let mut counted: HashMap<SocketAddr, usize> = HashMap::new();
        for (_, from, first) in self.log() {
            if matches!(first, 128 | 144) {
                *counted.entry(from).or_default() += 1;
            }
        }
        counted
            .into_iter()
            .max_by_key(|(_, packets)| *packets)
            .map(|(from, _)| vec![from])
            .unwrap_or_default()
    }

    /// A socket that is no part of an engine.
    pub(crate) fn open(self: &Arc<Self>) -> Arc<dyn AsyncUdpSocket> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        Wires(self.clone()).wrap(socket).expect("a port")
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let now = Instant::now();
        let first = datagram.first().copied().unwrap_or_default();
        let sent = {
            let mut log = self.log.lock().expect("not poisoned");
            log.push((now, from, first));
            log.len()
        };
        let loss = *self.loss.lock().expect("not poisoned");
        if loss > 0 && sent.is_multiple_of(loss) {
            return;
        }
        {
            let mut picked = self.picked.lock().expect("not poisoned");
            let at = picked.2;
            if picked.0 == first {
                picked.2 += 1;
                if picked.1.contains(&at) {
                    return;
                }
            }
        }
        let dead = self.dead.lock().expect("not poisoned");
        if *self.down.lock().expect("not poisoned") || dead.contains(&from) || dead.contains(&to) {
            return;
        }
        let (wait, lost) = self.shape.lock().expect("not poisoned").pass(now, from, datagram.len());
        if lost {
            return;
        }
        let Some(port) = self.ports.lock().expect("not poisoned").get(&to).cloned() else { return };
        let due = now + wait + self.delay;
        {
            let mut queue = port.queue.lock().expect("not poisoned");
            let at = queue.partition_point(|(other, ..)| *other <= due);
            queue.insert(at, (due, from, datagram.to_vec()));
        }
        if let Some(waker) = port.waker.lock().expect("not poisoned").take() {
            waker.wake();
        }
    }
}

/// Sockets on such a network.
#[derive(Debug)]
pub(crate) struct Wires(pub(crate) Arc<Net>);

impl Sockets for Wires {
    fn wrap(&self, reserved: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let port = Arc::new(Port::default());
        self.0.ports.lock().expect("not poisoned").insert(reserved.local_addr()?, port.clone());
        Ok(Arc::new(VirtualSocket { reserved, net: self.0.clone(), port }))
    }
}

impl Drop for VirtualSocket {
    fn drop(&mut self) {
        if let Ok(address) = self.reserved.local_addr() {
            self.net.ports.lock().expect("not poisoned").remove(&address);
        }
    }
}

impl AsyncUdpSocket for VirtualSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.reserved.local_addr()
    }

    fn poll_send(&self, _cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.net.send(self.reserved.local_addr()?, transmit.destination, transmit.contents);
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        *self.port.waker.lock().expect("not poisoned") = Some(cx.waker().clone());
        let mut queue = self.port.queue.lock().expect("not poisoned");
        let Some((due, ..)) = queue.front() else { return Poll::Pending };
        if *due > Instant::now() {
            let mut timer = Box::pin(tokio::time::sleep_until(*due));
            if timer.as_mut().poll(cx).is_pending() {
                *self.port.timer.lock().expect("not poisoned") = Some(timer);
                return Poll::Pending;
            }
        }
        let (_, from, datagram) = queue.pop_front().expect("looked at above");
        let len = datagram.len().min(bufs[0].len());
        bufs[0][..len].copy_from_slice(&datagram[..len]);
        meta[0] = RecvMeta::default();
        meta[0].addr = from;
        meta[0].len = len;
        meta[0].stride = len.max(1);
        Poll::Ready(Ok(1))
    }
}
