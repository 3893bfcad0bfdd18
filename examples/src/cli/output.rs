//! Standard output: JSON lines for scripts, or sentences for people.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use warp_blink::{event::Milestone, id::PublicKey};

use super::line::{Device, Line};

/// Where lines go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
    /// Somebody types commands.
    pub(super) control: bool,
    /// It waits for calls: how to call it is worth a line.
    pub(super) waits: bool,
}

#[derive(Serialize)]
struct Stamped<'a> {
    t: f64,
    #[serde(flatten)]
    line: &'a Line,
}

/// Unix time in seconds, cut to microseconds: what a double still holds exactly in this century.
pub(super) fn unix(micros: u64) -> f64 {
    micros as f64 / 1e6
}

impl Output {
    /// Writes the line at once. An error means that nobody reads any more.
    pub(super) fn write(self, line: &Line) -> io::Result<()> {
        let text = if self.json {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let t = unix(u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
            Some(serde_json::to_string(&Stamped { t, line })?)
        } else {
            self.sentence(line)
        };
        let Some(mut text) = text else { return Ok(()) };
        text.push('\n');
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn sentence(self, line: &Line) -> Option<String> {
        Some(match line {
            Line::Id { did, peer_id } => format!("{did}\n{peer_id}"),
            Line::Devices { microphones, speakers } => {
                format!("{}\n{}", list("Microphones", microphones), list("Speakers", speakers))
            }
            Line::Ready { did, addresses, resumable, .. } => {
                let mut text = if self.waits { ready(did, addresses) } else { format!("You are {did}") };
                for call in resumable {
                    let _ = write!(
                        text,
                        "\nCall {call} of an earlier run may still go on: --resume comes back to it."
                    );
                }
                text
            }
            Line::Node { state, cause, advice, .. } => {
                let state = match *state {
                    "offline" => "Offline",
                    "local_only" => "Reachable in the same network only",
                    "relayed" => "Reachable through a relay",
                    "public" => "Reachable from everywhere",
                    other => other,
                };
                let cause = cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
                let advice = advice.as_ref().map(|advice| format!(" ({advice})")).unwrap_or_default();
                format!("{state}{cause}.{advice}")
            }
            Line::Findable { state } => match state.as_str() {
                "published" => "Whoever has your key finds you.".to_owned(),
                "not_stored" => "Whoever has only your key does not find you: no bootstrap node keeps where you are. Trying again.".to_owned(),
                _ => return None,
            },
            Line::Reached { ms, .. } => format!("Found their node in {ms} ms."),
            Line::Offering { peer, .. } => format!("Calling {peer} ..."),
            Line::Incoming { peer, .. } if self.control => {
                format!("{peer} calls. Type {{\"do\":\"accept\"}} or {{\"do\":\"decline\"}}.")
            }
            Line::Incoming { peer, .. } => format!("{peer} calls."),
            Line::Ringing { .. } => "It rings.".to_owned(),
            Line::Accepted { .. } => "Accepted.".to_owned(),
            Line::Merged { .. } => "They were calling, too: one call is left.".to_owned(),
            Line::Link { state: "connected", route, .. } => match route {
                Some(route) => format!("Connected ({route})."),
                None => "Connected.".to_owned(),
            },
            Line::Link { reason: Some(reason), .. } => format!("Connection: {reason}."),
            Line::MediaStarted { mic_t: None, .. } => "Listening. Ctrl-C hangs up.".to_owned(),
            Line::MediaStarted { .. } => "Talking. Ctrl-C hangs up.".to_owned(),
            Line::FirstAudio { .. } => "First sound from the other side.".to_owned(),
            Line::Participant { peer, state, muted, held, news: true, .. } => {
                let more = [(*muted, ", muted"), (*held, ", holds the call")];
                let more: String = more.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
                format!("{peer}: {}{more}.", state.replace('_', " "))
            }
            Line::Device { kind, name: Some(name), .. } => format!("The {kind} is {name}."),
            Line::Device { kind, name: None, .. } => format!("There is no {kind}."),
            Line::Recording { running: true, files, .. } => {
                let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                format!("Recording: {}", files.join(", "))
            }
            Line::Recording { cause: Some(cause), .. } => format!("The recording has ended: {cause}"),
            Line::Recording { .. } => "The recording has ended.".to_owned(),
            Line::Played { cause: Some(cause), .. } => format!("The file was not played to its end: {cause}"),
            Line::Played { .. } => "The file was played.".to_owned(),
            Line::Held { held: true, .. } => "The call is held.".to_owned(),
            Line::Held { .. } => "The call goes on.".to_owned(),
            Line::Left { .. } => "You left the call. Type {\"do\":\"rejoin\"} to come back.".to_owned(),
            Line::Rejoined { .. } => "You are back in the call.".to_owned(),
            Line::Warning { cause, .. } => format!("Note: {cause}"),
            Line::Missed { peer, ago: Some(ago), .. } => {
                format!("Missed a call of {peer}, {} ago.", span(*ago))
            }
            Line::Missed { peer, reason, .. } => format!("Missed a call of {peer} ({reason})."),
            Line::Lagged { missed } => format!("{missed} events were not seen."),
            Line::Ended { text, .. } => format!("The call is over: {text}."),
            Line::Summary { timeline, peers, .. } => {
                let mut text = String::new();
                let at = |wanted| timeline.iter().find(|e| e.is(wanted)).map(|e| e.ms());
                for (name, step) in [
                    ("it rang", Milestone::Ringing),
                    ("accepted", Milestone::Accepted),
                    ("heard", Milestone::FirstAudio),
                ] {
                    if let Some(ms) = at(step) {
                        // Writing to a String cannot fail.
                        let _ = write!(text, "{}{name} after {:.2} s", comma(&text), ms / 1000.0);
                    }
                }
                for peer in peers {
                    let s = &peer.median;
                    for (name, value, unit) in [
                        ("round trip", s.rtt_ms, "ms"),
                        ("loss", s.loss_pct, "%"),
                        ("buffer", s.jitter_buffer_ms, "ms"),
                    ] {
                        if let Some(value) = value {
                            let _ = write!(text, "{}{name} {value:.1} {unit}", comma(&text));
                        }
                    }
                }
                if text.is_empty() {
                    return None;
                }
                format!("  {text}")
            }
            Line::Done { snapshot: Some(snapshot), .. } => serde_json::to_string_pretty(snapshot).ok()?,
            Line::Done { what, .. } => format!("Done: {what}."),
            Line::Refused { reason, .. } => format!("Refused: {reason}"),
            Line::Link { .. } | Line::Stats { .. } | Line::Participant { .. } => {
                return None;
            }
        })
    }
}

/// A time in the largest unit that it fills.
fn span(seconds: u64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= *unit).unwrap_or((1, "second"));
    let count = seconds / unit;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

fn comma(text: &str) -> &'static str {
    if text.is_empty() { "" } else { ", " }
}

fn ready(did: &PublicKey, addresses: &[String]) -> String {
    let mut text = format!("You are {did}");
    for address in addresses {
        let _ = write!(text, "\n  at {address}");
    }
    // What another machine can use comes first; an address of this machine alone is better than none.
    let far = addresses.iter().find(|a| !a.starts_with("/ip4/127.") && !a.starts_with("/ip6/::1/"));
    if let Some(address) = far.or(addresses.first()) {
        let _ = write!(text, "\nTo be called, have the other side run:\n  blink call {did} --peer {address}");
    }
    text
}

fn list(title: &str, devices: &[Device]) -> String {
    let mut text = format!("{title}:");
    if devices.is_empty() {
        text.push_str(" none");
    }
    for device in devices {
        let default = if device.default { ", default" } else { "" };
        let _ = write!(text, "\n  {}\n    {}{default}", device.id, device.name);
        if let (Some([low, _]), Some([_, high])) = (device.rates.first(), device.rates.last()) {
            let _ = write!(text, ", {low} to {high} Hz");
        }
        let channels: Vec<String> = device.channels.iter().map(u16::to_string).collect();
        if !channels.is_empty() {
            let _ = write!(text, ", channels {}", channels.join(" "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn times_are_told_in_the_largest_unit_that_they_fill() {
        let told = [0, 1, 59, 60, 7199, 90_000, 604_800].map(span);
        let want = ["0 seconds", "1 second", "59 seconds", "1 minute", "1 hour", "1 day", "7 days"];
        assert_eq!(told, want);
    }
}
