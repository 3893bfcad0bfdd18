//! What is done with two phones, one of which calls the other.

use std::{
    thread,
    time::{Duration, Instant},
};

use blink_tests::e2e::Proxy;
use serde_json::{Value, json};

use crate::child::{Child, PATIENCE};

/// A path that has been silent for 1.5 s counts as interrupted (simple-webrtc, `Timeouts`); on a busy machine later.
const NOTICED: Duration = Duration::from_secs(15);

/// How a call came about, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetUp {
    /// From the offer until the caller hears that it rings.
    pub(crate) ring: f64,
    /// From the acceptance until the first audio, at the side where that took longer.
    pub(crate) audio: f64,
}

fn time(line: &Value) -> f64 {
    line["t"].as_f64().unwrap_or(f64::NAN) * 1000.0
}

/// One calls, the other one answers, both hear each other.
pub(crate) fn call(caller: &mut Child, callee: &Child) -> Result<SetUp, String> {
    caller.forget();
    callee.forget();
    caller.tell(&json!({"do": "call", "key": callee.key()}))?;
    let ring = time(&caller.wait("ringing")?) - time(&caller.wait("offering")?);
    let mut audio: f64 = 0.0;
    for phone in [&*caller, callee] {
        let heard = time(&phone.wait("first_audio")?);
        audio = audio.max(heard - time(&phone.wait("accepted")?));
    }
    Ok(SetUp { ring, audio })
}

/// One hangs up, and both know.
pub(crate) fn hang_up(caller: &mut Child, callee: &Child) -> Result<(), String> {
    caller.tell(&json!({"do": "hang_up"}))?;
    for phone in [&*caller, callee] {
        let ended = phone.wait("ended")?;
        if ended["reason"] != "hung_up" {
            return Err(format!("{}: the call ended: {}", phone.name, ended["reason"]));
        }
    }
    Ok(())
}

/// Nothing passes between the two for so long: neither sound nor what goes through the proxy. Afterwards they hear each other
/// again. Whether both have told of it.
pub(crate) fn cut(phones: [&mut Child; 2], proxy: &Proxy, time: Duration) -> Result<bool, String> {
    let [one, other] = phones;
    one.forget();
    other.forget();
    for on in [true, false] {
        proxy.cut(on);
        one.tell(&json!({"do": "cut", "on": on}))?;
        other.tell(&json!({"do": "cut", "on": on}))?;
        if on {
            thread::sleep(time);
        }
    }
    let noticed = one.tells_of_silence() && other.tells_of_silence();
    for phone in [one, other] {
        if phone.tells_of_silence() {
            phone.link("connected", PATIENCE)?;
        }
        flows(phone)?;
    }
    Ok(noticed)
}

/// Both are connected, and sound goes both ways: the middle of a call.
pub(crate) fn settled(phones: [&mut Child; 2]) -> Result<(), String> {
    for phone in phones {
        phone.link("connected", PATIENCE)?;
        flows(phone)?;
    }
    Ok(())
}

/// One of the two stands still for so long, and the call goes on. Whether the other one has told of it.
pub(crate) fn stop(stopped: &mut Child, other: &mut Child, time: Duration) -> Result<bool, String> {
    stopped.forget();
    other.forget();
    stopped.stop_for(time)?;
    // Who stood still may find all that it missed at once, and notice nothing.
    let noticed = other.tells_of_silence();
    if noticed {
        other.link("connected", PATIENCE)?;
    }
    for phone in [stopped, other] {
        flows(phone)?;
    }
    Ok(noticed)
}

/// Waits until sound comes: fifty packets, which are a second.
fn flows(phone: &mut Child) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    let first = phone.sample()?;
    let count = |sample: &Value| sample["sound"]["received"].as_u64().unwrap_or_default();
    loop {
        let now = phone.sample()?;
        // After devices were opened anew they begin anew.
        let more = count(&now).checked_sub(count(&first)).unwrap_or_else(|| count(&now));
        if more >= 50 {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(format!("{}: no sound comes; before {first}, now {now}", phone.name));
        }
        // The figures are made once a second.
        thread::sleep(Duration::from_millis(200));
    }
}

/// That somebody is gone is noticed, and who is left hangs up.
pub(crate) fn bereaved(left: &mut Child) -> Result<(), String> {
    left.link("reconnecting", NOTICED)?;
    left.tell(&json!({"do": "hang_up"}))?;
    left.wait("ended").map(drop)
}
