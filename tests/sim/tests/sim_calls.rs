//! Calls in the simulated world: on bad networks, across cuts, and in random lives.
//!
//! `SEED=17 cargo test -p blink-sim --test sim_calls NAME -- --nocapture` shows one run step by step.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use blink_sim::{Action, Conditions, Fault, Scenario, World, each_seed};
use warp_blink::{
    config::{Config, PreConnect},
    event::{EndReason, Event, LinkState},
    id::CallId,
    proto::{Command, Other},
};

const SECOND: Duration = Duration::from_secs(1);

fn pair(seed: u64, conditions: Conditions) -> Result<World, Fault> {
    let mut config = Config::default();
    if seed % 2 == 1 {
        config.pre_connect = PreConnect::Always;
    }
    World::new(seed, conditions, vec![config; 2])
}

/// One node calls the other, which rings within this time. Which one is caller changes with the seed: the links of
/// the two directions are dialed from opposite ends.
fn ring(world: &mut World, seed: u64, within: Duration) -> Result<(CallId, usize, usize, Duration), Fault> {
    let (from, to) = if seed % 4 < 2 { (0, 1) } else { (1, 0) };
    let Ok(call) = world.offer(from, to)? else { return Err(world.complaint("the offer is refused")) };
    match world.run_until(within, |w| w.rings(to, call))? {
        Some(took) => Ok((call, from, to, took)),
        None => Err(world.complaint(format!("it does not ring within {within:?}"))),
    }
}

/// The callee accepts, and both are connected within this time.
fn connect(world: &mut World, call: CallId, to: usize, within: Duration) -> Result<Duration, Fault> {
    accept(world, call, to)?;
    let both = |w: &World| w.connected(0, call) && w.connected(1, call);
    match world.run_until(within, both)? {
        Some(took) => Ok(took),
        None => Err(world.complaint(format!("no connection within {within:?} of the accept"))),
    }
}

fn accept(world: &mut World, call: CallId, to: usize) -> Result<(), Fault> {
    match world.accept(to, call)? {
        Ok(()) => Ok(()),
        Err(rejected) => Err(world.complaint(rejected.to_string())),
    }
}

fn expect(world: &World, node: usize, call: CallId, wanted: &[EndReason]) -> Result<(), Fault> {
    match world.outcome(node, call) {
        Some(outcome) if wanted.contains(&outcome.reason) => Ok(()),
        other => Err(world.complaint(format!("node {node} should end with one of {wanted:?}: {other:?}"))),
    }
}

/// What was measured over all seeds.
type Times = RefCell<Vec<Duration>>;

/// Prints the middle and the worst of measured times.
fn report(what: &str, times: Times) {
    let mut times = times.into_inner();
    times.sort();
    if let (Some(middle), Some(worst)) = (times.get(times.len() / 2), times.last()) {
        println!("{what}: median {middle:?}, worst {worst:?} of {}", times.len());
    }
}

#[test]
fn on_a_clean_network_a_call_rings_and_connects_at_once() -> Result<(), String> {
    let (rings, connects) = (Times::default(), Times::default());
    each_seed(100, |seed| {
        let mut world = pair(seed, Conditions::clean())?;
        // The offer, its answer, the confirmation: three messages of at most 20 ms after a subscription of 60.
        let (call, _, to, took) = ring(&mut world, seed, Duration::from_millis(400))?;
        rings.borrow_mut().push(took);
        let took = connect(&mut world, call, to, Duration::from_millis(600))?;
        connects.borrow_mut().push(took);
        world.finish()
    })?;
    report("clean: offer to ring", rings);
    report("clean: accept to connected", connects);
    Ok(())
}

