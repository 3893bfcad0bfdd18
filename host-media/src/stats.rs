//! Numbers that an engine counts and measures.

use std::time::Duration;

use crate::{format::FrameLength, process::VoiceStats};

/// What is known about one remote peer's sound. Counters run from [`Controls::add_peer`](crate::Controls::add_peer).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Packets that were taken from the queue and were neither malformed nor duplicates.
    pub received: u64,
    /// Packets that were not there when their turn came and did not come later either, outages included. What the sender
    /// does not send (muted, DTX) is not lost.
    pub lost: u64,
    /// Packets that came after their turn and could not be played.
    pub late: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that came after a packet with a higher sequence number.
    pub reordered: u64,
    /// Packets that are not Opus, have no plausible length, or could not be decoded.
    pub malformed: u64,
    /// Packets that fell out of a full queue before or inside the jitter buffer.
    pub overflowed: u64,
    /// Jumps of sequence or timestamp that were taken as a new stream.
    pub resets: u64,
    /// Frames that were made up because nothing was there to play, counted in the peer's frame length at that time.
    pub concealed_frames: u64,
    /// Frames that were recovered from the redundancy in the packet after them (in-band FEC).
    pub fec_recovered: u64,
    /// Frames that were played from their copy in a later packet (RFC 2198).
    pub red_recovered: u64,
    /// Frames that were rebuilt from deep redundancy (DRED), counted in the peer's frame length at that time.
    pub dred_recovered: u64,
    /// Time that was made up by concealment: for packets that were lost, late or broken. Pauses do not count.
    pub concealed: Duration,
    /// The part of [`concealed`](Self::concealed) that filled the time until a late packet came, which was then played.
    pub concealed_late: Duration,
    /// Time that was filled with comfort noise because the sender paused on purpose (DTX).
    pub comfort_noise: Duration,
    /// Time that was played from redundancy of any kind.
    pub recovered: Duration,
    /// Time that was played, the concealed part included; pauses do not count.
    pub played: Duration,
    /// Time that was taken out to reduce the delay, a period of the voice at a time or in silence.
    pub shortened: Duration,
    /// Time that was put in to have more delay in reserve, a period of the voice at a time or in silence.
    pub lengthened: Duration,
    /// How often time was taken out or put in.
    pub stretches: u64,
    /// Time that was decoded and thrown away at once, because the delay went beyond its bound.
    pub discarded: Duration,
    /// Delay between the earliest possible and the actual playout, now; zero when nothing plays.
    pub jitter_buffer: Duration,
    /// Delay that the jitter buffer aims for. Since sound is played in ticks of 10 ms, it holds up to a tick more.
    pub jitter_target: Duration,
    /// The part of [`jitter_target`](Self::jitter_target) that waits for redundancy, because losses were seen that it
    /// can repair.
    pub repair_delay: Duration,
    /// Level of what was decoded last, in -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
    /// Whether the peer speaks.
    pub speaking: bool,
    /// The gain that is applied.
    pub gain: f32,
}

impl PeerStats {
    /// How much of the played time was made up, in percent; none before anything was played.
    #[must_use]
    pub fn concealed_percent(&self) -> Option<f64> {
        let played = self.played.as_secs_f64();
        (played > 0.0).then(|| 100.0 * self.concealed.as_secs_f64() / played)
    }
}

