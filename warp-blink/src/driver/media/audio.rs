//! Which microphone and which speaker, and what is done with the sound.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use host_media::{Direction, Engine, Processing, SinkSpec, SourceSpec};

use crate::error::Error;

/// Where sound comes from and where it goes.
#[derive(Clone, Debug)]
pub struct Audio {
    pub(crate) source: SourceSpec,
    pub(crate) sink: SinkSpec,
    pub(crate) processing: Option<Processing>,
    pub(crate) automute: bool,
    pub(crate) record: Option<PathBuf>,
}

impl Audio {
    /// The system's default microphone and speaker. A missing one is a [`Warning`](crate::event::Warning), and the
    /// call goes on without it.
    pub fn devices() -> Self {
        Self::new(SourceSpec::Default, SinkSpec::Default)
    }

    /// No devices: silence is sent, nothing is played.
    pub fn silent() -> Self {
        Self::new(SourceSpec::Silence, SinkSpec::Null)
    }

    /// This source and this sink.
    pub fn new(source: SourceSpec, sink: SinkSpec) -> Self {
        Self { source, sink, processing: None, automute: false, record: None }
    }

    /// Which of echo cancellation, noise suppression, gain control and high-pass filter are used. Default: all for a
    /// microphone, and none for a file, a tone or memory, which are sent as they are.
    #[must_use]
    pub fn processing(mut self, processing: Processing) -> Self {
        self.processing = Some(processing);
        self
    }

    /// Sends silence while the user does not speak. Default: off, since a listener who hears nothing at all wonders whether
    /// the call is still there.
    #[must_use]
    pub fn automute(mut self, on: bool) -> Self {
        self.automute = on;
        self
    }

    /// Records every call into this folder, from when its sound begins: see [`Blink::record`](crate::Blink::record).
    #[must_use]
    pub fn record(mut self, folder: impl Into<PathBuf>) -> Self {
        self.record = Some(folder.into());
        self
    }

    /// Finds out, before any call, whether what was named exists. Opens files, but no device: a microphone is open
    /// during calls only. May take some seconds.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(folder) = &self.record {
            std::fs::create_dir_all(folder)
                .map_err(|e| Error::Media(format!("{}: cannot be made: {e}", folder.display())))?;
        }
        match &self.source {
            SourceSpec::Device(id) => known(id, Direction::Microphone)?,
            SourceSpec::Default => {}
            source => Engine::builder()
                .source(source.clone())
                .sink(SinkSpec::Null)
                .build(Instant::now(), SystemTime::now())
                .map(drop)
                .map_err(|e| Error::Media(e.to_string()))?,
        }
        match (&self.source, &self.sink) {
            (SourceSpec::Wav(source), SinkSpec::Wav(sink, _)) if same_file(source, sink) => {
                Err(Error::Media(format!(
                    "{} cannot be both microphone and speaker: name another file",
                    sink.display()
                )))
            }
            (_, SinkSpec::Wav(path, _)) => writable(path),
            (_, SinkSpec::Device(id)) => known(id, Direction::Speaker),
            _ => Ok(()),
        }
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Whether the file can be written. What it holds stays until a call writes it.
fn writable(path: &Path) -> Result<(), Error> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    open.map(drop).map_err(|e| Error::Media(format!("{}: cannot be written: {e}", path.display())))
}

fn known(id: &str, direction: Direction) -> Result<(), Error> {
    let devices = host_media::devices().map_err(|e| Error::Media(e.to_string()))?;
    let there: Vec<_> = devices.iter().filter(|d| d.direction == direction).collect();
    if there.iter().any(|d| d.id == id) {
        return Ok(());
    }
    let available = there.into_iter().map(|d| d.id.clone()).collect();
    Err(Error::Media(host_media::Error::NoSuchDevice { direction, id: id.to_owned(), available }.to_string()))
}
