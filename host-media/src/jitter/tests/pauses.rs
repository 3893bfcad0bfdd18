//! Pauses, outages, and what counts as lost.

use super::*;

#[test]
fn a_pause_of_the_sender_is_no_loss_and_puts_the_delay_right() {
    let mut buffer = playing(50);
    // Ten milliseconds more than are needed, before the pause.
    let mut now = at(50) + 20_000;
    for _ in 0..8 {
        assert!(buffer.wait(480));
        now += 10_000;
    }
    let resumed = Packet { sequence: 50, timestamp: 55 * 960, payload: packet(50).payload, ..packet(50) };
    buffer.insert(resumed, at(55));
    // 20 ms of it are left; half of that is left out.
    assert_eq!(buffer.next(now, 0), Next::Pause { samples: 480 });
    assert!(matches!(buffer.next(now, 480), Next::Packet { .. }));
    assert_eq!(buffer.current(now, 480 + 960), Some(10_000));
    let Counters { lost, made_lost, made_late, made_pause, .. } = buffer.counters();
    assert_eq!((lost, made_lost, made_late, made_pause), (0, 0, 0, 9 * 480));
    assert_eq!(buffer.waited(), 0);
}

#[test]
fn what_is_made_up_in_an_announced_pause_is_comfort_noise_from_the_start() {
    let mut buffer = playing(50);
    buffer.insert(Packet { payload: Bytes::from_static(&[0xf8]), ..packet(50) }, at(50));
    assert!(matches!(buffer.next(at(50), 0), Next::Packet { .. }));
    for _ in 0..100 {
        assert!(buffer.wait(480));
    }
    assert_eq!((buffer.waited(), buffer.counters().made_pause), (0, 48_000));
    // Of the packets in the pause one was lost: 20 ms, however long the pause was.
    buffer.insert(Packet { sequence: 52, timestamp: 110 * 960, ..packet(52) }, at(110));
    while !matches!(buffer.next(at(110), 0), Next::Packet { .. }) {}
    let Counters { lost, made_lost, made_late, .. } = buffer.counters();
    assert_eq!((lost, made_lost, made_late), (1, 960, 0));
    buffer.insert(Packet { payload: Bytes::from_static(&[0xf8]), sequence: 53, ..packet(111) }, at(111));
    assert!(matches!(buffer.next(at(111), 0), Next::Packet { .. }));
    assert_eq!((0..1_000).find(|_| !buffer.wait(480)), Some(200), "two seconds");
}

#[test]
fn an_outage_counts_whole_and_a_pause_not_at_all() {
    for (missing, numbers, time) in [(100, 100, 100), (0, 0, 100), (1, 1, 100), (2, 2, 20), (0, 0, 9_000)] {
        let mut buffer = playing(50);
        let mut now = at(50) + 10_000;
        for _ in 0..time * 2 {
            if !buffer.wait(480) {
                break;
            }
            now += 10_000;
        }
        let again = |n: u16| Packet { sequence: 50 + numbers + n, ..packet(50 + time + n) };
        for n in 0..2 {
            buffer.insert(again(n), at(50 + time + n));
        }
        now = now.max(at(50 + time + 1) + 10_000);
        assert!(buffer.playing() || buffer.start(now));
        while buffer.next(now, 0) != Next::Empty {}
        let Counters { lost, made_lost, made_late, made_pause, late, resets, .. } = buffer.counters();
        let name = format!("{numbers} numbers in {time} frames");
        assert_eq!((lost, late, resets), (missing, 0, 0), "{name}");
        // What was made up until playing ended: 400 ms and a block.
        let made = (made_lost + made_late) / 960;
        assert!(made <= missing, "{name}: {made} made up for losses, {made_pause} in a pause");
        assert_eq!(made + made_pause / 960, u64::from(time).min(20), "{name}");
    }
}