/// What is known about an engine as a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Ticks of 10 ms that were worked.
    pub ticks: u64,
    /// Ticks that were left out because the machine stood still for too long to catch up.
    pub skipped_ticks: u64,
    /// Frames that were encoded and handed out.
    pub frames: u64,
    /// Level of the source before mute, in -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
    /// Level of the mix that was played last, in -dBov.
    pub output_level: u8,
    /// Whether nothing of the source is sent.
    pub muted: bool,
    /// Whether nothing is played.
    pub deafened: bool,
    /// Whether there is a microphone or another source.
    pub has_source: bool,
    /// Whether there is a speaker or another sink.
    pub has_sink: bool,
    /// Bit rate that the encoder is set to, in bit/s: one copy of each frame, without headers.
    pub bitrate: u32,
    /// Length of the frames that are encoded.
    pub frame: FrameLength,
    /// Whether packets carry in-band redundancy, if loss is expected.
    pub fec: bool,
    /// How far the deep redundancy in each packet goes back at most; zero if there is none.
    pub dred: Duration,
    /// Copies of earlier frames in each redundant payload; 0 if none are made.
    pub red_copies: u8,
    /// Of every which frame there is a copy; 1: of the last ones.
    pub red_spacing: u8,
    /// Frames that were not handed out because they hold silence, with [`Builder::dtx`](crate::Builder::dtx).
    pub silent_frames: u64,
    /// Whether the system lets the engine's thread run before ordinary ones. It often does not, and all works as well
    /// on a machine that is not busy.
    pub raised_priority: bool,
    /// Samples, as time, that wait between the microphone's callback and the engine; zero without a device.
    pub capture_fill: Duration,
    /// Samples, as time, that wait between the engine and the speaker's callback; zero without a device.
    pub playout_fill: Duration,
    /// Times that the microphone's ring ran dry or full, or its driver reported a gap.
    pub capture_xruns: u64,
    /// Times that the speaker's ring ran dry or full, or its driver reported a gap.
    pub playout_xruns: u64,
    /// Delay from capture to the engine: the device's buffer, the ring and the resampler.
    pub capture_latency: Duration,
    /// What is done to the source before it is encoded, and what came of it.
    pub voice: VoiceStats,
    /// Delay in the encoder: the frame that must fill up, and the codec's look-ahead.
    pub encoder_latency: Duration,
    /// Delay from the engine to the loudspeaker: the resampler, the ring and the device's buffer.
    pub playout_latency: Duration,
    /// The same, stage by stage.
    pub latency: Latency,
}

/// Where the delay of an engine's own parts comes from, stage by stage, now. A stage that is not there is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latency {
    /// The microphone and its driver, as they tell.
    pub capture_device: Duration,
    /// The ring between the microphone's callback and the tick.
    pub capture_ring: Duration,
    /// From the microphone's rate to 48 kHz, with drift control.
    pub capture_resampler: Duration,
    /// Voice processing.
    pub processing: Duration,
    /// The frame that must fill up before it can be encoded.
    pub frame: Duration,
    /// The codec's look-ahead.
    pub lookahead: Duration,
    /// Mixer and limiter.
    pub mixer: Duration,
    /// From 48 kHz to the speaker's rate, with drift control.
    pub playout_resampler: Duration,
    /// The ring between the tick and the speaker's callback.
    pub playout_ring: Duration,
    /// The speaker and its driver, as they tell.
    pub playout_device: Duration,
}

impl Latency {
    /// From the microphone to the network.
    #[must_use]
    pub fn sending(&self) -> Duration {
        self.capture_device
            + self.capture_ring
            + self.capture_resampler
            + self.processing
            + self.frame
            + self.lookahead
    }

    /// From the jitter buffer to the loudspeaker.
    #[must_use]
    pub fn receiving(&self) -> Duration {
        self.mixer + self.playout_resampler + self.playout_ring + self.playout_device
    }

    /// From mouth to ear as far as it is our doing, if the other side has what we have: sending, the jitter buffer of
    /// that peer, receiving. What the network takes comes on top.
    #[must_use]
    pub fn mouth_to_ear(&self, peer: &PeerStats) -> Duration {
        self.sending() + peer.jitter_buffer + self.receiving()
    }
}

impl Default for EngineStats {
    fn default() -> Self {
        Self {
            ticks: 0,
            skipped_ticks: 0,
            frames: 0,
            level: 127,
            output_level: 127,
            muted: false,
            deafened: false,
            has_source: false,
            has_sink: false,
            bitrate: 0,
            frame: FrameLength::default(),
            fec: false,
            dred: Duration::ZERO,
            red_copies: 0,
            red_spacing: 0,
            silent_frames: 0,
            capture_fill: Duration::ZERO,
            playout_fill: Duration::ZERO,
            capture_xruns: 0,
            playout_xruns: 0,
            capture_latency: Duration::ZERO,
            voice: VoiceStats::default(),
            encoder_latency: Duration::ZERO,
            playout_latency: Duration::ZERO,
            raised_priority: false,
            latency: Latency::default(),
        }
    }
}
