//! Real links to one who is measured, and links in memory among those who talk to it: what they send each other would take a core of
//! its own, and nobody looks at it.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;
use warp_blink::{
    Outside, PublicKey,
    channel::Channel,
    driver::memory_media::{MemoryLinks, MemoryMedia},
    event::ChannelId,
    ports::media::{Media, MediaCommand, MediaError, MediaEvent},
    proto::MediaInput,
};

/// Events that may wait, as for either kind of link alone.
const MAX_EVENTS: usize = 1024;

/// Connections that are worth to be prepared: there is one.
const REAL: usize = 1;

struct Mixed {
    real: Arc<dyn Media>,
    memory: MemoryMedia,
    full: PublicKey,
    events: Mutex<Option<mpsc::Receiver<MediaEvent>>>,
}

/// These ports with real links to that one only.
pub(crate) fn mix(ports: Outside, full: PublicKey, links: &MemoryLinks) -> Outside {
    let (real, memory) = (ports.media, links.endpoint());
    let (sender, events) = mpsc::channel(MAX_EVENTS);
    // Both end with the links that they read.
    for (mut from, all) in [(real.take_events(), true), (memory.take_events(), false)]
        .into_iter()
        .filter_map(|(from, all)| Some((from?, all)))
    {
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(event) = from.recv().await {
                // The devices are those of the real links.
                let of_devices = matches!(
                    event,
                    MediaEvent::Input(MediaInput::Started { .. } | MediaInput::Recording { .. })
                );
                if (all || !of_devices) && sender.send(event).await.is_err() {
                    return;
                }
            }
        });
    }
    let media = Arc::new(Mixed { real, memory, full, events: Mutex::new(Some(events)) });
    Outside { media, ..ports }
}

impl Mixed {
    fn of(&self, peer: &PublicKey) -> &dyn Media {
        if *peer == self.full { &*self.real } else { &self.memory }
    }
}

#[async_trait]
impl Media for Mixed {
    fn take_events(&self) -> Option<mpsc::Receiver<MediaEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn execute(&self, command: MediaCommand) -> Result<(), MediaError> {
        match &command {
            MediaCommand::Link { link, .. }
            | MediaCommand::Signal { link, .. }
            | MediaCommand::OpenChannel { link, .. } => self.of(&link.peer).execute(command).await,
            MediaCommand::OpenAudio { .. } | MediaCommand::CloseAudio { .. } => {
                self.memory.execute(command.clone()).await?;
                self.real.execute(command).await
            }
            MediaCommand::Prepare { connections } => {
                let connections = REAL.min(*connections);
                self.real.execute(MediaCommand::Prepare { connections }).await
            }
            _ => self.real.execute(command).await,
        }
    }

    fn take_channel(&self, channel: ChannelId) -> Option<Channel> {
        self.real.take_channel(channel).or_else(|| self.memory.take_channel(channel))
    }

    async fn shutdown(&self) {
        tokio::join!(self.real.shutdown(), self.memory.shutdown());
    }
}
