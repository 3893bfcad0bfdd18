//! What the engine does on a bad hour that we rely on, or wish it did not: each test notices when that changes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{self, Instant};

use super::net::Net;
use super::virtual_tests::*;
use super::*;
use crate::addresses::Interfaces;
use crate::*;

const DELAY: Duration = Duration::from_millis(10);
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Two addresses on each side, and the one in use dies: nothing goes over to the other by itself, a restart does.
#[tokio::test(start_paused = true)]
async fn nothing_goes_over_to_the_other_address_by_itself() {
    let config = || Config::builder().addresses([IpAddr::from(Ipv4Addr::LOCALHOST), SECOND]);
    let mut pair = Pair::with(Net::new(DELAY), true, config);
    pair.connect().await;
    pair.heard().await;
    // Those that carry media are the ones that sent last.
    let used: BTreeSet<SocketAddr> = pair.net.log().iter().rev().take(4).map(|(_, from, _)| *from).collect();
    assert!(used.len() <= 2, "each side has another socket: {used:?}");
    pair.net.kill(used);
    pair.until(LinkState::Disconnected).await;
    pair.run(Duration::from_secs(30)).await;
    let stats = pair.a.peers.stats(&"peer").await.expect("not given up yet");
    let last = stats.timeline.last().map(|(state, _)| *state);
    assert_eq!(last, Some(LinkState::Disconnected), "it goes over by itself now");
    pair.a.peers.restart(&"peer", Generation(1)).expect("restart");
    let up = pair.until(LinkState::Connected).await;
    assert!(up < Duration::from_secs(1), "{up:?}");
    assert!(pair.heard().await < Duration::from_secs(1));
    pair.shutdown().await;
}

#[derive(Debug)]
struct Machine(Mutex<BTreeSet<IpAddr>>);

impl Interfaces for Machine {
    fn addresses(&self) -> std::io::Result<BTreeSet<IpAddr>> {
        Ok(self.0.lock().expect("not poisoned").clone())
    }
}

/// The address that a path goes out from is known, so that its end is told apart from any other change.
#[tokio::test(start_paused = true)]
async fn the_loss_of_the_address_in_use_is_told_apart() {
    let addresses = |all: &[[u8; 4]]| all.iter().map(|octets| IpAddr::from(*octets)).collect::<BTreeSet<_>>();
    let machine = Arc::new(Machine(Mutex::new(addresses(&[[127, 0, 0, 1], [192, 0, 2, 1]]))));
    let mut pair = Pair::new(DELAY, true);
    pair.a = Side::on(&pair.net, true, loopback(), machine.clone());
    pair.connect().await;
    for (present, lost) in
        [(addresses(&[[127, 0, 0, 1], [192, 0, 2, 2]]), false), (addresses(&[[192, 0, 2, 3]]), true)]
    {
        *machine.0.lock().expect("not poisoned") = present;
        pair.run(Duration::from_secs(1)).await;
        assert_eq!(pair.changes(), [lost]);
    }
    pair.shutdown().await;
}

/// A peer whose machine is gone says nothing: that is noticed after 1.5 s of silence, not sooner and hardly later. With a
/// goodbye it is known after one way.
#[tokio::test(start_paused = true)]
async fn a_goodbye_is_heard_at_once() {
    let mut pair = Pair::new(DELAY, true);
    pair.connect().await;
    pair.heard().await;
    let start = Instant::now();
    pair.a.peers.hang_up(&"peer", Generation(1)).expect("hang up");
    loop {
        let (at, event) = pair.event().await;
        if let (1, EventKind::State(state)) = (at, event.kind) {
            assert_eq!(state, LinkState::Closed { by_remote: true });
            break;
        }
    }
    assert_eq!(start.elapsed(), DELAY);
    pair.shutdown().await;
}

/// Candidates that come one by one, late and out of order, are used as soon as they are there: nothing waits for the next
/// check.
#[tokio::test(start_paused = true)]
async fn a_late_candidate_is_used_at_once() {
    let mut pair = Pair::new(DELAY, true);
    pair.a.peers.dial("peer", Generation(1)).expect("dial");
    let (mut held, mut states) = (Vec::new(), Vec::new());
    let mut release: Option<Instant> = None;
    while states != [1, 1] {
        let due = release.unwrap_or(Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            (at, event) = pair.event() => {
                let to = if at == 0 { &pair.b.peers } else { &pair.a.peers };
                match event.kind {
                    EventKind::LocalDescription(description) if at == 0 => {
                        to.accept("peer", Generation(1), description).expect("accept");
                    }
                    EventKind::LocalDescription(description) => {
                        to.apply(&"peer", Generation(1), Remote::Answer(description)).expect("apply");
                        // Between two checks, which come every 20 ms.
                        release = Some(Instant::now() + Duration::from_millis(1_007));
                    }
                    EventKind::LocalCandidate(candidate) => held.push((at, candidate)),
                    EventKind::State(LinkState::Securing) => states.push(1),
                    _ => {}
                }
            }
            () = time::sleep_until(due) => {
                for (at, candidate) in held.drain(..) {
                    let to = if at == 0 { &pair.b.peers } else { &pair.a.peers };
                    to.apply(&"peer", Generation(1), Remote::Candidate(candidate)).expect("apply");
                }
                release = None;
                let start = Instant::now();
                pair.until(LinkState::Securing).await;
                // A check there and back, and the nomination there and back.
                assert_eq!(start.elapsed(), 4 * DELAY);
                states = vec![1, 1];
            }
        }
    }
    pair.shutdown().await;
}
