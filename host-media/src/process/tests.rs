use super::*;
use crate::{
    BLOCK, SILENT, level, measure,
    source::{Read, Source, open_wav},
};

/// Real speech, 48 kHz.
pub(super) fn speech(name: &str) -> Vec<f32> {
    let path = format!("{}/../examples/assets/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    let mut source = open_wav(path.as_ref()).unwrap();
    let mut samples = Vec::new();
    loop {
        let mut block = SILENT;
        let read = source.read(&mut block);
        samples.extend_from_slice(&block);
        if read == Read::Ended {
            return samples;
        }
    }
}

pub(super) fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut seed = seed;
    move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed as f32 / u32::MAX as f32 * 2.0 - 1.0
    }
}

pub(super) fn db(ratio: f32) -> f32 {
    20.0 * ratio.log10()
}

/// Runs samples through the processing, switched as `wanted` says for each block.
fn run(input: &[f32], mut wanted: impl FnMut(usize) -> Processing) -> Vec<f32> {
    let (mut processor, mut voice) = (Processor::default(), Voice::new());
    let mut out = Vec::with_capacity(input.len());
    for (t, block) in input.as_chunks::<BLOCK>().0.iter().enumerate() {
        let mut block = *block;
        processor.set(wanted(t));
        processor.reference(&SILENT);
        processor.clean(&mut block);
        let probability = voice.probability(&block);
        processor.amplify(&mut block, probability);
        out.extend_from_slice(&block);
    }
    out
}

fn latency(wanted: Processing) -> usize {
    let processor = Processor { wanted, ..Processor::default() };
    (processor.stats().latency.as_secs_f64() * 48_000.0).round() as usize
}

#[test]
fn switched_off_it_changes_no_sample() {
    let input = speech("speech-a");
    assert_eq!(run(&input, |_| Processing::off()), input[..input.len() / BLOCK * BLOCK]);
}

#[test]
fn each_part_delays_by_what_it_says() {
    let input = speech("speech-a");
    let off = Processing::off();
    for wanted in [
        off.echo(true),
        off.noise(Some(NoiseLevel::Low)),
        off.gain(true),
        off.high_pass(true),
        off.echo(true).noise(Some(NoiseLevel::Low)),
        Processing::on(),
    ] {
        let out = run(&input, |_| wanted);
        // The high-pass turns phases, which is no delay.
        let input = run(&input, |_| off.high_pass(wanted.high_pass || wanted.echo));
        let found = measure::align(&input[96_000..240_000], &out[96_000..240_000], SAMPLE_RATE);
        println!("{wanted:?}: {} samples, correlation {:.3}", found.delay_samples, found.correlation);
        let wrong = found.delay_samples - latency(wanted) as i64;
        assert!(wrong.abs() <= 12, "{wanted:?}: {found:?}, but says {}", latency(wanted));
        // The gain changes meanwhile.
        assert!(found.correlation > if wanted.gain { 0.8 } else { 0.95 }, "{wanted:?}: {found:?}");
    }
}

/// Amplitude of a frequency.
fn part(sound: &[f32], hz: f64) -> f32 {
    let turn = hz * std::f64::consts::TAU / 48_000.0;
    let (sin, cos) = sound.iter().enumerate().fold((0.0, 0.0), |(sin, cos), (i, s)| {
        let (a, b) = (i as f64 * turn).sin_cos();
        (sin + f64::from(*s) * a, cos + f64::from(*s) * b)
    });
    (2.0 * (sin * sin + cos * cos).sqrt() / sound.len() as f64) as f32
}

#[test]
fn the_high_pass_takes_offset_and_hum_and_leaves_voices() {
    let tones = [20.0, 50.0, 100.0, 150.0, 200.0, 300.0, 1_000.0, 12_000.0];
    let input: Vec<f32> = (0..96_000)
        .map(|i| {
            let at = i as f64 / 48_000.0 * std::f64::consts::TAU;
            0.2 + tones.iter().map(|hz| 0.05 * (at * hz).sin() as f32).sum::<f32>()
        })
        .collect();
    let out = &run(&input, |_| Processing::off().high_pass(true))[48_000..];
    let gain = tones.map(|hz| db(part(out, hz) / 0.05));
    println!("high-pass: {:?} Hz: {gain:.1?} dB", tones);
    let offset = out.iter().sum::<f32>() / out.len() as f32;
    assert!(offset.abs() < 0.002, "offset {offset}");
    assert!(gain[0] < -20.0 && gain[1] < -6.0, "{gain:?}");
    assert!(gain[2] > -1.0 && gain[3..].iter().all(|g| g.abs() < 0.3), "{gain:?}");
}

