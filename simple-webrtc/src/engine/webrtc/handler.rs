use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use webrtc::data_channel::DataChannel;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCIceConnectionState, RTCIceGatheringState, RTCPeerConnectionIceEvent,
    RTCPeerConnectionState,
};

use super::channel::WebrtcChannel;
use super::media::IncomingTrack;
use super::pace::Pace;
use super::servers::Servers;
use super::{Outbox, Signal};
use crate::description::Candidate;

/// Turns what the engine calls back with into signals.
pub(super) struct Handler {
    outbox: Outbox,
    pace: Arc<Pace>,
    servers: Arc<Servers>,
    red: Arc<AtomicU8>,
}

impl Handler {
    pub(super) fn new(outbox: Outbox, pace: Arc<Pace>, servers: Arc<Servers>, red: Arc<AtomicU8>) -> Self {
        Self { outbox, pace, servers, red }
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
            self.servers.time_is_up();
            self.outbox.put(Signal::GatheringDone);
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        match state {
            RTCIceConnectionState::Checking => self.pace.set_up(false),
            RTCIceConnectionState::Connected | RTCIceConnectionState::Completed => {
                self.outbox.put(Signal::PathFound);
            }
            RTCIceConnectionState::Disconnected => self.outbox.put(Signal::PathSilent),
            _ => {}
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => {
                self.pace.set_up(true);
                self.outbox.put(Signal::Secured);
            }
            RTCPeerConnectionState::Failed => self.outbox.put(Signal::Failed),
            _ => {}
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let channel = WebrtcChannel::new(channel, self.pace.clone());
        self.outbox.put(Signal::ChannelOpening(Arc::new(channel)));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.outbox.put(Signal::Track(Box::new(IncomingTrack::new(track, self.red.clone()))));
    }
}
