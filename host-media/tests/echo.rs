//! What is left of an echo, through the whole engine on a virtual clock.
//!
//! The far end's frames go into an engine twice: once to learn what it plays, from which the room's echo is computed, and
//! once with that echo, and the near end's voice, as its microphone. What it sends is decoded and measured.
//! `ECHO_DIR=/some/where` keeps the sounds as WAV files, for listening and for PESQ.

// A failure here is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant, SystemTime};

use common::{Log, PEER};
use host_media::{
    BLOCK, EncodedFrame, Engine, EngineStats, MemorySink, MemorySource, Packet, PayloadKind, Processing,
    SAMPLE_RATE, SinkSpec, SourceSpec, TICK, measure,
};
use realfft::RealFftPlanner;

/// Delay from the loudspeaker's samples to the microphone's: 60 ms of devices and air.
const DELAY: usize = 60 * 48;
/// Time in which the room's reverberation falls by 60 dB.
const ROOM: f64 = 0.250;

fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64 * 2.0 - 1.0
    }
}

/// The echo of a room: a direct sound, and noise that decays exponentially. `gain` is the whole echo's, in dB.
fn room(seed: u64, gain: f64) -> Vec<f32> {
    let mut noise = uniform(seed);
    let mut taps: Vec<f64> = (0..(ROOM * 48_000.0) as usize)
        .map(|i| noise() * 10_f64.powf(-3.0 * i as f64 / (ROOM * 48_000.0)))
        .collect();
    taps[0] = 4.0;
    let energy: f64 = taps.iter().map(|t| t * t).sum();
    let scale = 10_f64.powf(gain / 20.0) / energy.sqrt();
    let silence = std::iter::repeat_n(0.0, DELAY);
    silence.chain(taps.into_iter().map(|t| (t * scale) as f32)).collect()
}

fn convolve(sound: &[f32], taps: &[f32]) -> Vec<f32> {
    let size = (sound.len() + taps.len()).next_power_of_two();
    let mut planner = RealFftPlanner::<f32>::new();
    let (forward, back) = (planner.plan_fft_forward(size), planner.plan_fft_inverse(size));
    let spectrum = |samples: &[f32]| {
        let mut padded = samples.to_vec();
        padded.resize(size, 0.0);
        let mut spectrum = forward.make_output_vec();
        forward.process(&mut padded, &mut spectrum).unwrap();
        spectrum
    };
    let mut product: Vec<_> =
        spectrum(sound).iter().zip(spectrum(taps)).map(|(a, b)| a * b / size as f32).collect();
    product[0].im = 0.0;
    product[size / 2].im = 0.0;
    let mut out = vec![0.0; size];
    back.process(&mut product, &mut out).unwrap();
    out.truncate(sound.len());
    out
}

/// Real speech at 48 kHz, over and over, at this level.
fn speech(name: &str, seconds: usize, dbov: f32) -> Vec<f32> {
    let mut reader =
        hound::WavReader::open(format!("{}/../examples/assets/{name}.wav", env!("CARGO_MANIFEST_DIR")))
            .unwrap();
    let slow: Vec<f32> = reader.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_768.0).collect();
    let wide = three_times(&slow);
    // Without the silence before and behind.
    let voice = &wide[48_000..wide.len().min(8 * 48_000 + 24_000)];
    let scale = 10_f32.powf(dbov / 20.0) / measure::rms(voice);
    voice.iter().map(|s| s * scale).cycle().take(seconds * 48_000).collect()
}

/// 16 kHz to 48 kHz: zeros between the samples, and a low-pass.
fn three_times(slow: &[f32]) -> Vec<f32> {
    let taps: Vec<f32> = (-96..=96)
        .map(|i| {
            let at = f64::from(i) / 3.0 * std::f64::consts::PI;
            let sinc = if i == 0 { 1.0 } else { at.sin() / at };
            let window = 0.5 + 0.5 * (f64::from(i) / 97.0 * std::f64::consts::PI).cos();
            (sinc * window) as f32
        })
        .collect();
    let sparse: Vec<f32> = slow.iter().flat_map(|s| [*s, 0.0, 0.0]).collect();
    convolve(&sparse, &taps)
}

