//! What is lost comes back: from copies in other packets, from the copy in the next packet, from deep redundancy, in
//! this order.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::{
    Playout,
    tests::{noise, speech},
};
use crate::{
    BLOCK, TICK,
    codec::{
        Encoded, Encoder,
        red::{Copies, Writer},
    },
    format::{Format, FrameLength, Packet, PayloadKind},
    jitter::JitterConfig,
    measure,
    stats::PeerStats,
};

#[derive(Clone, Copy, Debug, Default)]
struct Protection {
    bitrate: u32,
    fec: bool,
    /// Milliseconds.
    dred: u16,
    red: Copies,
}

fn encode(said: &[f32], with: Protection) -> Vec<Packet> {
    let mut encoder = Encoder::new(Format::default()).unwrap();
    encoder.set_bitrate(with.bitrate).unwrap();
    encoder.set_fec(with.fec).unwrap();
    encoder.set_expected_loss(20).unwrap();
    encoder.set_dred(with.dred).unwrap();
    let mut writer = Writer::new();
    said.chunks_exact(960)
        .zip(0_u16..)
        .map(|(frame, n)| {
            let timestamp = u32::from(n) * 960;
            let Encoded::Packet(payload) = encoder.encode(frame).unwrap() else { panic!("not sent") };
            let payload = Bytes::copy_from_slice(payload);
            let mut out = BytesMut::new();
            if writer.write(timestamp, &payload, with.red, &mut out) {
                return Packet::new(n, timestamp, out.freeze()).kind(PayloadKind::Red);
            }
            Packet::new(n, timestamp, payload)
        })
        .collect()
}

/// Plays it; the statistics of each tick, and what was heard.
fn play(packets: &[Packet], lost: impl Fn(usize) -> bool) -> (Vec<PeerStats>, Vec<f32>) {
    let start = Instant::now();
    let mut playout = Playout::new(start, JitterConfig::default()).unwrap();
    let (mut stats, mut heard) = (Vec::new(), Vec::new());
    for tick in 0..packets.len() * 2 {
        let now = start + TICK * tick as u32 + Duration::from_millis(23);
        if tick % 2 == 0 && !lost(tick / 2) {
            playout.insert(packets[tick / 2].clone(), now - Duration::from_millis(3));
        }
        let mut block = [0.0; BLOCK];
        playout.pull(now, &mut block);
        heard.extend_from_slice(&block);
        stats.push(playout.stats());
    }
    (stats, heard)
}

/// How many of the losses from this second on were repaired, and when the delay for that was first spent.
fn repaired(stats: &[PeerStats], from: usize) -> (f64, Option<f64>) {
    let (a, b) = (&stats[from * 100], stats.last().unwrap());
    let lost = (b.lost - a.lost) as f64 * 0.02;
    let learnt = stats.iter().position(|s| s.repair_delay > Duration::ZERO);
    (1.0 - (b.concealed - a.concealed).as_secs_f64() / lost, learnt.map(|tick| tick as f64 / 100.0))
}

fn random(n: usize, percent: u64) -> bool {
    // Good enough, and the same each time (splitmix64).
    let mut z = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ z >> 31) % 100 < percent
}

const DEEP: Protection =
    Protection { bitrate: 48_000, fec: false, dred: 500, red: Copies { count: 0, spacing: 0 } };

#[test]
fn bursts_are_rebuilt_from_deep_redundancy_after_two_of_them() {
    let said = speech(20.0);
    let packets = encode(&said, DEEP);
    let burst = |n: usize| n > 150 && n % 40 < 4;
    let (stats, heard) = play(&packets, burst);
    let (share, learnt) = repaired(&stats, 6);
    let end = stats.last().unwrap();
    println!("bursts of 4: {:.1} % repaired, learnt at {learnt:?}, {end:?}", share * 100.0);
    // The first burst is at 3.2 s.
    assert!(learnt.unwrap() < 5.2, "{learnt:?}");
    assert!(share > 0.95, "{share}");
    assert!((Duration::from_millis(70)..=Duration::from_millis(90)).contains(&end.repair_delay), "{end:?}");
    assert!(end.jitter_buffer < Duration::from_millis(110), "{end:?}");
    assert!(end.dred_recovered > 60 && end.fec_recovered == 0, "{end:?}");
    // Without it the same is concealed, and sounds less like what was said.
    let bare = encode(&said, Protection { dred: 0, ..DEEP });
    let (without, guessed) = play(&bare, burst);
    assert_eq!((without.last().unwrap().dred_recovered, repaired(&without, 6).1), (0, None));
    let good = |heard: &[f32]| {
        let all = measure::segments(&said[300_000..], &heard[300_000..], 48_000, 24_000, 24_000);
        all.iter().map(|s| s.alignment.correlation).sum::<f32>() / all.len() as f32
    };
    println!("likeness {:.3} with, {:.3} without", good(&heard), good(&guessed));
}

#[test]
fn copies_in_the_next_packets_leave_one_loss_in_a_hundred() {
    let said = speech(20.0);
    let copies =
        Protection { bitrate: 24_000, red: Copies { count: 1, spacing: 1 }, ..Protection::default() };
    let (stats, _) = play(&encode(&said, copies), |n| n > 150 && random(n, 10));
    let (share, learnt) = repaired(&stats, 6);
    let end = stats.last().unwrap();
    println!("one copy, 10 %: {:.1} % repaired, learnt at {learnt:?}, {end:?}", share * 100.0);
    assert!(share > 0.85 && learnt.unwrap() < 5.0, "{share} {learnt:?}");
    assert!(end.red_recovered > 50 && end.fec_recovered == 0 && end.dred_recovered == 0, "{end:?}");
    let two = Protection { red: Copies { count: 2, spacing: 1 }, ..copies };
    let (stats, _) = play(&encode(&said, two), |n| n > 150 && random(n, 20));
    let (share, _) = repaired(&stats, 8);
    println!("two copies, 20 %: {:.1} % repaired, {:?}", share * 100.0, stats.last().unwrap());
    assert!(share > 0.93, "{share}");
}

