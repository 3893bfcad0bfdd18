//! Two `blink` commands.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Pair, Played, Recording, SetUp, World, now};
use crate::{
    Error, Process,
    phone::{Signals, blink},
};

/// What a set-up may take, the start of both included: three times what it takes where 20 % is lost and TCP sends the same again and
/// again. Nobody waits for longer, and a call that does not come about must not take more time than one that does.
const PATIENCE: Duration = Duration::from_secs(20);
/// What hanging up may take.
const END: Duration = Duration::from_secs(5);
/// Nodes reach each other as in the other tests of the lab; the docs say so.
const SIGNALS: [Signals; 2] = [Signals::Tcp, Signals::Tcp6];

/// Its `mic_t` is when sample 0 was spoken, which is a step before it is handed over, together with the rest of the step. Of
/// Chromium only the latter is known, so that is what counts for both.
const STEP: f64 = 0.010;

struct Blinks {
    phones: [Process; 2],
    ears: [PathBuf; 2],
    /// Unix time at which sample 0 of each mouth is handed over and of each ear is played.
    began: [[f64; 2]; 2],
}

/// The first host calls the second. `early`: the second accepts as soon as it is connected; else it accepts at once, and they
/// connect only then.
pub(super) fn call(world: &World<'_>, early: bool) -> Result<(SetUp, Box<dyn Pair>), Error> {
    let until = Instant::now() + PATIENCE;
    let left = || until.saturating_duration_since(Instant::now());
    let signals = SIGNALS[usize::from(world.profile.v6)];
    let listen = ["--listen".into(), signals.multiaddr(None)];
    let ears = [0, 1].map(|side| world.file(side, ".wav"));
    let start = |side: usize, first: &[String]| {
        let mouth = world.words.files[side].display().to_string();
        let ear = ears[side].display().to_string();
        let common = ["--json", "--control", "--processing", "off", "--mic", &mouth, "--speaker", &ear];
        let when = ["--pre-connect", if early { "always" } else { "never" }];
        let all = first.iter().cloned().chain(listen.clone());
        let all: Vec<_> = all.chain(common.iter().chain(&when).map(|text| (*text).to_owned())).collect();
        world.hosts[side].spawn(&blink()?, &all, &world.file(side, ".log"))
    };
    let accept = ["--accept", if early { "none" } else { "all" }];
    let answer = ["answer", "--once"].iter().chain(&accept).map(|text| (*text).to_owned());
    let mut callee = start(1, &answer.collect::<Vec<_>>())?;
    let ready = callee.wait_for("ready", left())?;
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    let node = format!("{}/p2p/{}", signals.multiaddr(Some(&world.hosts[1])), text("peer_id"));
    let caller = start(0, &["call".into(), text("did"), "--peer".into(), node])?;
    let ring = callee.wait_for("incoming", left())?;
    if early {
        for phone in [&caller, &callee] {
            let connected = |line: &Value| line["event"] == "link" && line["state"] == "connected";
            phone.wait_until("connected `link`", left(), connected)?;
        }
        callee.tell(r#"{"do":"accept"}"#)?;
    }
    let at = |line: &Value| line["t"].as_f64().unwrap_or_default();
    let accepted = callee.wait_for("accepted", left())?;
    let mut blinks = Blinks { phones: [caller, callee], ears, began: [[0.0; 2]; 2] };
    let mut set_up = SetUp { ring: Some(at(&ring)), accept: at(&accepted), ..SetUp::default() };
    for side in [0, 1] {
        set_up.heard[side] = at(&blinks.phones[side].wait_for("first_audio", left())?);
        let started = blinks.phones[side].wait_for("media_started", left())?;
        let number = |field: &str| started[field].as_f64().unwrap_or_default();
        blinks.began[side] = [number("mic_t") + STEP, number("speaker_t")];
    }
    // From the offer on, in the order of happening: where the time goes.
    for (phone, steps) in blinks.phones.iter().zip(&mut set_up.steps) {
        let lines = phone.lines();
        let often = ["ready", "stats", "participant", "device", "done"];
        let telling = lines.iter().filter(|line| !often.iter().any(|event| line["event"] == *event));
        steps.extend(telling.map(|line| {
            let what = line["state"].as_str().or(line["event"].as_str()).unwrap_or_default();
            (what.to_owned(), at(line))
        }));
    }
    set_up.offer = at(&blinks.phones[0].wait_for("offering", left())?);
    Ok((set_up, Box::new(blinks)))
}

impl Pair for Blinks {
    fn began(&self) -> f64 {
        self.began[0][0].max(self.began[1][0])
    }

    fn played(&mut self) -> Result<[Played; 2], Error> {
        let since = now();
        let mut all = [Played::default(); 2];
        for phone in &mut self.phones {
            phone.tell(r#"{"do":"snapshot"}"#)?;
        }
        for (phone, played) in self.phones.iter().zip(&mut all) {
            let wanted = |line: &Value| {
                line["snapshot"].is_object() && line["t"].as_f64().is_some_and(|told| told >= since)
            };
            let line = phone.wait_until("snapshot", END, wanted)?;
            *played = sound(&line["snapshot"]).ok_or_else(|| {
                Error::Program("the snapshot of `blink` has no `concealed_ms` and `played_ms`".into())
            })?;
        }
        Ok(all)
    }

    fn stop_recording(&mut self) -> Result<(), Error> {
        // The file is the speaker of this phone: it stays, and costs it what it costs.
        Ok(())
    }

    fn processes(&self) -> [u32; 2] {
        self.phones.each_ref().map(Process::id)
    }

    fn leave(self: Box<Self>) -> Result<(), Error> {
        for Recording { file, .. } in self.hang_up()? {
            fs::remove_file(&file).map_err(Error::io(file.display().to_string()))?;
        }
        Ok(())
    }

    fn hang_up(mut self: Box<Self>) -> Result<[Recording; 2], Error> {
        // Who is gone already has said why, which comes next.
        let _ = self.phones[0].tell(r#"{"do":"hangup"}"#);
        let ends: Vec<_> =
            self.phones.iter_mut().map(|phone| (phone.wait_for("ended", END), phone.end(END))).collect();
        for (phone, ear) in self.phones.iter().zip(&self.ears) {
            let lines: Vec<_> = phone.lines().iter().map(Value::to_string).collect();
            let path = ear.with_extension("jsonl");
            fs::write(&path, lines.join("\n")).map_err(Error::io(path.display().to_string()))?;
        }
        for (ended, code) in ends {
            let ended = ended?;
            if ended["reason"] != "hung_up" || code != Some(0) {
                return Err(Error::Program(format!("a call ends with code {code:?} after {ended}")));
            }
        }
        let [[mouth_a, ear_a], [mouth_b, ear_b]] = self.began;
        let [file_a, file_b] = self.ears;
        Ok([
            Recording { file: file_a, from: ear_a, mouth: mouth_a },
            Recording { file: file_b, from: ear_b, mouth: mouth_b },
        ])
    }
}

/// The counters of sound, wherever they are in a snapshot: of the only participant of the only call.
fn sound(value: &Value) -> Option<Played> {
    if let (Some(concealed), Some(all)) = (value["concealed_ms"].as_f64(), value["played_ms"].as_f64()) {
        return Some(Played { concealed, all });
    }
    match value {
        Value::Object(fields) => fields.values().find_map(sound),
        Value::Array(items) => items.iter().find_map(sound),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_found_in_a_snapshot() {
        let snapshot = serde_json::json!({
            "calls": [{"participants": [{"peer": "x", "stats": {"sound": {"concealed_ms": 40, "played_ms": 1000}}}]}],
            "devices": null,
        });
        assert_eq!(sound(&snapshot), Some(Played { concealed: 40.0, all: 1000.0 }));
        assert_eq!(sound(&serde_json::json!({"concealed_ms": 1})), None);
    }
}
