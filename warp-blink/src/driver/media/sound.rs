//! The sound of the call that is active: one engine, one encoder, and a way in for each participant.

mod commands;
mod events;
mod recordings;
mod starting;
mod state;
#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use host_media::{Controls, EncodedFrame, Engine, EngineStats, Format, Packet, PayloadKind, PeerStats};
use simple_webrtc::{Advice, Frame, FrameTooLarge, LocalTrack, RemoteTrack};
use tokio::{sync::mpsc, task::JoinHandle};

use self::{
    recordings::Ledger,
    state::{Ending, State, Ticket},
};
use super::{Audio, Key, rtp::RtpClock};
use crate::{
    id::{CallId, PublicKey},
    ports::media::{MediaError, MediaEvent},
    proto::{LinkId, MediaInput, signal::MediaFormat},
};

/// How long the end of everything waits for devices and files: one after the other, so as long as an engine waits for both
/// together, and a second for threads to take turns.
const CLOSING: Duration =
    Engine::DEVICE_PATIENCE.saturating_add(Engine::DISK_PATIENCE).saturating_add(Duration::from_secs(1));

/// Where frames go, with what is added to their timestamps.
pub(super) type Out = Arc<dyn Fn(EncodedFrame, u32) + Send + Sync>;

/// How a recording is begun.
type Recorder = Box<dyn Fn(&Controls, &Path) -> Result<(), String> + Send + Sync>;

pub(super) struct Sound {
    out: Out,
    clock: RtpClock,
    events: mpsc::Sender<MediaEvent>,
    /// Held for moments only: hanging up, muting and the engine's callbacks wait for it.
    state: Mutex<State>,
    /// Devices are opened and closed one after the other: some can be held only once. Hanging up does not wait for it.
    turn: Mutex<()>,
    /// Engines whose devices are closed, while they complete their files.
    files: Mutex<Vec<JoinHandle<()>>>,
    recordings: Mutex<Ledger>,
    recorder: Recorder,
}

/// One thing that is heard or advised about, for the numbers of each second.
pub(super) struct Followed {
    pub(super) link: LinkId,
    /// Something has come from there.
    pub(super) plays: bool,
    pub(super) stats: Option<PeerStats>,
}

