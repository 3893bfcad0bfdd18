//! Phones of one network that know nothing of each other but a public key. Run by `make test-lab`, as root; ignored otherwise.

#![cfg(target_os = "linux")]

use std::time::Duration;

use blink_lab::{Lab, blink};

/// What a start or a call of a second may take: ten times what they take on a busy machine with two cores.
const PATIENCE: Duration = Duration::from_secs(30);

/// Both are on one host, since the router of the lab carries no multicast. mDNS speaks on no loopback.
#[test]
#[ignore = "needs root: `make test-lab`"]
fn nobody_needs_an_address_on_one_network() {
    let lab = Lab::new(1).expect("a lab");
    let host = lab.host("a").expect("a host");
    let phone = |name: &str, what: &[&str]| {
        let common = ["--json", "--mic", "silence", "--speaker", "null", "--mdns", "on"];
        let arguments: Vec<String> = what.iter().chain(&common).map(|a| (*a).to_owned()).collect();
        let log = lab.directory().join(format!("{name}.log"));
        host.spawn(&blink().expect("the command"), &arguments, &log).expect("it starts")
    };
    let mut callee = phone("callee", &["answer", "--once"]);
    let ready = callee.wait_for("ready", PATIENCE).expect("it is ready");
    let key = ready["did"].as_str().expect("it has a key").to_owned();
    let mut caller = phone("caller", &["call", &key, "--duration", "1"]);
    let reached = caller.wait_for("reached", PATIENCE).expect("it finds the other one");
    println!("found on the local network in {} ms", reached["ms"]);
    assert_eq!((caller.end(PATIENCE), callee.end(PATIENCE)), (Some(0), Some(0)));
}
