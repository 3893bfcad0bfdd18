//! The engine without its thread.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use super::{
    Builder, OnEvent, OnFrame,
    capture::Upstream,
    controls::{Arrived, Controls, PeerShared},
    desk::{Counter, Desk},
    encoding::Adaptation,
    kind::{Kind, Sinks, Sources},
    slot::{SinkSlot, SourceSlot},
};
use crate::{
    Block, SILENT, TICK,
    codec::Encoder,
    device::Found,
    error::{DeviceFault, Error},
    event::{Event, Speaker},
    format::PeerId,
    jitter::JitterConfig,
    level, lock,
    mixer::Mixer,
    play::Player,
    playout::Playout,
    process::{Heard, Hint, Near},
    record::{self, Taps},
    sink::Sink,
    source::{Origin, Source},
    stats::{EngineStats, Latency},
};

/// The engine without its thread: does 10 ms of work each time it is told to.
///
/// Apart from devices and files, which it reads and writes, it is pure: all time is given to it. Tests drive it with
/// times of their own; [`Engine`](super::Engine) drives it with the monotonic clock.
pub struct Core {
    controls: Controls,
    on_frame: OnFrame,
    on_event: OnEvent,
    source: SourceSlot,
    sink: SinkSlot,
    /// Does its work in the tick until the engine's thread gives it one of its own.
    pub(super) desk: Option<Desk>,
    near: Near,
    upstream: Upstream,
    adaptation: Adaptation,
    mixer: Mixer,
    peers: BTreeMap<PeerId, Peer>,
    version: u64,
    jitter: JitterConfig,
    decoder_complexity: u8,
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
    arrived: VecDeque<Arrived>,
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
        source: Result<Found<dyn Source>, DeviceFault>,
        sink: Result<Found<dyn Sink>, DeviceFault>,
        epoch: Instant,
        unix: SystemTime,
    ) -> Result<Self, Error> {
        let channels = if builder.encoding.stereo { 2 } else { 1 };
        let upstream = Upstream::new(Encoder::with_channels(builder.format, channels)?);
        let adaptation = Adaptation::new(epoch, builder.format.max_bitrate);
        let controls = Controls::new(builder.bitrate, builder.expected_loss, builder.complexity);
        controls.set_muted(builder.muted);
        controls.shared.encoding.start(builder.encoding, builder.format.frame);
        controls.shared.voice.set_processing(builder.processing);
        controls.shared.voice.set_automute(builder.automute);
        let mut pending = VecDeque::new();
        let shared = Arc::clone(&controls.shared);
        let (system, lockstep) = (builder.system, builder.lockstep);
        let (source, held) = split::<Sources>(source, &mut pending);
        if let Ok((id, name)) = &held {
            shared.sources.uses(id, name);
        }
        let sources =
            Counter::new(Arc::clone(&shared.sources), &builder.source, held, (&system, lockstep), epoch);
        let (sink, held) = split::<Sinks>(sink, &mut pending);
        if let Ok((id, name)) = &held {
            shared.sinks.uses(id, name);
        }
        let sinks = Counter::new(Arc::clone(&shared.sinks), &builder.sink, held, (&system, lockstep), epoch);
        let source = SourceSlot::new(source, Arc::clone(&shared.sources));
        let sink = SinkSlot::new(sink, Arc::clone(&shared.sinks));
        let desk = Some(Desk { system, sources, sinks, bell: Arc::clone(&shared.bell) });
        Ok(Self {
            player: Player::new(Arc::clone(controls.players())),
            taps: Taps::new(Arc::clone(controls.recordings())),
            controls,
            desk,
            on_frame: builder.on_frame,
            on_event: builder.on_event,
            source,
            sink,
            near: Near::new(),
            upstream,
            adaptation,
            mixer: Mixer::new(),
            peers: BTreeMap::new(),
            version: 0,
            jitter: builder.jitter,
            decoder_complexity: builder.encoding.decoder_complexity,
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
    /// `now` is the nominal time of this tick; ticks follow each other by exactly [`TICK`]. If devices are in use, they
    /// are opened and closed in here; with a thread of its own ([`Engine`](super::Engine)) another thread does that.
    pub fn tick(&mut self, now: Instant) {
        self.ticks += 1;
        if let Some(desk) = &mut self.desk {
            desk.step(now);
        }
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
        self.source.skip(ticks);
        self.upstream.skip(ticks);
        self.taps.skip(ticks);
        self.sink.skip(ticks);
    }

    /// Closes the source, completes the sink's file, and ends what is played and recorded. Nothing may be done with the
    /// engine after that. A disk that stands still is waited for 5 s; then the files of a recording are completed when it
    /// goes on.
    ///
    /// # Errors
    /// [`Error::Wav`] if the sink's file could not be completed.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.finish_within(record::PATIENCE)
    }

    /// With another time than 5 s.
    pub(crate) fn finish_within(&mut self, patience: Duration) -> Result<(), Error> {
        // First of all, so that nobody is listened to while a disk is waited for.
        let finished = self.close_devices();
        self.player.finish(&mut self.on_event);
        self.taps.finish(patience, &mut self.on_event);
        finished
    }

    /// Closes the source and completes the sink's file. What is recorded is completed by [`finish`](Self::finish).
    pub(super) fn close_devices(&mut self) -> Result<(), Error> {
        self.source.finish();
        let finished = self.sink.finish();
        if let Some(desk) = &self.desk {
            desk.sources.clear();
            desk.sinks.clear();
        }
        finished
    }

    /// For tests of recordings, which say what a peer said.
    #[cfg(test)]
    pub(crate) fn taps(&mut self) -> &mut Taps {
        &mut self.taps
    }

    /// For tests of what goes on without a microphone.
    #[cfg(test)]
    pub(crate) fn drop_source(&mut self) {
        self.source.remove();
    }

    fn tell_pending(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            (self.on_event)(event);
        }
    }

    fn capture(&mut self, now: Instant) {
        let mut block: Block = SILENT;
        if !self.source.read(&mut block, &mut self.on_event) && self.player.block().is_none() {
            // As long as there never was a source nothing is sent at all, unless a file is played.
            self.upstream.skip(1);
            return;
        }
        let heard = self
            .near
            .process(&mut block, self.controls.wanted(self.source.is_microphone(), self.source.is_alive()));
        self.tell(&heard, now);
        let settings = self.adaptation.settings(&self.controls, now);
        let complexity = self.controls.shared.complexity.load(Relaxed);
        let set = self.upstream.apply(&settings, complexity, self.controls.dtx());
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
            let made = Playout::new(self.epoch, self.jitter)
                .and_then(|playout| playout.decoder_complexity(self.decoder_complexity));
            match made {
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
            peer.playout.set_round_trip(peer.shared.round_trip.load(Relaxed));
            for Arrived { packet, at, fresh } in peer.arrived.drain(..) {
                if fresh {
                    peer.playout.restart();
                }
                peer.playout.insert(packet, at);
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
            *lock(&peer.shared.stats) = peer.playout.stats();
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
        self.sink.write(mix, &mut self.on_event);
        if self.sink.present() {
            self.near.reference(mix);
        }
    }

    /// Tells when sample 0 was captured and played, once both are known.
    fn tell_started(&mut self, now: Instant) {
        let Some(origins) = &mut self.origins else { return };
        let first = *origins.first_tick.get_or_insert(now);
        let (microphone, speaker) = (self.source.origin(), self.sink.origin());
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
        let (source, sink) = (self.source.gauge(), self.sink.gauge());
        self.near.device_delay(source.latency() + sink.latency());
        let voice = self.near.stats();
        let (frame, lookahead) = self.upstream.latency();
        let latency = Latency {
            capture_device: source.device,
            capture_ring: source.fill,
            capture_resampler: source.resampler,
            processing: voice.latency,
            frame,
            lookahead,
            mixer: Mixer::LATENCY,
            playout_resampler: sink.resampler,
            playout_ring: sink.fill,
            playout_device: sink.device,
        };
        *lock(&self.controls.shared.stats) = EngineStats {
            ticks: self.ticks,
            skipped_ticks: self.skipped,
            frames: self.upstream.frames,
            level: self.upstream.level,
            output_level: self.output_level,
            muted: self.controls.muted(),
            deafened: self.controls.deafened(),
            has_source: self.source.present(),
            has_sink: self.sink.present(),
            bitrate: self.upstream.encoder().bitrate(),
            frame: self.upstream.encoder().frame(),
            fec: self.upstream.encoder().fec(),
            dred: Duration::from_millis(u64::from(self.upstream.encoder().dred())),
            red_copies: self.upstream.copies().count,
            red_spacing: self.upstream.copies().spacing,
            silent_frames: self.upstream.silent,
            capture_fill: source.fill,
            playout_fill: sink.fill,
            capture_xruns: source.xruns,
            playout_xruns: sink.xruns,
            capture_latency: source.latency(),
            voice,
            encoder_latency: frame + lookahead,
            playout_latency: sink.latency(),
            raised_priority: self.controls.shared.raised.load(Relaxed),
            latency,
        };
    }
}

/// What was opened at the beginning, or that there is nothing.
type Split<K> = (Option<Box<<K as Kind>::Dyn>>, Result<(String, String), DeviceFault>);

fn split<K: Kind>(opened: Result<Found<K::Dyn>, DeviceFault>, pending: &mut VecDeque<Event>) -> Split<K> {
    match opened {
        Ok(Found { it, id, name }) => (Some(it), Ok((id, name))),
        Err(cause) => {
            tracing::warn!(direction = %K::DIRECTION, %cause, "no device");
            pending.push_back(K::nothing(cause.clone()));
            (None, Err(cause))
        }
    }
}
