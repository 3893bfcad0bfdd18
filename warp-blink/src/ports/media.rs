//! The media port: links to other peers, microphone and speaker.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use host_media::{Processing, SinkSpec, SourceSpec};
use simple_webrtc::{Channel, ChannelOptions, IceServer};
use tokio::sync::mpsc;

use crate::{
    event::ChannelId,
    id::{CallId, PublicKey},
    proto::{LinkCommand, LinkId, MediaInput, signal::MediaFormat},
};

/// Something to do with links or devices.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MediaCommand {
    /// Something about a link.
    Link {
        /// Which.
        link: LinkId,
        /// What.
        command: LinkCommand,
    },
    /// Send this on the signaling channel of a link, or fail: nothing waits for a link that takes nothing.
    Signal {
        /// Which.
        link: LinkId,
        /// What, sealed.
        frame: Bytes,
    },
    /// Open a data channel to a participant. [`MediaInput::Channel`] follows when it is open.
    OpenChannel {
        /// Over which link.
        link: LinkId,
        /// How it is to be.
        options: ChannelOptions,
    },
    /// Keep so many connections ready to be offered, and no more.
    Prepare {
        /// How many.
        connections: usize,
    },
    /// Use these STUN and TURN servers from now on, in place of those before.
    SetIceServers(Vec<IceServer>),
    /// The same servers with new credentials: for links that begin or restart from now on.
    RenewIceServers(Vec<IceServer>),
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
    /// Something about the sound.
    Sound(SoundCommand),
}

/// Something to do with sound. What is set holds for later calls too.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SoundCommand {
    /// Take sound from here.
    Microphone(SourceSpec),
    /// Play sound here.
    Speaker(SinkSpec),
    /// Process what the microphone takes like this.
    Processing(Processing),
    /// Send silence while the user does not speak.
    Automute(bool),
    /// Record a call. [`MediaInput::Recording`] follows when it runs, and when it ends.
    Record {
        /// Which; its devices are open.
        call: CallId,
        /// Where.
        folder: PathBuf,
    },
    /// End the recording of a call.
    StopRecording {
        /// Which.
        call: CallId,
    },
    /// Play a sound file into a call. [`MediaInput::Played`] follows at its end.
    Play {
        /// Which; its devices are open.
        call: CallId,
        /// What.
        file: PathBuf,
    },
    /// Play it no further.
    StopPlaying {
        /// Into which call.
        call: CallId,
    },
}

/// What links and devices tell, in order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MediaEvent {
    /// Something for the machine.
    Input(MediaInput),
    /// Something came over the signaling channel of a link. After [`MediaInput::Secured`].
    Signal {
        /// Which.
        link: LinkId,
        /// What, sealed.
        frame: Bytes,
    },
}

impl From<MediaInput> for MediaEvent {
    fn from(input: MediaInput) -> Self {
        Self::Input(input)
    }
}

/// Why a command was not carried out: one line for the log and for the failed step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// What went wrong, in words.
    #[error("{0}")]
    Failed(String),
    /// The file would be microphone and speaker at once.
    #[error("{} cannot be both microphone and speaker", file.display())]
    SameFile {
        /// Which.
        file: PathBuf,
    },
    /// So many commands wait that there is no place for this one.
    #[error("too many commands wait for the sound devices")]
    Busy,
}

/// Links and devices. Commands come one after the other, in the machine's order; those about sound
/// ([`MediaCommand::Sound`]) beside them: those that open or list devices and files one after the other as well, and those that
/// end something or set processing beside these.
#[async_trait]
pub trait Media: Send + Sync + 'static {
    /// What happens to links and devices. `None` after the first time: there is one reader.
    fn take_events(&self) -> Option<mpsc::Receiver<MediaEvent>>;

    /// Carries a command out, or starts to: what takes long reports itself as an event.
    ///
    /// # Errors
    /// [`MediaError`] if it cannot even be started.
    async fn execute(&self, command: MediaCommand) -> Result<(), MediaError>;

    /// Gives a channel that was told of, once. One that nobody asks for is closed with its link at the latest.
    fn take_channel(&self, channel: ChannelId) -> Option<Channel>;

    /// Closes every link and device, and waits until nothing of them is left.
    async fn shutdown(&self);
}
