//! What the network says to the encoder.

use std::time::Duration;

/// What the connection to one receiver says to the encoder that feeds it. What is not known is `None`, and then the
/// defaults hold.
///
/// ```
/// # use host_media::PathAdvice;
/// let advice = PathAdvice::default().bitrate(60_000).loss(0.1).burst_ratio(1.0).red(true);
/// assert_eq!(advice.loss, Some(0.1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PathAdvice {
    /// Bits a second that should not be exceeded, RTP headers and redundancy included; `None` as long as nothing
    /// speaks against more.
    pub bitrate: Option<u32>,
    /// Packets that the receiver lacks, 0 to 1, after lost ones were sent again: what redundancy has to make up for.
    pub loss: Option<f64>,
    /// Packets that are lost on the way, 0 to 1, before anything is repaired.
    pub path_loss: Option<f64>,
    /// How much longer bursts of losses are than independent losses would make them (BurstR of ITU-T G.107): 1 is by
    /// chance, at 2 and more redundancy in the very next packet is lost along with the first.
    pub burst_ratio: Option<f64>,
    /// To the receiver and back.
    pub round_trip: Option<Duration>,
    /// The path is congested, or was a moment ago: more packets or bits make it worse.
    pub congested: bool,
    /// The receiver reads redundant sound (RED, RFC 2198).
    pub red: bool,
}

impl PathAdvice {
    /// The same with another [`bitrate`](Self::bitrate), in bit/s.
    #[must_use]
    pub fn bitrate(mut self, bits_per_second: impl Into<Option<u32>>) -> Self {
        self.bitrate = bits_per_second.into();
        self
    }

    /// The same with another [`loss`](Self::loss), 0 to 1.
    #[must_use]
    pub fn loss(mut self, share: impl Into<Option<f64>>) -> Self {
        self.loss = share.into();
        self
    }

    /// The same with another [`path_loss`](Self::path_loss), 0 to 1.
    #[must_use]
    pub fn path_loss(mut self, share: impl Into<Option<f64>>) -> Self {
        self.path_loss = share.into();
        self
    }

    /// The same with another [`burst_ratio`](Self::burst_ratio).
    #[must_use]
    pub fn burst_ratio(mut self, ratio: impl Into<Option<f64>>) -> Self {
        self.burst_ratio = ratio.into();
        self
    }

    /// The same with another [`round_trip`](Self::round_trip).
    #[must_use]
    pub fn round_trip(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.round_trip = time.into();
        self
    }

    /// The same with [`congested`](Self::congested) set or not.
    #[must_use]
    pub fn congested(mut self, congested: bool) -> Self {
        self.congested = congested;
        self
    }

    /// The same with [`red`](Self::red) set or not.
    #[must_use]
    pub fn red(mut self, reads: bool) -> Self {
        self.red = reads;
        self
    }
}
