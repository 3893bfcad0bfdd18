use super::*;

/// A 20 ms packet without redundancy (CELT, fullband).
fn packet(n: u16) -> Packet {
    Packet::new(n, u32::from(n).wrapping_mul(960), vec![0xf8, n as u8])
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
        assert!(matches!(buffer.next(at(i) + 10_000), Next::Packet { skip: 0, .. }));
        assert_eq!(buffer.next(at(i) + 10_000), Next::Empty);
    }
    buffer
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
    assert_eq!([0, 1, 2].map(|_| payload_of(buffer.next(0))), [Some(0), Some(1), Some(2)]);
    assert_eq!(buffer.next(0), Next::Empty);
    assert_eq!(buffer.counters().reordered, 1);
}

#[test]
fn a_duplicate_is_counted_and_played_once() {
    let mut buffer = playing(50);
    buffer.insert(packet(50), at(50));
    buffer.insert(packet(50), at(50));
    buffer.insert(packet(49), at(50));
    assert_eq!(payload_of(buffer.next(0)), Some(50));
    assert_eq!(buffer.next(0), Next::Empty);
    assert_eq!((buffer.counters().duplicates, buffer.counters().late), (2, 0));
}

#[test]
fn a_loss_with_the_next_packet_there_is_recovered_from_it() {
    let mut buffer = playing(50);
    buffer.insert(redundant(51), at(51));
    let next = buffer.next(0);
    assert_eq!(next, Next::Recover { payload: redundant(51).payload, samples: 960, skip: 0 });
    assert_eq!(payload_of(buffer.next(0)), Some(51));
    assert_eq!((buffer.counters().lost, buffer.counters().recovered), (1, 1));
}

#[test]
fn a_loss_without_redundancy_is_concealed_and_a_long_one_up_to_the_redundancy() {
    let mut buffer = playing(50);
    buffer.insert(packet(51), at(51));
    assert_eq!([0, 1].map(|_| buffer.next(0)), [Next::Lost { samples: 480 }, Next::Lost { samples: 480 }]);
    assert_eq!(payload_of(buffer.next(0)), Some(51));
    buffer.insert(redundant(54), at(54));
    assert_eq!([0, 1].map(|_| buffer.next(0)), [Next::Lost { samples: 480 }, Next::Lost { samples: 480 }]);
    assert!(matches!(buffer.next(0), Next::Recover { samples: 960, skip: 0, .. }));
    assert_eq!(payload_of(buffer.next(0)), Some(54));
    assert_eq!((buffer.counters().lost, buffer.counters().recovered), (3, 1));
}

#[test]
fn what_was_made_up_while_waiting_counts_as_the_lost_frame() {
    let mut buffer = playing(50);
    let before = buffer.current(at(50) + 10_000, 0);
    assert!(buffer.wait(480));
    buffer.insert(redundant(51), at(51));
    assert!(matches!(buffer.next(at(51)), Next::Recover { samples: 960, skip: 480, .. }));
    assert_eq!(payload_of(buffer.next(at(51))), Some(51));
    // 10 ms made up, 10 ms recovered, 20 ms of packet 51: the position is where it would have been without a loss.
    assert_eq!(buffer.current(at(52) + 10_000, 0), before);
}

#[test]
fn waiting_for_a_late_packet_adds_its_lateness_and_nothing_is_left_out() {
    let mut buffer = playing(50);
    let before = buffer.current(at(50) + 10_000, 0).unwrap();
    assert!(buffer.wait(480) && buffer.wait(480));
    buffer.insert(packet(50), at(50) + 30_000);
    assert!(matches!(buffer.next(at(50) + 30_000), Next::Packet { skip: 0, .. }));
    assert_eq!(buffer.current(at(51) + 30_000, 0), Some(before + 20_000));
    assert_eq!(buffer.counters().lost, 0);
    assert_eq!(buffer.target(at(50) + 30_000), 30_000, "the hiccup is remembered");
}

