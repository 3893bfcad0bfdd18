//! Takes out of a value what does not belong into a journal, and leaves all that the machine decides on.
//!
//! Every field of every type that goes into the machine or comes out of it is named in here: a new one does not compile until
//! somebody has decided what becomes of it. Text of any kind is replaced unless a field says otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use sha2::{Digest, Sha256};

use super::keys::{Keys, NoRoom};
use crate::{
    id::{NodeId, PublicKey},
    proto::signal::Fingerprint,
    time::{Instant, UnixTime},
};

/// Something that can be scrubbed.
pub(super) trait Scrub {
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom>;
}

/// Which pseudonym stands for what, in one journal. It never leaves the process.
#[derive(Default)]
pub(super) struct Scrubber {
    keys: Keys,
    nodes: BTreeMap<NodeId, NodeId>,
    certificates: BTreeMap<[u8; 32], usize>,
    /// By the hash of the text: texts are as long as they like.
    texts: BTreeMap<[u8; 32], usize>,
    /// What is added to Unix times, in milliseconds.
    shift: Option<u64>,
    /// The first instant, in microseconds.
    origin: Option<u64>,
}

/// Unix times before this are not real (2^40 ms are November 2004): the clock was not set, and 0 stands for "not known". They
/// stay. Versions of announcements count from 1 or from a Unix time, so they are told apart by it too.
const EARLIEST: u64 = 1 << 40;

/// The first Unix time of a journal is moved to the next multiple of this (2^43 ms, about 279 years: the year 2248).
const EPOCH: u64 = 1 << 43;

/// Unix times from here on are not real either, and stay: the highest of all stands for "never".
const NEVER: u64 = 1 << 62;

impl Scrubber {
    /// With pseudonyms for all these.
    pub(super) fn of(keys: &BTreeSet<PublicKey>) -> Result<Self, NoRoom> {
        Ok(Self { keys: Keys::of(keys)?, ..Self::default() })
    }

    fn shifted(&mut self, millis: u64) -> u64 {
        if !(EARLIEST..NEVER).contains(&millis) {
            return millis;
        }
        let shift = *self.shift.get_or_insert(EPOCH - millis % EPOCH);
        (millis + shift).min(NEVER - 1)
    }

    /// The version of an announcement: after a return it goes on from a Unix time.
    fn version(&mut self, version: &mut u64) -> Result<(), NoRoom> {
        *version = self.shifted(*version);
        Ok(())
    }

    /// A Unix time in microseconds.
    fn micros(&mut self, micros: &mut Option<u64>) -> Result<(), NoRoom> {
        if let Some(micros) = micros {
            *micros = self.shifted(*micros / 1000).saturating_mul(1000).saturating_add(*micros % 1000);
        }
        Ok(())
    }

    /// Opaque to the machine, but for its length.
    fn fill(&mut self, text: &mut String) -> Result<(), NoRoom> {
        *text = "x".repeat(text.len());
        Ok(())
    }

    /// How a link runs: one of a few words, and nothing else.
    fn route(&mut self, route: &mut Option<String>) -> Result<(), NoRoom> {
        match route {
            Some(kind) if !["host", "srflx", "prflx", "relay"].contains(&kind.as_str()) => kind.scrub(self),
            _ => Ok(()),
        }
    }

    /// One of a few sentences, which the machine makes of nothing but the reason.
    fn advice(&mut self, _: &mut String) -> Result<(), NoRoom> {
        Ok(())
    }

    /// A measured number, to three decimals and in a range where what is written and read again is the same.
    fn number(&mut self, number: &mut Option<f64>) -> Result<(), NoRoom> {
        *number = number.filter(|n| n.is_finite()).map(|n| (n.clamp(-1e12, 1e12) * 1000.0).round() / 1000.0);
        Ok(())
    }

    /// What makes a call's id unguessable. The machine has the id itself.
    fn zeros(&mut self, random: &mut [u8; 16]) -> Result<(), NoRoom> {
        *random = [0; 16];
        Ok(())
    }
}

impl Scrub for PublicKey {
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        *self = with.keys.pseudonym(self)?;
        Ok(())
    }
}

