//! The microphone's side of an engine on a virtual clock: processing that is switched, automute, hints.

// A failure here is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant, SystemTime};

use common::{Log, PEER};
use host_media::{
    BLOCK, Builder, Controls, EncodedFrame, Engine, Event, MemorySink, MemorySource, NoiseLevel, Packet,
    PayloadKind, Processing, SinkSpec, SourceSpec, Speaker, TICK, measure,
};

const START: SystemTime = SystemTime::UNIX_EPOCH;

/// Real speech in 16 kHz, and the rate.
fn speech() -> Vec<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/assets/speech-a.wav");
    let mut reader = hound::WavReader::open(path).unwrap();
    reader.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_768.0).collect()
}

/// Silence with a microphone's noise (-75 dBov) for as long, at 16 kHz.
fn pause(seconds: f64) -> Vec<f32> {
    let mut seed = 17_u32;
    (0..(seconds * 16_000.0) as usize)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed as f32 / u32::MAX as f32 - 0.5) * 6e-4
        })
        .collect()
}

struct Said {
    /// With the tick at which each came.
    events: Vec<(u64, Event)>,
    frames: Vec<EncodedFrame>,
    controls: Controls,
}

/// Runs an engine over these samples of 16 kHz; `each` may turn knobs before a tick.
fn say(samples: &[f32], builder: Builder, mut each: impl FnMut(u64, &Controls)) -> Said {
    let log = Log::default();
    let start = Instant::now();
    let mut core = log
        .attach(builder)
        .source(SourceSpec::Memory(MemorySource::with_rate(samples, 16_000)))
        .sink(SinkSpec::Null)
        .build(start, START)
        .unwrap();
    let controls = core.controls();
    let mut events = Vec::new();
    for tick in 0..samples.len() as u64 / 160 {
        each(tick, &controls);
        core.tick(start + TICK * tick as u32);
        events.extend(log.events.lock().unwrap().drain(..).map(|e| (tick, e)));
    }
    let frames = std::mem::take(&mut *log.frames.lock().unwrap());
    Said { events, frames, controls }
}

/// What the far end hears.
fn hear(frames: &[EncodedFrame]) -> Vec<f32> {
    let heard = MemorySink::new();
    let start = Instant::now();
    let mut core = Engine::builder()
        .source(SourceSpec::Silence)
        .sink(SinkSpec::Memory(heard.clone()))
        .build(start, START)
        .unwrap();
    let input = core.controls().add_peer(PEER).unwrap();
    for (i, frame) in frames.iter().enumerate() {
        let now = start + TICK * (frame.timestamp / BLOCK as u32);
        let packet = Packet {
            sequence: i as u16,
            timestamp: frame.timestamp,
            payload: frame.payload.clone(),
            kind: PayloadKind::Opus,
        };
        input.push(packet, now);
        core.tick(now);
        core.tick(now + TICK);
    }
    heard.take()
}

fn told(said: &Said, wanted: impl Fn(&Event) -> bool) -> Vec<u64> {
    said.events.iter().filter(|(_, e)| wanted(e)).map(|(t, _)| *t).collect()
}

#[test]
fn automute_mutes_in_pauses_and_cuts_no_syllable() {
    let samples = [speech(), pause(3.0), speech(), pause(3.0)].concat();
    let open = say(&samples, Engine::builder(), |_, _| {});
    let auto = say(&samples, Engine::builder().automute(true), |_, _| {});
    assert_eq!(told(&open, |e| matches!(e, Event::Automuted { .. })), [], "off by default");
    let muted = told(&auto, |e| *e == Event::Automuted { muted: true });
    let opened = told(&auto, |e| *e == Event::Automuted { muted: false });
    println!("muted at {muted:?}, opened at {opened:?}");
    assert!((2..=4).contains(&muted.len()) && auto.controls.stats().voice.automuted);
    // The first syllables after the pause, as they are heard with and without.
    let onset = *opened.last().unwrap() as usize * BLOCK;
    let (with, without) = (hear(&auto.frames), hear(&open.frames));
    let delay = measure::align(&without, &with, 48_000).delay_samples;
    assert_eq!(delay, 0, "it delays nothing");
    let first = onset..onset + 300 * 48;
    let lost = 20.0 * (measure::rms(&with[first.clone()]) / measure::rms(&without[first.clone()])).log10();
    let alike = measure::align(&without[first.clone()], &with[first], 48_000);
    println!("the first 300 ms: {lost:+.2} dB, {alike:?}");
    assert!(lost.abs() < 0.3 && alike.correlation > 0.97, "{lost} {alike:?}");
    // And the pause is silent, not merely quiet.
    let pause = (onset - 24_000)..(onset - 4_800);
    assert!(measure::level(&with[pause.clone()]) > 90 && measure::level(&without[pause]) < 90);
}

