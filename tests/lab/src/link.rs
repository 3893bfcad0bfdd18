//! One direction of one link: what becomes of each packet. Pure.

use std::{ops::Range, time::Duration};

/// What a link does to packets. The default is a perfect one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// The way takes this long.
    pub delay: Duration,
    /// And varies like this.
    pub jitter: Jitter,
    /// Jitter may let a packet overtake the one before. Otherwise none leaves before its predecessor, as on one wire.
    pub overtaking: bool,
    /// Share of packets that are lost, each for itself: 0 to 1.
    pub loss: f64,
    /// Losses in bursts.
    pub bursts: Option<Bursts>,
    /// Some packets are late, and may be overtaken.
    pub late: Option<Late>,
    /// Share of packets that arrive twice: 0 to 1.
    pub twice: f64,
    /// The narrowest place.
    pub rate: Option<Rate>,
}

impl Conditions {
    /// A clean link with this one-way delay.
    #[must_use]
    pub fn delayed(milliseconds: u64) -> Self {
        Self { delay: Duration::from_millis(milliseconds), ..Self::default() }
    }
}

/// How the delay varies. No packet is early by more than the delay itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Jitter {
    /// Not at all.
    #[default]
    None,
    /// With this standard deviation, as a normal distribution.
    Normal(Duration),
    /// With this standard deviation, as a Pareto distribution of shape 3, moved to mean 0: rare long delays.
    Pareto(Duration),
    /// Evenly, by at most this much to either side.
    Uniform(Duration),
}

/// The model of Gilbert and Elliott with a good state that loses nothing and a bad one that loses all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// Share of packets that are lost: 0 to 0.99.
    pub mean: f64,
    /// Mean number of packets in a row, 1 at least.
    pub length: f64,
}

/// Packets that take another way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Late {
    /// How many: 0 to 1.
    pub share: f64,
    /// How much later they are.
    pub by: Duration,
}

/// A bottleneck.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Bits a second of whole IP packets.
    pub bits: u32,
    /// A packet that would wait longer than this is dropped.
    pub queue: Duration,
}

/// A packet that comes twice comes a second time this much later: enough to be behind the first in every queue, too
/// little to be behind the next packet of a call (20 ms).
const SECOND: Duration = Duration::from_micros(200);

/// What became of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It leaves the link at this time.
    At(Duration),
    /// It leaves the link twice.
    Twice(Duration, Duration),
    /// Lost by itself.
    Lost,
    /// Lost in a burst.
    LostInBurst,
    /// The queue before the bottleneck was full.
    QueueFull,
    /// The link was down.
    Down,
}

