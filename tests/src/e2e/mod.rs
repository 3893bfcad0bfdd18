//! Calls with nothing faked: the built command in processes of its own, and recordings in and out.

mod machine;
pub mod phone;
mod process;
mod proxy;
mod sound;
mod spoken;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::{
    machine::{HoldUps, Watch, measured},
    process::{Process, command},
    proxy::{Passed, Proxy},
    sound::{Speech, write_wav},
    spoken::Spoken,
};

/// Calls one at a time: on a small machine two would starve each other's audio. Hold it for the whole test.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static CALLS: Mutex<()> = Mutex::new(());
    // A test that failed says so itself; the next one still has the machine for itself.
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}
