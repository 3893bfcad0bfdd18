//! What connections cost, with the engine's own bare figures beside them: measurements, which assert no speed. Each prints
//! lines of `#kind name number` for `scripts/bench-tables.py`; `scripts/bench.sh links` runs each in a process of its own.

mod load;
mod setup;

use std::time::Duration;

use tokio::time;

/// One every 20 ms, as speech has them.
const TICK: Duration = Duration::from_millis(20);
/// Nothing here takes that long, in whatever time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is measured: connections of ours, or the engine as it comes.
#[derive(Clone, Copy, Debug)]
enum Who {
    Ours,
    Bare,
}

impl Who {
    const BOTH: [Self; 2] = [Self::Ours, Self::Bare];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Bare => "bare",
        }
    }
}

fn print(kind: &str, name: &str, number: u128) {
    println!("#{kind} {name} {number}");
}

async fn patient<T>(what: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, what).await.expect("in time")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
