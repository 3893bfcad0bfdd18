//! Recordings of a core on a virtual clock: what is where in their files, whatever happens.

mod disk;

use std::{
    io::Cursor,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use super::{RecordSpec, RecordingId};
use crate::{
    BLOCK, Controls, Core, Engine, Event, MemorySource, Packet, PeerId, PeerInput, SinkSpec, SourceSpec,
    TICK,
    codec::{Encoded, Encoder},
    container::{
        self,
        clicks::{CLICK, click, found},
    },
    error::{Error, RecordFault},
    format::{Format, FrameLength},
    source::memory::Samples,
};

/// Clicks at the start of each of these milliseconds, over a whisper that keeps everybody awake.
fn clicks(seconds: usize, every_ms: usize, at_ms: usize) -> Vec<f32> {
    (0..seconds * 48_000)
        .map(|i| {
            let within = (i + every_ms * 48 - at_ms * 48) % (every_ms * 48);
            let started = i >= at_ms * 48;
            if started && within < CLICK {
                click(within)
            } else {
                0.0005 * (((i * 31) % 17) as f32 / 8.0 - 1.0)
            }
        })
        .collect()
}

fn near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?} instead of {expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 0.5, "{found} instead of {expected} ms");
    }
}

fn decode(path: &Path) -> Vec<f32> {
    sound(&std::fs::read(path).unwrap())
}

fn sound(bytes: &[u8]) -> Vec<f32> {
    let mut samples = container::OpusSamples::begin(Cursor::new(bytes)).ok().unwrap();
    let (mut all, mut out) = (Vec::new(), [0.0; 4800]);
    loop {
        let n = samples.next(&mut out).unwrap();
        all.extend_from_slice(&out[..n]);
        if n < out.len() {
            return all;
        }
    }
}

/// A remote peer who says something, packet by packet.
struct Remote {
    input: PeerInput,
    encoder: Encoder,
    sound: Vec<f32>,
    at: usize,
    sequence: u16,
}

impl Remote {
    fn new(input: PeerInput, sound: Vec<f32>) -> Self {
        let encoder = Encoder::new(Format::new(FrameLength::Ms10)).unwrap();
        Self { input, encoder, sound, at: 0, sequence: 0 }
    }

    /// The next 10 ms arrive now, or never.
    fn speak(&mut self, now: Instant, arrives: bool) {
        let Some(frame) = self.sound.get(self.at..self.at + BLOCK) else { return };
        let Encoded::Packet(payload) = self.encoder.encode(frame).unwrap() else { panic!("no packet") };
        let payload = Bytes::copy_from_slice(payload);
        let timestamp = self.at as u32;
        self.at += BLOCK;
        self.sequence = self.sequence.wrapping_add(1);
        let packet = Packet::new(self.sequence, timestamp, payload);
        if arrives {
            self.input.push(packet, now);
        }
    }
}

struct Room {
    core: Core,
    controls: Controls,
    epoch: Instant,
    ticks: u32,
    events: Arc<Mutex<Vec<Event>>>,
}

fn room(own: Vec<f32>) -> Room {
    let events = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&events);
    let epoch = Instant::now();
    let core = Engine::builder()
        .source(SourceSpec::Memory(MemorySource::new(own)))
        .sink(SinkSpec::Null)
        .format(Format::new(FrameLength::Ms60))
        .on_event(move |event| tell.lock().unwrap().push(event))
        .build(epoch, UNIX_EPOCH)
        .unwrap();
    Room { controls: core.controls(), core, epoch, ticks: 0, events }
}

impl Room {
    fn now(&self) -> Instant {
        self.epoch + TICK * self.ticks
    }

    fn tick(&mut self) {
        let now = self.now();
        self.core.tick(now);
        self.ticks += 1;
    }

    fn stopped(&self) -> Vec<(Vec<PathBuf>, Duration)> {
        let events = self.events.lock().unwrap();
        let stopped = events.iter().filter_map(|event| match event {
            Event::RecordingStopped { files, length, .. } => Some((files.clone(), *length)),
            _ => None,
        });
        stopped.collect()
    }
}

fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn spec(dir: &Path) -> RecordSpec {
    RecordSpec::new(dir).start(at()).lockstep(true)
}

