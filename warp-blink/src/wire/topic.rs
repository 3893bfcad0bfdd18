//! The names of topics.

use std::fmt;

use super::{CallKey, ContactToken, PeerSeed, secret::labelled_hash};
use crate::id::PublicKey;

/// The name of a gossip topic: a hash, written as 64 hexadecimal digits.
///
/// No name shows a key or a call id. It hides nothing from somebody who already knows what it was made of: whoever
/// knows a public key finds its inbox and can see that something is sent there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic([u8; 32]);

impl Topic {
    /// Where `callee` receives first messages from everybody.
    pub fn inbox(callee: &PublicKey) -> Self {
        Self(labelled_hash(b"warp-blink/1 topic-inbox\0", &[callee.as_bytes()]))
    }

    /// Where `callee` receives first messages from those to whom it gave `token`. Only they know the topic's name.
    pub fn contacts(callee: &PublicKey, token: &ContactToken) -> Self {
        Self(labelled_hash(b"warp-blink/1 topic-contacts\0", &[callee.as_bytes(), token.expose()]))
    }

    /// Where the owner of `seed` receives messages 2 and transport messages of one call. Only the owner subscribes.
    pub fn peer(seed: &PeerSeed) -> Self {
        Self(labelled_hash(b"warp-blink/1 topic-peer\0", &[seed.expose()]))
    }

    /// Where all participants of a call receive call messages of one key epoch.
    pub fn call(key: &CallKey, epoch: u32) -> Self {
        Self(labelled_hash(b"warp-blink/1 topic-call\0", &[key.expose(), &epoch.to_be_bytes()]))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Topic({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    #[test]
    fn one_value_gives_unrelated_topics() {
        let key = Identity::from_seed([1; 32]).public();
        let bytes = *key.as_bytes();
        let call = CallKey::from_bytes(bytes);
        let token = ContactToken::from_bytes(bytes);
        let other = Identity::from_seed([2; 32]).public();
        let topics = [
            Topic::inbox(&key),
            Topic::contacts(&key, &token),
            Topic::contacts(&key, &ContactToken::from_bytes([0; 32])),
            Topic::contacts(&other, &token),
            Topic::peer(&PeerSeed::from_bytes(bytes)),
            Topic::call(&call, 0),
            Topic::call(&call, 1),
        ];
        for (i, a) in topics.iter().enumerate() {
            assert_eq!(a.to_string().len(), 64);
            assert!(topics[..i].iter().all(|b| a != b));
        }
    }
}