impl Fate {
    /// When copies leave the link.
    pub fn departures(self) -> impl Iterator<Item = Duration> {
        let (first, second) = match self {
            Self::At(first) => (Some(first), None),
            Self::Twice(first, second) => (Some(first), Some(second)),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// One direction of one link.
///
/// Each packet draws the same number of random values whatever becomes of it. So the k-th packet meets the same loss and
/// jitter for the same seed, whoever sent it and however long it is.
#[derive(Debug)]
pub struct Link {
    conditions: Conditions,
    outages: Vec<Range<Duration>>,
    random: Random,
    /// In the bad state of [`Bursts`].
    bad: bool,
    /// The bottleneck works until then.
    busy: Duration,
    /// When the latest packet leaves that others must not overtake.
    latest: Duration,
}

impl Link {
    /// A link that is up.
    #[must_use]
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            outages: Vec::new(),
            random: Random(seed),
            bad: false,
            busy: Duration::ZERO,
            latest: Duration::ZERO,
        }
    }

    /// Other conditions from the next packet on. The random values go on.
    pub fn change(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Nothing that enters in this time leaves.
    pub fn outage(&mut self, when: Range<Duration>) {
        self.outages.retain(|outage| outage.end > when.start);
        self.outages.push(when);
    }

    /// What becomes of the next packet, which enters `now` and has `length` bytes.
    pub fn pass(&mut self, now: Duration, length: usize) -> Fate {
        let draws: [f64; 6] = std::array::from_fn(|_| self.random.draw());
        let Conditions { delay, jitter, overtaking, loss, bursts, late, twice, rate } = self.conditions;
        self.bad = bursts.is_some_and(|bursts| bursts.next(self.bad, draws[0]));
        if self.outages.iter().any(|outage| outage.contains(&now)) {
            return Fate::Down;
        }
        let mut leaves = now;
        if let Some(Rate { bits, queue }) = rate {
            let begins = self.busy.max(now);
            if begins - now > queue {
                return Fate::QueueFull;
            }
            leaves = begins + Duration::from_secs_f64(length as f64 * 8.0 / f64::from(bits.max(1)));
            self.busy = leaves;
        }
        if self.bad {
            return Fate::LostInBurst;
        }
        if draws[1] <= loss {
            return Fate::Lost;
        }
        let way = delay.as_secs_f64() + jitter.seconds(draws[2], draws[3]);
        leaves += Duration::from_secs_f64(way.max(0.0));
        match late {
            Some(late) if draws[4] <= late.share => leaves += late.by,
            _ if overtaking => {}
            _ => {
                leaves = leaves.max(self.latest);
                self.latest = leaves;
            }
        }
        if draws[5] <= twice { Fate::Twice(leaves, leaves + SECOND) } else { Fate::At(leaves) }
    }
}

impl Bursts {
    /// The state after one more packet.
    fn next(self, bad: bool, draw: f64) -> bool {
        let mean = self.mean.min(0.99);
        let leave = 1.0 / self.length.max(1.0);
        // In balance, as many bursts begin as end.
        let enter = leave * mean / (1.0 - mean);
        if bad { draw > leave } else { draw <= enter }
    }
}

impl Jitter {
    fn seconds(self, first: f64, second: f64) -> f64 {
        match self {
            Self::None => 0.0,
            // Box and Muller
            Self::Normal(deviation) => {
                let angle = std::f64::consts::TAU * second;
                deviation.as_secs_f64() * (-2.0 * first.ln()).sqrt() * angle.cos()
            }
            // A Pareto variable of shape 3 has mean 1.5 and variance 0.75.
            Self::Pareto(deviation) => {
                deviation.as_secs_f64() * (first.powf(-1.0 / 3.0) - 1.5) / 0.75_f64.sqrt()
            }
            Self::Uniform(most) => most.as_secs_f64() * (2.0 * first - 1.0),
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): good enough for luck, and each seed is as good as any other.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The values of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Even, above 0 and up to 1.
    pub fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((z >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: f64) -> Duration {
        Duration::from_secs_f64(milliseconds / 1000.0)
    }

    fn fates(conditions: &Conditions, seed: u64, count: u32, length: usize) -> Vec<Fate> {
        let mut link = Link::new(conditions.clone(), seed);
        (0..count).map(|k| link.pass(Duration::from_millis(20) * k, length)).collect()
    }

    fn rough() -> Conditions {
        Conditions {
            delay: ms(50.0),
            jitter: Jitter::Normal(ms(10.0)),
            loss: 0.1,
            bursts: Some(Bursts { mean: 0.05, length: 3.0 }),
            late: Some(Late { share: 0.05, by: ms(20.0) }),
            twice: 0.05,
            ..Conditions::default()
        }
    }

    #[test]
    fn the_same_seed_gives_the_kth_packet_the_same_fate_whatever_its_length() {
        assert_eq!(fates(&rough(), 3, 5000, 60), fates(&rough(), 3, 5000, 1200));
        assert_ne!(fates(&rough(), 3, 5000, 60), fates(&rough(), 4, 5000, 60));
    }

    #[test]
    fn an_outage_takes_what_enters_in_it_and_changes_no_other_fate() {
        let mut link = Link::new(rough(), 3);
        link.outage(ms(1000.0)..ms(3000.0));
        let with: Vec<_> = (0..500).map(|k| link.pass(Duration::from_millis(20) * k, 60)).collect();
        let without = fates(&rough(), 3, 500, 60);
        for (k, (with, without)) in with.iter().zip(&without).enumerate() {
            let down = (50..150).contains(&k);
            assert_eq!(*with == Fate::Down, down, "{k}");
            // In the first moment afterwards nobody is there who must not be overtaken.
            if !down && !(150..155).contains(&k) {
                assert_eq!(with, without, "{k}");
            }
        }
    }

    #[test]
    fn each_packet_is_lost_for_itself_as_often_as_asked() {
        let all = fates(&Conditions { loss: 0.1, ..Conditions::default() }, 7, 100_000, 100);
        let lost = |fate: &&Fate| **fate == Fate::Lost;
        let share = all.iter().filter(lost).count() as f64 / 1e5;
        assert!((share - 0.1).abs() < 0.005, "{share}");
        let pairs = all.windows(2).filter(|two| two.iter().all(|fate| *fate == Fate::Lost)).count();
        assert!((pairs as f64 / 1e5 - 0.01).abs() < 0.002, "{pairs} pairs: losses know of each other");
    }

    #[test]
    fn bursts_have_their_mean_and_length() {
        let bursts = Some(Bursts { mean: 0.1, length: 3.0 });
        let all = fates(&Conditions { bursts, ..Conditions::default() }, 7, 200_000, 100);
        let bad: Vec<_> = all.iter().map(|fate| *fate == Fate::LostInBurst).collect();
        let lost = bad.iter().filter(|bad| **bad).count() as f64;
        let begun = bad.windows(2).filter(|two| !two[0] && two[1]).count() as f64;
        assert!((lost / 2e5 - 0.1).abs() < 0.01, "{lost}");
        assert!((lost / begun - 3.0).abs() < 0.15, "{}", lost / begun);
    }

    #[test]
    fn jitter_has_its_deviation_and_keeps_the_order_unless_told() {
        for (jitter, wanted) in [
            (Jitter::Normal(ms(10.0)), 10.0),
            (Jitter::Pareto(ms(10.0)), 10.0),
            // The deviation of an even spread is its half width over the root of three.
            (Jitter::Uniform(ms(10.0)), 5.77),
        ] {
            let mut conditions =
                Conditions { delay: ms(100.0), jitter, overtaking: true, ..Conditions::default() };
            let all = fates(&conditions, 5, 50_000, 100);
            let way = |(k, fate): (usize, &Fate)| {
                (fate.departures().next().expect("nothing is lost").as_secs_f64() - k as f64 * 0.02) * 1000.0
            };
            let ways: Vec<f64> = all.iter().enumerate().map(way).collect();
            let mean = ways.iter().sum::<f64>() / ways.len() as f64;
            let deviation = (ways.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / ways.len() as f64).sqrt();
            assert!((mean - 100.0).abs() < 1.0, "{jitter:?}: mean {mean}");
            assert!((deviation - wanted).abs() < 2.0, "{jitter:?}: deviation {deviation}");
            conditions.overtaking = false;
            let mut link = Link::new(conditions, 5);
            let mut last = Duration::ZERO;
            for k in 0..20_000 {
                let leaves =
                    link.pass(Duration::from_millis(k), 100).departures().next().expect("nothing is lost");
                assert!(leaves >= last, "{jitter:?}: {k}");
                last = leaves;
            }
        }
    }

    #[test]
    fn late_packets_are_overtaken_and_some_come_twice() {
        let late = Some(Late { share: 0.1, by: ms(50.0) });
        let all = fates(&Conditions { late, twice: 0.1, ..Conditions::default() }, 5, 10_000, 100);
        let first: Vec<_> = all.iter().filter_map(|fate| fate.departures().next()).collect();
        let overtaken = first.windows(2).filter(|two| two[0] > two[1]).count();
        assert!((800..1200).contains(&overtaken), "{overtaken}");
        let twice = all.iter().filter(|fate| fate.departures().count() == 2).count();
        assert!((900..1100).contains(&twice), "{twice}");
    }

    #[test]
    fn a_bottleneck_queues_and_then_drops() {
        // 100 bytes take 10 ms.
        let rate = Some(Rate { bits: 80_000, queue: ms(50.0) });
        let mut link = Link::new(Conditions { rate, ..Conditions::default() }, 1);
        let fates: Vec<_> = (0..8).map(|_| link.pass(Duration::ZERO, 100)).collect();
        assert_eq!(fates[0], Fate::At(ms(10.0)));
        assert_eq!(fates[5], Fate::At(ms(60.0)));
        assert_eq!(fates[6..], [Fate::QueueFull; 2]);
    }
}
