//! What a call costs in messages and bytes, compared with what was recorded (tests/guard/limits.json). `make guard` runs this
//! too, beside what needs valgrind, and records anew.
//!
//! Two phones with nodes of their own call each other over loopback; what passes between their nodes is counted on its way,
//! with everything that libp2p adds. Of several calls the cheapest counts: what a busy machine makes late is sent again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use blink_tests::e2e::{
    Proxy,
    phone::{Phone, early, fresh},
};
use serde_json::Value;
use warp_blink::Blink;

const LIMITS: &str = include_str!("../guard/limits.json");

/// How many calls.
const CALLS: usize = 5;

/// Signals that a phone has sent so far, each once.
fn sent(phone: &Phone) -> u64 {
    phone.blink.snapshot().statistics.counters.sent
}

/// One calls, the other one answers, both hear each other; one hangs up.
async fn call(alice: &mut Phone, bob: &mut Phone) {
    let call = alice.blink.offer([bob.key()]).await.unwrap();
    assert_eq!(bob.incoming().await, call);
    bob.blink.answer(call).await.unwrap();
    alice.heard().await;
    bob.heard().await;
    alice.blink.hang_up(call).await.unwrap();
    for phone in [alice, bob] {
        phone.ended(call).await;
    }
}

/// The least that a call took, by name.
async fn measure() -> BTreeMap<&'static str, u64> {
    let mut bob = Phone::start(early(), &[]).await;
    let address = bob.address().await;
    let port = address.split('/').nth(4).unwrap().parse().unwrap();
    let proxy = Proxy::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    let through = address.replace(&format!("/tcp/{port}"), &format!("/tcp/{}", proxy.port()));
    let mut alice = Phone::built(Blink::builder(fresh()).config(early()).peer(through), &[]).await;
    // The first one is between strangers; it gives the keys and tokens of all later ones.
    call(&mut alice, &mut bob).await;
    let mut least = BTreeMap::from([("signals per call", u64::MAX), ("gossip bytes per call", u64::MAX)]);
    let mut before = (sent(&alice) + sent(&bob), proxy.bytes());
    for _ in 0..CALLS {
        // The last words of the call before are part of this one, and so on: each has those of one call.
        call(&mut alice, &mut bob).await;
        let now = (sent(&alice) + sent(&bob), proxy.bytes());
        for (name, cost) in
            [("signals per call", now.0 - before.0), ("gossip bytes per call", now.1 - before.1)]
        {
            least.entry(name).and_modify(|least| *least = cost.min(*least));
        }
        before = now;
    }
    alice.blink.shutdown().await;
    bob.blink.shutdown().await;
    least
}

/// What is wrong with a figure, if something is.
fn judge(limits: &Value, name: &str, found: u64) -> Option<String> {
    let number = |field: &str| limits["measures"][name][field].as_f64();
    let (Some(recorded), Some(tolerance)) = (number("value"), number("tolerance")) else {
        return Some(format!("{name}: {found}, and no limit is recorded: `make guard RECORD=1`"));
    };
    let most = recorded * (1.0 + tolerance);
    (found as f64 > most).then(|| {
        format!(
            "{name}: {found}, recorded were {recorded}, and {most:.0} is the most: find what costs more, or \
             record it with `make guard RECORD=1` and say in the commit what it is for"
        )
    })
}

#[test]
fn a_call_costs_no_more_than_what_was_recorded() {
    let found = tokio::runtime::Runtime::new().unwrap().block_on(measure());
    let limits: Value = serde_json::from_str(LIMITS).unwrap();
    let mut wrong = Vec::new();
    for (name, cost) in found {
        // For scripts/guard.py.
        println!("#guard {name}\t{cost}");
        assert!(cost > 0, "{name}: nothing was counted");
        wrong.extend(judge(&limits, name, cost));
    }
    // A record that is being made anew is not held against itself.
    if std::env::var_os("GUARD_RECORD").is_none() {
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn a_figure_is_judged_by_its_record_and_tolerance() {
    let limits = serde_json::json!({"measures": {"a": {"value": 100, "tolerance": 0.1}}});
    assert_eq!(judge(&limits, "a", 110), None);
    assert!(judge(&limits, "a", 111).unwrap().contains("110 is the most"));
    assert!(judge(&limits, "b", 1).unwrap().contains("no limit"));
}
