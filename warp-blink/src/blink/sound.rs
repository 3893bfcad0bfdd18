//! What an app asks of microphone, speaker and recordings.

use std::path::PathBuf;

use host_media::{Processing, SinkSpec, SourceSpec};

use super::Blink;
use crate::{
    error::Error,
    id::{CallId, PublicKey},
    ports::media::{MediaCommand, SoundCommand},
};

/// Sound. What is set holds for the running call and for later ones.
///
/// These commands are carried out one after the other, and nothing else waits for them: lists of devices and files take up to
/// seconds. When 16 wait, further ones are refused with [`Error::Busy`].
impl Blink {
    /// Takes sound from here from now on. During a call the microphone before stays in use until this one runs;
    /// [`Event::Device`](crate::Event::Device) tells which one is used. Mute is not touched.
    ///
    /// # Errors
    /// [`Error::Media`] if there is no such device or file, [`Error::SameFile`] for a file that is the speaker, [`Error::Busy`],
    /// [`Error::Closed`]. One that turns out not to work during a call is
    /// [`Warning::DeviceRefused`](crate::event::Warning::DeviceRefused).
    pub async fn set_microphone(&self, source: SourceSpec) -> Result<(), Error> {
        self.sound(SoundCommand::Microphone(source)).await
    }

    /// Plays sound here from now on, likewise. A file is written anew.
    ///
    /// # Errors
    /// As [`set_microphone`](Self::set_microphone); [`Error::SameFile`] for a file that is the microphone, by whatever name.
    pub async fn set_speaker(&self, sink: SinkSpec) -> Result<(), Error> {
        self.sound(SoundCommand::Speaker(sink)).await
    }

    /// Switches echo cancellation, noise suppression, gain control and high-pass filter, also in the midst of a call.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Closed`].
    pub async fn set_processing(&self, processing: Processing) -> Result<(), Error> {
        self.sound(SoundCommand::Processing(processing)).await
    }

    /// Sends silence while the user does not speak, or stops to. Nobody is told, other than of
    /// [`set_muted`](Self::set_muted).
    ///
    /// # Errors
    /// As [`set_processing`](Self::set_processing).
    pub async fn set_automute(&self, on: bool) -> Result<(), Error> {
        self.sound(SoundCommand::Automute(on)).await
    }

    /// Makes a participant louder or softer: a factor of 0 to 4 (what is beyond is clamped), 1 is unchanged. Kept for
    /// later calls with the same key.
    ///
    /// # Errors
    /// As [`set_processing`](Self::set_processing).
    pub async fn set_gain(&self, peer: PublicKey, gain: f32) -> Result<(), Error> {
        self.media(MediaCommand::SetGain { peer, gain }).await
    }

    /// Records a call into this folder, which is made if it is missing: Ogg Opus files (RFC 7845) of what this side says, of what
    /// each of the others says, and of all together, which play in step. They are named after the time in UTC, and after `me`,
    /// `mix` or the key of who speaks. [`Event::Recording`](crate::Event::Recording) tells the files. The others are told that the call is recorded: their apps have it in
    /// [`ParticipantState::recording`](crate::event::ParticipantState::recording).
    ///
    /// It ends with the devices of the call, so also when it is held. Recording again makes new files, and has another number.
    ///
    /// # Errors
    /// [`Error::Media`] if the folder cannot be written, or the call has no open devices (it is not accepted, or held), or is
    /// recorded already; [`Error::Closed`]. What goes wrong later ends the recording and not the call.
    pub async fn record(&self, call: CallId, folder: impl Into<PathBuf>) -> Result<(), Error> {
        let call = self.ledger.resolve(call);
        self.sound(SoundCommand::Record { call, folder: folder.into() }).await
    }

    /// Ends a recording. Its files are complete when [`Event::Recording`](crate::Event::Recording) says that it does not run; another
    /// one can be begun at once. One that has not begun so far, because its disk or what was asked before is slow, does not begin.
    ///
    /// # Errors
    /// [`Error::Media`] if the call is not recorded, [`Error::Closed`].
    pub async fn stop_recording(&self, call: CallId) -> Result<(), Error> {
        let call = self.ledger.resolve(call);
        self.sound(SoundCommand::StopRecording { call }).await
    }

    /// Plays a WAV or Ogg Opus file into a call, beside the own voice, and also while muted. A file that is being played makes place for this
    /// one. [`Event::Played`](crate::Event::Played) tells its end.
    ///
    /// # Errors
    /// [`Error::Media`] if it cannot be read, or the call has no open devices; [`Error::Closed`].
    pub async fn play(&self, call: CallId, file: impl Into<PathBuf>) -> Result<(), Error> {
        let call = self.ledger.resolve(call);
        self.sound(SoundCommand::Play { call, file: file.into() }).await
    }

    /// Stops to play a file, also one that has not begun so far.
    ///
    /// # Errors
    /// [`Error::Media`] if none is played, [`Error::Closed`].
    pub async fn stop_playing(&self, call: CallId) -> Result<(), Error> {
        let call = self.ledger.resolve(call);
        self.sound(SoundCommand::StopPlaying { call }).await
    }

    async fn sound(&self, command: SoundCommand) -> Result<(), Error> {
        self.media(MediaCommand::Sound(command)).await
    }
}
