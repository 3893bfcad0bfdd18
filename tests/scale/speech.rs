//! What is said: real speech, without an end that anybody lives to hear.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use blink_examples::demo::sound::Clip;
use blink_tests::e2e::Speech;
use bytes::Bytes;
use hound::{SampleFormat, WavSpec, WavWriter};
use warp_blink::audio::{Engine, MemorySource, SAMPLE_RATE, SinkSpec, SourceSpec, TICK};

/// Longer than any call here.
const MINUTES: u32 = 3;

/// What is encoded once and said again and again.
const ENCODED_SECONDS: u32 = 10;

fn read() -> Result<Clip, String> {
    Clip::read(&Speech::A.path()).map_err(|error| error.to_string())
}

/// Writes it as a microphone would take it.
pub(crate) fn write(path: &Path) -> Result<(), String> {
    let clip = read()?;
    let spec = WavSpec {
        channels: 1,
        sample_rate: clip.rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let write = || -> Result<(), hound::Error> {
        let mut writer = WavWriter::create(path, spec)?;
        for sample in clip.samples.iter().cycle().take((MINUTES * 60 * clip.rate) as usize) {
            writer.write_sample((sample * 32_767.0) as i16)?;
        }
        writer.finalize()
    };
    write().map_err(|error| format!("{}: {error}", path.display()))
}

/// The same as frames of Opus, as a phone sends them by default.
pub(crate) fn encoded() -> Result<Arc<[Bytes]>, String> {
    let clip = read()?;
    let looped: Vec<f32> =
        clip.samples.iter().cycle().take((ENCODED_SECONDS * SAMPLE_RATE) as usize).copied().collect();
    let frames: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let (into, start) = (frames.clone(), Instant::now());
    let mut core = Engine::builder()
        .source(SourceSpec::Memory(MemorySource::new(looped)))
        .sink(SinkSpec::Null)
        .on_frame(move |frame| into.lock().unwrap_or_else(PoisonError::into_inner).push(frame.payload))
        .build(start, SystemTime::UNIX_EPOCH)
        .map_err(|error| error.to_string())?;
    for tick in 0..ENCODED_SECONDS * 100 {
        core.tick(start + TICK * tick);
    }
    let frames = std::mem::take(&mut *frames.lock().unwrap_or_else(PoisonError::into_inner));
    if frames.is_empty() { Err("the speech gave no frames".into()) } else { Ok(frames.into()) }
}
