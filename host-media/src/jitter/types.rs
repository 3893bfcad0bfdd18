//! What the jitter buffer says and remembers.

use bytes::Bytes;

/// What happened, for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
    pub(crate) reordered: u64,
    pub(crate) malformed: u64,
    pub(crate) overflowed: u64,
    pub(crate) resets: u64,
    /// Frames that were played from copies in other packets, ...
    pub(crate) red: u64,
    /// ... in samples.
    pub(crate) red_samples: u64,
    /// Samples that were made up in place of what was lost, ...
    pub(crate) made_lost: u64,
    /// ... while waiting for what came too late, ...
    pub(crate) made_late: u64,
    /// ... and where the sender was silent on purpose.
    pub(crate) made_pause: u64,
}

/// What is to be played next. All lengths are samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Decode this packet and leave out the first `skip` samples: their time has passed. `gap`: what was lost right
    /// before it, none if nothing was.
    Packet { payload: Bytes, skip: usize, gap: Option<Gap> },
    /// Recover `samples` from the redundancy in this packet, which stays, and leave out the first `skip`.
    Recover { payload: Bytes, samples: usize, skip: usize },
    /// This much is lost: rebuild it from the deep redundancy in the next packet, if it has that, or conceal it.
    Lost { samples: usize, deep: Option<Deep> },
    /// The sender sent nothing for this much time, on purpose.
    Pause { samples: usize },
    /// Nothing is there (yet).
    Empty,
}

/// A loss that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) samples: usize,
    /// What the in-band redundancy of the packet after it covers.
    pub(crate) fec: usize,
    /// What could have rebuilt it.
    pub(crate) deep: Option<Deep>,
}

/// Where deep redundancy may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deep {
    pub(crate) sequence: i64,
    pub(crate) payload: Bytes,
    /// What is lost begins this many samples before the packet.
    pub(crate) ago: usize,
}

/// What to do about the delay, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// It is right.
    Keep,
    /// There is this much too much of it.
    Shorten(i64),
    /// There is this much too little.
    Lengthen(i64),
}

/// Where playout stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// Timestamp of the next sample to decode.
    pub(super) timestamp: i64,
    /// Sequence number of the next packet.
    pub(super) sequence: i64,
    /// Length of the last packet.
    pub(super) frame: i64,
    /// Samples that were made up at this position while waiting.
    pub(super) waited: i64,
    /// Lost samples right before the position.
    pub(super) gap: i64,
    /// Samples of a pause right before the position.
    pub(super) rest: i64,
    /// The last packet announced a pause.
    pub(super) pausing: bool,
    /// The delay was put right in this pause.
    pub(super) adapted: bool,
}

impl Position {
    pub(super) fn at(timestamp: i64, sequence: i64) -> Self {
        Self { timestamp, sequence, frame: 0, waited: 0, gap: 0, rest: 0, pausing: false, adapted: false }
    }
}
