//! Encoder and decoder together.

use super::{encoder::MIN_BITRATE, *};
use crate::{
    SAMPLE_RATE,
    format::{Format, FrameLength},
};

/// A steady vowel.
pub(crate) fn voice(n: usize, from: usize) -> Vec<f32> {
    (from..from + n)
        .map(|i| {
            let t = i as f32 / 48_000.0;
            (1..20).map(|h| (t * 140.0 * h as f32 * std::f32::consts::TAU).sin() / h as f32).sum::<f32>()
                * 0.15
        })
        .collect()
}

pub(crate) fn packet_of(encoder: &mut Encoder, frame: &[f32]) -> Vec<u8> {
    match encoder.encode(frame).unwrap() {
        Encoded::Packet(payload) => payload.to_vec(),
        Encoded::Silence => panic!("a frame was left out"),
    }
}

#[test]
fn each_frame_length_is_encoded_and_described() {
    for frame in [FrameLength::Ms10, FrameLength::Ms20, FrameLength::Ms40, FrameLength::Ms60] {
        let mut encoder = Encoder::new(Format::new(frame)).unwrap();
        let n = frame.samples();
        let payload = packet_of(&mut encoder, &voice(n, 0));
        let head = packet::head(&payload).unwrap();
        assert_eq!(head.samples, n, "{frame:?}");
        let mut out = vec![0.0; packet::MAX_SAMPLES];
        assert_eq!(Decoder::new().unwrap().decode(&payload, &mut out).unwrap(), n);
    }
}

#[test]
fn redundancy_is_present_and_found_at_the_default_settings() {
    let mut encoder = Encoder::new(Format::default()).unwrap();
    let with = (0..50)
        .filter(|i| packet::head(&packet_of(&mut encoder, &voice(960, i * 960))).unwrap().redundancy)
        .count();
    assert!(with >= 20, "{with} of 50 packets of voice carry redundancy");
    encoder.set_expected_loss(0).unwrap();
    let without = (0..50)
        .filter(|i| packet::head(&packet_of(&mut encoder, &voice(960, i * 960))).unwrap().redundancy)
        .count();
    assert!(without <= 1, "{without} of 50 packets carry redundancy though no loss is expected");
}

#[test]
fn a_lost_frame_comes_back_from_the_packet_after_it() {
    let mut encoder = Encoder::new(Format::default()).unwrap();
    let packets: Vec<_> = (0..20).map(|i| packet_of(&mut encoder, &voice(960, i * 960))).collect();
    let run = |lost: Option<usize>| {
        let mut decoder = Decoder::new().unwrap();
        let mut all = Vec::new();
        let mut out = vec![0.0; packet::MAX_SAMPLES];
        for (i, p) in packets.iter().enumerate() {
            let n = match lost == Some(i) {
                true => decoder.recover(&packets[i + 1], &mut out[..960]).unwrap(),
                false => decoder.decode(p, &mut out).unwrap(),
            };
            all.extend_from_slice(&out[..n]);
        }
        all
    };
    let (whole, recovered) = (run(None), run(Some(15)));
    let (a, b) = (&whole[15 * 960..16 * 960], &recovered[15 * 960..16 * 960]);
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    let similarity = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    assert!(similarity > 0.8, "{similarity}");
}

/// libopus would conceal it and say nothing.
#[test]
fn what_cannot_be_recovered_is_an_error() {
    let packets = |bitrate: u32, fec: bool| -> Vec<_> {
        let mut encoder = Encoder::new(Format::default()).unwrap();
        encoder.set_bitrate(bitrate).unwrap();
        encoder.set_fec(fec).unwrap();
        encoder.set_expected_loss(if fec { 20 } else { 0 }).unwrap();
        (0..20).map(|i| packet_of(&mut encoder, &voice(960, i * 960))).collect()
    };
    let (voiced, music) = (packets(32_000, true), packets(96_000, false));
    let head = |payload: &[u8]| packet::head(payload).unwrap();
    assert!(head(&voiced[10]).redundancy && !head(&voiced[10]).celt && head(&music[10]).celt);
    let mut out = vec![0.0; packet::MAX_SAMPLES];
    let mut after = |last: &[u8], with: &[u8], samples: usize| {
        let mut decoder = Decoder::new().unwrap();
        decoder.decode(last, &mut out).unwrap();
        decoder.recover(with, &mut out[..samples]).is_ok()
    };
    assert!(after(&voiced[8], &voiced[10], 960));
    assert!(!after(&music[8], &voiced[10], 960), "the decoder was in another mode");
    assert!(!after(&voiced[8], &music[10], 960), "a packet of music has none");
    assert!(!after(&voiced[8], &voiced[10], 480), "it is of a whole frame");
}

