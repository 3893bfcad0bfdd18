//! What must not be in a journal is not, in any form; and what stays is what the machine decides on.

use std::time::Duration;

use warp_blink::{
    config::{Admission, Config},
    event::{Event, NodeState},
    id::{Identity, NodeKey},
    proto::{
        Arrived, Command, EffectKind, Input, Known, Notice, Other, ReplayMemory, Saved,
        journal::{Happened, Journal},
        signal::{AppData, Body, Hello, HelloKind, MediaFormat, RollHash, SUITE_CLASSICAL, VERSION},
    },
    time::{Instant, UnixTime},
};

use crate::{SECOND, call_of_two, group_of_three, kit::*};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// As serde writes bytes.
fn list(bytes: &[u8]) -> String {
    bytes.iter().map(|b| b.to_string()).collect::<Vec<_>>().join(",")
}

/// Every way to write somebody's key.
fn forms(id: &Identity) -> Vec<String> {
    let key = id.public();
    let node = NodeKey::from(id).node_id();
    let mut forms = vec![
        key.to_string(),
        key.to_string()["did:key:z6Mk".len()..].to_owned(),
        key.to_peer_id_string(),
        node.to_string(),
        bs58::encode(key.as_bytes()).into_string(),
        // Numbers, and the short form of logs.
        list(&key.as_bytes()[..6]),
        list(&key.to_x25519()[..6]),
        hex(&key.as_bytes()[..4]),
        hex(&key.to_x25519()[..8]),
    ];
    forms.extend(forms.clone().iter().map(|form| form.to_uppercase()));
    forms
}

fn texts() -> Vec<(&'static str, Vec<String>)> {
    vec![
        ("a description", vec!["198.51.100.7".to_owned(), "ice-pwd".to_owned(), "hush".to_owned()]),
        ("a candidate", vec!["candidate:".to_owned(), "2130706431".to_owned()]),
        ("app data", vec![list(&APP_DATA[..8]), hex(&APP_DATA[..8]), "usual".to_owned()]),
        ("a cause", vec!["203.0.113.9".to_owned(), "no route".to_owned()]),
        ("a device", vec![DEVICE.to_owned(), "Anna".to_owned()]),
        ("the random part of a call", vec![list(&RANDOM[..6]), hex(&RANDOM[..6])]),
        ("the time", vec!["17600".to_owned(), "17601".to_owned()]),
        ("for how long the system has been up", vec!["98765".to_owned(), "98766".to_owned()]),
    ]
}

#[test]
fn hostile_readers_find_no_name_no_address_and_no_text() {
    for world in [call_of_two(), group_of_three()] {
        let journals: String = world.nodes.iter().map(|n| n.text.as_str()).collect();
        // The same, as it would be without scrubbing: all of it is found there, so the search is not blind.
        let effects: Vec<_> = world.nodes.iter().flat_map(|n| &n.effects).collect();
        let raw = serde_json::to_string(&effects).unwrap();
        for id in (1..=world.nodes.len() as u8).map(identity) {
            let forms = forms(&id);
            assert!(raw.contains(&forms[0]) && raw.contains(&forms[3]), "the search is blind for {id:?}");
            for form in &forms {
                assert!(!journals.contains(form.as_str()), "{form} is in a journal");
            }
        }
        for (what, forms) in texts() {
            let there = what == "a cause" && world.nodes.len() == 3;
            assert!(there || forms.iter().any(|form| raw.contains(form)), "the search is blind for {what}");
            for form in forms {
                assert!(!journals.contains(&form), "{what}: {form} is in a journal");
            }
        }
        let blocked = identity(200).public().to_string();
        assert!(!journals.contains(&blocked));
    }
}

