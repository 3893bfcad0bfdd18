//! What is measured of a call that has come about, and when.

use std::{process, thread, time::Duration};

use serde_json::{Value, json};

use super::{Pair, Played, Recording, SIDES, World, milliseconds, now};
use crate::{
    Counters, Error,
    phone::unix,
    processor,
    sound::{self, Ear},
};

/// Sentences have come through the network and every buffer so long after they were said.
const THROUGH: f64 = 1.0;
/// So long the processor is looked at: 500 ticks of the clock that the system counts in, so one is 0.2 % of a core.
const LOOK: f64 = 5.0;
/// After an outage: how long until the delay is what it will stay, and how long that is then listened to.
const SETTLED: f64 = 4.0;
const LISTEN: f64 = 3.0;

/// Waits until a moment.
fn until(moment: f64) {
    thread::sleep(Duration::from_secs_f64((moment - now()).max(0.0)));
}

/// What was sent so far, from the caller and from the callee.
fn sent(world: &World<'_>) -> (f64, [Counters; 2]) {
    let [a, b] = &world.hosts;
    (now(), [world.lab.counters(a, b), world.lab.counters(b, a)])
}

/// What was taken of the processor so far.
struct Taken {
    at: f64,
    of: [Duration; 2],
    /// By this process and all below it, the two included.
    lab: Duration,
    machine: Duration,
}

impl Taken {
    fn take(processes: [u32; 2]) -> Self {
        let of = processes.map(processor::taken);
        Self { at: now(), of, lab: processor::taken(process::id()), machine: processor::machine() }
    }

