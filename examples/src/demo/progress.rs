//! The call as it happens, a line for each step.

use std::fmt::Write as _;

use super::record::Line;

/// What a line of one process means, in words; `None` for what only an engineer wants to know.
///
/// `name` is who says it, `other` the other side.
pub(super) fn sentence(line: &Line, other: &str) -> Option<String> {
    let text = match line.event.as_str() {
        "ready" => format!("is there: {}", shorten(line.text("did"))),
        "reached" => {
            let ms = line.number("ms").unwrap_or_default();
            format!("reached {other}'s node in {ms:.0} ms ({})", line.text("via"))
        }
        "offering" => format!("calls {other} by public key, over gossip"),
        "incoming" => format!("is called by {}", shorten(line.text("peer"))),
        "ringing" => format!("hears that it rings at {other}'s"),
        "accepted" => "accepted".to_owned(),
        "link" => match line.text("state") {
            "checking" => "looks for a path (ICE)".to_owned(),
            "securing" => "agrees on keys (DTLS)".to_owned(),
            "connected" => match line.text("route") {
                "" => "is connected over WebRTC".to_owned(),
                route => format!("is connected over WebRTC ({route})"),
            },
            "reconnecting" => "lost the connection and waits for it".to_owned(),
            "failed" => format!("could not connect: {}", line.text("reason")),
            _ => return None,
        },
        "media_started" => "opened microphone and speaker".to_owned(),
        "first_audio" => format!("hears the first sound from {other}"),
        "warning" => format!("warns: {}", line.text("cause")),
        "ended" => format!("ended the call: {}", line.text("reason").replace('_', " ")),
        _ => return None,
    };
    Some(text)
}

/// The numbers of a second, on one line.
pub(super) fn numbers(line: &Line) -> String {
    let mut text = String::new();
    for (field, name, scale, unit) in [
        ("rtt_ms", "round trip", 1.0, "ms"),
        ("loss_pct", "loss", 1.0, "%"),
        ("jitter_ms", "jitter", 1.0, "ms"),
        ("jitter_buffer_ms", "buffer", 1.0, "ms"),
        ("concealed_pct", "concealed", 1.0, "%"),
        ("received_bps", "hears", 1000.0, "kbit/s"),
    ] {
        if let Some(value) = line.number(field) {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}{name} {:.1} {unit}", value / scale);
        }
    }
    if text.is_empty() { "nothing measured yet".to_owned() } else { text }
}

/// A key that fits on a line.
pub(super) fn shorten(key: &str) -> String {
    let chars: Vec<char> = key.chars().collect();
    match chars.len() {
        n if n > 28 => chars[..18].iter().chain(&['…']).chain(&chars[n - 6..]).collect(),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_a_sentence_and_the_rest_is_silence() {
        let line = |text: &str| Line::parse(text).unwrap();
        let told = sentence(&line(r#"{"event":"reached","t":1,"ms":12,"via":"direct"}"#), "Bob").unwrap();
        assert_eq!(told, "reached Bob's node in 12 ms (direct)");
        assert!(sentence(&line(r#"{"event":"link","t":1,"state":"offer_sent"}"#), "Bob").is_none());
        assert!(sentence(&line(r#"{"event":"summary","t":1}"#), "Bob").is_none());
        let told =
            numbers(&line(r#"{"event":"stats","t":1,"rtt_ms":0.31,"loss_pct":null,"received_bps":33100}"#));
        assert_eq!(told, "round trip 0.3 ms, hears 33.1 kbit/s");
    }

    #[test]
    fn a_key_is_shortened_in_the_middle() {
        let short = shorten("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK");
        assert_eq!(short, "did:key:z6MkhaXgBZ…ta2doK");
        assert_eq!(shorten("näh"), "näh");
    }
}
