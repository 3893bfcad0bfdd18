//! The whole engine in virtual time, over a network in memory: what takes how long, to the millisecond.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{self, Instant};

use super::net::{Net, Wires};
use super::*;
use crate::addresses::{Interfaces, System};
use crate::*;

const FIRST: Generation = Generation(1);
/// Virtual, so nobody waits for it.
const LONG: Duration = Duration::from_secs(600);

type Name = &'static str;

pub(super) struct Side {
    pub(super) peers: Peers<Name>,
    pub(super) events: Events<Name>,
    pub(super) track: LocalTrack,
    engine: Arc<Webrtc>,
}

impl Side {
    pub(super) fn new(net: &Arc<Net>, paced: bool, config: ConfigBuilder) -> Self {
        Self::on(net, paced, config, Arc::new(System))
    }

    pub(super) fn on(
        net: &Arc<Net>,
        paced: bool,
        config: ConfigBuilder,
        machine: Arc<dyn Interfaces>,
    ) -> Self {
        let engine = Arc::new(Webrtc { sockets: Arc::new(Wires(net.clone())), paced, ..Webrtc::default() });
        let config = config.build().expect("valid");
        let (peers, events) = Peers::with_ports(config, engine.clone(), machine).expect("inside a runtime");
        let track = LocalTrack::audio();
        peers.add_track(&track).expect("the first");
        Self { peers, events, track, engine }
    }
}

pub(super) fn loopback() -> ConfigBuilder {
    Config::builder().addresses([IpAddr::from(Ipv4Addr::LOCALHOST)])
}

pub(super) struct Pair {
    pub(super) net: Arc<Net>,
    pub(super) a: Side,
    pub(super) b: Side,
    tracks: Vec<(bool, RemoteTrack)>,
    /// Channels that are open, and whether at the first side.
    pub(super) channels: Vec<(bool, Channel)>,
    pub(super) certificates: Vec<(bool, Certificates)>,
    ended: Vec<TrackId>,
    keyframes: usize,
    changes: Vec<bool>,
    paces: Vec<Arc<Pace>>,
    /// What becomes of a description on its way.
    pub(super) rewrite: Option<fn(&str) -> String>,
}

impl Pair {
    pub(super) fn new(delay: Duration, paced: bool) -> Self {
        Self::with(Net::new(delay), paced, loopback)
    }

    pub(super) fn with(net: Arc<Net>, paced: bool, config: impl Fn() -> ConfigBuilder) -> Self {
        let (a, b) = (Side::new(&net, paced, config()), Side::new(&net, paced, config()));
        Self {
            net,
            a,
            b,
            tracks: Vec::new(),
            channels: Vec::new(),
            certificates: Vec::new(),
            ended: Vec::new(),
            keyframes: 0,
            changes: Vec::new(),
            paces: Vec::new(),
            rewrite: None,
        }
    }

    /// Carries what is signalled, which takes no time, until both sides have the state. How long that took.
    pub(super) async fn until(&mut self, wanted: LinkState) -> Duration {
        let start = Instant::now();
        let (mut a_has, mut b_has) = (false, false);
        time::timeout(LONG, async {
            while !(a_has && b_has) {
                let (has, state) = self.step().await;
                *(if has { &mut a_has } else { &mut b_has }) = state == wanted;
            }
        })
        .await
        .expect("in virtual time");
        start.elapsed()
    }

