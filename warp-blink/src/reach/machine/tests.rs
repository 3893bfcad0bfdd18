mod table;

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    id::NodeKey,
    reach::{Answers, QueryId, Question, ResolveError},
};

const J: Jitter = Jitter(0);
const A: &str = "/ip4/192.0.2.1/tcp/1";
const B: &str = "/ip4/192.0.2.2/tcp/1";
const NAME: &str = "/dns4/example.org/tcp/1";

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn reach(config: ReachConfig) -> Reach {
    Reach::new(NodeKey::from_seed([1; 32]).node_id(), config)
}

fn connect(addresses: &[&str]) -> ReachInput {
    ReachInput::Connect { addresses: Addresses(addresses.iter().map(|a| (*a).to_owned()).collect()) }
}

fn dialed(dial: u64, result: Result<Via, &str>) -> ReachInput {
    ReachInput::Dialed { dial: DialId(dial), result: result.map_err(str::to_owned), jitter: J }
}

fn resolved(query: u64, result: Result<Answers, ResolveError>) -> ReachInput {
    ReachInput::Resolved { query: QueryId(query), result, jitter: J }
}

fn timeout() -> ReachInput {
    ReachInput::Timeout { jitter: J }
}

fn lost() -> ReachInput {
    ReachInput::PeerDisconnected { jitter: J }
}

/// One step, after which the invariants hold.
fn step(reach: &mut Reach, now: Instant, input: ReachInput) -> Vec<Effect> {
    let effects = reach.handle(now, input).unwrap();
    reach.check().unwrap();
    effects
}

/// The dialings that begin.
fn dials(effects: &[Effect]) -> Vec<u64> {
    let dial = |effect: &Effect| match effect {
        Effect::Dial { dial, .. } => Some(dial.0),
        _ => None,
    };
    effects.iter().filter_map(dial).collect()
}

fn aborts(effects: &[Effect]) -> Vec<u64> {
    let dial = |effect: &Effect| match effect {
        Effect::Abort { dial } => Some(dial.0),
        _ => None,
    };
    effects.iter().filter_map(dial).collect()
}

#[test]
fn a_reach_without_an_address_says_so() {
    let mut reach = reach(ReachConfig::default());
    assert_eq!(reach.handle(at(0), connect(&[])), Err(ReachRejected::NoAddresses));
    assert_eq!(
        reach.handle(at(0), connect(&[A; MAX_REACH_ADDRESSES + 1])),
        Err(ReachRejected::TooManyAddresses)
    );
    let long = "x".repeat(MAX_ADDRESS + 1);
    assert_eq!(reach.handle(at(0), connect(&[&long])), Err(ReachRejected::TooManyAddresses));
    // Connected by the other side, it needs none.
    step(&mut reach, at(0), ReachInput::PeerConnected { via: Via::Direct });
    assert_eq!(step(&mut reach, at(0), connect(&[])), []);
    // When that is lost, there is nothing to dial.
    assert_eq!(step(&mut reach, at(90_000), lost()), []);
    assert_eq!(reach.state(), &ReachState::Disconnected);
}

#[test]
fn attempts_back_off_exponentially_and_end_with_all_causes() {
    let config = ReachConfig::default().with_max_attempts(4);
    let mut reach = reach(config.clone());
    let mut now = at(0);
    let mut effects = step(&mut reach, now, connect(&[A]));
    for attempt in 1..=4u32 {
        let [Effect::Dial { dial, attempt: n, .. }] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(*n, attempt);
        let cause = format!("refused {attempt}");
        let result = ReachInput::Dialed { dial: *dial, result: Err(cause.clone()), jitter: Jitter(u16::MAX) };
        step(&mut reach, now, result);
        if attempt == 4 {
            break;
        }
        let ReachState::Retry { error: ReachError::Addresses(tried), .. } = reach.state() else { panic!() };
        assert_eq!(tried.len(), 1, "those of this attempt");
        assert_eq!(tried[0].cause, Cause::Refused(cause));
        let due = reach.next_timeout().unwrap();
        assert_eq!(due - now, config.backoff_first * 2u32.pow(attempt - 1));
        now = due;
        effects = step(&mut reach, now, timeout());
    }
    let ReachState::ConnectionFailed { attempts: 4, error, since } = reach.state() else {
        panic!("{reach:?}")
    };
    let ReachError::Addresses(tried) = error else { panic!("{error:?}") };
    assert_eq!(tried.iter().map(|t| t.attempt).collect::<Vec<_>>(), [1, 2, 3, 4], "not only the last");
    assert!(tried.iter().all(|t| t.began == Some(t.ended) && t.ended <= *since));
    let said = error.to_string();
    assert!(
        said.contains("refused 4 (4 times)") && said.contains(A) && !said.contains("refused 1"),
        "{said}"
    );
    assert_eq!(reach.next_timeout(), None);
}

