//! The same over TCP: who is served, how streams end, and what those meet who mean harm.

use std::{
    any::Any,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Mutex,
    time::Instant,
};
use webrtc_util::{Error, Result};

use super::*;
use crate::driver::turn::{
    framing::{Frames, padded},
    message::ALLOCATE,
    streams::STRANGERS_EACH,
};

/// The end of a client of the crate, which knows UDP only.
struct Stream {
    read: Mutex<(OwnedReadHalf, Frames)>,
    write: Mutex<OwnedWriteHalf>,
    server: SocketAddr,
    local: SocketAddr,
    /// Reads nothing for now.
    rests: AtomicBool,
    bytes: AtomicUsize,
}

impl Stream {
    fn new(stream: TcpStream) -> Arc<Self> {
        let (server, local) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
        let (read, write) = stream.into_split();
        let (read, write) = (Mutex::new((read, Frames::new())), Mutex::new(write));
        let (rests, bytes) = Default::default();
        Arc::new(Self { read, write, server, local, rests, bytes })
    }
}

#[async_trait]
impl Conn for Stream {
    async fn connect(&self, _: SocketAddr) -> Result<()> {
        Err(Error::ErrUseClosedNetworkConn)
    }
    async fn recv(&self, _: &mut [u8]) -> Result<usize> {
        Err(Error::ErrNoRemAddr)
    }
    async fn recv_from(&self, buf: &mut [u8]) -> Result<(usize, SocketAddr)> {
        let (stream, frames) = &mut *self.read.lock().await;
        loop {
            while self.rests.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if let Some(message) = frames.next().unwrap() {
                buf[..message.len()].copy_from_slice(&message);
                return Ok((message.len(), self.server));
            }
            let read = stream.read(frames.room()).await?;
            if read == 0 {
                return Err(Error::ErrUseClosedNetworkConn);
            }
            self.bytes.fetch_add(read, Ordering::Relaxed);
            frames.arrived(read);
        }
    }
    async fn send(&self, _: &[u8]) -> Result<usize> {
        Err(Error::ErrNoRemAddr)
    }
    async fn send_to(&self, buf: &[u8], _: SocketAddr) -> Result<usize> {
        self.write.lock().await.write_all(&padded(buf)).await?;
        Ok(buf.len())
    }
    fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.local)
    }
    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(self.server)
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

async fn connect(server: &TurnServer) -> TcpStream {
    TcpStream::connect(server.address()).await.unwrap()
}

async fn over(stream: Arc<Stream>, name: &str, password: &str) -> Client {
    let server = stream.server.to_string();
    let config = ClientConfig {
        stun_serv_addr: server.clone(),
        turn_serv_addr: server,
        username: name.to_owned(),
        password: password.to_owned(),
        realm: String::new(),
        software: String::new(),
        rto_in_ms: 0,
        conn: stream,
        vnet: None,
    };
    let client = Client::new(config).await.unwrap();
    client.listen().await.unwrap();
    client
}

async fn of(server: &TurnServer, pass: &TurnPass) -> Client {
    over(Stream::new(connect(server).await), pass.username(), pass.password()).await
}

async fn is_given(server: &TurnServer, name: &str, password: &str) -> bool {
    let client = over(Stream::new(connect(server).await), name, password).await;
    let given = bounded("an answer", client.allocate()).await.is_ok();
    let _ = client.close().await;
    given
}

fn header(kind: u16) -> Vec<u8> {
    let mut message = kind.to_be_bytes().to_vec();
    message.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
    message.extend([7; 12]);
    message
}

/// Waits for the end of a connection; all that came before it.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // Whoever is closed with something unread is reset.
    let _ = bounded("the end of a connection", stream.read_to_end(&mut rest)).await;
    rest
}

#[tokio::test]
async fn two_friends_meet_whatever_they_come_over() {
    let server = server(TurnLimits::default()).await;
    let (one, two, three) = (pass(&server, 1, 1), pass(&server, 2, 2), pass(&server, 3, 3));
    let (a, b) = (of(&server, &one).await, of(&server, &two).await);
    let c = super::of(&server, &three).await;
    let (at_a, at_b) = (a.allocate().await.unwrap(), b.allocate().await.unwrap());
    let at_c = c.allocate().await.unwrap();
    meet(&at_a, &at_b).await;
    meet(&at_c, &at_a).await;
    meet(&at_b, &at_c).await;
    assert_eq!(server.desk().used().0, 3);
}

#[tokio::test]
async fn wrong_foreign_and_expired_credentials_are_given_nothing() {
    let server = server(TurnLimits::default().with_life(Duration::from_secs(1))).await;
    let (one, two) = (pass(&server, 1, 1), pass(&server, 2, 2));
    assert!(!is_given(&server, one.username(), "wrong").await);
    assert!(!is_given(&server, one.username(), two.password()).await, "of somebody else");
    let fresh = pass(&server, 3, 1);
    let stream = Stream::new(connect(&server).await);
    let client = over(stream.clone(), fresh.username(), fresh.password()).await;
    assert!(bounded("an answer", client.allocate()).await.is_ok());
    let desk = server.desk().clone();
    until("the end of the allocation", || desk.used().0 == 0).await;
    assert!(!is_given(&server, fresh.username(), fresh.password()).await, "a second later");
}