#[test]
fn lengths_routes_and_differences_of_times_stay() {
    let world = call_of_two();
    let mut pairs = Vec::new();
    for node in &world.nodes {
        let journal = Journal::parse(&node.text).unwrap();
        let kept = journal.steps().iter().filter_map(|s| s.result.as_ref().ok()).flatten().cloned();
        let kept: Vec<_> = kept.collect();
        assert_eq!(kept.len(), node.effects.len());
        pairs.extend(node.effects.iter().cloned().zip(kept));
    }
    let mut shifts = Vec::new();
    let (mut described, mut routes, mut offered, mut measured) = (0, 0, 0, 0);
    for (real, kept) in pairs {
        assert_eq!(real.id, kept.id);
        match (&real.kind, &kept.kind) {
            (EffectKind::Send { packet: real, .. }, EffectKind::Send { packet: kept, .. }) => {
                assert_eq!((real.seq, real.ack, real.call), (kept.seq, kept.ack, kept.call));
                if let (Body::Description(real), Body::Description(kept)) = (&real.body, &kept.body) {
                    assert_eq!(kept.text, "x".repeat(real.text.len()));
                    described += 1;
                }
            }
            (EffectKind::SendHello { hello: real, .. }, EffectKind::SendHello { hello: kept, .. }) => {
                assert_eq!(kept.app_data.as_bytes(), vec![0; APP_DATA.len()]);
                shifts.push(kept.sent_at.as_millis() - real.sent_at.as_millis());
                offered += 1;
            }
            (
                EffectKind::Emit(Event::Link { route: real, .. }),
                EffectKind::Emit(Event::Link { route: kept, .. }),
            ) => {
                assert_eq!(real, kept, "of the link");
                routes += usize::from(kept.is_some());
            }
            (
                EffectKind::Emit(Event::MediaStarted { mic_us: Some(real), .. }),
                EffectKind::Emit(Event::MediaStarted { mic_us: Some(kept), .. }),
            ) => shifts.push((kept - real) / 1000),
            (
                EffectKind::Emit(Event::Ended { summary: real, .. }),
                EffectKind::Emit(Event::Ended { summary: kept, .. }),
            ) => {
                let (real, kept) = (&real.participants[0].stats, &kept.participants[0].stats);
                assert!(real.loss_pct.is_some_and(f64::is_nan) && kept.loss_pct.is_none());
                assert_eq!((real.rtt_ms, kept.rtt_ms), (Some(1.0 / 3.0), Some(0.333)));
                assert_eq!((real.sent_bps, kept.sent_bps), (Some(1e300), Some(1e12)));
                measured += 1;
            }
            _ => {}
        }
    }
    assert!(described > 0 && routes > 0 && offered > 0, "{described} {routes} {offered}");
    assert_eq!(measured, 2);
    assert!(shifts.len() > 1 && shifts.windows(2).all(|s| s[0] == s[1]), "{shifts:?}");
}

#[test]
fn equal_texts_stay_equal_and_others_differ() {
    let world = call_of_two();
    let journal = Journal::parse(&world.nodes[1].text).unwrap();
    let causes: Vec<_> = journal
        .steps()
        .iter()
        .filter_map(|step| match &step.happened {
            Happened::Input(_, input) => match &**input {
                Input::Node(NodeState::Offline { cause }) => Some(cause.clone()),
                _ => None,
            },
            Happened::Start => None,
        })
        .collect();
    assert_eq!(causes.len(), 2);
    assert!(causes[0] != causes[1] && causes.iter().all(|c| c.starts_with('…') && c.len() < 6), "{causes:?}");
}

/// What an earlier run has left, and coming back to a call of it.
pub(crate) fn returned() -> World {
    let mut world = World::new(3, &Config::default());
    let call = call_id(2);
    world.ask(1, world.offer(1, &[0, 2], call)).unwrap();
    for at in [0, 2] {
        world.ask(at, Command::Accept { call, other: Other::End }).unwrap();
    }
    world.pass(10 * SECOND);
    let saved = world.nodes[0].effects.iter().rev().find_map(|e| match &e.kind {
        EffectKind::SaveCall { call, roll, media } => {
            Some(Saved::new(*call, roll.clone(), *media, RollHash([9; 16])))
        }
        _ => None,
    });
    let at = |before: u64| UnixTime::from_millis(WALL.as_millis() - before);
    let memory = ReplayMemory::restored(at(900_000), [(call, at(10_000)), (call_id(7), at(5_000))]);
    let mut config = Config::default();
    config.admission = Admission::Only([world.key(1), identity(50).public()].into());
    let mut ids: Vec<_> = (1..=3).map(identity).collect();
    ids.sort_by_key(Identity::public);
    let beginning = beginning(&config, &ids[0]).with_memory(memory).with_people([world.key(2)], []);
    let mut dead = world.restart(0, Node::new(&beginning, LARGE));
    dead.replay();
    let inputs = [
        Input::Clock(world.wall()),
        Input::Known { peer: world.key(2), known: Known::new(true, true) },
        Input::Saved(Box::new(saved.unwrap())),
        Input::Notice(Notice::new(identity(60).public(), call_id(8), at(3_600_000))),
    ];
    for input in inputs {
        world.feed(0, input);
    }
    world.start(0);
    let resume = Command::Resume { call, sent_at: world.wall(), other: Other::End };
    world.ask(0, resume).unwrap();
    world.pass(20 * SECOND);
    assert_eq!(world.nodes[0].connected(), 2, "it is back");
    for (command, after) in [
        (Command::Hold { call }, 6),
        (Command::Unhold { call, other: Other::End }, 6),
        (Command::Leave { call }, 6),
        (Command::Rejoin { call, other: Other::End }, 10),
        (Command::Shutdown, 10),
    ] {
        world.ask(0, command).unwrap();
        world.pass(after * SECOND);
    }
    world.feed(0, Input::Stopped { cause: CAUSE.to_owned() });
    world
}

