//! How good a call sounds, estimated from what the network does to it, and whose side is poor. Pure: time is an input.

use std::time::{Duration, Instant};

/// The rating without any impairment by the network: all parameters of ITU-T G.107 (06/2015) at their defaults
/// (section 7.7).
const UNIMPAIRED: f64 = 93.2;
/// Delay that nobody notices, in ms, and sensitivity to delay: mT and sT of ITU-T G.107 (06/2015), table 1, for everyday
/// conversations.
const UNNOTICED_DELAY_MS: f64 = 100.0;
const DELAY_SENSITIVITY: f64 = 1.0;
/// Impairment by the codec itself. 0, as G.711 has in ITU-T G.113 appendix I. No ITU-T value for Opus is known to us; at the
/// rates of calls it carries twice the band of telephony and more, which this scale cannot express.
const CODEC: f64 = 0.0;
/// Robustness against loss (Bpl). No ITU-T value for Opus is known to us, so it is that of G.711 with concealment (ITU-T G.113
/// appendix I, table I.3): Opus conceals, too. In-band redundancy makes it better than this says.
const LOSS_ROBUSTNESS: f64 = 25.1;
/// What the way of a frame takes beside network and jitter buffer: 20 ms to fill it and 6.5 ms of lookahead (RFC 6716
/// section 2).
const CODEC_DELAY: Duration = Duration::from_micros(26_500);
/// Delay of a jitter buffer of which nothing is known. 40 ms: two frames.
pub(crate) const JITTER_BUFFER: Duration = Duration::from_millis(40);

/// What the network does to sound in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Conditions {
    /// To the peer and back.
    pub round_trip: Duration,
    /// What the jitter buffer of the hearing side adds.
    pub jitter_buffer: Duration,
    /// Packets that were not there to be played, 0 to 1.
    pub loss: f64,
    /// How much longer bursts of losses are than independent losses would make them (BurstR of ITU-T G.107); 1 or more.
    pub burst_ratio: f64,
}

impl Conditions {
    /// Losses that are independent of each other, and a jitter buffer of 40 ms.
    pub fn new(round_trip: Duration, loss: f64) -> Self {
        Self { round_trip, jitter_buffer: JITTER_BUFFER, loss, burst_ratio: 1.0 }
    }

    /// What this sounds like.
    pub fn rate(&self) -> Rating {
        let delay = self.round_trip / 2 + self.jitter_buffer + CODEC_DELAY;
        Rating { r: UNIMPAIRED - by_delay(delay) - by_loss(self.loss, self.burst_ratio) }
    }
}

/// The rating of the E-model (ITU-T G.107). An estimate for comparing networks; nobody has listened.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
#[non_exhaustive]
pub struct Rating {
    /// The rating factor R: up to 93.2, below 60 nearly everybody is dissatisfied (ITU-T G.109 table 1). Can be negative.
    pub r: f64,
}

impl Rating {
    /// The mean opinion score that this is worth, 1 to 4.5 (ITU-T G.107 annex B).
    pub fn mos(self) -> f64 {
        let r = self.r;
        if r <= 0.0 {
            return 1.0;
        }
        if r >= 100.0 {
            return 4.5;
        }
        // Slightly below 1 for small R, which the scale does not know.
        (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
    }
}

/// Idd of ITU-T G.107 section 7.4, for connections without echo.
fn by_delay(delay: Duration) -> f64 {
    let delay = delay.as_secs_f64() * 1000.0;
    if delay <= UNNOTICED_DELAY_MS {
        return 0.0;
    }
    let x = (delay / UNNOTICED_DELAY_MS).log2();
    let power = 6.0 * DELAY_SENSITIVITY;
    let root = |base: f64| (1.0 + base.powf(power)).powf(1.0 / power);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

/// Ie,eff of ITU-T G.107 section 7.5.
fn by_loss(loss: f64, burst_ratio: f64) -> f64 {
    let percent = 100.0 * loss.clamp(0.0, 1.0);
    CODEC + (95.0 - CODEC) * percent / (percent / burst_ratio.max(1.0) + LOSS_ROBUSTNESS)
}

/// Whose reception is poor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PoorSide {
    /// We hear the peer badly.
    Ours,
    /// The peer hears us badly.
    Theirs,
    /// Both.
    Both,
}

/// How a call sounds at both ends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Quality {
    /// What we hear of the peer; `None` if nothing was received lately.
    pub ours: Option<Rating>,
    /// What the peer hears of us; `None` if it has not reported anything lately.
    pub theirs: Option<Rating>,
    /// Whose reception is poor, and has been for a while.
    pub poor: Option<PoorSide>,
}

/// A side gets poor below this. 60: nearly all users are dissatisfied (ITU-T G.109 table 1).
const POOR_BELOW: f64 = 60.0;
/// And good again from this on. 70: one class better in the same table, so that it does not flicker.
const GOOD_FROM: f64 = 70.0;
/// How long it has to be bad before it is poor. 3 s: three reports of the peer, one of which may be lost.
const BAD_FOR: Duration = Duration::from_secs(3);
/// How long it has to be good before it is no longer poor. 5 s: what is judged is 5 s long, so the bad time has left it.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// One side over time.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    poor: bool,
    /// Since when it has been on the way to the other state.
    turning: Option<Instant>,
}

impl Course {
    /// Where nothing is known, nothing changes, and what was on the way begins anew.
    fn update(&mut self, now: Instant, rating: Option<Rating>) {
        let turning = rating.is_some_and(|rating| match self.poor {
            false => rating.r < POOR_BELOW,
            true => rating.r >= GOOD_FROM,
        });
        if !turning {
            self.turning = None;
            return;
        }
        let since = *self.turning.get_or_insert(now);
        let needed = if self.poor { GOOD_FOR } else { BAD_FOR };
        if now.saturating_duration_since(since) >= needed {
            *self = Self { poor: !self.poor, turning: None };
        }
    }
}

