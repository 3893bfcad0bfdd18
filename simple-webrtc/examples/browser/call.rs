//! One end of a call whose other end is the page: carries what either side signals, sends every sound back, and keeps what
//! happened.

#![allow(dead_code, reason = "`tests/browsers.rs` uses all of it, the example a part")]

use std::error::Error;
use std::time::Instant;

use bytes::Bytes;
use serde_json::{Value, json};
use simple_webrtc::{
    Candidate, Channel, Config, Description, DescriptionKind, Event, EventKind, Events, Frame, Generation,
    LinkState, LocalTrack, MAX_MESSAGE_BYTES, Message, Peers, Remote, RemoteTrack,
};
use tokio::sync::mpsc;

use super::server::Page;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A channel's name, and what came over it.
type Heard = (String, String);

/// The page is the only peer.
const PAGE: &str = "page";

/// What has happened in the present call.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The states of our end.
    pub(crate) states: Vec<(LinkState, Instant)>,
    /// Those of the page's end, and how long after the beginning it says that it reached them.
    pub(crate) page_states: Vec<(String, f64)>,
    /// What came over which channel here.
    pub(crate) heard: Vec<Heard>,
    /// What came over which channel there.
    pub(crate) page_heard: Vec<Heard>,
    /// What the page counts.
    pub(crate) report: Option<Value>,
}

impl Seen {
    /// The last state of our end.
    pub(crate) fn state(&self) -> Option<LinkState> {
        self.states.last().map(|(state, _)| *state)
    }
}

/// What the person in front of the page wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The page is open.
    Hello(String),
    /// One of its buttons.
    Button(String),
}

pub(crate) struct Call {
    pub(crate) peers: Peers<&'static str>,
    pub(crate) seen: Seen,
    events: Events<&'static str>,
    page: Page,
    track: LocalTrack,
    generation: u32,
    messages: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
}

impl Call {
    pub(crate) fn new(config: Config, page: Page) -> Outcome<Self> {
        let (peers, events) = Peers::new(config)?;
        let track = LocalTrack::audio();
        peers.add_track(&track)?;
        let (seen, messages) = (Seen::default(), mpsc::channel(64));
        Ok(Self { peers, seen, events, page, track, generation: 0, messages })
    }

    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// A new call, which our end offers, or the page's.
    pub(crate) fn begin(&mut self, we_offer: bool) -> Outcome {
        self.generation += 1;
        self.seen = Seen::default();
        if we_offer {
            self.peers.dial(PAGE, self.generation())?;
            self.greet_on_a_channel_of_our_own()?;
        } else {
            self.tell("begin", json!({}));
        }
        Ok(())
    }

    /// Asks the page for what it counts.
    pub(crate) fn ask_for_report(&mut self) {
        self.seen.report = None;
        self.tell("report", json!({}));
    }

    /// Asks the page to look for another path.
    pub(crate) fn ask_for_restart(&self) {
        self.tell("restart", json!({}));
    }

    /// Looks for another path.
    pub(crate) fn restart(&self) -> Outcome {
        Ok(self.peers.restart(&PAGE, self.generation())?)
    }

    /// Ends the call at the page.
    pub(crate) fn close_at_the_page(&self) {
        self.tell("close", json!({}));
    }

    /// Ends the call here, and says so: the packet that does may be lost.
    pub(crate) fn hang_up(&self) -> Outcome {
        self.close_at_the_page();
        Ok(self.peers.hang_up(&PAGE, self.generation())?)
    }

    /// What our end counts.
    pub(crate) async fn stats(&self) -> Option<simple_webrtc::Stats> {
        self.peers.stats(&PAGE).await
    }

    /// Does what is to be done next, on either side. Cancel safe.
    ///
    /// # Errors
    /// What goes wrong at the page, or comes from it and cannot be used.
    pub(crate) async fn step(&mut self) -> Outcome<Option<Wish>> {
        tokio::select! {
            event = self.events.recv() => self.on_event(event.ok_or("no more events")?).map(|()| None),
            said = self.page.next() => self.on_page(said.ok_or("no more page")?),
            message = self.messages.1.recv() => {
                self.seen.heard.extend(message);
                Ok(None)
            }
        }
    }

