//! Journals: what is recorded is replayed to the same effects, scrubbed.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail as a test does

mod golden;
mod hostile;
mod kit;
mod names;
mod scrubbing;

use std::time::Duration;

use kit::*;
use warp_blink::{
    config::Config,
    error::Rejected,
    event::{EndReason, Event, NodeState, Presence},
    id::PublicKey,
    proto::{
        Command, EngineLink, Input, LinkId, MediaInput, Other,
        journal::{Happened, Journal, Stop},
        signal::AppData,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn ended(world: &World, at: usize) -> Option<EndReason> {
    world.nodes[at].events.iter().find_map(|e| match e {
        Event::Ended { reason, .. } => Some(*reason),
        _ => None,
    })
}

/// A call of two from the offer to the farewell, with what happens on the way.
fn call_of_two() -> World {
    let mut world = World::new(2, &Config::default());
    let call = call_id(1);
    world.ask(0, world.offer(0, &[1], call)).unwrap();
    world.ask(1, Command::Accept { call, other: Other::End }).unwrap();
    world.pass(2 * SECOND);
    world.ask(0, Command::SetMuted(true)).unwrap();
    world.feed(1, Input::Node(NodeState::Offline { cause: CAUSE.to_owned() }));
    // Another reason is other news.
    world.feed(1, Input::Node(NodeState::Offline { cause: format!("{CAUSE}!") }));
    world.feed(1, Input::Node(NodeState::Public));
    let link = LinkId { call, peer: world.key(0), generation: 1 };
    world.feed(1, Input::Media(MediaInput::State { link, state: EngineLink::Disconnected }));
    world.pass(4 * SECOND);
    world.ask(1, Command::HangUp { call }).unwrap();
    world.pass(11 * SECOND);
    assert!(world.nodes.iter().all(|n| n.connected() == 1 && n.machine.is_idle()));
    assert_eq!((ended(&world, 0), ended(&world, 1)), (Some(EndReason::HungUp), Some(EndReason::HungUp)));
    world
}

/// Three people, of whom the third is invited into the call and then removed.
fn group_of_three() -> World {
    let mut world = World::new(3, &Config::default());
    let (call, keys) = (call_id(2), world.keys(&[0, 1, 2]));
    world.ask(1, world.offer(1, &[0], call)).unwrap();
    world.ask(0, Command::Accept { call, other: Other::End }).unwrap();
    world.pass(2 * SECOND);
    let app_data = AppData::new(APP_DATA).unwrap();
    world.ask(0, Command::Invite { call, to: vec![keys[2]], app_data, sent_at: world.wall() }).unwrap();
    world.ask(2, Command::Accept { call, other: Other::End }).unwrap();
    world.pass(10 * SECOND);
    for (at, key) in keys.iter().enumerate() {
        let snapshot = world.nodes[at].machine.snapshot();
        let others = &snapshot.calls[0].participants;
        assert_eq!(others.len(), 2, "{key:?}");
        assert!(others.iter().all(|p| p.state.presence == Presence::Joined), "{others:?}");
    }
    world.ask(1, Command::Remove { call, peer: keys[2] }).unwrap();
    world.pass(10 * SECOND);
    assert_eq!(ended(&world, 2), Some(EndReason::Removed));
    world.ask(0, Command::HangUp { call }).unwrap();
    world.pass(60 * SECOND);
    assert!(world.nodes.iter().all(|n| n.machine.is_idle()));
    world
}

#[test]
fn a_call_of_two_is_replayed() {
    call_of_two().replay_all();
}

#[test]
fn a_group_of_three_is_replayed() {
    let mut world = group_of_three();
    for (journal, node) in world.replay_all().iter().zip(&world.nodes) {
        let steps = journal.steps().len();
        println!("{} bytes, {steps} steps: {} bytes each", node.text.len(), node.text.len() / steps);
    }
}

#[test]
fn refused_commands_are_replayed_with_their_reasons() {
    let mut world = World::new(2, &Config::default());
    let (own, call) = (world.key(0), call_id(1));
    let nobody = Command::Offer {
        to: Vec::new(),
        call,
        create: match world.offer(0, &[1], call) {
            Command::Offer { create, .. } => create,
            _ => unreachable!(),
        },
        app_data: AppData::default(),
        sent_at: WALL,
    };
    let refused = [
        (nobody, Rejected::NobodyToCall),
        (world.offer(0, &[0], call), Rejected::SelfCall),
        (Command::AddContact(own), Rejected::OwnKey),
        (Command::HangUp { call }, Rejected::NoSuchCall(call)),
        (Command::Resume { call, sent_at: WALL, other: Other::End }, Rejected::NothingToResume(call)),
    ];
    for (command, rejected) in refused {
        assert_eq!(world.ask(0, command), Err(rejected));
    }
    world.ask(0, world.offer(0, &[1], call)).unwrap();
    assert_eq!(world.ask(0, world.offer(0, &[1], call_id(9))), Err(Rejected::InCall(call)));
    let peer = world.key(1);
    let again = Command::Invite { call, to: vec![peer], app_data: AppData::default(), sent_at: WALL };
    assert_eq!(world.ask(0, again), Err(Rejected::AlreadyInCall(peer)));
    let journals = world.replay_all();
    let reasons: Vec<_> = journals[0].steps().iter().filter_map(|s| s.result.clone().err()).collect();
    assert_eq!(reasons.len(), 7);
    // The key in a reason is a pseudonym too.
    assert!(
        matches!(&reasons[6], Rejected::AlreadyInCall(key) if *key != peer && *key == pseudonym(&journals[0], 0))
    );
}

/// The pseudonym of a contact.
fn pseudonym(journal: &Journal, contact: usize) -> PublicKey {
    journal.beginning().contacts[contact]
}

#[test]
fn the_start_is_where_it_was() {
    let mut world = World::new(2, &Config::default());
    let journal = world.replay_all().remove(0);
    let starts: Vec<_> =
        journal.steps().iter().map(|step| matches!(step.happened, Happened::Start)).collect();
    assert_eq!(starts[..2], [false, true], "the clock comes first here");
    assert_eq!(starts.iter().filter(|start| **start).count(), 1);
}

#[test]
fn recording_stops_at_its_limit_and_the_machine_goes_on() {
    let whole = call_of_two().nodes[0].text.len();
    for limit in [0, 100, 1000, 2500, 3000, 20_000, whole, whole + 128] {
        let mut node = Node::new(&beginning(&Config::default(), &identity(1)), limit);
        for step in 1..2000 {
            let now = warp_blink::time::Instant::from_micros(step);
            node.handle(now, Command::SetMuted(step % 2 == 0).into()).unwrap();
        }
        assert_eq!(node.recorder.stopped(), Some(Stop::Limit), "{limit}");
        assert!(node.text.len() <= limit);
        if node.text.is_empty() {
            assert!(limit < 2000);
            continue;
        }
        let journal = Journal::parse(&node.text).unwrap();
        assert_eq!(journal.end(), Some(Stop::Limit));
        assert_eq!(journal.steps().len() as u64, node.recorder.steps());
        journal.replay().unwrap();
    }
}
