//! The system's devices through cpal. The only file that knows the crate.

use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use cpal::{
    BufferSize, Device, ErrorKind, FromSample, I24, Sample, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedBufferSize, SupportedStreamConfig, SupportedStreamConfigRange, U24,
    traits::{DeviceTrait, HostTrait, StreamTrait},
};

use super::{
    DeviceInfo, Direction, Opened,
    ring::{self, CaptureFeed, PlaybackFeed, Shared},
};
use crate::{
    error::{DeviceFault, DeviceFaultKind, Error},
    sink::Sink,
    source::Source,
};

/// The buffer that is asked for, in milliseconds, and what is tried if the device does not like it. Never the
/// system's default, which is 2 s on PulseAudio.
const PERIODS_MS: [u32; 4] = [10, 20, 40, 5];
/// How long opening may take where the system lets us say so.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn list() -> Result<Vec<DeviceInfo>, DeviceFault> {
    let host = cpal::default_host();
    let id_of = |device: Option<Device>| device.and_then(|d| d.id().ok());
    let default_in = id_of(host.default_input_device());
    let default_out = id_of(host.default_output_device());
    let mut all = Vec::new();
    for device in host.input_devices().map_err(fault)? {
        let default = device.id().ok().is_some_and(|id| Some(id) == default_in);
        all.extend(info(&device, Direction::Microphone, default, device.supported_input_configs()));
    }
    for device in host.output_devices().map_err(fault)? {
        let default = device.id().ok().is_some_and(|id| Some(id) == default_out);
        all.extend(info(&device, Direction::Speaker, default, device.supported_output_configs()));
    }
    Ok(all)
}

fn info<I: Iterator<Item = SupportedStreamConfigRange>>(
    device: &Device,
    direction: Direction,
    default: bool,
    configs: Result<I, cpal::Error>,
) -> Option<DeviceInfo> {
    let id = device.id().ok()?.to_string();
    let mut rates: Vec<RangeInclusive<u32>> = Vec::new();
    let mut channels = Vec::new();
    match configs {
        Ok(configs) => {
            for config in configs {
                let range = config.min_sample_rate()..=config.max_sample_rate();
                if !rates.contains(&range) {
                    rates.push(range);
                }
                channels.push(config.channels());
            }
            if channels.is_empty() {
                return None;
            }
        }
        // Somebody else uses it, so it is there. What cannot be opened for other reasons is of no use.
        Err(e) if e.kind() == ErrorKind::DeviceBusy => {}
        Err(_) => return None,
    }
    rates.sort_by_key(|r| (*r.start(), *r.end()));
    channels.sort_unstable();
    channels.dedup();
    Some(DeviceInfo { id, name: device.to_string(), direction, default, rates, channels })
}

/// Finds a device by the id that [`list`] shows, with or without the name of the audio system in front.
fn find(direction: Direction, id: Option<&str>) -> Result<Option<Device>, Error> {
    let host = cpal::default_host();
    let Some(id) = id else {
        return Ok(match direction {
            Direction::Microphone => host.default_input_device(),
            Direction::Speaker => host.default_output_device(),
        });
    };
    if let Some(device) = id.parse().ok().and_then(|id| host.device_by_id(&id)) {
        return Ok(Some(device));
    }
    let devices = host.devices().map_err(|e| Error::Devices(fault(e)))?;
    for device in devices {
        if device.id().is_ok_and(|found| found.id() == id) {
            return Ok(Some(device));
        }
    }
    let available = list()
        .map_err(Error::Devices)?
        .into_iter()
        .filter(|d| d.direction == direction)
        .map(|d| d.id)
        .collect();
    Err(Error::NoSuchDevice { direction, id: id.to_owned(), available })
}

fn missing(direction: Direction) -> DeviceFault {
    DeviceFault::new(DeviceFaultKind::Missing, format!("this machine has no {direction}"))
}

pub(super) fn open_source(id: Option<&str>) -> Opened<dyn Source> {
    let Some(device) = find(Direction::Microphone, id)? else {
        return Ok(Err(missing(Direction::Microphone)));
    };
    Ok(start_capture(&device).map(|source| Box::new(source) as Box<dyn Source>))
}

pub(super) fn open_sink(id: Option<&str>) -> Opened<dyn Sink> {
    let Some(device) = find(Direction::Speaker, id)? else {
        return Ok(Err(missing(Direction::Speaker)));
    };
    Ok(start_playback(&device).map(|sink| Box::new(sink) as Box<dyn Sink>))
}

fn start_capture(device: &Device) -> Result<ring::Capture, DeviceFault> {
    let supported = device.default_input_config().map_err(fault)?;
    with_period(&supported, |config, period| {
        let (feed, parts) = ring::capture(config.sample_rate, period, Some(clock()))
            .map_err(|e| Tried::Failed(unsupported(e)))?;
        let stream = capture_stream(device, &supported, config, feed)?;
        stream.play().map_err(|e| Tried::Failed(fault(e)))?;
        Ok(parts.run(Box::new(stream)))
    })
}

fn start_playback(device: &Device) -> Result<ring::Playback, DeviceFault> {
    let supported = device.default_output_config().map_err(fault)?;
    with_period(&supported, |config, period| {
        let (feed, parts) = ring::playback(config.sample_rate, period, Some(clock()))
            .map_err(|e| Tried::Failed(unsupported(e)))?;
        let stream = playback_stream(device, &supported, config, feed)?;
        stream.play().map_err(|e| Tried::Failed(fault(e)))?;
        Ok(parts.run(Box::new(stream)))
    })
}

/// The time of callbacks and ticks: the system's, which both read without a lock.
fn clock() -> ring::Clock {
    let epoch = Instant::now();
    Arc::new(move || epoch.elapsed())
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
        let mut period = supported.sample_rate() / 1000 * ms;
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
    let stream = device.build_input_stream::<T, _, _>(
        config,
        move |data, info| {
            let stamp = info.timestamp();
            let latency = stamp.callback.saturating_duration_since(stamp.capture);
            let mono = data
                .chunks_exact(channels)
                .map(|frame| frame.iter().map(|s| f32::from_sample(*s)).sum::<f32>() * scale);
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
    let stream = device.build_output_stream::<T, _, _>(
        config,
        move |data, info| {
            let stamp = info.timestamp();
            let latency = stamp.playback.saturating_duration_since(stamp.callback);
            let frames = data.len() / channels;
            let mut out = data.chunks_exact_mut(channels);
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

fn fault(e: cpal::Error) -> DeviceFault {
    let kind = match e.kind() {
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable | ErrorKind::StreamInvalidated => {
            DeviceFaultKind::Missing
        }
        ErrorKind::PermissionDenied => DeviceFaultKind::Denied,
        ErrorKind::DeviceBusy => DeviceFaultKind::Busy,
        ErrorKind::UnsupportedConfig | ErrorKind::UnsupportedOperation | ErrorKind::InvalidInput => {
            DeviceFaultKind::Unsupported
        }
        _ => DeviceFaultKind::Other,
    };
    DeviceFault::new(kind, e.to_string())
}
