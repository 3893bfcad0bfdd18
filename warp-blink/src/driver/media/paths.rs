//! What the network says of the paths to the others, for the one encoder that serves them all.

use std::collections::BTreeMap;

use host_media::{Engine, PathAdvice, PeerId};
use simple_webrtc::Advice;

use super::Key;

/// What is known of each path. Outlives engines: a call that goes on after a hold goes on with what was known.
#[derive(Debug, Default)]
pub(super) struct Paths {
    known: BTreeMap<Key, (PeerId, Advice)>,
    /// Whether any of them reads redundant sound (RFC 2198).
    red: bool,
}

impl Paths {
    /// Takes what is said of a path. `id` is what the engine calls it.
    pub(super) fn say(&mut self, key: Key, id: PeerId, advice: Advice) {
        self.known.insert(key, (id, advice));
    }

    /// The path is gone.
    pub(super) fn remove(&mut self, key: Key) {
        self.known.remove(&key);
    }

    /// True if that is news.
    pub(super) fn set_red(&mut self, red: bool) -> bool {
        std::mem::replace(&mut self.red, red) != red
    }

    /// Tells an engine what is known of the paths that are meant.
    pub(super) fn tell(&self, engine: &Engine, meant: impl Fn(&Key) -> bool) {
        for (id, advice) in self.known.iter().filter(|(key, _)| meant(key)).map(|(_, known)| known) {
            // Who has sent nothing so far listens all the same.
            if let Err(error) = engine.add_peer(*id) {
                tracing::warn!(%error, "nothing is done about what a participant loses");
            }
            engine.advise(*id, Some(path(advice, self.red)));
        }
    }
}

fn path(advice: &Advice, red: bool) -> PathAdvice {
    PathAdvice::default()
        .bitrate(advice.bitrate)
        .loss(advice.loss)
        .path_loss(advice.path_loss)
        .burst_ratio(advice.burst_ratio)
        .round_trip(advice.round_trip)
        .congested(advice.congested)
        .red(red)
}
