//! The diagram and the table in the documentation of the room, against the machine.

use std::collections::BTreeSet;

use super::*;

const DOCS: &str = include_str!("../../mod.rs");
const STATES: [&str; 6] = ["Disconnected", "Connecting", "Connected", "Idle", "Retry", "ConnectionFailed"];

/// When the table is drawn: long after everything began, but within the attempt that runs.
const NOW: u64 = 20_000;

/// One reach in each state, all with addresses except the first.
pub(super) fn states() -> Vec<(&'static str, Reach)> {
    let mut empty = reach(ReachConfig::default().with_max_attempts(2));
    let connecting_since = |from: &Reach, ms: u64| {
        let mut connecting = from.clone();
        let effects = step(&mut connecting, at(ms), connect(&[A, B, NAME]));
        assert!(
            effects.contains(&Effect::Resolve { query: QueryId(0), question: question() }),
            "{effects:?}"
        );
        assert_eq!(dials(&effects), [0]);
        connecting
    };
    let connecting = connecting_since(&empty, NOW);
    let mut connected = connecting_since(&empty, 0);
    step(&mut connected, at(0), dialed(0, Ok(Via::Direct)));
    let mut idle = connected.clone();
    step(&mut idle, at(0), ReachInput::Release);
    let mut retry = connecting_since(&empty, 0);
    last_failed(&mut retry, at(0)).unwrap();
    let mut failed = retry.clone();
    let due = failed.next_timeout().unwrap();
    step(&mut failed, due, timeout());
    let end = due + failed.config.attempt_timeout;
    step(&mut failed, end, timeout());
    empty.addresses = vec![A.to_owned()];
    let states = vec![empty, connecting, connected, idle, retry, failed];
    STATES.into_iter().zip(states).inspect(|(wanted, reach)| assert_eq!(name(reach), *wanted)).collect()
}

fn name(reach: &Reach) -> &'static str {
    match reach.state() {
        ReachState::Disconnected => "Disconnected",
        ReachState::Connecting { .. } => "Connecting",
        ReachState::Connected { .. } if reach.is_wanted() => "Connected",
        ReachState::Connected { .. } => "Idle",
        ReachState::Retry { .. } => "Retry",
        ReachState::ConnectionFailed { .. } => "ConnectionFailed",
    }
}

/// Both addresses and the name fail; gives the effects of the last one.
fn last_failed(reach: &mut Reach, now: Instant) -> Result<Vec<Effect>, ReachRejected> {
    let _ = reach.handle(now, resolved(0, Err(ResolveError::Failed("SERVFAIL".into()))));
    let _ = reach.handle(now, dialed(0, Err("refused")));
    reach.handle(now, dialed(1, Err("refused")))
}

fn run(row: &str, reach: &mut Reach) -> Result<Vec<Effect>, ReachRejected> {
    let now = at(NOW + 1);
    match row {
        "Connect" => reach.handle(now, connect(&[])),
        "Release" => reach.handle(now, ReachInput::Release),
        "Disconnect" => reach.handle(now, ReachInput::Disconnect),
        "Reset" => reach.handle(now, ReachInput::Reset),
        "DialedOk" => reach.handle(now, dialed(0, Ok(Via::Direct))),
        "DialedErr" => reach.handle(now, dialed(0, Err("refused"))),
        "LastFailed" => last_failed(reach, now),
        "Hopeless" => {
            // Nothing but a name, which is known not to exist.
            if name(reach) == "Connecting" {
                reach.handle(now, ReachInput::Reset)?;
                let effects = reach.handle(now, connect(&[NAME]))?;
                let [Effect::Resolve { query, .. }] = effects.as_slice() else { panic!("{effects:?}") };
                return reach.handle(now, resolved(query.0, Err(ResolveError::NoSuchName("none".into()))));
            }
            reach.handle(now, resolved(0, Err(ResolveError::NoSuchName("none".into()))))
        }
        "DialedLate" => reach.handle(now, dialed(77, Ok(Via::Direct))),
        "Resolved" => reach.handle(at(NOW + 200), resolved(0, Ok(Answers::Ip4(vec![[192, 0, 2, 9].into()])))),
        "ResolvedLate" => reach.handle(now, resolved(77, Ok(Answers::Ip4(Vec::new())))),
        "PeerConnected" => reach.handle(now, ReachInput::PeerConnected { via: Via::Direct }),
        "PeerDisconnected" => reach.handle(now, lost()),
        "LostAtOnce" => reach.handle(at(1), lost()),
        "Timeout" => {
            let due = reach.next_timeout().unwrap_or(now);
            reach.handle(due, timeout())
        }
        "AttemptOver" => {
            let due = reach.next_timeout().map_or(now, |due| due + reach.config.attempt_timeout);
            reach.handle(due, timeout())
        }
        other => panic!("the table has a row of an input that there is none of: {other}"),
    }
}

fn drawn(reach: &Reach, before: &Reach, result: Result<Vec<Effect>, ReachRejected>) -> String {
    let Ok(effects) = result else { return "refused".into() };
    if reach.ignored() > before.ignored() && effects.is_empty() && reach.state() == before.state() {
        return "-".into();
    }
    let effects = effects.iter().filter_map(|effect| match effect {
        Effect::Dial { .. } => Some("Dial"),
        Effect::Resolve { .. } => None,
        Effect::Abort { .. } => Some("Abort"),
        Effect::Close => Some("Close"),
    });
    [name(reach)].into_iter().chain(effects).collect::<Vec<_>>().join(" ")
}

/// Each row of the table: the input, and a cell for each state.
fn rows() -> Vec<(String, Vec<String>)> {
    let lines = DOCS.lines().filter_map(|line| line.strip_prefix("//! | "));
    let cells = |line: &str| -> Vec<String> {
        line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = lines.map(cells).filter(|cells| cells.len() == STATES.len() + 1);
    assert_eq!(rows.next().expect("a head")[1..], STATES);
    rows.map(|mut cells| (cells.remove(0), cells)).collect()
}

#[test]
fn the_table_in_the_documentation_is_what_the_machine_does() {
    let rows = rows();
    assert_eq!(rows.len(), 16, "every input in every state");
    for (input, cells) in rows {
        for ((state, before), cell) in states().into_iter().zip(cells) {
            let mut reach = before.clone();
            let result = run(&input, &mut reach);
            reach.check().unwrap();
            if result.is_err() {
                assert_eq!(format!("{reach:?}"), format!("{before:?}"), "a refused command changes nothing");
            }
            assert_eq!(drawn(&reach, &before, result), cell, "{input} in {state}");
        }
    }
}

#[test]
fn the_diagram_in_the_documentation_has_every_change_of_state() {
    let edge = |line: &str| {
        let (from, rest) = line.strip_prefix("//! ")?.split_once(" --")?;
        let (input, to) = rest.split_once("--> ")?;
        Some((from.to_owned(), input.to_owned(), to.to_owned()))
    };
    let drawn: BTreeSet<(String, String, String)> = DOCS.lines().filter_map(edge).collect();
    let mut found = BTreeSet::new();
    for (input, cells) in rows() {
        for (from, cell) in STATES.into_iter().zip(cells) {
            let to = cell.split(' ').next().unwrap_or_default();
            if STATES.contains(&to) && to != from {
                found.insert((from.to_owned(), input.clone(), to.to_owned()));
            }
        }
    }
    // What is the same edge for another reason is drawn once.
    found.remove(&("Idle".into(), "AttemptOver".into(), "Disconnected".into()));
    found.remove(&("Retry".into(), "AttemptOver".into(), "Connecting".into()));
    assert_eq!(drawn, found);
}
