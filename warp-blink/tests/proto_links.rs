//! The link of a call, between two machines: when it starts, fails, is interrupted and heals.

mod proto_kit;

use proto_kit::{
    A, B, Pair, SECOND, both, call_id, early, looks_for_path, offer, opens_audio, plain, touches_link,
};
use warp_blink::{
    config::Config,
    event::{DeviceKind, EndReason, Event, LinkState, PoorSide, Step},
    id::CallId,
    proto::{
        Command, EffectKind, EngineLink, Input, LinkId, MediaInput, Outcome,
        signal::{Body, Description, DescriptionKind},
    },
    stats::SoundStats,
};

#[test]
fn a_link_that_never_connects_fails_with_the_step_it_was_at() {
    let mut pair = plain();
    pair.path = false;
    let call = pair.ring();
    pair.ask(B, proto_kit::accept(call)).unwrap();
    pair.pass(29 * SECOND);
    assert_eq!(pair.ended(A), None);
    pair.pass(2 * SECOND);
    let reasons = [pair.ended(A).unwrap().0, pair.ended(B).unwrap().0];
    assert!(reasons.contains(&EndReason::Failed { step: Step::Checking }), "{reasons:?}");
    assert!(
        reasons.iter().all(|r| matches!(r, EndReason::HungUp | EndReason::Failed { step: Step::Checking })),
        "{reasons:?}"
    );
    pair.assert_clean();
}

#[test]
fn a_link_that_fails_before_it_connects_is_made_anew_whichever_side_notices() {
    let swapped = || Pair::swapped(Config::default(), Config::default());
    for make in [plain as fn() -> Pair, swapped] {
        for side in [A, B] {
            let mut pair = make();
            pair.path = false;
            let call = pair.ring();
            pair.ask(B, proto_kit::accept(call)).unwrap();
            pair.pass(SECOND);
            pair.path = true;
            pair.engine_at(side, call, EngineLink::Failed(Step::Securing));
            pair.pass(SECOND);
            for side in [A, B] {
                assert_eq!(pair.link(side, call).generation, 2);
                let seen = pair.sides[side].machine.snapshot();
                assert_eq!(seen.call(call).unwrap().participants[0].link, LinkState::Connected);
            }
            pair.ask(A, Command::HangUp { call }).unwrap();
            pair.assert_clean();
        }
    }
}

#[test]
fn links_that_fail_are_made_anew_until_the_time_is_over_and_both_hear_where() {
    let mut pair = plain();
    pair.path = false;
    let call = pair.ring();
    pair.ask(B, proto_kit::accept(call)).unwrap();
    let mut attempts = 0;
    while pair.ended(A).is_none() {
        if pair.sides[A].links.iter().any(|l| l.call == call) {
            pair.engine_at(A, call, EngineLink::Failed(Step::Securing));
            attempts += 1;
        }
        pair.pass(SECOND);
    }
    // Four at once, then after 1, 2 and 4 s, and every 4 s until 30 s are over.
    assert!((8..=14).contains(&attempts), "{attempts} attempts");
    assert_eq!(pair.ended(A), Some((EndReason::Failed { step: Step::Securing }, None)));
    assert!(matches!(pair.ended(B), Some((EndReason::Failed { .. }, None))));
    pair.assert_clean();
}

#[test]
fn a_link_that_fails_after_it_was_connected_is_made_anew_and_lost_if_that_does_not_help() {
    let mut pair = plain();
    let call = pair.connected();
    pair.engine_at(B, call, EngineLink::Failed(Step::Connected));
    pair.pass(SECOND);
    assert!(pair.sides.iter().all(|s| s.links.iter().any(|l| l.generation == 2)), "a new one");
    assert_eq!((pair.ended(A), pair.ended(B)), (None, None));
    pair.path = false;
    pair.engine_at(B, call, EngineLink::Failed(Step::Connected));
    pair.pass(61 * SECOND);
    assert_eq!(pair.ended(B), Some((EndReason::Lost, None)));
    assert_eq!(pair.ended(A), Some((EndReason::Lost, None)));
    pair.assert_clean();
}

