//! What is learnt of a connection from the RTP and RTCP packets that pass: rates, what the peer reports, round trip, repairs.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::congestion::{Congestion, Delay, Fate};
use crate::loss::Loss;
use crate::rate::Rate;
use crate::standing::Standing;
use crate::stats::{Repairs, Reported};
use crate::track::{AUDIO_CLOCK_RATE, TrackKind, VIDEO_CLOCK_RATE};

/// Sender reports that are remembered. 16: one a second for each of five sources, and a round trip of 3 s.
const SENDER_REPORTS: usize = 16;
/// Reports of the peer that are averaged. 5 s: the interval of RFC 3550 section 6.2, which a peer may keep to.
const REPORTED_FOR: Duration = Duration::from_secs(5);
/// Most reports that are averaged. 64: twelve a second, far more than any peer needs.
const MAX_REPORTS: usize = 64;
/// A report is of use for this long. 11 s: two intervals of a peer that reports every 5 s, and one second.
const REPORT_LASTS: Duration = Duration::from_secs(11);
/// Streams of each direction that are told apart: what a connection has of tracks and more.
const MAX_STREAMS: usize = 16;

/// What a report of the peer says of one of our streams (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) fraction_lost: u8,
    pub(crate) total_lost: u32,
    /// In units of the stream's clock.
    pub(crate) jitter: u32,
    pub(crate) last_sender_report: u32,
    /// In 1/65536 s.
    pub(crate) delay: u32,
}

/// Shared by what sees the packets and by who asks.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    inner: Mutex<Inner>,
    lowered: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    local: Vec<(u32, TrackKind)>,
    remote: Vec<(u32, TrackKind)>,
    sent: [Rate; 2],
    received: [Rate; 2],
    heard: [Heard; 2],
    /// The middle of the NTP time in our sender reports, and when each left.
    sender_reports: VecDeque<(u32, Instant)>,
    round_trip: Option<(Instant, Duration)>,
    /// The same from the checks of the path.
    checked: Option<(Instant, Duration)>,
    /// When anything of the peer's sound, videos or reports came last.
    came: Option<Instant>,
    repairs: Repairs,
    paths: u64,
    standing: Standing,
    congestion: Congestion,
}

/// What the peer hears of ours, of one kind.
#[derive(Debug, Default)]
struct Heard {
    reports: u64,
    /// When, and the share that was lost.
    recent: VecDeque<(Instant, f64)>,
    total_lost: u64,
    jitter_ms: f64,
}

/// What is known now, all at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Of sound and of videos, in bit/s.
    pub(crate) sent: [Option<u64>; 2],
    pub(crate) received: [Option<u64>; 2],
    pub(crate) reported: [Option<Reported>; 2],
    pub(crate) round_trip: Option<Duration>,
    pub(crate) repairs: Repairs,
    pub(crate) path_loss: Option<Loss>,
    pub(crate) limit: Option<u32>,
    pub(crate) congested: bool,
}

fn index(kind: TrackKind) -> usize {
    match kind {
        TrackKind::Audio => 0,
        TrackKind::Video => 1,
    }
}

fn of(streams: &[(u32, TrackKind)], ssrc: u32) -> Option<TrackKind> {
    streams.iter().find(|(stream, _)| *stream == ssrc).map(|(_, kind)| *kind)
}

fn bind(streams: &mut Vec<(u32, TrackKind)>, ssrc: u32, kind: TrackKind) {
    streams.retain(|(stream, _)| *stream != ssrc);
    if streams.len() < MAX_STREAMS {
        streams.push((ssrc, kind));
    }
}

impl Meter {
    pub(crate) fn bind_local(&self, ssrc: u32, kind: TrackKind) {
        let mut inner = self.lock();
        bind(&mut inner.local, ssrc, kind);
        if kind == TrackKind::Video {
            inner.congestion.on_video();
        }
    }

    pub(crate) fn bind_remote(&self, ssrc: u32, kind: TrackKind) {
        bind(&mut self.lock().remote, ssrc, kind);
    }

    pub(crate) fn unbind(&self, ssrc: u32) {
        let mut inner = self.lock();
        inner.local.retain(|(stream, _)| *stream != ssrc);
        inner.remote.retain(|(stream, _)| *stream != ssrc);
    }

    /// An RTP packet of this size leaves, the header included.
    pub(crate) fn on_sent(&self, now: Instant, ssrc: u32, bytes: usize, again: bool) {
        let mut inner = self.lock();
        let Some(kind) = of(&inner.local, ssrc) else { return };
        inner.sent[index(kind)].on_bytes(now, bytes);
        inner.repairs.resent += u64::from(again);
        if kind == TrackKind::Audio && !again {
            let waits = inner.standing.waits(now);
            let videos = inner.local.iter().any(|(_, kind)| *kind == TrackKind::Video);
            let stood = if videos { Duration::ZERO } else { inner.standing.stood() };
            self.feed(inner, |inner| inner.congestion.on_sound(now, waits, stood));
        }
    }

