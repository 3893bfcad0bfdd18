//! What the bare engine does that we work around or keep away from. Each test fails when that has changed: then look whether
//! what we do about it is still needed (`docs/upgrading.md`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_TELEPHONE_EVENT;
use rtc::peer_connection::transport::{RTCDtlsTransportState, RTCIceRole};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::statistics::StatsSelector;
use rtc::statistics::report::RTCStatsReportEntry;
use tokio::time::{self, Instant};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::media_stream::track_remote::TrackRemoteEvent;
use webrtc::peer_connection::{
    MediaEngine, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateType,
    RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
};

use super::bare::{Event, Pair, Place, Side, Voice, turn};
use super::net::Net;
use super::relay;

const DELAY: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

/// Why a `LocalTrack` has an engine's track for each connection.
#[tokio::test(start_paused = true)]
async fn a_track_of_the_engine_sounds_on_one_connection_only() {
    let net = Net::new(DELAY);
    let voice = || Voice::new(1);
    let (first, second) = (voice(), voice());
    let shared = first.track.clone();
    let mut pairs = Vec::new();
    for mut voice in [first, second] {
        voice.track = shared.clone();
        let place = Place::on(&net);
        let (a, b) = (Side::speaking(&place, &voice).await, Side::speaking(&place, &Voice::new(2)).await);
        let mut pair = Pair::of(a, b, voice);
        pair.negotiate(false).await;
        pair.until(RTCPeerConnectionState::Connected).await;
        pairs.push(pair);
    }
    for n in 0..50 {
        assert!(pairs[0].voice.write(n).await);
        time::sleep(Duration::from_millis(20)).await;
    }
    for pair in &mut pairs {
        pair.run(Duration::from_secs(1)).await;
    }
    let heard: Vec<bool> = pairs.iter().map(|pair| pair.remote.is_some()).collect();
    assert_eq!(heard, [false, true], "the last one to bind it is the only one");
}

/// Why tracks come in with a transceiver of their own, and that before the first description.
#[tokio::test(start_paused = true)]
async fn a_track_that_joins_a_receiver_is_never_heard() {
    for receiver in [true, false] {
        let place = Place::on(&Net::new(DELAY));
        let (a, b) = (Side::new(&place).await, Side::new(&place).await);
        let voice = Voice::new(1);
        if receiver {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: Vec::new(),
                send_encodings: Vec::new(),
            };
            a.engine.add_transceiver_from_kind(RtpCodecKind::Audio, Some(init)).await.expect("a receiver");
        } else {
            a.engine.add_transceiver_from_track(voice.track.clone(), None).await.expect("a transceiver");
        }
        let mut pair = Pair::of(a, b, voice);
        pair.negotiate(false).await;
        pair.until(RTCPeerConnectionState::Connected).await;
        if receiver {
            pair.a.engine.add_track(pair.voice.track.clone()).await.expect("a track");
            pair.negotiate(false).await;
        }
        let heard = pair.heard_within(Duration::from_secs(5)).await;
        assert_eq!(heard.is_none(), receiver, "receiver {receiver}: {heard:?}");
    }
}

/// Why no sender ever gets another track.
#[tokio::test(start_paused = true)]
async fn a_track_that_replaces_another_one_is_not_bound() {
    let (mut pair, _) = Pair::connect(&Place::on(&Net::new(DELAY))).await;
    pair.heard().await;
    let sender = pair.a.engine.get_senders().await.into_iter().next().expect("one");
    let other = Voice::new(1);
    sender.replace_track(other.track.clone()).await.expect("it says that it is replaced");
    for n in 0..50 {
        other.write(1_000 + n).await;
        time::sleep(Duration::from_millis(20)).await;
    }
    let track = pair.remote.clone().expect("heard before");
    while let Ok(Some(event)) = time::timeout(Duration::from_secs(1), track.poll()).await {
        if let TrackRemoteEvent::OnRtpPacket(packet) = event {
            assert!(packet.header.sequence_number < 1_000, "it is heard now");
        }
    }
}

/// Why tracks of the peer are read without ever waiting for who listens.
#[tokio::test(start_paused = true)]
async fn what_nobody_polls_is_dropped_beyond_256_packets() {
    let (mut pair, _) = Pair::connect(&Place::on(&Net::new(DELAY))).await;
    pair.heard().await;
    for _ in 0..400 {
        pair.write().await;
        time::sleep(Duration::from_millis(20)).await;
    }
    let track = pair.remote.clone().expect("heard");
    let mut kept = 0;
    while let Ok(Some(event)) = time::timeout(Duration::from_millis(100), track.poll()).await {
        kept += usize::from(matches!(event, TrackRemoteEvent::OnRtpPacket(_)));
    }
    assert!((200..=257).contains(&kept), "{kept} of 400");
}

