//! The sound of the call that is active: one engine, one encoder, and a way in for each participant.

mod commands;
mod events;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use host_media::{
    Direction, EncodedFrame, Engine, Format, FrameLength, Packet, PayloadKind, PeerId, PeerInput, PeerStats,
    SinkSpec, SourceSpec,
};
use simple_webrtc::{Advice, Frame, FrameTooLarge, LocalTrack, RemoteTrack};
use tokio::sync::mpsc;

use super::{Audio, Key, paths::Paths, rtp::RtpClock};
use crate::{
    event::{DeviceKind, Warning},
    id::{CallId, PublicKey},
    ports::media::{MediaError, MediaEvent},
    proto::{LinkId, MediaInput, signal::MediaFormat},
};

/// Where the packets of a participant go; nowhere while no devices are open.
type Slot = Arc<Mutex<Option<PeerInput>>>;

pub(super) struct Sound {
    track: LocalTrack,
    clock: RtpClock,
    events: mpsc::Sender<MediaEvent>,
    state: Mutex<State>,
    /// Devices are opened and closed one after the other: some can be held only once.
    turn: Mutex<()>,
}

struct State {
    /// What the app wants, for the engine that runs and for later ones.
    audio: Audio,
    /// The call for which devices are or will be open.
    wanted: Option<CallId>,
    engine: Option<Engine>,
    links: BTreeMap<Key, Playing>,
    paths: Paths,
    /// What engines call each participant of a call: the same after a reconnect, so that a recording goes on.
    ids: BTreeMap<Key, PeerId>,
    gains: BTreeMap<PublicKey, f32>,
    next: u64,
    muted: bool,
    deafened: bool,
}

struct Playing {
    link: LinkId,
    id: PeerId,
    slot: Slot,
}

