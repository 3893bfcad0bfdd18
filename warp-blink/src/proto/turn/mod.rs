//! TURN by friends, as far as it is decided: who may ask whom and when, what is granted, for how long and how much, and where
//! nothing is relayed to.
//!
//! Somebody who can be reached from outside ([`Office`]) gives people whom they name short-lived credentials for their TURN server.
//! Somebody behind a NAT that lets nothing in ([`Asker`]) asks for them while a call lives, in a session of its own each time. Neither
//! knows a key, a socket or a clock.

mod asker;
mod office;
mod target;

pub use asker::{Asker, MAX_FRIENDS, Wishes};
pub use office::{MAX_GRANTS, MAX_USERS, Office, Refused, TurnLimits, User};
pub use target::{Forbidden, check_target};