#[tokio::test]
async fn an_allocation_ends_with_its_connection_and_the_connection_with_nothing_else() {
    let server = server(TurnLimits::default().with_allocations(1, 8)).await;
    let one = pass(&server, 1, 1);
    let stream = Stream::new(connect(&server).await);
    let client = over(stream.clone(), one.username(), one.password()).await;
    let relayed = client.allocate().await.unwrap();
    // What somebody may have is one, whatever it comes over.
    assert!(!super::is_given(&server, one.username(), one.password()).await);
    let desk = server.desk().clone();
    // It is given back, and another one taken over the same connection, as somebody does who looks for a path anew.
    relayed.close().await.unwrap();
    until("the end of the first", || desk.used().0 == 0).await;
    client.close().await.unwrap();
    let again = over(stream.clone(), one.username(), one.password()).await;
    let _relayed = bounded("another one", again.allocate()).await.unwrap();
    assert_eq!(desk.used().0, 1);
    // The network is gone, and says so.
    stream.write.lock().await.shutdown().await.unwrap();
    until("the end of the second", || desk.used().0 == 0).await;
    assert!(super::is_given(&server, one.username(), one.password()).await);
}

/// Somebody at the same address and port over UDP is somebody else.
#[tokio::test]
async fn one_address_over_two_transports_is_two_clients() {
    let server = server(TurnLimits::default()).await;
    let one = pass(&server, 1, 1);
    let (stream, other) = loop {
        let stream = connect(&server).await;
        if let Ok(other) = UdpSocket::bind(stream.local_addr().unwrap()).await {
            break (stream, other);
        }
    };
    let client = over(Stream::new(stream), one.username(), one.password()).await;
    let _relayed = client.allocate().await.unwrap();
    // Who has an allocation is told that it has to say who it is; who has none is told nothing.
    other.send_to(&header(4), server.address()).await.unwrap();
    other.send_to(&header(ALLOCATE), server.address()).await.unwrap();
    let mut buffer = [0; 512];
    bounded("an answer", other.recv_from(&mut buffer)).await.unwrap();
    assert_eq!(buffer[..2], [0x01, 0x13], "an error response to Allocate");
    assert_eq!(server.desk().used().0, 1);
}

#[tokio::test]
async fn what_is_no_turn_is_closed_and_others_go_on() {
    let server = server(TurnLimits::default()).await;
    let (one, two) = (pass(&server, 1, 1), pass(&server, 2, 2));
    let (a, b) = (of(&server, &one).await, of(&server, &two).await);
    let (at_a, at_b) = (a.allocate().await.unwrap(), b.allocate().await.unwrap());
    let mut giant = header(ALLOCATE);
    giant[2..4].copy_from_slice(&[0xff, 0xfc]);
    for nonsense in [
        &b"GET / HTTP/1.1\r\nHost: example.net\r\n\r\n"[..],
        &[0x16, 3, 1, 0, 0xf4, 1, 0, 0, 0xf0],
        &[0xff; 5000],
        &giant,
        // Data of a channel, as long as it says that it can be.
        &[0x40, 0, 0xff, 0xff],
        // Not of a multiple of four.
        &[0, 3, 0, 2, 0x21, 0x12, 0xa4, 0x42],
    ] {
        let mut stream = connect(&server).await;
        stream.write_all(nonsense).await.unwrap();
        assert_eq!(rest(&mut stream).await, b"", "{nonsense:?}");
    }
    meet(&at_a, &at_b).await;
}