fn names(files: &[PathBuf]) -> Vec<&str> {
    files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect()
}

#[test]
fn everybody_is_where_they_were_whoever_is_muted_late_or_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut room = room(clicks(12, 1_000, 100));
    room.controls.set_label(PeerId(1), "Ann");
    let mut ann = Remote::new(room.controls.add_peer(PeerId(1)).unwrap(), clicks(12, 1_000, 400));
    let mut ben = None;
    // The recording begins with the tick after this one.
    room.controls.record(&spec(dir.path())).unwrap();
    room.tick();
    let begun = room.events.lock().unwrap().contains(&Event::RecordingStarted {
        id: RecordingId(1),
        files: ["me", "all", "Ann"]
            .map(|label| dir.path().join(format!("20231114-221320-{label}.opus")))
            .to_vec(),
    });
    assert!(begun, "{:?}", room.events.lock().unwrap());
    // When the peers' sound is played: from the first packet on it has its delay.
    let mut lost = 1_u32;
    for n in 0..1_000 {
        room.controls.set_muted((300..500).contains(&n));
        if n == 350 {
            room.controls.set_label(PeerId(2), "Ben");
            ben = Some(Remote::new(room.controls.add_peer(PeerId(2)).unwrap(), clicks(12, 1_000, 700)));
        }
        let now = room.now();
        lost = lost.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // A tenth of Ann's packets is lost, but none with a click: what is lost is not where it was.
        let click = n % 100 / 3 == 13;
        ann.speak(now, click || !lost.is_multiple_of(10));
        if let Some(ben) = &mut ben {
            ben.speak(now, true);
        }
        room.tick();
    }
    room.core.finish().unwrap();
    let (files, length) = room.stopped().pop().unwrap();
    assert_eq!(length, Duration::from_secs(10));
    assert_eq!(
        names(&files),
        ["me", "all", "Ann", "Ben"].map(|label| format!("20231114-221320-{label}.opus"))
    );
    let sounds: Vec<_> = files.iter().map(|path| decode(path)).collect();
    for sound in &sounds {
        assert_eq!(sound.len(), 480_000);
    }
    let [me, all, ann, ben] = &sounds[..] else { panic!("four files") };
    // The first block went by before the recording. While muted nothing is said.
    let own: Vec<f64> =
        (0..10).map(|n| f64::from(n) * 1000.0 + 90.0).filter(|t| !(3_000.0..5_000.0).contains(t)).collect();
    near(&found(me), &own);
    // Peers are heard after the delay of their jitter buffers, which is what is played, and moves by a tick at most.
    let (ann, ben) = (found(ann), found(ben));
    assert_eq!((ann.len(), ben.len()), (10, 6), "{ann:?} {ben:?}");
    println!("Ann {ann:?}\nBen {ben:?}");
    for (n, t) in ann.iter().enumerate() {
        let delay = t - (n as f64 * 1000.0 + 400.0);
        assert!((5.0..100.0).contains(&delay), "Ann's click {n} at {t}");
    }
    for (n, t) in ben.iter().enumerate() {
        let delay = t - (3_500.0 + n as f64 * 1000.0 + 700.0);
        assert!((5.0..100.0).contains(&delay), "Ben's click {n} at {t}");
    }
    // In the mix each click lies where it lies in the file of who clicked.
    let mut each: Vec<f64> = own.iter().chain(&ann).chain(&ben).copied().collect();
    each.sort_by(f64::total_cmp);
    near(&found(all), &each);
}

