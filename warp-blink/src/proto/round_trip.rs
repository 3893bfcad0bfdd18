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

/// The smoothed time and how far it varies (SRTT and RTTVAR of RFC 6298 section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RoundTrip(Option<(Duration, Duration)>);

impl RoundTrip {
    /// An acknowledgement came so long after its message was first sent, which was sent again meanwhile or was not.
    ///
    /// RFC 6298 section 3 ignores those that were sent again, since nobody knows which of them is acknowledged. Where every round trip is
    /// longer than the wait that would be all of them, so they count, for twice that wait at most.
    pub(super) fn took(&mut self, time: Duration, again: bool) {
        let time = if again { time.min(self.wait(0) * 2) } else { time }.min(LONGEST);
        self.0 = Some(match self.0 {
            None => (time, time / 2),
            Some((smoothed, varies)) => {
                (smoothed * 7 / 8 + time / 8, varies * 3 / 4 + smoothed.abs_diff(time) / 4)
            }
        });
    }

    /// How long to wait after something was sent for the first time (0), or again for the n-th time: each time twice as long (RFC 6298
    /// section 5.5).
    pub(super) fn wait(&self, again: u32) -> Duration {
        let known = self.0.map_or(FIRST, |(smoothed, varies)| smoothed + 4 * varies);
        known.clamp(FIRST, LONGEST).saturating_mul(1 << again.min(5)).min(LONGEST)
    }

    /// A quarter of a round trip; nothing is known: none. What waits for so long is hardly later for it.
    pub(super) fn quarter(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |(smoothed, _)| smoothed / 4)
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
        // 300 + 4 * 150.
        let mut trip = RoundTrip::default();
        trip.took(ms(300), false);
        assert_eq!(waits(trip)[..4], [900, 1_800, 3_600, 4_000]);
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
            let sent_again = trip.wait(0) < ms(1_500);
            again += u32::from(sent_again);
            trip.took(ms(1_500), sent_again);
        }
        assert!(again <= 2, "{again}");
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