    /// In percent of a core since then: each of the two, and all that has nothing to do with this call.
    fn since(&self, then: &Self) -> ([f64; 2], f64) {
        let seconds = (self.at - then.at).max(0.001);
        let percent = |after: Duration, before: Duration| {
            100.0 * (after.as_secs_f64() - before.as_secs_f64()) / seconds
        };
        let own = [0, 1].map(|side| tenths(percent(self.of[side], then.of[side])));
        let others = percent(self.machine, then.machine) - percent(self.lab, then.lab);
        (own, tenths(others.max(0.0)))
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Goes through a call to its end.
pub(super) fn measure(world: &World<'_>, mut pair: Box<dyn Pair>) -> Result<Value, Error> {
    let (began, words) = (pair.began(), world.words);
    let rest = world.profile.outage.map_or(LOOK, |outage| outage.as_secs_f64() + SETTLED + LISTEN);
    if words.end + THROUGH + rest > words.until {
        return Err(Error::Program("there are not words enough for such a call".into()));
    }
    until(began + words.begin);
    let (from, before) = sent(world);
    let (played, quiet) = (pair.played()?, Taken::take(pair.processes()));
    until(began + words.end);
    let (to, after) = sent(world);
    let concealed = share(pair.played()?, played);
    let rate = |of: fn(&Counters) -> u64| {
        [0, 1].map(|side| {
            tenths((of(&after[side]) - of(&before[side])) as f64 * 8.0 / 1000.0 / (to - from).max(0.001))
        })
    };
    let (wire, media) = (rate(|sent| sent.bytes), rate(|sent| sent.udp));
    let lost = [0, 1].map(|side| lost(&before[side], &after[side]));
    let mut line =
        json!({"wire_kbps": wire, "udp_kbps": media, "concealed_pct": concealed, "lost_pct": lost});
    let mut gone = None;
    if let Some(outage) = world.profile.outage {
        until(began + words.end + THROUGH);
        let begin = unix(world.lab.outage(&world.hosts[0], &world.hosts[1], outage));
        let end = begin + outage.as_secs_f64();
        until(end + SETTLED + LISTEN + THROUGH);
        gone = Some(end);
        line["others_pct"] = json!(Taken::take(pair.processes()).since(&quiet).1);
    } else {
        until(began + words.end + THROUGH);
        pair.stop_recording()?;
        let then = Taken::take(pair.processes());
        until(now() + LOOK);
        let taken = Taken::take(pair.processes());
        line["cpu_pct"] = json!(taken.since(&then).0);
        line["others_pct"] = json!(taken.since(&quiet).1);
    }
    let (_, all) = sent(world);
    let late = all[0].late + all[1].late;
    line["lab_late_pct"] = json!(hundredths(100.0 * late as f64 / (all[0].left + all[1].left).max(1) as f64));
    line["lab_latest_ms"] = json!(milliseconds(all[0].latest.max(all[1].latest).as_secs_f64()));
    let recordings = pair.hang_up()?;
    listen(world, &recordings, gone, &mut line)?;
    Ok(line)
}

/// What was concealed between two looks, in percent of what was played, at each side.
fn share(now: [Played; 2], then: [Played; 2]) -> [Option<f64>; 2] {
    [0, 1].map(|side| {
        let all = now[side].all - then[side].all;
        (all > 0.0).then(|| hundredths(100.0 * (now[side].concealed - then[side].concealed) / all))
    })
}

/// What a link has lost between two looks, in percent of what came in.
fn lost(then: &Counters, now: &Counters) -> f64 {
    let lost = (now.lost + now.down).saturating_sub(then.lost + then.down);
    hundredths(100.0 * lost as f64 / now.entered.saturating_sub(then.entered).max(1) as f64)
}

/// Listens to what both have heard: delays, and how audio came back if it was `gone` until a moment.
fn listen(
    world: &World<'_>,
    recordings: &[Recording; 2],
    gone: Option<f64>,
    line: &mut Value,
) -> Result<(), Error> {
    let words = world.words;
    let mut delays = [None; 2];
    let mut worst = [None; 2];
    let (mut back, mut later) = ([None; 2], [None; 2]);
    let mut kept = Vec::new();
    for side in [0, 1] {
        let (own, other) = (&recordings[side], &recordings[1 - side]);
        let said = sound::read(&words.files[1 - side])?;
        let heard = sound::read(&own.file)?;
        let moments = Ear::PEOPLE.recognise(&said, other.mouth, &heard, own.from);
        let scored = (other.mouth + words.begin, other.mouth + words.end);
        let mut sorted: Vec<_> =
            moments.iter().filter(|m| (scored.0..scored.1).contains(&m.at)).map(|m| m.delay).collect();
        sorted.sort_by(f64::total_cmp);
        let place = |share: f64| sorted.get((sorted.len() as f64 * share) as usize).copied();
        (delays[side], worst[side]) = (place(0.5).map(milliseconds), place(0.95).map(milliseconds));
        if let Some(end) = gone {
            let then = moments.iter().find(|m| m.at >= end).map(|m| m.delay);
            let first = then.and_then(|delay| Ear::first(&said, other.mouth, &heard, own.from, end, delay));
            back[side] = first.map(|first| milliseconds(first - end));
            let settled = end + SETTLED;
            later[side] = sound::delay(&moments, settled, settled + LISTEN).map(milliseconds);
        }
        let name = |path: &std::path::Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        kept.push(json!({
            "heard": name(&own.file), "heard_by": SIDES[side], "heard_from": own.from,
            "said": name(&words.files[1 - side]), "said_from": other.mouth, "delay_ms": delays[side],
        }));
    }
    line["delay_ms"] = json!(delays);
    line["delay_p95_ms"] = json!(worst);
    if gone.is_some() {
        line["back_ms"] = json!(back);
        line["later_ms"] = json!(later);
    }
    line["recordings"] = json!(kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_happened_between_two_looks() {
        let of = |concealed, all| Played { concealed, all };
        let found = share([of(150.0, 2000.0), of(5.0, 10.0)], [of(100.0, 1000.0), of(5.0, 10.0)]);
        assert_eq!(found, [Some(5.0), None]);
        let at = |at, ms: u64, lab: u64, machine: u64| Taken {
            at,
            of: [Duration::from_millis(ms), Duration::ZERO],
            lab: Duration::from_millis(lab),
            machine: Duration::from_millis(machine),
        };
        let (own, others) = at(20.0, 1500, 3000, 9000).since(&at(10.0, 1000, 2000, 4000));
        assert_eq!((own, others), ([5.0, 0.0], 40.0));
    }
}
