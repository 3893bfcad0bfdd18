mod pauses;

use std::time::Duration;

use bytes::Bytes;

use super::{ring::SLOTS, *};
use crate::format::PayloadKind;

/// A 20 ms packet without redundancy (SILK, wideband).
fn packet(n: u16) -> Packet {
    Packet::new(n, u32::from(n).wrapping_mul(960), vec![9 << 3, 0, n as u8])
}

/// The same as music (CELT, fullband).
fn music(n: u16) -> Packet {
    Packet { payload: Bytes::from(vec![0xf8, 0, n as u8]), ..packet(n) }
}

/// A 20 ms packet with redundancy (SILK, wideband, voice and redundancy bits set).
fn redundant(n: u16) -> Packet {
    Packet { payload: Bytes::from(vec![9 << 3, 0xc0, n as u8]), ..packet(n) }
}

fn at(n: u16) -> i64 {
    i64::from(n) * 20_000
}

/// A buffer that has played packets up to `n` (not included) and learnt that the path is clean.
fn playing(n: u16) -> JitterBuffer {
    let mut buffer = JitterBuffer::new(JitterConfig::default().start(Duration::from_millis(10)));
    for i in 0..n {
        buffer.insert(packet(i), at(i));
        if !buffer.playing() {
            assert!(buffer.start(at(i) + 10_000));
        }
        assert!(matches!(buffer.next(at(i) + 10_000, 0), Next::Packet { skip: 0, .. }));
        assert_eq!(buffer.next(at(i) + 10_000, 0), Next::Empty);
    }
    buffer
}

fn lost(before: &Packet, ago: usize) -> Next {
    let deep = Deep { sequence: i64::from(before.sequence), payload: before.payload.clone(), ago };
    Next::Lost { samples: 480, deep: Some(deep) }
}

fn gap(before: &Packet, samples: usize, fec: usize) -> Option<Gap> {
    let deep = Deep { sequence: i64::from(before.sequence), payload: before.payload.clone(), ago: samples };
    Some(Gap { samples, fec, deep: Some(deep) })
}

/// A packet with copies of the ones before it, at these distances.
fn red(n: u16, distances: &[u16]) -> Packet {
    let mut payload = Vec::new();
    let length = packet(n).payload.len() as u32;
    for distance in distances {
        payload.push(0x80 | 111);
        payload.extend_from_slice(&((u32::from(*distance) * 960) << 10 | length).to_be_bytes()[1..]);
    }
    payload.push(111);
    for distance in distances {
        payload.extend_from_slice(&packet(n - distance).payload);
    }
    payload.extend_from_slice(&packet(n).payload);
    Packet { payload: payload.into(), kind: PayloadKind::Red, ..packet(n) }
}

fn payload_of(next: Next) -> Option<u8> {
    match next {
        Next::Packet { payload, .. } => payload.last().copied(),
        _ => None,
    }
}

#[test]
fn waits_for_the_start_delay_then_plays_in_order() {
    let mut buffer = JitterBuffer::new(JitterConfig::default());
    assert!(!buffer.start(0));
    buffer.insert(packet(1), at(1));
    buffer.insert(packet(0), at(1));
    buffer.insert(packet(2), at(2));
    assert!(!buffer.start(at(2) - 1));
    assert!(buffer.start(at(2)), "40 ms after the fastest way that packet 0 could have come");
    assert_eq!([0, 1, 2].map(|_| payload_of(buffer.next(0, 0))), [Some(0), Some(1), Some(2)]);
    assert_eq!(buffer.next(0, 0), Next::Empty);
    assert_eq!(buffer.counters().reordered, 1);
}

#[test]
fn a_duplicate_is_counted_and_played_once() {
    let mut buffer = playing(50);
    buffer.insert(packet(50), at(50));
    buffer.insert(packet(50), at(50));
    buffer.insert(packet(49), at(50));
    assert_eq!(payload_of(buffer.next(0, 0)), Some(50));
    assert_eq!(buffer.next(0, 0), Next::Empty);
    assert_eq!((buffer.counters().duplicates, buffer.counters().late), (2, 0));
}

#[test]
fn a_loss_with_the_next_packet_there_is_recovered_from_it() {
    let mut buffer = playing(50);
    buffer.insert(redundant(51), at(51));
    let next = buffer.next(0, 0);
    assert_eq!(next, Next::Recover { payload: redundant(51).payload, samples: 960, skip: 0 });
    assert_eq!(payload_of(buffer.next(0, 0)), Some(51));
    assert_eq!(buffer.counters().lost, 1);
}

