//! For a settings screen: hear a speaker, see a microphone's level, without a call.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::{
    SILENT, SinkSpec, SourceSpec, TICK,
    engine::{open_sink, open_source},
    error::{DeviceFault, DeviceFaultKind, Error},
    level,
    sink::Write,
    source::{Read, Source, Tone},
};

/// How long a test tone lasts: long enough to look for the volume knob.
const TONE: Duration = Duration::from_secs(3);

/// Plays a tone of 440 Hz at -20 dBov for 3 s, to find out whether a speaker is the right one. Returns once it is open,
/// which may take a second or two; the tone ends early when the result is dropped.
///
/// ```
/// use host_media::{SinkSpec, test_tone};
///
/// # fn main() -> Result<(), host_media::Error> {
/// let tone = test_tone(&SinkSpec::Null)?; // of course a real one: SinkSpec::Default, or the id of a speaker
/// std::thread::sleep(std::time::Duration::from_millis(30));
/// assert!(tone.playing());
/// tone.stop();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A device that does not exist ([`Error::NoSuchDevice`]) or does not work ([`Error::Devices`]).
pub fn test_tone(sink: &SinkSpec) -> Result<TestTone, Error> {
    let sink = sink.clone();
    let worker = Worker::start(move |state, opened| {
        let mut sink = match open_sink(&sink) {
            Ok(sink) => sink,
            Err(e) => return drop(opened.send(Err(e))),
        };
        let _ = opened.send(Ok(()));
        let (mut tone, mut block) = (Tone::default(), SILENT);
        let ticks = TONE.as_nanos() / TICK.as_nanos();
        let mut left = u32::try_from(ticks).unwrap_or(u32::MAX);
        state.every_tick(|| {
            tone.read(&mut block);
            left -= 1;
            match sink.write(&block) {
                Write::Done => left > 0,
                Write::Failed(cause) => state.fail(DeviceFault::new(DeviceFaultKind::Other, cause)),
                Write::Lost(cause) => state.fail(cause),
            }
        });
        if let Err(e) = sink.finish() {
            tracing::warn!(error = %e, "the test tone's file is not complete");
        }
    })?;
    Ok(TestTone(worker))
}

/// A tone that plays; it ends when this is dropped.
#[derive(Debug)]
pub struct TestTone(Worker);

impl TestTone {
    /// Whether it still plays.
    #[must_use]
    pub fn playing(&self) -> bool {
        !self.0.state.done.load(Relaxed)
    }

    /// Why it ended early, if the device failed.
    #[must_use]
    pub fn fault(&self) -> Option<DeviceFault> {
        self.0.state.fault()
    }

    /// Ends it now.
    pub fn stop(self) {}
}

/// The level of a microphone without a call. The microphone is open until this is dropped.
///
/// ```
/// use host_media::{MicrophoneMeter, SourceSpec};
///
/// # fn main() -> Result<(), host_media::Error> {
/// let meter = MicrophoneMeter::open(&SourceSpec::Tone)?; // of course a real one: SourceSpec::Default
/// std::thread::sleep(std::time::Duration::from_millis(50)); // draw a frame of the screen
/// let bar = 127 - meter.level();
/// # let _ = bar;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MicrophoneMeter(Worker);

impl MicrophoneMeter {
    /// Opens a microphone, which may take a second or two.
    ///
    /// # Errors
    /// A device that does not exist ([`Error::NoSuchDevice`]) or does not work ([`Error::Devices`]).
    pub fn open(source: &SourceSpec) -> Result<Self, Error> {
        let source = source.clone();
        let worker = Worker::start(move |state, opened| {
            let mut source = match open_source(&source) {
                Ok(source) => source,
                Err(e) => return drop(opened.send(Err(e))),
            };
            let _ = opened.send(Ok(()));
            let (mut block, mut recent) = (SILENT, [level::SILENCE; WINDOW]);
            let mut at = 0;
            state.every_tick(|| match source.read(&mut block) {
                Read::Sound | Read::Ended => {
                    recent[at] = level::dbov(level::rms(&block));
                    at = (at + 1) % WINDOW;
                    let loudest = recent.iter().copied().min().unwrap_or(level::SILENCE);
                    state.level.store(loudest, Relaxed);
                    true
                }
                Read::Failed(cause) => state.fail(DeviceFault::new(DeviceFaultKind::Other, cause)),
                Read::Lost(cause) => state.fail(cause),
            });
            state.level.store(level::SILENCE, Relaxed);
        })?;
        Ok(Self(worker))
    }

