//! One journal, frozen. If this fails, either the format has changed, and then [`FORMAT`] grows; or the machine does something
//! else, and then `WARP_BLINK_BLESS=1` writes the file anew.

use std::{fs, path::PathBuf};

use warp_blink::{
    config::{Admission, Config, PreConnect},
    error::Rejected,
    event::NodeState,
    id::Identity,
    proto::{
        Command, Input, ReplayMemory,
        journal::{FORMAT, Journal, Stop},
    },
    time::UnixTime,
};

use crate::{SECOND, kit::*};

/// A stranger's call that is declined, at a phone with all that a journal can begin with.
pub(crate) fn declined() -> Node {
    let mut config = Config::default();
    config.pre_connect = PreConnect::Never;
    let mut world = World::new(2, &config);
    let mut ids: Vec<_> = (1..=2).map(identity).collect();
    ids.sort_by_key(Identity::public);
    config.admission = Admission::Only([ids[1].public()].into());
    let remembered = [(call_id(7), UnixTime::from_millis(WALL.as_millis() - 5000))];
    let beginning = beginning(&config, &ids[0])
        .with_memory(ReplayMemory::restored(WALL, remembered))
        .with_people([identity(30).public()], [identity(200).public()]);
    world.restart(0, Node::new(&beginning, LARGE));
    world.feed(0, Input::Clock(WALL));
    world.start(0);
    world.feed(0, Input::Node(NodeState::Offline { cause: CAUSE.to_owned() }));
    let call = call_id(1);
    assert_eq!(world.ask(0, Command::HangUp { call }), Err(Rejected::NoSuchCall(call)));
    world.ask(1, world.offer(1, &[0], call)).unwrap();
    world.ask(0, Command::Decline { call }).unwrap();
    world.pass(SECOND);
    let node = Node::new(&beginning, 0);
    let mut node = world.restart(0, node);
    node.replay();
    node
}

#[test]
fn golden_journal() {
    let written = declined().text;
    let version = format!("\"written_by\":\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(written.contains(&version));
    // A release changes nothing in the format.
    let written = written.replace(&version, "\"written_by\":\"0.0.0\"");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal.jsonl");
    if std::env::var_os("WARP_BLINK_BLESS").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let frozen = fs::read_to_string(&path).unwrap();
    let journal = Journal::parse(&frozen).unwrap_or_else(|e| panic!("format {FORMAT} cannot read it: {e}"));
    assert_eq!((journal.written_by(), journal.end()), ("0.0.0", Some(Stop::Finished)));
    journal.replay().unwrap_or_else(|divergence| panic!("the machine has changed: {divergence}"));
    for (number, (written, frozen)) in (1..).zip(written.lines().zip(frozen.lines())) {
        assert_eq!(written, frozen, "line {number}");
    }
    assert_eq!(written.lines().count(), frozen.lines().count());
}