/// Why everything is closed on every path.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_dropped_goes_on() {
    let net = Net::new(DELAY);
    let (pair, _) = Pair::connect(&Place::on(&net)).await;
    let Pair { a, b, .. } = pair;
    drop(a);
    time::sleep(LONG).await;
    let recent = net.log().into_iter().rev().take(20).map(|(_, from, _)| from);
    let talking: BTreeSet<_> = recent.collect();
    assert_eq!(talking.len(), 2, "it still checks its path: {talking:?}");
    b.close().await;
}

/// Holds what it is told of, as an app might.
#[derive(Default)]
struct Holder(Mutex<Option<Arc<dyn DataChannel>>>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Holder {
    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        *self.0.lock().expect("not poisoned") = Some(channel);
    }
}

/// Why our handler hands channels on and keeps none.
#[tokio::test]
async fn a_handler_that_keeps_its_channel_is_never_freed() {
    for keeps in [false, true] {
        let handler = Arc::new(Holder::default());
        let engine = PeerConnectionBuilder::new()
            .with_handler(handler.clone())
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("loopback");
        let engine: Arc<dyn webrtc::peer_connection::PeerConnection> = Arc::new(engine);
        let channel = engine.create_data_channel("x", None).await.expect("a channel");
        *handler.0.lock().expect("not poisoned") = keeps.then_some(channel);
        let left = Arc::downgrade(&handler);
        drop(handler);
        engine.close().await.expect("closed");
        drop(engine);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(left.upgrade().is_some(), keeps, "keeps {keeps}");
    }
}

/// Why `with_discard_local_candidates_during_ice_restart` is on.
#[tokio::test(start_paused = true)]
async fn a_restart_on_the_old_sockets_brings_nothing_after_a_change_of_address() {
    for discards in [false, true] {
        let net = Net::new(DELAY);
        let mut place = Place::on(&net);
        if discards {
            place.settings = Some(|| {
                SettingEngineBuilder::new().with_discard_local_candidates_during_ice_restart(true).build()
            });
        }
        let (mut pair, _) = Pair::connect(&place).await;
        pair.heard().await;
        net.kill_present();
        pair.negotiate(true).await;
        pair.run(Duration::from_secs(20)).await;
        let heard = pair.heard_within(Duration::from_secs(5)).await;
        assert_eq!(heard.is_some(), discards, "discards {discards}: {heard:?}");
    }
}

/// Why a path that works is not restarted.
#[tokio::test(start_paused = true)]
async fn a_restart_breaks_before_it_makes() {
    let (mut pair, _) = Pair::connect(&Place::on(&Net::new(DELAY))).await;
    pair.heard().await;
    pair.a.offer(true).await;
    let mut sent = 0;
    for n in 0..50 {
        sent += usize::from(pair.voice.write(1_000 + n).await);
        time::sleep(Duration::from_millis(20)).await;
    }
    let track = pair.remote.clone().expect("heard before");
    let mut heard = 0;
    while let Ok(Some(event)) = time::timeout(Duration::from_secs(1), track.poll()).await {
        if let TrackRemoteEvent::OnRtpPacket(packet) = event {
            heard += usize::from(packet.header.sequence_number >= 1_000);
        }
    }
    assert!(sent > 0 && heard == 0, "{heard} of {sent} were heard though the peer knows of no restart");
}

/// Why the time until a path counts as failed is as long as a call waits. The two times add up.
#[tokio::test(start_paused = true)]
async fn what_has_failed_never_heals() {
    let net = Net::new(DELAY);
    let mut place = Place::on(&net);
    place.settings = Some(|| {
        let [disconnected, failed, keepalive] = [3, 6, 1].map(|secs| Some(Duration::from_secs(secs)));
        SettingEngineBuilder::new().with_ice_timeouts(disconnected, failed, keepalive).build()
    });
    let (mut pair, _) = Pair::connect(&place).await;
    net.set_down(true);
    let start = Instant::now();
    pair.until(RTCPeerConnectionState::Failed).await;
    let failed = start.elapsed();
    assert!(failed >= Duration::from_secs(8) && failed <= Duration::from_secs(11), "{failed:?}");
    net.set_down(false);
    pair.run(LONG).await;
    assert_eq!(pair.states, [RTCPeerConnectionState::Failed; 2], "it heals now");
}

