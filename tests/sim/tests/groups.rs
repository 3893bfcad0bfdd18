//! What a group can rely on, and within which time, in the simulated world.
//!
//! `SEED=17 cargo test -p blink-sim --test groups NAME -- --nocapture` shows one run step by step.

mod common;

use std::time::Duration;

use blink_sim::{Action, Conditions, Fault, Nodes, World, each_seed};
use common::{SECOND, Times, acts, gather, invites, report, together, within};
use warp_blink::{
    config::{Config, PreConnect},
    event::{EndReason, Event, Phase, Presence},
    proto::{Command, Other},
};

fn world(seed: u64, count: usize, conditions: Conditions) -> Result<World, Fault> {
    let mut config = Config::default();
    if seed % 2 == 1 {
        config.pre_connect = PreConnect::Always;
    }
    World::new(seed, conditions, vec![config; count])
}

/// On a clean network whatever follows from one thing that somebody does is done within this time: measured 0.5 s at
/// worst.
const CLEAN: Duration = SECOND;

/// On a rough one: measured 15 s at worst. A signal that is lost six times in a row (0.2 ^ 6 = 0.006 %) takes 12 s.
const ROUGH: Duration = Duration::from_secs(40);

/// One network after another, by the seed.
fn networks(seed: u64) -> (Conditions, bool) {
    if seed.is_multiple_of(2) { (Conditions::clean(), true) } else { (Conditions::rough(), false) }
}

#[test]
fn on_a_clean_network_all_pairs_of_a_group_connect_at_once() -> Result<(), String> {
    for (least, most, seeds) in [(2, 8, 56), (9, 16, 16)] {
        let times = Times::default();
        each_seed(seeds, |seed| {
            let count = least + seed as usize % (most - least + 1);
            let mut world = world(seed, count, Conditions::clean())?;
            gather(&mut world, count, CLEAN, &times)?;
            world.finish()
        })?;
        report(&format!("clean: last accept of {least} to {most} to all connected"), times);
    }
    Ok(())
}

#[test]
fn on_a_rough_network_all_pairs_of_a_group_connect() -> Result<(), String> {
    let times = Times::default();
    each_seed(60, |seed| {
        let count = 3 + (seed % 4) as usize;
        let mut world = world(seed, count, Conditions::rough())?;
        gather(&mut world, count, ROUGH, &times)?;
        world.finish()
    })?;
    report("rough: last accept of 3 to 6 to all connected", times);
    Ok(())
}

#[test]
fn who_comes_late_is_told_what_everybody_does() -> Result<(), String> {
    let times = Times::default();
    each_seed(100, |seed| {
        let (conditions, clean) = networks(seed);
        let mut world = world(seed, 4, conditions)?;
        let call = gather(&mut world, 3, ROUGH, &Times::default())?;
        acts(&mut world, 0, Command::SetMuted(true))?;
        acts(&mut world, 1, Command::SetCamera(true))?;
        world.run_for(5 * SECOND)?;
        let by = (seed % 3) as usize;
        invites(&mut world, by, call, 3)?;
        within(&mut world, 15 * SECOND, "it rings", |w| w.rings(3, call))?;
        acts(&mut world, 3, Command::Accept { call, other: Other::End })?;
        let knows = |w: &World| {
            let snapshot = w.nodes()[3].machine.snapshot();
            let of = |n: usize| {
                let key = w.nodes()[n].key;
                let call = snapshot.call(call)?;
                call.participants.iter().find(|p| p.peer == key).map(|p| p.state)
            };
            of(0).is_some_and(|s| s.muted) && of(1).is_some_and(|s| s.camera) && of(2).is_some()
        };
        let limit = if clean { CLEAN } else { ROUGH };
        let all = |w: &World| w.together(call, &[0, 1, 2, 3]) && knows(w);
        let took = within(&mut world, limit, "the late one is with all, and knows what they do", all)?;
        if clean {
            times.borrow_mut().push(took);
        }
        world.finish()
    })?;
    report("clean: accept of an invitation to all connected and known", times);
    Ok(())
}