#[test]
fn what_can_never_work_is_tried_once() {
    let mut reach = reach(ReachConfig::default());
    step(&mut reach, at(0), connect(&["/ip4/192.0.2.1", "nonsense"]));
    let ReachState::ConnectionFailed { attempts: 1, error, .. } = reach.state() else { panic!("{reach:?}") };
    assert!(error.to_string().contains("expected tcp/<port>"), "{error}");
    // A name that does not exist: as soon as that is known.
    step(&mut reach, at(0), connect(&[NAME]));
    let nobody = Err(ResolveError::NoSuchName("NXDOMAIN".into()));
    step(&mut reach, at(3), resolved(0, nobody));
    let ReachState::ConnectionFailed { attempts: 1, error, since } = reach.state() else {
        panic!("{reach:?}")
    };
    assert_eq!(*since, at(3));
    assert!(error.to_string().contains("no such name: NXDOMAIN"), "{error}");
    // Beside something that may work it is only one of the failures.
    step(&mut reach, at(5), connect(&["nonsense", A]));
    step(&mut reach, at(6), dialed(0, Err("refused")));
    let ReachState::Retry { error: ReachError::Addresses(tried), .. } = reach.state() else {
        panic!("{reach:?}")
    };
    assert_eq!(tried.len(), 2);
    // Under relay_only nothing is dialed, and that is said.
    let mut strict = super::tests::reach(ReachConfig::default().with_relay_only(true));
    assert_eq!(step(&mut strict, at(0), connect(&[A, NAME])), []);
    assert!(
        matches!(strict.state(), ReachState::ConnectionFailed { error, .. } if error.to_string().contains("relay"))
    );
}

#[test]
fn the_backoff_is_bounded_and_jitter_takes_half_at_most() {
    let config = ReachConfig::default();
    for failed in [1, 2, 5, 30, u32::MAX] {
        let most = config.backoff(failed, Jitter(u16::MAX));
        let least = config.backoff(failed, Jitter(0));
        assert!(most <= config.backoff_most && least * 2 == most, "{failed}: {least:?} {most:?}");
    }
    assert_eq!(config.backoff(u32::MAX, Jitter(u16::MAX)), config.backoff_most);
}

#[test]
fn failures_are_remembered_in_bounds() {
    let mut reach = reach(ReachConfig::default().with_max_attempts(40));
    let addresses: Vec<String> =
        (0..16).map(|n| format!("nonsense {n}")).chain([A.to_owned()]).skip(1).collect();
    let mut now = at(0);
    step(&mut reach, now, ReachInput::Connect { addresses: Addresses(addresses) });
    for dial in 0..40 {
        step(&mut reach, now, dialed(dial, Err("refused")));
        let Some(due) = reach.next_timeout() else { break };
        now = due;
        step(&mut reach, now, timeout());
    }
    let ReachState::ConnectionFailed { attempts: 40, error: ReachError::Addresses(tried), .. } =
        reach.state()
    else {
        panic!("{reach:?}")
    };
    assert_eq!(tried.len(), MAX_TRIED);
    assert_eq!(tried.last().unwrap().attempt, 40, "the newest");
}

