//! Calls of many in the simulated world.

use blink_sim::{Scenario, each_seed};

#[test]
fn mixed_lives_keep_all_promises() -> Result<(), String> {
    each_seed(300, |seed| Scenario::mixed(seed).run(seed).map(drop))
}
