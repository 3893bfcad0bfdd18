//! Numbers that an engine counts and measures.

use std::time::Duration;

use crate::process::VoiceStats;

/// What is known about one remote peer's sound. Counters run from [`Controls::add_peer`](crate::Controls::add_peer).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Packets that were taken from the queue and were neither malformed nor duplicates.
    pub received: u64,
    /// Packets that were not there when their turn came and did not come later either.
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
    /// Frames that were made up because nothing was there to play, counted in the peer's frame length.
    pub concealed_frames: u64,
    /// Frames that were recovered from the redundancy in the packet after them.
    pub fec_recovered: u64,
    /// Time that was made up by concealment.
    pub concealed: Duration,
    /// Time that was played, the concealed part included; pauses do not count.
    pub played: Duration,
    /// Time that was taken out to reduce the delay.
    pub shortened: Duration,
    /// Time that was put in, during silence, to have more delay in reserve.
    pub lengthened: Duration,
    /// Delay between the earliest possible and the actual playout, now; zero when nothing plays.
    pub jitter_buffer: Duration,
    /// Delay that the jitter buffer aims for.
    pub jitter_target: Duration,
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
    /// Frames that were encoded.
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
    /// Bit rate that the encoder is set to, in bit/s.
    pub bitrate: u32,
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
    /// Delay in the mixer, whose limiter looks ahead.
    pub mixer_latency: Duration,
    /// Delay in the encoder: the frame that must fill up, and the codec's look-ahead.
    pub encoder_latency: Duration,
    /// Delay from the engine to the loudspeaker: the resampler, the ring and the device's buffer.
    pub playout_latency: Duration,
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
            capture_fill: Duration::ZERO,
            playout_fill: Duration::ZERO,
            capture_xruns: 0,
            playout_xruns: 0,
            capture_latency: Duration::ZERO,
            voice: VoiceStats::default(),
            mixer_latency: Duration::ZERO,
            encoder_latency: Duration::ZERO,
            playout_latency: Duration::ZERO,
        }
    }
}
