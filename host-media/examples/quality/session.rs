//! The two engines and the clock.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use host_media::{
    EncodedFrame, Engine, Event, Format, FrameLength, Packet, PathAdvice, PayloadKind, PeerId, PeerStats,
    SinkSpec, SourceSpec, TICK, WavFormat, WavSample,
};

use crate::{
    Job,
    network::{Dice, Fates, HEADERS, Network, Told},
};

const SPEAKER: PeerId = PeerId(1);
const LISTENER: PeerId = PeerId(2);
/// Rate of what is written: wideband PESQ takes 16 kHz (ITU-T P.862.2).
const RATE: u32 = 16_000;

/// What a call came to, after the warm-up.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Bit/s with all headers: the mean, and the most within a second.
    wire: f64,
    wire_peak: f64,
    packets: u64,
    lost: u64,
    /// Seconds from microphone to loudspeaker less the network's fixed delay: where the recording of what is heard lies.
    offset: f64,
    /// Mean delay of the jitter buffer in ms.
    buffer: f64,
    stats: PeerStats,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.stats;
        write!(
            f,
            "{{\"wire\": {:.0}, \"wire_peak\": {:.0}, \"packets\": {}, \"lost\": {}, \"offset\": {:.6}, \"buffer_ms\": {:.1}, \
             \"late\": {}, \"fec\": {}, \"red\": {}, \"dred\": {}, \"concealed_ms\": {}, \"shortened_ms\": {}, \"lengthened_ms\": {}}}",
            self.wire,
            self.wire_peak,
            self.packets,
            self.lost,
            self.offset,
            self.buffer,
            s.late,
            s.fec_recovered,
            s.red_recovered,
            s.dred_recovered,
            s.concealed.as_millis(),
            s.shortened.as_millis(),
            s.lengthened.as_millis()
        )
    }
}

type Shared<T> = Arc<Mutex<T>>;

