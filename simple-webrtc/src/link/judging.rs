//! What is said once a second about how a connection does, or at once if less may be sent.

use std::time::{Duration, Instant};

use super::drive::Live;
use super::{End, Link, now};
use crate::advice::{Advice, Adviser};
use crate::event::{EventKind, LinkState};
use crate::loss::Loss;
use crate::meter::Measured;
use crate::quality::{Conditions, JITTER_BUFFER, Judge, PoorSide, Rating};

/// How often. 1 s: our peers report once a second.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Judging {
    judge: Judge,
    adviser: Adviser,
    poor: Option<PoorSide>,
    /// Packets of sound when this was last looked at, and when there were more than before: sent and received.
    sent: Seen,
    received: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    packets: u64,
    grew: Option<Instant>,
}

impl Seen {
    /// Whether there were packets in the last two seconds. A side that is silent on purpose is not poor.
    fn is_flowing(&mut self, now: Instant, packets: u64) -> bool {
        if packets > self.packets {
            (self.packets, self.grew) = (packets, Some(now));
        }
        self.grew.is_some_and(|at| now.saturating_duration_since(at) < 2 * INTERVAL)
    }
}

fn rating(round_trip: Option<Duration>, jitter_buffer: Duration, loss: Option<Loss>) -> Option<Rating> {
    let loss = loss?;
    // A round trip that is not known yet costs nothing.
    let conditions = Conditions::new(round_trip.unwrap_or_default(), loss.share);
    Some(Conditions { jitter_buffer, burst_ratio: loss.burst_ratio, ..conditions }.rate())
}

impl<K: Clone + Ord + Send + Sync + 'static> Link<K> {
    pub(super) async fn judge(&mut self, live: &mut Live) -> Result<(), End> {
        if live.steps.state() != LinkState::Connected {
            // What was said of a path that does not work holds no more, and is said again.
            live.judging.adviser = Adviser::default();
            return Ok(());
        }
        let now = now();
        let meter = live.connection.meter();
        let (measured, round_trip) = (meter.measured(now), meter.round_trip(now));
        let counted = self.probe.counters.snapshot(0, 0);
        let judging = &mut live.judging;
        let (speaks, hears) = (
            judging.sent.is_flowing(now, counted.sent.packets),
            judging.received.is_flowing(now, counted.received.packets),
        );
        let played = self.probe.counters.reception().played(now).filter(|_| hears);
        let ours = rating(round_trip, self.probe.playout_delay(), played);
        let theirs = rating(round_trip, JITTER_BUFFER, lacking(&measured).filter(|_| speaks));
        let quality = judging.judge.judge(now, ours, theirs);
        let advice = advice(&measured, round_trip);
        self.probe.judged(quality, advice);
        let told = judging.adviser.say(now, advice);
        if judging.poor != quality.poor {
            judging.poor = quality.poor;
            self.emit(EventKind::Quality(quality)).await?;
        }
        if let Some(advice) = told {
            self.emit(EventKind::Advice(advice)).await?;
        }
        Ok(())
    }

    /// Less may be sent than before, which does not wait for the next second.
    pub(super) async fn advise(&mut self, live: &mut Live) -> Result<(), End> {
        if live.steps.state() != LinkState::Connected {
            return Ok(());
        }
        let (now, meter) = (now(), live.connection.meter());
        let advice = advice(&meter.measured(now), meter.round_trip(now));
        match live.judging.adviser.say(now, advice) {
            Some(advice) => self.emit(EventKind::Advice(advice)).await,
            None => Ok(()),
        }
    }
}

/// What the peer lacks of our sound. How it comes in bursts is known of what was lost on the way, if at all.
fn lacking(measured: &Measured) -> Option<Loss> {
    let [reported, _] = measured.reported;
    let burst_ratio = measured.path_loss.map_or(1.0, |loss| loss.burst_ratio);
    reported.map(|reported| Loss { share: reported.loss, burst_ratio })
}

fn advice(measured: &Measured, round_trip: Option<Duration>) -> Advice {
    let [reported, _] = measured.reported;
    Advice {
        bitrate: measured.limit,
        loss: reported.map(|reported| reported.loss),
        path_loss: measured.path_loss.map(|loss| loss.share),
        burst_ratio: measured.path_loss.map(|loss| loss.burst_ratio),
        // Who only listens acts on it, too: by it a jitter buffer knows what was sent again.
        round_trip,
        congested: measured.congested,
    }
}
