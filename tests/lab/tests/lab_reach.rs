//! Two who know only a bootstrap node's address and a key call, wherever they sit. Run by `make test-lab`, as root; ignored
//! otherwise.

#![cfg(target_os = "linux")]

use std::{
    net::IpAddr,
    thread,
    time::{Duration, SystemTime},
};

use blink_lab::{
    Bootstrap, Conditions, Error, Found, Host, Key, Lab, Names, Nat, Phone, Relay, Talk, sound::Moment, unix,
};

/// Milliseconds one way between two homes: enough for every round trip that is one too many to show. To what is in between
/// it is half.
const DELAY: u64 = 50;
/// ITU-T G.114 calls a longer one-way delay unacceptable.
const WORST_DELAY: f64 = 0.4;
/// How long they talk.
const TALK: f64 = 6.0;
/// What a start, a call or an end may take: ten times what they take on a busy machine with two cores.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where somebody sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    /// Every address is everybody's to reach.
    Open,
    /// As [`Seat::Open`], without IPv4.
    V6,
    /// Behind a router.
    Behind(Nat),
}

/// How sound is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sound {
    Straight,
    /// By who helps.
    Relayed,
}

/// Who helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Help {
    /// The bootstrap node, and a real coturn.
    Coturn,
    /// The bootstrap node, which is a relay for signals, and for the sound of these two.
    Relay,
}

struct World {
    lab: Lab,
    caller: Host,
    callee: Host,
    middle: Host,
    bootstrap: Bootstrap,
    turn: Option<(Host, Relay)>,
    seats: [Seat; 2],
    keys: [Key; 2],
}

fn sit(lab: &Lab, seat: Seat, name: &str) -> Result<Host, Error> {
    match seat {
        Seat::Open => lab.host(name),
        Seat::V6 => {
            let mut host = lab.host(name)?;
            host.only_v6().map(|()| host)
        }
        Seat::Behind(nat) => lab.host_behind(nat, name),
    }
}

impl World {
    fn new(seats: [Seat; 2], help: Help) -> Result<Self, Error> {
        let lab = Lab::new(1)?;
        let [caller, callee] = [sit(&lab, seats[0], "a")?, sit(&lab, seats[1], "b")?];
        lab.link(&caller, &callee, &Conditions::delayed(DELAY));
        let public = |name: &str| -> Result<Host, Error> {
            let host = lab.host(name)?;
            for end in [&caller, &callee] {
                lab.link(end, &host, &Conditions::delayed(DELAY / 2));
            }
            Ok(host)
        };
        let middle = public("p")?;
        let keys = [Key::new(&lab, "caller")?, Key::new(&lab, "callee")?];
        // Of one family, which is that of those who have no other.
        let turn = match seats.contains(&Seat::V6) {
            true => middle.v6(1).into(),
            false => middle.v4(1).into(),
        };
        let friends = (help == Help::Relay).then_some((turn, &keys[..]));
        let bootstrap = Bootstrap::start(&lab, &middle, friends)?;
        let turn = match help {
            Help::Coturn => {
                let host = public("t")?;
                let relay = Relay::start(&lab, &host)?;
                Some((host, relay))
            }
            Help::Relay => None,
        };
        Ok(Self { lab, caller, callee, middle, bootstrap, turn, seats, keys })
    }

    /// What the caller (0) or the callee (1) knows: who it is, a bootstrap node's address, and what servers there are.
    fn known(&self, side: usize) -> Vec<String> {
        let seat = self.seats[side];
        let of = |host: &Host| -> IpAddr {
            match seat {
                Seat::V6 => host.v6(1).into(),
                Seat::Open | Seat::Behind(_) => host.v4(1).into(),
            }
        };
        let option = |name: &str, value: String| [name.to_owned(), value];
        let mut out = Vec::from(self.keys[side].option());
        for address in self.bootstrap.at(of(&self.middle)) {
            out.extend(option("--bootstrap", address));
        }
        let Some((host, relay)) = &self.turn else {
            out.extend(option("--turn-friend", self.bootstrap.did().to_owned()));
            return out;
        };
        let at = match of(host) {
            IpAddr::V4(ip) => format!("{ip}:3478"),
            IpAddr::V6(ip) => format!("[{ip}]:3478"),
        };
        let [user, password] = relay.login();
        out.extend(option("--stun", format!("stun:{at}")));
        for url in [format!("turn:{at}"), format!("turn:{at}?transport=tcp")] {
            out.extend(option("--turn", format!("{url},{user},{password}")));
        }
        out
    }

