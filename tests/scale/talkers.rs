//! One whole node among people who talk to it: its links, its decoders, its mixer, its encoder.

use std::{thread, time::Duration};

use crate::{
    child::Child,
    orders::Order,
    run::Scale,
    watch::{self, concealed_ppm, hears, look, tell},
};

/// The node that is measured.
const FULL: u32 = 10_000;

/// The echo canceller has found its delay by then.
const ADAPT: Duration = Duration::from_secs(1);

pub(crate) fn measure(scale: &Scale) -> Result<(), String> {
    for &talkers in scale.talkers {
        call(scale, talkers)?;
    }
    Ok(())
}

fn call(scale: &Scale, talkers: u32) -> Result<(), String> {
    let (first, full) = (FULL + 100 * talkers, FULL + talkers);
    let mut crowd = Child::crowd(first, &["--talk-to", &full.to_string()])?;
    let who = crowd.more(talkers)?;
    let mut phone = Child::phone(full, &scale.speech)?;
    thread::sleep(scale.settle);
    phone.tell(&Order::Call { who })?;
    phone.of_all("joined", talkers)?;
    phone.of_all("heard", talkers)?;
    thread::sleep(scale.settle);
    for (name, on) in [("plain", false), ("processed", true)] {
        phone.have(&Order::Processing { on })?;
        thread::sleep(ADAPT.min(scale.settle));
        let [done, others] = look([&mut phone, &mut crowd], scale.look)?;
        hears(&done, talkers)?;
        let of = |figure: &str| format!("talkers/{talkers}/{name}_{figure}");
        tell(of("cpu_ppm"), done.cpu_ppm);
        tell(of("concealed_ppm"), concealed_ppm(&done));
        tell(of("crowd_cpu_ppm"), others.cpu_ppm);
    }
    let held = phone.held()?;
    watch::tell_memory(&format!("talkers/{talkers}"), &held);
    tell(format_args!("talkers/{talkers}/threads"), held.threads);
    tell(format_args!("talkers/{talkers}/sockets"), held.sockets);
    phone.have(&Order::HangUp)
}
