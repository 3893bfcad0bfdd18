//! The set-up, step by step, as bars over time.

use std::fmt::Write as _;

use super::page::escape;
use crate::demo::result::{CALLEE, CALLER, Outcome, SideStep};

/// Width of the drawing in its own units.
const WIDTH: f64 = 1000.0;

/// What a side did until it reached a step, in words.
pub(super) fn words(step: &SideStep, other: &str) -> String {
    match (step.name.as_str(), step.side) {
        ("started", CALLER) => "offers the call".to_owned(),
        ("started", _) => "gets the offer over gossip".to_owned(),
        ("reached", _) => format!("connects to {other}'s node"),
        ("answered", _) => "handshake answered (Noise)".to_owned(),
        ("confirmed", _) => "session confirmed".to_owned(),
        ("ringing", CALLER) => format!("hears that {other}'s phone rings"),
        ("ringing", _) => "rings".to_owned(),
        ("offer_created", _) => "describes its media".to_owned(),
        ("offer_sent", _) => "sends the description".to_owned(),
        ("offer_received", _) => "gets the description".to_owned(),
        ("answer_created", _) => "makes its own description".to_owned(),
        ("answer_sent", _) => "sends its own description".to_owned(),
        ("answer_received", _) => format!("gets {other}'s description"),
        ("checking", _) => "begins to look for a path (ICE)".to_owned(),
        ("securing", _) => "found a path (ICE)".to_owned(),
        ("connected", _) => "connected, keys agreed (DTLS)".to_owned(),
        ("accepted", CALLEE) => "accepts".to_owned(),
        ("accepted", _) => "learns of it".to_owned(),
        ("media_started", _) => "microphone and speaker run".to_owned(),
        ("first_audio", _) => format!("plays the first sound of {other}"),
        (name, _) => name.replace('_', " "),
    }
}

/// Milliseconds as a person writes them.
pub(super) fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 0.05 => "0 ms".to_owned(),
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 9_999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

/// A distance between ticks that leaves four to nine of them.
fn tick(span: f64) -> f64 {
    let rough = (span / 8.0).max(1e-3);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|f| f * power).find(|t| *t >= rough).unwrap_or(power * 10.0)
}

/// One part of the set-up: a title and a row for each step of both sides.
pub(super) fn part(outcome: &Outcome, title: &str, note: &str, steps: &[SideStep]) -> String {
    let Some(end) = steps.iter().map(|s| s.to_ms).reduce(f64::max) else { return String::new() };
    let tick = tick(end);
    let span = (end / tick).ceil().max(1.0) * tick;
    let ticks: Vec<f64> = (0..=(span / tick).round() as u32).map(|i| f64::from(i) * tick).collect();
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        r#"<div class="card"><div class="part"><h3>{}</h3><span class="soft small">{}</span></div>"#,
        escape(title),
        escape(note)
    );
    out.push_str(
        r#"<div class="step head"><span class="what">step</span><div class="bar"><div class="ticks">"#,
    );
    for at in &ticks {
        let unit = if *at == span { " ms" } else { "" };
        let _ = write!(out, r#"<span style="left:{:.2}%">{at}{unit}</span>"#, 100.0 * at / span);
    }
    out.push_str(r#"</div></div><span class="took">took</span></div>"#);
    for step in steps {
        let class = ["a", "b"][step.side];
        let name = outcome.sides[step.side].name;
        let what = words(step, outcome.sides[1 - step.side].name);
        let x = |ms: f64| WIDTH * ms / span;
        let mut lines = String::new();
        for at in &ticks {
            let at = x(*at).clamp(0.5, WIDTH - 0.5);
            let _ = write!(lines, r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="0" y2="26"/>"#);
        }
        let (from, width) = (x(step.from_ms), (x(step.to_ms) - x(step.from_ms)).max(3.0));
        let from = from.min(WIDTH - width);
        let reached = duration(step.to_ms);
        let _ = write!(
            out,
            r#"<div class="step"><span class="what"><span class="who {class}">{name}</span>{}</span><div class="bar"><svg class="{class}" viewBox="0 0 1000 26" preserveAspectRatio="none" role="img" aria-label="from {} to {reached}"><title>reached after {reached}</title>{lines}<rect class="{class}" x="{from:.1}" y="7" width="{width:.1}" height="12" rx="1.5"/></svg></div><span class="took">{}</span></div>"#,
            escape(&what),
            duration(step.from_ms),
            duration(step.to_ms - step.from_ms),
        );
    }
    out.push_str("</div>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for span in [0.3, 1.0, 7.9, 95.0, 123.0, 1_000.0, 64_000.0] {
            let tick = tick(span);
            let count = (span / tick).ceil();
            assert!((3.0..=9.0).contains(&count), "{span}: {count} of {tick}");
        }
    }

    #[test]
    fn durations_read_well() {
        let told = [0.01, 0.42, 9.99, 1046.2, 12_345.0].map(duration);
        assert_eq!(told, ["0 ms", "0.4 ms", "10 ms", "1046 ms", "12.3 s"]);
    }
}