fn stop(engine: Engine) {
    if let Err(error) = engine.stop() {
        tracing::warn!(%error, "closing the devices");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sound {
    pub(super) fn new(audio: Audio, out: Out, clock: RtpClock, events: mpsc::Sender<MediaEvent>) -> Self {
        Self {
            out,
            clock,
            events,
            state: Mutex::new(State::new(audio)),
            turn: Mutex::default(),
            files: Mutex::default(),
            recordings: Mutex::default(),
            recorder: Box::new(commands::record),
        }
    }

    /// Opens the devices. They take a while, so this returns when it has begun; the engine says when they run.
    pub(super) fn open(self: &Arc<Self>, call: CallId, format: MediaFormat) -> Result<(), MediaError> {
        let format = starting::format(format)?;
        let ticket = lock(&self.state).want(call);
        let sound = self.clone();
        tokio::task::spawn_blocking(move || sound.begin(call, ticket, format));
        Ok(())
    }

    fn begin(self: &Arc<Self>, call: CallId, ticket: Ticket, format: Format) {
        let recorded = {
            let _turn = lock(&self.turn);
            self.stop_retired();
            // Late, after a hang-up or even another call: what runs by now is not ours to touch.
            if !lock(&self.state).wants(ticket) {
                return;
            }
            self.start(ticket, format)
        };
        // After all who are there are known by name. Neither the call nor its end waits for the disk.
        let Some((controls, folder)) = recorded else { return };
        let begun = (self.recorder)(&controls, &folder);
        let (meant, wanted) = {
            let mut state = lock(&self.state);
            (state.recording_begun(ticket), state.wants(ticket))
        };
        match begun {
            // Of an engine that was stopped meanwhile nothing can be recorded: no failure. The next opening tells of its own.
            Err(cause) if meant && wanted => self.not_recorded(call, cause),
            // It was ended while it began.
            Ok(()) if !meant => _ = controls.stop_recording(),
            _ => {}
        }
    }

    /// Ends the sound of that call, or of any. Nothing leaves from now on; the devices are closed beside, which can be waited
    /// for.
    pub(super) fn close(self: &Arc<Self>, call: Option<CallId>) -> Option<JoinHandle<()>> {
        {
            let mut state = lock(&self.state);
            if call.is_some() && state.wanted() != call {
                return None;
            }
            state.want_nothing();
        }
        let sound = self.clone();
        Some(tokio::task::spawn_blocking(move || {
            let _turn = lock(&sound.turn);
            sound.stop_retired();
        }))
    }

    /// Ends everything, and waits until the devices are closed and the files complete.
    pub(super) async fn shutdown(self: &Arc<Self>) {
        let Some(closed) = self.close(None) else { return };
        let ended = async {
            let mut ended = closed.await;
            // Of all calls: those of the last one are there, since its devices are closed.
            let files = std::mem::take(&mut *lock(&self.files));
            for files in files {
                ended = ended.and(files.await);
            }
            ended
        };
        match tokio::time::timeout(CLOSING, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "closing devices and files"),
            Err(_) => tracing::warn!("a device or a disk does not answer; it is left to itself"),
        }
    }

    /// Closes the devices that no call wants any more, before others are opened.
    fn stop_retired(self: &Arc<Self>) {
        loop {
            // The lock is not held while an engine stops: its callbacks take it.
            let Some(mut ending) = lock(&self.state).ending() else { return };
            ending.engine.close_devices();
            self.complete(ending);
        }
    }

    /// Lets an engine complete its files beside. The next call does not wait for a disk: no recording ever writes into a file
    /// of another one, and a file that was a speaker is complete with the devices.
    fn complete(self: &Arc<Self>, Ending { engine, call, ticket }: Ending) {
        let sound = self.clone();
        let completed = tokio::task::spawn_blocking(move || {
            stop(engine);
            sound.engine_over(call, ticket);
        });
        let mut files = lock(&self.files);
        files.retain(|others| !others.is_finished());
        files.push(completed);
    }

    /// Plays what arrives on a track, as long as it lasts.
    pub(super) fn play(&self, key: Key, link: LinkId, mut track: RemoteTrack) {
        let slot = lock(&self.state).play(key, link);
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

    /// That connection to somebody is over. One that was made since stays.
    pub(super) fn remove(&self, key: Key, generation: u32) {
        lock(&self.state).drop_link(key, generation);
    }

    /// Takes what the network says of a connection to somebody.
    pub(super) fn advise(&self, key: Key, generation: u32, advice: Advice) {
        let mut state = lock(&self.state);
        state.paths.say(key, generation, advice);
        state.tell(|of| *of == key);
    }

    /// Whether that connection carries redundant sound (RFC 2198).
    pub(super) fn set_red(&self, key: Key, generation: u32, red: bool) {
        let mut state = lock(&self.state);
        if state.paths.set_red(key, generation, red) {
            state.tell(|of| *of == key);
        }
    }

    /// Nothing is known any more of that connection, which is over.
    pub(super) fn forget_path(&self, key: Key, generation: u32) {
        lock(&self.state).forget_path(key, generation);
    }

    pub(super) fn set_muted(&self, muted: bool) {
        let mut state = lock(&self.state);
        state.muted = muted;
        if let Some(engine) = state.engine() {
            engine.set_muted(muted);
        }
    }

    pub(super) fn set_deafened(&self, deafened: bool) {
        let mut state = lock(&self.state);
        state.deafened = deafened;
        if let Some(engine) = state.engine() {
            engine.set_deafened(deafened);
        }
    }

    pub(super) fn set_gain(&self, peer: PublicKey, gain: f32) {
        lock(&self.state).set_gain(peer, gain);
    }

    /// All connections that matter to the sound, with the numbers of what is played.
    pub(super) fn followed(&self) -> Vec<Followed> {
        lock(&self.state).followed()
    }

    /// The numbers of the engine that runs, and of which call.
    pub(super) fn engine_stats(&self) -> Option<(CallId, EngineStats)> {
        let state = lock(&self.state);
        Some((state.wanted()?, state.engine()?.stats()))
    }
}

/// Sends a frame, with copies of earlier ones to those who read them.
pub(super) fn write(track: &LocalTrack, frame: EncodedFrame, offset: u32) -> Result<(), FrameTooLarge> {
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
