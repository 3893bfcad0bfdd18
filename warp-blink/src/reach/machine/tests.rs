use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::reach::AddressFailure;

const J: Jitter = Jitter(0);

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn failure() -> ReachError {
    ReachError::Addresses(vec![AddressFailure {
        address: "/ip4/127.0.0.1/tcp/1".into(),
        cause: "refused".into(),
    }])
}

fn connect() -> ReachInput {
    ReachInput::Connect { addresses: vec!["/ip4/127.0.0.1/tcp/1".into()] }
}

fn dialed(dial: u64, result: Result<Via, ReachError>) -> ReachInput {
    ReachInput::Dialed { dial: DialId(dial), result, jitter: J }
}

/// One reach in each state, all with an address except the first.
fn states() -> Vec<(&'static str, Reach)> {
    let empty = Reach::new(ReachConfig::default().with_max_attempts(2));
    let mut connecting = empty.clone();
    connecting.handle(at(0), connect()).unwrap();
    let mut connected = connecting.clone();
    connected.handle(at(0), dialed(1, Ok(Via::Direct))).unwrap();
    let mut retry = connecting.clone();
    retry.handle(at(0), dialed(1, Err(failure()))).unwrap();
    let mut failed = retry.clone();
    failed.handle(at(1000), ReachInput::Timeout { jitter: J }).unwrap();
    failed.handle(at(1000), dialed(2, Err(failure()))).unwrap();
    vec![
        ("Disconnected", empty),
        ("Connecting", connecting),
        ("Connected", connected),
        ("Retry", retry),
        ("ConnectionFailed", failed),
    ]
}

fn name(state: &ReachState) -> &'static str {
    match state {
        ReachState::Disconnected => "Disconnected",
        ReachState::Connecting { .. } => "Connecting",
        ReachState::Connected { .. } => "Connected",
        ReachState::Retry { .. } => "Retry",
        ReachState::ConnectionFailed { .. } => "ConnectionFailed",
    }
}