#[test]
fn late_results_change_nothing() {
    let mut reach = reach(ReachConfig::default());
    step(&mut reach, at(0), connect(&[A, NAME]));
    // The first attempt takes too long, the second runs.
    assert_eq!(aborts(&step(&mut reach, at(10_000), timeout())), [0]);
    let due = reach.next_timeout().unwrap();
    assert_eq!(dials(&step(&mut reach, due, timeout())), [1]);
    let before = format!("{:?}", reach.state());
    for late in
        [dialed(0, Err("refused")), dialed(0, Ok(Via::Direct)), resolved(0, Ok(Answers::Ip4(Vec::new())))]
    {
        assert_eq!(step(&mut reach, due, late), []);
    }
    assert_eq!(format!("{:?}", reach.state()), before);
    assert_eq!(reach.ignored(), 3);
    step(&mut reach, due, dialed(1, Ok(Via::Direct)));
    assert!(reach.is_connected());
    // A number never returns, not even after a new start.
    step(&mut reach, due, ReachInput::Disconnect);
    assert_eq!(dials(&step(&mut reach, due, connect(&[A]))), [2]);
    for old in 0..2 {
        step(&mut reach, due, dialed(old, Ok(Via::Direct)));
    }
    assert!(!reach.is_connected());
}

#[test]
fn reset_aborts_what_is_dialed_and_a_late_answer_falls() {
    let mut reach = reach(ReachConfig::default());
    step(&mut reach, at(0), connect(&[A, B]));
    step(&mut reach, at(200), timeout());
    let effects = step(&mut reach, at(300), ReachInput::Reset);
    assert_eq!(aborts(&effects), [0, 1]);
    assert_eq!(effects.last(), Some(&Effect::Close), "what may just have opened");
    assert_eq!(step(&mut reach, at(301), dialed(0, Ok(Via::Direct))), []);
    assert_eq!(reach.state(), &ReachState::Disconnected);
    assert_eq!(reach.next_timeout(), None);
    // It starts anew, from the first attempt.
    step(&mut reach, at(400), connect(&[]));
    assert!(matches!(reach.state(), ReachState::Connecting { attempt: 1, .. }));
}

#[test]
fn the_first_that_answers_ends_the_others() {
    let mut reach = reach(ReachConfig::default());
    step(&mut reach, at(0), connect(&[A, B]));
    step(&mut reach, at(200), timeout());
    let ReachState::Connecting { addresses, .. } = reach.state() else { panic!() };
    assert_eq!(addresses.0.len(), 2);
    assert!(addresses.0[1].starts_with(B), "the newest last");
    assert_eq!(aborts(&step(&mut reach, at(250), dialed(1, Ok(Via::Direct)))), [0]);
    assert_eq!(step(&mut reach, at(251), dialed(0, Ok(Via::Direct))), []);
    assert_eq!(reach.state(), &ReachState::Connected { since: at(250), via: Via::Direct });
}

#[test]
fn a_relay_that_is_quicker_does_not_end_the_straight_way() {
    let relayed =
        format!("/ip4/198.51.100.1/tcp/1/p2p/{}/p2p-circuit", NodeKey::from_seed([2; 32]).node_id());
    let mut reach = reach(ReachConfig::default());
    step(&mut reach, at(0), connect(&[A, &relayed]));
    step(&mut reach, at(200), timeout());
    assert_eq!(step(&mut reach, at(250), dialed(1, Ok(Via::Relay))), []);
    assert_eq!(reach.state(), &ReachState::Connected { since: at(250), via: Via::Relay });
    step(&mut reach, at(300), dialed(0, Ok(Via::Direct)));
    assert_eq!(reach.state(), &ReachState::Connected { since: at(250), via: Via::Direct });
    assert_eq!(reach.ignored(), 0);
}

