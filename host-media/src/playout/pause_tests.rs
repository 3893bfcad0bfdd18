//! Pauses as the real encoder makes them: a packet that announces them, and noise in 400 ms. Nothing of them is lost or
//! late, and the noise does not stop.

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
        packet::is_rest,
        red::{Copies, Writer},
    },
    format::{Format, FrameLength, Packet, PayloadKind},
    jitter::JitterConfig,
    level,
    stats::PeerStats,
};

/// Three seconds of speech, six of noise and three of speech.
fn said(level: f32) -> Vec<f32> {
    let mut said: Vec<f32> = speech(12.0);
    said[3 * 48_000..9 * 48_000].copy_from_slice(&noise(6 * 48_000, level));
    said
}

/// What an encoder that leaves silence out makes of it, with the number of its 20 ms.
fn encode(said: &[f32], frame: FrameLength, copies: Copies) -> Vec<(usize, Packet)> {
    let mut encoder = Encoder::new(Format::new(frame)).unwrap();
    encoder.set_dtx(true).unwrap();
    let mut writer = Writer::new();
    let (mut sent, mut sequence) = (Vec::new(), 65_500_u16);
    for (n, samples) in said.chunks_exact(frame.samples()).enumerate() {
        let timestamp = (n * frame.samples()) as u32;
        let Encoded::Packet(payload) = encoder.encode(samples).unwrap() else { continue };
        let payload = Bytes::copy_from_slice(payload);
        let mut out = BytesMut::new();
        let packet = match writer.write(timestamp, &payload, copies, &mut out) {
            true => Packet::new(sequence, timestamp, out.freeze()).kind(PayloadKind::Red),
            false => Packet::new(sequence, timestamp, payload),
        };
        sent.push((n, packet));
        sequence = sequence.wrapping_add(1);
    }
    sent
}

/// Plays it. The network says how much later a packet comes, by its place among those that are sent and by the time at
/// which it is sent, in ms; or that it does not.
fn play(
    sent: &[(usize, Packet)],
    frame: FrameLength,
    mut network: impl FnMut(usize, u64) -> Option<u64>,
) -> (Vec<PeerStats>, Vec<f32>) {
    let start = Instant::now();
    let ms = Duration::from_millis;
    let mut flying: Vec<_> = (0..)
        .zip(sent)
        .filter_map(|(place, (n, packet))| {
            let at = (*n as u64 + 1) * u64::from(frame.ms());
            network(place, at).map(|late| (at + late, packet.clone()))
        })
        .collect();
    flying.sort_by_key(|(at, _)| *at);
    let mut flying = flying.into_iter().peekable();
    let mut playout = Playout::new(start, JitterConfig::default()).unwrap();
    let (mut stats, mut heard) = (Vec::new(), Vec::new());
    for tick in 0..1_200 {
        let now = start + TICK * tick + ms(3);
        while let Some((at, packet)) = flying.next_if(|(at, _)| start + ms(*at) <= now) {
            playout.insert(packet, start + ms(at));
        }
        let mut block = [0.0; BLOCK];
        playout.pull(now, &mut block);
        heard.extend_from_slice(&block);
        stats.push(playout.stats());
    }
    (stats, heard)
}

const NO_COPIES: Copies = Copies { count: 0, spacing: 0 };

#[test]
fn the_first_packet_of_a_pause_announces_it_and_nothing_follows_but_noise() {
    for frame in [FrameLength::Ms10, FrameLength::Ms20, FrameLength::Ms40, FrameLength::Ms60] {
        for level in [0.0, 0.002] {
            let sent = encode(&said(level), frame, NO_COPIES);
            let per_second = 1_000 / usize::from(frame.ms());
            // Until it sleeps the encoder takes 200 ms.
            let quiet: Vec<_> =
                sent.iter().filter(|(n, _)| (4 * per_second..9 * per_second).contains(n)).collect();
            let rests: Vec<bool> = quiet.iter().map(|(_, packet)| is_rest(&packet.payload)).collect();
            println!("{frame:?} at {level}: {} packets in 5 s", quiet.len());
            assert!((22..=30).contains(&quiet.len()), "{frame:?} at {level}: {}", quiet.len());
            assert!(rests.windows(2).all(|two| two[0] != two[1]), "in turns: {rests:?}");
            for pair in quiet.windows(2) {
                let (ms, rest) =
                    ((pair[1].0 - pair[0].0) * usize::from(frame.ms()), is_rest(&pair[0].1.payload));
                // The announcement follows the noise at once, the next noise after 400 ms.
                let right = if rest { (340..=420).contains(&ms) } else { ms == usize::from(frame.ms()) };
                assert!(right, "{frame:?}: {ms} ms after {rest}");
            }
        }
    }
}

