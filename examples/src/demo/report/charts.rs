//! Numbers over time.

use std::fmt::Write as _;

use super::page::escape;
use crate::demo::{
    record::Series,
    result::{CALLEE, CALLER, Outcome, median},
};

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 80.0;

/// A chart: what each of some traces did over time.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    /// Class of the colour, name, and points of (seconds, value).
    pub(super) traces: Vec<(&'a str, &'a str, Series)>,
    /// Seconds that the chart spans.
    pub(super) seconds: f64,
    /// The scale ends here at least, so that what hardly moves looks like it.
    pub(super) least_top: f64,
}

/// The statistics of both sides over the call.
pub(super) fn statistics(outcome: &Outcome) -> String {
    let starts = [CALLER, CALLEE].map(|s| outcome.sides[s].record.when("media_started"));
    let Some(start) = starts.into_iter().flatten().reduce(f64::min) else { return String::new() };
    let seconds =
        outcome.sides.iter().flat_map(|s| s.record.all("stats")).map(|l| l.t - start).fold(1.0, f64::max);
    let mut out = String::from(r#"<div class="charts">"#);
    for (field, title, unit, scale, least_top) in [
        ("rtt_ms", "Round trip", "ms", 1.0, 1.0),
        ("jitter_ms", "Jitter", "ms", 1.0, 1.0),
        ("jitter_buffer_ms", "Waiting in the jitter buffer", "ms", 1.0, 50.0),
        ("received_bps", "Received", "kbit/s", 1000.0, 40.0),
        ("loss_pct", "Lost packets", "%", 1.0, 1.0),
        ("concealed_pct", "Concealed sound", "%", 1.0, 1.0),
    ] {
        let trace = |side: usize| -> Series {
            let all = outcome.sides[side].record.series(field);
            all.into_iter().map(|(t, v)| ((t - start).max(0.0), v / scale)).collect()
        };
        let traces = [CALLER, CALLEE].map(|s| (["a", "b"][s], outcome.sides[s].name, trace(s)));
        out.push_str(r#"<div class="card">"#);
        out.push_str(&chart(&Chart { title, unit, traces: traces.into(), seconds, least_top }));
        out.push_str("</div>");
    }
    out.push_str("</div>");
    out
}

/// Draws a chart, without a frame around it.
pub(super) fn chart(chart: &Chart<'_>) -> String {
    let most = chart.traces.iter().flat_map(|t| &t.2).map(|p| p.1).fold(chart.least_top, f64::max);
    let top = round_up(most);
    let point = |(t, v): &(f64, f64)| {
        (
            WIDTH * (t / chart.seconds).clamp(0.0, 1.0),
            HEIGHT - 2.0 - (HEIGHT - 6.0) * (v / top).clamp(0.0, 1.0),
        )
    };
    let mut drawing = String::new();
    for share in [0.0, 0.5, 1.0] {
        let y = HEIGHT - 2.0 - (HEIGHT - 6.0) * share;
        // Writing to a String cannot fail, here and below.
        let _ = write!(drawing, r#"<line class="grid" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>"#);
    }
    let mut legend = String::new();
    for (class, name, series) in &chart.traces {
        let mut path = String::new();
        for (i, p) in series.iter().enumerate() {
            let (x, y) = point(p);
            let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        }
        if let (1, Some(p)) = (series.len(), series.first()) {
            let (x, y) = point(p);
            let _ = write!(path, "L{:.1} {y:.1}", x + 0.1);
        }
        if !path.is_empty() {
            let _ = write!(drawing, r#"<g class="{class}"><path class="trace" d="{path}"/></g>"#);
        }
        let middle = median(series.iter().map(|p| p.1));
        let value = middle.map_or_else(|| "not known".to_owned(), |v| format!("{} {}", short(v), chart.unit));
        let _ = write!(
            legend,
            r#"<span><span class="{class}">{}</span> {}</span>"#,
            escape(name),
            escape(&value)
        );
    }
    format!(
        r#"<h3>{}</h3><div class="chart"><span class="top">{} {}</span><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{} over time">{drawing}</svg></div><div class="ends"><span>0 s</span><span>{:.0} s</span></div><div class="now">{legend}</div>"#,
        escape(chart.title),
        short(top),
        escape(chart.unit),
        escape(chart.title),
        chart.seconds,
    )
}

/// The next of 1, 2, 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0].iter().map(|f| f * power).find(|top| *top >= value * 0.999).unwrap_or(10.0 * power)
}

fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v.abs() < 1.0 => format!("{v:.2}"),
        v if v.abs() < 10.0 && v.fract() != 0.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        let tops = [0.3, 1.0, 1.2, 4.9, 33.0, 99.0].map(round_up);
        for (top, wanted) in tops.iter().zip([0.5, 1.0, 2.0, 5.0, 50.0, 100.0]) {
            assert!((top - wanted).abs() < 1e-9, "{top}");
        }
    }

    #[test]
    fn a_trace_spans_the_time_and_an_empty_one_says_so() {
        let traces = vec![("a", "Alice", vec![(0.0, 0.0), (10.0, 50.0)]), ("b", "Bob", vec![])];
        let drawn = chart(&Chart { title: "T", unit: "ms", traces, seconds: 10.0, least_top: 50.0 });
        assert!(drawn.contains("M0.0 78.0L300.0 4.0"), "{drawn}");
        assert!(drawn.contains("not known"));
    }
}
