//! A TURN server over TCP or TLS (RFC 8656 section 3.1), which the engine passes over: datagrams of one socket to the
//! server go through one stream, and come back as datagrams.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::event::ServerProblem;

/// Datagrams that may wait to go into a stream, or to come out: 1.3 s of speech each way. Beyond that the network is too slow
/// for what is sent, and late media is worth less than none.
const WAITING: usize = 64;
/// Until there is a connection. 9 s: below the time for gathering, so that the reason is known by then.
const CONNECT: Duration = Duration::from_secs(9);
/// The header of a STUN message (RFC 8489 section 5) and of ChannelData (RFC 8656 section 12.4).
const STUN_HEADER: usize = 20;
const CHANNEL_HEADER: usize = 4;

/// What came out of the streams of one socket.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    inner: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

impl Arrived {
    pub(super) fn pop(&self, waker: &Waker) -> Option<(SocketAddr, Vec<u8>)> {
        let mut inner = self.lock();
        inner.reader = Some(waker.clone());
        inner.datagrams.pop_front()
    }

    fn push(&self, from: SocketAddr, datagram: Vec<u8>) {
        let waker = {
            let mut inner = self.lock();
            if inner.datagrams.len() >= WAITING {
                inner.datagrams.pop_front();
            }
            inner.datagrams.push_back((from, datagram));
            inner.reader.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a tunnel leads.
#[derive(Clone, Debug)]
pub(super) struct Exit {
    pub(super) host: String,
    pub(super) port: u16,
    /// With these certificates beside those of the public authorities.
    pub(super) tls: Option<Vec<Vec<u8>>>,
}

/// One stream. It is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Tunnel {
    outgoing: mpsc::Sender<Vec<u8>>,
}

impl Tunnel {
    /// From this address of ours; what arrives is said to come from `alias`. `failed` is called at most once.
    pub(super) fn open(
        exit: Exit,
        own: SocketAddr,
        alias: SocketAddr,
        arrived: Arc<Arrived>,
        failed: impl FnOnce(ServerProblem) + Send + 'static,
    ) -> Self {
        let (outgoing, datagrams) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            if let Err(problem) = run(exit, own, alias, arrived, datagrams).await {
                failed(problem);
            }
        });
        Self { outgoing }
    }

    /// Lost if there is no room: so it would be on any network.
    pub(super) fn send(&self, datagram: &[u8]) {
        let _ = self.outgoing.try_send(datagram.to_vec());
    }
}

async fn run(
    exit: Exit,
    own: SocketAddr,
    alias: SocketAddr,
    arrived: Arc<Arrived>,
    datagrams: mpsc::Receiver<Vec<u8>>,
) -> Result<(), ServerProblem> {
    let unreachable = |error| {
        tracing::trace!(%error, "no stream to a TURN server");
        ServerProblem::Unreachable
    };
    let connect = async {
        let Some(stream) = connect(&exit, own).await? else { return Ok(None) };
        // Otherwise each piece of speech waits for the acknowledgement of the one before.
        stream.set_nodelay(true).map_err(unreachable)?;
        Ok(Some(stream))
    };
    let stream = time::timeout(CONNECT, connect).await.map_err(|_| ServerProblem::Unreachable)??;
    let Some(stream) = stream else { return Ok(()) };
    let ended = match &exit.tls {
        None => carry(stream, alias, &arrived, datagrams).await,
        Some(roots) => {
            let secured = time::timeout(CONNECT, secure(stream, &exit.host, roots)).await;
            let stream = secured.map_err(|_| ServerProblem::Tls)?.map_err(|error| {
                tracing::trace!(%error, "no TLS with a TURN server");
                ServerProblem::Tls
            })?;
            carry(stream, alias, &arrived, datagrams).await
        }
    };
    ended.map_err(unreachable)
}

