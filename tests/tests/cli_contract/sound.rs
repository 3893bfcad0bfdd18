//! What a control command does to the sound of a call that runs: recordings, files, devices, processing.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::phone::{Folder, Phone, one_at_a_time};

fn done(phone: &mut Phone, command: Value) {
    let answer = phone.ask(&command.to_string());
    assert_eq!(answer["event"], "done", "{command}: {answer}");
}

fn refused(phone: &mut Phone, command: Value, reason: &str) {
    let answer = phone.ask(&command.to_string());
    let said = answer["reason"].as_str().unwrap_or_default();
    assert!(answer["event"] == "refused" && said.contains(reason), "{command}: {answer}");
}

fn files(line: &Value) -> Vec<String> {
    line["files"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Every page is whole, and the last one says that it is (RFC 3533 section 6: bit 2 of the header type).
fn is_complete(file: &str) {
    let bytes = fs::read(file).expect("it was told of");
    let (mut at, mut last) = (0, 0);
    while at < bytes.len() {
        assert_eq!(&bytes[at..at + 4], b"OggS", "{file}: a page begins at {at}");
        last = bytes[at + 5];
        let segments = usize::from(bytes[at + 26]);
        let body: usize = bytes[at + 27..at + 27 + segments].iter().map(|n| usize::from(*n)).sum();
        at += 27 + segments + body;
    }
    assert_eq!((at, last & 4), (bytes.len(), 4), "{file}: closed at its end");
}

#[test]
fn a_call_is_recorded_twice_and_the_other_side_is_told() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let recordings = folder.path("calls");
    let mut bob = Phone::answer("bob", &["--once", "--mic", "tone"]);
    bob.until("ready");
    let mut alice = Phone::call("alice", &bob, &["--control", "--mic", "tone", "--dtx", "on"]);
    refused(&mut alice, json!({"do": "stop-record"}), "");
    alice.until("first_audio");

    refused(&mut alice, json!({"do": "record"}), "value must be a text");
    refused(&mut alice, json!({"do": "record", "value": "/proc/nowhere"}), "/proc/nowhere");
    refused(&mut alice, json!({"do": "stop-record"}), "not recorded");
    let (mut all, mut numbers) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        done(&mut alice, json!({"do": "record", "value": recordings}));
        let begun = alice.until_which("recording", |line| line["running"] == true);
        assert!(files(&begun).len() >= 3, "me, all, and bob: {begun}");
        numbers.push(begun["number"].clone());
        bob.until_which("participant", |line| line["recording"] == true);
        refused(&mut alice, json!({"do": "record", "value": recordings}), "");
        done(&mut alice, json!({"do": "stop-record"}));
        let ended = alice.until_which("recording", |line| line["running"] == false);
        assert_eq!(Some(&ended["number"]), numbers.last(), "that one");
        bob.until_which("participant", |line| line["recording"] == false);
        let of_bob = bob.did().rsplit(':').next().unwrap_or_default().to_owned();
        for who in ["-me.opus", "-mix.opus", &format!("-{of_bob}.opus")] {
            assert!(files(&ended).iter().any(|file| file.ends_with(who)), "{who}: {ended}");
        }
        files(&ended).iter().for_each(|file| is_complete(file));
        all.extend(files(&ended));
    }
    let there = fs::read_dir(Path::new(&recordings)).expect("it was made").count();
    assert_eq!(there, all.len(), "nothing was written over: {all:?}");

    assert!(numbers[0].is_u64() && numbers[0] != numbers[1], "{numbers:?}");

    // One that runs when the call ends is complete as well.
    done(&mut alice, json!({"do": "record", "value": recordings}));
    let begun = alice.until_which("recording", |line| line["running"] == true);
    done(&mut alice, json!({"do": "hangup"}));
    assert_eq!((alice.end().0, bob.end().0), (0, 0));
    files(&begun).iter().for_each(|file| is_complete(file));
}

#[test]
fn microphone_and_speaker_change_and_a_file_is_played_in_the_midst_of_a_call() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let (heard, other) = (folder.path("heard.wav"), folder.path("other.wav"));
    let mut bob = Phone::answer("bob", &["--once", "--speaker", &heard]);
    bob.until("ready");
    let mut alice = Phone::call("alice", &bob, &["--control", "--mic", "silence"]);
    alice.until("first_audio");
    refused(&mut alice, json!({"do": "input", "value": "no-such-file.wav"}), "no-such-file.wav");
    refused(&mut alice, json!({"do": "input", "value": "null"}), "null");
    refused(&mut alice, json!({"do": "output", "value": "tone"}), "tone");
    for command in ["processing", "automute"] {
        done(&mut alice, json!({"do": command}));
        done(&mut alice, json!({"do": command, "value": false}));
    }
    done(&mut alice, json!({"do": "mute"}));
    done(&mut alice, json!({"do": "input", "value": "tone"}));
    alice.until_which("device", |line| line["kind"] == "microphone" && line["name"] == "tone");
    done(&mut alice, json!({"do": "output", "value": other}));
    alice.until_which("device", |line| line["kind"] == "speaker" && line["name"] == other.as_str());
    let snapshot = alice.ask(r#"{"do":"snapshot"}"#);
    assert_eq!(snapshot["snapshot"]["local"]["muted"], true, "mute is not touched");
    let refusal = alice.ask(&json!({"do": "input", "value": other}).to_string());
    assert_eq!(refusal["event"], "refused", "it is the speaker: {refusal}");
    let sound = &snapshot["snapshot"]["statistics"];
    assert!(sound["sound"]["frames"].is_u64() || sound["sound"].is_null(), "{sound}");

    let speech = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/speech/none.wav");
    refused(&mut alice, json!({"do": "play", "value": speech}), "none.wav");
    refused(&mut alice, json!({"do": "stop-play"}), "no file");
    let sound = folder.path("sound.wav");
    write_half_a_second(&sound);
    done(&mut alice, json!({"do": "play", "value": sound}));
    alice.until("played");
    done(&mut alice, json!({"do": "hangup"}));
    assert_eq!((alice.end().0, bob.end().0), (0, 0));
    let loudest = |file: &str| {
        let mut wav = hound::WavReader::open(file).expect("it was closed");
        wav.samples::<i16>().flatten().map(i16::unsigned_abs).max().unwrap_or(0)
    };
    assert!(loudest(&heard) > 3_000, "the file is heard, though the microphone is muted");
    assert!(Path::new(&other).exists());
}

/// A loud tone.
fn write_half_a_second(path: &str) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(path, spec).expect("the folder can be written");
    for i in 0..24_000_i32 {
        let sample = (f64::from(i) * 0.05).sin() * 12_000.0;
        wav.write_sample(sample as i16).expect("the disk has room");
    }
    wav.finalize().expect("the disk has room");
}
