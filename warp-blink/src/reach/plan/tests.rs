use proptest::prelude::*;

use super::*;
use crate::id::NodeKey;

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn node() -> NodeId {
    NodeKey::from_seed([1; 32]).node_id()
}

fn relay() -> String {
    format!("p2p/{}/p2p-circuit", NodeKey::from_seed([2; 32]).node_id())
}

fn texts(addresses: &[&str]) -> Vec<String> {
    addresses.iter().map(|address| (*address).to_owned()).collect()
}

/// An attempt in virtual time, and what it did when: `+ address` for a beginning, `? name` for a question.
struct Run {
    plan: Plan,
    numbers: Numbers,
    now: Instant,
    log: Vec<(u64, String)>,
    dials: Vec<(DialId, String)>,
    questions: Vec<(QueryId, Question)>,
}

impl Run {
    fn of(config: &ReachConfig, addresses: &[&str]) -> Self {
        let mut numbers = Numbers::default();
        let (plan, effects) = Plan::begin(at(0), node(), 1, config, &mut numbers, &texts(addresses));
        let (log, dials, questions) = (Vec::new(), Vec::new(), Vec::new());
        let mut run = Self { plan, numbers, now: at(0), log, dials, questions };
        run.took(effects);
        run
    }

    fn took(&mut self, effects: Vec<Effect>) {
        self.plan.check().unwrap();
        let ms = self.now.as_micros() / 1000;
        for effect in effects {
            match effect {
                Effect::Dial { dial, address, .. } => {
                    let text = address.to_string();
                    let short = text.trim_end_matches(&format!("/p2p/{}", node())).to_owned();
                    self.log.push((ms, format!("+ {short}")));
                    self.dials.push((dial, short));
                }
                Effect::Resolve { query, question } => {
                    let (Question::Ip4(name) | Question::Ip6(name) | Question::Text(name)) = &question;
                    self.log.push((ms, format!("? {name}")));
                    self.questions.push((query, question));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets time pass, with every timer at its time.
    fn until(&mut self, ms: u64) {
        while let Some(due) = self.plan.next_timeout().filter(|due| *due <= at(ms)) {
            assert!(due >= self.now, "a timer in the past");
            self.now = due;
            let effects = self.plan.on_time(due, &mut self.numbers);
            self.took(effects);
            assert_ne!(self.plan.next_timeout(), Some(due), "a timer that does nothing");
        }
        self.now = at(ms);
    }

    fn fail(&mut self, address: &str) {
        let (dial, _) = self.dials.iter().find(|(_, a)| a == address).expect("dialed");
        let effects = self.plan.failed(self.now, &mut self.numbers, *dial, "refused".into()).unwrap();
        self.took(effects);
    }

    fn answer(&mut self, question: &Question, result: Result<Answers, ResolveError>) {
        let (query, _) = self.questions.iter().find(|(_, q)| q == question).expect("asked");
        let effects = self.plan.answered(self.now, &mut self.numbers, *query, result);
        self.took(effects);
    }

    fn began(&self, address: &str) -> u64 {
        let wanted = format!("+ {address}");
        self.log.iter().find(|(_, what)| *what == wanted).expect("began").0
    }

    fn causes(&self) -> Vec<Cause> {
        self.plan.tried.iter().map(|tried| tried.cause.clone()).collect()
    }
}

fn four(last: &[u8]) -> Answers {
    Answers::Ip4(last.iter().map(|n| [192, 0, 2, *n].into()).collect())
}

fn six(last: &[u16]) -> Answers {
    Answers::Ip6(last.iter().map(|n| [0x2001, 0xdb8, 0, 0, 0, 0, 0, *n].into()).collect())
}

fn no_such() -> Result<Answers, ResolveError> {
    Err(ResolveError::NoSuchName("NXDOMAIN".into()))
}

const A: &str = "/ip4/192.0.2.1/tcp/1";
const B: &str = "/ip4/192.0.2.2/tcp/1";
const C: &str = "/ip4/192.0.2.3/tcp/1";
const S: &str = "/ip6/2001:db8::1/tcp/1";
const T: &str = "/ip6/2001:db8::2/tcp/1";

#[test]
fn a_dead_first_address_delays_a_live_second_one_by_at_most_250_ms() {
    // It does not answer at all.
    let mut silent = Run::of(&ReachConfig::default(), &[A, B]);
    silent.until(1000);
    assert_eq!((silent.began(A), silent.began(B)), (0, 200));
    // It refuses after 30 ms.
    let mut refuses = Run::of(&ReachConfig::default(), &[A, B]);
    refuses.until(30);
    refuses.fail(A);
    assert_eq!(refuses.began(B), 30);
    // No setting makes it longer.
    let slow = ReachConfig::default().with_address_delay(Duration::from_secs(9));
    let mut slow = Run::of(&slow, &[A, B]);
    slow.until(1000);
    assert_eq!(slow.began(B), 250);
}

#[test]
fn the_families_take_turns_and_ipv6_is_first() {
    let mut run = Run::of(&ReachConfig::default(), &[A, B, C, S, T]);
    run.until(5000);
    let order: Vec<&str> = run.dials.iter().map(|(_, a)| a.as_str()).collect();
    assert_eq!(order, [S, A, T, B, C]);
    let times: Vec<u64> = run.log.iter().map(|(ms, _)| *ms).collect();
    assert_eq!(times, [0, 200, 400, 600, 800]);
    // Either alone works as well.
    for only in [[A, B], [S, T]] {
        let mut run = Run::of(&ReachConfig::default(), &only);
        run.until(5000);
        assert_eq!(run.dials.iter().map(|(_, a)| a.as_str()).collect::<Vec<_>>(), only);
    }
}

#[test]
fn direct_addresses_come_before_relayed_ones_but_only_so_many() {
    let relayed = |n: u8| {
        let relay = NodeKey::from_seed([n + 1; 32]).node_id();
        format!("/ip4/198.51.100.{n}/tcp/1/p2p/{relay}/p2p-circuit")
    };
    let (r, s) = (relayed(1), relayed(2));
    let mut few = Run::of(&ReachConfig::default(), &[&r, A, &s, B]);
    few.until(5000);
    assert_eq!((few.began(A), few.began(B), few.began(&r), few.began(&s)), (0, 200, 400, 600));
    let direct: Vec<String> = (1..=6).map(|n| format!("/ip4/192.0.2.{n}/tcp/1")).collect();
    let all: Vec<&str> = direct.iter().map(String::as_str).chain([r.as_str(), s.as_str()]).collect();
    let mut many = Run::of(&ReachConfig::default(), &all);
    many.until(5000);
    let order: Vec<&str> = many.dials.iter().map(|(_, a)| a.as_str()).collect();
    assert_eq!(order, [&direct[0], &direct[1], &direct[2], &direct[3], &r, &direct[4], &s, &direct[5]]);
    // A relay alone begins at once.
    assert_eq!(Run::of(&ReachConfig::default(), &[&r]).began(&r), 0);
}

#[test]
fn the_addresses_of_one_place_at_a_relay_come_one_after_the_other() {
    let relayed = |n: u8| format!("/ip4/198.51.100.{n}/tcp/1/{}", relay());
    let (r, s, t) = (relayed(1), relayed(2), relayed(3));
    let mut run = Run::of(&ReachConfig::default(), &[&r, &s, &t]);
    run.until(1500);
    assert_eq!((run.began(&r), run.began(&s)), (0, 1000));
    run.fail(&s);
    assert_eq!(run.began(&t), 1500);
    let mut refused = Run::of(&ReachConfig::default(), &[&r, &s]);
    refused.until(30);
    refused.fail(&r);
    assert_eq!(refused.began(&s), 30);
}

#[test]
fn a_relay_waits_for_a_name_that_may_be_direct_but_not_for_long() {
    let r = format!("/ip4/198.51.100.1/tcp/1/{}", relay());
    let mut run = Run::of(&ReachConfig::default(), &[&r, "/dns4/example.org/tcp/1"]);
    run.until(100);
    assert!(run.dials.is_empty());
    run.answer(&Question::Ip4("example.org".into()), Ok(four(&[1])));
    assert_eq!(run.began(A), 100);
    run.until(1000);
    assert_eq!(run.began(&r), 300);
    // The name is never answered.
    let mut run = Run::of(&ReachConfig::default(), &[&r, "/dns4/example.org/tcp/1"]);
    run.until(2000);
    assert_eq!(run.began(&r), 800);
    // Under relay_only nobody asks for it.
    let only = ReachConfig::default().with_relay_only(true);
    let mut run = Run::of(&only, &[A, "/dns4/example.org/tcp/1", &r]);
    run.until(2000);
    assert_eq!(run.log, [(0, format!("+ {r}"))]);
    assert_eq!(run.causes(), [Cause::RelayOnly, Cause::RelayOnly]);
}

#[test]
fn under_relay_only_a_dnsaddr_is_asked_and_only_its_relays_are_dialed() {
    let config = ReachConfig::default().with_relay_only(true);
    let mut run = Run::of(&config, &["/dnsaddr/example.org"]);
    let r = format!("/ip4/198.51.100.1/tcp/1/{}", relay());
    let texts = vec![format!("dnsaddr={A}"), format!("dnsaddr={r}/p2p/{}", node())];
    run.answer(&Question::Text("_dnsaddr.example.org".into()), Ok(Answers::Text(texts)));
    assert_eq!(run.dials.iter().map(|(_, a)| a.as_str()).collect::<Vec<_>>(), [&r]);
    assert_eq!(run.causes(), [Cause::RelayOnly]);
}

#[test]
fn a_name_is_asked_for_both_families_apart_and_ipv4_waits_a_moment() {
    let mut run = Run::of(&ReachConfig::default(), &["/dns/example.org/tcp/1"]);
    let (ip6, ip4) = (Question::Ip6("example.org".into()), Question::Ip4("example.org".into()));
    assert_eq!(run.questions.iter().map(|(_, q)| q.clone()).collect::<Vec<_>>(), [ip6.clone(), ip4.clone()]);
    run.until(10);
    run.answer(&ip4, Ok(four(&[1, 2])));
    assert!(run.dials.is_empty(), "IPv6 has 50 ms");
    run.until(40);
    run.answer(&ip6, Ok(six(&[1])));
    run.until(2000);
    assert_eq!((run.began(S), run.began(A), run.began(B)), (40, 240, 440));
    // IPv6 has no answer, late or never.
    let mut run = Run::of(&ReachConfig::default(), &["/dns/example.org/tcp/1"]);
    run.until(10);
    run.answer(&ip4, Ok(four(&[1])));
    run.until(2000);
    assert_eq!(run.began(A), 60);
    let mut run = Run::of(&ReachConfig::default(), &["/dns/example.org/tcp/1"]);
    run.answer(&ip4, Ok(four(&[1])));
    run.until(20);
    run.answer(&ip6, Ok(six(&[])));
    assert_eq!(run.began(A), 20);
    // Each kind asks for its own.
    for (text, question) in [
        ("/dns4/a.org/tcp/1", Question::Ip4("a.org".into())),
        ("/dns6/a.org/tcp/1", Question::Ip6("a.org".into())),
    ] {
        let run = Run::of(&ReachConfig::default(), &[text]);
        assert_eq!(run.questions.iter().map(|(_, q)| q.clone()).collect::<Vec<_>>(), [question]);
    }
}

#[test]
fn a_name_that_does_not_exist_fails_at_once_and_says_so() {
    let mut run = Run::of(&ReachConfig::default(), &["/dns/nobody.invalid/tcp/1"]);
    run.until(7);
    run.answer(&Question::Ip6("nobody.invalid".into()), no_such());
    assert!(!run.plan.is_over());
    run.answer(&Question::Ip4("nobody.invalid".into()), no_such());
    assert!(run.plan.is_over());
    let [tried] = run.plan.tried.as_slice() else { panic!("{:?}", run.plan.tried) };
    assert_eq!((tried.began, tried.ended, tried.attempt), (Some(at(0)), at(7), 1));
    assert!(tried.cause.is_final() && tried.cause.to_string().contains("no such name"), "{}", tried.cause);
    // What may pass is no final answer, in either order.
    let failed = || Err(ResolveError::Failed("SERVFAIL".into()));
    for results in [[no_such(), failed()], [failed(), no_such()]] {
        let mut run = Run::of(&ReachConfig::default(), &["/dns/nobody.invalid/tcp/1"]);
        let [first, second] = results;
        run.answer(&Question::Ip6("nobody.invalid".into()), first);
        run.answer(&Question::Ip4("nobody.invalid".into()), second);
        assert_eq!(run.causes(), [Cause::Unresolved("SERVFAIL".into())]);
    }
    // A name without addresses, or with none that is somebody's.
    for found in [four(&[]), Answers::Ip4(vec![[0, 0, 0, 0].into()])] {
        let mut run = Run::of(&ReachConfig::default(), &["/dns4/example.org/tcp/1"]);
        run.answer(&Question::Ip4("example.org".into()), Ok(found));
        assert_eq!(run.causes(), [Cause::NoAddress]);
    }
    // A resolver that is silent.
    let mut run = Run::of(&ReachConfig::default(), &["/dns/example.org/tcp/1", A]);
    run.until(4999);
    assert!(run.causes().is_empty());
    run.until(5000);
    assert!(matches!(run.causes().as_slice(), [Cause::Unresolved(why)] if why.contains("5s")));
}

#[test]
fn one_name_that_fails_does_not_hold_the_others_up() {
    let mut run = Run::of(&ReachConfig::default(), &["/dns4/nobody.invalid/tcp/1", A, "/dns4/b.org/tcp/1"]);
    assert_eq!(run.began(A), 0);
    run.answer(&Question::Ip4("nobody.invalid".into()), no_such());
    run.answer(&Question::Ip4("b.org".into()), Ok(four(&[2])));
    run.until(1000);
    assert_eq!(run.began(B), 200);
}

#[test]
fn a_name_with_many_addresses_is_tried_in_bounds() {
    let mut run = Run::of(&ReachConfig::default(), &["/dns/many.org/tcp/1"]);
    run.answer(&Question::Ip6("many.org".into()), Ok(six(&(1..=500).collect::<Vec<_>>())));
    run.answer(&Question::Ip4("many.org".into()), Ok(four(&(1..=250).collect::<Vec<_>>())));
    run.until(9999);
    assert_eq!(run.dials.len(), 2 * MAX_ANSWERS);
    let v6 = run.dials.iter().step_by(2).all(|(_, a)| a.starts_with("/ip6/"));
    assert!(v6, "{:?}", run.dials);
    // Many such names: so many dialings, and the rest is said not to be tried.
    let names: Vec<String> = (0..20).map(|n| format!("/dns4/n{n}.org/tcp/1")).collect();
    let mut run = Run::of(&ReachConfig::default(), &names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run.questions.len(), MAX_NAMES);
    for n in 0..MAX_NAMES {
        let found: Vec<_> = (0..50).map(|m| [10, 0, u8::try_from(n).unwrap(), m + 1].into()).collect();
        run.answer(&Question::Ip4(format!("n{n}.org")), Ok(Answers::Ip4(found)));
    }
    run.until(9999);
    assert_eq!(run.dials.len(), MAX_DIALS);
    assert_eq!(run.log.last().unwrap().0, 200 * (MAX_DIALS as u64 - 1));
    let tried = &run.plan.tried;
    assert!(tried.iter().all(|tried| tried.cause == Cause::TooMany));
    assert_eq!(tried.len(), (2 * (MAX_DIALS + MAX_NAMES)).min(4 + MAX_NAMES * MAX_ANSWERS - MAX_DIALS));
}

#[test]
fn a_dnsaddr_leads_to_addresses_in_a_bounded_depth() {
    let texts = |texts: &[&str]| Ok(Answers::Text(texts.iter().map(|t| (*t).to_owned()).collect()));
    let ask = |name: &str| Question::Text(format!("_dnsaddr.{name}"));
    let mut run = Run::of(&ReachConfig::default(), &["/dnsaddr/a.org"]);
    let other = format!("dnsaddr=/ip4/192.0.2.9/tcp/1/p2p/{}", NodeKey::from_seed([3; 32]).node_id());
    let own = format!("dnsaddr={A}/p2p/{}", node());
    run.answer(
        &ask("a.org"),
        texts(&[&own, &other, "dnsaddr=nonsense", "v=spf1", "dnsaddr=/dns4/c.org/tcp/1"]),
    );
    assert_eq!(run.began(A), 0);
    run.answer(&Question::Ip4("c.org".into()), Ok(four(&[2])));
    run.until(1000);
    assert_eq!(run.dials.iter().map(|(_, a)| a.as_str()).collect::<Vec<_>>(), [A, B]);
    // Nothing in it is for this node.
    let mut run = Run::of(&ReachConfig::default(), &["/dnsaddr/a.org"]);
    run.answer(&ask("a.org"), texts(&[&other, "x"]));
    assert_eq!(run.causes(), [Cause::NoAddress]);
    // Names without an end.
    let mut run = Run::of(&ReachConfig::default(), &["/dnsaddr/n0.org"]);
    for n in 0..MAX_DEPTH {
        assert!(!run.plan.is_over());
        run.answer(&ask(&format!("n{n}.org")), texts(&[&format!("dnsaddr=/dnsaddr/n{}.org", n + 1)]));
    }
    assert!(run.plan.is_over());
    assert_eq!(run.causes(), [Cause::TooDeep]);
    assert_eq!(run.questions.len(), usize::from(MAX_DEPTH));
    // A name that stands for itself, and two for each other.
    let mut run = Run::of(&ReachConfig::default(), &["/dnsaddr/a.org"]);
    run.answer(&ask("a.org"), texts(&["dnsaddr=/dnsaddr/a.org"]));
    assert_eq!(run.causes(), [Cause::NoAddress]);
    let mut run = Run::of(&ReachConfig::default(), &["/dnsaddr/a.org"]);
    run.answer(&ask("a.org"), texts(&["dnsaddr=/dnsaddr/b.org"]));
    run.answer(&ask("b.org"), texts(&["dnsaddr=/dnsaddr/a.org"]));
    assert_eq!(run.causes(), [Cause::NoAddress]);
    assert!(run.plan.is_over());
}

#[test]
fn texts_that_are_no_address_fail_by_themselves() {
    let other = format!("{A}/p2p/{}", NodeKey::from_seed([3; 32]).node_id());
    let run = Run::of(&ReachConfig::default(), &["nonsense", &other, B]);
    assert_eq!(run.began(B), 0);
    let said: Vec<String> = run.causes().iter().map(ToString::to_string).collect();
    assert!(said[0].contains("nonsense") && said[1].contains("other node"), "{said:?}");
    let none = Run::of(&ReachConfig::default(), &["/ip4/192.0.2.1"]);
    assert!(none.plan.is_over());
    assert!(none.causes().iter().all(Cause::is_final));
}

#[test]
fn one_address_is_dialed_once_however_often_it_comes() {
    let mut run = Run::of(&ReachConfig::default(), &[A, A, "/dns4/a.org/tcp/1", "/dns4/A.org./tcp/1"]);
    assert_eq!(run.questions.len(), 1);
    run.answer(&Question::Ip4("a.org".into()), Ok(four(&[1])));
    let effects = run.plan.add(run.now, &mut run.numbers, &texts(&[A, B]));
    run.took(effects);
    run.until(5000);
    assert_eq!(run.dials.iter().map(|(_, a)| a.as_str()).collect::<Vec<_>>(), [A, B]);
}

#[test]
fn what_is_unfinished_at_the_end_has_taken_too_long() {
    let mut run = Run::of(&ReachConfig::default(), &[A, B, "/dns4/a.org/tcp/1"]);
    run.until(100);
    let effects = run.plan.time_out(run.now);
    assert_eq!(effects, [Effect::Abort { dial: run.dials[0].0 }]);
    assert!(run.plan.is_over());
    assert_eq!(run.causes(), [Cause::TimedOut, Cause::TimedOut, Cause::TimedOut]);
    let began: Vec<Option<Instant>> = run.plan.tried.iter().map(|tried| tried.began).collect();
    assert_eq!(began, [Some(at(0)), None, Some(at(0))]);
    assert_eq!(run.plan.next_timeout(), None);
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        (1..20u8).prop_map(|n| format!("/ip4/192.0.2.{n}/tcp/1")),
        (1..20u8).prop_map(|n| format!("/ip6/2001:db8::{n}/tcp/1")),
        (1..5u8).prop_map(|n| format!("/ip4/198.51.100.{n}/tcp/1/{}", relay())),
        "(dns|dns4|dns6)/[ab]\\.org/tcp/1".prop_map(|text| format!("/{text}")),
        "/dnsaddr/[ab]\\.org",
        Just("nonsense".to_owned()),
    ]
}

proptest! {
    /// However names and addresses answer, it ends; nothing is dialed twice, and nothing that fails is forgotten.
    #[test]
    fn every_attempt_ends(
        addresses in proptest::collection::vec(address(), 1..16),
        relay_only in any::<bool>(),
        answers in proptest::collection::vec((0..4u8, 0..400u64, address()), 0..80),
    ) {
        let config = ReachConfig::default().with_relay_only(relay_only);
        let mut run = Run::of(&config, &addresses.iter().map(String::as_str).collect::<Vec<_>>());
        for (how, pause, found) in answers {
            run.until(run.now.as_micros() / 1000 + pause);
            let running = run.plan.running().next().map(|(dial, _)| dial);
            if let (0, Some(dial)) = (how, running) {
                let effects = run.plan.failed(run.now, &mut run.numbers, dial, "refused".into()).unwrap();
                run.took(effects);
            } else if let Some((query, question)) = run.questions.pop() {
                let result = match (how, question) {
                    (1, _) => no_such(),
                    (_, Question::Ip4(_)) => Ok(four(&[how, 200 + how])),
                    (_, Question::Ip6(_)) => Ok(six(&[how.into(), 99])),
                    (_, Question::Text(_)) => Ok(Answers::Text(vec![format!("dnsaddr={found}")])),
                };
                let effects = run.plan.answered(run.now, &mut run.numbers, query, result);
                run.took(effects);
            }
        }
        let mut names: Vec<&String> = run.dials.iter().map(|(_, a)| a).collect();
        let dialed = names.len();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), dialed, "dialed twice");
        run.until(60_000);
        run.plan.time_out(run.now);
        prop_assert!(run.plan.is_over());
        prop_assert_eq!(run.plan.next_timeout(), None);
        for (_, text) in &run.dials {
            let failed = run.plan.tried.iter().filter(|tried| tried.address.starts_with(text.as_str())).count();
            prop_assert!(failed >= 1, "{} was forgotten", text);
        }
        prop_assert!(!run.plan.tried.is_empty());
    }
}