/// Why of sound only Opus is registered. Browsers offer telephone-event at two clock rates, and the answer names one of
/// the payload types twice.
#[tokio::test(start_paused = true)]
async fn telephone_event_spoils_an_answer() {
    fn opus(media: &mut MediaEngine) {
        register(media, "audio/opus", 48_000, 2, 111);
    }
    fn both(media: &mut MediaEngine) {
        opus(media);
        register(media, MIME_TYPE_TELEPHONE_EVENT, 48_000, 0, 110);
        register(media, MIME_TYPE_TELEPHONE_EVENT, 8_000, 0, 126);
    }
    fn register(media: &mut MediaEngine, mime: &str, clock_rate: u32, channels: u16, payload_type: u8) {
        let (mime_type, sdp_fmtp_line, rtcp_feedback) = (mime.to_owned(), String::new(), Vec::new());
        let rtp_codec = RTCRtpCodec { mime_type, clock_rate, channels, sdp_fmtp_line, rtcp_feedback };
        let codec = RTCRtpCodecParameters { rtp_codec, payload_type };
        media.register_codec(codec, RtpCodecKind::Audio).expect("registered");
    }
    let net = Net::new(DELAY);
    let a = Side::speaking(&Place::on(&net), &Voice::new(1)).await;
    let opus_line = "a=rtpmap:111 opus/48000/2\r\n";
    let browser = a.offer(false).await.sdp.replace("SAVPF 111", "SAVPF 111 110 126").replace(
        opus_line,
        &format!("{opus_line}a=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\n"),
    );
    let answering: [fn(&mut MediaEngine); 2] = [opus, both];
    let mut answers = Vec::new();
    for codecs in answering {
        let b = Side::new(&Place { codecs: Some(codecs), ..Place::on(&net) }).await;
        let answer = b.answer(RTCSessionDescription::offer(browser.clone()).expect("valid")).await.sdp;
        let line = answer.lines().find(|line| line.starts_with("m=audio")).expect("a section");
        answers.push(line.rsplit_once("SAVPF ").expect("a list").1.to_owned());
        b.close().await;
    }
    assert_eq!(answers, ["111", "111 110 110"], "nothing is spoilt any more");
}

/// Unreliable channels count repetitions and not time, since time once lost messages that had some left. In virtual time that
/// is not seen: with ten round trips left, all arrive.
#[tokio::test(start_paused = true)]
async fn partial_reliability_by_time_keeps_what_has_time_left() {
    let net = Net::new(DELAY);
    let (mut pair, _) = Pair::connect(&Place::on(&net)).await;
    let channel = |id| RTCDataChannelInit {
        negotiated: Some(id),
        ordered: false,
        max_packet_life_time: Some(200),
        ..Default::default()
    };
    let a = pair.a.engine.create_data_channel("timed", Some(channel(500))).await.expect("a channel");
    let b = pair.b.engine.create_data_channel("timed", Some(channel(500))).await.expect("a channel");
    pair.run(Duration::from_secs(2)).await;
    net.lose_every(7);
    let reader = tokio::spawn(async move {
        let mut heard = 0;
        while let Ok(Some(event)) = time::timeout(LONG, b.poll()).await {
            heard += usize::from(matches!(event, DataChannelEvent::OnMessage(_)));
        }
        heard
    });
    for _ in 0..300 {
        a.send(BytesMut::from(&[7; 50][..])).await.expect("sent");
        time::sleep(Duration::from_millis(20)).await;
    }
    net.lose_every(0);
    let heard = reader.await.expect("read");
    assert_eq!(heard, 300, "messages with 200 ms left at a round trip of 20 ms");
}

/// Why addresses are chosen by binding, and connections prepared by ourselves.
#[tokio::test(start_paused = true)]
async fn addresses_of_a_nat_and_the_engines_own_pool_do_nothing() {
    let mut place = Place::on(&Net::new(DELAY));
    place.pool = 4;
    place.settings = Some(|| {
        let ips = vec!["203.0.113.9".to_owned()];
        SettingEngineBuilder::new().with_nat_1to1_ips(ips, RTCIceCandidateType::Host).build()
    });
    let mut side = Side::speaking(&place, &Voice::new(1)).await;
    let early = time::timeout(LONG, side.event()).await;
    assert!(early.is_err(), "it gathers before there is a description");
    side.offer(false).await;
    let mut candidates = Vec::new();
    loop {
        match time::timeout(LONG, side.event()).await.expect("gathered") {
            Event::Candidate(candidate) => candidates.push(candidate.candidate),
            Event::Gathered => break,
            _ => {}
        }
    }
    assert!(candidates.iter().all(|candidate| !candidate.contains("203.0.113.9")), "{candidates:?}");
    side.close().await;
}

/// What is gathered with this server: candidates, and errors that are told.
async fn gathered(net: &Arc<Net>, url: &str) -> (usize, usize) {
    let place = Place { servers: vec![turn(url)], relay_only: true, ..Place::on(net) };
    let mut side = Side::speaking(&place, &Voice::new(1)).await;
    side.offer(false).await;
    let (mut candidates, mut errors) = (0, 0);
    while let Ok(event) = time::timeout(LONG, side.event()).await {
        match event {
            Event::Candidate(_) => candidates += 1,
            Event::CandidateError => errors += 1,
            _ => {}
        }
    }
    side.close().await;
    (candidates, errors)
}

