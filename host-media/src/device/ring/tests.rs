use assert_no_alloc::{AllocDisabler, assert_no_alloc, violation_count};

use super::*;
use crate::BLOCK;

/// For all unit tests of the crate; it counts what is asked for where that is forbidden, and does nothing else.
#[global_allocator]
static COUNTING: AllocDisabler = AllocDisabler;

#[test]
fn neither_side_of_a_ring_allocates() {
    let (mut feed, parts) = capture(44_100, 441).unwrap();
    let mut source = parts.run(Box::new(()));
    let (mut drain, parts) = playback(44_100, 441).unwrap();
    let mut sink = parts.run(Box::new(()));
    let mut block = crate::SILENT;
    let before = violation_count();
    assert_no_alloc(|| {
        for n in 0..1000 {
            // Sometimes too much, sometimes nothing.
            feed.feed(std::iter::repeat_n(0.25, if n % 100 == 50 { 4410 } else { 441 }), Duration::ZERO);
            if n % 150 != 7 {
                assert_eq!(source.read(&mut block), Read::Sound);
                assert_eq!(sink.write(&block), Write::Done);
            }
            drain.drain(441, Duration::ZERO, |_| {});
            let _ = (source.gauge(), sink.gauge(), sink.ready());
        }
    });
    assert_eq!(violation_count(), before);
}

/// A device whose clock runs `ppm` fast calls for `period` frames at a time while ticks go on for `seconds`.
fn simulate(
    rate: u32,
    period: u32,
    ppm: f64,
    seconds: u64,
    mut call: impl FnMut(u64),
    mut tick: impl FnMut(u64),
) {
    let call_every = f64::from(period) / (f64::from(rate) * (1.0 + ppm * 1e-6));
    let mut calls = 0;
    for n in 0..seconds * 100 {
        let now = n as f64 * 0.010;
        while (calls + 1) as f64 * call_every <= now {
            call(calls);
            calls += 1;
        }
        tick(n);
    }
}

#[test]
fn a_microphone_whose_clock_differs_never_runs_dry_or_full() {
    for (rate, period, ppm) in [
        (48_000, 480, 0.0),
        (48_000, 480, 300.0),
        (44_100, 441, -300.0),
        (16_000, 320, 200.0),
        (96_000, 256, 0.0),
    ] {
        let (mut feed, parts) = capture(rate, period).unwrap();
        let mut source = parts.run(Box::new(()));
        let cell = std::cell::RefCell::new(&mut feed);
        let mut block = crate::SILENT;
        let mut worst = Duration::ZERO;
        simulate(
            rate,
            period,
            ppm,
            60,
            |_| cell.borrow_mut().feed(std::iter::repeat_n(0.25, period as usize), Duration::ZERO),
            |n| {
                assert_eq!(source.read(&mut block), Read::Sound);
                if n > 200 {
                    assert!(block.iter().all(|s| (s - 0.25).abs() < 1e-3), "gap at tick {n} of {rate} {ppm}");
                    worst = worst.max(source.gauge().fill);
                }
            },
        );
        assert_eq!(source.gauge().xruns, 0, "{rate} Hz, {ppm} ppm");
        assert!(worst < Duration::from_millis(60), "{worst:?}");
    }
}

#[test]
fn a_speaker_whose_clock_differs_never_runs_dry_or_full() {
    for (rate, period, ppm) in [
        (48_000, 480, 0.0),
        (48_000, 480, 300.0),
        (44_100, 441, -300.0),
        (16_000, 320, 200.0),
        (96_000, 256, 0.0),
    ] {
        let (mut feed, parts) = playback(rate, period).unwrap();
        let mut sink = parts.run(Box::new(()));
        let cell = std::cell::RefCell::new(&mut feed);
        let mut gaps = 0;
        simulate(
            rate,
            period,
            ppm,
            60,
            |n| {
                cell.borrow_mut().drain(period as usize, Duration::ZERO, |s| {
                    if n > 300 && (s - 0.25).abs() > 1e-3 {
                        gaps += 1;
                    }
                });
            },
            |_| assert_eq!(sink.write(&[0.25; BLOCK]), Write::Done),
        );
        assert_eq!((gaps, sink.gauge().xruns), (0, 0), "{rate} Hz, {ppm} ppm");
        assert!(sink.gauge().fill < Duration::from_millis(60));
    }
}

#[test]
fn a_standstill_leaves_no_lasting_delay() {
    let (mut feed, parts) = capture(48_000, 480).unwrap();
    let mut source = parts.run(Box::new(()));
    let mut block = crate::SILENT;
    for n in 0..400 {
        feed.feed(std::iter::repeat_n(0.25, 480), Duration::ZERO);
        if !(100..120).contains(&n) {
            source.read(&mut block);
        }
    }
    assert!(source.gauge().fill < Duration::from_millis(30), "{:?}", source.gauge());
    assert!(source.gauge().xruns >= 1);
}

#[test]
fn a_silent_device_is_lost_once() {
    let (feed, parts) = capture(48_000, 480).unwrap();
    let mut source = parts.run(Box::new(()));
    feed.shared().xrun();
    assert_eq!(source.gauge().xruns, 1);
    assert_eq!(source.origin(), Origin::Pending);
    let mut block = crate::SILENT;
    let lost = (0..1000).filter(|_| matches!(source.read(&mut block), Read::Lost(_))).count();
    assert_eq!(lost, 1);
    let (feed, parts) = playback(48_000, 480).unwrap();
    let mut sink = parts.run(Box::new(()));
    assert_eq!(sink.write(&block), Write::Done);
    feed.shared().fail(DeviceFault::new(DeviceFaultKind::Missing, "unplugged"));
    assert!(matches!(sink.write(&block), Write::Lost(fault) if fault.message == "unplugged"));
    assert_eq!(sink.write(&block), Write::Done);
}