    /// Tells who waits if less may be sent after this than before.
    fn feed(&self, mut inner: MutexGuard<'_, Inner>, feed: impl FnOnce(&mut Inner)) {
        let before = inner.congestion.limit();
        feed(&mut inner);
        let lowered =
            inner.congestion.limit().is_some_and(|limit| before.is_none_or(|before| limit < before));
        drop(inner);
        if lowered {
            self.lowered.notify_one();
        }
    }

    pub(crate) fn on_received(&self, now: Instant, ssrc: u32, bytes: usize) {
        let mut inner = self.lock();
        inner.came = Some(now);
        let Some(kind) = of(&inner.remote, ssrc) else { return };
        inner.received[index(kind)].on_bytes(now, bytes);
    }

    /// A sender report of ours leaves.
    pub(crate) fn on_sender_report(&self, now: Instant, ntp: u64) {
        let mut inner = self.lock();
        if inner.sender_reports.len() >= SENDER_REPORTS {
            inner.sender_reports.pop_front();
        }
        inner.sender_reports.push_back(((ntp >> 16) as u32, now));
    }

    /// The peer says how it receives one of our streams.
    pub(crate) fn on_report(&self, now: Instant, ssrc: u32, report: Report) {
        let mut inner = self.lock();
        let Some(kind) = of(&inner.local, ssrc) else { return };
        // RFC 3550 section 6.4.1: what has passed since, less what the peer kept it. Zero stands for "no report yet".
        let sent = inner.sender_reports.iter().rev().find(|(middle, _)| *middle == report.last_sender_report);
        if let (Some((_, sent)), true) = (sent, report.last_sender_report != 0) {
            let kept = Duration::from_secs_f64(f64::from(report.delay) / 65_536.0);
            // The peer's clock may be coarse; a round trip cannot be negative.
            let trip = now.saturating_duration_since(*sent).saturating_sub(kept);
            inner.round_trip = Some((now, trip));
            inner.standing.on_round_trip(now, trip);
        }
        let clock = if kind == TrackKind::Audio { AUDIO_CLOCK_RATE } else { VIDEO_CLOCK_RATE };
        let loss = f64::from(report.fraction_lost) / 256.0;
        let heard = &mut inner.heard[index(kind)];
        heard.reports += 1;
        heard.jitter_ms = f64::from(report.jitter) * 1000.0 / f64::from(clock);
        // 24 bits with a sign: duplicates can make it negative.
        heard.total_lost = u64::from(if report.total_lost >> 23 == 0 { report.total_lost } else { 0 });
        heard.recent.push_back((now, loss));
        heard.prune(now);
        if kind == TrackKind::Audio {
            let sending = inner.sent[0].bits_per_second(now);
            self.feed(inner, |inner| inner.congestion.on_report(now, loss, sending));
        }
    }

    /// The peer says what became of single packets.
    pub(crate) fn on_fates(&self, now: Instant, fates: &[Fate], way: Delay) {
        let mut inner = self.lock();
        inner.came = Some(now);
        let [sound, videos] = [0, 1].map(|kind: usize| inner.sent[kind].bits_per_second(now));
        let sending = sound.into_iter().chain(videos).reduce(|a, b| a + b);
        let delay = inner.standing.with(now, way);
        self.feed(inner, |inner| inner.congestion.on_feedback(now, fates, delay, sending));
    }

    /// Comes back when less may be sent than before. For one who waits.
    pub(crate) async fn lowered(&self) {
        self.lowered.notified().await;
    }

    /// A check of the path in use was answered.
    pub(crate) fn on_checked(&self, now: Instant, round_trip: Duration) {
        let mut inner = self.lock();
        inner.checked = Some((now, round_trip));
        inner.standing.on_round_trip(now, round_trip);
    }

    /// What was known of the time a path takes is of another one.
    pub(crate) fn on_path_lost(&self) {
        let mut inner = self.lock();
        inner.standing.forget();
        inner.congestion.forget_path();
        inner.paths += 1;
    }

    /// How many paths there were before this one.
    pub(crate) fn paths(&self) -> u64 {
        self.lock().paths
    }

    /// Packets that we ask the peer for again, and those that then came.
    pub(crate) fn on_asked(&self, packets: usize) {
        self.lock().repairs.asked += packets as u64;
    }

    pub(crate) fn on_healed(&self) {
        self.lock().repairs.healed += 1;
    }

    /// The peer asks us for packets.
    pub(crate) fn on_requested(&self, packets: usize) {
        self.lock().repairs.requested += packets as u64;
    }

