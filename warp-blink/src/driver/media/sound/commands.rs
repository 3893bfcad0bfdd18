//! What an app asks of the sound, during a call and between calls.

use std::{path::Path, sync::Arc};

use host_media::{Controls, PlaySpec, RecordSpec, SinkSpec, SourceSpec};

use super::{Sound, lock};
use crate::{
    driver::media::{Audio, audio::apart},
    error::Error,
    id::CallId,
    ports::media::{MediaError, SoundCommand},
};

impl Sound {
    /// Carries a command out.
    pub(in super::super) async fn execute(self: Arc<Self>, command: SoundCommand) -> Result<(), MediaError> {
        // Files and lists of devices take a while.
        let done = tokio::task::spawn_blocking(move || self.carry_out(command));
        done.await.map_err(|e| MediaError::Failed(e.to_string()))?
    }

    /// Files are opened and devices listed before the lock is taken: whoever hangs up or mutes waits for that.
    pub(super) fn carry_out(&self, command: SoundCommand) -> Result<(), MediaError> {
        match command {
            SoundCommand::Microphone(source) => {
                let sink = lock(&self.state).audio.sink.clone();
                apart(&source, &sink).map_err(refusal)?;
                Audio::new(source.clone(), SinkSpec::Null).check().map_err(refusal)?;
                lock(&self.state).set_source(source);
            }
            SoundCommand::Speaker(sink) => {
                let source = lock(&self.state).audio.source.clone();
                apart(&source, &sink).map_err(refusal)?;
                Audio::new(SourceSpec::Silence, sink.clone()).check().map_err(refusal)?;
                lock(&self.state).set_sink(sink);
            }
            SoundCommand::Processing(processing) => {
                let mut state = lock(&self.state);
                state.audio.processing = Some(processing);
                if let Some(engine) = state.engine() {
                    engine.set_processing(processing);
                }
            }
            SoundCommand::Automute(on) => {
                let mut state = lock(&self.state);
                state.audio.automute = on;
                if let Some(engine) = state.engine() {
                    engine.set_automute(on);
                }
            }
            SoundCommand::Record { call, folder } => {
                return self.with_engine(call, |engine| (self.recorder)(engine, &folder));
            }
            SoundCommand::StopRecording { call } => {
                // One that is being begun sees this when it has begun, or is there to be stopped.
                let begins = lock(&self.state).end_recording(call);
                return self.with_engine(call, |engine| match engine.stop_recording() || begins {
                    true => Ok(()),
                    false => Err("this call is not recorded".to_owned()),
                });
            }
            SoundCommand::Play { call, file } => {
                let spec = PlaySpec::new(file);
                return self.with_engine(call, |engine| engine.play(&spec).map_err(|e| e.to_string()));
            }
            SoundCommand::StopPlaying { call } => {
                return self.with_engine(call, |engine| match engine.stop_playing() {
                    true => Ok(()),
                    false => Err("no file is played".to_owned()),
                });
            }
        }
        Ok(())
    }

    /// Does something with the engine of a call, outside of the lock: its callbacks take that too.
    fn with_engine(
        &self,
        call: CallId,
        work: impl FnOnce(&Controls) -> Result<(), String>,
    ) -> Result<(), MediaError> {
        let controls = lock(&self.state).engine_of(call).map(|engine| engine.controls());
        let closed = || {
            MediaError::Failed(
                "the devices of this call are not open: it is not accepted, or held".to_owned(),
            )
        };
        work(&controls.ok_or_else(closed)?).map_err(MediaError::Failed)
    }
}

fn refusal(error: Error) -> MediaError {
    match error {
        Error::SameFile { file } => MediaError::SameFile { file },
        other => MediaError::Failed(other.to_string()),
    }
}

/// Begins to record into a folder.
pub(super) fn record(engine: &Controls, folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: cannot be made: {e}", folder.display()))?;
    engine.record(&RecordSpec::new(folder).labels("me", "mix")).map(drop).map_err(|e| e.to_string())
}
