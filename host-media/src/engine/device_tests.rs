//! The engine with a made-up sound system, on a virtual clock: everything between the callbacks of cpal and the frames is
//! what real devices go through.

mod switching;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use super::{Builder, Core, Engine};
use crate::{
    BLOCK, EncodedFrame, Event, MemorySink, MemorySource, Processing, SinkSpec, SourceSpec, TICK,
    device::{
        Direction,
        cpal::fake::{Format, Gear, World},
    },
    measure,
    sink::Write,
    source::Read,
};

/// Something like speech at any time in seconds: syllables, each of another pitch, and pauses.
fn voice(t: f64) -> f32 {
    let syllable = (t * 4.0).floor();
    let within = (t * 4.0).fract();
    if (syllable as i64) % 6 == 5 {
        return 0.0;
    }
    let envelope = (within * std::f64::consts::PI).sin().powf(0.7);
    let pitch = 110.0 + 30.0 * (syllable * 1.7).sin();
    let voiced: f64 =
        (1..12).map(|h| (t * pitch * f64::from(h) * std::f64::consts::TAU).sin() / f64::from(h)).sum();
    (0.1 * envelope * voiced) as f32
}

/// The voice as a device of this rate and these seconds has it.
fn spoken(rate: u32, seconds: f64) -> Vec<f32> {
    (0..(seconds * f64::from(rate)) as usize).map(|i| voice(i as f64 / f64::from(rate))).collect()
}

/// An engine in a made-up world.
struct Stage {
    world: World,
    core: Core,
    start: Instant,
    ticks: u64,
    events: Arc<Mutex<Vec<(f64, Event)>>>,
    frames: Arc<Mutex<Vec<EncodedFrame>>>,
    clock: Arc<Mutex<f64>>,
}

impl Stage {
    fn new(world: &World, source: SourceSpec, sink: SinkSpec) -> Self {
        let start = Instant::now();
        let events: Arc<Mutex<Vec<(f64, Event)>>> = Arc::default();
        let frames: Arc<Mutex<Vec<EncodedFrame>>> = Arc::default();
        let clock: Arc<Mutex<f64>> = Arc::default();
        let (told, made, time) = (Arc::clone(&events), Arc::clone(&frames), Arc::clone(&clock));
        let builder: Builder = Engine::builder()
            .system(world.system())
            .source(source)
            .sink(sink)
            .complexity(0)
            // What the microphone gives is to be recognised.
            .processing(Processing::off())
            .on_event(move |event| told.lock().unwrap().push((*time.lock().unwrap(), event)))
            .on_frame(move |frame| made.lock().unwrap().push(frame));
        let core = builder.build(start, SystemTime::UNIX_EPOCH).unwrap();
        Self { world: world.clone(), core, start, ticks: 0, events, frames, clock }
    }

    fn seconds(&self) -> f64 {
        self.ticks as f64 * 0.01
    }

    fn run(&mut self, seconds: f64) {
        for _ in 0..(seconds * 100.0).round() as u64 {
            self.world.advance(self.seconds());
            *self.clock.lock().unwrap() = self.seconds();
            self.core.tick(self.start + TICK * self.ticks as u32);
            self.ticks += 1;
        }
    }

    /// What was told since the last time, without who spoke.
    fn told(&self) -> Vec<(f64, Event)> {
        let mut events = std::mem::take(&mut *self.events.lock().unwrap());
        events.retain(|(_, e)| !matches!(e, Event::Speaking { .. } | Event::Started { .. }));
        events
    }
}

#[test]
fn the_made_up_devices_are_listed_like_real_ones() {
    let mut odd = Gear::new(Direction::Speaker, "odd").format(44_100, 2, Format::I16);
    odd.name = "Box";
    let mut even = Gear::new(Direction::Speaker, "even");
    even.name = "Box";
    let world = World::new([Gear::new(Direction::Microphone, "mic"), odd, even]);
    let mut list = world.system().list().unwrap();
    crate::device::tell_apart(&mut list);
    let seen: Vec<_> = list.iter().map(|d| (d.id.as_str(), d.name.as_str(), d.default)).collect();
    assert_eq!(
        seen,
        [("custom:mic", "mic", true), ("custom:odd", "Box (2)", true), ("custom:even", "Box", false)]
    );
    assert_eq!((list[1].rates.as_slice(), list[1].channels.as_slice()), (&[44_100..=44_100][..], &[2][..]));
}

