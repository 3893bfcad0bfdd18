//! Data channels: messages beside the media, over SCTP (RFC 8831).

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{self, Instant};

use crate::engine::{Outbox, Signal};
use crate::error::Error;

/// The longest message, in bytes. 16 KiB, as RFC 8831 section 6.6 recommends: a longer one keeps all other channels of the
/// connection waiting.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// The longest name of a channel, in bytes. 64: it is there to tell channels apart, and each costs a message of its own.
pub const MAX_CHANNEL_NAME_BYTES: usize = 64;

/// Channels of one connection, those of both sides together. 16: one whose messages nobody reads holds 600 of them before
/// the peer has to wait (measured, most of it in queues of the engine).
const MAX_CHANNELS: usize = 16;

/// Messages that may wait to be handed to the engine, which itself holds [`SEND_BUFFER`].
const OUT: usize = 16;

/// Messages that may wait for whoever reads them. Beyond that the peer is told to wait.
const IN: usize = 32;

/// Bytes that the engine may hold for one channel until the peer has them. 256 KiB: what is on its way at 10 Mbit/s and
/// 200 ms.
pub(crate) const SEND_BUFFER: usize = 256 * 1024;

/// How long nothing may arrive of what was sent, or of the end, before a channel that closes is given up. 5 s: three retransmissions from 1 s
/// doubling (RFC 9260 section 16).
pub(crate) const CLOSING: Duration = Duration::from_secs(5);

/// How long after the end of a channel the next one is opened. 1 s: several round trips. The engine gives the new one the
/// stream of the old one, and the peer, if it has not forgotten that yet, never opens it.
const PAUSE: Duration = Duration::from_secs(1);

/// Where the channels of one connection have their places.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    closed: Arc<Mutex<Option<Instant>>>,
}

/// The place of one channel, until it has ended.
#[derive(Debug)]
pub(crate) struct Place {
    _taken: OwnedSemaphorePermit,
    closed: Arc<Mutex<Option<Instant>>>,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(MAX_CHANNELS)), closed: Arc::default() }
    }

    pub(crate) fn take(&self) -> Option<Place> {
        let taken = self.free.clone().try_acquire_owned().ok();
        if taken.is_none() {
            tracing::debug!(limit = MAX_CHANNELS, "further channel not opened");
        }
        Some(Place { _taken: taken?, closed: self.closed.clone() })
    }

    /// Waits until a channel may be opened.
    pub(crate) async fn pause(&self) {
        loop {
            let closed = *self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            match closed.map(|closed| closed + PAUSE) {
                Some(until) if until > Instant::now() => time::sleep_until(until).await,
                _ => return,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// What becomes of messages that the network loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reliability {
    /// They come again until they arrive. In order.
    Reliable,
    /// They come again this many times. In any order, so that none waits for one that is lost.
    Unreliable {
        /// How often. There is no limit in time: with one, messages were lost that had time left (seen once, and not again in
        /// virtual time: `bare_traps`).
        retransmits: u16,
    },
}

/// How a channel is to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ChannelOptions {
    /// What both sides call it. Not necessarily unique. 1 to [`MAX_CHANNEL_NAME_BYTES`].
    pub name: String,
    /// What becomes of messages that the network loses.
    pub reliability: Reliability,
}

impl ChannelOptions {
    /// A channel whose messages arrive, in order.
    pub fn reliable(name: impl Into<String>) -> Self {
        Self { name: name.into(), reliability: Reliability::Reliable }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.name.len() {
            1..=MAX_CHANNEL_NAME_BYTES => Ok(()),
            len => Err(Error::ChannelName { len }),
        }
    }

    /// A channel whose messages are given up after this many repetitions, and come in any order.
    pub fn unreliable(name: impl Into<String>, retransmits: u16) -> Self {
        Self { name: name.into(), reliability: Reliability::Unreliable { retransmits } }
    }
}

/// A message on a channel.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl Message {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Shows kind and length only.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// More than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {len} bytes is too long: at most {MAX_MESSAGE_BYTES}; send it in parts")]
    TooLong {
        /// Bytes in the message.
        len: usize,
    },
    /// The channel or its connection has ended.
    #[error("the channel is closed")]
    Closed,
    /// What was sent before has not left yet.
    #[error("the channel's send buffer is full: send again later, or wait with `send`")]
    Full,
}

/// A channel that is open. Dropping it, and every [`ChannelSender`] of it, closes it, once what was sent has left.
pub struct Channel {
    sender: ChannelSender,
    incoming: mpsc::Receiver<Message>,
}

/// The sending half of a [`Channel`]. Clones are of the same channel.
#[derive(Clone)]
pub struct ChannelSender {
    name: Arc<str>,
    reliable: bool,
    signaling: bool,
    outgoing: mpsc::Sender<Message>,
}

impl Channel {
    /// What both sides call it.
    pub fn name(&self) -> &str {
        &self.sender.name
    }

    /// Whether messages that the network loses come again until they arrive, in order. How often others come again is known
    /// to the side that opened the channel only.
    pub fn is_reliable(&self) -> bool {
        self.sender.reliable
    }

    /// Whether it is the one that every connection has from the start, which no app can open.
    pub fn is_signaling(&self) -> bool {
        self.sender.signaling
    }

