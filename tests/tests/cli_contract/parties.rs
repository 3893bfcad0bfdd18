//! Calls of many between processes, over real gossip and real media: leaving, being killed and coming back, being invited
//! late, being removed; two who call each other; a caller that dies.

use serde_json::Value;

use crate::phone::{Folder, Phone, one_at_a_time};

/// Somebody who answers, keeps what a restart needs, and knows where the others are.
fn answers(name: &'static str, folder: &Folder, others: &[&Phone], more: &[&str]) -> Phone {
    let (key, store) = (folder.path(&format!("{name}.key")), folder.path(&format!("{name}.store")));
    let addresses: Vec<String> = others.iter().map(|phone| phone.address()).collect();
    let mut arguments = vec!["--control", "--key", &key, "--store", &store];
    for address in &addresses {
        arguments.extend(["--peer", address]);
    }
    arguments.extend(more);
    let mut phone = Phone::answer(name, &arguments);
    phone.until("ready");
    phone
}

/// One sees that of another, now or soon.
fn sees(phone: &mut Phone, whom: &str, state: &str) {
    let of = |line: &&Value| line["event"] == "participant" && line["peer"] == whom;
    let last = phone.seen().iter().rev().find(of);
    if last.is_none_or(|line| line["state"] != state) {
        phone.until_which("participant", |line| line["peer"] == whom && line["state"] == state);
    }
}

fn ask(phone: &mut Phone, command: &str, peer: Option<&str>) {
    let line = match peer {
        Some(peer) => format!("{{\"do\":\"{command}\",\"peer\":\"{peer}\"}}"),
        None => format!("{{\"do\":\"{command}\"}}"),
    };
    let answer = phone.ask(&line);
    assert_eq!(answer["event"], "done", "{answer}");
}

/// How often a line of that event was written so far.
fn count(phone: &Phone, event: &str) -> usize {
    phone.seen().iter().filter(|line| line["event"] == event).count()
}

#[test]
fn four_talk_while_one_leaves_one_is_killed_and_returns_one_is_invited_late_and_one_removed() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let mut bob = answers("bob", &folder, &[], &[]);
    let mut carol = answers("carol", &folder, &[&bob], &[]);
    let mut dave = answers("dave", &folder, &[&bob, &carol], &[]);
    let mut erin = answers("erin", &folder, &[&bob, &carol, &dave], &[]);
    let (b, c, d, e) = (bob.did(), carol.did(), dave.did(), erin.did());
    let addresses = [&bob, &carol, &dave, &erin].map(|phone| phone.address());
    let loopback = ["--json", "--listen", "/ip4/127.0.0.1/tcp/0", "--ice-ip", "127.0.0.1"];
    let quiet = ["--mic", "silence", "--speaker", "null", "--control"];
    let peers: Vec<&str> = addresses.iter().flat_map(|a| ["--peer", a.as_str()]).collect();
    let whom = ["call", b.as_str(), c.as_str(), d.as_str()];
    let call: Vec<&str> = whom.into_iter().chain(loopback).chain(quiet).chain(peers).collect();
    let mut alice = Phone::spawn("alice", call);
    alice.until("ready");
    let a = alice.did();

    // All four are joined with one another.
    for whom in [&b, &c, &d] {
        sees(&mut alice, whom, "joined");
    }
    for whom in [&a, &c, &d] {
        sees(&mut bob, whom, "joined");
    }
    for whom in [&a, &b, &d] {
        sees(&mut carol, whom, "joined");
    }
    for whom in [&a, &b, &c] {
        sees(&mut dave, whom, "joined");
    }

    // One leaves, and the others go on.
    ask(&mut carol, "leave", None);
    carol.until("left");
    for phone in [&mut alice, &mut bob, &mut dave] {
        sees(phone, &c, "left");
    }

    // One is killed and comes back, without ringing anybody.
    let rang = [count(&bob, "incoming"), count(&alice, "incoming")];
    dave.crash();
    drop(dave);
    for phone in [&mut alice, &mut bob] {
        sees(phone, &d, "reconnecting");
    }
    let mut dave =
        answers("dave", &folder, &[&bob, &carol, &erin], &["--peer", &alice.address(), "--resume"]);
    dave.until("rejoined");
    for phone in [&mut alice, &mut bob] {
        sees(phone, &d, "joined");
    }
    for whom in [&a, &b] {
        sees(&mut dave, whom, "joined");
    }
    assert_eq!([count(&bob, "incoming"), count(&alice, "incoming")], rang, "nobody is rung");
    assert_eq!(count(&dave, "incoming"), 0);

    // One is invited late, by one who did not make the call.
    ask(&mut bob, "invite", Some(&e));
    for whom in [&a, &b, &d] {
        sees(&mut erin, whom, "joined");
    }
    for phone in [&mut alice, &mut bob, &mut dave] {
        sees(phone, &e, "joined");
    }

    // One is removed, and hears it.
    ask(&mut alice, "remove", Some(&b));
    assert_eq!(bob.until("ended")["reason"], "removed");
    for phone in [&mut alice, &mut dave, &mut erin] {
        sees(phone, &b, "removed");
    }
    // Who left comes back to those who are left.
    ask(&mut carol, "rejoin", None);
    for whom in [&a, &d, &e] {
        sees(&mut carol, whom, "joined");
    }
    // The others mute: all who are in see it, and whoever is not hears nothing.
    ask(&mut erin, "mute", None);
    for phone in [&mut alice, &mut carol, &mut dave] {
        phone.until_which("participant", |line| line["peer"] == *e && line["muted"] == true);
    }
    // What it wrote before this answer has been read then.
    ask(&mut bob, "snapshot", None);
    let last = bob.seen().iter().rposition(|line| line["event"] == "ended").expect("it has ended");
    let more = bob.seen()[last..].iter().filter(|line| line["event"] == "participant").count();
    assert_eq!(more, 0, "the removed one is told nothing more");

    ask(&mut alice, "hangup", None);
    for phone in [&mut carol, &mut dave, &mut erin] {
        sees(phone, &a, "left");
    }
    let (code, _) = alice.end();
    assert_eq!(code, 0);
}