/// That somebody who is gone cannot open what is said from then on is a rule of the world, checked with every message.
#[test]
fn after_a_removal_the_rest_share_a_new_key() -> Result<(), String> {
    let times = Times::default();
    each_seed(200, |seed| {
        let (conditions, clean) = networks(seed);
        let mut world = world(seed, 4, conditions)?;
        let call = gather(&mut world, 4, ROUGH, &Times::default())?;
        world.run_for(6 * SECOND)?;
        let before = world.speaks(0, call).map(|(epoch, _)| epoch);
        // In some runs the removed one hears of it much later, and goes on as if nothing had happened.
        let deaf = seed % 3 == 0;
        if deaf {
            world.cut(Duration::ZERO, 20 * SECOND, &[3]);
        }
        let peer = world.nodes()[3].key;
        acts(&mut world, 0, Command::Remove { call, peer })?;
        let begin = world.now();
        let new = |w: &World| {
            let epochs = [0, 1, 2].map(|n| w.speaks(n, call).filter(|(_, at)| *at >= begin));
            let same = epochs.iter().all(|e| e.map(|e| e.0) == epochs[0].map(|e| e.0));
            same && epochs[0].is_some_and(|e| Some(e.0) != before)
        };
        let limit = if clean { CLEAN } else { 15 * SECOND };
        let took = within(&mut world, limit, "the others share a new key", new)?;
        if clean {
            times.borrow_mut().push(took);
        }
        world.run_for(100 * SECOND)?;
        let there = [0, 1, 2].map(|n| world.outcome(n, call));
        if there != [None; 3] || !world.together(call, &[0, 1, 2]) {
            return Err(world.complaint("the call does not go on"));
        }
        match world.outcome(3, call) {
            Some(o) if o.reason == EndReason::Removed && o.by == Some(0) => {}
            // It was cut off when it was told, and told no more after the farewell.
            Some(o) if deaf && o.reason == EndReason::Lost => {}
            other => return Err(world.complaint(format!("the removed one should know: {other:?}"))),
        }
        world.finish()
    })?;
    report("clean: removal to a new key that all use", times);
    Ok(())
}

#[test]
fn who_crashes_and_comes_back_is_with_everybody_again() -> Result<(), String> {
    let times = Times::default();
    each_seed(150, |seed| {
        let (conditions, clean) = networks(seed);
        let mut world = world(seed, 4, conditions)?;
        let call = gather(&mut world, 4, ROUGH, &Times::default())?;
        world.run_for(5 * SECOND)?;
        let one = (seed % 4) as usize;
        // Sooner than the others notice, or when they have taken it for lost, or in between.
        let away =
            [Duration::from_millis(200), 4 * SECOND, 30 * SECOND, 80 * SECOND][(seed / 4 % 4) as usize];
        world.kill(one);
        world.run_for(away)?;
        world.revive(one)?;
        world.run_for(SECOND)?;
        let sent_at = world.wall(one);
        acts(&mut world, one, Command::Resume { call, sent_at, other: Other::End })?;
        let limit = if clean { CLEAN } else { ROUGH };
        let took = within(&mut world, limit, "all are together again", |w| w.together(call, &[0, 1, 2, 3]))?;
        if clean {
            times.borrow_mut().push(took);
        }
        let rings = |w: &World, n: usize| {
            w.nodes()[n].events.iter().filter(|(_, e)| matches!(e, Event::Incoming { .. })).count()
        };
        // Whoever has not died was called once, before; the one who has begins anew.
        let once = |n: usize| usize::from(n != 0 && n != one);
        if let Some(n) = (0..4).find(|n| rings(&world, *n) != once(*n)) {
            return Err(world.complaint(format!("it rings again at node {n}")));
        }
        world.finish()
    })?;
    report("clean: resume to all connected", times);
    Ok(())
}

