use libp2p_gossipsub::ValidationError;

use super::*;
use crate::proto::signal::VERSION;

const START: Instant = Instant::from_micros(1_000_000_000);

fn peer(n: u16) -> PeerId {
    let mut bytes = vec![0, 32];
    bytes.extend_from_slice(&[0; 30]);
    bytes.extend_from_slice(&n.to_be_bytes());
    PeerId::from_bytes(&bytes).unwrap()
}

fn topic(n: u8) -> TopicHash {
    TopicHash::from_raw(format!("{n:02x}").repeat(32))
}

fn message(topic: TopicHash, data: Vec<u8>) -> RawMessage {
    RawMessage {
        source: None,
        data,
        sequence_number: None,
        topic,
        signature: None,
        key: None,
        validated: false,
    }
}

/// A call message, the smallest right shape.
fn right(n: u8) -> RawMessage {
    let mut data = vec![0; 298];
    (data[0], data[1]) = (VERSION, 4);
    message(topic(n), data)
}

fn wrong() -> RawMessage {
    message(topic(1), vec![VERSION; 7])
}

/// Topics 1 to 9 are ours.
fn wanted(name: &TopicHash) -> bool {
    (1..10).any(|n| topic(n) == *name)
}

/// How many of these pass.
fn admit(gate: &mut Gate, now: Instant, from: u16, messages: Vec<RawMessage>) -> (usize, Stopped) {
    #[allow(deprecated, reason = "its only public name")]
    let rpc = gossipsub::Rpc { messages, subscriptions: Vec::new(), control_msgs: Vec::new() };
    let mut event = FromPeer::Message { rpc, invalid_messages: Vec::new() };
    let stopped = gate.admit(now, peer(from), &mut event, wanted);
    let FromPeer::Message { rpc, .. } = event else { panic!("it stays what it was") };
    (rpc.messages.len(), stopped)
}

fn passes(gate: &mut Gate, now: Instant, from: u16, n: u8) -> bool {
    admit(gate, now, from, vec![right(n)]).0 == 1
}

fn gate(peers: u16) -> Gate {
    let mut gate = Gate::default();
    (0..peers).for_each(|n| gate.connected(peer(n)));
    gate
}

#[test]
fn hostile_wrong_shapes_silence_their_bearer_and_nobody_else() {
    let mut gate = gate(2);
    let (_, stopped) = admit(&mut gate, START, 0, vec![wrong(); 8]);
    assert_eq!(stopped, Stopped { rejected: 8, ..Stopped::default() });
    assert!(passes(&mut gate, START, 0, 1), "eight may be a mistake");
    let (passed, stopped) = admit(&mut gate, START, 0, vec![wrong(), wrong(), right(1)]);
    assert_eq!((passed, stopped), (0, Stopped { rejected: 1, refused: 2, ..Stopped::default() }));
    assert!(passes(&mut gate, START, 1, 1));
    // Leaving and coming back does not help, time does.
    gate.disconnected(START, &peer(0));
    gate.connected(peer(0));
    assert!(!passes(&mut gate, START + (IGNORED - Duration::from_secs(1)), 0, 1));
    assert!(passes(&mut gate, START + IGNORED, 0, 1));
}

#[test]
fn faults_are_forgiven_one_by_one() {
    let mut gate = gate(1);
    for n in 0..100 {
        let (_, stopped) = admit(&mut gate, START + FORGIVEN * n, 0, vec![wrong()]);
        assert_eq!(stopped.rejected, 1, "one a minute silences nobody");
    }
}

