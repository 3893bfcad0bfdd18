use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::{self, error::TrySendError};
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCIceConnectionState, RTCIceGatheringState, RTCPeerConnectionIceEvent,
    RTCPeerConnectionState,
};

use super::media::IncomingTrack;
use crate::description::Candidate;

/// Signals that may wait for the owner of a connection; a setup makes about 20.
const SIGNALS: usize = 256;

/// What the engine reports.
pub(crate) enum Signal {
    Candidate(Candidate),
    GatheringDone,
    PathFound,
    PathSilent,
    /// DTLS is connected, or closed already.
    Secured,
    /// ICE or DTLS has failed.
    Failed,
    Track(IncomingTrack),
    /// The engine's task has ended, though nobody closed the connection.
    Stopped,
}

/// Where signals arrive, in order.
pub(crate) struct Inbox {
    receiver: mpsc::Receiver<Signal>,
    outbox: Outbox,
}

/// Where the engine leaves signals, without ever waiting: its one task also drives ICE and DTLS.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Signal>,
    overflowed: Arc<AtomicBool>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(SIGNALS);
        Self { receiver, outbox: Outbox { sender, overflowed: Arc::default() } }
    }

    pub(crate) fn sender(&self) -> Outbox {
        self.outbox.clone()
    }

    /// The next signal; `None` once any was lost, as the state of the connection is then unknown.
    pub(crate) async fn recv(&mut self) -> Option<Signal> {
        // The channel is full when a signal is lost, so this is looked at in time.
        if self.outbox.overflowed.load(Ordering::Acquire) {
            return None;
        }
        self.receiver.recv().await
    }
}

impl Outbox {
    pub(super) fn put(&self, signal: Signal) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(signal) {
            self.overflowed.store(true, Ordering::Release);
        }
    }
}

pub(crate) struct Handler {
    outbox: Outbox,
}

impl Handler {
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self { outbox }
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let Ok(init) = event.candidate.to_json() else { return };
        match Candidate::parse(&init.candidate) {
            Ok(candidate) => self.outbox.put(Signal::Candidate(candidate)),
            Err(error) => tracing::warn!(%error, "the engine gathered something else than a candidate"),
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.outbox.put(Signal::GatheringDone);
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        match state {
            RTCIceConnectionState::Connected | RTCIceConnectionState::Completed => {
                self.outbox.put(Signal::PathFound);
            }
            RTCIceConnectionState::Disconnected => self.outbox.put(Signal::PathSilent),
            _ => {}
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => self.outbox.put(Signal::Secured),
            RTCPeerConnectionState::Failed => self.outbox.put(Signal::Failed),
            _ => {}
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.outbox.put(Signal::Track(IncomingTrack::new(track)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lost_signal_is_noticed_at_once() {
        let mut inbox = Inbox::new();
        let outbox = inbox.sender();
        for _ in 0..SIGNALS {
            outbox.put(Signal::PathFound);
        }
        assert!(inbox.recv().await.is_some());
        outbox.put(Signal::PathFound);
        assert!(inbox.recv().await.is_some(), "full, but nothing lost yet");
        outbox.put(Signal::PathFound);
        outbox.put(Signal::PathSilent);
        assert!(inbox.recv().await.is_none());
    }
}
