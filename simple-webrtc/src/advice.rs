use std::time::{Duration, Instant};

/// What a connection says to the encoder that feeds it.
///
/// Values that are not known are `None`: at the start, or because nothing was sent lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Advice {
    /// Bits a second that should not be exceeded, RTP headers and redundancy included; `None` as long as nothing speaks
    /// against more. It is no measure of the path: it is lowered when the path is congested and rises slowly afterwards.
    pub bitrate: Option<u32>,
    /// Packets that the peer lacks, 0 to 1, after lost ones were sent again: what redundancy has to make up for.
    pub loss: Option<f64>,
    /// Packets that are lost on the way, 0 to 1, before anything is repaired; `None` if the peer does not tell.
    pub path_loss: Option<f64>,
    /// How much longer bursts of losses are than independent losses would make them (BurstR of ITU-T G.107): at 2 and more,
    /// redundancy in the very next packet is lost along with the first. `None` if the peer does not tell.
    pub burst_ratio: Option<f64>,
    /// To the peer and back.
    pub round_trip: Option<Duration>,
    /// The path is congested, or was in the last 2 s: more packets or bits make it worse.
    pub congested: bool,
}

/// Between two pieces of advice: what the last one led to has to be heard of first, and the peer reports once a second. A limit
/// that is lower by a step is said at once: a path of 40 kbit/s that gets twice that has a full queue of half a second more within this time.
const INTERVAL: Duration = Duration::from_secs(1);
/// Steps that are worth telling. Loss by 2 points: the encoder's in-band redundancy changes at about that grain.
const LOSS_STEP: f64 = 0.02;
/// As long as less than that is lost, by 0.4 points, one packet in the 250 on which loss is judged: a path that loses 2 %
/// would else be told as one that loses the first single packet, until chance loses 2.4 % of it.
const LITTLE_LOSS_STEP: f64 = 0.004;
/// Shares are quotients of small numbers: what differs by a step is not to be missed by their last bit.
const ROUNDING: f64 = 1e-9;
/// Two seconds of the slowest increase of the limit.
const BITRATE_STEP: f64 = 0.04;
const BURST_STEP: f64 = 0.5;
/// A quarter and 20 ms, one frame: less does not change what an encoder does.
const ROUND_TRIP_STEP: (f64, Duration) = (0.25, Duration::from_millis(20));

impl Advice {
    fn differs(&self, other: &Self) -> bool {
        let by = |a: Option<f64>, b: Option<f64>, step: f64| match (a, b) {
            // A limit, or a loss, that is over is over.
            (Some(a), Some(b)) => (a - b).abs() >= step || ((a == 0.0) != (b == 0.0)),
            (None, None) => false,
            _ => true,
        };
        let lost = |a: Option<f64>, b: Option<f64>| {
            let little = a.into_iter().chain(b).any(|share| share < LOSS_STEP);
            by(a, b, if little { LITTLE_LOSS_STEP } else { LOSS_STEP } - ROUNDING)
        };
        let limit = |advice: &Self| advice.bitrate.map(f64::from);
        let trip = |advice: &Self| advice.round_trip.map(|trip| trip.as_secs_f64());
        let (share, least) = ROUND_TRIP_STEP;
        self.congested != other.congested
            || by(limit(self), limit(other), limit(other).unwrap_or_default() * BITRATE_STEP)
            || lost(self.loss, other.loss)
            || lost(self.path_loss, other.path_loss)
            || by(self.burst_ratio, other.burst_ratio, BURST_STEP)
            || by(trip(self), trip(other), (trip(other).unwrap_or_default() * share).max(least.as_secs_f64()))
    }

    /// Whether less may be sent than that allows.
    fn is_tighter(&self, other: &Self) -> bool {
        self.bitrate.is_some_and(|limit| other.bitrate.is_none_or(|other| limit < other))
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What was said last, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adviser {
    said: Option<(Instant, Advice)>,
}

impl Adviser {
    /// The advice, if it is worth telling now.
    pub(crate) fn say(&mut self, now: Instant, advice: Advice) -> Option<Advice> {
        let tell = match &self.said {
            None => !advice.is_empty(),
            Some((at, said)) => {
                let waited = now.saturating_duration_since(*at) >= INTERVAL;
                (waited || advice.is_tighter(said)) && advice.differs(said)
            }
        };
        tell.then(|| {
            self.said = Some((now, advice));
            advice
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_something_is_said_and_once_a_second_at_most() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut adviser = Adviser::default();
        let base = Advice {
            loss: Some(0.04),
            round_trip: Some(Duration::from_millis(100)),
            burst_ratio: Some(1.0),
            path_loss: Some(0.1),
            bitrate: None,
            congested: false,
        };
        assert_eq!(adviser.say(start, Advice::default()), None, "nothing is known");
        assert_eq!(adviser.say(start, base), Some(base));
        for (n, same) in [
            base,
            Advice { loss: Some(0.055), ..base },
            Advice { round_trip: Some(Duration::from_millis(120)), ..base },
            Advice { burst_ratio: Some(1.4), ..base },
            Advice { path_loss: Some(0.115), ..base },
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(adviser.say(at(5_000 + n as u64), same), None, "{same:?}");
        }
        let limited = Advice { bitrate: Some(40_000), ..base };
        let mut now = 10_000;
        for other in [
            Advice { loss: Some(0.07), ..base },
            base,
            Advice { loss: Some(0.0), ..base },
            Advice { round_trip: Some(Duration::from_millis(130)), ..base },
            Advice { burst_ratio: Some(2.0), ..base },
            Advice { path_loss: None, ..base },
            limited,
            Advice { bitrate: Some(35_000), ..base },
            Advice { congested: true, ..limited },
        ] {
            assert_eq!(adviser.say(at(now), other), Some(other), "after {now} ms");
            assert_eq!(adviser.say(at(now + 999), Advice::default()), None, "not twice in a second");
            now += 1_000;
        }
        assert_eq!(adviser.say(at(now), Advice { bitrate: Some(41_500), congested: true, ..base }), None);
        now += 1_000;
        assert_eq!(adviser.say(at(now), limited), Some(limited));
        for (ms, bitrate, told) in
            [(10, 39_000, false), (20, 30_000, true), (30, 35_000, false), (40, 20_000, true)]
        {
            let tighter = Advice { bitrate: Some(bitrate), ..base };
            assert_eq!(
                adviser.say(at(now + ms), tighter).is_some(),
                told,
                "what is less is said at once: {bitrate}"
            );
        }
    }

    #[test]
    fn of_little_loss_each_packet_is_said() {
        let start = Instant::now();
        let mut adviser = Adviser::default();
        let lost = |packets: u32| Advice { path_loss: Some(f64::from(packets) / 250.0), ..Advice::default() };
        for (second, packets) in [0, 1, 2, 3, 4, 5, 4].into_iter().enumerate() {
            let now = start + INTERVAL * second as u32;
            assert_eq!(adviser.say(now, lost(packets)), Some(lost(packets)), "{packets} of 250");
        }
        adviser.say(start + INTERVAL * 10, lost(6));
        assert_eq!(adviser.say(start + INTERVAL * 11, lost(8)), None);
        assert_eq!(adviser.say(start + INTERVAL * 12, lost(11)), Some(lost(11)));
    }
}