#[test]
fn of_several_kinds_the_one_that_sounds_best_is_taken() {
    let said = speech(12.0);
    // All three: single losses come from copies alone, of two the first one from elsewhere.
    let all = Protection { fec: true, red: Copies { count: 1, spacing: 1 }, ..DEEP };
    let packets = encode(&said, all);
    let (stats, _) = play(&packets, |n| n > 150 && n % 10 == 9);
    let end = stats.last().unwrap();
    assert!(end.red_recovered > 30 && end.fec_recovered == 0 && end.dred_recovered <= 4, "{end:?}");
    let (stats, _) = play(&packets, |n| n > 150 && n % 20 < 3);
    let end = stats.last().unwrap();
    assert!(end.red_recovered > 15, "{end:?}");
    assert!(end.fec_recovered + end.dred_recovered > 30, "{end:?}");
    let (share, _) = repaired(&stats, 6);
    assert!(share > 0.95, "{share}: {end:?}");
    // In-band copies before deep redundancy.
    let packets = encode(&said, Protection { fec: true, ..DEEP });
    let (stats, _) = play(&packets, |n| n > 150 && n % 10 == 9);
    let end = stats.last().unwrap();
    println!("both: {end:?}");
    assert!(end.fec_recovered > end.dred_recovered, "{end:?}");
}

#[test]
fn only_what_deep_redundancy_holds_is_counted_as_rebuilt() {
    let mut said = speech(8.0);
    said[48_000 * 5..48_000 * 8].copy_from_slice(&noise(48_000 * 3, 2e-4));
    let packets = encode(&said, DEEP);
    let bursts = |n: usize| n > 150 && n % 20 < 3;
    let (stats, _) = play(&packets, bursts);
    let rebuilt = |from: usize, to: usize| stats[to].dred_recovered - stats[from].dred_recovered;
    let lost = |from: usize, to: usize| stats[to].lost - stats[from].lost;
    println!(
        "{} of {} said, {} of {} silent",
        rebuilt(400, 490),
        lost(400, 490),
        rebuilt(560, 799),
        lost(560, 799)
    );
    assert!(rebuilt(400, 490) * 10 >= lost(400, 490) * 8);
    assert!(lost(560, 799) > 15 && rebuilt(560, 799) == 0, "there was nothing to rebuild it from");
    let end = stats.last().unwrap();
    assert_eq!(end.concealed + end.recovered, Duration::from_millis(20) * end.lost as u32, "{end:?}");
}

#[test]
fn counters_of_frames_never_run_backwards() {
    // Frames of 10 ms, then of 60: what was counted before stays, and what comes counts in longer ones.
    let said = speech(6.0);
    let (mut encoder, mut packets) = (Encoder::new(Format::new(FrameLength::Ms10)).unwrap(), Vec::new());
    encoder.set_bitrate(48_000).unwrap();
    encoder.set_fec(false).unwrap();
    encoder.set_expected_loss(20).unwrap();
    encoder.set_dred(500).unwrap();
    let mut at = 0;
    while let Some(samples) = said.get(at..at + encoder.frame().samples()) {
        let Encoded::Packet(payload) = encoder.encode(samples).unwrap() else { panic!("not sent") };
        let payload = Bytes::copy_from_slice(payload);
        packets.push((at + samples.len(), Packet::new(packets.len() as u16, at as u32, payload)));
        at += samples.len();
        encoder.set_frame(if at < 3 * 48_000 { FrameLength::Ms10 } else { FrameLength::Ms60 });
    }
    let start = Instant::now();
    let mut playout = Playout::new(start, JitterConfig::default()).unwrap();
    let (mut next, mut before) = (packets.into_iter().enumerate().peekable(), PeerStats::default());
    let mut halfway = before;
    for tick in 0..600 {
        let now = start + TICK * tick + Duration::from_millis(3);
        while let Some((n, (_, packet))) = next.next_if(|(_, (end, _))| *end <= tick as usize * BLOCK) {
            if n % 7 > 1 {
                playout.insert(packet, now);
            }
        }
        playout.pull(now, &mut [0.0; BLOCK]);
        let stats = playout.stats();
        assert!(stats.concealed_frames >= before.concealed_frames, "{before:?} {stats:?}");
        assert!(stats.dred_recovered >= before.dred_recovered, "{before:?} {stats:?}");
        before = stats;
        if tick == 300 {
            halfway = stats;
        }
    }
    println!("{halfway:?} {before:?}");
    assert!(halfway.dred_recovered + halfway.concealed_frames >= halfway.lost);
    assert!(before.dred_recovered > halfway.dred_recovered, "{before:?}");
}

#[test]
fn the_rest_of_a_loss_is_rebuilt_when_its_beginning_was_concealed() {
    let said = speech(6.0);
    // One burst only: no delay is spent for it, and 10 to 20 ms are what there is.
    let (stats, heard) = play(&encode(&said, DEEP), |n| (200..204).contains(&n));
    let end = stats.last().unwrap();
    println!("one burst: {end:?}");
    assert_eq!((end.lost, end.repair_delay), (4, Duration::ZERO));
    assert_eq!(end.concealed + end.recovered, Duration::from_millis(80));
    assert!(end.recovered >= Duration::from_millis(10), "{end:?}");
    assert!(heard.iter().all(|s| s.abs() < 1.0));
}
