//! Reads a journal. It may come from anybody.

use serde::Deserialize;

use super::{
    FORMAT, MAX_JOURNAL, MAX_LINE,
    line::{Beginning, Head, Line, More, Stop, Written},
};
use crate::{
    config::Admission,
    error::Rejected,
    id::{CallId, PublicKey},
    proto::{Effect, Input, MAX_PEOPLE, MAX_REMEMBERED, ReplayMemory},
    time::{Instant, UnixTime},
};

/// A journal that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal {
    written_by: String,
    beginning: Beginning,
    steps: Vec<Step>,
    end: Option<Stop>,
}

/// One step of a machine.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// What happened to it.
    pub happened: Happened,
    /// What it said.
    pub result: Result<Vec<Effect>, Rejected>,
}

/// What happened to a machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// It was started.
    Start,
    /// At that time, this went in.
    Input(Instant, Box<Input>),
}

/// Why something is no journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Too long for one.
    #[error("{0} bytes: a journal has at most {MAX_JOURNAL}")]
    TooLarge(usize),
    /// It does not begin as one.
    #[error("this is no journal: its first line does not say so")]
    NoJournal,
    /// Of another format.
    #[error("a journal of format {0}, and this version reads {FORMAT}: use the version that wrote it")]
    Format(u32),
    /// It ends before the machine is described.
    #[error("the journal is cut off before its first step: nothing can be replayed")]
    CutOff,
    /// A line that is too long.
    #[error("line {0} is longer than {MAX_LINE} bytes")]
    LongLine(usize),
    /// A line that says nothing known.
    #[error("line {line}: {cause}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Why, for people.
        cause: String,
    },
    /// A line that is well formed, and not there where it is expected: one before it is missing or has moved.
    #[error("line {0} does not follow from the one before it: a line is missing, or out of place")]
    OutOfPlace(usize),
}

/// Of the causes that the JSON library gives, at most so many characters.
const MAX_CAUSE: usize = 200;

impl Journal {
    /// Reads a journal. One that is cut off is as long as it is whole: `end` is `None` then.
    ///
    /// # Errors
    /// [`JournalError`] for anything that no recorder writes.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, JournalError> {
        let bytes = bytes.as_ref();
        if bytes.len() > MAX_JOURNAL {
            return Err(JournalError::TooLarge(bytes.len()));
        }
        let mut reader = None::<Reader>;
        // What has no end is cut off.
        let whole = bytes.split_inclusive(|b| *b == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
        for (number, line) in (1..).zip(whole) {
            if line.len() >= MAX_LINE {
                return Err(JournalError::LongLine(number));
            }
            match &mut reader {
                None => reader = Some(Reader::begin(line)?),
                Some(reader) => reader.take(number, parsed(number, line)?)?,
            }
        }
        match reader {
            Some(reader) => reader.finish(),
            None if bytes.contains(&b'\n') || !bytes.starts_with(b"{\"journal\":{") => {
                Err(JournalError::NoJournal)
            }
            None => Err(JournalError::CutOff),
        }
    }

    /// The version of this crate that wrote it.
    pub fn written_by(&self) -> &str {
        &self.written_by
    }

    /// What the machine began with.
    pub const fn beginning(&self) -> &Beginning {
        &self.beginning
    }

    /// What happened, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Why the recording ended; `None`: it is cut off, as when the process died.
    pub const fn end(&self) -> Option<Stop> {
        self.end
    }
}

fn parsed<'a, T: Deserialize<'a>>(number: usize, line: &'a [u8]) -> Result<T, JournalError> {
    serde_json::from_slice(line).map_err(|e| {
        let cause = e.to_string().chars().take(MAX_CAUSE).collect();
        JournalError::Line { line: number, cause }
    })
}

/// What was read so far.
struct Reader {
    head: Head,
    contacts: Vec<PublicKey>,
    blocked: Vec<PublicKey>,
    only: Vec<PublicKey>,
    remembered: Vec<(CallId, UnixTime)>,
    steps: Vec<Step>,
    /// Further effects of the last step are to come.
    unfinished: bool,
    end: Option<Stop>,
}

