//! Many runs, and the one that failed again.

use super::Fault;

/// Runs this for the seeds from 0 to `count`, or to what the environment variable `SEEDS` says instead; or only for
/// the one that the variable `SEED` names, and then with every step on the standard output.
///
/// # Errors
/// What the first failing run says, and how to see it again.
pub fn each_seed(count: u64, run: impl Fn(u64) -> Result<(), Fault>) -> Result<(), String> {
    let seeds = match number("SEED")? {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..number("SEEDS")?.unwrap_or(count),
    };
    for seed in seeds {
        // A panic inside a machine names its seed too.
        let guard = Guard(seed);
        let result = run(seed);
        std::mem::forget(guard);
        result.map_err(|fault| {
            format!("{fault}\n  again, step by step: SEED={seed} cargo test -p blink-sim <this test> -- --nocapture")
        })?;
    }
    Ok(())
}

/// The number in an environment variable, if it is set.
///
/// # Errors
/// What is no number.
pub fn number(variable: &str) -> Result<Option<u64>, String> {
    match std::env::var(variable) {
        Ok(text) => match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!("{variable} must be a number, not `{text}`")),
        },
        Err(_) => Ok(None),
    }
}

struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        eprintln!("seed {} did not come to its end; again: SEED={}", self.0, self.0);
    }
}
