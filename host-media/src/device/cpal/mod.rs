//! The system's devices through cpal. The only folder that knows the crate.

mod stream;

// A sound system of the tests' own.
#[cfg(test)]
pub(crate) mod fake;

use std::{
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

use cpal::{
    Device, ErrorKind, Host, SupportedStreamConfigRange,
    traits::{DeviceTrait, HostTrait},
};

use super::{DeviceInfo, Direction, Found, Opened, Presence};
use crate::{
    error::{DeviceFault, DeviceFaultKind, Error},
    sink::Sink,
    source::Source,
};

/// Sound servers move our streams to another device when theirs goes, and change their default, and tell nobody: there
/// we look. On ALSA the default always has the same name, and looking costs more (every configuration is read).
const MOVES_QUIETLY: &[&str] = &["pulseaudio", "pipewire", "wasapi", "coreaudio", "custom"];
/// The only names of ALSA that are tried when the wanted device is gone: the others are the same devices again, or
/// swallow everything (`null`).
const ALSA_SPARE: &[&str] = &["default", "pipewire", "pulse", "sysdefault:", "plughw:"];

/// A sound system: the machine's, or in tests one that is made up.
#[derive(Clone)]
pub(crate) struct System {
    make: Arc<dyn Fn() -> Host + Send + Sync>,
    /// Kept, since each one is a connection where the system is a sound server.
    host: Arc<Mutex<Option<Arc<Host>>>>,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("System")
    }
}

impl System {
    /// The machine's own: on Linux the PulseAudio server if there is one (PipeWire serves that protocol too), else ALSA.
    pub(crate) fn machine() -> Self {
        Self::made_by(cpal::default_host)
    }

