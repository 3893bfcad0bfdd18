//! What feedback about single packets says of the path: whether it is congested, and what may be sent then.
//!
//! The engine's own controller (Google congestion control) raises its estimate for as long as nothing goes wrong, whether
//! or not so much is sent: for speech it ends at its upper bound. And its detector of growing delay is too coarse for
//! speech ([`crate::trend`]). So both are ours; there is no limit as long as nothing has gone wrong.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::cause::Cause;
use crate::loss::{Fates, Loss};
use crate::rate::WINDOW;

/// How much of what arrives may be sent after congestion. 0.85: draft-ietf-rmcat-gcc-02 section 5.5.
const DECREASE: f64 = 0.85;
/// And while a queue is full. 0.7: one of half a second is gone after two, in which sound has half of what it could have.
const DECREASE_FULL: f64 = 0.7;
/// How much a limit rises in a second without congestion. 8 %: the same section.
const INCREASE: f64 = 1.08;
/// And at least so much in a second, in bit/s: 1,000 bits in each response time of 200 ms (a round trip of 100 ms and 100 ms), the
/// same section. With 8 % alone speech that was limited to 16 kbit/s would wait half a minute for what it needs.
const LEAST_INCREASE: f64 = 5_000.0;
/// Around what the path carried when it was congested last, from the first share of it to the second, a limit rises by so much
/// in a second only. 0.95: what a queue of 30 ms hides, twice. 2 %: what is too much then shows as a queue of 50 ms within three
/// seconds. At 5,000 bit/s a path of 60 kbit/s was overrun each ten seconds by a queue of 300 ms, and the sound was at half of
/// what it could be for half of the time (`narrow_tests`). What carries 1.15 times as much is another path by now.
const NEAR: (f64, f64) = (0.95, 1.15);
const NEAR_INCREASE: f64 = 1.02;
/// For so long it is remembered. A minute: a turn of somebody else in a conversation.
const REMEMBERED: Duration = Duration::from_secs(60);
/// What goes around each packet that rates do not count, in bits: IPv4, UDP and the tag of SRTP, 38 bytes.
const AROUND: f64 = 38.0 * 8.0;
/// What else is sent, in bit/s: checks of the path and reports (measured, as docs/benchmarks-calls.md does).
const BESIDE: f64 = 8_000.0;
/// Loss above this is taken for congestion, and below the other one it is not. 10 % and 2 %: draft-ietf-rmcat-gcc-02 section 6.
const HEAVY_LOSS: f64 = 0.10;
const LIGHT_LOSS: f64 = 0.02;
/// Loss up to the first, while delay does not grow and a lower rate has not shown less of it ([`Cause`]), is that of the path
/// itself (a weak radio) as far as speech goes: it limits nothing below the second, in bit/s, which is what speech takes with the
/// redundancy that makes up for it. Limited to 16 kbit/s instead, sound at 20 % loss falls from 4.0 to 1.9 (PESQ, method in
/// docs/audio-quality.md). 35 %: what that redundancy is good for.
/// The circuit breaker of RFC 8083 (section 4.3: ten times the rate of TCP) stops packets of 160 bytes at 35 % loss and a round trip of
/// 100 ms beyond 265 kbit/s, at 300 ms beyond 88.
const OF_THE_PATH: (f64, f64) = (0.35, 80_000.0);
/// So many packets must have been heard of since the last decrease before their loss counts as heavy. 150: 3 s of speech; of 25 a
/// path that loses a fifth by chance loses more than a third each minute, and one that loses in bursts far more often.
const ENOUGH: usize = 150;
/// Or so many, of which so large a share was lost: 1 s of speech and 45 %. By chance a path that loses a fifth comes to that in one of
/// 33,000 stretches of that length (binomial).
const SURELY: (usize, f64) = (50, 0.45);
/// Or so many of which such a share was lost, if a queue stands somewhere on the path: half a second of speech, and 15 %. A radio
/// that loses as much is taken for a full queue then, for as long as one stands in the other direction; with 35 % a queue of
/// 60 kbit/s stayed full for five seconds (lab).
const FEW: (usize, f64) = (25, 0.15);
/// Where packets wait before so many packets of sound have left, it is not for these: others share the path, or the handshake and
/// the first signals are still on their way.
const FIRST: usize = 50;
/// Then this is the limit to begin with, in bit/s: Opus at 15 kbit/s in packets of 40 ms, which a path of 40 kbit/s takes and a
/// queue on one of 60 is gone after within two seconds.
const WAITING: f64 = 20_000.0;
/// A path that the handshake has filled will not take everything, either: where a queue stood as long as the first during that, this is
/// presumed. The second, in bit/s, is Opus at 16 kbit/s in packets of 20 ms: with all that goes along, 50 kbit/s. At once with
/// everything, a path of 60 had a full queue after a second and lost a quarter for five (lab). 100 ms are 750 bytes before a place
/// of 60 kbit/s, and three times what jitter of 5 ms comes to; a path that only jitters has what speech wants seven seconds
/// later. Whose queue was longer than 400 ms begins with [`WAITING`].
const PRESUMED: [(Duration, f64); 2] =
    [(Duration::from_millis(400), WAITING), (Duration::from_millis(100), 26_000.0)];
