use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::loss::{Loss, PACKETS};

/// How often the recent loss is computed. 5 s: the report interval of RFC 3550 section 6.2.
const INTERVAL: Duration = Duration::from_secs(5);

/// The youngest packets, which are not judged: what is lost of them may still be sent again. 10: 200 ms of speech at 20 ms,
/// in which a packet is asked for and comes over any path that is good enough to talk.
const YOUNG: usize = 10;
/// What is judged is no older. 5 s, as above.
const JUDGED: Duration = Duration::from_secs(5);

/// What is known about a received RTP stream: RFC 3550 sections A.1 (sequence numbers), A.3 (loss), A.8 (jitter).
#[derive(Debug, Clone)]
pub(crate) struct Reception {
    clock_rate: u32,
    packets: u64,
    bytes: u64,
    stream: Option<Stream>,
    /// Of streams before the present one.
    earlier_expected: u64,
    earlier_received: u64,
}

#[derive(Debug, Clone)]
struct Stream {
    ssrc: u32,
    first: u64,
    highest: u64,
    received: u64,
    transit: Option<(Instant, u32)>,
    /// In timestamp units.
    jitter: f64,
    interval_start: Instant,
    interval_expected: u64,
    interval_received: u64,
    recent_loss: Option<f64>,
    /// Whether each of the last packets came, and when the first one after it did: the oldest first.
    fates: VecDeque<(Instant, bool)>,
}

impl Reception {
    pub(crate) fn new(clock_rate: u32) -> Self {
        Self { clock_rate, packets: 0, bytes: 0, stream: None, earlier_expected: 0, earlier_received: 0 }
    }

    pub(crate) fn on_packet(
        &mut self,
        arrival: Instant,
        ssrc: u32,
        sequence: u16,
        timestamp: u32,
        payload: usize,
    ) {
        self.packets += 1;
        self.bytes += payload as u64;
        match &mut self.stream {
            Some(stream) if stream.ssrc == ssrc => {
                stream.on_packet(self.clock_rate, arrival, sequence, timestamp)
            }
            other => {
                // A new source starts its own counting; what the old one lost stays lost.
                if let Some(old) = other.take() {
                    self.earlier_expected += old.expected();
                    self.earlier_received += old.received;
                }
                *other = Some(Stream::new(ssrc, arrival, sequence, timestamp));
            }
        }
    }

    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets that never came. Duplicates can hide losses, as in RFC 3550, but never make it negative.
    pub(crate) fn lost(&self) -> u64 {
        let (expected, received) = self.totals();
        expected.saturating_sub(received)
    }

    /// Lost packets in the last full interval, 0 to 1.
    pub(crate) fn recent_loss(&self) -> Option<f64> {
        self.stream.as_ref()?.recent_loss
    }

    /// What was not there to be played of the last five seconds; `None` where too little was sent for a judgement.
    pub(crate) fn played(&self, now: Instant) -> Option<Loss> {
        let fates = &self.stream.as_ref()?.fates;
        let judged = fates.iter().take(fates.len().saturating_sub(YOUNG));
        let lately = judged.filter(|(at, _)| now.saturating_duration_since(*at) < JUDGED);
        Loss::of(lately.map(|(_, came)| !came))
    }

    pub(crate) fn jitter_ms(&self) -> Option<f64> {
        let stream = self.stream.as_ref().filter(|stream| stream.received > 1)?;
        Some(stream.jitter * 1000.0 / f64::from(self.clock_rate))
    }

    fn totals(&self) -> (u64, u64) {
        let (expected, received) = self.stream.as_ref().map_or((0, 0), |s| (s.expected(), s.received));
        (expected + self.earlier_expected, received + self.earlier_received)
    }
}

impl Stream {
    fn new(ssrc: u32, arrival: Instant, sequence: u16, timestamp: u32) -> Self {
        // Starting one cycle up leaves room for packets from before the first one that arrived.
        let first = u64::from(sequence) + (1 << 16);
        Self {
            ssrc,
            first,
            highest: first,
            received: 1,
            transit: Some((arrival, timestamp)),
            jitter: 0.0,
            interval_start: arrival,
            interval_expected: 0,
            interval_received: 0,
            recent_loss: None,
            fates: VecDeque::from([(arrival, true)]),
        }
    }

    /// Before `highest` is moved on.
    fn mark(&mut self, arrival: Instant, extended: u64) {
        let most = PACKETS + YOUNG;
        match extended.checked_sub(self.highest) {
            Some(0) => {}
            Some(step) => {
                let missing = usize::try_from(step - 1).unwrap_or(most).min(most);
                self.fates.extend(std::iter::repeat_n((arrival, false), missing));
                self.fates.push_back((arrival, true));
                let old = self.fates.len().saturating_sub(most);
                self.fates.drain(..old);
            }
            None => {
                let back = usize::try_from(self.highest - extended).unwrap_or(usize::MAX);
                let at = self.fates.len().checked_sub(back.saturating_add(1));
                if let Some((_, came)) = at.and_then(|at| self.fates.get_mut(at)) {
                    *came = true;
                }
            }
        }
    }

    fn expected(&self) -> u64 {
        self.highest - self.first + 1
    }

