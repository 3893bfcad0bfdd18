//! The lines of a journal, and what a machine begins with.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    FORMAT, MAX_LINE,
    keys::NoRoom,
    scrub::{Scrub, Scrubber},
};
use crate::{
    config::{Admission, Config},
    error::Rejected,
    id::{CallId, NodeId, PublicKey},
    proto::{Effect, Input, Machine, ReplayMemory},
    time::{Instant, UnixTime},
};

/// Entries of a list on one line: 500 keys make 30 KB.
const ON_ONE_LINE: usize = 500;

/// What a machine begins with: that of [`Machine::new`], [`Machine::with_memory`] and [`Machine::with_people`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Beginning {
    /// Its settings.
    pub config: Config,
    /// Its own key.
    pub own: PublicKey,
    /// Its node.
    pub node: NodeId,
    /// What rang on its first message alone.
    pub memory: ReplayMemory,
    /// The app's contacts.
    pub contacts: Vec<PublicKey>,
    /// The keys that the app blocks.
    pub blocked: Vec<PublicKey>,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stop {
    /// It was asked to.
    Finished,
    /// One more step would exceed its limit.
    Limit,
    /// Two keys are so close that no pseudonym fits between theirs. Keys that nobody chose never are: it takes more than 150,
    /// each of which lies between neighbours that came later than all before them, or a key between another one and its
    /// mirror image.
    NoRoom,
    /// An input or an effect that fits on no line.
    TooLarge,
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    Journal(Box<Head>),
    Contacts(Vec<PublicKey>),
    Blocked(Vec<PublicKey>),
    Only(Vec<PublicKey>),
    Remembered(Vec<(CallId, UnixTime)>),
    Step(Box<Written>),
    More(More),
    End(End),
}

/// The first line. The lists follow on lines of their own; these are their lengths.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) format: u32,
    /// The version of this crate.
    pub(super) written_by: String,
    pub(super) own: PublicKey,
    pub(super) node: NodeId,
    /// Who alone may ring is in a list.
    pub(super) config: Config,
    pub(super) since: UnixTime,
    pub(super) contacts: usize,
    pub(super) blocked: usize,
    pub(super) only: usize,
    pub(super) remembered: usize,
}

/// A step.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// Counts from 1.
    pub(super) n: u64,
    /// `None`, as the input: it is the machine's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) t: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<Box<Input>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rejected: Option<Rejected>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) effects: Vec<Effect>,
    /// Further effects are on the next line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) more: bool,
}

/// Further effects of a step.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct More {
    pub(super) n: u64,
    pub(super) effects: Vec<Effect>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) more: bool,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) why: Stop,
    pub(super) steps: u64,
}

impl Beginning {
    /// Of a machine with these, as of [`Machine::new`].
    pub fn new(config: Config, own: PublicKey, node: NodeId) -> Self {
        let memory = ReplayMemory::beginning(UnixTime::from_millis(u64::MAX));
        Self { config, own, node, memory, contacts: Vec::new(), blocked: Vec::new() }
    }

    /// With a memory, as of [`Machine::with_memory`].
    pub fn with_memory(mut self, memory: ReplayMemory) -> Self {
        self.memory = memory;
        self
    }

    /// With contacts and blocked keys, as of [`Machine::with_people`].
    pub fn with_people(
        mut self,
        contacts: impl IntoIterator<Item = PublicKey>,
        blocked: impl IntoIterator<Item = PublicKey>,
    ) -> Self {
        self.contacts = contacts.into_iter().collect();
        self.blocked = blocked.into_iter().collect();
        self
    }

    /// The machine that begins so.
    ///
    /// # Errors
    /// Those of [`Machine::with_people`].
    pub fn machine(&self) -> Result<Machine, Rejected> {
        Machine::new(self.config.clone(), self.own, self.node)
            .with_memory(self.memory.clone())
            .with_people(self.contacts.iter().copied(), self.blocked.iter().copied())
    }

    pub(super) fn scrubber(&self) -> Result<Scrubber, NoRoom> {
        let mut keys: BTreeSet<PublicKey> = self.contacts.iter().chain(&self.blocked).copied().collect();
        keys.insert(self.own);
        if let Admission::Only(only) = &self.config.admission {
            keys.extend(only);
        }
        Scrubber::of(&keys)
    }

    /// Its lines, scrubbed.
    pub(super) fn lines(&self, scrubber: &mut Scrubber) -> Result<Vec<String>, Stop> {
        let Self { mut config, mut own, mut node, memory, mut contacts, mut blocked } = self.clone();
        let mut remembered: Vec<_> = memory.calls().collect();
        let mut since = memory.since();
        since.scrub(scrubber)?;
        remembered.iter_mut().try_for_each(|(_, sent_at)| sent_at.scrub(scrubber))?;
        own.scrub(scrubber)?;
        node.scrub(scrubber)?;
        config.scrub(scrubber)?;
        contacts.scrub(scrubber)?;
        blocked.scrub(scrubber)?;
        let only: Vec<PublicKey> = match &mut config.admission {
            Admission::Only(only) => std::mem::take(only).into_iter().collect(),
            _ => Vec::new(),
        };
        let head = Head {
            format: FORMAT,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            own,
            node,
            config,
            since,
            contacts: contacts.len(),
            blocked: blocked.len(),
            only: only.len(),
            remembered: remembered.len(),
        };
        let mut lines = vec![Line::Journal(Box::new(head)).text()?];
        let lists = [(contacts, Line::Contacts as fn(_) -> _), (blocked, Line::Blocked), (only, Line::Only)];
        for (keys, line) in lists {
            for some in keys.chunks(ON_ONE_LINE) {
                lines.push(line(some.to_vec()).text()?);
            }
        }
        for some in remembered.chunks(ON_ONE_LINE) {
            lines.push(Line::Remembered(some.to_vec()).text()?);
        }
        Ok(lines)
    }
}

impl Line {
    /// Its text, with its end.
    pub(super) fn text(&self) -> Result<String, Stop> {
        let mut text = serde_json::to_string(self).map_err(|_| Stop::TooLarge)?;
        text.push('\n');
        if text.len() > MAX_LINE { Err(Stop::TooLarge) } else { Ok(text) }
    }
}

impl Written {
    /// Its lines: one, unless its effects need more.
    pub(super) fn lines(mut self) -> Result<Vec<String>, Stop> {
        let sizes: Vec<usize> =
            self.effects.iter().map(size).collect::<Result<_, _>>().map_err(|_| Stop::TooLarge)?;
        let all = std::mem::take(&mut self.effects);
        // Room for what is around the effects, `more` included.
        let around = size(&self).map_err(|_| Stop::TooLarge)? + 64;
        let (n, mut used) = (self.n, around);
        let mut groups: Vec<Vec<Effect>> = vec![Vec::new()];
        for (effect, size) in all.into_iter().zip(sizes) {
            if used + size + 1 > MAX_LINE {
                groups.push(Vec::new());
                used = 64;
            }
            used += size + 1;
            if let Some(group) = groups.last_mut() {
                group.push(effect);
            }
        }
        let last = groups.len() - 1;
        let mut groups = groups.into_iter();
        self.effects = groups.next().unwrap_or_default();
        self.more = last > 0;
        let mut lines = vec![Line::Step(Box::new(self)).text()?];
        for (at, effects) in (1..).zip(groups) {
            lines.push(Line::More(More { n, effects, more: at < last }).text()?);
        }
        Ok(lines)
    }
}

fn size(value: &impl Serialize) -> serde_json::Result<usize> {
    serde_json::to_string(value).map(|text| text.len())
}

impl From<NoRoom> for Stop {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
    }
}
