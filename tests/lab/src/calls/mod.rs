//! Whole calls over the [profiles](crate::Profile), and what is measured of them.
//!
//! A call is one line of JSON: set-up, delay from mouth to ear, what was concealed, what went over the wire, what the processor
//! did, and where the recordings are, whose quality is scored elsewhere (`scripts/calls.py`). Two of a kind talk: two `blink`
//! commands, or two Chromium without a window, with the same words over the same network.

mod blink;
mod chromium;
mod page;
mod window;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{Conditions, Error, Host, Lab, Profile, phone::unix};

/// Who talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// The `blink` command.
    Blink,
    /// Chromium without a window.
    Chromium,
}

impl Peer {
    /// As it is asked for and written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blink => "blink",
            Self::Chromium => "chromium",
        }
    }
}

/// What is said, by both sides at the same time: quiet words until the call has settled, sentences that are scored, and then
/// somebody who hardly ever pauses. Made by `scripts/calls.py`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Words {
    /// What the caller and the callee say.
    pub files: [PathBuf; 2],
    /// When the sentences begin, in seconds from sample 0.
    pub begin: f64,
    /// When they are over.
    pub end: f64,
    /// And when nothing more is said.
    pub until: f64,
}

impl Words {
    /// Reads `layout.json` of a directory, beside which the files are.
    ///
    /// # Errors
    /// If it is not there, or says something else.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("layout.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(path.display().to_string()))?;
        let layout: Value = serde_json::from_str(&text).unwrap_or_default();
        let number = |field: &str| {
            layout[field].as_f64().ok_or_else(|| Error::Program(format!("{}: no `{field}`", path.display())))
        };
        Ok(Self {
            files: ["caller.wav", "callee.wav"].map(|name| directory.join(name)),
            begin: number("begin")?,
            end: number("end")?,
            until: number("until")?,
        })
    }
}

/// Where a call takes place.
struct World<'a> {
    lab: Lab,
    /// The caller's and the callee's.
    hosts: [Host; 2],
    profile: &'a Profile,
    words: &'a Words,
    /// Where recordings and logs go, and what their names begin with.
    directory: &'a Path,
    name: String,
}

impl World<'_> {
    fn file(&self, side: usize, end: &str) -> PathBuf {
        self.directory.join(format!("{}-{}{end}", self.name, SIDES[side]))
    }
}

const SIDES: [&str; 2] = ["caller", "callee"];

/// How a call came about. Times are of one clock, in seconds; of the caller and of the callee.
#[derive(Clone, Debug, Default, PartialEq)]
struct SetUp {
    offer: f64,
    ring: Option<f64>,
    accept: f64,
    heard: [f64; 2],
    /// What the connection did and when, if that is told.
    steps: [Vec<(String, f64)>; 2],
}

impl SetUp {
    fn json(&self, early: bool) -> Value {
        let after = |from: f64| self.heard.map(|at| milliseconds(at - from));
        let steps = |side: &Vec<(String, f64)>| -> Vec<_> {
            side.iter().map(|(what, at)| json!([what, milliseconds(at - self.offer)])).collect()
        };
        json!({
            "early": early,
            "steps_ms": self.steps.each_ref().map(steps),
            "offer_to_ring_ms": self.ring.map(|ring| milliseconds(ring - self.offer)),
            "accept_to_audio_ms": after(self.accept),
            "offer_to_audio_ms": after(self.offer),
        })
    }
}

/// To a tenth: all clocks here are worse.
fn milliseconds(seconds: f64) -> f64 {
    (seconds * 10_000.0).round() / 10.0
}

/// What became of sound so far, in any unit that is the same for both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Played {
    concealed: f64,
    all: f64,
}

/// What one side heard.
#[derive(Clone, Debug, PartialEq)]
struct Recording {
    file: PathBuf,
    /// Unix time of its sample 0.
    from: f64,
    /// Unix time at which sample 0 of what this side itself said was handed over.
    mouth: f64,
}

/// Two who hear each other.
trait Pair {
    /// Unix time at which both had begun to speak.
    fn began(&self) -> f64;
    /// What has been played so far: at the caller and at the callee.
    fn played(&mut self) -> Result<[Played; 2], Error>;
    /// Records no more, since that costs something that a call does not need.
    fn stop_recording(&mut self) -> Result<(), Error>;
    /// The processes, with all that they have started.
    fn processes(&self) -> [u32; 2];
    /// Ends a call that nobody listens to afterwards.
    fn leave(self: Box<Self>) -> Result<(), Error>;
    /// Ends the call.
    fn hang_up(self: Box<Self>) -> Result<[Recording; 2], Error>;
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Call<'a> {
    /// Who talks.
    pub peer: Peer,
    /// Over which network.
    pub profile: &'a Profile,
    /// Decides on all luck of the network.
    pub seed: u64,
    /// Only until both hear each other, and with a connection that is made after accepting; else a whole call, connected while
    /// it rings, if they can.
    pub short: bool,
}