    /// Two ends of one channel without any connection between them, for tests.
    ///
    /// # Errors
    /// [`Error::ChannelName`].
    pub fn pair(options: ChannelOptions) -> Result<(Self, Self), Error> {
        options.check()?;
        let reliable = options.reliability == Reliability::Reliable;
        let name: Arc<str> = options.name.into();
        let ((to_b, at_b), (to_a, at_a)) = (mpsc::channel(IN), mpsc::channel(IN));
        let end = |outgoing, incoming| Self {
            sender: ChannelSender { name: name.clone(), reliable, signaling: false, outgoing },
            incoming,
        };
        Ok((end(to_b, at_a), end(to_a, at_b)))
    }

    /// A handle that sends on this channel, for another task.
    pub fn sender(&self) -> ChannelSender {
        self.sender.clone()
    }

    /// See [`ChannelSender::send`].
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, message: Message) -> Result<(), SendError> {
        self.sender.send(message).await
    }

    /// See [`ChannelSender::try_send`].
    ///
    /// # Errors
    /// [`SendError`].
    pub fn try_send(&self, message: Message) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// The next message; `None` once the channel has ended. Cancel safe.
    ///
    /// While nobody reads, the peer can send about 600 messages more, and then has to wait.
    pub async fn recv(&mut self) -> Option<Message> {
        self.incoming.recv().await
    }
}

impl ChannelSender {
    /// Sends a message, waiting for room in the send buffer (256 KiB and 16 messages).
    ///
    /// # Errors
    /// [`SendError::TooLong`], [`SendError::Closed`].
    pub async fn send(&self, message: Message) -> Result<(), SendError> {
        check(&message)?;
        self.outgoing.send(message).await.map_err(|_| SendError::Closed)
    }

    /// Sends a message if there is room for it.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn try_send(&self, message: Message) -> Result<(), SendError> {
        check(&message)?;
        self.outgoing.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }
}

impl fmt::Debug for ChannelSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSender").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.sender.name).finish_non_exhaustive()
    }
}

fn check(message: &Message) -> Result<(), SendError> {
    match message.len() {
        len if len > MAX_MESSAGE_BYTES => Err(SendError::TooLong { len }),
        _ => Ok(()),
    }
}

/// What an engine's channel does.
#[derive(Debug)]
pub(crate) enum RawEvent {
    Open,
    Message(Message),
    Closed,
}

/// A channel of the engine.
#[async_trait]
pub(crate) trait RawChannel: Send + Sync + fmt::Debug + 'static {
    fn is_signaling(&self) -> bool;
    /// Name, and whether it is reliable. Known once it is open, also where the peer has opened it.
    async fn about(&self) -> Option<(String, bool)>;
    async fn next(&self) -> Option<RawEvent>;
    /// Waits for room. `false` once closed.
    async fn send(&self, message: Message) -> bool;
    /// Waits until what was sent has arrived, or nothing more does.
    async fn drain(&self);
    /// The same, and closes.
    async fn close(&self);
}

/// Moves messages between the engine's channel and ours, which it hands out once the channel is open, until either ends, or
/// until it is told that the connection will: then what was sent still leaves, and nothing more is taken.
pub(crate) async fn carry(
    raw: Arc<dyn RawChannel>,
    outbox: Outbox,
    _place: Place,
    ending: Option<oneshot::Receiver<Infallible>>,
) {
    let ending = async {
        match ending {
            // Dropped.
            Some(ending) => drop(ending.await),
            None => std::future::pending().await,
        }
    };
    tokio::pin!(ending);
    loop {
        let event = tokio::select! {
            event = raw.next() => event,
            () = &mut ending => return,
        };
        match event {
            Some(RawEvent::Open) => break,
            Some(RawEvent::Message(_)) => tracing::debug!("a message on a channel that is not open"),
            Some(RawEvent::Closed) | None => return,
        }
    }
    let about = raw.about().await.filter(|(name, _)| name.len() <= MAX_CHANNEL_NAME_BYTES);
    let Some((name, reliable)) = about else {
        tracing::debug!("a channel of the peer with too long a name is refused");
        return close(&*raw).await;
    };
    let (outgoing, mut sent) = mpsc::channel(OUT);
    let (received, incoming) = mpsc::channel(IN);
    let sender = ChannelSender { name: name.into(), reliable, signaling: raw.is_signaling(), outgoing };
    outbox.put(Signal::Channel(Channel { sender, incoming }));
    let write = async {
        let mut ends = false;
        loop {
            let message = tokio::select! {
                biased;
                () = &mut ending, if !ends => {
                    sent.close();
                    ends = true;
                    continue;
                }
                message = sent.recv() => message,
            };
            let Some(message) = message else { return ends };
            if !raw.send(message).await {
                return ends;
            }
        }
    };
    let read = async {
        while let Some(event) = raw.next().await {
            match event {
                RawEvent::Message(message) if message.len() > MAX_MESSAGE_BYTES => {
                    tracing::debug!(
                        len = message.len(),
                        "a message of the peer is too long, the channel is closed"
                    );
                    break;
                }
                // Nobody may be reading any more, but somebody may still be sending.
                RawEvent::Message(message) => drop(received.send(message).await),
                RawEvent::Closed => break,
                RawEvent::Open => {}
            }
        }
        false
    };
    let ends = tokio::select! {
        ends = write => ends,
        ends = read => ends,
    };
    if ends {
        return raw.drain().await;
    }
    // In this order: whoever sees the end cannot send any more.
    drop(sent);
    drop(received);
    close(&*raw).await;
}

async fn close(raw: &dyn RawChannel) {
    raw.close().await;
    let closed = async { while !matches!(raw.next().await, Some(RawEvent::Closed) | None) {} };
    if time::timeout(CLOSING, closed).await.is_err() {
        tracing::debug!("the peer did not confirm the end of a channel");
    }
}
