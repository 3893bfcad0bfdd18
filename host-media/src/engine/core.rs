//! The engine without its thread.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use super::{
    Builder, OnEvent, OnFrame, OrFault,
    capture::Upstream,
    controls::{Controls, PeerShared},
};
use crate::{
    Block, SILENT, TICK,
    codec::Encoder,
    device::Direction,
    error::{DeviceFault, Error},
    event::{Event, Speaker},
    format::{Packet, PeerId},
    jitter::JitterConfig,
    level, lock,
    mixer::Mixer,
    peer::Playout,
    play::Player,
    process::{Heard, Hint, Near},
    record::Taps,
    sink::{Sink, Write},
    source::{Gauge, Origin, Read, Source},
    spec::SourceSpec,
    stats::EngineStats,
};

/// The engine without its thread: does 10 ms of work each time it is told to.
///
/// Apart from devices and files, which it reads and writes, it is pure: all time is given to it. Tests drive it with
/// times of their own; [`Engine`](super::Engine) drives it with the monotonic clock.
pub struct Core {
    controls: Controls,
    on_frame: OnFrame,
    on_event: OnEvent,
    source: Option<Box<dyn Source>>,
    sink: Option<Box<dyn Sink>>,
    near: Near,
    /// Whether the source is a microphone, which is processed unless the application says otherwise.
    microphone: bool,
    /// Whether the source should be heard: it is not silence by choice and has not ended.
    alive: bool,
    upstream: Upstream,
    mixer: Mixer,
    peers: BTreeMap<PeerId, Peer>,
    version: u64,
    jitter: JitterConfig,
    epoch: Instant,
    unix: SystemTime,
    /// The source's sample 0 and the sink's, until both are known and told.
    origins: Option<Origins>,
    pending: VecDeque<Event>,
    encode_failing: bool,
    output_gain: f32,
    ticks: u64,
    skipped: u64,
    output_level: u8,
    /// A file that is played into the call.
    player: Player,
    /// What is recorded.
    taps: Taps,
}

#[derive(Debug, Default)]
struct Origins {
    first_tick: Option<Instant>,
}

struct Peer {
    shared: Arc<PeerShared>,
    playout: Playout,
    gain: f32,
    arrived: VecDeque<(Packet, Instant)>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("ticks", &self.ticks)
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

impl Core {
    pub(super) fn new(
        builder: Builder,
        source: OrFault<dyn Source>,
        sink: OrFault<dyn Sink>,
        epoch: Instant,
        unix: SystemTime,
    ) -> Result<Self, Error> {
        let microphone = matches!(builder.source, SourceSpec::Default | SourceSpec::Device(_));
        let alive = !matches!(builder.source, SourceSpec::Silence);
        let controls = Controls::new(builder.bitrate, builder.expected_loss, builder.complexity);
        controls.shared.voice.set_processing(builder.processing);
        controls.shared.voice.set_automute(builder.automute);
        let upstream = Upstream::new(Encoder::new(builder.format)?);
        let mut pending = VecDeque::new();
        let source = source
            .map_err(|cause| {
                tracing::warn!(%cause, "no microphone: listen-only");
                pending.push_back(Event::ListenOnly { cause });
            })
            .ok();
        let sink = sink
            .map_err(|cause| {
                tracing::warn!(%cause, "no speaker");
                pending.push_back(Event::NoSpeaker { cause });
            })
            .ok();
        Ok(Self {
            player: Player::new(Arc::clone(controls.players())),
            taps: Taps::new(Arc::clone(controls.recordings())),
            controls,
            on_frame: builder.on_frame,
            on_event: builder.on_event,
            source,
            sink,
            near: Near::new(),
            microphone,
            alive,
            upstream,
            mixer: Mixer::new(),
            peers: BTreeMap::new(),
            version: 0,
            jitter: builder.jitter,
            epoch,
            unix,
            origins: Some(Origins::default()),
            pending,
            encode_failing: false,
            output_gain: 1.0,
            ticks: 0,
            skipped: 0,
            output_level: level::SILENCE,
        })
    }

    /// The handle for settings, peers and statistics.
    #[must_use]
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// Does 10 ms of work: reads the source, encodes, takes the packets that came, decodes, mixes and writes the sink.
    ///
    /// `now` is the nominal time of this tick; ticks follow each other by exactly [`TICK`].
    pub fn tick(&mut self, now: Instant) {
        self.ticks += 1;
        self.tell_pending();
        self.player.next(&mut self.on_event);
        self.capture(now);
        self.take_peers();
        let mix = self.mix(now);
        self.taps.end(&mut self.on_event);
        self.play(&mix);
        self.tell_started(now);
        self.publish(now);
    }

