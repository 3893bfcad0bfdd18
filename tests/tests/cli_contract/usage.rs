//! What needs no call: help, keys, devices, and everything that is refused.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::{
    document::CONTRACT,
    phone::{Folder, run},
};

const COMMANDS: [&str; 6] = ["id", "answer", "call", "devices", "demo", "relay"];

/// A key that is nobody's phone.
fn somebody() -> String {
    warp_blink::Identity::from_seed([9; 32]).public().to_string()
}

/// The options that a help text lists.
fn listed(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split([' ', ',']).take(3).map(str::to_owned).collect::<Vec<_>>());
    words.filter(|word| word.starts_with("--") && word != "--help").collect()
}

#[test]
fn help_and_contract_list_the_same_options() {
    for command in COMMANDS {
        let help = run([command, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (Some(0), ""), "{command}");
        assert_eq!(listed(&help.out), CONTRACT.options_of(command), "blink {command}: help, docs/cli.md");
    }
}

#[test]
fn help_and_contract_list_the_same_commands() {
    let help = run(["--help"]).out;
    let (_, rest) = help.split_once("Commands:").expect("the help lists commands");
    let (commands, _) = rest.split_once("\n\n").expect("options follow");
    let listed: BTreeSet<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, COMMANDS.into_iter().collect());
    let documented = CONTRACT.options.keys().filter_map(|heading| heading.strip_prefix("blink "));
    assert_eq!(documented.collect::<BTreeSet<_>>(), listed);
}

fn only_line(text: &str) -> Value {
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_else(|| panic!("nothing was written"));
    assert_eq!(lines.next(), None, "one line");
    let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
    assert_eq!(CONTRACT.objection(&line), None, "{line}");
    line
}

#[test]
fn id_makes_a_private_key_file_and_keeps_to_it() {
    let folder = Folder::new();
    let key = folder.path("key");
    let first = only_line(&run(["id", "--json", "--key", &key]).out);
    assert_eq!(first["event"], "id");
    let again = only_line(&run(["id", "--json", "--key", &key]).out);
    assert_eq!(first["did"], again["did"]);
    let did: warp_blink::PublicKey = first["did"].as_str().unwrap_or_default().parse().expect("a key");
    assert_eq!(first["peer_id"], did.to_peer_id_string());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&key).expect("it was made").permissions().mode() & 0o777, 0o600);
    }
    let other = only_line(&run(["id", "--json"]).out);
    assert_ne!(first["did"], other["did"], "without a file each one is new");
    assert!(run(["id", "--key", &key]).out.starts_with(first["did"].as_str().unwrap_or_default()));
}

#[test]
fn devices_are_listed_or_it_is_said_why_not() {
    let outcome = run(["devices", "--json"]);
    match outcome.code {
        Some(0) => {
            let line = only_line(&outcome.out);
            for device in ["microphones", "speakers"].iter().flat_map(|k| line[k].as_array().expect("a list"))
            {
                for field in ["id", "name", "default", "rates", "channels"] {
                    assert!(device.get(field).is_some(), "{device} has no {field}");
                }
            }
        }
        // A machine without any sound system.
        code => assert_eq!((code, own_lines(&outcome.err)), (Some(1), 1), "{}", outcome.err),
    }
}

/// Lines of the command itself; the sound system of the machine may write its own.
fn own_lines(err: &str) -> usize {
    err.lines().filter(|line| line.starts_with("blink: ")).count()
}

/// Runs what cannot work: exit code 2, and one line with these words.
fn refused(arguments: &[&str], words: &[&str]) {
    let outcome = run(arguments);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""), "{arguments:?}: {}", outcome.err);
    assert!(outcome.err.starts_with("blink: "), "{arguments:?}: {}", outcome.err);
    assert_eq!(outcome.err.lines().count(), 1, "{arguments:?}: {}", outcome.err);
    for word in words {
        assert!(outcome.err.contains(word), "{arguments:?}: {word:?} is not in {}", outcome.err);
    }
}

#[test]
fn bad_usage_is_told_in_one_line() {
    let key = somebody();
    refused(&[], &["answer", "call"]);
    refused(&["phone"], &["phone"]);
    refused(&["call"], &["KEY"]);
    refused(&["call", "bob"], &["bob", "did:key:z6Mk"]);
    refused(&["call", &key[..50]], &["did:key:z6Mk"]);
    refused(&["call", &key, "bob"], &["bob", "did:key:z6Mk"]);
    refused(&["call", &key, "--resume"], &["--resume", "--store"]);
    refused(&["answer", "--accept", "everybody"], &["did:key:z6Mk"]);
    refused(&["answer", "--frame-ms", "30"], &["10, 20, 40 or 60"]);
    refused(&["answer", "--bitrate", "5999"], &["6000"]);
    refused(&["answer", "--ring-timeout", "soon"], &["seconds"]);
    refused(&["answer", "--duration=-1"], &["seconds"]);
    refused(&["answer", "--ice-ip", "localhost"], &["localhost"]);
    refused(&["answer", "--turn", "turn:192.0.2.1"], &["URL,USER,PASSWORD"]);
    refused(&["answer", "--turn", "turn:192.0.2.1,,"], &["turn:192.0.2.1", "user name"]);
    refused(&["answer", "--stun", "https://192.0.2.1"], &["https://192.0.2.1", "stun:host"]);
    refused(&["answer", "--processing", "maybe"], &["off"]);
    refused(&["answer", "--dtx", "maybe"], &["off"]);
    refused(&["answer", "--no-such-option"], &["--no-such-option"]);
}