#[test]
fn who_speaks_while_muted_is_told_once_in_ten_seconds() {
    let samples = [speech(), speech(), speech()].concat();
    let said = say(&samples, Engine::builder(), |tick, controls| {
        if tick == 0 {
            controls.set_muted(true);
        }
    });
    let hints = told(&said, |e| *e == Event::SpeakingWhileMuted);
    println!("told at {hints:?}");
    assert_eq!(hints.len(), 3);
    assert!(hints[0] > 100 && hints[0] < 200, "a word after it began");
    assert!(hints.windows(2).all(|w| w[1] - w[0] >= 1_000));
    assert_eq!(
        told(&said, |e| matches!(e, Event::Speaking { who: Speaker::Local, .. })),
        [],
        "nobody hears it"
    );
    let open = say(&samples, Engine::builder(), |_, _| {});
    assert_eq!(told(&open, |e| *e == Event::SpeakingWhileMuted), []);
    let speaking = told(&open, |e| matches!(e, Event::Speaking { speaking: true, .. }));
    assert!((3..=9).contains(&speaking.len()), "{speaking:?}");
}

#[test]
fn a_microphone_that_gives_nothing_is_told_with_the_time_and_so_is_its_end() {
    let samples = [pause(2.0), vec![0.0; 14 * 16_000], pause(3.0)].concat();
    let said = say(&samples, Engine::builder(), |_, _| {});
    let silent: Vec<_> = said
        .events
        .iter()
        .filter_map(|(tick, e)| match e {
            Event::MicrophoneSilent { since } => Some((*tick, since.duration_since(START).unwrap())),
            _ => None,
        })
        .collect();
    assert_eq!(silent.len(), 1, "{:?}", said.events);
    let (tick, since) = silent[0];
    assert!((1_195..=1_205).contains(&tick), "{tick}");
    assert!(since.abs_diff(Duration::from_secs(2)) < Duration::from_millis(60), "{since:?}");
    let audible = told(&said, |e| *e == Event::MicrophoneAudible);
    assert!(audible.len() == 1 && (1_595..=1_605).contains(&audible[0]), "{audible:?}");
    // Who is muted expects nothing of a microphone.
    let muted = say(&samples, Engine::builder(), |tick, controls| {
        if tick == 0 {
            controls.set_muted(true);
        }
    });
    assert_eq!(told(&muted, |e| matches!(e, Event::MicrophoneSilent { .. })), []);
}

#[test]
fn processing_is_off_for_files_and_memory_and_can_be_switched_in_mid_call() {
    let samples = speech();
    let said = say(&samples, Engine::builder(), |tick, controls| {
        match tick {
            300 => controls.set_processing(Processing::on()),
            500 => controls.set_processing(Processing::off().noise(Some(NoiseLevel::High))),
            700 => controls.set_processing(None),
            _ => {}
        }
        let stats = controls.stats().voice;
        match tick {
            1..=300 => assert_eq!(stats.processing, Processing::off()),
            302..=500 => {
                assert_eq!(stats.processing, Processing::on());
                assert_eq!(stats.latency.as_millis(), 16);
                assert!(stats.echo_reduction.is_some());
            }
            502..=700 => {
                assert_eq!(stats.latency.as_millis(), 7);
                assert_eq!((stats.processing.echo, stats.processing.noise), (false, Some(NoiseLevel::High)));
            }
            702.. => assert_eq!((stats.processing, stats.latency), (Processing::off(), Duration::ZERO)),
            _ => {}
        }
    });
    assert_eq!(said.controls.processing(), None);
    assert_eq!(said.frames.len(), samples.len() / 320, "no frame is missing");
}