#[test]
fn a_caller_that_is_killed_while_it_rings_stops_the_ringing() {
    let _alone = one_at_a_time();
    let mut bob = Phone::answer("bob", &["--accept", "none"]);
    bob.until("ready");
    let mut alice = Phone::call("alice", &bob, &[]);
    alice.until("ringing");
    bob.until("incoming");
    alice.crash();
    let ended = bob.until("ended");
    assert_eq!((&ended["reason"], &ended["by"]), (&Value::from("lost"), &Value::Null));
    assert_eq!(count(&bob, "missed"), 1);
}

#[test]
fn two_who_call_each_other_are_in_one_call_without_pressing_anything() {
    let _alone = one_at_a_time();
    let folder = Folder::new();
    let key = folder.path("alice.key");
    let id = crate::phone::run(["id", "--json", "--key", &key]).out;
    let id: Value = serde_json::from_str(&id).expect("one line of JSON");
    let of_alice = |field: &str| id[field].as_str().expect("it is told").to_owned();

    // Bob calls first, and looks for Alice where a port answers and says nothing, until she comes by herself.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("it is bound").port();
    let nowhere = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", of_alice("peer_id"));
    let mut bob = Phone::call_key("bob", &of_alice("did"), &nowhere, &["--control"]);
    bob.until("ready");
    let mut alice = Phone::call("alice", &bob, &["--key", &key]);

    bob.until("first_audio");
    alice.until("first_audio");
    let accepted = |phone: &Phone| {
        let lines = phone.seen().iter().filter(|line| line["event"] == "accepted");
        lines.map(|line| line["call"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(accepted(&bob).len(), 1);
    assert_eq!(accepted(&bob), accepted(&alice), "one call");
    assert_eq!(count(&bob, "merged") + count(&alice, "merged"), 1, "one of the two calls became the other");
    assert_eq!(count(&bob, "incoming") + count(&alice, "incoming"), 0, "and rang nowhere");
    ask(&mut bob, "hangup", None);
    let ((code, bobs), (also, alices)) = (bob.end(), alice.end());
    assert_eq!((code, also), (0, 0));
    for lines in [bobs, alices] {
        assert_eq!(lines.iter().filter(|line| line["event"] == "ended").count(), 1);
    }
}
