//! `blink relay`, and calls through it.

use serde_json::Value;

use crate::phone::{Phone, one_at_a_time};

fn addresses(ready: &Value) -> Vec<String> {
    let all = ready["addresses"].as_array().expect("a list");
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn a_call_goes_through_blink_relay() {
    let _alone = one_at_a_time();
    let mut relay = Phone::spawn("relay", ["relay", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    let ready = relay.until("ready");
    let at = addresses(&ready).remove(0);
    assert!(at.ends_with(ready["peer_id"].as_str().expect("a node")), "{at}");
    relay.until_which("node", |line| line["state"] == "local_only" && line["advice"].is_string());

    let off = ["--hole-punching", "off"];
    let mut bob = Phone::answer("bob", &[&["--once", "--relay", &at][..], &off].concat());
    let ready = bob.until("ready");
    let circuits: Vec<String> =
        addresses(&ready).into_iter().filter(|a| a.contains("/p2p-circuit/p2p/")).collect();
    assert!(circuits.iter().all(|circuit| circuit.starts_with(&at)), "{ready}");
    bob.until_which("node", |line| {
        line["state"] == "relayed" && line["by"].as_array().is_some_and(|l| l.len() == 1)
    });

    let alice =
        Phone::call_key("alice", &bob.did(), &circuits[0], &[&["--duration", "1"][..], &off].concat());
    let (code, lines) = alice.end();
    assert_eq!(code, 0);
    let reached = lines.iter().find(|line| line["event"] == "reached").expect("bob was reached");
    assert_eq!(reached["via"], "relay");
    assert_eq!(bob.end().0, 0);
    relay.signal("INT");
    assert_eq!(relay.end().0, 0);
}

#[test]
fn a_relay_has_the_name_of_its_key_file() {
    let folder = crate::phone::Folder::new();
    let key = folder.path("key");
    let names = [(); 2].map(|()| {
        let mut relay =
            Phone::spawn("relay", ["relay", "--json", "--key", &key, "--listen", "/ip4/127.0.0.1/tcp/0"]);
        relay.until("ready")["peer_id"].clone()
    });
    assert_eq!(names[0], names[1]);
}
