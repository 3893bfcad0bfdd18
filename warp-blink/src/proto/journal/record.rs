//! Writes a journal while the machine runs.

use std::fmt;

use super::{
    MAX_JOURNAL,
    line::{Beginning, End, Line, Stop, Written},
    scrub::{Scrub, Scrubber},
};
use crate::{
    error::Rejected,
    proto::{Effect, Input, Machine},
    time::Instant,
};

/// Kept free for the last line.
const LAST_LINE: usize = 128;

/// Records a machine from its start on, scrubbed, up to a limit.
///
/// Whole lines are handed to `write`, each with its end. When the recorder stops, which its last line says, the machine goes on
/// without it.
pub struct Recorder {
    limit: usize,
    written: usize,
    steps: u64,
    state: State,
}

enum State {
    /// Nothing is written yet.
    Before,
    /// A beginning is written.
    Recording(Box<Scrubber>),
    Stopped(Stop),
}

impl Recorder {
    /// Writes at most so many bytes, and never more than [`MAX_JOURNAL`].
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit: limit_bytes.min(MAX_JOURNAL), written: 0, steps: 0, state: State::Before }
    }

    /// Begins. The machine must be that of [`Beginning::machine`], and fresh. If not even this fits the limit, nothing is
    /// written at all. Each contact and each blocked key costs 59 bytes and about 0.05 ms.
    pub fn begin(&mut self, beginning: &Beginning, write: &mut dyn FnMut(&str)) {
        if !matches!(self.state, State::Before) {
            return;
        }
        let begun = || {
            let mut scrubber = beginning.scrubber()?;
            let lines = beginning.lines(&mut scrubber)?;
            Ok((scrubber, lines))
        };
        self.state = match begun() {
            Ok((_, lines)) if !self.fits(&lines) => State::Stopped(Stop::Limit),
            Ok((scrubber, lines)) => {
                self.write(&lines, write);
                State::Recording(Box::new(scrubber))
            }
            Err(stop) => State::Stopped(stop),
        };
    }

    /// [`Machine::start`], recorded.
    pub fn start(&mut self, machine: &mut Machine, write: &mut dyn FnMut(&str)) -> Vec<Effect> {
        let effects = machine.start();
        if let State::Recording(_) = self.state {
            self.record(None, &Ok(effects.clone()), write);
        }
        effects
    }

    /// [`Machine::handle`], recorded.
    ///
    /// # Errors
    /// Those of [`Machine::handle`].
    pub fn handle(
        &mut self,
        machine: &mut Machine,
        now: Instant,
        input: Input,
        write: &mut dyn FnMut(&str),
    ) -> Result<Vec<Effect>, Rejected> {
        if !matches!(self.state, State::Recording(_)) {
            return machine.handle(now, input);
        }
        let kept = Box::new(input.clone());
        let result = machine.handle(now, input);
        self.record(Some((now, kept)), &result, write);
        result
    }

    /// Ends the journal. Without this it looks cut off, and can be read all the same.
    pub fn finish(&mut self, write: &mut dyn FnMut(&str)) {
        self.stop(Stop::Finished, write);
    }

    /// Why it records no more; `None` while it does, and before it begins.
    pub const fn stopped(&self) -> Option<Stop> {
        match self.state {
            State::Stopped(stop) => Some(stop),
            _ => None,
        }
    }

    /// How many bytes it has written.
    pub const fn written(&self) -> usize {
        self.written
    }

    /// How many steps it has written.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    fn record(
        &mut self,
        input: Option<(Instant, Box<Input>)>,
        result: &Result<Vec<Effect>, Rejected>,
        write: &mut dyn FnMut(&str),
    ) {
        match self.lines(input, result) {
            Ok(lines) if self.fits(&lines) => {
                self.steps += 1;
                self.write(&lines, write);
            }
            Ok(_) => self.stop(Stop::Limit, write),
            Err(stop) => self.stop(stop, write),
        }
    }

    fn lines(
        &mut self,
        input: Option<(Instant, Box<Input>)>,
        result: &Result<Vec<Effect>, Rejected>,
    ) -> Result<Vec<String>, Stop> {
        let State::Recording(scrubber) = &mut self.state else { return Ok(Vec::new()) };
        let (mut t, mut input) = input.unzip();
        t.scrub(scrubber)?;
        input.scrub(scrubber)?;
        let (mut effects, mut rejected) = match result {
            Ok(effects) => (effects.clone(), None),
            Err(rejected) => (Vec::new(), Some(rejected.clone())),
        };
        effects.scrub(scrubber)?;
        rejected.scrub(scrubber)?;
        Written { n: self.steps + 1, t, input, rejected, effects, more: false }.lines()
    }

    fn fits(&self, lines: &[String]) -> bool {
        let more: usize = lines.iter().map(String::len).sum();
        self.written + more + LAST_LINE <= self.limit
    }

    fn write(&mut self, lines: &[String], write: &mut dyn FnMut(&str)) {
        for line in lines {
            self.written += line.len();
            write(line);
        }
    }

    fn stop(&mut self, why: Stop, write: &mut dyn FnMut(&str)) {
        if let State::Recording(_) = self.state
            && let Ok(line) = Line::End(End { why, steps: self.steps }).text()
        {
            self.write(&[line], write);
        }
        if !matches!(self.state, State::Stopped(_)) {
            self.state = State::Stopped(why);
        }
    }
}

impl fmt::Debug for Recorder {
    /// Without what stands for whom.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, written, steps, .. } = self;
        f.debug_struct("Recorder")
            .field("limit", limit)
            .field("written", written)
            .field("steps", steps)
            .field("stopped", &self.stopped())
            .finish_non_exhaustive()
    }
}
