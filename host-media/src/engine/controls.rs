//! The handles that an application holds: settings, peers, statistics.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use super::{
    desk::{Bell, InUse, Post},
    encoding::Switches,
    kind::{Sinks, Sources},
};
use crate::{
    codec::PathAdvice,
    error::Error,
    format::{Packet, PeerId},
    lock,
    play::Players,
    process::{Processing, VoiceSettings, Wanted},
    record::Recordings,
    spec::{SinkSpec, SourceSpec},
    stats::{EngineStats, PeerStats},
};

/// The most peers that one engine mixes: more than any call has, few enough to decode within a tick.
pub const MAX_PEERS: usize = 64;

/// Packets that wait for the engine's next tick, per peer: 5 s of 20 ms frames. At the bound the oldest goes.
const QUEUE: usize = 256;

/// The highest gain: 12 dB.
const MAX_GAIN: f32 = 4.0;

/// Settings, peers and statistics of an engine. Cheap to clone; all clones are the same engine. All calls return at
/// once, from any thread; what is set takes effect at the next tick.
#[derive(Clone, Debug)]
pub struct Controls {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) muted: AtomicBool,
    pub(super) deafened: AtomicBool,
    pub(super) bitrate: AtomicU32,
    pub(super) expected_loss: AtomicU8,
    pub(super) complexity: AtomicU8,
    pub(super) voice: VoiceSettings,
    pub(super) encoding: Switches,
    pub(super) peers: Mutex<BTreeMap<PeerId, Arc<PeerShared>>>,
    /// Counts the changes of `peers`.
    pub(super) version: AtomicU64,
    pub(super) stats: Mutex<EngineStats>,
    pub(super) recordings: Arc<Recordings>,
    pub(super) players: Arc<Players>,
    pub(super) raised: AtomicBool,
    pub(super) sources: Arc<Post<Sources>>,
    pub(super) sinks: Arc<Post<Sinks>>,
    pub(super) bell: Arc<Bell>,
}

#[derive(Debug)]
pub(super) struct PeerShared {
    pub(super) queue: Mutex<Queue>,
    gain: AtomicU32,
    pub(super) stats: Mutex<PeerStats>,
    pub(super) advice: Mutex<Option<PathAdvice>>,
    /// To the peer and back, in microseconds; 0 as long as nobody knows.
    pub(super) round_trip: AtomicU32,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) packets: VecDeque<Arrived>,
    pub(super) dropped: u64,
    /// The next packet is the first of another stream.
    fresh: bool,
    closed: bool,
}

/// A packet that waits for the tick.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) packet: Packet,
    pub(super) at: Instant,
    /// Another stream begins here.
    pub(super) fresh: bool,
}

impl PeerShared {
    pub(super) fn gain(&self) -> f32 {
        f32::from_bits(self.gain.load(Relaxed))
    }
}

impl Controls {
    pub(super) fn new(bitrate: u32, expected_loss: u8, complexity: u8) -> Self {
        let bell = Arc::new(Bell::default());
        Self {
            shared: Arc::new(Shared {
                muted: AtomicBool::new(false),
                deafened: AtomicBool::new(false),
                bitrate: AtomicU32::new(bitrate),
                expected_loss: AtomicU8::new(expected_loss),
                complexity: AtomicU8::new(complexity),
                voice: VoiceSettings::default(),
                encoding: Switches::default(),
                peers: Mutex::default(),
                version: AtomicU64::new(0),
                stats: Mutex::default(),
                recordings: Arc::default(),
                players: Arc::default(),
                raised: AtomicBool::new(false),
                sources: Post::new(&bell),
                sinks: Post::new(&bell),
                bell,
            }),
        }
    }

    pub(crate) fn recordings(&self) -> &Arc<Recordings> {
        &self.shared.recordings
    }

    pub(crate) fn players(&self) -> &Arc<Players> {
        &self.shared.players
    }

