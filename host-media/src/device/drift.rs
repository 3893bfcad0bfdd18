//! Keeps a ring between two clocks at the same fill.

/// Share of a new measurement in the average: 1 s, which hides the saw teeth of the callbacks.
const SMOOTHING: f64 = 0.01;
/// Bend of the rate per second of wrong fill. 1 ms off bends by 0.02 %, which is what cheap crystals differ by; an
/// error is gone in about 5 s.
const GAIN: f64 = 0.2;

/// Ticks in which the fill is only watched, after the ring was filled: 0.5 s.
const WATCHED: u32 = 50;
/// By how much a ring may stay fuller than it must be: what a device delivers at once decides how full it is in the beginning,
/// and to change that would shift an echo under the canceller for a quarter of a minute.
const SLACK: f64 = 0.010;

/// Watches the fill of a ring and recommends by how much to bend the rate.
#[derive(Debug)]
pub(crate) struct Drift {
    /// The fill that is wanted.
    target: f64,
    /// The fill that is kept: the one of the beginning, if that will do.
    kept: f64,
    average: f64,
    watched: u32,
}

impl Drift {
    /// `target` is the wanted fill in seconds.
    pub(crate) fn new(target: f64) -> Self {
        Self { target, kept: target, average: 0.0, watched: 0 }
    }

    pub(crate) fn target(&self) -> f64 {
        self.target
    }

    /// Takes a measurement in seconds. The result is positive if the ring is too full; it is not limited.
    pub(crate) fn observe(&mut self, fill: f64) -> f64 {
        if self.watched < WATCHED {
            self.watched += 1;
            self.average += (fill - self.average) / f64::from(self.watched);
            self.kept = self.average.clamp(self.target, self.target + SLACK);
            return 0.0;
        }
        self.average += (fill - self.average) * SMOOTHING;
        (self.average - self.kept) * GAIN
    }

    /// Starts anew, after the ring was put to its target.
    pub(crate) fn settle(&mut self) {
        (self.average, self.watched) = (0.0, 0);
    }
}
