//! Microphones and speakers.
//!
//! The system's side ([`cpal`], the only folder that knows the crate) runs in callbacks that move samples to and from
//! lock-free rings ([`ring`]); the engine's side of the rings is a source and a sink that follow the device's clock.
//! Which device is to be open when others come and go is decided in [`keeper`].

#[cfg(feature = "devices")]
pub(crate) mod cpal;
// The rings are tested without any device, so they are built for tests in any case.
#[cfg(any(feature = "devices", test))]
mod drift;
pub(crate) mod keeper;
#[cfg(any(feature = "devices", test))]
pub(crate) mod ring;
mod try_out;

pub use try_out::{MicrophoneMeter, TestTone, test_tone};

use std::{collections::BTreeSet, fmt, ops::RangeInclusive};

use crate::error::{DeviceFault, Error};
#[cfg(not(feature = "devices"))]
use crate::{sink::Sink, source::Source};

/// Microphone or speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Sound comes from it.
    Microphone,
    /// Sound goes to it.
    Speaker,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Microphone => "microphone",
            Self::Speaker => "speaker",
        })
    }
}

/// A microphone or speaker of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// What [`SourceSpec::Device`](crate::SourceSpec::Device) and [`SinkSpec::Device`](crate::SinkSpec::Device) take.
    /// Stays the same across restarts as far as the system allows.
    pub id: String,
    /// What the system calls it, to show to people. Where several have the same name, the second is `NAME (2)` and so
    /// on, in the order of their ids; what counts is the id.
    pub name: String,
    /// Microphone or speaker.
    pub direction: Direction,
    /// Whether it is the system's default.
    pub default: bool,
    /// Ranges of sample rates in Hz, ascending; empty if another program holds the device and it cannot tell.
    pub rates: Vec<RangeInclusive<u32>>,
    /// Numbers of channels, ascending; empty if it cannot tell.
    pub channels: Vec<u16>,
}

/// Lists the microphones and speakers that can be opened. Takes up to some seconds on systems with many devices.
///
/// On Linux these are the ones of the PulseAudio server if there is one (PipeWire serves that protocol as well), else
/// those of ALSA. The ids of the other system can be used as well, such as `alsa:plughw:CARD=0,DEV=0`.
///
/// # Errors
/// [`Error::Devices`] if the system cannot tell, or if this build has no support for devices.
pub fn devices() -> Result<Vec<DeviceInfo>, Error> {
    let mut all = System::machine().list().map_err(Error::Devices)?;
    tell_apart(&mut all);
    Ok(all)
}

/// Makes the names of each direction unique.
pub(crate) fn tell_apart(all: &mut [DeviceInfo]) {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|&a, &b| all[a].id.cmp(&all[b].id));
    let mut used: BTreeSet<(Direction, String)> = all.iter().map(|d| (d.direction, d.name.clone())).collect();
    let mut first = BTreeSet::new();
    for at in order {
        let device = &mut all[at];
        if first.insert((device.direction, device.name.clone())) {
            continue;
        }
        for n in 2_u32.. {
            let name = format!("{} ({n})", device.name);
            if used.insert((device.direction, name.clone())) {
                device.name = name;
                break;
            }
        }
    }
}

/// What is there at a moment, of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Presence {
    /// Every id, in the order of the system.
    pub(crate) ids: Vec<String>,
    /// The id of the default.
    pub(crate) default: Option<String>,
    /// Those that may be taken when the wanted one and the default do not work.
    pub(crate) spare: Vec<String>,
}

/// A device that was opened.
pub(crate) struct Found<T: ?Sized> {
    pub(crate) it: Box<T>,
    pub(crate) id: String,
    pub(crate) name: String,
}

/// What came of opening a device that exists, or should. The outer error is for an id that does not exist, the inner one
/// for a device that is missing or does not work.
pub(crate) type Opened<T> = Result<Result<Found<T>, DeviceFault>, Error>;

#[cfg(feature = "devices")]
pub(crate) use self::cpal::System;

/// No sound system: this build has no support for devices.
#[cfg(not(feature = "devices"))]
#[derive(Clone, Debug)]
pub(crate) struct System;

#[cfg(not(feature = "devices"))]
impl System {
    pub(crate) fn machine() -> Self {
        Self
    }

    pub(crate) fn list(&self) -> Result<Vec<DeviceInfo>, DeviceFault> {
        Err(DeviceFault::not_built())
    }

    pub(crate) fn moves_quietly(&self) -> bool {
        false
    }

    pub(crate) fn presence(&self, _: Direction, _: Option<&str>) -> Result<Presence, DeviceFault> {
        Err(DeviceFault::not_built())
    }

    pub(crate) fn open_source(&self, id: Option<&str>) -> Opened<dyn Source> {
        not_built(id)
    }

    pub(crate) fn open_sink(&self, id: Option<&str>) -> Opened<dyn Sink> {
        not_built(id)
    }
}

#[cfg(not(feature = "devices"))]
fn not_built<T: ?Sized>(id: Option<&str>) -> Opened<T> {
    match id {
        None => Ok(Err(DeviceFault::not_built())),
        Some(_) => Err(Error::Devices(DeviceFault::not_built())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, name: &str, direction: Direction) -> DeviceInfo {
        let (rates, channels) = (Vec::new(), Vec::new());
        DeviceInfo { id: id.to_owned(), name: name.to_owned(), direction, default: false, rates, channels }
    }

    #[test]
    fn names_that_are_there_twice_are_numbered_by_their_ids() {
        use Direction::{Microphone, Speaker};
        let mut all = [
            device("c", "Headset", Microphone),
            device("a", "Headset", Microphone),
            device("b", "Headset (2)", Microphone),
            device("d", "Headset", Speaker),
            device("e", "Headset", Microphone),
        ];
        tell_apart(&mut all);
        let names: Vec<_> = all.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["Headset (3)", "Headset", "Headset (2)", "Headset", "Headset (4)"]);
    }
}
