use super::*;

static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

/// What had been sent so long after the first packet, if it was 50 packets and so many bits a second all the time.
fn total(since: Duration, rate: u64) -> Total {
    let ms = since.as_millis() as u64;
    Total { packets: ms / 20, bytes: rate / 8 * ms / 1000 }
}

/// Feedback each 200 ms on ten packets of 100 bytes (40 kbit/s), of which every `nth` is lost.
fn feed(congestion: &mut Congestion, from: Instant, seconds: u64, nth: u64, delay_grows: bool) -> Instant {
    let epoch = *EPOCH.get_or_init(Instant::now);
    for n in 0..seconds * 5 {
        let fates: Vec<Fate> = (0..10)
            .map(|p| {
                let arrived = nth == 0 || !(n * 10 + p).is_multiple_of(nth);
                let came = from.duration_since(epoch) + Duration::from_millis(n * 200 + p * 20);
                let left = from + Duration::from_millis(n * 200 + p * 20);
                Fate { left, arrived, came: arrived.then_some(came), sent: total(came, 40_000) }
            })
            .collect();
        let delay = if delay_grows { Delay::Grows } else { Delay::Even };
        congestion.on_feedback(from + Duration::from_millis(n * 200), &fates, delay, Some(40_000));
    }
    from + Duration::from_secs(seconds)
}

#[test]
fn there_is_no_limit_as_long_as_nothing_goes_wrong() {
    let mut congestion = Congestion::default();
    let now = feed(&mut congestion, Instant::now(), 60, 0, false);
    assert_eq!((congestion.limit(), congestion.is_congested(now)), (None, false));
    assert_eq!(congestion.loss(now).map(|loss| loss.share), Some(0.0));
    // 5 % is neither.
    let now = feed(&mut congestion, now, 60, 20, false);
    assert_eq!((congestion.limit(), congestion.is_congested(now)), (None, false));
    assert!(congestion.loss(now).is_some_and(|loss| (loss.share - 0.05).abs() < 0.01));
}

#[test]
fn growing_delay_limits_to_less_than_what_arrives_and_the_limit_rises_again_until_it_is_none() {
    let mut congestion = Congestion::default();
    let now = feed(&mut congestion, Instant::now(), 5, 0, false);
    let now = feed(&mut congestion, now, 1, 0, true);
    let limit = congestion.limit().expect("limited");
    // 85 % of 40,000 with all headers and 8,000 beside it, without those.
    assert!((30_000..=31_000).contains(&limit), "{limit}");
    assert!(congestion.is_congested(now));
    // One sign is one decrease, however often it is said within a second.
    let later = feed(&mut congestion, now, 4, 0, false);
    assert!(!congestion.is_congested(later));
    let raised = congestion.limit().expect("still");
    assert!(raised > limit && raised <= limit + 4 * 5_000, "{raised}");
    feed(&mut congestion, later, 40, 0, false);
    assert_eq!(congestion.limit(), None, "far above what is sent");
}

#[test]
fn heavy_loss_limits_and_light_loss_does_not() {
    let mut congestion = Congestion::default();
    let now = feed(&mut congestion, Instant::now(), 10, 2, false);
    let limit = congestion.limit().expect("limited");
    assert!(limit < 30_500, "{limit}");
    assert!(congestion.is_congested(now));
    let now = feed(&mut congestion, now, 60, 2, false);
    assert_eq!(congestion.limit(), Some(LOWEST as u32), "not to nothing");
    assert!(congestion.loss(now).is_some_and(|loss| loss.share == 0.5));
    assert_eq!(congestion.loss(now + Duration::from_secs(9)), None, "too long ago");
}

#[test]
fn what_a_weak_radio_loses_limits_no_speech_but_much_more_than_speech() {
    let mut congestion = Congestion::default();
    let now = feed(&mut congestion, Instant::now(), 30, 5, false);
    assert_eq!((congestion.limit(), congestion.is_congested(now)), (None, false), "20 % of 40 kbit/s");
    assert!(congestion.loss(now).is_some_and(|loss| (0.19..0.21).contains(&loss.share)));
    // A limit that growing delay has set is raised again though the path goes on losing.
    let now = feed(&mut congestion, now, 3, 5, true);
    assert!(congestion.limit().is_some_and(|limit| limit <= 34_000), "{:?}", congestion.limit());
    feed(&mut congestion, now, 30, 5, false);
    assert_eq!(congestion.limit(), None);

    let mut congestion = Congestion::default();
    for n in 0..60 {
        congestion.on_report(Instant::now() + Duration::from_secs(n), 0.2, Some(500_000));
    }
    assert_eq!(congestion.limit(), Some(80_000), "video gives way until there is room for speech");
}

