//! Numbers of each link and of the sound, once a second.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use host_media::{EngineStats, Latency, PeerStats};
use simple_webrtc::{Generation, LinkState, Peers, Stats};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Key, map,
    sound::{Followed, Sound},
};
use crate::{
    ports::media::MediaEvent,
    proto::{LinkId, MediaInput},
    stats::{LinkStats, ReceivedSound, SoundLatency, SoundStats},
};

/// Bytes of an RTP header without extensions (RFC 3550 section 5.1).
const RTP_HEADER: u64 = 12;

/// How often; as often as the events of the command line say.
const PERIOD: Duration = Duration::from_secs(1);

/// Over less, a packet more or less would be a tenth of what is told.
const LEAST_SPAN: Duration = Duration::from_millis(200);

/// Bytes of a connection up to a time.
#[derive(Clone, Copy)]
struct Counted {
    at: Instant,
    sent: u64,
    received: u64,
}

/// Bits per second since the last look at each connection, or since it connected: a call of two seconds has numbers too, and
/// whoever asks in the second one need not be lucky.
#[derive(Default)]
struct Rates(BTreeMap<LinkId, Counted>);

impl Rates {
    fn keep(&mut self, wanted: impl Fn(&LinkId) -> bool) {
        self.0.retain(|link, _| wanted(link));
    }

    /// Sent and received.
    fn next(&mut self, link: LinkId, since: Instant, now: Counted) -> Option<(f64, f64)> {
        let before = *self.0.entry(link).or_insert(Counted { at: since, sent: 0, received: 0 });
        let span = now.at.saturating_duration_since(before.at);
        if span < LEAST_SPAN {
            return None;
        }
        self.0.insert(link, now);
        let rate = |new: u64, old: u64| bits(new.saturating_sub(old)) / span.as_secs_f64();
        Some((rate(now.sent, before.sent), rate(now.received, before.received)))
    }
}

