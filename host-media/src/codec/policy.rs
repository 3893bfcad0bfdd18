//! Which frames, bit rate and redundancy serve all receivers best. Pure: what is known and the time are inputs.
//!
//! One encoding serves everybody, so what the receivers say is combined first ([`Demand`]), by this rule:
//!
//! - The bit rate is the least that is allowed to any of them; but where there are several, not less than speech needs,
//!   so that one bad link does not ruin the call for all others. One that loses most is no exception: too much being
//!   sent to it may be why.
//! - Protection is for the worst of them, up to [`MOST_LOSS`]. One that loses more than [`GIVEN_UP`] is no help to plan
//!   for and is left out as long as others are better off.
//! - Redundant packets (RED) are made if those who read them lose more than those who do not; if not, redundancy inside
//!   of packets serves both.
//!
//! Then the class of the losses decides which plans of the table are tried, in order: the first one whose least bit
//! rate fits into what is allowed is taken. More protection comes at once; less comes only when it was not needed for
//! [`HOLD`], so that nothing flaps.

use std::time::{Duration, Instant};

use super::{advice::PathAdvice, red::Copies};
use crate::format::FrameLength::{self, Ms10, Ms20, Ms40, Ms60};

// ---- the numbers: all of them stand here, so that measurements can move them ----

/// Losses at which a class begins: light, medium, heavy, extreme. 0.7 %: two of the 250 packets on which loss is judged. A
/// path that loses 2 % shows 0.4 to 4 % there, and a single concealed word costs it more (0.2 of PESQ) than redundancy
/// does; the others lie between the 5, 10, 20 and 30 % at which plans were measured (docs/audio.md).
const ENTER: [f64; 4] = [0.007, 0.07, 0.15, 0.25];
/// A class is left below this share of where it begins: a second of 50 packets at 10 % tells 6 to 14 %.
const LEAVE: f64 = 0.6;
/// Protection that was not needed for so long goes. 10 s: outages of wireless links come back every few seconds.
const HOLD: Duration = Duration::from_secs(10);
/// A better plan is taken when it has been affordable for so long, with this share to spare.
const AFFORD: (Duration, f64) = (Duration::from_secs(5), 0.9);
/// Losses come in bursts from this burst ratio on, and no more below the second. ITU-T G.107 has 1 for independent
/// losses; at 2 the packet after a lost one is lost in one of two cases.
const BURSTY: (f64, f64) = (1.7, 1.3);
/// Who loses less does not say how losses come: 1.2 %, three of 250 packets. Of two next to each other nothing follows.
const SHAPED: f64 = 0.012;
/// Beyond 30 % nothing is added: what helps then is less of everything.
const MOST_LOSS: f64 = 0.3;
/// A receiver that loses half does not understand a word whatever is sent.
const GIVEN_UP: f64 = 0.5;
/// From this round trip on, lost packets that are sent again come later than redundancy would: they are missed with the
/// next packet, after 20 ms, and then take a round trip, while a copy of the frame before the last comes after 40 ms and
/// one of the last after 20. Below, they bring the sound itself, and cost nothing while nothing is lost. The connection asks by a
/// limit of its own (in simple-webrtc `repairs`, as long); should the two differ, some losses are repaired twice.
const LATE: Duration = Duration::from_millis(40);
/// What is spent on sound if nobody limits it, in bit/s with all headers; more only if the application asks for more anyway.
/// Frames take 95 % of what they may, and reports, checks and signals 11 beside them: 80 kbit/s in all, measured in whole calls
/// (docs/benchmarks-calls.md). With 75,000 these had 83, and up to 0.07 more of PESQ.
const BUDGET: u32 = 71_500;
/// Bytes around each payload: RTP 12, its extensions 12, SRTP's tag 14 (10 to 16), UDP 8, IP 20.
const HEADERS: u32 = 66;
/// The part of them that receivers count when they limit the rate: RTP and its extensions.
const RTP_HEADERS: u32 = 24;
/// What a limit is never taken below where there are several receivers: 16 kbit/s (wideband speech, RFC 7587 section
/// 3.1.1) in packets of 40 ms.
const SPEECH_NEEDS: u32 = 16_000 + RTP_HEADERS * 8 * 25;
/// The longest time between a frame and its copy: 40 ms, two frames. In bursts of 3 packets on the mean (10 %, 50 ms one way) that
/// scores 3.81 (PESQ) at 144 ms from mouth to ear, 60 ms 3.93 at 162 and 100 ms 3.83 at 177. Bursts of exactly 4 lose more by it: 3.7
/// instead of 4.2, for 27 ms.
const MOST_SPAN: Duration = Duration::from_millis(40);

