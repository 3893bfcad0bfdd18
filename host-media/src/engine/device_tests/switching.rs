//! Devices that change, vanish and return in mid-call.

use super::*;
use crate::{ChangeReason, DeviceFaultKind, Packet, PayloadKind, PeerId, device::cpal::fake::Mood};

fn mic(id: &'static str, level: f32) -> Gear {
    Gear::new(Direction::Microphone, id).sound(move |t| level * (t * 2_000.0).sin() as f32)
}

fn speaker(id: &'static str) -> Gear {
    Gear::new(Direction::Speaker, id)
}

fn device(id: &str) -> SourceSpec {
    SourceSpec::Device(format!("custom:{id}"))
}

fn sink_device(id: &str) -> SinkSpec {
    SinkSpec::Device(format!("custom:{id}"))
}

fn changed(id: &str, reason: ChangeReason) -> Event {
    let full = if id == "tone" { id.to_owned() } else { format!("custom:{id}") };
    Event::SourceChanged { id: full, name: id.to_owned(), reason }
}

fn sink_changed(id: &str, reason: ChangeReason) -> Event {
    Event::SinkChanged { id: format!("custom:{id}"), name: id.to_owned(), reason }
}

fn lost(events: &[(f64, Event)], of: Direction) -> Option<&DeviceFaultKind> {
    events.iter().find_map(|(_, e)| match e {
        Event::DeviceLost { direction, cause } if *direction == of => Some(&cause.kind),
        _ => None,
    })
}

fn events(told: &[(f64, Event)]) -> Vec<Event> {
    told.iter().map(|(_, e)| e.clone()).collect()
}

/// The frames follow each other in time whatever happens to the source.
fn seamless(stage: &Stage) -> Vec<u8> {
    let frames = stage.frames.lock().unwrap();
    for pair in frames.windows(2) {
        assert_eq!(pair[1].timestamp, pair[0].timestamp + 960, "timestamps go on");
    }
    frames.iter().map(|f| f.level).collect()
}

/// The longest run of frames without sound, in milliseconds, after the start.
fn longest_gap(levels: &[u8]) -> usize {
    let sounds = levels.iter().position(|l| *l < 60).expect("it begins");
    levels[sounds..].split(|l| *l < 60).map(<[u8]>::len).max().unwrap_or(0) * 20
}

#[test]
fn a_source_is_switched_without_a_gap() {
    let world = World::new([mic("a", 0.1), mic("b", 0.32).format(44_100, 2, Format::I16)]);
    let mut stage = Stage::new(&world, SourceSpec::Default, SinkSpec::Null);
    stage.run(1.0);
    let controls = stage.core.controls();
    controls.set_source(device("b"));
    stage.run(1.0);
    let told = stage.told();
    assert_eq!(events(&told), [changed("b", ChangeReason::Requested)]);
    assert!(told[0].0 < 1.1, "at {} s", told[0].0);
    controls.set_source(SourceSpec::Tone);
    stage.run(1.0);
    assert_eq!(events(&stage.told()), [changed("tone", ChangeReason::Requested)]);
    controls.set_source(SourceSpec::Default);
    stage.run(1.0);
    assert_eq!(events(&stage.told()), [changed("a", ChangeReason::Requested)]);
    let levels = seamless(&stage);
    assert_eq!(longest_gap(&levels), 0, "{levels:?}");
    assert_eq!((levels[40], levels[90], levels[140], levels[190]), (23, 13, 20, 23));
    assert_eq!(world.streams(), (1, 3), "the old ones are closed");
}

#[test]
fn mute_stays_while_the_source_is_switched() {
    let world = World::new([mic("a", 0.1), mic("b", 0.32)]);
    let mut stage = Stage::new(&world, SourceSpec::Default, SinkSpec::Null);
    let controls = stage.core.controls();
    controls.set_muted(true);
    stage.run(0.5);
    controls.set_source(device("b"));
    stage.run(0.5);
    assert!(controls.muted());
    assert!(seamless(&stage)[5..].iter().all(|l| *l == 127));
    assert_eq!(controls.stats().level, 13, "the meter shows the new one");
}

