//! The two processes of the demo.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
};

use tokio::sync::mpsc;

use super::record::Line;

/// The longest line that is taken from a process; a longer one is cut, and is then no event.
const MAX_LINE: u64 = 64 * 1024;

/// What comes from a process.
#[derive(Debug)]
pub(super) enum Said {
    /// A JSON line.
    Line(usize, Line),
    /// Its standard output is closed: it is about to end.
    Closed(usize),
}

/// A `blink` process. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Phone {
    child: Child,
    input: Option<ChildStdin>,
    status: Option<ExitStatus>,
}

/// The files that a process leaves.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// Everything that it wrote to standard output.
    pub(super) events: PathBuf,
    /// Everything that it wrote to standard error.
    pub(super) log: PathBuf,
}

impl Files {
    pub(super) fn of(folder: &Path, name: &str) -> Self {
        let name = name.to_lowercase();
        Self { events: folder.join(format!("{name}.jsonl")), log: folder.join(format!("{name}.log")) }
    }
}

impl Phone {
    /// Starts this program again with these arguments. `number` names it in what it says.
    pub(super) fn start(
        arguments: Vec<OsString>,
        files: &Files,
        number: usize,
        said: mpsc::Sender<Said>,
    ) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|e| format!("cannot find this program again: {e}"))?;
        let create =
            |path: &Path| File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()));
        let (mut events, log) = (create(&files.events)?, create(&files.log)?);
        let mut child = Command::new(&own)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", own.display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let phone = Self { child, input, status: None };
        let output = output.ok_or("the new process has no standard output")?;
        // A thread, since reading a pipe blocks. It ends with the process.
        thread::Builder::new()
            .name(format!("events {number}"))
            .spawn(move || {
                let mut reader = BufReader::new(output);
                let mut text = Vec::new();
                while std::io::Read::take(&mut reader, MAX_LINE)
                    .read_until(b'\n', &mut text)
                    .is_ok_and(|n| n > 0)
                {
                    // The file is for people who look for a fault; the demo itself does not need it.
                    let _ = events.write_all(&text);
                    if let Some(line) = std::str::from_utf8(&text).ok().and_then(Line::parse)
                        && said.blocking_send(Said::Line(number, line)).is_err()
                    {
                        return;
                    }
                    text.clear();
                }
                // Nobody listens any more if this fails.
                let _ = said.blocking_send(Said::Closed(number));
            })
            .map_err(|e| format!("the system gave no thread: {e}"))?;
        Ok(phone)
    }

    /// Asks it to hang up.
    pub(super) fn hang_up(&mut self) {
        if let Some(input) = &mut self.input {
            // A process that is gone needs no asking.
            let _ = input.write_all(b"{\"do\":\"hangup\"}\n");
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // Either may fail only because it has just ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