fn stop(engine: Option<Engine>) {
    if let Some(Err(error)) = engine.map(Engine::stop) {
        tracing::warn!(%error, "closing the devices");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sound {
    pub(super) fn new(
        audio: Audio,
        track: LocalTrack,
        clock: RtpClock,
        events: mpsc::Sender<MediaEvent>,
    ) -> Self {
        let state = State {
            audio,
            wanted: None,
            engine: None,
            links: BTreeMap::new(),
            paths: Paths::default(),
            ids: BTreeMap::new(),
            gains: BTreeMap::new(),
            next: 0,
            muted: false,
            deafened: false,
        };
        Self { track, clock, events, state: Mutex::new(state), turn: Mutex::default() }
    }

    /// Opens the devices. They take a while, so this returns when it has begun; the engine says when they run.
    pub(super) fn open(self: Arc<Self>, call: CallId, format: MediaFormat) -> Result<(), MediaError> {
        let frame = FrameLength::from_ms(format.frame_ms)
            .ok_or_else(|| MediaError(format!("frames of {} ms are not possible", format.frame_ms)))?;
        let format = Format::new(frame).channels(format.channels).max_bitrate(format.max_bitrate);
        lock(&self.state).wanted = Some(call);
        tokio::task::spawn_blocking(move || {
            let _turn = lock(&self.turn);
            let previous = lock(&self.state).engine.take();
            stop(previous);
            if lock(&self.state).wanted == Some(call) {
                self.start(call, format);
            }
        });
        Ok(())
    }

    /// Starts an engine and puts it to work, unless the call has ended meanwhile.
    fn start(self: &Arc<Self>, call: CallId, format: Format) {
        // What was named may be gone by now; then the system's default serves, and if that fails too, none.
        let mut audio = lock(&self.state).audio.clone();
        for _ in 0..3 {
            let open = Arc::new(AtomicBool::new(false));
            match self.engine(call, format, &audio, open.clone()) {
                Ok(engine) => return self.install(call, engine, &open),
                Err(host_media::Error::NoSuchDevice { direction, id, available }) => {
                    let cause = host_media::Error::NoSuchDevice { direction, id: id.clone(), available };
                    send(
                        &self.events,
                        MediaInput::Warning(Warning::DeviceLost { device: cause.to_string() }),
                    );
                    match direction {
                        Direction::Microphone => audio.source = SourceSpec::Default,
                        Direction::Speaker => audio.sink = SinkSpec::Default,
                    }
                }
                Err(error) => {
                    // A file that could be used at the start and cannot now: nothing is heard on either side.
                    let cause = error.to_string();
                    send(&self.events, MediaInput::Warning(Warning::ListenOnly { cause: cause.clone() }));
                    send(&self.events, MediaInput::Warning(Warning::NoSpeaker { cause }));
                    return;
                }
            }
        }
    }

    fn engine(
        self: &Arc<Self>,
        call: CallId,
        format: Format,
        audio: &Audio,
        open: Arc<AtomicBool>,
    ) -> Result<Engine, host_media::Error> {
        let (track, clock) = (self.track.clone(), self.clock);
        let mut offset = None;
        let sound = Arc::downgrade(self);
        let mut builder = Engine::builder();
        if let Some(processing) = audio.processing {
            builder = builder.processing(processing);
        }
        builder
            .source(audio.source.clone())
            .sink(audio.sink.clone())
            .format(format)
            .bitrate(format.max_bitrate)
            .automute(audio.automute)
            .on_frame(move |frame| {
                let offset = *offset.get_or_insert_with(|| clock.offset(frame.timestamp));
                // Nothing leaves before the engine knows whether the user is muted.
                if !open.load(Ordering::Acquire) {
                    return;
                }
                // Frames and copies of ours are never too large for a packet (RFC 6716: 1,275 bytes).
                if let Err(error) = write(&track, frame, offset) {
                    tracing::warn!(%error, "frame dropped");
                }
            })
            .on_event(move |event| {
                if let Some(sound) = sound.upgrade() {
                    sound.on_event(call, event);
                }
            })
            .start()
    }

    fn install(&self, call: CallId, engine: Engine, open: &AtomicBool) {
        let mut state = lock(&self.state);
        if state.wanted != Some(call) {
            drop(state);
            return stop(Some(engine));
        }
        engine.set_muted(state.muted);
        engine.set_deafened(state.deafened);
        state.paths.tell(&engine, |key| key.0 == call);
        if let Some(folder) = &state.audio.record
            && let Err(cause) = commands::record(&engine, folder)
        {
            self.not_recorded(call, cause);
        }
        for (kind, used) in [(DeviceKind::Microphone, engine.source()), (DeviceKind::Speaker, engine.sink())]
        {
            send(&self.events, MediaInput::Device { call, kind, name: used.map(|used| used.name) });
        }
        state.engine = Some(engine);
        // All links of this call, not only new ones: those of a call that was held have stayed open while another call
        // had the devices, or none did. Their entries in `links` outlive each engine, and their readers have gone on,
        // discarding what came; so this engine takes them over like new ones. Nothing old is played, and no track has to
        // be told of again: a connection does that once.
        let keys: Vec<Key> = state.links.keys().copied().filter(|k| k.0 == call).collect();
        for key in keys {
            state.connect(key);
        }
        open.store(true, Ordering::Release);
    }

    /// Closes the devices of that call, or of any, also those that are being opened.
    pub(super) async fn close(self: Arc<Self>, call: Option<CallId>) -> Result<(), MediaError> {
        {
            let mut state = lock(&self.state);
            if call.is_some() && state.wanted != call {
                return Ok(());
            }
            let over = state.wanted.take();
            for playing in state.links.values() {
                *lock(&playing.slot) = None;
            }
            let State { ids, links, .. } = &mut *state;
            ids.retain(|key, _| Some(key.0) != over || links.contains_key(key));
        }
        tokio::task::spawn_blocking(move || {
            let _turn = lock(&self.turn);
            let engine = lock(&self.state).engine.take();
            engine.map_or(Ok(()), |engine| engine.stop().map_err(|e| MediaError(e.to_string())))
        })
        .await
        .map_err(|e| MediaError(e.to_string()))?
    }

    /// Plays what arrives on a track, as long as it lasts.
    pub(super) fn play(&self, key: Key, link: LinkId, mut track: RemoteTrack) {
        let slot = {
            let mut state = lock(&self.state);
            state.hear_no_more(key);
            let id = state.id(key);
            let slot = Slot::default();
            state.links.insert(key, Playing { link, id, slot: slot.clone() });
            if state.wanted == Some(key.0) {
                state.connect(key);
            }
            slot
        };
        // Ends with the connection, which owns the other end of the track.
        tokio::spawn(async move {
            while let Some(packet) = track.recv().await {
                if let Some(input) = lock(&slot).as_ref() {
                    let kind = match packet.kind {
                        simple_webrtc::PayloadKind::Red => PayloadKind::Red,
                        _ => PayloadKind::Opus,
                    };
                    let content = Packet::new(packet.sequence, packet.timestamp, packet.payload).kind(kind);
                    input.push(content, packet.arrival);
                }
            }
        });
    }

    pub(super) fn remove(&self, key: Key) {
        lock(&self.state).drop_link(key);
    }

    /// Takes what the network says of the path to somebody.
    pub(super) fn advise(&self, key: Key, advice: Advice) {
        let mut state = lock(&self.state);
        let id = state.id(key);
        state.paths.say(key, id, advice);
        if let (Some(engine), true) = (&state.engine, state.wanted == Some(key.0)) {
            state.paths.tell(engine, |of| *of == key);
        }
    }

    /// Finds out whether anybody reads redundant sound by now, or nobody any more.
    pub(super) fn look_for_readers(&self) {
        let mut state = lock(&self.state);
        let news = state.paths.set_red(self.track.wants_redundancy());
        if let (Some(engine), true) = (&state.engine, news) {
            state.paths.tell(engine, |key| Some(key.0) == state.wanted);
        }
    }

    pub(super) fn set_muted(&self, muted: bool) {
        let mut state = lock(&self.state);
        state.muted = muted;
        if let Some(engine) = &state.engine {
            engine.set_muted(muted);
        }
    }

    pub(super) fn set_deafened(&self, deafened: bool) {
        let mut state = lock(&self.state);
        state.deafened = deafened;
        if let Some(engine) = &state.engine {
            engine.set_deafened(deafened);
        }
    }

    pub(super) fn set_gain(&self, peer: PublicKey, gain: f32) {
        let mut state = lock(&self.state);
        state.gains.insert(peer, gain);
        if let Some(engine) = &state.engine {
            for (_, playing) in state.links.iter().filter(|((_, p), _)| *p == peer) {
                engine.set_gain(playing.id, gain);
            }
        }
    }

    /// What is played now, with the numbers of its sound.
    pub(super) fn playing(&self) -> Vec<(LinkId, Option<PeerStats>)> {
        let state = lock(&self.state);
        let stats = |id| state.engine.as_ref().and_then(|e| e.peer_stats(id));
        state.links.values().map(|p| (p.link, stats(p.id))).collect()
    }
}

impl State {
    fn id(&mut self, key: Key) -> PeerId {
        let next = &mut self.next;
        *self.ids.entry(key).or_insert_with(|| {
            *next += 1;
            PeerId(*next)
        })
    }

    /// Gives a link's packets a way into the engine.
    fn connect(&mut self, key: Key) {
        let (Some(engine), Some(playing)) = (&self.engine, self.links.get(&key)) else { return };
        // Before they are there: a recording that runs names their file when they come.
        engine.set_label(playing.id, &label(&key.1));
        match engine.add_peer(playing.id) {
            Ok(input) => {
                if let Some(gain) = self.gains.get(&key.1) {
                    engine.set_gain(playing.id, *gain);
                }
                self.paths.tell(engine, |of| *of == key);
                *lock(&playing.slot) = Some(input);
            }
            Err(error) => tracing::warn!(%error, "a participant cannot be heard"),
        }
    }

    fn drop_link(&mut self, key: Key) {
        self.paths.remove(key);
        self.hear_no_more(key);
    }

    fn hear_no_more(&mut self, key: Key) {
        if let Some(playing) = self.links.remove(&key) {
            *lock(&playing.slot) = None;
        }
        if let (Some(id), Some(engine)) = (self.ids.get(&key), &self.engine) {
            engine.remove_peer(*id);
        }
    }
}

/// Sends a frame, with copies of earlier ones to those who read them.
fn write(track: &LocalTrack, frame: EncodedFrame, offset: u32) -> Result<(), FrameTooLarge> {
    let red = frame.red;
    let frame = Frame {
        payload: frame.payload,
        timestamp: frame.timestamp.wrapping_add(offset),
        marker: false,
        audio_level: Some((frame.level, frame.voice)),
    };
    match red {
        Some(red) => track.write_redundant(frame, red),
        None => track.write(frame),
    }
}

/// What a recording calls the file of somebody: their key without what all keys begin with.
fn label(peer: &PublicKey) -> String {
    let text = peer.to_string();
    text.rsplit(':').next().unwrap_or(&text).to_owned()
}

/// From the engine's thread, which must not wait: a driver that is a thousand events behind loses this one.
fn send(events: &mpsc::Sender<MediaEvent>, input: MediaInput) {
    if events.try_send(input.into()).is_err() {
        tracing::warn!("a sound event was lost: the driver does not keep up");
    }
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
