//! Real links and real sound: simple-webrtc and host-media behind the media port. The two crates never meet but here.

mod audio;
pub(in crate::driver) mod channels;
mod map;
mod paths;
mod rtp;
mod script;
mod signals;
mod sound;
mod stats;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use simple_webrtc::{
    Advice, Channel, EventKind, Events, Generation, LinkState, LocalTrack, Peers, Remote, TrackKind,
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};

pub use self::audio::Audio;
use self::{channels::Channels, rtp::RtpClock, script::Script, signals::Signals, sound::Sound};
use crate::{
    driver::clock,
    event::{ChannelId, Warning},
    id::{CallId, PublicKey},
    ports::media::{Media, MediaCommand, MediaError, MediaEvent},
    proto::{LinkCommand, LinkId, MediaInput, signal::DescriptionKind},
};

/// Events that wait for the driver. A link makes about thirty while it is set up; connections wait beyond that.
const MAX_EVENTS: usize = 1024;

/// What names a connection: a peer may take part in a call that ends and in the next one at the same time.
pub(super) type Key = (CallId, PublicKey);

/// Real links and real sound.
pub(crate) struct RealMedia {
    peers: Peers<Key>,
    sound: Arc<Sound>,
    /// Talks in place of the sound.
    script: Option<Script>,
    channels: Arc<Channels>,
    signals: Arc<Signals>,
    receiver: Mutex<Option<mpsc::Receiver<MediaEvent>>>,
    pump: JoinHandle<()>,
    ticker: AbortHandle,
}

impl RealMedia {
    /// Starts without any link or open device. Must run on a tokio runtime.
    pub(crate) fn start(config: simple_webrtc::Config, audio: Audio) -> Result<Self, simple_webrtc::Error> {
        let (peers, links) = Peers::new(config)?;
        let (events, receiver) = mpsc::channel(MAX_EVENTS);
        let track = LocalTrack::audio();
        peers.add_track(&track)?;
        // Without randomness nothing can be sealed, so no call gets as far as to show this.
        let clock = RtpClock::new(u32::from_ne_bytes(clock::random().unwrap_or_default()));
        let script = audio.script.clone().map(|frames| {
            let track = track.clone();
            let out = Arc::new(move |frame| {
                // Frames of an encoder are never too large.
                if let Err(error) = track.write(frame) {
                    tracing::warn!(%error, "frame dropped");
                }
            });
            Script::new(frames, out, clock, events.clone())
        });
        let out = Arc::new(move |frame, offset| {
            // Frames and copies of ours are never too large for a packet (RFC 6716: 1,275 bytes).
            if let Err(error) = sound::write(&track, frame, offset) {
                tracing::warn!(%error, "frame dropped");
            }
        });
        let sound = Arc::new(Sound::new(audio, out, clock, events.clone()));
        let ticker =
            tokio::spawn(stats::every_second(peers.clone(), sound.clone(), events.clone())).abort_handle();
        let channels = Arc::new(Channels::default());
        let signals = Arc::new(Signals::default());
        let rooms = Rooms { sound: sound.clone(), channels: channels.clone(), signals: signals.clone() };
        let pump = tokio::spawn(pump(links, rooms, events));
        Ok(Self {
            peers,
            sound,
            script,
            channels,
            signals,
            receiver: Mutex::new(Some(receiver)),
            pump,
            ticker,
        })
    }

    fn link(&self, link: LinkId, command: LinkCommand) -> Result<(), MediaError> {
        let key = (link.call, link.peer);
        let generation = Generation(link.generation);
        let apply = |remote| {
            self.peers.apply(&key, generation, remote).map_err(|e| MediaError::Failed(e.to_string()))
        };
        match command {
            LinkCommand::Dial => {
                self.peers.dial(key, generation).map_err(|e| MediaError::Failed(e.to_string()))
            }
            LinkCommand::Accept(offer) => {
                let offer = map::to_engine(&offer)?;
                self.peers.accept(key, generation, offer).map_err(|e| MediaError::Failed(e.to_string()))
            }
            LinkCommand::Apply(description) => match description.kind {
                DescriptionKind::Offer => apply(Remote::Offer(map::to_engine(&description)?)),
                DescriptionKind::Answer => apply(Remote::Answer(map::to_engine(&description)?)),
            },
            LinkCommand::Restart => {
                self.peers.restart(&key, generation).map_err(|e| MediaError::Failed(e.to_string()))
            }
            LinkCommand::Candidate(candidate) => apply(Remote::Candidate(map::candidate(&candidate)?)),
            LinkCommand::EndOfCandidates => apply(Remote::EndOfCandidates),
            LinkCommand::Send(sending) => match self.peers.set_sending(&key, generation, sending) {
                // Nothing is sent on a link that is over: that was asked for.
                Err(simple_webrtc::Error::NoLink) if !sending => Ok(()),
                result => result.map_err(|e| MediaError::Failed(e.to_string())),
            },
            LinkCommand::Close => {
                let closed = self.peers.hang_up(&key, generation);
                self.sound.remove(key, link.generation);
                match closed {
                    // Closed by itself before: that is what was asked for.
                    Ok(()) | Err(simple_webrtc::Error::NoLink) => Ok(()),
                    Err(error) => Err(MediaError::Failed(error.to_string())),
                }
            }
        }
    }
}