    fn on_packet(&mut self, clock_rate: u32, arrival: Instant, sequence: u16, timestamp: u32) {
        let step = i64::from(sequence.wrapping_sub(self.highest as u16) as i16);
        let extended = self.highest.saturating_add_signed(step);
        self.received += 1;
        self.first = self.first.min(extended);
        let in_order = extended > self.highest;
        self.mark(arrival, extended);
        self.highest = self.highest.max(extended);

        if let Some((last_arrival, last_timestamp)) = self.transit
            && in_order
        {
            let spacing =
                arrival.saturating_duration_since(last_arrival).as_secs_f64() * f64::from(clock_rate);
            let sent = f64::from(timestamp.wrapping_sub(last_timestamp) as i32);
            self.jitter += ((spacing - sent).abs() - self.jitter) / 16.0;
        }
        if in_order {
            self.transit = Some((arrival, timestamp));
        }

        if arrival.saturating_duration_since(self.interval_start) >= INTERVAL {
            let expected = self.expected() - self.interval_expected;
            let received = self.received - self.interval_received;
            self.recent_loss =
                (expected > 0).then(|| expected.saturating_sub(received) as f64 / expected as f64);
            self.interval_start = arrival;
            self.interval_expected = self.expected();
            self.interval_received = self.received;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    fn feed(reception: &mut Reception, start: Instant, numbers: impl IntoIterator<Item = u32>) {
        for n in numbers {
            reception.on_packet(start + TICK * n, 1, (65_530 + n) as u16, n * 960, 100);
        }
    }

    #[test]
    fn losses_are_counted_across_the_wrap_and_late_packets_take_them_back() {
        let start = Instant::now();
        let mut reception = Reception::new(48_000);
        assert_eq!((reception.lost(), reception.jitter_ms(), reception.recent_loss()), (0, None, None));
        feed(&mut reception, start, (0..20).filter(|n| *n != 3 && *n != 10));
        assert_eq!((reception.packets(), reception.bytes(), reception.lost()), (18, 1800, 2));
        feed(&mut reception, start, [3]);
        assert_eq!(reception.lost(), 1);
        feed(&mut reception, start, [3, 3]);
        assert_eq!(reception.lost(), 0, "never negative");
    }

    #[test]
    fn a_packet_from_before_the_first_is_expected_too() {
        let start = Instant::now();
        let mut reception = Reception::new(48_000);
        reception.on_packet(start, 1, 1, 1920, 1);
        reception.on_packet(start, 1, 65_535, 0, 1);
        assert_eq!(reception.lost(), 1);
    }

    #[test]
    fn a_new_source_does_not_look_like_a_loss() {
        let start = Instant::now();
        let mut reception = Reception::new(48_000);
        feed(&mut reception, start, [0, 2]);
        reception.on_packet(start, 2, 40_000, 0, 1);
        reception.on_packet(start + TICK, 2, 40_001, 960, 1);
        assert_eq!((reception.packets(), reception.lost()), (4, 1));
    }

    #[test]
    fn even_spacing_has_no_jitter_and_alternating_spacing_approaches_its_deviation() {
        let start = Instant::now();
        let mut even = Reception::new(48_000);
        feed(&mut even, start, 0..100);
        assert!(even.jitter_ms().expect("two packets").abs() < 1e-6);

        let mut uneven = Reception::new(48_000);
        for n in 0..400_u32 {
            let late = if n % 2 == 0 { Duration::ZERO } else { Duration::from_millis(5) };
            uneven.on_packet(start + TICK * n + late, 1, n as u16, n * 960, 100);
        }
        // Each spacing is 5 ms off, so the estimate of RFC 3550 converges to 5 ms.
        assert!((uneven.jitter_ms().expect("two packets") - 5.0).abs() < 0.1);
    }

    #[test]
    fn recent_loss_is_that_of_the_last_interval_only() {
        let start = Instant::now();
        let mut reception = Reception::new(48_000);
        feed(&mut reception, start, (0..=250).filter(|n| n % 10 != 5));
        let loss = reception.recent_loss().expect("one interval is over");
        assert!((loss - 0.1).abs() < 0.01, "{loss}");
        feed(&mut reception, start, 251..=500);
        assert_eq!(reception.recent_loss(), Some(0.0));
        assert_eq!(reception.lost(), 25);
    }

    #[test]
    fn what_came_late_was_there_to_be_played() {
        let start = Instant::now();
        let mut reception = Reception::new(48_000);
        assert_eq!(reception.played(start), None);
        feed(&mut reception, start, (0..200).filter(|n| n % 10 > 1));
        let now = start + TICK * 200;
        let played = reception.played(now).expect("enough");
        // 190 of them are judged, all but the first of which a tenth twice is lost.
        assert!((played.share - 0.2).abs() < 0.02 && played.burst_ratio > 1.5, "{played:?}");
        // Half of them come late, some twice.
        for late in
            [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 20]
        {
            feed(&mut reception, start, [late]);
        }
        let played = reception.played(now).expect("enough");
        assert!((played.share - 0.1).abs() < 0.02 && played.burst_ratio == 1.0, "{played:?}");
        assert_eq!(reception.played(now + Duration::from_secs(5)), None, "too long ago");
        // An outage of any length, and a packet from long before.
        feed(&mut reception, start + TICK * 300, [20_000, 5]);
        let after = reception.played(start + TICK * 20_300);
        assert!(after.is_some_and(|loss| loss.share > 0.95), "{after:?}");
    }
}
