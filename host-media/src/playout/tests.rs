//! Whether stretching goes unnoticed.

use super::{
    line::{Line, PAST},
    stretch::{Direction, MOST_LAG, Stretcher},
    warp::Warp,
};
use crate::{BLOCK, level, measure};

/// A vowel: a steady pitch with formants.
fn vowel(pitch: f64, seconds: f64) -> Vec<f32> {
    (0..(seconds * 48_000.0) as usize)
        .map(|i| {
            let t = i as f64 / 48_000.0;
            let wave: f64 = (1..40)
                .map(|h| {
                    let f = pitch * f64::from(h);
                    let peak = |centre: f64, width: f64| (-((f - centre) / width).powi(2)).exp();
                    let gain = peak(650.0, 120.0) + 0.6 * peak(1_100.0, 150.0) + 0.2 * peak(2_600.0, 250.0);
                    (gain + 0.02 / f64::from(h)) * (std::f64::consts::TAU * f * t).sin()
                })
                .sum();
            (0.12 * wave) as f32
        })
        .collect()
}

pub(super) fn noise(n: usize, amplitude: f32) -> Vec<f32> {
    let mut seed = 7_u32;
    (0..n)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            amplitude * ((seed >> 8) as f32 / 8_388_608.0 - 1.0)
        })
        .collect()
}

/// Syllables of a moving pitch, with pauses and some noise.
pub(super) fn speech(seconds: f64) -> Vec<f32> {
    let hiss = noise((seconds * 48_000.0) as usize, 0.001);
    let mut phase = 0.0_f64;
    hiss.iter()
        .enumerate()
        .map(|(i, hiss)| {
            let t = i as f64 / 48_000.0;
            let syllable = (t * 4.0).floor();
            let envelope =
                if syllable as u64 % 6 == 5 { 0.0 } else { ((t * 4.0).fract() * std::f64::consts::PI).sin() };
            phase += (120.0 + 30.0 * (syllable * 1.7).sin() + 10.0 * (t * 9.0).sin()) / 48_000.0;
            let wave: f64 =
                (1..20).map(|h| (phase * f64::from(h) * std::f64::consts::TAU).sin() / f64::from(h)).sum();
            (0.12 * envelope * wave) as f32 + hiss
        })
        .collect()
}

/// Plays all of it in blocks with this much too much (above zero) or too little delay told all the time. At most two
/// blocks lie ahead.
fn play(sound: &[f32], by: i64) -> (Vec<f32>, Warp) {
    let (mut line, mut warp, mut out) = (Line::new(), Warp::new(), Vec::new());
    let mut at = 0;
    loop {
        let ahead = BLOCK + if by > 0 { Warp::AHEAD } else { 0 };
        while line.len() < ahead {
            let Some(next) = sound.get(at..at + 120) else { return (out, warp) };
            line.append(next);
            at += 120;
        }
        // No more urgent than it is.
        warp.tick(0);
        match by {
            by if by > 0 => warp.shorten(&mut line, by),
            by => warp.lengthen(&mut line, -by),
        }
        let mut block = [0.0; BLOCK];
        line.take(&mut block);
        warp.heard(level::rms(&block));
        out.extend_from_slice(&block);
    }
}

fn steepest(sound: &[f32]) -> f32 {
    sound.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max)
}

