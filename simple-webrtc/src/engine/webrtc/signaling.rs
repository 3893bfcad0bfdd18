//! The signaling channel, in use before anything can arrive on it.
//!
//! Both sides know of it without a word, so either may speak as soon as its own end is up. The engine puts a channel in use
//! when it handles the event that its association is up, and throws away what the association hands out before that: what
//! is read in one go with the end of the SCTP handshake, and what came while that was lost and had to be sent again. The
//! association has acknowledged all of it (`docs/upstream/`).
//!
//! That can happen to the side that begins the DTLS handshake, which begins that of SCTP, too: the other one may speak with
//! its last word of the handshake. Here a channel can be had that is in use at once: one that is made while the association
//! shakes hands. So the one that is made before the first description, for the description to tell of it, is replaced by
//! another one on the same stream, after the first datagram of SCTP was worked off and before the next one is read.
//!
//! The other side is up before its peer is, and between two of us nothing comes before that. It is left to the engine: each
//! repetition of the peer's first word makes one more association there, so that nobody knows which one will be used.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use rtc::data_channel::RTCDataChannelState;
use rtc::peer_connection::transport::{RTCDtlsTransportState, RTCSctpTransportState};
use tokio::sync::mpsc::{self, Receiver, Sender};
use webrtc::data_channel::{DataChannel, RTCDataChannelInit};
use webrtc::peer_connection::PeerConnection;
use webrtc::peer_connection::transport::SctpTransport;

use super::channel::WebrtcChannel;
use super::pace::Pace;
use super::role::Role;
use crate::channel::{Message, RawChannel, RawEvent};

/// The stream of the channel that every connection has. 1000: the streams from 0 on are for channels that either side
/// announces (RFC 8832 section 6), and browsers stop at 1023.
const STREAM: u16 = 1000;
const NAME: &str = "signaling";
/// What is told of it: that it was replaced, once, and that it is open, once.
const WORDS: usize = 2;

/// What the sockets of a connection and its signaling channel have to do with each other.
#[derive(Default)]
pub(super) struct Early {
    now: Mutex<Now>,
    wanted: OnceLock<Wanted>,
}

#[derive(Debug, Default)]
struct Now {
    stage: Stage,
    /// The engine was given something of SCTP, and has not worked it off.
    arrived: bool,
    /// Somebody is looking at what came of it.
    looking: bool,
    /// There is more to look at.
    again: bool,
    /// Who waits to give the engine the next datagram.
    readers: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    /// What arrives is kept. The association may still be shaking hands, and takes nothing until it is done.
    InUse,
    Done,
}

/// Holds nothing of the engine: it is held by the engine's own sockets.
struct Wanted {
    role: Arc<Role>,
    engine: Weak<dyn PeerConnection>,
    present: Mutex<Weak<dyn DataChannel>>,
    told: Sender<Told>,
}

enum Told {
    /// This channel has the stream now. Whether it is in use, so that it says no word of that itself.
    Replaced { channel: Arc<dyn DataChannel>, in_use: bool },
    /// Messages leave from now on.
    Open,
}

impl Early {
    /// A datagram that may be of SCTP was handed to the engine.
    pub(super) fn arrived(&self) {
        let mut now = self.now();
        now.arrived |= self.wanted.get().is_some() && now.stage != Stage::Done;
    }

    /// The engine has worked off what it was given.
    pub(super) fn settled(self: &Arc<Self>) {
        let mut now = self.now();
        if !std::mem::take(&mut now.arrived) {
            return;
        }
        now.again = true;
        if !std::mem::replace(&mut now.looking, true) {
            let looking = Looking(self.clone());
            tokio::spawn(async move { looking.run().await });
        }
    }

