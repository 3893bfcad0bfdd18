//! The lines that the command writes: `docs/cli.md` as types.

use std::path::PathBuf;

use serde::{Serialize, Serializer};
use warp_blink::{
    event::{EndReason, Failure, LinkState, NodeState, ParticipantState, Snapshot, Step},
    id::{CallId, NodeId, PublicKey},
    stats::LinkStats,
};

use super::{
    failure::one_line,
    tally::{Entry, PeerSummary},
};

/// One line of output. As JSON its fields stand beside `event` and `t`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Line {
    Id {
        did: PublicKey,
        peer_id: NodeId,
    },
    Devices {
        microphones: Vec<Device>,
        speakers: Vec<Device>,
    },
    Ready {
        did: PublicKey,
        peer_id: NodeId,
        addresses: Vec<String>,
        resumable: Vec<CallId>,
    },
    Node {
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        by: Vec<NodeId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
    },
    Findable {
        state: String,
    },
    Reached {
        peer: PublicKey,
        via: String,
        ms: u64,
    },
    Offering {
        call: CallId,
        peer: PublicKey,
    },
    Incoming {
        call: CallId,
        peer: PublicKey,
    },
    Ringing {
        call: CallId,
        peer: PublicKey,
    },
    Accepted {
        call: CallId,
        peer: PublicKey,
        frame_ms: u8,
        channels: u8,
        max_bitrate: u32,
    },
    Merged {
        call: CallId,
        into: CallId,
        peer: PublicKey,
    },
    Link {
        call: CallId,
        peer: PublicKey,
        state: &'static str,
        step: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        route: Option<String>,
    },
    MediaStarted {
        call: CallId,
        mic_t: Option<f64>,
        speaker_t: Option<f64>,
    },
    FirstAudio {
        call: CallId,
        peer: PublicKey,
    },
    Stats {
        call: CallId,
        peer: PublicKey,
        #[serde(flatten, serialize_with = "numbers")]
        stats: LinkStats,
    },
    Participant {
        call: CallId,
        peer: PublicKey,
        state: String,
        muted: bool,
        deafened: bool,
        camera: bool,
        screen: bool,
        recording: bool,
        speaking: bool,
        held: bool,
        /// Worth a word to a person.
        #[serde(skip)]
        news: bool,
    },
    Held {
        call: CallId,
        held: bool,
    },
    Device {
        call: CallId,
        kind: String,
        name: Option<String>,
    },
    Recording {
        call: CallId,
        number: u64,
        running: bool,
        files: Vec<PathBuf>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    Played {
        call: CallId,
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    Left {
        call: CallId,
    },
    Rejoined {
        call: CallId,
    },
    Warning {
        kind: &'static str,
        cause: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<PublicKey>,
    },
    Missed {
        call: CallId,
        peer: PublicKey,
        reason: String,
        ago: Option<u64>,
    },
    Lagged {
        missed: u64,
    },
    Ended {
        call: CallId,
        reason: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        by: Option<PublicKey>,
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
        #[serde(skip)]
        text: String,
    },
    Summary {
        call: CallId,
        timeline: Vec<Entry>,
        peers: Vec<PeerSummary>,
    },
    Done {
        #[serde(rename = "do")]
        what: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        call: Option<CallId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<PublicKey>,
        #[serde(skip_serializing_if = "Option::is_none")]
        snapshot: Option<Box<Snapshot>>,
    },
    Refused {
        #[serde(rename = "do")]
        what: Option<String>,
        reason: String,
    },
}

/// A microphone or speaker.
#[derive(Debug, Serialize)]
pub(super) struct Device {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) default: bool,
    /// Lowest and highest rate of each range, in Hz.
    pub(super) rates: Vec<[u32; 2]>,
    pub(super) channels: Vec<u16>,
}

/// The name of something as it is written in JSON, with what it carries, if that is text: `failed` and `checking`.
pub(super) fn name<T: Serialize>(value: &T) -> (String, Option<String>) {
    use serde_json::Value;
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => (name, None),
        Ok(Value::Object(map)) => {
            let Some((name, inside)) = map.into_iter().next() else { return ("unknown".to_owned(), None) };
            let text = inside.as_object().and_then(|o| o.get("step")).and_then(Value::as_str);
            let text = text.map(str::to_owned);
            (name, text)
        }
        _ => ("unknown".to_owned(), None),
    }
}

impl Line {
    pub(super) fn link(call: CallId, peer: PublicKey, state: &LinkState, route: Option<String>) -> Self {
        let reason = match state {
            LinkState::Failed { step } => Some(EndReason::Failed { step: *step }.to_string()),
            LinkState::Reconnecting { attempt, .. } => Some(format!("interrupted, attempt {attempt}")),
            _ => None,
        };
        let step = step(state).map(|s| name(&s).0);
        Self::Link { call, peer, state: state.name(), step, reason, route }
    }

