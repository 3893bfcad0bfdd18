//! Every step has its time, every call to the engine has, and what comes late changes nothing.

use super::*;
use crate::LinkState::*;
use crate::engine::fake::Reply;
use crate::engine::{Dtls, EngineError, Signal};

const FIRST: Generation = Generation(1);

fn timed_out(step: Step, after: Duration) -> LinkState {
    Failed { step, reason: FailReason::TimedOut { after } }
}

fn engine_failed(step: Step, doing: &'static str) -> LinkState {
    Failed { step, reason: FailReason::Engine { doing } }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_ends_the_negotiation() {
    let limits = Timeouts::default();
    let mut a = Side::plain();
    a.peers.dial("b", FIRST).expect("dial");
    assert_eq!(a.state().await, Negotiating);
    let fake = a.connection().await;
    fake.candidate(1);
    fake.signal(Signal::GatheringDone);
    let (end, after) = took(a.state()).await;
    assert_eq!((end, after), (timed_out(Step::Negotiating, limits.negotiating), limits.negotiating));
    assert_eq!(closes(&fake), 1);
    // The answer comes after all.
    let late = Remote::Answer(answer_to(&offer(1, "s1"), 1, "theirs"));
    assert_eq!(a.peers.apply(&"b", FIRST, late), Err(Error::NoLink));
    a.silence().await;
}

#[tokio::test(start_paused = true)]
async fn looking_for_a_path_and_shaking_hands_have_their_time() {
    let limits = Timeouts::default();
    let mut a = Side::plain();
    a.peers.accept("b", FIRST, offer(1, "theirs")).expect("accept");
    assert_eq!((a.state().await, a.state().await), (Negotiating, Checking));
    let fake = a.connection().await;
    fake.candidate(1);
    fake.signal(Signal::GatheringDone);
    let (end, after) = took(a.state()).await;
    assert_eq!((end, after), (timed_out(Step::Checking, limits.checking), limits.checking));

    a.peers.accept("b", FIRST, offer(1, "theirs")).expect("accept");
    let fake = a.connection().await;
    fake.candidate(1);
    time::sleep(limits.checking - Duration::from_secs(1)).await;
    fake.path_found();
    while a.state().await != Securing {}
    let (end, after) = took(a.state()).await;
    assert_eq!((end, after), (timed_out(Step::Securing, limits.securing), limits.securing));
    a.silence().await;
}

#[tokio::test(start_paused = true)]
async fn gathering_ends_without_the_engine_saying_so() {
    let limits = Timeouts::default();
    let mut a = Side::plain();
    a.peers.dial("b", FIRST).expect("dial");
    let fake = a.connection().await;
    fake.candidate(1);
    a.description().await;
    let start = Instant::now();
    let EventKind::LocalCandidate(first) = a.next().await.kind else { panic!("a candidate comes first") };
    assert_eq!(first.ufrag(), Some("s1"));
    assert!(matches!(a.next().await.kind, EventKind::GatheringDone));
    assert_eq!(start.elapsed(), limits.gathering);
    // The engine's own word, and what it finds now, come too late.
    fake.signal(Signal::GatheringDone);
    fake.candidate(2);
    assert_eq!(a.state().await, timed_out(Step::Negotiating, limits.negotiating));
    a.silence().await;

    a.peers.dial("b", FIRST).expect("dial");
    while a.state().await != Negotiating {}
    let (end, after) = took(a.state()).await;
    let none = Failed { step: Step::Gathering, reason: FailReason::NoLocalCandidates };
    assert_eq!((end, after), (none, limits.gathering));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_never_answers_is_left() {
    let limits = Timeouts::default();
    let script = Script::default();
    let never = Reply::Never;
    let in_time = "answer in time";
    for (script, accept) in [
        (Script { open: never, ..script }, false),
        (Script { offer: never, ..script }, false),
        (Script { open: never, ..script }, true),
        (Script { answer: never, ..script }, true),
    ] {
        let mut a = Side::new(Config::default(), script);
        match accept {
            true => a.peers.accept("b", FIRST, offer(1, "theirs")),
            false => a.peers.dial("b", FIRST),
        }
        .expect("started");
        assert_eq!(a.state().await, Negotiating);
        let (end, after) = took(a.state()).await;
        assert_eq!(end, engine_failed(Step::Negotiating, in_time), "{script:?}");
        // One that still opens could open any moment, so it is given the time to close, too.
        let closing = if matches!(script.open, Reply::Never) { limits.closing } else { Duration::ZERO };
        assert_eq!(after, limits.engine + closing, "{script:?}");
        a.silence().await;
    }

    for script in [
        Script { accept: never, ..script },
        Script { candidate: never, ..script },
        Script { state: never, ..script },
    ] {
        let mut a = Side::new(Config::default(), script);
        a.peers.dial("b", FIRST).expect("dial");
        let ours = a.description().await;
        let fake = a.connection().await;
        a.peers.apply(&"b", FIRST, Remote::Candidate(candidate(1, Some("theirs")))).expect("apply");
        a.peers.apply(&"b", FIRST, Remote::Answer(answer_to(&ours, 1, "theirs"))).expect("apply");
        fake.connect();
        let (end, after) = took(async {
            loop {
                let state = a.state().await;
                if state.is_final() {
                    break state;
                }
            }
        })
        .await;
        assert!(
            matches!(end, Failed { reason: FailReason::Engine { doing }, .. } if doing == in_time),
            "{end:?} {script:?}"
        );
        assert_eq!(after, limits.engine, "{script:?}");
        assert_eq!(closes(&fake), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_fails_or_panics_ends_one_connection_and_says_what_it_was_to_do() {
    let script = Script::default();
    let fail = Reply::Fail(EngineError::Failed { doing: "dance" });
    for (script, reason) in [
        (Script { open: fail, ..script }, FailReason::Engine { doing: "dance" }),
        (Script { offer: fail, ..script }, FailReason::Engine { doing: "dance" }),
        (Script { open: Reply::Fail(EngineError::NoAddress), ..script }, FailReason::NoLocalCandidates),
        (
            Script { open: Reply::Panic, ..script },
            FailReason::Engine { doing: "set up a connection: it panicked" },
        ),
        (Script { offer: Reply::Panic, ..script }, FailReason::Engine { doing: "go on: it panicked" }),
    ] {
        let mut a = Side::new(Config::default(), script);
        a.peers.dial("b", FIRST).expect("dial");
        assert_eq!(a.state().await, Negotiating);
        assert_eq!(a.state().await, Failed { step: Step::Negotiating, reason });
        assert_eq!(a.peers.generation(&"b"), None);
        a.peers.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn closing_has_its_time_and_the_end_is_told_after_it() {
    let limits = Timeouts::default();
    for (close, after) in [
        (Reply::At, Duration::ZERO),
        (Reply::After(Duration::from_secs(1)), Duration::from_secs(1)),
        (Reply::Never, limits.closing),
    ] {
        let mut a = Side::plain();
        let fake = a.connected("b", 1).await;
        fake.set(Script { close, ..Script::default() });
        a.peers.hang_up(&"b", FIRST).expect("hang up");
        assert_eq!(took(a.state()).await, (Closed { by_remote: false }, after));
        assert_eq!(closes(&fake), 1);
        a.silence().await;
    }
}

#[tokio::test(start_paused = true)]
async fn candidates_that_overtake_the_answer_wait_for_it() {
    let mut a = Side::plain();
    a.peers.dial("b", FIRST).expect("dial");
    let ours = a.description().await;
    let fake = a.connection().await;
    for port in 1..=2 {
        a.peers.apply(&"b", FIRST, Remote::Candidate(candidate(port, Some("theirs")))).expect("apply");
    }
    let answer = answer_to(&ours, 1, "theirs");
    a.peers.apply(&"b", FIRST, Remote::Answer(answer.clone())).expect("apply");
    a.peers.apply(&"b", FIRST, Remote::Answer(answer.clone())).expect("a repetition");
    a.peers.apply(&"b", FIRST, Remote::Candidate(candidate(3, None))).expect("apply");
    while a.state().await != Checking {}
    fake.candidate(9);
    while !matches!(a.next().await.kind, EventKind::LocalCandidate(_)) {}
    let calls = [
        Call::Offer { restart: false },
        Call::Accept(answer),
        Call::Candidate(candidate(1, Some("theirs"))),
        Call::Candidate(candidate(2, Some("theirs"))),
        Call::Candidate(candidate(3, None)),
    ];
    assert_eq!(fake.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn the_end_by_the_peer_is_seen_at_once_where_there_is_a_sign_of_it_and_soon_otherwise() {
    for (sign, within) in [(true, Duration::ZERO), (false, Duration::from_millis(250))] {
        let mut a = Side::plain();
        let fake = a.connected("b", 1).await;
        fake.signal(Signal::PerhapsClosed);
        fake.set_dtls(Dtls::Closed);
        if sign {
            fake.signal(Signal::PerhapsClosed);
        }
        let (end, after) = took(a.state()).await;
        assert_eq!(end, Closed { by_remote: true });
        assert!(after <= within, "{after:?}");
    }
}

/// Whoever reads events late gets them in order; whoever does not read at all loses connections, not memory.
#[tokio::test(start_paused = true)]
async fn a_connection_whose_events_nobody_reads_ends_as_overloaded() {
    let config = Config::builder().event_capacity(2).build().expect("valid");
    let mut a = Side::new(config, Script::default());
    a.peers.dial("b", FIRST).expect("dial");
    let fake = a.connection().await;
    time::sleep(Duration::from_secs(1)).await;
    for port in 1..=400 {
        fake.candidate(port);
    }
    time::sleep(Duration::from_secs(1)).await;
    let mut ports = Vec::new();
    let end = loop {
        match a.next().await.kind {
            EventKind::LocalCandidate(candidate) => ports.push(candidate),
            EventKind::State(state) if state.is_final() => break state,
            _ => {}
        }
    };
    assert_eq!(end, Failed { step: Step::Negotiating, reason: FailReason::Overloaded });
    assert!(ports.len() < 10, "{}", ports.len());
    assert_eq!(closes(&fake), 1);
    a.silence().await;
}
