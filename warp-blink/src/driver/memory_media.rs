//! Links and devices in memory: what an app's own tests use.
//!
//! A link connects as soon as both descriptions have crossed, and audio is "heard" once it is connected, both sides have
//! opened their devices, and the other one sends; anew each time that the own devices are opened. No sound is involved.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use simple_webrtc::{Channel, ChannelOptions};
use tokio::sync::mpsc;

use super::media::channels::Channels;
use crate::{
    event::ChannelId,
    id::CallId,
    ports::media::{Media, MediaCommand, MediaError, MediaEvent, SoundCommand},
    proto::{
        EngineLink, LinkCommand, LinkId, MediaInput,
        signal::{Description, DescriptionKind, Fingerprint},
    },
};

/// Events that may wait. A link makes six; an event beyond the bound is an error of the command that made it.
const MAX_EVENTS: usize = 1024;

/// Where the links of all nodes in memory meet.
#[derive(Clone, Debug, Default)]
pub struct MemoryLinks {
    next: Arc<AtomicU64>,
    ends: Arc<Mutex<BTreeMap<u64, End>>>,
}

#[derive(Debug)]
struct End {
    link: LinkId,
    node: u64,
    other: Option<u64>,
    connected: bool,
    audio: bool,
    sending: bool,
    heard: bool,
    events: mpsc::Sender<MediaEvent>,
    channels: Arc<Channels>,
}

/// What is "recorded", and how often something was.
#[derive(Debug, Default)]
struct Recorded {
    call: Option<CallId>,
    count: u64,
}

/// The media of one node in memory.
#[derive(Debug)]
pub struct MemoryMedia {
    links: MemoryLinks,
    node: u64,
    events: mpsc::Sender<MediaEvent>,
    receiver: Mutex<Option<mpsc::Receiver<MediaEvent>>>,
    open: Mutex<Option<CallId>>,
    recorded: Mutex<Recorded>,
    channels: Arc<Channels>,
}

impl MemoryLinks {
    /// The media of one more node.
    pub fn endpoint(&self) -> MemoryMedia {
        let (events, receiver) = mpsc::channel(MAX_EVENTS);
        let node = self.next.fetch_add(1, Ordering::Relaxed);
        MemoryMedia {
            links: self.clone(),
            node,
            events,
            receiver: Mutex::new(Some(receiver)),
            open: Mutex::new(None),
            recorded: Mutex::default(),
            channels: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, End>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(events: &mpsc::Sender<MediaEvent>, event: impl Into<MediaEvent>) -> Result<(), MediaError> {
    events
        .try_send(event.into())
        .map_err(|_| MediaError::Failed("nobody reads the media events of this node in memory".to_owned()))
}

fn state(end: &End, state: EngineLink) -> Result<(), MediaError> {
    tell(&end.events, MediaInput::State { link: end.link, state })
}

/// There is none in memory, and each end has another one.
fn certificate(name: u64) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&name.to_be_bytes());
    Fingerprint(bytes)
}

/// The token in a description in memory.
fn token(description: &Description) -> Option<u64> {
    description.text.strip_prefix("memory ")?.parse().ok()
}

impl MemoryMedia {
    fn end(&self, link: LinkId) -> (u64, End) {
        let audio = *self.open.lock().unwrap_or_else(PoisonError::into_inner) == Some(link.call);
        let name = self.links.next.fetch_add(1, Ordering::Relaxed);
        let events = self.events.clone();
        let end = End {
            link,
            node: self.node,
            other: None,
            connected: false,
            audio,
            sending: true,
            heard: false,
            events,
            channels: self.channels.clone(),
        };
        (name, end)
    }

    fn describe(&self, link: LinkId, kind: DescriptionKind, name: u64) -> Result<(), MediaError> {
        let description = Description { kind, text: format!("memory {name}") };
        tell(&self.events, MediaInput::LocalDescription { link, description })?;
        tell(&self.events, MediaInput::GatheringDone { link })
    }

    fn link(&self, link: LinkId, command: &LinkCommand) -> Result<(), MediaError> {
        let mut ends = self.links.lock();
        let own = ends.iter().find(|(_, e)| e.node == self.node && e.link == link).map(|(name, _)| *name);
        let unusable = || MediaError::Failed("the description is not one of a node in memory".to_owned());
        match command {
            LinkCommand::Dial => {
                let (name, end) = self.end(link);
                ends.insert(name, end);
                self.describe(link, DescriptionKind::Offer, name)
            }
            LinkCommand::Accept(offer) => {
                let other = token(offer).filter(|t| ends.contains_key(t)).ok_or_else(unusable)?;
                let (name, mut end) = self.end(link);
                end.other = Some(other);
                ends.insert(name, end);
                self.describe(link, DescriptionKind::Answer, name)
            }
            LinkCommand::Apply(answer) => {
                let name = own.ok_or_else(|| MediaError::Failed("there is no such link".to_owned()))?;
                let other = token(answer).filter(|t| ends.contains_key(t)).ok_or_else(unusable)?;
                for (name, other) in [(name, other), (other, name)] {
                    if let Some(end) = ends.get_mut(&name) {
                        end.other = Some(other);
                        end.connected = true;
                        state(end, EngineLink::Checking)?;
                        state(end, EngineLink::Securing)?;
                        state(end, EngineLink::Connected)?;
                        let [own, remote] = [certificate(name), certificate(other)];
                        tell(&end.events, MediaInput::Secured { link: end.link, own, remote })?;
                    }
                }
                hear(&mut ends)
            }
            // There is one path, which is always the best.
            LinkCommand::Candidate(_) | LinkCommand::EndOfCandidates | LinkCommand::Restart => Ok(()),
            LinkCommand::Send(sending) => match own.and_then(|name| ends.get_mut(&name)) {
                Some(end) => {
                    end.sending = *sending;
                    hear(&mut ends)
                }
                None if *sending => Err(MediaError::Failed("there is no such link".to_owned())),
                None => Ok(()),
            },
            LinkCommand::Close => {
                let closed = own.and_then(|name| ends.remove(&name));
                self.channels.drop_link(link);
                if let Some(other) = closed.and_then(|end| end.other).and_then(|name| ends.get(&name)) {
                    state(other, EngineLink::Closed)?;
                }
                Ok(())
            }
        }
    }