/// What may be sent for a class of losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// Frames are at least this long, or as long as the application wants them.
    frame: FrameLength,
    /// Bit/s: below the first the plan is no good, above the second it gains nothing.
    least: u32,
    best: u32,
    /// In-band redundancy.
    fec: bool,
    /// Percent of loss that the encoder is told: its share of redundancy follows from that.
    loss: u8,
    /// Deep redundancy, in ms.
    dred: u16,
    /// Copies in packets of redundant sound.
    red: u8,
    /// Copies are of every so many-th frame before, or further apart if losses come in bursts.
    spacing: u8,
}

const fn fec(frame: FrameLength, least: u32, best: u32, loss: u8) -> Plan {
    Plan { frame, least, best, fec: true, loss, dred: 0, red: 0, spacing: 1 }
}

/// One copy. In-band redundancy goes with it: it is of the frame before, and a copy brings its own along.
const fn red(frame: FrameLength, least: u32, best: u32, loss: u8, spacing: u8) -> Plan {
    Plan { frame, least, best, fec: true, loss, dred: 0, red: 1, spacing }
}

const fn dred(frame: FrameLength, least: u32, best: u32, loss: u8, dred: u16) -> Plan {
    Plan { frame, least, best, fec: false, loss, dred, red: 0, spacing: 1 }
}

const fn both(frame: FrameLength, least: u32, best: u32, loss: u8, dred: u16) -> Plan {
    Plan { frame, least, best, fec: true, loss, dred, red: 0, spacing: 1 }
}

// Plans in order of preference, by class of losses. Arguments: frames, least and best bit rate, expected loss
// in percent, deep redundancy in ms; with RED expected loss and the distance of the copy.

/// Without losses: what the application wants, or as much of it as is allowed.
const CLEAN: &[Plan] = &[fec(Ms10, 16_000, 0, 0), fec(Ms40, 10_000, 0, 0)];

/// With RED. Measured through the whole pipeline (docs/audio-quality.md; wideband PESQ, within 80 kbit/s on the wire): a
/// copy of the frame before, at 24 kbit/s, has 4.2 at 10 % of random loss, 3.5 at 20 and 2.8 at 30 %. If it is of the
/// frame before that, what is lost can come back from three packets: in-band from the next one, from its copy, and
/// in-band from the copy of the next one. That has 4.3, 4.0 and 3.7, for 20 ms more delay: at 10 % not worth it. Two copies at 16 kbit/s have
/// 3.9 and 3.7 at 20 and 30 %, packets of 40 ms with two or three copies 3.8, for 100 ms more. In-band redundancy for
/// more than 10 % takes more from the frames than it gives.
const RED_LIGHT: &[Plan] = &[red(Ms20, 20_000, 24_000, 5, 1), red(Ms40, 12_000, 24_000, 5, 1), BARE];
const RED_MEDIUM: &[Plan] = &[
    red(Ms20, 21_500, 24_000, 10, 1),
    red(Ms20, 18_000, 21_500, 0, 1),
    red(Ms40, 12_000, 24_000, 0, 1),
    BARE,
];
const RED_HEAVY: &[Plan] = &[
    red(Ms20, 21_500, 24_000, 10, 2),
    red(Ms20, 18_000, 21_500, 0, 2),
    red(Ms40, 12_000, 24_000, 0, 1),
    BARE,
];

/// In-band redundancy repairs one lost packet, so it is for independent losses. At 5 % or less and low rates libopus
/// sends none, and below 21 kbit/s it makes the sound narrow for it.
const FEC_LIGHT: &[Plan] = &[fec(Ms20, 23_000, 32_000, 8), fec(Ms40, 24_000, 28_000, 8), BARE];
const FEC_MEDIUM: &[Plan] = &[fec(Ms20, 32_000, 48_000, 10), fec(Ms40, 24_000, 32_000, 10), BARE];
const FEC_HEAVY: &[Plan] = &[
    both(Ms20, 43_000, 48_000, 20, 120),
    fec(Ms20, 28_000, 48_000, 20),
    fec(Ms40, 23_000, 32_000, 20),
    BARE,
];
const FEC_EXTREME: &[Plan] = &[
    both(Ms20, 43_000, 52_000, 25, 200),
    fec(Ms20, 28_000, 48_000, 25),
    fec(Ms40, 23_000, 32_000, 25),
    BARE,
];

