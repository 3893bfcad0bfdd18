//! Calling again while the connection before is still dying.

use super::*;
use crate::LinkState::*;
use crate::engine::Signal;
use crate::engine::fake::Reply;

const SLOW: Duration = Duration::from_millis(1_900);

fn slow() -> Script {
    Script { close: Reply::After(SLOW), ..Script::default() }
}

/// Carries what one side tells to the other; the state, if it was one.
fn carry(event: Event<Name>, to: &Side) -> Option<(Generation, LinkState)> {
    let generation = event.generation;
    let applied = match event.kind {
        EventKind::LocalDescription(description) => match description.kind() {
            DescriptionKind::Offer => match to.peers.accept("peer", generation, description.clone()) {
                Err(Error::StaleGeneration { .. }) => {
                    to.peers.apply(&"peer", generation, Remote::Offer(description))
                }
                result => result,
            },
            DescriptionKind::Answer => to.peers.apply(&"peer", generation, Remote::Answer(description)),
        },
        EventKind::LocalCandidate(candidate) => {
            to.peers.apply(&"peer", generation, Remote::Candidate(candidate))
        }
        EventKind::State(state) => return Some((generation, state)),
        _ => Ok(()),
    };
    assert!(matches!(applied, Ok(()) | Err(Error::NoLink)), "{applied:?}");
    None
}

/// Until both sides have a connection of this generation. Whatever engine connections are made come up by themselves.
async fn both_connected(a: &mut Side, b: &mut Side, generation: Generation) {
    let (mut a_up, mut b_up) = (false, false);
    while !(a_up && b_up) {
        let (event, from_a) = tokio::select! {
            Some(fake) = a.made.recv() => { fake.connect(); continue }
            Some(fake) = b.made.recv() => { fake.connect(); continue }
            event = a.events.recv() => (event.expect("open stream"), true),
            event = b.events.recv() => (event.expect("open stream"), false),
            () = time::sleep(LONG) => panic!("nothing more happens"),
        };
        if carry(event, if from_a { b } else { a }) == Some((generation, Connected)) {
            *(if from_a { &mut a_up } else { &mut b_up }) = true;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_both_ends() {
    let (mut a, mut b) = (Side::new(Config::default(), slow()), Side::new(Config::default(), slow()));
    a.peers.dial("peer", Generation(1)).expect("dial");
    both_connected(&mut a, &mut b, Generation(1)).await;
    a.peers.hang_up(&"peer", Generation(1)).expect("hang up");
    b.peers.hang_up(&"peer", Generation(1)).expect("hang up");
    tokio::task::yield_now().await;
    assert_eq!(a.peers.dial("peer", Generation(1)), Err(Error::StaleGeneration { have: Generation(1) }));
    a.peers.dial("peer", Generation(2)).expect("the old one need not be gone");
    let ((), after) = took(both_connected(&mut a, &mut b, Generation(2))).await;
    assert!(after < SLOW, "{after:?}: it waited for the old one");
}

#[tokio::test(start_paused = true)]
async fn at_one_end() {
    let mut a = Side::new(Config::default(), slow());
    let mut b = Side::new(Config::default(), Script::default());
    a.peers.dial("peer", Generation(1)).expect("dial");
    both_connected(&mut a, &mut b, Generation(1)).await;
    // b has noticed nothing: its old connection is up when the offer for the new one comes.
    a.peers.dial("peer", Generation(2)).expect("dial");
    let ((), after) = took(both_connected(&mut a, &mut b, Generation(2))).await;
    assert!(after < SLOW, "{after:?}");
    assert_eq!(b.peers.generation(&"peer"), Some(Generation(2)));
    a.silence().await;
    b.silence().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_crash() {
    let (mut a, mut b) = (Side::plain(), Side::plain());
    a.peers.dial("peer", Generation(7)).expect("dial");
    both_connected(&mut a, &mut b, Generation(7)).await;
    // a is gone without a word and comes back, with a higher generation as its signaling makes sure.
    drop(a);
    let mut a = Side::plain();
    a.peers.dial("peer", Generation(8)).expect("dial");
    both_connected(&mut a, &mut b, Generation(8)).await;
    b.silence().await;
}

/// Nothing that an old engine connection says, however late, reaches the new one or the reader.
#[tokio::test(start_paused = true)]
async fn what_an_old_connection_says_falls() {
    let mut a = Side::new(Config::default(), slow());
    let old = a.connected("peer", 1).await;
    a.peers.dial("peer", Generation(2)).expect("dial");
    for port in 1..5 {
        old.candidate(port);
    }
    old.signal(Signal::PathSilent);
    old.signal(Signal::Failed);
    old.signal(Signal::Stopped);
    let new = a.connection().await;
    new.connect();
    let event = a.next().await;
    assert_eq!(
        (event.generation, matches!(event.kind, EventKind::State(Negotiating))),
        (Generation(2), true)
    );
    let ours = a.description().await;
    let answer = Remote::Answer(answer_to(&ours, 1, "theirs"));
    a.peers.apply(&"peer", Generation(2), answer).expect("apply");
    while a.state().await != Connected {}
    time::sleep(2 * SLOW).await;
    assert_eq!(closes(&old), 1);
    a.silence().await;
    assert_eq!(a.peers.generation(&"peer"), Some(Generation(2)));
}

/// Each dial replaces the one before, in whatever state that is; only the last one is left.
#[tokio::test(start_paused = true)]
async fn dialling_many_times_at_once_leaves_one() {
    let mut a = Side::new(Config::builder().max_links(20).build().expect("valid"), slow());
    for generation in 1..=20 {
        a.peers.dial("peer", Generation(generation)).expect("dial");
    }
    assert_eq!(a.peers.dial("peer", Generation(21)), Err(Error::TooManyLinks { limit: 20 }));
    let mut last = None;
    while let Ok(Some(event)) = time::timeout(Duration::from_secs(5), a.events.recv()).await {
        assert_eq!(event.generation, Generation(20), "{event:?}");
        last = Some(event);
    }
    assert!(last.is_some());
    a.peers.dial("peer", Generation(21)).expect("the others are gone");
}

#[tokio::test(start_paused = true)]
async fn hanging_up_while_the_engine_still_opens_closes_what_it_opened() {
    let script = Script { open: Reply::After(Duration::from_secs(1)), ..slow() };
    let mut a = Side::new(Config::default(), script);
    a.peers.dial("peer", Generation(1)).expect("dial");
    assert_eq!(a.state().await, Negotiating);
    a.peers.hang_up(&"peer", Generation(1)).expect("hang up");
    let (end, after) = took(a.state()).await;
    // Opening and closing together take longer than closing may, so it is told before all is done; it is done all the same.
    assert_eq!((end, after), (Closed { by_remote: false }, Timeouts::default().closing));
    a.engine.set(Script::default());
    let fake = a.connection().await;
    assert_eq!(closes(&fake), 1);
}
