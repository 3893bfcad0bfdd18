//! Relayed paths whose server goes away, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use super::net::Net;
use super::virtual_tests::*;
use super::*;
use crate::*;

const DELAY: Duration = Duration::from_millis(10);
const FIRST: Generation = Generation(1);

fn is_channel_data(first: u8) -> bool {
    (0x40..=0x4f).contains(&first)
}

fn turn(server: &SocketAddr) -> IceServer {
    IceServer::turn(format!("turn:{server}"), "user", "secret")
}

/// Two who show no address talk through these.
async fn talking(net: &Arc<Net>, servers: &[SocketAddr]) -> Pair {
    let config =
        || servers.iter().fold(loopback().relay_only(true), |config, server| config.ice_server(turn(server)));
    let mut pair = Pair::with(net.clone(), true, config);
    pair.connect().await;
    pair.heard().await;
    pair
}

/// One side looks for another path. How long that takes, and then the next sound.
async fn restart(pair: &mut Pair, side: usize) {
    let own = if side == 0 { &pair.a } else { &pair.b };
    own.peers.restart(&"peer", FIRST).expect("restart");
    let up = pair.until(LinkState::Connected).await;
    let heard = pair.heard().await;
    println!("restart by {side}: connected after {up:?}, heard after another {heard:?}");
    assert!(up < Duration::from_secs(1), "{up:?}");
    assert!(heard < Duration::from_secs(1), "{heard:?}");
}

/// The server that handed on the last packet.
fn in_use(net: &Net, servers: [SocketAddr; 2]) -> SocketAddr {
    let log = net.log();
    let last = log.iter().rev().find(|(_, from, first)| servers.contains(from) && is_channel_data(*first));
    last.expect("a relayed packet").1
}

/// The server in use goes away for good: a restart by either side finds the way over the other one.
#[tokio::test(start_paused = true)]
async fn a_server_that_has_gone_does_not_keep_a_restart_from_the_other_one() {
    for side in 0..2 {
        let net = Net::new(DELAY);
        let servers = [relay::start(&net), relay::start(&net)];
        let mut pair = talking(&net, &servers).await;
        net.kill([in_use(&net, servers)]);
        pair.until(LinkState::Disconnected).await;
        // Nothing goes over by itself.
        pair.run(Duration::from_secs(10)).await;
        let stats = pair.a.peers.stats(&"peer").await.expect("not given up yet");
        assert_eq!(stats.timeline.last().map(|(state, _)| *state), Some(LinkState::Disconnected));
        restart(&mut pair, side).await;
        pair.shutdown().await;
    }
}

/// A server that came only when the path was there is told to nobody who runs, and is asked at the restart that the end of the other one
/// leads to.
#[tokio::test(start_paused = true)]
async fn a_server_that_came_later_carries_on_after_a_restart() {
    for side in 0..2 {
        let net = Net::new(DELAY);
        let (first, second) = (relay::start(&net), relay::start(&net));
        let mut pair = talking(&net, &[first]).await;
        for own in [&pair.a, &pair.b] {
            own.peers.renew_ice_servers(vec![turn(&first), turn(&second)]).expect("valid");
        }
        pair.run(Duration::from_secs(10)).await;
        assert_eq!(in_use(&net, [first, second]), first);
        pair.heard().await;
        net.kill([first]);
        pair.until(LinkState::Disconnected).await;
        restart(&mut pair, side).await;
        assert_eq!(in_use(&net, [first, second]), second);
        pair.shutdown().await;
    }
}