    /// Leaves `ticks` ticks out, because the machine stood still: sources go on, timestamps go on, sinks get silence.
    pub fn skip(&mut self, ticks: u64) {
        self.skipped += ticks;
        if let Some(source) = &mut self.source {
            source.skip(ticks);
        }
        self.upstream.skip(ticks);
        self.taps.skip(ticks);
        if let Some(sink) = &mut self.sink {
            sink.skip(ticks);
        }
    }

    /// Completes the sink's file and the recording. Nothing may be done with the engine after that.
    ///
    /// # Errors
    /// [`Error::Wav`] if the file could not be completed.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.taps.finish(&mut self.on_event);
        match self.sink.take() {
            Some(mut sink) => sink.finish(),
            None => Ok(()),
        }
    }

    /// For tests of recordings, which say what a peer said.
    #[cfg(test)]
    pub(crate) fn taps(&mut self) -> &mut Taps {
        &mut self.taps
    }

    /// For tests of what goes on without a microphone.
    #[cfg(test)]
    pub(crate) fn drop_source(&mut self) {
        self.source = None;
    }

    fn tell_pending(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            (self.on_event)(event);
        }
    }

    fn capture(&mut self, now: Instant) {
        let mut block: Block = SILENT;
        let read = match &mut self.source {
            Some(source) => source.read(&mut block),
            None if self.player.block().is_some() => Read::Sound,
            // Without a source nothing is sent at all, unless a file is played.
            None => return self.upstream.skip(1),
        };
        match read {
            Read::Sound => {}
            Read::Ended => {
                self.alive = false;
                (self.on_event)(Event::SourceEnded);
            }
            Read::Failed(cause) => {
                self.alive = false;
                tracing::warn!(%cause, "the source failed");
                (self.on_event)(Event::SourceFailed { cause });
            }
            Read::Lost(cause) => {
                self.source = None;
                self.lost(Direction::Microphone, cause);
                return;
            }
        }
        let heard = self.near.process(&mut block, self.controls.wanted(self.microphone, self.alive));
        self.tell(&heard, now);
        let shared = &self.controls.shared;
        let encoder = self.upstream.encoder();
        let set = encoder
            .set_bitrate(shared.bitrate.load(Relaxed))
            .and_then(|()| encoder.set_expected_loss(shared.expected_loss.load(Relaxed)))
            .and_then(|()| encoder.set_complexity(shared.complexity.load(Relaxed)));
        if let Some(played) = self.player.block() {
            self.upstream.add(played);
        }
        let pushed = set.and_then(|()| self.upstream.push(&block, heard.mute, heard.voice));
        if let Some(heard) = self.upstream.heard() {
            self.taps.own(&heard);
        }
        match pushed {
            Ok(frame) => {
                self.encode_failing = false;
                if let Some(frame) = frame {
                    (self.on_frame)(frame);
                }
            }
            Err(e) if self.encode_failing => tracing::debug!(error = %e, "still no frame"),
            Err(e) => {
                tracing::warn!(error = %e, "a frame could not be encoded");
                self.encode_failing = true;
                (self.on_event)(Event::EncodeFailed { cause: e.to_string() });
            }
        }
    }

    /// Tells what was learnt from the microphone.
    fn tell(&mut self, heard: &Heard, now: Instant) {
        let events = [
            heard.speaking.map(|speaking| Event::Speaking { who: Speaker::Local, speaking }),
            heard.automuted.map(|muted| Event::Automuted { muted }),
            heard.hint.map(|hint| match hint {
                Hint::SpeakingWhileMuted => Event::SpeakingWhileMuted,
                Hint::Silent(since) => Event::MicrophoneSilent { since: self.unix(now) - since },
                Hint::Audible => Event::MicrophoneAudible,
            }),
        ];
        for event in events.into_iter().flatten() {
            (self.on_event)(event);
        }
    }

    fn lost(&mut self, direction: Direction, cause: DeviceFault) {
        tracing::warn!(%direction, %cause, "device lost");
        (self.on_event)(Event::DeviceLost { direction, cause: cause.clone() });
        (self.on_event)(match direction {
            Direction::Microphone => Event::ListenOnly { cause },
            Direction::Speaker => Event::NoSpeaker { cause },
        });
    }

    /// Brings the peers up to date with what the application wants.
    fn take_peers(&mut self) {
        let version = self.controls.shared.version.load(Relaxed);
        if version == self.version {
            return;
        }
        self.version = version;
        let wanted = lock(&self.controls.shared.peers).clone();
        self.peers.retain(|id, peer| wanted.get(id).is_some_and(|shared| Arc::ptr_eq(shared, &peer.shared)));
        for (id, shared) in wanted {
            if self.peers.contains_key(&id) {
                continue;
            }
            match Playout::new(self.epoch, self.jitter) {
                Ok(playout) => {
                    let gain = shared.gain();
                    self.peers.insert(id, Peer { shared, playout, gain, arrived: VecDeque::new() });
                }
                // Only for want of memory; it is tried again at the next tick.
                Err(e) => {
                    tracing::error!(error = %e, "a peer cannot be heard");
                    self.version = version.wrapping_sub(1);
                }
            }
        }
    }

    fn mix(&mut self, now: Instant) -> Block {
        let mut block = SILENT;
        for (id, peer) in &mut self.peers {
            let mut queue = lock(&peer.shared.queue);
            // Swapped, so that no memory moves while the network waits for the lock.
            std::mem::swap(&mut queue.packets, &mut peer.arrived);
            let dropped = std::mem::take(&mut queue.dropped);
            drop(queue);
            peer.playout.overflowed(dropped);
            for (packet, arrival) in peer.arrived.drain(..) {
                peer.playout.insert(packet, arrival);
            }
            let pulled = peer.playout.pull(now, &mut block);
            self.taps.peer(*id, &block);
            let to = peer.shared.gain();
            let from = std::mem::replace(&mut peer.gain, to);
            self.mixer.add(&block, from, to);
            if pulled.first {
                (self.on_event)(Event::FirstAudio { peer: *id });
            }
            if let Some(speaking) = pulled.speaking {
                (self.on_event)(Event::Speaking { who: Speaker::Peer(*id), speaking });
            }
            *lock(&peer.shared.stats) = peer.playout.stats(now);
        }
        if let Some((played, from, to)) = self.player.monitored() {
            self.mixer.add(played, from, to);
        }
        let to = if self.controls.deafened() { 0.0 } else { 1.0 };
        let from = std::mem::replace(&mut self.output_gain, to);
        let mut mix = self.mixer.take();
        if from != 1.0 || to != 1.0 {
            let step = (to - from) / mix.len() as f32;
            for (i, sample) in mix.iter_mut().enumerate() {
                *sample *= from + step * (i + 1) as f32;
            }
        }
        mix
    }

    fn play(&mut self, mix: &Block) {
        self.output_level = level::dbov(level::rms(mix));
        let Some(sink) = &mut self.sink else { return };
        match sink.write(mix) {
            Write::Done => self.near.reference(mix),
            Write::Failed(cause) => {
                tracing::warn!(%cause, "the sink failed");
                (self.on_event)(Event::SinkFailed { cause });
            }
            Write::Lost(cause) => {
                self.sink = None;
                self.lost(Direction::Speaker, cause);
            }
        }
    }

    /// Tells when sample 0 was captured and played, once both are known.
    fn tell_started(&mut self, now: Instant) {
        let Some(origins) = &mut self.origins else { return };
        let first = *origins.first_tick.get_or_insert(now);
        let microphone = self.source.as_ref().map(|source| source.origin());
        let speaker = self.sink.as_ref().map(|sink| sink.origin());
        if microphone == Some(Origin::Pending) || speaker == Some(Origin::Pending) {
            return;
        }
        let unix = |origin: Option<Origin>, at_tick: Duration| match origin? {
            // What is handed in at a tick was captured before it.
            Origin::FirstTick => self.unix(first).checked_sub(at_tick),
            Origin::At(at) => Some(self.unix(at)),
            Origin::Pending => None,
        };
        let event =
            Event::Started { microphone: unix(microphone, TICK), speaker: unix(speaker, Duration::ZERO) };
        self.origins = None;
        (self.on_event)(event);
    }

    fn unix(&self, at: Instant) -> SystemTime {
        match at.checked_duration_since(self.epoch) {
            Some(after) => self.unix + after,
            None => self.unix - self.epoch.duration_since(at),
        }
    }

    fn publish(&mut self, _now: Instant) {
        let source = self.source.as_ref().map_or_else(Gauge::default, |s| s.gauge());
        let sink = self.sink.as_ref().map_or_else(Gauge::default, |s| s.gauge());
        self.near.device_delay(source.latency + sink.latency);
        *lock(&self.controls.shared.stats) = EngineStats {
            ticks: self.ticks,
            skipped_ticks: self.skipped,
            frames: self.upstream.frames,
            level: self.upstream.level,
            output_level: self.output_level,
            muted: self.controls.muted(),
            deafened: self.controls.deafened(),
            has_source: self.source.is_some(),
            has_sink: self.sink.is_some(),
            bitrate: self.upstream.encoder().bitrate(),
            capture_fill: source.fill,
            playout_fill: sink.fill,
            capture_xruns: source.xruns,
            playout_xruns: sink.xruns,
            capture_latency: source.latency,
            voice: self.near.stats(),
            mixer_latency: Mixer::LATENCY,
            encoder_latency: Duration::from_secs_f64(self.upstream.latency()),
            playout_latency: sink.latency,
        };
    }
}
