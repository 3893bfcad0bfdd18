//! The `blink` command as a child process.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use blink_examples::demo::record::{Line, Record};

/// Far above what anything here takes: who needs it has found a defect, or a machine that stands still.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running `blink` that writes JSON lines. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    lines: Receiver<Line>,
    record: Record,
    log: PathBuf,
}

impl Process {
    /// Starts the command, which is built beside the test, on loopback alone. Its log goes into `folder`.
    ///
    /// # Panics
    /// If the command is missing or does not start.
    #[allow(clippy::panic, reason = "a test fails by panicking")]
    pub fn start(name: &'static str, folder: &Path, arguments: &[&OsStr]) -> Self {
        let blink = command();
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let loopback = ["--json", "--listen", "/ip4/127.0.0.1/tcp/0", "--ice-ip", "127.0.0.1"];
        let mut child = Command::new(&blink)
            .args(arguments)
            .args(loopback)
            .env_remove("RUST_LOG")
            .env_remove("BLINK_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}; build it: cargo build --bin blink", blink.display()));
        let (sender, lines) = channel();
        if let Some(out) = child.stdout.take() {
            thread::spawn(move || {
                let lines = BufReader::new(out).lines().map_while(Result::ok);
                for line in lines.filter_map(|text| Line::parse(&text)) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { name, child, lines, record: Record::default(), log }
    }

    /// Waits for a line of this event.
    ///
    /// # Panics
    /// If it does not come, with everything that was said.
    pub fn until(&mut self, event: &str) -> Line {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.next(until) {
                Some(line) if line.event == event => return line,
                Some(_) => {}
                None => self.fail(&format!("ended before it said {event:?}")),
            }
        }
    }

    /// Reads to the end: the exit code, and everything that was said.
    ///
    /// # Panics
    /// If it does not end, or is ended by a signal.
    pub fn end(mut self) -> (i32, Record) {
        let until = Instant::now() + DEADLINE;
        while self.next(until).is_some() {}
        // Its output is closed: what is left to wait for is the end of the process itself.
        match self.child.wait().map(|status| status.code()) {
            Ok(Some(code)) => (code, std::mem::take(&mut self.record)),
            other => self.fail(&format!("has no exit code: {other:?}")),
        }
    }

    /// What it complained of.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn next(&mut self, until: Instant) -> Option<Line> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.record.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => self.fail("said nothing for too long"),
        }
    }

    #[allow(clippy::panic, reason = "a test fails by panicking")]
    fn fail(&self, why: &str) -> ! {
        let mut text = String::new();
        for line in self.record.lines() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {}", line.body);
        }
        panic!("{} {why}\n{text}log:\n{}", self.name, self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the built `blink` lies: beside the folder of the test, which lies in `target/PROFILE/deps`.
pub fn command() -> PathBuf {
    let test = env::current_exe().unwrap_or_default();
    let folder = test.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    folder.join(format!("blink{}", env::consts::EXE_SUFFIX))
}
