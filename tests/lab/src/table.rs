//! The one table of a run.

use std::{env, fs::OpenOptions, io::Write as _};

use crate::Error;

/// A line of the table. Times are in seconds, delays in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// What was done to the call.
    pub name: String,
    /// Time until audio was back, at the caller and at the callee.
    pub back: [Option<f64>; 2],
    /// Mouth to ear before, at the caller and at the callee.
    pub before: [Option<f64>; 2],
    /// In the first second of sound after it.
    pub at_once: [Option<f64>; 2],
    /// Five to eight seconds after that.
    pub later: [Option<f64>; 2],
    /// Time until a signal of the caller came through.
    pub signals: Option<f64>,
    /// What is worth knowing besides.
    pub note: String,
}

impl Row {
    /// The columns of every row.
    pub const HEAD: &str = "what\tback: caller\tcallee\tsignals\tms before: caller\tcallee\tat once: caller\tcallee\tlater: caller\tcallee\tnote";

    fn line(&self) -> String {
        let show = |value: &Option<f64>, factor: f64, digits: usize| match value {
            Some(value) => format!("{:.digits$}", value * factor),
            None => "-".into(),
        };
        let mut cells = vec![self.name.clone()];
        cells.extend(self.back.iter().chain([&self.signals]).map(|value| show(value, 1.0, 2)));
        let delays = [self.before, self.at_once, self.later];
        cells.extend(delays.iter().flatten().map(|value| show(value, 1000.0, 0)));
        cells.push(if self.note.is_empty() { "-".into() } else { self.note.clone() });
        cells.join("\t")
    }

    /// Adds the row to the file that `BLINK_LAB_TABLE` names, which `make test-lab` prints in the end, and prints it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn report(&self) -> Result<(), Error> {
        report("BLINK_LAB_TABLE", Self::HEAD, &self.line())
    }
}

/// A line of the table of reach: how two who know only a public key and a bootstrap node came to each other. Times are in
/// seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Where the caller and the callee sit.
    pub name: String,
    /// What helps them.
    pub with: String,
    /// From the start of the caller's phone until the callee's node was reached.
    pub reached: Option<f64>,
    /// From the offer until it rang at the callee.
    pub ring: Option<f64>,
    /// From accepting until the first sound of the other side, at the caller and at the callee.
    pub sound: [Option<f64>; 2],
    /// How signals went: at first, and in the end.
    pub signals: String,
    /// How sound went.
    pub media: String,
    /// What is worth knowing besides.
    pub note: String,
}

impl Found {
    /// The columns of every row.
    pub const HEAD: &str = "caller - callee\twith\treached\toffer to ring\taccept to sound: caller\tcallee\tsignals\tmedia\tnote";

    fn line(&self) -> String {
        let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let mut cells = vec![text(&self.name), text(&self.with)];
        let times = [self.reached, self.ring].into_iter().chain(self.sound);
        cells.extend(times.map(|time| time.map_or("-".into(), |time| format!("{time:.2}"))));
        cells.extend([&self.signals, &self.media, &self.note].map(|cell| text(cell)));
        cells.join("\t")
    }

    /// Adds the row to the file that `BLINK_LAB_REACH` names, which `make test-lab` prints in the end, and prints it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn report(&self) -> Result<(), Error> {
        report("BLINK_LAB_REACH", Self::HEAD, &self.line())
    }
}

/// Adds a line to the file that a variable names, below this head, and prints both.
fn report(variable: &str, head: &str, line: &str) -> Result<(), Error> {
    println!("{head}\n{line}");
    let Some(path) = env::var_os(variable) else { return Ok(()) };
    let write = || {
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        if file.metadata()?.len() == 0 {
            writeln!(file, "{head}")?;
        }
        writeln!(file, "{line}")
    };
    write().map_err(Error::io(variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_as_many_cells_as_the_head() {
        let row = Row {
            name: "x".into(),
            back: [Some(1.234), None],
            later: [None, Some(0.0815)],
            ..Row::default()
        };
        assert_eq!(row.line(), "x\t1.23\t-\t-\t-\t-\t-\t-\t-\t82\t-");
        assert_eq!(row.line().split('\t').count(), Row::HEAD.split('\t').count());
        let found =
            Found { name: "x".into(), ring: Some(0.1234), sound: [None, Some(1.0)], ..Found::default() };
        assert_eq!(found.line(), "x\t-\t-\t0.12\t-\t1.00\t-\t-\t-");
        assert_eq!(found.line().split('\t').count(), Found::HEAD.split('\t').count());
    }
}