#[test]
fn an_interrupted_link_heals() {
    let mut pair = plain();
    let call = pair.connected();
    pair.events(A);
    pair.engine(call, EngineLink::Disconnected);
    assert_eq!(pair.events(A), ["link reconnecting", "participant reconnecting"]);
    pair.pass(59 * SECOND);
    pair.engine(call, EngineLink::Connected);
    assert_eq!(pair.events(A), ["link connected", "participant joined"]);
    pair.pass(120 * SECOND);
    assert_eq!(pair.ended(A), None);
    // A second interruption has the whole window again.
    pair.engine(call, EngineLink::Disconnected);
    pair.pass(59 * SECOND);
    assert_eq!(pair.ended(A), None);
}

#[test]
fn an_interruption_longer_than_the_window_loses_the_call() {
    let mut pair = plain();
    let call = pair.connected();
    pair.hold = |_, _| true;
    pair.engine(call, EngineLink::Disconnected);
    pair.pass(60 * SECOND);
    assert_eq!(pair.ended(A), Some((EndReason::Lost, None)));
    assert_eq!(pair.ended(B), Some((EndReason::Lost, None)));
    pair.assert_clean();
}

#[test]
fn a_link_closed_by_the_other_end_waits_for_its_farewell() {
    let mut pair = plain();
    let call = pair.connected();
    pair.hold = |_, _| true;
    pair.ask(A, Command::HangUp { call }).unwrap();
    pair.engine_at(B, call, EngineLink::Closed);
    assert_eq!(pair.ended(B), None);
    pair.release_all();
    assert_eq!(pair.ended(B), Some((EndReason::HungUp, Some(A))));
    pair.assert_clean();
}

#[test]
fn with_pre_connect_the_link_is_up_before_the_accept_and_the_microphone_is_not() {
    for mut pair in [both(&early()), Pair::swapped(early(), early())] {
        let call = pair.ring();
        for side in [A, B] {
            assert_eq!(
                pair.sides[side].machine.snapshot().call(call).unwrap().participants[0].link,
                LinkState::Connected
            );
            assert!(!opens_audio(&pair, side));
            assert!(pair.events(side).iter().all(|e| !e.starts_with("participant") && e != "accepted"));
        }
        pair.ask(B, proto_kit::accept(call)).unwrap();
        for side in [A, B] {
            let events = pair.events(side);
            assert!(
                ["accepted", "media", "participant joined"].iter().all(|e| events.contains(&(*e).into())),
                "{events:?}"
            );
        }
        pair.ask(A, Command::HangUp { call }).unwrap();
        pair.assert_clean();
    }
}

#[test]
fn with_pre_connect_on_one_side_only_nothing_starts_before_the_accept_on_the_other() {
    for (a, b, never) in [(early(), Config::default(), B), (Config::default(), early(), A)] {
        for mut pair in [Pair::new(a.clone(), b.clone()), Pair::swapped(a.clone(), b.clone())] {
            let call = pair.ring();
            pair.pass(SECOND);
            assert!(!looks_for_path(&pair, never));
            // A caller's offer may go ahead (`proto_ahead.rs`).
            assert!(never == A || !touches_link(&pair, B));
            pair.ask(B, proto_kit::accept(call)).unwrap();
            pair.pass(SECOND);
            for side in [A, B] {
                let seen = pair.sides[side].machine.snapshot();
                assert_eq!(seen.call(call).unwrap().participants[0].link, LinkState::Connected);
            }
        }
    }
}