/// What is presumed holds until twice as much may be sent, in bit/s, also where somebody is silent at first: what speech takes without
/// redundancy.
const SPEECH: f64 = 40_000.0;
/// Losses in a row beyond these are an outage, which says nothing of what may be sent after it: half a second of speech.
const OUTAGE: usize = 25;
/// Between two decreases: what is sent has to be heard of first. 1 s: a feedback interval, and a round trip with a full
/// queue of half a second.
const PATIENCE: Duration = Duration::from_secs(1);
/// And what is heard of must have left so long after the decrease before: a tenth of a second until the encoder has its new
/// rate, a frame of up to 60 ms under way, and the pace of it all.
const TAKES: Duration = Duration::from_millis(250);
/// How long it counts as congested after the last sign. 2 s: two decreases.
const HELD: Duration = Duration::from_secs(2);
/// Packets of a second that are counted. 2,048: video of 20 Mbit/s.
const MOST: usize = 2_048;
/// Reports of peers that tell nothing better come at least so often (RFC 3550 section 6.2).
const REPORTED: Duration = Duration::from_secs(5);
/// A limit this many times above what is sent limits nothing.
const FAR_ABOVE: f64 = 2.0;
/// The lowest limit, in bit/s. 16,000: Opus at its lowest useful rate for speech (6 kbit/s, RFC 6716 section 2) and the headers of
/// 20 ms packets, 40 bytes with IPv4, UDP and RTP each, of which ten bytes are ours to count.
const LOWEST: f64 = 16_000.0;

/// What became of one packet, as the peer says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fate {
    pub(crate) left: Instant,
    pub(crate) arrived: bool,
    /// When, on the peer's clock.
    pub(crate) came: Option<Duration>,
    /// What had been sent by then, this packet included.
    pub(crate) sent: Total,
}

/// What was sent since the start, with the headers of RTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// How long packets wait on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// As long as ever.
    Even,
    /// Longer and longer ([`crate::trend`]).
    Grows,
    /// So long that a queue must be full (the same).
    Full,
    /// As long as a queue lasts that was full, and gets shorter ([`crate::trend`]).
    Drains,
    /// Longer than ever, if only for a moment ([`crate::standing`]): nothing to add to.
    Waits,
    /// As long as a full queue lasts ([`crate::standing`]), in one direction or the other.
    Stands,
}

/// A packet that came, by the peer's clock.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    came: Duration,
    left: Instant,
    sent: Total,
}

/// What a path takes in a second, of ours.
#[derive(Clone, Copy, Debug)]
struct Carried {
    bits: f64,
    packets: f64,
}

impl Carried {
    /// Without this share of it.
    fn less(self, share: f64) -> Self {
        Self { bits: self.bits * (1.0 - share), packets: self.packets * (1.0 - share) }
    }

    /// What may be sent, so that the queue goes: what is around the packets and beside them takes its part of the path.
    fn decreased(self, share: f64) -> f64 {
        let others = self.packets * AROUND + BESIDE;
        (self.bits + others) * share - others
    }
}

/// The way to the peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Congestion {
    fates: Fates,
    /// Those of packets since the last decrease: none is punished twice.
    fresh: Fates,
    /// Losses in a row.
    run: usize,
    cause: Cause,
    /// Packets of sound, up to [`FIRST`].
    spoken: usize,
    /// Packets of the last second, by the peer's clock.
    arrived: VecDeque<Arrived>,
    /// In bit/s, and whether nothing but the handshake speaks for it.
    limit: Option<f64>,
    presumed: bool,
    /// What the path carried when it was congested last, in bit/s.
    carried: Option<(Instant, f64)>,
    /// The last sign of congestion.
    signed: Option<Instant>,
    decreased: Option<Instant>,
    raised: Option<Instant>,
    heard: Option<Instant>,
}

