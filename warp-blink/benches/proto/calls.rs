//! Whole calls: every input of every machine that takes part.

use std::sync::LazyLock;

use divan::Bencher;
use warp_blink::{
    config::Config,
    proto::{Command, Input, Machine},
    time::Instant,
};

use crate::proto_kit::{Pair, SECOND, Trace};

/// How many take part.
const SIZES: [usize; 3] = [2, 4, 16];

/// One of sixteen takes longer than a turn on a busy core: some of so many samples are not interrupted.
const MANY: u32 = 400;

/// From the offer until all are joined, and until all have hung up and nothing is left of it.
struct Calls {
    joined: Trace,
    whole: Trace,
}

static CALLS: LazyLock<Vec<Calls>> = LazyLock::new(|| SIZES.map(Calls::of).into());

impl Calls {
    fn of(n: usize) -> Self {
        let mut room = Pair::many(n as u8, &Config::default());
        let call = room.join_all();
        let joined = room.recorded();
        for side in 0..n {
            // The last one is alone, and its call may have ended.
            let _ = room.ask(side, Command::HangUp { call });
        }
        room.pass(11 * SECOND);
        assert!(room.sides.iter().all(|s| s.machine.is_idle()), "nothing is left");
        Self { joined, whole: room.recorded() }
    }

    fn with(n: usize) -> &'static Self {
        SIZES.iter().zip(CALLS.iter()).find(|(size, _)| **size == n).unwrap().1
    }
}

/// How many inputs there are.
pub(crate) fn check() {
    for n in SIZES {
        let Calls { joined, whole } = Calls::with(n);
        println!("#inputs joined/{n} {}", joined.inputs.len());
        println!("#inputs whole/{n} {}", whole.inputs.len());
    }
}

type Run = (Vec<Machine>, Vec<(usize, Instant, Input)>);

fn run((machines, inputs): &mut Run) {
    for (side, now, input) in inputs.drain(..) {
        let _ = machines[side].handle(now, input);
    }
}

fn measure(bencher: Bencher<'_, '_>, trace: &Trace) {
    bencher.with_inputs(|| (trace.origin.clone(), trace.inputs.clone())).bench_local_refs(run);
}

#[divan::bench(name = "call/joined", args = SIZES, sample_count = MANY)]
fn joined(bencher: Bencher<'_, '_>, n: usize) {
    measure(bencher, &Calls::with(n).joined);
}

#[divan::bench(name = "call/whole", args = SIZES, sample_count = MANY)]
fn whole(bencher: Bencher<'_, '_>, n: usize) {
    measure(bencher, &Calls::with(n).whole);
}
