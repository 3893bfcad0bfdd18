//! What an application names as its source and its sink.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{error::SpecError, play::ahead::is_ogg, sink::MemorySink, source::MemorySource};

/// Where sound comes from.
///
/// The text form is `default | tone | silence | FILE.wav | FILE.opus | FILE.ogg | DEVICE-ID`. Parsing looks at the text only; whether the
/// file or the device exists is found out when the engine is built.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum SourceSpec {
    /// The system's default microphone. If there is none, the engine runs listen-only.
    #[default]
    Default,
    /// The microphone with this id, as [`devices`](crate::devices) lists it.
    Device(String),
    /// A WAV file that plays in real time from its first sample, then silence. Any rate from 4 to 384 kHz, any number
    /// of channels (mixed to mono), integer samples of 8, 16, 24 or 32 bits or 32-bit float.
    Wav(PathBuf),
    /// An Ogg Opus file that plays in real time from its first sample, then silence. Mono or stereo (mixed to mono).
    Opus(PathBuf),
    /// A 440 Hz sine at -20 dBov.
    Tone,
    /// Silence.
    Silence,
    /// Samples from memory, in real time, then silence.
    Memory(MemorySource),
}

/// Where sound goes.
///
/// The text form is `default | null | FILE.wav | DEVICE-ID`. Parsing looks at the text only; whether the file can be
/// written or the device exists is found out when the engine is built.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum SinkSpec {
    /// The system's default speaker. If there is none, the engine runs without.
    #[default]
    Default,
    /// The speaker with this id, as [`devices`](crate::devices) lists it.
    Device(String),
    /// A WAV file that receives everything that is played, from the first tick on.
    Wav(PathBuf, WavFormat),
    /// Nowhere; the mix is computed and thrown away.
    Null,
    /// Memory.
    Memory(MemorySink),
}

/// How a WAV sink is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WavFormat {
    /// Rate in Hz, 4000 to 384000. Default 48000, the rate inside, so that nothing is converted.
    pub rate: u32,
    /// Channels, 1 to 8; all carry the same. Default 1.
    pub channels: u16,
    /// Sample format. Default [`WavSample::I16`], which every program reads.
    pub sample: WavSample,
}

/// Sample format of a WAV sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WavSample {
    /// 16-bit signed integers.
    I16,
    /// 32-bit floating point.
    F32,
}

impl WavFormat {
    /// A format with this rate in Hz, number of channels and kind of sample.
    #[must_use]
    pub fn new(rate: u32, channels: u16, sample: WavSample) -> Self {
        Self { rate, channels, sample }
    }
}

impl Default for WavFormat {
    fn default() -> Self {
        Self { rate: crate::SAMPLE_RATE, channels: 1, sample: WavSample::I16 }
    }
}

const SOURCES: &str = "default, tone, silence, FILE.wav, FILE.opus or the id of a microphone";
const SINKS: &str = "default, null, FILE.wav or the id of a speaker";

impl FromStr for SourceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text.trim() {
            "" => Err(SpecError::Empty { expected: SOURCES }),
            "null" => Err(SpecError::WrongDirection { word: text.to_owned(), expected: SOURCES }),
            "default" => Ok(Self::Default),
            "tone" => Ok(Self::Tone),
            "silence" => Ok(Self::Silence),
            text if is_wav(text) => Ok(Self::Wav(text.into())),
            text if is_ogg(Path::new(text)) => Ok(Self::Opus(text.into())),
            text => Ok(Self::Device(text.to_owned())),
        }
    }
}

impl FromStr for SinkSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text.trim() {
            "" => Err(SpecError::Empty { expected: SINKS }),
            "tone" | "silence" => Err(SpecError::WrongDirection { word: text.to_owned(), expected: SINKS }),
            "default" => Ok(Self::Default),
            "null" => Ok(Self::Null),
            text if is_wav(text) => Ok(Self::Wav(text.into(), WavFormat::default())),
            text => Ok(Self::Device(text.to_owned())),
        }
    }
}

/// The text form; memory has none and prints as `memory`.
impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Device(id) => f.write_str(id),
            Self::Wav(path) | Self::Opus(path) => path.display().fmt(f),
            Self::Tone => f.write_str("tone"),
            Self::Silence => f.write_str("silence"),
            Self::Memory(_) => f.write_str("memory"),
        }
    }
}

/// The text form; memory has none and prints as `memory`.
impl fmt::Display for SinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Device(id) => f.write_str(id),
            Self::Wav(path, _) => path.display().fmt(f),
            Self::Null => f.write_str("null"),
            Self::Memory(_) => f.write_str("memory"),
        }
    }
}

fn is_wav(text: &str) -> bool {
    Path::new(text).extension().is_some_and(|e| e.eq_ignore_ascii_case("wav"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_each_kind_and_prints_back() {
        for text in ["default", "tone", "silence", "speech/a.WAV", "alsa:hw:CARD=0,DEV=0"] {
            assert_eq!(text.parse::<SourceSpec>().unwrap().to_string(), text);
        }
        for text in ["default", "null", "out.wav", "alsa:pulse"] {
            assert_eq!(text.parse::<SinkSpec>().unwrap().to_string(), text);
        }
        assert!(matches!("a.wav".parse(), Ok(SourceSpec::Wav(_))));
        assert!(matches!("a.opus".parse(), Ok(SourceSpec::Opus(_))));
        assert!(matches!("a.OGG".parse(), Ok(SourceSpec::Opus(_))));
        assert!(matches!("a.opus".parse(), Ok(SinkSpec::Device(_))), "which is not written");
        assert!(matches!("a.wave".parse(), Ok(SourceSpec::Device(_))));
        assert!(matches!("a.wav".parse(), Ok(SinkSpec::Wav(_, f)) if f == WavFormat::default()));
    }

    #[test]
    fn a_word_of_the_other_direction_is_refused_with_what_is_possible() {
        let error = "null".parse::<SourceSpec>().unwrap_err().to_string();
        assert!(error.contains("null") && error.contains("FILE.wav"), "{error}");
        assert!("tone".parse::<SinkSpec>().is_err());
        assert!(" ".parse::<SinkSpec>().is_err());
        assert!("".parse::<SourceSpec>().is_err());
    }
}
