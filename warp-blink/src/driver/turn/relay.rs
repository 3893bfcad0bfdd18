//! The sockets that the server is given: they count, refuse and keep quiet.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::net::UdpSocket;
use turn::relay::RelayAddressGenerator;
use webrtc_util::{Conn, Error, Result};

use super::desk::{Desk, Tuple};
use crate::proto::turn::User;

/// The socket that the server listens on. What cannot be sent is as good as lost on the way: the server would write the address into
/// the log. Closing an allocation closes it too, in the server's eyes; it stays open.
#[derive(Debug)]
pub(super) struct Listening(pub(super) Arc<UdpSocket>);

#[async_trait]
impl Conn for Listening {
    async fn connect(&self, _: SocketAddr) -> Result<()> {
        Err(Error::ErrUseClosedNetworkConn)
    }
    async fn recv(&self, buf: &mut [u8]) -> Result<usize> {
        Ok(self.0.recv(buf).await?)
    }
    async fn recv_from(&self, buf: &mut [u8]) -> Result<(usize, SocketAddr)> {
        Ok(self.0.recv_from(buf).await?)
    }
    async fn send(&self, _: &[u8]) -> Result<usize> {
        Err(Error::ErrNoRemAddr)
    }
    async fn send_to(&self, buf: &[u8], target: SocketAddr) -> Result<usize> {
        let _ = self.0.send_to(buf, target).await;
        Ok(buf.len())
    }
    fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }
    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// The socket of an allocation, which ends with it.
struct Relayed {
    socket: UdpSocket,
    desk: Arc<Desk>,
    client: Tuple,
    user: User,
    id: u64,
    port: u16,
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.desk.release(self.client, &self.user, self.id, self.port);
    }
}

#[async_trait]
impl Conn for Relayed {
    async fn connect(&self, _: SocketAddr) -> Result<()> {
        Err(Error::ErrUseClosedNetworkConn)
    }
    async fn recv(&self, _: &mut [u8]) -> Result<usize> {
        Err(Error::ErrNoRemAddr)
    }
    /// Only what may come through: the server would write into the log who sent the rest.
    async fn recv_from(&self, buf: &mut [u8]) -> Result<(usize, SocketAddr)> {
        loop {
            // What one peer's machine answers, or sends too much of, ends nothing; some systems say both as errors.
            let Ok((len, from)) = self.socket.recv_from(buf).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let from = self.desk.outside(from);
            if self.desk.relays((self.client, self.id), from, len) {
                return Ok((len, from));
            }
        }
    }
    async fn send(&self, _: &[u8]) -> Result<usize> {
        Err(Error::ErrNoRemAddr)
    }
    async fn send_to(&self, buf: &[u8], target: SocketAddr) -> Result<usize> {
        if self.desk.relays((self.client, self.id), target, buf.len()) {
            let _ = self.socket.send_to(buf, self.desk.inside(target)).await;
        }
        Ok(buf.len())
    }
    fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }
    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// For whom the server allocates now. Requests of one [`Serving`](super::serving::Serving) are handled one after the other, and the server
/// does not say for whom it asks.
#[derive(Debug, Default)]
pub(super) struct Current(Mutex<Option<(Tuple, User)>>);

impl Current {
    pub(super) fn set(&self, whom: Option<(Tuple, User)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = whom;
    }

    fn take(&self) -> Option<(Tuple, User)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Gives the server a socket for each allocation, if the user may have another one.
pub(super) struct Sockets {
    pub(super) desk: Arc<Desk>,
    pub(super) current: Arc<Current>,
}

#[async_trait]
impl RelayAddressGenerator for Sockets {
    fn validate(&self) -> std::result::Result<(), turn::Error> {
        Ok(())
    }

    async fn allocate_conn(
        &self,
        use_ipv4: bool,
        _: u16,
    ) -> std::result::Result<(Arc<dyn Conn + Send + Sync>, SocketAddr), turn::Error> {
        let refused = |cause: String| turn::Error::Other(cause);
        let (client, user) = self.current.take().ok_or_else(|| refused("nobody asks".to_owned()))?;
        let bind: IpAddr = self.desk.bind;
        // Who asks for none is taken to ask for IPv4 (RFC 8656, section 7.2), and webrtc-rs never asks: a server that has IPv6 only gives that.
        if bind.is_ipv4() && !use_ipv4 {
            return Err(refused("no address of this family".to_owned()));
        }
        let socket = UdpSocket::bind((bind, 0)).await.map_err(|e| refused(e.to_string()))?;
        let port = socket.local_addr().map_err(|e| refused(e.to_string()))?.port();
        let id = self.desk.allocate(client, &user, port).map_err(|e| refused(e.to_string()))?;
        let relayed = Relayed { socket, desk: self.desk.clone(), client, user, id, port };
        Ok((Arc::new(relayed), self.desk.relayed(port)))
    }
}
