//! `blink relay --turn`: sound of friends, and of nobody else, over the machine of a third.

use serde_json::Value;

use crate::phone::{Folder, Phone, one_at_a_time, run};

/// The name in a key file, which is made.
fn made(key: &str) -> String {
    let id: Value = serde_json::from_str(&run(["id", "--json", "--key", key]).out).expect("one line");
    id["did"].as_str().expect("a key").to_owned()
}

/// A relay on loopback that serves TURN for these, and where it is.
fn relay(friends: &[&str]) -> (Phone, String) {
    let friends = friends.join(",");
    let turn = ["--turn", "127.0.0.1:0", "--friends", &friends];
    let mut relay =
        Phone::spawn("relay", [&["relay", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"][..], &turn].concat());
    relay.until("ready");
    let at = relay.address();
    (relay, at)
}

/// Shows nobody its address: all goes over the relay. No `--listen`, so it is not `on_loopback`.
fn hidden(name: &'static str, what: &[&str], key: &str, relay: &Phone, more: &[&str]) -> Phone {
    let (at, friend) = (relay.address(), relay.did());
    let only = ["--json", "--key", key, "--relay-only", "--relay", &at, "--turn-friend", &friend];
    Phone::spawn(name, [what, &only, &["--ice-ip", "127.0.0.1"], more].concat())
}

/// Where others reach somebody who is ready: behind the relay, and nowhere else.
fn circuit(phone: &Phone, relay: &str) -> String {
    let at = phone.address();
    assert!(at.starts_with(relay) && at.contains("/p2p-circuit/p2p/"), "{at}");
    at
}

fn loudest(file: &str) -> u16 {
    let mut wav = hound::WavReader::open(file).expect("it was closed");
    wav.samples::<i16>().flatten().map(i16::unsigned_abs).max().unwrap_or(0)
}

#[test]
fn two_who_show_no_address_hear_each_other_over_a_third_machine() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let keys = ["alice", "bob"].map(|name| folder.path(name));
    let dids = keys.each_ref().map(|key| made(key));
    let (relay, at) = relay(&[&dids[0], &dids[1]]);
    let heard = ["alice.wav", "bob.wav"].map(|name| folder.path(name));
    let sound = |n: usize| ["--mic", "tone", "--speaker", &heard[n]];

    let once = [&["--once"][..], &sound(1)].concat();
    let mut bob = hidden("bob", &["answer"], &keys[1], &relay, &once);
    bob.until("ready");
    let there = circuit(&bob, &at);
    let calls = [&["--peer", &there, "--duration", "3"][..], &sound(0)].concat();
    let alice = hidden("alice", &["call", &dids[1]], &keys[0], &relay, &calls);
    let ended = [alice.end(), bob.end()];
    for (code, lines) in ended {
        assert_eq!(code, 0);
        assert!(lines.iter().any(|line| line["event"] == "first_audio"));
        let routes: Vec<&Value> =
            lines.iter().filter(|line| line["event"] == "stats").map(|line| &line["route"]).collect();
        assert!(routes.iter().any(|route| **route == "relay"), "{routes:?}");
        assert!(routes.iter().all(|route| route.is_null() || **route == "relay"), "{routes:?}");
    }
    for file in &heard {
        assert!(loudest(file) > 3_000, "{file}: the tone of the other side");
    }
    relay.signal("INT");
    assert_eq!(relay.end().0, 0);
}

/// Bob is a friend of the relay's owner, Alice is not: her sound has no way, and she is told so.
#[test]
fn whom_the_owner_does_not_name_is_not_relayed_and_is_told() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let keys = ["alice", "bob"].map(|name| folder.path(name));
    let dids = keys.each_ref().map(|key| made(key));
    let (relay, at) = relay(&[&dids[1]]);
    let silent = ["--mic", "silence", "--speaker", "null"];
    let mut bob = hidden("bob", &["answer"], &keys[1], &relay, &silent);
    bob.until("ready");
    let there = circuit(&bob, &at);
    let calls = [&["--peer", &there][..], &silent].concat();
    let alice = hidden("alice", &["call", &dids[1]], &keys[0], &relay, &calls);
    let (code, lines) = alice.end();
    assert_eq!(code, 6, "the call failed");
    let ended = lines.iter().find(|line| line["event"] == "ended").expect("it is told");
    assert_eq!((&ended["reason"], &ended["step"]), (&"failed".into(), &"checking".into()), "{ended}");
    let silent = lines.iter().find(|line| line["kind"] == "friend_silent").expect("the cause is told");
    assert_eq!(silent["peer"], relay.did().as_str(), "{silent}");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let key = warp_blink::Identity::from_seed([9; 32]).public().to_string();
    for (arguments, words) in [
        (vec!["relay", "--turn", "127.0.0.1:0"], "--friends"),
        (vec!["relay", "--friends", &key], "--turn"),
        (vec!["relay", "--turn", "3478", "--friends", &key], "an IP and a port"),
        (vec!["relay", "--turn", "127.0.0.1:0", "--friends", "bob"], "bob"),
    ] {
        let outcome = run(&arguments);
        assert_eq!(outcome.code, Some(2), "{arguments:?}: {}", outcome.err);
        assert!(outcome.err.contains(words), "{arguments:?}: {}", outcome.err);
    }
    // Nobody could reach what listens everywhere, without being told where.
    let everywhere =
        run(["relay", "--listen", "/ip4/127.0.0.1/tcp/0", "--turn", "0.0.0.0:0", "--friends", &key]);
    assert_eq!(everywhere.code, Some(2), "{}", everywhere.err);
    assert!(everywhere.err.contains("--turn-public"), "{}", everywhere.err);
}
