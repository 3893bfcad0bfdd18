//! One receiving engine under a made-up network, with all figures of each tick.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use host_media::{
    Builder, Core, Engine, Format, FrameLength, MemorySink, Packet, PathAdvice, PayloadKind, PeerStats,
    SinkSpec, SourceSpec, TICK,
};

use crate::common::{Log, PEER, ms, speaker_of, speech};

/// Numbers that a seed decides: a linear congruential generator, of which the upper bits are good.
pub struct Seed(pub u64);

impl Seed {
    /// From 0 to 1.
    pub fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

/// Frames of speech, over and over.
pub struct Voice {
    frames: Vec<Frame>,
}

/// Samples, and what is sent of them, if anything is.
type Frame = (u32, Option<(Bytes, PayloadKind)>);

fn plain(samples: u32, payload: impl Into<Bytes>) -> Frame {
    (samples, Some((payload.into(), PayloadKind::Opus)))
}

impl Voice {
    pub fn new(frame: FrameLength, expected_loss: u8) -> Self {
        static MADE: Mutex<BTreeMap<(u8, u8), Voice>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap();
        let make = || Self { frames: encode(frame, expected_loss, 12.0) };
        Self { frames: made.entry((frame.ms(), expected_loss)).or_insert_with(make).frames.clone() }
    }

    /// What an engine makes of this sound; redundant packets where it makes them.
    pub fn of(sound: &[f32], builder: impl FnOnce(Builder) -> Builder) -> Self {
        Self { frames: engine(sound, builder) }
    }

    /// One frame over and over, of a length that the encoder does not make: 2.5 ms of silence, or 120 ms of six times
    /// the same frame of speech in one packet (RFC 6716 section 3.2.5).
    pub fn unusual(samples: u32) -> Self {
        if samples == 120 {
            return Self { frames: vec![plain(120, &[28 << 3, 0xff, 0xfe][..])] };
        }
        let frames = encode(FrameLength::Ms20, 5, 2.0);
        let mut sent = frames.iter().filter_map(|(_, sent)| sent.as_ref());
        let (single, _) = sent.find(|(f, _)| f.len() < 252 && f[0] & 3 == 0).unwrap();
        let mut packet = vec![single[0] | 3, 6];
        (0..6).for_each(|_| packet.extend_from_slice(&single[1..]));
        Self { frames: vec![plain(5_760, packet)] }
    }

    /// Five seconds of each length (ms).
    pub fn changing(lengths: &[u8], expected_loss: u8) -> Self {
        let all = lengths.iter().flat_map(|ms| {
            let frames = encode(FrameLength::from_ms(*ms).unwrap(), expected_loss, 5.0);
            frames.into_iter().take(5_000 / usize::from(*ms))
        });
        Self { frames: all.collect() }
    }
}

fn encode(frame: FrameLength, expected_loss: u8, seconds: f64) -> Vec<Frame> {
    let builder = |b: Builder| b.format(Format::new(frame)).expected_loss(expected_loss);
    engine(&speech(seconds, 48_000), builder)
}

fn engine(sound: &[f32], builder: impl FnOnce(Builder) -> Builder) -> Vec<Frame> {
    let log = Log::default();
    let start = Instant::now();
    let builder = builder(log.attach(speaker_of(sound)));
    let mut core = builder.build(start, SystemTime::UNIX_EPOCH).unwrap();
    for tick in 0..(sound.len() / 480) as u32 {
        core.tick(start + TICK * tick);
    }
    let (mut frames, mut at) = (Vec::new(), 0);
    for frame in log.frames.lock().unwrap().iter() {
        // Nothing is sent of frames that were left out.
        frames.extend((at..frame.timestamp).step_by(frame.samples as usize).map(|_| (frame.samples, None)));
        let sent = match &frame.red {
            Some(red) => (red.clone(), PayloadKind::Red),
            None => (frame.payload.clone(), PayloadKind::Opus),
        };
        frames.push((frame.samples, Some(sent)));
        at = frame.timestamp + frame.samples;
    }
    frames
}

/// What is played how.
pub struct Line {
    seconds: u64,
    phase: Duration,
    drift: f64,
    renumber: Option<(usize, u16, u32)>,
    told: bool,
    pauses: bool,
    busy: bool,
    round_trip: Option<Duration>,
}

impl Line {
    pub fn new(seconds: u64) -> Self {
        Self {
            seconds,
            phase: ms(3),
            drift: 0.0,
            renumber: None,
            told: false,
            pauses: false,
            busy: false,
            round_trip: None,
        }
    }

