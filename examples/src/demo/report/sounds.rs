//! What was said and what was heard, one above the other.

use std::fmt::Write as _;

use super::{
    charts::{Chart, chart},
    ms,
    page::escape,
};
use crate::demo::{
    picture,
    result::{Direction, Outcome, median},
};

/// Points of a waveform from left to right.
const WIDTH: usize = 900;

/// A card for each direction.
pub(super) fn sounds(outcome: &Outcome) -> Result<String, String> {
    let mut out = String::new();
    for direction in &outcome.directions {
        card(&mut out, outcome, direction)?;
    }
    Ok(out)
}

fn card(out: &mut String, outcome: &Outcome, direction: &Direction) -> Result<(), String> {
    let Direction { said, heard, found, .. } = direction;
    let [talker, listener] = [direction.from, direction.to].map(|s| outcome.sides[s].name);
    let [said_class, heard_class] = [direction.from, direction.to].map(|s| ["a", "b"][s]);
    let [said_file, heard_file] = direction.files.each_ref().map(|f| escape(f));
    let delays = || direction.mouth_to_ear.iter().map(|p| p.1);
    let (least, most) = (delays().reduce(f64::min), delays().reduce(f64::max));
    let gaps = match found.gaps.len() {
        0 => "none".to_owned(),
        n => n.to_string(),
    };
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        r#"<div class="card"><h3><span class="{said_class}">{talker}</span> speaks, <span class="{heard_class}">{listener}</span> hears</h3><div class="figures">"#
    );
    for (value, name) in [
        (format!("{} ms", ms(median(delays()))), format!("mouth to ear ({} to {})", ms(least), ms(most))),
        (format!("{:.4}", found.correlation), "correlation".to_owned()),
        (gaps, "gaps".to_owned()),
        (format!("{:+.1} dB", found.gain_db), "volume".to_owned()),
        (format!("{:.1} s", found.covered_s), "compared".to_owned()),
    ] {
        let _ = write!(out, "<div><b>{value}</b>{}</div>", escape(&name));
    }
    out.push_str("</div>");

    // Both pictures begin with the recording; the copy is moved back by its delay.
    let (from, to) = (0.0, said.seconds().min(found.covered_s + 0.25).max(1.0));
    let shift = found.shift_ms / 1000.0;
    let top = picture::loudest(&[said, heard]);
    let rows = [
        (said, from, to, said_class, &said_file, format!("What {talker} said"), false),
        (heard, from + shift, to + shift, heard_class, &heard_file, format!("What {listener} heard"), true),
    ];
    for (_, _, _, class, file, title, _) in &rows {
        let _ = write!(
            out,
            r#"<div class="listen"><span class="{class}"><b>{title}</b></span><audio controls preload="none" src="{file}"></audio></div>"#
        );
    }
    out.push_str(r#"<div class="pair">"#);
    for (clip, from, to, class, _, title, copy) in &rows {
        let path = picture::waveform(clip, *from, *to, WIDTH, top);
        let mut marks = String::new();
        for gap in found.gaps.iter().filter(|_| *copy) {
            let scale = WIDTH as f64 / (to - from);
            let (x, width) = (gap.at_s * scale, (gap.ms / 1000.0 * scale).max(3.0));
            let _ = write!(marks, r#"<rect class="gap" x="{x:.1}" y="0" width="{width:.1}" height="100"/>"#);
        }
        let _ = write!(
            out,
            r#"<svg class="wave {class}" style="margin:.25rem 0" viewBox="0 0 {WIDTH} 100" preserveAspectRatio="none" role="img" aria-label="waveform: {title}">{marks}<path class="{class}" d="{path}"/></svg>"#
        );
    }
    out.push_str(r#"</div><div class="pair">"#);
    for (clip, from, to, _, _, title, _) in &rows {
        let address = picture::spectrogram(clip, *from, *to)?;
        let _ = write!(out, r#"<img class="spectrum" alt="spectrogram: {title}" src="{address}">"#);
    }
    let _ = write!(
        out,
        r#"</div><div class="ends"><span>0 s</span><span>upper: said, lower: heard; spectrograms from 0 to 8 kHz</span><span>{to:.1} s</span></div>"#
    );
    for gap in &found.gaps {
        let what = if gap.silent { "nothing" } else { "something else" };
        let _ = write!(
            out,
            r#"<p class="small bad">At {:.2} s {listener} heard {what} for {:.0} ms while {talker} spoke.</p>"#,
            gap.at_s, gap.ms
        );
    }
    if !direction.mouth_to_ear.is_empty() {
        let traces = vec![(heard_class, listener, direction.mouth_to_ear.clone())];
        let drawn = chart(&Chart {
            title: "Delay from mouth to ear",
            unit: "ms",
            traces,
            seconds: to,
            least_top: 100.0,
        });
        let _ = write!(out, r#"<div class="pair">{drawn}</div>"#);
    }
    out.push_str("</div>");
    Ok(())
}