#[test]
fn a_pause_of_the_sender_is_no_loss() {
    let mut buffer = playing(50);
    assert!(buffer.wait(480));
    let late = Packet::new(50, 55 * 960, packet(50).payload);
    buffer.insert(late, at(55));
    assert_eq!(buffer.next(0), Next::Pause { samples: 480 });
    assert_eq!(buffer.counters().lost, 0);
    assert_eq!((buffer.excused(), buffer.excused()), (480, 0));
}

#[test]
fn a_packet_that_comes_after_its_turn_is_late_not_lost() {
    let mut buffer = playing(50);
    buffer.insert(redundant(51), at(51));
    while buffer.next(0) != Next::Empty {}
    assert_eq!(buffer.counters().lost, 1);
    buffer.insert(packet(50), at(52));
    assert_eq!((buffer.counters().lost, buffer.counters().late), (0, 1));
    assert_eq!(buffer.next(0), Next::Empty);
}

#[test]
fn a_packet_that_comes_in_the_middle_of_its_turn_gives_its_rest() {
    let mut buffer = playing(50);
    buffer.insert(packet(51), at(51));
    assert_eq!(buffer.next(0), Next::Lost { samples: 480 });
    buffer.insert(packet(50), at(51));
    assert_eq!(buffer.next(0), Next::Packet { payload: packet(50).payload, skip: 480 });
    assert_eq!(payload_of(buffer.next(0)), Some(51));
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
    assert_eq!(payload_of(buffer.next(0)), Some(50));
    assert!(!buffer.insert(stranger(1), at(51)));
    assert!(buffer.insert(stranger(2), at(52)));
    assert!(!buffer.playing());
    assert!(buffer.start(at(52) + 10_000));
    assert_eq!([1, 2].map(|_| payload_of(buffer.next(0))), [Some(1), Some(2)]);
    assert_eq!(buffer.counters().resets, 1);
}

#[test]
fn a_jump_of_the_timestamp_alone_is_a_new_stream_too() {
    let mut buffer = playing(50);
    let jumped = |n: u16| Packet { timestamp: 900_000_000 + u32::from(n) * 960, ..packet(n) };
    assert!(!buffer.insert(jumped(50), at(50)));
    assert!(buffer.insert(jumped(51), at(51)));
    assert!(buffer.start(at(51) + 10_000));
    assert_eq!(payload_of(buffer.next(0)), Some(50));
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
            assert!(payload_of(buffer.next(now)).is_some());
        }
    }
    let Counters { lost, late, resets, .. } = buffer.counters();
    assert_eq!((lost, late, resets), (0, 0, 0));
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
    assert_eq!(payload_of(buffer.next(at(101))), Some(100));
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
    assert!(matches!(buffer.next(now), Next::Packet { skip: 0, .. }));
}

#[test]
fn the_number_of_packets_is_bounded() {
    let mut buffer = playing(50);
    for i in 50..500 {
        buffer.insert(packet(i), at(50));
    }
    assert!(buffer.packets.len() <= MAX_PACKETS);
    assert!(buffer.counters().overflowed > 0);
}

#[test]
fn rubbish_is_counted_and_changes_nothing() {
    let mut buffer = playing(50);
    buffer.insert(Packet { payload: Bytes::new(), ..packet(50) }, at(50));
    buffer.insert(Packet { payload: Bytes::from_static(&[0xff, 0]), ..packet(50) }, at(50));
    assert_eq!(buffer.counters().malformed, 2);
    assert_eq!(buffer.next(0), Next::Empty);
    buffer.insert(packet(50), at(50));
    assert_eq!(payload_of(buffer.next(0)), Some(50));
}

#[test]
fn bounds_that_contradict_each_other_are_put_right() {
    let ms = Duration::from_millis;
    let config = JitterConfig::default().min(ms(500)).max(ms(100)).start(ms(0)).sane();
    assert_eq!((config.min, config.start, config.max), (ms(500), ms(500), ms(500)));
    let config = JitterConfig::default().min(ms(0)).max(Duration::MAX).sane();
    assert_eq!((config.min, config.max), (ms(10), Duration::from_secs(2)));
}