fn packets(frames: &[EncodedFrame]) -> impl Iterator<Item = Packet> {
    frames.iter().enumerate().map(|(i, frame)| Packet {
        sequence: i as u16,
        timestamp: frame.timestamp,
        payload: frame.payload.clone(),
        kind: PayloadKind::Opus,
    })
}

/// What an engine plays, sends and says for these frames of a peer and this microphone.
struct Run {
    played: Vec<f32>,
    sent: Vec<EncodedFrame>,
    /// Each second.
    stats: Vec<EngineStats>,
}

fn engine(
    frames: &[EncodedFrame],
    microphone: Option<&[f32]>,
    processing: Processing,
    seconds: usize,
) -> Run {
    let (log, heard) = (Log::default(), MemorySink::new());
    let start = Instant::now();
    let source = match microphone {
        Some(samples) => SourceSpec::Memory(MemorySource::new(samples)),
        None => SourceSpec::Silence,
    };
    let mut core = log
        .attach(Engine::builder())
        .source(source)
        .sink(SinkSpec::Memory(heard.clone()))
        .processing(processing)
        .bitrate(64_000)
        .build(start, SystemTime::UNIX_EPOCH)
        .unwrap();
    let controls = core.controls();
    let input = controls.add_peer(PEER).unwrap();
    let mut waiting = packets(frames).peekable();
    let mut stats = Vec::new();
    for tick in 0..seconds as u64 * 100 {
        let now = start + TICK * tick as u32;
        while let Some(packet) = waiting.next_if(|p| u64::from(p.timestamp) <= tick * BLOCK as u64) {
            input.push(packet, now);
        }
        core.tick(now);
        if tick % 100 == 99 {
            stats.push(controls.stats());
        }
    }
    let sent = std::mem::take(&mut *log.frames.lock().unwrap());
    Run { played: heard.take(), sent, stats }
}

struct Scene {
    name: &'static str,
    seconds: usize,
    far: Vec<f32>,
    near: Vec<f32>,
    /// Impulse response for each piece of the time, from this second on.
    rooms: Vec<(usize, Vec<f32>)>,
    processing: Processing,
}

struct Heard {
    /// The echo in the microphone, without anything else.
    echo: Vec<f32>,
    /// What the far end hears of this room.
    heard: Vec<f32>,
    stats: Vec<EngineStats>,
}

impl Scene {
    fn new(name: &'static str, seconds: usize) -> Self {
        Self {
            name,
            seconds,
            far: speech("speech-a", seconds, -22.0),
            near: vec![0.0; seconds * 48_000],
            rooms: vec![(0, room(1, -10.0))],
            processing: Processing::off().echo(true),
        }
    }

    fn play(&self) -> Heard {
        let far = engine(&[], Some(&self.far), Processing::off(), self.seconds).sent;
        let played = engine(&far, None, Processing::off(), self.seconds).played;
        let mut echo = vec![0.0; played.len()];
        for (i, (from, taps)) in self.rooms.iter().enumerate() {
            let to = self.rooms.get(i + 1).map_or(self.seconds, |next| next.0);
            let here = from * 48_000..to * 48_000;
            echo[here.clone()].copy_from_slice(&convolve(&played, taps)[here]);
        }
        // A microphone's own noise: -75 dBov.
        let mut hiss = uniform(99);
        let microphone: Vec<f32> = (echo.iter().zip(&self.near))
            .map(|(echo, near)| echo + near + (hiss() * 3_f64.sqrt() * 1.8e-4) as f32)
            .collect();
        let run = engine(&far, Some(&microphone), self.processing, self.seconds);
        let heard = engine(&run.sent, None, Processing::off(), self.seconds).played;
        self.keep("microphone", &microphone);
        self.keep("near", &self.near);
        self.keep("heard", &heard);
        Heard { echo, heard, stats: run.stats }
    }

    fn keep(&self, what: &str, samples: &[f32]) {
        let Ok(dir) = std::env::var("ECHO_DIR") else { return };
        let path = std::path::Path::new(&dir).join(format!("{}-{what}.wav", self.name));
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for sample in samples {
            writer.write_sample((sample * 32_767.0) as i16).unwrap();
        }
        writer.finalize().unwrap();
    }
}