/// Five transmissions in a row were lost (0.2 ^ 5 = 0.03 % for each link of the chain): then it rings at the last moment,
/// or the caller is told that nobody could be reached.
fn unlucky(world: &mut World, fault: Fault, count: &Cell<u32>) -> Result<(), Fault> {
    count.set(count.get() + 1);
    world.run_for(6 * SECOND)?;
    let calls: Vec<CallId> = world.calls().keys().copied().collect();
    let told = |node| calls.iter().filter_map(|call| world.outcome(node, *call)).next();
    let unreachable = [0, 1].into_iter().filter_map(told).any(|o| o.reason == EndReason::Unreachable);
    let rings = calls.iter().any(|call| world.rings(0, *call) || world.rings(1, *call));
    if unreachable || rings { Ok(()) } else { Err(fault) }
}

/// What it cost: signals of both sides from the offer to the connection, resends and acknowledgements included.
fn signals(world: &World) -> u64 {
    world.nodes().iter().map(|n| n.machine.snapshot().statistics.counters).map(|c| c.sent + c.resent).sum()
}

#[test]
fn with_a_fifth_lost_and_repeated_and_all_out_of_order_every_call_connects() -> Result<(), String> {
    let (rings, connects, costs) = (Times::default(), Times::default(), RefCell::new(Vec::new()));
    let luckless = Cell::new(0);
    each_seed(1000, |seed| {
        let mut world = pair(seed, Conditions::rough())?;
        if seed % 3 == 0 {
            world.befriend(0, 1)?;
        }
        // Every link of the chain may need four transmissions in a row (0.2 ^ 4 = 0.16 %): 3.75 s each. With five it is
        // unreachable, and that is told.
        let (call, from, to, took) = match ring(&mut world, seed, 12 * SECOND) {
            Err(fault) => return unlucky(&mut world, fault, &luckless),
            Ok(rings) => rings,
        };
        rings.borrow_mut().push(took);
        // Six signals follow one another here; the call itself gives up after 30 s.
        let took = connect(&mut world, call, to, 29 * SECOND)?;
        connects.borrow_mut().push(took);
        costs.borrow_mut().push(signals(&world));
        world.run_for(10 * SECOND)?;
        world.command(from, Command::HangUp { call })?.map_err(|r| world.complaint(r.to_string()))?;
        let ended = |w: &World| w.outcome(to, call).is_some();
        if world.run_until(5 * SECOND, ended)?.is_none() {
            return Err(world.complaint("the hang-up does not arrive"));
        }
        world.finish()?;
        expect(&world, from, call, &[EndReason::HungUp])?;
        expect(&world, to, call, &[EndReason::HungUp])
    })?;
    assert!(luckless.get() <= 2, "{} of 1,000 calls were unreachable", luckless.get());
    report("rough: offer to ring", rings);
    report("rough: accept to connected", connects);
    let mut costs = costs.into_inner();
    costs.sort_unstable();
    let clean = {
        let mut world = pair(0, Conditions::clean()).map_err(|f| f.to_string())?;
        let (call, _, to, _) = ring(&mut world, 0, SECOND).map_err(|f| f.to_string())?;
        connect(&mut world, call, to, SECOND).map_err(|f| f.to_string())?;
        signals(&world)
    };
    println!(
        "signals from offer to connection: median {}, worst {} of {}; without loss {clean}",
        costs[costs.len() / 2],
        costs[costs.len() - 1],
        costs.len()
    );
    Ok(())
}

#[test]
fn random_lives_keep_all_promises() -> Result<(), String> {
    each_seed(500, |seed| Scenario::random(seed).run(seed).map(drop))
}

