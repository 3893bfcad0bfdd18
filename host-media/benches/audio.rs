//! What a tick of 10 ms costs, in memory and on made-up time. `make bench` runs this in release and writes
//! docs/benchmarks.md; nothing is asserted about speed.
//!
//! Each sample is [`LENGTH`] seconds of a call: sending is an engine with a source and nobody to listen to, receiving one
//! without sound of its own and with packets of so many peers. `BLINK_BENCH_SECONDS` makes the calls shorter, for who
//! counts instructions (`make guard`).

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark on fixed inputs")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant, SystemTime},
};

use common::speech;
use divan::Bencher;
use host_media::{
    Builder, Core, EncodedFrame, Engine, Format, FrameLength, MemorySource, NoiseLevel, Packet, PayloadKind,
    PeerId, PeerInput, Processing, SinkSpec, SourceSpec, TICK,
};

/// Seconds of speech in a sample.
static LENGTH: LazyLock<u32> = LazyLock::new(|| match std::env::var("BLINK_BENCH_SECONDS") {
    Ok(seconds) => seconds.parse().unwrap(),
    Err(_) => 10,
});

fn ticks() -> u32 {
    *LENGTH * 100
}

/// One sample takes up to a second.
const MANY: u32 = 10;

static SPEECH: LazyLock<Arc<[f32]>> = LazyLock::new(|| speech(f64::from(*LENGTH), 48_000).into());

fn build(builder: Builder) -> Core {
    builder.build(Instant::now(), SystemTime::UNIX_EPOCH).unwrap()
}

fn run(core: &mut Core, mut before: impl FnMut(u32, Instant)) {
    let start = Instant::now();
    for tick in 0..ticks() {
        let now = start + TICK * tick;
        before(tick, now);
        core.tick(now);
    }
}

/// 20 ms, 32 kbit/s, effort 9 and in-band redundancy, as the defaults are.
fn talker() -> Builder {
    Engine::builder().source(SourceSpec::Memory(MemorySource::new(Arc::clone(&SPEECH)))).sink(SinkSpec::Null)
}

/// Settings of the sender by name.
const SENDING: [&str; 15] = [
    "nothing",
    "20_ms",
    "10_ms",
    "40_ms",
    "effort_0",
    "effort_5",
    "effort_10",
    "no_fec",
    "red",
    "dred",
    "48_kbps_fec_dred",
    "processing",
    "high_pass",
    "noise",
    "echo",
];

fn sender(name: &str) -> Builder {
    let dred = |builder: Builder| builder.expected_loss(20).dred(Duration::from_millis(300));
    let talker = talker();
    match name {
        "nothing" => {
            Engine::builder().source(SourceSpec::Silence).sink(SinkSpec::Null).complexity(0).bitrate(6_000)
        }
        "10_ms" => talker.format(Format::new(FrameLength::Ms10)),
        "40_ms" => talker.format(Format::new(FrameLength::Ms40)),
        "effort_0" => talker.complexity(0),
        "effort_5" => talker.complexity(5),
        "effort_10" => talker.complexity(10),
        "no_fec" => talker.fec(false),
        "red" => talker.red(1, 2),
        "dred" => dred(talker).fec(false).bitrate(48_000),
        "48_kbps_fec_dred" => dred(talker).bitrate(48_000),
        "processing" => talker.processing(Processing::on()),
        "high_pass" => talker.processing(Processing::off().high_pass(true)),
        "noise" => talker.processing(Processing::off().noise(Some(NoiseLevel::Moderate))),
        "echo" => talker.processing(Processing::off().echo(true)),
        _ => talker,
    }
}

#[divan::bench(name = "send/with", args = SENDING, sample_count = MANY, sample_size = 1)]
fn send(bencher: Bencher<'_, '_>, name: &str) {
    bencher.with_inputs(|| build(sender(name))).bench_local_refs(|core| run(core, |_, _| {}));
}