    /// From RTCP, else from checks of the path.
    pub(crate) fn round_trip(&self, now: Instant) -> Option<Duration> {
        let inner = self.lock();
        let known = |at: &Option<(Instant, Duration)>| {
            at.filter(|(at, _)| now.saturating_duration_since(*at) <= REPORT_LASTS).map(|(_, trip)| trip)
        };
        known(&inner.round_trip).or_else(|| known(&inner.checked))
    }

    /// Whether the peer was heard within so long, checks of the path apart.
    pub(crate) fn hears(&self, now: Instant, within: Duration) -> bool {
        self.lock().came.is_some_and(|at| now.saturating_duration_since(at) < within)
    }

    /// Whether this is a source of sound and more packets would make the path worse.
    pub(crate) fn is_sound_congested(&self, now: Instant, ssrc: u32) -> bool {
        let inner = self.lock();
        of(&inner.local, ssrc) == Some(TrackKind::Audio) && inner.congestion.is_congested(now)
    }

    pub(crate) fn measured(&self, now: Instant) -> Measured {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let round_trip =
            inner.round_trip.filter(|(at, _)| now.saturating_duration_since(*at) <= REPORT_LASTS);
        Measured {
            sent: [0, 1].map(|kind: usize| inner.sent[kind].bits_per_second(now)),
            received: [0, 1].map(|kind: usize| inner.received[kind].bits_per_second(now)),
            reported: [0, 1].map(|kind: usize| inner.heard[kind].reported(now)),
            round_trip: round_trip.map(|(_, trip)| trip),
            repairs: inner.repairs,
            path_loss: inner.congestion.loss(now),
            limit: inner.congestion.limit(),
            congested: inner.congestion.is_congested(now),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The lock is never held across anything that can panic half way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// Keeps those of the last five seconds, and the last one in any case.
    fn prune(&mut self, now: Instant) {
        while self.recent.len() > MAX_REPORTS
            || self.recent.len() > 1
                && self
                    .recent
                    .front()
                    .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= REPORTED_FOR)
        {
            self.recent.pop_front();
        }
    }

    fn reported(&mut self, now: Instant) -> Option<Reported> {
        self.prune(now);
        let (last, _) = self.recent.back()?;
        if now.saturating_duration_since(*last) > REPORT_LASTS {
            return None;
        }
        let loss = self.recent.iter().map(|(_, loss)| loss).sum::<f64>() / self.recent.len() as f64;
        Some(Reported { loss, lost: self.total_lost, jitter_ms: self.jitter_ms, reports: self.reports })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(fraction_lost: u8, last_sender_report: u32, delay: u32) -> Report {
        Report { fraction_lost, total_lost: 7, jitter: 480, last_sender_report, delay }
    }

    #[test]
    fn the_round_trip_is_what_the_peer_did_not_keep() {
        let (meter, start) = (Meter::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        meter.bind_local(1, TrackKind::Audio);
        meter.on_checked(start, Duration::from_millis(33));
        meter.on_report(at(10), 1, report(0, 0, 0));
        assert_eq!(meter.measured(at(10)).round_trip, None, "zero is no report");
        assert_eq!(meter.round_trip(at(10)), Some(Duration::from_millis(33)));
        meter.on_sender_report(at(100), 0x1111_2222_3333_4444);
        meter.on_sender_report(at(1_100), 0x1111_2223_3333_4444);
        // An older one of ours, kept for half a second; then one that we never sent.
        meter.on_report(at(650), 1, report(0, 0x2222_3333, 32_768));
        meter.on_report(at(700), 1, report(0, 0xdead_beef, 0));
        assert_eq!(meter.measured(at(700)).round_trip, Some(Duration::from_millis(50)));
        assert_eq!(meter.round_trip(at(700)), Some(Duration::from_millis(50)));
        // Kept for longer than it was away: no panic, and nothing below zero.
        meter.on_report(at(1_200), 1, report(0, 0x2223_3333, u32::MAX));
        assert_eq!(meter.measured(at(1_200)).round_trip, Some(Duration::ZERO));
        assert_eq!(meter.measured(at(20_000)).round_trip, None, "too old");
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_while_packets_wait_begins_with_little_and_is_told_at_once() {
        let (meter, now) = (Meter::default(), Instant::now());
        let told = async |meter: &Meter| {
            tokio::time::timeout(Duration::from_millis(1), meter.lowered()).await.is_ok()
        };
        meter.bind_local(1, TrackKind::Audio);
        meter.on_checked(now, Duration::from_millis(100));
        meter.on_sent(now, 1, 100, false);
        assert_eq!((meter.measured(now).limit, told(&meter).await), (None, false));
        meter.on_checked(now, Duration::from_millis(350));
        meter.on_sent(now, 1, 100, false);
        assert_eq!(
            (meter.measured(now).limit, told(&meter).await),
            (None, false),
            "one may have been held up"
        );
        meter.on_checked(now, Duration::from_millis(400));
        meter.bind_local(2, TrackKind::Video);
        meter.on_sent(now, 2, 1_000, false);
        assert_eq!(meter.measured(now).limit, None, "no sound");
        meter.on_sent(now, 1, 100, false);
        assert_eq!(meter.measured(now).limit, Some(20_000));
        assert!(told(&meter).await && !told(&meter).await, "once");
        // It is not said again of a limit that is there, nor of who has spoken before.
        meter.on_sent(now, 1, 100, false);
        assert!(!told(&meter).await);
        let spoken = Meter::default();
        spoken.bind_local(1, TrackKind::Audio);
        spoken.on_checked(now, Duration::from_millis(100));
        for _ in 0..50 {
            spoken.on_sent(now, 1, 100, false);
        }
        spoken.on_checked(now, Duration::from_millis(350));
        spoken.on_checked(now, Duration::from_millis(350));
        spoken.on_sent(now, 1, 100, false);
        assert_eq!(spoken.measured(now).limit, None);
    }

    #[test]
    fn who_begins_where_the_handshake_waited_begins_with_some_unless_there_is_a_video() {
        let start = Instant::now();
        // Round trips each half second, and then sound.
        let meter = |trips: &[u64]| {
            let meter = Meter::default();
            meter.bind_local(1, TrackKind::Audio);
            for (n, ms) in (0..).zip(trips) {
                meter.on_checked(start + Duration::from_millis(500) * n, Duration::from_millis(*ms));
            }
            meter
        };
        let limit = |meter: &Meter, trips: &[u64]| {
            let now = start + Duration::from_millis(500) * trips.len() as u32;
            meter.on_sent(now, 1, 100, false);
            meter.measured(now).limit
        };
        let of = |trips: &[u64]| limit(&meter(trips), trips);
        assert_eq!(of(&[700, 300, 100, 110]), Some(26_000));
        assert_eq!(of(&[700, 600, 100, 110]), Some(20_000), "that place is narrow");
        assert_eq!(of(&[700, 120, 100, 110]), None, "one alone");
        assert_eq!(of(&[130, 190, 100, 170]), None, "jitter");
        assert_eq!(of(&[100, 110, 310, 320]), Some(20_000), "they wait still");
        // Somebody's phone rings, and the radio of this one stands still for a second.
        let ringing = [&[20; 20][..], &[1_020, 520], &[20; 40]].concat();
        assert_eq!(of(&ringing), None);
        for trips in [[700, 300, 100, 110], [700, 600, 100, 110]] {
            let late = meter(&trips);
            assert!(limit(&late, &trips).is_some());
            late.bind_local(2, TrackKind::Video);
            assert_eq!(late.measured(start).limit, None);
            let early = meter(&trips);
            early.bind_local(2, TrackKind::Video);
            assert_eq!(limit(&early, &trips), None);
        }
    }

    #[test]
    fn what_the_peer_hears_is_averaged_and_grows_old() {
        let (meter, start) = (Meter::default(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        meter.bind_local(1, TrackKind::Audio);
        meter.on_report(start, 2, report(255, 0, 0));
        assert!(meter.measured(start).reported[0].is_none(), "of a stream that is not ours");
        for (second, lost) in [(0, 128), (1, 0), (2, 64), (3, 64)] {
            meter.on_report(at(second), 1, report(lost, 0, 0));
        }
        let reported = meter.measured(at(3)).reported[0].expect("reported");
        assert_eq!((reported.loss, reported.lost, reported.reports, reported.jitter_ms), (0.25, 7, 4, 10.0));
        assert!(meter.measured(at(3)).reported[1].is_none());
        let later = meter.measured(at(7)).reported[0].expect("still");
        assert_eq!(later.loss, 0.25, "the last two are left");
        assert!(meter.measured(at(15)).reported[0].is_none());
    }

    #[test]
    fn streams_have_an_end_and_rates_their_kind() {
        let (meter, start) = (Meter::default(), Instant::now());
        for ssrc in 0..1_000 {
            meter.bind_remote(ssrc, TrackKind::Video);
        }
        assert_eq!(meter.lock().remote.len(), MAX_STREAMS);
        meter.unbind(3);
        meter.bind_remote(7_000, TrackKind::Audio);
        for n in 0..=50 {
            let now = start + Duration::from_millis(n * 20);
            meter.on_received(now, 7_000, 100);
            meter.on_received(now, 3, 100);
        }
        let measured = meter.measured(start + Duration::from_secs(1));
        assert!(measured.received[0].is_some_and(|rate| rate > 36_000), "{measured:?}");
        assert_eq!((measured.received[1], measured.sent), (None, [None, None]));
    }
}