#[test]
fn a_low_voice_keeps_its_phases() {
    // Strong in its lowest harmonics, as real men's voices are, and louder and softer as in words.
    let said: Vec<f32> = (0..96_000)
        .map(|i| {
            let t = f64::from(i) / 48_000.0;
            let pitch = 95.0 * t + (t * 5.0).sin();
            let wave: f64 =
                (1..16).map(|h| (pitch * f64::from(h) * std::f64::consts::TAU).sin() / f64::from(h)).sum();
            (0.1 * wave * (t * 9.0).sin().abs()) as f32
        })
        .collect();
    let (mut encoder, mut decoder) = (Encoder::new(Format::default()).unwrap(), Decoder::new().unwrap());
    let mut heard = Vec::new();
    let mut out = vec![0.0; packet::MAX_SAMPLES];
    for frame in said.chunks(960) {
        let payload = packet_of(&mut encoder, frame);
        let n = decoder.decode(&payload, &mut out).unwrap();
        heard.extend_from_slice(&out[..n]);
    }
    let found = crate::measure::align(&said, &heard, SAMPLE_RATE);
    assert!(found.correlation > 0.97, "{found:?}: is a filter in the way?");
}

#[test]
fn nothing_is_an_error_and_not_concealment() {
    let mut out = vec![0.0; packet::MAX_SAMPLES];
    assert!(Decoder::new().unwrap().decode(&[], &mut out).is_err());
}

#[test]
fn settings_stay_within_what_the_codec_and_the_format_allow() {
    let mut encoder = Encoder::new(Format::default().max_bitrate(24_000)).unwrap();
    assert_eq!(encoder.bitrate(), 24_000);
    encoder.set_bitrate(1).unwrap();
    assert_eq!(encoder.bitrate(), MIN_BITRATE);
    encoder.set_bitrate(u32::MAX).unwrap();
    assert_eq!(encoder.bitrate(), 24_000);
    encoder.set_expected_loss(255).unwrap();
    encoder.set_complexity(255).unwrap();
    assert_eq!(encoder.lookahead(), 312, "6.5 ms for voice");
}

/// Real speech, nine seconds (examples/assets/README.md): neural networks that were trained on voices do not take
/// synthetic ones for such.
pub(crate) fn speech() -> Vec<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/assets/speech-a.wav");
    let mut reader = hound::WavReader::open(path).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (16_000, 1));
    let samples: Vec<_> = reader.samples::<i16>().map(|v| f32::from(v.unwrap()) / 32_768.0).collect();
    samples
        .windows(2)
        .flat_map(|pair| [0.0, 1.0, 2.0].map(|n| pair[0] + (pair[1] - pair[0]) * n / 3.0))
        .collect()
}

/// Difference of two sounds in what is heard of them: mean distance of log power in bands of a third of an octave
/// from 100 Hz to 4 kHz and frames of 20 ms, in dB. Phases do not count, which no concealment can know.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let bands = |frame: &[f32]| -> Vec<f64> {
        (0..17)
            .map(|band| {
                let f = 100.0 * 2f64.powf(f64::from(band) / 3.0);
                let (mut re, mut im) = (0.0, 0.0);
                // The middle of the band and two beside it.
                let mut power = 0.0;
                for detune in [0.93, 1.0, 1.07] {
                    for (i, v) in frame.iter().enumerate() {
                        let window = (i as f64 / frame.len() as f64 * std::f64::consts::PI).sin().powi(2);
                        let angle = i as f64 * f * detune / f64::from(SAMPLE_RATE) * std::f64::consts::TAU;
                        re += f64::from(*v) * window * angle.cos();
                        im += f64::from(*v) * window * angle.sin();
                    }
                    power += re * re + im * im;
                    (re, im) = (0.0, 0.0);
                }
                10.0 * (power + 1e-3).log10()
            })
            .collect()
    };
    let mut sum = (0.0, 0.0);
    for (x, y) in a.chunks_exact(960).zip(b.chunks_exact(960)) {
        for (x, y) in bands(x).into_iter().zip(bands(y)) {
            sum = (sum.0 + (x - y).abs(), sum.1 + 1.0);
        }
    }
    sum.0 / sum.1
}

