//! Arbitrary scripts: who does what when, in any order, and what happens to their phones and networks meanwhile.
//!
//! A script that breaks a promise is made shorter until every step of it is needed, and printed as the value of [`Life`]
//! that it is: put it into [`found`] and it is tried for ever.

use std::{fmt, time::Duration};

use blink_sim::{
    Action::{self, *},
    Conditions, Fault, Lived, Nodes, Scenario, number,
};
use proptest::{prelude::*, strategy::ValueTree};
use warp_blink::{
    config::{Config, PreConnect},
    proto::Other,
};

/// Up to six phones.
const MOST: usize = 6;

/// One script, and the world that it is played in.
#[derive(Clone)]
struct Life {
    seed: u64,
    count: usize,
    /// A bad train ride, not a home network.
    rough: bool,
    /// Links are made while it rings.
    early: bool,
    /// How many milliseconds after the step before who does what.
    script: Vec<(u64, usize, Action)>,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, count, rough, early, script } = self;
        write!(f, "Life {{ seed: {seed}, count: {count}, rough: {rough}, early: {early}, script: vec![")?;
        for (gap, node, action) in script {
            write!(f, "\n    ({gap}, {node}, ")?;
            match action {
                Crash { down, resume } => {
                    let resume = resume.map(|t| format!("ms({})", t.as_millis()));
                    let resume = resume.map_or("None".to_owned(), |t| format!("Some({t})"));
                    write!(f, "Crash {{ down: ms({}), resume: {resume} }}", down.as_millis())?;
                }
                Suspend(time) => write!(f, "Suspend(ms({}))", time.as_millis())?,
                Cut(island, time) => write!(f, "Cut({island:?}, ms({}))", time.as_millis())?,
                Accept(other) => write!(f, "Accept(Other::{other:?})")?,
                Rejoin(other) => write!(f, "Rejoin(Other::{other:?})")?,
                Unhold(other) => write!(f, "Unhold(Other::{other:?})")?,
                other => write!(f, "{other:?}")?,
            }
            write!(f, "),")?;
        }
        write!(f, "\n] }}")
    }
}

impl Life {
    /// Plays it: all rules and the invariants of the machines are checked after every step; in the end everything heals,
    /// all must agree, and when all have hung up nothing may be left.
    fn play(&self) -> Result<Lived, Fault> {
        let mut config = Config::default();
        if self.early {
            config.pre_connect = PreConnect::Always;
        }
        let there = |nodes: Nodes| Nodes(nodes.0 & ((1 << self.count) - 1));
        let mut at = Duration::ZERO;
        let script = self.script.iter().map(|(gap, node, action)| {
            at += ms(*gap);
            let action = match *action {
                Offer(to) => Offer(there(to)),
                Invite(to) => Invite(there(to)),
                Cut(island, time) => Cut(there(island), time),
                Remove(other) => Remove(other % self.count),
                other => other,
            };
            (at, node % self.count, action)
        });
        let scenario = Scenario {
            conditions: if self.rough { Conditions::rough() } else { Conditions::clean() },
            nodes: vec![config; self.count],
            script: script.collect(),
            cuts: Vec::new(),
            friends: Nodes::default(),
            real: self.seed.is_multiple_of(16),
        };
        scenario.live(self.seed).map(|(_, lived)| lived)
    }
}

/// What was found so: each broke a promise once.
fn found() -> Vec<Life> {
    vec![]
}

#[test]
fn what_was_found_stays_mended() {
    for life in found() {
        assert_eq!(life.play().err().map(|fault| fault.to_string()), None, "{life:?}");
    }
}

fn nodes() -> impl Strategy<Value = Nodes> {
    (1..1u32 << MOST).prop_map(Nodes)
}

fn others() -> impl Strategy<Value = Other> {
    prop_oneof![Just(Other::End), Just(Other::Hold)]
}

fn millis(most: u64) -> impl Strategy<Value = Duration> {
    (0..most).prop_map(ms)
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => nodes().prop_map(Offer),
        8 => others().prop_map(Accept),
        1 => Just(Decline),
        1 => Just(Cancel),
        1 => Just(HangUp),
        1 => Just(Leave),
        2 => others().prop_map(Rejoin),
        2 => nodes().prop_map(Invite),
        2 => (0..MOST).prop_map(Remove),
        1 => Just(Hold),
        2 => others().prop_map(Unhold),
        1 => any::<bool>().prop_map(Mute),
        1 => any::<bool>().prop_map(Camera),
        2 => (millis(20_000), prop::option::weighted(0.7, millis(30_000)))
            .prop_map(|(down, resume)| Crash { down, resume }),
        2 => millis(80_000).prop_map(Suspend),
        1 => Just(Roam),
        1 => (-3_600_000..3_600_000i64).prop_map(Clock),
        2 => (nodes(), millis(80_000)).prop_map(|(island, time)| Cut(island, time)),
        1 => (0..30u32).prop_map(Loss),
    ]
}

/// In most of them somebody calls all others first, and some of these accept.
fn beginnings() -> impl Strategy<Value = Vec<(u64, usize, Action)>> {
    let all = Nodes((1 << MOST) - 1);
    let accepts = (1..MOST).map(|node| (100, node, Accept(Other::Hold)));
    let steps: Vec<_> =
        [(0, 0, Offer(all)), (1500, 1, Accept(Other::Hold))].into_iter().chain(accepts).collect();
    let most = steps.len();
    prop::sample::subsequence(steps, 0..=most)
}

fn lives() -> impl Strategy<Value = Life> {
    // Half of it at once, or nearly, so that things cross.
    let gap = prop_oneof![2 => 0..1u64, 3 => 0..500u64, 3 => 0..10_000u64];
    let script = prop::collection::vec((gap, 0..MOST, actions()), 1..30);
    let world = (0..1000u64, 2..=MOST, any::<bool>(), any::<bool>());
    (world, beginnings(), script).prop_map(|((seed, count, rough, early), mut script, rest)| {
        script.extend(rest);
        Life { seed, count, rough, early, script }
    })
}

#[test]
fn the_scripts_lead_to_calls_of_many() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut groups = 0;
    for _ in 0..64 {
        let life = lives().new_tree(&mut runner).map(|tree| tree.current());
        let lived =
            life.map_err(|why| why.to_string()).and_then(|life| life.play().map_err(|f| f.to_string()));
        groups += u32::from(lived.is_ok_and(|lived| lived.largest > 2));
    }
    assert!(groups >= 10, "only {groups} of 64 lives end with more than two in a call");
}

/// So many cases, or what the environment variable `CASES` says.
fn config() -> ProptestConfig {
    let cases = number("CASES").ok().flatten().and_then(|cases| cases.try_into().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arbitrary_scripts_keep_all_promises(life in lives()) {
        if let Err(fault) = life.play() {
            return Err(TestCaseError::fail(fault.to_string()));
        }
    }
}