pub(super) async fn every_second(peers: Peers<Key>, sound: Arc<Sound>, events: mpsc::Sender<MediaEvent>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut rates = Rates::default();
    loop {
        ticks.tick().await;
        sound.look_at_recordings();
        let engine = sound.engine_stats();
        if let Some((call, stats)) = &engine {
            let input = MediaInput::Sound { call: *call, stats: Box::new(of_engine(stats)) };
            if events.send(input.into()).await.is_err() {
                return;
            }
        }
        let latency = engine.map(|(_, stats)| stats.latency).unwrap_or_default();
        let followed = sound.followed();
        rates.keep(|link| followed.iter().any(|f| f.link == *link));
        for Followed { link, plays, stats: audio } in followed {
            let (key, generation) = ((link.call, link.peer), Generation(link.generation));
            if peers.generation(&key) != Some(generation) {
                // It is over, and says so itself, but for what was said of it too late.
                sound.forget_path(key, link.generation);
                continue;
            }
            let Some(stats) = peers.stats(&key).await else { continue };
            sound.set_red(key, link.generation, stats.redundancy);
            let now = Counted { at: Instant::now(), sent: sent(&stats), received: received(&stats) };
            let connected = stats.timeline.iter().find(|(state, _)| *state == LinkState::Connected);
            let rate = connected.and_then(|(_, since)| rates.next(link, Instant::from_std(*since), now));
            if !plays {
                continue;
            }
            if let Some(audio) = audio {
                // Without a link there is nothing left to judge.
                let _ = peers.set_playout_delay(&key, generation, audio.jitter_buffer);
            }
            let stats = LinkStats {
                rtt_ms: stats.round_trip_ms,
                jitter_ms: stats.received.jitter_ms,
                loss_pct: loss(&stats).map(|l| 100.0 * l),
                sent_bps: rate.map(|(sent, _)| sent),
                received_bps: rate.map(|(_, received)| received),
                concealed_pct: audio.and_then(|a| a.concealed_percent()),
                jitter_buffer_ms: audio.map(|a| a.jitter_buffer.as_secs_f64() * 1000.0),
                mos: stats.quality.ours.map(simple_webrtc::Rating::mos),
                mos_there: stats.quality.theirs.map(simple_webrtc::Rating::mos),
                loss_there_pct: stats.reported.map(|r| 100.0 * r.loss),
                route: stats.route.map(|r| map::route(r).to_owned()),
                sound: audio.map(|a| Box::new(of_peer(&a, &latency))),
            };
            if events.send(MediaInput::Stats { link, stats }.into()).await.is_err() {
                return;
            }
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What an app is told of a participant's sound. A test compares with all that there is.
fn of_peer(stats: &PeerStats, latency: &Latency) -> ReceivedSound {
    ReceivedSound {
        received: stats.received,
        lost: stats.lost,
        late: stats.late,
        duplicates: stats.duplicates,
        reordered: stats.reordered,
        malformed: stats.malformed,
        overflowed: stats.overflowed,
        resets: stats.resets,
        concealed_frames: stats.concealed_frames,
        fec_recovered: stats.fec_recovered,
        red_recovered: stats.red_recovered,
        dred_recovered: stats.dred_recovered,
        concealed_ms: ms(stats.concealed),
        concealed_late_ms: ms(stats.concealed_late),
        recovered_ms: ms(stats.recovered),
        comfort_noise_ms: ms(stats.comfort_noise),
        played_ms: ms(stats.played),
        shortened_ms: ms(stats.shortened),
        lengthened_ms: ms(stats.lengthened),
        stretches: stats.stretches,
        discarded_ms: ms(stats.discarded),
        jitter_target_ms: ms(stats.jitter_target),
        repair_delay_ms: ms(stats.repair_delay),
        mouth_to_ear_ms: ms(latency.mouth_to_ear(stats)),
        level: stats.level,
        speaking: stats.speaking,
    }
}

/// What an app is told of its own engine, likewise.
fn of_engine(stats: &EngineStats) -> SoundStats {
    SoundStats {
        ticks: stats.ticks,
        skipped_ticks: stats.skipped_ticks,
        frames: stats.frames,
        silent_frames: stats.silent_frames,
        level: stats.level,
        output_level: stats.output_level,
        bitrate: stats.bitrate,
        frame_ms: stats.frame.ms(),
        fec: stats.fec,
        dred_ms: ms(stats.dred),
        red_copies: stats.red_copies,
        red_spacing: stats.red_spacing,
        automuted: stats.voice.automuted,
        echo_delay_ms: stats.voice.echo_delay.map(ms),
        raised_priority: stats.raised_priority,
        capture_xruns: stats.capture_xruns,
        playout_xruns: stats.playout_xruns,
        latency: of_latency(&stats.latency),
    }
}

fn of_latency(stages: &Latency) -> SoundLatency {
    SoundLatency {
        capture_device_us: us(stages.capture_device),
        capture_ring_us: us(stages.capture_ring),
        capture_resampler_us: us(stages.capture_resampler),
        processing_us: us(stages.processing),
        frame_us: us(stages.frame),
        lookahead_us: us(stages.lookahead),
        mixer_us: us(stages.mixer),
        playout_resampler_us: us(stages.playout_resampler),
        playout_ring_us: us(stages.playout_ring),
        playout_device_us: us(stages.playout_device),
    }
}

#[allow(clippy::cast_precision_loss, reason = "bits of one second fit a float exactly")]
fn bits(bytes: u64) -> f64 {
    (bytes * 8) as f64
}

/// Of the last 5 s; before they are over, since the start.
#[allow(clippy::cast_precision_loss, reason = "a share of packet counts, for people")]
fn loss(stats: &Stats) -> Option<f64> {
    let (received, lost) = (stats.received.packets, stats.received.lost);
    stats.received.loss.or_else(|| (received > 0).then(|| lost as f64 / (received + lost) as f64))
}

fn sent(stats: &Stats) -> u64 {
    stats.sent.bytes + RTP_HEADER * stats.sent.packets
}

fn received(stats: &Stats) -> u64 {
    stats.received.bytes + RTP_HEADER * stats.received.packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_look_has_a_rate_and_one_too_soon_has_none_and_loses_nothing() {
        let call = crate::id::CallId::from_bytes([1; 16]);
        let link = LinkId { call, peer: crate::id::Identity::from_seed([2; 32]).public(), generation: 1 };
        let began = Instant::now();
        let after =
            |ms: u64, sent: u64| Counted { at: began + Duration::from_millis(ms), sent, received: 2 * sent };
        let mut rates = Rates::default();
        assert_eq!(rates.next(link, began, after(500, 1_000)), Some((16_000.0, 32_000.0)));
        assert_eq!(rates.next(link, began, after(600, 2_000)), None);
        assert_eq!(rates.next(link, began, after(1_500, 3_000)), Some((16_000.0, 32_000.0)));
        // Forgotten with its connection: the next one counts from its own beginning.
        rates.keep(|_| false);
        let again = began + Duration::from_secs(2);
        assert_eq!(rates.next(link, again, after(2_100, 100)), None);
        assert_eq!(rates.next(link, again, after(3_000, 1_000)), Some((8_000.0, 16_000.0)));
    }

    /// The names of the fields of a type that prints itself as derived.
    fn fields(printed: &str) -> Vec<String> {
        let top = |line: &&str| line.starts_with("    ") && !line.starts_with("     ");
        let name = |line: &str| line.trim().split(':').next().map(str::to_owned);
        printed.lines().filter(top).filter_map(name).filter(|n| !n.starts_with(['}', ']', ')'])).collect()
    }

    /// Everything that the engine has is told, or is left out on purpose.
    fn all_told(theirs: &str, ours: &str, left_out: &[&str]) {
        let ours = fields(ours);
        assert!(!ours.is_empty());
        let told = |name: &String| {
            ["", "_ms", "_us"].iter().any(|unit| ours.contains(&format!("{name}{unit}")))
                || left_out.contains(&name.as_str())
        };
        let missing: Vec<_> = fields(theirs).into_iter().filter(|name| !told(name)).collect();
        assert_eq!(missing, [""; 0], "tell them, or say why not");
    }

    #[test]
    fn all_numbers_of_the_engine_are_told_or_left_out_on_purpose() {
        let latency = Latency::default();
        let peer = PeerStats::default();
        // The app has set the gain; `jitter_buffer` is in `LinkStats` itself.
        let left_out = ["gain", "jitter_buffer"];
        all_told(&format!("{peer:#?}"), &format!("{:#?}", of_peer(&peer, &latency)), &left_out);
        let engine = EngineStats::default();
        let left_out = [
            // In `LocalMedia`.
            "muted",
            "deafened",
            "has_source",
            "has_sink",
            // In `latency`, stage by stage.
            "capture_fill",
            "playout_fill",
            "capture_latency",
            "encoder_latency",
            "playout_latency",
            // Below.
            "voice",
        ];
        all_told(&format!("{engine:#?}"), &format!("{:#?}", of_engine(&engine)), &left_out);
        // The app has set the processing; its delay is in `latency`; the reduction is the canceller's own guess.
        let left_out = ["processing", "latency", "echo_reduction"];
        all_told(&format!("{:#?}", engine.voice), &format!("{:#?}", of_engine(&engine)), &left_out);
        all_told(&format!("{latency:#?}"), &format!("{:#?}", of_latency(&latency)), &[]);
    }

    #[test]
    fn a_field_that_nobody_tells_is_found() {
        let missing =
            std::panic::catch_unwind(|| all_told("A {\n    a: 1,\n    b: 2,\n}", "A {\n    a: 1,\n}", &[]));
        assert!(missing.is_err());
    }
}
