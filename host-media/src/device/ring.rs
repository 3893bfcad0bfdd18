//! The rings between the system's callbacks and the engine.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ringbuf::{
    HeapCons, HeapProd, HeapRb,
    traits::{Consumer, Observer, Producer, Split},
};

use super::drift::Drift;
use crate::{
    Block, TICK,
    error::{DeviceFault, DeviceFaultKind, Error},
    resample::{Puller, Pusher},
    sink::{Sink, Write},
    source::{Gauge, Nature, Origin, Read, Source},
};

/// What the fill is kept above what must be there: 3 ms for callbacks and ticks that come late.
const MARGIN: f64 = 0.003;
/// A ring that is this much fuller than it should be, after a standstill, is emptied at once: 60 ms.
const EXCESS: f64 = 0.060;
/// A device that does not call for this long is lost: 3 s.
const STALL_TICKS: u32 = 300;

/// A device that runs until this is dropped.
pub(crate) trait Running: Send {
    /// Nanoseconds by the clock that also tells when the device calls; none without such a clock.
    fn now(&self) -> Option<u64>;
}

impl Running for () {
    fn now(&self) -> Option<u64> {
        None
    }
}

/// What both sides of a ring know. The callback only touches the atomics.
#[derive(Debug)]
pub(crate) struct Shared {
    epoch: Instant,
    /// Nanoseconds by the device's clock of the last call; zero if it does not tell.
    last: AtomicU64,
    /// Seconds between two calls.
    period: f64,
    /// Nanoseconds after the epoch at which sample 0 was captured or is played, plus one; zero before the first call.
    first: AtomicU64,
    /// Nanoseconds of delay in the device, as it last told.
    latency: AtomicU64,
    calls: AtomicU64,
    xruns: AtomicU64,
    fault: Mutex<Option<DeviceFault>>,
}

impl Shared {
    fn new(rate: u32, period: u32) -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            last: AtomicU64::new(0),
            period: f64::from(period) / f64::from(rate),
            first: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            xruns: AtomicU64::new(0),
            fault: Mutex::new(None),
        })
    }

    /// The driver reports a gap.
    pub(crate) fn xrun(&self) {
        self.xruns.fetch_add(1, Relaxed);
    }

    /// The driver reports that the device is of no use any more. Not to be called from a data callback.
    pub(crate) fn fail(&self, fault: DeviceFault) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }

    fn take_fault(&self) -> Option<DeviceFault> {
        // The lock is contended only in the moment of a fault.
        self.fault.try_lock().ok().and_then(|mut fault| fault.take())
    }

    /// How much longer ago the last call is than half a period, in seconds: what a device has captured, or played, since it
    /// last moved samples, less the mean of that. Zero if the device does not tell.
    ///
    /// Without it the fill is known to a period only: its saw teeth, which last half a minute at 300 ppm, would be taken for
    /// drift, and bending the rate after them would shift every echo under the canceller.
    fn since_call(&self, device: &dyn Running) -> f64 {
        match (device.now(), self.last.load(Relaxed)) {
            (None, _) | (_, 0) => 0.0,
            (Some(now), last) => {
                (now.saturating_sub(last) as f64 * 1e-9).min(self.period) - self.period / 2.0
            }
        }
    }

    fn called(&self, latency: Duration, before: bool) {
        self.calls.fetch_add(1, Relaxed);
        self.latency.store(nanos(latency), Relaxed);
        if self.first.load(Relaxed) == 0 {
            let now = nanos(self.epoch.elapsed());
            let at = if before { now.saturating_sub(nanos(latency)) } else { now + nanos(latency) };
            self.first.store(at + 1, Relaxed);
        }
    }

    fn latency(&self) -> Duration {
        Duration::from_nanos(self.latency.load(Relaxed))
    }

    fn origin(&self, offset: Duration) -> Origin {
        match self.first.load(Relaxed) {
            0 => Origin::Pending,
            at => Origin::At(self.epoch + Duration::from_nanos(at - 1) + offset),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 1)
}

/// Tells when a device has stopped calling.
#[derive(Debug, Default)]
struct Watch {
    calls: u64,
    ticks: u32,
}

impl Watch {
    fn stalled(&mut self, shared: &Shared) -> bool {
        let calls = shared.calls.load(Relaxed);
        self.ticks = if calls == self.calls { self.ticks + 1 } else { 0 };
        self.calls = calls;
        self.ticks == STALL_TICKS
    }
}

fn stalled() -> DeviceFault {
    DeviceFault::new(DeviceFaultKind::Stalled, "the device was opened but has not called for 3 s")
}

/// The callback's end of a microphone's ring.
pub(crate) struct CaptureFeed {
    ring: HeapProd<f32>,
    shared: Arc<Shared>,
}

impl CaptureFeed {
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Tells when the call was made, in nanoseconds by the device's clock; to be told before the samples are moved.
    pub(crate) fn called_at(&self, nanos: u64) {
        self.shared.last.store(nanos, Relaxed);
    }