#[test]
fn the_files_of_peers_hold_what_is_played_to_within_a_millisecond() {
    // What is decoded out of the file is compared with what the engine plays: the delay of the jitter buffer is in both.
    let dir = tempfile::tempdir().unwrap();
    let heard = crate::MemorySink::new();
    let mut room = room(vec![]);
    let epoch = room.epoch;
    room.core = Engine::builder()
        .source(SourceSpec::Silence)
        .sink(SinkSpec::Memory(heard.clone()))
        .build(epoch, UNIX_EPOCH)
        .unwrap();
    room.controls = room.core.controls();
    let mut ann = Remote::new(room.controls.add_peer(PeerId(1)).unwrap(), clicks(8, 300, 50));
    room.controls.record(&spec(dir.path())).unwrap();
    room.tick();
    drop(heard.take());
    for n in 0..700_u32 {
        // Bursts of three, and now and then nothing for a quarter of a second.
        ann.speak(room.now(), !(n % 50 > 46 || (400..425).contains(&n)));
        if n == 200 {
            room.controls.set_gain(PeerId(1), 0.5);
        }
        room.tick();
    }
    room.core.finish().unwrap();
    // What is played has gone through the mixer, which looks ahead.
    let mut played = heard.take().split_off(crate::mixer::Mixer::DELAY);
    played.resize(played.len() + crate::mixer::Mixer::DELAY, 0.0);
    let file = decode(&dir.path().join("20231114-221320-peer-1.opus"));
    assert_eq!(file.len(), played.len());
    let loud: Vec<f32> =
        played.iter().enumerate().map(|(i, s)| if i > 96_500 { 2.0 * s } else { *s }).collect();
    let (played, recorded) = (found(&loud), found(&file));
    assert!(played.len() > 15);
    near(&recorded, &played);
}

#[test]
fn a_standstill_is_silence_of_the_same_length_in_all_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut room = room(clicks(20, 1_000, 500));
    let mut ann = Remote::new(room.controls.add_peer(PeerId(1)).unwrap(), clicks(20, 1_000, 500));
    room.controls.record(&spec(dir.path())).unwrap();
    room.tick();
    for n in 0..500 {
        if n == 250 {
            room.core.skip(400);
            room.ticks += 400;
            ann.at += 400 * BLOCK;
            ann.sequence += 400;
        }
        ann.speak(room.now(), true);
        room.tick();
    }
    room.core.finish().unwrap();
    let (files, length) = room.stopped().pop().unwrap();
    assert_eq!(length, Duration::from_secs(9));
    let own: Vec<f64> =
        (0..9).filter(|n| !(3..7).contains(n)).map(|n| f64::from(n) * 1000.0 + 490.0).collect();
    for path in &files {
        assert_eq!(decode(path).len(), 9 * 48_000, "{path:?}");
    }
    near(&found(&decode(&files[0])), &own);
}

#[test]
fn stopped_and_begun_again_there_are_new_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut room = room(clicks(20, 500, 250));
    assert!(!room.controls.stop_recording() && room.controls.recording().is_none());
    for part in 0..3_u32 {
        room.controls.record(&spec(dir.path())).unwrap();
        assert!(matches!(room.controls.record(&spec(dir.path())), Err(Error::Record(RecordFault::Already))));
        room.tick();
        for _ in 0..199 {
            room.tick();
        }
        let stats = room.controls.recording().unwrap();
        assert_eq!(
            (stats.length, stats.missing, stats.files),
            (Duration::from_millis(1_990), Duration::ZERO, 2)
        );
        assert!(room.controls.stop_recording());
        room.tick();
        assert!(room.controls.recording().is_none() && !room.controls.stop_recording());
        let (files, length) = room.stopped().pop().unwrap();
        assert_eq!(length, Duration::from_secs(2));
        let stem = ["20231114-221320", "20231114-221320-2", "20231114-221320-3"][part as usize];
        assert_eq!(names(&files), [format!("{stem}-me.opus"), format!("{stem}-all.opus")]);
        let begun = 10.0 + f64::from(part) * 2010.0;
        let expected: Vec<f64> = (0..20)
            .map(|n| 250.0 + 500.0 * f64::from(n) - begun)
            .filter(|t| (0.0..2000.0).contains(t))
            .collect();
        near(&found(&decode(&files[0])), &expected);
    }
    // One that no tick has begun is whole all the same, and empty.
    room.controls.record(&spec(dir.path())).unwrap();
    assert!(room.controls.stop_recording());
    room.core.finish().unwrap();
    let (files, length) = room.stopped().pop().unwrap();
    assert_eq!((length, decode(&files[0]).iter().all(|s| *s == 0.0)), (Duration::ZERO, true));
    assert!(matches!(room.controls.record(&spec(dir.path())), Err(Error::Record(RecordFault::Stopped))));
}