#[test]
fn a_link_that_fails_while_it_rings_is_made_anew_on_accept() {
    for mut pair in [both(&early()), Pair::swapped(early(), early())] {
        let call = pair.ring();
        pair.engine(call, EngineLink::Failed(Step::Connected));
        assert_eq!(pair.ended(A), None);
        pair.events(A);
        pair.ask(B, proto_kit::accept(call)).unwrap();
        pair.pass(SECOND);
        for side in [A, B] {
            assert_eq!(pair.link(side, call).generation, 2);
            let seen = pair.sides[side].machine.snapshot();
            assert_eq!(seen.call(call).unwrap().participants[0].link, LinkState::Connected);
        }
        // The second link tells of its own steps.
        let events = pair.events(A);
        assert!(events.contains(&"link checking".into()), "{events:?}");
        pair.ask(B, Command::HangUp { call }).unwrap();
        pair.assert_clean();
    }
}

#[test]
fn a_link_closed_while_it_rings_is_made_anew_on_accept() {
    for mut pair in [both(&early()), Pair::swapped(early(), early())] {
        pair.path = false;
        let call = pair.ring();
        // Each end hears only that the other has closed.
        pair.engine(call, EngineLink::Closed);
        pair.path = true;
        pair.ask(B, proto_kit::accept(call)).unwrap();
        pair.pass(SECOND);
        for side in [A, B] {
            let seen = pair.sides[side].machine.snapshot();
            assert_eq!(seen.call(call).unwrap().participants[0].link, LinkState::Connected);
        }
        pair.ask(B, Command::HangUp { call }).unwrap();
        pair.assert_clean();
    }
}

#[test]
fn a_second_call_from_the_same_peer_never_makes_a_second_live_link() {
    for mut pair in [both(&early()), Pair::swapped(early(), early())] {
        // The caller's farewell of the first call is slow; its second offer is fast.
        let first = pair.ring();
        pair.hold = |_, w| w.body() == Some(&Body::Cancel);
        pair.ask(A, Command::Cancel { call: first }).unwrap();
        let (second, to) = (call_id(2), pair.key(B));
        pair.ask(A, offer(second, to)).unwrap();
        assert_eq!(pair.sides[B].machine.snapshot().calls.len(), 2);
        pair.ask(B, proto_kit::accept(second)).unwrap();
        pair.pass(SECOND);
        pair.release_all();
        pair.pass(SECOND);
        for side in [A, B] {
            let seen = pair.sides[side].machine.snapshot();
            assert_eq!(seen.call(second).unwrap().participants[0].link, LinkState::Connected);
        }
        pair.ask(B, Command::HangUp { call: second }).unwrap();
        pair.assert_clean();
    }
}

#[test]
fn the_states_of_a_link_never_step_back() {
    let mut pair = plain();
    let call = pair.connected();
    pair.events(B);
    // An engine may tell of its search before its description has left, and descriptions may come twice.
    let link = pair.link(B, call);
    for kind in [DescriptionKind::Offer, DescriptionKind::Answer] {
        let description = Description { kind, text: "late".into() };
        pair.feed(B, Input::Media(MediaInput::LocalDescription { link, description }));
    }
    pair.engine_at(B, call, EngineLink::Checking);
    pair.run();
    assert_eq!(pair.events(B), Vec::<String>::new());
    let seen = pair.sides[B].machine.snapshot();
    assert_eq!(seen.call(call).unwrap().participants[0].link, LinkState::Connected);
}

#[test]
fn a_failed_microphone_leaves_the_call_and_is_told() {
    let mut pair = plain();
    pair.withhold = true;
    let call = pair.ring();
    let answer = |pair: &mut Pair| {
        for (side, effect, outcome) in std::mem::take(&mut pair.undone) {
            pair.feed(side, Input::Done { effect, outcome });
        }
        pair.run();
    };
    answer(&mut pair);
    let audio = |e: &EffectKind| matches!(e, EffectKind::OpenAudio { .. });
    let effects = pair.sides[B].machine.handle(pair.now, proto_kit::accept(call).into()).unwrap();
    for effect in effects {
        let outcome = if audio(&effect.kind) { Outcome::Failed("access denied".into()) } else { Outcome::Ok };
        if !matches!(effect.kind, EffectKind::Emit(_)) {
            pair.feed(B, Input::Done { effect: effect.id, outcome });
        }
    }
    assert!(pair.events(B).iter().any(|e| e.contains("ListenOnly")));
    let local = pair.sides[B].machine.snapshot().local;
    assert!(local.listen_only && local.open);
}