    /// Adds a remote peer to the mix; packets go in through the result. A peer that is there already keeps its state,
    /// and the result feeds the same jitter buffer.
    ///
    /// # Errors
    /// [`Error::TooManyPeers`] beyond [`MAX_PEERS`].
    pub fn add_peer(&self, peer: PeerId) -> Result<PeerInput, Error> {
        let mut peers = lock(&self.shared.peers);
        if let Some(shared) = peers.get(&peer) {
            return Ok(PeerInput { shared: Arc::clone(shared) });
        }
        if peers.len() >= MAX_PEERS {
            return Err(Error::TooManyPeers { max: MAX_PEERS });
        }
        let shared = Arc::new(PeerShared {
            queue: Mutex::default(),
            gain: AtomicU32::new(1.0_f32.to_bits()),
            stats: Mutex::new(PeerStats { gain: 1.0, level: 127, ..PeerStats::default() }),
            advice: Mutex::default(),
            round_trip: AtomicU32::new(0),
        });
        peers.insert(peer, Arc::clone(&shared));
        self.shared.recordings.roster().joined(peer);
        self.shared.version.fetch_add(1, Relaxed);
        Ok(PeerInput { shared })
    }

    /// Takes a peer out of the mix; its [`PeerInput`]s swallow what they are given from now on. False if it was not
    /// there.
    pub fn remove_peer(&self, peer: PeerId) -> bool {
        let removed = lock(&self.shared.peers).remove(&peer);
        let Some(shared) = removed else { return false };
        self.shared.recordings.roster().left(peer);
        self.shared.version.fetch_add(1, Relaxed);
        self.shared.encoding.changed();
        let mut queue = lock(&shared.queue);
        queue.closed = true;
        queue.packets.clear();
        true
    }

    /// The peers in the mix, in order.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        lock(&self.shared.peers).keys().copied().collect()
    }

    /// Sends silence instead of the source, or the source again. Timestamps and packets go on, so that the far end
    /// keeps its timing.
    pub fn set_muted(&self, muted: bool) {
        self.shared.muted.store(muted, Relaxed);
    }

    /// Whether silence is sent instead of the source.
    #[must_use]
    pub fn muted(&self) -> bool {
        self.shared.muted.load(Relaxed)
    }

    /// Takes sound from somewhere else, in mid-call. It is opened beside the tick, which may take seconds for a device;
    /// the old source runs until the new one delivers. Mute, timestamps and the peers are not touched. Then
    /// [`Event::SourceChanged`](crate::Event::SourceChanged) is told, or
    /// [`Event::SwitchFailed`](crate::Event::SwitchFailed) and the old one stays. Of several requests that wait the
    /// newest wins.
    ///
    /// While a device is wanted ([`SourceSpec::Default`] or [`SourceSpec::Device`]), the engine keeps to it: it follows
    /// the system's default, takes another device when the wanted one vanishes, and comes back when that one returns.
    pub fn set_source(&self, source: SourceSpec) {
        self.shared.sources.request(source);
    }

    /// Plays to somewhere else, in mid-call; in everything else as [`set_source`](Self::set_source), with
    /// [`Event::SinkChanged`](crate::Event::SinkChanged).
    pub fn set_sink(&self, sink: SinkSpec) {
        self.shared.sinks.request(sink);
    }

    /// Where sound comes from now; none if there is no microphone.
    #[must_use]
    pub fn source(&self) -> Option<InUse> {
        self.shared.sources.in_use()
    }

    /// Where sound goes now; none if there is no speaker.
    #[must_use]
    pub fn sink(&self) -> Option<InUse> {
        self.shared.sinks.in_use()
    }

    /// Plays silence instead of the peers, or the peers again.
    pub fn set_deafened(&self, deafened: bool) {
        self.shared.deafened.store(deafened, Relaxed);
    }

    /// Whether silence is played instead of the peers.
    #[must_use]
    pub fn deafened(&self) -> bool {
        self.shared.deafened.load(Relaxed)
    }

    /// Sets what is done to the source before it is encoded, in mid-call without a click; none is what the source
    /// needs: [`Processing::on`] for a microphone, [`Processing::off`] for everything else. What is in use is
    /// [`VoiceStats::processing`](crate::VoiceStats).
    pub fn set_processing(&self, processing: impl Into<Option<Processing>>) {
        self.shared.voice.set_processing(processing.into());
    }

    /// What [`set_processing`](Self::set_processing) was told, or [`Builder::processing`](crate::Builder::processing).
    #[must_use]
    pub fn processing(&self) -> Option<Processing> {
        self.shared.voice.processing()
    }

    /// Mutes while nobody speaks into the microphone, or no longer. It mutes 1.3 s after the last word and opens in the
    /// very 10 ms in which something is louder than the background, so nothing is cut and nothing is delayed; what turns
    /// out to be no voice is shut out again after 0.2 s. [`Event::Automuted`](crate::Event::Automuted) and
    /// [`VoiceStats::automuted`](crate::VoiceStats) tell the state. Off unless [`Builder::automute`](crate::Builder::automute) says
    /// otherwise.
    pub fn set_automute(&self, on: bool) {
        self.shared.voice.set_automute(on);
    }

    /// Whether it mutes while nobody speaks.
    #[must_use]
    pub fn automute(&self) -> bool {
        self.shared.voice.automute()
    }

    /// What the next tick does to the source.
    pub(super) fn wanted(&self, microphone: bool, alive: bool) -> Wanted {
        self.shared.voice.wanted(self.muted(), microphone, alive)
    }

    /// Sets how loud a peer is: 0 is silent, 1 as sent, at most 4 (12 dB); what is outside is clamped, and what is not
    /// a number is 1. Tells the gain that is set, or none if there is no such peer.
    pub fn set_gain(&self, peer: PeerId, gain: f32) -> Option<f32> {
        let peers = lock(&self.shared.peers);
        let shared = peers.get(&peer)?;
        let gain = if gain.is_nan() { 1.0 } else { gain.clamp(0.0, MAX_GAIN) };
        shared.gain.store(gain.to_bits(), Relaxed);
        Some(gain)
    }

    /// How loud a peer is; none if there is no such peer.
    #[must_use]
    pub fn gain(&self, peer: PeerId) -> Option<f32> {
        lock(&self.shared.peers).get(&peer).map(|shared| shared.gain())
    }

    /// Sets the bit rate in bit/s, 6000 to 510000; the format's cap holds in any case.
    pub fn set_bitrate(&self, bits_per_second: u32) {
        self.shared.bitrate.store(bits_per_second, Relaxed);
    }

    /// Sets the loss, in percent, that redundancy is sent for; 0 sends none.
    pub fn set_expected_loss(&self, percent: u8) {
        self.shared.expected_loss.store(percent.min(100), Relaxed);
    }

    /// The loss, in percent, that redundancy is sent for.
    #[must_use]
    pub fn expected_loss(&self) -> u8 {
        self.shared.expected_loss.load(Relaxed)
    }

    /// Sets the effort of the encoder, 0 to 10.
    pub fn set_complexity(&self, complexity: u8) {
        self.shared.complexity.store(complexity.min(10), Relaxed);
    }

    /// Statistics of the whole engine, as of the last tick.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        *lock(&self.shared.stats)
    }

    /// Statistics of a peer, as of the last tick; none if there is no such peer.
    #[must_use]
    pub fn peer_stats(&self, peer: PeerId) -> Option<PeerStats> {
        let shared = lock(&self.shared.peers).get(&peer).map(Arc::clone)?;
        Some(PeerStats { gain: shared.gain(), ..*lock(&shared.stats) })
    }
}