#[test]
fn an_address_must_be_one_and_name_its_node() {
    let key = somebody();
    refused(&["call", &key, "--peer", "192.0.2.1:4001"], &["/ip4/"]);
    refused(&["call", &key, "--peer", "/ip4/127.0.0.1/tcp/4001"], &["/p2p/PEERID"]);
    refused(&["call", &key, "--peer", "/ip4/127.0.0.1/tcp/4001/p2p/bob"], &["PeerId"]);
    let peer_id = warp_blink::Identity::from_seed([9; 32]).public().to_peer_id_string();
    refused(&["call", &key, "--peer", &format!("/ip4/127.0.0.999/tcp/1/p2p/{peer_id}")], &["address"]);
    refused(&["answer", "--listen", "4001"], &["/ip4/"]);
}

#[test]
fn nobody_calls_himself() {
    let folder = Folder::new();
    let key = folder.path("key");
    let own = only_line(&run(["id", "--json", "--key", &key]).out);
    for own in [&own["did"], &own["peer_id"]] {
        refused(&["call", own.as_str().unwrap_or_default(), "--key", &key], &["your own key"]);
        refused(&["call", &somebody(), own.as_str().unwrap_or_default(), "--key", &key], &["your own key"]);
    }
}

#[test]
fn sound_that_does_not_exist_is_told_before_anything_starts() {
    let folder = Folder::new();
    let (missing, broken) = (folder.path("missing.wav"), folder.path("broken.wav"));
    fs::write(&broken, "no sound at all").expect("the folder can be written");
    let nowhere = folder.path("no/such/folder.wav");
    let quiet = ["answer", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let with = |more: &[&'static str]| quiet.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    refused(
        &[&with(&["--speaker", "null", "--mic"])[..], &[&missing]].concat(),
        &["missing.wav", "No such file"],
    );
    refused(&[&with(&["--speaker", "null", "--mic"])[..], &[&broken]].concat(), &["broken.wav", "WAV"]);
    refused(&[&with(&["--mic", "silence", "--speaker"])[..], &[&nowhere]].concat(), &["folder.wav"]);
    refused(&with(&["--speaker", "tone"]), &["FILE.wav"]);
}

#[test]
fn a_device_that_does_not_exist_is_told_with_those_that_do() {
    let devices = run(["devices", "--json"]);
    if devices.code != Some(0) {
        // No sound system at all: that is told instead, and another test sees it.
        return;
    }
    let line = only_line(&devices.out);
    for (option, other, list) in
        [("--mic", ["--speaker", "null"], "microphones"), ("--speaker", ["--mic", "silence"], "speakers")]
    {
        let outcome = run([&["answer", option, "no such device"][..], &other].concat());
        assert_eq!((outcome.code, own_lines(&outcome.err)), (Some(2), 1), "{}", outcome.err);
        assert!(outcome.err.contains("no such device"), "{}", outcome.err);
        for device in line[list].as_array().expect("a list") {
            let id = device["id"].as_str().unwrap_or_default();
            assert!(outcome.err.contains(id), "{id} is not in {}", outcome.err);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let key = folder.path("key");
    run(["id", "--key", &key]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    refused(&["id", "--key", &key], &["key", "chmod 600"]);
    refused(&["answer", "--key", &key], &["key", "chmod 600"]);
    let garbage = folder.path("garbage");
    fs::write(&garbage, "no key").expect("the folder can be written");
    fs::set_permissions(&garbage, fs::Permissions::from_mode(0o600)).expect("it is ours");
    refused(&["id", "--key", &garbage], &["garbage", "not a key file"]);
    refused(&["id", "--key", &folder.path("no/such/folder")], &["no/such/folder"]);
}

#[test]
fn relay_only_needs_ways_that_are_left() {
    let relay = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    refused(&["answer", "--relay-only"], &["--relay-only", "--relay ADDR"]);
    refused(&["answer", "--relay-only", "--relay", relay], &["--relay-only", "--turn"]);
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    refused(&[&["answer", "--relay-only", "--relay", relay][..], &listen].concat(), &["--listen", "address"]);
    refused(&["answer", "--relay", "/ip4/192.0.2.1/tcp/4001"], &["--relay", "/p2p/"]);
    refused(&["relay", "--listen", "nowhere"], &["--listen", "multiaddr"]);
}

#[test]
fn a_store_needs_an_identity_that_stays_and_a_folder_of_its_own() {
    let folder = Folder::new();
    let (key, store) = (folder.path("key"), folder.path("store"));
    refused(&["answer", "--store", &store], &["--store", "--key"]);
    fs::write(&store, "no folder").expect("the folder can be written");
    refused(
        &["answer", "--mic", "silence", "--speaker", "null", "--key", &key, "--store", &store],
        &["store"],
    );
}

#[test]
fn a_port_in_use_is_no_bad_usage() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it is bound").port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let outcome = run(["answer", "--mic", "silence", "--speaker", "null", "--listen", &address]);
    assert_eq!((outcome.code, own_lines(&outcome.err)), (Some(1), 1), "{}", outcome.err);
    assert!(outcome.err.contains(&address) || outcome.err.contains("in use"), "{}", outcome.err);
}
