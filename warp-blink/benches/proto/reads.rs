//! What the driver reads after every step.

use std::sync::LazyLock;

use divan::Bencher;
use warp_blink::{
    config::Config,
    event::{MAX_ENDED_CALLS, Snapshot},
    proto::{Command, Machine},
};

use crate::{
    inputs::EACH,
    proto_kit::{Pair, SECOND, accept, call_id, offer_all},
    scenes::{CROWD, SIXTEEN, TWO},
};

/// A call of sixteen after as many others as the snapshot shows.
static LATE: LazyLock<Machine> = LazyLock::new(|| {
    let mut room = Pair::many(16, &Config::default());
    let to: Vec<_> = (1..16).map(|side| room.key(side)).collect();
    for n in 1..=MAX_ENDED_CALLS as u8 + 1 {
        let call = call_id(n);
        room.ask(0, offer_all(call, &to)).unwrap();
        (1..16).for_each(|side| room.ask(side, accept(call)).unwrap());
        room.until(10 * SECOND, |r| r.are_joined(&(0..16).collect::<Vec<_>>(), call));
        if usize::from(n) <= MAX_ENDED_CALLS {
            for side in 0..16 {
                let _ = room.ask(side, Command::HangUp { call });
            }
            room.pass(11 * SECOND);
        }
    }
    let machine = room.sides[0].machine.clone();
    let snapshot = machine.snapshot();
    assert_eq!((snapshot.calls.len(), snapshot.ended.len()), (1, MAX_ENDED_CALLS));
    machine
});

/// How many others there are, or what else.
const SHOWN: [&str; 4] = ["1", "15", "15_late", "64_calls"];

fn machine(shown: &str) -> &'static Machine {
    match shown {
        "1" => &TWO.machine,
        "15" => &SIXTEEN.machine,
        "15_late" => &LATE,
        _ => &CROWD.machine,
    }
}

#[divan::bench(name = "snapshot/made", args = SHOWN, sample_size = EACH)]
fn made(bencher: Bencher<'_, '_>, shown: &str) {
    let machine = machine(shown);
    bencher.bench_local(|| machine.snapshot());
}

/// Made, compared with the one before, which is the same, and dropped: a step in which nothing has changed that is shown.
#[divan::bench(name = "snapshot/step", args = SHOWN, sample_size = EACH)]
fn step(bencher: Bencher<'_, '_>, shown: &str) {
    let machine = machine(shown);
    let before: Snapshot = machine.snapshot();
    bencher.bench_local(|| machine.snapshot() != before);
}

#[divan::bench(name = "next_timeout/calls", args = ["1", "15", "64_calls"], sample_size = EACH)]
fn next_timeout(bencher: Bencher<'_, '_>, shown: &str) {
    let machine = machine(shown);
    bencher.bench_local(|| divan::black_box(machine).next_timeout());
}