impl Congestion {
    /// A packet of sound leaves for the first time: whether packets wait on their way now, and which queue the handshake met.
    pub(crate) fn on_sound(&mut self, now: Instant, waits: bool, stood: Duration) {
        if self.spoken >= FIRST {
            return;
        }
        self.spoken += 1;
        if waits && self.limit.is_none_or(|limit| limit > WAITING) {
            tracing::debug!("packets wait before anything was said");
            self.decrease(now, WAITING);
        } else if self.spoken == 1 && self.limit.is_none() {
            let presumed = PRESUMED.iter().find(|(queue, _)| stood > *queue);
            if let Some((_, limit)) = presumed {
                tracing::debug!(?stood, limit, "the handshake had to wait");
                (self.limit, self.presumed, self.raised) = (Some(*limit), true, Some(now));
            }
        }
    }

    /// Videos are to be sent, too: a path that is meant for them would take minutes to be found out from so little.
    pub(crate) fn on_video(&mut self) {
        if std::mem::take(&mut self.presumed) {
            self.limit = None;
        }
    }

    /// It is another path from now on. What may be sent stays, until that one has shown what it takes.
    pub(crate) fn forget_path(&mut self) {
        self.carried = None;
        self.arrived.clear();
        self.fresh = Fates::default();
    }

    /// What the peer says of single packets, how long they wait, and how many bits a second are being sent.
    pub(crate) fn on_feedback(&mut self, now: Instant, fates: &[Fate], delay: Delay, sending: Option<u64>) {
        self.heard = Some(now);
        self.cause.on_feedback(now, fates, sending);
        for fate in fates {
            self.fates.push(!fate.arrived);
            self.run = if fate.arrived { 0 } else { self.run + 1 };
            if self.run == OUTAGE {
                self.fresh = Fates::default();
            } else if self.run < OUTAGE && !self.is_of_before(fate) {
                self.fresh.push(!fate.arrived);
            }
            if let Some(came) = fate.came {
                self.arrived.push_back(Arrived { came, left: fate.left, sent: fate.sent });
            }
        }
        let newest = self.arrived.back().map_or(Duration::ZERO, |packet| packet.came);
        // The peer's clock counts 12 days and begins anew.
        self.arrived.retain(|packet| packet.came <= newest + WINDOW);
        let old = |packet: &Arrived| newest.saturating_sub(packet.came) > WINDOW;
        while self.arrived.len() > MOST || self.arrived.front().is_some_and(old) {
            self.arrived.pop_front();
        }
        let (few, most) = SURELY;
        let packets = self.fresh.packets();
        let loss = self.fresh.loss().map_or(0.0, |loss| loss.share);
        let enough = packets >= ENOUGH
            || packets >= few && loss >= most
            || packets >= FEW.0 && loss >= FEW.1 && delay == Delay::Stands;
        let loss = if enough { loss } else { 0.0 };
        let sending = sending.map(|rate| rate as f64);
        // A queue that stands and overflows is full. Which direction it is in the losses say.
        let full = matches!(delay, Delay::Stands | Delay::Full) && loss > HEAVY_LOSS;
        if full || matches!(delay, Delay::Grows | Delay::Full) {
            self.signed = Some(now);
            self.raised = Some(now);
            if fates.iter().all(|fate| self.is_of_before(fate)) {
                return;
            }
            // What a weak radio loses has been through the queue.
            let lost = if full || self.cause.is_ours() { loss } else { 0.0 };
            let carried = self.carries().map(|carried| carried.less(lost));
            tracing::debug!(loss, ?carried, limit = self.limit, "packets wait on their way");
            if let Some(carried) = carried
                && self.decrease(
                    now,
                    carried.decreased(if full || delay == Delay::Full { DECREASE_FULL } else { DECREASE }),
                )
            {
                self.carried = Some((now, carried.bits));
            }
        } else if loss > HEAVY_LOSS {
            self.on_heavy_loss(now, WINDOW, loss, sending);
        } else if delay == Delay::Drains && self.limit.is_some() {
            // What was done suffices, and more would fill it again.
            (self.signed, self.raised) = (Some(now), Some(now));
        } else if packets >= few && !matches!(delay, Delay::Stands | Delay::Waits) {
            self.raise(now, WINDOW, self.fresh.loss().map_or(0.0, |loss| loss.share), sending);
        }
    }

    /// The same from a report that only says how much was lost, of peers that say nothing of single packets.
    pub(crate) fn on_report(&mut self, now: Instant, loss: f64, sending: Option<u64>) {
        if self.is_told(now) {
            return;
        }
        let sending = sending.map(|rate| rate as f64);
        match loss > HEAVY_LOSS {
            true => self.on_heavy_loss(now, REPORTED, loss, sending),
            false => self.raise(now, REPORTED, loss, sending),
        }
    }

    /// Loss on the way, before anything was repaired; `None` if the peer does not tell.
    pub(crate) fn loss(&self, now: Instant) -> Option<Loss> {
        self.fates.loss().filter(|_| self.is_told(now))
    }