/// Judges both sides over time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judge {
    ours: Course,
    theirs: Course,
}

impl Judge {
    pub(crate) fn judge(&mut self, now: Instant, ours: Option<Rating>, theirs: Option<Rating>) -> Quality {
        self.ours.update(now, ours);
        self.theirs.update(now, theirs);
        let poor = match (self.ours.poor, self.theirs.poor) {
            (false, false) => None,
            (true, false) => Some(PoorSide::Ours),
            (false, true) => Some(PoorSide::Theirs),
            (true, true) => Some(PoorSide::Both),
        };
        Quality { ours, theirs, poor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(one_way_ms: f64, loss: f64, burst_ratio: f64) -> Rating {
        let network = Duration::from_secs_f64(one_way_ms / 1000.0);
        let added = CODEC_DELAY + JITTER_BUFFER;
        let round_trip = 2 * network.saturating_sub(added);
        Conditions { burst_ratio, ..Conditions::new(round_trip, loss) }.rate()
    }

    /// Values that others have computed from the same formulas.
    #[test]
    fn ratings_are_those_of_the_recommendation() {
        let near = |got: f64, wanted: f64| assert!((got - wanted).abs() < 0.05, "{got} is not {wanted}");
        // ITU-T G.107: the default connection.
        near(rate(80.0, 0.0, 1.0).r, 93.2);
        near(rate(80.0, 0.0, 1.0).mos(), 4.41);
        // Idd at twice and four times the delay that nobody notices.
        near(
            UNIMPAIRED - rate(200.0, 0.0, 1.0).r,
            25.0 * (2_f64.powf(1.0 / 6.0) - 3.0 * (1.0 + 3_f64.powi(-6)).powf(1.0 / 6.0) + 2.0),
        );
        near(UNIMPAIRED - rate(400.0, 0.0, 1.0).r, 24.1);
        // Ie,eff with Ie 0 and Bpl 25.1: 95 * 5 / 30.1, and with a burst ratio of 2.
        near(UNIMPAIRED - rate(80.0, 0.05, 1.0).r, 15.78);
        near(UNIMPAIRED - rate(80.0, 0.05, 2.0).r, 17.21);
        // ITU-T G.107 annex B, table B.1: R 50, 60, 70, 80, 90.
        for (r, mos) in [(50.0, 2.58), (60.0, 3.10), (70.0, 3.60), (80.0, 4.03), (90.0, 4.34)] {
            assert!((Rating { r }.mos() - mos).abs() < 0.01, "{r}");
        }
        assert_eq!((Rating { r: -20.0 }.mos(), Rating { r: 120.0 }.mos()), (1.0, 4.5));
    }

    #[test]
    fn what_is_worse_is_rated_worse() {
        let mut before = f64::INFINITY;
        for loss in [0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 7.0] {
            let r = rate(150.0, loss, 1.0).r;
            assert!(r < before || loss > 1.0, "{loss}");
            assert!(rate(150.0, loss, 3.0).r < r || loss == 0.0);
            assert!(rate(151.0, loss, 1.0).r < r);
            assert!((1.0..=4.5).contains(&Rating { r }.mos()));
            before = r;
        }
    }

    /// What the judge says each second from `start` on.
    fn course(judge: &mut Judge, from: Instant, ratings: &[(f64, f64)]) -> Vec<Option<PoorSide>> {
        let rating = |r: f64| (!r.is_nan()).then_some(Rating { r });
        let seconds = ratings.iter().zip(0..);
        seconds
            .map(|((ours, theirs), n)| {
                judge.judge(from + Duration::from_secs(n), rating(*ours), rating(*theirs)).poor
            })
            .collect()
    }

    #[test]
    fn a_side_gets_poor_and_good_again_with_patience() {
        let (start, mut judge) = (Instant::now(), Judge::default());
        // A bad second or two is nothing.
        let short = [(90.0, 90.0), (20.0, 90.0), (20.0, 90.0), (90.0, 90.0), (59.0, 59.0), (61.0, 61.0)];
        assert_eq!(course(&mut judge, start, &short), [None; 6]);
        let at = start + Duration::from_secs(10);
        let long = [(59.0, 90.0), (50.0, 90.0), (59.9, 90.0), (59.0, 20.0), (59.0, 20.0)];
        let ours = Some(PoorSide::Ours);
        assert_eq!(course(&mut judge, at, &long), [None, None, None, ours, ours]);
        let at = start + Duration::from_secs(15);
        // Ours gets good only above the other threshold, and theirs gets poor meanwhile.
        let (both, theirs) = (Some(PoorSide::Both), Some(PoorSide::Theirs));
        let further = [(69.0, 20.0), (69.0, 20.0), (75.0, 20.0), (69.0, 20.0), (75.0, 20.0)];
        assert_eq!(course(&mut judge, at, &further), [ours, both, both, both, both]);
        let at = start + Duration::from_secs(20);
        let good = [(75.0, 20.0); 6];
        assert_eq!(course(&mut judge, at, &good), [both, both, both, both, theirs, theirs]);
        // Nothing known changes nothing, and patience begins anew after it.
        let at = start + Duration::from_secs(26);
        let gap = [(90.0, 90.0), (90.0, 90.0), (90.0, 90.0), (90.0, f64::NAN), (90.0, 90.0), (90.0, 90.0)];
        assert_eq!(course(&mut judge, at, &gap), [theirs; 6]);
        let at = start + Duration::from_secs(32);
        assert_eq!(course(&mut judge, at, &[(90.0, 90.0); 4]), [theirs, theirs, theirs, None]);
    }
}
