//! The units that cross the border: frames out, packets in, and the format they share.

use std::time::Duration;

use bytes::Bytes;

/// The caller's handle for a remote peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

/// One Opus frame of the local source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodedFrame {
    /// Time of the first sample in units of 1/48000 s. Starts at 0, wraps, and keeps running while muted.
    pub timestamp: u32,
    /// Length of the frame in units of 1/48000 s.
    pub samples: u32,
    /// The Opus packet.
    pub payload: Bytes,
    /// Level in -dBov as RFC 6464 counts it: 0 is the loudest, 127 is silence.
    pub level: u8,
    /// Whether the frame holds voice (the V bit of RFC 6464).
    pub voice: bool,
    /// The same frame with copies of earlier ones, as a payload of redundant sound (RED, RFC 2198): for receivers that
    /// read it, instead of `payload`. Present when losses make it worth its bits. The payload type in the headers of
    /// its blocks is 111, which browsers use for Opus.
    pub red: Option<Bytes>,
}

/// One RTP packet's content, as it came from the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp in units of 1/48000 s.
    pub timestamp: u32,
    /// The Opus packet, or the redundant payload.
    pub payload: Bytes,
    /// Which of both the payload is, by the RTP payload type.
    pub kind: PayloadKind,
}

impl Packet {
    /// A packet with Opus in it.
    #[must_use]
    pub fn new(sequence: u16, timestamp: u32, payload: impl Into<Bytes>) -> Self {
        Self { sequence, timestamp, payload: payload.into(), kind: PayloadKind::Opus }
    }

    /// The same with a payload of another kind.
    #[must_use]
    pub fn kind(mut self, kind: PayloadKind) -> Self {
        self.kind = kind;
        self
    }
}

/// What a packet's payload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadKind {
    /// One Opus packet.
    #[default]
    Opus,
    /// Redundant sound (RED, RFC 2198): the frame, and copies of earlier ones.
    Red,
}

/// What both ends of a call agreed to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Format {
    /// Length of each encoded frame. Default 20 ms, the default `ptime` of RFC 7587 section 6.1.
    pub frame: FrameLength,
    /// The most channels that the receivers take. A mono encoding, which is what the engine makes of its mono
    /// sound, may be sent whatever is agreed here (RFC 7587 section 3.4).
    pub channels: u8,
    /// The highest bit rate that the receivers take, in bit/s; it caps
    /// [`Controls::set_bitrate`](crate::Controls::set_bitrate). Default 510 kbit/s, the highest rate of Opus
    /// (RFC 6716 section 2.1.1).
    pub max_bitrate: u32,
}

impl Format {
    /// A format with frames of this length, and the defaults for everything else.
    #[must_use]
    pub fn new(frame: FrameLength) -> Self {
        Self { frame, ..Self::default() }
    }

    /// The same with another cap on the bit rate, in bit/s.
    #[must_use]
    pub fn max_bitrate(mut self, bits_per_second: u32) -> Self {
        self.max_bitrate = bits_per_second;
        self
    }

    /// The same with another number of channels.
    #[must_use]
    pub fn channels(mut self, channels: u8) -> Self {
        self.channels = channels;
        self
    }
}

impl Default for Format {
    fn default() -> Self {
        Self { frame: FrameLength::Ms20, channels: 2, max_bitrate: 510_000 }
    }
}

/// How much sound one packet carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrameLength {
    /// 10 ms: the least delay, the most overhead.
    Ms10,
    /// 20 ms: the usual compromise.
    #[default]
    Ms20,
    /// 40 ms.
    Ms40,
    /// 60 ms: the least overhead, for very slow links.
    Ms60,
}

impl FrameLength {
    /// The length in milliseconds.
    #[must_use]
    pub const fn ms(self) -> u8 {
        match self {
            Self::Ms10 => 10,
            Self::Ms20 => 20,
            Self::Ms40 => 40,
            Self::Ms60 => 60,
        }
    }

    /// The frame length of this many milliseconds, if there is one.
    #[must_use]
    pub const fn from_ms(ms: u8) -> Option<Self> {
        match ms {
            10 => Some(Self::Ms10),
            20 => Some(Self::Ms20),
            40 => Some(Self::Ms40),
            60 => Some(Self::Ms60),
            _ => None,
        }
    }

    /// The length in samples at 48 kHz.
    #[must_use]
    pub const fn samples(self) -> usize {
        self.ms() as usize * 48
    }

    /// The length as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.ms() as u64)
    }
}
