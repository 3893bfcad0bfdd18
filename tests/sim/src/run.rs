//! Many scenarios at once, their seeds handed out in order.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{Lived, Scenario};

/// What became of the runs.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Runs that kept all promises.
    pub passed: u64,
    /// The seeds of the others, and what each says; in order.
    pub failed: Vec<(u64, String)>,
    /// How long those who were in a call took to agree after everything had healed, in order: of the runs in which there
    /// was a call of two or more then.
    pub settled: Vec<Duration>,
    /// In how many of them there were three or more in one call.
    pub groups: u64,
    /// Inputs that machines handled.
    pub steps: u64,
}

/// Lives the scenarios of these seeds through, on so many threads. `each` hears of every failure at once, and
/// of how many are done.
pub fn run_all(
    seeds: Range<u64>,
    threads: usize,
    each: impl Fn(u64, Option<&(u64, String)>) + Sync,
) -> Report {
    let (next, done) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let report = Mutex::new(Report::default());
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let result = run_one(seed);
                    let count = done.fetch_add(1, Ordering::Relaxed) + 1;
                    let failed = result.as_ref().err().map(|what| (seed, what.clone()));
                    each(count, failed.as_ref());
                    let Ok(mut report) = report.lock() else { break };
                    match result {
                        Ok((Lived { settled, largest, .. }, steps)) => {
                            report.passed += 1;
                            report.steps += steps;
                            report.groups += u64::from(largest > 2);
                            if largest > 1 {
                                report.settled.push(settled);
                            }
                        }
                        Err(what) => report.failed.push((seed, what)),
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_default();
    report.failed.sort();
    report.settled.sort();
    report
}

/// Lives one scenario through; how long agreeing took, and how many inputs were handled.
///
/// # Errors
/// The first thing that must not happen, or what a machine panicked with.
pub fn run_one(seed: u64) -> Result<(Lived, u64), String> {
    let run = || Scenario::mixed(seed).live(seed).map(|(world, lived)| (lived, world.steps()));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(fault)) => Err(fault.told()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(format!("panicked: {text}"))
        }
    }
}