#[test]
fn the_random_lives_are_full_of_everything() -> Result<(), String> {
    // Otherwise the test above would prove nothing: over its first seeds every way to end is seen.
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..150 {
        let world = Scenario::random(seed).run(seed).map_err(|f| f.to_string())?;
        for (_, event) in world.nodes().iter().flat_map(|n| &n.events) {
            let name = match event {
                Event::Ended { reason: EndReason::Failed { .. }, .. } => "ended failed".to_owned(),
                Event::Ended { reason, .. } => format!("ended {reason:?}"),
                Event::Missed { reason, .. } => format!("missed {reason:?}"),
                Event::Link { state: LinkState::Connected, .. } => "connected".to_owned(),
                Event::Link { state: LinkState::Reconnecting { .. }, .. } => "reconnecting".to_owned(),
                _ => continue,
            };
            *seen.entry(name).or_default() += 1;
        }
    }
    println!("{seen:?}");
    for wanted in [
        "connected",
        "reconnecting",
        "ended HungUp",
        "ended Declined",
        "ended Cancelled",
        "ended TimedOut",
        "ended Unreachable",
        "ended Busy",
        "ended Lost",
        "ended failed",
        "missed Busy",
        "missed Cancelled",
        "missed TimedOut",
    ] {
        assert!(seen.contains_key(wanted), "no {wanted} in {seen:?}");
    }
    Ok(())
}

#[test]
fn a_cut_of_ten_seconds_while_it_rings_changes_nothing() -> Result<(), String> {
    each_seed(100, |seed| {
        let mut world = pair(seed, Conditions::rough())?;
        let (call, _, to, _) = ring(&mut world, seed, 12 * SECOND)?;
        world.cut(Duration::ZERO, 10 * SECOND, &[0]);
        world.run_for(5 * SECOND)?;
        // The acceptance falls into the cut, and arrives when it is over.
        connect(&mut world, call, to, 25 * SECOND)?;
        world.finish()?;
        expect(&world, to, call, &[EndReason::HungUp])
    })
}

#[test]
fn a_cut_before_the_offer_arrives_only_delays_it() -> Result<(), String> {
    each_seed(100, |seed| {
        let mut world = pair(seed, Conditions::clean())?;
        world.run_for(SECOND)?;
        world.cut(Duration::ZERO, 6 * SECOND, &[1]);
        let (call, _, to, took) = ring(&mut world, seed, 12 * SECOND)?;
        if took < 6 * SECOND {
            return Err(world.complaint("it rings through a cut"));
        }
        connect(&mut world, call, to, 5 * SECOND)?;
        world.finish()
    })
}

#[test]
fn a_cut_of_ten_seconds_during_a_call_heals() -> Result<(), String> {
    each_seed(100, |seed| {
        let mut world = pair(seed, Conditions::rough())?;
        let (call, _, to, _) = ring(&mut world, seed, 12 * SECOND)?;
        connect(&mut world, call, to, 15 * SECOND)?;
        world.cut(SECOND, 10 * SECOND, &[0]);
        world.run_for(8 * SECOND)?;
        let reconnecting = |w: &World, node: usize| {
            let snapshot = w.nodes()[node].machine.snapshot();
            snapshot.call(call).is_some_and(|c| c.participants[0].state.reconnecting())
        };
        if !reconnecting(&world, 0) || !reconnecting(&world, 1) {
            return Err(world.complaint("nobody is told of the interruption"));
        }
        let healed = |w: &World| w.connected(0, call) && w.connected(1, call);
        if world.run_until(4 * SECOND, healed)?.is_none() {
            return Err(world.complaint("it does not heal"));
        }
        world.run_for(100 * SECOND)?;
        if !healed(&world) {
            return Err(world.complaint("it does not stay healed"));
        }
        world.finish()
    })
}

#[test]
fn a_cut_that_does_not_heal_loses_the_call_on_both_sides() -> Result<(), String> {
    each_seed(30, |seed| {
        let mut world = pair(seed, Conditions::clean())?;
        let (call, _, to, _) = ring(&mut world, seed, SECOND)?;
        connect(&mut world, call, to, SECOND)?;
        world.cut(Duration::ZERO, 200 * SECOND, &[0]);
        let lost = |w: &World| w.outcome(0, call).is_some() && w.outcome(1, call).is_some();
        if world.run_until(63 * SECOND, lost)?.is_none() {
            return Err(world.complaint("the call outlives its reconnect window"));
        }
        world.finish()?;
        expect(&world, 0, call, &[EndReason::Lost])?;
        expect(&world, 1, call, &[EndReason::Lost])
    })
}