    pub(crate) fn is_congested(&self, now: Instant) -> bool {
        self.signed.is_some_and(|at| now.saturating_duration_since(at) < HELD)
    }

    /// Bits a second that may be sent, RTP headers included; `None` if nothing is known against more.
    pub(crate) fn limit(&self) -> Option<u32> {
        self.limit.map(|limit| limit as u32)
    }

    /// Whether the peer tells of single packets. 5 s: 25 of its intervals.
    fn is_told(&self, now: Instant) -> bool {
        self.heard.is_some_and(|at| now.saturating_duration_since(at) < Duration::from_secs(5))
    }

    /// What the path takes: what was sent between two packets, in the time that lay between them on the other side. Packets that no
    /// report has named, because it was lost itself, count.
    fn carries(&self) -> Option<Carried> {
        let (first, last) = self.arrived.front().zip(self.arrived.back())?;
        let span = last.came.saturating_sub(first.came);
        let left = last.left.saturating_duration_since(first.left);
        // More than double the time would be an outage, and what comes faster than it left had been held up.
        let span =
            (span.min(left) >= WINDOW / 2).then(|| span.as_secs_f64().min(left.as_secs_f64() * 2.0))?;
        let span = span.max(left.as_secs_f64());
        let of = |first: u64, last: u64| last.saturating_sub(first) as f64 / span;
        Some(Carried {
            bits: of(first.sent.bytes, last.sent.bytes) * 8.0,
            packets: of(first.sent.packets, last.sent.packets),
        })
    }

    /// Whether this left before the last decrease was acted upon.
    fn is_of_before(&self, fate: &Fate) -> bool {
        self.decreased.is_some_and(|decreased| fate.left < decreased + TAKES)
    }

    /// draft-ietf-rmcat-gcc-02 section 6.
    fn on_heavy_loss(&mut self, now: Instant, every: Duration, loss: f64, sending: Option<f64>) {
        let least = self.limit.into_iter().chain(sending).reduce(f64::min);
        let floor = match loss <= OF_THE_PATH.0 && !self.cause.is_ours() {
            true if least.is_none_or(|rate| rate <= OF_THE_PATH.1) => {
                return self.raise(now, every, loss, sending);
            }
            true => OF_THE_PATH.1,
            false => LOWEST,
        };
        tracing::debug!(
            loss,
            ours = self.cause.is_ours(),
            sending,
            limit = self.limit,
            "too many packets are lost"
        );
        if let Some(least) = least {
            self.decrease(now, (least * (1.0 - 0.5 * loss)).max(floor));
        }
    }

    /// Whether it was decreased.
    fn decrease(&mut self, now: Instant, to: f64) -> bool {
        self.signed = Some(now);
        self.raised = Some(now);
        if self.decreased.is_some_and(|at| now.saturating_duration_since(at) < PATIENCE) {
            return false;
        }
        self.decreased = Some(now);
        self.fresh = Fates::default();
        self.limit = Some(self.limit.map_or(to, |limit| limit.min(to)).max(LOWEST));
        self.presumed = false;
        true
    }

    /// What is heard comes `every` so often at least: more time than that says nothing.
    fn raise(&mut self, now: Instant, every: Duration, loss: f64, sending: Option<f64>) {
        let since = self.raised.replace(now);
        let Some(limit) = self.limit else { return };
        let bearable =
            if limit < OF_THE_PATH.1 && !self.cause.is_ours() { OF_THE_PATH.0 } else { LIGHT_LOSS };
        if self.is_congested(now) || loss > bearable {
            return;
        }
        let seconds = since.map_or(0.0, |at| now.saturating_duration_since(at).min(every).as_secs_f64());
        let quick = (limit * INCREASE.powf(seconds)).max(limit + LEAST_INCREASE * seconds);
        let carried = self.carried.filter(|(at, _)| now.saturating_duration_since(*at) < REMEMBERED);
        let near = carried.map(|(_, carried)| carried).filter(|carried| limit < carried * NEAR.1);
        let limit = match near {
            Some(carried) => quick.min((carried * NEAR.0).max(limit * NEAR_INCREASE.powf(seconds))),
            _ => quick,
        };
        // Who pauses sends little, and goes on after that.
        let least = if self.presumed { SPEECH } else { 0.0 };
        let far = |limit: f64| sending.is_some_and(|sending| limit >= FAR_ABOVE * sending.max(least));
        self.limit = Some(limit).filter(|limit| near.is_some() || !far(*limit));
        self.presumed &= self.limit.is_some();
    }
}

#[cfg(test)]
mod tests;
