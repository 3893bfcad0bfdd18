//! Whole calls between two processes on loopback, over real gossip and real media.

use serde_json::{Value, json};

use crate::{
    document::CONTRACT,
    phone::{Folder, Phone, one_at_a_time},
};

/// The names of the events, repetitions of what comes each second and of link states left out.
fn story(lines: &[Value]) -> Vec<&str> {
    let names = lines.iter().filter_map(|line| line["event"].as_str());
    names.filter(|name| !["stats", "participant", "link", "warning", "device"].contains(name)).collect()
}

fn position(lines: &[Value], event: &str, state: Option<&str>) -> usize {
    let found = lines.iter().position(|l| l["event"] == event && state.is_none_or(|s| l["state"] == s));
    found.unwrap_or_else(|| panic!("no {event} {state:?}"))
}

fn speech(name: &str) -> String {
    format!("{}/../examples/assets/{name}.wav", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_call_writes_its_events_in_the_order_of_the_contract() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let (at_bob, at_alice) = (folder.path("bob.wav"), folder.path("alice.wav"));
    let (mic_a, mic_b) = (speech("speech-a"), speech("speech-b"));
    let mut bob = Phone::answer("bob", &["--once", "--mic", &mic_b, "--speaker", &at_bob]);
    bob.until("ready");
    let mut alice = Phone::call("alice", &bob, &["--mic", &mic_a, "--speaker", &at_alice, "--duration", "3"]);
    let call = alice.until("offering")["call"].clone();
    let (alice_did, bob_did) = (alice.did(), bob.did());
    let (code_a, a) = alice.end();
    let (code_b, b) = bob.end();
    assert_eq!((code_a, code_b), (0, 0));

    let rest = ["ringing", "accepted", "media_started", "first_audio", "ended", "summary"];
    assert_eq!(story(&a), [&["ready", "reached", "offering"], &rest[..]].concat());
    assert_eq!(story(&b), [&["ready", "incoming"], &rest[1..]].concat());

    for (lines, other) in [(&a, &bob_did), (&b, &alice_did)] {
        assert!(lines.iter().all(|l| l.get("call").is_none_or(|c| *c == call)), "one call, one id");
        let of_peer = lines.iter().filter(|l| l["event"] != "ended");
        assert!(
            of_peer.clone().all(|l| l.get("peer").is_none_or(|p| p == other)),
            "the other side is {other}"
        );
        // Before media there is a connection, and the way there has names.
        let connected = position(lines, "link", Some("connected"));
        assert!(position(lines, "link", Some("checking")) < connected);
        assert!(connected < position(lines, "first_audio", None));
        assert_eq!(lines[position(lines, "ended", None)]["reason"], "hung_up");
        assert_eq!(lines[position(lines, "ended", None)]["by"], alice_did);
        assert_eq!(lines[lines.len() - 1]["event"], "summary");
        let times: Vec<f64> = lines.iter().filter_map(|l| l["t"].as_f64()).collect();
        assert!(times.is_sorted(), "t never goes back: {times:?}");
        summary_is_whole(&lines[lines.len() - 1], other);
    }
    media_was_real(&a, &at_alice);
    media_was_real(&b, &at_bob);
}

fn summary_is_whole(summary: &Value, other: &str) {
    let steps: Vec<&str> =
        summary["timeline"].as_array().into_iter().flatten().filter_map(|e| e["step"].as_str()).collect();
    for step in ["started", "ringing", "accepted", "connected", "media_started", "first_audio", "ended"] {
        assert!(steps.contains(&step), "the timeline has no {step}: {steps:?}");
    }
    let peer = &summary["peers"][0];
    assert_eq!(peer["peer"], other);
    for field in ["rtt_ms", "loss_pct", "sent_bps", "received_bps", "concealed_pct", "jitter_buffer_ms"] {
        assert!(peer[field].is_number(), "{field} was measured for 3 s: {peer}");
    }
}

fn media_was_real(lines: &[Value], speaker: &str) {
    let started = &lines[position(lines, "media_started", None)];
    let (mic_t, t) =
        (started["mic_t"].as_f64().expect("a microphone"), started["t"].as_f64().expect("a time"));
    // Sample 0 lies before the event, by what it takes to say so.
    assert!((t - 10.0..=t + 0.1).contains(&mic_t), "mic_t {mic_t}, t {t}");
    assert!(started["speaker_t"].is_number());
    let stats: Vec<&Value> = lines.iter().filter(|l| l["event"] == "stats").collect();
    assert!(stats.len() >= 2, "one a second for 3 s");
    assert!(stats.iter().any(|s| s["received_bps"].as_f64().is_some_and(|bps| bps > 1000.0)), "{stats:?}");
    let wav = std::fs::read(speaker).expect("the speaker wrote a file");
    assert_eq!((&wav[..4], &wav[8..12]), (&b"RIFF"[..], &b"WAVE"[..]));
    let size = u32::from_le_bytes(wav[4..8].try_into().expect("four bytes")) as usize;
    assert_eq!(size + 8, wav.len(), "the file was closed");
    assert!(wav[44..].iter().any(|b| *b != 0), "something was heard");
}

#[test]
fn control_commands_are_done_or_refused_and_the_call_goes_on() {
    let _alone = one_at_a_time();
    let mut bob = Phone::answer("bob", &["--once", "--accept", "none", "--control"]);
    bob.until("ready");
    for (line, reason) in [
        (r#"{"do":"accept"}"#, "nobody calls"),
        (r#"{"do":"hangup"}"#, "no call"),
        (r#"{"do":"dance"}"#, "no such command"),
        (r#"{"do":"mute""#, "not a command"),
        ("mute", "not a command"),
        (r#"{"call":"x"}"#, "do"),
        (r#"{"do":"hangup","call":"x"}"#, "32 hexadecimal digits"),
        (r#"{"do":"hangup","call":"00000000000000000000000000000000"}"#, "no call"),
    ] {
        let answer = bob.ask(line);
        assert_eq!(answer["event"], "refused", "{line}");
        assert!(answer["reason"].as_str().is_some_and(|r| r.contains(reason)), "{line}: {answer}");
    }
    for (command, built) in &CONTRACT.commands {
        if !built {
            let answer = bob.ask(&json!({"do": command, "value": "default"}).to_string());
            assert_eq!((&answer["event"], &answer["do"]), (&json!("refused"), &json!(command)));
            assert!(answer["reason"].as_str().is_some_and(|r| r.contains("not built yet")), "{answer}");
        }
    }

    let mut alice = Phone::call("alice", &bob, &["--control", "--mic", "tone"]);
    let call = bob.until("incoming")["call"].clone();
    alice.until("ringing");
    let answer = bob.ask(&json!({"do": "accept", "call": call}).to_string());
    assert_eq!((&answer["event"], &answer["call"]), (&json!("done"), &call));
    bob.until("first_audio");
    alice.until("first_audio");

    for command in ["mute", "unmute", "deafen", "undeafen"] {
        assert_eq!(alice.ask(&json!({"do": command}).to_string())["event"], "done", "{command}");
    }
    let gain = alice.ask(&json!({"do": "gain", "value": 0.5}).to_string());
    assert_eq!((&gain["event"], gain["peer"].as_str()), (&json!("done"), Some(&*bob.did())));
    for bad in [
        json!({"do": "gain"}),
        json!({"do": "gain", "value": 40}),
        json!({"do": "gain", "value": 1, "peer": "x"}),
    ] {
        assert_eq!(alice.ask(&bad.to_string())["event"], "refused", "{bad}");
    }
    let snapshot = alice.ask(r#"{"do":"snapshot"}"#);
    assert_eq!(snapshot["snapshot"]["calls"][0]["id"], call);

    assert_eq!(alice.ask(r#"{"do":"mute"}"#)["event"], "done");
    let muted = bob.until_which("participant", |line| line["muted"] == true);
    assert_eq!(muted["peer"].as_str(), Some(&*alice.did()));

    // The end of standard input is not the end of the call.
    bob.close_input();
    alice.until("stats");
    assert_eq!(alice.ask(r#"{"do":"hangup"}"#)["event"], "done");
    assert_eq!((alice.end().0, bob.end().0), (0, 0));
}

#[test]
fn an_answer_waits_for_its_delay_and_for_the_keys_that_it_accepts() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let key = folder.path("alice");
    let own = crate::phone::run(["id", "--json", "--key", &key]).out;
    let own: Value = serde_json::from_str(&own).expect("JSON");
    let did = own["did"].as_str().unwrap_or_default();
    let more = ["--accept", did, "--reject", "--answer-delay", "0.5"];
    let mut bob = Phone::answer("bob", &more);
    bob.until("ready");

    let stranger = Phone::call("stranger", &bob, &[]);
    let (code, lines) = stranger.end();
    assert_eq!((code, &lines[position(&lines, "ended", None)]["reason"]), (3, &json!("declined")));

    let alice = Phone::call("alice", &bob, &["--key", &key, "--duration", "0.5", "--pre-connect", "never"]);
    let (code, lines) = alice.end();
    assert_eq!(code, 0);
    let t = |event| lines[position(&lines, event, None)]["t"].as_f64().unwrap_or_default();
    assert!(t("accepted") - t("ringing") > 0.4, "the delay was kept");
    // Nothing of this machine is shown before somebody picks up.
    assert!(position(&lines, "link", None) > position(&lines, "accepted", None));

    bob.until_which("ended", |line| line["reason"] == "hung_up");
    bob.signal("INT");
    assert_eq!(bob.end().0, 0, "it was told to stop");
}

#[test]
fn frame_length_and_bit_rate_are_agreed_on() {
    let _alone = one_at_a_time();
    let mut bob = Phone::answer("bob", &["--once", "--bitrate", "24000"]);
    bob.until("ready");
    let alice = Phone::call("alice", &bob, &["--frame-ms", "40", "--bitrate", "64000", "--duration", "0.5"]);
    let (code, lines) = alice.end();
    assert_eq!(code, 0);
    assert_eq!(lines[position(&lines, "accepted", None)]["max_bitrate"], 24_000, "the lower of the two");
    assert_eq!(bob.end().0, 0);
}

#[test]
fn a_store_remembers_where_the_other_side_lives() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let (key, store) = (folder.path("key"), folder.path("store"));
    let kept = ["--key", &key, "--store", &store, "--duration", "0"];
    let mut bob = Phone::answer("bob", &[]);
    bob.until("ready");
    assert_eq!(Phone::call("alice", &bob, &kept).end().0, 0);
    let (code, lines) = Phone::call_by_key_alone("alice", &bob.did(), &kept).end();
    assert_eq!(code, 0, "{lines:?}");
}

/// The callee is found when the common node has heard where it listens, so the first attempts may come too early.
#[test]
fn a_public_key_is_enough_for_those_who_name_the_same_node() {
    let _alone = one_at_a_time();
    let mut common = Phone::answer("common", &[]);
    common.until("ready");
    let through = common.address();
    let mut hidden = Phone::answer("hidden", &["--bootstrap", &through, "--publish", "off"]);
    hidden.until("ready");
    let mut bob = Phone::answer("bob", &["--once", "--bootstrap", &through]);
    bob.until("ready");
    let call =
        |_| Phone::call_by_key_alone("alice", &bob.did(), &["--bootstrap", &through, "--duration", "1"]);
    let code = (0..20).map(|n| call(n).end().0).find(|code| *code != 5);
    assert_eq!((code, bob.end().0), (Some(0), 0));
    // That one was there before, and tells nobody.
    let asked = |dht| {
        let options = ["--bootstrap", &through, "--dht", dht];
        let (code, lines) = Phone::call_by_key_alone("alice", &hidden.did(), &options).end();
        let cause =
            lines.iter().find(|line| line["event"] == "warning").map(|line| line["cause"].to_string());
        (code, cause.map(|cause| cause.contains("asked in vain")))
    };
    assert_eq!([asked("on"), asked("off")], [(5, Some(true)), (5, Some(false))]);
}
