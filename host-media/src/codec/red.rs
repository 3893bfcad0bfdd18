//! Redundant sound as browsers send it (RFC 2198): a packet carries copies of frames that went out before.
//!
//! Each copy has a header of four bytes (how long ago it was, and its length), the packet's own frame one of a byte;
//! then come the copies, oldest first, and the own frame. What is missing is repaired by a copy that comes later.

use std::{collections::VecDeque, ops::Range};

use bytes::{BufMut, Bytes, BytesMut};

/// The payload type in the headers of blocks that are written here: the one that browsers use for Opus. Whoever sends
/// the payload puts the negotiated one there.
const PAYLOAD_TYPE: u8 = 111;
/// Blocks in one payload, the own frame included. 16: browsers send at most nine; the rest is hostile.
const MAX_BLOCKS: usize = 16;
/// How long ago a copy may have been: 14 bits of timestamp, 341 ms.
const MAX_AGO: u32 = (1 << 14) - 1;
/// How long a copy may be: 10 bits.
const MAX_COPY: usize = (1 << 10) - 1;
/// What a payload with copies may have in all: with all headers it stays below 1280 bytes, which every IPv6 path
/// carries (RFC 8200 section 5). Copies that do not fit are left out.
pub(crate) const MAX_RED: usize = 1_200;
/// Frames that are kept for copies: 8 of 40 ms are as old as a copy can be.
const HISTORY: usize = 17;

const COPY_HEAD: usize = 4;
const OWN_HEAD: usize = 1;

/// A frame in a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// How many timestamp units before the packet's own this frame begins; 0 is the own frame, the last.
    pub(crate) ago: u32,
    /// Where it stands in the payload; never empty.
    pub(crate) range: Range<usize>,
}

/// The frames of a payload, in the order in which they stand.
#[derive(Clone, Debug)]
pub(crate) struct Blocks<'a> {
    payload: &'a [u8],
    /// The next header, and where its data begins.
    head: usize,
    data: usize,
    /// The type of the own frame.
    kind: u8,
    done: bool,
}

/// The frames in a payload; nothing if it is not redundant sound. Copies of another payload type than the own
/// frame's, and such as claim to be of now, are left out.
pub(crate) fn blocks(payload: &[u8]) -> Option<Blocks<'_>> {
    let (mut head, mut copies, mut count) = (0, 0, 1);
    while payload.get(head)? & 0x80 != 0 {
        copies += copy(payload.get(head..head + COPY_HEAD)?).1;
        head += COPY_HEAD;
        count += 1;
        if count > MAX_BLOCKS {
            return None;
        }
    }
    let data = head + OWN_HEAD;
    // The own frame is never empty.
    (data + copies < payload.len()).then(|| Blocks {
        payload,
        head: 0,
        data,
        kind: payload[head] & 0x7f,
        done: false,
    })
}

/// How long ago, and how many bytes, by a header of four bytes.
fn copy(head: &[u8]) -> (u32, usize) {
    let bits = head.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
    (bits >> 10 & MAX_AGO, (bits & MAX_COPY as u32) as usize)
}

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        while !self.done {
            let head = self.payload.get(self.head..)?;
            if head.first()? & 0x80 == 0 {
                self.done = true;
                return Some(Block { ago: 0, range: self.data..self.payload.len() });
            }
            let (ago, length) = copy(head.get(..COPY_HEAD)?);
            let range = self.data..self.data + length;
            self.head += COPY_HEAD;
            self.data = range.end;
            if ago > 0 && length > 0 && head[0] & 0x7f == self.kind {
                return Some(Block { ago, range });
            }
        }
        None
    }
}

/// Which earlier frames are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Copies {
    /// How many; 0 makes no payloads at all.
    pub(crate) count: u8,
    /// How many frames lie between a copy and the next, or the own frame: 1 copies the last ones, 2 every other one.
    pub(crate) spacing: u8,
}