/// The pitch in Hz: by the best lag over the whole of it, between samples.
fn pitch(sound: &[f32], near: f64) -> f64 {
    // Many periods at once, for precision.
    let like = |lag: usize| -> f64 {
        sound.iter().zip(&sound[lag..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let about = 48_000.0 / near;
    let best = ((about * 0.9) as usize..(about * 1.1) as usize).max_by(|a, b| like(*a).total_cmp(&like(*b)));
    48_000.0 / best.unwrap_or(1) as f64
}

/// Energy in dB by third of an octave or so, from 100 Hz to 4 kHz.
fn spectrum(sound: &[f32]) -> Vec<f64> {
    let n = 4_096;
    let plan = realfft::RealFftPlanner::<f32>::new().plan_fft_forward(n);
    let (mut input, mut output) = (plan.make_input_vec(), plan.make_output_vec());
    let mut power = vec![0.0_f64; n / 2 + 1];
    for piece in sound.chunks_exact(n) {
        for (i, (to, from)) in input.iter_mut().zip(piece).enumerate() {
            *to = from * (0.5 - 0.5 * (std::f32::consts::TAU * i as f32 / n as f32).cos());
        }
        plan.process(&mut input, &mut output).unwrap();
        for (sum, bin) in power.iter_mut().zip(&output) {
            *sum += f64::from(bin.norm_sqr());
        }
    }
    let frames = (sound.len() / n) as f64;
    let hz = 48_000.0 / n as f64;
    (0..12)
        .map(|band| {
            let from = 100.0 * 1.36_f64.powi(band);
            let bins = (from / hz) as usize..(from * 1.36 / hz) as usize + 1;
            10.0 * (power[bins].iter().sum::<f64>() / frames).log10()
        })
        .collect()
}

#[test]
fn a_vowel_keeps_its_pitch_and_its_shape_and_gets_as_long_as_promised() {
    for hz in [80.0, 110.0, 196.0, 310.0] {
        let said = vowel(hz, 6.0);
        for (by, tempo) in [(200_000, 0.25), (50_000, 0.2), (14_000, 0.06), (-80_000, -0.2), (-9_000, -0.1)] {
            let (heard, warp) = play(&said, by);
            let change = 1.0 - heard.len() as f64 / said.len() as f64;
            // The tempo is a share of what is heard, the change one of what was said.
            let promised: f64 = tempo / (1.0 + tempo);
            println!("{hz} Hz, {by} us: {change:.3} of {promised:.3}, {} jumps", warp.jumps);
            assert!(change.abs() <= promised.abs() + 0.02, "{hz} {by}: {change}");
            assert!(change / promised > 0.8, "{hz} {by}: {change} of {promised}");
            let balance = warp.lengthened as i64 - warp.shortened as i64;
            assert!((heard.len() as i64 - said.len() as i64 - balance).abs() < 2_400);
            let found = pitch(&heard[4_800..], hz);
            assert!((found / hz - 1.0).abs() < 0.01, "{hz} {by}: {found}");
            assert!(steepest(&heard) < 1.1 * steepest(&said), "{hz} {by}: a click");
            for (a, b) in spectrum(&said).iter().zip(spectrum(&heard)) {
                // Bands without a harmonic hold nothing but the window's leakage.
                assert!((a - b).abs() < 1.0 || *a < 10.0, "{hz} {by}: {a} {b}");
            }
        }
    }
}

/// How sharply the signal bends, where it does so most: a click does more than anything that a mouth makes.
fn sharpest(sound: &[f32]) -> f32 {
    sound.windows(3).map(|w| (w[2] - 2.0 * w[1] + w[0]).abs()).fold(0.0, f32::max)
}

#[test]
fn a_gliding_voice_has_no_clicks() {
    // Its pitch and its loudness change all the time, so that no two periods are the same.
    let mut phase = 0.0_f64;
    let said: Vec<f32> = (0..480_000)
        .map(|i| {
            let t = f64::from(i) / 48_000.0;
            phase += (130.0 + 50.0 * (t * 4.0).sin()) / 48_000.0;
            let wave: f64 = (1..12).map(|h| (phase * f64::from(h) * std::f64::consts::TAU).sin()).sum();
            (0.05 * wave * (1.0 + 0.6 * (t * 13.0).sin())) as f32
        })
        .collect();
    for by in [200_000, 50_000, 14_000, -80_000, -9_000] {
        let (heard, warp) = play(&said, by);
        println!("{by}: {} jumps, bends {:.2} as sharp", warp.jumps, sharpest(&heard) / sharpest(&said));
        assert!(warp.jumps > 20, "{by}: {}", warp.jumps);
        assert!(sharpest(&heard) < 1.1 * sharpest(&said), "{by}: {} {}", sharpest(&heard), sharpest(&said));
    }
}

#[test]
fn speech_keeps_its_spectrum_and_its_level_and_does_not_click() {
    let said = speech(9.0);
    for by in [200_000, 14_000, -80_000, -9_000] {
        let (heard, warp) = play(&said, by);
        assert!(warp.jumps > 20, "{by}: {}", warp.jumps);
        let worst =
            spectrum(&said).iter().zip(spectrum(&heard)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{by}: {} to {} samples, spectrum within {worst:.2} dB", said.len(), heard.len());
        assert!(worst < 3.0, "{by}: {worst} dB");
        assert!(steepest(&heard) < 1.2 * steepest(&said), "{by}: {} {}", steepest(&heard), steepest(&said));
        let difference = i32::from(measure::level(&said)) - i32::from(measure::level(&heard));
        assert!(difference.abs() <= 1, "{by}: {difference} dB");
    }
}

#[test]
fn what_is_like_nothing_is_left_alone_unless_it_is_urgent() {
    let said = noise(96_000, 0.2);
    assert_eq!(play(&said, 9_000).1.jumps, 0);
    assert_eq!(play(&said, -9_000).1.jumps, 0);
    assert!(play(&said, 200_000).1.jumps > 3, "a burst goes away even in an s");
}

#[test]
fn in_silence_it_is_quick() {
    let said = noise(96_000, 0.001);
    let (heard, warp) = play(&said, 200_000);
    assert!(heard.len() < said.len() / 2, "{}", heard.len());
    assert!(warp.shortened as usize > said.len() / 2);
    assert!(play(&said, -200_000).0.len() > said.len() * 7 / 5);
}

#[test]
fn the_search_finds_the_period_either_way() {
    let mut stretcher = Stretcher::new();
    for hz in [75.0, 133.0, 240.0, 390.0] {
        let mut line = Line::new();
        line.append(&vowel(hz, 0.1));
        line.take(&mut [0.0; PAST]);
        for direction in [Direction::Ahead, Direction::Back] {
            let found = stretcher.search(&line, direction, MOST_LAG).unwrap();
            let periods = found.lag as f64 * hz / 48_000.0;
            assert!((periods - periods.round()).abs() < 0.02 && found.likeness > 0.98, "{hz}: {found:?}");
        }
    }
    let mut short = Line::new();
    short.append(&[0.1; 200]);
    assert_eq!(stretcher.search(&short, Direction::Ahead, MOST_LAG), None);
    assert_eq!(stretcher.search(&short, Direction::Back, MOST_LAG), None);
}