#[test]
fn the_call_goes_on_when_one_leaves_and_who_left_can_come_back() -> Result<(), String> {
    let times = Times::default();
    each_seed(150, |seed| {
        let (conditions, clean) = networks(seed);
        let mut world = world(seed, 4, conditions)?;
        let call = gather(&mut world, 4, ROUGH, &Times::default())?;
        let one = (seed % 4) as usize;
        let others: Vec<usize> = (0..4).filter(|n| *n != one).collect();
        acts(&mut world, one, Command::Leave { call })?;
        let left = |w: &World| others.iter().all(|n| w.sees(*n, call, one) == Some(Presence::Left));
        within(&mut world, 15 * SECOND, "the others see it leave", left)?;
        world.run_for(20 * SECOND)?;
        if !world.together(call, &others) || world.phase(one, call) != Some(Phase::Left) {
            return Err(world.complaint("the others should go on"));
        }
        acts(&mut world, one, Command::Rejoin { call, other: Other::End })?;
        let limit = if clean { CLEAN } else { ROUGH };
        let took = within(&mut world, limit, "it is back", |w| w.together(call, &[0, 1, 2, 3]))?;
        if clean {
            times.borrow_mut().push(took);
        }
        let told = |w: &World, wanted: fn(&Event) -> bool| {
            w.nodes()[one].events.iter().filter(|(_, e)| wanted(e)).count()
        };
        let events = (
            told(&world, |e| matches!(e, Event::Left { .. })),
            told(&world, |e| matches!(e, Event::Rejoined { .. })),
        );
        if events != (1, 1) {
            return Err(world.complaint(format!("left and rejoined once each, not {events:?}")));
        }
        world.finish()
    })?;
    report("clean: rejoin to all connected", times);
    Ok(())
}

#[test]
fn the_last_one_waits_a_while_for_the_others_and_then_hangs_up() -> Result<(), String> {
    each_seed(60, |seed| {
        let mut world = world(seed, 3, Conditions::clean())?;
        let call = gather(&mut world, 3, CLEAN, &Times::default())?;
        let comes_back = seed % 2 == 0;
        let way = if comes_back { Command::Leave { call } } else { Command::HangUp { call } };
        acts(&mut world, 1, way)?;
        acts(&mut world, 2, Command::HangUp { call })?;
        world.run_for(29 * SECOND)?;
        if world.phase(0, call) != Some(Phase::Active) {
            return Err(world.complaint("it should wait"));
        }
        if comes_back {
            acts(&mut world, 1, Command::Rejoin { call, other: Other::End })?;
            together(&mut world, call, &[0, 1], CLEAN)?;
            world.run_for(60 * SECOND)?;
            if !world.together(call, &[0, 1]) {
                return Err(world.complaint("the call should go on"));
            }
        } else {
            within(&mut world, 3 * SECOND, "it ends", |w| w.outcome(0, call).is_some())?;
        }
        world.finish()
    })
}

#[test]
fn a_caller_that_dies_stops_ringing_everywhere_soon() -> Result<(), String> {
    each_seed(60, |seed| {
        let (conditions, _) = networks(seed);
        let mut world = world(seed, 4, conditions)?;
        let call = world.offer_all(0, Nodes::of(&[1, 2, 3]))?.map_err(|r| world.complaint(r.to_string()))?;
        let ring = |w: &World| [1, 2, 3].iter().all(|n| w.rings(*n, call));
        within(&mut world, 14 * SECOND, "all ring", ring)?;
        // The last that they heard may be up to one announce period old, and on its way for a resend or two.
        world.run_for(seed as u32 % 12 * SECOND)?;
        world.kill(0);
        let silent = |w: &World| [1, 2, 3].iter().all(|n| w.outcome(*n, call).is_some());
        within(&mut world, 21 * SECOND, "all stop", silent)?;
        for n in [1, 2, 3] {
            if world.outcome(n, call).map(|o| o.reason) != Some(EndReason::Lost) {
                return Err(world.complaint(format!("node {n}: {:?}", world.outcome(n, call))));
            }
        }
        world.finish()
    })
}