    /// Ready when the engine may be given the next datagram.
    pub(super) fn poll_read(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut now = self.now();
        if now.stage == Stage::Waiting && (now.arrived || now.looking) {
            now.readers.push(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Early").field("now", &*self.now()).finish_non_exhaustive()
    }
}

/// However it ends, reading goes on.
struct Looking(Arc<Early>);

impl Looking {
    async fn run(self) {
        while std::mem::take(&mut self.0.now().again) {
            let stage = self.0.now().stage;
            // Without a connection or a channel there is nothing left to do.
            let stage = self.next(stage).await.unwrap_or(Stage::Done);
            self.0.now().stage = stage;
            if stage == Stage::Done {
                break;
            }
        }
    }

    async fn next(&self, stage: Stage) -> Option<Stage> {
        let wanted = self.0.wanted.get()?;
        let engine = wanted.engine.upgrade()?;
        let transport = engine.sctp().await?;
        let stage = match stage {
            Stage::Waiting => self.replace(wanted, &engine, &*transport).await?,
            other => other,
        };
        if stage == Stage::InUse && transport.state().await.ok()? == RTCSctpTransportState::Connected {
            let _ = wanted.told.try_send(Told::Open);
            return Some(Stage::Done);
        }
        Some(stage)
    }

    async fn replace(
        &self,
        wanted: &Wanted,
        engine: &Arc<dyn PeerConnection>,
        transport: &dyn SctpTransport,
    ) -> Option<Stage> {
        if !wanted.role.is_active() {
            return Some(Stage::Done);
        }
        let present = wanted.present().upgrade()?;
        if present.ready_state().await.ok()? != RTCDataChannelState::Connecting {
            return Some(Stage::Done);
        }
        // Before, it can be nothing of SCTP, whoever sent it.
        if transport.transport().state().await.ok()? != RTCDtlsTransportState::Connected {
            return Some(Stage::Waiting);
        }
        let channel = create(engine).await.ok()?;
        // It never was in use, so the peer hears nothing of this.
        present.close().await.ok()?;
        let in_use = channel.ready_state().await.ok()? == RTCDataChannelState::Open;
        *wanted.present() = Arc::downgrade(&channel);
        // If nobody listens any more, the channel goes with it.
        let _ = wanted.told.try_send(Told::Replaced { channel, in_use });
        Some(if in_use { Stage::InUse } else { Stage::Done })
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        let readers = {
            let mut now = self.0.now();
            now.looking = false;
            std::mem::take(&mut now.readers)
        };
        readers.into_iter().for_each(Waker::wake);
    }
}

impl Wanted {
    fn present(&self) -> MutexGuard<'_, Weak<dyn DataChannel>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn create(engine: &Arc<dyn PeerConnection>) -> Result<Arc<dyn DataChannel>, webrtc::error::Error> {
    let init = RTCDataChannelInit { negotiated: Some(STREAM), ..Default::default() };
    engine.create_data_channel(NAME, Some(init)).await
}

/// The signaling channel of one connection.
pub(super) struct Signaling {
    pace: Arc<Pace>,
    opening: tokio::sync::Mutex<Unopened>,
    open: OnceLock<WebrtcChannel>,
}

struct Unopened {
    channel: Arc<dyn DataChannel>,
    in_use: bool,
    told: Receiver<Told>,
}

impl Signaling {
    pub(super) async fn open(
        engine: &Arc<dyn PeerConnection>,
        pace: Arc<Pace>,
        early: &Early,
        role: Arc<Role>,
    ) -> Result<Self, webrtc::error::Error> {
        let channel = create(engine).await?;
        let (telling, told) = mpsc::channel(WORDS);
        let present = Mutex::new(Arc::downgrade(&channel));
        // There is one in each connection.
        let engine = Arc::downgrade(engine);
        if pace.is_on() {
            let _ = early.wanted.set(Wanted { role, engine, present, told: telling });
        }
        pace.turn();
        let opening = tokio::sync::Mutex::new(Unopened { channel, in_use: false, told });
        Ok(Self { pace, opening, open: OnceLock::new() })
    }
}

#[async_trait]
impl RawChannel for Signaling {
    fn is_signaling(&self) -> bool {
        true
    }

    async fn about(&self) -> Option<(String, bool)> {
        self.open.get()?.about().await
    }

    async fn next(&self) -> Option<RawEvent> {
        if let Some(open) = self.open.get() {
            return open.next().await;
        }
        let mut opening = self.opening.lock().await;
        let Unopened { channel, in_use, told } = &mut *opening;
        let event = loop {
            tokio::select! {
                biased;
                Some(told) = told.recv() => match told {
                    Told::Replaced { channel: other, in_use: already } => (*channel, *in_use) = (other, already),
                    Told::Open => break RawEvent::Open,
                },
                // One that is in use has messages only, and keeps them.
                event = WebrtcChannel::event(&**channel), if !*in_use => break event?,
                else => return None,
            }
        };
        if let RawEvent::Open = event {
            let _ = self.open.set(WebrtcChannel::new(channel.clone(), self.pace.clone()));
        }
        Some(event)
    }

    async fn send(&self, message: Message) -> bool {
        match self.open.get() {
            Some(open) => open.send(message).await,
            None => false,
        }
    }

    async fn drain(&self) {
        if let Some(open) = self.open.get() {
            open.drain().await;
        }
    }

    async fn close(&self) {
        match self.open.get() {
            Some(open) => open.close().await,
            None => {
                if let Err(error) = self.opening.lock().await.channel.close().await {
                    tracing::trace!(%error, "closing a channel");
                }
            }
        }
    }
}

impl fmt::Debug for Signaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signaling").field("open", &self.open).finish_non_exhaustive()
    }
}
