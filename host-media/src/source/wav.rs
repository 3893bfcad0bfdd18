//! A source from a WAV file, read as it plays.

use std::{fs::File, io::BufReader, path::Path};

use hound::{SampleFormat, WavReader};

use super::memory::{Playing, Samples, unsupported_rate};
use crate::{
    error::{Error, WavFault},
    resample::RATES,
};

/// More channels than any recording of speech has.
const MAX_CHANNELS: u16 = 64;

/// A WAV file that plays in real time.
pub(crate) type WavSource = Playing<WavSamples>;

/// The samples of a WAV file, mixed to mono.
pub(crate) struct WavSamples {
    reader: WavReader<BufReader<File>>,
    channels: u16,
    float: bool,
    /// What full scale is divided by.
    scale: f32,
}

/// Opens a file and checks as much as can be checked without reading all of it.
pub(crate) fn open(path: &Path) -> Result<WavSource, Error> {
    let fail = |fault: WavFault| Error::Wav { path: path.to_owned(), fault };
    let file = File::open(path).map_err(|e| fail(WavFault::Io(e)))?;
    let metadata = file.metadata().map_err(|e| fail(WavFault::Io(e)))?;
    if metadata.is_dir() {
        return Err(fail(WavFault::Io(std::io::ErrorKind::IsADirectory.into())));
    }
    let reader = WavReader::new(BufReader::new(file)).map_err(|e| fail(explain(e)))?;
    let spec = reader.spec();
    if !RATES.contains(&spec.sample_rate) {
        return Err(fail(unsupported_rate(spec.sample_rate).into()));
    }
    if spec.channels > MAX_CHANNELS {
        return Err(fail(
            format!("it has {} channels; at most {MAX_CHANNELS} can be mixed", spec.channels).into(),
        ));
    }
    let float = spec.sample_format == SampleFormat::Float;
    if !matches!((float, spec.bits_per_sample), (false, 8 | 16 | 24 | 32) | (true, 32)) {
        let kind = if float { "float" } else { "integer" };
        return Err(fail(format!("{} bit {kind} samples cannot be read", spec.bits_per_sample).into()));
    }
    let promised = u64::from(reader.len()) * u64::from(spec.bits_per_sample / 8);
    if promised > metadata.len() {
        let text = format!(
            "cut off: the header promises {promised} bytes of sound, the file has {}",
            metadata.len()
        );
        return Err(fail(WavFault::Broken(text)));
    }
    let scale = if float { 1.0 } else { (1_u64 << (spec.bits_per_sample - 1)) as f32 };
    let samples = WavSamples { reader, channels: spec.channels, float, scale };
    Playing::new(samples, spec.sample_rate)
}

/// The binding's error, with the difference between a bad disk and a bad file.
pub(crate) fn explain(e: hound::Error) -> WavFault {
    match e {
        hound::Error::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            WavFault::Broken("it ends before its header does".to_owned())
        }
        // The reader reports an early end as a plain error of its own making.
        hound::Error::IoError(e) if e.raw_os_error().is_none() => WavFault::Broken(e.to_string()),
        hound::Error::IoError(e) => WavFault::Io(e),
        hound::Error::FormatError(text) => WavFault::Broken(text.to_owned()),
        hound::Error::Unsupported => WavFault::Unsupported(
            "its encoding cannot be read; convert it to PCM, for example with `ffmpeg -i IN -c:a pcm_s16le OUT.wav`"
                .to_owned(),
        ),
        e => WavFault::Broken(e.to_string()),
    }
}

impl Samples for WavSamples {
    fn next(&mut self, out: &mut [f32]) -> Result<usize, String> {
        if self.float {
            let channels = self.channels;
            mix(self.reader.samples::<f32>(), channels, 1.0, out)
        } else {
            let (channels, scale) = (self.channels, self.scale);
            mix(self.reader.samples::<i32>().map(|s| s.map(|s| s as f32)), channels, scale, out)
        }
    }
}

