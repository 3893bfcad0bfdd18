//! Keeps a ring between two clocks at the same fill.

/// Share of a new measurement in the average: 1 s, which hides the saw teeth of the callbacks.
const SMOOTHING: f64 = 0.01;
/// Bend of the rate per second of wrong fill. 1 ms off bends by 0.02 %, which is what cheap crystals differ by; an
/// error is gone in about 5 s.
const GAIN: f64 = 0.2;

/// Watches the fill of a ring and recommends by how much to bend the rate.
#[derive(Debug)]
pub(crate) struct Drift {
    target: f64,
    average: f64,
}

impl Drift {
    /// `target` is the wanted fill in seconds.
    pub(crate) fn new(target: f64) -> Self {
        Self { target, average: target }
    }

    pub(crate) fn target(&self) -> f64 {
        self.target
    }

    /// Takes a measurement in seconds. The result is positive if the ring is too full; it is not limited.
    pub(crate) fn observe(&mut self, fill: f64) -> f64 {
        self.average += (fill - self.average) * SMOOTHING;
        (self.average - self.target) * GAIN
    }

    /// Starts anew from the target, after the ring was put there.
    pub(crate) fn settle(&mut self) {
        self.average = self.target;
    }
}
