//! What processes take of the processor.

use std::{collections::BTreeMap, fs, time::Duration};

/// The clock of these times; Linux shows it so on every machine that this runs on, whatever the kernel itself counts in.
const TICKS_PER_SECOND: u32 = 100;

/// A process as the system shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    parent: u32,
    ticks: u64,
}

/// Reads `/proc/PID/stat`. The name in parentheses may hold anything, parentheses included.
fn read(stat: &str) -> Option<Shown> {
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // Behind the name: state, parent, ..., and as the 12th and 13th the time in programs and in the kernel.
    let ticks = |k: usize| fields.get(k)?.parse::<u64>().ok();
    Some(Shown { parent: fields.get(1)?.parse().ok()?, ticks: ticks(11)? + ticks(12)? })
}

/// What a process and all below it have taken. Who has ended is not counted any more.
fn tree(all: &BTreeMap<u32, Shown>, root: u32) -> u64 {
    let own = all.get(&root).map_or(0, |shown| shown.ticks);
    let below = all.iter().filter(|(id, shown)| shown.parent == root && **id != root);
    own + below.map(|(id, _)| tree(all, *id)).sum::<u64>()
}

/// What a process and all below it have taken of the processor so far.
#[must_use]
pub fn taken(root: u32) -> Duration {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let shown = entries.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        // One that ends meanwhile is not there.
        Some((id, read(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
    });
    let ticks = tree(&shown.collect(), root);
    Duration::from_secs(ticks) / TICKS_PER_SECOND
}

/// What the whole machine has taken so far, of all its cores together.
#[must_use]
pub fn machine() -> Duration {
    let ticks = busy(&fs::read_to_string("/proc/stat").unwrap_or_default());
    Duration::from_secs(ticks) / TICKS_PER_SECOND
}

/// User, nice, system, then idle and waiting, which are left out, then interrupts of both kinds, and what a host of virtual
/// machines took away.
fn busy(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let fields = line.split_ascii_whitespace().skip(1).map(|field| field.parse().unwrap_or(0));
    let fields: Vec<u64> = fields.collect();
    [0, 1, 2, 5, 6, 7].iter().filter_map(|k| fields.get(*k)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "77 (a) b (c)) S 12 77 77 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 1 0 100 1 1";
        assert_eq!(read(stat), Some(Shown { parent: 12, ticks: 300 }));
        assert_eq!(read("77 (a"), None);
        assert_eq!(read("77 (a) S 12"), None);
    }

    #[test]
    fn a_tree_is_all_that_is_below_and_nothing_beside() {
        let of = |id: u32, parent: u32, ticks: u64| (id, Shown { parent, ticks });
        let all = [of(1, 0, 1000), of(5, 1, 1), of(6, 5, 10), of(7, 6, 100), of(8, 1, 500)];
        assert_eq!(tree(&all.into_iter().collect(), 5), 111);
        assert_eq!(tree(&BTreeMap::new(), 5), 0);
    }

    #[test]
    fn a_machine_is_busy_with_all_but_waiting() {
        assert_eq!(busy("cpu  1 2 4 1000 1000 8 16 32 5 5\ncpu0 9 9 9"), 63);
        assert_eq!(busy(""), 0);
    }

    #[test]
    fn this_process_has_taken_something() {
        let before = taken(std::process::id());
        let mut sum = 0_u64;
        // As long as the clock needs for the next tick.
        while taken(std::process::id()) <= before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(machine() >= taken(std::process::id()));
    }
}
