//! Plays a file into a call: it is added to what oneself sends.

pub(crate) mod ahead;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use self::ahead::{Ahead, Pull};
use crate::{BLOCK, Block, SILENT, engine::Controls, error::Error, event::Event, lock};

/// The highest gain: 12 dB, as for peers.
const MAX_GAIN: f32 = 4.0;
/// Sums above this are bent towards full scale: -1.9 dBov, so that a voice over loud music is not cut hard.
const KNEE: f32 = 0.8;

/// Files that may be replaced within a tick: far more than a person asks for in 10 ms.
const MAX_PASSED: usize = 64;

/// What to play into a call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PlaySpec {
    /// The file: Ogg Opus if its name ends in `.opus`, `.ogg` or `.oga`, otherwise WAV.
    pub file: PathBuf,
    /// How loud it is sent: 1 is as it is in the file, 0 is silent, at most 4 (12 dB). Default 1.
    pub gain: f32,
    /// Whether it is also played here. Default false.
    pub monitor: bool,
    /// Whether ticks wait for the disk when it is too slow. Default false: then there is a gap, and the file goes on
    /// where it was. True is for a [`Core`](crate::Core) that is driven faster than the clock, and never right for an
    /// [`Engine`](crate::Engine).
    pub lockstep: bool,
}

impl PlaySpec {
    /// Plays this file, as loud as it is.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), gain: 1.0, monitor: false, lockstep: false }
    }

    /// The same with another gain.
    #[must_use]
    pub fn gain(mut self, gain: f32) -> Self {
        self.gain = gain;
        self
    }

    /// The same, played here too or not.
    #[must_use]
    pub fn monitor(mut self, monitor: bool) -> Self {
        self.monitor = monitor;
        self
    }

    /// The same with ticks that wait for the disk.
    #[must_use]
    pub fn lockstep(mut self, lockstep: bool) -> Self {
        self.lockstep = lockstep;
        self
    }
}

impl Controls {
    /// Plays a file to everybody in the call, from the next tick on, together with one's own voice; a file that is being
    /// played ends. Being muted does not silence it. Without a microphone something is sent as long as it plays.
    ///
    /// The file is opened here, which may take as long as the disk takes, and read ahead by a thread of its own.
    /// [`Event::PlayingEnded`] tells when it is over: once for each call of this that was no error, in the same order,
    /// whether any of the file was played or not.
    ///
    /// # Errors
    /// [`Error::Wav`] or [`Error::Opus`] if the file cannot be read, [`Error::Thread`] without a thread, [`Error::Stopped`]
    /// if the engine has been stopped, [`Error::Standstill`] if its ticks have not taken up the last 64 files.
    pub fn play(&self, spec: &PlaySpec) -> Result<(), Error> {
        let players = self.players();
        lock(&players.state).takes_another()?;
        let ahead = Ahead::open(&spec.file, spec.lockstep)?;
        let mut state = lock(&players.state);
        state.takes_another()?;
        players.set_gain(spec.gain);
        players.monitor.store(spec.monitor, Ordering::Relaxed);
        state.pass_over();
        state.waiting = Some(Playing { ahead, file: spec.file.clone(), gain: None });
        players.changed.store(true, Ordering::Release);
        Ok(())
    }

    /// Ends the file that is being played, with the next tick. False if there is none; one that no tick has begun is one.
    pub fn stop_playing(&self) -> bool {
        let players = self.players();
        let mut state = lock(&players.state);
        let any = state.playing || state.waiting.is_some();
        state.pass_over();
        state.stop = true;
        players.changed.store(true, Ordering::Release);
        any
    }

    /// How much of a file has been played; none if none is being played.
    #[must_use]
    pub fn playing(&self) -> Option<Duration> {
        let blocks = self.players().played.load(Ordering::Relaxed);
        (blocks != NOTHING).then(|| Duration::from_millis(10 * blocks))
    }

    /// Sets how loud the file is sent that is being played: 0 to 4; what is not a number is 1.
    pub fn set_playing_gain(&self, gain: f32) {
        self.players().set_gain(gain);
    }

    /// Sets whether the file that is being played is played here too. Being deafened silences it here.
    pub fn set_playing_monitor(&self, monitor: bool) {
        self.players().monitor.store(monitor, Ordering::Relaxed);
    }
}

/// No file is being played.
const NOTHING: u64 = u64::MAX;

/// What is played, as the handles and the ticks of an engine share it.
#[derive(Debug)]
pub(crate) struct Players {
    state: Mutex<State>,
    changed: AtomicBool,
    gain: AtomicU32,
    monitor: AtomicBool,
    /// Blocks that were played, or [`NOTHING`].
    played: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Option<Playing>,
    /// The ticks play one.
    playing: bool,
    /// What waited, and will never be played: to be told.
    passed: Vec<PathBuf>,
    stop: bool,
    /// There are no more ticks.
    over: bool,
}

impl State {
    fn takes_another(&self) -> Result<(), Error> {
        match self {
            Self { over: true, .. } => Err(Error::Stopped),
            Self { passed, .. } if passed.len() >= MAX_PASSED => Err(Error::Standstill),
            _ => Ok(()),
        }
    }

