//! What the machine costs. `make bench` runs this in release and writes docs/benchmarks.md.
//!
//! What goes in comes from runs of the kit that the tests have, in which machines talk to one another; here it is put
//! into machines that have nothing around them. Everything is deterministic, nothing is asserted about speed, and before
//! anything is measured each input is seen to do what it is named after.

#![allow(clippy::unwrap_used, reason = "a benchmark on fixed inputs")]

mod calls;
mod inputs;
#[path = "../../tests/proto_kit/mod.rs"]
mod proto_kit;
mod reads;
mod scenes;

fn main() {
    calls::check();
    inputs::check();
    divan::main();
}