    /// The callee is there, and can be reached. Then it is called.
    fn call(&self) -> Result<Talk, Error> {
        let callee = Talk::callee(&self.lab, &self.callee, &self.known(1))?;
        findable(&callee)?;
        Talk::call(&self.lab, &self.caller, callee, &self.known(0))
    }

    /// What went between each two hosts, for a note.
    fn packets(&self) -> String {
        let both = |one: &Host, other: &Host| {
            self.lab.counters(one, other).entered + self.lab.counters(other, one).entered
        };
        let mut out = format!("packets straight {}", both(&self.caller, &self.callee));
        let mut with = |name: &str, host: &Host| {
            out += &format!(", {name} {} {}", both(&self.caller, host), both(&self.callee, host));
        };
        with("bootstrap", &self.middle);
        if let Some((host, _)) = &self.turn {
            with("coturn", host);
        }
        out
    }
}

/// Waits until others can reach a phone, and are told so by the bootstrap node.
fn findable(phone: &Phone) -> Result<(), Error> {
    phone.reachable()?;
    phone.published()
}

/// Lets the call go on. Nothing is waited for: the sound of this time is what is listened to.
fn talk_for(seconds: f64) {
    thread::sleep(Duration::from_secs_f64(seconds));
}

/// How the caller's node is connected with the callee's, as far as it has told.
fn signals(caller: &Phone) -> String {
    let lines = caller.process().lines();
    let via = lines.iter().filter(|line| line["event"] == "reached").filter_map(|line| line["via"].as_str());
    via.collect::<Vec<_>>().join(", then ")
}

/// How sound goes, by the packets, and what each side says of its own end.
fn media(world: &World, talk: &Talk) -> String {
    let [caller, callee] = talk.phones.each_ref().map(|phone| phone.stat("route"));
    let [Some(caller), Some(callee)] = [caller.as_str(), callee.as_str()] else { return String::new() };
    let count = |host: &Host| world.lab.counters(&world.caller, host).entered;
    let (name, server) = world.turn.as_ref().map_or(("relay", &world.middle), |(host, _)| ("coturn", host));
    // Sound is fifty packets a second, more than all signals together.
    let relayed = count(server) > count(&world.callee);
    format!("{} ({caller}, {callee})", if relayed { name } else { "straight" })
}

fn since(from: Option<f64>, to: Option<f64>) -> Option<f64> {
    Some(to? - from?)
}

/// All that both told, from the moment on in which the caller was ready.
fn story(talk: &Talk) -> String {
    talk.story(talk.phones[0].when("ready").unwrap_or_default())
}

/// The row of a call, as far as it has come.
fn row(name: &str, world: &World, talk: &Talk) -> Found {
    let [caller, callee] = &talk.phones;
    Found {
        name: name.into(),
        with: if world.turn.is_some() { "blink relay and coturn" } else { "blink relay alone" }.into(),
        reached: since(caller.when("ready"), caller.when("reached")),
        ring: since(caller.when("offering"), callee.when("incoming")),
        sound: [caller, callee].map(|phone| since(callee.when("accepted"), phone.when("first_audio"))),
        signals: signals(caller),
        media: media(world, talk),
        note: String::new(),
    }
}

/// Both ears have heard what the other side has said, between these times and not too late.
fn heard(moments: &[Vec<Moment>; 2], from: f64, until: f64) {
    for (side, moments) in ["caller", "callee"].iter().zip(moments) {
        let heard: Vec<_> = moments.iter().filter(|m| (from..until).contains(&m.at)).collect();
        // A moment each 20 ms but in pauses, which are less than a quarter of the time.
        let wanted = ((until - from) / 0.02 * 0.5) as usize;
        assert!(heard.len() >= wanted, "the {side} has heard {} moments of {wanted}", heard.len());
        let worst = heard.iter().map(|m| m.delay).fold(0.0, f64::max);
        assert!(worst < WORST_DELAY, "the {side} heard it {worst:.3} s late");
    }
}

/// Waits until both hear each other, and tells all if they do not.
fn both_hear(world: &World, talk: &Talk) {
    let connected = talk.heard();
    if connected.is_err() {
        println!("{}\n{}", story(talk), world.packets());
    }
    connected.expect("they hear each other");
}

