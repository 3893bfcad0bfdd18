//! Bounds that the application may set.

use std::time::Duration;

/// Bounds for the delay of a jitter buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JitterConfig {
    /// Delay to aim for during the first half second, while nothing is known about the path. Default 40 ms: two frames.
    pub start: Duration,
    /// The least delay to aim for. Default 10 ms, one tick: on a clean path a packet that is one tick early is in time.
    pub min: Duration,
    /// The most delay that is ever held. Default 400 ms: ITU-T G.114 calls longer one-way delay unacceptable.
    pub max: Duration,
}

impl JitterConfig {
    /// Sets the delay to start with.
    #[must_use]
    pub fn start(mut self, delay: Duration) -> Self {
        self.start = delay;
        self
    }

    /// Sets the least delay.
    #[must_use]
    pub fn min(mut self, delay: Duration) -> Self {
        self.min = delay;
        self
    }

    /// Sets the most delay.
    #[must_use]
    pub fn max(mut self, delay: Duration) -> Self {
        self.max = delay;
        self
    }

    /// The same with bounds that make sense together: 10 ms <= min <= start <= max <= 2 s.
    pub(super) fn sane(self) -> Self {
        let min = self.min.clamp(Duration::from_millis(10), Duration::from_secs(2));
        let max = self.max.clamp(min, Duration::from_secs(2));
        Self { min, max, start: self.start.clamp(min, max) }
    }
}

impl Default for JitterConfig {
    fn default() -> Self {
        Self {
            start: Duration::from_millis(40),
            min: Duration::from_millis(10),
            max: Duration::from_millis(400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_contradict_each_other_are_put_right() {
        let ms = Duration::from_millis;
        let config = JitterConfig::default().min(ms(500)).max(ms(100)).start(ms(0)).sane();
        assert_eq!((config.min, config.start, config.max), (ms(500), ms(500), ms(500)));
        let config = JitterConfig::default().min(ms(0)).max(Duration::MAX).sane();
        assert_eq!((config.min, config.max), (ms(10), Duration::from_secs(2)));
    }
}
