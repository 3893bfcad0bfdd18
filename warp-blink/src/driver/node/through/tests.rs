use super::{super::link::link, *};

#[test]
fn where_others_reached_this_node_goes_with_the_address_that_it_had_there() {
    let [wifi, cable, six] = ["/ip4/192.168.1.7/tcp/1", "/ip4/203.0.113.5/tcp/1", "/ip6/2001:db8::5/tcp/1"]
        .map(|text| text.parse::<Multiaddr>().unwrap());
    let router: Multiaddr = "/ip4/198.51.100.1/tcp/1".parse().unwrap();
    let mut through = Through::off(link().0.shared);
    through.confirmed = [&cable, &six, &router].into_iter().cloned().collect();
    let loopback: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    through.listening = [&cable, &six, &loopback].into_iter().cloned().collect();
    assert_eq!(through.gone_with(&wifi), std::slice::from_ref(&router), "that was behind it");
    assert_eq!(through.gone_with(&loopback), [], "it says nothing of others");
    assert_eq!(
        through.gone_with(&"/ip4/203.0.113.5/udp/1/quic-v1".parse().unwrap()),
        [],
        "it is still there"
    );
    through.listening.remove(&cable);
    assert_eq!(through.gone_with(&cable), [router, cable.clone()]);
    through.listening.remove(&six);
    assert_eq!(through.gone_with(&six), std::slice::from_ref(&six));
}
/// What the swarm is told is over.
fn over(through: &mut Through) -> Vec<Multiaddr> {
    let expired = |out| match out {
        ToSwarm::ExternalAddrExpired(address) => Some(address),
        _ => None,
    };
    through.out.drain(..).filter_map(expired).collect()
}

#[tokio::test]
async fn a_router_that_has_got_another_address_is_no_longer_believed_to_have_the_old_one() {
    let [own, old, same, new] =
        ["203.0.113.5", "198.51.100.1", "198.51.100.1", "198.51.100.2"].map(|ip| format!("/ip4/{ip}/tcp/1"));
    let [own, old, same, new] = [own, old, same, new].map(|text| text.parse::<Multiaddr>().unwrap());
    let shared = link().0.shared;
    let server = PeerId::random();
    let routes = Routes { offered: vec![server], dial_back: true, ..Routes::default() };
    let mut through = Through::new(PeerId::random(), routes, shared);
    through.listening = [own.clone()].into();
    through.confirmed = [own.clone(), old.clone()].into();
    let begin = Instant::from_micros(1_000_000);
    let later = begin + DOUBTFUL;
    through.hold(&new);
    assert_eq!(over(&mut through), [], "several are possible as long as nothing is doubted");
    // The same one again.
    through.doubt(begin);
    through.hold(&own);
    through.hold(&same);
    assert_eq!((over(&mut through), through.doubtful.is_none()), (vec![], true));
    // Another one instead.
    through.doubt(begin);
    through.hold(&new);
    assert_eq!((over(&mut through), through.doubtful.is_none()), (vec![old.clone()], true));
    // None: nothing is over before somebody was there who could have tried.
    through.doubt(begin);
    through.doubts_end(later);
    assert_eq!(over(&mut through), []);
    let endpoint = rust_ipfs::ConnectedPoint::Dialer {
        address: new.clone(),
        role_override: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    let connection_id = ConnectionId::new_unchecked(1);
    let opened = rust_ipfs::swarm::behaviour::ConnectionEstablished {
        peer_id: server,
        connection_id,
        endpoint: &endpoint,
        failed_addresses: &[],
        other_established: 0,
    };
    through.on_swarm_event(FromSwarm::ConnectionEstablished(opened));
    through.doubts_end(begin);
    assert_eq!(over(&mut through), []);
    through.doubts_end(later);
    assert_eq!(over(&mut through), std::slice::from_ref(&old));
    // The last one who could have tried is gone: what was reached is doubted.
    assert!(through.doubtful.is_none());
    through.on_swarm_event(FromSwarm::ConnectionClosed(rust_ipfs::swarm::ConnectionClosed {
        peer_id: server,
        connection_id,
        endpoint: &endpoint,
        cause: None,
        remaining_established: 0,
    }));
    let doubted = through.doubtful.take().unwrap().1;
    assert_eq!(doubted, [old].into(), "not the address of the machine itself");
}
