//! Sound to Opus frames and back.
//!
//! An [`Engine`] takes sound from a *source* (a microphone, a WAV file, a tone, silence or memory), encodes it once as
//! Opus and hands each frame to a callback. In the other direction it takes the packets of any number of remote peers,
//! puts each peer's packets in order in a jitter buffer, decodes and mixes them, and plays the mix to a *sink* (a
//! speaker, a WAV file, memory or nothing). It knows nothing of networks, keys or calls.
//!
//! Inside, everything is 48 kHz mono `f32` in blocks of 10 ms. One thread per engine does all the work and sleeps until
//! absolute deadlines; device callbacks only move samples between lock-free rings. The engine without its thread is
//! [`Core`], which a test drives with times of its own making.
//!
//! ```
//! use host_media::{Engine, Event, MemorySink, Packet, PeerId, SinkSpec, SourceSpec};
//! use std::time::Instant;
//!
//! # fn main() -> Result<(), host_media::Error> {
//! let heard = MemorySink::new();
//! let engine = Engine::builder()
//!     .source(SourceSpec::Tone)
//!     .sink(SinkSpec::Memory(heard.clone()))
//!     .on_frame(|frame| { /* give frame.payload and frame.timestamp to the network */ let _ = frame; })
//!     .on_event(|event| if let Event::ListenOnly { cause } = event { eprintln!("no microphone: {cause}") })
//!     .start()?;
//!
//! let from_bob = engine.add_peer(PeerId(7))?;
//! # let payload = bytes::Bytes::from_static(&[0xf8, 0xff, 0xfe]);
//! from_bob.push(Packet::new(1, 960, payload), Instant::now());
//! engine.set_gain(PeerId(7), 1.5);
//! engine.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! During a call, [`Controls::record`] writes what oneself and each peer say to files that are in step with each other,
//! and [`Controls::play`] plays a file to everybody.
//!
//! Features: `devices` (on by default) brings the machine's microphones and speakers through cpal. Without it the
//! crate still builds and everything else works.

// Except for the calls of libopus in codec/ffi.rs.
#![deny(unsafe_code)]

pub mod measure;

mod codec;
mod container;
mod device;
mod engine;
mod error;
mod event;
mod format;
#[doc(hidden)]
pub mod fuzz;
mod jitter;
mod level;
mod limiter;
mod mixer;
mod play;
mod playout;
mod priority;
mod process;
mod record;
mod resample;
mod sink;
mod source;
mod spec;
mod stats;

pub use codec::PathAdvice;
pub use device::{DeviceInfo, Direction, MicrophoneMeter, TestTone, devices, test_tone};
pub use engine::{Builder, Controls, Core, Engine, InUse, MAX_PEERS, PeerInput};
pub use error::{DeviceFault, DeviceFaultKind, Error, OpusFault, RecordFault, SpecError, WavFault};
pub use event::{ChangeReason, Event, Speaker};
pub use format::{EncodedFrame, Format, FrameLength, Packet, PayloadKind, PeerId};
pub use jitter::JitterConfig;
pub use play::PlaySpec;
pub use process::{NoiseLevel, Processing, VoiceStats};
pub use record::{RecordSpec, RecordStats, RecordingId};
pub use sink::MemorySink;
pub use source::MemorySource;
pub use spec::{SinkSpec, SourceSpec, WavFormat, WavSample};
pub use stats::{EngineStats, Latency, PeerStats};

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Sample rate inside the engine and of all RTP timestamps: 48 kHz, the clock rate of Opus (RFC 7587 section 4.1).
pub const SAMPLE_RATE: u32 = 48_000;

/// The step in which the engine works: 10 ms, the shortest frame that is worth sending and the block length of the
/// usual voice processing.
pub const TICK: Duration = Duration::from_millis(10);

/// Samples in one [`TICK`].
pub const BLOCK: usize = 480;

/// 10 ms of 48 kHz mono sound; full scale is -1.0..=1.0.
pub(crate) type Block = [f32; BLOCK];

/// A block of silence.
pub(crate) const SILENT: Block = [0.0; BLOCK];

/// Takes what a panicking thread may have left: the data behind these locks is plain and always complete.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
