//! What waits to go into a stream: little, and not for long.

use std::{
    any::Any,
    collections::VecDeque,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Notify,
    time,
};
use webrtc_util::{Conn, Error, Result};

use super::framing::padded;
use crate::{driver::clock, time::Instant};

/// What waits for longer is not sent any more: ITU-T G.114 calls a longer one-way delay unacceptable. A request that is answered
/// with nothing is made again, as over UDP.
const LATE: Duration = Duration::from_millis(400);

/// The most bytes that wait: 400 ms at 1.3 Mbit/s, a small picture. Beyond that the oldest goes.
const MAX_WAITING: usize = 64 * 1024;

/// The most messages that wait: 64 KiB of a picture are 55, and 400 ms of sound with its reports 40. Beyond that the oldest goes: each takes
/// memory of its own, however short it is.
const MAX_MESSAGES: usize = 256;

/// Nothing of a message has gone for so long: nobody reads. As long as a call looks for another path
/// ([`Config::reconnect_window`](crate::Config::reconnect_window)), so that a network that returns finds what it had.
const STUCK: Duration = Duration::from_secs(60);

/// What has not gone yet, the oldest first.
#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, now: Instant, message: Vec<u8>) {
        self.bytes += message.len();
        self.messages.push_back((now, message));
        while (self.bytes > MAX_WAITING || self.messages.len() > MAX_MESSAGES) && self.take().is_some() {}
    }

    /// The oldest that is worth sending.
    fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        loop {
            let (since, message) = self.take()?;
            if now.since(since) <= LATE {
                return Some(message);
            }
        }
    }

    fn take(&mut self) -> Option<(Instant, Vec<u8>)> {
        let taken = self.messages.pop_front();
        self.bytes -= taken.as_ref().map_or(0, |(_, message)| message.len());
        taken
    }
}

/// The way out of one stream, as the server sees it: a socket on which nothing ever waits.
#[derive(Debug)]
pub(super) struct Outgoing {
    waiting: Mutex<Waiting>,
    /// Something waits.
    more: Notify,
    local: SocketAddr,
}

impl Outgoing {
    pub(super) fn new(local: SocketAddr) -> Self {
        Self { waiting: Mutex::default(), more: Notify::new(), local }
    }

    /// Writes what there is, until nobody reads it.
    pub(super) async fn write(&self, mut stream: impl AsyncWrite + Unpin) {
        loop {
            let next = self.lock().pop(clock::now());
            let Some(message) = next else {
                self.more.notified().await;
                continue;
            };
            let written = time::timeout(STUCK, stream.write_all(&message)).await;
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Conn for Outgoing {
    async fn connect(&self, _: SocketAddr) -> Result<()> {
        Err(Error::ErrUseClosedNetworkConn)
    }
    async fn recv(&self, _: &mut [u8]) -> Result<usize> {
        Err(Error::ErrNoRemAddr)
    }
    async fn recv_from(&self, _: &mut [u8]) -> Result<(usize, SocketAddr)> {
        Err(Error::ErrNoRemAddr)
    }
    async fn send(&self, _: &[u8]) -> Result<usize> {
        Err(Error::ErrNoRemAddr)
    }
    /// There is one other end only.
    async fn send_to(&self, buf: &[u8], _: SocketAddr) -> Result<usize> {
        self.lock().push(clock::now(), padded(buf));
        self.more.notify_one();
        Ok(buf.len())
    }
    fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.local)
    }
    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
    /// What an allocation does when it ends. The stream may ask for another one.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    #[test]
    fn what_is_late_is_not_sent_and_what_comes_after_it_is() {
        let mut waiting = Waiting::default();
        for n in 0..10 {
            waiting.push(at(100 * n), vec![n as u8]);
        }
        assert_eq!(waiting.pop(at(400)), Some(vec![0]));
        assert_eq!(waiting.pop(at(901)), Some(vec![6]), "those up to 500 are late");
        assert_eq!(waiting.pop(at(901)), Some(vec![7]));
        assert_eq!(waiting.pop(at(5_000)), None);
        assert_eq!((waiting.messages.len(), waiting.bytes), (0, 0));
    }

    #[test]
    fn no_more_waits_than_may_and_the_oldest_goes_first() {
        let mut waiting = Waiting::default();
        for n in 0..=200_u8 {
            waiting.push(at(0), vec![n; 1024]);
            assert!(waiting.bytes <= MAX_WAITING);
        }
        assert_eq!(waiting.messages.len(), 64);
        assert_eq!(waiting.pop(at(0)).and_then(|message| message.first().copied()), Some(137));
    }

    /// Who reads nothing holds up nobody who sends, and is given up.
    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_given_up_after_a_minute() {
        let (ours, theirs) = tokio::io::duplex(16);
        let outgoing = Outgoing::new("127.0.0.1:3478".parse().unwrap());
        let begun = time::Instant::now();
        for n in 0..100 {
            assert!(outgoing.send_to(&[n; 1000], outgoing.local).await.is_ok());
        }
        outgoing.write(ours).await;
        assert_eq!(begun.elapsed().as_secs(), STUCK.as_secs());
        drop(theirs);
    }
}