#[test]
fn a_connection_of_the_other_side_leaves_ours_to_itself() {
    let mut reach = reach(ReachConfig::default());
    step(&mut reach, at(0), connect(&[A, B]));
    step(&mut reach, at(200), timeout());
    // Both sides ending their own for the other's would leave none.
    assert_eq!(step(&mut reach, at(250), ReachInput::PeerConnected { via: Via::Direct }), []);
    assert_eq!(aborts(&step(&mut reach, at(260), dialed(0, Ok(Via::Direct)))), [1]);
    // What was left is ended with the connection.
    step(&mut reach, at(300), ReachInput::Disconnect);
    let first = dials(&step(&mut reach, at(400), connect(&[A])))[0];
    step(&mut reach, at(450), ReachInput::PeerConnected { via: Via::Direct });
    let effects = step(&mut reach, at(500), ReachInput::Disconnect);
    assert_eq!((aborts(&effects), effects.last()), (vec![first], Some(&Effect::Close)));
}

#[test]
fn a_timeout_before_its_time_changes_nothing() {
    for (before, mut reach) in table::states() {
        let due = reach.next_timeout();
        let early = due.map_or(at(0), |d| Instant::from_micros(d.as_micros() - 1));
        let old = format!("{:?}", reach.state());
        assert_eq!(step(&mut reach, early, timeout()), [], "{before}");
        assert_eq!(format!("{:?}", reach.state()), old);
    }
}

#[test]
fn a_good_connection_that_is_lost_is_dialed_at_once_and_a_bad_one_is_not() {
    let mut reach = reach(ReachConfig::default().with_max_attempts(3));
    step(&mut reach, at(0), connect(&[A]));
    step(&mut reach, at(0), dialed(0, Ok(Via::Direct)));
    assert_eq!(dials(&step(&mut reach, at(10_000), lost())), [1]);
    step(&mut reach, at(10_000), dialed(1, Ok(Via::Direct)));
    let mut now = at(10_000);
    for dial in 2..4 {
        assert_eq!(step(&mut reach, now, lost()), []);
        assert!(matches!(reach.state(), ReachState::Retry { error: ReachError::Unstable, .. }));
        now = reach.next_timeout().unwrap();
        step(&mut reach, now, timeout());
        step(&mut reach, now, dialed(dial, Ok(Via::Direct)));
    }
    step(&mut reach, now, lost());
    assert!(matches!(reach.state(), ReachState::ConnectionFailed { error: ReachError::Unstable, .. }));
}

#[test]
fn a_connection_that_nobody_uses_is_kept_for_the_idle_time() {
    let idle = ReachConfig::default().idle;
    let mut reach = reach(ReachConfig::default());
    step(&mut reach, at(0), connect(&[A]));
    step(&mut reach, at(0), dialed(0, Ok(Via::Direct)));
    assert_eq!(reach.next_timeout(), None, "used");
    step(&mut reach, at(0), ReachInput::Release);
    assert_eq!(reach.next_timeout(), Some(at(0) + idle));
    step(&mut reach, at(5), connect(&[A]));
    assert_eq!(reach.next_timeout(), None, "used again");
    step(&mut reach, at(10), ReachInput::Release);
    let due = reach.next_timeout().unwrap();
    assert_eq!(step(&mut reach, due, timeout()), [Effect::Close]);
    assert_eq!(reach.state(), &ReachState::Disconnected);
}