/// A call from one seat to another.
fn connects(name: &str, seats: [Seat; 2], help: Help, sound: Sound) {
    let world = World::new(seats, help).expect("a lab");
    let talk = world.call().expect("the phones start");
    talks(name, &world, talk, sound);
}

/// Both hear each other, in that way and warned of no server, and hang up in order.
fn talks(name: &str, world: &World, mut talk: Talk, sound: Sound) {
    both_hear(world, &talk);
    let from = unix(SystemTime::now());
    // That a server does not answer is known when gathering has had its time, which is ten seconds.
    talk_for(if world.seats.contains(&WITHOUT_UDP) { 2.0 * TALK } else { TALK });
    let mut row = row(name, world, &talk);
    let standing = talk.phones.each_ref().map(Phone::standing);
    row.note = format!("nodes {}; {}", standing.join(" and "), world.packets());
    let heard_by = talk.hang_up().expect("something to listen to");
    println!("{}", story(&talk));
    let straight = row.media.starts_with("straight");
    let lines = talk.phones.iter().flat_map(|phone| phone.process().lines());
    let warned = lines.filter(|line| line["kind"] == "server_failed").map(|line| line.to_string());
    let warned: Vec<String> = warned.collect();
    row.report().expect("the table can be written");
    heard(&heard_by.moments, from, heard_by.until);
    assert_eq!(heard_by.fault, None);
    assert_eq!(straight, sound == Sound::Straight, "sound goes another way");
    assert_eq!(warned, [""; 0], "a server that does what it is there for is told of");
}

const OPEN: Seat = Seat::Open;
const CONE: Seat = Seat::Behind(Nat::Cone);
const SYMMETRIC: Seat = Seat::Behind(Nat::Symmetric);
const WITHOUT_UDP: Seat = Seat::Behind(Nat::WithoutUdp);

macro_rules! rows {
    ($($test:ident: $name:literal, $seats:expr, $help:expr, $sound:expr;)*) => {$(
        #[test]
        #[ignore = "needs root: `make test-lab`"]
        fn $test() {
            connects($name, $seats, $help, $sound);
        }
    )*};
}

rows! {
    open_to_open_with_coturn: "open - open", [OPEN, OPEN], Help::Coturn, Sound::Straight;
    cone_to_cone_with_coturn: "cone - cone", [CONE, CONE], Help::Coturn, Sound::Straight;
    cone_to_symmetric_with_coturn: "cone - symmetric", [CONE, SYMMETRIC], Help::Coturn, Sound::Relayed;
    symmetric_to_symmetric_with_coturn: "symmetric - symmetric", [SYMMETRIC, SYMMETRIC], Help::Coturn, Sound::Relayed;
    a_caller_without_udp_with_coturn: "cone without UDP - cone", [WITHOUT_UDP, CONE], Help::Coturn, Sound::Relayed;
    ipv6_alone_with_coturn: "IPv6 alone", [Seat::V6, Seat::V6], Help::Coturn, Sound::Straight;
    open_to_open_with_a_relay: "open - open", [OPEN, OPEN], Help::Relay, Sound::Straight;
    cone_to_cone_with_a_relay: "cone - cone", [CONE, CONE], Help::Relay, Sound::Straight;
    cone_to_symmetric_with_a_relay: "cone - symmetric", [CONE, SYMMETRIC], Help::Relay, Sound::Relayed;
    symmetric_to_symmetric_with_a_relay: "symmetric - symmetric", [SYMMETRIC, SYMMETRIC], Help::Relay, Sound::Relayed;
    a_caller_without_udp_with_a_relay: "cone without UDP - cone", [WITHOUT_UDP, CONE], Help::Relay, Sound::Relayed;
    ipv6_alone_with_a_relay: "IPv6 alone", [Seat::V6, Seat::V6], Help::Relay, Sound::Straight;
}

/// The callee is called before its record is out, which is a second after it has a place: the caller asks again.
#[test]
#[ignore = "needs root: `make test-lab`"]
fn who_is_called_as_soon_as_a_relay_keeps_a_place_is_found() {
    let world = World::new([CONE, CONE], Help::Coturn).expect("a lab");
    let callee = Talk::callee(&world.lab, &world.callee, &world.known(1)).expect("the callee's phone starts");
    callee.reachable().expect("it can be reached");
    let talk = Talk::call(&world.lab, &world.caller, callee, &world.known(0)).expect("the phones start");
    talks("cone - cone, called at once", &world, talk, Sound::Straight);
}