    /// How the node stands.
    pub(super) fn node(state: &NodeState) -> Self {
        let (word, cause, by) = match state {
            NodeState::Starting => ("starting", None, Vec::new()),
            NodeState::Offline { cause } => ("offline", Some(cause.clone()), Vec::new()),
            NodeState::LocalOnly { cause, .. } => ("local_only", Some(cause.to_string()), Vec::new()),
            NodeState::Relayed { by, .. } => ("relayed", None, by.clone()),
            NodeState::Public => ("public", None, Vec::new()),
            // A state that this build of the command does not know yet.
            _ => ("unknown", None, Vec::new()),
        };
        Self::Node { state: word, cause, by, advice: state.what_to_do() }
    }

    pub(super) fn participant(call: CallId, peer: PublicKey, state: ParticipantState, news: bool) -> Self {
        let ParticipantState { presence, muted, deafened, camera, screen, recording, speaking, held, .. } =
            state;
        let state = name(&presence).0;
        Self::Participant {
            call,
            peer,
            state,
            muted,
            deafened,
            camera,
            screen,
            recording,
            speaking,
            held,
            news,
        }
    }

    pub(super) fn ended(
        call: CallId,
        reason: &EndReason,
        by: Option<PublicKey>,
        failure: Option<&Failure>,
    ) -> Self {
        let (code, step) = name(reason);
        let failure = failure.map(|failure| one_line(&failure.to_string()));
        let text = failure.clone().unwrap_or_else(|| reason.to_string());
        Self::Ended { call, reason: code, step, by, failure, text }
    }
}

/// The step that a link in this state is at.
fn step(state: &LinkState) -> Option<Step> {
    match state {
        LinkState::OfferSent => Some(Step::Signaling),
        LinkState::OfferCreated
        | LinkState::OfferReceived
        | LinkState::AnswerCreated
        | LinkState::AnswerSent
        | LinkState::AnswerReceived => Some(Step::Negotiating),
        LinkState::Checking => Some(Step::Checking),
        LinkState::Securing => Some(Step::Securing),
        LinkState::Connected | LinkState::Reconnecting { .. } => Some(Step::Connected),
        LinkState::Failed { step } => Some(*step),
        // Before the first step and after the last; or a state that this build of the command does not know yet.
        _ => None,
    }
}

/// The statistics that the contract names. There are more, for apps.
pub(super) fn numbers<S: Serializer>(stats: &LinkStats, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Numbers<'a> {
        rtt_ms: Option<f64>,
        jitter_ms: Option<f64>,
        loss_pct: Option<f64>,
        sent_bps: Option<f64>,
        received_bps: Option<f64>,
        concealed_pct: Option<f64>,
        jitter_buffer_ms: Option<f64>,
        route: Option<&'a str>,
    }
    let numbers = Numbers {
        rtt_ms: stats.rtt_ms,
        jitter_ms: stats.jitter_ms,
        loss_pct: stats.loss_pct,
        sent_bps: stats.sent_bps,
        received_bps: stats.received_bps,
        concealed_pct: stats.concealed_pct,
        jitter_buffer_ms: stats.jitter_buffer_ms,
        route: stats.route.as_deref(),
    };
    numbers.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use warp_blink::event::Mismatch;

    use super::*;

    #[test]
    fn reasons_are_words_and_a_failure_names_its_step() {
        assert_eq!(name(&EndReason::HungUp), ("hung_up".to_owned(), None));
        let failed = EndReason::Failed { step: Step::Checking };
        assert_eq!(name(&failed), ("failed".to_owned(), Some("checking".to_owned())));
        for mismatch in [Mismatch::Protection, Mismatch::PeerIsNewer { version: 2 }] {
            assert_eq!(name(&EndReason::Incompatible { mismatch }), ("incompatible".to_owned(), None));
        }
    }

    #[test]
    fn an_unknown_statistic_is_null() {
        let stats = LinkStats::default();
        let (call, peer) = (CallId::from_bytes([1; 16]), key());
        let line = serde_json::to_value(Line::Stats { call, peer, stats }).unwrap();
        for field in ["rtt_ms", "jitter_ms", "loss_pct", "sent_bps", "received_bps", "concealed_pct"] {
            assert_eq!(line.get(field), Some(&serde_json::Value::Null), "{field}");
        }
        assert_eq!((&line["event"], &line["peer"]), (&"stats".into(), &peer.to_string().into()));
        assert_eq!(line.get("mos"), None, "the contract does not name it");
    }

    fn key() -> PublicKey {
        warp_blink::id::Identity::from_seed([1; 32]).public()
    }
}
