//! What people and contacts take of a machine: calls of 2, 4 and 8 whole nodes, one whole node among 15 who talk, a node with
//! contacts, and one that does nothing. `scripts/bench.sh scale` runs it and writes docs/benchmarks.md.
//!
//! Real nodes and connections on loopback, each node that is measured in a process of its own; the sound comes from a file. It
//! asserts nothing about speed; it fails where somebody is not heard. Each figure is a line `#scale name number`; what else is said
//! is for whoever waits. Linux: figures come from /proc.

#[cfg(target_os = "linux")]
mod alone;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod contacts;
#[cfg(target_os = "linux")]
mod counted;
#[cfg(target_os = "linux")]
mod crowd;
#[cfg(target_os = "linux")]
mod groups;
#[cfg(target_os = "linux")]
mod mixed;
#[cfg(target_os = "linux")]
mod orders;
#[cfg(target_os = "linux")]
mod phone;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod speech;
#[cfg(target_os = "linux")]
mod talkers;
#[cfg(target_os = "linux")]
mod watch;

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("scale: memory and processor time are read from /proc, which this system does not have");
    ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    run::main()
}
