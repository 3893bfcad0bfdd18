//! Where sound comes from.

pub(crate) mod memory;
mod signal;
pub(crate) mod wav;

pub use memory::MemorySource;

pub(crate) use signal::{Silence, Tone};
pub(crate) use wav::open as open_wav;

use std::time::{Duration, Instant};

use crate::{Block, error::DeviceFault};

/// What came of reading a block.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    /// The block holds sound.
    Sound,
    /// The source has just ended; the block holds its last samples and then silence.
    Ended,
    /// The source has just failed for good; the block holds silence.
    Failed(String),
    /// The device has just been lost; the block holds silence.
    #[cfg_attr(not(feature = "devices"), allow(dead_code))]
    Lost(DeviceFault),
}

/// One kind of source. It is read once per tick and keeps giving silence after its end.
pub(crate) trait Source: Send {
    /// Fills the next 10 ms.
    fn read(&mut self, out: &mut Block) -> Read;

    /// Leaves `ticks` blocks out, because the engine stood still for that long.
    fn skip(&mut self, ticks: u64);

    /// Whether sound comes out of it, after the last read. A device takes a while.
    fn ready(&self) -> bool {
        true
    }

    /// What it is, for what is done with its sound.
    fn nature(&self) -> Nature {
        Nature::Sound
    }

    /// When sample 0 was captured.
    fn origin(&self) -> Origin {
        Origin::FirstTick
    }

    /// Delay, fill and faults, for sources that have them.
    fn gauge(&self) -> Gauge {
        Gauge::default()
    }
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Nature {
    /// A microphone: it hears the room.
    #[cfg_attr(not(feature = "devices"), allow(dead_code))]
    Microphone,
    /// Sound that is to be sent as it is.
    Sound,
    /// Silence, by choice.
    Silence,
}

/// When sample 0 of a source or sink is captured or played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Origin {
    /// By the clock of the ticks.
    FirstTick,
    /// Not known yet: the device has not called.
    #[cfg_attr(not(feature = "devices"), allow(dead_code))]
    Pending,
    /// At this time.
    #[cfg_attr(not(feature = "devices"), allow(dead_code))]
    At(Instant),
}

/// How a source or sink is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Gauge {
    /// In the device and its driver, as it tells.
    pub(crate) device: Duration,
    /// In the ring.
    pub(crate) fill: Duration,
    /// In the resampler.
    pub(crate) resampler: Duration,
    pub(crate) xruns: u64,
}

impl Gauge {
    pub(crate) fn latency(&self) -> Duration {
        self.device + self.fill + self.resampler
    }
}