#[test]
fn a_loss_without_redundancy_is_told_in_blocks_and_a_long_one_up_to_the_redundancy() {
    let mut buffer = playing(50);
    buffer.insert(packet(51), at(51));
    assert_eq!([0, 1].map(|_| buffer.next(0, 0)), [lost(&packet(51), 960), lost(&packet(51), 480)]);
    let gap = self::gap(&packet(51), 960, 0);
    assert_eq!(buffer.next(0, 0), Next::Packet { payload: packet(51).payload, skip: 0, gap });
    buffer.insert(redundant(54), at(54));
    assert_eq!([0, 1].map(|_| buffer.next(0, 0)), [lost(&redundant(54), 1_920), lost(&redundant(54), 1_440)]);
    assert!(matches!(buffer.next(0, 0), Next::Recover { samples: 960, skip: 0, .. }));
    let gap = self::gap(&redundant(54), 1_920, 960);
    assert_eq!(buffer.next(0, 0), Next::Packet { payload: redundant(54).payload, skip: 0, gap });
    let Counters { lost, made_lost, .. } = buffer.counters();
    assert_eq!((lost, made_lost), (3, 1_920));
    buffer.rebuilt(960);
    assert_eq!(buffer.counters().made_lost, 960);
}

#[test]
fn what_was_made_up_while_waiting_counts_as_the_lost_frame() {
    let mut buffer = playing(50);
    let before = buffer.current(at(50) + 10_000, 0);
    assert!(buffer.wait(480));
    buffer.insert(redundant(51), at(51));
    assert!(matches!(buffer.next(at(51), 0), Next::Recover { samples: 960, skip: 480, .. }));
    assert_eq!(payload_of(buffer.next(at(51), 0)), Some(51));
    // 10 ms made up, 10 ms recovered, 20 ms of packet 51: the position is where it would have been without a loss.
    assert_eq!(buffer.current(at(52) + 10_000, 0), before);
}

#[test]
fn waiting_for_a_late_packet_adds_its_lateness_and_nothing_is_left_out() {
    let mut buffer = playing(50);
    let before = buffer.current(at(50) + 10_000, 0).unwrap();
    assert!(buffer.wait(480) && buffer.wait(480));
    buffer.insert(packet(50), at(50) + 30_000);
    assert!(matches!(buffer.next(at(50) + 30_000, 0), Next::Packet { skip: 0, .. }));
    assert_eq!(buffer.current(at(51) + 30_000, 0), Some(before + 20_000));
    assert_eq!(buffer.counters().lost, 0);
    assert_eq!((buffer.counters().made_late, buffer.counters().made_lost), (960, 0));
    assert_eq!(buffer.target(), 10_000, "one hiccup moves nothing");
}

#[test]
fn copies_take_the_place_of_what_is_lost_and_never_of_what_came() {
    let mut buffer = playing(50);
    buffer.insert(packet(50), at(50));
    buffer.insert(red(53, &[2, 1]), at(53));
    assert_eq!([(); 4].map(|()| payload_of(buffer.next(0, 0))), [50, 51, 52, 53].map(Some));
    let Counters { received, lost, red: copies, red_samples, duplicates, .. } = buffer.counters();
    assert_eq!((received, lost, copies, red_samples, duplicates), (52, 2, 2, 1_920, 0));
    // One that comes after its copy was played is late and was not lost.
    buffer.insert(packet(52), at(54));
    assert_eq!((buffer.counters().lost, buffer.counters().late, buffer.counters().duplicates), (1, 1, 0));
    // One that comes before its copy is played takes its place.
    buffer.insert(red(55, &[1]), at(55));
    let own = Packet { payload: Bytes::from(vec![0xf8, 0, 99]), ..packet(54) };
    buffer.insert(own, at(55));
    assert_eq!([(); 2].map(|()| payload_of(buffer.next(0, 0))), [99, 55].map(Some));
    buffer.insert(red(56, &[1, 2]), at(56));
    assert_eq!(payload_of(buffer.next(0, 0)), Some(56));
    assert_eq!(buffer.next(0, 0), Next::Empty);
    assert_eq!((buffer.counters().lost, buffer.counters().red), (1, 2));
}

#[test]
fn copies_of_before_the_stream_began_and_broken_ones_are_left_alone() {
    let mut buffer = JitterBuffer::new(JitterConfig::default());
    buffer.insert(red(10, &[1, 2]), at(10));
    assert_eq!(buffer.packets.len(), 1);
    buffer.insert(Packet { payload: Bytes::from_static(&[0xef, 0, 4]), ..red(11, &[1]) }, at(11));
    assert_eq!((buffer.counters().malformed, buffer.counters().received), (1, 1));
}