    fn pass_over(&mut self) {
        self.passed.extend(self.waiting.take().map(|playing| playing.file));
    }
}

#[derive(Debug)]
struct Playing {
    ahead: Ahead,
    file: PathBuf,
    /// Of the last block.
    gain: Option<f32>,
}

impl Default for Players {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: AtomicBool::new(false),
            gain: AtomicU32::new(1.0_f32.to_bits()),
            monitor: AtomicBool::new(false),
            played: AtomicU64::new(NOTHING),
        }
    }
}

impl Players {
    fn set_gain(&self, gain: f32) {
        let gain = if gain.is_nan() { 1.0 } else { gain.clamp(0.0, MAX_GAIN) };
        self.gain.store(gain.to_bits(), Ordering::Relaxed);
    }
}

/// The hook in the engine: has the next block of what is played.
#[derive(Debug)]
pub(crate) struct Player {
    shared: Arc<Players>,
    current: Option<Playing>,
    /// The block of this tick.
    block: Option<Block>,
    /// How loud the last block was played here.
    monitored: f32,
}

impl Player {
    pub(crate) fn new(shared: Arc<Players>) -> Self {
        Self { shared, current: None, block: None, monitored: 0.0 }
    }

    /// Gets the block of the next tick.
    pub(crate) fn next(&mut self, tell: &mut dyn FnMut(Event)) {
        self.block = None;
        if self.shared.changed.swap(false, Ordering::AcqRel) {
            self.change(tell);
        }
        let Some(playing) = &mut self.current else { return };
        let mut block = SILENT;
        let pulled = playing.ahead.pull(&mut block);
        if pulled != Pull::Waiting {
            // It begins as it is set: a file is not faded in.
            let to = f32::from_bits(self.shared.gain.load(Ordering::Relaxed));
            let from = playing.gain.replace(to).unwrap_or(to);
            for (i, sample) in block.iter_mut().enumerate() {
                *sample *= from + (to - from) * (i + 1) as f32 / BLOCK as f32;
            }
            let played = self.shared.played.load(Ordering::Relaxed);
            self.shared.played.store(played.wrapping_add(1), Ordering::Relaxed);
        }
        self.block = Some(block);
        match pulled {
            Pull::Waiting | Pull::Sound => {}
            Pull::Ended => self.over(None, tell),
            Pull::Failed(cause) => self.over(Some(cause), tell),
        }
    }

    /// The block of this tick, if something is played.
    pub(crate) fn block(&self) -> Option<&Block> {
        self.block.as_ref()
    }

    /// The block of this tick with the gains at its start and end, if it is played here.
    pub(crate) fn monitored(&mut self) -> Option<(&Block, f32, f32)> {
        let to = f32::from(u8::from(self.shared.monitor.load(Ordering::Relaxed)));
        let from = std::mem::replace(&mut self.monitored, to);
        let block = self.block.as_ref()?;
        (from > 0.0 || to > 0.0).then_some((block, from, to))
    }

    fn change(&mut self, tell: &mut dyn FnMut(Event)) {
        let (stop, passed, waiting) = {
            let mut state = lock(&self.shared.state);
            let (stop, waiting) = (std::mem::take(&mut state.stop), state.waiting.take());
            state.playing = waiting.is_some() || (state.playing && !stop);
            (stop, std::mem::take(&mut state.passed), waiting)
        };
        if stop || waiting.is_some() {
            self.end(None, tell);
        }
        for file in passed {
            tell(Event::PlayingEnded { file, cause: None });
        }
        if let Some(playing) = waiting {
            self.shared.played.store(0, Ordering::Relaxed);
            self.monitored = f32::from(u8::from(self.shared.monitor.load(Ordering::Relaxed)));
            self.current = Some(playing);
        }
    }

    /// There are no more ticks: ends what is played and what waits.
    pub(crate) fn finish(&mut self, tell: &mut dyn FnMut(Event)) {
        let mut state = lock(&self.shared.state);
        state.over = true;
        state.stop = true;
        state.pass_over();
        drop(state);
        self.block = None;
        self.change(tell);
    }

    /// A file ends by itself.
    fn over(&mut self, cause: Option<String>, tell: &mut dyn FnMut(Event)) {
        lock(&self.shared.state).playing = false;
        self.end(cause, tell);
    }

    fn end(&mut self, cause: Option<String>, tell: &mut dyn FnMut(Event)) {
        let Some(playing) = self.current.take() else { return };
        self.shared.played.store(NOTHING, Ordering::Relaxed);
        tell(Event::PlayingEnded { file: playing.file, cause });
    }
}

/// Adds two sounds; the sum is bent towards full scale instead of being cut there.
pub(crate) fn sum(a: f32, b: f32) -> f32 {
    let sum = a + b;
    let size = sum.abs();
    if size <= KNEE {
        return sum;
    }
    let room = 1.0 - KNEE;
    (KNEE + room * ((size - KNEE) / room).tanh()).copysign(sum)
}
