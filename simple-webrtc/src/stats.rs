use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::advice::Advice;
use crate::description::CandidateKind;
use crate::event::LinkState;
use crate::meter::Measured;
use crate::quality::Quality;
use crate::reception::Reception;

/// What is known about a connection now. What is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Milliseconds to the peer and back, from the last check of the nominated pair.
    pub round_trip_ms: Option<f64>,
    /// The same as media has it, from RTCP (RFC 3550 section 6.4.1): queues that only fill with media count. `None` until
    /// media was sent and the peer has reported, which takes two seconds.
    pub rtcp_round_trip_ms: Option<f64>,
    /// How packets travel; `None` until a pair is nominated.
    pub route: Option<Route>,
    /// What protects the connection; `None` until it is secured.
    pub security: Option<Security>,
    /// What was sent of sound.
    pub sent: Sent,
    /// What was received of sound.
    pub received: Received,
    /// What was sent of videos, all together.
    pub video_sent: Sent,
    /// What was received of videos, all together. Loss and jitter are of one of them.
    pub video_received: Received,
    /// What the peer reports of the sound that it receives from us, in the last 5 s; `None` before its first report, and
    /// when there was none for 11 s.
    pub reported: Option<Reported>,
    /// The same of videos: of the last one that it reported.
    pub video_reported: Option<Reported>,
    /// Whether both sides take redundant sound (RED, RFC 2198) on this connection; `false` until it is connected.
    pub redundancy: bool,
    /// How the call sounds at both ends, judged once a second while connected.
    pub quality: Quality,
    /// What this connection says to the encoder.
    pub advice: Advice,
    /// Sound that was sent again.
    pub repairs: Repairs,
    /// When each state was reached, in order, on tokio's clock. Bounded: after 32 entries the last one is replaced.
    pub timeline: Vec<(LinkState, Instant)>,
}

/// The two ends of the path in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Route {
    /// Our end.
    pub local: CandidateKind,
    /// The peer's end.
    pub remote: CandidateKind,
    /// Of the addresses on the way to the peer, or from the relay to it.
    pub family: Family,
    /// How packets leave this machine. Between peers it is UDP always; a relay of ours can be reached otherwise.
    pub protocol: Protocol,
}

/// Kinds of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Version 4.
    Ipv4,
    /// Version 6.
    Ipv6,
}

/// What packets travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// To the peer, or to a relay.
    Udp,
    /// To a relay.
    Tcp,
    /// To a relay, over TCP.
    Tls,
}

/// What protects a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Security {
    /// Such as `DTLS 1.2`, which is all that the engine knows.
    pub dtls_version: String,
    /// The cipher suite, by its name in the registry of IANA.
    pub dtls_cipher: String,
    /// The protection profile of media, by its name in RFC 5764 or RFC 7714.
    pub srtp_profile: String,
}

/// Two addresses that a path could go between: one of ours and one of the peer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PairStats {
    /// Our end: an address of this machine, or a relay. What a STUN server sees is checked from the former.
    pub local: CandidateKind,
    /// The peer's end; what it has not told of is [`CandidateKind::PeerReflexive`].
    pub remote: CandidateKind,
    /// Of the addresses.
    pub family: Family,
    /// How far its checks have come.
    pub state: PairState,
    /// Milliseconds to the peer and back, from the last check that was answered.
    pub round_trip_ms: Option<f64>,
    /// Whether the side that decides has chosen it, now or before.
    pub nominated: bool,
    /// Whether it is in use.
    pub selected: bool,
}

/// How far the checks of a pair have come (RFC 8445 section 6.1.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PairState {
    /// Not checked yet, or not any more since another pair was chosen.
    Waiting,
    /// Checked, without an answer so far.
    InProgress,
    /// Answered.
    Succeeded,
    /// Without an answer for 39.5 s (RFC 8863 section 3).
    Failed,
}

impl PairStats {
    pub(crate) fn waiting(local: CandidateKind, remote: CandidateKind, family: Family) -> Self {
        let (state, round_trip_ms) = (PairState::Waiting, None);
        Self { local, remote, family, state, round_trip_ms, nominated: false, selected: false }
    }
}

