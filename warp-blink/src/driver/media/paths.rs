//! What the network says of the paths to the others, for the one encoder that serves them all.

use std::collections::BTreeMap;

use host_media::PathAdvice;
use simple_webrtc::Advice;

use super::Key;

/// What is known of each path. Outlives engines: a call that goes on after a hold goes on with what was known. It does not
/// outlive connections: what was measured on one says nothing of the next.
#[derive(Debug, Default)]
pub(super) struct Paths(BTreeMap<Key, Path>);

#[derive(Debug)]
struct Path {
    /// Of the connection that it is about.
    generation: u32,
    advice: Option<Advice>,
    /// Whether that connection carries redundant sound (RFC 2198).
    red: bool,
}

impl Paths {
    /// From now on it is about this connection, or a later one if that is known already: then none.
    fn of(&mut self, key: Key, generation: u32) -> Option<&mut Path> {
        let new = || Path { generation, advice: None, red: false };
        let path = self.0.entry(key).or_insert_with(new);
        if path.generation < generation {
            *path = new();
        }
        (path.generation == generation).then_some(path)
    }

    /// A connection brings its first sound: what was said of those before it is over.
    pub(super) fn begin(&mut self, key: Key, generation: u32) {
        self.of(key, generation);
    }

    /// Takes what is said of a connection.
    pub(super) fn say(&mut self, key: Key, generation: u32, advice: Advice) {
        if let Some(path) = self.of(key, generation) {
            path.advice = Some(advice);
        }
    }

    /// Whether it carries redundant sound. True if that is news.
    pub(super) fn set_red(&mut self, key: Key, generation: u32, red: bool) -> bool {
        self.of(key, generation).is_some_and(|path| std::mem::replace(&mut path.red, red) != red)
    }

    /// That connection is gone; what is known of a later one stays.
    pub(super) fn remove(&mut self, key: Key, generation: u32) {
        if self.0.get(&key).is_some_and(|path| path.generation <= generation) {
            self.0.remove(&key);
        }
    }

    pub(super) fn knows(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    /// The connections of which something is known.
    pub(super) fn generations(&self) -> impl Iterator<Item = (Key, u32)> {
        self.0.iter().map(|(key, path)| (*key, path.generation))
    }

    /// What an engine is to know.
    pub(super) fn advice(&self) -> impl Iterator<Item = (Key, PathAdvice)> {
        self.0.iter().filter_map(|(key, path)| Some((*key, advice(path.advice.as_ref()?, path.red))))
    }
}

fn advice(advice: &Advice, red: bool) -> PathAdvice {
    PathAdvice::default()
        .bitrate(advice.bitrate)
        .loss(advice.loss)
        .path_loss(advice.path_loss)
        .burst_ratio(advice.burst_ratio)
        .round_trip(advice.round_trip)
        .congested(advice.congested)
        .red(red)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CallId, Identity};

    fn key(n: u8) -> Key {
        (CallId::from_bytes([1; 16]), Identity::from_seed([n; 32]).public())
    }

    fn reds(paths: &Paths) -> Vec<(Key, bool)> {
        paths.advice().map(|(key, advice)| (key, advice.red)).collect()
    }

    #[test]
    fn each_path_says_for_itself_whether_copies_are_read_there() {
        let mut paths = Paths::default();
        let mut keys = [key(1), key(2)];
        keys.sort_unstable();
        let [a, b] = keys;
        paths.say(a, 1, Advice::default());
        assert!(paths.set_red(b, 1, true), "before anything was said of it");
        assert_eq!(reds(&paths), [(a, false)], "nothing is known of b");
        paths.say(b, 1, Advice::default());
        assert_eq!(reds(&paths), [(a, false), (b, true)]);
        assert!(!paths.set_red(b, 1, true) && paths.set_red(b, 1, false), "what is no news is none");
        assert_eq!(reds(&paths), [(a, false), (b, false)]);
    }

    #[test]
    fn advice_ends_with_its_connection() {
        let (mut paths, key) = (Paths::default(), key(1));
        paths.say(key, 1, Advice::default());
        paths.set_red(key, 1, true);
        paths.begin(key, 2);
        assert_eq!(reds(&paths), [], "that was of the one before");
        paths.say(key, 1, Advice::default());
        assert!(!paths.set_red(key, 1, true));
        assert_eq!(reds(&paths), [], "too late");
        paths.say(key, 2, Advice::default());
        paths.remove(key, 1);
        assert_eq!(reds(&paths), [(key, false)], "the end of the old one is not that of the new one");
        paths.remove(key, 2);
        assert!(!paths.knows(&key));
    }
}