#[test]
fn the_table_of_enabling_conditions() {
    use ReachRejected::{NotConnected, NothingToReset};
    type Row = (ReachInput, [Result<(&'static str, usize), ReachRejected>; 5]);
    let rows: Vec<Row> = vec![
        (
            connect(),
            [
                Ok(("Connecting", 1)),
                Ok(("Connecting", 0)),
                Ok(("Connected", 0)),
                Ok(("Connecting", 1)),
                Ok(("Connecting", 1)),
            ],
        ),
        (
            ReachInput::Release,
            [
                Err(NotConnected),
                Ok(("Disconnected", 1)),
                Ok(("Connected", 0)),
                Ok(("Disconnected", 0)),
                Err(NotConnected),
            ],
        ),
        (
            ReachInput::Disconnect,
            [
                Err(NotConnected),
                Ok(("Disconnected", 1)),
                Ok(("Disconnected", 1)),
                Ok(("Disconnected", 0)),
                Err(NotConnected),
            ],
        ),
        (
            ReachInput::Reset,
            [
                Err(NothingToReset),
                Err(NothingToReset),
                Err(NothingToReset),
                Ok(("Disconnected", 0)),
                Ok(("Disconnected", 0)),
            ],
        ),
        (
            ReachInput::PeerConnected { via: Via::Relay },
            [
                Ok(("Connected", 0)),
                Ok(("Connected", 0)),
                Ok(("Connected", 0)),
                Ok(("Connected", 0)),
                Ok(("Connected", 0)),
            ],
        ),
        (
            ReachInput::PeerDisconnected { jitter: J },
            [
                Ok(("Disconnected", 0)),
                Ok(("Connecting", 0)),
                Ok(("Connecting", 1)),
                Ok(("Retry", 0)),
                Ok(("ConnectionFailed", 0)),
            ],
        ),
    ];
    for (input, wanted) in rows {
        for ((before, mut reach), want) in states().into_iter().zip(wanted) {
            let old = format!("{reach:?}");
            let got = reach.handle(at(100_000), input.clone());
            reach.check().unwrap();
            match want {
                Ok((after, effects)) => {
                    assert_eq!(got.as_ref().map(Vec::len), Ok(effects), "{before} {input:?}");
                    assert_eq!(name(reach.state()), after, "{before} {input:?}");
                }
                Err(rejected) => {
                    assert_eq!(got, Err(rejected), "{before} {input:?}");
                    assert_eq!(format!("{reach:?}"), old, "a refused command changes nothing");
                }
            }
        }
    }
}

#[test]
fn a_reach_without_an_address_says_so() {
    let mut reach = Reach::new(ReachConfig::default());
    let none = || ReachInput::Connect { addresses: Vec::new() };
    assert_eq!(reach.handle(at(0), none()), Err(ReachRejected::NoAddresses));
    let many = ReachInput::Connect { addresses: vec!["/x".into(); MAX_REACH_ADDRESSES + 1] };
    assert_eq!(reach.handle(at(0), many), Err(ReachRejected::TooManyAddresses));
    let long = ReachInput::Connect { addresses: vec!["x".repeat(MAX_ADDRESS + 1)] };
    assert_eq!(reach.handle(at(0), long), Err(ReachRejected::TooManyAddresses));
    // Connected by the other side, it needs none.
    reach.handle(at(0), ReachInput::PeerConnected { via: Via::Direct }).unwrap();
    assert_eq!(reach.handle(at(0), none()), Ok(Vec::new()));
}

#[test]
fn attempts_back_off_exponentially_and_end() {
    let config = ReachConfig::default().with_max_attempts(4);
    let mut reach = Reach::new(config.clone());
    let mut now = at(0);
    let mut effects = reach.handle(now, connect()).unwrap();
    for attempt in 1..=4u32 {
        let [Effect::Dial { dial, attempt: n, .. }] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(*n, attempt);
        let result = ReachInput::Dialed { dial: *dial, result: Err(failure()), jitter: Jitter(u16::MAX) };
        reach.handle(now, result).unwrap();
        if attempt == 4 {
            break;
        }
        let due = reach.next_timeout().unwrap();
        assert_eq!(due - now, config.backoff_first * 2u32.pow(attempt - 1));
        now = due;
        effects = reach.handle(now, ReachInput::Timeout { jitter: J }).unwrap();
    }
    let ReachState::ConnectionFailed { attempts: 4, error, .. } = reach.state() else { panic!("{reach:?}") };
    assert_eq!(error, &failure(), "what each address said is kept");
    assert_eq!(reach.next_timeout(), None);
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
fn late_results_change_nothing() {
    let mut reach = Reach::new(ReachConfig::default());
    reach.handle(at(0), connect()).unwrap();
    // The first attempt takes too long, the second runs.
    reach.handle(at(10_000), ReachInput::Timeout { jitter: J }).unwrap();
    let due = reach.next_timeout().unwrap();
    reach.handle(due, ReachInput::Timeout { jitter: J }).unwrap();
    let before = format!("{:?}", reach.state());
    reach.handle(due, dialed(1, Err(failure()))).unwrap();
    reach.handle(due, dialed(1, Ok(Via::Direct))).unwrap();
    assert_eq!(format!("{:?}", reach.state()), before);
    assert_eq!(reach.ignored(), 2);
    reach.handle(due, dialed(2, Ok(Via::Direct))).unwrap();
    assert!(reach.is_connected());
    // A number never returns, not even after a new start.
    reach.handle(due, ReachInput::Disconnect).unwrap();
    reach.handle(due, connect()).unwrap();
    reach.handle(due, dialed(1, Ok(Via::Direct))).unwrap();
    assert!(!reach.is_connected());
}

#[test]
fn a_timeout_before_its_time_changes_nothing() {
    for (before, mut reach) in states() {
        let due = reach.next_timeout();
        let early = due.map_or(at(0), |d| Instant::from_micros(d.as_micros() - 1));
        assert_eq!(reach.handle(early, ReachInput::Timeout { jitter: J }), Ok(Vec::new()));
        assert_eq!(name(reach.state()), before);
    }
}

#[test]
fn a_good_connection_that_is_lost_is_dialed_at_once_and_a_bad_one_is_not() {
    let mut reach = Reach::new(ReachConfig::default().with_max_attempts(3));
    reach.handle(at(0), connect()).unwrap();
    reach.handle(at(0), dialed(1, Ok(Via::Direct))).unwrap();
    let effects = reach.handle(at(10_000), ReachInput::PeerDisconnected { jitter: J }).unwrap();
    assert!(matches!(effects.as_slice(), [Effect::Dial { attempt: 1, .. }]));
    reach.handle(at(10_000), dialed(2, Ok(Via::Direct))).unwrap();
    let mut now = at(10_000);
    for dial in 3..5 {
        assert_eq!(reach.handle(now, ReachInput::PeerDisconnected { jitter: J }), Ok(Vec::new()));
        assert_eq!(name(reach.state()), "Retry");
        now = reach.next_timeout().unwrap();
        reach.handle(now, ReachInput::Timeout { jitter: J }).unwrap();
        reach.handle(now, dialed(dial, Ok(Via::Direct))).unwrap();
    }
    reach.handle(now, ReachInput::PeerDisconnected { jitter: J }).unwrap();
    assert!(matches!(reach.state(), ReachState::ConnectionFailed { error: ReachError::Unstable, .. }));
}

#[test]
fn a_connection_that_nobody_uses_is_kept_for_the_idle_time() {
    let idle = ReachConfig::default().idle;
    let (_, mut reach) = states().remove(2);
    assert_eq!(reach.next_timeout(), None, "used");
    reach.handle(at(0), ReachInput::Release).unwrap();
    assert_eq!(reach.next_timeout(), Some(at(0) + idle));
    reach.handle(at(5), connect()).unwrap();
    assert_eq!(reach.next_timeout(), None, "used again");
    reach.handle(at(10), ReachInput::Release).unwrap();
    let due = reach.next_timeout().unwrap();
    assert_eq!(reach.handle(due, ReachInput::Timeout { jitter: J }), Ok(vec![Effect::Close]));
    assert_eq!(reach.state(), &ReachState::Disconnected);
}

#[test]
fn new_addresses_are_tried_at_once() {
    let (_, mut reach) = states().remove(1);
    let other = ReachInput::Connect { addresses: vec!["/ip4/127.0.0.1/tcp/2".into()] };
    let effects = reach.handle(at(1), other).unwrap();
    let [Effect::Dial { dial: DialId(2), addresses, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(addresses.0, ["/ip4/127.0.0.1/tcp/2"]);
}

#[test]
fn states_can_be_stored_and_show_no_address_in_debug() {
    for (_, reach) in states() {
        let text = serde_json::to_string(reach.state()).unwrap();
        assert_eq!(&serde_json::from_str::<ReachState>(&text).unwrap(), reach.state());
        assert!(!format!("{:?}", reach.state()).contains("127.0.0.1"));
    }
}

fn input() -> impl Strategy<Value = ReachInput> {
    let jitter = any::<u16>().prop_map(Jitter);
    prop_oneof![
        proptest::collection::vec("/[a-z]{1,4}", 0..3)
            .prop_map(|addresses| ReachInput::Connect { addresses }),
        Just(ReachInput::Release),
        Just(ReachInput::Disconnect),
        Just(ReachInput::Reset),
        (1..12u64, any::<bool>(), jitter.clone()).prop_map(|(dial, ok, jitter)| ReachInput::Dialed {
            dial: DialId(dial),
            result: if ok { Ok(Via::Direct) } else { Err(ReachError::TimedOut) },
            jitter,
        }),
        Just(ReachInput::PeerConnected { via: Via::Direct }),
        jitter.clone().prop_map(|jitter| ReachInput::PeerDisconnected { jitter }),
        jitter.prop_map(|jitter| ReachInput::Timeout { jitter }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold(steps in proptest::collection::vec((0..20_000u64, input()), 1..60)) {
        let mut reach = Reach::new(ReachConfig::default().with_idle(Duration::from_secs(5)));
        let mut now = Instant::default();
        let mut dials = std::collections::BTreeSet::new();
        for (pause, input) in steps {
            now = now + Duration::from_millis(pause);
            let before = format!("{reach:?}");
            match reach.handle(now, input) {
                Ok(effects) => for effect in effects {
                    if let Effect::Dial { dial, .. } = effect {
                        prop_assert!(dials.insert(dial), "a dial id returned");
                    }
                },
                Err(_) => prop_assert_eq!(format!("{reach:?}"), before),
            }
            prop_assert_eq!(reach.check(), Ok(()));
        }
    }
}
