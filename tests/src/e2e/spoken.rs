//! A process that says lines of JSON on its standard output and is told such lines on its standard input.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// One that runs. Killed when dropped.
#[derive(Debug)]
pub struct Spoken {
    name: String,
    process: Child,
    input: Option<ChildStdin>,
    said: Arc<Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// Lines that nobody has forgotten, and whether it has ended.
    lines: Mutex<(Vec<Value>, bool)>,
    more: Condvar,
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, (Vec<Value>, bool)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spoken {
    /// Starts it; complaints begin with its name. What it says on standard error goes where this process's does.
    ///
    /// # Errors
    /// If the system cannot start it.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Result<Self, String> {
        let name = name.into();
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        let said = Arc::new(Said::default());
        let (input, output, into) = (process.stdin.take(), process.stdout.take(), said.clone());
        thread::spawn(move || {
            for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()) {
                let Ok(line) = line else { break };
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                into.lock().0.push(value);
                into.more.notify_all();
            }
            into.lock().1 = true;
            into.more.notify_all();
        });
        Ok(Self { name, process, input, said })
    }

    /// What it is called in complaints.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in the system.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has said so far is not waited for any more.
    pub fn forget(&self) {
        self.said.lock().0.clear();
    }

    /// The lines of this event that it has said so far.
    #[must_use]
    pub fn said(&self, event: &str) -> Vec<Value> {
        self.said.lock().0.iter().filter(|line| line["event"] == event).cloned().collect()
    }

    /// The first line that fits, as soon as it is there.
    ///
    /// # Errors
    /// With everything that it said, if that does not come in time, or it ends before.
    pub fn wait(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, String> {
        let until = Instant::now() + patience;
        let mut lines = self.said.lock();
        loop {
            if let Some(line) = lines.0.iter().find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.1 || left.is_zero() {
                let said: Vec<_> = lines.0.iter().map(|line| format!("\n    {line}")).collect();
                let why = if lines.1 { "it has ended" } else { "time is over" };
                return Err(format!("{}: no {what}: {why}; it said{}", self.name, said.concat()));
            }
            lines = self.said.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells it something.
    ///
    /// # Errors
    /// If it does not listen any more.
    pub fn tell(&mut self, order: &Value) -> Result<(), String> {
        let Some(input) = &mut self.input else { return Ok(()) };
        writeln!(input, "{order}").and_then(|()| input.flush()).map_err(|e| format!("{}: {e}", self.name))
    }

    /// Asks it something that it answers with a line of this event.
    ///
    /// # Errors
    /// As [`tell`](Self::tell) and [`wait`](Self::wait).
    pub fn ask(&mut self, order: &Value, event: &str, patience: Duration) -> Result<Value, String> {
        self.said.lock().0.retain(|line| line["event"] != event);
        self.tell(order)?;
        self.wait(event, patience, |line| line["event"] == event)
    }

    /// It is gone at once.
    pub fn kill(&mut self) {
        // One that has ended already is as dead.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Spoken {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use serde_json::json;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn what_it_says_is_waited_for_and_forgotten_and_its_end_is_noticed() {
        // It says what it is told.
        let mut cat = Spoken::start("the cat", &mut Command::new("cat")).unwrap();
        let line = json!({"event": "purr", "n": 1});
        assert_eq!(cat.ask(&line, "purr", PATIENCE), Ok(line.clone()));
        assert_eq!(cat.said("purr"), [line]);
        let other = json!({"event": "purr", "n": 2});
        assert_eq!(cat.ask(&other, "purr", PATIENCE), Ok(other.clone()), "not the answer of before");
        let missing = cat.wait("bark", Duration::ZERO, |line| line["event"] == "bark").unwrap_err();
        assert!(missing.contains("the cat: no bark: time is over") && missing.contains("purr"), "{missing}");
        cat.forget();
        assert_eq!(cat.said("purr"), [] as [Value; 0]);
        cat.kill();
        let over = cat.wait("purr", PATIENCE, |_| true).unwrap_err();
        assert!(over.contains("it has ended"), "{over}");
    }
}