    /// Takes what the device captured, as mono. `latency` is how long ago the first sample was captured.
    pub(crate) fn feed(&mut self, samples: impl ExactSizeIterator<Item = f32>, latency: Duration) {
        self.shared.called(latency, true);
        let count = samples.len();
        if self.ring.push_iter(samples) < count {
            self.shared.xrun();
        }
    }
}

/// A microphone as a source.
pub(crate) struct Capture {
    ring: HeapCons<f32>,
    shared: Arc<Shared>,
    puller: Puller,
    drift: Drift,
    rate: f64,
    primed: bool,
    watch: Watch,
    dead: bool,
    /// Keeps the device running.
    stream: Box<dyn Running>,
}

/// Makes the two ends of a microphone's ring. `period` is the device's buffer in frames.
pub(crate) fn capture(rate: u32, period: u32) -> Result<(CaptureFeed, CaptureParts), Error> {
    let shared = Shared::new(rate, period);
    let (prod, cons) = HeapRb::new(ring_size(rate, period)).split();
    // A tick's worth must be there. As the two clocks slide along each other, a whole period can be missing from
    // one tick to the next.
    let target = TICK.as_secs_f64() + f64::from(period) / f64::from(rate) + MARGIN;
    let parts = CaptureParts {
        ring: cons,
        shared: Arc::clone(&shared),
        puller: Puller::new(rate)?,
        drift: Drift::new(target),
        rate: f64::from(rate),
    };
    Ok((CaptureFeed { ring: prod, shared }, parts))
}

/// A microphone's ring before its stream exists.
pub(crate) struct CaptureParts {
    ring: HeapCons<f32>,
    shared: Arc<Shared>,
    puller: Puller,
    drift: Drift,
    rate: f64,
}

impl CaptureParts {
    pub(crate) fn run(self, stream: Box<dyn Running>) -> Capture {
        let Self { ring, shared, puller, drift, rate } = self;
        let watch = Watch::default();
        Capture { ring, shared, puller, drift, rate, primed: false, watch, dead: false, stream }
    }
}

fn ring_size(rate: u32, period: u32) -> usize {
    rate as usize / 4 + 4 * period as usize
}

impl Source for Capture {
    fn nature(&self) -> Nature {
        Nature::Microphone
    }

    fn read(&mut self, out: &mut Block) -> Read {
        out.fill(0.0);
        if self.dead {
            return Read::Sound;
        }
        let fault = self.shared.take_fault().or_else(|| self.watch.stalled(&self.shared).then(stalled));
        if let Some(fault) = fault {
            self.dead = true;
            return Read::Lost(fault);
        }
        let mut fill = self.ring.occupied_len();
        let seconds = |samples: usize| samples as f64 / self.rate;
        if seconds(fill) > self.drift.target() + EXCESS {
            let keep = (self.drift.target() * self.rate) as usize;
            self.ring.skip(fill - keep);
            fill = keep;
            self.drift.settle();
            if self.primed {
                self.shared.xrun();
            }
        }
        if !self.primed {
            self.primed = seconds(fill) >= self.drift.target();
            if !self.primed {
                return Read::Sound;
            }
            self.drift.settle();
        }
        let bend = self.drift.observe(seconds(fill) + self.shared.since_call(&*self.stream));
        if let Err(e) = self.puller.bend(bend) {
            return self.broken(&e);
        }
        if fill < self.puller.needs() {
            // What is there is kept until enough is there again.
            self.primed = false;
            self.shared.xrun();
            return Read::Sound;
        }
        let ring = &mut self.ring;
        match self.puller.pull(|input| fill_from(ring, input), out) {
            Ok(()) => Read::Sound,
            Err(e) => self.broken(&e),
        }
    }

    fn skip(&mut self, _ticks: u64) {
        // The device went on by itself; what is too much in the ring is left out at the next read.
    }

    fn origin(&self) -> Origin {
        self.shared.origin(Duration::ZERO)
    }

    fn gauge(&self) -> Gauge {
        Gauge {
            device: self.shared.latency(),
            fill: Duration::from_secs_f64(self.ring.occupied_len() as f64 / self.rate),
            resampler: Duration::from_secs_f64(self.puller.delay()),
            xruns: self.shared.xruns.load(Relaxed),
        }
    }

    fn ready(&self) -> bool {
        self.primed && !self.dead
    }
}

impl Capture {
    fn broken(&mut self, e: &Error) -> Read {
        self.dead = true;
        Read::Lost(DeviceFault::new(DeviceFaultKind::Other, e.to_string()))
    }
}

fn fill_from(ring: &mut HeapCons<f32>, input: &mut [f32]) {
    let n = ring.pop_slice(input);
    input[n..].fill(0.0);
}

/// The callback's end of a speaker's ring.
pub(crate) struct PlaybackFeed {
    ring: HeapCons<f32>,
    shared: Arc<Shared>,
    /// Running dry before the engine has begun is no fault.
    begun: bool,
}

impl PlaybackFeed {
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Tells when the call was made, in nanoseconds by the device's clock; to be told before the samples are moved.
    pub(crate) fn called_at(&self, nanos: u64) {
        self.shared.last.store(nanos, Relaxed);
    }