    /// The next state of either side, and whether it is of the first one.
    pub(super) async fn step(&mut self) -> (bool, LinkState) {
        loop {
            let (event, is_a) = tokio::select! {
                event = self.a.events.recv() => (event.expect("open stream"), true),
                event = self.b.events.recv() => (event.expect("open stream"), false),
            };
            let to = if is_a { &self.b } else { &self.a };
            let rewrite = |description: Description| match self.rewrite {
                Some(rewrite) => Description::parse(description.kind(), &rewrite(description.as_str()))
                    .expect("still a description"),
                None => description,
            };
            let applied = match event.kind {
                EventKind::LocalDescription(description) => match description.kind() {
                    DescriptionKind::Offer if to.peers.generation(&"peer").is_some() => {
                        to.peers.apply(&"peer", FIRST, Remote::Offer(rewrite(description)))
                    }
                    DescriptionKind::Offer => to.peers.accept("peer", FIRST, rewrite(description)),
                    DescriptionKind::Answer => {
                        to.peers.apply(&"peer", FIRST, Remote::Answer(rewrite(description)))
                    }
                },
                EventKind::LocalCandidate(candidate) => {
                    to.peers.apply(&"peer", FIRST, Remote::Candidate(candidate))
                }
                EventKind::State(state) => return (is_a, state),
                EventKind::Secured(certificates) => {
                    self.certificates.push((is_a, certificates));
                    Ok(())
                }
                EventKind::RemoteTrack(track) => {
                    self.tracks.push((is_a, track));
                    Ok(())
                }
                EventKind::RemoteTrackEnded(id) => {
                    self.ended.push(id);
                    Ok(())
                }
                EventKind::AddressChanged { lost } => {
                    self.changes.push(lost);
                    Ok(())
                }
                EventKind::KeyframeWanted(_) => {
                    self.keyframes += 1;
                    Ok(())
                }
                EventKind::Channel(channel) => {
                    self.channels.push((is_a, channel));
                    Ok(())
                }
                _ => Ok(()),
            };
            applied.expect("the other side takes it");
        }
    }

    pub(super) async fn connect(&mut self) -> Duration {
        self.a.peers.dial("peer", FIRST).expect("dial");
        let up = self.until(LinkState::Connected).await;
        for side in [&self.a, &self.b] {
            self.paces.append(&mut side.engine.paces.lock().expect("not poisoned"));
        }
        up
    }

    /// Changes of addresses since this was last asked, and whether the one in use was lost.
    pub(super) fn changes(&mut self) -> Vec<bool> {
        std::mem::take(&mut self.changes)
    }

    /// The next event, and whose it is: 0 for the first side, 1 for the second.
    pub(super) async fn event(&mut self) -> (usize, Event<Name>) {
        tokio::select! {
            event = self.a.events.recv() => (0, event.expect("open stream")),
            event = self.b.events.recv() => (1, event.expect("open stream")),
        }
    }

    pub(super) fn keep_track(&mut self, at_a: bool, track: RemoteTrack) {
        self.tracks.push((at_a, track));
    }

    /// Whether a packet of a video waits at this side.
    pub(super) async fn hears_video(&mut self, at_a: bool) -> bool {
        for (is_a, track) in &mut self.tracks {
            if *is_a == at_a && track.kind() == TrackKind::Video {
                let packet = time::timeout(Duration::ZERO, track.recv()).await;
                if matches!(packet, Ok(Some(_))) {
                    return true;
                }
            }
        }
        false
    }

    /// Carries signals for this long.
    pub(super) async fn run(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while time::timeout_at(until, self.step()).await.is_ok() {}
    }

    pub(super) fn take_track(&mut self, at_a: bool, kind: TrackKind) -> Option<RemoteTrack> {
        let at = self.tracks.iter().position(|(is_a, track)| *is_a == at_a && track.kind() == kind)?;
        Some(self.tracks.remove(at).1)
    }

    /// Tracks of either side that have ended since this was last asked.
    pub(super) fn ended(&mut self) -> Vec<TrackId> {
        std::mem::take(&mut self.ended)
    }

    /// Requests for keyframes since this was last asked.
    pub(super) fn keyframes(&mut self) -> usize {
        std::mem::take(&mut self.keyframes)
    }

    /// Both ends of a channel of this name, once they are there: that of the first side first.
    pub(super) async fn channel(&mut self, name: &str) -> (Channel, Channel) {
        let find = |channels: &mut Vec<(bool, Channel)>, at_a| {
            let at = channels.iter().position(|(is_a, channel)| *is_a == at_a && channel.name() == name)?;
            Some(channels.remove(at).1)
        };
        let (mut a, mut b) = (None, None);
        let start = Instant::now();
        loop {
            a = a.or_else(|| find(&mut self.channels, true));
            b = b.or_else(|| find(&mut self.channels, false));
            if a.is_some() && b.is_some() {
                break a.zip(b).expect("both");
            }
            assert!(start.elapsed() < LONG, "{name}: {a:?} {b:?}");
            drop(time::timeout(Duration::from_millis(10), self.step()).await);
        }
    }

