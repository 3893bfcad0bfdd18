//! What the application and the network want of the encoder, and what it is set to.

use std::{
    sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    time::{Duration, Instant},
};

use super::{Builder, controls::Controls};
use crate::{
    codec::{
        DECODER_COMPLEXITY, PathAdvice,
        policy::{self, Demand, Policy, Settings, Wanted},
        red::Copies,
    },
    format::{FrameLength, PeerId},
    lock,
};

/// What a builder has been told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding {
    pub(super) stereo: bool,
    dtx: bool,
    adaptive: bool,
    fec: bool,
    dred: u16,
    red: Copies,
    pub(super) decoder_complexity: u8,
}

impl Default for Encoding {
    fn default() -> Self {
        Self {
            stereo: false,
            dtx: false,
            adaptive: true,
            fec: true,
            dred: 0,
            red: Copies::default(),
            decoder_complexity: DECODER_COMPLEXITY,
        }
    }
}

/// What is set while the engine runs.
#[derive(Debug, Default)]
pub(super) struct Switches {
    frame: AtomicU8,
    dtx: AtomicBool,
    adaptive: AtomicBool,
    fec: AtomicBool,
    dred: AtomicU16,
    red_copies: AtomicU8,
    red_spacing: AtomicU8,
    /// Counts what changes what the receivers say together.
    advised: AtomicU64,
}

impl Switches {
    pub(super) fn start(&self, encoding: Encoding, frame: FrameLength) {
        self.frame.store(frame.ms(), Relaxed);
        self.dtx.store(encoding.dtx, Relaxed);
        self.adaptive.store(encoding.adaptive, Relaxed);
        self.fec.store(encoding.fec, Relaxed);
        self.dred.store(encoding.dred, Relaxed);
        self.red_copies.store(encoding.red.count, Relaxed);
        self.red_spacing.store(encoding.red.spacing, Relaxed);
    }

    fn frame(&self) -> FrameLength {
        FrameLength::from_ms(self.frame.load(Relaxed)).unwrap_or_default()
    }

    /// Somebody came, left, or said something.
    pub(super) fn changed(&self) {
        self.advised.fetch_add(1, AcqRel);
    }
}

/// Turns all of it into settings of the encoder.
#[derive(Debug)]
pub(super) struct Adaptation {
    policy: Policy,
    demand: Option<Demand>,
    advised: u64,
    said: Vec<PathAdvice>,
    max_bitrate: u32,
}

impl Adaptation {
    pub(super) fn new(now: Instant, max_bitrate: u32) -> Self {
        Self {
            policy: Policy::new(now),
            demand: None,
            advised: 0,
            said: Vec::with_capacity(super::MAX_PEERS),
            max_bitrate,
        }
    }

    /// What the next frame is encoded with.
    pub(super) fn settings(&mut self, controls: &Controls, now: Instant) -> Settings {
        let shared = &controls.shared;
        let switches = &shared.encoding;
        let wanted = Wanted {
            frame: switches.frame(),
            bitrate: shared.bitrate.load(Relaxed),
            expected_loss: shared.expected_loss.load(Relaxed),
            max_bitrate: self.max_bitrate,
        };
        if switches.adaptive.load(Relaxed) {
            let advised = switches.advised.load(Acquire);
            if advised != self.advised {
                self.advised = advised;
                self.said.clear();
                self.said.extend(lock(&shared.peers).values().filter_map(|peer| *lock(&peer.advice)));
                self.demand = policy::combine(self.said.iter().copied());
            }
            if let Some(demand) = &self.demand {
                return self.policy.settings(now, wanted, Some(demand));
            }
        }
        self.policy.settings(now, wanted, None);
        Settings {
            fec: switches.fec.load(Relaxed),
            dred: switches.dred.load(Relaxed),
            red: Copies {
                count: switches.red_copies.load(Relaxed),
                spacing: switches.red_spacing.load(Relaxed),
            },
            ..wanted.into()
        }
    }
}

/// Settings of the encoder.
impl Builder {
    /// Whether what the network says ([`Controls::advise`]) changes frame length, bit rate and redundancy. Default
    /// true; without any advice everything stays as it is set here.
    pub fn adaptive(mut self, on: bool) -> Self {
        self.encoding.adaptive = on;
        self
    }