/// Nothing, where the server has no address of the family of ours: that is no fault of it, and another socket is for the other.
async fn connect(exit: &Exit, own: SocketAddr) -> Result<Option<TcpStream>, ServerProblem> {
    let found =
        tokio::net::lookup_host((&*exit.host, exit.port)).await.map_err(|_| ServerProblem::Unresolved)?;
    let found: Vec<_> = found.filter(|address| address.is_ipv4() == own.is_ipv4()).collect();
    if found.is_empty() {
        return Ok(None);
    }
    for address in found {
        let socket = if own.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let Ok(socket) = socket else { continue };
        // From the address of the socket that this stands for, so that each network of ours is tried.
        if !own.ip().is_unspecified() && socket.bind(SocketAddr::new(own.ip(), 0)).is_err() {
            continue;
        }
        if let Ok(stream) = socket.connect(address).await {
            return Ok(Some(stream));
        }
    }
    Err(ServerProblem::Unreachable)
}

async fn secure(
    stream: TcpStream,
    host: &str,
    roots: &[Vec<u8>],
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut trusted = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in roots {
        trusted.add(CertificateDer::from(root.clone())).map_err(io::Error::other)?;
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Until either side ends.
async fn carry<S: AsyncRead + AsyncWrite + Send>(
    stream: S,
    alias: SocketAddr,
    arrived: &Arrived,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    let inward = async {
        loop {
            arrived.push(alias, frame(&mut read).await?);
        }
    };
    let outward = async {
        while let Some(mut datagram) = datagrams.recv().await {
            pad(&mut datagram);
            write.write_all(&datagram).await?;
            write.flush().await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = inward => ended,
        ended = outward => ended,
    }
}

/// Over a stream ChannelData is padded (RFC 8656 section 12.5); STUN messages are by themselves.
fn pad(datagram: &mut Vec<u8>) {
    datagram.resize(datagram.len().next_multiple_of(4), 0);
}

/// The next message of a stream, without padding.
async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = vec![0; CHANNEL_HEADER];
    stream.read_exact(&mut message).await?;
    let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
    let whole = match message[0] >> 6 {
        0 => STUN_HEADER + length,
        1 => CHANNEL_HEADER + length,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    message.resize(whole.next_multiple_of(4), 0);
    stream.read_exact(&mut message[CHANNEL_HEADER..]).await?;
    message.truncate(whole);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_told_apart_however_they_are_cut() {
        let stun = [&[0x01, 0x13, 0x00, 0x04][..], &[9; 20]].concat();
        let data = [&[0x40, 0x01, 0x00, 0x05][..], b"speak"].concat();
        let mut wire = Vec::new();
        for message in [&stun, &data, &stun] {
            let mut padded = message.clone();
            pad(&mut padded);
            wire.extend(padded);
        }
        assert_eq!(wire.len(), 24 + 12 + 24);
        for piece in [1, 3, 7, 60] {
            let (mut ours, mut theirs) = tokio::io::duplex(piece);
            let wire = wire.clone();
            let writer = tokio::spawn(async move { ours.write_all(&wire).await });
            for message in [&stun, &data, &stun] {
                assert_eq!(&frame(&mut theirs).await.expect("a message"), message);
            }
            writer.await.expect("written").expect("written");
            assert!(frame(&mut theirs).await.is_err(), "the end");
        }
        assert!(frame(&mut &[0x80, 0, 0, 0][..]).await.is_err(), "neither");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_of() {
        let closed =
            std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound");
        for (host, expected) in
            [("127.0.0.1", ServerProblem::Unreachable), ("nobody.invalid", ServerProblem::Unresolved)]
        {
            let (told, problem) = tokio::sync::oneshot::channel();
            let exit = Exit { host: host.to_owned(), port: closed.port(), tls: None };
            let own = "127.0.0.1:0".parse().expect("an address");
            let _tunnel = Tunnel::open(exit, own, closed, Arc::default(), |problem| {
                told.send(problem).expect("awaited");
            });
            assert_eq!(problem.await, Ok(expected));
        }
    }
}
