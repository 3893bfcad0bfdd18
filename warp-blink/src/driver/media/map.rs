//! Between the words of simple-webrtc and those of the core.

use simple_webrtc as engine;

use crate::{
    event::{PoorSide, Step},
    ports::media::MediaError,
    proto::{
        EngineLink,
        signal::{Candidate, Description, DescriptionKind},
    },
};

pub(super) fn to_engine(description: &Description) -> Result<engine::Description, MediaError> {
    let kind = match description.kind {
        DescriptionKind::Offer => engine::DescriptionKind::Offer,
        DescriptionKind::Answer => engine::DescriptionKind::Answer,
    };
    engine::Description::parse(kind, &description.text).map_err(|e| MediaError::Failed(e.to_string()))
}

pub(super) fn from_engine(description: &engine::Description) -> Description {
    let kind = match description.kind() {
        engine::DescriptionKind::Offer => DescriptionKind::Offer,
        // The crate makes offers and answers only.
        _ => DescriptionKind::Answer,
    };
    Description { kind, text: description.as_str().to_owned() }
}

pub(super) fn candidate(candidate: &Candidate) -> Result<engine::Candidate, MediaError> {
    engine::Candidate::parse(&candidate.text).map_err(|e| MediaError::Failed(e.to_string()))
}

pub(super) fn from_candidate(candidate: &engine::Candidate) -> Candidate {
    Candidate { text: candidate.as_str().to_owned() }
}

/// What a state means to the core; `None` if nothing.
pub(super) fn state(state: engine::LinkState) -> Option<EngineLink> {
    match state {
        engine::LinkState::Checking => Some(EngineLink::Checking),
        engine::LinkState::Securing => Some(EngineLink::Securing),
        engine::LinkState::Connected => Some(EngineLink::Connected),
        engine::LinkState::Disconnected => Some(EngineLink::Disconnected),
        engine::LinkState::Reconnecting => Some(EngineLink::Reconnecting),
        engine::LinkState::Failed { reason: engine::FailReason::FingerprintMismatch, .. } => {
            tracing::warn!("the certificate of the other end is not the one that it had described");
            Some(EngineLink::FingerprintMismatch)
        }
        engine::LinkState::Failed { step: at, reason } => {
            tracing::info!(step = %at, %reason, "link failed");
            // Without any address, or relay, of its own there is no path, at whatever step that was noticed.
            let pathless =
                matches!(reason, engine::FailReason::NoLocalCandidates | engine::FailReason::NoRelay { .. });
            Some(EngineLink::Failed(if pathless { Step::Checking } else { step(at) }))
        }
        engine::LinkState::Closed { by_remote: true } => Some(EngineLink::Closed),
        // The machine marks its own descriptions, and knows what it has closed.
        _ => None,
    }
}

fn step(step: engine::Step) -> Step {
    match step {
        engine::Step::Gathering | engine::Step::Checking => Step::Checking,
        engine::Step::Securing => Step::Securing,
        engine::Step::Connected | engine::Step::Reconnecting => Step::Connected,
        _ => Step::Negotiating,
    }
}

/// Who hears badly.
pub(super) fn poor(side: Option<engine::PoorSide>) -> Option<PoorSide> {
    match side? {
        engine::PoorSide::Ours => Some(PoorSide::Ours),
        engine::PoorSide::Theirs => Some(PoorSide::Theirs),
        // There are two sides.
        _ => Some(PoorSide::Both),
    }
}

/// The name of a kind of candidate, as in RFC 8839 section 5.1.
/// How a link runs: the end of it that is farther from its machine.
pub(super) fn route(route: engine::Route) -> &'static str {
    let names = [route.local, route.remote].map(candidate_kind);
    ["relay", "srflx", "prflx"].into_iter().find(|name| names.contains(name)).unwrap_or(names[0])
}

pub(super) fn candidate_kind(kind: engine::CandidateKind) -> &'static str {
    match kind {
        engine::CandidateKind::Host => "host",
        engine::CandidateKind::ServerReflexive => "srflx",
        engine::CandidateKind::PeerReflexive => "prflx",
        engine::CandidateKind::Relay => "relay",
        _ => "unknown",
    }
}