#[test]
fn poor_sound_is_told_once_for_each_change_and_is_over_with_its_link() {
    let mut pair = plain();
    let call = pair.connected();
    let link = pair.link(A, call);
    let told = |pair: &Pair| {
        let poor = |e: &Event| if let Event::Quality { poor, .. } = e { Some(*poor) } else { None };
        pair.sides[A].events.iter().filter_map(poor).collect::<Vec<_>>()
    };
    let (ours, both) = (Some(PoorSide::Ours), Some(PoorSide::Both));
    for poor in [None, ours, ours, both, None, None] {
        pair.feed(A, Input::Media(MediaInput::Quality { link, poor }));
    }
    assert_eq!(told(&pair), [ours, both, None]);
    let stale = LinkId { generation: 7, ..link };
    pair.feed(A, Input::Media(MediaInput::Quality { link: stale, poor: ours }));
    assert_eq!(told(&pair).len(), 3);
    pair.feed(A, Input::Media(MediaInput::Quality { link, poor: ours }));
    pair.engine(call, EngineLink::Failed(Step::Connected));
    pair.pass(5 * SECOND);
    pair.assert_joined(&[A, B], call);
    assert_eq!(told(&pair)[3..], [ours, None], "the next link begins anew");
}

#[test]
fn devices_in_use_are_told_when_they_change_and_only_while_they_are_open() {
    let mut pair = plain();
    let call = pair.connected();
    let device = |kind, name: Option<&str>| {
        Input::Media(MediaInput::Device { call, kind, name: name.map(str::to_owned) })
    };
    let told = |pair: &Pair| {
        let device = |e: &Event| match e {
            Event::Device { kind, name, .. } => Some((*kind, name.clone())),
            _ => None,
        };
        pair.sides[A].events.iter().filter_map(device).collect::<Vec<_>>()
    };
    use DeviceKind::{Microphone, Speaker};
    for (kind, name) in
        [(Microphone, Some("a")), (Microphone, Some("a")), (Speaker, Some("b")), (Microphone, None)]
    {
        pair.feed(A, device(kind, name));
    }
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(told(&pair), [(Microphone, name("a")), (Speaker, name("b")), (Microphone, None)]);
    let local = pair.sides[A].machine.snapshot().local;
    assert!(local.listen_only && local.microphone.is_none() && local.speaker.as_deref() == Some("b"));
    pair.feed(A, device(Microphone, Some("c")));
    assert!(!pair.sides[A].machine.snapshot().local.listen_only, "it is back");
    pair.feed(A, Command::HangUp { call }.into());
    pair.feed(A, device(Microphone, Some("d")));
    let local = pair.sides[A].machine.snapshot().local;
    assert_eq!((local.microphone, local.speaker), (None, None), "all are closed");
    assert_eq!(told(&pair).len(), 4);
}

/// A recording of that call began, or ended.
fn recording(call: CallId, recording: u64, running: bool) -> Input {
    let files = vec!["a.opus".into()];
    Input::Media(MediaInput::Recording { call, recording, running, files, cause: None })
}

/// Whether B knows, a second later, that it is recorded.
fn knows(pair: &mut Pair) -> bool {
    pair.pass(SECOND);
    let snapshot = pair.sides[B].machine.snapshot();
    snapshot.calls[0].participants.iter().any(|p| p.state.recording)
}