/// Deep redundancy repairs bursts; below 32 kbit/s, or 24 in packets of 40 ms, it gets no bits that would be worth it.
const DRED_LIGHT: &[Plan] = &[dred(Ms20, 32_000, 40_000, 10, 200), dred(Ms40, 24_000, 28_000, 20, 500), BARE];
const DRED_MEDIUM: &[Plan] = &[
    dred(Ms20, 40_000, 48_000, 20, 300),
    dred(Ms20, 30_000, 40_000, 20, 200),
    dred(Ms40, 24_000, 28_000, 20, 500),
    BARE,
];

/// Losses, and no room to do anything about them: short packets lose less at once.
const BARE: Plan = fec(Ms40, 10_000, 24_000, 0);

fn plans(class: Class, bursty: bool, reads_red: bool) -> &'static [Plan] {
    match (class, reads_red, bursty) {
        (Class::Clean, _, _) => CLEAN,
        (Class::Light, true, _) => RED_LIGHT,
        (Class::Medium, true, _) => RED_MEDIUM,
        (Class::Heavy | Class::Extreme, true, _) => RED_HEAVY,
        (Class::Light, false, false) => FEC_LIGHT,
        (Class::Medium, false, false) => FEC_MEDIUM,
        (Class::Heavy, false, false) => FEC_HEAVY,
        (Class::Extreme, false, false) => FEC_EXTREME,
        (Class::Light, false, true) => DRED_LIGHT,
        (_, false, true) => DRED_MEDIUM,
    }
}

/// Percent of loss that in-band redundancy is made for beside RED, by the class of those who do not read that, and the bit
/// rate from which it is worth it: below, libopus makes the sound narrow for it, or sends none (docs/audio-codec.md).
const BESIDE_RED: [(u8, u32); 5] = [(0, 0), (8, 21_000), (10, 21_000), (20, 19_000), (25, 18_000)];

/// What is left when nothing else fits: as little as possible.
const LAST: Plan = fec(Ms60, 6_000, 20_000, 0);

// ---- what goes in and comes out ----

/// What the application wants, which holds as long as nobody has said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) frame: FrameLength,
    pub(crate) bitrate: u32,
    pub(crate) expected_loss: u8,
    /// The format's cap.
    pub(crate) max_bitrate: u32,
}

/// What the encoder is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) frame: FrameLength,
    pub(crate) bitrate: u32,
    pub(crate) fec: bool,
    pub(crate) expected_loss: u8,
    pub(crate) dred: u16,
    pub(crate) red: Copies,
}

impl Settings {
    /// Bit/s on the way, with so many bytes around each payload.
    fn cost(&self, headers: u32) -> u32 {
        let copies = u32::from(self.red.count);
        self.bitrate.saturating_mul(1 + copies).saturating_add(around(self.frame, copies, headers))
    }
}

impl From<Wanted> for Settings {
    fn from(wanted: Wanted) -> Self {
        Self {
            frame: wanted.frame,
            bitrate: wanted.bitrate.min(wanted.max_bitrate),
            fec: true,
            expected_loss: wanted.expected_loss,
            dred: 0,
            red: Copies::default(),
        }
    }
}

/// Bit/s of everything but the frames.
fn around(frame: FrameLength, copies: u32, headers: u32) -> u32 {
    let red = if copies > 0 { 4 * copies + 1 } else { 0 };
    (headers + red) * 8 * 1000 / u32::from(frame.ms())
}

/// How bad losses are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    #[default]
    Clean,
    Light,
    Medium,
    Heavy,
    Extreme,
}

/// Losses of some of the receivers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Losses {
    share: f64,
    burst_ratio: f64,
}

impl Losses {
    const NONE: Self = Self { share: 0.0, burst_ratio: 1.0 };

    fn class(&self, factor: f64) -> Class {
        let reached = ENTER.iter().filter(|&&enter| self.share >= enter * factor).count();
        [Class::Clean, Class::Light, Class::Medium, Class::Heavy, Class::Extreme][reached.min(4)]
    }

