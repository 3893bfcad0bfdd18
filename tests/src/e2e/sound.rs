//! Recordings for the tests.

use std::path::{Path, PathBuf};

use blink_examples::demo::sound::{Clip, resample};
use hound::{SampleFormat, WavSpec, WavWriter};

/// The two recordings that come with the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// A sentence from a novel.
    A,
    /// Names of cards.
    B,
}

impl Speech {
    /// The file: 16 kHz, one channel, 16 bits.
    pub fn path(self) -> PathBuf {
        let name = match self {
            Self::A => "speech-a.wav",
            Self::B => "speech-b.wav",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/assets").join(name)
    }
}

/// Writes a recording in another format: this rate, this many equal channels, as 32-bit floats or 16-bit integers.
///
/// # Panics
/// If the file cannot be written.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub fn write_wav(path: &Path, clip: &Clip, rate: u32, channels: u16, float: bool) {
    let (bits_per_sample, sample_format) =
        if float { (32, SampleFormat::Float) } else { (16, SampleFormat::Int) };
    let spec = WavSpec { channels, sample_rate: rate, bits_per_sample, sample_format };
    let write = || -> Result<(), hound::Error> {
        let mut writer = WavWriter::create(path, spec)?;
        for sample in resample(&clip.samples, clip.rate, rate) {
            for _ in 0..channels {
                match float {
                    true => writer.write_sample(sample)?,
                    false => {
                        writer.write_sample((sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16)?
                    }
                }
            }
        }
        writer.finalize()
    };
    if let Err(error) = write() {
        panic!("{}: {error}", path.display());
    }
}