    pub(crate) fn made_by(make: impl Fn() -> Host + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(make), host: Arc::default() }
    }

    fn host(&self) -> Arc<Host> {
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        match &*host {
            Some(host) => Arc::clone(host),
            None => Arc::clone(host.insert(Arc::new((self.make)()))),
        }
    }

    /// The next use makes a new connection; perhaps there is a sound server now, or again.
    fn forget(&self) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether devices and the default have to be looked at all the time, or only while something is missing.
    pub(crate) fn moves_quietly(&self) -> bool {
        MOVES_QUIETLY.contains(&self.host().id().to_string().as_str())
    }

    pub(crate) fn list(&self) -> Result<Vec<DeviceInfo>, DeviceFault> {
        let host = self.host();
        let mut all = Vec::new();
        for direction in [Direction::Microphone, Direction::Speaker] {
            let default = default_of(&host, direction).and_then(|d| d.id().ok());
            for device in devices_of(&host, direction).map_err(|e| self.gone(e))? {
                let default = device.id().ok().is_some_and(|id| Some(id) == default);
                let info = match direction {
                    Direction::Microphone => {
                        info(&device, direction, default, device.supported_input_configs())
                    }
                    Direction::Speaker => {
                        info(&device, direction, default, device.supported_output_configs())
                    }
                };
                all.extend(info);
            }
        }
        Ok(all)
    }

    /// What is there, without asking the devices themselves. `wanted` may be of another sound system than the default.
    pub(crate) fn presence(
        &self,
        direction: Direction,
        wanted: Option<&str>,
    ) -> Result<Presence, DeviceFault> {
        let host = self.host();
        let system = host.id();
        let found = (|| {
            let mut ids = Vec::new();
            for device in devices_of(&host, direction)? {
                ids.extend(device.id().ok());
            }
            // Where ALSA has no card, its default is a name for nothing, which costs a page of messages to find out.
            if system.to_string() == "alsa" && !ids.iter().any(|id| id.id().contains("CARD=")) {
                return Ok(Presence::default());
            }
            let spare = ids.iter().filter(|id| spare(id)).map(ToString::to_string).collect();
            if let Some(id) = wanted.and_then(|id| id.parse::<cpal::DeviceId>().ok())
                && id.host() != system
                && cpal::host_from_id(id.host()).is_ok_and(|host| host.device_by_id(&id).is_some())
            {
                ids.push(id);
            }
            let default = default_of(&host, direction).and_then(|d| d.id().ok());
            Ok(Presence {
                ids: ids.iter().map(ToString::to_string).collect(),
                default: default.map(|id| id.to_string()),
                spare,
            })
        })();
        // Without a connection it costs nothing to look for a better system at the next time.
        if !system.to_string().starts_with("pulse") {
            self.forget();
        }
        found.map_err(|e| self.gone(e))
    }

    fn gone(&self, e: cpal::Error) -> DeviceFault {
        self.forget();
        fault(e)
    }

    /// Finds a device by the id that [`list`](Self::list) shows, with or without the name of the audio system in front.
    fn find(&self, direction: Direction, id: Option<&str>) -> Result<Option<Device>, Error> {
        // Each stream has a connection of its own: with one for all, PulseAudio takes them for streams in step, which must
        // have the same sink.
        let host = (self.make)();
        let Some(id) = id else { return Ok(default_of(&host, direction)) };
        if let Ok(id) = id.parse::<cpal::DeviceId>() {
            let other = if id.host() == host.id() { None } else { cpal::host_from_id(id.host()).ok() };
            let mut devices = devices_of(other.as_ref().unwrap_or(&host), direction);
            if let Some(device) = devices.iter_mut().flatten().find(|d| d.id().ok().as_ref() == Some(&id)) {
                return Ok(Some(device.clone()));
            }
        }
        let devices = devices_of(&host, direction).map_err(|e| Error::Devices(self.gone(e)))?;
        if let Some(device) = devices.into_iter().find(|d| d.id().is_ok_and(|found| found.id() == id)) {
            return Ok(Some(device));
        }
        let listed = self.list().map_err(Error::Devices)?;
        let available = listed.into_iter().filter(|d| d.direction == direction).map(|d| d.id).collect();
        Err(Error::NoSuchDevice { direction, id: id.to_owned(), available })
    }

    pub(crate) fn open_source(&self, id: Option<&str>) -> Opened<dyn Source> {
        let Some(device) = self.find(Direction::Microphone, id)? else {
            return Ok(Err(missing(Direction::Microphone)));
        };
        Ok(stream::capture(&device).map(|source| found(&device, Box::new(source) as Box<dyn Source>)))
    }

    pub(crate) fn open_sink(&self, id: Option<&str>) -> Opened<dyn Sink> {
        let Some(device) = self.find(Direction::Speaker, id)? else {
            return Ok(Err(missing(Direction::Speaker)));
        };
        Ok(stream::playback(&device).map(|sink| found(&device, Box::new(sink) as Box<dyn Sink>)))
    }
}

fn found<T: ?Sized>(device: &Device, it: Box<T>) -> Found<T> {
    Found { it, id: device.id().map(|id| id.to_string()).unwrap_or_default(), name: device.to_string() }
}

fn devices_of(host: &Host, direction: Direction) -> Result<Vec<Device>, cpal::Error> {
    Ok(match direction {
        Direction::Microphone => host.input_devices()?.collect(),
        Direction::Speaker => host.output_devices()?.collect(),
    })
}

/// The default device. A monitor, which PulseAudio gives where there is no microphone, is none: it would send what is
/// heard. Who wants one names it.
fn default_of(host: &Host, direction: Direction) -> Option<Device> {
    match direction {
        Direction::Microphone => {
            host.default_input_device().filter(|d| !d.id().is_ok_and(|id| is_monitor(&id)))
        }
        Direction::Speaker => host.default_output_device(),
    }
}

fn is_monitor(id: &cpal::DeviceId) -> bool {
    id.host().to_string() != "alsa" && id.id().ends_with(".monitor")
}

/// Whether a device may be taken when the wanted one is gone.
fn spare(id: &cpal::DeviceId) -> bool {
    match id.host().to_string().as_str() {
        "alsa" => ALSA_SPARE.iter().any(|name| id.id().starts_with(name)),
        _ => !is_monitor(id),
    }
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

fn missing(direction: Direction) -> DeviceFault {
    DeviceFault::new(DeviceFaultKind::Missing, format!("this machine has no {direction}"))
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