/// Plays packets and makes up those of `lost` in one way or another; tells what was played instead of the lost ones.
fn play_with_losses(
    packets: &[Vec<u8>],
    complexity: u8,
    lost: impl Fn(usize) -> bool,
    deep: bool,
) -> (Vec<f32>, usize) {
    let mut decoder = Decoder::with_complexity(complexity).unwrap();
    let (mut heard, mut covered) = (Vec::new(), 0);
    let mut out = vec![0.0; packet::MAX_SAMPLES];
    for (i, payload) in packets.iter().enumerate() {
        if !lost(i) {
            decoder.decode(payload, &mut out).unwrap();
            heard.extend_from_slice(&out[..960]);
            continue;
        }
        let next = (i..packets.len()).find(|&n| !lost(n)).filter(|_| deep);
        let before = next.map_or(0, |next| decoder.read_dred(&packets[next]).unwrap().end);
        let offset = next.map_or(0, |next| (next - i) * 960);
        if next.is_some() && offset <= before {
            covered += 1;
            decoder.dred(offset, &mut out[..960]).unwrap();
        } else {
            decoder.conceal(&mut out[..960]).unwrap();
        }
        heard.extend_from_slice(&out[..960]);
    }
    (heard, covered)
}

#[test]
fn deep_redundancy_and_deep_concealment_are_there_and_better_than_classic() {
    let said = speech();
    let mut encoder = Encoder::new(Format::default()).unwrap();
    encoder.set_bitrate(40_000).unwrap();
    encoder.set_expected_loss(20).unwrap();
    encoder.set_fec(false).unwrap();
    encoder.set_dred(500).unwrap();
    let packets: Vec<_> = said.chunks_exact(960).map(|frame| packet_of(&mut encoder, frame)).collect();
    // Four in a row of every twenty.
    let lost = |i: usize| i >= 40 && i % 20 < 4;
    let (whole, _) = play_with_losses(&packets, 5, |_| false, false);
    let only_lost = |all: &[f32]| -> Vec<f32> {
        (0..packets.len()).filter(|&i| lost(i)).flat_map(|i| all[i * 960..(i + 1) * 960].to_vec()).collect()
    };
    let original = only_lost(&whole);
    let figure = |complexity: u8, deep: bool| {
        let (heard, covered) = play_with_losses(&packets, complexity, lost, deep);
        (distance(&original, &only_lost(&heard)), covered)
    };
    let (classic, _) = figure(0, false);
    let (concealed, _) = figure(5, false);
    let (redundant, covered) = figure(5, true);
    let n = (0..packets.len()).filter(|&i| lost(i)).count();
    println!(
        "classic {classic:.1} dB, deep concealment {concealed:.1} dB, deep redundancy {redundant:.1} dB; {covered} of {n} covered"
    );
    assert!(covered * 10 >= n * 9, "{covered} of {n}");
    assert!(concealed < classic - 2.0, "{concealed} {classic}");
    assert!(redundant < concealed - 0.5, "{redundant} {concealed}");
}

/// Deep redundancy is of what was said, and not of the silence after it: there it ends before the packet.
#[test]
fn deep_redundancy_tells_where_it_ends() {
    let mut said = speech()[48_000..48_000 * 3].to_vec();
    said.extend((0..48_000).map(|i| if i % 7 == 0 { 2e-4 } else { -1e-4 }));
    let mut encoder = Encoder::new(Format::default()).unwrap();
    encoder.set_bitrate(40_000).unwrap();
    encoder.set_expected_loss(20).unwrap();
    encoder.set_fec(false).unwrap();
    encoder.set_dred(500).unwrap();
    let mut decoder = Decoder::new().unwrap();
    let reach: Vec<_> = said
        .chunks_exact(960)
        .map(|frame| decoder.read_dred(&packet_of(&mut encoder, frame)).unwrap())
        .collect();
    println!("{reach:?}");
    assert!(reach.iter().all(|reach| reach.start <= reach.end));
    assert!(reach[30..98].iter().filter(|reach| reach.start < 960 && reach.end > 9_600).count() > 50);
    // It is of what was said before the silence, which becomes longer.
    let silent: Vec<_> = reach[113..].iter().filter(|reach| !reach.is_empty()).collect();
    assert!(silent.iter().all(|reach| reach.start >= 960), "{silent:?}");
}

