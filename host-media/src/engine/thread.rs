//! The engine's thread: a thin shell around the core that sleeps until each tick.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Builder, Controls, Core,
    desk::{Bell, Desk},
};
use crate::{TICK, error::Error, priority, record};

/// After a standstill up to this many ticks (200 ms) are made up for at once; what is beyond is left out.
const CATCH_UP: u64 = 20;

/// A running engine. Gives access to its [`Controls`] by itself; stops when it is dropped.
#[derive(Debug)]
pub struct Engine {
    controls: Controls,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), Error>>>,
    /// Ends when the engine's thread has closed its devices.
    devices: Option<Receiver<()>>,
    /// Ends when the desk has closed everything.
    desk: Option<Receiver<()>>,
}

impl Engine {
    /// How long closing waits for a device that is just being opened or closed: longer than cpal's own time limit of 2 s.
    pub const DEVICE_PATIENCE: Duration = Duration::from_secs(5);

    /// How long the end waits for the disk to which something is recorded; it is completed when the disk goes on.
    pub const DISK_PATIENCE: Duration = record::PATIENCE;

    /// Begins to set an engine up.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn start(core: Core, period: Duration) -> Result<Self, Error> {
        Self::start_by(core, period, |work| {
            std::thread::Builder::new().name("host-media".to_owned()).spawn(work)
        })
    }

    fn start_by(
        mut core: Core,
        period: Duration,
        spawn: impl FnOnce(Work) -> std::io::Result<JoinHandle<Result<(), Error>>>,
    ) -> Result<Self, Error> {
        let controls = core.controls();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (closes, devices) = mpsc::channel();
        let last = Last { over: Arc::default(), bell: Arc::clone(&controls.shared.bell), _devices: closes };
        let desk = core.desk.take().map(|desk| start_desk(desk, &last.over)).transpose()?;
        let shared = Arc::clone(&controls.shared);
        let work = move || {
            // Dropped in the opposite order, whatever happens: the desk has to close what the core leaves to it.
            let last = last;
            let mut core = core;
            shared.raised.store(priority::raise(), Ordering::Relaxed);
            run(&mut core, &stopped, period);
            let closed = core.close_devices();
            // Whoever waits for devices only does not wait for the disk.
            drop(last);
            closed.and(core.finish())
        };
        let thread = spawn(Box::new(work)).map_err(Error::Thread)?;
        Ok(Self { controls, stop, thread: Some(thread), devices: Some(devices), desk })
    }

    /// A handle for settings, peers and statistics that may be kept elsewhere.
    #[must_use]
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// Stops within a tick and closes the devices: when this returns, others can open them. What is recorded is completed
    /// beside, however long the disk takes; [`stop`](Self::stop) waits for that, and says what went wrong.
    pub fn close_devices(&mut self) {
        self.stop.store(true, Ordering::Release);
        if self.is_own_thread() {
            // In one of its own callbacks: it ends after this tick.
            return;
        }
        if let Some(devices) = self.devices.take() {
            // Nothing is ever sent: it ends.
            let _ = devices.recv();
        }
        if let Some(desk) = self.desk.take()
            && desk.recv_timeout(Self::DEVICE_PATIENCE) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!("a device does not let itself be opened or closed; it is left to itself");
        }
    }

    fn is_own_thread(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| thread.thread().id() == std::thread::current().id())
    }

    /// Stops within a tick, closes the devices and completes the files.
    ///
    /// # Errors
    /// [`Error::Wav`] if a file could not be completed, [`Error::Panicked`] if a callback panicked.
    pub fn stop(mut self) -> Result<(), Error> {
        self.join()
    }

    fn join(&mut self) -> Result<(), Error> {
        self.close_devices();
        if self.is_own_thread() {
            return Ok(());
        }
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Error::Panicked(text.unwrap_or_else(|| "no message".to_owned())))
        })
    }
}

impl Deref for Engine {
    type Target = Controls;

    fn deref(&self) -> &Controls {
        &self.controls
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(e) = self.join() {
            tracing::warn!(error = %e, "the engine did not end well");
        }
    }
}