/// Makes payloads with copies of the frames that went before.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The newest is at the front.
    history: VecDeque<(u32, Bytes)>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { history: VecDeque::with_capacity(HISTORY) }
    }

    /// The payload for this frame, in `out`; false if there is nothing to copy that fits. Remembers the frame.
    pub(crate) fn write(
        &mut self,
        timestamp: u32,
        frame: &Bytes,
        copies: Copies,
        out: &mut BytesMut,
    ) -> bool {
        let made = self.fill(timestamp, frame, copies, out);
        if self.history.len() == HISTORY {
            self.history.pop_back();
        }
        self.history.push_front((timestamp, frame.clone()));
        made
    }

    /// Forgets the frames that went before: the next payload has no copies.
    pub(crate) fn forget(&mut self) {
        self.history.clear();
    }

    fn fill(&self, timestamp: u32, frame: &Bytes, copies: Copies, out: &mut BytesMut) -> bool {
        let spacing = usize::from(copies.spacing.max(1));
        let most = usize::from(copies.count).min(MAX_BLOCKS - 1);
        let mut room = MAX_RED.saturating_sub(OWN_HEAD + frame.len());
        let mut chosen = [None; MAX_BLOCKS];
        // The newest first: it is worth most where not all fit.
        for (slot, n) in chosen.iter_mut().zip(1..=most) {
            let Some((at, copy)) = self.history.get(n * spacing - 1) else { break };
            let ago = timestamp.wrapping_sub(*at);
            if !(1..=MAX_AGO).contains(&ago) || copy.len() > MAX_COPY || COPY_HEAD + copy.len() > room {
                continue;
            }
            room -= COPY_HEAD + copy.len();
            *slot = Some((ago, copy));
        }
        if chosen.iter().all(Option::is_none) {
            return false;
        }
        for (ago, copy) in chosen.iter().rev().flatten() {
            out.put_u32(1 << 31 | u32::from(PAYLOAD_TYPE) << 24 | ago << 10 | copy.len() as u32);
        }
        out.put_u8(PAYLOAD_TYPE);
        for (_, copy) in chosen.iter().rev().flatten() {
            out.put_slice(copy);
        }
        out.put_slice(frame);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TWO: Copies = Copies { count: 2, spacing: 1 };

    fn frame(n: u8, length: usize) -> Bytes {
        Bytes::from(vec![n; length])
    }

    fn write(writer: &mut Writer, timestamp: u32, frame: &Bytes, copies: Copies) -> Option<Bytes> {
        let mut out = BytesMut::new();
        writer.write(timestamp, frame, copies, &mut out).then(|| out.freeze())
    }

    fn read(payload: &[u8]) -> Vec<(u32, u8, usize)> {
        blocks(payload).unwrap().map(|b| (b.ago, payload[b.range.start], b.range.len())).collect()
    }

    /// The layout of RFC 2198 section 3, byte by byte.
    #[test]
    fn a_payload_looks_as_the_standard_says() {
        let mut writer = Writer::new();
        assert_eq!(write(&mut writer, 5_000, &frame(1, 2), TWO), None, "nothing to copy yet");
        assert!(write(&mut writer, 5_960, &frame(2, 3), TWO).is_some());
        let red = write(&mut writer, 6_920, &frame(3, 4), TWO).unwrap();
        // 1920 << 10 | 2 and 960 << 10 | 3.
        let head = [0x80 | 111, 0x1e, 0x00, 0x02, 0x80 | 111, 0x0f, 0x00, 0x03, 111];
        assert_eq!(red[..], [&head[..], &[1, 1, 2, 2, 2, 3, 3, 3, 3]].concat());
        assert_eq!(read(&red), [(1_920, 1, 2), (960, 2, 3), (0, 3, 4)]);
    }

    #[test]
    fn spacing_leaves_frames_out_and_timestamps_wrap() {
        let mut writer = Writer::new();
        let copies = Copies { count: 2, spacing: 3 };
        let start = 0_u32.wrapping_sub(5 * 960);
        let last = (0..10)
            .map(|n| write(&mut writer, start.wrapping_add(n * 960), &frame(n as u8, 10), copies))
            .last();
        assert_eq!(read(&last.unwrap().unwrap()), [(6 * 960, 3, 10), (3 * 960, 6, 10), (0, 9, 10)]);
    }

    #[test]
    fn copies_that_are_too_old_or_too_long_are_left_out() {
        let mut writer = Writer::new();
        write(&mut writer, 0, &frame(1, 20), TWO);
        assert_eq!(write(&mut writer, 20_000, &frame(2, 1_024), TWO), None, "older than 14 bits");
        assert_eq!(write(&mut writer, 20_960, &frame(3, 600), TWO), None, "longer than 10 bits");
        let red = write(&mut writer, 21_920, &frame(4, 500), TWO).unwrap();
        assert_eq!(read(&red), [(960, 3, 600), (0, 4, 500)], "the one that is too long only");
        let red = write(&mut writer, 22_880, &frame(5, 600), TWO).unwrap();
        assert_eq!(read(&red), [(960, 4, 500), (0, 5, 600)], "the newest where both do not fit");
        assert!(red.len() <= MAX_RED);
        assert_eq!(write(&mut writer, 23_840, &frame(6, 700), TWO), None);
        assert!(write(&mut writer, 24_800, &frame(7, 1_275), TWO).is_none(), "a frame that fills a packet");
        assert!(
            write(&mut writer, 24_800, &frame(8, 10), Copies { count: 1, spacing: 1 }).is_none(),
            "of now"
        );
    }

    #[test]
    fn what_is_no_sound_of_ours_is_left_out_or_refused() {
        for broken in [
            &[][..],
            &[111],
            &[0xef],
            &[0xef, 0x0f, 0x00, 0x03, 111, 1, 2, 3],
            &[0xef, 0x0f, 0x00],
            &[0xff; 100],
        ] {
            assert!(blocks(broken).is_none(), "{broken:?}");
        }
        assert_eq!(read(&[111, 7, 7]), [(0, 7, 2)], "no copies");
        // Another type, none of now, an empty one, and one that counts.
        let mixed =
            [0x80 | 13, 0x0f, 0, 1, 0xef, 0, 0, 1, 0xef, 0x0f, 0, 0, 0xef, 0x0f, 0, 2, 111, 1, 2, 3, 3, 4];
        assert_eq!(read(&mixed), [(960, 3, 2), (0, 4, 1)]);
        let many: Vec<u8> = [0xef, 0x0f, 0, 0].repeat(MAX_BLOCKS).into_iter().chain([111, 1]).collect();
        assert!(blocks(&many).is_none());
        assert_eq!(read(&many[COPY_HEAD..]), [(0, 1, 1)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(payload in prop::collection::vec(any::<u8>(), 0..200), flags in 0..20_usize) {
            let mut payload = payload;
            // More headers than chance would give.
            for at in (0..payload.len()).step_by(COPY_HEAD).take(flags) {
                payload[at] |= 0x80;
                if let Some(length) = payload.get_mut(at + 2) {
                    *length &= 0xfc;
                }
            }
            if let Some(found) = blocks(&payload) {
                let all: Vec<_> = found.collect();
                prop_assert!((1..=MAX_BLOCKS).contains(&all.len()));
                prop_assert_eq!(all.iter().filter(|b| b.ago == 0).count(), 1);
                for pair in all.windows(2) {
                    prop_assert!(pair[0].range.end <= pair[1].range.start);
                }
                for block in &all {
                    prop_assert!(!block.range.is_empty() && block.range.end <= payload.len() && block.ago <= MAX_AGO);
                }
                prop_assert_eq!(all.last().map(|b| (b.ago, b.range.end)), Some((0, payload.len())));
            }
        }

        #[test]
        fn what_is_written_is_read_again(
            frames in prop::collection::vec((1..1_275_usize, 1..6_u32), 1..20),
            count in 0..9_u8,
            spacing in 0..4_u8,
        ) {
            let mut writer = Writer::new();
            let (mut sent, mut now) = (Vec::new(), u32::MAX - 4_000);
            for (n, (length, step)) in frames.into_iter().enumerate() {
                now = now.wrapping_add(step * 480);
                let own = frame(n as u8, length);
                let red = write(&mut writer, now, &own, Copies { count, spacing });
                sent.push((now, own));
                if let Some(red) = red {
                    prop_assert!(red.len() <= MAX_RED);
                    let found: Vec<_> = blocks(&red).unwrap().collect();
                    prop_assert!((2..=usize::from(count) + 1).contains(&found.len()));
                    for block in found {
                        let at = now.wrapping_sub(block.ago);
                        let original = sent.iter().find(|(t, _)| *t == at).unwrap();
                        prop_assert_eq!(&original.1[..], &red[block.range]);
                    }
                }
            }
        }
    }
}