#[test]
fn a_sink_is_switched_without_a_gap() {
    let world = World::new([speaker("a"), speaker("b").format(44_100, 2, Format::I16)]);
    let mut stage = Stage::new(&world, SourceSpec::Silence, SinkSpec::Default);
    let mut far = Stage::new(&World::default(), SourceSpec::Tone, SinkSpec::Null);
    let input = stage.core.controls().add_peer(PeerId(1)).unwrap();
    let mut sequence = 0;
    for tick in 0..400 {
        far.run(0.01);
        for frame in far.frames.lock().unwrap().drain(..) {
            let packet = Packet {
                sequence,
                timestamp: frame.timestamp,
                payload: frame.payload,
                kind: PayloadKind::Opus,
            };
            sequence = sequence.wrapping_add(1);
            input.push(packet, stage.start + TICK * stage.ticks as u32);
        }
        match tick {
            200 => stage.core.controls().set_sink(sink_device("b")),
            300 => stage.core.controls().set_sink(SinkSpec::Null),
            _ => {}
        }
        stage.run(0.01);
    }
    let told = events(&stage.told());
    assert!(told.contains(&sink_changed("b", ChangeReason::Requested)), "{told:?}");
    // Each millisecond from the first sound to the last, either speaker is heard.
    let mut loud = [false; 4000];
    for id in ["a", "b"] {
        let (rate, heard) = world.change(id, |g| (f64::from(g.rate), std::mem::take(&mut g.heard)));
        for (at, samples) in heard {
            for (i, chunk) in samples.chunks((rate * 0.005) as usize).enumerate() {
                let from = ((at + i as f64 * 0.005) * 1000.0) as usize;
                if measure::rms(chunk) > 0.02 {
                    loud[from.min(3999)..(from + 6).min(4000)].fill(true);
                }
            }
        }
    }
    let first = loud.iter().position(|l| *l).unwrap();
    let gap = loud[first..3000].split(|l| *l).map(<[bool]>::len).max().unwrap();
    println!("first sound at {first} ms, longest gap {gap} ms");
    assert!(first < 200 && gap <= 5, "first sound at {first} ms, longest gap {gap} ms");
    assert_eq!(world.streams(), (0, 2));
}

#[test]
fn a_microphone_that_vanishes_is_replaced_and_comes_back() {
    for told in [true, false] {
        let world = World::new([mic("a", 0.1), mic("b", 0.32)]);
        let mut stage = Stage::new(&world, device("b"), SinkSpec::Null);
        stage.run(1.0);
        world.unplug("b", told);
        stage.run(3.0);
        let told_events = stage.told();
        if told {
            assert_eq!(lost(&told_events, Direction::Microphone), Some(&DeviceFaultKind::Missing));
        }
        assert_eq!(events(&told_events).last(), Some(&changed("a", ChangeReason::Fallback)));
        world.plug("b");
        stage.run(3.0);
        assert_eq!(events(&stage.told()), [changed("b", ChangeReason::Returned)]);
        stage.run(10.0);
        assert!(stage.told().is_empty());
        let levels = seamless(&stage);
        assert_eq!(levels.last(), Some(&13));
        let gap = longest_gap(&levels);
        println!("told {told}: longest gap {gap} ms");
        assert!(gap <= 200, "{gap} ms");
        assert_eq!(world.streams().0, 1);
    }
}

#[test]
fn a_speaker_that_vanishes_is_replaced_and_comes_back() {
    let world = World::new([speaker("a"), speaker("b")]);
    let mut stage = Stage::new(&world, SourceSpec::Silence, sink_device("b"));
    stage.run(1.0);
    world.unplug("b", true);
    stage.run(3.0);
    let told = stage.told();
    assert_eq!(lost(&told, Direction::Speaker), Some(&DeviceFaultKind::Missing));
    assert_eq!(events(&told).last(), Some(&sink_changed("a", ChangeReason::Fallback)));
    world.plug("b");
    stage.run(3.0);
    assert_eq!(events(&stage.told()), [sink_changed("b", ChangeReason::Returned)]);
    assert!(stage.core.controls().stats().has_sink);
}

#[test]
fn the_default_is_followed() {
    let world = World::new([mic("a", 0.1), mic("b", 0.32), speaker("x"), speaker("y")]);
    let mut stage = Stage::new(&world, SourceSpec::Default, SinkSpec::Default);
    stage.run(3.0);
    assert!(stage.told().is_empty());
    world.set_default(Direction::Microphone, Some("b"));
    world.set_default(Direction::Speaker, Some("y"));
    stage.run(3.0);
    let told = events(&stage.told());
    assert_eq!(told.len(), 2);
    assert!(told.contains(&changed("b", ChangeReason::DefaultMoved)));
    assert!(told.contains(&sink_changed("y", ChangeReason::DefaultMoved)));
    assert_eq!(longest_gap(&seamless(&stage)), 0);
}

