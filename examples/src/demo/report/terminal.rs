//! The report in short, for the terminal.

use std::fmt::Write as _;

use super::{Figure, figures, headline, ms, timeline};
use crate::demo::result::{Outcome, median};

/// Columns of a terminal that everybody has.
const WIDTH: usize = 78;
/// Columns of a bar.
const BAR: usize = 24;

/// The report as text; `colour` for a terminal.
pub(in crate::demo) fn terminal(outcome: &Outcome, colour: bool) -> String {
    let paint =
        |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let mut out = String::new();
    let good = outcome.worked();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "\n{}", paint(if good { "1;32" } else { "1;31" }, &headline(outcome)));
    for problem in &outcome.problems {
        let _ = writeln!(out, "{}", wrapped(problem, "  ! ", "    "));
    }
    let [before, after] = outcome.timeline();
    for (title, steps) in [("From the offer on", before), ("From the accept on", after)] {
        let Some(end) = steps.iter().map(|s| s.to_ms).reduce(f64::max) else { continue };
        let _ = writeln!(out, "\n{}", paint("1", title));
        for step in &steps {
            let name = outcome.sides[step.side].name;
            let what = timeline::words(step, outcome.sides[1 - step.side].name);
            let column = |ms: f64| (ms / end.max(0.001) * (BAR - 1) as f64).round() as usize;
            let (from, to) = (column(step.from_ms), column(step.to_ms));
            let bar = format!("{}{}", " ".repeat(from), "━".repeat(to - from + 1));
            let bar = paint(["34", "33"][step.side], &format!("{bar:BAR$}"));
            let reached = timeline::duration(step.to_ms);
            let _ = writeln!(out, "  {name:6}{what:33}{bar} {reached:>8}");
        }
    }
    let _ = writeln!(out, "\n{}", paint("1", "Measured"));
    for Figure { name, value, unit, note } in figures(outcome) {
        let _ = writeln!(out, "  {name:22}{:>10}   {note}", format!("{value} {unit}").trim_end());
    }
    for direction in &outcome.directions {
        let [talker, listener] = [direction.from, direction.to].map(|s| outcome.sides[s].name);
        let delay = median(direction.mouth_to_ear.iter().map(|p| p.1));
        let gaps = match direction.found.gaps.len() {
            0 => "no gap".to_owned(),
            1 => "1 gap".to_owned(),
            n => format!("{n} gaps"),
        };
        let told = format!("{talker} to {listener}");
        let _ = writeln!(
            out,
            "  {told:22}{:>7} ms   correlation {:.4}, {gaps} in {:.1} s",
            ms(delay),
            direction.found.correlation,
            direction.found.covered_s
        );
    }
    out
}

/// Text in lines of [`WIDTH`] columns at most.
fn wrapped(text: &str, first: &str, next: &str) -> String {
    let mut out = first.to_owned();
    let mut column = first.chars().count();
    let mut fresh = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !fresh && column + 1 + length > WIDTH {
            let _ = write!(out, "\n{next}");
            column = next.chars().count();
            fresh = true;
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        fresh = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_are_wrapped() {
        let text = "word ".repeat(40);
        let wrapped = wrapped(&text, "- ", "  ");
        assert!(wrapped.lines().count() == 3 && wrapped.lines().all(|l| l.len() <= WIDTH), "{wrapped}");
    }
}
