//! Transport messages, one of each bucket.

use divan::{Bencher, black_box};

use crate::frames::*;

#[divan::bench(name = "seal/transport", args = BUCKETS)]
fn seal(bencher: Bencher<'_, '_>, bucket: usize) {
    let (mut ours, _) = sessions();
    let packet = packet(bucket);
    bencher.bench_local(|| ours.seal(black_box(&packet), None).unwrap());
}

/// Each frame is another one: a session opens none twice.
#[divan::bench(name = "open/transport", args = BUCKETS)]
fn open(bencher: Bencher<'_, '_>, bucket: usize) {
    let (mut ours, mut theirs) = sessions();
    let packet = packet(bucket);
    bencher
        .with_inputs(|| ours.seal(&packet, None).unwrap())
        .bench_local_values(|frame| theirs.open(black_box(&frame)).unwrap());
}

/// A frame that was received before: what a replay costs.
#[divan::bench(name = "refuse/transport/replay")]
fn replay(bencher: Bencher<'_, '_>) {
    let (mut ours, mut theirs) = sessions();
    let frame = ours.seal(&packet(BUCKETS[0]), None).unwrap();
    theirs.open(&frame).unwrap();
    bencher.bench_local(|| theirs.open(black_box(&frame)).unwrap_err());
}

/// A frame with the right name and a wrong seal.
#[divan::bench(name = "refuse/transport/seal", args = [512, 16384])]
fn seal_broken(bencher: Bencher<'_, '_>, bucket: usize) {
    let (mut ours, mut theirs) = sessions();
    let mut frame = ours.seal(&packet(bucket), None).unwrap();
    if let Some(last) = frame.last_mut() {
        *last ^= 1;
    }
    bencher.bench_local(|| theirs.open(black_box(&frame)).unwrap_err());
}