#[test]
fn without_any_device_there_is_silence_until_one_comes() {
    let world = World::new([mic("a", 0.1), speaker("x")]);
    world.unplug("a", true);
    world.unplug("x", true);
    let mut stage = Stage::new(&world, SourceSpec::Default, SinkSpec::Default);
    stage.run(5.0);
    let told = events(&stage.told());
    assert!(
        matches!(&told[..], [Event::ListenOnly { cause: a }, Event::NoSpeaker { cause: b }]
        if a.kind == DeviceFaultKind::Missing && b.kind == DeviceFaultKind::Missing),
        "{told:?}"
    );
    assert_eq!(stage.frames.lock().unwrap().len(), 0, "nothing is sent without a microphone");
    world.plug("a");
    world.plug("x");
    stage.run(3.0);
    assert_eq!(events(&stage.told()).len(), 2);
    let first = stage.frames.lock().unwrap()[0].timestamp;
    assert!(first >= 5 * 48_000, "the clock of the timestamps has run: {first}");
    // Both go again: silence goes on, so that the far end keeps its timing.
    world.unplug("a", true);
    world.unplug("x", true);
    stage.run(3.0);
    let told = stage.told();
    assert!(events(&told).iter().any(|e| matches!(e, Event::ListenOnly { .. })), "{told:?}");
    assert_eq!(seamless(&stage).last(), Some(&127));
    assert!(!stage.core.controls().stats().has_source);
    world.plug("a");
    stage.run(3.0);
    assert_eq!(events(&stage.told()), [changed("a", ChangeReason::Returned)]);
    assert_eq!(seamless(&stage).last(), Some(&23));
}

#[test]
fn busy_and_denied_are_told_as_such_and_tried_again() {
    for (mood, kind) in [(Mood::Busy, DeviceFaultKind::Busy), (Mood::Denied, DeviceFaultKind::Denied)] {
        let world = World::new([mic("a", 0.1)]);
        world.change("a", |g| g.mood = mood);
        let mut stage = Stage::new(&world, SourceSpec::Default, SinkSpec::Null);
        stage.run(20.0);
        let told = events(&stage.told());
        assert!(matches!(&told[..], [Event::ListenOnly { cause }] if cause.kind == kind), "{told:?}");
        world.change("a", |g| g.mood = Mood::Fine);
        stage.run(31.0);
        assert_eq!(events(&stage.told()).len(), 1, "it works as soon as it lets itself be opened");
        assert!(stage.core.controls().stats().has_source);
    }
}

#[test]
fn a_switch_that_fails_leaves_what_was_there() {
    let world = World::new([mic("a", 0.1), mic("b", 0.32), mic("c", 0.3), mic("d", 0.3)]);
    world.change("b", |g| g.mood = Mood::Busy);
    world.change("c", |g| g.mood = Mood::Denied);
    world.change("d", |g| g.mood = Mood::Stalls);
    let mut stage = Stage::new(&world, device("a"), SinkSpec::Null);
    stage.run(0.5);
    for (id, kind) in [
        ("b", DeviceFaultKind::Busy),
        ("c", DeviceFaultKind::Denied),
        ("d", DeviceFaultKind::Stalled),
        ("nobody", DeviceFaultKind::Missing),
    ] {
        stage.core.controls().set_source(device(id));
        stage.run(5.0);
        let told = events(&stage.told());
        assert!(
            matches!(&told[..], [Event::SwitchFailed { direction: Direction::Microphone, wanted, cause }]
                if *wanted == format!("custom:{id}") && cause.kind == kind),
            "{id}: {told:?}"
        );
    }
    let missing = SourceSpec::Wav("no/such/file.wav".into());
    stage.core.controls().set_source(missing);
    stage.run(1.0);
    assert!(matches!(&events(&stage.told())[..], [Event::SwitchFailed { .. }]));
    assert_eq!(longest_gap(&seamless(&stage)), 0);
    assert_eq!(world.streams().0, 1);
}

#[test]
fn a_request_for_what_is_in_use_names_that_and_nothing_that_was_refused() {
    let world = World::new([mic("a", 0.1), mic("d", 0.3)]);
    world.change("d", |g| g.mood = Mood::Stalls);
    let mut stage = Stage::new(&world, device("a"), SinkSpec::Null);
    stage.run(0.5);
    stage.core.controls().set_source(device("d"));
    stage.run(5.0);
    assert!(matches!(&events(&stage.told())[..], [Event::SwitchFailed { .. }]));
    stage.core.controls().set_source(device("a"));
    stage.run(0.5);
    assert_eq!(events(&stage.told()), [changed("a", ChangeReason::Requested)]);
    assert_eq!(stage.core.controls().source().unwrap().id, "custom:a");
}

#[test]
fn a_microphone_that_comes_while_muted_is_not_heard_at_all() {
    let world = World::new([mic("a", 0.1), mic("b", 0.32)]);
    world.unplug("a", true);
    world.unplug("b", true);
    let mut stage = Stage::new(&world, SourceSpec::Default, SinkSpec::Null);
    stage.run(1.0);
    stage.core.controls().set_muted(true);
    world.plug("b");
    stage.core.controls().set_source(device("b"));
    stage.run(1.0);
    world.plug("a");
    stage.run(5.0);
    assert_eq!(stage.core.controls().stats().level, 13, "the meter shows it");
    let levels = seamless(&stage);
    assert!(levels.len() > 200 && levels.iter().all(|level| *level == 127), "{levels:?}");
}

