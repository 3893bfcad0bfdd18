//! The media port: links to other peers, microphone and speaker.

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{
    id::{CallId, PublicKey},
    proto::{LinkCommand, LinkId, MediaInput, signal::MediaFormat},
};

/// Something to do with links or devices.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MediaCommand {
    /// Something about a link.
    Link {
        /// Which.
        link: LinkId,
        /// What.
        command: LinkCommand,
    },
    /// Open microphone and speaker. [`MediaInput::Started`] follows when they run.
    OpenAudio {
        /// For which call.
        call: CallId,
        /// In which format.
        format: MediaFormat,
    },
    /// Close microphone and speaker.
    CloseAudio {
        /// For which call.
        call: CallId,
    },
    /// Send silence, or stop to. Holds for later calls too.
    SetMuted(bool),
    /// Play nothing, or stop to. Holds for later calls too.
    SetDeafened(bool),
    /// How loud a participant is, as a factor; 1 is unchanged. Kept over reconnects.
    SetGain {
        /// Who.
        peer: PublicKey,
        /// The factor, 0 to 4.
        gain: f32,
    },
}

/// Why a command was not carried out: one line for the log and for the failed step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MediaError(pub String);

/// Links and devices. Commands come one after the other, in the machine's order.
#[async_trait]
pub trait Media: Send + Sync + 'static {
    /// What happens to links and devices. `None` after the first time: there is one reader.
    fn take_events(&self) -> Option<mpsc::Receiver<MediaInput>>;

    /// Carries a command out, or starts to: what takes long reports itself as an event.
    ///
    /// # Errors
    /// [`MediaError`] if it cannot even be started.
    async fn execute(&self, command: MediaCommand) -> Result<(), MediaError>;

    /// Closes every link and device, and waits until nothing of them is left.
    async fn shutdown(&self);
}