    /// How many packets are lost in a row; 1 for independent losses, whatever their number.
    fn run(&self, from: f64) -> u8 {
        if self.burst_ratio < from {
            return 1;
        }
        // The mean run of independent losses is 1 / (1 - share).
        (self.burst_ratio / (1.0 - self.share)).round().clamp(2.0, 20.0) as u8
    }

    fn add(&mut self, share: f64, burst_ratio: f64) {
        self.share = self.share.max(share);
        self.burst_ratio = self.burst_ratio.max(burst_ratio);
    }
}

/// What all receivers say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Demand {
    limit: Option<u32>,
    congested: bool,
    /// Of those that read redundant sound, and of the others.
    red: Losses,
    plain: Losses,
    reads_red: bool,
    /// Whether somebody reads no redundant sound.
    reads_plain: bool,
}

/// Combines what the receivers say, by the rule above; none if nobody has said anything.
pub(crate) fn combine(advice: impl Iterator<Item = PathAdvice> + Clone) -> Option<Demand> {
    let usable = advice.clone().filter(|advice| losses(advice).share <= GIVEN_UP).count();
    let helped = |advice: &PathAdvice| usable == 0 || losses(advice).share <= GIVEN_UP;
    let mut demand = Demand {
        limit: None,
        congested: false,
        red: Losses::NONE,
        plain: Losses::NONE,
        reads_red: false,
        reads_plain: false,
    };
    let (mut receivers, mut congested) = (0, 0);
    for advice in advice {
        receivers += 1;
        congested += u32::from(advice.congested);
        demand.limit = demand.limit.into_iter().chain(advice.bitrate).min();
        // Also of one who is beyond help: else what the others get would change with each packet that it loses.
        demand.reads_plain |= !advice.red;
        if !helped(&advice) {
            continue;
        }
        demand.reads_red |= advice.red;
        let Losses { share, burst_ratio } = losses(&advice);
        let group = if advice.red { &mut demand.red } else { &mut demand.plain };
        let told = if share >= SHAPED { burst_ratio } else { 1.0 };
        group.add(share.min(MOST_LOSS), told);
    }
    if receivers > 1 {
        demand.limit = demand.limit.map(|limit| limit.max(SPEECH_NEEDS));
    }
    // Of one among many it would keep all others from what they need.
    demand.congested = receivers > 0 && congested * 2 >= receivers;
    (receivers > 0).then_some(demand)
}

/// What redundancy has to make up for at one receiver.
fn losses(advice: &PathAdvice) -> Losses {
    let known = |share: Option<f64>| share.filter(|share| *share >= 0.0).map(|share| share.min(1.0));
    let (left, path) = (known(advice.loss), known(advice.path_loss));
    // Not knowing better, as many as the path loses.
    let late = advice.round_trip.is_none_or(|trip| trip >= LATE);
    let share = match (left, path) {
        (Some(left), Some(path)) if late => left.max(path),
        (left, path) => left.or(path).unwrap_or(0.0),
    };
    Losses { share, burst_ratio: advice.burst_ratio.filter(|ratio| *ratio >= 1.0).unwrap_or(1.0).min(20.0) }
}

/// A value that rises at once and falls when it was not needed for a while.
#[derive(Clone, Copy, Debug)]
struct Held<T> {
    value: T,
    needed: Instant,
}

impl<T: PartialOrd + Copy> Held<T> {
    /// `rise` is what is needed by all means, `stay` what is enough to stay where we are.
    fn update(&mut self, now: Instant, rise: T, stay: T) {
        if rise > self.value {
            *self = Self { value: rise, needed: now };
        } else if stay >= self.value {
            self.needed = now;
        } else if now.saturating_duration_since(self.needed) >= HOLD {
            *self = Self { value: stay, needed: now };
        }
    }
}

/// The memory of the choice: what was needed lately, and what was chosen.
#[derive(Debug)]
pub(crate) struct Policy {
    red: Held<Class>,
    plain: Held<Class>,
    run: Held<u8>,
    /// For which losses the plan was chosen, its place in the table, and since when a better one was affordable.
    chosen: Option<(Key, usize, Option<Instant>)>,
    settings: Option<Settings>,
}

type Key = (Class, bool, bool);

impl Policy {
    pub(crate) fn new(now: Instant) -> Self {
        let clean = Held { value: Class::Clean, needed: now };
        Self { red: clean, plain: clean, run: Held { value: 1, needed: now }, chosen: None, settings: None }
    }

