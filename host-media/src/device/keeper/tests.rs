use super::*;

/// A keeper with a world around it that the test changes.
struct Bench {
    keeper: Keeper,
    start: Instant,
    at: Duration,
    ids: Vec<&'static str>,
    default: Option<&'static str>,
    /// Do not open, with this kind of fault.
    refuse: Vec<(&'static str, DeviceFaultKind)>,
    /// Open, and then deliver nothing.
    dumb: Vec<&'static str>,
    log: Vec<String>,
    looks: u32,
}

fn fault(kind: DeviceFaultKind) -> DeviceFault {
    DeviceFault::new(kind, format!("{kind:?}"))
}

impl Bench {
    fn new(want: Want, held: Option<&str>, always: bool) -> Self {
        let start = Instant::now();
        let held = match held {
            Some(id) => Ok(Some(id.to_owned())),
            None => Err(fault(DeviceFaultKind::Missing)),
        };
        Self {
            keeper: Keeper::new(want, held, always, start),
            start,
            at: Duration::ZERO,
            ids: vec!["a", "b", "c"],
            default: Some("a"),
            refuse: Vec::new(),
            dumb: Vec::new(),
            log: Vec::new(),
            looks: 0,
        }
    }

    fn now(&self) -> Instant {
        self.start + self.at
    }

    fn settle(&mut self) {
        let now = self.now();
        for _ in 0..1000 {
            let Some(act) = self.keeper.next(now) else { return };
            match act {
                Act::Look => {
                    self.looks += 1;
                    let ids: Vec<_> = self.ids.iter().map(ToString::to_string).collect();
                    let default = self.default.map(str::to_owned);
                    self.keeper.looked(now, Ok(Presence { spare: ids.clone(), ids, default }));
                }
                Act::Open(target) => {
                    let id = target.clone().or(self.default.map(str::to_owned));
                    let refused = self.refuse.iter().find(|(r, _)| Some(*r) == id.as_deref()).map(|r| r.1);
                    let there = id.as_ref().is_some_and(|id| self.ids.contains(&id.as_str()));
                    let result = match (id, refused) {
                        (Some(id), None) if there => Ok(id),
                        (_, kind) => Err(fault(kind.unwrap_or(DeviceFaultKind::Missing))),
                    };
                    let opened = self.keeper.opened(now, result.clone());
                    match (opened, result) {
                        (Some((serial, _)), Ok(id)) if self.dumb.contains(&id.as_str()) => {
                            self.log.push(format!("dumb {id}"));
                            self.keeper.refused(now, serial, fault(DeviceFaultKind::Stalled));
                        }
                        (Some((serial, why)), Ok(id)) => {
                            self.log.push(format!("{why:?} {id}"));
                            self.keeper.taken(now, serial);
                        }
                        (_, Err(cause)) => self.log.push(format!("no: {}", cause.message)),
                        _ => self.log.push("ignored".to_owned()),
                    }
                }
                Act::Kept(_) => self.log.push("Kept".to_owned()),
                Act::Failed(cause) => self.log.push(format!("Failed {cause}")),
                Act::Nothing(cause) => self.log.push(format!("Nothing {cause}")),
            }
        }
        panic!("it does not come to rest: {:?}", self.log);
    }

