//! How long signals to one peer and their acknowledgements take, and when to stop waiting for one.
//!
//! What carries signals loses none while it works: gossip goes over TCP or QUIC, links have SCTP. So a message whose acknowledgement is
//! late has mostly been late itself, and the same again makes those behind it later still: before a place of 60 kbit/s, where descriptions
//! alone take a second, the same three messages were sent four times each (measured in the lab). Hence waits follow what was measured
//! (RFC 6298); a ladder with fixed steps is left for who has not been heard yet.

use std::time::Duration;

/// The first wait while nothing is known, and the least: 250 ms is a round trip over one gossip hop on a slow network. RFC 6298 has a
/// second for both; here a message that is there already costs one frame and is dropped.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait, so that a returning network is used soon.
const LONGEST: Duration = Duration::from_secs(4);
/// The longest wait for the first answer. 1 s: where a message was lost after all, as it is on the way to somebody who has just left a mesh,
/// everything that follows it waits too. On a path that is slower than that each message goes twice, and not four times.
const LONGEST_FIRST: Duration = Duration::from_secs(1);

/// The smoothed time and how far it varies (SRTT and RTTVAR of RFC 6298 section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RoundTrip(Option<(Duration, Duration)>);

impl RoundTrip {
    /// An acknowledgement came so long after its message was first sent, which was sent again meanwhile or was not.
    ///
    /// RFC 6298 section 3 ignores those that were sent again, since nobody knows which of them is acknowledged. Where every round trip is
    /// longer than the wait that would be all of them, so they count, but for no more than twice what was known: by the wait, which such a time
    /// makes longer in two ways, one would follow from the other up to the longest.
    pub(super) fn took(&mut self, time: Duration, again: bool) {
        let known = self.0.map_or(FIRST, |(smoothed, _)| smoothed.max(FIRST / 2));
        let time = if again { time.min(known * 2) } else { time }.min(LONGEST);
        self.0 = Some(match self.0 {
            // RFC 6298 section 2.2 takes half; the first answers are those to handshakes, which may have waited for more than the path.
            None => (time, time / 4),
            Some((smoothed, varies)) => {
                (smoothed * 7 / 8 + time / 8, varies * 3 / 4 + smoothed.abs_diff(time) / 4)
            }
        });
    }

    /// How long to wait after something was sent for the first time (0), or again for the n-th time: each time twice as long (RFC 6298
    /// section 5.5).
    pub(super) fn wait(&self, again: u32) -> Duration {
        let known = self.0.map_or(FIRST, |(smoothed, varies)| smoothed + 4 * varies);
        known.clamp(FIRST, LONGEST_FIRST).saturating_mul(1 << again.min(5)).min(LONGEST)
    }

    /// A quarter of a round trip, of the least wait at most: the other side may know better. What waits for so long is hardly later for it.
    pub(super) fn quarter(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |(smoothed, _)| smoothed / 4).min(FIRST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn waits(trip: RoundTrip) -> [u128; 6] {
        [0, 1, 2, 3, 4, 60].map(|again| trip.wait(again).as_millis())
    }

    #[test]
    fn where_nothing_is_known_waits_double_from_a_quarter_of_a_second() {
        assert_eq!(waits(RoundTrip::default()), [250, 500, 1_000, 2_000, 4_000, 4_000]);
    }

    #[test]
    fn waits_follow_the_round_trip_and_are_never_shorter_than_at_first() {
        let mut trip = RoundTrip::default();
        trip.took(ms(20), false);
        assert_eq!(waits(trip)[..2], [250, 500]);
        // 300 + 4 * 75.
        let mut trip = RoundTrip::default();
        trip.took(ms(300), false);
        assert_eq!(waits(trip)[..4], [600, 1_200, 2_400, 4_000]);
        for _ in 0..40 {
            trip.took(ms(300), false);
        }
        assert!((300..310).contains(&waits(trip)[0]), "an even path: {:?}", waits(trip));
        assert_eq!(trip.quarter().as_millis(), 75);
    }

    #[test]
    fn a_path_that_is_slower_than_the_first_wait_is_learnt_though_everything_was_sent_again() {
        let mut trip = RoundTrip::default();
        let mut again = 0;
        for _ in 0..8 {
            let sent_again = trip.wait(0) < ms(900);
            again += u32::from(sent_again);
            trip.took(ms(900), sent_again);
        }
        assert!(again <= 3, "{again}");
        // Where it takes longer than anybody waits, everything is sent twice.
        for _ in 0..8 {
            trip.took(ms(2_500), true);
        }
        assert_eq!(waits(trip)[..2], [1_000, 2_000]);
    }

    /// Each message is lost with this probability, and so is its acknowledgement; the path itself takes 40 ms.
    fn learnt(seed: u64, lost: f64) -> Duration {
        let (mut trip, mut state) = (RoundTrip::default(), seed.wrapping_mul(7_919).wrapping_add(1));
        let mut chance = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        for _ in 0..30 {
            let (mut sent, mut again) = (ms(0), 0);
            while chance() < lost || chance() < lost {
                sent += trip.wait(again);
                again += 1;
            }
            trip.took(sent + ms(40), again > 0);
        }
        trip.wait(0)
    }

    #[test]
    fn losses_do_not_drive_the_wait_to_its_end() {
        for (lost, usual, most) in [(0.05, 400, 800), (0.2, 800, 1_500)] {
            let mut waits: Vec<_> = (0..200).map(|seed| learnt(seed, lost).as_millis()).collect();
            waits.sort_unstable();
            assert!(waits[100] <= usual && waits[180] <= most, "{lost}: {} {}", waits[100], waits[180]);
        }
    }

    #[test]
    fn three_that_waited_for_an_outage_are_forgotten_soon() {
        let mut trip = RoundTrip::default();
        for _ in 0..10 {
            trip.took(ms(40), false);
        }
        for _ in 0..3 {
            trip.took(ms(5_000), true);
        }
        assert!(trip.wait(0) < ms(1_000), "{:?}", trip.wait(0));
    }

    #[test]
    fn one_lost_message_does_not_make_the_next_wait_for_seconds() {
        let mut trip = RoundTrip::default();
        for _ in 0..10 {
            trip.took(ms(100), false);
        }
        trip.took(ms(4_100), true);
        assert!(trip.wait(0) < ms(700), "{:?}", trip.wait(0));
        for _ in 0..20 {
            trip.took(ms(100), false);
        }
        assert_eq!(trip.wait(0), FIRST);
        trip.took(Duration::MAX, false);
        assert!(trip.wait(9) <= LONGEST);
    }
}
