//! What can go wrong, to what, and what to do about it.

use std::{fmt, path::PathBuf};

use crate::device::Direction;

/// Why an engine could not be built, started or stopped, or a request was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A WAV file cannot be read or written.
    #[error("{path}: {fault}")]
    Wav {
        /// The file as it was named.
        path: PathBuf,
        /// What is wrong with it.
        fault: WavFault,
    },
    /// An Ogg Opus file cannot be read.
    #[error("{path}: {fault}")]
    Opus {
        /// The file as it was named.
        path: PathBuf,
        /// What is wrong with it.
        fault: OpusFault,
    },
    /// A recording cannot be begun.
    #[error("cannot record: {0}")]
    Record(RecordFault),
    /// No device has this id.
    #[error(
        "no {direction} has the id {id:?}; {}",
        if available.is_empty() { "this machine has none at all".to_owned() }
        else { format!("there are: {}", available.join(", ")) }
    )]
    NoSuchDevice {
        /// What kind of device was asked for.
        direction: Direction,
        /// The id that was asked for.
        id: String,
        /// The ids of the devices that exist, in the order of the system.
        available: Vec<String>,
    },
    /// The system cannot list its devices.
    #[error("cannot list the audio devices: {0}")]
    Devices(DeviceFault),
    /// The codec refused its settings.
    #[error("Opus refused to {action}: {cause}")]
    Codec {
        /// What was tried.
        action: &'static str,
        /// What libopus said.
        cause: String,
    },
    /// A resampler cannot be made for these rates.
    #[error("cannot convert from {from} Hz to {to} Hz: {cause}")]
    Resample {
        /// Rate of the input, in Hz.
        from: u32,
        /// Rate of the output, in Hz.
        to: u32,
        /// What the resampler said.
        cause: String,
    },
    /// The bound on peers is reached.
    #[error("an engine mixes at most {max} peers; remove one first")]
    TooManyPeers {
        /// The bound.
        max: usize,
    },
    /// The engine has been stopped.
    #[error("the engine has been stopped")]
    Stopped,
    /// The engine's ticks do not go on, so that nothing more can be given to them.
    #[error("the engine stands still; try again later")]
    Standstill,
    /// The engine's thread could not be started.
    #[error("cannot start the audio thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The engine's thread panicked, most likely inside a callback that the application gave.
    #[error("the audio thread panicked: {0}")]
    Panicked(String),
}

/// What is wrong with a WAV file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WavFault {
    /// The file cannot be opened, created, read or written.
    #[error("{0}")]
    Io(#[source] std::io::Error),
    /// The file is not a WAV file that can be understood.
    #[error("not a usable WAV file: {0}")]
    Broken(String),
    /// The format is outside of what can be converted.
    #[error("{0}")]
    Unsupported(String),
}

/// What is wrong with an Ogg Opus file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpusFault {
    /// The file cannot be opened or read.
    #[error("{0}")]
    Io(#[source] std::io::Error),
    /// The file is not an Ogg Opus file that can be understood.
    #[error("not a usable Ogg Opus file: {0}")]
    Broken(String),
    /// The file holds something else than Opus, or more channels than can be read.
    #[error("{0}")]
    Unsupported(String),
}

/// Why a recording cannot be begun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// This engine records already.
    #[error("a recording is running; stop it first")]
    Already,
    /// The engine has been stopped.
    #[error("the engine has been stopped")]
    Stopped,
    /// A file cannot be created or written. The kind of the cause tells the reasons apart: a folder that is missing, a
    /// permission, a full disk.
    #[error("{path}: {cause}")]
    File {
        /// The file, or the folder for it.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The thread that writes could not be started.
    #[error("cannot start the thread that writes: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why a text does not name a source or sink.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The text is empty.
    #[error("empty; give {expected}")]
    Empty {
        /// What may be given.
        expected: &'static str,
    },
    /// This word belongs to the other direction.
    #[error("{word:?} cannot be used here; give {expected}")]
    WrongDirection {
        /// The word.
        word: String,
        /// What may be given.
        expected: &'static str,
    },
}

/// A fault of an audio device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceFault {
    /// The kind, for programs.
    pub kind: DeviceFaultKind,
    /// The system's words, for people.
    pub message: String,
}

/// The kinds of device faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceFaultKind {
    /// There is no such device, or it was unplugged.
    Missing,
    /// The system or the user does not let this program use it.
    Denied,
    /// Another program holds it; trying again later may help.
    Busy,
    /// It cannot do any format that can be converted.
    Unsupported,
    /// It was opened but delivers or takes no samples.
    Stalled,
    /// This build has no support for devices (the feature `devices` is off).
    NotBuilt,
    /// Anything else.
    Other,
}

impl DeviceFault {
    pub(crate) fn new(kind: DeviceFaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    #[cfg(not(feature = "devices"))]
    pub(crate) fn not_built() -> Self {
        Self::new(DeviceFaultKind::NotBuilt, "this build has no support for devices (feature `devices`)")
    }
}

impl fmt::Display for DeviceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DeviceFault {}