impl Stats {
    pub(crate) fn add(&mut self, measured: &Measured) {
        self.rtcp_round_trip_ms = measured.round_trip.map(|trip| trip.as_secs_f64() * 1000.0);
        [self.sent.bitrate, self.video_sent.bitrate] = measured.sent;
        [self.received.bitrate, self.video_received.bitrate] = measured.received;
        [self.reported, self.video_reported] = measured.reported;
        self.repairs = measured.repairs;
    }
}

impl Route {
    /// Whether a TURN server is on the path.
    pub fn is_relayed(self) -> bool {
        self.local == CandidateKind::Relay || self.remote == CandidateKind::Relay
    }
}

/// What the peer reports (RTCP, RFC 3550 section 6.4) of what it receives from us.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Reported {
    /// Lost packets among those expected, 0 to 1: the mean of its reports of the last 5 s. A packet that was sent again counts as
    /// lost only where the report was made meanwhile.
    pub loss: f64,
    /// Packets that never came, since the start.
    pub lost: u64,
    /// Milliseconds of interarrival jitter.
    pub jitter_ms: f64,
    /// Reports so far.
    pub reports: u64,
}

/// Lost packets of sound that were sent again (NACK, RFC 4585 section 6.2.1), where both sides know of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repairs {
    /// Packets that we asked for; one that was asked for twice counts twice.
    pub asked: u64,
    /// Packets that came after we had asked for them.
    pub healed: u64,
    /// Packets that the peer asked for, counted likewise.
    pub requested: u64,
    /// Packets, of sound and videos, that were sent to it again.
    pub resent: u64,
}

/// Media sent over a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// RTP packets handed to the engine.
    pub packets: u64,
    /// Bytes of payload in them.
    pub bytes: u64,
    /// Bits a second over the last second, RTP headers and what was sent again included; `None` in the first second.
    pub bitrate: Option<u64>,
    /// Frames that this connection was too slow to take; of videos, those that are sent now.
    pub dropped: u64,
    /// Frames that the engine refused.
    pub refused: u64,
}

/// Media received over a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// RTP packets.
    pub packets: u64,
    /// Bytes of payload in them.
    pub bytes: u64,
    /// Bits a second over the last second, RTP headers included; `None` in the first second.
    pub bitrate: Option<u64>,
    /// Packets that never came.
    pub lost: u64,
    /// Lost packets among those expected in the last 5 s, 0 to 1; `None` before the first 5 s are over.
    pub loss: Option<f64>,
    /// Milliseconds of interarrival jitter (RFC 3550 section 6.4.1); `None` before the second packet.
    pub jitter_ms: Option<f64>,
    /// Packets that the readers of the present tracks were too slow to take.
    pub dropped: u64,
}

const MAX_TIMELINE: usize = 32;

/// What the tasks of one connection count.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) sent_packets: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) refused: AtomicU64,
    reception: Mutex<Reception>,
    timeline: Mutex<Vec<(LinkState, Instant)>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new(crate::track::AUDIO_CLOCK_RATE)
    }
}

impl Counters {
    pub(crate) fn new(clock_rate: u32) -> Self {
        Self {
            sent_packets: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            reception: Mutex::new(Reception::new(clock_rate)),
            timeline: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn reception(&self) -> MutexGuard<'_, Reception> {
        self.reception.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn on_sent(&self, payload: usize) {
        self.sent_packets.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(payload as u64, Ordering::Relaxed);
    }

    pub(crate) fn on_state(&self, state: LinkState, at: Instant) {
        let mut timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        if timeline.len() >= MAX_TIMELINE {
            timeline.pop();
        }
        timeline.push((state, at));
    }

    pub(crate) fn snapshot(&self, dropped_out: u64, dropped_in: u64) -> Stats {
        let reception = self.reception();
        Stats {
            sent: Sent {
                packets: self.sent_packets.load(Ordering::Relaxed),
                bytes: self.sent_bytes.load(Ordering::Relaxed),
                bitrate: None,
                dropped: dropped_out,
                refused: self.refused.load(Ordering::Relaxed),
            },
            received: Received {
                packets: reception.packets(),
                bytes: reception.bytes(),
                bitrate: None,
                lost: reception.lost(),
                loss: reception.recent_loss(),
                jitter_ms: reception.jitter_ms(),
                dropped: dropped_in,
            },
            timeline: self.timeline.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            ..Stats::default()
        }
    }
}
