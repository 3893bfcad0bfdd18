//! Helpers of the multi-node tests.

pub mod e2e;
pub mod held;
pub mod soak;