#[test]
fn deep_redundancy_is_measured_in_tens_of_milliseconds() {
    let said = &speech()[48_000..48_000 * 4];
    let reach = |ms: u16| {
        let mut encoder = Encoder::new(Format::default()).unwrap();
        encoder.set_bitrate(128_000).unwrap();
        encoder.set_expected_loss(30).unwrap();
        encoder.set_fec(false).unwrap();
        encoder.set_dred(ms).unwrap();
        assert_eq!(encoder.dred(), ms / 10 * 10);
        let mut decoder = Decoder::new().unwrap();
        let covered = said
            .chunks_exact(960)
            .map(|frame| decoder.read_dred(&packet_of(&mut encoder, frame)).unwrap().end);
        covered.max().unwrap()
    };
    let reached = [0, 100, 200, 500, 1000].map(reach);
    println!("{reached:?}");
    assert_eq!(reached[0], 0);
    for (samples, ms) in reached.into_iter().zip([0, 100, 200, 500, 1000]) {
        // Coded in pieces of 40 ms.
        assert!(samples.abs_diff(ms * 48) <= 40 * 48, "{ms} ms: {samples} samples");
    }
}

/// Root of the mean square, in dB of full scale.
fn level(samples: &[f32]) -> f64 {
    let power = samples.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / samples.len() as f64;
    10.0 * (power + 1e-12).log10()
}

#[test]
fn what_is_left_out_becomes_noise_about_as_loud() {
    let mut seed = 1_u32;
    let mut noise = |gain: f32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        gain * (seed as f32 / u32::MAX as f32 - 0.5)
    };
    let mut said: Vec<f32> = speech()[..48_000 * 2].iter().map(|v| v + noise(0.005)).collect();
    said.extend((0..48_000 * 6).map(|_| noise(0.005)));
    let mut encoder = Encoder::new(Format::default()).unwrap();
    encoder.set_dtx(true).unwrap();
    let packets: Vec<Option<Vec<u8>>> = said
        .chunks_exact(960)
        .map(|frame| match encoder.encode(frame).unwrap() {
            Encoded::Packet(payload) => Some(payload.to_vec()),
            Encoded::Silence => None,
        })
        .collect();
    let sent = packets.iter().flatten().count();
    assert!(sent < 200, "{sent} of 400");
    for complexity in [0, 5, 10] {
        let mut decoder = Decoder::with_complexity(complexity).unwrap();
        let (mut heard, mut out) = (Vec::new(), vec![0.0; packet::MAX_SAMPLES]);
        for payload in &packets {
            match payload {
                Some(payload) => decoder.decode(payload, &mut out).unwrap(),
                None => decoder.comfort(&mut out[..960]).unwrap(),
            };
            heard.extend_from_slice(&out[..960]);
        }
        // The last four seconds, by the tenth of one.
        let levels: Vec<_> = heard[48_000 * 4..].chunks_exact(4_800).map(level).collect();
        let (mean, original) = (level(&heard[48_000 * 4..]), level(&said[48_000 * 4..]));
        println!("complexity {complexity}: {mean:.1} dB where {original:.1} dB were left out");
        // Noise is made up to 8 kHz, a third of what the white one had: 4.8 dB less.
        assert!((mean - (original - 4.8)).abs() < 6.0, "{mean} {original}");
        assert!(levels.iter().all(|level| (level - mean).abs() < 2.5), "it comes and goes: {levels:.0?}");
    }
}

