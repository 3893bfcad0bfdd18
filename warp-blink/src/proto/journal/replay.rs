//! Gives the inputs of a journal to a new machine.

use std::fmt;

use super::read::{Happened, Journal, Step};
use crate::{
    error::Rejected,
    proto::{Effect, Machine, Violation},
    time::Instant,
};

/// The machine after a replay in which all came out as recorded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replayed {
    /// In its last state: [`Machine::snapshot`] shows what the app saw.
    pub machine: Machine,
    /// How many steps it took.
    pub steps: u64,
    /// How many effects it said.
    pub effects: u64,
}

/// A replay that came out otherwise. `Display` says all of it in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Divergence {
    /// At which step, from 1; 0: before the first.
    pub step: u64,
    /// When that was; `None` before the machine had heard of any time.
    pub at: Option<Instant>,
    /// What went in, for people.
    pub input: String,
    /// In what it differs.
    pub difference: Difference,
}

/// In what a replay differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// There is no such machine.
    Beginning(Rejected),
    /// An effect is another one, or there is none.
    Effect {
        /// Which of the step, from 1.
        number: usize,
        /// What was recorded.
        expected: String,
        /// What came.
        got: String,
    },
    /// A command was refused, or taken, or refused for another reason.
    Verdict {
        /// What was recorded.
        expected: String,
        /// What came.
        got: String,
    },
    /// An invariant does not hold any more.
    Violation(Violation),
}

/// A value in a message has at most so many characters: a roll of a full call has some thousand.
const SHOWN: usize = 400;

impl Journal {
    /// Replays the journal.
    ///
    /// # Errors
    /// The first [`Divergence`].
    pub fn replay(&self) -> Result<Replayed, Box<Divergence>> {
        let begun = |rejected| Divergence {
            step: 0,
            at: None,
            input: "the beginning".to_owned(),
            difference: Difference::Beginning(rejected),
        };
        let mut machine = self.beginning().machine().map_err(begun)?;
        let (mut at, mut effects) = (None, 0);
        for (step, Step { happened, result }) in (1..).zip(self.steps()) {
            let (got, input) = match happened {
                Happened::Start => (Ok(machine.start()), &"the start" as &dyn fmt::Debug),
                Happened::Input(now, input) => {
                    at = Some(*now);
                    (machine.handle(*now, (**input).clone()), input as &dyn fmt::Debug)
                }
            };
            // A refused command changes nothing, so that what was due before it still is.
            let checked = match (at, &got) {
                (Some(now), Ok(_)) => machine.check(now),
                _ => Ok(()),
            };
            let difference = compare(result, &got).or(checked.err().map(Difference::Violation));
            if let Some(difference) = difference {
                return Err(Box::new(Divergence { step, at, input: shown(input), difference }));
            }
            effects += got.map_or(0, |effects| effects.len() as u64);
        }
        Ok(Replayed { machine, steps: self.steps().len() as u64, effects })
    }
}

fn compare(
    expected: &Result<Vec<Effect>, Rejected>,
    got: &Result<Vec<Effect>, Rejected>,
) -> Option<Difference> {
    let (Ok(these), Ok(those)) = (expected, got) else {
        let verdict = |result: &Result<Vec<Effect>, Rejected>| match result {
            Ok(effects) => format!("{} effects", effects.len()),
            Err(rejected) => format!("refused as {rejected:?}"),
        };
        let differs = expected != got;
        return differs.then(|| Difference::Verdict { expected: verdict(expected), got: verdict(got) });
    };
    let most = these.len().max(those.len());
    let number = (0..most).find(|n| these.get(*n) != those.get(*n))?;
    let effect = |effects: &[Effect]| effects.get(number).map_or_else(|| "nothing".to_owned(), |e| shown(e));
    Some(Difference::Effect { number: number + 1, expected: effect(these), got: effect(those) })
}

fn shown(value: &dyn fmt::Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, at, input, difference } = self;
        write!(f, "step {step}")?;
        if let Some(at) = at {
            write!(f, " at {:.6} s", at.as_micros() as f64 / 1e6)?;
        }
        match difference {
            Difference::Beginning(rejected) => write!(f, ": there is no such machine: {rejected}"),
            Difference::Effect { number, expected, got } => {
                write!(f, ": effect {number}: expected {expected}, got {got}, after {input}")
            }
            Difference::Verdict { expected, got } => {
                write!(f, ": expected {expected}, got {got}, after {input}")
            }
            Difference::Violation(violation) => write!(f, ": {violation}, after {input}"),
        }
    }
}

impl std::error::Error for Divergence {}
