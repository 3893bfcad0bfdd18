//! The network between the two engines: what it loses, how long it takes, what its packets weigh, what it tells.

use std::{collections::VecDeque, time::Duration};

use crate::Job;

/// Bytes of headers on each packet: RTP 12; one-byte extensions 12 (4 for their head, audio level 2, transport-wide
/// sequence number 3, MID 2 and above with a name of one letter, filled up to 8; RFC 8285); the tag of AEAD_AES_128_GCM
/// 16 (RFC 7714), which DTLS agrees on here; UDP 8; IPv4 20.
pub(crate) const HEADERS: usize = 12 + 12 + 16 + 8 + 20;

/// A small generator of random numbers (splitmix64: Steele, Lea and Flood 2014), so that a seed is all there is to it.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// At least 0, below 1.
    pub(crate) fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Loses packets at random or in bursts of a fixed number of packets, and delays the rest a little.
#[derive(Debug)]
pub(crate) struct Network {
    dice: Dice,
    loss: f64,
    burst: u32,
    varied: bool,
    left: u32,
    in_burst: bool,
    delay: Duration,
    jitter: Duration,
    deviation: Option<Duration>,
    last: Duration,
}

impl Network {
    pub(crate) fn new(job: &Job) -> Self {
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1e3);
        Self {
            dice: Dice::new(job.seed),
            loss: job.loss,
            burst: job.burst.max(1),
            varied: job.varied,
            left: 0,
            in_burst: false,
            delay: ms(job.delay),
            jitter: ms(job.jitter),
            deviation: job.deviation.map(ms),
            last: Duration::ZERO,
        }
    }

    /// When a packet that is sent now arrives; `None` if it never does.
    pub(crate) fn carry(&mut self, now: Duration) -> Option<Duration> {
        // All are drawn for each packet: the fate of one does not move the delay of the next.
        let (fate, late) = (self.dice.roll(), self.dice.roll());
        let angle = if self.deviation.is_some() { self.dice.roll() } else { 0.0 };
        if self.loses(fate) {
            return None;
        }
        let way = match self.deviation {
            // Normal (Box and Muller), not below nothing.
            Some(deviation) => {
                let normal = (-2.0 * (1.0 - late).ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
                let way = self.delay.as_secs_f64() + deviation.as_secs_f64() * normal;
                Duration::from_secs_f64(way.max(0.0))
            }
            // Exponential, as the rest of a queue is.
            None => self.delay + self.jitter.mul_f64(-(1.0 - late).ln()).min(self.jitter * 4),
        };
        // In order.
        self.last = self.last.max(now + way);
        Some(self.last)
    }

    fn loses(&mut self, fate: f64) -> bool {
        let burst = f64::from(self.burst);
        if self.varied {
            // In balance, as many bursts begin as end (Gilbert).
            let ends = 1.0 / burst;
            let begins = ends * self.loss / (1.0 - self.loss);
            self.in_burst = if self.in_burst { fate >= ends } else { fate < begins };
            return self.in_burst;
        }
        if self.left > 0 {
            self.left -= 1;
            return true;
        }
        // Bursts begin so often that their packets are the given share of all: q b / (q b + 1 - q) = p.
        let begins = self.loss / (burst - self.loss * (burst - 1.0));
        if fate < begins {
            self.left = self.burst - 1;
        }
        fate < begins
    }
}

/// What is known of the last packets, told as a connection tells it: of the last 250 packets, from 25 on, once a second
/// at most and if it has changed; the burst ratio is that of ITU-T G.107.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    lost: VecDeque<bool>,
    told: Option<(Duration, Told)>,
}

/// Loss on the way and how bursty it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) loss: f64,
    pub(crate) burst_ratio: f64,
}

impl Fates {
    pub(crate) fn push(&mut self, lost: bool) {
        if self.lost.len() >= 250 {
            self.lost.pop_front();
        }
        self.lost.push_back(lost);
    }

    pub(crate) fn tell(&mut self, now: Duration) -> Option<Told> {
        let (mut gone, mut bursts, mut before) = (0_u32, 0_u32, false);
        for &lost in &self.lost {
            gone += u32::from(lost);
            bursts += u32::from(lost && !before);
            before = lost;
        }
        if self.lost.len() < 25 {
            return None;
        }
        let loss = f64::from(gone) / self.lost.len() as f64;
        let ratio = if bursts == 0 { 1.0 } else { f64::from(gone) / f64::from(bursts) * (1.0 - loss) };
        let told = Told { loss, burst_ratio: ratio.clamp(1.0, 8.0) };
        // As fine as a connection tells it: little loss by the packet.
        let little = |told: Told| told.loss < 0.02;
        let step = if little(told) || self.told.is_some_and(|(_, was)| little(was)) { 0.004 } else { 0.02 };
        let news = self.told.is_none_or(|(at, was)| {
            now >= at + Duration::from_secs(1)
                && ((was.loss - told.loss).abs() >= step - 1e-9
                    || (was.loss == 0.0) != (told.loss == 0.0)
                    || (was.burst_ratio - told.burst_ratio).abs() >= 0.5)
        });
        news.then(|| {
            self.told = Some((now, told));
            told
        })
    }
}
