//! The lab itself: what is measured in it is worth as much as it is. Run by `make test-lab`, as root; ignored otherwise.

#![cfg(target_os = "linux")]

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use blink_lab::{Conditions, Error, Host, Lab, Nat, packet::Protocol};

/// Ends a test that hangs, and is long enough for every packet that is on its way.
const PATIENCE: Duration = Duration::from_millis(500);

fn sockets(host: &Host, addresses: Vec<SocketAddr>) -> Vec<UdpSocket> {
    let bind = move || addresses.into_iter().map(UdpSocket::bind).collect::<Result<Vec<_>, _>>();
    let thread = host.run(bind).expect("a thread");
    let sockets =
        thread.join().expect("no panic").expect("the host's network").expect("the address is there");
    for socket in &sockets {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    sockets
}

fn socket(host: &Host, ip: impl Into<IpAddr>) -> UdpSocket {
    sockets(host, vec![(ip.into(), 0).into()]).remove(0)
}

/// Sends one packet and returns how long it took and whom it seems to be from.
fn carry(from: &UdpSocket, to: &UdpSocket) -> Option<(Duration, SocketAddr)> {
    carry_to(from, to, to.local_addr().expect("bound"))
}

fn carry_to(from: &UdpSocket, to: &UdpSocket, address: SocketAddr) -> Option<(Duration, SocketAddr)> {
    let begin = Instant::now();
    from.send_to(b"x", address).ok()?;
    let mut buffer = [0; 10];
    let (_, source) = to.recv_from(&mut buffer).ok()?;
    Some((begin.elapsed(), source))
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn packets_of_both_families_take_their_time() {
    let lab = Lab::new(1).expect("a lab");
    let (a, b) = (lab.host("a").expect("a host"), lab.host("b").expect("a host"));
    lab.one_way(&a, &b, Conditions::delayed(80));
    let four = (socket(&a, a.v4(1)), socket(&b, b.v4(1)));
    let six = (socket(&a, a.v6(1)), socket(&b, b.v6(1)));
    for (at_a, at_b) in [&four, &six].map(|(at_a, at_b)| (at_a, at_b)) {
        let (there, _) = carry(at_a, at_b).expect("it arrives");
        let (back, _) = carry(at_b, at_a).expect("it arrives");
        assert!(there >= Duration::from_millis(80), "{there:?}");
        assert!(back < there, "{back:?} without a delay, {there:?} with one");
        println!("80 ms take {there:?}, nothing takes {back:?}");
    }
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn addresses_come_and_go_and_an_outage_ends() {
    let lab = Lab::new(1).expect("a lab");
    let (mut a, b) = (lab.host("a").expect("a host"), lab.host("b").expect("a host"));
    let to = socket(&b, b.v4(1));
    a.add(2).expect("a second address");
    let second = socket(&a, a.v4(2));
    assert!(carry(&second, &to).is_some());
    lab.reach(a.v4(2).into(), false);
    assert_eq!(carry(&second, &to), None, "it is out of reach");
    lab.reach(a.v4(2).into(), true);
    assert!(carry(&second, &to).is_some());

    let when = a.change(3).expect("another network");
    assert!(when <= SystemTime::now());
    assert_eq!(carry(&second, &to), None, "its address is gone");
    let third = [socket(&a, a.v4(3)), socket(&a, a.v6(3))];
    assert!(carry(&third[0], &to).is_some());
    assert!(carry(&third[1], &socket(&b, b.v6(1))).is_some());

    lab.block(&a, &b, Protocol::Udp, true);
    assert_eq!(carry(&third[0], &to), None, "UDP does not pass");
    lab.block(&a, &b, Protocol::Udp, false);
    lab.outage(&a, &b, PATIENCE);
    // Waiting for what does not come takes as long as the outage.
    assert_eq!(carry(&third[0], &to), None, "the link is down");
    assert!(carry(&third[0], &to).is_some());
    assert_eq!(lab.counters(&a, &b).down, 1);
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn routers_translate_as_they_should() {
    for (nat, same) in [(Nat::Cone, true), (Nat::Symmetric, false)] {
        let lab = Lab::new(1).expect("a lab");
        let inside = lab.host_behind(nat, "a").expect("a host");
        let public = lab.host("p").expect("a host");
        let from = socket(&inside, IpAddr::from([192, 168, 1, 2]));
        let port = from.local_addr().expect("bound").port();
        let listening: Vec<_> = (0..4).map(|_| socket(&public, public.v4(1))).collect();
        let seen: Vec<_> = listening.iter().map(|to| carry(&from, to).expect("it goes out").1).collect();
        assert!(seen.iter().all(|source| source.ip() == IpAddr::from(inside.v4(1))), "{nat:?}: {seen:?}");
        // Four ports that are drawn at random and all the same as the own one would be a wonder.
        assert_eq!(seen.iter().all(|source| source.port() == port), same, "{nat:?}: {port} as {seen:?}");
        assert!(carry_to(&listening[0], &from, seen[0]).is_some(), "{nat:?}: an answer comes in");
        let stranger = socket(&public, public.v4(1));
        assert_eq!(carry_to(&stranger, &from, seen[0]), None, "{nat:?}: nobody else does");
    }
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn holes_are_punched_through_two_cones_and_not_without_udp() {
    for (nat, through) in [(Nat::Cone, true), (Nat::WithoutUdp, false)] {
        let lab = Lab::new(1).expect("a lab");
        let (a, b) = (lab.host_behind(nat, "a").expect("a host"), lab.host_behind(nat, "b").expect("a host"));
        let own: SocketAddr = ([192, 168, 1, 2], 7000).into();
        let (at_a, at_b) = (sockets(&a, vec![own]).remove(0), sockets(&b, vec![own]).remove(0));
        let (outside_a, outside_b) = ((a.v4(1), 7000).into(), (b.v4(1), 7000).into());
        assert_eq!(carry_to(&at_a, &at_b, outside_b), None, "nobody has asked for this one");
        assert_eq!(carry_to(&at_b, &at_a, outside_a).is_some(), through, "{nat:?}");
        assert_eq!(carry_to(&at_a, &at_b, outside_b).is_some(), through, "{nat:?}");
    }
}

fn namespaces() -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn nothing_is_left_of_a_lab_not_even_of_a_killed_one() {
    let own = format!("blink-lab-{}-", std::process::id());
    let lab = Lab::new(1).expect("a lab");
    let host = lab.host("left").expect("a host");
    let ours =
        |names: Vec<String>| names.into_iter().find(|name| name.starts_with(&own) && name.ends_with("-left"));
    let name = ours(namespaces()).expect("it is there");
    let log = lab.directory().join("log");
    let mut sleeper = host.spawn(Path::new("sleep"), &["600".into()], &log).expect("sleep");
    assert_eq!(sleeper.end(Duration::ZERO), None, "a signal ends it");
    let directory = lab.directory().to_path_buf();
    drop((host, lab));
    assert!(!namespaces().contains(&name) && !directory.exists());

    // As a killed one leaves it: a process that has ended has a number that nobody has.
    let mut ended = Command::new("true").spawn().expect("a process");
    ended.wait().expect("it ends");
    let left = format!("blink-lab-{}-0-a", ended.id());
    let made = Command::new("ip").args(["netns", "add", &left]).status().expect("ip");
    assert!(made.success() && namespaces().contains(&left));
    let _lab: Result<Lab, Error> = Lab::new(1);
    assert!(!namespaces().contains(&left));
}
