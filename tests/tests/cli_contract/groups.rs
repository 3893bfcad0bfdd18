//! Calls of several people, leaving and coming back, holding, and coming back after a crash.

use serde_json::{Value, json};

use crate::phone::{Folder, Phone, one_at_a_time};

fn ready(name: &'static str, more: &[&str]) -> Phone {
    let mut phone = Phone::answer(name, more);
    phone.until("ready");
    phone
}

/// Reads on until somebody stands so.
fn stands(phone: &mut Phone, peer: &str, state: &str) -> Value {
    phone.until_which("participant", |line| line["peer"] == peer && line["state"] == state)
}

fn done(phone: &mut Phone, command: &Value) {
    let answer = phone.ask(&command.to_string());
    assert_eq!(answer["event"], "done", "{command}: {answer}");
}

fn ended(lines: &[Value]) -> Vec<(&str, &Value)> {
    let ended = lines.iter().filter(|line| line["event"] == "ended");
    ended.map(|line| (line["reason"].as_str().unwrap_or_default(), &line["by"])).collect()
}

#[test]
fn three_talk_and_one_leaves_comes_back_and_is_removed() {
    let _alone = one_at_a_time();
    let mut bob = ready("bob", &["--once", "--control"]);
    let carol = ready("carol", &["--once"]);
    let mut carol = carol;
    let mut alice = Phone::call_all("alice", &[&bob, &carol], &["--control"]);
    alice.until("ready");
    let [a, b, c] = [&alice, &bob, &carol].map(Phone::did);
    for (phone, others) in [(&mut alice, [&b, &c]), (&mut bob, [&a, &c]), (&mut carol, [&a, &b])] {
        // Whoever comes first.
        let mut missing = others.to_vec();
        while !missing.is_empty() {
            let line = phone.until_which("participant", |line| line["state"] == "joined");
            missing.retain(|did| line["peer"] != did.as_str());
        }
    }
    // What each tells of itself reaches all.
    done(&mut bob, &json!({"do": "recording"}));
    for phone in [&mut alice, &mut carol] {
        phone.until_which("participant", |line| line["peer"] == b.as_str() && line["recording"] == true);
    }
    done(&mut bob, &json!({"do": "leave"}));
    bob.until("left");
    stands(&mut alice, &b, "left");
    stands(&mut carol, &b, "left");
    done(&mut bob, &json!({"do": "rejoin"}));
    bob.until("rejoined");
    stands(&mut alice, &b, "joined");
    stands(&mut carol, &b, "joined");
    // Only who made the call removes others.
    let refused = bob.ask(&json!({"do": "remove", "peer": c}).to_string());
    assert!(refused["reason"].as_str().is_some_and(|r| r.contains("only the creator")), "{refused}");
    let unnamed = alice.ask(&json!({"do": "remove"}).to_string());
    assert!(unnamed["reason"].as_str().is_some_and(|r| r.contains("name a peer")), "{unnamed}");
    done(&mut alice, &json!({"do": "remove", "peer": b}));
    let (code, lines) = bob.end();
    assert_eq!((code, ended(&lines)), (0, vec![("removed", &json!(a))]), "it took place before that");
    stands(&mut carol, &b, "removed");
    done(&mut alice, &json!({"do": "mute"}));
    carol.until_which("participant", |line| line["peer"] == a.as_str() && line["muted"] == true);
    done(&mut alice, &json!({"do": "hangup"}));
    let (code, lines) = alice.end();
    assert_eq!((code, ended(&lines)), (0, vec![("hung_up", &json!(a))]));
    // Who is left alone waits for somebody to come back, and may go.
    stands(&mut carol, &a, "left");
    carol.signal("INT");
    assert_eq!(carol.end().0, 0);
}