impl Scrub for NodeId {
    /// The machine only compares these. By default a node's id is its owner's key, so nothing of it stays.
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        let n = with.nodes.len();
        let pseudonym = || {
            let mut bytes = vec![0x12, 32];
            bytes.extend(Sha256::digest(format!("warp-blink journal node {n}")));
            Self::from_bytes(&bytes).map_err(|_| NoRoom)
        };
        *self = match with.nodes.get(self) {
            Some(given) => *given,
            None => *with.nodes.entry(*self).or_insert(pseudonym()?),
        };
        Ok(())
    }
}

impl Scrub for Fingerprint {
    /// The machine only compares these.
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        let next = with.certificates.len();
        let n = *with.certificates.entry(self.0).or_insert(next);
        *self = Self(Sha256::digest(format!("warp-blink journal certificate {n}")).into());
        Ok(())
    }
}

impl Scrub for UnixTime {
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        *self = Self::from_millis(with.shifted(self.as_millis()));
        Ok(())
    }
}

impl Scrub for Instant {
    /// They count from when the system started, and are as exact as a name. No input tells of one before the first.
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        let origin = *with.origin.get_or_insert(self.as_micros());
        *self = Self::from_micros(self.as_micros().saturating_sub(origin));
        Ok(())
    }
}

impl Scrub for String {
    /// Equal texts stay equal, since the machine says nothing where nothing has changed.
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        let next = with.texts.len() + 1;
        let n = *with.texts.entry(Sha256::digest(self.as_bytes()).into()).or_insert(next);
        *self = format!("…{n}");
        Ok(())
    }
}

impl Scrub for PathBuf {
    /// The machine only passes them on.
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        let mut text = self.to_string_lossy().into_owned();
        text.scrub(with)?;
        *self = text.into();
        Ok(())
    }
}

impl<T: Scrub> Scrub for Option<T> {
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        self.iter_mut().try_for_each(|inner| inner.scrub(with))
    }
}

impl<T: Scrub> Scrub for Box<T> {
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        (**self).scrub(with)
    }
}

impl<T: Scrub> Scrub for Vec<T> {
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        self.iter_mut().try_for_each(|inner| inner.scrub(with))
    }
}

impl Scrub for BTreeSet<PublicKey> {
    fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
        *self = self.iter().map(|key| with.keys.pseudonym(key)).collect::<Result<_, _>>()?;
        Ok(())
    }
}

/// Types that stay as they are. All are `Copy`, so none of them holds text.
macro_rules! stays {
    ($($plain:ty),* $(,)?) => {
        $(impl Scrub for $plain {
            fn scrub(&mut self, _: &mut Scrubber) -> Result<(), NoRoom> {
                const fn copy<T: Copy>() {}
                const { copy::<$plain>() };
                Ok(())
            }
        })*
    };
}

/// Scrubs the fields of a type one by one. `field => how` calls that method of [`Scrubber`] instead. Where one is missing the
/// compiler says that the pattern "requires `..`": name the field there, and say what becomes of it.
macro_rules! fields {
    (@one $with:ident $field:ident) => {
        $field.scrub($with)?
    };
    (@one $with:ident $field:ident $how:ident) => {
        $with.$how($field)?
    };
    (struct $name:ident { $($field:ident $(=> $how:ident)?),* $(,)? }) => {
        impl Scrub for $name {
            fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
                let Self { $($field),* } = self;
                $(fields!(@one with $field $($how)?);)*
                Ok(())
            }
        }
    };
}

/// The same for the variants of an enum.
macro_rules! variants {
    (enum $name:ident {
        $($variant:ident $(( $($item:ident),* ))? $({ $($field:ident $(=> $how:ident)?),* $(,)? })?),* $(,)?
    }) => {
        impl Scrub for $name {
            fn scrub(&mut self, with: &mut Scrubber) -> Result<(), NoRoom> {
                match self {
                    $(Self::$variant $(( $($item),* ))? $({ $($field),* })? => {
                        $($($item.scrub(with)?;)*)?
                        $($(fields!(@one with $field $($how)?);)*)?
                    })*
                }
                Ok(())
            }
        }
    };
}

// After the macros, which they use.
mod outside;
mod spoken;
