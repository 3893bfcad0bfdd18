//! Messages in a stream (RFC 8656 sections 2.1 and 12.5): STUN messages as they are, data of channels padded to four bytes. Both say how
//! long they are within their first four bytes.

use super::message::{COOKIE, HEADER};

/// The largest message that comes: RFC 8656 leaves the size to the path, and no path of a call carries more than 1,500.
pub(super) const MAX_MESSAGE: usize = 2048;

/// The header of data of a channel (RFC 8656 section 12.4), and what a STUN message says of its length.
const CHANNEL_HEADER: usize = 4;
/// Where the magic cookie ends, by which a STUN message is known (RFC 8489 section 5).
const COOKIE_END: usize = 8;

/// What comes is no TURN. Where the next message begins is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// What has come of a stream and was not taken yet: two messages at most.
pub(super) struct Frames {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; 2 * MAX_MESSAGE].into_boxed_slice(), filled: 0 }
    }

    /// Where more may be written. There is room when [`next`](Self::next) has given all that there is.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// So much was written.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(self.bytes.len());
    }

    /// The next message, without what it was padded with; `None` if it is not complete.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let here = self.bytes.get(..self.filled).unwrap_or_default();
        let Some(len) = length(here)? else { return Ok(None) };
        let padded = len.next_multiple_of(4);
        if here.len() < padded {
            return Ok(None);
        }
        let message = here.get(..len).map(<[u8]>::to_vec);
        self.bytes.copy_within(padded..self.filled, 0);
        self.filled -= padded;
        Ok(message)
    }
}

/// How long the message is that begins so, without padding; `None` if that is not known yet.
fn length(begin: &[u8]) -> Result<Option<usize>, Broken> {
    let Some(&[kind, _, high, low]) = begin.first_chunk::<CHANNEL_HEADER>() else { return Ok(None) };
    let said = usize::from(u16::from_be_bytes([high, low]));
    let len = match kind {
        0x00..=0x3f if said % 4 == 0 => HEADER + said,
        // The channels that there are (RFC 8656 section 12).
        0x40..=0x4f => CHANNEL_HEADER + said,
        _ => return Err(Broken),
    };
    let cookie = begin.get(CHANNEL_HEADER..COOKIE_END);
    if len > MAX_MESSAGE || (kind < 0x40 && cookie.is_some_and(|cookie| cookie != COOKIE)) {
        return Err(Broken);
    }
    Ok(Some(len))
}

/// As it goes into a stream.
pub(super) fn padded(message: &[u8]) -> Vec<u8> {
    let mut out = message.to_vec();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stun(kind: u16, attributes: usize) -> Vec<u8> {
        let mut out = kind.to_be_bytes().to_vec();
        out.extend(u16::try_from(attributes).unwrap().to_be_bytes());
        out.extend(COOKIE);
        out.extend([7; 12]);
        out.resize(HEADER + attributes, 9);
        out
    }

    fn data(len: u16) -> Vec<u8> {
        let mut out = vec![0x40, 1];
        out.extend(len.to_be_bytes());
        out.resize(CHANNEL_HEADER + usize::from(len), 5);
        out
    }

    /// All messages of what comes in such pieces, and whether it was in order until its end.
    fn read(wire: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
        let (mut frames, mut found) = (Frames::new(), Vec::new());
        for piece in wire.chunks(piece) {
            let room = frames.room();
            room[..piece.len()].copy_from_slice(piece);
            frames.arrived(piece.len());
            loop {
                match frames.next() {
                    Ok(Some(message)) => found.push(message),
                    Ok(None) => break,
                    Err(Broken) => return (found, false),
                }
            }
        }
        (found, true)
    }

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let messages = [stun(3, 8), data(5), data(0), stun(0x0113, 0), data(3), data(1200), stun(4, 40)];
        let wire: Vec<u8> = messages.iter().flat_map(|message| padded(message)).collect();
        for piece in [1, 2, 3, 7, 19, 60, 1024, MAX_MESSAGE] {
            assert_eq!(read(&wire, piece), (messages.to_vec(), true), "{piece}");
        }
    }

    #[test]
    fn the_largest_message_passes_and_none_beyond_it() {
        let most = u16::try_from(MAX_MESSAGE - CHANNEL_HEADER).unwrap();
        assert_eq!(read(&data(most), 1000).0, [data(most)]);
        assert_eq!(read(&data(most + 1)[..4], 4), (vec![], false));
        let most = MAX_MESSAGE - HEADER;
        assert_eq!(read(&stun(3, most), 1000).0, [stun(3, most)]);
        assert_eq!(read(&stun(3, most + 4)[..4], 4), (vec![], false));
    }

    /// What is no TURN is known within its first eight bytes, so that nothing is kept of it.
    #[test]
    fn other_protocols_are_known_by_their_first_bytes() {
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-x",
            // Hello of TLS, of two lengths.
            &[0x16, 3, 1, 2, 0, 1, 0, 1],
            &[0x16, 3, 1, 0, 0xf4, 1, 0, 0],
            &[0x80, 0, 0, 0],
            &[0x50, 0, 0, 0],
            &[0xff; 8],
            // No multiple of four.
            &[0, 1, 0, 2],
            // The cookie of somebody else.
            &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x43],
        ] {
            assert_eq!(read(&other[..other.len().min(COOKIE_END)], COOKIE_END), (vec![], false), "{other:?}");
        }
    }

    proptest! {
        /// Whatever comes, in whatever pieces: there is room for the next, and nothing is longer than it may be.
        #[test]
        fn nothing_that_comes_does_harm(
            wire in proptest::collection::vec(any::<u8>(), 0..6000), piece in 1..MAX_MESSAGE, kind in 0..4_u8,
        ) {
            let mut wire = wire;
            // Some that begin well.
            match kind {
                0 => wire.splice(0..0, padded(&stun(3, 12))).for_each(drop),
                1 => wire.splice(0..0, padded(&data(9))).for_each(drop),
                _ => {}
            }
            let (found, _) = read(&wire, piece);
            for message in found {
                prop_assert!(message.len() <= MAX_MESSAGE);
            }
        }
    }
}
