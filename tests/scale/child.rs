//! Processes of this program, as seen from outside.

use std::{
    env,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use blink_tests::{e2e::Spoken, held::Held};
use serde_json::{Value, json};

use crate::orders::{Order, Sample};

/// Far above what anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often somebody is asked who is waited for.
const AGAIN: Duration = Duration::from_millis(500);

/// A phone or a crowd. Killed when dropped.
pub(crate) struct Child {
    spoken: Spoken,
    /// Whose node it has; of a crowd, the first one.
    pub(crate) number: u32,
    /// Where it listens.
    pub(crate) address: String,
}

fn start(name: String, arguments: &[String]) -> Result<Spoken, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    // What is logged costs time, too.
    let mut command = Command::new(own);
    command.args(arguments).env_remove("RUST_LOG").env_remove("BLINK_LOG");
    Spoken::start(name, &mut command)
}

impl Child {
    /// A whole node, which says what is in that file.
    pub(crate) fn phone(number: u32, speech: &Path) -> Result<Self, String> {
        Self::start_phone(number, speech, &[])
    }

    /// The same, and it keeps the connections with its contacts.
    pub(crate) fn keeper(number: u32, speech: &Path) -> Result<Self, String> {
        Self::start_phone(number, speech, &["--keep-contacts"])
    }

    fn start_phone(number: u32, speech: &Path, more: &[&str]) -> Result<Self, String> {
        let mut arguments = ["phone", "--number", &number.to_string(), "--speech", &speech.to_string_lossy()]
            .map(str::to_owned)
            .to_vec();
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let spoken = start(format!("phone {number}"), &arguments)?;
        let ready = spoken.wait("ready", PATIENCE, |line| line["event"] == "ready")?;
        let address = ready["address"].as_str().unwrap_or_default().to_owned();
        Ok(Self { spoken, number, address })
    }

    /// Many nodes in one process, none so far.
    pub(crate) fn crowd(first: u32, arguments: &[&str]) -> Result<Self, String> {
        let mut all = ["crowd", "--first", &first.to_string()].map(str::to_owned).to_vec();
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let spoken = start(format!("the crowd from {first} on"), &all)?;
        Ok(Self { spoken, number: first, address: String::new() })
    }

    /// So many more, when they are ready: who they are, and where.
    pub(crate) fn more(&mut self, count: u32) -> Result<Vec<(u32, String)>, String> {
        // Each start takes up to half a second of a core.
        let patience = PATIENCE + Duration::from_secs(2) * count;
        let ready = self.spoken.ask(&json!(Order::More { count }), "ready", patience)?;
        serde_json::from_value(ready["who"].clone())
            .map_err(|error| format!("{}: {error}", self.spoken.name()))
    }

    pub(crate) fn tell(&mut self, order: &Order) -> Result<(), String> {
        self.spoken.tell(&json!(order))
    }

    /// The same, when it is done.
    pub(crate) fn have(&mut self, order: &Order) -> Result<(), String> {
        self.spoken.ask(&json!(order), "done", PATIENCE).map(drop)
    }

    pub(crate) fn sample(&mut self) -> Result<Sample, String> {
        let said = self.spoken.ask(&json!(Order::Sample), "sample", PATIENCE)?;
        serde_json::from_value(said["of"].clone()).map_err(|error| format!("{}: {error}", self.spoken.name()))
    }

    pub(crate) fn held(&self) -> Result<Held, String> {
        Held::of(self.spoken.id()).map_err(|error| format!("{}: {error}", self.spoken.name()))
    }

    pub(crate) fn forget(&self) {
        self.spoken.forget();
    }

    /// The first line of this event since it was told to forget.
    pub(crate) fn wait(&self, event: &str) -> Result<Value, String> {
        self.spoken.wait(event, PATIENCE, |line| line["event"] == event)
    }

    /// When it said this of the last of so many others, in seconds since 1970.
    pub(crate) fn of_all(&self, event: &str, others: u32) -> Result<f64, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let said = self.spoken.said(event);
            let mut first: Vec<(&str, f64)> = Vec::new();
            for line in &said {
                let peer = line["peer"].as_str().unwrap_or_default();
                if first.iter().all(|(known, _)| *known != peer) {
                    first.push((peer, line["t"].as_f64().unwrap_or(f64::NAN)));
                }
            }
            if first.len() >= others as usize {
                return Ok(first.iter().map(|(_, t)| *t).fold(f64::NEG_INFINITY, f64::max));
            }
            if Instant::now() > until {
                return Err(format!(
                    "{}: {event} of {} and not of {others}",
                    self.spoken.name(),
                    first.len()
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until its figures are like that.
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&Sample) -> bool) -> Result<Sample, String> {
        let until = Instant::now() + 2 * PATIENCE;
        loop {
            let sample = self.sample()?;
            if wanted(&sample) {
                return Ok(sample);
            }
            if Instant::now() > until {
                return Err(format!("{}: not {what}: {sample:?}", self.spoken.name()));
            }
            thread::sleep(AGAIN);
        }
    }
}