    /// Gives `frames` samples, silence where there are none. `latency` is how long it takes until the first one is
    /// heard.
    pub(crate) fn drain(&mut self, frames: usize, latency: Duration, mut write: impl FnMut(f32)) {
        let mut got = 0;
        for sample in self.ring.pop_iter().take(frames) {
            write(sample);
            got += 1;
        }
        if got > 0 {
            self.begun = true;
        }
        if self.begun {
            self.shared.called(latency, false);
        } else {
            self.shared.calls.fetch_add(1, Relaxed);
        }
        if got < frames {
            if self.begun {
                self.shared.xrun();
            }
            for _ in got..frames {
                write(0.0);
            }
        }
    }
}

/// A speaker as a sink.
pub(crate) struct Playback {
    ring: HeapProd<f32>,
    shared: Arc<Shared>,
    pusher: Pusher,
    drift: Drift,
    rate: f64,
    /// Silence in front of sample 0.
    lead: usize,
    primed: bool,
    watch: Watch,
    dead: bool,
    stream: Box<dyn Running>,
}

/// A speaker's ring before its stream exists.
pub(crate) struct PlaybackParts {
    ring: HeapProd<f32>,
    shared: Arc<Shared>,
    pusher: Pusher,
    drift: Drift,
    rate: f64,
}

/// Makes the two ends of a speaker's ring. `period` is the device's buffer in frames.
pub(crate) fn playback(rate: u32, period: u32) -> Result<(PlaybackFeed, PlaybackParts), Error> {
    let shared = Shared::new(rate, period);
    let (prod, cons) = HeapRb::new(ring_size(rate, period)).split();
    // A period must be there, and as the two clocks slide along each other, two can be taken within a tick.
    let target = 2.0 * f64::from(period) / f64::from(rate) + MARGIN;
    let target = target.max(f64::from(period) / f64::from(rate) + TICK.as_secs_f64() + MARGIN);
    let parts = PlaybackParts {
        ring: prod,
        shared: Arc::clone(&shared),
        pusher: Pusher::new(rate)?,
        drift: Drift::new(target),
        rate: f64::from(rate),
    };
    Ok((PlaybackFeed { ring: cons, shared, begun: false }, parts))
}

impl PlaybackParts {
    pub(crate) fn run(self, stream: Box<dyn Running>) -> Playback {
        let Self { ring, shared, pusher, drift, rate } = self;
        let watch = Watch::default();
        Playback { ring, shared, pusher, drift, rate, lead: 0, primed: false, watch, dead: false, stream }
    }
}

impl Playback {
    fn fault(&mut self) -> Option<DeviceFault> {
        self.shared.take_fault().or_else(|| self.watch.stalled(&self.shared).then(stalled))
    }
}

impl Sink for Playback {
    fn write(&mut self, block: &Block) -> Write {
        if self.dead {
            return Write::Done;
        }
        if let Some(fault) = self.fault() {
            self.dead = true;
            return Write::Lost(fault);
        }
        let fill = self.ring.occupied_len();
        if self.primed && fill == 0 {
            // It ran dry, which the callback has counted: begin anew with some reserve.
            self.primed = false;
        }
        if !self.primed {
            let reserve = ((self.drift.target() - TICK.as_secs_f64()).max(0.0) * self.rate) as usize;
            let pushed = self.ring.push_iter(std::iter::repeat_n(0.0, reserve));
            if self.lead == 0 {
                self.lead = pushed + self.pusher.delay_samples();
            }
            self.primed = true;
            self.drift.settle();
        }
        let fill = self.ring.occupied_len() as f64 / self.rate;
        if fill > self.drift.target() + EXCESS {
            // After a standstill of the device or a burst of ticks: this block is left out.
            self.shared.xrun();
            self.drift.settle();
            return Write::Done;
        }
        let bend = -self.drift.observe(fill + TICK.as_secs_f64() - self.shared.since_call(&*self.stream));
        let result = self.pusher.bend(bend).and_then(|()| {
            let samples = self.pusher.push(block)?;
            if self.ring.push_slice(samples) < samples.len() {
                self.shared.xrun();
            }
            Ok(())
        });
        match result {
            Ok(()) => Write::Done,
            Err(e) => {
                self.dead = true;
                Write::Lost(DeviceFault::new(DeviceFaultKind::Other, e.to_string()))
            }
        }
    }

    fn skip(&mut self, _ticks: u64) {
        // The device has played silence by itself.
    }

    fn origin(&self) -> Origin {
        self.shared.origin(Duration::from_secs_f64(self.lead as f64 / self.rate))
    }

    fn gauge(&self) -> Gauge {
        Gauge {
            device: self.shared.latency(),
            fill: Duration::from_secs_f64(self.ring.occupied_len() as f64 / self.rate),
            resampler: Duration::from_secs_f64(self.pusher.delay()),
            xruns: self.shared.xruns.load(Relaxed),
        }
    }

    fn ready(&mut self) -> Result<bool, DeviceFault> {
        match self.fault() {
            Some(fault) => {
                self.dead = true;
                Err(fault)
            }
            None => Ok(!self.dead && self.shared.calls.load(Relaxed) > 0),
        }
    }
}

#[cfg(test)]
mod tests;
