//! The simulated world: several call machines, virtual time, and a network that a seed decides.
//!
//! A run is a function of its seed. [`World`] carries out every effect of the machines and answers each exactly once.
//! Messages between them travel through a network that loses, repeats, delays and reorders them, and are opened only by
//! who has the keys; links behave as real ones do, without media; nodes sleep, die and come back. After each step the
//! invariants of the machine and the rules of the world are checked. [`World::settle`] heals everything and wants all to
//! agree; [`World::finish`] ends all calls and wants nothing to be left.
//!
//! ```
//! use blink_sim::{Conditions, World};
//! use std::time::Duration;
//! use warp_blink::config::Config;
//!
//! let mut world = World::new(7, Conditions::rough(), vec![Config::default(); 2])?;
//! let call = world.offer(0, 1)?.expect("no call is under way");
//! world.run_until(Duration::from_secs(10), |w| w.rings(1, call))?.expect("it rings");
//! world.accept(1, call)?.expect("it rings");
//! world.run_until(Duration::from_secs(10), |w| w.connected(0, call))?.expect("it connects");
//! world.finish()?;
//! # Ok::<(), blink_sim::Fault>(())
//! ```

mod run;
mod world;

pub use run::{Report, run_all, run_one};
pub use world::{
    Action, Conditions, Fault, Lived, Made, Node, Nodes, Outcome, Rng, Scenario, Script, World, each_seed,
    number,
};
