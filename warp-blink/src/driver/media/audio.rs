//! Which microphone and which speaker, and what is done with the sound.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use host_media::{Direction, Engine, Processing, SinkSpec, SourceSpec};

use crate::error::Error;

/// Where sound comes from and where it goes.
#[derive(Clone, Debug)]
pub struct Audio {
    pub(crate) source: SourceSpec,
    pub(crate) sink: SinkSpec,
    pub(crate) processing: Option<Processing>,
    pub(crate) automute: bool,
    pub(crate) dtx: bool,
    pub(crate) record: Option<PathBuf>,
    pub(crate) clock_error: i32,
    pub(crate) script: Option<Arc<[Bytes]>>,
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
        Self {
            source,
            sink,
            processing: None,
            automute: false,
            dtx: false,
            record: None,
            clock_error: 0,
            script: None,
        }
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

    /// Leaves silence out (DTX, RFC 7587 section 3.1.3): two or three packets a second instead of fifty while the user says
    /// nothing, which saves about half the packets of a conversation. The others hear a soft noise meanwhile.
    ///
    /// Default: off, as RFC 7587 section 6.1 has it. What is encrypted still has a rhythm, and with this it shows
    /// everybody on the way who speaks when (RFC 6562 section 4 warns of that); nothing is known of the
    /// network while nothing is sent; and the first moments of a word have to be noticed before they are sent.
    #[must_use]
    pub fn dtx(mut self, on: bool) -> Self {
        self.dtx = on;
        self
    }

    /// Records every call into this folder, from when its sound begins: see [`Blink::record`](crate::Blink::record).
    #[must_use]
    pub fn record(mut self, folder: impl Into<PathBuf>) -> Self {
        self.record = Some(folder.into());
        self
    }

    /// For tests: the sound's clock is faster than the machine's by so many millionths, as on another machine; slower if negative.
    #[doc(hidden)]
    #[must_use]
    pub fn clock_error(mut self, ppm: i32) -> Self {
        self.clock_error = ppm;
        self
    }

    /// For measurements: these frames of 20 ms, which are Opus already, are sent again and again, and what comes is not even decoded.
    /// Nobody can mute, record or play anything.
    #[doc(hidden)]
    pub fn scripted(frames: impl Into<Arc<[Bytes]>>) -> Self {
        Self { script: Some(frames.into()), ..Self::silent() }
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
        apart(&self.source, &self.sink)?;
        match &self.sink {
            SinkSpec::Wav(path, _) => writable(path),
            SinkSpec::Device(id) => known(id, Direction::Speaker),
            _ => Ok(()),
        }
    }
}

/// Refuses a file that would be read and written at once: it would be empty before it is read. However it is spelled, and
/// whatever links lead to it.
pub(super) fn apart(source: &SourceSpec, sink: &SinkSpec) -> Result<(), Error> {
    match (source, sink) {
        (SourceSpec::Wav(read) | SourceSpec::Opus(read), SinkSpec::Wav(written, _))
            if same_file(read, written) =>
        {
            Err(Error::SameFile { file: written.clone() })
        }
        _ => Ok(()),
    }
}

/// By device and inode, since two names can be one file without one leading to the other.
#[cfg(unix)]
fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| path.metadata().map(|there| (there.dev(), there.ino()));
    matches!((inode(a), inode(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(not(unix))]
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
