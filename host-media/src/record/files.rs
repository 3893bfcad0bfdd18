//! Names and creates the files of a recording.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::file_fault;
use crate::error::RecordFault;

/// Bytes of a label that a file name takes: file systems take names of 255 bytes.
const MAX_LABEL: usize = 64;
/// Names that are tried before giving up.
const MAX_TRIES: u32 = 1000;

/// Where a recording goes to. Tests have one of their own.
pub(super) trait Files: Send {
    /// Creates one more file for this label.
    fn create(&mut self, label: &str) -> Result<(PathBuf, Box<dyn Out>), RecordFault>;

    /// Removes a file that is of no use, if that is possible.
    fn discard(&mut self, path: &Path);

    /// When the recording starts, as `yyyy-mm-ddThh:mm:ssZ`.
    fn date(&self) -> String;

    /// A number that no other recording is likely to have.
    fn seed(&self) -> u32;
}

/// A file that is written.
pub(super) trait Out: Write + Send {
    /// Brings everything to the disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Out for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// A folder, and the start of all names of a recording in it.
pub(super) struct Directory {
    dir: PathBuf,
    prefix: String,
    start: SystemTime,
}

impl Directory {
    /// Chooses a start of names that no file in the folder has.
    pub(super) fn new(dir: &Path, start: SystemTime) -> Result<Self, RecordFault> {
        let fail = |e| file_fault(dir, e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            names.push(entry.map_err(fail)?.file_name().to_string_lossy().into_owned());
        }
        let [year, month, day, hour, minute, second] = utc(start);
        let stem = format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}");
        let prefix = (1..MAX_TRIES)
            .map(|n| if n == 1 { format!("{stem}-") } else { format!("{stem}-{n}-") })
            .find(|prefix| !names.iter().any(|name| name.starts_with(prefix.as_str())));
        let prefix = prefix.ok_or_else(|| fail(io::ErrorKind::AlreadyExists.into()))?;
        Ok(Self { dir: dir.to_owned(), prefix, start })
    }
}

impl Files for Directory {
    fn create(&mut self, label: &str) -> Result<(PathBuf, Box<dyn Out>), RecordFault> {
        let label = sanitise(label);
        let mut n = 1;
        loop {
            let suffix = if n == 1 { String::new() } else { format!("-{n}") };
            let path = self.dir.join(format!("{}{label}{suffix}.opus", self.prefix));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((path, Box::new(file))),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && n < MAX_TRIES => n += 1,
                Err(e) => return Err(file_fault(&path, e)),
            }
        }
    }

    fn discard(&mut self, path: &Path) {
        if let Err(e) = std::fs::remove_file(path) {
            tracing::debug!(error = %e, "an empty recording stays");
        }
    }

    fn date(&self) -> String {
        let [year, month, day, hour, minute, second] = utc(self.start);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    fn seed(&self) -> u32 {
        let since = self.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        // Consecutive nanoseconds are spread over all numbers (the golden ratio, as Knuth multiplies).
        (since.as_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) as u32
    }
}

/// Letters and digits of all scripts, `-` and `_`; the rest becomes `_`.
fn sanitise(label: &str) -> String {
    let mut name = String::new();
    for c in label.trim().chars() {
        let c = if c.is_alphanumeric() || c == '-' { c } else { '_' };
        if name.len() + c.len_utf8() > MAX_LABEL {
            break;
        }
        name.push(c);
    }
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// Year, month, day, hour, minute and second in UTC; what lies before 1970 is 1970.
fn utc(time: SystemTime) -> [u64; 6] {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    // A hundred rounds at most for all that a clock is likely to show; 400 years at once before that.
    year += days / 146_097 * 400;
    days %= 146_097;
    let leap = |year: u64| {
        u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)))
    };
    while days >= 365 + leap(year) {
        days -= 365 + leap(year);
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    [year, month, days + 1, rest / 3600, rest / 60 % 60, rest % 60]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(utc(at(0)), [1970, 1, 1, 0, 0, 0]);
        assert_eq!(utc(at(951_782_399)), [2000, 2, 28, 23, 59, 59]);
        assert_eq!(utc(at(951_782_400)), [2000, 2, 29, 0, 0, 0]);
        assert_eq!(utc(at(951_868_800)), [2000, 3, 1, 0, 0, 0]);
        assert_eq!(utc(at(1_700_000_000)), [2023, 11, 14, 22, 13, 20]);
        assert_eq!(utc(at(4_107_542_399)), [2100, 2, 28, 23, 59, 59]);
        assert_eq!(utc(at(4_107_542_400)), [2100, 3, 1, 0, 0, 0]);
        assert_eq!(utc(at(1_704_067_199)), [2023, 12, 31, 23, 59, 59]);
        assert_eq!(utc(UNIX_EPOCH - Duration::from_secs(1)), [1970, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn labels_become_names_that_every_file_system_takes() {
        assert_eq!(sanitise("Ann"), "Ann");
        assert_eq!(sanitise("../../etc/passwd"), "______etc_passwd");
        assert_eq!(sanitise("a\0b\nc:d\\e*f?g"), "a_b_c_d_e_f_g");
        assert_eq!(sanitise(" Zoë Müller "), "Zoë_Müller");
        assert_eq!(sanitise("  "), "unnamed");
        assert_eq!(sanitise(&"é".repeat(100)).len(), MAX_LABEL);
        assert_eq!(sanitise("\u{202e}gpj"), "_gpj", "nothing that turns text around");
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        for _ in 0..3 {
            let mut files = Directory::new(dir.path(), at(1_700_000_000)).unwrap();
            for label in ["me", "Ann", "Ann"] {
                let (path, mut out) = files.create(label).unwrap();
                out.write_all(b"x").unwrap();
                names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        assert_eq!(
            names,
            [
                "20231114-221320-me.opus",
                "20231114-221320-Ann.opus",
                "20231114-221320-Ann-2.opus",
                "20231114-221320-2-me.opus",
                "20231114-221320-2-Ann.opus",
                "20231114-221320-2-Ann-2.opus",
                "20231114-221320-3-me.opus",
                "20231114-221320-3-Ann.opus",
                "20231114-221320-3-Ann-2.opus",
            ]
        );
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        match Directory::new(&missing, at(0)) {
            Err(RecordFault::File { path, cause }) => {
                assert_eq!((path, cause.kind()), (missing, io::ErrorKind::NotFound));
            }
            _ => panic!("a folder that is not there"),
        }
        let file = dir.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        assert!(Directory::new(&file, at(0)).is_err());
    }
}
