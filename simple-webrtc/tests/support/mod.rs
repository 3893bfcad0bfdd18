//! Two sides in one process, with a signaling that is a function call.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use simple_webrtc::{
    Config, ConfigBuilder, Event, EventKind, Events, Frame, Generation, LinkState, LocalTrack, Peers, Remote,
    RemoteTrack,
};

/// Ends a test that hangs; no test waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Name = &'static str;

pub(crate) fn loopback() -> ConfigBuilder {
    Config::builder().addresses([IpAddr::from(Ipv4Addr::LOCALHOST)])
}

pub(crate) struct Side {
    pub(crate) peers: Peers<Name>,
    pub(crate) events: Events<Name>,
    pub(crate) track: LocalTrack,
}

impl Side {
    pub(crate) fn new(config: Config) -> Self {
        let (peers, events) = Peers::new(config).expect("inside a runtime");
        let track = LocalTrack::audio();
        peers.add_track(&track).expect("the first track");
        Self { peers, events, track }
    }

    pub(crate) async fn next(&mut self) -> Event<Name> {
        tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event in time")
            .expect("open stream")
    }

    /// Skips everything up to the next state.
    pub(crate) async fn next_state(&mut self) -> (Name, LinkState) {
        loop {
            let event = self.next().await;
            if let EventKind::State(state) = event.kind {
                return (event.peer, state);
            }
        }
    }
}

/// Carries one signal of `from` (called `name` there) to `to`. Everything else comes back.
pub(crate) fn carry(name: Name, event: Event<Name>, to: &Side) -> Option<Event<Name>> {
    let generation = event.generation;
    let applied = match &event.kind {
        EventKind::LocalDescription(description) => match description.kind() {
            simple_webrtc::DescriptionKind::Offer if to.peers.generation(&name) == Some(generation) => {
                to.peers.apply(&name, generation, Remote::Offer(description.clone()))
            }
            simple_webrtc::DescriptionKind::Offer => to.peers.accept(name, generation, description.clone()),
            _ => to.peers.apply(&name, generation, Remote::Answer(description.clone())),
        },
        EventKind::LocalCandidate(candidate) => {
            to.peers.apply(&name, generation, Remote::Candidate(candidate.clone()))
        }
        EventKind::GatheringDone => to.peers.apply(&name, generation, Remote::EndOfCandidates),
        _ => return Some(event),
    };
    applied.expect("the other side takes it");
    None
}

/// Carries signals between `a` (who calls the other "b") and `b` (who calls the other "a") until both have a state
/// for which `done` says so. What each side saw on the way comes back.
pub(crate) async fn connect(a: &mut Side, b: &mut Side, done: LinkState) -> (Vec<LinkState>, Vec<LinkState>) {
    let (mut seen_a, mut seen_b) = (Vec::new(), Vec::new());
    while seen_a.last() != Some(&done) || seen_b.last() != Some(&done) {
        let left = tokio::select! {
            event = a.next() => (carry("a", event, b), true),
            event = b.next() => (carry("b", event, a), false),
        };
        if let (Some(Event { kind: EventKind::State(state), .. }), is_a) = left {
            if is_a { seen_a.push(state) } else { seen_b.push(state) }
        }
    }
    (seen_a, seen_b)
}

pub(crate) fn frame(n: u32) -> Frame {
    let payload: Vec<u8> = (0..100_u32).map(|i| (i * 7 + n) as u8).collect();
    Frame {
        payload: Bytes::from(payload),
        timestamp: 1000 + n * 960,
        marker: n == 0,
        audio_level: Some(((n % 128) as u8, n.is_multiple_of(2))),
    }
}

/// Writes frames, one every 5 ms, until the other side has its track.
pub(crate) async fn first_track(writer: &LocalTrack, reader: &mut Side) -> RemoteTrack {
    let mut n = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            event = reader.next() => {
                if let EventKind::RemoteTrack(track) = event.kind {
                    return track;
                }
            }
            _ = tick.tick() => {
                writer.write(frame(n)).expect("fits");
                n += 1;
            }
        }
    }
}

pub(crate) const FIRST: Generation = Generation(1);
