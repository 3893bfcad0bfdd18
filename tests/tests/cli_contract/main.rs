//! Holds the `blink` command to its contract, docs/cli.md: the tables there are read, the built command is run, and
//! the one must say what the other does.

#![allow(clippy::panic, reason = "this is how a test fails, in its helpers too")]

mod calls;
mod document;
mod endings;
mod groups;
mod parties;
mod phone;
mod relays;
mod sound;
mod turning;
mod usage;