impl<'a> Call<'a> {
    /// A whole call.
    #[must_use]
    pub fn whole(peer: Peer, profile: &'a Profile, seed: u64) -> Self {
        Self { peer, profile, seed, short: false }
    }

    /// Only its set-up.
    #[must_use]
    pub fn short(peer: Peer, profile: &'a Profile, seed: u64) -> Self {
        Self { short: true, ..Self::whole(peer, profile, seed) }
    }

    /// Makes the call, and returns its line. A call that fails is a result as well, with an `error`.
    #[must_use]
    pub fn measure(&self, words: &Words, directory: &Path) -> Value {
        let mut line = json!({
            "peer": self.peer.name(),
            "profile": self.profile.name,
            "what": self.profile.what,
            "seed": self.seed,
            "kind": if self.short { "set-up" } else { "call" },
            "rtt_ms": milliseconds(self.profile.round_trip().as_secs_f64()),
        });
        let found = self.make(words, directory).unwrap_or_else(|error| json!({"error": error.to_string()}));
        if let (Some(line), Value::Object(found)) = (line.as_object_mut(), found) {
            line.extend(found);
        }
        line
    }

    fn make(&self, words: &Words, directory: &Path) -> Result<Value, Error> {
        let lab = Lab::new(self.seed)?;
        let mut hosts = [lab.host("a")?, lab.host("b")?];
        // One family: a header of IPv6 is 20 bytes longer, and who takes which of two would decide the rates.
        for host in &mut hosts {
            if self.profile.v6 { host.only_v6()? } else { host.only_v4()? }
        }
        lab.link(&hosts[0], &hosts[1], &self.profile.conditions);
        let kind = if self.short { "short" } else { "whole" };
        let name = format!("{}-{}-{}-{kind}", self.peer.name(), self.profile.name, self.seed);
        let world = World { lab, hosts, profile: self.profile, words, directory, name };
        let early = !self.short && self.peer == Peer::Blink;
        let (set_up, pair) = match self.peer {
            Peer::Blink => blink::call(&world, early)?,
            Peer::Chromium => chromium::call(&world)?,
        };
        let mut line = set_up.json(early);
        if self.short {
            pair.leave()?;
            return Ok(line);
        }
        let found = window::measure(&world, pair)?;
        if let (Some(line), Value::Object(found)) = (line.as_object_mut(), found) {
            line.extend(found);
        }
        Ok(line)
    }
}

/// This moment on the clock of all times here.
fn now() -> f64 {
    unix(std::time::SystemTime::now())
}

/// The way from one side to the other, for what is not sent over the link.
fn way(conditions: &Conditions) -> f64 {
    conditions.delay.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_set_up_are_from_what_they_say() {
        let set_up = SetUp {
            offer: 100.0,
            ring: Some(100.1),
            accept: 103.0,
            heard: [103.2, 103.15],
            steps: [vec![("connected".into(), 102.0)], Vec::new()],
        };
        let wanted = json!({
            "early": true,
            "offer_to_ring_ms": 100.0,
            "accept_to_audio_ms": [200.0, 150.0],
            "offer_to_audio_ms": [3200.0, 3150.0],
            "steps_ms": [[["connected", 2000.0]], []],
        });
        assert_eq!(set_up.json(true), wanted);
    }

    #[test]
    fn a_layout_is_read_and_a_half_one_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        assert!(Words::read(folder.path()).is_err(), "there is none");
        let write = |text: &str| std::fs::write(folder.path().join("layout.json"), text).expect("written");
        write(r#"{"begin": 6.5, "end": 23.5, "until": 37.5}"#);
        let words = Words::read(folder.path()).expect("whole");
        assert_eq!((words.begin, words.end, words.until), (6.5, 23.5, 37.5));
        assert!(words.files[1].ends_with("callee.wav"));
        write(r#"{"begin": 6.5, "until": 37.5}"#);
        let error = Words::read(folder.path()).expect_err("half").to_string();
        assert!(error.contains("`end`"), "{error}");
    }
}