#[test]
fn nothing_of_a_pause_is_lost_or_late_and_its_noise_goes_on() {
    for frame in [FrameLength::Ms10, FrameLength::Ms20, FrameLength::Ms60] {
        for (level, jitter) in [(0.002, 0), (0.0, 0), (0.002, 25)] {
            let sent = encode(&said(level), frame, NO_COPIES);
            let (stats, heard) = play(&sent, frame, |place, _| Some((place as u64 * 7) % (jitter + 1)));
            let name = format!("{frame:?} at {level} with {jitter} ms of jitter");
            let end = stats.last().unwrap();
            println!("{name}: {:?} of noise, {:?} concealed", end.comfort_noise, end.concealed);
            assert_eq!((end.lost, end.resets), (0, 0), "{name}: {end:?}");
            assert!(end.comfort_noise > Duration::from_millis(4_000), "{name}: {end:?}");
            // When the jitter is known nothing is late, nor made up as for a loss.
            let known = stats[if jitter > 0 { 300 } else { 0 }];
            assert_eq!((end.late, end.concealed), (known.late, known.concealed), "{name}: {end:?}");
            for pair in stats.windows(2) {
                assert!(pair[1].concealed >= pair[0].concealed, "{name}: it was something else");
                assert!(pair[1].concealed_frames >= pair[0].concealed_frames, "{name}");
            }
            // The noise, by the tenth of a second.
            let levels: Vec<u8> = heard[48_000 * 4..48_000 * 89 / 10]
                .chunks_exact(4_800)
                .map(|part| level::dbov(level::rms(part)))
                .collect();
            // It was -59 dBov, up to 24 kHz; what libopus makes has the lower third of that. 127 would be silence.
            let right = |l: &u8| if level > 0.0 { (61..=71).contains(l) } else { *l > 80 };
            assert!(levels.iter().all(right), "{name}: it comes and goes: {levels:?}");
        }
    }
}

#[test]
fn losses_in_pauses_count_as_such_and_the_pause_does_not() {
    let frame = FrameLength::Ms20;
    for (name, copies) in [("plain", NO_COPIES), ("with copies", Copies { count: 1, spacing: 2 })] {
        let sent = encode(&said(0.002), frame, copies);
        let mut gone = 0;
        // One in five, of all kinds: the announcements, the noise and the first words.
        let (stats, _) = play(&sent, frame, |place, at| {
            let lost = place % 5 == 3 && (1_000..11_000).contains(&at);
            gone += u64::from(lost);
            (!lost).then_some(0)
        });
        let end = stats.last().unwrap();
        println!("{name}: {gone} gone, {end:?}");
        assert_eq!((end.lost, end.resets), (gone, 0), "{name}");
        let (before, after) = (stats[400], stats[890]);
        // As much as the packets that were lost held, and what was waited for when an announcement was.
        let lost = (after.lost - before.lost) as u32;
        assert!(lost > 3);
        assert!(after.concealed - before.concealed <= Duration::from_millis(20) * lost, "{name}: {after:?}");
        assert!(after.comfort_noise - before.comfort_noise > Duration::from_millis(4_000), "{name}");
    }
}

#[test]
fn a_peer_that_stops_sending_without_a_word_has_lost_nothing() {
    let sent = encode(&speech(12.0), FrameLength::Ms20, NO_COPIES);
    // Muted from 3 to 8 s: no packet is made, so no number is left out.
    let mut sequence = 0;
    let muted: Vec<_> = sent
        .into_iter()
        .filter(|(n, _)| !(150..400).contains(n))
        .map(|(n, packet)| {
            sequence += 1;
            (n, Packet { sequence, ..packet })
        })
        .collect();
    let (stats, _) = play(&muted, FrameLength::Ms20, |_, _| Some(0));
    let end = stats.last().unwrap();
    assert_eq!((end.lost, end.late, end.resets, end.concealed), (0, 0, 0, Duration::ZERO), "{end:?}");
}