#[test]
fn new_addresses_are_tried_in_the_attempt_that_runs() {
    let mut reach = reach(ReachConfig::default());
    step(&mut reach, at(0), connect(&[A]));
    assert_eq!(step(&mut reach, at(1), connect(&[B, A])), [], "the other one has its 200 ms");
    let effects = step(&mut reach, at(200), timeout());
    let [Effect::Dial { address, attempt: 1, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert!(address.to_string().starts_with(B));
    // Long after the others began: at once.
    assert_eq!(dials(&step(&mut reach, at(900), connect(&["/ip4/192.0.2.3/tcp/1"]))), [2]);
}

#[test]
fn states_can_be_stored_and_show_no_address_in_debug() {
    for (_, reach) in table::states() {
        let text = serde_json::to_string(reach.state()).unwrap();
        assert_eq!(&serde_json::from_str::<ReachState>(&text).unwrap(), reach.state());
        assert!(!format!("{:?}", reach.state()).contains("192.0"), "{:?}", reach.state());
    }
    let (mut reach, input) = (reach(ReachConfig::default()), connect(&[A, NAME]));
    let shown = format!("{input:?} {:?}", step(&mut reach, at(0), input.clone()));
    assert!(!shown.contains("192.0") && !shown.contains("example"), "{shown}");
}

fn input() -> impl Strategy<Value = ReachInput> {
    let jitter = any::<u16>().prop_map(Jitter);
    let relay = format!("/ip4/198.51.100.1/tcp/1/p2p/{}/p2p-circuit", NodeKey::from_seed([2; 32]).node_id());
    let address = prop_oneof![
        Just(A.to_owned()),
        Just(B.to_owned()),
        Just(NAME.to_owned()),
        Just("/dns/b.org/tcp/1".to_owned()),
        Just(relay),
        Just("nonsense".to_owned()),
    ];
    prop_oneof![
        proptest::collection::vec(address, 0..4)
            .prop_map(|addresses| ReachInput::Connect { addresses: Addresses(addresses) }),
        Just(ReachInput::Release),
        Just(ReachInput::Disconnect),
        Just(ReachInput::Reset),
        (0..24u64, any::<bool>(), jitter.clone()).prop_map(|(dial, ok, jitter)| ReachInput::Dialed {
            dial: DialId(dial),
            result: if ok { Ok(Via::Direct) } else { Err("refused".into()) },
            jitter,
        }),
        (0..12u64, 0..3u8, jitter.clone()).prop_map(|(query, how, jitter)| ReachInput::Resolved {
            query: QueryId(query),
            result: match how {
                0 => Ok(Answers::Ip4(vec![[192, 0, 2, 9].into()])),
                1 => Ok(Answers::Ip6(vec![[0x2001, 0xdb8, 0, 0, 0, 0, 0, 9].into()])),
                _ => Err(ResolveError::NoSuchName("none".into())),
            },
            jitter,
        }),
        any::<bool>().prop_map(|relay| ReachInput::PeerConnected {
            via: if relay { Via::Relay } else { Via::Direct }
        }),
        jitter.clone().prop_map(|jitter| ReachInput::PeerDisconnected { jitter }),
        jitter.prop_map(|jitter| ReachInput::Timeout { jitter }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold(steps in proptest::collection::vec((0..3_000u64, input()), 1..80)) {
        let config = ReachConfig::default().with_idle(Duration::from_secs(5)).with_max_attempts(3);
        let mut reach = reach(config);
        let mut now = Instant::default();
        // Every dialing, and whether it was said to be aborted.
        let mut known: BTreeMap<DialId, bool> = BTreeMap::new();
        let mut questions = std::collections::BTreeSet::new();
        for (pause, input) in steps {
            // Timers ring at their time, as the driver has them.
            let until = now + Duration::from_millis(pause);
            let mut rounds = 0;
            let mut inputs = Vec::new();
            while let Some(due) = reach.next_timeout().filter(|due| *due <= until) {
                rounds += 1;
                prop_assert!(rounds < 200, "timers without an end");
                now = due.max(now);
                inputs.push(reach.handle(now, ReachInput::Timeout { jitter: J }));
                prop_assert_eq!(reach.check(), Ok(()));
            }
            now = until;
            let before = format!("{reach:?}");
            let result = reach.handle(now, input);
            if result.is_err() {
                prop_assert_eq!(format!("{reach:?}"), before, "a refused command changes nothing");
            }
            inputs.push(result);
            prop_assert_eq!(reach.check(), Ok(()));
            for effect in inputs.into_iter().flatten().flatten() {
                match effect {
                    Effect::Dial { dial, .. } => prop_assert!(known.insert(dial, false).is_none(), "it returned"),
                    Effect::Abort { dial } => {
                        prop_assert_eq!(known.insert(dial, true), Some(false), "aborted once, after it began");
                    }
                    Effect::Resolve { query, .. } => prop_assert!(questions.insert(query), "it returned"),
                    Effect::Close => {}
                }
            }
        }
    }
}

/// The question that a reach asks for [`NAME`].
fn question() -> Question {
    Question::Ip4("example.org".into())
}