#[test]
fn a_device_that_is_opened_while_the_engine_ends_is_closed() {
    let world = World::new([mic("a", 0.1), mic("b", 0.32), speaker("x"), speaker("y")]);
    let mut stage = Stage::new(&world, device("a"), sink_device("x"));
    stage.run(0.5);
    let controls = stage.core.controls();
    controls.set_source(device("b"));
    controls.set_sink(sink_device("y"));
    // The desk has opened them, and no tick has fetched them.
    let mut desk = stage.core.desk.take().unwrap();
    let now = stage.start + TICK * stage.ticks as u32;
    desk.step(now);
    assert_eq!(world.streams(), (4, 4));
    stage.core.finish().unwrap();
    assert_eq!(world.streams(), (0, 4));
    // And what is asked for from now on is not opened at all.
    controls.set_source(device("b"));
    desk.step(now + TICK);
    assert_eq!(world.streams(), (0, 4));
    assert_eq!((controls.source(), controls.sink()), (None, None));
}

#[test]
fn a_stream_that_stops_by_itself_is_replaced() {
    let world = World::new([mic("a", 0.1), mic("b", 0.32), speaker("x"), speaker("y")]);
    let mut stage = Stage::new(&world, device("b"), sink_device("y"));
    stage.run(1.0);
    world.change("b", |g| g.mood = Mood::Stalls);
    world.change("y", |g| g.mood = Mood::Stalls);
    stage.run(6.0);
    let told = stage.told();
    assert_eq!(lost(&told, Direction::Microphone), Some(&DeviceFaultKind::Stalled));
    assert_eq!(lost(&told, Direction::Speaker), Some(&DeviceFaultKind::Stalled));
    assert!(events(&told).contains(&changed("a", ChangeReason::Fallback)));
    assert!(events(&told).contains(&sink_changed("x", ChangeReason::Fallback)));
    world.change("b", |g| g.mood = Mood::Fine);
    world.change("y", |g| g.mood = Mood::Fine);
    stage.run(40.0);
    let told = events(&stage.told());
    assert!(told.contains(&changed("b", ChangeReason::Returned)), "{told:?}");
    assert!(told.contains(&sink_changed("y", ChangeReason::Returned)), "{told:?}");
}

#[test]
fn gaps_that_the_driver_reports_are_counted_over_a_switch() {
    let world = World::new([mic("a", 0.1), mic("b", 0.32)]);
    let mut stage = Stage::new(&world, SourceSpec::Default, SinkSpec::Null);
    stage.run(0.5);
    world.xrun("a");
    stage.core.controls().set_source(device("b"));
    stage.run(0.5);
    world.xrun("b");
    stage.run(0.1);
    assert_eq!(stage.core.controls().stats().capture_xruns, 2);
}

#[test]
fn a_file_that_is_switched_away_from_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("heard.wav");
    let mut stage =
        Stage::new(&World::default(), SourceSpec::Silence, SinkSpec::Wav(path.clone(), Default::default()));
    stage.run(0.5);
    let memory = MemorySink::new();
    stage.core.controls().set_sink(SinkSpec::Memory(memory.clone()));
    stage.core.controls().set_source(SourceSpec::Memory(MemorySource::new(vec![0.5; 4800])));
    stage.run(0.5);
    // The block of the switch is in both: faded out in one, faded in in the other.
    assert_eq!(hound::WavReader::open(&path).unwrap().duration(), 51 * 480);
    assert_eq!(memory.samples().len(), 50 * 480);
    let told = events(&stage.told());
    assert!(
        matches!(
            &told[..],
            [Event::SourceChanged { .. }, Event::SinkChanged { .. }, Event::SourceEnded]
                | [Event::SinkChanged { .. }, Event::SourceChanged { .. }, Event::SourceEnded]
        ),
        "{told:?}"
    );
}

#[test]
fn several_engines_share_one_system() {
    let world = World::new([mic("a", 0.1), speaker("x")]);
    let mut one = Stage::new(&world, SourceSpec::Default, SinkSpec::Default);
    let mut two = Stage::new(&world, SourceSpec::Default, SinkSpec::Default);
    for _ in 0..100 {
        one.run(0.01);
        two.run(0.01);
    }
    assert_eq!(world.streams(), (4, 4));
    one.core.controls().set_source(SourceSpec::Silence);
    for _ in 0..100 {
        one.run(0.01);
        two.run(0.01);
    }
    assert_eq!(world.streams(), (3, 4));
    assert_eq!((seamless(&one).last(), seamless(&two).last()), (Some(&127), Some(&23)));
}
