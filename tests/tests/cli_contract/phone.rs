//! The built command as a child process, with every line that it writes held to the contract.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::document::CONTRACT;

/// Far above what anything here takes: a test that needs it has found a defect, or a machine that stands still.
const DEADLINE: Duration = Duration::from_secs(60);

/// Calls one at a time: on a small machine two would starve each other's audio.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static CALLS: Mutex<()> = Mutex::new(());
    // A test that failed says so itself; the next one still has the machine for itself.
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The command, which is built beside this test.
pub(crate) fn blink() -> Command {
    let test = env::current_exe().expect("a test knows where it is");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let path = folder.join(format!("blink{}", env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: cargo build -p blink-examples --bin blink", path.display());
    let mut command = Command::new(path);
    command.env_remove("RUST_LOG").env_remove("BLINK_LOG");
    command
}

/// What a command that ends by itself comes to.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the command to its end.
pub(crate) fn run(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
    let mut phone = Phone::spawn("blink", arguments);
    let mut out = String::new();
    let code = loop {
        match phone.lines.recv_timeout(DEADLINE) {
            Ok(line) => out.push_str(&format!("{line}\n")),
            Err(RecvTimeoutError::Disconnected) => break phone.status().code(),
            Err(RecvTimeoutError::Timeout) => panic!("blink does not end; it wrote {out}"),
        }
    };
    Outcome { code, out, err: phone.errors() }
}

/// A folder for one test, removed with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("the target folder can be written");
        Self(path)
    }

    /// Waits until a file is there: what was said to be kept is on the disk a moment later, on a busy one more than that.
    pub(crate) fn until_there(&self, name: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.0.join(name).exists() {
            assert!(Instant::now() < until, "{name} was not written");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("the target folder has a name in UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind lies in the target folder and hurts nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `blink`. Killed when dropped.
pub(crate) struct Phone {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
    seen: Vec<Value>,
}

impl Phone {
    /// `blink answer --json` on loopback alone.
    pub(crate) fn answer(name: &'static str, more: &[&str]) -> Self {
        Self::on_loopback(name, &["answer"], more)
    }

    /// `blink call WHOM --json` on loopback alone. WHOM is the other phone, which is ready.
    pub(crate) fn call(name: &'static str, whom: &Self, more: &[&str]) -> Self {
        Self::call_key(name, &whom.did(), &whom.address(), more)
    }

    /// Calls several at once, who are ready.
    pub(crate) fn call_all(name: &'static str, whom: &[&Self], more: &[&str]) -> Self {
        let mut what = vec!["call".to_owned()];
        what.extend(whom.iter().map(|phone| phone.did()));
        what.extend(whom.iter().flat_map(|phone| ["--peer".to_owned(), phone.address()]));
        let what: Vec<&str> = what.iter().map(String::as_str).collect();
        Self::on_loopback(name, &what, more)
    }

    /// The same with any key and address.
    pub(crate) fn call_key(name: &'static str, key: &str, address: &str, more: &[&str]) -> Self {
        Self::on_loopback(name, &["call", key, "--peer", address], more)
    }

    /// The same without any address.
    pub(crate) fn call_by_key_alone(name: &'static str, key: &str, more: &[&str]) -> Self {
        Self::on_loopback(name, &["call", key], more)
    }

    fn on_loopback(name: &'static str, what: &[&str], more: &[&str]) -> Self {
        let loopback = ["--json", "--listen", "/ip4/127.0.0.1/tcp/0", "--ice-ip", "127.0.0.1"];
        let mut silent = Vec::new();
        for (option, value) in [("--mic", "silence"), ("--speaker", "null")] {
            if !more.contains(&option) {
                silent.extend([option, value]);
            }
        }
        Self::spawn(name, what.iter().chain(&loopback).chain(&silent).chain(more))
    }

    pub(crate) fn spawn(name: &'static str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut command = blink();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("blink can be run");
        let (line, lines) = channel();
        let (error, errors) = channel();
        let out = child.stdout.take().expect("standard output is a pipe");
        let mut err = child.stderr.take().expect("standard error is a pipe");
        thread::spawn(move || {
            for text in BufReader::new(out).lines() {
                // The test that read this may be over.
                let _ = line.send(text.unwrap_or_else(|e| e.to_string()));
            }
        });
        thread::spawn(move || {
            let mut text = String::new();
            let read = err.read_to_string(&mut text);
            let _ = error.send(read.map_or_else(|e| e.to_string(), |_| text));
        });
        let input = child.stdin.take();
        Self { name, child, input, lines, errors, seen: Vec::new() }
    }

    /// The next line, or `None` at the end.
    fn next(&mut self, until: Instant) -> Option<Value> {
        let left = until.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(text) => {
                let line: Value = match serde_json::from_str(&text) {
                    Ok(line) => line,
                    Err(error) => self.fail(&format!("wrote {text:?}, which is no JSON: {error}")),
                };
                self.seen.push(line.clone());
                if let Some(objection) = CONTRACT.objection(&line) {
                    self.fail(&objection);
                }
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => self.fail("wrote nothing for too long"),
        }
    }

    /// Reads on until there is this event.
    pub(crate) fn until(&mut self, event: &str) -> Value {
        self.until_which(event, |_| true)
    }

    /// Reads on until there is such an event.
    pub(crate) fn until_which(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.next(until) {
                Some(line) if line["event"] == event && wanted(&line) => return line,
                Some(_) => {}
                None => self.fail(&format!("ended before such a {event}")),
            }
        }
    }

    /// Reads to the end. The exit code, and every line from the first on.
    pub(crate) fn end(mut self) -> (i32, Vec<Value>) {
        let until = Instant::now() + DEADLINE;
        while self.next(until).is_some() {}
        let Some(code) = self.status().code() else { self.fail("was ended by a signal") };
        (code, std::mem::take(&mut self.seen))
    }

    /// Waits for the process, which has closed its output.
    fn status(&mut self) -> ExitStatus {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
                Ok(None) => self.fail("closed its output and goes on"),
                Err(error) => self.fail(&error.to_string()),
            }
        }
    }

    /// What was written to standard error, by a process that has ended.
    fn errors(&self) -> String {
        self.errors.recv_timeout(DEADLINE).unwrap_or_else(|_| "(standard error stays open)".to_owned())
    }

    /// The key to call it by.
    pub(crate) fn did(&self) -> String {
        self.of_ready("did")
    }

    /// One of its addresses.
    pub(crate) fn address(&self) -> String {
        let ready = self.seen.iter().find(|line| line["event"] == "ready").expect("it is ready");
        ready["addresses"][0].as_str().expect("it listens somewhere").to_owned()
    }

    fn of_ready(&self, field: &str) -> String {
        let ready = self.seen.iter().find(|line| line["event"] == "ready").expect("it is ready");
        ready[field].as_str().expect("a text").to_owned()
    }

    /// Every line so far.
    pub(crate) fn seen(&self) -> &[Value] {
        &self.seen
    }

    /// Types a line.
    pub(crate) fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("standard input is open");
        input.write_all(format!("{line}\n").as_bytes()).expect("blink reads its input");
    }

    /// Ends its standard input.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Types a line and waits for its answer.
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.say(line);
        let until = Instant::now() + DEADLINE;
        loop {
            match self.next(until) {
                Some(line) if line["event"] == "done" || line["event"] == "refused" => return line,
                Some(_) => {}
                None => self.fail("ended without an answer"),
            }
        }
    }

    /// Sends a signal, such as INT for Ctrl-C.
    pub(crate) fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().is_ok_and(|s| s.success()), "{kill}");
    }

    /// Kills it, as a crash would.
    pub(crate) fn crash(&mut self) {
        self.child.kill().expect("it was running");
    }

    fn fail(&mut self, why: &str) -> ! {
        // So that its standard error ends.
        let _ = self.child.kill();
        let mut text = String::new();
        for line in &self.seen {
            let _ = writeln!(text, "  {line}");
        }
        panic!("{}: {why}\n{text}standard error:\n{}", self.name, self.errors());
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