/// libopus makes silence of a frame with them; otherwise they would stay in filters and networks for ever.
#[test]
fn numbers_that_are_none_are_forgotten() {
    let said = &speech()[48_000..48_000 * 3];
    for (bitrate, dred, fec) in [(24_000, 0, true), (48_000, 300, false), (128_000, 0, false)] {
        let run = |broken: &[f32]| {
            let mut encoder = Encoder::new(Format::default()).unwrap();
            encoder.set_bitrate(bitrate).unwrap();
            encoder.set_expected_loss(20).unwrap();
            encoder.set_dred(dred).unwrap();
            encoder.set_fec(fec).unwrap();
            let (mut decoder, mut out) = (Decoder::new().unwrap(), vec![0.0; packet::MAX_SAMPLES]);
            let (mut heard, mut reached) = (Vec::new(), 0);
            for (n, frame) in said.chunks_exact(960).enumerate() {
                let mut frame = frame.to_vec();
                if (10..20).contains(&n) && !broken.is_empty() {
                    frame.iter_mut().zip(broken.iter().cycle()).for_each(|(v, broken)| *v = *broken);
                }
                let payload = packet_of(&mut encoder, &frame);
                reached = decoder.read_dred(&payload).unwrap().end;
                decoder.decode(&payload, &mut out).unwrap();
                heard.extend_from_slice(&out[..960]);
                if reached > 0 && n == 99 {
                    decoder.dred(960 * 5, &mut out[..960 * 4]).unwrap();
                    assert!(out[..960 * 4].iter().all(|v| v.is_finite()));
                }
            }
            (heard.split_off(48_000), reached)
        };
        let (whole, reached) = run(&[]);
        for broken in [&[f32::NAN][..], &[f32::INFINITY, f32::NEG_INFINITY, 0.0], &[1e30, -1e30, 3.0], &[1e9]]
        {
            let (heard, after) = run(broken);
            let error: f64 = distance(&whole, &heard);
            println!("{bitrate} {broken:?}: {error:.2} dB, {after} of {reached} samples");
            assert!(
                error < 2.5 && after * 10 >= reached * 9,
                "{bitrate} {broken:?}: {error} dB, {after} of {reached}"
            );
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// libopus ends the whole process where an assertion of its own fails, so whatever comes must not get there.
    #[test]
    fn broken_redundancy_makes_no_worse_than_noise(
        first in 0..40_usize,
        flips in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 1..=255_u8), 0..12),
        cut in proptest::prelude::any::<proptest::sample::Index>(),
        wishes in proptest::collection::vec((0..600_usize, 1..49_usize, 0..4_u8), 1..12),
    ) {
        use std::sync::LazyLock;
        static PACKETS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
            let mut encoder = Encoder::new(Format::default()).unwrap();
            encoder.set_bitrate(64_000).unwrap();
            encoder.set_expected_loss(25).unwrap();
            encoder.set_dred(1_040).unwrap();
            speech()[48_000..96_000].chunks_exact(960).map(|frame| packet_of(&mut encoder, frame)).collect()
        });
        let mut decoder = Decoder::new().unwrap();
        let mut out = vec![0.0; packet::MAX_SAMPLES];
        decoder.decode(&PACKETS[first], &mut out).unwrap();
        let mut broken = PACKETS[first + 9].clone();
        for (at, by) in flips {
            let at = at.index(broken.len());
            broken[at] ^= by;
        }
        if cut.index(4) == 0 {
            broken.truncate(cut.index(broken.len()));
        }
        let finite = |n: Result<usize, Error>, out: &[f32]| {
            n.is_err() || out[..n.unwrap()].iter().all(|v| v.is_finite() && v.abs() < 100.0)
        };
        let covered = decoder.read_dred(&broken).map_or(0, |reach| reach.end);
        proptest::prop_assert!(covered <= 48_000);
        for (offset, pieces, how) in wishes {
            let out = &mut out[..pieces * 120];
            let made = match how {
                0 => decoder.conceal(out),
                1 => decoder.recover(&broken, out),
                _ => decoder.dred(offset * 120, out),
            };
            proptest::prop_assert!(finite(made, out), "offset {offset}, {pieces} pieces, {how}");
        }
        let made = decoder.decode(&broken, &mut out);
        proptest::prop_assert!(finite(made, &out));
        let made = decoder.conceal(&mut out[..960]);
        proptest::prop_assert!(finite(made, &out));
        proptest::prop_assert!(decoder.dred(usize::MAX, &mut out[..960]).is_err());
    }
}
