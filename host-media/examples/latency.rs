//! From mouth to ear between two engines with devices in memory, and where the time goes.
//!
//! `latency` measures on a virtual clock, for many phases of the two engines' ticks, and then with two real engines over
//! a UDP socket on this machine. It prints the tables of docs/audio-latency.md; `latency virtual` leaves out what needs
//! real time. Where the sound lies is found by correlation with what was said ([`host_media::measure::align`]).

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    error::Error,
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{Log, PEER, World, listener, speaker_of, speech};
use host_media::{Format, FrameLength, MemorySink, Packet, measure};

/// What is said, in seconds; the first two are for the jitter buffer to learn that the path is clean.
const SAID: f64 = 8.0;
const LEARNT: usize = 2 * 48_000;
/// Phases of the receiver's ticks that are tried: 40, a quarter of a millisecond apart.
const PHASES: u32 = 40;
/// Calls between real engines, each with another phase of their ticks.
const CALLS: u32 = 7;

/// One call. All in ms.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    /// Found in what was heard.
    mouth_to_ear: f64,
    /// What the engines say of their stages.
    frame: f64,
    lookahead: f64,
    network: f64,
    buffer: f64,
    correlation: f64,
}

impl Measured {
    /// What is left: mixer, limiter, and what no stage accounts for.
    fn rest(&self) -> f64 {
        self.mouth_to_ear - self.frame - self.lookahead - self.network - self.buffer
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn virtual_call(said: &[f32], frame: FrameLength, phase: Duration) -> Measured {
    let heard = MemorySink::new();
    let mut world = World::with_phase(speaker_of(said).format(Format::new(frame)), listener(&heard), phase);
    let mut buffer = Duration::ZERO;
    let ticks = (SAID * 100.0) as u32;
    for tick in 0..ticks {
        world.run(host_media::TICK);
        if tick >= ticks / 2 {
            buffer += world.stats().jitter_buffer;
        }
    }
    world.run(Duration::from_millis(200));
    let found = measure::align(&said[LEARNT..], &heard.take()[LEARNT..], 48_000);
    Measured {
        mouth_to_ear: world.mouth_to_ear(found.delay_samples),
        frame: millis(frame.duration()),
        lookahead: millis(world.controls_a.stats().encoder_latency) - millis(frame.duration()),
        // What the tests' network takes.
        network: 0.3,
        buffer: millis(buffer) / f64::from(ticks - ticks / 2),
        correlation: f64::from(found.correlation),
    }
}

/// Sequence number, timestamp, when it was sent (on the clock of this process, in ns), and the frame.
fn datagram(sequence: u16, timestamp: u32, sent: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = sequence.to_be_bytes().to_vec();
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend(sent.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn parse(bytes: &[u8]) -> Option<(Packet, u64)> {
    let (sequence, rest) = bytes.split_first_chunk()?;
    let (timestamp, rest) = rest.split_first_chunk()?;
    let (sent, payload) = rest.split_first_chunk()?;
    let payload = Bytes::copy_from_slice(payload);
    let packet = Packet::new(u16::from_be_bytes(*sequence), u32::from_be_bytes(*timestamp), payload);
    Some((packet, u64::from_be_bytes(*sent)))
}

fn real_call(said: &[f32], frame: FrameLength, phase: Duration) -> Result<Measured, Box<dyn Error>> {
    let start = Instant::now();
    let nanos = move || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (out, into) =
        (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
    out.connect(into.local_addr()?)?;
    into.set_read_timeout(Some(Duration::from_millis(500)))?;
    let heard = MemorySink::new();
    let (log_a, log_b) = (Log::default(), Log::default());
    let to = log_b.attach(listener(&heard)).start()?;
    let input = to.add_peer(PEER)?;
    // The ticks of an engine begin when it starts.
    std::thread::sleep(phase);
    let mut sequence = 0_u16;
    let from = log_a
        .attach(speaker_of(said).format(Format::new(frame)))
        .on_frame(move |frame| {
            // A full socket loses a packet, as sockets do.
            let _ = out.send(&datagram(sequence, frame.timestamp, nanos(), &frame.payload));
            sequence = sequence.wrapping_add(1);
        })
        .start()?;
    let (mut network, mut buffer) = (Vec::new(), Vec::new());
    let mut bytes = [0; 2048];
    while nanos() < (SAID * 1e9) as u64 {
        let Ok(n) = into.recv(&mut bytes) else { break };
        let at = Instant::now();
        let Some((packet, sent)) = parse(&bytes[..n]) else { continue };
        input.push(packet, at);
        if nanos() > (SAID * 0.5e9) as u64 {
            network.push(nanos().saturating_sub(sent) as f64 / 1e6);
            buffer.extend(to.peer_stats(PEER).map(|stats| millis(stats.jitter_buffer)));
        }
    }
    let stats = from.stats();
    from.stop()?;
    to.stop()?;
    let heard = heard.take();
    let end = said.len().min(heard.len());
    let found = measure::align(&said[LEARNT..end], &heard[LEARNT..], 48_000);
    let ((microphone, _), (_, speaker)) = (log_a.started(), log_b.started());
    let (microphone, speaker) = (microphone.ok_or("no source")?, speaker.ok_or("no sink")?);
    // The listener began first.
    let between = microphone.duration_since(speaker).map_or_else(|e| millis(e.duration()), |d| -millis(d));
    Ok(Measured {
        mouth_to_ear: between + found.delay_samples as f64 / 48.0,
        frame: millis(frame.duration()),
        lookahead: millis(stats.encoder_latency) - millis(frame.duration()),
        network: median(&network),
        buffer: buffer.iter().sum::<f64>() / buffer.len().max(1) as f64,
        correlation: f64::from(found.correlation),
    })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn row(name: &str, frame: FrameLength, calls: &[Measured]) {
    let of = |value: fn(&Measured) -> f64| calls.iter().map(value).collect::<Vec<_>>();
    let whole = of(|m| m.mouth_to_ear);
    let (least, most) = whole.iter().fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
    println!(
        "| {name}, {} ms | **{:.1}** | {least:.1} to {most:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.3} |",
        frame.ms(),
        median(&whole),
        median(&of(|m| m.frame)),
        median(&of(|m| m.lookahead)),
        median(&of(|m| m.network)),
        median(&of(|m| m.buffer)),
        median(&of(Measured::rest)),
        median(&of(|m| m.correlation)),
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let said = speech(SAID, 48_000);
    println!(
        "| ms | mouth to ear, median | least to most | frame | look-ahead | network | jitter buffer | rest | correlation |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let frames = [FrameLength::Ms20, FrameLength::Ms10];
    for frame in frames {
        let phase = |n| host_media::TICK * n / PHASES;
        let calls: Vec<_> = (0..PHASES).map(|n| virtual_call(&said, frame, phase(n))).collect();
        row("virtual clock", frame, &calls);
    }
    if std::env::args().nth(1).is_some_and(|word| word == "virtual") {
        return Ok(());
    }
    for frame in frames {
        let calls = (0..CALLS)
            .map(|n| real_call(&said, frame, host_media::TICK * n / CALLS))
            .collect::<Result<Vec<_>, _>>()?;
        row("UDP on this machine", frame, &calls);
    }
    Ok(())
}
