//! What sealing, opening and refusing cost. `make bench` runs this in release and writes docs/benchmarks.md.
//!
//! Everything is deterministic: secrets are fixed, and nothing here is asserted about speed. Before anything is measured
//! each frame is checked to end at the stage that it is named after.

#![allow(clippy::unwrap_used, reason = "a benchmark on fixed inputs")]

mod frames;
mod primitives;
mod refuse;
mod session;

use divan::{Bencher, black_box};
use frames::*;
use warp_blink::wire::{Initiator, Responder, open_call, seal_call};

fn main() {
    refuse::check();
    // What the tables say of sizes.
    for way in WAYS {
        println!("#bytes message_1/{way} {}", offer(way).frame([0; 8]).len());
    }
    println!("#bytes message_2 {}", answer(&offer(WAYS[0]).frame([0; 8])).1.frame([0; 8]).len());
    for bucket in BUCKETS {
        println!("#bytes transport/{bucket} {}", sessions().0.seal(&packet(bucket), None).unwrap().len());
    }
    println!("#bytes call {}", call_frame().len());
    divan::main();
}

/// An offer, by door and suite: made, and framed once.
#[divan::bench(name = "seal/message_1", args = WAYS)]
fn seal_offer(bencher: Bencher<'_, '_>, way: &str) {
    let people = People::of(way);
    bencher.bench(|| {
        let initiator: Initiator = people.offer(black_box([0xe1; 32]));
        initiator.frame([0; 8])
    });
}

/// The same, read in full by the callee.
#[divan::bench(name = "open/message_1", args = WAYS)]
fn open_offer(bencher: Bencher<'_, '_>, way: &str) {
    let (people, frame) = (People::of(way), offer(way).frame([0; 8]));
    bencher.bench(|| {
        Responder::open(&people.bob, &people.kem, &people.door(), black_box(&frame)).unwrap().hello
    });
}

#[divan::bench(name = "seal/message_2")]
fn seal_answer(bencher: Bencher<'_, '_>) {
    let (people, frame) = (People::of(WAYS[0]), offer(WAYS[0]).frame([0; 8]));
    bencher
        .with_inputs(|| Responder::open(&people.bob, &people.kem, &people.door(), &frame).unwrap())
        .bench_values(|opened| {
            let (session, answer) = respond(opened);
            (session, answer.frame([0; 8]))
        });
}

#[divan::bench(name = "open/message_2")]
fn open_answer(bencher: Bencher<'_, '_>) {
    let frame = answer(&offer(WAYS[0]).frame([0; 8])).1.frame([0; 8]);
    bencher
        .with_inputs(|| offer(WAYS[0]))
        .bench_values(|mut initiator| initiator.finish(black_box(&frame)).unwrap().0);
}

#[divan::bench(name = "seal/call")]
fn seal_call_message(bencher: Bencher<'_, '_>) {
    let (alice, room) = (alice(), room());
    bencher.bench(|| seal_call(&alice, &room, black_box(3), &announce(), [9; 24]).unwrap());
}

#[divan::bench(name = "open/call")]
fn open_call_message(bencher: Bencher<'_, '_>) {
    let (me, room, frame) = (bob().public(), room(), call_frame());
    bencher.bench(|| open_call(&room, &me, black_box(&frame)).unwrap());
}
