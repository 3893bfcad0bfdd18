//! The engine with its thread, on the real clock. Nothing here depends on how fast the machine is.

mod common;

use std::{
    sync::mpsc,
    time::{Duration, Instant, SystemTime},
};

use common::{Log, speech};
use host_media::{
    ChangeReason, Direction, Engine, Error, Event, MemorySink, MemorySource, Packet, PeerId, SinkSpec,
    SourceSpec, WavFormat, devices,
};

/// Long enough for any machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn two_engines_in_one_process_hear_each_other() {
    let heard = MemorySink::new();
    let (told, events) = mpsc::channel();
    let b = Engine::builder()
        .source(SourceSpec::Silence)
        .sink(SinkSpec::Memory(heard.clone()))
        .on_event(move |event| told.send(event).unwrap_or_default())
        .start()
        .unwrap();
    let input = b.add_peer(PeerId(1)).unwrap();
    let mut sequence = 0_u16;
    let a = Engine::builder()
        .source(SourceSpec::Memory(MemorySource::new(speech(30.0, 48_000))))
        .sink(SinkSpec::Null)
        .on_frame(move |frame| {
            let packet = Packet::new(sequence, frame.timestamp, frame.payload);
            sequence = sequence.wrapping_add(1);
            input.push(packet, Instant::now());
        })
        .start()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::FirstAudio { peer: PeerId(1) }) => break,
            Ok(_) => {}
            Err(e) => panic!("nothing was heard: {e}"),
        }
    }
    assert!(a.stats().frames > 0 && b.stats().has_source);
    a.stop().unwrap();
    b.stop().unwrap();
}

#[test]
fn source_and_sink_are_switched_while_it_runs() {
    let (told, events) = mpsc::channel();
    let engine = Engine::builder()
        .source(SourceSpec::Silence)
        .sink(SinkSpec::Null)
        .on_event(move |event| told.send(event).unwrap_or_default())
        .start()
        .unwrap();
    let heard = MemorySink::new();
    engine.set_source(SourceSpec::Tone);
    engine.set_sink(SinkSpec::Memory(heard.clone()));
    let until = Instant::now() + PATIENCE;
    let (mut source, mut sink) = (false, false);
    while !(source && sink) {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::SourceChanged { id, reason: ChangeReason::Requested, .. }) => source = id == "tone",
            Ok(Event::SinkChanged { id, reason: ChangeReason::Requested, .. }) => sink = id == "memory",
            Ok(_) => {}
            Err(e) => panic!("nothing was switched: {e}"),
        }
    }
    while heard.samples().is_empty() || engine.stats().level != 20 {
        assert!(Instant::now() < until, "the new ones are not in use");
        std::thread::yield_now();
    }
    engine.set_source(SourceSpec::Device("no-such-microphone".to_owned()));
    loop {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::SwitchFailed { direction, wanted, .. }) => {
                assert_eq!((direction, wanted.as_str()), (Direction::Microphone, "no-such-microphone"));
                break;
            }
            Ok(_) => {}
            Err(e) => panic!("the failure was not told: {e}"),
        }
    }
    engine.stop().unwrap();
}

#[test]
fn a_file_is_complete_after_stop_and_after_drop() {
    let dir = tempfile::tempdir().unwrap();
    for stop in [true, false] {
        let path = dir.path().join("out.wav");
        let log = Log::default();
        let before = SystemTime::now();
        let engine = log
            .attach(Engine::builder())
            .source(SourceSpec::Tone)
            .sink(SinkSpec::Wav(path.clone(), WavFormat::default()))
            .start()
            .unwrap();
        let until = Instant::now() + PATIENCE;
        while engine.stats().ticks < 20 {
            assert!(Instant::now() < until, "no ticks");
            std::thread::yield_now();
        }
        let ticks = engine.stats().ticks;
        if stop {
            engine.stop().unwrap();
        } else {
            drop(engine);
        }
        let frames = u64::from(hound::WavReader::open(&path).unwrap().duration());
        assert!(frames >= ticks * 480 && frames % 480 == 0, "{frames}");
        let (microphone, speaker) = log.started();
        assert!(speaker.unwrap() >= before && speaker.unwrap() <= SystemTime::now());
        assert_eq!(speaker.unwrap().duration_since(microphone.unwrap()).unwrap(), Duration::from_millis(10));
    }
}

#[test]
fn a_panic_in_a_callback_is_told_at_stop() {
    let (called, call) = mpsc::channel();
    let engine = Engine::builder()
        .source(SourceSpec::Silence)
        .sink(SinkSpec::Null)
        .on_frame(move |_| {
            called.send(()).unwrap_or_default();
            panic!("the application's own fault")
        })
        .start()
        .unwrap();
    call.recv_timeout(PATIENCE).unwrap();
    let error = engine.stop().unwrap_err();
    assert!(matches!(&error, Error::Panicked(text) if text.contains("own fault")), "{error}");
}

#[test]
fn what_does_not_exist_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.wav");
    let error = Engine::builder().source(SourceSpec::Wav(missing)).sink(SinkSpec::Null).start().unwrap_err();
    assert!(error.to_string().contains("missing.wav"), "{error}");
    let folder = dir.path().join("no/out.wav");
    let sink = SinkSpec::Wav(folder, WavFormat::default());
    let error = Engine::builder().source(SourceSpec::Silence).sink(sink).start().unwrap_err();
    assert!(error.to_string().contains("out.wav"), "{error}");
    let spec = SourceSpec::Device("no-such-microphone".to_owned());
    match Engine::builder().source(spec).sink(SinkSpec::Null).start() {
        Err(Error::NoSuchDevice { id, available, .. }) => {
            assert_eq!(id, "no-such-microphone");
            let error = Error::NoSuchDevice { direction: host_media::Direction::Microphone, id, available };
            assert!(error.to_string().contains("no-such-microphone"), "{error}");
        }
        // A machine without any audio system, or a build without devices.
        Err(Error::Devices(fault)) => assert!(!fault.message.is_empty()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_sound_card_the_engine_still_runs() {
    // On a machine that has one, it runs with it.
    let log = Log::default();
    let engine = log.attach(Engine::builder()).start().unwrap();
    let until = Instant::now() + PATIENCE;
    while engine.stats().ticks < 5 {
        assert!(Instant::now() < until, "no ticks");
        std::thread::yield_now();
    }
    let stats = engine.stats();
    engine.stop().unwrap();
    let events = log.events.lock().unwrap();
    let told = |wanted: fn(&Event) -> bool| events.iter().filter(|e| wanted(e)).count();
    assert_eq!(told(|e| matches!(e, Event::ListenOnly { .. })), usize::from(!stats.has_source));
    assert_eq!(told(|e| matches!(e, Event::NoSpeaker { .. })), usize::from(!stats.has_sink));
    if !stats.has_source {
        assert_eq!(stats.frames, 0, "nothing is sent without a microphone");
    }
    if let Ok(devices) = devices() {
        assert!(devices.iter().all(|d| !d.id.is_empty()));
    }
}
