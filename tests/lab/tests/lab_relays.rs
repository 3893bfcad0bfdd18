//! One-way delay through coturn over UDP, TCP and TLS, for simple-webrtc alone: an app can trust a certificate that is made
//! for a test, the `blink` command cannot. Run by `make test-lab`, as root; ignored otherwise.

#![cfg(target_os = "linux")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use blink_lab::{Conditions, Host, Lab, Relay, Row, packet::Protocol};
use simple_webrtc::{
    Candidate, CandidateKind, Config, Description, DescriptionKind, EventKind, Frame, Generation, IceServer,
    LinkState, LocalTrack, Peers, Remote,
};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::{interval, timeout},
};

/// 25 ms to the relay and 25 ms from there.
const DELAY: u64 = 25;
/// Ends a test that hangs; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(30);
/// Packets of each side, 20 ms apart: six seconds.
const PACKETS: u32 = 300;
/// Samples between two packets.
const STEP: u32 = 960;
const FIRST: Generation = Generation(1);

enum Signal {
    Description(Description),
    Candidate(Candidate),
    Done,
}

/// What one side has done and seen.
struct Seen {
    connected: Duration,
    relayed: bool,
    sent: BTreeMap<u32, Instant>,
    arrived: BTreeMap<u32, Instant>,
}

/// One side, from its first to its last packet.
async fn live(
    config: Config,
    dials: bool,
    to: UnboundedSender<Signal>,
    mut from: UnboundedReceiver<Signal>,
) -> Seen {
    let (peers, mut events) = Peers::new(config).expect("inside a runtime");
    let track = LocalTrack::audio();
    peers.add_track(&track).expect("the first track");
    let begin = Instant::now();
    if dials {
        peers.dial("other", FIRST).expect("dial");
    }
    let (arrivals, mut arrived) = mpsc::unbounded_channel();
    let mut seen =
        Seen { connected: Duration::ZERO, relayed: false, sent: BTreeMap::new(), arrived: BTreeMap::new() };
    let mut tick = interval(Duration::from_millis(20));
    let mut next = None;
    while next.is_none_or(|n| n < PACKETS) {
        tokio::select! {
            event = events.recv() => match event.expect("an open stream").kind {
                EventKind::LocalDescription(own) => drop(to.send(Signal::Description(own))),
                EventKind::LocalCandidate(own) => drop(to.send(Signal::Candidate(own))),
                EventKind::GatheringDone => drop(to.send(Signal::Done)),
                EventKind::State(LinkState::Connected) => {
                    seen.connected = begin.elapsed();
                    next = Some(0);
                }
                EventKind::State(state) if state.is_final() => break,
                EventKind::RemoteTrack(mut track) => {
                    let arrivals = arrivals.clone();
                    tokio::spawn(async move {
                        while let Some(packet) = track.recv().await {
                            let _ = arrivals.send((packet.timestamp, packet.arrival));
                        }
                    });
                }
                _ => {}
            },
            Some(signal) = from.recv() => match signal {
                Signal::Description(offer) if offer.kind() == DescriptionKind::Offer => {
                    peers.accept("other", FIRST, offer)
                }
                Signal::Description(answer) => peers.apply(&"other", FIRST, Remote::Answer(answer)),
                Signal::Candidate(candidate) => peers.apply(&"other", FIRST, Remote::Candidate(candidate)),
                Signal::Done => peers.apply(&"other", FIRST, Remote::EndOfCandidates),
            }
            .expect("the other side's signals are in order"),
            _ = tick.tick(), if next.is_some() => {
                let n = next.unwrap_or_default();
                let timestamp = n * STEP;
                let frame = Frame { payload: vec![n as u8; 100].into(), timestamp, marker: n == 0, audio_level: None };
                seen.sent.insert(timestamp, Instant::now());
                track.write(frame).expect("it fits");
                next = Some(n + 1);
            }
        }
    }
    if let Some(stats) = peers.stats(&"other").await {
        seen.relayed =
            stats.route.is_some_and(|route| route.is_relayed() && route.local == CandidateKind::Relay);
    }
    while let Ok((timestamp, at)) = arrived.try_recv() {
        seen.arrived.insert(timestamp, at);
    }
    // The other side may have some to send.
    tokio::time::sleep(Duration::from_millis(500)).await;
    peers.shutdown().await;
    seen
}

/// The middle of the times of all packets that arrived, and how many did.
fn one_way(sender: &Seen, receiver: &Seen) -> (Duration, usize) {
    let times = receiver
        .arrived
        .iter()
        .filter_map(|(timestamp, at)| sender.sent.get(timestamp).map(|sent| at.duration_since(*sent)));
    let mut times: Vec<_> = times.collect();
    times.sort();
    (times.get(times.len() / 2).copied().unwrap_or_default(), times.len())
}

fn relayed(transport: usize, name: &str) {
    let lab = Lab::new(1).expect("a lab");
    let hosts = [lab.host("a").expect("a host"), lab.host("b").expect("a host")];
    let public = lab.host("p").expect("a public host");
    for host in &hosts {
        lab.link(host, &public, &Conditions::delayed(DELAY));
    }
    lab.block(&hosts[0], &hosts[1], Protocol::Udp, true);
    // Without this a host could send to the other one's relayed address, past its own connection to the relay.
    for host in hosts.iter().filter(|_| transport > 0) {
        lab.block(host, &public, Protocol::Udp, true);
    }
    let relay = Relay::start(&lab, &public).expect("coturn");
    let [user, password] = relay.login();
    let server = IceServer::turn(&relay.urls()[transport], user, password)
        .with_root(relay.certificate().expect("a certificate"));
    let config = || Config::builder().ice_server(server.clone()).relay_only(true).build().expect("valid");
    let ((to_b, from_a), (to_a, from_b)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let start = |host: &Host, dials, to, from| {
        let config = config();
        // All threads of the runtime are of the host: they are made by the one that is.
        let side = host.run(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let side = runtime.spawn(live(config, dials, to, from));
            runtime.block_on(async { timeout(PATIENCE, side).await.expect("it ends").expect("no panic") })
        });
        side.expect("a thread")
    };
    let sides = [start(&hosts[0], true, to_b, from_b), start(&hosts[1], false, to_a, from_a)];
    let [a, b] = sides.map(|side| side.join().expect("no panic").expect("the host's network"));
    let ((to_a, at_a), (to_b, at_b)) = (one_way(&b, &a), one_way(&a, &b));
    let note = format!("packets alone; connected after {:.0} ms", a.connected.as_secs_f64() * 1000.0);
    let later = [Some(to_a.as_secs_f64()), Some(to_b.as_secs_f64())];
    Row { name: name.into(), later, note, ..Row::default() }.report().expect("the table can be written");
    assert!(a.relayed && b.relayed, "the way is relayed");
    for (way, count) in [(to_a, at_a), (to_b, at_b)] {
        assert!(way >= Duration::from_millis(2 * DELAY), "{way:?} is quicker than the network");
        assert!(way < Duration::from_millis(200), "{way:?}: the relay holds packets back");
        assert!(count > PACKETS as usize * 8 / 10, "{count} of {PACKETS} have arrived");
    }
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn packets_are_relayed_over_udp() {
    relayed(0, "simple-webrtc, UDP");
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn packets_are_relayed_over_tcp() {
    relayed(1, "simple-webrtc, TCP");
}

#[test]
#[ignore = "needs root: `make test-lab`"]
fn packets_are_relayed_over_tls() {
    relayed(2, "simple-webrtc, TLS");
}
