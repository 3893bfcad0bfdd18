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
    /// Media sent, in bits per second over the last second (at first: since the link connected), RTP headers included.
    pub sent_bps: Option<f64>,
    /// Media received, likewise.
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
    /// What became of the sound that arrives, in detail.
    #[serde(default)]
    pub sound: Option<Box<ReceivedSound>>,
}

/// What became of the sound of one participant. Counters and times run from when its sound was first expected here, and begin
/// anew when the devices are opened anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ReceivedSound {
    /// Packets that came, other than twice or broken.
    pub received: u64,
    /// Packets that were not there when their turn came, and did not come later.
    pub lost: u64,
    /// Packets that came after their turn.
    pub late: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets that are no sound.
    pub malformed: u64,
    /// Packets for which there was no room.
    pub overflowed: u64,
    /// Jumps that were taken for another stream.
    pub resets: u64,
    /// Frames that were made up.
    pub concealed_frames: u64,
    /// Frames from the coarse copy in the packet after them (in-band FEC).
    pub fec_recovered: u64,
    /// Frames from their copy in a later packet (RED, RFC 2198).
    pub red_recovered: u64,
    /// Frames from deep redundancy (DRED).
    pub dred_recovered: u64,
    /// Milliseconds that were made up.
    pub concealed_ms: u64,
    /// Those of them that filled the time until a late packet came, which was played.
    pub concealed_late_ms: u64,
    /// Milliseconds from redundancy of any kind.
    pub recovered_ms: u64,
    /// Milliseconds of soft noise while the sender left silence out (DTX).
    pub comfort_noise_ms: u64,
    /// Milliseconds that were played, those made up included.
    pub played_ms: u64,
    /// Milliseconds taken out to have less delay.
    pub shortened_ms: u64,
    /// Milliseconds put in to have more in reserve.
    pub lengthened_ms: u64,
    /// How often either was done.
    pub stretches: u64,
    /// Milliseconds thrown away at once because of too much delay.
    pub discarded_ms: u64,
    /// The delay that the jitter buffer aims for now, in milliseconds.
    pub jitter_target_ms: u64,
    /// The part of it that waits for redundancy, in milliseconds.
    pub repair_delay_ms: u64,
    /// From mouth to ear now, but for the network and the other device: this side's microphone and encoder stand for the other's,
    /// the jitter buffer and the speaker are this side's. In milliseconds.
    pub mouth_to_ear_ms: u64,
    /// How loud it is: 0 is the loudest, 127 is silence, in -dBov (RFC 6464).
    pub level: u8,
    /// Somebody speaks.
    pub speaking: bool,
}

/// What the own sound engine does, while devices are open. Counters run from when they were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SoundStats {
    /// Steps of 10 ms.
    pub ticks: u64,
    /// Steps that were left out because the machine stood still.
    pub skipped_ticks: u64,
    /// Frames that were encoded and sent.
    pub frames: u64,
    /// Frames that were left out because they hold silence (DTX).
    pub silent_frames: u64,
    /// How loud the microphone is, before mute: 0 is the loudest, 127 is silence, in -dBov.
    pub level: u8,
    /// How loud the speaker is, likewise.
    pub output_level: u8,
    /// What the encoder is set to, in bits per second: one copy of each frame, without headers.
    pub bitrate: u32,
    /// Milliseconds of sound in a frame.
    pub frame_ms: u8,
    /// Packets carry a coarse copy of the frame before them (in-band FEC), if loss is expected.
    pub fec: bool,
    /// How far deep redundancy (DRED) goes back, in milliseconds; 0 is none.
    pub dred_ms: u64,
    /// Copies of earlier frames in each packet, for those who read them (RED); 0 is none.
    pub red_copies: u8,
    /// Of every which frame there is a copy; 1: of the last ones.
    pub red_spacing: u8,
    /// Automute sends silence now.
    pub automuted: bool,
    /// Delay from the speaker to its echo in the microphone, as the canceller has found it, in milliseconds.
    pub echo_delay_ms: Option<u64>,
    /// The system lets the engine run before ordinary programs.
    pub raised_priority: bool,
    /// Times that the microphone's buffer ran dry or over.
    pub capture_xruns: u64,
    /// Times that the speaker's did.
    pub playout_xruns: u64,
    /// Where its delay comes from.
    pub latency: SoundLatency,
}

/// Delay stage by stage, now, in microseconds. A stage that is not there is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SoundLatency {
    /// The microphone and its driver, as they tell.
    pub capture_device_us: u64,
    /// Waiting for the engine.
    pub capture_ring_us: u64,
    /// To the rate of the engine.
    pub capture_resampler_us: u64,
    /// Echo, noise and gain processing.
    pub processing_us: u64,
    /// The frame that must fill up.
    pub frame_us: u64,
    /// The encoder's look-ahead.
    pub lookahead_us: u64,
    /// Mixer and limiter.
    pub mixer_us: u64,
    /// To the rate of the speaker.
    pub playout_resampler_us: u64,
    /// Waiting for the speaker.
    pub playout_ring_us: u64,
    /// The speaker and its driver, as they tell.
    pub playout_device_us: u64,
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
    /// A record of where somebody is that they have not signed, told when it was looked for or brought to be stored.
    #[serde(default)]
    pub record: u64,
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
        self.record += more.record;
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