#[test]
fn the_others_are_told_of_a_recording_for_as_long_as_it_really_runs() {
    let mut pair = plain();
    let call = pair.connected();
    let told =
        |pair: &Pair| pair.sides[A].events.iter().filter(|e| matches!(e, Event::Recording { .. })).count();
    assert!(!knows(&mut pair));
    pair.feed(A, recording(call, 1, true));
    assert!(knows(&mut pair), "B knows");
    pair.feed(A, recording(call, 1, false));
    assert!(!knows(&mut pair));
    pair.feed(A, recording(call, 2, true));
    assert_eq!(told(&pair), 3);
    pair.feed(A, Command::HangUp { call }.into());
    assert!(!pair.sides[A].machine.snapshot().local.recording, "the devices are closed");
    pair.feed(A, recording(call, 2, false));
    assert_eq!(told(&pair), 3, "nothing follows the end");
    pair.feed(A, recording(call, 3, true));
    assert!(!pair.sides[A].machine.snapshot().local.recording, "too late");
}

#[test]
fn the_end_of_a_recording_that_comes_late_is_not_that_of_the_next_one() {
    let mut pair = plain();
    let call = pair.connected();
    pair.feed(A, recording(call, 1, true));
    pair.feed(A, recording(call, 2, true));
    pair.feed(A, recording(call, 1, false));
    assert!(knows(&mut pair), "the second one runs");
    let told: Vec<_> = pair.sides[A]
        .events
        .iter()
        .filter_map(|e| match e {
            Event::Recording { number, running, .. } => Some((*number, *running)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(1, true), (2, true), (1, false)]);
    pair.feed(A, recording(call, 2, false));
    assert!(!knows(&mut pair));
}

#[test]
fn what_the_app_records_itself_and_what_is_recorded_for_it_are_told_as_one() {
    let mut pair = plain();
    let call = pair.connected();
    pair.feed(A, Command::SetRecording(true).into());
    assert!(knows(&mut pair));
    pair.feed(A, recording(call, 1, true));
    pair.feed(A, recording(call, 1, false));
    assert!(knows(&mut pair), "the app goes on");
    pair.feed(A, recording(call, 2, true));
    pair.feed(A, Command::SetRecording(false).into());
    assert!(knows(&mut pair), "the other one goes on");
    assert!(pair.sides[A].machine.snapshot().local.recording);
    pair.feed(A, recording(call, 2, false));
    assert!(!knows(&mut pair));
}

#[test]
fn a_call_that_is_held_is_not_recorded_whether_its_files_are_closed_or_not() {
    let mut pair = plain();
    let call = pair.connected();
    pair.feed(A, recording(call, 1, true));
    assert!(knows(&mut pair));
    pair.feed(A, Command::Hold { call }.into());
    assert!(!knows(&mut pair), "nobody needs to say so");
    assert!(!pair.sides[A].machine.snapshot().local.recording);
    pair.feed(A, recording(call, 1, false));
    let last = pair.sides[A].events.iter().rev().find(|e| matches!(e, Event::Recording { .. }));
    assert!(matches!(last, Some(Event::Recording { number: 1, running: false, .. })), "its files are told");
}

#[test]
fn what_the_engine_does_is_shown_while_devices_are_open() {
    let mut pair = plain();
    let call = pair.connected();
    let shown = |pair: &Pair| pair.sides[A].machine.snapshot().statistics.sound;
    let mut stats = SoundStats::default();
    (stats.frames, stats.latency.frame_us) = (7, 20_000);
    let sound = Input::Media(MediaInput::Sound { call, stats: Box::new(stats) });
    assert_eq!(shown(&pair), None);
    pair.feed(A, sound.clone());
    assert_eq!(shown(&pair), Some(stats));
    pair.feed(A, Command::HangUp { call }.into());
    assert_eq!(shown(&pair), None);
    pair.feed(A, sound);
    assert_eq!(shown(&pair), None, "too late");
}
