//! The pure core: the call machine, and what it says.
//!
//! [`Machine::handle`] takes one [`Input`] at one [`Instant`](crate::time::Instant) and returns [`Effect`]s;
//! [`Machine::next_timeout`] says when it wants [`Input::Tick`]. There is no I/O, clock, randomness or key in here,
//! so that every run can be replayed. The driver carries out the effects and owns no policy.
//!
//! A call:
//!
//! ```text
//!               offer                       hello opened
//!                 |                              |
//!                 v                              v
//!            +----------+                  +-----------+ session confirmed  +----------+
//!            | Outgoing |                  | Arriving  |------------------->| Incoming |
//!            +----------+                  +-----------+   (busy: Leaving)  +----------+
//!  accepted by |     | cancelled here,         | cancelled, expired    accept |   | declined here, cancelled,
//!  the first   |     | or nobody called        |                              |   | timed out, caller silent
//!              |     | will come               v                              |   | or removed
//!              v     |                     forgotten                          v   |
//!            +----------+     resume of an earlier run      +----------------------+
//!            |  Active  |<----------------------------------|        Active        |
//!            +----------+                                   +----------------------+
//!              | ^    \                                            |        |
//!        leave | | rejoin \ hung up here; in a call of two: there,  |        |
//!              v |         \ lost, failed; nobody is left for       |        |
//!            +------+       \ `empty_call_grace`; removed          |        |
//!            | Left |--------\----------------------------------+   |        |
//!            +------+  window over, hung up,                    v   v        v
//!                      invited anew (and Arriving)
//!                                                 `Ended` is emitted, and the call is Leaving
//!                                                      |
//!                                                      v said and acknowledged, or the farewell time is over
//!                                                  forgotten
//! ```
//!
//! Somebody in it (`participant::Stage`), and what the app sees of that ([`Presence`](crate::event::Presence)):
//!
//! ```text
//!   called from here          named by others
//!        |                          |
//!        v                          v
//!     +--------+   came in      +----------+   heard, and a session is open   +----+  link lost for 60 s   +------+
//!     | Called |--------------->| Expected |---------------------------------->| In |--------------------->| Lost |
//!     +--------+   elsewhere    +----------+                                   +----+<---------------------+------+
//!        | \____________________ accepts ________________________________________^ |    heard again, resumed
//!        | declined, busy, no answer,                                              | left, removed
//!        | unreachable, called off                                                 |
//!        v                                                                         v
//!     +----------------------------------------------------------------------------------+
//!     | Out(why): comes back by `rejoin` (left), or by being invited again                |
//!     +----------------------------------------------------------------------------------+
//! ```

mod ahead;
mod binding;
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
pub mod journal;
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
mod peers;
mod people;
mod preparing;
mod presence;
mod recordings;
mod replay;
mod restarting;
mod resume;
mod round_trip;
mod schedule;
mod sessions;
pub mod signal;
mod snapshot;
mod timing;
pub mod turn;
mod turning;

pub use check::Violation;
pub use effect::{Effect, EffectId, EffectKind, Gift, LinkCommand, LinkId, Outcome, SessionNo, TopicRef};
pub use input::{Arrived, Command, EngineLink, Input, MediaInput, Notice, Other, Saved};
pub use machine::Machine;
pub use people::{Known, MAX_KNOWN, MAX_PEOPLE};
pub use replay::{MAX_REMEMBERED, ReplayMemory, WINDOW};
