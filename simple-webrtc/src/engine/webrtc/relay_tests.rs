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

/// Two who show no address, with two servers each.
async fn two_servers() -> (Pair, [SocketAddr; 2]) {
    let net = Net::new(DELAY);
    let servers = [relay::start(&net), relay::start(&net)];
    let config = || {
        servers.iter().fold(loopback().relay_only(true), |config, server| {
            config.ice_server(IceServer::turn(format!("turn:{server}"), "user", "secret"))
        })
    };
    let mut pair = Pair::with(net, true, config);
    pair.connect().await;
    pair.heard().await;
    (pair, servers)
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
        let (mut pair, servers) = two_servers().await;
        pair.net.kill([in_use(&pair.net, servers)]);
        pair.until(LinkState::Disconnected).await;
        let own = if side == 0 { &pair.a } else { &pair.b };
        own.peers.restart(&"peer", FIRST).expect("restart");
        let up = pair.until(LinkState::Connected).await;
        let heard = pair.heard().await;
        println!("restart by {side}: connected after {up:?}, heard after another {heard:?}");
        assert!(up < Duration::from_secs(1), "{up:?}");
        assert!(heard < Duration::from_secs(1), "{heard:?}");
        pair.shutdown().await;
    }
}