#[test]
fn losses_that_could_be_repaired_are_waited_for() {
    let mut buffer = playing(200);
    assert_eq!(buffer.target(), 10_000);
    for n in (200..400).step_by(20) {
        for n in n + 4..n + 20 {
            buffer.insert(packet(n), at(n));
        }
        loop {
            match buffer.next(at(n + 20), 0) {
                Next::Packet { gap: Some(gap), .. } => {
                    assert_eq!(gap.samples, 4 * 960);
                    buffer.learn(at(n + 4), &gap, 0..48_000);
                }
                Next::Empty => break,
                _ => {}
            }
        }
    }
    assert_eq!((buffer.repair(), buffer.target()), (80_000, 82_000));
}

#[test]
fn the_reserve_counts_and_not_the_part_of_a_block_before_the_next_packet() {
    let buffer = playing(50);
    // The next packet begins with a block: all of the delay is in reserve.
    let now = at(50) + 10_000;
    assert_eq!(buffer.advice(now, 0), Advice::Keep);
    assert_eq!(buffer.advice(now + 9_000, 0), Advice::Keep, "the next lower reserve would be too little");
    assert_eq!(buffer.advice(now + 10_600, 0), Advice::Shorten(10_000));
    assert_eq!(buffer.advice(now - 1_000, 0), Advice::Keep);
    assert_eq!(buffer.advice(now - 2_000, 0), Advice::Lengthen(10_000));
    // It begins 5 ms after the start of a block.
    assert_eq!(buffer.current(now - 5_000, 240), Some(10_000));
    assert_eq!(buffer.advice(now - 5_000, 240), Advice::Lengthen(5_000));
    assert_eq!(buffer.advice(now, 240), Advice::Shorten(5_000));
}

#[test]
fn a_stream_may_be_begun_anew_by_word() {
    let mut buffer = playing(50);
    buffer.insert(packet(50), at(50));
    buffer.restart();
    assert!(!buffer.playing());
    // Another stream with numbers that would fit the old one.
    for n in 40..44 {
        buffer.insert(packet(n), at(51) + at(n - 40));
    }
    assert!(buffer.start(at(52)));
    assert_eq!(payload_of(buffer.next(at(52), 0)), Some(40));
    assert_eq!((buffer.counters().resets, buffer.counters().late, buffer.counters().lost), (1, 0, 0));
}

#[test]
fn a_timestamp_that_falls_back_a_little_is_a_new_stream() {
    let mut buffer = playing(100);
    let back = |n: u16| Packet { sequence: n, ..packet(n - 40) };
    assert!(!buffer.insert(back(100), at(100)));
    assert!(buffer.insert(back(101), at(101)));
    assert!(buffer.start(at(101) + 10_000));
    assert_eq!([(); 2].map(|()| payload_of(buffer.next(at(101), 0))), [60, 61].map(Some));
    assert_eq!(buffer.counters().late, 0);
}

#[test]
fn a_packet_that_comes_after_its_turn_is_late_not_lost() {
    let mut buffer = playing(50);
    buffer.insert(redundant(51), at(51));
    while buffer.next(0, 0) != Next::Empty {}
    assert_eq!(buffer.counters().lost, 1);
    buffer.insert(packet(50), at(52));
    assert_eq!((buffer.counters().lost, buffer.counters().late), (0, 1));
    assert_eq!(buffer.next(0, 0), Next::Empty);
}

#[test]
fn a_packet_that_comes_in_the_middle_of_its_turn_gives_its_rest() {
    let mut buffer = playing(50);
    buffer.insert(packet(51), at(51));
    assert_eq!(buffer.next(0, 0), lost(&packet(51), 960));
    buffer.insert(packet(50), at(51));
    assert_eq!(buffer.next(0, 0), Next::Packet { payload: packet(50).payload, skip: 480, gap: None });
    assert_eq!(payload_of(buffer.next(0, 0)), Some(51));
    assert_eq!(buffer.counters().lost, 0);
}

#[test]
fn a_new_stream_takes_two_packets_and_a_stray_none() {
    let mut buffer = playing(50);
    let stranger =
        |n: u16| Packet { sequence: 30_000 + n, timestamp: 7_000_000 + u32::from(n) * 960, ..packet(n) };
    assert!(!buffer.insert(stranger(0), at(50)));
    assert!(!buffer.insert(packet(50), at(50)));
    assert!(buffer.playing());
    assert_eq!(payload_of(buffer.next(0, 0)), Some(50));
    assert!(!buffer.insert(stranger(1), at(51)));
    assert!(buffer.insert(stranger(2), at(52)));
    assert!(!buffer.playing());
    assert!(buffer.start(at(52) + 10_000));
    assert_eq!([1, 2].map(|_| payload_of(buffer.next(0, 0))), [Some(1), Some(2)]);
    assert_eq!(buffer.counters().resets, 1);
}

