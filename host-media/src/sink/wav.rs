//! A sink that is a WAV file.

use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};

use hound::{SampleFormat, WavSpec, WavWriter};

use super::{Sink, Write};
use crate::{
    BLOCK, Block, SAMPLE_RATE, SILENT,
    error::{Error, WavFault},
    resample::{Pusher, RATES},
    source::wav::explain,
    spec::{WavFormat, WavSample},
};

/// The header is brought up to date once a second, so that a killed process leaves a file that can be read.
const FLUSH_TICKS: u32 = 100;
/// A WAV file counts its bytes with 32 bits; writing ends shortly before that.
const MAX_BYTES: u64 = u32::MAX as u64 - 4096;
/// Silence for a standstill is written for at most 10 minutes, so that a suspended machine does not fill its disk.
const MAX_SKIP: u64 = 60_000;

/// A WAV file that receives what is played.
pub(crate) struct WavSink {
    path: PathBuf,
    writer: Option<WavWriter<BufWriter<File>>>,
    format: WavFormat,
    pusher: Option<Pusher>,
    /// Samples at the front that only hold the resampler's delay.
    trim: usize,
    /// Blocks that came in.
    blocks: u64,
    /// Frames that were written.
    frames: u64,
    since_flush: u32,
}

/// Creates the file, replacing what was there.
pub(crate) fn create(path: &Path, format: WavFormat) -> Result<WavSink, Error> {
    let fail = |fault: WavFault| Error::Wav { path: path.to_owned(), fault };
    if !RATES.contains(&format.rate) || !(1..=8).contains(&format.channels) {
        let text = format!(
            "{} Hz with {} channels cannot be written; use {} to {} Hz and 1 to 8 channels",
            format.rate,
            format.channels,
            RATES.start(),
            RATES.end()
        );
        return Err(fail(WavFault::Unsupported(text)));
    }
    let spec = WavSpec {
        channels: format.channels,
        sample_rate: format.rate,
        bits_per_sample: match format.sample {
            WavSample::I16 => 16,
            WavSample::F32 => 32,
        },
        sample_format: match format.sample {
            WavSample::I16 => SampleFormat::Int,
            WavSample::F32 => SampleFormat::Float,
        },
    };
    let pusher = match format.rate {
        SAMPLE_RATE => None,
        rate => Some(Pusher::new(rate)?),
    };
    let mut writer = WavWriter::create(path, spec).map_err(|e| fail(explain(e)))?;
    writer.flush().map_err(|e| fail(explain(e)))?;
    let trim = pusher.as_ref().map_or(0, Pusher::delay_samples);
    Ok(WavSink {
        path: path.to_owned(),
        writer: Some(writer),
        format,
        pusher,
        trim,
        blocks: 0,
        frames: 0,
        since_flush: 0,
    })
}

impl WavSink {
    fn fail(&self, fault: WavFault) -> Error {
        Error::Wav { path: self.path.clone(), fault }
    }

    fn push(&mut self, block: &Block) -> Result<(), Error> {
        self.blocks += 1;
        self.convert(block, u64::MAX)
    }

    /// Converts and writes a block, but no frames beyond `until`.
    fn convert(&mut self, block: &Block, until: u64) -> Result<(), Error> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let frame_bytes =
            u64::from(self.format.channels) * if self.format.sample == WavSample::I16 { 2 } else { 4 };
        if (self.frames + 8 * BLOCK as u64) * frame_bytes > MAX_BYTES {
            return Err(
                self.fail(WavFault::Unsupported("the file is as long as a WAV file can be".to_owned()))
            );
        }
        let samples = match &mut self.pusher {
            None => &block[..],
            Some(pusher) => pusher.push(block)?,
        };
        let skip = self.trim.min(samples.len());
        self.trim -= skip;
        let room = usize::try_from(until.saturating_sub(self.frames)).unwrap_or(usize::MAX);
        let samples = &samples[skip..];
        let samples = &samples[..samples.len().min(room)];
        let mut write = || {
            for &sample in samples {
                for _ in 0..self.format.channels {
                    match self.format.sample {
                        WavSample::I16 => writer.write_sample(to_i16(sample))?,
                        WavSample::F32 => writer.write_sample(sample)?,
                    }
                }
            }
            Ok(())
        };
        write().map_err(|e| Error::Wav { path: self.path.clone(), fault: explain(e) })?;
        self.frames += samples.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.since_flush = 0;
        match &mut self.writer {
            Some(writer) => {
                writer.flush().map_err(|e| Error::Wav { path: self.path.clone(), fault: explain(e) })
            }
            None => Ok(()),
        }
    }
}

