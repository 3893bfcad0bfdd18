//! The report as a page that needs nothing but itself and the sound files beside it.

use std::fmt::Write as _;

use super::{charts, figures, headline, lead, sounds, timeline};
use crate::demo::{
    compare::GAP_MS,
    result::{CALLEE, CALLER, Outcome},
};

const STYLE: &str = include_str!("style.css");

/// The page. `now` is Unix time in seconds.
///
/// # Errors
/// A sentence if a picture cannot be drawn.
pub(in crate::demo) fn page(outcome: &Outcome, now: f64) -> Result<String, String> {
    let [alice, bob] = [CALLER, CALLEE].map(|s| outcome.sides[s].name);
    let (class, badge) =
        if outcome.worked() { ("good", "The call worked") } else { ("bad", "The call did not work") };
    let title = headline(outcome);
    let mut out = format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>blink demo: {}</title>
<link rel="icon" href="data:,">
<style>
{STYLE}</style>
</head>
<body>
<main>
<header>
<span class="badge {class}">{badge}</span> <span class="soft small">blink demo, {}</span>
<h1>{}</h1>
<p class="lead">{}</p>
</header>
"#,
        escape(&title),
        date(now),
        escape(&title),
        escape(&lead(outcome)),
    );
    if !outcome.problems.is_empty() {
        out.push_str(r#"<ul class="problems">"#);
        for problem in &outcome.problems {
            // Writing to a String cannot fail, here and below.
            let _ = write!(out, "<li>{}</li>", escape(problem));
        }
        out.push_str("</ul>\n");
    }
    out.push_str("<section class=\"tiles\">\n");
    for figure in figures(outcome) {
        let _ = writeln!(
            out,
            r#"<div class="tile"><span class="name">{}</span><b>{} <small>{}</small></b><span class="note">{}</span></div>"#,
            figure.name,
            escape(&figure.value).replace('>', "&gt;"),
            figure.unit,
            escape(&figure.note)
        );
    }
    out.push_str("</section>\n");

    let [before, after] = outcome.timeline();
    if !before.is_empty() {
        let _ = write!(
            out,
            r#"<section><h2>How the call was set up</h2>
<p class="soft">Each bar is the time from a side's step before to this one, on one clock for both sides.</p>
<div class="key"><span class="a"><i></i>{alice}, who calls</span><span class="b"><i></i>{bob}, who is called</span></div>
"#
        );
        let note = format!("zero is the moment at which {alice} presses call");
        out.push_str(&timeline::part(
            outcome,
            "From the offer until it rings, and the connection behind it",
            &note,
            &before,
        ));
        let note = format!("zero is the moment at which {bob} picks up");
        out.push_str(&timeline::part(outcome, "From accepting to the first sound", &note, &after));
        out.push_str("</section>\n");
    }
    if !outcome.directions.is_empty() {
        out.push_str("<section><h2>What was said and what was heard</h2>\n");
        out.push_str(
            "<p class=\"soft\">The pictures of what was heard are moved back by the delay, so that the same words stand \
             one above the other.</p>\n",
        );
        out.push_str(&sounds::sounds(outcome)?);
        out.push_str("</section>\n");
    }
    let numbers = charts::statistics(outcome);
    if !numbers.is_empty() {
        let _ = write!(
            out,
            r#"<section><h2>The connection, second by second</h2>
<p class="soft">As each side measured it while they talked; the numbers below the charts are medians.</p>
{numbers}</section>
"#
        );
    }
    out.push_str(&fine_print(outcome));
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(out)
}

/// How it was measured, and by what.
fn fine_print(outcome: &Outcome) -> String {
    let mut out = String::from("<section><details><summary>How this was measured</summary><dl>\n");
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(text));
    };
    row(
        "Offer to ring",
        "From the caller's offer to the moment at which the callee's program is told to ring.",
    );
    row("Accept to first sound", "From the callee's accept until decoded sound of the other side is played.");
    row(
        "Mouth to ear",
        "Each 60 ms of speech that went into the microphone are searched in what the other side's speaker played. Both \
         files start at a known time of the same clock, so the distance is the delay; shown is the median. The delay \
         changes when the jitter buffer gives up a margin that is not needed, or waits for a late packet.",
    );
    row(
        "Match",
        "Normalised correlation of the two recordings with that delay followed: 1 is the same up to its volume, 0 unrelated. \
         The lower of the two directions is shown; above 0.9 counts as heard. Opus keeps what the ear needs, not every \
         sample, so 1 is out of its reach.",
    );
    row(
        "Gap",
        &format!(
            "A stretch of {GAP_MS} ms or more in which somebody speaks and the other side's speaker is silent or plays \
             something unrelated."
        ),
    );
    for side in &outcome.sides {
        if let Some(did) = side.record.first("ready").map(|l| l.text("did")).filter(|d| !d.is_empty()) {
            row(side.name, did);
        }
    }
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let build = if cfg!(debug_assertions) { "development" } else { "release" };
    row(
        "Made by",
        &format!(
            "blink {} ({build} build) on {} {}, {cpus} processors",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        ),
    );
    out.push_str("</dl></details></section>\n");
    out
}

/// Text as it may stand in a page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Unix time as a date, by the rules of the Gregorian calendar.
fn date(unix: f64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let minutes = (unix / 60.0) as u64;
    let (mut days, minute) = (minutes / 1440, minutes % 1440);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while month < 11 && days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{} {} {year}, {:02}:{:02} UTC", days + 1, MONTHS[month], minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_the_ends_of_years_and_februaries() {
        for (unix, wanted) in [
            (0, "1 January 1970, 00:00 UTC"),
            (951_868_799, "29 February 2000, 23:59 UTC"),
            (1_735_689_599, "31 December 2024, 23:59 UTC"),
            (1_790_000_000, "21 September 2026, 14:13 UTC"),
        ] {
            assert_eq!(date(f64::from(unix)), wanted);
        }
    }

    #[test]
    fn nothing_breaks_out_of_the_page() {
        assert_eq!(escape(r#"<a b="c">&"#), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
