//! How long it takes until there is a connection, and how long packets take over a relay.

use std::time::Duration;

use tokio::time::{self, Instant};
use webrtc::media_stream::track_remote::TrackRemoteEvent;

use super::super::accept_tests::{self, Offers};
use super::super::bare::{self, Place, Voice};
use super::super::net::Net;
use super::super::relay;
use super::super::virtual_tests::{self as ours, loopback, one_way};
use super::{TICK, Who, median, print};
use crate::{EventKind, IceServer};

/// Until both are connected, and until the first packet.
async fn set_up(who: Who, delay: Duration, relayed: bool) -> (Duration, Duration) {
    let net = Net::new(delay);
    let relay = relayed.then(|| relay::start(&net));
    match who {
        Who::Ours => {
            let config = || match relay {
                Some(relay) => {
                    let server = IceServer::turn(format!("turn:{relay}"), "user", "secret");
                    loopback().ice_server(server).relay_only(true)
                }
                None => loopback(),
            };
            let mut pair = ours::Pair::with(net.clone(), true, config);
            let up = pair.connect().await;
            let heard = heard(&mut pair).await;
            pair.shutdown().await;
            (up, up + heard)
        }
        Who::Bare => {
            let (mut pair, up) = bare::Pair::connect(
                &relay.map_or_else(|| Place::on(&net), |relay| Place::relayed(&net, relay)),
            )
            .await;
            let heard = pair.heard().await;
            pair.close().await;
            (up, up + heard)
        }
    }
}

/// The first side speaks every 20 ms until it is heard. How long that takes.
async fn heard(pair: &mut ours::Pair) -> Duration {
    let start = Instant::now();
    let mut tick = time::interval(TICK);
    let mut n = 0;
    loop {
        tokio::select! {
            _ = tick.tick() => {
                pair.a.track.write(ours::frame(n)).expect("fits");
                n += 1;
            }
            (_, event) = pair.event() => {
                if let EventKind::RemoteTrack(mut track) = event.kind {
                    track.recv().await.expect("a packet");
                    return start.elapsed();
                }
            }
        }
    }
}

/// In virtual time: what the protocols and the waits of the engine take, and no processor.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement, run by `scripts/bench.sh links`"]
async fn measure_set_up() {
    for who in Who::BOTH {
        for relayed in [false, true] {
            for delay in [50, 100] {
                let (mut up, mut heard) = (Vec::new(), Vec::new());
                for _ in 0..9 {
                    let (connected, first) = set_up(who, Duration::from_millis(delay), relayed).await;
                    up.push(connected);
                    heard.push(first);
                }
                let way = if relayed { "relayed" } else { "direct" };
                let name = format!("{way}/{delay}/{}", who.name());
                print("connected_us", &name, median(up).as_micros());
                print("heard_us", &name, median(heard).as_micros());
            }
        }
    }
}

/// The same from the moment at which somebody accepts, where nothing connects before, with signals that take as long as datagrams: until the
/// caller and until the callee hears the other one. Each frame is 1 ms after the one before.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement, run by `scripts/bench.sh links`"]
async fn measure_accepted() {
    for delay in [50, 100] {
        let way = Duration::from_millis(delay);
        let mut all: Vec<_> = vec![("caller/bare", bare_accepted(way).await)];
        for (offers, name) in Offers::ALL.into_iter().zip(["caller/ours", "ahead/ours", "callee/ours"]) {
            all.push((name, accept_tests::heard(way, offers).await));
        }
        for (name, heard) in all {
            for (side, heard) in ["caller", "callee"].into_iter().zip(heard) {
                print("accepted_us", &format!("{side}/{delay}/{name}"), heard.as_micros());
            }
        }
    }
}

