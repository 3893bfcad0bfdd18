//! The pure core: the call machine.

pub mod signal;