const FORMATS: [(u32, u16, Format); 7] = [
    (44_100, 2, Format::I16),
    (16_000, 1, Format::F32),
    (96_000, 2, Format::I32),
    (48_000, 1, Format::F32),
    (8_000, 1, Format::U8),
    (192_000, 6, Format::F64),
    (22_050, 8, Format::I16),
];

#[test]
fn a_microphone_of_any_format_is_heard_as_it_is() {
    for (rate, channels, format) in FORMATS {
        let world =
            World::new([Gear::new(Direction::Microphone, "mic").format(rate, channels, format).sound(voice)]);
        let found = world.system().open_source(None).unwrap().unwrap();
        let mut source = found.it;
        let (mut heard, mut block) = (Vec::new(), [0.0; BLOCK]);
        for tick in 0..800 {
            world.advance(f64::from(tick) * 0.01);
            assert_eq!(source.read(&mut block), Read::Sound);
            heard.extend_from_slice(&block);
        }
        let found = measure::compare(&spoken(48_000, 8.0)[4 * 48_000..], &heard[4 * 48_000..], 48_000);
        // After the fill of the ring has settled, which bends the rate a little. Eight bits are noisy.
        let least = if format == Format::U8 { 0.97 } else { 0.99 };
        assert!(found.correlation > least, "{rate} {channels} {format:?}: {found:?}");
        let ms = found.delay_samples as f64 / 48.0;
        assert!((10.0..45.0).contains(&ms), "{rate} {channels} {format:?}: {ms} ms");
        assert_eq!(source.gauge().xruns, 0);
        println!("microphone {rate:6} Hz x{channels} {format:?}: {:.5}, {ms:.1} ms", found.correlation);
    }
}

#[test]
fn a_speaker_of_any_format_plays_what_it_is_given() {
    for (rate, channels, format) in FORMATS {
        let world = World::new([Gear::new(Direction::Speaker, "box").format(rate, channels, format)]);
        let mut sink = world.system().open_sink(None).unwrap().unwrap().it;
        let voice = spoken(48_000, 8.0);
        for tick in 0..800 {
            world.advance(tick as f64 * 0.01);
            let block = std::array::from_fn(|i| voice[tick * BLOCK + i]);
            assert_eq!(sink.write(&block), Write::Done);
        }
        let heard: Vec<f32> = world.change("box", |g| g.heard.iter().flat_map(|(_, s)| s.clone()).collect());
        let found =
            measure::compare(&spoken(rate, 8.0)[4 * rate as usize..], &heard[4 * rate as usize..], rate);
        let least = if format == Format::U8 { 0.97 } else { 0.99 };
        assert!(found.correlation > least, "{rate} {channels} {format:?}: {found:?}");
        let ms = found.delay_samples as f64 / f64::from(rate) * 1000.0;
        assert!((10.0..50.0).contains(&ms), "{rate} {channels} {format:?}: {ms} ms");
        assert_eq!(sink.gauge().xruns, 0);
        println!("speaker {rate:6} Hz x{channels} {format:?}: {:.5}, {ms:.1} ms", found.correlation);
    }
}