/// The caller offers when it hears of the acceptance.
async fn bare_accepted(delay: Duration) -> [Duration; 2] {
    let place = Place::on(&Net::new(delay));
    let voices = [Voice::new(1), Voice::new(2)];
    let mut a = bare::Side::speaking(&place, &voices[0]).await;
    let mut b = bare::Side::speaking(&place, &voices[1]).await;
    let engines = [a.engine.clone(), b.engine.clone()];
    let accepted = Instant::now();
    let (tell, mut told) = tokio::sync::mpsc::channel(2);
    let mut heard = [None; 2];
    let (mut frames, mut n) = (time::interval(Duration::from_millis(1)), 0);
    let mut steps = [1, 2, 3].map(|ways| accepted + ways * delay).into_iter();
    let (mut step, mut description) = (steps.next(), None);
    while heard.iter().any(Option::is_none) {
        let next = step.unwrap_or_else(|| accepted + super::PATIENCE);
        let (side, event) = tokio::select! {
            biased;
            () = time::sleep_until(next) => {
                description = match description {
                    None => Some(a.offer(false).await),
                    Some(sdp) if steps.len() == 1 => Some(b.answer(sdp).await),
                    Some(sdp) => {
                        a.engine.set_remote_description(sdp).await.expect("set");
                        None
                    }
                };
                step = steps.next();
                continue;
            }
            Some((side, at)) = told.recv() => {
                heard[side] = Some(Instant::duration_since(&at, accepted));
                continue;
            }
            _ = frames.tick() => {
                assert!(accepted.elapsed() < super::PATIENCE, "{heard:?}");
                n += 1;
                for voice in &voices {
                    // Before there is a connection nobody takes it.
                    voice.write(n).await;
                }
                continue;
            }
            event = a.event() => (0, event),
            event = b.event() => (1, event),
        };
        match event {
            bare::Event::Candidate(candidate) => {
                let to = engines[1 - side].clone();
                tokio::spawn(async move {
                    // Behind the description, without which it is of no use.
                    time::sleep(delay + Duration::from_millis(1)).await;
                    let _ = to.add_ice_candidate(candidate).await;
                });
            }
            bare::Event::Track(track) => {
                let tell = tell.clone();
                tokio::spawn(async move {
                    while let Some(event) = track.poll().await {
                        if matches!(event, TrackRemoteEvent::OnRtpPacket(_)) {
                            let _ = tell.send((side, Instant::now())).await;
                            return;
                        }
                    }
                });
            }
            _ => {}
        }
    }
    a.close().await;
    b.close().await;
    heard.map(|heard| heard.expect("heard"))
}

/// In real time, over loopback: what this machine takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, run by `scripts/bench.sh links`"]
async fn measure_set_up_on_one_machine() {
    for who in Who::BOTH {
        let (mut up, mut heard) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            let (connected, first) = match who {
                Who::Ours => super::load::set_up().await,
                Who::Bare => {
                    let (mut pair, connected) = bare::Pair::connect(&Place::default()).await;
                    let first = connected + pair.heard().await;
                    pair.close().await;
                    (connected, first)
                }
            };
            up.push(connected);
            heard.push(first);
        }
        print("connected_us", &format!("direct/0/{}", who.name()), median(up).as_micros());
        print("heard_us", &format!("direct/0/{}", who.name()), median(heard).as_micros());
    }
}

/// What a relayed packet takes beyond the way to our relay, to the peer's and to the peer.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement, run by `scripts/bench.sh links`"]
async fn measure_relayed_packets() {
    let delay = Duration::from_millis(3);
    for who in Who::BOTH {
        let net = Net::new(delay);
        let relay = relay::start(&net);
        let (usual, worst) = match who {
            Who::Ours => {
                let server = format!("turn:{relay}");
                let config =
                    || loopback().ice_server(IceServer::turn(&server, "user", "secret")).relay_only(true);
                let mut pair = ours::Pair::with(net.clone(), true, config);
                pair.connect().await;
                let worst = one_way(&mut pair).await;
                pair.shutdown().await;
                (worst, worst)
            }
            Who::Bare => {
                let place = Place::relayed(&net, relay);
                let (mut pair, _) = bare::Pair::connect(&place).await;
                let way = pair.one_way().await;
                pair.close().await;
                way
            }
        };
        for (what, way) in [("usual", usual), ("worst", worst)] {
            let added = way.saturating_sub(3 * delay);
            print("added_us", &format!("{what}/{}", who.name()), added.as_micros());
        }
    }
}
