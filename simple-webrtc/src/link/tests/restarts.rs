//! Restarts of ICE, by either side and by both at once.

use super::*;
use crate::LinkState::*;
use crate::engine::{Connection as _, Signal};

const FIRST: Generation = Generation(1);

fn restarts(fake: &Fake) -> usize {
    fake.calls().iter().filter(|call| **call == Call::Offer { restart: true }).count()
}

/// Something of the peer's sound comes.
fn heard(fake: &Fake) {
    fake.meter().on_received(crate::link::now(), 1, 100);
}

/// A connection that was accepted and is up.
async fn accepted(a: &mut Side) -> Arc<Fake> {
    a.peers.accept("b", FIRST, offer(1, "theirs")).expect("accept");
    let fake = a.connection().await;
    fake.connect();
    while a.state().await != Connected {}
    fake
}

#[tokio::test(start_paused = true)]
async fn a_restart_shows_itself_offers_and_is_over_with_the_next_path() {
    let mut a = Side::plain();
    let fake = a.connected("b", 1).await;
    fake.signal(Signal::PathSilent);
    assert_eq!(a.state().await, Disconnected);
    a.peers.restart(&"b", FIRST).expect("restart");
    let offer = a.description().await;
    assert_eq!((offer.kind(), offer.ufrag()), (DescriptionKind::Offer, Some("s2")));
    assert_eq!(a.state().await, Reconnecting);
    // The peer's candidates overtake its answer; those of the session before are of no use.
    a.peers.apply(&"b", FIRST, Remote::Candidate(candidate(7, Some("theirs-2")))).expect("apply");
    fake.candidate(2);
    let event = a.next().await;
    let EventKind::LocalCandidate(ours) = event.kind else { panic!("{event:?}") };
    assert_eq!(ours.ufrag(), Some("s2"), "the peer can tell it from those before");
    fake.signal(Signal::GatheringDone);
    assert!(matches!(a.next().await.kind, EventKind::GatheringDone));
    // That the old path comes back now is of no use: its sockets are gone.
    fake.signal(Signal::PathFound);
    a.peers.apply(&"b", FIRST, Remote::Answer(answer_to(&offer, 2, "theirs-2"))).expect("apply");
    fake.path_found();
    assert_eq!(a.state().await, Connected);
    assert!(fake.calls().contains(&Call::Candidate(candidate(7, Some("theirs-2")))));
    a.silence().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_heard_is_not_silent_whatever_becomes_of_the_checks() {
    let mut a = Side::plain();
    let fake = a.connected("b", 1).await;
    for _ in 0..8 {
        heard(&fake);
        fake.signal(Signal::PathSilent);
        time::sleep(Duration::from_millis(400)).await;
        heard(&fake);
        time::sleep(Duration::from_millis(400)).await;
        fake.signal(Signal::PathFound);
    }
    a.silence().await;
    heard(&fake);
    fake.signal(Signal::PathSilent);
    let (state, after) = took(a.state()).await;
    assert_eq!(state, Disconnected);
    assert!((500..=750).contains(&after.as_millis()), "when nothing is heard any more: {after:?}");
}

#[tokio::test(start_paused = true)]
async fn sound_makes_up_for_checks_for_a_while_and_what_was_before_a_restart_is_forgotten() {
    let mut a = Side::plain();
    let fake = accepted(&mut a).await;
    fake.signal(Signal::PathSilent);
    let sound = fake.clone();
    let speaking = tokio::spawn(async move {
        loop {
            heard(&sound);
            time::sleep(Duration::from_millis(100)).await;
        }
    });
    heard(&fake);
    let (state, after) = took(a.state()).await;
    assert!(state == Disconnected && (10_000..=10_500).contains(&after.as_millis()), "{state:?} {after:?}");
    fake.signal(Signal::PathFound);
    assert_eq!(a.state().await, Connected);
    fake.signal(Signal::PathSilent);
    time::sleep(Duration::from_millis(200)).await;
    a.peers.apply(&"b", FIRST, Remote::Offer(offer(2, "theirs-2"))).expect("apply");
    a.description().await;
    assert_eq!(a.state().await, Reconnecting);
    fake.path_found();
    assert_eq!(a.state().await, Connected);
    // Then nobody speaks any more, as in a call that is held.
    speaking.abort();
    a.silence().await;
}

#[tokio::test(start_paused = true)]
async fn the_peers_restart_is_answered_and_its_repetition_too() {
    let mut a = Side::plain();
    let fake = accepted(&mut a).await;
    let again = offer(2, "theirs-2");
    a.peers.apply(&"b", FIRST, Remote::Offer(again.clone())).expect("apply");
    let answer = a.description().await;
    assert_eq!(a.state().await, Reconnecting);
    assert!(answer.can_answer(Some(2)) && !answer.can_answer(Some(1)));
    a.peers.apply(&"b", FIRST, Remote::Offer(again.clone())).expect("its answer was lost");
    assert_eq!(a.description().await, answer);
    a.peers.apply(&"b", FIRST, Remote::Offer(offer(1, "theirs"))).expect("an old copy");
    fake.path_found();
    assert_eq!(a.state().await, Connected);
    assert_eq!(fake.calls().iter().filter(|call| matches!(call, Call::Answer(_))).count(), 2);
    a.silence().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_accepted_can_restart_too() {
    let mut a = Side::plain();
    let fake = accepted(&mut a).await;
    let early = Remote::Answer(answer_to(&offer(9, "x"), 9, "x"));
    assert_eq!(a.peers.apply(&"b", FIRST, early), Err(Error::UnexpectedDescription));
    a.peers.restart(&"b", FIRST).expect("restart");
    let ours = a.description().await;
    a.peers.apply(&"b", FIRST, Remote::Answer(answer_to(&ours, 2, "theirs-2"))).expect("apply");
    fake.path_found();
    assert_eq!((a.state().await, a.state().await), (Reconnecting, Connected));
}

#[tokio::test(start_paused = true)]
async fn when_both_restart_one_offer_stays() {
    // Who dialled goes on as if nothing had come.
    let mut a = Side::plain();
    let fake = a.connected("b", 1).await;
    a.peers.restart(&"b", FIRST).expect("restart");
    let ours = a.description().await;
    a.peers.apply(&"b", FIRST, Remote::Offer(offer(2, "crossing"))).expect("apply");
    a.peers.apply(&"b", FIRST, Remote::Answer(answer_to(&ours, 3, "theirs-2"))).expect("apply");
    fake.path_found();
    assert_eq!((a.state().await, a.state().await), (Reconnecting, Connected));
    assert!(!fake.calls().contains(&Call::RollBack));
    a.silence().await;

    // Who accepted gives way, and has what it wanted.
    let mut b = Side::plain();
    let fake = accepted(&mut b).await;
    b.peers.restart(&"b", FIRST).expect("restart");
    let ours = b.description().await;
    b.peers.apply(&"b", FIRST, Remote::Offer(offer(2, "theirs-2"))).expect("apply");
    assert_eq!(b.description().await.kind(), DescriptionKind::Answer);
    b.peers.apply(&"b", FIRST, Remote::Answer(answer_to(&ours, 3, "stray"))).expect("nobody waits for it");
    fake.path_found();
    assert_eq!(b.state().await, Connected);
    assert!(fake.calls().contains(&Call::RollBack));
    assert_eq!(restarts(&fake), 1);
    b.silence().await;
}

/// The network changes again before the answer to the first restart is there.
#[tokio::test(start_paused = true)]
async fn a_restart_replaces_one_that_is_on_its_way() {
    let mut a = Side::plain();
    let fake = a.connected("b", 1).await;
    a.peers.restart(&"b", FIRST).expect("restart");
    let first = a.description().await;
    a.peers.restart(&"b", FIRST).expect("restart");
    let second = a.description().await;
    assert_ne!(first.ufrag(), second.ufrag());
    a.peers.apply(&"b", FIRST, Remote::Answer(answer_to(&first, 2, "stale"))).expect("apply");
    let right = answer_to(&second, 3, "theirs-3");
    a.peers.apply(&"b", FIRST, Remote::Answer(right.clone())).expect("apply");
    fake.path_found();
    while a.state().await != Connected {}
    let accepts: Vec<Call> =
        fake.calls().into_iter().filter(|call| matches!(call, Call::Accept(_))).collect();
    assert_eq!(accepts.last(), Some(&Call::Accept(right)));
    assert_eq!(accepts.len(), 2, "the stale answer never reached the engine");
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_finds_nothing_ends_in_time_however_often_it_is_repeated() {
    let limits = Timeouts::default();
    let mut a = Side::plain();
    let fake = a.connected("b", 1).await;
    let start = Instant::now();
    let end = loop {
        a.peers.restart(&"b", FIRST).expect("restart");
        if let Ok(state) = time::timeout(Duration::from_secs(7), async {
            loop {
                let state = a.state().await;
                if state.is_final() {
                    break state;
                }
            }
        })
        .await
        {
            break state;
        }
    };
    let reason = FailReason::TimedOut { after: limits.reconnecting };
    assert_eq!(end, Failed { step: Step::Reconnecting, reason });
    assert_eq!(start.elapsed(), limits.reconnecting);
    assert_eq!(closes(&fake), 1);
}

#[tokio::test(start_paused = true)]
async fn before_there_was_a_path_nothing_is_restarted() {
    let mut a = Side::plain();
    a.peers.dial("b", FIRST).expect("dial");
    a.peers.restart(&"b", FIRST).expect("without effect");
    let ours = a.description().await;
    let fake = a.connection().await;
    a.peers.apply(&"b", FIRST, Remote::Answer(answer_to(&ours, 1, "theirs"))).expect("apply");
    while a.state().await != Checking {}
    a.peers.restart(&"b", FIRST).expect("without effect");
    time::sleep(Duration::from_millis(1)).await;
    fake.connect();
    while a.state().await != Connected {}
    assert_eq!(restarts(&fake), 0);
    assert_eq!(a.peers.restart(&"b", Generation(2)), Err(Error::NoLink));
}

/// New credentials reach the engine at once, and an offer that restarts nothing puts them to use.
#[tokio::test(start_paused = true)]
async fn servers_are_replaced_in_place() {
    let mut a = Side::plain();
    let fake = a.connected("b", 1).await;
    let server = |credential| IceServer::turn("turn:host", "user", credential);
    assert!(a.peers.set_ice_servers(vec![server("")]).is_err());
    a.peers.set_ice_servers(vec![server("fresh"), server("other")]).expect("valid");
    let ours = a.description().await;
    assert_eq!((ours.kind(), ours.ufrag()), (DescriptionKind::Offer, Some("s1")));
    let calls = fake.calls();
    assert_eq!(calls[calls.len() - 2..], [Call::SetServers(2), Call::Offer { restart: false }]);
    // A change that comes while this one is on its way waits for the answer.
    a.peers.set_ice_servers(vec![server("fresher")]).expect("valid");
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.calls().last(), Some(&Call::SetServers(1)));
    a.peers.apply(&"b", FIRST, Remote::Answer(answer_to(&ours, 2, "theirs"))).expect("apply");
    assert_eq!(a.description().await.ufrag(), Some("s1"));
    a.silence().await;
}

/// What is only for later is told to the engine when a restart begins, by either side, and to nobody who runs.
#[tokio::test(start_paused = true)]
async fn new_credentials_for_later_leave_what_runs_alone() {
    let mut a = Side::plain();
    let fake = a.connected("b", 1).await;
    a.peers.renew_ice_servers(vec![IceServer::turn("turn:host", "user", "fresh")]).expect("valid");
    a.silence().await;
    let told =
        |calls: Vec<Call>| calls.into_iter().filter(|call| matches!(call, Call::SetServers(_))).count();
    assert_eq!(told(fake.calls()), 0);
    a.peers.restart(&"b", FIRST).expect("restart");
    a.description().await;
    let calls = fake.calls();
    assert_eq!(calls[calls.len() - 2..], [Call::SetServers(1), Call::Offer { restart: true }]);
    assert_eq!(told(calls), 1);
}

/// The end of a gathering that a restart has interrupted arrives after the restart: what is gathered then counts all the same.
#[tokio::test(start_paused = true)]
async fn the_end_of_the_gathering_before_does_not_end_the_one_after_a_restart() {
    let mut a = Side::plain();
    let fake = a.connected("b", 1).await;
    a.peers.restart(&"b", FIRST).expect("restart");
    a.description().await;
    fake.signal(Signal::GatheringDone);
    fake.candidate(5);
    let shown = loop {
        if let EventKind::LocalCandidate(candidate) = a.next().await.kind {
            break candidate;
        }
    };
    assert_eq!(shown.ufrag(), Some("s2"));
}