    fn tell(&self, kind: &str, mut message: Value) {
        message["kind"] = kind.into();
        message["generation"] = self.generation.into();
        self.page.tell(message);
    }

    fn greet_on_a_channel_of_our_own(&self) -> Outcome {
        let options = simple_webrtc::ChannelOptions::reliable("of the program");
        Ok(self.peers.open_channel(&PAGE, self.generation(), options)?)
    }

    fn on_event(&mut self, event: Event<&'static str>) -> Outcome {
        match event.kind {
            EventKind::LocalDescription(description) => {
                let kind = if description.kind() == DescriptionKind::Offer { "offer" } else { "answer" };
                self.tell(kind, json!({ "sdp": description.as_str() }));
            }
            EventKind::LocalCandidate(candidate) => {
                self.tell("candidate", json!({ "candidate": candidate.as_str() }));
            }
            EventKind::GatheringDone => self.tell("gathered", json!({})),
            EventKind::State(state) => self.seen.states.push((state, event.at)),
            EventKind::RemoteTrack(track) => drop(tokio::spawn(echo(track, self.track.clone()))),
            EventKind::Channel(channel) => drop(tokio::spawn(greet(channel, self.messages.0.clone()))),
            _ => {}
        }
        Ok(())
    }

    fn on_page(&mut self, said: Value) -> Outcome<Option<Wish>> {
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        let kind = text("kind");
        match &*kind {
            "hello" => return Ok(Some(Wish::Hello(text("agent")))),
            "wish" => return Ok(Some(Wish::Button(text("wish")))),
            "trouble" => return Err(format!("the page says: {}", text("text")).into()),
            _ if said["generation"] != self.generation => return Ok(None),
            "state" => {
                self.seen.page_states.push((text("state"), said["ms"].as_f64().unwrap_or_default()));
            }
            "heard" => self.seen.page_heard.push((text("channel"), text("heard"))),
            "report" => self.seen.report = Some(said),
            "offer" => {
                let offer = Description::parse(DescriptionKind::Offer, &text("sdp"))?;
                if self.peers.generation(&PAGE) == Some(self.generation()) {
                    self.apply(Remote::Offer(offer));
                } else {
                    self.peers.accept(PAGE, self.generation(), offer)?;
                    self.greet_on_a_channel_of_our_own()?;
                }
            }
            "answer" => {
                self.apply(Remote::Answer(Description::parse(DescriptionKind::Answer, &text("sdp"))?));
            }
            "candidate" => self.apply(Remote::Candidate(Candidate::parse(&text("candidate"))?)),
            "gathered" => self.apply(Remote::EndOfCandidates),
            _ => return Err(format!("the page says something unknown: {kind}").into()),
        }
        Ok(None)
    }

    /// What the page says may come after our end has closed; that is no mistake of anybody.
    fn apply(&self, remote: Remote) {
        if let Err(error) = self.peers.apply(&PAGE, self.generation(), remote) {
            tracing::debug!(%error, "too late");
        }
    }
}

/// Every sound goes back as it came.
async fn echo(mut from: RemoteTrack, to: LocalTrack) {
    while let Some(packet) = from.recv().await {
        let frame = Frame {
            payload: packet.payload,
            timestamp: packet.timestamp,
            marker: packet.marker,
            audio_level: packet.audio_level,
        };
        if let Err(error) = to.write(frame) {
            tracing::debug!(%error, "not sent back");
        }
    }
}

/// Says something, and notes what comes.
async fn greet(mut channel: Channel, heard: mpsc::Sender<Heard>) {
    let name = channel.name().to_owned();
    let text = Message::Text(format!("hello from the program on {name}"));
    let bytes = Message::Binary(Bytes::from(vec![7; MAX_MESSAGE_BYTES]));
    if channel.send(text).await.is_err() || channel.send(bytes).await.is_err() {
        return;
    }
    while let Some(message) = channel.recv().await {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(bytes) => format!("{} bytes", bytes.len()),
        };
        if heard.send((name.clone(), text)).await.is_err() {
            return;
        }
    }
}
