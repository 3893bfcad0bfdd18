//! What a process holds, as Linux tells it.

use std::{fs, io, path::Path};

/// Of one process, at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Resident memory, in kilobytes, with what it shares with others: program and libraries.
    pub rss_kb: u64,
    /// The most that this ever was.
    pub peak_kb: u64,
    /// The same with each shared page divided by those who share it.
    pub pss_kb: u64,
    /// Of the resident memory what no file holds: heap and stacks.
    pub heap_kb: u64,
    /// Open files of all kinds.
    pub files: u64,
    /// Of these, sockets.
    pub sockets: u64,
    /// Threads.
    pub threads: u64,
    /// How often the threads that there are have waited for something so far: each time they were woken up again.
    pub waits: u64,
}

/// The number behind a name in a table of lines such as `VmRSS:  120 kB`.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Held {
    /// Of the process with this number.
    ///
    /// # Errors
    /// If it is not there, is somebody else's, or the system is not Linux.
    pub fn of(process: u32) -> io::Result<Self> {
        let of = Path::new("/proc").join(process.to_string());
        let status = fs::read_to_string(of.join("status"))?;
        let missing = |what: &str| io::Error::other(format!("/proc tells no {what}"));
        let find = |name: &str| number(&status, name).ok_or_else(|| missing(name));
        let mut held = Self {
            rss_kb: find("VmRSS")?,
            peak_kb: find("VmHWM")?,
            heap_kb: find("RssAnon")?,
            threads: find("Threads")?,
            ..Self::default()
        };
        held.pss_kb =
            number(&fs::read_to_string(of.join("smaps_rollup"))?, "Pss").ok_or_else(|| missing("Pss"))?;
        for file in fs::read_dir(of.join("fd"))?.flatten() {
            held.files += 1;
            // One that was closed meanwhile is none.
            let to = fs::read_link(file.path()).unwrap_or_default();
            held.sockets += u64::from(to.to_string_lossy().starts_with("socket:"));
        }
        for thread in fs::read_dir(of.join("task"))?.flatten() {
            // The same of a thread.
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            held.waits += number(&status, "voluntary_ctxt_switches").unwrap_or(0);
        }
        Ok(held)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{net::UdpSocket, thread, time::Duration};

    use super::*;

    #[test]
    fn tables_are_read_by_whole_names() {
        let text =
            "VmRSSx:\t7 kB\nVmRSS:\t 120 kB\nnonvoluntary_ctxt_switches:\t9\nvoluntary_ctxt_switches:\t5\n";
        assert_eq!(number(text, "VmRSS"), Some(120));
        assert_eq!(number(text, "voluntary_ctxt_switches"), Some(5));
        assert_eq!(number(text, "Pss"), None);
    }

    #[test]
    fn what_this_process_does_is_seen() {
        let before = Held::of(std::process::id()).unwrap();
        assert!(before.rss_kb > 0 && before.peak_kb >= before.rss_kb / 2 && before.pss_kb > 0, "{before:?}");
        assert!((1..before.rss_kb).contains(&before.heap_kb), "{before:?}");
        // More than tests beside this one close meanwhile.
        let sockets: Vec<_> = (0..40).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        thread::sleep(Duration::from_millis(1));
        let after = Held::of(std::process::id()).unwrap();
        assert!(after.sockets >= before.sockets + 20, "{before:?} {after:?}");
        assert!(after.files >= after.sockets && after.threads >= 1 && after.waits >= 1, "{after:?}");
        drop(sockets);
    }
}
