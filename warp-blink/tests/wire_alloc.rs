//! What bytes from outside can make this side allocate, measured. Alone in its program: every thread is counted.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod wire_common;

use peak_alloc::PeakAlloc;
use warp_blink::{
    id::CallId,
    proto::signal::{Body, CallBody, Description, DescriptionKind, Gone, MAX_DESCRIPTION, Record},
    wire::{
        CallKey, Door, Responder, decode_saved, encode_saved, frame::MAX_FRAME, fuzz, open_call, seal_call,
    },
};
use wire_common::*;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The most that contents as long as the largest bucket may take while they are decoded: the longest description or
/// roll, and the 16 KiB in which it is encoded again to be compared. Measured: 28,672 bytes for a description, 31,808
/// for the largest roll, of which 9,216 are its records and 6,208 its signatures. (Without the walk over the heads, the
/// decoder's stack for what nests took 393,216.)
const CONTENTS: usize = 32 * 1024;

/// The most that a frame may take while it is opened: its padded inside beside the above, or the state of a handshake.
/// Measured: 48,208 bytes, for the largest roll.
const FRAME: usize = 48 * 1024;

type Decoder = fn(&[u8]);

/// How far the heap rises above what it holds now while this runs.
fn rise(run: impl FnOnce()) -> usize {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    run();
    HEAP.peak_usage().saturating_sub(before)
}

/// Bytes that look random and are the same each time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

/// Contents that are short and announce much, that nest, that have no length, or that are long and nearly right.
fn contents() -> Vec<Vec<u8>> {
    const MOST: usize = 16_384;
    let mut all: Vec<Vec<u8>> = (0..300).map(|seed| noise(seed, (seed as usize * 55) % MOST)).collect();
    for head in [0x9b, 0xbb, 0x5b, 0x7b, 0xdb] {
        all.push([&[head][..], &[0xff; 8]].concat());
        all.push([&[head][..], &[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]].concat());
    }
    for one in [0x81, 0x9f, 0xa1, 0xbf, 0xc1, 0x5f, 0x7f, 0xff, 0x82] {
        all.push(vec![one; MOST]);
        // In place of the field of a body: `[1, 0, 0, call, 0, [10, [...]]]`.
        let packet = [&[0x86, 1, 0, 0, 0x50][..], &[4; 16], &[0, 0x82, 10]].concat();
        all.push([&packet[..], &vec![one; MOST - packet.len()]].concat());
        // And beside it, where the decoder passes over what it does not know.
        let packet = [&packet[..packet.len() - 1], &[11, 0x82]].concat();
        all.push([&packet[..], &[0x82, 0x9f].repeat(8000)].concat());
    }
    // A packet with a text as long as a description may be, and longer, under each number that a body has and under
    // others; and a bucket whose padding is right.
    for len in [MAX_DESCRIPTION, 0x3f00] {
        for kind in 0..=23 {
            let head = [0x82, kind, 0x81, 0x82, 0, 0x79, (len >> 8) as u8, 0];
            let text = [&head[..], &vec![b'x'; len]].concat();
            all.push([&[0x86, 1, 0, 0, 0x50][..], &[4; 16], &[0], &text].concat());
        }
    }
    all.push([&[0x3f, 0xfe][..], &[1; MOST - 2]].concat());
    all.extend(groups());
    all
}

/// Of this call, in one packet.
fn contents_of(call: CallId, body: &Body, attached: &[u8]) -> Vec<u8> {
    let mut e = minicbor::Encoder::new(Vec::new());
    e.array(7).unwrap().u32(u32::MAX).unwrap().u32(0).unwrap().u32(0).unwrap();
    e.bytes(call.as_bytes()).unwrap().u32(0).unwrap().encode(body).unwrap().bytes(attached).unwrap();
    e.into_writer()
}

/// A roll in a packet, and as it is kept.
fn both(group: &Group) -> [Vec<u8>; 2] {
    let attached: Vec<u8> = group.signatures.iter().flat_map(|s| *s.as_bytes()).collect();
    let saved = encode_saved(&group.roll, &group.signatures, media());
    [contents_of(group.call, &group.body(), &attached), saved]
}

/// The largest roll, and the same with signatures that are not its own.
fn groups() -> Vec<Vec<u8>> {
    let good = Group::full();
    let mut forged = good.clone();
    forged.signatures.fill(good.signatures[0]);
    assert!(decode_saved(good.call, &both(&good)[1]).is_some());
    [&good, &forged].into_iter().flat_map(both).collect()
}

