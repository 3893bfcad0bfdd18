//! What one of the two processes said about the call, line by line.

use serde_json::Value;

/// The most lines kept of one process: a call of some hours. Later ones are left out of the report.
const MAX_LINES: usize = 50_000;

/// One JSON line of a process.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its `event`.
    pub event: String,
    /// Unix time in seconds.
    pub t: f64,
    /// The whole line.
    pub body: Value,
}

impl Line {
    /// Reads a line. `None` if it is no event.
    pub fn parse(text: &str) -> Option<Self> {
        let body: Value = serde_json::from_str(text).ok()?;
        let event = body.get("event")?.as_str()?.to_owned();
        let t = body.get("t")?.as_f64()?;
        Some(Self { event, t, body })
    }

    /// A field that is text; empty if it is missing.
    pub fn text(&self, field: &str) -> &str {
        self.body.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field that is a number and known.
    pub fn number(&self, field: &str) -> Option<f64> {
        self.body.get(field).and_then(Value::as_f64)
    }
}

/// A step of the call's set-up.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its name, as in the timeline of the `summary` line.
    pub name: String,
    /// Unix time in seconds.
    pub t: f64,
}

/// A number over time.
pub type Series = Vec<(f64, f64)>;

/// Everything that one process said.
#[derive(Clone, Debug, Default)]
pub struct Record {
    lines: Vec<Line>,
}

impl Record {
    /// Adds a line.
    pub fn push(&mut self, line: Line) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(line);
        }
    }

    /// All lines, in order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The lines of this event, in order.
    pub fn all<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.event == event)
    }

    /// The first line of this event.
    pub fn first(&self, event: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.event == event)
    }

    /// When this event came first, in Unix seconds.
    pub fn when(&self, event: &str) -> Option<f64> {
        self.first(event).map(|line| line.t)
    }

    /// A number that the `stats` lines carry, over Unix time, where it is known.
    pub fn series(&self, field: &str) -> Series {
        self.all("stats").filter_map(|line| Some((line.t, line.number(field)?))).collect()
    }

    /// The set-up step by step, up to the first sound, in order. Taken from the timeline of the `summary` line, whose
    /// times are those of the call machine; it counts from the call's start, which the lines written meanwhile place
    /// in time. Without a summary (a call that failed half way) the lines themselves have to do.
    pub fn steps(&self) -> Vec<Step> {
        let own: Vec<Step> = self.lines.iter().filter_map(step_of).collect();
        let Some(timeline) = self.first("summary").and_then(|s| s.body.get("timeline")?.as_array()) else {
            return first_of_each(own);
        };
        let marks: Vec<(String, f64)> = timeline
            .iter()
            .filter_map(|m| Some((m.get("step")?.as_str()?.to_owned(), m.get("ms")?.as_f64()?)))
            .collect();
        // A line is written after its step, never before: the smallest difference is the nearest to the truth.
        let start = own
            .iter()
            .filter_map(|s| Some(s.t - marks.iter().find(|(name, _)| *name == s.name)?.1 / 1000.0))
            .min_by(f64::total_cmp);
        let Some(start) = start else { return first_of_each(own) };
        first_of_each(marks.into_iter().map(|(name, ms)| Step { name, t: start + ms / 1000.0 }).collect())
    }

    /// When this step was reached, in Unix seconds.
    pub fn step(&self, name: &str) -> Option<f64> {
        self.steps().into_iter().find(|s| s.name == name).map(|s| s.t)
    }
}

/// The step that a line reports, by the name that the timeline has for it.
fn step_of(line: &Line) -> Option<Step> {
    let name = match line.event.as_str() {
        "offering" | "incoming" => "started",
        "link" => line.text("state"),
        name @ ("reached" | "ringing" | "accepted" | "media_started" | "first_audio" | "ended") => name,
        _ => return None,
    };
    Some(Step { name: name.to_owned(), t: line.t })
}

/// Each step at its first time, in order, up to the first sound; what happens later (a reconnect) is no set-up.
fn first_of_each(steps: Vec<Step>) -> Vec<Step> {
    let mut found: Vec<Step> = Vec::new();
    for step in steps {
        if step.name != "ended" && found.iter().all(|s| s.name != step.name) {
            found.push(step);
        }
    }
    found.sort_by(|a, b| a.t.total_cmp(&b.t));
    if let Some(end) = found.iter().position(|s| s.name == "first_audio") {
        found.truncate(end + 1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(lines: &[&str]) -> Record {
        let mut record = Record::default();
        lines.iter().for_each(|line| record.push(Line::parse(line).unwrap()));
        record
    }

    #[test]
    fn what_is_no_event_is_no_line() {
        for text in ["", "{", "[]", r#"{"event":1,"t":2}"#, r#"{"event":"x"}"#, r#"{"t":1}"#] {
            assert!(Line::parse(text).is_none(), "{text}");
        }
        let line = Line::parse(r#"{"event":"stats","t":1.5,"rtt_ms":null,"jitter_ms":2}"#).unwrap();
        assert_eq!((line.number("rtt_ms"), line.number("jitter_ms")), (None, Some(2.0)));
    }

    #[test]
    fn the_timeline_is_placed_by_the_lines_that_were_written_meanwhile() {
        let record = record(&[
            r#"{"event":"offering","t":100.003}"#,
            r#"{"event":"ringing","t":100.0501}"#,
            r#"{"event":"link","t":100.08,"state":"connected"}"#,
            r#"{"event":"link","t":101,"state":"reconnecting"}"#,
            r#"{"event":"first_audio","t":102.31}"#,
            r#"{"event":"ended","t":103}"#,
            r#"{"event":"summary","t":103,"timeline":[{"step":"started","ms":0},{"step":"ringing","ms":50},
                {"step":"connected","ms":75.5},{"step":"connected","ms":1500},{"step":"first_audio","ms":2300},{"step":"ended","ms":2999}]}"#,
        ]);
        let steps: Vec<_> = record.steps().into_iter().map(|s| (s.name, (s.t * 1e4).round() / 1e4)).collect();
        let wanted = [
            ("started", 100.0001),
            ("ringing", 100.0501),
            ("connected", 100.0756),
            ("first_audio", 102.3001),
        ];
        assert_eq!(steps, wanted.map(|(name, t)| (name.to_owned(), t)));
    }

    #[test]
    fn a_call_that_failed_half_way_still_has_its_steps() {
        let record = record(&[
            r#"{"event":"ready","t":99}"#,
            r#"{"event":"offering","t":100}"#,
            r#"{"event":"reached","t":100.5}"#,
            r#"{"event":"ended","t":115}"#,
        ]);
        let names: Vec<_> = record.steps().into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["started", "reached"]);
    }
}
