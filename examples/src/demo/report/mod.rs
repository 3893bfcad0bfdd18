//! The report of a call: a page, and the same in short for the terminal.

mod charts;
mod page;
mod sounds;
mod terminal;
mod timeline;

pub(super) use self::{page::page, terminal::terminal};

use super::result::{CALLEE, CALLER, Outcome, median};

/// A figure of the call, for a tile and for the terminal.
struct Figure {
    name: &'static str,
    /// With its unit; a dash if it is not known.
    value: String,
    unit: &'static str,
    note: String,
}

const UNKNOWN: &str = "–";

fn ms(value: Option<f64>) -> String {
    match value {
        None => UNKNOWN.to_owned(),
        Some(v) if v < 10.0 => format!("{v:.1}"),
        Some(v) => format!("{v:.0}"),
    }
}

fn percent(value: Option<f64>) -> String {
    match value {
        None => UNKNOWN.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(v) if v < 0.01 => "< 0.01".to_owned(),
        Some(v) => format!("{v:.2}"),
    }
}

/// The higher of what the two sides measured, with the caller's and the callee's own.
fn both(outcome: &Outcome, field: &str) -> (Option<f64>, [Option<f64>; 2]) {
    let each = [CALLER, CALLEE].map(|s| median(outcome.sides[s].record.series(field).iter().map(|p| p.1)));
    (each.iter().flatten().copied().reduce(f64::max), each)
}

/// The last value of each side and the higher of them: for what is counted from the beginning.
fn last(outcome: &Outcome, field: &str) -> Option<f64> {
    let each = [CALLER, CALLEE].map(|s| outcome.sides[s].record.series(field).last().map(|p| p.1));
    each.into_iter().flatten().reduce(f64::max)
}

fn figures(outcome: &Outcome) -> Vec<Figure> {
    let [alice, bob] = [CALLER, CALLEE].map(|s| outcome.sides[s].name);
    let delays: Vec<_> = outcome
        .directions
        .iter()
        .map(|d| (outcome.sides[d.to].name, median(d.mouth_to_ear.iter().map(|p| p.1))))
        .collect();
    let hears: Vec<String> =
        delays.iter().map(|(who, v)| format!("{who} hears after {} ms", ms(*v))).collect();
    let audio = [CALLER, CALLEE].map(|s| outcome.accept_to_audio(s));
    let matches = outcome.directions.iter().map(|d| d.found.correlation).reduce(f64::min);
    let gaps: usize = outcome.directions.iter().map(|d| d.found.gaps.len()).sum();
    let gap_note = match (outcome.directions.len(), gaps) {
        (0, _) => "nothing was compared".to_owned(),
        (_, 0) => "correlation of heard with said; no gap".to_owned(),
        (_, 1) => "correlation of heard with said; one gap".to_owned(),
        (_, n) => format!("correlation of heard with said; {n} gaps"),
    };
    let figure = |name, value, unit, note| Figure { name, value, unit, note };
    vec![
        figure("Offer to ring", ms(outcome.offer_to_ring()), "ms", format!("until {bob}'s phone rings")),
        figure(
            "Accept to first sound",
            ms(audio.iter().flatten().copied().reduce(f64::max)),
            "ms",
            format!("{bob} hears after {} ms, {alice} after {} ms", ms(audio[CALLEE]), ms(audio[CALLER])),
        ),
        figure(
            "Mouth to ear",
            ms(delays.iter().filter_map(|d| d.1).reduce(f64::max)),
            "ms",
            if hears.is_empty() { "not measured".to_owned() } else { hears.join(", ") },
        ),
        figure("Match", matches.map_or_else(|| UNKNOWN.to_owned(), |m| format!("{m:.3}")), "", gap_note),
        figure("Round trip", ms(both(outcome, "rtt_ms").0), "ms", "of the media path, median".to_owned()),
        figure("Jitter", ms(both(outcome, "jitter_ms").0), "ms", "median, RFC 3550".to_owned()),
        figure("Loss", percent(last(outcome, "loss_pct")), "%", "of the packets".to_owned()),
        figure(
            "Concealed",
            percent(last(outcome, "concealed_pct")),
            "%",
            "of the sound was made up".to_owned(),
        ),
    ]
}

