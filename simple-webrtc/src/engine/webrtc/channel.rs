use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::time::{self, Instant};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::peer_connection::PeerConnection;

use super::pace::Pace;
use crate::channel::{CLOSING, ChannelOptions, Message, RawChannel, RawEvent, Reliability};

/// How often to look whether what was sent has arrived, once a channel is to be closed. 20 ms: a tick of the media.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// A data channel of the engine. Whoever holds it holds the connection, so the engine's handler does not.
pub(super) struct WebrtcChannel {
    channel: Arc<dyn DataChannel>,
    pace: Arc<Pace>,
}

impl WebrtcChannel {
    pub(super) fn new(channel: Arc<dyn DataChannel>, pace: Arc<Pace>) -> Self {
        Self { channel, pace }
    }

    pub(super) async fn open(
        engine: &Arc<dyn PeerConnection>,
        pace: Arc<Pace>,
        options: &ChannelOptions,
    ) -> Result<Self, webrtc::error::Error> {
        let max_retransmits = match options.reliability {
            Reliability::Reliable => None,
            Reliability::Unreliable { retransmits } => Some(retransmits),
        };
        let ordered = max_retransmits.is_none();
        let init = RTCDataChannelInit { ordered, max_retransmits, ..Default::default() };
        let channel = engine.create_data_channel(&options.name, Some(init)).await?;
        pace.turn();
        Ok(Self { channel, pace })
    }

    pub(super) async fn event(channel: &dyn DataChannel) -> Option<RawEvent> {
        loop {
            return Some(match channel.poll().await? {
                DataChannelEvent::OnOpen => RawEvent::Open,
                DataChannelEvent::OnClose => RawEvent::Closed,
                DataChannelEvent::OnMessage(message) if message.is_string => {
                    // What is no text after all is kept as it is.
                    RawEvent::Message(match String::from_utf8(message.data.to_vec()) {
                        Ok(text) => Message::Text(text),
                        Err(_) => Message::Binary(message.data.freeze()),
                    })
                }
                DataChannelEvent::OnMessage(message) => {
                    RawEvent::Message(Message::Binary(message.data.freeze()))
                }
                _ => continue,
            });
        }
    }
}

#[async_trait]
impl RawChannel for WebrtcChannel {
    fn is_signaling(&self) -> bool {
        false
    }

    async fn about(&self) -> Option<(String, bool)> {
        let name = self.channel.label().await.ok()?;
        // The engine does not keep the retransmits of a channel that the peer has opened, but that it is not ordered.
        let reliable =
            self.channel.ordered().await.ok()? && self.channel.max_retransmits().await.ok()?.is_none();
        Some((name, reliable))
    }

    async fn next(&self) -> Option<RawEvent> {
        Self::event(&*self.channel).await
    }

    async fn send(&self, message: Message) -> bool {
        let sent = match message {
            Message::Text(text) => self.channel.send_text(&text).await,
            Message::Binary(bytes) => self.channel.send(to_mut(bytes)).await,
        };
        self.pace.input();
        if let Err(error) = &sent {
            tracing::trace!(%error, "a message was refused");
        }
        sent.is_ok()
    }

    async fn drain(&self) {
        let (mut left, mut since) = (usize::MAX, Instant::now());
        while let Ok(outstanding) = self.channel.outstanding_bytes().await
            && outstanding > 0
            && since.elapsed() < CLOSING
        {
            if outstanding < left {
                (left, since) = (outstanding, Instant::now());
            }
            time::sleep(DRAIN_CHECK).await;
        }
    }

    async fn close(&self) {
        // The engine forgets what has not left yet.
        self.drain().await;
        if let Err(error) = self.channel.close().await {
            tracing::trace!(%error, "closing a channel");
        }
        self.pace.input();
    }
}

fn to_mut(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

impl fmt::Debug for WebrtcChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebrtcChannel(..)")
    }
}