#[test]
fn what_needs_no_key_is_told_apart_from_what_a_later_build_may_send() {
    let with = |version, kind, len| {
        let mut data = vec![0; len];
        (data[0], data[1]) = (version, kind);
        message(topic(1), data)
    };
    let of = |message: &RawMessage| verdict(message, wanted);
    assert_eq!(of(&right(1)), Verdict::Pass);
    assert_eq!(of(&right(77)), Verdict::Stray);
    assert_eq!(of(&wrong()), Verdict::Reject);
    assert_eq!(of(&with(VERSION, 4, 299)), Verdict::Reject);
    assert_eq!(of(&message(TopicHash::from_raw("lobby"), right(1).data)), Verdict::Reject);
    assert_eq!(of(&RawMessage { key: Some(vec![0; 60_000]), ..right(1) }), Verdict::Reject);
    assert_eq!(of(&with(VERSION + 1, 4, 60_000)), Verdict::Unknown);
    assert_eq!(of(&with(VERSION, 200, 298)), Verdict::Unknown);
    // Of these it may bring any number.
    let mut gate = gate(1);
    let (_, stopped) = admit(&mut gate, START, 0, vec![with(VERSION + 1, 4, 5); 1000]);
    assert_eq!(stopped, Stopped { unknown: 1000, ..Stopped::default() });
    let (_, stopped) = admit(&mut gate, START, 0, vec![right(77); 1000]);
    assert_eq!(stopped, Stopped { stray: 1000, ..Stopped::default() });
    assert!(gate.peers[&peer(0)].topics.is_empty(), "no memory for topics of others");
    assert!(passes(&mut gate, START, 0, 1));
}

#[test]
fn hostile_authors_are_held_against_the_bearer() {
    let mut gate = gate(1);
    let invalid = |count| vec![(right(1), ValidationError::MessageSourcePresent); count];
    #[allow(deprecated, reason = "its only public name")]
    let rpc =
        gossipsub::Rpc { messages: vec![right(1)], subscriptions: Vec::new(), control_msgs: Vec::new() };
    let mut event = FromPeer::Message { rpc, invalid_messages: invalid(20) };
    let stopped = gate.admit(START, peer(0), &mut event, wanted);
    assert_eq!(stopped, Stopped { rejected: 9, refused: 12, ..Stopped::default() });
    assert!(
        matches!(event, FromPeer::Message { invalid_messages, .. } if invalid_messages.is_empty()),
        "gossipsub would log each"
    );
}

/// Runs a flood for ten seconds, and something after each tenth of one. Gives how many passed.
fn flood(gate: &mut Gate, from: u16, n: u8, mut then: impl FnMut(&mut Gate, Instant)) -> usize {
    let mut passed = 0;
    for step in 0..100 {
        let now = START + Duration::from_millis(100) * step;
        passed += admit(gate, now, from, vec![right(n); 500]).0;
        then(gate, now);
    }
    passed
}

#[test]
fn hostile_flood_of_one_topic_leaves_room_for_the_others_of_the_same_relay() {
    let mut gate = gate(1);
    // Ten messages a second on another topic, of the same bearer.
    let passed = flood(&mut gate, 0, 1, |gate, now| {
        assert!(passes(gate, now, 0, 2), "the contacts' inbox is open at {now:?}");
    });
    let most = 0.75 * (MESSAGES.burst + 10.0 * MESSAGES.rate);
    assert!((1000..=most as usize).contains(&passed), "{passed}");
}

#[test]
fn hostile_flood_of_one_peer_leaves_room_for_the_others() {
    let mut gate = gate(2);
    flood(&mut gate, 0, 1, |gate, now| {
        assert!(passes(gate, now, 1, 1), "a friend's message on the same topic at {now:?}");
    });
}

#[test]
fn hostile_peers_in_any_number_share_one_budget() {
    let peers = 600;
    let mut gate = gate(peers);
    let mut passed = 0;
    for step in 0..10 {
        for from in 0..peers {
            let messages = (1..10).flat_map(|n| vec![right(n); 30]).collect();
            passed += admit(&mut gate, START + Duration::from_secs(1) * step, from, messages).0;
        }
    }
    assert!(passed as f64 <= ALL_MESSAGES.burst + 10.0 * ALL_MESSAGES.rate, "{passed}");
    assert!(passed as f64 >= 10.0 * ALL_MESSAGES.rate, "{passed}");
}