#[test]
fn a_caller_that_dies_while_it_rings_leaves_a_missed_call() -> Result<(), String> {
    each_seed(50, |seed| {
        let mut world = pair(seed, Conditions::rough())?;
        let (call, from, to, _) = ring(&mut world, seed, 12 * SECOND)?;
        world.act_later(SECOND, from, Action::Crash { down: Duration::ZERO, resume: None });
        // Not for as long as the caller had meant to let it ring: `caller_silent` after it was last heard.
        world.run_for(22 * SECOND)?;
        expect(&world, to, call, &[EndReason::Lost])?;
        world.finish()
    })
}

#[test]
fn after_a_crash_the_same_two_can_call_again_at_once() -> Result<(), String> {
    each_seed(50, |seed| {
        let mut world = pair(seed, Conditions::rough())?;
        let (call, from, to, _) = ring(&mut world, seed, 12 * SECOND)?;
        connect(&mut world, call, to, 15 * SECOND)?;
        world.crash(from)?;
        world.run_for(SECOND)?;
        let (again, _, to, _) = ring(&mut world, seed, 12 * SECOND)?;
        // The dead call is still there for the callee; accepting the new one ends it.
        connect(&mut world, again, to, 15 * SECOND)?;
        expect(&world, to, call, &[EndReason::HungUp])?;
        world.finish()
    })
}

#[test]
fn both_call_each_other_at_once_and_talk_without_pressing_anything() -> Result<(), String> {
    let luckless = Cell::new(0);
    each_seed(400, |seed| {
        let mut world = pair(seed, Conditions::rough())?;
        if seed % 4 == 0 {
            world.befriend(0, 1)?;
        }
        world.run_for(SECOND)?;
        let first = world.offer(0, 1)?.map_err(|r| world.complaint(r.to_string()))?;
        // At once, or while the other one is on its way, or rings.
        let wait = Duration::from_millis(seed % 8 * 150);
        world.run_for(wait)?;
        let second = world.offer(1, 0)?.map_err(|r| world.complaint(r.to_string()))?;
        let both = |w: &World, call| w.connected(0, call) && w.connected(1, call);
        let talk = |w: &World| both(w, first) || both(w, second);
        if world.run_until(29 * SECOND, talk)?.is_none() {
            let fault = world.complaint("they do not talk");
            return unlucky(&mut world, fault, &luckless);
        }
        world.run_for(10 * SECOND)?;
        let kept = if both(&world, first) { first } else { second };
        for node in world.nodes() {
            let calls: Vec<_> = node.machine.snapshot().calls.iter().map(|c| c.id).collect();
            if calls != [kept] {
                return Err(world.complaint(format!("more than one call is left: {calls:?}")));
            }
            let rang =
                node.events.iter().any(|(_, e)| matches!(e, Event::Missed { .. } | Event::Ended { .. }));
            if rang {
                return Err(world.complaint("somebody was told of a missed or an ended call"));
            }
        }
        // Either id ends it.
        world.command(1, Command::HangUp { call: second })?.map_err(|r| world.complaint(r.to_string()))?;
        world.run_for(5 * SECOND)?;
        expect(&world, 0, kept, &[EndReason::HungUp])?;
        expect(&world, 1, kept, &[EndReason::HungUp])?;
        world.finish()
    })?;
    assert!(luckless.get() <= 1, "{} of 400 did not reach each other", luckless.get());
    Ok(())
}

