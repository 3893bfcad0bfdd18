//! Numbers of each link, once a second.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use simple_webrtc::{Generation, Peers, Stats};
use tokio::{sync::mpsc, time::Instant};

use super::{Key, map, sound::Sound};
use crate::{
    ports::media::MediaEvent,
    proto::{LinkId, MediaInput},
    stats::LinkStats,
};

/// Bytes of an RTP header without extensions (RFC 3550 section 5.1).
const RTP_HEADER: u64 = 12;

/// How often; as often as the events of the command line say.
const PERIOD: Duration = Duration::from_secs(1);

struct Before {
    at: Instant,
    sent: u64,
    received: u64,
}

pub(super) async fn every_second(peers: Peers<Key>, sound: Arc<Sound>, events: mpsc::Sender<MediaEvent>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before: BTreeMap<LinkId, Before> = BTreeMap::new();
    loop {
        ticks.tick().await;
        sound.look_for_readers();
        let playing = sound.playing();
        before.retain(|link, _| playing.iter().any(|(l, _)| l == link));
        for (link, audio) in playing {
            let Some(stats) = peers.stats(&(link.call, link.peer)).await else { continue };
            if let Some(audio) = audio {
                let (peer, generation) = ((link.call, link.peer), Generation(link.generation));
                // Without a link there is nothing left to judge.
                let _ = peers.set_playout_delay(&peer, generation, audio.jitter_buffer);
            }
            let now = Before { at: Instant::now(), sent: sent(&stats), received: received(&stats) };
            let rate = |new: u64, old: u64, since: Instant| {
                let seconds = now.at.duration_since(since).as_secs_f64();
                (seconds > 0.0).then(|| bits(new.saturating_sub(old)) / seconds)
            };
            let previous = before.get(&link);
            let stats = LinkStats {
                rtt_ms: stats.round_trip_ms,
                jitter_ms: stats.received.jitter_ms,
                loss_pct: loss(&stats).map(|l| 100.0 * l),
                sent_bps: previous.and_then(|b| rate(now.sent, b.sent, b.at)),
                received_bps: previous.and_then(|b| rate(now.received, b.received, b.at)),
                concealed_pct: audio.and_then(|a| a.concealed_percent()),
                jitter_buffer_ms: audio.map(|a| a.jitter_buffer.as_secs_f64() * 1000.0),
                mos: stats.quality.ours.map(simple_webrtc::Rating::mos),
                mos_there: stats.quality.theirs.map(simple_webrtc::Rating::mos),
                loss_there_pct: stats.reported.map(|r| 100.0 * r.loss),
                route: stats.route.map(|r| map::candidate_kind(r.local).to_owned()),
            };
            before.insert(link, now);
            if events.send(MediaInput::Stats { link, stats }.into()).await.is_err() {
                return;
            }
        }
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
