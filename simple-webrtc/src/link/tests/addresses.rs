//! Changes of this machine's addresses.

use super::*;

async fn change(side: &mut Side) -> bool {
    loop {
        if let EventKind::AddressChanged { lost } = side.next().await.kind {
            return lost;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_to_each_connection_with_what_it_means_for_it() {
    let mut a = Side::plain();
    a.connected("b", 1).await;
    // Another network, an address of no interest, and none of the present ones is gone.
    a.machine.has(&["192.0.2.7", "127.0.0.1", "fe80::1"]);
    time::sleep(Duration::from_secs(5)).await;
    a.machine.has(&["192.0.2.7", "127.0.0.1", "198.51.100.3"]);
    let (lost, after) = took(change(&mut a)).await;
    assert!(!lost && after <= Duration::from_millis(500), "{after:?}");
    a.machine.has(&["198.51.100.3", "127.0.0.1"]);
    assert!(change(&mut a).await);
    a.silence().await;

    // While there was no connection, nothing that happened counts.
    a.peers.hang_up(&"b", Generation(1)).expect("hang up");
    while !a.state().await.is_final() {}
    time::sleep(Duration::from_secs(5)).await;
    a.machine.has(&["192.0.2.7"]);
    time::sleep(Duration::from_secs(5)).await;
    a.connected("b", 1).await;
    a.silence().await;
    a.machine.has(&[]);
    assert!(change(&mut a).await);
}

/// What an offer tells is of the servers with which it gathered. Once it is answered, that is past.
#[tokio::test(start_paused = true)]
async fn other_servers_make_an_offer_stale_that_has_no_answer() {
    let server = |port: u16| vec![IceServer::stun(format!("stun:192.0.2.1:{port}"))];
    let mut a = Side::plain();
    a.peers.dial("b", Generation(1)).expect("dial");
    let offer = a.description().await;
    for renew in [false, true] {
        time::sleep(Duration::from_secs(1)).await;
        let servers = server(1 + u16::from(renew));
        if renew { a.peers.renew_ice_servers(servers) } else { a.peers.set_ice_servers(servers) }
            .expect("valid");
        let (lost, after) = took(change(&mut a)).await;
        assert!(!lost && after <= Duration::from_millis(250), "{after:?}");
    }
    // Once for each.
    let more = time::timeout(Duration::from_secs(1), change(&mut a)).await;
    assert!(more.is_err());
    let fake = a.connection().await;
    a.peers.apply(&"b", Generation(1), Remote::Answer(answer_to(&offer, 1, "theirs"))).expect("apply");
    fake.connect();
    while a.state().await != LinkState::Connected {}
    a.peers.renew_ice_servers(server(3)).expect("valid");
    a.silence().await;
}