    /// The loudest 10 ms of the last 100 in -dBov: 0 is the loudest, 127 is silence.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.0.state.level.load(Relaxed)
    }

    /// Why nothing comes any more, if the device failed.
    #[must_use]
    pub fn fault(&self) -> Option<DeviceFault> {
        self.0.state.fault()
    }
}

/// Blocks that the meter looks back: 100 ms, so that a screen that is drawn ten times a second misses nothing.
const WINDOW: usize = 10;

#[derive(Debug)]
struct State {
    stop: AtomicBool,
    done: AtomicBool,
    level: AtomicU8,
    fault: std::sync::Mutex<Option<DeviceFault>>,
}

impl State {
    fn every_tick(&self, mut work: impl FnMut() -> bool) {
        let mut next = Instant::now();
        while !self.stop.load(Relaxed) && work() {
            next += TICK;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    /// Always false: nothing goes on.
    fn fail(&self, cause: DeviceFault) -> bool {
        *self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(cause);
        false
    }

    fn fault(&self) -> Option<DeviceFault> {
        self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// A thread that opens something and works on it.
#[derive(Debug)]
struct Worker {
    state: Arc<State>,
}

impl Worker {
    fn start(
        work: impl FnOnce(&State, mpsc::Sender<Result<(), Error>>) + Send + 'static,
    ) -> Result<Self, Error> {
        let state = Arc::new(State {
            stop: AtomicBool::new(false),
            done: AtomicBool::new(false),
            level: AtomicU8::new(level::SILENCE),
            fault: std::sync::Mutex::new(None),
        });
        let (told, opened) = mpsc::channel();
        let shared = Arc::clone(&state);
        std::thread::Builder::new()
            .name("host-media-try".to_owned())
            .spawn(move || {
                work(&shared, told);
                shared.done.store(true, Relaxed);
            })
            .map_err(Error::Thread)?;
        let gone = || Err(Error::Panicked("while a device was opened".to_owned()));
        opened.recv().unwrap_or_else(|_| gone())?;
        Ok(Self { state })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Not waited for: closing a device can take a while, and this is a screen.
        self.state.stop.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemorySink, MemorySource};

    /// Long enough for any machine; only a failure waits for it.
    fn wait_for(what: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !what() {
            assert!(Instant::now() < until, "it never happened");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_tone_is_heard_and_can_be_stopped() {
        let heard = MemorySink::new();
        let tone = test_tone(&SinkSpec::Memory(heard.clone())).unwrap();
        wait_for(|| heard.samples().len() >= 4_800);
        assert_eq!(level::dbov(level::rms(&heard.samples()[..4_800])), 20);
        let state = Arc::clone(&tone.0.state);
        tone.stop();
        wait_for(|| state.done.load(Relaxed));
        assert!(heard.samples().len() <= 144_000);
    }

    #[test]
    fn the_meter_shows_the_level_and_what_is_missing() {
        let loud = MemorySource::new(vec![0.1; 48_000]);
        let meter = MicrophoneMeter::open(&SourceSpec::Memory(loud)).unwrap();
        wait_for(|| meter.level() == 20);
        wait_for(|| meter.level() == 127);
        assert_eq!(meter.fault(), None);
        let missing = SourceSpec::Device("no-such-microphone".to_owned());
        let error = MicrophoneMeter::open(&missing).unwrap_err();
        assert!(matches!(error, Error::NoSuchDevice { .. } | Error::Devices(_)), "{error}");
        assert!(test_tone(&SinkSpec::Device("no-such-speaker".to_owned())).is_err());
    }
}