#[test]
fn noise_is_turned_down_by_its_level_and_the_voice_is_left() {
    let voice = speech("speech-a");
    let mut clean = [&voice[..], &voice, &[0.0; 4 * 48_000]].concat();
    clean.truncate(clean.len() / BLOCK * BLOCK);
    let mut next = noise(3);
    // White noise at -45 dBov, about 20 dB below the voice.
    let hiss: Vec<f32> = (0..clean.len()).map(|_| 0.0056 * 3.0_f32.sqrt() * next()).collect();
    let both: Vec<f32> = clean.iter().zip(&hiss).map(|(a, b)| a + b).collect();
    let quiet = clean.len() - 3 * 48_000..clean.len() - 48_000;
    for (wanted, least) in [
        (NoiseLevel::Low, 5.0),
        (NoiseLevel::Moderate, 10.0),
        (NoiseLevel::High, 14.0),
        (NoiseLevel::VeryHigh, 16.0),
    ] {
        let wanted_only = Processing::off().noise(Some(wanted));
        let out = run(&both, |_| wanted_only);
        let delay = latency(wanted_only);
        let before = level::rms(&both[quiet.clone()]);
        let after = level::rms(&out[quiet.start + delay..quiet.end + delay]);
        // The voice, where it is loud.
        let loud = 11 * 48_000..17 * 48_000;
        let found = measure::align(&clean[loud.clone()], &out[loud.clone()], SAMPLE_RATE);
        let voice = db(level::rms(&out[loud.clone()]) / level::rms(&both[loud]));
        println!(
            "{wanted:?}: noise {:.1} dB, voice {voice:.1} dB, correlation with the clean voice {:.3}",
            db(after / before),
            found.correlation
        );
        assert!(db(after / before) < -least, "{wanted:?}");
        assert!(voice.abs() < 1.5 && found.correlation > 0.95, "{wanted:?}: {voice} {found:?}");
    }
}

/// Level of the loud half of the blocks, in dBov.
fn speech_level(sound: &[f32]) -> f32 {
    let mut levels: Vec<f32> = sound.as_chunks::<BLOCK>().0.iter().map(|b| level::rms(b)).collect();
    levels.sort_by(f32::total_cmp);
    let loud = &levels[levels.len() / 2..];
    db((loud.iter().map(|l| l * l).sum::<f32>() / loud.len() as f32).sqrt())
}

#[test]
fn quiet_and_loud_talkers_end_at_the_same_level() {
    let voice: Vec<f32> = speech("speech-a").into_iter().cycle().take(40 * 48_000).collect();
    let whole = speech_level(&voice);
    let mut found = Vec::new();
    for wanted in [-40.0, -30.0, -20.0, -10.0] {
        let scale = 10.0_f32.powf((wanted - whole) / 20.0);
        let input: Vec<f32> = voice.iter().map(|s| (s * scale).clamp(-1.0, 1.0)).collect();
        let out = run(&input, |_| Processing::off().gain(true));
        let ends = speech_level(&out[30 * 48_000..]);
        println!(
            "talker at {wanted} dBov: {ends:.1} dBov, after 5 s {:.1}",
            speech_level(&out[5 * 48_000..10 * 48_000])
        );
        assert!(out.iter().all(|s| s.abs() <= 0.951));
        found.push(ends);
    }
    let (least, most) = found.iter().fold((0.0_f32, -99.0_f32), |(l, m), f| (l.min(*f), m.max(*f)));
    assert!(most - least < 6.0, "{found:?}");
}

#[test]
fn parts_are_switched_without_a_click() {
    // A low tone: every step of the signal shows as something high.
    let input: Vec<f32> =
        (0..480_000).map(|i| 0.2 * (i as f32 % 240.0 / 240.0 * std::f32::consts::TAU).sin()).collect();
    let on = Processing::off();
    for part in [on.echo(true), on.high_pass(true), on.gain(true), on.noise(Some(NoiseLevel::Low))] {
        let out = run(&input, |t| if (t / 100) % 2 == 1 { part } else { Processing::off() });
        let steepest = out.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
        println!("{part:?}: steepest {steepest:.4} of {:.4}", 0.2 * std::f32::consts::TAU / 240.0);
        assert!(steepest < 0.05, "{part:?}: {steepest}");
        // Off means the source itself, from the second block on.
        assert_eq!(out[205 * BLOCK..300 * BLOCK], input[205 * BLOCK..300 * BLOCK]);
    }
}