#[test]
fn one_who_comes_back_is_in_the_same_file_also_under_another_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut room = room(vec![]);
    room.controls.record(&spec(dir.path())).unwrap();
    room.tick();
    // Somebody else has the same name, and stays.
    room.controls.set_label(PeerId(1), "Ann");
    room.controls.add_peer(PeerId(1)).unwrap();
    for number in [4, 4, 5] {
        room.controls.set_label(PeerId(number), "Ann");
        let mut ann = Remote::new(room.controls.add_peer(PeerId(number)).unwrap(), clicks(3, 1_000, 500));
        for _ in 0..200 {
            ann.speak(room.now(), true);
            room.tick();
        }
        // The thread looks for who is there when it has time: each of the two is to be met alone.
        while room.controls.recording().unwrap().behind > Duration::ZERO {
            std::thread::yield_now();
        }
        room.controls.remove_peer(PeerId(number));
    }
    // If both numbers speak at once, nothing is moved by it.
    let both = [4, 5].map(|number| room.controls.add_peer(PeerId(number)).unwrap());
    let mut both = both.map(|input| Remote::new(input, clicks(3, 1_000, 900)));
    for _ in 0..100 {
        let now = room.now();
        both.iter_mut().for_each(|remote| remote.speak(now, true));
        room.tick();
    }
    room.core.finish().unwrap();
    let (files, length) = room.stopped().pop().unwrap();
    let sounds: Vec<_> = files.iter().map(|path| decode(path)).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    assert!(sounds.iter().all(|sound| sound.len() == 48 * length.as_millis() as usize));
    // Which of the two was first is chance: the thread looks for them when it has time.
    let mut counts: Vec<_> = sounds[2..].iter().map(|sound| found(sound).len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 7]);
}

#[test]
fn twenty_minutes_bring_no_drift_between_the_files() {
    let dir = tempfile::tempdir().unwrap();
    // A click each minute, and nothing between, so that it takes no twenty minutes. A block too many in an hour would be
    // seen: 3 ms, where 0.5 are allowed.
    let second: Vec<f32> = (0..48_000)
        .map(|i| if (24_000..24_000 + CLICK).contains(&i) { click(i - 24_000) } else { 0.0 })
        .collect();
    let own: Vec<f32> =
        (0..20).flat_map(|_| second.iter().copied().chain(std::iter::repeat_n(0.0, 59 * 48_000))).collect();
    let mut room = room(own);
    // What is sent is of no interest here.
    room.controls.set_complexity(0);
    let theirs: Vec<f32> = second[9_600..].iter().chain(&second[..9_600]).copied().collect();
    room.controls.add_peer(PeerId(1)).unwrap();
    room.controls.record(&spec(dir.path())).unwrap();
    room.tick();
    // The peer says the same through the taps, so that no jitter buffer is in the way.
    let mut late = theirs.chunks(BLOCK).cycle();
    for n in 0..119_999_u32 {
        if n % 6000 < 100 {
            let block = late.next().unwrap().try_into().unwrap();
            room.core.taps().peer(PeerId(1), block);
            if n >= 60_000 {
                room.core.taps().peer(PeerId(2), block);
            }
        }
        room.tick();
    }
    room.core.finish().unwrap();
    let (files, length) = room.stopped().pop().unwrap();
    assert_eq!(length, Duration::from_millis(1_199_990));
    let sounds: Vec<_> = files
        .iter()
        .map(|path| (path, found(&decode(path)), std::fs::metadata(path).unwrap().len()))
        .collect();
    let expected: Vec<f64> = (0..20).map(|n| f64::from(n) * 60_000.0 + 300.0).collect();
    for (path, clicks, bytes) in &sounds {
        println!("{path:?}: {} clicks, {bytes} bytes", clicks.len());
        assert!(*bytes < 500_000, "silence is small");
    }
    let own: Vec<f64> = expected.iter().map(|t| t + 190.0).collect();
    near(&sounds[0].1, &own);
    near(&sounds[2].1, &expected);
    near(&sounds[3].1, &expected[10..]);
    let mut all = [own, expected].concat();
    all.sort_by(f64::total_cmp);
    near(&sounds[1].1, &all);
}
