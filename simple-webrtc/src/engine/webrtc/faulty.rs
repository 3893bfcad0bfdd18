//! Sockets whose datagrams may be lost, for tests over real networks.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::socket::Sockets;
use crate::faults::Faults;

/// Those of others, with faults.
#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) sockets: Arc<dyn Sockets>,
    pub(super) faults: Faults,
}

impl Sockets for Faulty {
    fn wrap(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Lossy { socket: self.sockets.wrap(socket)?, faults: self.faults.clone() }))
    }
}

#[derive(Debug)]
struct Lossy {
    socket: Arc<dyn AsyncUdpSocket>,
    faults: Faults,
}

impl AsyncUdpSocket for Lossy {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What is lost was sent, as far as the sender knows.
    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        match self.faults.take() {
            true => Poll::Ready(Ok(transmit.contents.len())),
            false => self.socket.poll_send(cx, transmit),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(cx, bufs, meta)
    }

    /// Datagrams leave one by one: each is lost for itself.
    fn max_gso_segments(&self) -> usize {
        1
    }

    fn max_gro_segments(&self) -> usize {
        self.socket.max_gro_segments()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::super::socket::Real;
    use super::*;

    #[tokio::test]
    async fn what_leaves_during_a_cut_arrives_nowhere_and_the_rest_does() {
        let to = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        to.set_nonblocking(true).expect("a socket");
        let faults = Faults::new(1);
        let sockets = Faulty { sockets: Arc::new(Real), faults: faults.clone() };
        let own = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        own.set_nonblocking(true).expect("a socket");
        let socket = sockets.wrap(own).expect("a runtime");
        for (cut, contents) in [(false, "a"), (true, "b"), (false, "c")] {
            faults.cut(cut);
            let (ecn, segment_size, src_ip) = (None, None, None);
            let destination = to.local_addr().expect("bound");
            let contents = contents.as_bytes();
            let transmit = Transmit { destination, ecn, contents, segment_size, src_ip };
            assert_eq!(poll_fn(|cx| socket.poll_send(cx, &transmit)).await.expect("sent"), 1);
        }
        let (mut buffer, mut all) = ([0; 16], Vec::new());
        // Loopback has delivered when the sender's call returns.
        while let Ok(read) = to.recv(&mut buffer) {
            all.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(all, b"ac");
    }
}