    fn signal(&self, link: LinkId, frame: Bytes) -> Result<(), MediaError> {
        let ends = self.links.lock();
        let own = ends.values().find(|e| e.node == self.node && e.link == link && e.connected);
        let other = own.and_then(|end| ends.get(&end.other?));
        let other = other.ok_or_else(|| MediaError::Failed("there is nobody at the other end".to_owned()))?;
        tell(&other.events, MediaEvent::Signal { link: other.link, frame })
    }

    fn open_channel(&self, link: LinkId, options: ChannelOptions) -> Result<(), MediaError> {
        let ends = self.links.lock();
        let is_it = |e: &&End| e.node == self.node && e.link == link && e.connected;
        let own = ends.values().find(is_it);
        let far = own.and_then(|end| ends.get(&end.other?));
        let (Some(own), Some(far)) = (own, far) else {
            return Err(MediaError::Failed("there is no connection to them in that call".to_owned()));
        };
        let name = options.name.clone();
        let (here, there) = Channel::pair(options).map_err(|e| MediaError::Failed(e.to_string()))?;
        for (end, channel) in [(own, here), (far, there)] {
            let (link, channel) = (end.link, end.channels.keep(end.link, channel));
            tell(&end.events, MediaInput::Channel { link, channel, name: name.clone() })?;
        }
        Ok(())
    }

    /// Nothing is recorded or played, but the machine hears what it would.
    fn sound(&self, command: SoundCommand) -> Result<(), MediaError> {
        let open = *self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let running = |call| match open == Some(call) {
            true => Ok(()),
            false => Err(MediaError::Failed("the devices of this call are not open".to_owned())),
        };
        match command {
            SoundCommand::Record { call, .. } => {
                running(call)?;
                self.recording(Some(call))
            }
            SoundCommand::StopRecording { call } => {
                running(call)?;
                self.recording(None)
            }
            SoundCommand::Play { call, .. } => {
                running(call)?;
                tell(&self.events, MediaInput::Played { call, cause: None })
            }
            _ => Ok(()),
        }
    }

    fn recording(&self, call: Option<CallId>) -> Result<(), MediaError> {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut recorded.call, call);
        let Some(of) = call.or(before).filter(|_| before != call) else { return Ok(()) };
        recorded.count += u64::from(call.is_some());
        let (recording, running) = (recorded.count, call.is_some());
        let files = Vec::new();
        tell(&self.events, MediaInput::Recording { call: of, recording, running, files, cause: None })
    }

    fn audio(&self, call: CallId, open: bool) -> Result<(), MediaError> {
        {
            let mut present = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if !open && *present != Some(call) {
                // They are open for another call by now.
                return Ok(());
            }
            *present = open.then_some(call);
        }
        self.recording(None)?;
        let mut ends = self.links.lock();
        for end in ends.values_mut().filter(|e| e.node == self.node) {
            end.audio = open && end.link.call == call;
            end.heard &= end.audio;
        }
        if open {
            tell(&self.events, MediaInput::Started { call, mic_us: None, speaker_us: None })?;
        }
        hear(&mut ends)
    }
}

/// Tells both ends of every link that has just become audible.
fn hear(ends: &mut BTreeMap<u64, End>) -> Result<(), MediaError> {
    let ready = |e: &End| e.connected && e.audio;
    let sends = |e: &End| ready(e) && e.sending;
    let audible: Vec<u64> = ends
        .iter()
        .filter(|(_, e)| ready(e) && !e.heard && e.other.and_then(|o| ends.get(&o)).is_some_and(sends))
        .map(|(name, _)| *name)
        .collect();
    for name in audible {
        if let Some(end) = ends.get_mut(&name) {
            end.heard = true;
            tell(&end.events, MediaInput::FirstAudio { link: end.link })?;
        }
    }
    Ok(())
}

#[async_trait]
impl Media for MemoryMedia {
    fn take_events(&self) -> Option<mpsc::Receiver<MediaEvent>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn execute(&self, command: MediaCommand) -> Result<(), MediaError> {
        match command {
            MediaCommand::Link { link, command } => self.link(link, &command),
            MediaCommand::Signal { link, frame } => self.signal(link, frame),
            MediaCommand::OpenChannel { link, options } => self.open_channel(link, options),
            MediaCommand::Prepare { .. }
            | MediaCommand::SetIceServers(_)
            | MediaCommand::RenewIceServers(_) => Ok(()),
            MediaCommand::OpenAudio { call, .. } => self.audio(call, true),
            MediaCommand::CloseAudio { call } => self.audio(call, false),
            MediaCommand::SetMuted(_) | MediaCommand::SetDeafened(_) | MediaCommand::SetGain { .. } => Ok(()),
            MediaCommand::Sound(command) => self.sound(command),
        }
    }

    fn take_channel(&self, channel: ChannelId) -> Option<Channel> {
        self.channels.take(channel)
    }

    async fn shutdown(&self) {
        self.links.lock().retain(|_, e| e.node != self.node);
    }
}