    /// Whether silence is left out: five packets a second instead of fifty, every other one to say that the pause goes
    /// on, noise in between being made by the receiver. Default false: the rhythm of the packets would show every listener on the network who speaks
    /// when (RFC 6562 warns of it), the first moments of speech have to be detected, and loss cannot be measured
    /// while nothing is sent. It saves about half the packets of a conversation.
    pub fn dtx(mut self, on: bool) -> Self {
        self.encoding.dtx = on;
        self
    }

    /// Whether packets carry in-band redundancy when loss is expected. Default true; RFC 7587 section 3.1.2 advises it
    /// for paths with losses.
    pub fn fec(mut self, on: bool) -> Self {
        self.encoding.fec = on;
        self
    }

    /// Deep redundancy (DRED) in each packet, at most 1.04 s, in steps of 10 ms; zero is none. Default none. How much
    /// of it there is room for depends on bit rate and expected loss.
    pub fn dred(mut self, reach: Duration) -> Self {
        self.encoding.dred = dred_ms(reach);
        self
    }

    /// Copies of earlier frames in [`EncodedFrame::red`](crate::EncodedFrame::red): how many, and of every which frame
    /// (1: the last ones). Default none.
    pub fn red(mut self, copies: u8, spacing: u8) -> Self {
        self.encoding.red = Copies { count: copies, spacing };
        self
    }

    /// Effort of the decoders, 0 to 10. Default 5: what is lost is made up by a neural vocoder, which also reads deep
    /// redundancy. Below that libopus conceals by repeating what was, which is quicker and sounds worse; above it
    /// enhances low rates, which costs most of the time of decoding.
    pub fn decoder_complexity(mut self, complexity: u8) -> Self {
        self.encoding.decoder_complexity = complexity.min(10);
        self
    }

    /// Whether packets are stereo, if the format allows two channels. Default false: the engine is mono inside, so both
    /// channels are the same.
    pub fn stereo(mut self, on: bool) -> Self {
        self.encoding.stereo = on;
        self
    }
}

fn dred_ms(reach: Duration) -> u16 {
    u16::try_from(reach.as_millis()).unwrap_or(u16::MAX)
}

/// Settings of the encoder. With [adaptation](Self::set_adaptive), and when there is advice, the length of frames is
/// the least, the bit rate that of a path without losses, and redundancy is chosen by the advice alone.
impl Controls {
    /// What the network says about sending to a peer; `None` if it says nothing more. One encoding serves all peers:
    /// the bit rate is the least that is allowed to any of them, though where there are several not less than speech
    /// needs; redundancy is for the one who loses most, unless that is half of all packets or more. By the round trip
    /// the jitter buffer knows what has been sent again. False if there is no such peer.
    pub fn advise(&self, peer: PeerId, advice: Option<PathAdvice>) -> bool {
        let peers = lock(&self.shared.peers);
        let Some(shared) = peers.get(&peer) else { return false };
        let round_trip = advice.and_then(|advice| advice.round_trip).map_or(0, |trip| trip.as_micros());
        shared.round_trip.store(u32::try_from(round_trip).unwrap_or(u32::MAX), Relaxed);
        *lock(&shared.advice) = advice;
        self.shared.encoding.changed();
        true
    }

    /// Whether advice changes the settings of the encoder; see [`Builder::adaptive`].
    pub fn set_adaptive(&self, on: bool) {
        self.shared.encoding.adaptive.store(on, Relaxed);
    }

    /// Sets the length of frames, from the next one on.
    pub fn set_frame(&self, frame: FrameLength) {
        self.shared.encoding.frame.store(frame.ms(), Relaxed);
    }

    /// Whether silence is left out; see [`Builder::dtx`].
    pub fn set_dtx(&self, on: bool) {
        self.shared.encoding.dtx.store(on, Relaxed);
    }

    /// Whether silence is left out.
    #[must_use]
    pub fn dtx(&self) -> bool {
        self.shared.encoding.dtx.load(Relaxed)
    }

    /// Whether packets carry in-band redundancy when loss is expected.
    pub fn set_fec(&self, on: bool) {
        self.shared.encoding.fec.store(on, Relaxed);
    }

    /// Sets how far deep redundancy goes back; see [`Builder::dred`].
    pub fn set_dred(&self, reach: Duration) {
        self.shared.encoding.dred.store(dred_ms(reach), Relaxed);
    }

    /// Sets the copies of earlier frames; see [`Builder::red`].
    pub fn set_red(&self, copies: u8, spacing: u8) {
        self.shared.encoding.red_spacing.store(spacing, Relaxed);
        self.shared.encoding.red_copies.store(copies, Relaxed);
    }
}
