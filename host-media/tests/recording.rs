//! A recording of a running engine: its ticks by the clock, its disk a real one.

#![allow(clippy::unwrap_used)]

use std::{
    io::Cursor,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use host_media::{Engine, Event, PeerId, PlaySpec, RecordSpec, SinkSpec, SourceSpec};

/// Samples that a file holds, by what its last page says.
fn samples(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    let mut reader = ogg::PacketReader::new(Cursor::new(&bytes));
    let head = reader.read_packet().unwrap().unwrap().data;
    let skip = u64::from(u16::from_le_bytes([head[10], head[11]]));
    let mut last = None;
    while let Some(packet) = reader.read_packet().unwrap() {
        last = Some((packet.absgp_page(), packet.last_in_stream()));
    }
    let (end, complete) = last.unwrap();
    assert!(complete, "{path:?} has an end");
    end - skip
}

#[test]
fn an_engine_that_stops_closes_its_recording() {
    let dir = tempfile::tempdir().unwrap();
    let (tell, events) = mpsc::channel();
    let engine = Engine::builder()
        .source(SourceSpec::Tone)
        .sink(SinkSpec::Null)
        .on_event(move |event| drop(tell.send(event)))
        .start()
        .unwrap();
    engine.set_label(PeerId(3), "Ann");
    engine.record(&RecordSpec::new(dir.path()).labels("Zoë", "everybody")).unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    let recorded = |ms: u64| {
        while engine.recording().is_none_or(|stats| stats.length < Duration::from_millis(ms)) {
            assert!(Instant::now() < patience, "{:?}", engine.recording());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    recorded(200);
    engine.add_peer(PeerId(3)).unwrap();
    recorded(400);
    engine.stop().unwrap();
    let events: Vec<_> = events.iter().collect();
    let stopped = events.iter().find_map(|event| match event {
        Event::RecordingStopped { files, length, .. } => Some((files.clone(), *length)),
        _ => None,
    });
    let (files, length) = stopped.unwrap();
    assert!(length >= Duration::from_millis(400), "{length:?}");
    let labels = ["Zoë", "everybody", "Ann"];
    assert_eq!(files.len(), labels.len());
    for (file, label) in files.iter().zip(labels) {
        assert!(file.to_str().unwrap().ends_with(&format!("-{label}.opus")), "{file:?}");
        assert_eq!(samples(file), length.as_millis() as u64 * 48, "{file:?}");
    }
    assert!(
        events.iter().any(|event| matches!(event, Event::RecordingStarted { files, .. } if files.len() == 2))
    );
    assert!(!events.iter().any(|event| matches!(event, Event::RecordingFailed { .. })));

    // And it can be played.
    let (tell, events) = mpsc::channel();
    let engine = Engine::builder()
        .source(SourceSpec::Silence)
        .sink(SinkSpec::Null)
        .on_event(move |event| drop(tell.send(event)))
        .start()
        .unwrap();
    engine.play(&PlaySpec::new(&files[0])).unwrap();
    let ended = loop {
        let event = events.recv_timeout(Duration::from_secs(60)).unwrap();
        if let Event::PlayingEnded { file, cause } = event {
            break (file, cause);
        }
    };
    assert_eq!(ended, (files[0].clone(), None));
    engine.stop().unwrap();
}
