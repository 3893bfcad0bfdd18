use super::*;
use crate::id::NodeKey;

fn relay() -> NodeId {
    NodeKey::from_seed([2; 32]).node_id()
}

fn at(addresses: &[&str]) -> Addresses {
    Addresses(addresses.iter().map(|address| (*address).to_owned()).collect())
}

const HOME: &str = "/ip4/192.168.1.7/tcp/4001";
const OUTSIDE: &str = "/ip4/203.0.113.7/tcp/4001";

fn behind() -> Addresses {
    Addresses(vec![format!("/ip4/198.51.100.1/tcp/1/p2p/{}/p2p-circuit", relay())])
}

fn at_home() -> Facts {
    let mut facts = Facts::new(false, true);
    facts.listens(true, &at(&["/ip4/127.0.0.1/tcp/4001", HOME]));
    facts.connected(3);
    facts
}

/// What the facts say, with the cause, and the first advice.
fn said(facts: &Facts) -> (Standing, Option<Advice>) {
    (facts.standing(), facts.advice().first().copied())
}

fn local(cause: LocalCause) -> Standing {
    Standing::LocalOnly { cause }
}

#[test]
fn a_standing_follows_from_the_facts_with_its_cause_and_advice() {
    let mut facts = Facts::new(false, true).with_asking(true);
    assert_eq!(said(&facts), (Standing::Starting, None));
    facts.listens(true, &Addresses::default());
    let offline = |cause| Standing::Offline { cause };
    assert_eq!(said(&facts), (offline(OfflineCause::NoListener), Some(Advice::JoinANetwork)));
    facts.listens(true, &at(&["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"]));
    assert_eq!(said(&facts), (local(LocalCause::ThisMachineOnly), Some(Advice::ListenOnAll)));
    facts.listens(true, &at(&[HOME]));
    assert_eq!(said(&facts), (local(LocalCause::Alone), Some(Advice::GiveBootstrap)));
    facts.connected(1);
    assert_eq!(said(&facts), (local(LocalCause::NotYetChecked), Some(Advice::Wait)));
    facts.dialed_back(OUTSIDE, false);
    assert_eq!(said(&facts), (local(LocalCause::Closed), Some(Advice::GiveRelay)));
    facts.reserved(relay(), behind());
    assert_eq!(said(&facts), (Standing::Relayed { by: vec![relay()] }, None));
    facts.dialed_back(OUTSIDE, true);
    assert_eq!(said(&facts), (Standing::Public, None));
    // And back.
    facts.expired(OUTSIDE);
    assert_eq!(facts.standing(), Standing::Relayed { by: vec![relay()] });
    facts.reserved(relay(), Addresses::default());
    assert_eq!(facts.standing(), local(LocalCause::NotYetChecked));
    facts.stopped();
    assert_eq!(said(&facts), (offline(OfflineCause::Stopped), Some(Advice::Restart)));
}

#[test]
fn who_gets_through_from_the_same_house_says_nothing_of_others() {
    let mut facts = at_home();
    for near in [HOME, "/ip4/127.0.0.1/tcp/1", "/ip6/fe80::1/tcp/1", "nonsense", behind().0[0].as_str()] {
        facts.dialed_back(near, true);
    }
    assert_eq!(facts.standing(), local(LocalCause::NotYetChecked));
    facts.dialed_back(OUTSIDE, true);
    facts.dialed_back(HOME, false);
    assert_eq!(facts.standing(), Standing::Public);
}

#[test]
fn what_the_router_says_is_what_is_advised() {
    let cases = [
        (true, PortMapping::Unasked, None),
        (false, PortMapping::Unasked, Some(Advice::AllowPortMapping)),
        (true, PortMapping::Refused, Some(Advice::ForwardPort)),
        (true, PortMapping::NoRouter, Some(Advice::ForwardPort)),
        (true, PortMapping::NotPublic, Some(Advice::BehindTwoRouters)),
    ];
    for (allowed, mapping, advice) in cases {
        let mut facts = Facts::new(false, allowed);
        facts.listens(true, &at(&[HOME]));
        facts.connected(1);
        facts.dialed_back(OUTSIDE, false);
        facts.mapped(mapping);
        assert_eq!(facts.advice().get(1).copied(), advice, "{mapping:?}");
        facts.reserved(relay(), behind());
        assert_eq!(facts.advice().first().copied(), advice, "{mapping:?}");
    }
}

#[test]
fn another_network_is_another_beginning() {
    let mut facts = at_home();
    facts.dialed_back(OUTSIDE, true);
    facts.mapped(PortMapping::Refused);
    // That one stays when a network goes.
    facts.listens(true, &at(&["/ip4/127.0.0.1/tcp/4001"]));
    facts.listens(true, &at(&["/ip4/10.0.0.4/tcp/4001"]));
    assert_eq!((facts.standing(), facts.mapping), (local(LocalCause::NotYetChecked), PortMapping::Unasked));
}

