//! Calls of the `blink` command through the lab. Run by `make test-lab`, as root; they are ignored otherwise.

#![cfg(target_os = "linux")]

use std::{
    thread,
    time::{Duration, SystemTime},
};

use blink_lab::{
    Bursts, Conditions, Error, Heard, Host, Jitter, Lab, Relay, Row, Signals, Talk,
    packet::Protocol,
    sound::{Gap, delay, longest_gap},
    unix,
};

/// Milliseconds one way: enough for every round trip that is one too many to show.
const DELAY: u64 = 50;
/// ITU-T G.114 calls a longer one-way delay unacceptable. It is four times what a call has here.
const WORST_DELAY: f64 = 0.4;

struct World {
    lab: Lab,
    caller: Host,
    callee: Host,
}

impl World {
    fn new() -> Result<Self, Error> {
        Self::with(&Conditions::delayed(DELAY))
    }

    fn with(conditions: &Conditions) -> Result<Self, Error> {
        let lab = Lab::new(1)?;
        let (caller, callee) = (lab.host("a")?, lab.host("b")?);
        lab.link(&caller, &callee, conditions);
        Ok(Self { lab, caller, callee })
    }

    fn talk(&self, signals: Signals, more: &[String]) -> Result<Talk, Error> {
        Talk::begin(&self.lab, [&self.caller, &self.callee], signals, [more, more])
    }

    /// Media over IPv4, to which something will happen, and signals over IPv6, which will not notice.
    fn talk_on_v4(&self) -> Result<Talk, Error> {
        let only = |host: &Host| -> Vec<String> {
            [1, 2].into_iter().flat_map(|k| ["--ice-ip".to_owned(), host.v4(k).to_string()]).collect()
        };
        let (caller, callee) = (only(&self.caller), only(&self.callee));
        Talk::begin(&self.lab, [&self.caller, &self.callee], Signals::Tcp6, [&caller, &callee])
    }
}

/// Lets the call go on. Nothing is waited for: the sound of this time is what is measured.
fn talk_for(seconds: f64) {
    thread::sleep(Duration::from_secs_f64(seconds));
}

/// What both ears tell of something that happened to the call: how long after `end` sound was back that had gone away
/// after `begin`, and the delays around it.
fn row(name: &str, talk: &Talk, heard: &Heard, begin: f64, end: f64) -> Row {
    let signals = talk.signalled().map(|at| at - end);
    let mut row = Row { name: name.into(), signals, ..Row::default() };
    for (side, moments) in heard.moments.iter().enumerate() {
        row.before[side] = delay(moments, begin - 5.0, begin);
        let Some(back) = longest_gap(moments, begin, heard.until).back else { continue };
        row.back[side] = Some(back - end);
        row.at_once[side] = delay(moments, back, back + 1.0);
        row.later[side] = delay(moments, back + 5.0, back + 8.0);
    }
    row
}

/// The call went on, and both ears heard something again within `most` seconds, late by no more than they should.
fn expect(row: &Row, talk: &Talk, heard: &Heard, begin: f64, most: f64) {
    println!("{}", talk.story(begin));
    row.report().expect("the table can be written");
    for side in 0..2 {
        let back = row.back[side].expect("audio comes back");
        assert!(back < most, "audio is back after {back:.2} s");
        let later = row.later[side].expect("audio stays");
        assert!(later < WORST_DELAY, "{later:.3} s late");
    }
    assert_eq!(heard.fault, None);
}

