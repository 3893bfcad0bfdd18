//! Where sound goes.

mod memory;
mod wav;

pub use memory::MemorySink;

pub(crate) use wav::create as create_wav;

use crate::{
    Block,
    error::{DeviceFault, Error},
    source::{Gauge, Origin},
};

/// What came of writing a block.
#[derive(Debug, PartialEq)]
pub(crate) enum Write {
    /// It was taken.
    Done,
    /// The sink has just failed for good.
    Failed(String),
    /// The device has just been lost.
    #[cfg_attr(not(feature = "devices"), allow(dead_code))]
    Lost(DeviceFault),
}

/// One kind of sink. It is written once per tick.
pub(crate) trait Sink: Send {
    /// Plays the next 10 ms.
    fn write(&mut self, block: &Block) -> Write;

    /// Fills `ticks` blocks with silence, because the engine stood still for that long.
    fn skip(&mut self, ticks: u64);

    /// Whether it plays what it is given. A device takes a while; until then it is not to be written.
    fn ready(&mut self) -> Result<bool, DeviceFault> {
        Ok(true)
    }

    /// When sample 0 is played.
    fn origin(&self) -> Origin {
        Origin::FirstTick
    }

    /// Delay, fill and faults, for sinks that have them.
    fn gauge(&self) -> Gauge {
        Gauge::default()
    }

    /// Completes the sink; nothing is written after that.
    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Nowhere.
#[derive(Debug)]
pub(crate) struct Null;

impl Sink for Null {
    fn write(&mut self, _block: &Block) -> Write {
        Write::Done
    }

    fn skip(&mut self, _ticks: u64) {}
}
