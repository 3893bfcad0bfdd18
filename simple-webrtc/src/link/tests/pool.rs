//! Connections that are prepared: taken, filled up, and thrown away when they are of no use any more.

use super::*;
use crate::engine::Signal;
use crate::engine::fake::Reply;

const FIRST: Generation = Generation(1);
const OFFERING: Duration = Duration::from_millis(300);

/// With an engine that takes its time to make an offer.
fn slow(config: ConfigBuilder) -> Side {
    let script = Script { offer: Reply::After(OFFERING), ..Script::default() };
    Side::new(config.build().expect("valid"), script)
}

fn with_server(port: u16) -> ConfigBuilder {
    Config::builder().ice_server(IceServer::stun(format!("stun:192.0.2.1:{port}")))
}

impl Side {
    /// The next connection that the engine makes, gathered.
    async fn gathered(&mut self) -> Arc<Fake> {
        let fake = self.connection().await;
        fake.candidate(1);
        fake.signal(Signal::GatheringDone);
        time::sleep(OFFERING + Duration::from_millis(1)).await;
        fake
    }

    /// No connection is made for this long.
    async fn makes_none(&mut self, time: Duration) {
        let made = time::timeout(time, self.made.recv()).await;
        assert!(made.is_err(), "{made:?}");
    }

    /// Dials, and how long the whole description took.
    async fn dial(&mut self, generation: u32) -> Duration {
        self.peers.dial("b", Generation(generation)).expect("dial");
        took(self.description()).await.1
    }
}

