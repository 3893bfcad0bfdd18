//! Memory for packets that go out, used again once everybody has dropped them.

use bytes::{Bytes, BytesMut};

/// Buffers that are kept. 256: five seconds of 20 ms frames, while a connection that repairs losses keeps a second or
/// two. If more are out there, new ones are made and not kept.
const MOST: usize = 256;
/// What a buffer holds at first: 20 ms at 128 kbit/s, and most redundant payloads at the rates of speech.
const SIZE: usize = 320;

/// Hands out buffers, in turn.
#[derive(Debug)]
pub(crate) struct Pool {
    buffers: Vec<BytesMut>,
    turn: usize,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self { buffers: Vec::with_capacity(MOST), turn: 0 }
    }

    /// A copy of these bytes, which lives as long as it is needed. It allocates only while the pool grows.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        let buffer = match self.free(bytes.len()) {
            Some(at) => &mut self.buffers[at],
            None if self.buffers.len() < MOST => {
                self.buffers.push(BytesMut::with_capacity(bytes.len().max(SIZE)));
                let last = self.buffers.len() - 1;
                &mut self.buffers[last]
            }
            None => return Bytes::copy_from_slice(bytes),
        };
        buffer.extend_from_slice(bytes);
        // What is split off shares the buffer's memory, which is free again when it is dropped.
        buffer.split().freeze()
    }

    /// The next buffer that nobody else uses. One that is too small is replaced, so that all grow to what is needed.
    fn free(&mut self, room: usize) -> Option<usize> {
        for _ in 0..self.buffers.len() {
            let at = self.turn % self.buffers.len();
            self.turn = at + 1;
            let buffer = &mut self.buffers[at];
            if buffer.try_reclaim(room) {
                return Some(at);
            }
            if room > SIZE && buffer.try_reclaim(SIZE) {
                *buffer = BytesMut::with_capacity(room.next_power_of_two());
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};

    use super::*;

    #[test]
    fn memory_is_used_again_when_it_was_dropped_and_not_before() {
        let mut pool = Pool::new();
        let mut out = VecDeque::new();
        let mut places = BTreeSet::new();
        for n in 0..3_000 {
            let bytes = pool.copy(&[n as u8; 100]);
            if n >= 1_000 {
                assert!(places.contains(&bytes.as_ptr()), "new memory after {n} packets");
            } else {
                places.insert(bytes.as_ptr());
            }
            out.push_back((n as u8, bytes));
            if out.len() > 50 {
                out.pop_front();
            }
            assert!(out.iter().all(|(n, bytes)| bytes[..] == [*n; 100]), "somebody's bytes were overwritten");
        }
        assert!(pool.buffers.len() <= 51, "{} buffers for 51 packets", pool.buffers.len());
    }

    #[test]
    fn sizes_may_change_and_hoarders_are_served() {
        let mut pool = Pool::new();
        let kept: Vec<_> = (0..5 * MOST).map(|n| pool.copy(&[n as u8; 200])).collect();
        assert_eq!(pool.buffers.len(), MOST);
        assert!(kept.iter().enumerate().all(|(n, bytes)| bytes[..] == [n as u8; 200]));
        drop(kept);
        let bytes: Vec<u8> = (0..1_275).map(|i| i as u8).collect();
        for n in [10, 1_200, 300, 0, 1_275, 1] {
            assert_eq!(pool.copy(&bytes[..n])[..], bytes[..n]);
        }
        assert_eq!(pool.buffers.len(), MOST);
    }
}
