//! A node that does nothing and knows nobody.

use std::thread;

use crate::{
    child::Child,
    run::Scale,
    watch::{self, milli_per_second, tell},
};

pub(crate) fn measure(scale: &Scale) -> Result<(), String> {
    let mut phone = Child::phone(1, &scale.speech)?;
    thread::sleep(scale.settle);
    // What looking at it takes is not in this: the counters of waiting are read from outside.
    let before = phone.held()?;
    thread::sleep(scale.watch);
    let after = phone.held()?;
    tell("alone/wakeups_milli", milli_per_second(after.waits.saturating_sub(before.waits), scale.watch));
    let [done] = watch::look([&mut phone], scale.watch)?;
    tell("alone/cpu_ppm", done.cpu_ppm);
    watch::tell_memory("alone", &after);
    tell("alone/threads", after.threads);
    tell("alone/sockets", after.sockets);
    tell("alone/tasks", done.after.tasks);
    Ok(())
}