    /// What the encoder should be set to now.
    pub(crate) fn settings(&mut self, now: Instant, wanted: Wanted, demand: Option<&Demand>) -> Settings {
        let Some(demand) = demand else {
            *self = Self::new(now);
            return wanted.into();
        };
        self.red.update(now, demand.red.class(1.0), demand.red.class(LEAVE));
        if demand.reads_plain {
            self.plain.update(now, demand.plain.class(1.0), demand.plain.class(LEAVE));
        } else {
            // Who was taken for such a reader has turned out to be none: that a connection reads redundant sound is known
            // a moment after what it loses.
            self.plain = Held { value: Class::Clean, needed: now };
        }
        let worst = if demand.red.share >= demand.plain.share { demand.red } else { demand.plain };
        self.run.update(now, worst.run(BURSTY.0), worst.run(BURSTY.1));
        let (red, plain) = (self.red.value, self.plain.value);
        let use_red = demand.reads_red && red > plain;
        let key = (red.max(plain), self.run.value > 1, use_red);
        let plans = plans(key.0, key.1, key.2);

        let room = Room::new(wanted, demand, self.settings.as_ref());
        let fits = |room: &Room| plans.iter().position(|plan| room.rate(plan) >= plan.least);
        let mut place = fits(&room).unwrap_or(plans.len());
        let mut better_since = None;
        if let Some((_, before, since)) = self.chosen.filter(|(before, _, _)| *before == key)
            && place < before
        {
            // Only if it is affordable with something to spare, and not just for a moment.
            let spare = fits(&room.less(AFFORD.1)).is_some_and(|place| place < before);
            better_since = spare.then(|| since.unwrap_or(now));
            if better_since.is_none_or(|since| now.saturating_duration_since(since) < AFFORD.0) {
                place = before;
            } else {
                better_since = None;
            }
        }
        self.chosen = Some((key, place, better_since));
        let plan = plans.get(place).copied().unwrap_or(LAST);
        let frame = wanted.frame.max(plan.frame);
        let copies = Copies { count: plan.red, spacing: spacing(self.run.value.max(plan.spacing), frame) };
        let bitrate = room.rate(&plan).min(plan.best.max(wanted.bitrate));
        // Those who do not read redundant sound need something too.
        let (beside, least) = BESIDE_RED[plain as usize];
        let beside = if use_red && bitrate >= least { beside } else { 0 };
        let settings = Settings {
            frame,
            bitrate,
            fec: plan.fec || beside > 0,
            expected_loss: plan.loss.max(beside),
            dred: plan.dred,
            red: if plan.red > 0 { copies } else { Copies::default() },
        };
        self.settings = Some(settings);
        settings
    }
}

/// How many frames lie between copies: as many as are lost in a row, so that a copy is not lost with what it copies.
fn spacing(run: u8, frame: FrameLength) -> u8 {
    let most = MOST_SPAN.as_millis() as u64 / u64::from(frame.ms());
    run.min(u8::try_from(most).unwrap_or(u8::MAX)).max(1)
}

/// What may be spent.
#[derive(Clone, Copy, Debug)]
struct Room {
    wanted: Wanted,
    /// With all headers.
    budget: u32,
    /// With RTP's headers.
    limit: u32,
}

impl Room {
    fn new(wanted: Wanted, demand: &Demand, current: Option<&Settings>) -> Self {
        let mut limit = demand.limit.unwrap_or(u32::MAX);
        if demand.congested {
            // More packets or bits make it worse.
            let current = current.copied().unwrap_or(wanted.into());
            limit = limit.min(current.cost(RTP_HEADERS));
        }
        let asked = Settings::from(wanted).cost(HEADERS);
        Self { wanted, budget: asked.max(BUDGET), limit }
    }

    fn less(&self, share: f64) -> Self {
        Self { limit: (f64::from(self.limit) * share) as u32, ..*self }
    }

    /// The highest bit rate of the frames with which the plan stays within everything.
    fn rate(&self, plan: &Plan) -> u32 {
        let frame = self.wanted.frame.max(plan.frame);
        let copies = u32::from(plan.red);
        let within =
            |all: u32, headers: u32| all.saturating_sub(around(frame, copies, headers)) / (1 + copies);
        within(self.budget, HEADERS).min(within(self.limit, RTP_HEADERS)).min(self.wanted.max_bitrate)
    }
}

#[cfg(test)]
mod tests;