    /// The first side speaks every 20 ms from now on until the second one hears it. How long that takes.
    pub(super) async fn heard(&mut self) -> Duration {
        let start = Instant::now();
        let mut tick = time::interval(Duration::from_millis(20));
        let mut track = self.take_track(false, TrackKind::Audio);
        // What is still there is from before.
        while let Some(track) = &mut track
            && time::timeout(Duration::ZERO, track.recv()).await.is_ok()
        {}
        for n in 0.. {
            assert!(start.elapsed() < LONG);
            tick.tick().await;
            self.a.track.write(frame(n)).expect("fits");
            match &mut track {
                Some(track) => {
                    if time::timeout(Duration::from_millis(19), track.recv()).await.is_ok() {
                        break;
                    }
                }
                None => {
                    drop(time::timeout(Duration::from_millis(19), self.step()).await);
                    track = self.take_track(false, TrackKind::Audio);
                }
            }
        }
        self.tracks.extend(track.map(|track| (false, track)));
        start.elapsed()
    }

    pub(super) async fn shutdown(self) {
        tokio::join!(self.a.peers.shutdown(), self.b.peers.shutdown());
    }
}

pub(super) fn frame(n: u32) -> Frame {
    Frame { payload: Bytes::from_static(b"opus"), timestamp: n * 960, marker: n == 0, audio_level: None }
}

/// When each side's first datagram of this content type left, after `start`.
fn first(net: &Net, content: u8, start: Instant) -> Duration {
    let sent = net.log().into_iter().find(|(_, _, first)| *first == content).expect("was sent");
    sent.0.duration_since(start)
}

const HANDSHAKE: u8 = 22;

/// The side that shakes hands first knows the path after one check and one nomination, three ways. Its ClientHello leaves
/// at that moment and not with the next check; without our turns of the loop it would, or they are of no use any more.
#[tokio::test(start_paused = true)]
async fn a_handshake_does_not_wait_for_the_next_check() {
    for delay in [7, 33] {
        let delay = Duration::from_millis(delay);
        let mut hello = [Duration::ZERO; 2];
        for (paced, hello) in [true, false].into_iter().zip(&mut hello) {
            let mut pair = Pair::new(delay, paced);
            let start = Instant::now();
            let up = pair.connect().await;
            *hello = first(&pair.net, HANDSHAKE, start);
            println!(
                "{delay:?} one way, turned {paced}: ClientHello after {hello:?}, connected after {up:?}"
            );
            if paced {
                // Six ways of DTLS 1.2 with its cookie.
                assert_eq!((*hello, up), (3 * delay, 9 * delay));
            }
            pair.shutdown().await;
        }
        assert!(hello[0] < hello[1], "{hello:?}");
    }
}

/// The longest that a packet takes of those that leave every 20 ms.
pub(super) async fn one_way(pair: &mut Pair) -> Duration {
    pair.heard().await;
    let (_, mut track) = pair.tracks.pop().expect("heard");
    while time::timeout(Duration::from_millis(200), track.recv()).await.is_ok() {}
    let mut tick = time::interval(Duration::from_millis(20));
    let mut sent = Vec::new();
    for n in 1_000..1_100 {
        tick.tick().await;
        sent.push(Instant::now().into_std());
        pair.a.track.write(frame(n)).expect("fits");
    }
    let mut worst = Duration::ZERO;
    for (n, sent) in (1_000..).zip(sent) {
        let packet = track.recv().await.expect("open");
        assert_eq!(packet.timestamp, n * 960);
        worst = worst.max(packet.arrival.duration_since(sent));
    }
    pair.tracks.push((false, track));
    worst
}

