//! Looks at processes for a while, and writes figures.

use std::{
    fmt::Display,
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use blink_lab::processor;
use blink_tests::held::Held;

use crate::{child::Child, orders::Sample};

/// Other work on the machine above which figures are to be taken again, in millionths of a core: a twentieth.
const BUSY: u64 = 50_000;

/// The most of that in any window.
static BUSIEST: AtomicU64 = AtomicU64::new(0);

/// Writes a figure.
pub(crate) fn tell(name: impl Display, value: impl Display) {
    println!("#scale {name} {value}");
}

/// What one process did in a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// Of a core, in millionths.
    pub(crate) cpu_ppm: u64,
    /// How long it was.
    pub(crate) time: Duration,
    pub(crate) before: Sample,
    pub(crate) after: Sample,
}

fn ppm(taken: Duration, time: Duration) -> u64 {
    (taken.as_secs_f64() / time.as_secs_f64().max(0.001) * 1e6).round() as u64
}

/// So many in a second of this window, in thousandths.
pub(crate) fn milli_per_second(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64().max(0.001) * 1e3).round() as u64
}

/// Looks at these for so long. What others did meanwhile on this machine is kept for the end.
pub(crate) fn look<const N: usize>(
    mut children: [&mut Child; N],
    time: Duration,
) -> Result<[Done; N], String> {
    let done = look_at(&mut children, time)?;
    done.try_into().map_err(|_| "as many as were looked at".to_owned())
}

/// The same of any number.
pub(crate) fn look_at(children: &mut [&mut Child], time: Duration) -> Result<Vec<Done>, String> {
    let own = || processor::taken(process::id());
    let (since, machine, mine) = (Instant::now(), processor::machine(), own());
    let mut before = Vec::new();
    for child in &mut *children {
        before.push((Instant::now(), child.sample()?));
    }
    thread::sleep(time);
    let mut done = Vec::new();
    for (child, (then, before)) in children.iter_mut().zip(before) {
        let after = child.sample()?;
        let time = then.elapsed();
        let cpu_ppm = ppm(Duration::from_micros(after.cpu_us.saturating_sub(before.cpu_us)), time);
        done.push(Done { cpu_ppm, time, before, after });
    }
    let others = processor::machine().saturating_sub(machine).saturating_sub(own().saturating_sub(mine));
    BUSIEST.fetch_max(ppm(others, since.elapsed()), Ordering::Relaxed);
    Ok(done)
}

/// Whether all this can be believed.
pub(crate) fn conclude() {
    let busiest = BUSIEST.load(Ordering::Relaxed);
    tell("others_ppm", busiest);
    if busiest > BUSY {
        eprintln!(
            "note: other work took up to {:.0} % of a core while something was measured: take the figures again in a quiet moment",
            busiest as f64 / 1e4
        );
    }
}

/// The middle one, the lower one of two.
pub(crate) fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// Writes what a process holds.
pub(crate) fn tell_memory(name: &str, held: &Held) {
    tell(format_args!("{name}/rss_kb"), held.rss_kb);
    tell(format_args!("{name}/peak_kb"), held.peak_kb);
    tell(format_args!("{name}/pss_kb"), held.pss_kb);
    tell(format_args!("{name}/heap_kb"), held.heap_kb);
}

/// Packets of 20 ms that come from each who talks, in a second.
const PACKETS: u64 = 50;

/// Fails if somebody was not heard at all, or half of what was said is missing: then the figures are of something else. A smaller gap
/// is told.
pub(crate) fn hears(done: &Done, others: u32) -> Result<(), String> {
    let packets = done.after.packets.saturating_sub(done.before.packets);
    // The statistics are made once a second, so a second may be missing.
    let wanted = u64::from(others) * PACKETS * done.time.as_secs().saturating_sub(1);
    let found = format!("of {wanted} packets {packets} came, from {} of {others}", done.after.talkers);
    if done.after.talkers != u64::from(others) || packets < wanted / 2 {
        return Err(format!("not everybody was heard: {found}"));
    }
    if packets < wanted * 9 / 10 {
        eprintln!("note: {found}: the machine does not keep up");
    }
    Ok(())
}

/// What was made up, of what was played, in millionths.
pub(crate) fn concealed_ppm(done: &Done) -> u64 {
    let of = |number: fn(&Sample) -> u64| number(&done.after).saturating_sub(number(&done.before));
    let (made_up, played) = (of(|sample| sample.concealed_ms), of(|sample| sample.played_ms));
    made_up * 1_000_000 / played.max(1)
}
