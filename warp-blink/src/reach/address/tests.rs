use proptest::prelude::*;

use super::*;
use crate::id::NodeKey;

fn node(n: u8) -> NodeId {
    NodeKey::from_seed([n; 32]).node_id()
}

fn read(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What is wrong, and which part of the text.
fn wrong(text: &str) -> (Problem, usize, String) {
    let error = Address::parse(text).expect_err(text);
    (error.problem(), error.at(), error.part().to_owned())
}

#[test]
fn addresses_are_read_and_printed() {
    for text in [
        "/ip4/192.0.2.1/tcp/4001",
        "/ip4/192.0.2.1/udp/4001/quic-v1",
        "/ip6/2001:db8::1/tcp/1",
        "/ip6/::1/udp/65535/quic-v1",
        "/dns/example.org/tcp/4001",
        "/dns4/localhost/tcp/4001",
        "/dns6/a.b.xn--c-0ga/udp/1/quic-v1",
        "/dnsaddr/bootstrap.example.org",
        "/memory/1",
    ] {
        let bare = read(text);
        assert_eq!(bare.to_string(), text);
        assert_eq!((bare.node(), bare.relay()), (None, None));
        let named = bare.clone().of(node(1)).unwrap();
        assert_eq!(named.to_string(), format!("{text}/p2p/{}", node(1)));
        assert_eq!((named.node(), named.relay(), named.is_relayed()), (Some(node(1)), None, false));
        assert_eq!(read(&named.to_string()), named);
        assert_eq!(named.clone().of(node(1)), Ok(named));
        // Behind a relay of that address.
        let circuit = format!("{text}/p2p/{}/p2p-circuit", node(2));
        let behind = read(&circuit).of(node(1)).unwrap();
        assert_eq!(behind.to_string(), format!("{circuit}/p2p/{}", node(1)));
        assert_eq!(
            (behind.node(), behind.relay(), behind.place()),
            (Some(node(1)), Some(node(2)), Place::Relayed)
        );
        assert_eq!(behind.first_hop(), bare.place());
        assert_eq!(behind.transport(), bare.transport());
    }
}

#[test]
fn two_spellings_of_one_address_are_equal() {
    let plain = read(&format!("/dns4/example.org/tcp/1/p2p/{}", node(1)));
    assert_eq!(read(&format!("/dns4/Example.ORG./tcp/1/ipfs/{}/", node(1))), plain);
    assert_eq!(read("/ip6/2001:0DB8:0::1/tcp/1"), read("/ip6/2001:db8::1/tcp/1"));
}

#[test]
fn an_error_names_the_part_its_position_and_what_is_expected() {
    use Problem::*;
    let cases: &[(&str, Problem, usize, &str)] = &[
        ("", NoSlash, 0, ""),
        ("/", NoSlash, 0, ""),
        ("127.0.0.1:4001", NoSlash, 0, "127.0.0.1:4001"),
        ("/ip4//tcp/1", NoSlash, 5, ""),
        ("/ip4", NoValue, 1, "ip4"),
        ("/ip4/300.0.0.1/tcp/1", Ip4, 5, "300.0.0.1"),
        ("/ip4/::1/tcp/1", Ip4, 5, "::1"),
        ("/ip6/[::1]/tcp/1", Ip6, 5, "[::1]"),
        ("/ip6/fe80::1%eth0/tcp/1", Ip6, 5, "fe80::1%eth0"),
        ("/ip4/192.0.2.1/tcp/65536", Port, 19, "65536"),
        ("/ip4/192.0.2.1/tcp/0", Port, 19, "0"),
        ("/ip4/192.0.2.1/tcp/+1", Port, 19, "+1"),
        ("/ip4/192.0.2.1/tcp", NoValue, 15, "tcp"),
        ("/ip4/192.0.2.1", NoTransport, 14, ""),
        ("/ip4/192.0.2.1/quic-v1", NoTransport, 15, "quic-v1"),
        ("/ip4/192.0.2.1/udp/1", NoQuic, 20, ""),
        ("/ip4/192.0.2.1/udp/1/p2p-circuit", NoQuic, 21, "p2p-circuit"),
        ("/ip4/192.0.2.1/tcp/1/ws", Unsupported, 21, "ws"),
        ("/ip4/192.0.2.1/udp/1/quic", Unsupported, 21, "quic"),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/1", Unsupported, 1, "ip6zone"),
        ("/ip4/192.0.2.1/tcp/1/nonsense", UnknownName, 21, "nonsense"),
        ("/ip4/192.0.2.1/tcp/1/p2p/nobody", Node, 25, "nobody"),
        ("/ip4/192.0.2.1/tcp/1/p2p", NoValue, 21, "p2p"),
        ("/ip4/192.0.2.1/tcp/1/p2p-circuit", NoRelay, 21, "p2p-circuit"),
        ("/ip4/192.0.2.1/tcp/1/tcp/2", NotTheEnd, 21, "tcp"),
        ("/tcp/1", NoHost, 1, "tcp"),
        ("/p2p-circuit", NoHost, 1, "p2p-circuit"),
        ("/ip4/0.0.0.0/tcp/1", Nobody, 1, "ip4"),
        ("/ip4/224.0.0.1/tcp/1", Nobody, 1, "ip4"),
        ("/ip4/255.255.255.255/udp/1/quic-v1", Nobody, 1, "ip4"),
        ("/ip6/::/tcp/1", Nobody, 1, "ip6"),
        ("/ip6/ff02::1/tcp/1", Nobody, 1, "ip6"),
        ("/ip6/::ffff:0.0.0.0/tcp/1", Nobody, 1, "ip6"),
        ("/dns4/-a.org/tcp/1", Domain, 6, "-a.org"),
        ("/dns4/a..org/tcp/1", Domain, 6, "a..org"),
        ("/dns4/ä.org/tcp/1", Domain, 6, "ä.org"),
        ("/dns4/a b/tcp/1", Domain, 6, "a b"),
        ("/memory/-1", Number, 8, "-1"),
        ("/memory/18446744073709551616", Number, 8, "18446744073709551616"),
    ];
    for (text, problem, at, part) in cases {
        assert_eq!(wrong(text), (*problem, *at, (*part).to_owned()), "{text}");
        let said = Address::parse(text).unwrap_err().to_string();
        assert!(said.contains(&problem.to_string()) && said.contains(&format!("at byte {at} ")), "{said}");
        assert!(said.contains(part), "{said}");
    }
    let (one, two) = (node(1), node(2));
    let twice = format!("/ip4/192.0.2.1/tcp/1/p2p/{one}/p2p-circuit/p2p/{two}/p2p-circuit");
    assert_eq!(wrong(&twice).0, TwoRelays);
    let error = read(&format!("/ip4/192.0.2.1/tcp/1/p2p/{one}")).of(two).unwrap_err();
    assert_eq!((error.problem(), error.at(), error.part()), (OtherNode, 20, one.to_string().as_str()));
}

#[test]
fn the_length_of_everything_is_bounded() {
    assert_eq!(wrong(&"/x".repeat(1 << 20)).0, Problem::TooLong);
    let label = "a".repeat(63);
    let domain = |len: usize| [label.as_str(); 4].join(".").split_at(255 - len).1.to_owned();
    assert_eq!(domain(253).len(), 253);
    assert_eq!(read(&format!("/dns4/{}/tcp/1", domain(253))).place(), Place::Name);
    assert_eq!(wrong(&format!("/dns4/{}/tcp/1", domain(254))).0, Problem::Domain);
    assert_eq!(wrong(&format!("/dns4/{label}a/tcp/1")).0, Problem::Domain);
    let parts = |count: usize| "/tcp/1".repeat(count);
    assert_eq!(wrong(&parts(MAX_PARTS)).0, Problem::NoHost);
    assert_eq!(wrong(&parts(MAX_PARTS + 1)).0, Problem::TooManyParts);
    // What an error repeats is short, whatever was given.
    let long = Address::parse(&format!("/{}", "ä".repeat(200))).unwrap_err();
    assert!(long.to_string().len() < 300, "{long}");
}

#[test]
fn the_kind_of_place_and_the_transport_are_told() {
    let cases = [
        ("/ip4/127.1.2.3/tcp/1", Place::Loopback, Some(Transport::Tcp)),
        ("/ip6/::1/udp/1/quic-v1", Place::Loopback, Some(Transport::Quic)),
        ("/memory/7", Place::Loopback, Some(Transport::Memory)),
        ("/ip4/169.254.0.1/tcp/1", Place::LinkLocal, Some(Transport::Tcp)),
        ("/ip6/fe80::1/tcp/1", Place::LinkLocal, Some(Transport::Tcp)),
        ("/ip6/febf::1/tcp/1", Place::LinkLocal, Some(Transport::Tcp)),
        ("/ip4/10.0.0.1/tcp/1", Place::Private, Some(Transport::Tcp)),
        ("/ip4/172.31.0.1/tcp/1", Place::Private, Some(Transport::Tcp)),
        ("/ip4/192.168.0.1/tcp/1", Place::Private, Some(Transport::Tcp)),
        ("/ip4/100.64.0.1/tcp/1", Place::Private, Some(Transport::Tcp)),
        ("/ip4/100.128.0.1/tcp/1", Place::Public, Some(Transport::Tcp)),
        ("/ip4/172.32.0.1/tcp/1", Place::Public, Some(Transport::Tcp)),
        ("/ip6/fd00::1/tcp/1", Place::Private, Some(Transport::Tcp)),
        ("/ip6/::ffff:10.0.0.1/tcp/1", Place::Private, Some(Transport::Tcp)),
        ("/ip6/2001:db8::1/tcp/1", Place::Public, Some(Transport::Tcp)),
        ("/dns6/a.org/tcp/1", Place::Name, Some(Transport::Tcp)),
        ("/dnsaddr/a.org", Place::Name, None),
    ];
    for (text, place, transport) in cases {
        let address = read(text);
        assert_eq!((address.place(), address.transport()), (place, transport), "{text}");
    }
}

#[test]
fn a_name_gives_way_to_a_number() {
    let named = read("/dns/example.org/udp/9/quic-v1");
    assert_eq!(named.lookup(), Some(("example.org", Lookup::Both)));
    assert_eq!(named.at("192.0.2.1".parse().unwrap()), Some(read("/ip4/192.0.2.1/udp/9/quic-v1")));
    assert_eq!(named.at("2001:db8::1".parse().unwrap()), Some(read("/ip6/2001:db8::1/udp/9/quic-v1")));
    for nobody in ["0.0.0.0", "224.0.0.1", "::", "ff02::1"] {
        assert_eq!(named.at(nobody.parse().unwrap()), None, "{nobody}");
    }
    assert_eq!(read("/ip4/192.0.2.1/tcp/1").at("192.0.2.2".parse().unwrap()), None);
    assert_eq!(read("/dnsaddr/example.org").at("192.0.2.2".parse().unwrap()), None);
}

#[test]
fn a_dnsaddr_gives_way_to_an_answer_for_the_same_node() {
    let (one, two) = (node(1), node(2));
    let asked = read(&format!("/dnsaddr/example.org/p2p/{one}"));
    let good = read(&format!("/ip4/192.0.2.1/tcp/1/p2p/{one}"));
    assert_eq!(asked.stands_for(&good), Some(good.clone()));
    assert_eq!(
        asked.stands_for(&read("/ip4/192.0.2.1/tcp/1")),
        Some(good.clone()),
        "unnamed: of who is asked for"
    );
    assert_eq!(asked.stands_for(&read(&format!("/ip4/192.0.2.1/tcp/1/p2p/{two}"))), None);
    let deeper = read(&format!("/dnsaddr/b.example.org/p2p/{one}"));
    assert_eq!(asked.stands_for(&deeper), Some(deeper.clone()));
    // Of a relay: what is behind it stays.
    let behind = read(&format!("/dnsaddr/example.org/p2p/{one}/p2p-circuit/p2p/{two}"));
    let through = read(&format!("{good}/p2p-circuit/p2p/{two}"));
    assert_eq!(behind.stands_for(&good), Some(through.clone()));
    assert_eq!(behind.stands_for(&through), Some(through));
    assert_eq!(behind.stands_for(&read(&format!("/ip4/192.0.2.1/tcp/1/p2p/{two}"))), None);
    // Anything that the name says, as nobody was named.
    assert_eq!(read("/dnsaddr/example.org").stands_for(&good), Some(good));
}

#[test]
fn debug_shows_no_address() {
    let address = read("/ip4/192.0.2.77/tcp/4001");
    let error = Address::parse("/ip4/192.0.2.777/tcp/4001").unwrap_err();
    for text in [format!("{address:?}"), format!("{error:?}"), format!("{:?}", address.parts())] {
        assert!(!text.contains("192") && !text.contains("4001"), "{text}");
    }
}

proptest! {
    /// Anything that is read is printed so that it is read again as the same.
    #[test]
    fn what_is_read_comes_back(words in proptest::collection::vec(word(), 0..9)) {
        let text: String = words.iter().map(|word| format!("/{word}")).collect();
        if let Ok(address) = Address::parse(&text) {
            prop_assert!(address.parts().len() <= MAX_PARTS);
            prop_assert_eq!(Address::parse(&address.to_string()), Ok(address.clone()));
            let of = address.of(node(1));
            prop_assert!(of.is_err() || Address::parse(&of.clone().unwrap().to_string()) == of);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        if let Err(error) = Address::parse(&text) {
            prop_assert!(error.at() <= text.len());
            prop_assert!(error.to_string().len() < 300);
        }
    }
}

/// Words that addresses are made of, the good ones often enough that whole addresses come out.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("ip4/192.0.2.1/tcp/1".to_owned()),
        Just("ip6/2001:db8::1/udp/1/quic-v1".to_owned()),
        Just("dnsaddr/example.org".to_owned()),
        Just(format!("p2p/{}", node(1))),
        Just(format!("p2p/{}", node(2))),
        Just("p2p-circuit".to_owned()),
        "(ip4|ip6|dns|tcp|udp|quic-v1|ws|memory|sni)",
        "[0-9a-z.:]{1,6}",
    ]
}