/// A router that opens ports on request (UPnP) makes a phone as easy to reach as one in the open: no relay keeps a place for it, and who calls
/// dials it straight.
#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_router_that_opens_ports_is_asked_and_whoever_is_behind_it_is_dialed_straight() {
    let world = World::new([SYMMETRIC, Seat::Behind(Nat::OpensPorts)], Help::Coturn).expect("a lab");
    let known = [world.known(1), vec!["--upnp".to_owned()]].concat();
    let callee = Talk::callee(&world.lab, &world.callee, &known).expect("the callee's phone starts");
    let public = callee.process().wait_for_last("node", PATIENCE, |line| line["state"] == "public");
    public.expect("everybody reaches it");
    callee.published().expect("it says so");
    let talk = Talk::call(&world.lab, &world.caller, callee, &world.known(0)).expect("the phones start");
    both_hear(&world, &talk);
    assert_eq!(signals(&talk.phones[0]), "direct");
    talks("symmetric - router that opens ports", &world, talk, Sound::Relayed);
}

/// A name stands for all addresses of a bootstrap node (`/dnsaddr`): what the texts of it say, which a real DNS server gives.
#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_bootstrap_node_is_known_by_name_alone() {
    let world = World::new([OPEN, OPEN], Help::Coturn).expect("a lab");
    let addresses = world.bootstrap.at(world.middle.v4(1).into());
    let texts: Vec<String> = addresses.iter().map(|address| format!("dnsaddr={address}")).collect();
    let names =
        Names::start(&world.lab, &world.middle, "_dnsaddr.boot.example", &texts).expect("a DNS server");
    let (_, node) = addresses[0].rsplit_once('/').expect("a node");
    let known = [0, 1].map(|end| {
        let mut known = Vec::from(world.keys[end].option());
        known.extend(["--bootstrap".to_owned(), format!("/dnsaddr/boot.example/p2p/{node}")]);
        known
    });
    for host in [&world.caller, &world.callee] {
        host.resolves_at(names.address()).expect("a resolver");
    }
    let callee = Talk::callee(&world.lab, &world.callee, &known[1]).expect("the callee's phone starts");
    findable(&callee).expect("it can be reached");
    let talk = Talk::call(&world.lab, &world.caller, callee, &known[0]).expect("the phones start");
    talks("open - open, by name", &world, talk, Sound::Straight);
}

/// What both hosts exchanged straight, by the addresses of the packets.
fn straight(world: &World) -> Vec<(IpAddr, IpAddr)> {
    let ends = |(from, to): &(IpAddr, IpAddr)| {
        let one = |a: &Host, b: &Host| a.may_have(*from) && b.may_have(*to);
        one(&world.caller, &world.callee) || one(&world.callee, &world.caller)
    };
    world.lab.seen().into_keys().filter(ends).collect()
}

