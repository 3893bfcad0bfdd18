//! The call in numbers.

use super::{
    compare::{Comparison, compare},
    record::{Record, Series, Step},
    sound::{Clip, SoundError},
};

/// The least correlation with which a direction counts as heard.
pub const HEARD: f64 = 0.9;

/// Which side said something: the one that calls.
pub const CALLER: usize = 0;
/// The one that is called.
pub const CALLEE: usize = 1;

/// One of the two processes.
#[derive(Clone, Debug)]
pub struct Side {
    /// What it is called here.
    pub name: &'static str,
    /// What it said about the call.
    pub record: Record,
}

/// What one side said and the other heard.
#[derive(Clone, Debug)]
pub struct Direction {
    /// Who speaks.
    pub from: usize,
    /// Who listens.
    pub to: usize,
    /// The speaker's microphone, at 48 kHz.
    pub said: Clip,
    /// The listener's speaker, at 48 kHz.
    pub heard: Clip,
    /// Names of the two files, in the folder of the report.
    pub files: [String; 2],
    /// How the one matches the other.
    pub found: Comparison,
    /// Milliseconds from mouth to ear, over seconds of the recording. Empty if that is not known.
    pub mouth_to_ear: Series,
}

impl Direction {
    /// Compares what was said with what was heard. `started`: when sample 0 of the microphone was taken and sample 0 of
    /// the speaker was played, in Unix seconds.
    pub fn new(
        [from, to]: [usize; 2],
        [said, heard]: [Clip; 2],
        files: [String; 2],
        started: Option<(f64, f64)>,
    ) -> Self {
        let found = compare(&said, &heard);
        let mouth_to_ear = started.map_or_else(Vec::new, |(microphone, speaker)| {
            let apart = (speaker - microphone) * 1000.0;
            found.shifts.iter().map(|(at, shift)| (*at, shift + apart)).collect()
        });
        Self { from, to, said, heard, files, found, mouth_to_ear }
    }

    /// Whether what was said was heard.
    pub fn heard_well(&self) -> bool {
        self.found.correlation > HEARD
    }
}

/// The whole call.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Caller and callee.
    pub sides: [Side; 2],
    /// Caller to callee, and back. Missing if there is nothing to compare.
    pub directions: Vec<Direction>,
    /// What went wrong, in sentences. Empty: nothing.
    pub problems: Vec<String>,
}

/// A step of the set-up on a side.
#[derive(Clone, Debug, PartialEq)]
pub struct SideStep {
    /// Which side.
    pub side: usize,
    /// Name of the step.
    pub name: String,
    /// When the side began to wait for it, in milliseconds after the beginning of the part.
    pub from_ms: f64,
    /// When it was reached, in milliseconds after the beginning of the part.
    pub to_ms: f64,
}

impl Outcome {
    /// The call as the two processes told it.
    ///
    /// # Errors
    /// [`SoundError`] if a file with sound cannot be read. A call that was not connected needs none.
    pub fn new(
        sides: [Side; 2],
        mut problems: Vec<String>,
        sounds: Option<[Sounds; 2]>,
    ) -> Result<Self, SoundError> {
        let mut directions = Vec::new();
        for (from, sounds) in sounds.into_iter().flatten().enumerate() {
            let to = 1 - from;
            let clips = [Clip::read(&sounds.said)?, Clip::read(&sounds.heard)?];
            let started = |side: usize, field: &str| sides[side].record.first("media_started")?.number(field);
            let started = started(from, "mic_t").zip(started(to, "speaker_t"));
            let name = |path: &std::path::Path| {
                path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
            };
            let files = [name(&sounds.said), name(&sounds.heard)];
            let direction = Direction::new([from, to], clips, files, started);
            if !direction.heard_well() {
                problems.push(format!(
                    "{} did not hear {}: correlation {:.3}, {HEARD} is needed",
                    sides[to].name, sides[from].name, direction.found.correlation
                ));
            }
            directions.push(direction);
        }
        Ok(Self { sides, directions, problems })
    }

    /// Whether there was a call in which both heard each other.
    pub fn worked(&self) -> bool {
        self.problems.is_empty()
            && self.directions.len() == 2
            && self.directions.iter().all(Direction::heard_well)
    }