/// Everything that a sender with these settings says, with the tick at which it says it.
fn said(builder: Builder) -> Vec<(u32, EncodedFrame)> {
    let frames: Arc<Mutex<Vec<EncodedFrame>>> = Arc::default();
    let queue = Arc::clone(&frames);
    let mut core = build(builder.on_frame(move |frame| queue.lock().unwrap().push(frame)));
    let (mut all, start) = (Vec::new(), Instant::now());
    for tick in 0..ticks() {
        core.tick(start + TICK * tick);
        all.extend(frames.lock().unwrap().drain(..).map(|frame| (tick, frame)));
    }
    all
}

/// What peers send, and what becomes of it.
const RECEIVING: [&str; 5] = ["clean", "fec_10", "red_10", "dred_bursts", "concealed_10"];

/// What a peer of that kind says, made when it is first asked for: each takes as long as a sample.
static SAID: [LazyLock<Vec<(u32, EncodedFrame)>>; 5] = [
    LazyLock::new(|| said(talker())),
    LazyLock::new(|| said(loses())),
    LazyLock::new(|| said(loses().red(1, 2))),
    LazyLock::new(|| {
        said(talker().expected_loss(20).fec(false).bitrate(48_000).dred(Duration::from_millis(300)))
    }),
    LazyLock::new(|| said(talker().fec(false))),
];

/// A talker who knows of a loss of 10 %.
fn loses() -> Builder {
    talker().expected_loss(10).bitrate(24_000)
}

struct Room {
    core: Core,
    inputs: Vec<PeerInput>,
    packets: Vec<(u32, Packet)>,
}

/// An engine that hears this many peers.
fn room(kind: &str, peers: u64, builder: Builder) -> Room {
    let core = build(builder.source(SourceSpec::Silence).sink(SinkSpec::Null));
    let controls = core.controls();
    let inputs = (0..peers).map(|n| controls.add_peer(PeerId(n)).unwrap()).collect();
    let which = RECEIVING.iter().position(|name| *name == kind).unwrap();
    let lost = |n: usize| match kind {
        "clean" => false,
        // Four of forty.
        "dred_bursts" => n % 40 >= 36,
        _ => n % 10 == 9,
    };
    let packet = |(n, (tick, frame)): (usize, &(u32, EncodedFrame))| {
        let (kind, payload) = match frame.red.clone().filter(|_| kind == "red_10") {
            Some(red) => (PayloadKind::Red, red),
            None => (PayloadKind::Opus, frame.payload.clone()),
        };
        (*tick, Packet::new(n as u16, frame.timestamp, payload).kind(kind))
    };
    let packets = SAID[which].iter().enumerate().filter(|(n, _)| !lost(*n)).map(packet).collect();
    Room { core, inputs, packets }
}

fn listen(Room { core, inputs, packets }: &mut Room) {
    let mut rest = packets.as_slice();
    run(core, |tick, now| {
        while let Some(((at, packet), others)) = rest.split_first()
            && *at <= tick
        {
            for input in inputs.iter() {
                input.push(packet.clone(), now);
            }
            rest = others;
        }
    });
}

/// The receiver alone: its own encoder has silence and as little effort as can be.
fn quiet() -> Builder {
    Engine::builder().complexity(0).bitrate(6_000)
}

#[divan::bench(name = "receive/peers", args = [0, 1, 4, 16], sample_count = MANY, sample_size = 1)]
fn receive(bencher: Bencher<'_, '_>, peers: u64) {
    bencher.with_inputs(|| room("clean", peers, quiet())).bench_local_refs(listen);
}

#[divan::bench(name = "repair/of", args = RECEIVING, sample_count = MANY, sample_size = 1)]
fn repair(bencher: Bencher<'_, '_>, kind: &str) {
    bencher.with_inputs(|| room(kind, 4, quiet())).bench_local_refs(listen);
}

#[divan::bench(name = "repair/classic", sample_count = MANY, sample_size = 1)]
fn classic(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(|| room("concealed_10", 4, quiet().decoder_complexity(0))).bench_local_refs(listen);
}

#[divan::bench(name = "repair/enhanced", sample_count = MANY, sample_size = 1)]
fn enhanced(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(|| room("clean", 4, quiet().decoder_complexity(6))).bench_local_refs(listen);
}

fn main() {
    divan::main();
}