#[test]
fn whatever_crosses_ends_on_both_sides_in_time() -> Result<(), String> {
    let ways = [Action::Accept(Other::End), Action::Decline, Action::HangUp, Action::Cancel];
    each_seed(400, |seed| {
        let mut config = Config::default();
        config.ring_timeout = 5 * SECOND;
        if seed % 2 == 1 {
            config.pre_connect = PreConnect::Always;
        }
        let conditions = Conditions { duplicate: 0.2, loss: 0.0, ..Conditions::rough() };
        let mut world = World::new(seed, conditions, vec![config; 2])?;
        let begin = world.now();
        let (call, from, to, _) = ring(&mut world, seed, 4 * SECOND)?;
        // The two act within one delay of each other, a third of the runs around the end of the ringing. In the end
        // the caller hangs up, so that every run ends.
        let deadline = (5 * SECOND).saturating_sub(world.now().since(begin));
        let base = if seed % 3 == 0 { deadline.saturating_sub(SECOND / 2) } else { SECOND / 10 };
        for node in [from, to, from, to] {
            let wait = base + world.rng().between((Duration::ZERO, SECOND));
            if let Some(action) = world.rng().pick(&ways) {
                world.act_later(wait, node, action);
            }
        }
        world.act_later(base + 2 * SECOND, from, Action::HangUp);
        let over = |w: &World| w.outcome(from, call).is_some() && w.outcome(to, call).is_some();
        if world.run_until(base + 4 * SECOND, over)?.is_none() {
            return Err(world.complaint("it does not end on both sides"));
        }
        world.finish()
    })
}

#[test]
fn a_run_is_a_function_of_its_seed() -> Result<(), String> {
    each_seed(20, |seed| {
        let story = |world: World| {
            let nodes = world.nodes().iter().map(|n| (n.events.clone(), n.machine.clone()));
            (world.now(), nodes.collect::<Vec<_>>())
        };
        let (one, two) = (Scenario::random(seed).run(seed)?, Scenario::random(seed).run(seed)?);
        assert_eq!(story(one), story(two));
        Ok(())
    })
}

/// The call's link is up there, accepted or not.
fn linked(world: &World, node: usize, call: CallId) -> bool {
    let seen = world.nodes()[node].machine.snapshot();
    seen.call(call).is_some_and(|c| c.participants.iter().all(|p| p.link == LinkState::Connected))
}

/// A pre-connected caller who was not accepted must not hear the call that was: a link carries the microphone. That no
/// other call has a link while one is heard is an invariant (`Violation::Overheard`), checked after every step.
#[test]
fn who_waits_hears_nothing_of_the_call_that_was_accepted_and_connects_when_its_turn_comes()
-> Result<(), String> {
    each_seed(60, |seed| {
        let mut config = Config::default();
        config.pre_connect = PreConnect::Always;
        let mut world = World::new(seed, Conditions::clean(), vec![config; 3])?;
        // Every node is the one called in some seed, so that its links are dialed from either end.
        let called = (seed % 3) as usize;
        let (first, second) = ((called + 1) % 3, (called + 2) % 3);
        let Ok(waiting) = world.offer(first, called)? else { return Err(world.complaint("refused")) };
        world.run_for(2 * SECOND)?;
        if !linked(&world, called, waiting) {
            return Err(world.complaint("the first caller should be connected early"));
        }
        let Ok(taken) = world.offer(second, called)? else { return Err(world.complaint("refused")) };
        if world.run_until(SECOND, |w| w.rings(called, taken))?.is_none() {
            return Err(world.complaint("the second caller does not ring"));
        }
        accept(&mut world, taken, called)?;
        if linked(&world, called, waiting) {
            return Err(world.complaint("the first caller hears a call with somebody else"));
        }
        world.run_for(3 * SECOND)?;
        accept(&mut world, waiting, called)?;
        let both = |w: &World| w.connected(called, waiting) && w.connected(first, waiting);
        if world.run_until(3 * SECOND, both)?.is_none() {
            return Err(world.complaint("the first caller is not connected when its turn has come"));
        }
        expect(&world, called, taken, &[EndReason::HungUp])?;
        world
            .command(first, Command::HangUp { call: waiting })?
            .map_err(|r| world.complaint(r.to_string()))?;
        world.run_for(3 * SECOND)?;
        world.finish()
    })
}
