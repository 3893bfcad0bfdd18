//! Random lives of groups: whatever people do and whatever happens to their phones and networks, in any order.
//!
//! `make sim RUNS=10000` lives through more of them, and `make sim SEED=17` shows one.

use std::collections::BTreeMap;

use blink_sim::{Scenario, each_seed};
use warp_blink::event::{EndReason, Event, Presence};

#[test]
fn mixed_lives_keep_all_promises() -> Result<(), String> {
    each_seed(300, |seed| Scenario::mixed(seed).run(seed).map(drop))
}

#[test]
fn a_mixed_life_is_a_function_of_its_seed() -> Result<(), String> {
    each_seed(20, |seed| {
        let story = || Scenario::mixed(seed).run(seed).map(|w| (w.steps(), w.now()));
        assert_eq!(story()?, story()?);
        Ok(())
    })
}

#[test]
fn the_mixed_lives_are_full_of_everything() -> Result<(), String> {
    // Otherwise the tests above would prove nothing: over the first seeds everything that can be told is told.
    let (mut seen, mut largest, mut opened) = (BTreeMap::<String, u32>::new(), 0, 0);
    for seed in 0..300 {
        let (world, lived) = Scenario::mixed(seed).live(seed).map_err(|f| f.to_string())?;
        largest = largest.max(lived.largest);
        opened += lived.opened;
        for (_, event) in world.nodes().iter().flat_map(|n| &n.events) {
            let name = match event {
                Event::Ended { reason: EndReason::Failed { .. }, .. } => "ended failed".to_owned(),
                Event::Ended { reason, .. } => format!("ended {reason:?}"),
                Event::Missed { ago: Some(_), .. } => "told of a missed call".to_owned(),
                Event::Missed { reason, .. } => format!("missed {reason:?}"),
                Event::Participant { state, .. } => format!("shown {:?}", state.presence),
                Event::Held { held, .. } => format!("held {held}"),
                Event::Left { .. } => "left".to_owned(),
                Event::Rejoined { .. } => "rejoined".to_owned(),
                Event::Merged { .. } => "merged".to_owned(),
                _ => continue,
            };
            *seen.entry(name).or_default() += 1;
        }
    }
    println!("{seen:?}, at most {largest} in the end");
    let shown = [
        Presence::Invited,
        Presence::Connecting,
        Presence::Joined,
        Presence::Reconnecting,
        Presence::Lost,
        Presence::Left,
        Presence::Removed,
        Presence::Declined,
        Presence::Busy,
        Presence::NoAnswer,
        Presence::Unreachable,
    ];
    let shown = shown.iter().map(|p| format!("shown {p:?}"));
    let ends =
        ["HungUp", "Declined", "Cancelled", "TimedOut", "Unreachable", "Busy", "Lost", "Removed", "failed"];
    let ends = ends.iter().map(|e| format!("ended {e}"));
    let told =
        ["left", "rejoined", "merged", "held true", "held false", "told of a missed call", "missed Busy"];
    for wanted in shown.chain(ends).chain(told.map(str::to_owned)) {
        assert!(seen.contains_key(&wanted), "no {wanted} in {seen:?}");
    }
    assert!(opened > 1000, "one in sixteen is sealed for real: {opened} signals");
    assert!(largest > 4, "at most {largest} in one call");
    Ok(())
}