    /// Lets time pass, waking when the keeper wants to; the result is what happened.
    fn pass(&mut self, seconds: f64) -> Vec<String> {
        let end = self.at + Duration::from_secs_f64(seconds);
        self.settle();
        while let Some(wake) = self.keeper.wake() {
            let wake = wake.duration_since(self.start);
            assert!(wake > self.at, "it asks to be woken without end");
            if wake > end {
                break;
            }
            self.at = wake;
            self.settle();
        }
        self.at = end;
        std::mem::take(&mut self.log)
    }
}

fn device(id: &str) -> Want {
    Want::Device(id.to_owned())
}

#[test]
fn a_default_is_followed_where_the_system_moves_quietly() {
    let mut bench = Bench::new(Want::Default, Some("a"), true);
    assert!(bench.pass(10.0).is_empty());
    bench.default = Some("b");
    assert_eq!(bench.pass(2.0), ["DefaultMoved b"]);
    assert!(bench.pass(20.0).is_empty());
    // Without a default nothing is better than what there is.
    bench.default = None;
    assert!(bench.pass(20.0).is_empty());
}

#[test]
fn a_device_that_is_wanted_is_left_alone_while_it_works() {
    for always in [false, true] {
        let mut bench = Bench::new(device("b"), Some("b"), always);
        bench.default = Some("c");
        assert!(bench.pass(60.0).is_empty());
        assert_eq!(bench.looks > 0, always);
    }
    // Where the default always has the same name there is nothing to look for.
    let mut bench = Bench::new(Want::Default, Some("a"), false);
    bench.pass(60.0);
    assert_eq!((bench.looks, bench.keeper.wake()), (0, None));
}

#[test]
fn a_device_that_vanishes_is_replaced_and_comes_back() {
    for always in [false, true] {
        let mut bench = Bench::new(device("b"), Some("b"), always);
        bench.ids = vec!["a", "c"];
        bench.keeper.lost(bench.now(), fault(DeviceFaultKind::Missing));
        assert_eq!(bench.pass(0.0), ["Fallback a"]);
        assert!(bench.pass(30.0).is_empty());
        bench.ids.push("b");
        assert_eq!(bench.pass(2.0), ["Returned b"]);
        assert!(bench.pass(30.0).is_empty());
    }
    // The server has moved the stream and told nothing.
    let mut bench = Bench::new(device("b"), Some("b"), true);
    bench.ids = vec!["a", "c"];
    assert_eq!(bench.pass(2.0), ["Fallback a"]);
    bench.ids.push("b");
    assert_eq!(bench.pass(2.0), ["Returned b"]);
}

#[test]
fn the_default_that_vanishes_is_followed_by_the_next_one_and_returns() {
    let mut bench = Bench::new(Want::Default, Some("a"), false);
    (bench.ids, bench.default) = (vec!["b"], Some("b"));
    bench.keeper.lost(bench.now(), fault(DeviceFaultKind::Missing));
    assert_eq!(bench.pass(2.0), ["DefaultMoved b"]);
    // On a system that names no default anything will do.
    let mut bench = Bench::new(Want::Default, Some("a"), false);
    (bench.ids, bench.default) = (vec!["c", "b"], None);
    bench.keeper.lost(bench.now(), fault(DeviceFaultKind::Missing));
    assert_eq!(bench.pass(2.0), ["Fallback c"]);
    (bench.ids, bench.default) = (vec!["a", "b", "c"], Some("a"));
    assert_eq!(bench.pass(2.0), ["Returned a"]);
}

#[test]
fn nothing_at_all_is_told_once_and_tried_for_ever() {
    let mut bench = Bench::new(Want::Default, Some("a"), false);
    (bench.ids, bench.default) = (vec![], None);
    bench.keeper.lost(bench.now(), fault(DeviceFaultKind::Missing));
    assert_eq!(bench.pass(3600.0), ["Nothing Missing"]);
    (bench.ids, bench.default) = (vec!["a"], Some("a"));
    assert_eq!(bench.pass(2.0), ["Returned a"]);
    bench.keeper.lost(bench.now(), fault(DeviceFaultKind::Missing));
    (bench.ids, bench.default) = (vec![], None);
    assert_eq!(bench.pass(60.0), ["Nothing Missing"], "told again, after it worked again");
}

#[test]
fn what_was_not_there_at_the_beginning_is_found_later() {
    let mut bench = Bench::new(Want::Default, None, false);
    (bench.ids, bench.default) = (vec![], None);
    assert!(bench.pass(60.0).is_empty(), "the beginning itself was told");
    (bench.ids, bench.default) = (vec!["a"], Some("a"));
    assert_eq!(bench.pass(2.0).len(), 1);
    // A busy device that was asked for at the beginning: another one, until it is free.
    let mut bench = Bench::new(device("b"), None, false);
    bench.refuse = vec![("b", DeviceFaultKind::Busy)];
    assert_eq!(bench.pass(0.0), ["Fallback a"]);
    let tries = bench.pass(120.0);
    assert!(tries.iter().all(|t| t == "no: Busy"));
    assert!((4..=8).contains(&tries.len()), "a pause that doubles up to half a minute: {}", tries.len());
    bench.refuse.clear();
    assert_eq!(bench.pass(31.0), ["Returned b"]);
}

#[test]
fn what_does_not_work_is_passed_over() {
    let mut bench = Bench::new(device("b"), Some("b"), false);
    bench.ids = vec!["a", "c"];
    bench.refuse = vec![("a", DeviceFaultKind::Denied)];
    bench.keeper.lost(bench.now(), fault(DeviceFaultKind::Missing));
    assert_eq!(bench.pass(0.0), ["no: Denied", "Fallback c"]);
    // All are refused: told with the last cause.
    let mut bench = Bench::new(Want::Default, Some("a"), false);
    bench.refuse = ["a", "b", "c"].map(|id| (id, DeviceFaultKind::Denied)).to_vec();
    bench.keeper.lost(bench.now(), fault(DeviceFaultKind::Other));
    assert_eq!(bench.pass(0.0), ["no: Denied", "no: Denied", "Nothing Denied"], "the lost one has a pause");
    // One that opens and does nothing is worse than one that works.
    let mut bench = Bench::new(device("b"), Some("b"), true);
    bench.keeper.lost(bench.now(), fault(DeviceFaultKind::Stalled));
    bench.dumb = vec!["b"];
    assert_eq!(bench.pass(0.0), ["Fallback a"]);
    let tries = bench.pass(600.0);
    assert!(tries.iter().all(|t| t == "dumb b") && tries.len() < 30, "{tries:?}");
    bench.dumb.clear();
    assert_eq!(bench.pass(31.0), ["Returned b"]);
}

#[test]
fn what_is_plugged_in_anew_is_tried_at_once() {
    let mut bench = Bench::new(device("b"), Some("b"), false);
    bench.refuse = vec![("b", DeviceFaultKind::Other)];
    bench.keeper.lost(bench.now(), fault(DeviceFaultKind::Other));
    bench.pass(100.0);
    bench.ids = vec!["a"];
    bench.pass(2.0);
    bench.ids = vec!["a", "b"];
    bench.refuse.clear();
    assert_eq!(bench.pass(2.0), ["Returned b"]);
}

#[test]
fn a_request_that_fails_changes_nothing() {
    let mut bench = Bench::new(device("b"), Some("b"), true);
    bench.keeper.request(device("x"));
    assert_eq!(bench.pass(60.0), ["no: Missing", "Failed Missing"]);
    bench.dumb = vec!["c"];
    bench.keeper.request(device("c"));
    assert_eq!(bench.pass(60.0), ["dumb c", "Failed Stalled"]);
    bench.keeper.request(device("b"));
    assert_eq!(bench.pass(60.0), ["Kept"]);
    bench.keeper.request(Want::Default);
    assert_eq!(bench.pass(60.0), ["Requested a"]);
    bench.default = Some("b");
    assert_eq!(bench.pass(2.0), ["DefaultMoved b"], "the default is wanted now");
}

#[test]
fn the_newest_request_wins_and_an_older_answer_still_counts() {
    let mut bench = Bench::new(device("a"), Some("a"), false);
    let now = bench.now();
    bench.keeper.request(device("b"));
    bench.keeper.request(device("c"));
    assert_eq!(bench.pass(0.0), ["Requested c"]);
    // b was opened, and before it delivers c is wanted; b is taken in the same moment.
    bench.keeper.request(device("b"));
    assert_eq!(bench.keeper.next(now), Some(Act::Open(Some("b".to_owned()))));
    let (first, _) = bench.keeper.opened(now, Ok("b".to_owned())).unwrap();
    bench.keeper.request(device("a"));
    assert_eq!(bench.keeper.next(now), Some(Act::Open(Some("a".to_owned()))));
    let (second, _) = bench.keeper.opened(now, Ok("a".to_owned())).unwrap();
    bench.keeper.taken(now, first);
    assert_eq!(bench.keeper.held.as_deref(), Some("b"));
    bench.keeper.taken(now, second);
    assert_eq!((bench.keeper.held.as_deref(), bench.keeper.wanted_id()), (Some("a"), Some("a")));
    bench.keeper.refused(now, second, fault(DeviceFaultKind::Stalled));
    assert_eq!(bench.keeper.held.as_deref(), Some("a"), "too late to be refused");
}

#[test]
fn a_file_needs_no_keeping() {
    let mut bench = Bench::new(Want::Other, None, true);
    assert!(bench.pass(60.0).is_empty());
    let mut bench = Bench::new(Want::Default, Some("a"), true);
    bench.keeper.other();
    bench.keeper.lost(bench.now(), fault(DeviceFaultKind::Missing));
    (bench.ids, bench.default) = (vec![], None);
    assert!(bench.pass(60.0).is_empty());
    bench.ids = vec!["b"];
    bench.keeper.request(device("b"));
    assert_eq!(bench.pass(60.0), ["Requested b"]);
}