/// A call to which nothing happens: the delays of its first and of its later seconds.
fn undisturbed(name: &str, talk: &mut Talk) {
    let begin = unix(SystemTime::now());
    talk_for(15.0);
    let route = talk.phones[0].stat("route");
    let heard = talk.hang_up().expect("something to listen to");
    let note = format!("{} path", route.as_str().unwrap_or("unknown"));
    let mut row = Row { name: name.into(), note, ..Row::default() };
    for (side, moments) in heard.moments.iter().enumerate() {
        row.before[side] = delay(moments, begin, begin + 5.0);
        row.later[side] = delay(moments, begin + 5.0, begin + 15.0);
    }
    row.report().expect("the table can be written");
    for (side, moments) in heard.moments.iter().enumerate() {
        let late = row.later[side].expect("audio is heard");
        assert!((DELAY as f64 / 1000.0..WORST_DELAY).contains(&late), "{late:.3} s late");
        let Gap { gone, back, .. } = longest_gap(moments, begin + 2.0, heard.until);
        let silent = back.unwrap_or(heard.until) - gone;
        assert!(silent < 1.0, "nothing is heard for {silent:.2} s");
    }
    assert_eq!(heard.fault, None);
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_clean_call_of_50_ms_is_heard_without_gaps() {
    let world = World::new().expect("a lab");
    let mut talk = world.talk(Signals::Tcp, &[]).expect("a call");
    undisturbed("50 ms, clean", &mut talk);
}

/// A path that loses packets all the time, 50 ms long and uneven by 5 ms, as docs/audio-quality.md scores it: what is lost comes
/// back from redundancy, and nobody waits for what is sent again (a round trip of 100 ms would show in the delay). `made_up` is
/// the most that may be concealed, in percent.
fn weak_radio(name: &str, losses: &Conditions, made_up: f64) {
    let jitter = Jitter::Normal(Duration::from_millis(5));
    let path = Conditions { jitter, ..losses.clone() };
    let world = World::with(&path).expect("a lab");
    let mut talk = world.talk(Signals::Tcp, &[]).expect("a call");
    // Redundancy begins with the first reports, and the delay is settled some seconds later.
    talk_for(10.0);
    let begin = unix(SystemTime::now());
    talk_for(20.0);
    let stats = talk.phones.each_ref().map(|phone| {
        ["concealed_pct", "jitter_buffer_ms", "loss_pct"]
            .map(|field| phone.stat(field).as_f64().unwrap_or(f64::NAN))
    });
    let heard = talk.hang_up().expect("something to listen to");
    let [caller, callee] = stats.map(|[concealed, buffer, lost]| {
        format!("{concealed:.1} % made up of {lost:.0} % lost, buffer {buffer:.0} ms")
    });
    let mut row = Row { name: name.into(), note: format!("{caller}; {callee}"), ..Row::default() };
    for (side, moments) in heard.moments.iter().enumerate() {
        row.later[side] = delay(moments, begin, begin + 20.0);
    }
    row.report().expect("the table can be written");
    for (late, [concealed, ..]) in row.later.into_iter().zip(stats) {
        let late = late.expect("audio is heard");
        assert!(late < MOST_WITH_REDUNDANCY, "{late:.3} s late");
        assert!(concealed < made_up, "{concealed:.1} % had to be made up");
    }
    assert_eq!(heard.fault, None);
}

/// From mouth to ear on a path of 50 ms that loses packets: 105 ms without losses, 100 ms at most for copies (the policy's
/// longest span), and 25 for a busy machine. Waiting for what is sent again would be 105 + 130 and more.
const MOST_WITH_REDUNDANCY: f64 = 0.230;

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_path_that_loses_10_percent_is_heard_in_time() {
    weak_radio("10 % lost", &Conditions { loss: 0.1, ..Conditions::delayed(DELAY) }, 4.0);
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_path_that_loses_20_percent_is_heard_in_time() {
    weak_radio("20 % lost", &Conditions { loss: 0.2, ..Conditions::delayed(DELAY) }, 8.0);
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_path_that_loses_10_percent_in_bursts_is_heard_in_time() {
    let bursts = Some(Bursts { mean: 0.1, length: 3.0 });
    weak_radio("10 % lost in bursts of 3", &Conditions { bursts, ..Conditions::delayed(DELAY) }, 8.0);
}

/// Audio must be back within `most` seconds after the outage. What is usual is in docs/lab.md; this is for a busy machine.
fn outage(seconds: u64, most: f64) {
    let world = World::new().expect("a lab");
    let mut talk = world.talk(Signals::Tcp, &[]).expect("a call");
    talk_for(8.0);
    let begin = unix(world.lab.outage(&world.caller, &world.callee, Duration::from_secs(seconds)));
    talk_for(seconds as f64);
    talk.signal().expect("the caller is there");
    talk_for(most + 10.0);
    let heard = talk.hang_up().expect("something to listen to");
    let row = row(&format!("outage of {seconds} s"), &talk, &heard, begin, begin + seconds as f64);
    expect(&row, &talk, &heard, begin, most);
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_survives_an_outage_of_1_s() {
    outage(1, 10.0);
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_survives_an_outage_of_5_s() {
    outage(5, 10.0);
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_survives_an_outage_of_33_s() {
    outage(33, 15.0);
}

fn change(side: usize, signals: Signals, name: &str) {
    let mut world = World::new().expect("a lab");
    let mut talk = match signals {
        Signals::Tcp6 => world.talk_on_v4(),
        _ => world.talk(signals, &[]),
    }
    .expect("a call");
    talk_for(8.0);
    let host = if side == 0 { &mut world.caller } else { &mut world.callee };
    let changed = if signals == Signals::Tcp6 { host.change_v4(2) } else { host.change(2) };
    let begin = unix(changed.expect("another address"));
    talk.signal().expect("the caller is there");
    talk_for(25.0);
    let heard = talk.hang_up().expect("something to listen to");
    expect(&row(name, &talk, &heard, begin, begin), &talk, &heard, begin, 10.0);
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_survives_another_address_of_the_caller_with_signals_over_tcp() {
    change(0, Signals::Tcp, "new address of the caller, TCP");
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_survives_another_address_of_the_caller_with_signals_over_quic() {
    change(0, Signals::Quic, "new address of the caller, QUIC");
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_survives_another_address_of_the_callee_with_signals_over_tcp() {
    change(1, Signals::Tcp, "new address of the callee, TCP");
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_survives_another_address_of_the_callee_with_signals_over_quic() {
    change(1, Signals::Quic, "new address of the callee, QUIC");
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_survives_another_address_of_the_caller_for_media_alone() {
    change(0, Signals::Tcp6, "new address of the caller, media alone");
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_survives_another_address_of_the_callee_for_media_alone() {
    change(1, Signals::Tcp6, "new address of the callee, media alone");
}

/// The host is told nothing, as a phone that walks away from its access point. Only silence says that the path is dead, and
/// nothing goes over to the other address but by a restart.
#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_survives_an_address_that_dies_silently() {
    let mut world = World::new().expect("a lab");
    let mut talk = world.talk_on_v4().expect("a call");
    talk_for(8.0);
    world.caller.add(2).expect("a second address");
    // The link must not take the new address for the reason to restart.
    talk_for(2.0);
    let begin = unix(SystemTime::now());
    world.lab.reach(world.caller.v4(1).into(), false);
    talk.signal().expect("the caller is there");
    talk_for(30.0);
    let heard = talk.hang_up().expect("something to listen to");
    expect(&row("address of the caller dies", &talk, &heard, begin, begin), &talk, &heard, begin, 15.0);
}

/// 25 ms to the relay from both sides, so that the relayed way is as long as the direct one of the other tests.
fn relayed(transport: usize, name: &str) {
    let world = World::new().expect("a lab");
    let public = world.lab.host("p").expect("a public host");
    for host in [&world.caller, &world.callee] {
        world.lab.link(host, &public, &Conditions::delayed(DELAY / 2));
    }
    // Signals go over TCP, media have no way but the relay.
    world.lab.block(&world.caller, &world.callee, Protocol::Udp, true);
    // Without this one side could send to the other one's relayed address, past its own connection to the relay.
    for host in [&world.caller, &world.callee].into_iter().filter(|_| transport > 0) {
        world.lab.block(host, &public, Protocol::Udp, true);
    }
    let relay = Relay::start(&world.lab, &public).expect("coturn");
    let server = [&relay.urls()[transport], relay.login()[0], relay.login()[1]].map(str::to_owned).join(",");
    let mut talk = world.talk(Signals::Tcp, &["--turn".to_owned(), server]).expect("a call");
    undisturbed(name, &mut talk);
    assert!(world.lab.counters(&world.caller, &public).entered > 500, "media went another way");
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_is_relayed_over_udp() {
    relayed(0, "relayed, UDP");
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_is_relayed_over_tcp() {
    relayed(1, "relayed, TCP");
}