#[tokio::test(start_paused = true)]
async fn a_prepared_connection_is_there_at_once_and_another_one_takes_its_place() {
    let mut a = slow(Config::builder());
    a.peers.prepare(2).expect("room");
    let first = a.gathered().await;
    let second = a.gathered().await;
    a.makes_none(Duration::from_secs(600)).await;

    a.peers.dial("b", FIRST).expect("dial");
    let start = Instant::now();
    let offer = a.description().await;
    let EventKind::LocalCandidate(candidate) = a.next().await.kind else { panic!("its candidate") };
    assert_eq!(candidate.ufrag(), Some("s1"), "it belongs to that offer");
    assert!(matches!(a.next().await.kind, EventKind::GatheringDone));
    assert_eq!(start.elapsed(), Duration::ZERO);
    let third = a.gathered().await;
    a.makes_none(Duration::from_secs(20)).await;

    // From here on it is as any other.
    a.peers.apply(&"b", FIRST, Remote::Answer(answer_to(&offer, 1, "theirs"))).expect("apply");
    first.connect();
    while a.state().await != LinkState::Connected {}
    a.peers.hang_up(&"b", FIRST).expect("hang up");
    assert_eq!(a.state().await, LinkState::Closed { by_remote: false });
    assert_eq!((closes(&first), closes(&second), closes(&third)), (1, 0, 0));

    // The oldest first; whoever accepts takes none.
    assert_eq!(a.dial(2).await, Duration::ZERO);
    assert_eq!(a.gathered().await.calls(), [Call::Offer { restart: false }]);
    a.peers.accept("c", FIRST, offer).expect("accept");
    let answering = a.connection().await;
    a.description().await;
    assert!(matches!(answering.calls()[..], [Call::Answer(_)]));
    a.peers.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_than_were_wanted_and_none_unasked() {
    let mut a = Side::plain();
    a.makes_none(Duration::from_secs(60)).await;
    assert_eq!(a.peers.prepare(65), Err(Error::TooManyLinks { limit: 64 }));
    let mut all = Vec::new();
    for wanted in [3, 1, 2, 0, 1, 0] {
        a.peers.prepare(wanted).expect("room");
        let until = Instant::now() + Duration::from_secs(10);
        while let Ok(Some(fake)) = time::timeout_at(until, a.made.recv()).await {
            fake.candidate(1);
            all.push(fake);
            let open = all.iter().filter(|fake| closes(fake) == 0).count();
            assert!(open <= wanted, "{open} of {wanted}");
        }
        assert_eq!(all.iter().filter(|fake| closes(fake) == 0).count(), wanted);
    }
    assert!(all.iter().all(|fake| closes(fake) == 1), "each is closed, and once");
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_is_thrown_away_and_not_used_even_before_that() {
    let mut a = slow(with_server(1));
    a.peers.prepare(1).expect("room");
    // Time goes by.
    let old = a.gathered().await;
    let (fresh, after) = took(a.gathered()).await;
    let age = Timeouts::default().prepared;
    assert!(after + OFFERING >= age && after <= age + Duration::from_secs(1), "{after:?}");
    assert_eq!((closes(&old), closes(&fresh)), (1, 0));
    // Another network.
    a.machine.has(&["198.51.100.3", "127.0.0.1"]);
    let (other, after) = took(a.gathered()).await;
    assert_eq!(closes(&fresh), 1);
    assert!(after <= Duration::from_secs(1), "{after:?}");
    // An address of no interest.
    a.machine.has(&["198.51.100.3", "127.0.0.1", "fe80::1"]);
    a.makes_none(Duration::from_secs(5)).await;
    // Other credentials.
    a.peers.set_ice_servers(vec![IceServer::stun("stun:192.0.2.1:2")]).expect("valid");
    let (last, after) = took(a.gathered()).await;
    assert_eq!((closes(&other), closes(&last)), (1, 0));
    assert!(after <= Duration::from_secs(1), "{after:?}");
    // Nobody has had the time to look.
    a.peers.set_ice_servers(vec![IceServer::stun("stun:192.0.2.1:3")]).expect("valid");
    a.peers.dial("c", FIRST).expect("dial");
    assert_eq!(took(a.description()).await.1, OFFERING, "a fresh one");
    a.peers.hang_up(&"c", FIRST).expect("hang up");
    while !a.state().await.is_final() {}
    assert_eq!(closes(&last), 1);
    while a.made.try_recv().is_ok() {}
    let last = a.gathered().await;
    a.machine.has(&["203.0.113.9"]);
    assert_eq!(a.dial(1).await, OFFERING, "a fresh one");
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(closes(&last), 1);
    a.peers.shutdown().await;

    // Without servers nothing ages.
    let mut a = slow(Config::builder());
    a.peers.prepare(1).expect("room");
    a.gathered().await;
    a.makes_none(Duration::from_secs(24 * 3600)).await;
    assert_eq!(a.dial(1).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_that_failed_is_not_used() {
    for how in 0..3 {
        let mut a = slow(Config::builder());
        a.peers.prepare(1).expect("room");
        let fake = a.connection().await;
        time::sleep(OFFERING).await;
        match how {
            0 => fake.signal(Signal::Stopped),
            // No address at all.
            1 => fake.signal(Signal::GatheringDone),
            _ => time::sleep(Timeouts::default().gathering - Duration::from_millis(1)).await,
        }
        if how == 2 {
            time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(a.dial(1).await, OFFERING, "{how}: a fresh one");
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!(closes(&fake), 1, "{how}");
        a.peers.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_fails_is_not_bothered_all_the_time() {
    let mut a = Side::plain();
    let failing = Script {
        offer: Reply::Fail(crate::engine::EngineError::Failed { doing: "make an offer" }),
        ..Script::default()
    };
    a.engine.set(failing);
    a.peers.prepare(1).expect("room");
    let mut made = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    while let Ok(Some(fake)) = time::timeout_at(until, a.made.recv()).await {
        made.push(fake);
    }
    assert!((10..=13).contains(&made.len()), "{}", made.len());
    assert!(made.iter().all(|fake| closes(fake) == 1));
    // What is different now may work.
    let (_, after) = took(async {
        a.engine.set(Script::default());
        a.machine.has(&["198.51.100.3"]);
        a.connection().await
    })
    .await;
    assert!(after <= Duration::from_millis(500), "{after:?}");

    // One that never has anything to show either.
    a.engine.set(Script { open: Reply::Panic, ..Script::default() });
    a.machine.has(&["198.51.100.4"]);
    a.makes_none(Duration::from_secs(60)).await;
    a.engine.set(Script::default());
    let (_, after) = took(a.connection()).await;
    assert!(after <= Duration::from_secs(6), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn shutting_down_leaves_nothing_and_does_not_wait_for_an_engine_that_hangs() {
    let mut a = Side::plain();
    a.peers.prepare(2).expect("room");
    let (first, second) = (a.gathered().await, a.gathered().await);
    let (_, after) = took(a.peers.shutdown()).await;
    assert_eq!((closes(&first), closes(&second), after), (1, 1, Duration::ZERO));
    assert_eq!(a.peers.prepare(1), Err(Error::ShutDown));
    a.makes_none(LONG).await;

    for hanging in [
        Script { open: Reply::Never, ..Script::default() },
        Script { offer: Reply::Never, ..Script::default() },
        Script { close: Reply::Never, ..Script::default() },
    ] {
        let a = Side::new(Config::default(), hanging);
        a.peers.prepare(1).expect("room");
        time::sleep(Duration::from_secs(1)).await;
        let (_, after) = took(a.peers.shutdown()).await;
        assert!(after <= Timeouts::default().closing, "{hanging:?}: {after:?}");
    }

    // Nobody shuts down, but the last handle is gone.
    let mut a = Side::plain();
    a.peers.prepare(1).expect("room");
    let fake = a.gathered().await;
    let Side { peers, made, .. } = a;
    drop(peers);
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(closes(&fake), 1);
    drop(made);
}

#[tokio::test(start_paused = true)]
async fn a_video_that_a_prepared_connection_does_not_know_is_in_its_offer() {
    let mut a = slow(Config::builder());
    a.peers.prepare(1).expect("room");
    let fake = a.gathered().await;
    a.peers.add_track(&LocalTrack::video(VideoCodec::Vp8)).expect("room");
    a.dial(1).await;
    let offer = Call::Offer { restart: false };
    assert_eq!(fake.calls(), [offer.clone(), Call::AddVideo(VideoCodec::Vp8), offer]);
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        match a.next().await.kind {
            EventKind::LocalCandidate(_) => kinds.push("candidate"),
            EventKind::GatheringDone => kinds.push("done"),
            _ => {}
        }
    }
    assert_eq!(kinds, ["candidate", "done"]);
    a.peers.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_dialled_has_it_though_no_more_are_wanted_from_then_on() {
    let mut a = slow(Config::builder());
    a.peers.prepare(1).expect("room");
    let fake = a.gathered().await;
    a.peers.dial("b", FIRST).expect("dial");
    a.peers.prepare(0).expect("room");
    assert_eq!(took(a.description()).await.1, Duration::ZERO);
    a.makes_none(Duration::from_secs(20)).await;
    assert_eq!(closes(&fake), 0);
    a.peers.shutdown().await;
}

/// The servers change when it was dialled and has not begun.
#[tokio::test(start_paused = true)]
async fn what_is_dialled_hears_of_servers_that_come_right_afterwards() {
    let mut a = slow(with_server(1));
    a.peers.prepare(1).expect("room");
    let fake = a.gathered().await;
    a.peers.dial("b", FIRST).expect("dial");
    let two = [2, 3].map(|port| IceServer::stun(format!("stun:192.0.2.1:{port}")));
    a.peers.set_ice_servers(two.to_vec()).expect("valid");
    assert_eq!(took(a.description()).await.1, Duration::ZERO, "it was ready");
    time::sleep(Duration::from_secs(1)).await;
    assert!(fake.calls().contains(&Call::SetServers(2)), "{:?}", fake.calls());
    a.peers.shutdown().await;
}
