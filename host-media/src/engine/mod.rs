//! The engine: a pure core that works one tick at a time, a thread around it, and handles to both.

mod capture;
mod controls;
mod core;
mod desk;
mod encoding;
mod kind;
mod slot;
mod thread;

#[cfg(test)]
#[cfg(feature = "devices")]
mod device_tests;

pub use controls::{Controls, MAX_PEERS, PeerInput};
pub use core::Core;
pub use desk::InUse;
pub use thread::Engine;

use std::time::{Instant, SystemTime};

use self::kind::{Kind, Sinks, Sources};
use crate::{
    device::System,
    error::Error,
    event::Event,
    format::{EncodedFrame, Format},
    jitter::JitterConfig,
    process::Processing,
    sink::Sink,
    source::Source,
    spec::{SinkSpec, SourceSpec},
};

type OnFrame = Box<dyn FnMut(EncodedFrame) + Send>;
type OnEvent = Box<dyn FnMut(Event) + Send>;

/// Sets an engine up.
#[must_use]
pub struct Builder {
    source: SourceSpec,
    sink: SinkSpec,
    format: Format,
    jitter: JitterConfig,
    bitrate: u32,
    expected_loss: u8,
    complexity: u8,
    processing: Option<Processing>,
    automute: bool,
    muted: bool,
    /// Whether ticks may wait for a disk: they are not bound to a clock.
    lockstep: bool,
    /// By how much this engine's clock is faster than the machine's, in millionths.
    clock_error: i32,
    encoding: encoding::Encoding,
    on_frame: OnFrame,
    on_event: OnEvent,
    system: System,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("source", &self.source)
            .field("sink", &self.sink)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            source: SourceSpec::default(),
            sink: SinkSpec::default(),
            format: Format::default(),
            jitter: JitterConfig::default(),
            bitrate: crate::codec::DEFAULT_BITRATE,
            expected_loss: crate::codec::DEFAULT_EXPECTED_LOSS,
            complexity: crate::codec::DEFAULT_COMPLEXITY,
            processing: None,
            automute: false,
            muted: false,
            lockstep: true,
            clock_error: 0,
            encoding: encoding::Encoding::default(),
            on_frame: Box::new(|_| {}),
            on_event: Box::new(|_| {}),
            system: System::machine(),
        }
    }
}

impl Builder {
    /// Where sound comes from. Default: the system's microphone.
    pub fn source(mut self, source: SourceSpec) -> Self {
        self.source = source;
        self
    }

    /// Where sound goes. Default: the system's speaker.
    pub fn sink(mut self, sink: SinkSpec) -> Self {
        self.sink = sink;
        self
    }

    /// What is sent. Default: 20 ms frames.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Bounds for the delay of the jitter buffers.
    pub fn jitter(mut self, jitter: JitterConfig) -> Self {
        self.jitter = jitter;
        self
    }

    /// Bit rate in bit/s, 6000 to 510000, capped by the format. Default 32000: RFC 7587 section 3.1.1 gives 28000 to
    /// 40000 for fullband speech.
    pub fn bitrate(mut self, bits_per_second: u32) -> Self {
        self.bitrate = bits_per_second;
        self
    }

    /// Loss, in percent, that redundancy is sent for. Default 5, so that there is some before the receivers have
    /// reported what they lose; 0 sends none.
    pub fn expected_loss(mut self, percent: u8) -> Self {
        self.expected_loss = percent;
        self
    }

    /// Effort of the encoder, 0 to 10. Default 9, as libopus has it.
    pub fn complexity(mut self, complexity: u8) -> Self {
        self.complexity = complexity;
        self
    }

    /// What is done to the source before it is encoded. Default: [`Processing::on`] for a microphone, [`Processing::off`]
    /// for files, tones, silence and memory. Can be changed with [`Controls::set_processing`].
    pub fn processing(mut self, processing: Processing) -> Self {
        self.processing = Some(processing);
        self
    }

    /// Whether it mutes while nobody speaks into the microphone, as [`Controls::set_automute`] says. Default: no.
    pub fn automute(mut self, on: bool) -> Self {
        self.automute = on;
        self
    }

    /// Whether it starts muted, as [`Controls::set_muted`] says: then nothing of the source is sent, from its first sample
    /// on. Default: no.
    pub fn muted(mut self, muted: bool) -> Self {
        self.muted = muted;
        self
    }

    /// What to do with each encoded frame. Runs on the engine's thread, so it must not block: write it to a track or
    /// a queue that drops the oldest. Threads that are started in there inherit the engine's priority.
    pub fn on_frame(mut self, callback: impl FnMut(EncodedFrame) + Send + 'static) -> Self {
        self.on_frame = Box::new(callback);
        self
    }

    /// What to do with each event. Runs on the engine's thread, so it must not block.
    pub fn on_event(mut self, callback: impl FnMut(Event) + Send + 'static) -> Self {
        self.on_event = Box::new(callback);
        self
    }

    /// For tests: the engine's thread ticks by a clock that is faster than the machine's by so many millionths, 10,000 at most, as on
    /// another machine; slower if negative. To whoever hears it, it is a clock that drifts.
    #[doc(hidden)]
    pub fn clock_error(mut self, ppm: i32) -> Self {
        self.clock_error = ppm.clamp(-10_000, 10_000);
        self
    }

    /// Opens the source and the sink and starts the engine's thread. Opening a device may take a second or two.
    ///
    /// A missing or refused microphone or speaker is no error: the engine runs without it, says so with
    /// [`Event::ListenOnly`] or [`Event::NoSpeaker`], and goes on looking for one.
    ///
    /// # Errors
    /// A WAV file that cannot be read or written, a device id that does not exist, settings that the codec refuses,
    /// or no thread.
    pub fn start(mut self) -> Result<Engine, Error> {
        self.lockstep = false;
        let period = thread::period(self.clock_error);
        Engine::start(self.build(Instant::now(), SystemTime::now())?, period)
    }

    /// Makes the engine without its thread: the caller calls [`Core::tick`] for every 10 ms, with times that may be
    /// made up. `now` and `unix` are the same moment on both clocks.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn build(self, now: Instant, unix: SystemTime) -> Result<Core, Error> {
        let source = Sources::open(&self.system, &self.source, self.lockstep)?;
        let sink = Sinks::open(&self.system, &self.sink, self.lockstep)?;
        Core::new(self, source, sink, now, unix)
    }

    /// With another sound system than the machine's.
    #[cfg(all(test, feature = "devices"))]
    pub(crate) fn system(mut self, system: System) -> Self {
        self.system = system;
        self
    }
}

/// Opens a source beside any engine.
pub(crate) fn open_source(spec: &SourceSpec) -> Result<Box<dyn Source>, Error> {
    let opened = Sources::open(&System::machine(), spec, false)?;
    opened.map(|found| found.it).map_err(Error::Devices)
}

/// Opens a sink beside any engine.
pub(crate) fn open_sink(spec: &SinkSpec) -> Result<Box<dyn Sink>, Error> {
    let opened = Sinks::open(&System::machine(), spec, false)?;
    opened.map(|found| found.it).map_err(Error::Devices)
}