/// Why servers over TCP and TLS go through tunnels of ours, and answers of servers are read as they pass.
#[tokio::test(start_paused = true)]
async fn servers_that_are_of_no_use_are_not_told_of() {
    let net = Net::new(DELAY);
    let works = relay::start(&net);
    assert_eq!(gathered(&net, &format!("turn:{works}")).await, (1, 0), "this one works");
    let refuses = relay::start_refusing(&net);
    assert_eq!(gathered(&net, &format!("turn:{refuses}")).await, (0, 0), "a wrong password");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.set_nonblocking(true).expect("set");
    let url = format!("turn:{}?transport=tcp", listener.local_addr().expect("bound"));
    assert_eq!(gathered(&net, &url).await, (0, 0), "TCP");
    assert!(listener.accept().is_err(), "it connects over TCP now");
}

/// Why a handshake has a time limit of ours, and alerts are read as they pass. At the end ICE falls silent on one side, and
/// nothing ever says why.
#[tokio::test(start_paused = true)]
async fn a_wrong_fingerprint_never_ends_a_handshake() {
    let mut pair = Pair::new(&Place::on(&Net::new(DELAY))).await;
    let answer = pair.b.answer(pair.a.offer(false).await).await.sdp;
    let line = answer.lines().find(|line| line.starts_with("a=fingerprint:")).expect("one").to_owned();
    let wrong = answer.replace(&line, &format!("a=fingerprint:sha-256 {}", ["AB"; 32].join(":")));
    let wrong = RTCSessionDescription::answer(wrong).expect("valid");
    pair.a.engine.set_remote_description(wrong).await.expect("set");
    pair.run(5 * LONG).await;
    for side in [&pair.a, &pair.b] {
        let dtls = side.engine.sctp().await.expect("negotiated").transport();
        let state = dtls.state().await.expect("there");
        assert_eq!(state, RTCDtlsTransportState::Connecting, "it ends by itself now");
    }
    assert_eq!(pair.states[1], RTCPeerConnectionState::Connecting, "the other side is told now");
}

/// Why what the peer receives is told by interceptors of ours.
#[tokio::test(start_paused = true)]
async fn statistics_of_what_the_peer_receives_stay_zero() {
    let net = Net::new(Duration::from_millis(50));
    let (mut pair, _) = Pair::connect(&Place::on(&net)).await;
    pair.heard().await;
    net.lose_every(5);
    for _ in 0..1_000 {
        pair.write().await;
        time::sleep(Duration::from_millis(20)).await;
    }
    let now = Instant::now().into_std();
    let report = pair.a.engine.get_stats(now, StatsSelector::None).await;
    let told = report.iter().filter(|entry| match entry {
        RTCStatsReportEntry::RemoteInboundRtp(stats) => {
            stats.round_trip_time > 0.0 || stats.fraction_lost > 0.0
        }
        _ => false,
    });
    assert_eq!(told.count(), 0, "they are of use now");
}

/// Nothing is done about it: whoever can send to the socket of a connection can turn its part in ICE around, which costs it a
/// few checks while it connects, and nothing later.
#[tokio::test(start_paused = true)]
async fn a_check_that_nobody_signed_changes_the_role() {
    let net = Net::new(DELAY);
    let (mut pair, _) = Pair::connect(&Place::on(&net)).await;
    let role = async |side: &Side| {
        let ice = side.engine.sctp().await.expect("negotiated").transport().ice_transport();
        ice.role().await.expect("there")
    };
    assert_eq!(role(&pair.a).await, RTCIceRole::Controlling);
    // A Binding request with ICE-CONTROLLING and the largest number, and no MESSAGE-INTEGRITY (RFC 8489, RFC 8445 section 7.1.2).
    let mut request = vec![0x00, 0x01, 0x00, 0x0c, 0x21, 0x12, 0xa4, 0x42];
    request.extend([9; 12]);
    request.extend([0x80, 0x2a, 0x00, 0x08]);
    request.extend([0xff; 8]);
    let stranger = net.open();
    let sockets: BTreeSet<_> = net.log().into_iter().map(|(_, from, _)| from).collect();
    for socket in sockets {
        stranger.send_to(&request, socket).await.expect("sent");
    }
    pair.run(Duration::from_secs(1)).await;
    assert_eq!(role(&pair.a).await, RTCIceRole::Controlled, "it looks at the signature first now");
    assert!(pair.heard().await <= 2 * DELAY, "the path that is in use stays");
}