fn db(ratio: f32) -> f32 {
    20.0 * ratio.log10()
}

impl Heard {
    /// How much the echo is down in these seconds, in dB.
    fn down(&self, from: f64, to: f64) -> f32 {
        let range = (from * 48_000.0) as usize..(to * 48_000.0) as usize;
        db(measure::rms(&self.echo[range.clone()]) / measure::rms(&self.heard[range]))
    }

    fn report(&self, scene: &Scene) {
        println!("{}: echo at {:.1} dBov", scene.name, db(measure::rms(&self.echo)));
        for second in 0..scene.seconds {
            let (from, to) = (second as f64, second as f64 + 1.0);
            println!(
                "  {second:2} s: down {:5.1} dB; the canceller says {:4.1} dB, {:?}",
                self.down(from, to),
                self.stats[second].voice.echo_reduction.unwrap_or(0.0),
                self.stats[second].voice.echo_delay.unwrap_or(Duration::ZERO),
            );
        }
    }
}

#[test]
fn an_echo_is_35_db_down_after_five_seconds() {
    for (name, processing) in [("echo", Processing::off().echo(true)), ("echo-all", Processing::on())] {
        let scene = Scene { processing, ..Scene::new(name, 12) };
        let heard = scene.play();
        heard.report(&scene);
        println!("  from 5 s on: down {:.1} dB", heard.down(5.0, 12.0));
        assert!(heard.down(5.0, 12.0) >= 35.0, "{} dB", heard.down(5.0, 12.0));
    }
}

#[test]
fn both_may_speak_at_once() {
    for (name, gain, processing) in
        [("double-talk", -10.0, Processing::off().echo(true)), ("double-talk-all", -10.0, Processing::on())]
    {
        let mut scene = Scene { processing, ..Scene::new(name, 22) };
        scene.rooms = vec![(0, room(1, gain))];
        let near = speech("speech-b", 14, -22.0);
        scene.near[8 * 48_000..].copy_from_slice(&near);
        let both = scene.play();
        let alone = Scene { far: vec![0.0; scene.far.len()], name: "near-alone", ..scene }.play();
        let range = 9 * 48_000..21 * 48_000;
        let (heard, clean) = (&both.heard[range.clone()], &alone.heard[range.clone()]);
        // Pieces of 0.2 s in which the near end is heard.
        let mut pieces: Vec<(f32, f32)> = measure::segments(clean, heard, SAMPLE_RATE, 9_600, 480)
            .into_iter()
            .filter(|s| s.rms > 0.02)
            .map(|s| {
                let piece = s.start..s.start + 9_600;
                let level = measure::rms(&heard[piece.clone()]) / measure::rms(&clean[piece]);
                (s.alignment.correlation, db(level))
            })
            .collect();
        let ratio = db(measure::rms(&near) / measure::rms(&both.echo[range]));
        pieces.sort_by(|a, b| a.0.total_cmp(&b.0));
        let median = pieces[pieces.len() / 2].0;
        let tenth = pieces[pieces.len() / 10].0;
        let level = pieces.iter().map(|p| p.1).sum::<f32>() / pieces.len() as f32;
        println!(
            "{name}: voice {ratio:+.1} dB over the echo; {} pieces: correlation median {median:.3}, tenth {tenth:.3}; level {level:+.1} dB",
            pieces.len()
        );
        assert!(median > 0.95 && tenth > 0.8 && level.abs() < 1.5, "{median} {tenth} {level}");
    }
}

#[test]
fn a_changed_room_is_learnt_again() {
    let mut scene = Scene::new("change", 22);
    let mut second = room(2, -8.0);
    // The loudspeaker is moved: 20 ms more.
    second.splice(..0, [0.0; 960]);
    scene.rooms.push((10, second));
    let heard = scene.play();
    heard.report(&scene);
    assert!(heard.down(8.0, 10.0) >= 35.0, "{}", heard.down(8.0, 10.0));
    assert!(heard.down(13.0, 15.0) >= 30.0, "three seconds later: {}", heard.down(13.0, 15.0));
    assert!(heard.down(16.0, 22.0) >= 35.0, "{}", heard.down(16.0, 22.0));
}