fn take<T: Default>(shared: &Shared<T>) -> T {
    std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) fn run(job: &Job) -> Result<Figures, Box<dyn Error>> {
    let (start, unix) = (Instant::now(), SystemTime::UNIX_EPOCH);
    let frame = FrameLength::from_ms(job.frame).ok_or("frame: 10, 20, 40 or 60")?;
    let frames: Shared<Vec<EncodedFrame>> = Arc::default();
    let events: Shared<Vec<Event>> = Arc::default();
    let mut from = {
        let (frames, events) = (Arc::clone(&frames), Arc::clone(&events));
        let mut builder = Engine::builder()
            .source(SourceSpec::Wav(job.speech.clone()))
            .sink(SinkSpec::Null)
            .format(Format::new(frame))
            .on_event(move |event| events.lock().unwrap_or_else(PoisonError::into_inner).push(event))
            .on_frame(move |frame| frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame));
        if let Some(bitrate) = job.bitrate {
            builder = builder.bitrate(bitrate);
        }
        if let Some(percent) = job.expect {
            builder = builder.expected_loss(percent);
        }
        if let Some(complexity) = job.complexity {
            builder = builder.complexity(complexity);
        }
        builder = builder.adaptive(job.adaptive);
        if let Some(on) = job.fec {
            builder = builder.fec(on);
        }
        if let Some(reach) = job.dred {
            builder = builder.dred(Duration::from_millis(reach));
        }
        if let Some((count, spacing)) = job.red {
            builder = builder.red(count, spacing);
        }
        builder.build(start, unix)?
    };
    let mut listener = Engine::builder();
    if let Some(complexity) = job.decoder {
        listener = listener.decoder_complexity(complexity);
    }
    let mut to = listener
        .source(SourceSpec::Silence)
        .sink(SinkSpec::Wav(job.heard.clone(), WavFormat::new(RATE, 1, WavSample::I16)))
        .build(start, unix)?;
    let (sender, controls) = (from.controls(), to.controls());
    // The network gives its advice for somebody: the one who listens.
    sender.add_peer(LISTENER)?;
    let input = controls.add_peer(SPEAKER)?;

    let phase = TICK.mul_f64(Dice::new(job.seed ^ 0xface).roll());
    let ms = |ms: f64| Duration::from_secs_f64(ms / 1e3);
    let mut network = Network::new(job);
    let mut fates = Fates::default();
    let mut flying: VecDeque<(Duration, Packet)> = VecDeque::new();
    let (mut sent, mut figures) = (Vec::new(), Figures::default());
    let (mut sequence, mut buffer, mut ticks) = (65_000_u16, Duration::ZERO, 0_u32);
    let mut reports: VecDeque<(Duration, Told)> = VecDeque::new();
    let (mut ending, mut traced) = (None, None);
    for tick in 0.. {
        let now = TICK * tick;
        from.tick(start + now);
        for event in take(&events) {
            if event == Event::SourceEnded {
                ending = Some(now + ms(job.delay) + Duration::from_secs(1));
            }
        }
        for frame in take(&frames) {
            let (kind, payload) = match frame.red.filter(|_| job.reads_red) {
                Some(red) => (PayloadKind::Red, red),
                None => (PayloadKind::Opus, frame.payload),
            };
            let bytes = HEADERS + payload.len();
            let packet = Packet::new(sequence, frame.timestamp, payload).kind(kind);
            sequence = sequence.wrapping_add(1);
            let arrives = network.carry(now);
            fates.push(arrives.is_none());
            if now.as_secs_f64() >= job.warm && ending.is_none() {
                sent.push((now, bytes));
                figures.packets += 1;
                figures.lost += u64::from(arrives.is_none());
            }
            flying.extend(arrives.map(|at| (at, packet)));
        }
        if let Some(told) = fates.tell(now) {
            // What a connection without repeated packets would say; a report takes its way back.
            reports.push_back((now + ms(job.delay), told));
        }
        while reports.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, told)) = reports.pop_front() else { break };
            let advice = PathAdvice::default()
                .loss(told.loss)
                .path_loss(told.loss)
                .burst_ratio(told.burst_ratio)
                .round_trip(ms(2.0 * job.delay))
                .bitrate(job.limit)
                .red(job.reads_red);
            sender.advise(LISTENER, Some(advice));
        }
        if job.trace {
            let s = sender.stats();
            let is = (s.frame.ms(), s.bitrate, s.fec, s.dred.as_millis(), s.red_copies, s.red_spacing);
            let target = controls.peer_stats(SPEAKER).map_or(0, |stats| stats.jitter_target.as_millis());
            if traced.replace((is, target)).is_none_or(|was| was != (is, target)) {
                let (frame, bitrate, fec, dred, copies, spacing) = is;
                eprintln!(
                    "{:6.2} s: {frame} ms, {bitrate} bit/s, FEC {fec}, DRED {dred} ms, RED {copies}:{spacing}; target {target} ms",
                    now.as_secs_f64()
                );
            }
        }
        let hears = now + phase;
        while flying.front().is_some_and(|(at, _)| *at <= hears) {
            if let Some((at, packet)) = flying.pop_front() {
                input.push(packet, start + at);
            }
        }
        to.tick(start + hears);
        if now.as_secs_f64() >= job.warm {
            buffer += controls.peer_stats(SPEAKER).map_or(Duration::ZERO, |stats| stats.jitter_buffer);
            ticks += 1;
        }
        if ending.is_some_and(|end| now >= end) {
            break;
        }
    }
    to.finish()?;
    figures.stats = controls.peer_stats(SPEAKER).unwrap_or_default();
    figures.buffer = buffer.as_secs_f64() * 1e3 / f64::from(ticks.max(1));
    // The first block was captured in the tick before the first one, and is heard from the phase on.
    figures.offset = (phase + TICK).as_secs_f64();
    (figures.wire, figures.wire_peak) = rates(&sent);
    Ok(figures)
}

/// Bit/s on the whole, and in the second with the most.
fn rates(sent: &[(Duration, usize)]) -> (f64, f64) {
    let bits =
        |packets: &[(Duration, usize)]| packets.iter().map(|(_, bytes)| bytes * 8).sum::<usize>() as f64;
    let (Some((first, _)), Some((last, rest))) = (sent.first(), sent.last()) else { return (0.0, 0.0) };
    let span = last.saturating_sub(*first).as_secs_f64().max(1.0);
    let second = |from: usize| {
        let until = sent[from].0 + Duration::from_secs(1);
        let to = from + sent[from..].partition_point(|(at, _)| *at < until);
        bits(&sent[from..to])
    };
    let peak = (0..sent.len()).map(second).fold(0.0, f64::max);
    (((bits(sent) - (*rest * 8) as f64) / span), peak)
}
