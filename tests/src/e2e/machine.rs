//! Whether the machine let the processes run while sound was played in real time.
//!
//! A virtual machine whose host takes a processor away for a tenth of a second makes a gap in any call, whatever the code is worth. Such
//! a call says nothing and is made again; a gap on a machine that ran is a gap.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(5);
/// Over this time it is added up what the host took.
const WINDOW: Duration = Duration::from_millis(200);
/// What the host took of one processor within [`WINDOW`], or how late a thread awoke, from which on the machine counts as held up: two
/// packets of 20 ms. Measured on two cores of a virtual machine: 10 ms at most in good minutes, with a compiler beside it too; when the
/// host took 6.9 s of 12 s there was a gap of 60 ms.
const HELD_UP: Duration = Duration::from_millis(40);
/// `/proc/stat` counts in hundredths of a second (`USER_HZ`, proc_stat(5)).
const PER_COUNT: Duration = Duration::from_millis(10);
/// How often a measurement is made at most.
const TRIES: usize = 5;

/// The worst that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldUps {
    /// What the host took of one processor within 200 ms.
    pub stolen: Duration,
    /// How much too late a thread awoke that wanted nothing but to look.
    pub late: Duration,
}

impl HoldUps {
    /// Whether sound played in real time may have gaps for this alone.
    pub fn any(&self) -> bool {
        self.stolen.max(self.late) >= HELD_UP
    }
}

/// Looks at the machine until it is asked.
#[derive(Debug)]
pub struct Watch {
    done: Arc<AtomicBool>,
    thread: JoinHandle<HoldUps>,
}

impl Watch {
    /// Begins to look, in a thread of its own.
    pub fn start() -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let until = done.clone();
        Self { done, thread: thread::spawn(move || look(&until)) }
    }

    /// The worst since the beginning.
    ///
    /// # Panics
    /// If its thread did.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    pub fn end(self) -> HoldUps {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn look(done: &AtomicBool) -> HoldUps {
    let mut worst = HoldUps::default();
    let mut begun = (Instant::now(), stolen());
    while !done.load(Ordering::Relaxed) {
        let before = Instant::now();
        thread::sleep(TICK);
        worst.late = worst.late.max(before.elapsed().saturating_sub(TICK));
        if begun.0.elapsed() >= WINDOW {
            let now = stolen();
            worst.stolen = worst.stolen.max(most_of_one(&begun.1, &now));
            begun = (Instant::now(), now);
        }
    }
    worst.stolen = worst.stolen.max(most_of_one(&begun.1, &stolen()));
    worst
}

/// What the host took of each processor so far, in counts. Empty where there is no `/proc/stat`.
fn stolen() -> Vec<u64> {
    fs::read_to_string("/proc/stat").map_or_else(|_| Vec::new(), |text| stolen_in(&text))
}

fn stolen_in(stat: &str) -> Vec<u64> {
    let of_processor = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?.strip_prefix("cpu")?;
        // The line of all together has no number; the eighth time is what was stolen.
        (!name.is_empty()).then(|| fields.nth(7).and_then(|n| n.parse().ok()).unwrap_or(0))
    };
    stat.lines().filter_map(of_processor).collect()
}

fn most_of_one(before: &[u64], after: &[u64]) -> Duration {
    let most = before.iter().zip(after).map(|(b, a)| a.saturating_sub(*b)).max().unwrap_or(0);
    PER_COUNT * u32::try_from(most).unwrap_or(u32::MAX)
}

/// Measures until nothing is wrong. What is wrong counts at once if nothing held the machine up, and otherwise when it is so five
/// times.
///
/// # Panics
/// With what is wrong, and what the machine did.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub fn measured<T>(mut measure: impl FnMut() -> (Result<T, String>, HoldUps)) -> T {
    for number in 1..=TRIES {
        let (found, hold_ups) = measure();
        match found {
            Ok(found) => return found,
            Err(wrong) if number < TRIES && hold_ups.any() => {
                println!("{wrong}; the machine was held up ({hold_ups:?}): again");
            }
            Err(wrong) => panic!("{wrong}; measured {number} times, the last time with {hold_ups:?}"),
        }
    }
    unreachable!("the last one ends it")
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    const HELD: HoldUps = HoldUps { stolen: HELD_UP, late: Duration::ZERO };
    const FREE: HoldUps = HoldUps { stolen: PER_COUNT, late: Duration::from_millis(39) };

    #[test]
    fn what_the_host_took_is_read_for_each_processor() {
        let before =
            "cpu  9 0 9 9 0 0 0 99 0 0\ncpu0 9 0 9 9 0 0 0 40 0 0\ncpu1 9 0 9 9 0 0 0 59 0 0\nintr 4 0 0\n";
        assert_eq!(stolen_in(before), [40, 59]);
        assert_eq!(most_of_one(&stolen_in(before), &[47, 60]), Duration::from_millis(70));
        assert_eq!(stolen_in("cpu0 1 2"), [0], "a kernel that does not tell");
        assert_eq!(most_of_one(&[], &[]), Duration::ZERO);
    }

    #[test]
    fn a_fault_counts_at_once_where_nothing_held_the_machine_up() {
        assert!(HELD.any() && !FREE.any());
        let mut calls = 0;
        let found = catch_unwind(std::panic::AssertUnwindSafe(|| {
            measured(|| {
                calls += 1;
                (Err::<(), _>("a gap".to_owned()), FREE)
            });
        }));
        assert!(found.is_err());
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_fault_while_it_was_held_up_is_measured_again_but_not_for_ever() {
        let mut calls = 0;
        let found = measured(|| {
            calls += 1;
            (if calls < 3 { Err("a gap".to_owned()) } else { Ok(calls) }, HELD)
        });
        assert_eq!(found, 3);

        let mut calls = 0;
        let found = catch_unwind(std::panic::AssertUnwindSafe(|| {
            measured(|| {
                calls += 1;
                (Err::<(), _>("a gap".to_owned()), HELD)
            });
        }));
        assert!(found.is_err());
        assert_eq!(calls, TRIES);
    }

    #[test]
    fn a_watch_says_how_late_threads_awake() {
        let watch = Watch::start();
        let until = Instant::now() + WINDOW * 2;
        while Instant::now() < until {
            thread::sleep(TICK);
        }
        let seen = watch.end();
        // How late is the machine's affair; that no thread sleeps to the nanosecond is certain.
        assert!(seen.late > Duration::ZERO, "{seen:?}");
    }
}
