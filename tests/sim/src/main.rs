//! `sim [RUNS]`: that many seeded scenarios in the simulated world; `sim seed SEED`: one of them, step by step.
//!
//! The environment variables `RUNS` and `SEED` say the same; `FROM` is the first seed of the many, 0 if it is not set.

use std::{process::ExitCode, time::Instant};

use blink_sim::{number, run_all, run_one};

/// As many as `make sim` runs if nobody says how many.
const RUNS: u64 = 1000;

/// The machines that this is measured on have two cores.
const THREADS: usize = 2;

fn main() -> ExitCode {
    match asked() {
        Ok((Some(seed), _)) => replay(seed),
        Ok((None, runs)) => match number("FROM") {
            Ok(from) => run(from.unwrap_or(0), runs),
            Err(what) => misused(&what),
        },
        Err(what) => misused(&what),
    }
}

fn misused(what: &str) -> ExitCode {
    eprintln!("{what}\nsim [RUNS] | sim seed SEED, or RUNS=.., FROM=.. or SEED=.. in the environment");
    ExitCode::from(2)
}

/// The one seed that is asked for, or how many runs.
fn asked() -> Result<(Option<u64>, u64), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parse = |text: &String| text.parse().map_err(|_| format!("`{text}` is not a number"));
    match arguments.as_slice() {
        [] => Ok((number("SEED")?, number("RUNS")?.unwrap_or(RUNS))),
        [runs] => Ok((None, parse(runs)?)),
        [word, seed] if word == "seed" => Ok((Some(parse(seed)?), 0)),
        _ => Err("too many words".into()),
    }
}

fn replay(seed: u64) -> ExitCode {
    match run_one(seed) {
        Ok((lived, steps)) => {
            println!("seed {seed}: {steps} inputs, {lived:?}");
            println!("1 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("seed {seed}: {what}");
            println!("0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

fn run(from: u64, runs: u64) -> ExitCode {
    let begin = Instant::now();
    let report = run_all(from..from.saturating_add(runs), THREADS, |done, failed| {
        if let Some((seed, what)) = failed {
            println!("seed {seed}: {what}");
        }
        if done.is_multiple_of((runs / 10).max(1)) {
            eprintln!("{done} of {runs} after {:.1} s", begin.elapsed().as_secs_f64());
        }
    });
    eprintln!(
        "{:.0} runs a second, {} inputs a run",
        runs as f64 / begin.elapsed().as_secs_f64(),
        report.steps / report.passed.max(1)
    );
    let settled = &report.settled;
    if let (Some(middle), Some(worst)) = (settled.get(settled.len() / 2), settled.last()) {
        eprintln!(
            "in {} there was a call in the end, in {} of three or more; after everything had healed all in it agreed \
             within {middle:?} (median), {worst:?} (worst)",
            settled.len(),
            report.groups
        );
    }
    println!("{} passed, {} failed", report.passed, report.failed.len());
    if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