#[test]
fn a_jump_of_the_timestamp_alone_is_a_new_stream_too() {
    let mut buffer = playing(50);
    let jumped = |n: u16| Packet { timestamp: 900_000_000 + u32::from(n) * 960, ..packet(n) };
    assert!(!buffer.insert(jumped(50), at(50)));
    assert!(buffer.insert(jumped(51), at(51)));
    assert!(buffer.start(at(51) + 10_000));
    assert_eq!(payload_of(buffer.next(0, 0)), Some(50));
}

#[test]
fn a_long_hold_is_no_new_stream() {
    let mut buffer = playing(50);
    let later = Packet::new(50, 10_050 * 960, packet(50).payload);
    assert!(!buffer.insert(later, i64::from(10_050) * 20_000));
    assert_eq!(buffer.counters().resets, 0);
}

#[test]
fn counters_wrap_without_notice() {
    let mut buffer = JitterBuffer::new(JitterConfig::default());
    for i in 0..200_u32 {
        let sequence = (65_500_u32 + i) as u16;
        let timestamp = (u32::MAX - 50_000).wrapping_add(i * 960);
        buffer.insert(Packet::new(sequence, timestamp, packet(0).payload), i64::from(i) * 20_000);
        let now = i64::from(i) * 20_000;
        if !buffer.playing() {
            buffer.start(now);
        }
        if buffer.playing() {
            assert!(payload_of(buffer.next(now, 0)).is_some());
        }
    }
    let Counters { lost, late, resets, .. } = buffer.counters();
    assert_eq!((lost, late, resets), (0, 0, 0));
}

#[test]
fn redundancy_is_not_decoded_after_music() {
    let mut buffer = playing(50);
    buffer.insert(music(50), at(50));
    buffer.insert(redundant(52), at(52));
    assert_eq!(payload_of(buffer.next(0, 0)), Some(50));
    assert_eq!(
        [(); 2].map(|()| buffer.next(0, 0)),
        [lost(&redundant(52), 960), lost(&redundant(52), 480)],
        "libopus would conceal it, and nobody would know"
    );
    let gap = self::gap(&redundant(52), 960, 0);
    assert_eq!(buffer.next(0, 0), Next::Packet { payload: redundant(52).payload, skip: 0, gap });
    buffer.insert(redundant(54), at(54));
    assert!(matches!(buffer.next(0, 0), Next::Recover { .. }), "but after a voice");
}

#[test]
fn waiting_ends_at_the_bound_and_starts_anew_without_delay() {
    let mut buffer = playing(50);
    let mut ticks = 0;
    while buffer.wait(480) {
        ticks += 1;
    }
    assert_eq!(ticks, 40, "400 ms");
    assert!(!buffer.playing());
    for i in 100..102 {
        buffer.insert(packet(i), at(i));
    }
    assert!(buffer.start(at(101)));
    assert_eq!(payload_of(buffer.next(at(101), 0)), Some(100));
}

#[test]
fn more_delay_than_the_bound_is_cut_at_once() {
    let mut buffer = playing(50);
    for i in 50..100 {
        buffer.insert(packet(i), at(100));
    }
    let now = at(100);
    assert!(buffer.current(now, 0).unwrap() > 900_000);
    assert!(buffer.enforce(now, 0));
    let current = buffer.current(now, 0).unwrap();
    assert!(current <= 400_000, "{current}");
    assert!(!buffer.enforce(now, 0));
    assert!(matches!(buffer.next(now, 0), Next::Packet { skip: 0, .. }));
}

#[test]
fn the_number_of_packets_is_bounded() {
    let mut buffer = playing(50);
    for i in 50..500 {
        buffer.insert(packet(i), at(50));
    }
    assert!(buffer.packets.len() <= SLOTS);
    assert!(buffer.counters().overflowed > 0);
}

#[test]
fn rubbish_is_counted_and_changes_nothing() {
    let mut buffer = playing(50);
    buffer.insert(Packet { payload: Bytes::new(), ..packet(50) }, at(50));
    buffer.insert(Packet { payload: Bytes::from_static(&[0xff, 0]), ..packet(50) }, at(50));
    assert_eq!(buffer.counters().malformed, 2);
    assert_eq!(buffer.next(0, 0), Next::Empty);
    buffer.insert(packet(50), at(50));
    assert_eq!(payload_of(buffer.next(0, 0)), Some(50));
}
