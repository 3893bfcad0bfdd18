//! An echo between a speaker and a microphone whose clocks differ, through the real rings and their drift control.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    Processing, Processor,
    tests::{db, noise, speech},
};
use crate::{
    BLOCK, SILENT,
    device::ring::{Running, capture, playback},
    level,
    sink::Sink,
    source::Source,
};

/// From the speaker's callback to the air: 30 ms.
const LATENCY: f64 = 0.030;
const PERIOD: usize = 480;

/// The clock of the made-up devices.
struct Time(Arc<AtomicU64>);

impl Running for Time {
    fn now(&self) -> Option<u64> {
        Some(self.0.load(Relaxed))
    }
}

/// A room of 250 ms as its strongest reflections: places and strengths, the whole 10 dB down.
fn reflections() -> Vec<(usize, f32)> {
    let mut next = noise(5);
    let mut taps = vec![(0, 1.0)];
    for i in 0..100 {
        let at = i * 120 + (next().abs() * 119.0) as usize;
        taps.push((at, next().signum() * 0.3 * 10_f32.powf(-3.0 * at as f32 / 12_000.0)));
    }
    let energy: f32 = taps.iter().map(|t| t.1 * t.1).sum();
    taps.iter().map(|(at, size)| (*at, size * (0.1 / energy).sqrt())).collect()
}

/// The value between samples, by a windowed sinc.
fn between(samples: &[f32], at: f64) -> f32 {
    let (whole, part) = (at.floor() as i64, at.fract());
    // sin(k pi - x) is sin(x) with the sign of each second k turned, and the window's cosine is one that turns on by the
    // same angle with each k: four calls of the library instead of sixty-four.
    let sine = (part * std::f64::consts::PI).sin();
    let step = std::f64::consts::PI / 16.5;
    let (turn_sin, turn_cos) = step.sin_cos();
    let (mut window_sin, mut window_cos) = ((-15.0 - part) * step).sin_cos();
    (-15..=16)
        .map(|k: i64| {
            let x = (k as f64 - part) * std::f64::consts::PI;
            let sinc = match x {
                x if x.abs() < 1e-9 => 1.0,
                x if k % 2 == 0 => -sine / x,
                x => sine / x,
            };
            let window = 0.5 + 0.5 * window_cos;
            (window_sin, window_cos) = (
                window_sin * turn_cos + window_cos * turn_sin,
                window_cos * turn_cos - window_sin * turn_sin,
            );
            let sample = usize::try_from(whole + k).ok().and_then(|i| samples.get(i)).copied().unwrap_or(0.0);
            sample * (sinc * window) as f32
        })
        .sum()
}

/// How much the echo is down in each 10 s.
fn run(speaker_ppm: f64, microphone_ppm: f64) -> Vec<f32> {
    let far: Vec<f32> = speech("speech-a")[48_000..8 * 48_000].iter().map(|s| s * 1.2).collect();
    let taps = reflections();
    let time = Arc::new(AtomicU64::new(0));
    let at = |seconds: f64| time.store((seconds * 1e9) as u64, Relaxed);
    let (mut speaker, parts) = playback(48_000, PERIOD as u32).unwrap();
    let mut sink = parts.run(Box::new(Time(Arc::clone(&time))));
    let (mut microphone, parts) = capture(48_000, PERIOD as u32).unwrap();
    let mut source = parts.run(Box::new(Time(Arc::clone(&time))));
    let (out_rate, in_rate) =
        (48_000.0 * (1.0 + speaker_ppm * 1e-6), 48_000.0 * (1.0 + microphone_ppm * 1e-6));
    // Played, and its echo, in the speaker's samples.
    let (mut played, mut echo, mut captured) = (Vec::<f32>::new(), Vec::<f32>::new(), 0_usize);
    let mut hiss = noise(9);
    let mut processor = Processor::default();
    processor.set(Processing::off().echo(true));
    let (mut before, mut after, mut down) = (Vec::new(), Vec::new(), Vec::new());
    for tick in 0..4_000_usize {
        let now = tick as f64 * 0.010;
        while (played.len() + PERIOD) as f64 / out_rate <= now {
            at((played.len() + PERIOD) as f64 / out_rate);
            speaker.called_at(time.load(Relaxed));
            speaker.drain(PERIOD, Duration::from_millis(20), |s| played.push(s));
            for i in echo.len()..played.len() {
                let sum = taps.iter().map(|(at, size)| if i >= *at { played[i - at] * size } else { 0.0 });
                echo.push(sum.sum());
            }
        }
        while (captured + PERIOD) as f64 / in_rate <= now {
            at((captured + PERIOD) as f64 / in_rate);
            let heard: Vec<f32> = (captured..captured + PERIOD)
                .map(|i| between(&echo, (i as f64 / in_rate - LATENCY) * out_rate) + 1.8e-4 * 1.73 * hiss())
                .collect();
            microphone.called_at(time.load(Relaxed));
            microphone.feed(heard.into_iter(), Duration::from_millis(10));
            captured += PERIOD;
        }
        at(now);
        let mut block = SILENT;
        source.read(&mut block);
        before.push(level::rms(&block).powi(2));
        processor.clean(&mut block);
        after.push(level::rms(&block).powi(2));
        let mix = std::array::from_fn(|i| far[(tick * BLOCK + i) % far.len()]);
        sink.write(&mix);
        processor.reference(&mix);
        processor.device_delay(source.gauge().latency() + sink.gauge().latency());
        if before.len() == 1_000 {
            let ratio = before.drain(..).sum::<f32>() / after.drain(..).sum::<f32>();
            down.push(db(ratio) / 2.0);
        }
    }
    let gauges = (source.gauge(), sink.gauge());
    assert_eq!((gauges.0.xruns, gauges.1.xruns), (0, 0));
    println!(
        "speaker {speaker_ppm:+} ppm, microphone {microphone_ppm:+} ppm: {down:.1?}, found {:?}",
        processor.stats().echo_delay
    );
    down
}

#[test]
fn an_echo_is_taken_out_though_speaker_and_microphone_have_clocks_of_their_own() {
    for (speaker, microphone) in [(0.0, 0.0), (300.0, -300.0), (-300.0, 300.0)] {
        let down = run(speaker, microphone);
        // While the rings still find the devices' rates the echo moves; 20 s later it must not.
        assert!(down[2] >= 30.0 && down[3] >= 35.0, "{down:?}");
        if speaker == microphone {
            assert!(down[1] >= 35.0, "{down:?}");
        }
    }
}
