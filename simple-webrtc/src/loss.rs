use std::collections::VecDeque;

/// Packets on which loss is judged. 250: 5 s of speech at 20 ms, the report interval of RFC 3550 section 6.2.
pub(crate) const PACKETS: usize = 250;
/// Fewer say nothing. 25: half a second of speech; one lost packet is then 4 %.
const ENOUGH: usize = 25;
/// Bursts beyond this are an outage, which is told as such. 8: 160 ms of speech.
const MOST_BURSTY: f64 = 8.0;

/// Loss of a stretch of packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Loss {
    /// 0 to 1.
    pub(crate) share: f64,
    /// BurstR of ITU-T G.107 section 7.5: 1 where losses are independent.
    pub(crate) burst_ratio: f64,
}

impl Loss {
    /// From what became of each packet, in the order of sending; `None` of too few.
    pub(crate) fn of(lost: impl IntoIterator<Item = bool>) -> Option<Self> {
        let (mut packets, mut gone, mut bursts, mut before) = (0_usize, 0_usize, 0_usize, false);
        for lost in lost {
            packets += 1;
            gone += usize::from(lost);
            bursts += usize::from(lost && !before);
            before = lost;
        }
        if packets < ENOUGH {
            return None;
        }
        let share = gone as f64 / packets as f64;
        // The mean length of bursts over that of independent losses, which is 1 / (1 - share).
        let ratio = if bursts == 0 { 1.0 } else { gone as f64 / bursts as f64 * (1.0 - share) };
        Some(Self { share, burst_ratio: ratio.clamp(1.0, MOST_BURSTY) })
    }
}

/// What became of the last packets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fates(VecDeque<bool>);

impl Fates {
    pub(crate) fn push(&mut self, lost: bool) {
        if self.0.len() >= PACKETS {
            self.0.pop_front();
        }
        self.0.push_back(lost);
    }

    /// How many are known of, up to [`PACKETS`].
    pub(crate) fn packets(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn loss(&self) -> Option<Loss> {
        Loss::of(self.0.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_told_from_single_losses() {
        assert_eq!(Loss::of([true; ENOUGH - 1]), None);
        assert_eq!(Loss::of([false; ENOUGH]), Some(Loss { share: 0.0, burst_ratio: 1.0 }));
        let single = Loss::of((0..100).map(|n| n % 10 == 0)).expect("enough");
        assert_eq!((single.share, single.burst_ratio), (0.1, 1.0));
        let burst = Loss::of((0..100).map(|n| n % 50 < 5)).expect("enough");
        assert_eq!((burst.share, burst.burst_ratio), (0.1, 4.5));
        let outage = Loss::of((0..100).map(|n| n < 90)).expect("enough");
        assert_eq!((outage.share, outage.burst_ratio), (0.9, MOST_BURSTY));
    }

    #[test]
    fn old_fates_are_forgotten() {
        let mut fates = Fates::default();
        assert_eq!(fates.loss(), None);
        (0..PACKETS).for_each(|_| fates.push(true));
        (0..PACKETS).for_each(|_| fates.push(false));
        assert_eq!(fates.loss().map(|loss| loss.share), Some(0.0));
    }
}
