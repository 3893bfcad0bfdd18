//! Numbers: of a link, and of what arrived and was not used.

use serde::{Deserialize, Serialize};

/// Statistics of the link to one participant; `None` is "not known yet".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LinkStats {
    /// Round trip of the nominated pair, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Interarrival jitter (RFC 3550 section 6.4.1), in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Packets lost of those expected, in percent.
    pub loss_pct: Option<f64>,
    /// Media sent, in bits per second over the last second, RTP headers included.
    pub sent_bps: Option<f64>,
    /// Media received, in bits per second over the last second, RTP headers included.
    pub received_bps: Option<f64>,
    /// Audio that was concealed, of what was played, in percent.
    pub concealed_pct: Option<f64>,
    /// Delay in the jitter buffer, in milliseconds.
    pub jitter_buffer_ms: Option<f64>,
    /// The path: host, srflx, prflx or relay.
    pub route: Option<String>,
}

/// What arrived and changed nothing, and what was sent, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// Frames that no key of ours opens, or that are no frames at all.
    pub unreadable: u64,
    /// Frames for a topic or a session that is not ours (any more).
    pub stray: u64,
    /// Valid messages that had arrived before.
    pub duplicate: u64,
    /// Valid messages that make no sense in the present state.
    pub unexpected: u64,
    /// First messages for a call that is over.
    pub late: u64,
    /// Signals that were sent for the first time.
    pub sent: u64,
    /// Signals that were sent again.
    pub resent: u64,
    /// Signals that the other side acknowledged.
    pub acknowledged: u64,
    /// Signals given up.
    pub expired: u64,
}