/// Lets the clocks run 300 ppm off, which is more than the worst crystals do: 1.08 s in an hour.
fn drift(direction: Direction, rate: u32, format: Format, ppm: f64, minutes: u32) {
    let gear = Gear::new(direction, "it").format(rate, 1, format).ppm(ppm).sound(|_| 0.25);
    let world = World::new([gear]);
    let mut source =
        (direction == Direction::Microphone).then(|| world.system().open_source(None).unwrap().unwrap().it);
    let mut sink =
        (direction == Direction::Speaker).then(|| world.system().open_sink(None).unwrap().unwrap().it);
    let mut block = [0.25; BLOCK];
    let (mut most, mut least) = (Duration::ZERO, Duration::MAX);
    let mut gauge = crate::source::Gauge::default();
    for tick in 0..minutes * 6_000 {
        world.advance(f64::from(tick) * 0.01);
        if let Some(source) = &mut source {
            assert_eq!(source.read(&mut block), Read::Sound);
            assert!(tick < 100 || block.iter().all(|s| (s - 0.25).abs() < 1e-3), "a gap at {tick}");
            gauge = source.gauge();
        }
        if let Some(sink) = &mut sink {
            assert_eq!(sink.write(&block), Write::Done);
            gauge = sink.gauge();
            let heard = world.change("it", |g| std::mem::take(&mut g.heard));
            let mut heard = heard.iter().flat_map(|(_, samples)| samples);
            assert!(tick < 100 || heard.all(|s| (s - 0.25).abs() < 1e-3), "a gap at {tick}");
        }
        if tick > 1000 {
            (most, least) = (most.max(gauge.fill), least.min(gauge.fill));
        }
    }
    println!(
        "{direction} {rate} Hz {ppm:+} ppm, {minutes} min: ring {least:.1?} to {most:.1?}, {} xruns",
        gauge.xruns
    );
    assert_eq!(gauge.xruns, 0);
    assert!(most < Duration::from_millis(40) && least > Duration::from_millis(1), "{least:?} to {most:?}");
}

#[test]
fn clocks_that_drift_neither_starve_nor_flood() {
    // 54 ms, more than twice what a ring holds; and 72.
    drift(Direction::Microphone, 44_100, Format::I16, 300.0, 3);
    drift(Direction::Microphone, 16_000, Format::F32, -300.0, 3);
    drift(Direction::Speaker, 44_100, Format::I16, -300.0, 3);
    drift(Direction::Speaker, 8_000, Format::F32, 300.0, 4);
}

#[test]
#[ignore = "takes minutes; scripts/devices.sh runs it"]
fn clocks_that_drift_for_an_hour_neither_starve_nor_flood() {
    for ppm in [300.0, -300.0] {
        drift(Direction::Microphone, 44_100, Format::I16, ppm, 60);
        drift(Direction::Speaker, 44_100, Format::I16, ppm, 60);
        drift(Direction::Speaker, 8_000, Format::F32, ppm, 60);
    }
}

#[test]
fn an_engine_between_two_devices_tells_its_delay_stage_by_stage() {
    let world = World::new([
        Gear::new(Direction::Microphone, "mic").format(44_100, 2, Format::I16).sound(voice),
        Gear::new(Direction::Speaker, "box").format(16_000, 1, Format::F32),
    ]);
    let mut stage = Stage::new(&world, SourceSpec::Default, SinkSpec::Default);
    stage.run(2.0);
    let stats = stage.core.controls().stats();
    let stages = stats.latency;
    assert_eq!((stages.frame, stages.lookahead), (Duration::from_millis(20), Duration::from_micros(6_500)));
    assert_eq!(stages.capture_device, Duration::from_millis(3));
    assert_eq!(stages.playout_device, Duration::from_millis(3));
    let few = Duration::from_micros(500)..Duration::from_millis(6);
    assert!(few.contains(&stages.capture_resampler) && few.contains(&stages.playout_resampler), "{stages:?}");
    assert_eq!(stages.capture_ring, stats.capture_fill);
    assert_eq!(stats.capture_latency + stats.encoder_latency, stages.sending());
    assert_eq!(stats.playout_latency + stages.mixer, stages.receiving());
    let peer = crate::PeerStats { jitter_buffer: Duration::from_millis(11), ..Default::default() };
    assert_eq!(stages.mouth_to_ear(&peer), stages.sending() + stages.receiving() + Duration::from_millis(11));
    println!("{stages:?}");
}