/// What was done, in a sentence or two that anybody understands.
fn lead(outcome: &Outcome) -> String {
    let [alice, bob] = [CALLER, CALLEE].map(|s| outcome.sides[s].name);
    format!(
        "{alice} called {bob}. Both are real: two separate processes on this machine, of which {alice} knew only {bob}'s \
         public key and one address. The call was offered over encrypted gossip, rang, was accepted, and carried \
         recorded speech both ways as Opus over WebRTC. What each side's speaker played was then compared with what \
         went into the other side's microphone."
    )
}

fn headline(outcome: &Outcome) -> String {
    let [alice, bob] = [CALLER, CALLEE].map(|s| outcome.sides[s].name);
    if outcome.worked() {
        format!("{alice} and {bob} talked, and each heard every word")
    } else if outcome.directions.is_empty() {
        format!("{alice} and {bob} did not get through")
    } else {
        format!("{alice} and {bob} were connected, but did not hear each other well")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::synthetic;

    #[test]
    fn the_page_stands_alone_and_says_everything() {
        let html = page(&synthetic::outcome(), 1_790_000_000.0).unwrap();
        if let Ok(path) = std::env::var("BLINK_DEMO_SAMPLE") {
            std::fs::write(path, &html).unwrap();
        }
        for outside in ["http:", "https:", "//", "<script", "@import", "url("] {
            let body = html.replace("http://www.w3.org", "");
            assert!(!strip_data(&body).contains(outside), "{outside}");
        }
        for wanted in [
            "Offer to ring",
            "<b>46 <",
            "alice-said.wav",
            "bob-heard.wav",
            "<svg",
            "data:image/png",
            "no gap",
        ] {
            assert!(html.contains(wanted), "{wanted}");
        }
        for (open, close) in
            [("<svg", "</svg>"), ("<div", "</div>"), ("<section", "</section>"), ("<p", "</p>")]
        {
            let starts =
                html.matches(&format!("{open}>")).count() + html.matches(&format!("{open} ")).count();
            assert_eq!(starts, html.matches(close).count(), "{open}");
        }
    }

    /// The page without its pictures, whose letters mean nothing.
    fn strip_data(html: &str) -> String {
        html.split("data:image/png;base64,").map(|part| part.split_once('"').map_or(part, |p| p.1)).collect()
    }

    #[test]
    fn a_failed_call_has_a_page_too() {
        let mut outcome = synthetic::outcome();
        outcome.directions.clear();
        outcome.problems.push("Bob's process <ended> with code 6".to_owned());
        let html = page(&outcome, 1_790_000_000.0).unwrap();
        assert!(html.contains("did not get through") && html.contains("&lt;ended&gt;"));
        let text = terminal(&outcome, false);
        assert!(text.contains("code 6"), "{text}");
    }

    #[test]
    fn the_terminal_gets_the_same_figures_in_plain_text() {
        let outcome = synthetic::outcome();
        let text = terminal(&outcome, false);
        for figure in figures(&outcome) {
            assert!(text.contains(figure.name) && text.contains(&figure.value), "{}:\n{text}", figure.name);
        }
        assert!(!text.contains('\x1b') && terminal(&outcome, true).contains('\x1b'));
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn numbers_are_as_fine_as_they_are_known() {
        assert_eq!([ms(None), ms(Some(0.34)), ms(Some(63.7))], ["–", "0.3", "64"]);
        assert_eq!([percent(Some(0.0)), percent(Some(0.004)), percent(Some(1.25))], ["0", "< 0.01", "1.25"]);
    }
}