#[test]
fn what_was_held_up_and_comes_in_one_go_was_not_lost() {
    let mut buffer = playing(50);
    while buffer.wait(480) {}
    // Ten seconds of it; some do not fit.
    for n in 50..550 {
        buffer.insert(packet(n), at(550));
    }
    assert!(buffer.start(at(550)));
    while buffer.next(at(550), 0) != Next::Empty {}
    let Counters { received, lost, late, overflowed, .. } = buffer.counters();
    assert_eq!((received, lost), (550, 0), "{late} late, {overflowed} too many");
    assert!(late > 200 && overflowed > 200);
}

#[test]
fn copies_find_their_numbers_across_a_pause() {
    let time = |n: u16| u32::from(n) * 960;
    // Numbers and times of the packets that come; the copies that the last one has, by frames before it; what comes
    // of it. 50 is the first that has not come.
    let pause_before_a_loss = [(50, 50), (52, 61)];
    let pause_after_a_loss = [(50, 50), (52, 58)];
    for (came, copies, number, name) in [
        (pause_before_a_loss, 1, 51, "the last before a pause came"),
        (pause_after_a_loss, 7, 51, "the last before a pause was lost"),
        ([(50, 50), (53, 60)], 1, 52, "one on each side, the one after the pause"),
        ([(50, 50), (53, 60)], 9, 51, "one on each side, the one before the pause"),
        ([(50, 50), (54, 60)], 8, 52, "two before the pause"),
    ] {
        let mut buffer = playing(50);
        for (sequence, frame) in came {
            let own = red(frame, &[copies]);
            let payload = if sequence == 50 { packet(50).payload } else { own.payload };
            let kind = if sequence == 50 { PayloadKind::Opus } else { own.kind };
            let sent = Packet { sequence, timestamp: time(frame), payload, kind };
            buffer.insert(sent, at(frame));
        }
        let found: Vec<_> = buffer.packets.iter().map(|p| (p.sequence, p.timestamp, p.copy)).collect();
        let [(a, t), (b, u)] = came.map(|(n, frame)| (i64::from(n), i64::from(time(frame))));
        let copy = u - i64::from(time(copies));
        assert_eq!(found, [(a, t, false), (i64::from(number), copy, true), (b, u, false)], "{name}");
        while buffer.next(at(60), 0) != Next::Empty {}
        let Counters { lost, red, .. } = buffer.counters();
        assert_eq!((lost, red), ((b - a - 1) as u64, 1), "{name}");
    }
    // What came is not taken for another one.
    let mut buffer = playing(50);
    let own = red(55, &[5, 6]);
    buffer.insert(packet(50), at(50));
    buffer.insert(Packet { sequence: 51, ..own }, at(55));
    assert_eq!(buffer.packets.iter().map(|p| p.sequence).collect::<Vec<_>>(), [50, 51]);
    while buffer.next(at(60), 0) != Next::Empty {}
    assert_eq!((buffer.counters().lost, buffer.counters().red), (0, 0));
}

#[test]
fn a_pause_goes_on_if_its_announcement_is_lost() {
    let mut buffer = playing(50);
    let rest =
        |n: u16, frame: u16| Packet { payload: Bytes::from_static(&[9 << 3]), sequence: n, ..packet(frame) };
    let noise = |n: u16, frame: u16| Packet { sequence: n, ..packet(frame) };
    let wait = |buffer: &mut JitterBuffer, blocks: usize| {
        for _ in 0..blocks {
            assert!(buffer.wait(480));
        }
    };
    buffer.insert(rest(50, 50), at(50));
    while buffer.next(at(50), 0) != Next::Empty {}
    wait(&mut buffer, 38);
    // The noise after 400 ms, and then the announcement is lost.
    buffer.insert(noise(51, 70), at(70));
    while buffer.next(at(70), 0) != Next::Empty {}
    wait(&mut buffer, 40);
    assert_eq!((buffer.waited(), buffer.counters().made_late), (0, 0), "nothing counts as late");
    buffer.insert(noise(53, 91), at(91));
    while buffer.next(at(91), 0) != Next::Empty {}
    let Counters { lost, made_lost, made_late, made_pause, .. } = buffer.counters();
    assert_eq!((lost, made_lost, made_late), (1, 960, 0));
    assert_eq!(made_pause + made_lost, 78 * 480);
}
