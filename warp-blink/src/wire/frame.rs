//! The outside of a message: what any node can see and check without a key.

use std::fmt;

use super::kem::CIPHERTEXT_LEN;
use crate::proto::signal::{SUITE_CLASSICAL, SUITE_HYBRID, VERSION};

/// The largest frame, in bytes: far below the 64 KiB that gossip carries.
pub const MAX_FRAME: usize = TRANSPORT_HEADER + TRANSPORT_BUCKETS[5] + TAG_LEN;

/// What a sealed text grows by (RFC 8439).
pub(super) const TAG_LEN: usize = 16;

/// What a resend of a handshake message changes, so that gossip does not take it for the same message.
pub(super) const SALT_LEN: usize = 8;

/// Version and kind.
const PREFIX: usize = 2;

/// The padded inside of message 1: the largest contents have 1,236 bytes, of which 1,024 are app data, and a later
/// build may add some. There is one bucket, so that an offer, a cancel and a resume look alike, with app data or
/// without.
pub(super) const HELLO_BUCKET: usize = 1536;
/// Version, kind, suite, salt, MAC.
pub(super) const HELLO_HEADER: usize = PREFIX + 1 + SALT_LEN + super::secret::MAC_LEN;
/// Ephemeral key, sealed static key, sealed contents.
pub(super) const HELLO_NOISE: usize = 32 + 32 + TAG_LEN + HELLO_BUCKET + TAG_LEN;

/// The padded inside of message 2: the largest contents have 86 bytes. There is one bucket, so that an answer that
/// opens the call and one that refuses it look alike.
pub(super) const WELCOME_BUCKET: usize = 256;
/// Version, kind, salt, MAC.
pub(super) const WELCOME_HEADER: usize = PREFIX + SALT_LEN + super::secret::MAC_LEN;
/// Ephemeral key, sealed contents.
pub(super) const WELCOME_NOISE: usize = 32 + WELCOME_BUCKET + TAG_LEN;

/// The padded insides of transport messages, each twice the one before: padding at most doubles what is sent, and of
/// a length only its power of two is seen.
///
/// - 512: everything that steers a call (ringing, accept, decline, hang-up, acknowledgements), a call key, a contact
///   token, who belongs to a call of two or three, and a candidate of the usual 100 to 200 bytes: which of them it is
///   does not show.
/// - 1,024 and 2,048: a long candidate (at most 1,024 bytes), a short description, and an ML-KEM key (1,184 bytes): the
///   key looks like a description.
/// - 4,096: the usual description of a call with sound, which tells an offer from an answer no more.
/// - 8,192 and 16,384: descriptions with many candidates or several tracks, up to their bound of 12 KiB.
///
/// Who belongs to a call takes about 140 bytes for each thing said of it: 1,024 of up to 6, 16,384 of the most.
pub(super) const TRANSPORT_BUCKETS: [usize; 6] = [512, 1024, 2048, 4096, 8192, 16384];
/// Version, kind, session id, nonce.
pub(super) const TRANSPORT_HEADER: usize = PREFIX + 8 + 8;

/// The padded inside of a call message: a signature of 64 bytes and at most 82 more. There is one bucket, so that an
/// announce and a leave look alike.
pub(super) const CALL_BUCKET: usize = 256;
/// Version, kind, nonce.
pub(super) const CALL_HEADER: usize = PREFIX + 24;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FrameKind {
    /// Message 1 of a handshake, on an inbox topic.
    Hello,
    /// Message 2 of a handshake, on a peer topic.
    Welcome,
    /// A message inside a session, on a peer topic.
    Transport,
    /// A message to all participants, on a call topic.
    Call,
}

impl FrameKind {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Welcome => 2,
            Self::Transport => 3,
            Self::Call => 4,
        }
    }

    /// Whether a frame of this kind has this length. That of a hello follows from its suite.
    fn fits(self, len: usize, ciphertext: usize) -> bool {
        match self {
            Self::Hello => len == HELLO_HEADER + ciphertext + HELLO_NOISE,
            Self::Welcome => len == WELCOME_HEADER + WELCOME_NOISE,
            Self::Transport => TRANSPORT_BUCKETS.iter().any(|b| len == TRANSPORT_HEADER + b + TAG_LEN),
            Self::Call => len == CALL_HEADER + CALL_BUCKET + TAG_LEN,
        }
    }
}

/// The length of the ciphertext in a hello of this suite.
pub(super) const fn ciphertext_len(suite: u8) -> Option<usize> {
    match suite {
        SUITE_CLASSICAL => Some(0),
        SUITE_HYBRID => Some(CIPHERTEXT_LEN),
        _ => None,
    }
}

/// Checks what needs no key: that the frame has a known version, kind and, in a hello, suite, and a length that they
/// have. Costs nothing that grows with the input.
///
/// # Errors
/// [`FrameError`] says what is wrong; [`FrameError::is_violation`] whether the sender is to blame.
pub fn check(frame: &[u8]) -> Result<FrameKind, FrameError> {
    let &[version, kind, ..] = frame else { return Err(FrameError::Length) };
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if frame.len() > MAX_FRAME {
        return Err(FrameError::TooLong);
    }
    let kind = match kind {
        1 => FrameKind::Hello,
        2 => FrameKind::Welcome,
        3 => FrameKind::Transport,
        4 => FrameKind::Call,
        other => return Err(FrameError::Kind(other)),
    };
    let ciphertext = match (kind, frame.get(PREFIX)) {
        (FrameKind::Hello, Some(suite)) => ciphertext_len(*suite).ok_or(FrameError::Suite(*suite))?,
        _ => 0,
    };
    if kind.fits(frame.len(), ciphertext) { Ok(kind) } else { Err(FrameError::Length) }
}