    /// Milliseconds from the caller's offer until the callee's phone rings.
    pub fn offer_to_ring(&self) -> Option<f64> {
        let rings = self.sides[CALLEE].record.step("ringing").or(self.sides[CALLEE].record.when("incoming"));
        Some((rings? - self.sides[CALLER].record.step("started")?) * 1000.0)
    }

    /// Milliseconds from the callee's accept until this side plays the other's first sound.
    pub fn accept_to_audio(&self, side: usize) -> Option<f64> {
        Some((self.sides[side].record.step("first_audio")? - self.accepted()?) * 1000.0)
    }

    /// When the callee accepted, in Unix seconds.
    fn accepted(&self) -> Option<f64> {
        self.sides[CALLEE].record.step("accepted")
    }

    /// When the caller offered the call, in Unix seconds.
    pub fn offered(&self) -> Option<f64> {
        self.sides[CALLER].record.step("started")
    }

    /// The set-up step by step on both sides, in order: before the callee accepted, and from there on.
    pub fn timeline(&self) -> [Vec<SideStep>; 2] {
        let Some(offered) = self.offered() else { return [Vec::new(), Vec::new()] };
        let accepted = self.accepted().unwrap_or(f64::INFINITY);
        let mut parts = [Vec::new(), Vec::new()];
        for (side, of) in self.sides.iter().enumerate() {
            let steps = of.record.steps();
            let (before, after): (Vec<Step>, Vec<Step>) =
                steps.into_iter().partition(|s| s.t < accepted && s.name != "accepted");
            for (part, (steps, start)) in parts.iter_mut().zip([(before, offered), (after, accepted)]) {
                let mut last = 0.0;
                for step in steps {
                    // Two processes' clocks are one clock here; what remains is how fine they tell the time.
                    let to_ms = ((step.t - start) * 1000.0).max(0.0);
                    part.push(SideStep { side, name: step.name, from_ms: last, to_ms });
                    last = to_ms;
                }
            }
        }
        for part in &mut parts {
            part.sort_by(|a, b| a.to_ms.total_cmp(&b.to_ms));
        }
        parts
    }
}

/// Where the sound of one direction lies.
#[derive(Clone, Debug)]
pub struct Sounds {
    /// What the microphone took.
    pub said: std::path::PathBuf,
    /// What the other side's speaker played.
    pub heard: std::path::PathBuf,
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (upper, lower) = (values.get(values.len() / 2)?, values.get(values.len().checked_sub(1)? / 2)?);
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::synthetic;

    #[test]
    fn the_figures_come_from_both_clocks() {
        let outcome = synthetic::outcome();
        assert!(outcome.worked(), "{:?}", outcome.problems);
        let near = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 0.1;
        assert!(near(outcome.offer_to_ring(), synthetic::RING_MS), "{:?}", outcome.offer_to_ring());
        assert!(near(outcome.accept_to_audio(CALLER), synthetic::HEARD_MS[0]));
        assert!(near(outcome.accept_to_audio(CALLEE), synthetic::HEARD_MS[1]));
        for direction in &outcome.directions {
            let delay = median(direction.mouth_to_ear.iter().map(|m| m.1));
            assert!(near(delay, synthetic::DELAY_MS[direction.from]), "{delay:?}");
        }
    }

    #[test]
    fn the_timeline_is_cut_at_the_accept() {
        let [before, after] = synthetic::outcome().timeline();
        assert_eq!((before[0].name.as_str(), before[0].side), ("started", CALLER));
        assert!(before.iter().all(|s| s.from_ms <= s.to_ms && s.name != "accepted"));
        assert_eq!(after.iter().filter(|s| s.name == "accepted").count(), 2);
        assert_eq!(after.iter().filter(|s| s.name == "first_audio").count(), 2);
    }

    #[test]
    fn a_deaf_side_is_a_problem() {
        let mut outcome = synthetic::outcome();
        outcome.directions[1].found.correlation = 0.5;
        assert!(!outcome.worked());
        outcome = synthetic::outcome();
        outcome.directions.pop();
        assert!(!outcome.worked());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median([3.0, 1.0]), Some(2.0));
    }
}