/// A relayed packet leaves at once. By itself the engine hands it to its relay client after that has been flushed, so that
/// it leaves with whatever comes next.
#[tokio::test(start_paused = true)]
async fn a_relayed_packet_does_not_wait_for_the_next_one() {
    let delay = Duration::from_millis(3);
    let (mut way, mut up) = ([Duration::ZERO; 2], [Duration::ZERO; 2]);
    for (at, paced) in [true, false].into_iter().enumerate() {
        let net = Net::new(delay);
        let server = format!("turn:{}", relay::start(&net));
        let config = || loopback().ice_server(IceServer::turn(&server, "user", "secret")).relay_only(true);
        let mut pair = Pair::with(net, paced, config);
        up[at] = pair.connect().await;
        way[at] = one_way(&mut pair).await;
        println!("relayed, turned {paced}: connected after {:?}, one way {:?}", up[at], way[at]);
        let stats = pair.a.peers.stats(&"peer").await.expect("connected");
        assert!(stats.route.is_some_and(|route| route.local == CandidateKind::Relay), "{stats:?}");
        pair.shutdown().await;
    }
    // To our server, to the peer's, to the peer.
    assert_eq!(way[0], 3 * delay);
    assert!(way[1] > way[0] && up[1] > up[0], "{way:?} {up:?}");
}

/// On a direct path that is up the loop is turned by nothing but packets and its own timers.
#[tokio::test(start_paused = true)]
async fn a_direct_path_costs_no_turns() {
    let delay = Duration::from_millis(3);
    let mut pair = Pair::new(delay, true);
    pair.connect().await;
    pair.heard().await;
    let turned = || pair.paces.iter().map(|pace| pace.turned()).sum::<u64>();
    let before = turned();
    assert!(before > 0);
    assert_eq!(one_way(&mut pair).await, delay);
    let turned = || pair.paces.iter().map(|pace| pace.turned()).sum::<u64>();
    assert_eq!(turned(), before);
    pair.shutdown().await;
}

/// An outage heals by itself as soon as the network is back and one more check has gone there and back. It is noticed
/// 1.5 s after the last answer, and given up a minute later.
#[tokio::test(start_paused = true)]
async fn an_outage_heals_by_itself_and_a_longer_one_is_the_end() {
    let delay = Duration::from_millis(20);
    let limits = Timeouts::default();
    for outage in [1, 5, 33, 58] {
        let mut pair = Pair::new(delay, true);
        pair.connect().await;
        pair.heard().await;
        pair.net.set_down(true);
        let start = Instant::now();
        if outage > 1 {
            let noticed = pair.until(LinkState::Disconnected).await;
            assert!(noticed <= limits.ice_disconnected + 2 * limits.ice_keepalive, "{noticed:?}");
        }
        time::sleep_until(start + Duration::from_secs(outage)).await;
        pair.net.set_down(false);
        let silent = pair.heard().await;
        println!("an outage of {outage} s: heard again {silent:?} after it");
        // One frame on its way, and the one check that may be needed before it.
        assert!(silent <= limits.ice_keepalive + 4 * delay, "{outage} s: {silent:?}");
        let stats = pair.a.peers.stats(&"peer").await.expect("still there");
        let states: Vec<LinkState> = stats.timeline.iter().map(|(state, _)| *state).collect();
        assert!(!states.contains(&LinkState::Reconnecting), "{states:?}");
        pair.shutdown().await;
    }
    let mut pair = Pair::new(delay, true);
    pair.connect().await;
    pair.net.set_down(true);
    let lost = LinkState::Failed { step: Step::Connected, reason: FailReason::PathLost };
    let given_up = pair.until(lost).await;
    println!("given up after {given_up:?}");
    let most = limits.ice_disconnected + limits.ice_failed + 2 * limits.ice_keepalive;
    assert!(given_up > limits.ice_failed && given_up <= most, "{given_up:?}");
}

/// The address changes in mid-call: what went through the old sockets is gone, a restart brings fresh ones.
#[tokio::test(start_paused = true)]
async fn a_restart_brings_sound_back_after_a_change_of_address() {
    let delay = Duration::from_millis(20);
    for side in 0..2 {
        let mut pair = Pair::new(delay, true);
        pair.connect().await;
        pair.heard().await;
        pair.net.kill_present();
        let own = if side == 0 { &pair.a } else { &pair.b };
        own.peers.restart(&"peer", FIRST).expect("restart");
        let up = pair.until(LinkState::Connected).await;
        let heard = pair.heard().await;
        println!("restart by {side}: connected after {up:?}, heard after another {heard:?}");
        // Check, answer and nomination, each at the next turn of the other.
        assert!(up <= 4 * delay + Timeouts::default().ice_check_interval, "{up:?}");
        assert!(heard <= delay + Duration::from_millis(20), "{heard:?}");
        pair.shutdown().await;
    }
}