/// Where a peer's packets go in. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct PeerInput {
    shared: Arc<PeerShared>,
}

impl PeerInput {
    /// Gives a packet to the peer's jitter buffer; `arrival` is when it came from the network, by the monotonic clock.
    /// Returns at once. If 256 packets wait already, the oldest one is dropped and counted as
    /// [`overflowed`](PeerStats::overflowed); if the peer was removed, the packet is.
    pub fn push(&self, packet: Packet, arrival: Instant) {
        let mut queue = lock(&self.shared.queue);
        if queue.closed {
            return;
        }
        if queue.packets.len() >= QUEUE {
            let dropped = queue.packets.pop_front();
            // Where a stream begins is not forgotten with its first packet.
            if let (Some(Arrived { fresh: true, .. }), Some(next)) = (dropped, queue.packets.front_mut()) {
                next.fresh = true;
            }
            queue.dropped += 1;
        }
        let fresh = std::mem::take(&mut queue.fresh);
        queue.packets.push_back(Arrived { packet, at: arrival, fresh });
    }

    /// Says that the packets from now on belong to another stream, with a clock and numbers of its own: another SSRC, or
    /// a sender that began anew. Without this word it is noticed by the jump, which costs a packet; and not at all if
    /// the numbers happen to go on.
    pub fn new_stream(&self) {
        lock(&self.shared.queue).fresh = true;
    }
}