#[test]
fn somebody_is_brought_into_a_call() {
    let _alone = one_at_a_time();
    let carol = ready("carol", &["--once"]);
    let mut bob = ready("bob", &["--once", "--control", "--peer", &carol.address()]);
    let mut carol = carol;
    let mut alice = Phone::call("alice", &bob, &["--control"]);
    alice.until("first_audio");
    let [a, b, c] = [&alice, &bob, &carol].map(Phone::did);
    let needed = bob.ask(r#"{"do":"invite"}"#);
    assert!(needed["reason"].as_str().is_some_and(|r| r.contains("name a peer")), "{needed}");
    done(&mut bob, &json!({"do": "invite", "peer": c}));
    assert_eq!(carol.until("incoming")["peer"], b.as_str());
    stands(&mut alice, &c, "joined");
    let mut missing = vec![&a, &b];
    while !missing.is_empty() {
        let line = carol.until_which("participant", |line| line["state"] == "joined");
        missing.retain(|did| line["peer"] != did.as_str());
    }
    done(&mut bob, &json!({"do": "hangup"}));
    assert_eq!(bob.end().0, 0);
    stands(&mut alice, &b, "left");
    stands(&mut carol, &b, "left");
    done(&mut alice, &json!({"do": "hangup"}));
    assert_eq!(alice.end().0, 0);
    carol.signal("TERM");
    assert_eq!(carol.end().0, 0);
}

#[test]
fn a_call_is_held_while_another_one_is_answered() {
    let _alone = one_at_a_time();
    let mut bob = ready("bob", &["--control", "--accept", "none"]);
    let mut alice = Phone::call("alice", &bob, &[]);
    let first = bob.until("incoming")["call"].clone();
    assert_eq!(bob.ask(r#"{"do":"unhold"}"#)["reason"], "no call is held");
    done(&mut bob, &json!({"do": "accept"}));
    bob.until("first_audio");
    done(&mut bob, &json!({"do": "hold"}));
    assert_eq!(bob.until("held")["held"], true);
    alice.until_which("participant", |line| line["held"] == true);
    let mut carol = Phone::call("carol", &bob, &[]);
    let second = bob.until("incoming")["call"].clone();
    done(&mut bob, &json!({"do": "accept", "value": "hold"}));
    bob.until_which("first_audio", |line| line["call"] == second);
    done(&mut bob, &json!({"do": "unhold", "value": "hold"}));
    bob.until_which("held", |line| line["call"] == second && line["held"] == true);
    alice.until_which("participant", |line| line["held"] == false);
    carol.until_which("participant", |line| line["held"] == true);
    done(&mut bob, &json!({"do": "hangup", "call": second}));
    assert_eq!(carol.end().0, 0);
    done(&mut bob, &json!({"do": "hangup", "call": first}));
    assert_eq!(alice.end().0, 0);
    bob.signal("INT");
    assert_eq!(bob.end().0, 0);
}

#[test]
fn a_held_call_goes_on_when_the_one_that_was_answered_meanwhile_is_over() {
    let _alone = one_at_a_time();
    let mut bob = ready("bob", &[]);
    let mut alice = Phone::call("alice", &bob, &["--control"]);
    let first = alice.until("first_audio")["call"].clone();
    done(&mut alice, &json!({"do": "hold"}));
    let mut carol = Phone::call("carol", &alice, &["--control"]);
    let second = alice.until("incoming")["call"].clone();
    done(&mut alice, &json!({"do": "accept"}));
    alice.until_which("first_audio", |line| line["call"] == second);
    done(&mut carol, &json!({"do": "hangup"}));
    assert_eq!(carol.end().0, 0);
    alice.until_which("ended", |line| line["call"] == second);
    done(&mut alice, &json!({"do": "unhold"}));
    bob.until_which("participant", |line| line["held"] == false);
    done(&mut alice, &json!({"do": "hangup", "call": first}));
    assert_eq!(alice.end().0, 0);
    bob.signal("TERM");
    assert_eq!(bob.end().0, 0);
}

#[test]
fn who_crashed_comes_back_to_the_call() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let (key, store) = (folder.path("key"), folder.path("store"));
    let kept = ["--key", &key, "--store", &store];
    let mut bob = ready("bob", &["--once", "--control"]);
    let mut alice = Phone::call("alice", &bob, &kept);
    let call = alice.until("offering")["call"].clone();
    alice.until("first_audio");
    bob.until("first_audio");
    folder.until_there("store/resume-1.sealed");
    alice.crash();
    bob.until_which("link", |line| line["state"] == "reconnecting");
    // Without being asked to, it only says so.
    let mut again = Phone::answer("alice", &[&kept[..], &["--control", "--peer", &bob.address()]].concat());
    let ready = again.until("ready");
    assert_eq!(ready["resumable"], json!([call]));
    again.crash();
    let mut again =
        Phone::call("alice", &bob, &[&kept[..], &["--resume", "--control", "--mic", "tone"]].concat());
    assert_eq!(again.until("ready")["resumable"], json!([call]));
    assert_eq!(again.until("rejoined")["call"], call);
    stands(&mut again, &bob.did(), "joined");
    again.until("first_audio");
    done(&mut bob, &json!({"do": "mute"}));
    again.until_which("participant", |line| line["muted"] == true);
    done(&mut again, &json!({"do": "hangup"}));
    assert_eq!(again.end().0, 0);
    let (code, lines) = bob.end();
    assert_eq!((code, ended(&lines).len()), (0, 1), "one call: {lines:?}");
    // It is over for both.
    let mut last = Phone::answer("alice", &kept);
    assert_eq!(last.until("ready")["resumable"], json!([]));
}

#[test]
fn who_was_away_is_told_of_the_call_that_they_missed() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let (key, store, theirs) = (folder.path("key"), folder.path("store"), folder.path("bob"));
    let kept = ["--key", &key, "--store", &store];
    let mut bob = ready("bob", &["--key", &theirs]);
    let (did, address) = (bob.did(), bob.address());
    bob.crash();
    let (code, lines) = Phone::call_key("alice", &did, &address, &kept).end();
    assert_eq!(code, 5);
    let call = &lines.iter().find(|line| line["event"] == "offering").expect("it was offered")["call"];
    // Both start anew, and the two nodes meet.
    let alice = ready("alice", &kept);
    let mut bob = ready("bob", &["--key", &theirs, "--peer", &alice.address()]);
    let missed = bob.until("missed");
    assert_eq!((&missed["call"], missed["peer"].as_str()), (call, Some(&*alice.did())));
    assert!(missed["ago"].is_u64(), "{missed}");
}
