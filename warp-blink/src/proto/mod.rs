//! The pure core: the call machine, and what it says.
//!
//! [`Machine::handle`] takes one [`Input`] at one [`Instant`](crate::time::Instant) and returns [`Effect`]s;
//! [`Machine::next_timeout`] says when it wants [`Input::Tick`]. There is no I/O, clock, randomness or key in here,
//! so that every run can be replayed. The driver carries out the effects and owns no policy.
//!
//! ```text
//!               offer                       hello opened
//!                 |                              |
//!                 v                              v
//!            +----------+                  +-----------+ session confirmed  +----------+
//!            | Outgoing |                  | Arriving  |------------------->| Incoming |
//!            +----------+                  +-----------+   (busy: Leaving)  +----------+
//!   accepted by |     | cancel, declined,        | cancelled, expired    accept |   | decline, cancelled,
//!   the callee  |     | busy, time-out,          |                              |   | time-out
//!               v     | unreachable              v                              v   |
//!            +----------+                     forgotten                    +--------+|
//!            |  Active  |------------------------------------------------->| Active ||
//!            +----------+  hang-up, lost, failed: `Ended` is emitted       +--------+|
//!                  \__________________________________ | ____________________________/
//!                                                      v
//!                                                 +---------+ said and acknowledged, or the farewell time is over
//!                                                 | Leaving |-----------------------------------------> forgotten
//!                                                 +---------+
//! ```

mod call;
mod calling;
mod check;
mod commands;
mod contacts;
mod crossing;
mod delivery;
mod effect;
mod ending;
mod epochs;
mod failure;
mod group;
mod hello;
mod hold;
mod input;
mod keys;
pub mod lanes;
mod link;
mod linking;
mod machine;
mod membership;
mod network;
mod notice;
mod outcome;
mod pairing;
mod participant;
mod people;
mod presence;
mod replay;
mod resume;
mod sessions;
pub mod signal;
mod snapshot;
mod timing;

pub use check::Violation;
pub use effect::{Effect, EffectId, EffectKind, Gift, LinkCommand, LinkId, Outcome, SessionNo, TopicRef};
pub use input::{Arrived, Command, EngineLink, Input, MediaInput, Notice, Other, Saved};
pub use machine::Machine;
pub use people::{Known, MAX_KNOWN, MAX_PEOPLE};
pub use replay::{MAX_REMEMBERED, ReplayMemory, WINDOW};
