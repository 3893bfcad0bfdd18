use std::time::{Duration, Instant};

/// How often the recent loss is computed. 5 s: the report interval of RFC 3550 section 6.2.
const INTERVAL: Duration = Duration::from_secs(5);

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
}
