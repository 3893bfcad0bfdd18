//! Journals: everything that went into a machine and came out of it, so that a bug report is a test.
//!
//! A [`Recorder`] stands between the driver and its [`Machine`](super::Machine). It writes JSON lines: first what the machine
//! began with ([`Beginning`]), then one line for each step, with the time, the input, and the effects or why the command was
//! refused; at last why it ends. [`Journal::parse`] reads them, and [`Journal::replay`] gives the inputs to a new machine and
//! compares what comes out.
//!
//! It is recorded from the machine's start. A state in the middle holds queues, sessions and timers of every call, which are
//! the machine's own and change with every version; what it starts from is a configuration and a few lists.
//!
//! # What is in a journal
//!
//! Whatever tells who somebody is, what they say, or where they are is taken out before it is written, such that the machine
//! decides the same: the replay is exact, on the scrubbed journal.
//!
//! | what | becomes |
//! |---|---|
//! | public keys | pseudonyms: valid keys, the same one for the same key, in the same order; mirror images stay mirror images |
//! | ids of nodes | numbered pseudonyms |
//! | session descriptions, candidates | `x`, as long as they were |
//! | app data | zeros, as long as it was |
//! | causes, warnings, names of devices: all text | `…1`, `…2`: equal texts stay equal |
//! | the random part of [`Create`](super::signal::Create) | zeros |
//! | Unix times | moved, all by as much: their order and differences stay. Those before November 2004 are no times, and stay |
//! | instants | counted from the first |
//! | measured numbers | rounded to three decimals |
//!
//! What stays: ids of calls, names of keys and rolls, epochs, kinds of
//! messages, numbers of sessions, generations and effects, settings, formats, routes (`host`, `srflx`, `prflx`, `relay`),
//! statistics, flags, protocol versions.
//!
//! # What can still be learnt from it
//!
//! - How many contacts and blocked keys there are, who of them calls whom when, for how long, in which groups: by pseudonym.
//! - That two journals are of one call: its id, and the names of its keys and rolls, are in both. Whoever was in a call
//!   knows from its id which call of theirs a journal shows, when that was, and which pseudonyms its members have.
//! - Of a key its sign (one bit), and where it stands among the others: with n keys in a journal about the first
//!   log2(n) / 2 bits of each. It does not name anybody, but whoever already has a few keys to choose from can exclude some.
//! - The lengths of descriptions, candidates and app data: whether addresses are IPv4 or IPv6, how many there are.
//! - How the network was: times, losses, routes, rates.
//! - The versions and suites that other apps say they speak.
//!
//! # Limits
//!
//! - A step is written when it is over. One that panics is not in the journal.
//! - The machine is assumed to compare session descriptions, candidates and app data with nothing.
//! - Two different `Create`s of one call would look alike. The driver takes none but the one that the call's id is the hash of.
//! - A notice of a missed call that was made without a clock and is delivered with one replays differently.

mod keys;
mod line;
mod read;
mod record;
mod replay;
mod scrub;

pub use line::{Beginning, Stop};
pub use read::{Happened, Journal, JournalError, Step};
pub use record::Recorder;
pub use replay::{Difference, Divergence, Replayed};

/// The version of the format. A journal of another one is not read.
pub const FORMAT: u32 = 1;

/// The longest line, its end included. The largest value is a [`Roll`](super::signal::Roll) of
/// [`MAX_RECORDS`](super::signal::MAX_RECORDS) words with 170 to 180 bytes each: 17 KB. The effects of one step can be more, and
/// continue on further lines.
pub const MAX_LINE: usize = 64 * 1024;

/// The longest journal.
pub const MAX_JOURNAL: usize = 16 * 1024 * 1024;
