//! Whether a series of figures has stayed where it was.

/// Fewer say nothing: a third of them must be more than one.
const FEWEST: usize = 6;

/// By how much a figure may be larger at the end than after the warm-up: the larger one of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// In the unit of the figure.
    pub least: f64,
    /// Of the figure after the warm-up.
    pub share: f64,
}

/// What a series has done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// How many figures there are.
    pub samples: usize,
    /// The median of the first third.
    pub first: f64,
    /// The median of the last third.
    pub last: f64,
    /// By how much the last may be larger than the first.
    pub allowed: f64,
}

impl Trend {
    /// Compares the last third of a series with its first. Medians, so that single figures decide nothing: what leaks does so
    /// again and again, and grows from one third to the other by two thirds of all that leaks. `None`: too few to tell.
    #[must_use]
    pub fn of(series: &[f64], bound: Bound) -> Option<Self> {
        let third = series.len() / 3;
        let first = median(&series[..third]).filter(|_| series.len() >= FEWEST)?;
        let last = median(&series[series.len() - third..])?;
        Some(Self { samples: series.len(), first, last, allowed: bound.least.max(bound.share * first) })
    }

    /// Whether it has not grown. That something becomes less is nobody's harm.
    #[must_use]
    pub fn is_flat(&self) -> bool {
        self.last - self.first <= self.allowed
    }
}

/// The middle one. `None`: there is none.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { least: 2.0, share: 0.05 };

    /// 100, with some noise and an outlier at each end.
    fn still(n: usize) -> Vec<f64> {
        let mut series: Vec<f64> = (0..n).map(|k| 100.0 + [0.0, 1.5, -1.0, 0.5][k % 4]).collect();
        (series[1], series[n - 2]) = (20.0, 500.0);
        series
    }

    #[test]
    fn noise_and_outliers_are_flat() {
        let trend = Trend::of(&still(60), BOUND).unwrap();
        assert!(trend.is_flat(), "{trend:?}");
        assert_eq!((trend.samples, trend.allowed), (60, 5.0));
    }

    #[test]
    fn what_grows_steadily_is_found_and_what_shrinks_is_not() {
        for (step, flat) in [(0.2, false), (0.1, true), (-5.0, true)] {
            let series: Vec<f64> =
                still(60).iter().enumerate().map(|(k, value)| value + step * k as f64).collect();
            assert_eq!(Trend::of(&series, BOUND).unwrap().is_flat(), flat, "{step}");
        }
        // One more every tenth time, where two are allowed.
        let tasks: Vec<f64> = (0..60).map(|k| f64::from(30 + k / 10)).collect();
        assert!(!Trend::of(&tasks, Bound { least: 2.0, share: 0.0 }).unwrap().is_flat());
    }

    #[test]
    fn a_step_in_the_middle_is_growth() {
        let series: Vec<f64> = (0..30).map(|k| if k < 15 { 100.0 } else { 110.0 }).collect();
        assert!(!Trend::of(&series, BOUND).unwrap().is_flat());
    }

    #[test]
    fn few_figures_say_nothing() {
        assert_eq!(Trend::of(&[1.0; 5], BOUND), None);
        assert_eq!(Trend::of(&[], BOUND), None);
        assert!(Trend::of(&[1.0; 6], BOUND).is_some());
    }
}