/// The session that a transport frame says it belongs to, which finds the [`Session`](super::Session) to open it
/// with. Nothing vouches for it before that. `None` if it is no transport frame.
pub fn session_id(frame: &[u8]) -> Option<SessionId> {
    match check(frame) {
        Ok(FrameKind::Transport) => frame.get(PREFIX..PREFIX + 8)?.try_into().ok().map(SessionId),
        _ => None,
    }
}

/// Cuts a frame of this kind into its header and the rest.
pub(super) fn open(frame: &[u8], kind: FrameKind, header: usize) -> Result<(&[u8], &[u8]), FrameError> {
    let found = check(frame)?;
    if found != kind {
        return Err(FrameError::Kind(found.byte()));
    }
    frame.split_at_checked(header).ok_or(FrameError::Length)
}

/// Why a frame is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`].
    #[error("the frame is longer than {MAX_FRAME} bytes: drop it")]
    TooLong,
    /// A length that frames of its kind do not have.
    #[error("the frame has a length that its kind does not have: drop it")]
    Length,
    /// Another protocol version, which may be a later one.
    #[error("the frame has protocol version {0}, not {VERSION}: count it, and see whether an update is out")]
    Version(u8),
    /// An unknown kind, or a kind that does not belong here.
    #[error("the frame has kind {0}, which is unknown or does not belong here: drop it")]
    Kind(u8),
    /// A hello of an unknown suite, which may be a later one.
    #[error(
        "the hello has suite {0}, which this build does not speak: count it, and see whether an update is out"
    )]
    Suite(u8),
}

impl FrameError {
    /// Whether no correct node can have sent it, so that gossip may reject it and hold it against the sender. An
    /// unknown version, kind or suite may come from a later build: it is ignored.
    pub const fn is_violation(self) -> bool {
        matches!(self, Self::TooLong | Self::Length)
    }
}

/// Names a session in the header of its transport frames, one name for each direction. It is derived from secrets
/// of the handshake: nodes that carry the frames cannot tell whose session it is, nor which two directions belong
/// together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) [u8; 8]);

impl SessionId {
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [(u8, u8, usize); 10] = [
        (1, SUITE_CLASSICAL, 1659),
        (1, SUITE_HYBRID, 2747),
        (2, 0, 330),
        (3, 0, 546),
        (3, 0, 1058),
        (3, 0, 2082),
        (3, 0, 4130),
        (3, 0, 8226),
        (3, 0, 16418),
        (4, 0, 298),
    ];

    #[test]
    fn exactly_the_lengths_of_each_kind_pass() {
        let mut frame = vec![0; MAX_FRAME + 1];
        for kind in 0..=255 {
            for suite in if kind == 1 { 0..=3 } else { 0..=0 } {
                frame[..3].copy_from_slice(&[VERSION, kind, suite]);
                for len in 0..=MAX_FRAME + 1 {
                    let fits = LENGTHS.contains(&(kind, suite, len));
                    assert_eq!(check(&frame[..len]).is_ok(), fits, "kind {kind} suite {suite} length {len}");
                }
            }
        }
        const { assert!(MAX_FRAME < 60 * 1024) };
    }

    #[test]
    fn later_versions_are_no_violation() {
        for version in (0..=255).filter(|v| *v != VERSION) {
            let error = check(&[version, 1, 2, 3]).unwrap_err();
            assert_eq!(error, FrameError::Version(version));
            assert!(!error.is_violation());
        }
        assert!(check(&[VERSION, 1]).unwrap_err().is_violation());
        assert!(check(&[]).unwrap_err().is_violation());
        assert!(check(&vec![VERSION; MAX_FRAME + 1]).unwrap_err().is_violation());
        assert!(!check(&[VERSION, 77]).unwrap_err().is_violation());
    }

    #[test]
    fn later_suites_are_no_violation() {
        for suite in (0..=255).filter(|suite| ![SUITE_CLASSICAL, SUITE_HYBRID].contains(suite)) {
            for len in [3, 1659, 2747, 9000, MAX_FRAME] {
                let mut frame = vec![suite; len];
                (frame[0], frame[1]) = (VERSION, 1);
                assert_eq!(check(&frame), Err(FrameError::Suite(suite)));
                assert!(!FrameError::Suite(suite).is_violation());
            }
        }
        // A known suite with the length of the other one: no correct node sends that.
        for (suite, len) in [(SUITE_CLASSICAL, 2747), (SUITE_HYBRID, 1659)] {
            let mut frame = vec![0; len];
            frame[..3].copy_from_slice(&[VERSION, 1, suite]);
            assert_eq!(check(&frame), Err(FrameError::Length));
        }
    }
}