#[test]
fn a_return_after_a_restart_is_replayed() {
    let (mut world, call) = (returned(), call_id(2));
    let journals = world.replay_all();
    let begun = journals[0].beginning();
    assert_eq!(begun.memory.calls().map(|(call, _)| call).collect::<Vec<_>>(), [call, call_id(7)]);
    assert!(matches!(&begun.config.admission, Admission::Only(only) if only.len() == 2));
    // Versions go on from the Unix time of the return.
    let announced = world.nodes[0].text.matches("\"version\":8796").count();
    assert!(announced > 0);
}

#[test]
fn clocks_that_were_never_set_stay_as_they_are() {
    let mut node = Node::new(&beginning(&Config::default(), &identity(1)), LARGE);
    let times = [0, 5, 86_400_000, u64::MAX, u64::MAX - 1, WALL.as_millis(), WALL.as_millis() + 1, 9];
    for millis in times {
        let effects =
            node.handle(Instant::from_micros(1), Input::Clock(UnixTime::from_millis(millis))).unwrap();
        node.effects.extend(effects);
    }
    let journal = node.replay();
    let kept: Vec<u64> = journal
        .steps()
        .iter()
        .filter_map(|step| match &step.happened {
            Happened::Input(_, input) => match &**input {
                Input::Clock(wall) => Some(wall.as_millis()),
                _ => None,
            },
            Happened::Start => None,
        })
        .collect();
    let moved = 1 << 43;
    assert_eq!(kept, [0, 5, 86_400_000, u64::MAX, u64::MAX - 1, moved, moved + 1, 9]);
}

#[test]
fn a_notice_of_a_caller_without_a_clock_does_not_tell_the_time() {
    let mut node = Node::new(&beginning(&Config::default(), &identity(1)), LARGE);
    let caller = identity(2);
    for (n, ago) in [(1, 1_760_000_000), (2, 604_801), (3, 604_800)] {
        let hello = Hello {
            kind: HelloKind::Missed,
            from: caller.public(),
            node: NodeKey::from(&caller).node_id(),
            call: call_id(n),
            sent_at: UnixTime::from_millis(0),
            ring_ms: ago,
            versions: vec![VERSION],
            suites: vec![SUITE_CLASSICAL],
            media: MediaFormat::default(),
            app_data: AppData::default(),
        };
        let mut arrived = Arrived::new(hello);
        arrived.wall = WALL;
        let effects = node.handle(UP, Input::Hello(Box::new(arrived))).unwrap();
        assert_eq!(effects.is_empty(), ago > 604_800, "seven days are the most");
        node.effects.extend(effects);
    }
    node.replay();
    let told = |ago: &str| node.text.matches(&format!("\"ring_ms\":{ago},")).count();
    assert_eq!((told("1760000000"), told("604801"), told("604800")), (0, 2, 1));
}

#[test]
fn a_call_nobody_takes_is_replayed_with_its_notice() {
    let mut world = World::new(2, &Config::default());
    let (call, absent) = (call_id(3), identity(99).public());
    let Command::Offer { create, app_data, sent_at, .. } = world.offer(0, &[1], call) else { unreachable!() };
    let offer = Command::Offer { call, create, to: vec![absent], app_data, sent_at };
    world.ask(0, offer).unwrap();
    world.pass(Duration::from_secs(90));
    let saved = |e: &warp_blink::proto::Effect| matches!(e.kind, EffectKind::SaveNotices);
    assert!(world.nodes[0].effects.iter().any(saved));
    let ended = world.nodes[0].events.iter().any(
        |e| matches!(e, Event::Ended { summary, .. } if summary.failure.as_ref().is_some_and(|f| !f.advice.is_empty())),
    );
    assert!(ended, "what the machine says by itself is text too");
    world.replay_all();
    assert!(!world.nodes[0].text.contains(&absent.to_string()));
}