#[test]
fn under_relay_only_nothing_straight_counts_or_is_told() {
    let mut facts = Facts::new(true, false);
    facts.listens(true, &at(&[HOME]));
    facts.connected(2);
    facts.dialed_back(OUTSIDE, true);
    assert_eq!(said(&facts), (local(LocalCause::NoRelay), Some(Advice::GiveRelay)));
    assert_eq!(facts.reachable_at(), Addresses::default());
    facts.reserved(relay(), behind());
    assert_eq!(said(&facts), (Standing::Relayed { by: vec![relay()] }, None));
    assert_eq!(facts.reachable_at(), behind());
    let mut open = at_home();
    open.dialed_back(OUTSIDE, true);
    open.reserved(relay(), behind());
    assert_eq!(open.reachable_at(), Addresses([at(&[OUTSIDE]).0, behind().0].concat()));
}

#[test]
fn everything_is_bounded() {
    let mut facts = at_home();
    for n in 0..200u8 {
        facts.dialed_back(&format!("/ip4/203.0.113.{n}/tcp/1"), true);
        facts.reserved(NodeKey::from_seed([n; 32]).node_id(), behind());
    }
    assert_eq!((facts.confirmed.len(), facts.reserved.len()), (MAX_REACH_ADDRESSES, MAX_RELAYS));
    let many: Vec<String> = (0..100).map(|n| format!("/ip4/10.0.0.{n}/tcp/1")).collect();
    facts.listens(true, &Addresses(many));
    assert_eq!(facts.listening.len(), MAX_REACH_ADDRESSES);
    assert_eq!(facts.reachable_at().0.len(), MAX_REACH_ADDRESSES);
}

#[test]
fn a_standing_can_be_stored_and_every_word_is_for_people() {
    for standing in [
        Standing::Starting,
        local(LocalCause::Closed),
        Standing::Relayed { by: vec![relay()] },
        Standing::Public,
    ] {
        let text = serde_json::to_string(&standing).unwrap();
        assert_eq!(serde_json::from_str::<Standing>(&text).unwrap(), standing);
    }
    assert!(LocalCause::Closed.to_string().contains("no relay"));
    assert!(Advice::GiveRelay.to_string().contains("blink relay"));
}

#[test]
fn a_node_that_was_told_not_to_listen_is_not_offline() {
    let mut facts = Facts::new(false, false);
    facts.told_not_to_listen();
    facts.connected(1);
    assert_eq!(said(&facts), (local(LocalCause::NotListening), Some(Advice::GiveRelay)));
    facts.behind(BTreeMap::from([(relay(), behind())]));
    assert_eq!(facts.standing(), Standing::Relayed { by: vec![relay()] });
    facts.behind(BTreeMap::new());
    assert_eq!(facts.standing(), local(LocalCause::NotListening));
    // Under relay_only nobody listens, and a relay is what is missing.
    let mut only = Facts::new(true, false);
    only.told_not_to_listen();
    assert_eq!(said(&only), (local(LocalCause::NoRelay), Some(Advice::GiveRelay)));
}

#[test]
fn whoever_is_reached_over_ipv6_only_still_needs_relays() {
    let mut facts = Facts::new(false, false);
    facts.listens(true, &Addresses(vec!["/ip4/192.168.1.2/tcp/1".into(), "/ip6/2001:db8::2/tcp/1".into()]));
    facts.dialed_back("/ip6/2001:db8::2/tcp/1", true);
    assert_eq!((facts.standing(), facts.is_reached_by_all()), (Standing::Public, false));
    facts.dialed_back("/ip4/203.0.113.2/tcp/1", true);
    assert!(facts.is_reached_by_all());
    facts.expired("/ip4/203.0.113.2/tcp/1");
    assert!(!facts.is_reached_by_all());
}

#[test]
fn who_asks_nobody_is_not_told_to_wait() {
    let advice = |facts: Facts| {
        let mut facts = facts;
        facts.listens(true, &at(&[HOME]));
        facts.connected(1);
        said(&facts)
    };
    let not_yet = local(LocalCause::NotYetChecked);
    let facts = || Facts::new(false, false);
    assert_eq!(advice(facts().with_asking(true)), (not_yet.clone(), Some(Advice::Wait)));
    assert_eq!(advice(facts().with_serving(true)), (not_yet.clone(), Some(Advice::ForwardPort)));
    assert_eq!(advice(facts()), (not_yet.clone(), Some(Advice::GiveRelay)));
    let mut alone = facts().with_serving(true);
    alone.listens(true, &at(&[HOME]));
    assert_eq!(said(&alone), (not_yet, Some(Advice::ForwardPort)), "a relay waits for others");
}
