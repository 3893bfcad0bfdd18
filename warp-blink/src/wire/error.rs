//! Why bytes are not opened, and why a message is not sealed.

use super::FrameError;
use crate::id::KeyError;

/// How far received bytes came before they failed, in the order of the checks.
///
/// These are counted and otherwise met with silence: an answer would tell a stranger that somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The outside: size, version or kind.
    #[error(transparent)]
    Frame(FrameError),
    /// The outside: a suite that this build does not speak.
    #[error("the handshake uses suite {0}, which this build does not speak")]
    Suite(u8),
    /// The MAC of the lane: meant for another key or lane, or made by somebody who does not know this key or token.
    #[error("the frame is not for this key, or not for this lane")]
    Mac,
    /// Message 2, before its handshake: it has been used already.
    #[error("this message 2 has been used already")]
    Repeated,
    /// Message 2, before its handshake: more of them than one identity has devices ([`hello::MAX_ANSWERS`](super::hello::MAX_ANSWERS)).
    #[error("too many devices answered one message 1")]
    TooManyAnswers,
    /// The handshake: a public key that makes a Diffie-Hellman result of zero.
    #[error("the handshake holds a key of small order")]
    WeakKey,
    /// The handshake: it does not verify. So ends also what was encapsulated to another ML-KEM key, or changed on its
    /// way: ML-KEM then gives another secret and no error.
    #[error("the handshake does not verify")]
    Handshake,
    /// The outside of a transport frame: it belongs to another session or to the other direction.
    #[error("the frame belongs to another session")]
    Session,
    /// The outside of a transport frame: received before.
    #[error("the frame was received before")]
    Replay,
    /// The outside of a transport frame: too far behind the newest frame to tell whether it was received before.
    #[error("the frame is too far behind the newest one")]
    TooOld,
    /// The seal: the text does not verify under the key.
    #[error("the sealed text does not verify")]
    Seal,
    /// The opened text: the padding is not that of this protocol.
    #[error("the padding is malformed")]
    Padding,
    /// The contents: they are malformed, not canonical or out of bounds.
    #[error("the contents are malformed")]
    Decode,
    /// The contents: they say something that this build does not know.
    #[error("the contents are of a kind that this build does not know")]
    Unknown,
    /// The contents: the sender's key is malformed.
    #[error("the sender's key is malformed: {0}")]
    Identity(KeyError),
    /// The contents of a handshake: it was made with another key than the one that the sender claims.
    #[error("the sender claims a key that it did not use")]
    Impostor,
    /// The contents: our own message came back.
    #[error("our own message came back")]
    Reflected,
    /// The contents: a signature inside is not of whom it should be, or the create in a roll is another call's.
    #[error("a signature inside is not of whom it should be, or for another call")]
    Signature,
    /// The contents: an ML-KEM key that no key generation makes (FIPS 203, section 7.2).
    #[error("the contents hold a malformed ML-KEM key")]
    KemKey,
    /// The contents of a handshake: they name another suite than the one that the handshake ran in. Nobody on the way
    /// can have changed it, so the other side is broken or lies.
    #[error("the handshake ran in another suite than its contents name")]
    Downgrade,
}

impl From<FrameError> for OpenError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Suite(suite) => Self::Suite(suite),
            other => Self::Frame(other),
        }
    }
}

/// Why a message is not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The contents do not fit.
    #[error("the {what} has {len} bytes, more than {max}: shorten it")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The most bytes that fit.
        max: usize,
    },
    /// The hello names another sender than the identity that seals it.
    #[error("the hello names another sender than the identity that seals it: set `from` to its public key")]
    WrongSender,
    /// The callee is the caller.
    #[error("the callee is the caller's own identity: a call goes to somebody else")]
    Oneself,
    /// The callee's key makes a Diffie-Hellman result of zero.
    #[error("the callee's key is of small order")]
    WeakKey,
    /// The responder has not yet heard from the initiator inside the session.
    #[error(
        "the session is not confirmed: wait for the initiator's first message, and send nothing until then"
    )]
    Unconfirmed,
    /// A body that needs an [`Attachment`](super::Attachment) without its own, or an attachment with another body.
    #[error(
        "a body CallKey, Token or KemKey goes with the attachment of its name, a Roll with its signatures, and no \
         other body with any"
    )]
    Attachment,
    /// A roll that nobody would take.
    #[error("the roll {0}: nobody would take it")]
    Roll(&'static str),
    /// An epoch that nobody would take.
    #[error("the epoch {0}: nobody would take it")]
    Epoch(&'static str),
    /// A record that nobody would take.
    #[error("the record {0}: nobody would take it")]
    Record(&'static str),
    /// The contents name another suite than the one that the handshake runs in.
    #[error("the contents name another suite than {suite}, in which the handshake runs: name that one")]
    Suite {
        /// Of the handshake.
        suite: u8,
    },
    /// The announce has another version than its envelope.
    #[error("the announce has version {announce}, its envelope {envelope}: give both the same")]
    Version {
        /// Of the announce.
        announce: u64,
        /// Of the envelope.
        envelope: u64,
    },
    /// Every nonce of the session has been used.
    #[error("the session has used every nonce: open a new one")]
    Exhausted,
    /// The Noise engine refused, which no input is known to cause.
    #[error("the Noise engine refused to seal: report this")]
    Engine,
}