/// A call is taken back before anybody has answered its first message, or after; all of it or one invitation.
#[test]
fn what_is_taken_back_stops_ringing() -> Result<(), String> {
    each_seed(200, |seed| {
        let (conditions, clean) = networks(seed);
        let mut world = world(seed, 4, conditions)?;
        let call = world.offer_all(0, Nodes::of(&[1, 2, 3]))?.map_err(|r| world.complaint(r.to_string()))?;
        world.run_for(Duration::from_millis(seed % 40 * 15))?;
        if seed % 3 == 0 {
            let ring = |w: &World| [1, 2, 3].iter().all(|n| w.rings(*n, call));
            within(&mut world, 14 * SECOND, "all ring", ring)?;
        }
        let one = seed % 4 < 2;
        if one {
            let peer = world.nodes()[2].key;
            acts(&mut world, 0, Command::Remove { call, peer })?;
        } else {
            acts(&mut world, 0, Command::Cancel { call })?;
        }
        // A first message can still be on its way, and its withdrawal as well.
        let limit = if clean { CLEAN } else { 15 * SECOND };
        world.run_for(limit)?;
        let called: &[usize] = if one { &[2] } else { &[1, 2, 3] };
        let ends = |n: &usize| {
            matches!(
                world.outcome(*n, call),
                None | Some(blink_sim::Outcome { reason: EndReason::Cancelled | EndReason::Removed, .. })
            )
        };
        if let Some(n) = called.iter().find(|n| world.rings(**n, call) || !ends(n)) {
            return Err(
                world.complaint(format!("node {n} still rings, or says {:?}", world.outcome(*n, call)))
            );
        }
        if one {
            within(&mut world, 15 * SECOND, "the others ring on", |w| w.rings(1, call) && w.rings(3, call))?;
        }
        world.finish()
    })
}

#[test]
fn who_is_removed_can_be_invited_again() -> Result<(), String> {
    each_seed(100, |seed| {
        let (conditions, clean) = networks(seed);
        let mut world = world(seed, 4, conditions)?;
        let call = gather(&mut world, 4, ROUGH, &Times::default())?;
        let peer = world.nodes()[3].key;
        acts(&mut world, 0, Command::Remove { call, peer })?;
        within(&mut world, 10 * SECOND, "it is told", |w| w.outcome(3, call).is_some())?;
        // Its farewell is over, and the removal is known to all.
        world.run_for(15 * SECOND)?;
        invites(&mut world, 1, call, 3)?;
        within(&mut world, 15 * SECOND, "it rings again", |w| w.rings(3, call))?;
        acts(&mut world, 3, Command::Accept { call, other: Other::End })?;
        together(&mut world, call, &[0, 1, 2, 3], if clean { CLEAN } else { ROUGH })?;
        world.finish()
    })
}

#[test]
fn a_group_that_is_cut_in_two_comes_together_again() -> Result<(), String> {
    let times = Times::default();
    each_seed(120, |seed| {
        let (conditions, _) = networks(seed);
        let mut world = world(seed, 5, conditions)?;
        let call = gather(&mut world, 5, ROUGH, &Times::default())?;
        world.run_for(6 * SECOND)?;
        // Short enough that nobody is lost, or so long that each half has given up the other.
        let long = if seed % 4 < 2 { 20 * SECOND } else { 75 * SECOND };
        world.cut(Duration::ZERO, long, &[0, 1]);
        world.run_for(2 * SECOND)?;
        // Both halves change what they can: somebody leaves one, so that its key changes, and the other invites.
        if seed % 3 == 0 {
            acts(&mut world, 4, Command::Leave { call })?;
        }
        world.run_for(long - 2 * SECOND)?;
        let all: &[usize] = if seed % 3 == 0 { &[0, 1, 2, 3] } else { &[0, 1, 2, 3, 4] };
        let begin = world.now();
        let agreed = |w: &World| w.together(call, all) && w.disagreement().is_none();
        within(&mut world, ROUGH, "they agree", agreed)?;
        times.borrow_mut().push(world.now().since(begin));
        world.finish()
    })?;
    report("a cut of 20 or 75 s heals: to one key, one roll and all connected", times);
    Ok(())
}

