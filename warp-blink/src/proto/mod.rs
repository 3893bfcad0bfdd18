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
mod check;
mod commands;
mod contacts;
mod crossing;
mod delivery;
mod ending;
mod hello;
mod input;
pub mod lanes;
mod linking;
mod machine;
mod network;
mod outcome;
mod participant;
mod people;
mod replay;
mod sessions;
pub mod signal;
mod snapshot;
mod timing;

pub use check::Violation;
pub use input::{
    Arrived, Command, Effect, EffectId, EffectKind, EngineLink, Gift, Input, LinkCommand, LinkId, MediaInput,
    Outcome, SessionNo, TopicRef,
};
pub use machine::Machine;
pub use people::{Known, MAX_KNOWN, MAX_PEOPLE};
pub use replay::{MAX_REMEMBERED, ReplayMemory, WINDOW};
