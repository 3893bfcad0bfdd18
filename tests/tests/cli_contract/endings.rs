//! Every way in which a call can fail to take place, seen from both sides: reasons and exit codes.

use std::time::Duration;

use serde_json::Value;

use crate::phone::{Phone, one_at_a_time};

/// The reason of the one call, and the exit code.
fn outcome(phone: Phone) -> (i32, String) {
    let (code, lines) = phone.end();
    let ended: Vec<&Value> = lines.iter().filter(|line| line["event"] == "ended").collect();
    assert_eq!(ended.len(), 1, "one call ends once: {lines:?}");
    assert_eq!(lines.last().map(|line| &line["event"]), Some(&"summary".into()));
    (code, ended[0]["reason"].as_str().unwrap_or_default().to_owned())
}

fn ready(more: &[&str]) -> Phone {
    let mut phone = Phone::answer("bob", more);
    phone.until("ready");
    phone
}

fn is(code: i32, reason: &str) -> (i32, String) {
    (code, reason.to_owned())
}

#[test]
fn declined_by_option() {
    let _alone = one_at_a_time();
    let bob = ready(&["--once", "--reject"]);
    let alice = Phone::call("alice", &bob, &[]);
    assert_eq!(outcome(alice), is(3, "declined"));
    assert_eq!(outcome(bob), is(0, "declined"), "it rejected one, as it was asked to");
}

#[test]
fn declined_by_hand() {
    let _alone = one_at_a_time();
    let mut bob = ready(&["--once", "--accept", "none", "--control"]);
    let alice = Phone::call("alice", &bob, &[]);
    bob.until("incoming");
    assert_eq!(bob.ask(r#"{"do":"decline"}"#)["event"], "done");
    assert_eq!(outcome(alice), is(3, "declined"));
    assert_eq!(outcome(bob), is(3, "declined"));
}

#[test]
fn cancelled_by_ctrl_c_while_it_rings() {
    let _alone = one_at_a_time();
    let mut bob = ready(&["--once", "--accept", "none"]);
    let mut alice = Phone::call("alice", &bob, &[]);
    alice.until("ringing");
    bob.until("incoming");
    alice.signal("INT");
    assert_eq!(outcome(alice), is(4, "cancelled"));
    assert_eq!(outcome(bob), is(4, "cancelled"));
}

#[test]
fn nobody_answers() {
    let _alone = one_at_a_time();
    let bob = ready(&["--once", "--accept", "none"]);
    let alice = Phone::call("alice", &bob, &["--ring-timeout", "1"]);
    assert_eq!(outcome(alice), is(4, "timed_out"));
    assert_eq!(outcome(bob), is(4, "timed_out"));
}

#[test]
fn busy_while_another_call_runs() {
    let _alone = one_at_a_time();
    let mut bob = ready(&["--once"]);
    let mut alice = Phone::call("alice", &bob, &[]);
    bob.until("media_started");
    alice.until("media_started");
    let carol = Phone::call("carol", &bob, &[]);
    let carol_did = {
        let (code, lines) = carol.end();
        let ended = lines.iter().find(|line| line["event"] == "ended").expect("it ended");
        assert_eq!((code, &ended["reason"]), (3, &"busy".into()));
        lines[0]["did"].clone()
    };
    let missed = bob.until("missed");
    assert_eq!((&missed["peer"], &missed["reason"]), (&carol_did, &"busy".into()));
    // The call goes on as if nothing had been.
    alice.until("stats");
    alice.signal("INT");
    assert_eq!(outcome(alice), is(0, "hung_up"));
    assert_eq!(outcome(bob), is(0, "hung_up"));
}

#[test]
fn somebody_else_lives_at_the_address() {
    let _alone = one_at_a_time();
    let bob = ready(&[]);
    let nobody = warp_blink::Identity::from_seed([7; 32]).public();
    // The node is there; the key is not its key.
    let alice = Phone::call_key("alice", &nobody.to_string(), &bob.address(), &["--ring-timeout", "60"]);
    assert_eq!(outcome(alice), is(5, "unreachable"));
    bob.signal("INT");
    let (code, lines) = bob.end();
    assert_eq!((code, lines.len()), (0, 1), "nothing but ready: {lines:?}");
}

#[test]
fn nobody_lives_at_the_address() {
    let _alone = one_at_a_time();
    let mut bob = ready(&[]);
    bob.crash();
    let mut alice = Phone::call("alice", &bob, &[]);
    let port = bob.address().split('/').nth(4).expect("an address with a port").to_owned();
    let warning = alice.until_which("warning", |line| line["kind"] == "not_reached");
    assert_eq!(warning["peer"], bob.did());
    assert!(warning["cause"].as_str().is_some_and(|cause| cause.contains(&port)), "{warning}");
    assert_eq!(outcome(alice), is(5, "unreachable"));
}

#[test]
fn ctrl_c_ends_everything_within_its_bound() {
    let _alone = one_at_a_time();
    // While nothing happens: with and without --once.
    for (more, expected) in [(&[][..], 0), (&["--once"][..], 4)] {
        let bob = ready(more);
        bob.signal("INT");
        assert_eq!(bob.end().0, expected, "{more:?}");
    }
    // During a call, by the signal of a service manager.
    let mut bob = ready(&["--once"]);
    let mut alice = Phone::call("alice", &bob, &[]);
    alice.until("first_audio");
    bob.until("first_audio");
    bob.signal("TERM");
    assert_eq!(outcome(bob), is(0, "hung_up"));
    assert_eq!(outcome(alice), is(0, "hung_up"), "the other side was told");
    // While the callee's node takes the connection and then says nothing, so that nobody acknowledges anything.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = deaf.local_addr().expect("it is bound").port();
    let nobody = warp_blink::Identity::from_seed([7; 32]).public();
    let address = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", nobody.to_peer_id_string());
    let mut alice = Phone::call_key("alice", &nobody.to_string(), &address, &["--control"]);
    // A command is answered once the call exists.
    assert_eq!(alice.ask(r#"{"do":"snapshot"}"#)["snapshot"]["calls"][0]["phase"], "outgoing");
    alice.signal("INT");
    assert_eq!(outcome(alice), is(4, "cancelled"));
}

#[test]
fn the_other_process_dies() {
    let _alone = one_at_a_time();
    let mut bob = ready(&["--once"]);
    let mut alice = Phone::call("alice", &bob, &[]);
    alice.until("first_audio");
    bob.until("first_audio");
    bob.crash();
    let link = alice.until_which("link", |line| line["state"] == "reconnecting");
    assert!(link["reason"].is_string(), "{link}");
    // The program answers all the while.
    let before = std::time::Instant::now();
    alice.signal("INT");
    assert_eq!(outcome(alice), is(0, "hung_up"));
    // Not a measure of speed: 2 s is the promise, and the margin is for a machine that stands still.
    assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
}

#[test]
fn a_terminal_that_closes_ends_the_call() {
    let _alone = one_at_a_time();
    let mut bob = ready(&["--once"]);
    let mut alice = Phone::call("alice", &bob, &[]);
    alice.until("first_audio");
    bob.until("first_audio");
    // What the system sends when the terminal goes.
    alice.signal("HUP");
    assert_eq!(outcome(alice).1, "hung_up");
    assert_eq!(outcome(bob), is(0, "hung_up"));
}
