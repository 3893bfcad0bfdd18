//! All figures, what became of them, and chance.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use blink_tests::soak::trend::{Bound, Trend};
use serde_json::{Value, json};

use crate::{child::Child, linux::Arguments};

/// Resident memory. What is freed is not always given back, so this follows the largest that was ever used: an arena more
/// is 1 MB here and there (glibc), and a tenth covers what fragments. One connection that is kept per call is 0.3 MB each.
const RSS: Bound = Bound { least: 4096.0, share: 0.1 };
/// What is allocated. All that is remembered is bounded (ARCHITECTURE.md, "Bounds"); what fills in a hundred calls is some
/// hundred bytes for each of them.
const HEAP: Bound = Bound { least: 256.0, share: 0.05 };
/// Open files, and sockets: none is left of a call. Two, since a connection between nodes may just be made anew.
const FILES: Bound = Bound { least: 2.0, share: 0.0 };
/// Tasks: none is left of a call. Some come and go with timers.
const TASKS: Bound = Bound { least: 3.0, share: 0.0 };

/// Which series: the part of the run, whose, and of what.
type Name = (&'static str, &'static str, &'static str);

#[derive(Debug)]
struct Series {
    values: Vec<f64>,
    bound: Bound,
    /// Once it is judged.
    trend: Option<Option<Trend>>,
}

/// All that was seen.
#[derive(Debug)]
pub(crate) struct Report {
    settings: Value,
    series: BTreeMap<Name, Series>,
    counts: BTreeMap<&'static str, u32>,
    told: Vec<(&'static str, f64)>,
}

impl Report {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let Arguments { calls, minutes, hours, drift, seed, .. } = arguments;
        let settings = json!({
            "calls": calls, "minutes": minutes, "hours": hours, "drift_ppm": drift, "seed": seed,
            "optimised": !cfg!(debug_assertions),
        });
        Self { settings, series: BTreeMap::new(), counts: BTreeMap::new(), told: Vec::new() }
    }

    /// One more figure of a series.
    pub(crate) fn figure(
        &mut self,
        part: &'static str,
        whose: &'static str,
        what: &'static str,
        value: f64,
        bound: Bound,
    ) {
        let empty = || Series { values: Vec::new(), bound, trend: None };
        self.series.entry((part, whose, what)).or_insert_with(empty).values.push(value);
    }

    /// A whole series.
    pub(crate) fn series(
        &mut self,
        part: &'static str,
        whose: &'static str,
        what: &'static str,
        values: Vec<f64>,
        bound: Bound,
    ) {
        self.series.insert((part, whose, what), Series { values, bound, trend: None });
    }

    /// What a phone takes now.
    pub(crate) fn figures(&mut self, part: &'static str, phone: &mut Child) -> Result<(), String> {
        let now = phone.figures()?;
        for (what, value, bound) in [
            ("memory, kB", now.rss, RSS),
            ("heap, kB", now.heap, HEAP),
            ("open files", now.files, FILES),
            ("sockets", now.sockets, FILES),
            ("tasks", now.tasks, TASKS),
        ] {
            self.figure(part, phone.name, what, value, bound);
        }
        Ok(())
    }

    /// Something went wrong on purpose.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A figure that is not judged.
    pub(crate) fn tell(&mut self, what: &'static str, value: f64) {
        self.told.push((what, value));
    }

    /// Judges all series of a part, without their beginning.
    pub(crate) fn judge(&mut self, part: &str, warm: f64) {
        for series in self.series.iter_mut().filter(|(name, _)| name.0 == part).map(|(_, series)| series) {
            let from = (series.values.len() as f64 * warm) as usize;
            series.trend = Some(Trend::of(&series.values[from..], series.bound));
        }
    }

    /// Whether all series were judged, and none has grown.
    pub(crate) fn is_flat(&self) -> bool {
        let flat = |series: &Series| series.trend.flatten().is_some_and(|trend| trend.is_flat());
        !self.series.is_empty() && self.series.values().all(flat)
    }

    /// Everything as JSON.
    pub(crate) fn write(&self, path: &Path, error: Option<&String>) -> io::Result<()> {
        let of = |((part, whose, what), series): (&Name, &Series)| {
            let trend = series.trend.flatten();
            json!({
                "part": part, "whose": whose, "what": what, "values": series.values,
                "first": trend.map(|t| t.first), "last": trend.map(|t| t.last),
                "allowed": trend.map(|t| t.allowed), "flat": trend.map(|t| t.is_flat()),
            })
        };
        let series: Vec<Value> = self.series.iter().map(of).collect();
        let told: BTreeMap<_, _> = self.told.iter().copied().collect();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let all = json!({
            "at": at, "settings": self.settings, "told": told, "troubles": self.counts, "series": series,
            "error": error, "flat": self.is_flat() && error.is_none(),
        });
        fs::write(path, serde_json::to_string_pretty(&all)? + "\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:10} {:17} {:27} {:>5} {:>10} {:>10} {:>8} {:>8}",
            "part", "whose", "what", "n", "after", "at the end", "growth", "allowed"
        )?;
        for ((part, whose, what), Series { values, trend, .. }) in &self.series {
            write!(f, "{part:10} {whose:17} {what:27} {:>5} ", values.len())?;
            match trend {
                Some(Some(trend)) => {
                    let Trend { first, last, allowed, .. } = trend;
                    let result = if trend.is_flat() { "" } else { "  GROWS" };
                    writeln!(f, "{first:>10.1} {last:>10.1} {:>8.1} {allowed:>8.1}{result}", last - first)?;
                }
                _ => writeln!(f, "  TOO FEW TO TELL")?,
            }
        }
        for (what, value) in &self.told {
            writeln!(f, "{what}: {value:.1}")?;
        }
        for (what, count) in &self.counts {
            writeln!(f, "troubles, {what}: {count}")?;
        }
        Ok(())
    }
}

/// What a seed decides.
#[derive(Debug)]
pub(crate) struct Luck(u64);

impl Luck {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    pub(crate) fn seconds(&mut self, from: f64, to: f64) -> Duration {
        let share = self.below(1 << 20) as f64 / f64::from(1_u32 << 20);
        Duration::from_secs_f64(from + (to - from) * share)
    }
}
