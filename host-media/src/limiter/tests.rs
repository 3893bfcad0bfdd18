use super::*;
use crate::level;

fn run(input: &[f32]) -> Vec<f32> {
    let mut limiter = Limiter::new();
    let mut out = Vec::new();
    for block in input.as_chunks::<BLOCK>().0 {
        let mut block = *block;
        limiter.process(&mut block);
        out.extend_from_slice(&block);
    }
    out.drain(..Limiter::LOOK_AHEAD);
    out
}

fn sine(amplitude: f32, hz: f32, samples: usize) -> Vec<f32> {
    let turn = f64::from(hz) * std::f64::consts::TAU / 48_000.0;
    (0..samples).map(|i| amplitude * (i as f64 * turn).sin() as f32).collect()
}

/// Everything but the sine itself, in relation to it, in dB.
fn distortion(sound: &[f32], hz: f64) -> f64 {
    let turn = |i: usize| i as f64 * hz * std::f64::consts::TAU / 48_000.0;
    let n = sound.len() as f64;
    let part = |f: fn(f64) -> f64| {
        sound.iter().enumerate().map(|(i, s)| f64::from(*s) * f(turn(i))).sum::<f64>() * 2.0 / n
    };
    let (sin, cos) = (part(f64::sin), part(f64::cos));
    let rest = sound.iter().enumerate().map(|(i, s)| {
        let rest = f64::from(*s) - sin * turn(i).sin() - cos * turn(i).cos();
        rest * rest
    });
    10.0 * (rest.sum::<f64>() / (n * (sin * sin + cos * cos) / 2.0)).log10()
}

#[test]
fn below_the_ceiling_nothing_changes_but_the_time() {
    let input = sine(0.94, 333.0, 48_000);
    assert_eq!(run(&input), input[..48_000 - Limiter::LOOK_AHEAD]);
}

#[test]
fn nothing_passes_above_the_ceiling_whatever_comes() {
    let mut seed = 1_u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(seed) as f32 / u32::MAX as f32
    };
    let mut input: Vec<f32> = (0..480_000)
        .map(|i| {
            let size = if next() > 0.999 { 40.0 } else { ((i / 9_600) % 7) as f32 * 0.4 };
            size * (next() * 2.0 - 1.0)
        })
        .collect();
    input[100] = f32::NAN;
    input[200] = f32::NEG_INFINITY;
    let out = run(&input);
    assert!(out.iter().all(|s| s.abs() <= CEILING));
    assert!(out.iter().any(|s| s.abs() > CEILING * 0.99));
    assert_eq!((out[100], out[200]), (0.0, 0.0), "what is not a number is silence");
}

#[test]
fn steady_loud_sound_is_turned_down_and_not_bent() {
    for hz in [60.0, 100.0, 440.0, 1_000.0, 5_000.0] {
        let out = run(&sine(2.5, hz, 96_000));
        // Half a second in, whole periods.
        let found = distortion(&out[24_000..72_000], f64::from(hz));
        println!("{hz} Hz, 8.4 dB too loud: distortion {found:.1} dB");
        assert!(found < -60.0, "{hz} Hz: {found} dB");
        assert!((level::peak(&out[24_000..]) - CEILING).abs() < 0.005, "{}", level::peak(&out[24_000..]));
    }
}

#[test]
fn what_goes_on_beside_a_bang_is_as_loud_as_before_300_ms_later() {
    let steady = sine(0.3, 300.0, 96_000);
    let mut input = steady.clone();
    for (i, sample) in input[24_000..25_440].iter_mut().enumerate() {
        // 30 ms, 14 dB above full scale in the beginning.
        *sample += 5.0 * (-(i as f32) / 300.0).exp() * (i as f32 * 0.9).sin();
    }
    let out = run(&input);
    let level = |from: usize| {
        20.0 * (level::rms(&out[from..from + 480]) / level::rms(&steady[from..from + 480])).log10()
    };
    for ms in [40, 100, 200, 300] {
        println!("{ms} ms after the bang began: {:+.3} dB", level(24_000 + 48 * ms));
    }
    assert!(level(24_000 + 48 * 40) < -3.0, "the bang did something: {}", level(24_000 + 48 * 40));
    let after = level(25_440 + 48 * 300);
    assert!(after.abs() < 0.1, "{after} dB");
    assert_eq!(out[60_000..90_000], steady[60_000..90_000], "and then not changed at all");
}

#[test]
fn the_gain_comes_down_before_the_peak_and_without_a_step() {
    let mut input = vec![0.5; 4_800];
    input[2_000] = 5.0;
    let out = run(&input);
    assert!((out[2_000] - CEILING).abs() < 1e-4);
    let steps = out[..1_999].windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
    assert!(steps < 0.5 * 1.01 * (1.0 - CEILING / 5.0) / Limiter::LOOK_AHEAD as f32, "{steps}");
}