#[async_trait]
impl Media for RealMedia {
    fn take_events(&self) -> Option<mpsc::Receiver<MediaEvent>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn execute(&self, command: MediaCommand) -> Result<(), MediaError> {
        match command {
            MediaCommand::Link { link, command } => return self.link(link, command),
            MediaCommand::Signal { link, frame } => return self.signals.send(link, frame),
            MediaCommand::OpenChannel { link, options } => {
                let key = (link.call, link.peer);
                let opened = self.peers.open_channel(&key, Generation(link.generation), options);
                return opened.map_err(|e| MediaError::Failed(e.to_string()));
            }
            MediaCommand::Prepare { connections } => {
                return self.peers.prepare(connections).map_err(|e| MediaError::Failed(e.to_string()));
            }
            MediaCommand::RenewIceServers(servers) => {
                return self.peers.renew_ice_servers(servers).map_err(|e| MediaError::Failed(e.to_string()));
            }
            MediaCommand::SetIceServers(servers) => {
                return self.peers.set_ice_servers(servers).map_err(|e| MediaError::Failed(e.to_string()));
            }
            MediaCommand::OpenAudio { call, format } => match &self.script {
                Some(script) => script.open(call),
                None => return self.sound.open(call, format),
            },
            // Nothing leaves from here on. What devices and files take for their end is nobody's to wait for.
            MediaCommand::CloseAudio { call } => match &self.script {
                Some(script) => script.close(Some(call)),
                None => drop(self.sound.close(Some(call))),
            },
            MediaCommand::SetMuted(muted) => self.sound.set_muted(muted),
            MediaCommand::SetDeafened(deafened) => self.sound.set_deafened(deafened),
            MediaCommand::SetGain { peer, gain } => self.sound.set_gain(peer, gain),
            MediaCommand::Sound(command) => return self.sound.clone().execute(command).await,
        }
        Ok(())
    }

    fn take_channel(&self, channel: ChannelId) -> Option<Channel> {
        self.channels.take(channel)
    }

    async fn shutdown(&self) {
        self.ticker.abort();
        if let Some(script) = &self.script {
            script.close(None);
        }
        // Neither waits for the other: a recording that is being written holds up no goodbye.
        tokio::join!(self.sound.shutdown(), self.peers.shutdown());
        self.pump.abort();
    }
}

impl Drop for RealMedia {
    fn drop(&mut self) {
        self.ticker.abort();
        self.pump.abort();
    }
}

/// Where what connections bring goes.
struct Rooms {
    sound: Arc<Sound>,
    channels: Arc<Channels>,
    signals: Arc<Signals>,
}

/// Carries what connections do to the driver, in order.
async fn pump(mut links: Events<Key>, rooms: Rooms, events: mpsc::Sender<MediaEvent>) {
    let Rooms { sound, channels, signals } = rooms;
    while let Some(event) = links.recv().await {
        let key = event.peer;
        let link = LinkId { call: key.0, peer: key.1, generation: event.generation.0 };
        let mut listens = None;
        let input = match event.kind {
            EventKind::LocalDescription(description) => {
                MediaInput::LocalDescription { link, description: map::from_engine(&description) }
            }
            EventKind::LocalCandidate(candidate) => {
                MediaInput::LocalCandidate { link, candidate: map::from_candidate(&candidate) }
            }
            EventKind::ServerFailed { url, problem } => {
                MediaInput::Warning(Warning::ServerFailed { url, cause: problem.to_string() })
            }
            EventKind::GatheringDone => MediaInput::GatheringDone { link },
            EventKind::AddressChanged { lost } => MediaInput::AddressChanged { link, lost },
            EventKind::Quality(quality) => MediaInput::Quality { link, poor: map::poor(quality.poor) },
            EventKind::Advice(advice) => {
                sound.advise(key, link.generation, advice);
                continue;
            }
            EventKind::Secured(certificates) => {
                signals.secured(link, certificates);
                continue;
            }
            EventKind::Channel(channel) if channel.is_signaling() => {
                let Some(input) = signals.open(link, &channel) else { continue };
                listens = Some(channel);
                input
            }
            EventKind::Channel(channel) => {
                let name = channel.name().to_owned();
                MediaInput::Channel { link, channel: channels.keep(link, channel), name }
            }
            EventKind::RemoteTrack(track) if track.kind() == TrackKind::Audio => {
                sound.play(key, link, track);
                continue;
            }
            EventKind::State(state) => {
                if state.is_final() {
                    sound.remove(key, link.generation);
                    channels.drop_link(link);
                    signals.drop_link(link);
                } else if matches!(state, LinkState::Disconnected | LinkState::Reconnecting) {
                    // Nobody hears anything there, so what was said of it last must not limit what others get.
                    sound.advise(key, link.generation, Advice::default());
                }
                match map::state(state) {
                    Some(state) => MediaInput::State { link, state },
                    None => continue,
                }
            }
            _ => continue,
        };
        if events.send(input.into()).await.is_err() {
            break;
        }
        if let Some(channel) = listens {
            // Ends with the channel.
            tokio::spawn(signals::listen(link, channel, events.clone()));
        }
    }
}