#[test]
fn a_phone_that_sleeps_is_with_everybody_again_when_it_wakes() -> Result<(), String> {
    let times = Times::default();
    each_seed(100, |seed| {
        let (conditions, _) = networks(seed);
        let mut world = world(seed, 4, conditions)?;
        let call = gather(&mut world, 4, ROUGH, &Times::default())?;
        let one = (seed % 4) as usize;
        let asleep = [SECOND, 8 * SECOND, 40 * SECOND, 90 * SECOND][(seed / 4 % 4) as usize];
        world.act_later(Duration::ZERO, one, Action::Suspend(asleep));
        world.run_for(asleep)?;
        let begin = world.now();
        together(&mut world, call, &[0, 1, 2, 3], ROUGH)?;
        times.borrow_mut().push(world.now().since(begin));
        world.finish()
    })?;
    report("a phone wakes after 1 to 90 s: to all connected", times);
    Ok(())
}

#[test]
fn a_phone_that_goes_to_another_network_is_with_everybody_again_on_the_same_links() -> Result<(), String> {
    let times = Times::default();
    each_seed(100, |seed| {
        let (conditions, _) = networks(seed);
        let mut world = world(seed, 4, conditions)?;
        let call = gather(&mut world, 4, ROUGH, &Times::default())?;
        let begin = world.now();
        world.act_later(Duration::ZERO, (seed % 4) as usize, Action::Roam);
        if seed % 3 == 0 {
            world.act_later(Duration::ZERO, ((seed + 1) % 4) as usize, Action::Roam);
        }
        let noticed = |w: &World| !w.together(call, &[0, 1, 2, 3]);
        within(&mut world, 2 * SECOND, "it is noticed", noticed)?;
        together(&mut world, call, &[0, 1, 2, 3], ROUGH)?;
        times.borrow_mut().push(world.now().since(begin));
        world.finish()
    })?;
    report("another network: to all connected over other paths", times);
    Ok(())
}

/// That nobody in a held call hears the microphone is a rule of the world.
#[test]
fn a_held_call_is_shown_as_held_and_goes_on() -> Result<(), String> {
    each_seed(80, |seed| {
        let (conditions, _) = networks(seed);
        let mut world = world(seed, 4, conditions)?;
        let call = gather(&mut world, 3, ROUGH, &Times::default())?;
        let second = world.offer(3, 0)?.map_err(|r| world.complaint(r.to_string()))?;
        within(&mut world, 15 * SECOND, "it rings", |w| w.rings(0, second))?;
        acts(&mut world, 0, Command::Accept { call: second, other: Other::Hold })?;
        let held = |w: &World| {
            let snapshot = w.nodes()[1].machine.snapshot();
            let key = w.nodes()[0].key;
            let call = snapshot.call(call);
            call.is_some_and(|c| c.participants.iter().any(|p| p.peer == key && p.state.held))
        };
        // Said at once and every five seconds, and one in five is lost.
        within(&mut world, 30 * SECOND, "the others see that it is held", held)?;
        together(&mut world, second, &[0, 3], 30 * SECOND)?;
        if !world.together(call, &[0, 1, 2]) {
            return Err(world.complaint("a held call stays connected"));
        }
        acts(&mut world, 0, Command::Unhold { call, other: Other::End })?;
        within(&mut world, 15 * SECOND, "the second call ends", |w| w.outcome(3, second).is_some())?;
        within(&mut world, 30 * SECOND, "it is not held any more", |w| !held(w))?;
        world.finish()
    })
}
