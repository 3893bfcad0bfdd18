//! Microphones and speakers.
//!
//! The system's side ([`cpal`], the only file that knows the crate) runs in callbacks that move samples to and from
//! lock-free rings ([`ring`]); the engine's side of the rings is a source and a sink that follow the device's clock.

#[cfg(feature = "devices")]
mod cpal;
// The rings are tested without any device, so they are built for tests in any case.
#[cfg(any(feature = "devices", test))]
mod drift;
#[cfg(any(feature = "devices", test))]
pub(crate) mod ring;

use std::{fmt, ops::RangeInclusive};

use crate::{
    error::{DeviceFault, Error},
    sink::Sink,
    source::Source,
};

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
    /// What the system calls it.
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
/// # Errors
/// [`Error::Devices`] if the system cannot tell, or if this build has no support for devices.
pub fn devices() -> Result<Vec<DeviceInfo>, Error> {
    #[cfg(feature = "devices")]
    return self::cpal::list().map_err(Error::Devices);
    #[cfg(not(feature = "devices"))]
    return Err(Error::Devices(DeviceFault::not_built()));
}

/// What came of opening a device that exists, or should.
pub(crate) type Opened<T> = Result<Result<Box<T>, DeviceFault>, Error>;

/// Opens the microphone with this id, or the default one. The outer error is for an id that does not exist, the inner
/// one for a microphone that is missing or does not work.
pub(crate) fn open_source(id: Option<&str>) -> Opened<dyn Source> {
    #[cfg(feature = "devices")]
    return self::cpal::open_source(id);
    #[cfg(not(feature = "devices"))]
    return not_built(id);
}

/// Opens the speaker with this id, or the default one, likewise.
pub(crate) fn open_sink(id: Option<&str>) -> Opened<dyn Sink> {
    #[cfg(feature = "devices")]
    return self::cpal::open_sink(id);
    #[cfg(not(feature = "devices"))]
    return not_built(id);
}

#[cfg(not(feature = "devices"))]
fn not_built<T: ?Sized>(id: Option<&str>) -> Opened<T> {
    match id {
        None => Ok(Err(DeviceFault::not_built())),
        Some(_) => Err(Error::Devices(DeviceFault::not_built())),
    }
}
