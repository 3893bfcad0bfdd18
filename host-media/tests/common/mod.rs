//! Two engines on a virtual clock with a network of one's own making between them.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use host_media::{
    Builder, Controls, Core, EncodedFrame, Engine, Event, MemorySink, MemorySource, Packet, PeerId,
    PeerInput, SinkSpec, SourceSpec, TICK,
};

pub const PEER: PeerId = PeerId(1);

/// Something like speech: voiced syllables with moving pitch and formants, some noise, pauses between words.
pub fn speech(seconds: f64, rate: u32) -> Vec<f32> {
    /// What was said until now, at each rate: it takes a while, and the beginning is the same however long it is.
    static SAID: Mutex<BTreeMap<u32, Talk>> = Mutex::new(BTreeMap::new());
    let length = (seconds * f64::from(rate)) as usize;
    let mut said = SAID.lock().unwrap();
    let talk = said.entry(rate).or_insert_with(|| Talk {
        samples: Vec::new(),
        seed: 12_345,
        phase: 0.0,
        smooth: 0.0,
    });
    talk.go_on(length, rate);
    talk.samples[..length].to_vec()
}

struct Talk {
    samples: Vec<f32>,
    seed: u32,
    phase: f64,
    smooth: f64,
}

impl Talk {
    fn go_on(&mut self, length: usize, rate: u32) {
        let Self { samples, seed, phase, smooth } = self;
        samples.extend((samples.len()..length).map(|i| {
            let t = i as f64 / f64::from(rate);
            // Six syllables in 1.5 s, the sixth of them a pause; each of another height.
            let syllable = (t * 4.0).floor();
            let within = (t * 4.0).fract();
            let pause = (syllable as u64) % 6 == 5;
            let envelope = if pause { 0.0 } else { (within * std::f64::consts::PI).sin().powf(0.7) };
            let pitch = 110.0 + 30.0 * (syllable * 1.7).sin() + 10.0 * (t * 9.0).sin();
            *phase = (*phase + pitch / f64::from(rate)).fract();
            let (f1, f2) = (500.0 + 200.0 * (syllable * 2.3).sin(), 1500.0 + 500.0 * (syllable * 1.1).cos());
            let voiced: f64 = (1..28)
                .map(|h| {
                    let f = pitch * f64::from(h);
                    let peak = |centre: f64, width: f64| (-((f - centre) / width).powi(2)).exp();
                    let gain = peak(f1, 150.0) + 0.5 * peak(f2, 250.0) + 0.05 / f64::from(h);
                    gain * (*phase * f64::from(h) * std::f64::consts::TAU).sin()
                })
                .sum();
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = f64::from(*seed) / f64::from(u32::MAX) - 0.5;
            *smooth = 0.7 * *smooth + 0.3 * noise;
            (envelope * (0.16 * voiced + 0.01 * *smooth) + 0.0003 * noise) as f32
        }));
    }
}

/// A packet on its way.
#[derive(Clone, Debug)]
pub struct Flight {
    pub sent: Duration,
    pub arrives: Duration,
    pub packet: Packet,
}

/// What one end told and sent.
#[derive(Clone, Default)]
pub struct Log {
    pub events: Arc<Mutex<Vec<Event>>>,
    pub frames: Arc<Mutex<Vec<EncodedFrame>>>,
}

impl Log {
    pub fn attach(&self, builder: Builder) -> Builder {
        let (events, frames) = (Arc::clone(&self.events), Arc::clone(&self.frames));
        builder
            .on_event(move |event| events.lock().unwrap().push(event))
            .on_frame(move |frame| frames.lock().unwrap().push(frame))
    }

    /// Unix times of sample 0 of the source and of the sink.
    pub fn started(&self) -> (Option<SystemTime>, Option<SystemTime>) {
        let events = self.events.lock().unwrap();
        let mut times = events.iter().filter_map(|e| match e {
            Event::Started { microphone, speaker } => Some((*microphone, *speaker)),
            _ => None,
        });
        let found = times.next().expect("the engine has started");
        assert_eq!(times.next(), None, "and tells so once");
        found
    }
}

