//! What is counted during a call, for its summary.

use std::collections::BTreeMap;

use serde::Serialize;
use warp_blink::{
    event::{Mark, Milestone, Summary},
    id::{CallId, PublicKey},
    stats::LinkStats,
};

use super::line::Line;

/// The most samples kept for a median: a day of them. Later ones are left out.
const MAX_SAMPLES: usize = 86_400;

/// What is known of a call that runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    peers: BTreeMap<PublicKey, Samples>,
}

/// One series for each statistic, in the order of [`numbers`].
type Samples = [Vec<f64>; 7];

/// A step of the setup timeline.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    peer: PublicKey,
    step: Milestone,
    /// Since the call began.
    ms: f64,
}

impl Entry {
    pub(super) fn is(&self, step: Milestone) -> bool {
        self.step == step
    }

    pub(super) fn ms(&self) -> f64 {
        self.ms
    }
}

/// A participant's medians.
#[derive(Debug, Serialize)]
pub(super) struct PeerSummary {
    pub(super) peer: PublicKey,
    /// Seconds that were measured.
    pub(super) samples: usize,
    #[serde(flatten, serialize_with = "super::line::numbers")]
    pub(super) median: LinkStats,
}

fn numbers(stats: &LinkStats) -> [Option<f64>; 7] {
    [
        stats.rtt_ms,
        stats.jitter_ms,
        stats.loss_pct,
        stats.sent_bps,
        stats.received_bps,
        stats.concealed_pct,
        stats.jitter_buffer_ms,
    ]
}

impl Tally {
    /// Counts one second of one participant.
    pub(super) fn add(&mut self, peer: PublicKey, stats: &LinkStats) {
        let series = self.peers.entry(peer).or_default();
        for (series, value) in series.iter_mut().zip(numbers(stats)) {
            if series.len() < MAX_SAMPLES {
                series.extend(value.filter(|v| v.is_finite()));
            }
        }
    }

    /// The last line of a call.
    pub(super) fn summary(mut self, call: CallId, summary: &Summary) -> Line {
        let mut timeline = Vec::new();
        let mut peers = Vec::new();
        for participant in &summary.participants {
            let peer = participant.peer;
            timeline.extend(entries(peer, &participant.timeline));
            let series = self.peers.remove(&peer).unwrap_or_default();
            let samples = series.iter().map(Vec::len).max().unwrap_or(0);
            let [rtt, jitter, loss, sent, received, concealed, buffer] = series.map(median);
            let mut median = LinkStats::default();
            median.rtt_ms = rtt;
            median.jitter_ms = jitter;
            median.loss_pct = loss;
            median.sent_bps = sent;
            median.received_bps = received;
            median.concealed_pct = concealed;
            median.jitter_buffer_ms = buffer;
            median.route = participant.stats.route.clone();
            peers.push(PeerSummary { peer, samples, median });
        }
        timeline.sort_by(|a: &Entry, b| a.ms.total_cmp(&b.ms));
        Line::Summary { call, timeline, peers }
    }
}

fn entries(peer: PublicKey, timeline: &[Mark]) -> impl Iterator<Item = Entry> {
    let start = timeline.first().map(|mark| mark.at);
    timeline.iter().map(move |mark| Entry {
        peer,
        step: mark.what,
        ms: start.map_or(0.0, |start| rounded(mark.at.since(start).as_secs_f64() * 1000.0)),
    })
}

/// To three digits behind the point: a microsecond, where the unit is a millisecond. The rest is noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The same statistics with numbers that a person can read.
pub(super) fn readable(mut stats: LinkStats) -> LinkStats {
    for value in [
        &mut stats.rtt_ms,
        &mut stats.jitter_ms,
        &mut stats.loss_pct,
        &mut stats.sent_bps,
        &mut stats.received_bps,
        &mut stats.concealed_pct,
        &mut stats.jitter_buffer_ms,
    ] {
        // What is no number is not known, and JSON has no word for it.
        *value = value.filter(|v| v.is_finite()).map(rounded);
    }
    stats
}

/// The middle one, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (upper, lower) = (values.get(values.len() / 2)?, values.get((values.len() - 1) / 2)?);
    Some(rounded((lower + upper) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0]), Some(5.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn what_is_not_known_counts_for_nothing() {
        let mut tally = Tally::default();
        let peer = warp_blink::id::Identity::from_seed([1; 32]).public();
        let mut stats = LinkStats::default();
        tally.add(peer, &stats);
        stats.rtt_ms = Some(4.0);
        tally.add(peer, &stats);
        stats.rtt_ms = Some(f64::NAN);
        tally.add(peer, &stats);
        let series = tally.peers.remove(&peer).unwrap();
        assert_eq!((&series[0], series[1].len()), (&vec![4.0], 0));
    }
}
