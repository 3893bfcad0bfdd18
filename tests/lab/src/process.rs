//! Programs on a host, and what they say.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Error, namespace::Namespace};

/// What a program is given to end by itself: `blink` promises two seconds.
const GOODBYE: Duration = Duration::from_secs(4);
/// How often a process that should end is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A running program. It is ended when this is dropped, and when this process dies.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    said: Arc<Said>,
    name: String,
}

#[derive(Debug, Default)]
struct Said {
    lines: Mutex<(Vec<Value>, bool)>,
    more: Condvar,
}

impl Process {
    pub(crate) fn spawn(
        namespace: &Namespace,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> Result<Self, Error> {
        let errors = File::create(log).map_err(Error::io(log.display().to_string()))?;
        // Both commands become the program, so the process is the program's. A lab that is killed takes it along.
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace.name(), "setpriv", "--pdeathsig", "KILL"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(Error::io(program.display().to_string()))?;
        let said = Arc::new(Said::default());
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let process = Self { child, input, said: said.clone(), name: program.display().to_string() };
        thread::Builder::new()
            .name("lab output".into())
            .spawn(move || {
                for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()) {
                    let Ok(line) = line else { break };
                    // What is no JSON is kept as text.
                    let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    said.lines.lock().unwrap_or_else(PoisonError::into_inner).0.push(value);
                    said.more.notify_all();
                }
                said.lines.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
                said.more.notify_all();
            })
            .map_err(Error::io("a thread"))?;
        Ok(process)
    }

    /// The number that the system knows it by.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        self.said.lines.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Has it said nothing so far: what is waited for from now on is new.
    pub fn forget(&self) {
        self.said.lines.lock().unwrap_or_else(PoisonError::into_inner).0.clear();
    }

    /// The first line with this `event`, as soon as it is there.
    ///
    /// # Errors
    /// If it does not come within `patience`, or the program ends first.
    pub fn wait_for(&self, event: &str, patience: Duration) -> Result<Value, Error> {
        self.wait_until(event, patience, |line| line["event"] == event)
    }

    /// The first line that is `wanted`, as soon as it is there. `what` that is, for the error.
    ///
    /// # Errors
    /// If it does not come within `patience`, or the program ends first.
    pub fn wait_until(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Error> {
        self.wait_while(what, patience, |lines| lines.iter().find(|line| wanted(line)).cloned())
    }

    /// The last line with this `event`, as soon as it is `wanted`: how something stands now, and not how it once stood.
    ///
    /// # Errors
    /// If it is not so within `patience`, or the program ends first.
    pub fn wait_for_last(
        &self,
        event: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Error> {
        let last = |lines: &[Value]| lines.iter().rev().find(|line| line["event"] == event).cloned();
        self.wait_while(event, patience, |lines| last(lines).filter(|line| wanted(line)))
    }

    fn wait_while(
        &self,
        what: &str,
        patience: Duration,
        pick: impl Fn(&[Value]) -> Option<Value>,
    ) -> Result<Value, Error> {
        let until = Instant::now() + patience;
        let mut lines = self.said.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = pick(&lines.0) {
                return Ok(line);
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.1 || left.is_zero() {
                let why = if lines.1 { "has ended" } else { "is silent about it" };
                // What comes each second tells little.
                let telling = lines.0.iter().filter(|line| line["event"] != "stats");
                let told: Vec<_> = telling.map(ToString::to_string).collect();
                return Err(Error::Program(format!(
                    "no `{what}`: {} {why} after\n{}",
                    self.name,
                    told.join("\n")
                )));
            }
            lines = self.said.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// If nobody reads it.
    pub fn tell(&mut self, line: &str) -> Result<(), Error> {
        let Some(input) = &mut self.input else { return Ok(()) };
        writeln!(input, "{line}").and_then(|()| input.flush()).map_err(Error::io(self.name.clone()))
    }

    /// Kills it, as the system does that runs out of memory: it says goodbye to nobody.
    pub fn kill(&mut self) {
        // One that has ended already is as dead.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended, and returns its exit code. After `patience` it is told to end.
    pub fn end(&mut self, patience: Duration) -> Option<i32> {
        if let Some(code) = self.ended_within(patience) {
            return code;
        }
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It has not been waited for, so the number is still its own.
            let _ = kill_process(id, Signal::TERM);
        }
        if let Some(code) = self.ended_within(GOODBYE) {
            return code;
        }
        let _ = self.child.kill();
        self.child.wait().ok().and_then(|status| status.code())
    }

    fn ended_within(&mut self, patience: Duration) -> Option<Option<i32>> {
        let until = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status.code());
            }
            if Instant::now() >= until {
                return None;
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}
