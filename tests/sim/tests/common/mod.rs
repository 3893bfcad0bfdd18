//! What the tests of groups share.

// Each test file is a crate of its own, and uses some of it.
#![allow(unreachable_pub, dead_code)]

use std::{cell::RefCell, time::Duration};

use blink_sim::{Fault, Nodes, World};
use warp_blink::{
    error::Rejected,
    id::CallId,
    proto::{Command, Other},
};

pub const SECOND: Duration = Duration::from_secs(1);

/// What was measured over all seeds.
pub type Times = RefCell<Vec<Duration>>;

/// Prints the middle and the worst of measured times.
pub fn report(what: &str, times: Times) {
    let mut times = times.into_inner();
    times.sort();
    if let (Some(middle), Some(worst)) = (times.get(times.len() / 2), times.last()) {
        println!("{what}: median {middle:?}, worst {worst:?} of {}", times.len());
    }
}

/// This comes to hold within this time.
pub fn within(
    world: &mut World,
    limit: Duration,
    what: &str,
    holds: impl Fn(&World) -> bool,
) -> Result<Duration, Fault> {
    // Looked at every few milliseconds: what it costs to look at everything after each step is no part of the test.
    let (begin, look) = (world.now(), Duration::from_millis(20));
    while !holds(world) {
        if world.now().since(begin) >= limit {
            return Err(world.complaint(format!("not within {limit:?}: {what}")));
        }
        world.run_for(look)?;
    }
    Ok(world.now().since(begin))
}

fn refused(world: &World, result: Result<(), Rejected>) -> Result<(), Fault> {
    result.map_err(|rejected| world.complaint(rejected.to_string()))
}

/// A command that is not refused.
pub fn acts(world: &mut World, node: usize, command: Command) -> Result<(), Fault> {
    let result = world.command(node, command)?;
    refused(world, result)
}

/// An invitation that is not refused.
pub fn invites(world: &mut World, by: usize, call: CallId, whom: usize) -> Result<(), Fault> {
    let result = world.invite(by, call, Nodes::of(&[whom]))?;
    refused(world, result)
}

/// All of these are connected with one another.
pub fn together(
    world: &mut World,
    call: CallId,
    nodes: &[usize],
    limit: Duration,
) -> Result<Duration, Fault> {
    within(world, limit, "all are together", |w| w.together(call, nodes))
}

/// Node 0 calls the others, who accept one after another; all are connected within this time of the last of them.
pub fn gather(world: &mut World, count: usize, limit: Duration, took: &Times) -> Result<CallId, Fault> {
    let others: Vec<usize> = (1..count).collect();
    let call = match world.offer_all(0, Nodes::of(&others))? {
        Ok(call) => call,
        Err(rejected) => return Err(world.complaint(rejected.to_string())),
    };
    let ring = |w: &World| others.iter().all(|n| w.rings(*n, call));
    within(world, 20 * SECOND, "all ring", ring)?;
    for node in &others {
        let wait = world.rng().between((Duration::ZERO, SECOND));
        world.run_for(wait)?;
        acts(world, *node, Command::Accept { call, other: Other::End })?;
    }
    let all: Vec<usize> = (0..count).collect();
    took.borrow_mut().push(together(world, call, &all, limit)?);
    Ok(call)
}