fn to_i16(sample: f32) -> i16 {
    // The cast saturates, so full scale and beyond do not wrap.
    (sample * 32_768.0).round() as i16
}

impl Sink for WavSink {
    fn write(&mut self, block: &Block) -> Write {
        if self.writer.is_none() {
            return Write::Done;
        }
        let mut result = self.push(block);
        self.since_flush += 1;
        if result.is_ok() && self.since_flush >= FLUSH_TICKS {
            result = self.flush();
        }
        match result {
            Ok(()) => Write::Done,
            Err(e) => {
                // Dropping the writer leaves the file with a header as good as it gets.
                self.writer = None;
                Write::Failed(e.to_string())
            }
        }
    }

    fn skip(&mut self, ticks: u64) {
        for _ in 0..ticks.min(MAX_SKIP) {
            if self.write(&SILENT) != Write::Done {
                return;
            }
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        // What is still inside the resampler belongs to the file.
        let whole = self.blocks * BLOCK as u64 * u64::from(self.format.rate) / u64::from(SAMPLE_RATE);
        while self.pusher.is_some() && self.writer.is_some() && self.frames < whole {
            self.convert(&SILENT, whole)?;
        }
        match self.writer.take() {
            Some(writer) => writer.finalize().map_err(|e| self.fail(explain(e))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(block: usize) -> Block {
        std::array::from_fn(|i| 0.5 * ((block * BLOCK + i) as f32 * 0.06).sin())
    }

    #[test]
    fn each_format_holds_all_that_was_played() {
        let dir = tempfile::tempdir().unwrap();
        for rate in [8_000, 16_000, 44_100, 48_000, 96_000] {
            for (channels, sample) in [(1, WavSample::I16), (2, WavSample::F32)] {
                let path = dir.path().join("out.wav");
                let mut sink = create(&path, WavFormat::new(rate, channels, sample)).unwrap();
                for i in 0..100 {
                    assert_eq!(sink.write(&tone(i)), Write::Done);
                }
                sink.finish().unwrap();
                let reader = hound::WavReader::open(&path).unwrap();
                assert_eq!((reader.spec().sample_rate, reader.spec().channels), (rate, channels));
                assert_eq!(reader.duration(), rate, "one second at {rate} Hz");
            }
        }
    }

    #[test]
    fn a_file_that_is_never_finished_can_be_read_up_to_the_last_second() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.wav");
        let mut sink = create(&path, WavFormat::default()).unwrap();
        assert_eq!(hound::WavReader::open(&path).unwrap().duration(), 0, "valid from the beginning");
        for i in 0..250 {
            sink.write(&tone(i));
        }
        // As if killed: neither finish nor drop runs, and another program looks at the file.
        let duration = hound::WavReader::open(&path).unwrap().duration();
        assert_eq!(duration, 2 * 48_000);
        std::mem::forget(sink);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/such/folder/out.wav");
        let text = create(&path, WavFormat::default()).err().unwrap().to_string();
        assert!(text.contains("out.wav") && text.contains("No such file"), "{text}");
        let path = dir.path().join("out.wav");
        assert!(create(&path, WavFormat::new(0, 1, WavSample::I16)).is_err());
        assert!(create(&path, WavFormat::new(48_000, 0, WavSample::I16)).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn full_scale_does_not_wrap() {
        assert_eq!([1.0, 2.0, -1.0, -2.0, f32::NAN].map(to_i16), [32_767, 32_767, -32_768, -32_768, 0]);
    }
}
