use std::time::{Duration, Instant};

/// Over how long a bitrate is taken. 1 s: 50 packets of speech at 20 ms, so that one more or less changes it by 2 %.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);
const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_millis(WINDOW.as_millis() as u64 / SLOTS as u64);

/// Bits a second over the last full second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rate {
    first: Option<Instant>,
    bytes: [u64; SLOTS],
    /// The slot that is being filled, counted from the first packet.
    slot: u64,
}

impl Rate {
    pub(crate) fn on_bytes(&mut self, now: Instant, bytes: usize) {
        self.first.get_or_insert(now);
        self.advance(now);
        self.bytes[(self.slot % SLOTS as u64) as usize] += bytes as u64;
    }

    /// `None` in the first second.
    pub(crate) fn bits_per_second(&mut self, now: Instant) -> Option<u64> {
        let first = self.first?;
        if now.saturating_duration_since(first) < WINDOW {
            return None;
        }
        self.advance(now);
        Some(self.bytes.iter().sum::<u64>() * 8)
    }

    /// Forgets what is older than the window.
    fn advance(&mut self, now: Instant) {
        let Some(first) = self.first else { return };
        let slot = (now.saturating_duration_since(first).as_millis() / SLOT.as_millis()) as u64;
        for passed in (self.slot + 1..=slot).take(SLOTS) {
            self.bytes[(passed % SLOTS as u64) as usize] = 0;
        }
        if slot > self.slot + SLOTS as u64 {
            self.bytes = [0; SLOTS];
        }
        self.slot = self.slot.max(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_sent_and_falls_to_nothing() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.bits_per_second(start), None);
        let at = |ms: u64| start + Duration::from_millis(ms);
        for n in 0..100 {
            rate.on_bytes(at(n * 20), 80);
            let expected = (n >= 50).then_some(32_000_u64);
            let got = rate.bits_per_second(at(n * 20));
            assert_eq!(got.is_some(), expected.is_some(), "after {n}");
            // The slot that is being filled counts as a full one, so a tenth may be missing.
            assert!(got.is_none_or(|got| (28_000..=32_000).contains(&got)), "{got:?}");
        }
        assert!(rate.bits_per_second(at(2_480)).is_some_and(|got| (14_000..=18_000).contains(&got)));
        assert_eq!(rate.bits_per_second(at(3_000)), Some(0));
        assert_eq!(rate.bits_per_second(at(300_000)), Some(0));
        rate.on_bytes(at(300_000), 80);
        assert_eq!(rate.bits_per_second(at(300_001)), Some(640));
    }
}
