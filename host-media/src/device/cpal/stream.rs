//! Streams of a device: any rate, number of channels and sample format, mono `f32` on our side.

use std::{sync::Arc, time::Duration};

use cpal::{
    BufferSize, Device, ErrorKind, FromSample, I24, Sample, SampleFormat, SizedSample, Stream, StreamConfig,
    StreamInstant, SupportedBufferSize, SupportedStreamConfig, U24,
    traits::{DeviceTrait, StreamTrait},
};

use super::fault;
use crate::{
    device::ring::{self, CaptureFeed, PlaybackFeed, Running, Shared},
    error::{DeviceFault, DeviceFaultKind, Error},
    priority,
};

/// The buffer that is asked for, in milliseconds, and what is tried if the device does not like it. Never the
/// system's default, which is 2 s on PulseAudio.
const PERIODS_MS: [u32; 4] = [10, 20, 40, 5];
/// Where the callbacks' threads are cpal's own, and ordinary ones, the first call asks for a better priority. Elsewhere
/// they are the system's.
const RAISES: bool = cfg!(all(any(target_os = "linux", target_os = "freebsd"), not(test)));
/// How long opening may take where the system lets us say so.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn capture(device: &Device) -> Result<ring::Capture, DeviceFault> {
    let supported = device.default_input_config().map_err(fault)?;
    with_period(&supported, |config, period| {
        let (feed, parts) =
            ring::capture(config.sample_rate, period).map_err(|e| Tried::Failed(unsupported(e)))?;
        let stream = capture_stream(device, &supported, config, feed)?;
        stream.play().map_err(|e| Tried::Failed(fault(e)))?;
        Ok(parts.run(Box::new(Kept::new(stream, device))))
    })
}

pub(super) fn playback(device: &Device) -> Result<ring::Playback, DeviceFault> {
    let supported = device.default_output_config().map_err(fault)?;
    with_period(&supported, |config, period| {
        let (feed, parts) =
            ring::playback(config.sample_rate, period).map_err(|e| Tried::Failed(unsupported(e)))?;
        let stream = playback_stream(device, &supported, config, feed)?;
        stream.play().map_err(|e| Tried::Failed(fault(e)))?;
        Ok(parts.run(Box::new(Kept::new(stream, device))))
    })
}

/// A stream that is closed beside everything else where closing can take for ever: cpal waits for the end of a playback
/// that PulseAudio has ended already, and never hears of it.
struct Kept {
    stream: Option<Stream>,
    beside: bool,
}

impl Kept {
    fn new(stream: Stream, device: &Device) -> Self {
        let beside = device.id().is_ok_and(|id| id.host().to_string() == "pulseaudio");
        Self { stream: Some(stream), beside }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        if self.beside {
            let closing = std::thread::Builder::new().name("host-media-close".to_owned());
            // Without a thread the stream is closed here, as it was given away to one that does not start.
            let _ = closing.spawn(move || drop(stream));
        }
    }
}

impl Running for Kept {
    fn now(&self) -> Option<u64> {
        self.stream.as_ref().map(|stream| nanos(StreamTrait::now(stream)))
    }
}

fn nanos(at: StreamInstant) -> u64 {
    u64::try_from(at.saturating_duration_since(StreamInstant::new(0, 0)).as_nanos()).unwrap_or(u64::MAX)
}

enum Tried {
    /// Another buffer size may do.
    Refused(DeviceFault),
    Failed(DeviceFault),
}

impl From<cpal::Error> for Tried {
    fn from(e: cpal::Error) -> Self {
        match e.kind() {
            ErrorKind::UnsupportedConfig => Self::Refused(fault(e)),
            _ => Self::Failed(fault(e)),
        }
    }
}

/// Tries the buffer sizes in turn until the device takes one.
fn with_period<T>(
    supported: &SupportedStreamConfig,
    mut start: impl FnMut(StreamConfig, u32) -> Result<T, Tried>,
) -> Result<T, DeviceFault> {
    let mut last = None;
    for ms in PERIODS_MS {
        let mut period = supported.sample_rate() * ms / 1000;
        if let SupportedBufferSize::Range { min, max } = supported.buffer_size()
            && min <= max
        {
            period = period.clamp(*min, *max);
        }
        let config = StreamConfig { buffer_size: BufferSize::Fixed(period), ..supported.config() };
        match start(config, period) {
            Ok(started) => return Ok(started),
            Err(Tried::Failed(fault)) => return Err(fault),
            Err(Tried::Refused(fault)) => last = Some(fault),
        }
    }
    Err(last.unwrap_or_else(|| DeviceFault::new(DeviceFaultKind::Unsupported, "it takes no buffer size")))
}

