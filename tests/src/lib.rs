//! The simulated world and helpers of the multi-node tests.

pub mod e2e;
pub mod world;