impl Reader {
    fn begin(line: &[u8]) -> Result<Self, JournalError> {
        #[derive(Deserialize)]
        struct AnyFormat {
            journal: JustFormat,
        }
        #[derive(Deserialize)]
        struct JustFormat {
            format: u32,
        }
        let any: AnyFormat = serde_json::from_slice(line).map_err(|_| JournalError::NoJournal)?;
        if any.journal.format != FORMAT {
            return Err(JournalError::Format(any.journal.format));
        }
        let Line::Journal(head) = parsed(1, line)? else { return Err(JournalError::NoJournal) };
        let only = matches!(&head.config.admission, Admission::Only(_)) || head.only == 0;
        let too_many = head.contacts > MAX_PEOPLE
            || head.blocked > MAX_PEOPLE
            || head.remembered > MAX_REMEMBERED
            || !only;
        if too_many {
            return Err(JournalError::OutOfPlace(1));
        }
        // The machine counts on twice of it.
        if head.config.announce_period.checked_mul(2).is_none() {
            let cause = "no machine has such an announce_period".to_owned();
            return Err(JournalError::Line { line: 1, cause });
        }
        Ok(Self {
            head: *head,
            contacts: Vec::new(),
            blocked: Vec::new(),
            only: Vec::new(),
            remembered: Vec::new(),
            steps: Vec::new(),
            unfinished: false,
            end: None,
        })
    }

    fn take(&mut self, number: usize, line: Line) -> Result<(), JournalError> {
        let fits = self.end.is_none()
            && match line {
                Line::Journal(_) => false,
                Line::Contacts(keys) => {
                    self.steps.is_empty() && add(&mut self.contacts, keys, self.head.contacts)
                }
                Line::Blocked(keys) => {
                    self.steps.is_empty() && add(&mut self.blocked, keys, self.head.blocked)
                }
                Line::Only(keys) => self.steps.is_empty() && add(&mut self.only, keys, self.head.only),
                Line::Remembered(calls) => {
                    self.steps.is_empty() && add(&mut self.remembered, calls, self.head.remembered)
                }
                Line::Step(step) => self.is_described() && !self.unfinished && self.step(*step),
                Line::More(more) => self.more(more),
                Line::End(end) => {
                    self.end = Some(end.why);
                    self.is_described() && !self.unfinished && end.steps == self.steps.len() as u64
                }
            };
        if fits { Ok(()) } else { Err(JournalError::OutOfPlace(number)) }
    }

    /// All lists are here.
    fn is_described(&self) -> bool {
        self.contacts.len() == self.head.contacts
            && self.blocked.len() == self.head.blocked
            && self.only.len() == self.head.only
            && self.remembered.len() == self.head.remembered
    }

    fn step(&mut self, step: Written) -> bool {
        let Written { n, t, input, rejected, effects, more } = step;
        let happened = match (t, input) {
            (Some(t), Some(input)) => Happened::Input(t, input),
            (None, None) => Happened::Start,
            _ => return false,
        };
        let result = match rejected {
            Some(rejected) if effects.is_empty() && !more => Err(rejected),
            Some(_) => return false,
            None => Ok(effects),
        };
        if n != self.steps.len() as u64 + 1 {
            return false;
        }
        self.steps.push(Step { happened, result });
        self.unfinished = more;
        true
    }

    fn more(&mut self, More { n, effects, more }: More) -> bool {
        let number = self.steps.len() as u64;
        match self.steps.last_mut() {
            Some(Step { result: Ok(so_far), .. }) if self.unfinished && n == number => {
                so_far.extend(effects);
                self.unfinished = more;
                true
            }
            _ => false,
        }
    }

    fn finish(mut self) -> Result<Journal, JournalError> {
        if !self.is_described() {
            return Err(JournalError::CutOff);
        }
        if self.unfinished {
            self.steps.pop();
        }
        let Head { written_by, own, node, mut config, since, .. } = self.head;
        if let Admission::Only(only) = &mut config.admission {
            only.extend(self.only);
        }
        let beginning = Beginning::new(config, own, node)
            .with_memory(ReplayMemory::restored(since, self.remembered))
            .with_people(self.contacts, self.blocked);
        Ok(Journal { written_by, beginning, steps: self.steps, end: self.end })
    }
}

/// Takes a part of a list, if no more of it comes than was said.
fn add<T>(list: &mut Vec<T>, more: Vec<T>, length: usize) -> bool {
    list.extend(more);
    list.len() <= length
}