fn unsupported(e: Error) -> DeviceFault {
    DeviceFault::new(DeviceFaultKind::Unsupported, e.to_string())
}

/// Calls a generic function with the type of the sample format.
macro_rules! for_format {
    ($format:expr, $function:ident($($argument:expr),*)) => {
        match $format {
            SampleFormat::I8 => $function::<i8>($($argument),*),
            SampleFormat::I16 => $function::<i16>($($argument),*),
            SampleFormat::I24 => $function::<I24>($($argument),*),
            SampleFormat::I32 => $function::<i32>($($argument),*),
            SampleFormat::I64 => $function::<i64>($($argument),*),
            SampleFormat::U8 => $function::<u8>($($argument),*),
            SampleFormat::U16 => $function::<u16>($($argument),*),
            SampleFormat::U24 => $function::<U24>($($argument),*),
            SampleFormat::U32 => $function::<u32>($($argument),*),
            SampleFormat::U64 => $function::<u64>($($argument),*),
            SampleFormat::F32 => $function::<f32>($($argument),*),
            SampleFormat::F64 => $function::<f64>($($argument),*),
            other => Err(Tried::Failed(DeviceFault::new(
                DeviceFaultKind::Unsupported,
                format!("its sample format {other} cannot be converted"),
            ))),
        }
    };
}

fn capture_stream(
    device: &Device,
    supported: &SupportedStreamConfig,
    config: StreamConfig,
    feed: CaptureFeed,
) -> Result<Stream, Tried> {
    for_format!(supported.sample_format(), capture_as(device, config, feed))
}

fn capture_as<T>(device: &Device, config: StreamConfig, mut feed: CaptureFeed) -> Result<Stream, Tried>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let channels = usize::from(config.channels.max(1));
    let scale = 1.0 / channels as f32;
    let shared = feed.shared();
    let mut raise = RAISES;
    let stream = device.build_input_stream::<T, _, _>(
        config,
        move |data, info| {
            if std::mem::take(&mut raise) {
                priority::raise();
            }
            let stamp = info.timestamp();
            let latency = stamp.callback.saturating_duration_since(stamp.capture);
            let mono = data
                .chunks_exact(channels)
                .map(|frame| frame.iter().map(|s| f32::from_sample(*s)).sum::<f32>() * scale);
            feed.called_at(nanos(stamp.callback));
            feed.feed(mono, latency);
        },
        move |e| report(&shared, e),
        Some(OPEN_TIMEOUT),
    )?;
    Ok(stream)
}

fn playback_stream(
    device: &Device,
    supported: &SupportedStreamConfig,
    config: StreamConfig,
    feed: PlaybackFeed,
) -> Result<Stream, Tried> {
    for_format!(supported.sample_format(), playback_as(device, config, feed))
}

fn playback_as<T>(device: &Device, config: StreamConfig, mut feed: PlaybackFeed) -> Result<Stream, Tried>
where
    T: SizedSample + FromSample<f32>,
{
    let channels = usize::from(config.channels.max(1));
    let shared = feed.shared();
    let mut raise = RAISES;
    let stream = device.build_output_stream::<T, _, _>(
        config,
        move |data, info| {
            if std::mem::take(&mut raise) {
                priority::raise();
            }
            let stamp = info.timestamp();
            let latency = stamp.playback.saturating_duration_since(stamp.callback);
            let frames = data.len() / channels;
            let mut out = data.chunks_exact_mut(channels);
            feed.called_at(nanos(stamp.callback));
            feed.drain(frames, latency, |sample| {
                if let Some(frame) = out.next() {
                    // Left and right; what else there is (centre, bass, rear) keeps its silence.
                    let front = frame.len().min(2);
                    frame[..front].fill(T::from_sample(sample));
                }
            });
        },
        move |e| report(&shared, e),
        Some(OPEN_TIMEOUT),
    )?;
    Ok(stream)
}

/// What the driver tells while a stream runs.
fn report(shared: &Arc<Shared>, e: cpal::Error) {
    match e.kind() {
        ErrorKind::Xrun => shared.xrun(),
        // The stream goes on.
        ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
        _ => shared.fail(fault(e)),
    }
}