/// What the engine's thread does.
type Work = Box<dyn FnOnce() -> Result<(), Error> + Send>;

/// Ends the desk when it is dropped: when the engine's thread has closed its devices, however it ends, or because there is
/// none.
struct Last {
    over: Arc<AtomicBool>,
    bell: Arc<Bell>,
    /// Tells that the devices are closed, by its end.
    _devices: Sender<()>,
}

impl Drop for Last {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.bell.ring();
    }
}

/// The desk's own thread, and what ends with it.
fn start_desk(desk: Desk, stop: &Arc<AtomicBool>) -> Result<Receiver<()>, Error> {
    let stop = Arc::clone(stop);
    let (ends, end) = mpsc::channel();
    std::thread::Builder::new()
        .name("host-media-desk".to_owned())
        .spawn(move || {
            desk.run(&stop);
            drop(ends);
        })
        .map_err(Error::Thread)?;
    Ok(end)
}

/// How far apart the ticks of a clock are that is faster by so many millionths, by the machine's clock.
pub(super) fn period(clock_error: i32) -> Duration {
    TICK.mul_f64(1.0 - f64::from(clock_error) / 1e6)
}

/// Ticks at absolute times, so that lateness never adds up.
fn run(core: &mut Core, stop: &AtomicBool, period: Duration) {
    let mut next = Instant::now();
    while !stop.load(Ordering::Acquire) {
        let now = Instant::now();
        if let Some(early) = next.checked_duration_since(now)
            && !early.is_zero()
        {
            std::thread::sleep(early);
            continue;
        }
        let behind = (now - next).as_nanos() / period.as_nanos();
        let behind = u64::try_from(behind).unwrap_or(u64::MAX);
        if behind > CATCH_UP {
            tracing::warn!(ms = behind * 10, "the audio thread stood still");
            core.skip(behind);
            next += period * u32::try_from(behind).unwrap_or(u32::MAX);
        }
        core.tick(next);
        next += period;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Mutex,
        time::{Instant, SystemTime},
    };

    use super::*;
    use crate::{SinkSpec, SourceSpec, lock};

    fn silent() -> Builder {
        Engine::builder().source(SourceSpec::Silence).sink(SinkSpec::Null)
    }

    /// Waits until nobody but these controls holds anything: two posts and the handle itself.
    fn alone(controls: &Controls) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        while Arc::strong_count(&controls.shared.bell) > 3 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        Arc::strong_count(&controls.shared.bell) == 3
    }

    #[test]
    fn without_a_thread_for_the_ticks_there_is_none_for_devices() {
        let core = silent().build(Instant::now(), SystemTime::now()).unwrap();
        let controls = core.controls();
        let refused =
            Engine::start_by(core, TICK, |_work| Err(std::io::Error::other("no thread"))).unwrap_err();
        assert!(matches!(refused, Error::Thread(_)), "{refused}");
        assert!(alone(&controls), "the thread for devices goes on");
    }

    #[test]
    fn a_clock_without_error_ticks_as_it_should_and_a_fast_one_sooner() {
        assert_eq!(period(0), TICK);
        assert_eq!(period(500), Duration::from_micros(9_995));
        assert_eq!(period(-500), Duration::from_micros(10_005));
    }

    #[test]
    fn an_engine_that_is_dropped_in_its_own_callback_ends_all_its_threads() {
        let place = Arc::new(Mutex::new(None::<Engine>));
        let own = Arc::clone(&place);
        let dropped = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&dropped);
        let engine = silent()
            .on_frame(move |_| {
                let engine = lock(&own).take();
                done.fetch_or(engine.is_some(), Ordering::Release);
                drop(engine);
            })
            .start()
            .unwrap();
        let controls = engine.controls();
        *lock(&place) = Some(engine);
        let until = Instant::now() + Duration::from_secs(60);
        while !dropped.load(Ordering::Acquire) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(dropped.load(Ordering::Acquire));
        assert!(alone(&controls), "a thread goes on");
    }
}