/// The callee is told that a relay keeps a place for it, since a caller who shows no address can reach it only there.
fn relay_only(name: &str, hidden: &[usize], help: Help) -> World {
    let world = World::new([OPEN, OPEN], help).expect("a lab");
    let more: [Vec<String>; 2] = std::array::from_fn(|end| {
        let mut known = world.known(end);
        for address in world.bootstrap.at(world.middle.v4(1).into()) {
            known.extend(["--relay".to_owned(), address]);
        }
        known.extend(hidden.contains(&end).then(|| "--relay-only".to_owned()));
        known
    });
    let callee = Talk::callee(&world.lab, &world.callee, &more[1]).expect("the callee's phone starts");
    let mut talk = findable(&callee)
        .and_then(|()| Talk::call(&world.lab, &world.caller, callee, &more[0]))
        .expect("the phones start");
    both_hear(&world, &talk);
    let from = unix(SystemTime::now());
    talk_for(TALK);
    let mut row = row(name, &world, &talk);
    row.note = world.packets();
    row.report().expect("the table can be written");
    let end = talk.hang_up().expect("something to listen to");
    println!("{}", story(&talk));
    heard(&end.moments, from, end.until);
    assert_eq!(end.fault, None);
    drop(talk);
    world
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn who_shows_no_address_sends_no_packet_to_the_other_end() {
    let shown = relay_only("both show theirs", &[], Help::Coturn);
    assert!(!straight(&shown).is_empty(), "those who show theirs meet straight, and that is seen");
    for (name, side) in [("the caller shows no address", 0), ("the callee shows no address", 1)] {
        hides(&relay_only(name, &[side], Help::Coturn), &[side]);
    }
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn two_who_show_no_address_hear_each_other_by_a_friend_who_relays() {
    hides(&relay_only("neither shows an address", &[0, 1], Help::Relay), &[0, 1]);
}

/// Nothing went between the two hosts, and nobody but those that were named heard from the hidden ones, or spoke to them.
fn hides(world: &World, hidden: &[usize]) {
    assert_eq!(straight(world), [], "between the two");
    let turn = world.turn.as_ref().map(|(turn, _)| turn);
    let named = |address: IpAddr| {
        [Some(&world.middle), turn].into_iter().flatten().any(|host| host.may_have(address))
    };
    for side in hidden {
        let hidden = [&world.caller, &world.callee][*side];
        for (from, to) in world.lab.seen().into_keys() {
            let other = [(from, to), (to, from)].into_iter().find(|(end, _)| hidden.may_have(*end));
            assert!(other.is_none_or(|(_, other)| named(other)), "{from} has sent to {to}");
        }
    }
}

/// Sound must go on when the node in the middle dies.
fn bootstrap_dies(name: &str, seats: [Seat; 2]) {
    let mut world = World::new(seats, Help::Coturn).expect("a lab");
    let mut talk = world.call().expect("the phones start");
    both_hear(&world, &talk);
    talk_for(3.0);
    let died = unix(SystemTime::now());
    world.bootstrap.kill();
    talk_for(15.0);
    let row = row(&format!("{name}, bootstrap dies"), &world, &talk);
    let goes_on = talk.goes_on();
    let end = talk.hang_up().expect("something to listen to");
    println!("{}", talk.story(died));
    row.report().expect("the table can be written");
    goes_on.expect("the call goes on");
    heard(&end.moments, died + 10.0, died + 15.0);
    assert_eq!(end.fault, None);
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_between_open_hosts_goes_on_without_the_bootstrap_node() {
    bootstrap_dies("open - open", [OPEN, OPEN]);
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_between_cones_goes_on_without_the_bootstrap_node() {
    bootstrap_dies("cone - cone", [CONE, CONE]);
}

/// Here the signals have lost their only way.
#[test]
#[ignore = "needs root: `make test-lab`"]
fn a_call_between_symmetric_routers_goes_on_without_the_bootstrap_node() {
    bootstrap_dies("symmetric - symmetric", [SYMMETRIC, SYMMETRIC]);
}

/// The caller's phone starts anew for the second call, and remembers where the callee was.
#[test]
#[ignore = "needs root: `make test-lab`"]
fn who_has_moved_between_two_calls_is_found_again() {
    let mut world = World::new([OPEN, OPEN], Help::Coturn).expect("a lab");
    let mut known = world.known(0);
    let answer: Vec<String> = ["answer".to_owned()].into_iter().chain(world.known(1)).collect();
    let callee =
        Phone::start(&world.lab, &world.callee, "callee", 2, &answer).expect("the callee's phone starts");
    let ready = callee.process().wait_for("ready", PATIENCE).expect("it is ready");
    let key = ready["did"].as_str().expect("a key").to_owned();
    findable(&callee).expect("it can be reached");
    known.extend(["--store".to_owned(), world.lab.directory().join("caller-store").display().to_string()]);
    known.extend(["--duration".to_owned(), "8".into()]);
    for (number, at) in [(1, world.callee.v4(1)), (2, world.callee.v4(2))] {
        if number == 2 {
            callee.process().forget();
            world.callee.change(2).expect("another address");
            callee.published().expect("it says where it is now");
        }
        let call: Vec<String> =
            ["call".to_owned(), key.clone()].into_iter().chain(known.iter().cloned()).collect();
        let name = format!("caller-{number}");
        let mut caller = Phone::start(&world.lab, &world.caller, &name, 1, &call).expect("it starts");
        let heard = caller.process().wait_for("first_audio", PATIENCE);
        let told = caller.process().lines();
        let reached = told.iter().find(|line| line["event"] == "reached").cloned();
        println!("call {number}: {}", reached.unwrap_or_default());
        heard.expect("the caller hears the callee");
        callee.process().wait_for("first_audio", PATIENCE).expect("the callee hears the caller");
        let there = |(from, to): &(IpAddr, IpAddr)| world.caller.may_have(*from) && *to == IpAddr::from(at);
        assert!(world.lab.seen().keys().any(there), "sound goes to {at}");
        assert_eq!(caller.end(PATIENCE), Some(0), "call {number}");
    }
}