fn mix(
    mut samples: impl Iterator<Item = hound::Result<f32>>,
    channels: u16,
    scale: f32,
    out: &mut [f32],
) -> Result<usize, String> {
    let factor = 1.0 / (scale * f32::from(channels));
    for (n, mono) in out.iter_mut().enumerate() {
        let mut sum = 0.0;
        for _ in 0..channels {
            match samples.next() {
                Some(Ok(sample)) => sum += sample,
                Some(Err(e)) => return Err(explain(e).to_string()),
                None => return Ok(n),
            }
        }
        let sample = sum * factor;
        // Floating point files may hold anything at all.
        *mono = if sample.is_finite() { sample.clamp(-8.0, 8.0) } else { 0.0 };
    }
    Ok(out.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BLOCK,
        source::{Read, Source},
    };
    use hound::{WavSpec, WavWriter};

    fn write(path: &Path, spec: WavSpec, frames: usize) {
        let mut writer = WavWriter::create(path, spec).unwrap();
        let full = (1_i64 << (spec.bits_per_sample - 1)) as f32;
        for i in 0..frames {
            for _ in 0..spec.channels {
                let value = 0.5 * (i as f32 * 0.05).sin();
                match spec.sample_format {
                    SampleFormat::Float => writer.write_sample(value).unwrap(),
                    SampleFormat::Int => writer.write_sample((value * full) as i32).unwrap(),
                }
            }
        }
        writer.finalize().unwrap();
    }

    #[test]
    fn each_sample_format_and_channel_count_gives_the_same_sound() {
        let dir = tempfile::tempdir().unwrap();
        for channels in [1, 2, 6] {
            for (sample_format, bits) in [
                (SampleFormat::Int, 8),
                (SampleFormat::Int, 16),
                (SampleFormat::Int, 24),
                (SampleFormat::Int, 32),
                (SampleFormat::Float, 32),
            ] {
                let path = dir.path().join("a.wav");
                write(
                    &path,
                    WavSpec { channels, sample_rate: 48_000, bits_per_sample: bits, sample_format },
                    960,
                );
                let mut source = open(&path).unwrap();
                let mut block = [0.0; BLOCK];
                assert_eq!(source.read(&mut block), Read::Sound);
                for (i, s) in block.iter().enumerate() {
                    let expected = 0.5 * (i as f32 * 0.05).sin();
                    assert!((s - expected).abs() < 0.01, "{channels} {sample_format:?} {bits}: {s} at {i}");
                }
                assert_eq!(source.read(&mut block), Read::Sound);
                assert_eq!(source.read(&mut block), Read::Ended);
            }
        }
    }

    #[test]
    fn a_bad_file_is_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let error = |name: &str, bytes: Option<&[u8]>| {
            let path = dir.path().join(name);
            if let Some(bytes) = bytes {
                std::fs::write(&path, bytes).unwrap();
            }
            let text = open(&path).err().unwrap().to_string();
            assert!(text.contains(name), "{text}");
            text
        };
        assert!(error("missing.wav", None).contains("No such file"));
        assert!(error("empty.wav", Some(b"")).contains("not a usable WAV file"));
        assert!(
            error("text.wav", Some(b"hello, this is not sound at all")).contains("not a usable WAV file")
        );
        let good = dir.path().join("good.wav");
        let spec = WavSpec {
            channels: 1,
            sample_rate: 48_000,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        write(&good, spec, 4800);
        let bytes = std::fs::read(&good).unwrap();
        assert!(error("cut.wav", Some(&bytes[..1000])).contains("cut off"));
        assert!(error("head.wav", Some(&bytes[..20])).contains("not a usable WAV file"));
        write(&good, WavSpec { sample_rate: 1000, ..spec }, 10);
        assert!(open(&good).err().unwrap().to_string().contains("1000 Hz"));
        assert!(open(dir.path()).is_err());
    }

    #[test]
    fn no_header_makes_it_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        let spec = WavSpec {
            channels: 2,
            sample_rate: 44_100,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        write(&path, spec, 1000);
        let good = std::fs::read(&path).unwrap();
        let mut block = [0.0; BLOCK];
        for at in 0..44 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                std::fs::write(&path, &bytes).unwrap();
                if let Ok(mut source) = open(&path) {
                    for _ in 0..5 {
                        source.read(&mut block);
                    }
                    assert!(block.iter().all(|s| s.is_finite()));
                }
            }
        }
    }
}