    /// How long after a packet's arrival, on a path without delay, the receiver's tick is.
    pub fn phase(mut self, phase: Duration) -> Self {
        self.phase = phase;
        self
    }

    /// How much faster the receiver's clock runs, in ppm.
    pub fn drift(mut self, ppm: f64) -> Self {
        self.drift = ppm * 1e-6;
        self
    }

    /// From this packet on numbers and timestamps are others.
    pub fn renumber(mut self, from: usize, sequence: u16, timestamp: u32) -> Self {
        self.renumber = Some((from, sequence, timestamp));
        self
    }

    /// And the application says so.
    pub fn told(mut self) -> Self {
        self.told = true;
        self
    }

    /// Every other second is a pause (DTX).
    pub fn pauses(mut self) -> Self {
        self.pauses = true;
        self
    }

    /// The receiver knows how long it takes to the sender and back.
    pub fn round_trip(mut self, time: Duration) -> Self {
        self.round_trip = Some(time);
        self
    }

    /// Twice a second the receiver's thread wakes up 60 ms late, and makes up for it at once.
    pub fn busy(mut self) -> Self {
        self.busy = true;
        self
    }

    /// The network says when a packet arrives that was sent at this time; packets are sent at the end of their sound.
    pub fn run(self, voice: &Voice, mut network: impl FnMut(usize, Duration) -> Vec<Duration>) -> Run {
        let start = Instant::now() + Duration::from_secs(1);
        let heard = MemorySink::new();
        let builder = Engine::builder().source(SourceSpec::Silence).sink(SinkSpec::Memory(heard.clone()));
        // It encodes silence meanwhile, which need not take long.
        let builder = builder.complexity(0).format(Format::new(FrameLength::Ms60));
        let mut core: Core = builder.build(start, SystemTime::UNIX_EPOCH).unwrap();
        let controls = core.controls();
        let input = controls.add_peer(PEER).unwrap();
        if self.round_trip.is_some() {
            controls.advise(PEER, Some(PathAdvice::default().round_trip(self.round_trip)));
        }
        let (mut flying, mut stats) = (Vec::<(Duration, usize, Packet)>::new(), Vec::new());
        let (mut n, mut time, mut sequence) = (0, 0_u64, 65_000_u16);
        for tick in 0..self.seconds * 100 {
            let now = self.phase + TICK.mul_f64(tick as f64 / (1.0 + self.drift));
            // Ticks keep their nominal times; what came until they are really worked is there already.
            let late = match tick % 50 {
                n if self.busy && n < 6 => TICK * (6 - n as u32),
                _ => Duration::ZERO,
            };
            let until = now + late;
            loop {
                let (samples, payload) = &voice.frames[n % voice.frames.len()];
                let sent = Duration::from_nanos((time + u64::from(*samples)) * 62_500 / 3);
                if sent > until {
                    break;
                }
                let pause = self.pauses && sent.as_secs() % 2 == 1;
                let sign_of_life = sent.as_millis() % 400 < 20;
                if let Some((payload, kind)) = payload
                    && (!pause || sign_of_life)
                {
                    let (mut number, mut timestamp) =
                        (sequence, (time as u32).wrapping_add(u32::MAX - 96_000));
                    if let Some((from, by, slip)) = self.renumber
                        && n >= from
                    {
                        (number, timestamp) = (number.wrapping_add(by), timestamp.wrapping_add(slip));
                    }
                    let payload = if pause { payload.slice(..1) } else { payload.clone() };
                    for arrives in network(n, sent) {
                        let packet = Packet::new(number, timestamp, payload.clone()).kind(*kind);
                        flying.push((arrives, n, packet));
                    }
                    sequence = sequence.wrapping_add(1);
                }
                n += 1;
                time += u64::from(*samples);
            }
            flying.sort_by_key(|(arrives, n, _)| (*arrives, *n));
            let arrived = flying.iter().take_while(|(arrives, ..)| *arrives <= until).count();
            for (arrives, n, packet) in flying.drain(..arrived) {
                if self.told && self.renumber.is_some_and(|(from, ..)| from == n) {
                    input.new_stream();
                }
                input.push(packet, start + arrives);
            }
            core.tick(start + now);
            stats.push(controls.peer_stats(PEER).unwrap());
            if tick % 1_000 == 0 {
                assert!(heard.take().iter().all(|s| s.is_finite()));
            }
        }
        Run { stats }
    }
}

/// The figures of each tick.
pub struct Run {
    stats: Vec<PeerStats>,
}

fn in_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Run {
    pub fn end(&self) -> PeerStats {
        *self.stats.last().unwrap()
    }

    fn ticks(&self, from: u64, to: u64) -> Range<usize> {
        (from * 100) as usize..((to * 100) as usize).min(self.stats.len())
    }

    fn bounds(&self, from: u64, to: u64, of: impl Fn(&PeerStats) -> Duration) -> (f64, f64) {
        let all = self.stats[self.ticks(from, to)].iter().map(|s| in_ms(of(s)));
        all.fold((f64::MAX, 0.0), |(least, most), ms| (ms.min(least), ms.max(most)))
    }

    /// The least and the most delay in these seconds, in ms.
    pub fn delays(&self, from: u64, to: u64) -> (f64, f64) {
        self.bounds(from, to, |s| s.jitter_buffer)
    }

    pub fn targets(&self, from: u64, to: u64) -> (f64, f64) {
        self.bounds(from, to, |s| s.jitter_target)
    }

    pub fn repair(&self, from: u64, to: u64) -> (f64, f64) {
        self.bounds(from, to, |s| s.repair_delay)
    }

    fn grown(&self, from: u64, to: u64, of: impl Fn(&PeerStats) -> f64) -> f64 {
        let ticks = self.ticks(from, to);
        of(&self.stats[ticks.end - 1]) - of(&self.stats[ticks.start])
    }

    /// Seconds that were made up.
    pub fn concealed(&self, from: u64, to: u64) -> f64 {
        self.grown(from, to, |s| s.concealed.as_secs_f64())
    }

    /// Seconds that were taken out or put in.
    pub fn stretched(&self, from: u64, to: u64) -> f64 {
        self.grown(from, to, |s| (s.shortened + s.lengthened).as_secs_f64())
    }

    /// In ms.
    pub fn median_delay(&self, from: u64, to: u64) -> f64 {
        let mut all: Vec<_> =
            self.stats[self.ticks(from, to)].iter().map(|s| in_ms(s.jitter_buffer)).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }

    pub fn lost(&self, from: u64, to: u64) -> f64 {
        self.grown(from, to, |s| s.lost as f64)
    }

    /// Frames.
    pub fn recovered(&self, from: u64, to: u64) -> f64 {
        self.grown(from, to, |s| (s.fec_recovered + s.red_recovered + s.dred_recovered) as f64)
    }

    /// How often the delay was changed.
    pub fn moves(&self, from: u64, to: u64) -> u64 {
        self.grown(from, to, |s| s.stretches as f64) as u64
    }

    /// Seconds from this time on until the delay is no longer above what it was before the trouble, by a tick.
    pub fn back(&self, from: f64, quiet: f64) -> f64 {
        let usual = self.delays((quiet as u64).saturating_sub(1), quiet as u64 + 1).1;
        let first = (from * 100.0) as usize;
        let last = self.stats[first..].iter().take(500).rposition(|s| in_ms(s.jitter_buffer) > usual + 10.5);
        last.map_or(0.0, |ticks| (ticks + 1) as f64 / 100.0)
    }

    /// The most that went or came within a tick, in ms.
    pub fn longest_cut(&self) -> f64 {
        let moved = |s: &PeerStats| in_ms(s.shortened + s.lengthened);
        self.stats.windows(2).map(|w| moved(&w[1]) - moved(&w[0])).fold(0.0, f64::max)
    }

    /// A row of the table in the documentation.
    pub fn row(&self, name: &str) {
        let end = self.end();
        let mut delays: Vec<_> = self.stats.iter().map(|s| in_ms(s.jitter_buffer)).collect();
        delays.sort_by(f64::total_cmp);
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {:.0} | {:.0} | {:.0} |",
            delays[delays.len() / 2],
            self.delays(2, u64::MAX / 200).1,
            self.targets(2, u64::MAX / 200).1,
            in_ms(end.concealed),
            end.lost,
            end.fec_recovered + end.red_recovered + end.dred_recovered,
            in_ms(end.shortened),
            in_ms(end.lengthened),
            self.longest_cut(),
        );
    }
}