#[test]
fn a_path_without_a_queue_that_carries_less_gets_less() {
    // Carries 40 kbit/s and drops the rest at once; what is sent follows the limit, with 75 kbit/s at most.
    let mut congestion = Congestion::default();
    let start = Instant::now();
    let (mut sent, mut arrived, mut lost, mut so_far) = (42_000.0, 0.0, Vec::new(), Total::default());
    for n in 0..5 * 60_u64 {
        let now = start + Duration::from_millis(n * 200);
        // Redundancy comes a second after the losses.
        let wanted: f64 = if n > 10 { 75_000.0 } else { 42_000.0 };
        sent = congestion.limit().map_or(wanted, |limit| wanted.min(limit.into())).max(sent * 0.5);
        let fates: Vec<Fate> = (0..10)
            .map(|p| {
                arrived += (40_000.0 / sent).min(1.0);
                let came = arrived >= 1.0;
                arrived -= if came { 1.0 } else { 0.0 };
                let at = now.duration_since(start) + Duration::from_millis(p * 20);
                so_far.packets += 1;
                so_far.bytes += (sent * 0.02 / 8.0) as u64;
                Fate { left: start + at, arrived: came, came: came.then_some(at), sent: so_far }
            })
            .collect();
        lost.extend(fates.iter().map(|fate| !fate.arrived));
        congestion.on_feedback(now, &fates, Delay::Even, Some(sent as u64));
    }
    let late = &lost[lost.len() / 2..];
    let share = late.iter().filter(|lost| **lost).count() as f64 / late.len() as f64;
    assert!(share < HEAVY_LOSS * 1.3, "{share} of what is sent in the second half minute");
    assert!(sent > 25_000.0, "and it is used: {sent}");
}

#[test]
fn a_queue_that_was_full_before_anything_was_sent_is_emptied() {
    // Carries 55 kbit/s and holds 27,500 bits; before the first packet others had filled it.
    let mut congestion = Congestion::default();
    let start = Instant::now();
    let (carries, most, mut trend) = (55_000.0, 27_500.0, crate::trend::Trend::default());
    let (mut queue, mut lost, mut sent): (f64, Vec<(u64, bool)>, f64) = (most, Vec::new(), 80_000.0);
    let mut so_far = Total::default();
    for n in 0..5 * 30_u64 {
        let now = start + Duration::from_millis(n * 200);
        sent = congestion.limit().map_or(80_000.0, |limit| f64::from(limit).min(80_000.0));
        let fates: Vec<Fate> = (0..10)
            .map(|p| {
                queue = (queue - carries * 0.02).max(0.0);
                let arrived = queue + sent * 0.02 <= most;
                queue += if arrived { sent * 0.02 } else { 0.0 };
                let left = now + Duration::from_millis(p * 20);
                let came = left.duration_since(start) + Duration::from_secs_f64(queue / carries);
                lost.push((n, !arrived));
                so_far.packets += 1;
                so_far.bytes += (sent * 0.02 / 8.0) as u64;
                Fate { left, arrived, came: arrived.then_some(came), sent: so_far }
            })
            .collect();
        let ways = fates.iter().filter_map(|fate| Some((fate.left, fate.came?)));
        let delay = match (trend.on_report(ways), queue > 0.2 * carries) {
            (Delay::Even, true) => Delay::Stands,
            (delay, _) => delay,
        };
        congestion.on_feedback(now, &fates, delay, Some(sent as u64));
    }
    let late = lost.iter().filter(|(n, _)| *n >= 50);
    let share = late.clone().filter(|(_, lost)| *lost).count() as f64 / late.count() as f64;
    assert!(share < 0.05, "{share} after ten seconds");
    assert!(sent > 35_000.0, "and it is used: {sent}");
    // Where nothing is lost this way, the queue is in the other direction.
    let mut congestion = Congestion::default();
    for n in 0..50 {
        let now = start + Duration::from_millis(n * 200);
        let sent = total(now - start, 40_000);
        let fates = [Fate { left: now, arrived: true, came: Some(now - start), sent }; 10];
        congestion.on_feedback(now, &fates, Delay::Stands, Some(40_000));
    }
    assert_eq!(congestion.limit(), None);
}

#[test]
fn losses_by_chance_do_not_look_like_congestion() {
    for (seed, bursts) in (0..40).map(|seed| (seed, seed % 2 == 1)) {
        let (mut congestion, mut state) = (Congestion::default(), seed * 7_919 + 1_u64);
        let (start, mut left) = (Instant::now(), 0);
        let mut lost = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = (state >> 33) as f64 / f64::from(1_u32 << 31);
            // 20 % one by one, 10 % in threes.
            left = if left > 0 {
                left - 1
            } else if bursts && chance < 0.036 {
                3
            } else {
                0
            };
            if bursts { left > 0 } else { chance < 0.2 }
        };
        for n in 0..5 * 120_u64 {
            let fates: Vec<Fate> = (0..10_u64)
                .map(|p| {
                    let arrived = !lost();
                    let came = Duration::from_millis(n * 200 + p * 20);
                    Fate {
                        left: start + came,
                        arrived,
                        came: arrived.then_some(came),
                        sent: total(came, 60_000),
                    }
                })
                .collect();
            congestion.on_feedback(start + Duration::from_millis(n * 200), &fates, Delay::Even, Some(60_000));
        }
        assert_eq!(congestion.limit(), None, "seed {seed}");
    }
}

#[test]
fn an_outage_is_not_punished() {
    let mut congestion = Congestion::default();
    let mut now = feed(&mut congestion, Instant::now(), 10, 0, false);
    for seconds in [1, 3, 10] {
        now = feed(&mut congestion, now, seconds, 1, false);
        now = feed(&mut congestion, now, 5, 0, false);
        assert_eq!(congestion.limit(), None, "after {seconds} s");
    }
}

#[test]
fn reports_count_only_of_peers_that_tell_nothing_better() {
    let start = Instant::now();
    let mut congestion = Congestion::default();
    congestion.on_report(start, 0.4, Some(40_000));
    assert_eq!(congestion.limit(), Some(32_000));
    let mut congestion = Congestion::default();
    let now = feed(&mut congestion, start, 3, 0, false);
    congestion.on_report(now, 0.4, Some(40_000));
    assert_eq!(congestion.limit(), None);
}