/// A speaks, B listens.
pub struct World {
    start: Instant,
    a: Core,
    b: Core,
    pub log_a: Log,
    pub log_b: Log,
    pub controls_a: Controls,
    pub controls_b: Controls,
    pub input: PeerInput,
    /// How much later than A's B's ticks are.
    phase: Duration,
    /// B's clock runs this much faster than A's: 1e-6 per ppm.
    pub drift: f64,
    ticks: u64,
    b_ticks: u64,
    sequence: u16,
    flying: Vec<Flight>,
    taken: usize,
    /// Decides on each packet: when it arrives, not at all, or several times.
    pub network: Box<dyn FnMut(u16, Flight) -> Vec<Flight>>,
}

impl World {
    pub fn new(a: Builder, b: Builder) -> Self {
        Self::with_phase(a, b, Duration::from_millis(3))
    }

    pub fn with_phase(a: Builder, b: Builder, phase: Duration) -> Self {
        let (log_a, log_b) = (Log::default(), Log::default());
        let start = Instant::now();
        let unix = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let a = log_a.attach(a).build(start, unix).unwrap();
        let b = log_b.attach(b).build(start, unix).unwrap();
        let (controls_a, controls_b) = (a.controls(), b.controls());
        let input = controls_b.add_peer(PEER).unwrap();
        Self {
            start,
            a,
            b,
            log_a,
            log_b,
            controls_a,
            controls_b,
            input,
            phase,
            drift: 0.0,
            ticks: 0,
            b_ticks: 0,
            sequence: 65_500,
            flying: Vec::new(),
            taken: 0,
            network: Box::new(|_, flight| vec![flight]),
        }
    }

    pub fn run(&mut self, duration: Duration) {
        let until = self.ticks + (duration.as_millis() / TICK.as_millis()) as u64;
        while self.ticks < until {
            let now = TICK * self.ticks as u32;
            self.a.tick(self.start + now);
            self.ticks += 1;
            self.send(now);
            loop {
                let b_now = self.phase + TICK.mul_f64(self.b_ticks as f64 / (1.0 + self.drift));
                if b_now >= now + TICK {
                    break;
                }
                self.deliver(b_now);
                self.b.tick(self.start + b_now);
                self.b_ticks += 1;
            }
        }
    }

    fn send(&mut self, now: Duration) {
        let frames: Vec<_> = {
            let frames = self.log_a.frames.lock().unwrap();
            frames[self.taken..].to_vec()
        };
        for frame in frames {
            let timestamp = frame.timestamp.wrapping_add(u32::MAX - 96_000);
            let packet = Packet::new(self.sequence, timestamp, frame.payload);
            self.sequence = self.sequence.wrapping_add(1);
            let flight = Flight { sent: now, arrives: now + Duration::from_micros(300), packet };
            let number = self.taken as u16;
            self.taken += 1;
            self.flying.extend((self.network)(number, flight));
        }
        self.flying.sort_by_key(|f| f.arrives);
    }

    fn deliver(&mut self, now: Duration) {
        let arrived = self.flying.iter().take_while(|f| f.arrives <= now).count();
        for flight in self.flying.drain(..arrived) {
            self.input.push(flight.packet, self.start + flight.arrives);
        }
    }

    pub fn stats(&self) -> host_media::PeerStats {
        self.controls_b.peer_stats(PEER).unwrap()
    }

    pub fn finish(&mut self) {
        self.a.finish().unwrap();
        self.b.finish().unwrap();
    }

    /// Mouth to ear for a delay between the two recordings, in milliseconds.
    pub fn mouth_to_ear(&self, delay_samples: i64) -> f64 {
        let (microphone, _) = self.log_a.started();
        let (_, speaker) = self.log_b.started();
        let between = speaker.unwrap().duration_since(microphone.unwrap()).unwrap();
        between.as_secs_f64() * 1e3 + delay_samples as f64 / 48.0
    }
}

/// A builder that plays these samples (48 kHz) and hears nothing.
pub fn speaker_of(samples: &[f32]) -> Builder {
    Engine::builder().source(SourceSpec::Memory(MemorySource::new(samples))).sink(SinkSpec::Null)
}

/// A builder that is silent and hears into memory.
pub fn listener(sink: &MemorySink) -> Builder {
    Engine::builder().source(SourceSpec::Silence).sink(SinkSpec::Memory(sink.clone()))
}

/// A world where A says `seconds` of speech to B.
pub fn talk(seconds: f64) -> (World, Vec<f32>, MemorySink) {
    let said = speech(seconds, 48_000);
    let heard = MemorySink::new();
    let world = World::new(speaker_of(&said), listener(&heard));
    (world, said, heard)
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
