//! Which microphone and which speaker.

use std::time::{Instant, SystemTime};

use host_media::{Direction, Engine, SinkSpec, SourceSpec};

use crate::error::Error;

/// Where sound comes from and where it goes.
#[derive(Clone, Debug)]
pub struct Audio {
    pub(crate) source: SourceSpec,
    pub(crate) sink: SinkSpec,
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
        Self { source, sink }
    }

    /// Finds out, before any call, whether what was named exists. Opens files, but no device: a microphone is open
    /// during calls only.
    #[allow(clippy::disallowed_methods, reason = "the engine that is made for the check wants a time")]
    pub(crate) fn check(&self) -> Result<(), Error> {
        let source = match &self.source {
            SourceSpec::Device(id) => {
                return known(id, Direction::Microphone).and_then(|()| self.check_sink());
            }
            SourceSpec::Default => return self.check_sink(),
            source => source.clone(),
        };
        Engine::builder()
            .source(source)
            .sink(SinkSpec::Null)
            .build(Instant::now(), SystemTime::now())
            .map_err(|e| Error::Media(e.to_string()))?;
        self.check_sink()
    }

    #[allow(clippy::disallowed_methods, reason = "the engine that is made for the check wants a time")]
    fn check_sink(&self) -> Result<(), Error> {
        match &self.sink {
            SinkSpec::Device(id) => known(id, Direction::Speaker),
            SinkSpec::Default => Ok(()),
            sink => Engine::builder()
                .source(SourceSpec::Silence)
                .sink(sink.clone())
                .build(Instant::now(), SystemTime::now())
                .map(drop)
                .map_err(|e| Error::Media(e.to_string())),
        }
    }
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