#[test]
fn hostile_bytes_are_bounded_as_well() {
    let mut gate = gate(1);
    let mut data = vec![0; frame::MAX_FRAME];
    (data[0], data[1]) = (VERSION, 3);
    let (passed, _) = admit(&mut gate, START, 0, vec![message(topic(1), data); 200]);
    let most = BYTES.part(OF_ONE_TOPIC).burst / frame::MAX_FRAME as f64;
    assert_eq!(passed, most as usize);
}

#[test]
fn hostile_peers_that_come_and_go_renew_nothing_and_leave_nothing() {
    let mut gate = gate(1);
    let mut passed = 0;
    for _ in 0..20 {
        passed += admit(&mut gate, START, 0, vec![right(1); 500]).0;
        gate.disconnected(START, &peer(0));
        gate.connected(peer(0));
    }
    assert!(passed as f64 <= MESSAGES.burst, "{passed}");
    for n in 0..2000 {
        gate.connected(peer(n));
        passes(&mut gate, START, n, 1);
        gate.disconnected(START, &peer(n));
    }
    assert!(gate.peers.len() <= MAX_LEFT);
    gate.connected(peer(0));
    admit(&mut gate, START, 0, vec![wrong()]);
    gate.disconnected(START + FORGIVEN / 2, &peer(0));
    assert_eq!(gate.peers.len(), 1, "a fault is kept in mind");
    gate.connected(peer(0));
    gate.disconnected(START + FORGIVEN, &peer(0));
    assert!(gate.peers.is_empty(), "whoever owes nothing is forgotten");
}

#[test]
fn hostile_bytes_are_still_owed_by_who_comes_back() {
    let mut gate = gate(1);
    // The largest transport frame: 64 of them are a burst.
    let large = || {
        let mut data = vec![0; 16_418];
        (data[0], data[1]) = (VERSION, 3);
        message(topic(1), data)
    };
    let mut passed = 0;
    for step in 0..8 {
        let now = START + Duration::from_millis(250) * step;
        passed += admit(&mut gate, now, 0, (0..64).map(|_| large()).collect()).0;
        gate.disconnected(now + Duration::from_millis(249), &peer(0));
        gate.connected(peer(0));
    }
    let bytes = passed as f64 * 16_418.0;
    assert!(bytes <= BYTES.burst + 2.0 * BYTES.rate, "{bytes}");
}

#[test]
fn hostile_changes_of_meshes_are_bounded() {
    // As gossipsub prints them; that it does is seen where messages cross a forwarder.
    #[derive(Debug)]
    #[allow(dead_code, reason = "they are printed")]
    enum Control {
        Graft(Graft),
        Prune(Prune),
        IHave(()),
        IDontWant(()),
    }
    #[derive(Debug)]
    #[allow(dead_code, reason = "they are printed")]
    struct Graft {
        topic_hash: TopicHash,
    }
    #[derive(Debug)]
    #[allow(dead_code, reason = "they are printed")]
    struct Prune {
        topic_hash: TopicHash,
        peers: Vec<()>,
        backoff: Option<u64>,
    }
    let graft = Control::Graft(Graft { topic_hash: topic(1) });
    let prune = |topic_hash| Control::Prune(Prune { topic_hash, peers: Vec::new(), backoff: Some(u64::MAX) });
    let mut gate = gate(30);
    let mut count = |from: u16, control: &Control, times: usize| {
        (0..times).filter(|_| gate.admits_control(START, peer(from), control)).count()
    };
    assert_eq!(count(0, &graft, 300), 300);
    assert_eq!(count(0, &prune(topic(1)), 10_000), 212);
    assert_eq!(count(1, &prune(TopicHash::from_raw("x".repeat(60_000))), 10), 0);
    assert_eq!(count(1, &Control::IDontWant(()), 10), 0);
    assert_eq!(count(1, &Control::IHave(()), 1000), GOSSIP.burst as usize);
    let all: usize = (1..30).map(|from| count(from, &graft, 10_000)).sum();
    assert_eq!(all + 512, ALL_MESH_CHANGES.burst as usize);
}
