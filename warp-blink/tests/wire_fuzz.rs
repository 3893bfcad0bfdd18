//! The doors of the fuzzer hold on what a fuzzer begins with, and reach behind each seal.

mod wire_common;

use proptest::prelude::*;
use warp_blink::{
    proto::signal::{Body, CallBody},
    wire::{encode_saved, fuzz, seal_call, seal_record},
};
use wire_common::*;

const DOORS: [fn(&[u8]); 12] = [
    fuzz::hello_contents,
    fuzz::welcome_contents,
    fuzz::packet_contents,
    fuzz::call_contents,
    fuzz::padding,
    fuzz::frame,
    fuzz::welcome,
    fuzz::transport,
    fuzz::call,
    fuzz::kem_key,
    fuzz::saved,
    fuzz::record,
];

#[test]
fn good_frames_pass_every_door() {
    let mut frames = Vec::new();
    each_way(|door, key| frames.push(start_by(door, key).frame([1; 8])));
    let (_, answer) = respond(&frames[0]);
    frames.push(answer.frame([1; 8]));
    let (mut ours, _) = confirmed();
    frames.push(ours.seal(&packet(1, Body::Ringing), None).unwrap());
    frames.push(seal_call(&alice(), &room(), 1, &CallBody::Leave, [7; 24]).unwrap());
    frames.push(kem().public().as_bytes().to_vec());
    for group in [Group::of_two(), Group::full()] {
        frames.push(ours.seal(&group.packet(2), Some(&group.attachment())).unwrap());
        frames.push(encode_saved(&group.roll, &group.signatures, media()));
    }
    let record = node_record();
    let signed = seal_record(&alice(), &record).unwrap();
    frames.push(signed[97..].to_vec());
    frames.push(signed);
    for frame in &frames {
        DOORS.iter().for_each(|door| door(frame));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Buckets that somebody of the session or of the call sealed, with any length and text inside.
    #[test]
    fn sealed_buckets_of_any_inside(
        bucket in proptest::sample::select(vec![256usize, 512, 1024]),
        len in 0u16..1100,
        text in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = [&len.to_be_bytes()[..], &text].concat();
        bytes.resize(bucket, 0);
        DOORS.iter().for_each(|door| door(&bytes));
    }

    /// Frames of a length and header that fit.
    #[test]
    fn shaped_frames(at in 0usize..5, text in proptest::collection::vec(any::<u8>(), 60)) {
        let (kind, suite, len) = [(1, 1, 1659), (1, 2, 2747), (2, 0, 330), (3, 0, 546), (4, 0, 298)][at];
        let mut frame: Vec<u8> = text.iter().cycle().take(len).copied().collect();
        frame[..2].copy_from_slice(&[1, kind]);
        if kind == 1 {
            frame[2] = suite;
        }
        DOORS.iter().for_each(|door| door(&frame));
    }
}
