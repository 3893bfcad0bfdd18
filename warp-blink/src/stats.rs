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
    /// How good the other one sounds here: the mean opinion score of the E-model, 1 to 4.5 (ITU-T G.107). An estimate from what the
    /// network does.
    pub mos: Option<f64>,
    /// How good this side sounds there, as the other one reports.
    pub mos_there: Option<f64>,
    /// Packets that the other side lacks of those sent, in percent, as it reports.
    pub loss_there_pct: Option<f64>,
    /// The path: host, srflx, prflx or relay.
    pub route: Option<String>,
}

/// First messages and other frames that were refused, by the stage that refused them, in the order of the checks. Refusing
/// is silent: nobody is told, and to whoever sent it this side looks offline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refused {
    /// A size that no frame has.
    pub shape: u64,
    /// A protocol version or a kind that this build does not know; it may be a later one.
    pub version: u64,
    /// A suite that this build does not know.
    pub suite: u64,
    /// Not meant for this key, or made by somebody who does not hold the token of the lane.
    pub mac: u64,
    /// The contacts' lane was full.
    pub contacts_full: u64,
    /// The strangers' lane was full.
    pub strangers_full: u64,
    /// The handshake or the seal does not verify.
    pub seal: u64,
    /// The sender claims a key that is malformed, or not its own.
    pub sender: u64,
    /// The post-quantum part was taken out or exchanged.
    pub downgrade: u64,
    /// The contents are malformed, or of a kind that this build does not know.
    pub contents: u64,
    /// A signature is not its sender's.
    pub signature: u64,
    /// The app admits no calls of that sender.
    pub admission: u64,
    /// No place was left among the calls that wait for confirmation.
    pub crowded: u64,
}

impl Refused {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, more: &Self) {
        self.shape += more.shape;
        self.version += more.version;
        self.suite += more.suite;
        self.mac += more.mac;
        self.contacts_full += more.contacts_full;
        self.strangers_full += more.strangers_full;
        self.seal += more.seal;
        self.sender += more.sender;
        self.downgrade += more.downgrade;
        self.contents += more.contents;
        self.signature += more.signature;
        self.admission += more.admission;
        self.crowded += more.crowded;
    }

    /// All of them together.
    pub const fn total(&self) -> u64 {
        let Self { shape, version, suite, mac, contacts_full, strangers_full, seal, sender, .. } = *self;
        let Self { downgrade, contents, signature, admission, crowded, .. } = *self;
        shape
            + version
            + suite
            + mac
            + contacts_full
            + strangers_full
            + seal
            + sender
            + downgrade
            + contents
            + signature
            + admission
            + crowded
    }
}

/// What arrived and changed nothing, and what was sent, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// What was refused, by reason.
    pub refused: Refused,
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