/// Lists of one item more than there may be, and of as many as there is room for: good keys all of them.
fn too_long() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut roll = Group::full();
    let last = *roll.roll.records.last().unwrap();
    roll.signatures.truncate(1);
    let key = CallKey::from_bytes([0x54; 32]);
    let mut epoch = epoch(1, &key, &(0..32).collect::<Vec<u8>>());
    for (number, wanted) in (0..120).map(|number| (number, [0, 119].contains(&number))) {
        roll.roll.records.push(Record { number, ..last });
        epoch.gone.push(Gone { subject: last.subject, number });
        if wanted {
            all.extend(both(&roll));
            all.push(contents_of(call(), &Body::CallKey(epoch.clone()), key.expose()));
        }
    }
    all
}

/// They are counted before they are kept.
fn lists_that_are_too_long() {
    for bytes in too_long() {
        assert!(bytes.len() < 16_384);
        // No more than the text of an error: one record takes 72 bytes, one departure 36, and a list begins with four.
        let found = rise(|| fuzz::packet_contents(&bytes)).max(rise(|| fuzz::saved(&bytes)));
        assert!(found < 64, "{found} bytes");
    }
    // As many signatures as there is room for, where there should be two.
    let two = Group::of_two();
    let many = Group { signatures: vec![two.signatures[0]; 240], ..two };
    for bytes in both(&many) {
        let found = rise(|| fuzz::packet_contents(&bytes)).max(rise(|| fuzz::saved(&bytes)));
        assert!(found < 1024, "{found} bytes");
    }
}

#[test]
fn hostile_bytes_take_no_more_than_their_share() {
    // What is made once, and lives on.
    fuzz::frame(&noise(0, 1659));
    let decoders: [(&str, Decoder); 7] = [
        ("hello", fuzz::hello_contents),
        ("welcome", fuzz::welcome_contents),
        ("packet", fuzz::packet_contents),
        ("call", fuzz::call_contents),
        ("padding", fuzz::padding),
        ("key", fuzz::kem_key),
        ("saved", fuzz::saved),
    ];
    let contents = contents();
    for (name, decode) in decoders {
        let found = contents.iter().map(|bytes| rise(|| decode(bytes))).max().unwrap();
        println!("{name}: at most {found} bytes");
        assert!(found <= CONTENTS, "{name}: {found} bytes");
    }

    lists_that_are_too_long();

    // Frames: noise of every length that a kind has, and of others; then good ones, the largest among them.
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for (seed, len) in (0..).zip([0, 1, 2, 26, 298, 330, 546, 1058, 1659, 2082, 2747, 4130, 8226, MAX_FRAME])
    {
        for (kind, suite) in [(1, 1), (1, 2), (2, 0), (3, 0), (4, 0)] {
            let mut frame = noise(seed, len);
            frame.iter_mut().zip([1, kind, suite]).for_each(|(byte, fixed)| *byte = fixed);
            frames.push(frame);
        }
    }
    frames.extend([1 << 20, MAX_FRAME + 1].map(|len| vec![1; len]));
    each_way(|door, key| frames.push(start_by(door, key).frame([1; 8])));
    let (mut ours, mut theirs) = confirmed();
    let text = "x".repeat(MAX_DESCRIPTION);
    let description = Body::Description(Description { kind: DescriptionKind::Offer, text });
    frames.push(ours.seal(&packet(2, description), None).unwrap());
    let group = Group::full();
    frames.push(ours.seal(&group.packet(3), Some(&group.attachment())).unwrap());
    frames.push(seal_call(&alice(), &room(), 1, &CallBody::Leave, [7; 24]).unwrap());
    let mut found = 0;
    let mut opened = 0;
    let token = token();
    for frame in &frames {
        for door in [Door::Strangers, Door::Contacts(&token)] {
            let open = || opened += usize::from(Responder::open(&bob(), kem(), &door, frame).is_ok());
            found = found.max(rise(open));
        }
        found = found.max(rise(|| opened += usize::from(theirs.open(frame).is_ok())));
        let mut initiator = start();
        found = found.max(rise(|| opened += usize::from(initiator.finish(frame).is_ok())));
        let me = bob().public();
        found = found.max(rise(|| opened += usize::from(open_call(&room(), &me, frame).is_ok())));
    }
    println!("frames: at most {found} bytes");
    assert_eq!(opened, 7, "the good ones were among them");
    assert!(found <= FRAME, "{found} bytes");

    // A session is no larger after a thousand frames than before.
    let frames: Vec<_> = (0..1000).map(|n| ours.seal(&packet(n, Body::Ack), None).unwrap()).collect();
    let before = HEAP.current_usage();
    for frame in &frames {
        theirs.open(frame).map(drop).unwrap();
        theirs.open(frame).map(drop).unwrap_err();
    }
    assert_eq!(HEAP.current_usage(), before);
}