#[tokio::test]
async fn a_stranger_is_told_to_say_who_it_is_and_nothing_else() {
    let server = server(TurnLimits::default()).await;
    let mut stream = connect(&server).await;
    // What needs an allocation, data, and an answer.
    for kind in [4, 8, 9, 0x16, 0x0103] {
        stream.write_all(&header(kind)).await.unwrap();
    }
    stream.write_all(&[0x40, 0, 0, 2, 1, 2, 0, 0]).await.unwrap();
    stream.write_all(&header(ALLOCATE)).await.unwrap();
    let mut answer = [0; 20];
    bounded("an answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer[..2], [0x01, 0x13], "an error response to Allocate");
    let mut more = vec![0; usize::from(u16::from_be_bytes([answer[2], answer[3]]))];
    bounded("all of it", stream.read_exact(&mut more)).await.unwrap();
    // It talks on and on: it is heard out for a while.
    for _ in 0..100 {
        if stream.write_all(&header(4)).await.is_err() {
            break;
        }
    }
    assert_eq!(rest(&mut stream).await, b"");
}

#[tokio::test]
async fn one_address_has_so_many_connections_of_strangers_and_friends_take_none_of_them() {
    let server = server(TurnLimits::default()).await;
    let one = pass(&server, 1, 1);
    let friend = of(&server, &one).await;
    let _relayed = friend.allocate().await.unwrap();
    let mut open = Vec::new();
    for _ in 0..STRANGERS_EACH {
        let mut stream = connect(&server).await;
        stream.write_all(&header(ALLOCATE)).await.unwrap();
        let mut answer = [0; 2];
        bounded("an answer", stream.read_exact(&mut answer)).await.unwrap();
        open.push(stream);
    }
    // One more is served, and the oldest makes room for it: what it was told is all that it hears.
    let mut further = connect(&server).await;
    further.write_all(&header(ALLOCATE)).await.unwrap();
    bounded("an answer", further.read_exact(&mut [0; 2])).await.unwrap();
    let mut oldest = open.remove(0);
    let answer = rest(&mut oldest).await;
    assert!(!answer.is_empty() && answer.len() < 200, "the rest of one answer: {}", answer.len());
    assert_eq!(server.desk().used().0, 1);
}

/// Somebody who says nothing, or one byte after the other, is gone after ten seconds, on a clock that runs when nothing else does.
#[tokio::test(start_paused = true)]
async fn who_says_nothing_for_long_is_closed() {
    let server = server(TurnLimits::default()).await;
    for slow in [false, true] {
        let begun = Instant::now();
        let (mut read, mut write) = connect(&server).await.into_split();
        let says = async {
            for byte in header(ALLOCATE).into_iter().cycle() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if !slow || write.write_all(&[byte]).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let ended = async {
            let mut rest = Vec::new();
            let _ = read.read_to_end(&mut rest).await;
            rest
        };
        let rest = tokio::select! {
            rest = ended => rest,
            () = says => unreachable!(),
            () = tokio::time::sleep(Duration::from_secs(3600)) => panic!("it is still there, slow {slow}"),
        };
        assert_eq!(rest, b"");
        assert!(begun.elapsed() >= Duration::from_secs(10), "it had less time: {:?}", begun.elapsed());
    }
}

/// Megabytes are sent to somebody who reads nothing. When it reads again it hears what is new, not all of that.
#[tokio::test]
async fn who_reads_slowly_misses_things_and_is_not_late() {
    const SENT: u64 = 4 << 20;
    let config = TurnConfig::new(loopback()).allow_target(loopback().ip());
    let server = TurnServer::start(config).await.unwrap();
    let one = pass(&server, 1, 1);
    // Not much on its own side either.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = Stream::new(socket.connect(server.address()).await.unwrap());
    let client = over(stream.clone(), one.username(), one.password()).await;
    let at = client.allocate().await.unwrap();
    let service = UdpSocket::bind(loopback()).await.unwrap();
    at.send_to(b"hello", service.local_addr().unwrap()).await.unwrap();
    let mut buffer = [0; 2048];
    let (_, from) = bounded("what is relayed", service.recv_from(&mut buffer)).await.unwrap();

    stream.rests.store(true, Ordering::Relaxed);
    let before = stream.bytes.load(Ordering::Relaxed);
    let desk = server.desk().clone();
    let sent = async {
        while desk.used().1 < SENT {
            for _ in 0..10 {
                service.send_to(&[1; 1000], from).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    bounded("what is sent", sent).await;
    stream.rests.store(false, Ordering::Relaxed);
    let news = async {
        loop {
            service.send_to(b"news", from).await.unwrap();
            let heard = tokio::time::timeout(Duration::from_millis(50), at.recv_from(&mut buffer)).await;
            if heard.is_ok_and(|heard| heard.is_ok_and(|(len, _)| &buffer[..len] == b"news")) {
                break;
            }
        }
    };
    bounded("what is new", news).await;
    let late = stream.bytes.load(Ordering::Relaxed) - before;
    assert!(late < 256 << 10, "it is given {late} bytes of old");
}

#[tokio::test]
async fn a_port_that_is_taken_over_tcp_is_refused_at_the_start() {
    let taken = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let there = TurnServer::start(TurnConfig::new(taken.local_addr().unwrap())).await.map(drop);
    assert!(matches!(&there, Err(TurnError::Listen { cause, .. }) if cause.starts_with("TCP")), "{there:?}");
}

/// For tests of what does without UDP.
#[tokio::test]
async fn a_server_that_hears_no_udp_serves_over_tcp() {
    let server = TurnServer::start(TurnConfig::new(loopback()).only_tcp()).await.unwrap();
    let one = pass(&server, 1, 1);
    let silent = UdpSocket::bind(loopback()).await.unwrap();
    silent.send_to(&header(ALLOCATE), server.address()).await.unwrap();
    assert!(is_given(&server, one.username(), one.password()).await);
    assert!(silent.try_recv_from(&mut [0; 64]).is_err());
}
