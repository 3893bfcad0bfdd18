//! What this process takes of the machine. Linux.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// The name of the bootstrap node's threads.
pub(crate) const BOOTSTRAP: &str = "bootstrap";

fn number(text: &str) -> u64 {
    text.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0)
}

/// Kilobytes of memory that this process has in use.
pub(crate) fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    number(status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line"))
}

/// How many files this process may have open.
pub(crate) fn most_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").expect("Linux");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    // "unlimited" is no number, and the hard limit behind it is another one.
    let soft = line["Max open files".len()..].split_whitespace().next().unwrap_or_default();
    soft.parse().unwrap_or(usize::MAX)
}

/// How many ends of TCP connections are open in this process.
pub(crate) fn connections() -> usize {
    let own: Vec<String> = fs::read_dir("/proc/self/fd")
        .expect("Linux")
        .filter_map(|file| Some(fs::read_link(file.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .filter_map(|to| Some(to.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let own: std::collections::BTreeSet<_> = own.iter().map(String::as_str).collect();
    let table = fs::read_to_string("/proc/self/net/tcp").expect("Linux");
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|f| f.get(3) == Some(&"01") && f.get(9).is_some_and(|inode| own.contains(inode))).count()
}

/// What was used of the processors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor {
    /// By the whole process.
    pub(crate) all: Duration,
    /// Of that, by the bootstrap node.
    pub(crate) bootstrap: Duration,
}

impl Processor {
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let all = Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32);
        let threads = fs::read_dir("/proc/self/task").expect("Linux").filter_map(|thread| {
            let path = thread.ok()?.path();
            let name = fs::read_to_string(path.join("comm")).ok()?;
            (name.trim() == BOOTSTRAP).then(|| fs::read_to_string(path.join("schedstat")).unwrap_or_default())
        });
        // The first number is the time on a processor, in nanoseconds.
        Self { all, bootstrap: Duration::from_nanos(threads.map(|text| number(&text)).sum()) }
    }

    pub(crate) fn used_since(&self) -> Self {
        let now = Self::now();
        Self { all: now.all - self.all, bootstrap: now.bootstrap.saturating_sub(self.bootstrap) }
    }
}
