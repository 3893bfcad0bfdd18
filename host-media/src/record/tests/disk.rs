//! Disks that are full, slow or not there.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Condvar,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::ThreadId,
};

use super::{
    super::files::{Files, Out},
    *,
};

/// What was written to a file in memory.
type Written = Arc<Mutex<Vec<u8>>>;

/// Files in memory that take so many bytes each, the first one excepted.
#[derive(Clone, Default)]
struct Memory {
    files: Arc<Mutex<Vec<Written>>>,
    room: usize,
    /// Ends in a failure from the first file on.
    all: bool,
    discarded: Arc<AtomicUsize>,
    gate: Arc<Gate>,
    /// A write panics.
    breaks: Arc<AtomicBool>,
    /// How often each file was brought to the disk, and by whom.
    synced: Arc<Mutex<BTreeMap<PathBuf, Vec<ThreadId>>>>,
}

/// Where a disk stands still as long as it is shut.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    moved: Condvar,
}

impl Gate {
    fn shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.moved.notify_all();
    }

    fn pass(&self) {
        let shut = self.shut.lock().unwrap();
        drop(self.moved.wait_while(shut, |shut| *shut).unwrap());
    }
}

struct MemoryFile {
    path: PathBuf,
    bytes: Written,
    room: usize,
    disk: Memory,
}

impl Files for Memory {
    fn create(&mut self, label: &str) -> Result<(PathBuf, Box<dyn Out>), RecordFault> {
        let mut files = self.files.lock().unwrap();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let room = if files.is_empty() && !self.all { usize::MAX } else { self.room };
        files.push(Arc::clone(&bytes));
        let path = PathBuf::from(label);
        Ok((path.clone(), Box::new(MemoryFile { path, bytes, room, disk: self.clone() })))
    }

    fn discard(&mut self, _path: &Path) {
        self.discarded.fetch_add(1, Ordering::Relaxed);
    }

    fn date(&self) -> String {
        "2023-11-14T22:13:20Z".to_owned()
    }

    fn seed(&self) -> u32 {
        1
    }
}

impl io::Write for MemoryFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.disk.gate.pass();
        assert!(!self.disk.breaks.load(Ordering::Relaxed), "a fault of ours");
        let mut bytes = self.bytes.lock().unwrap();
        let n = buf.len().min(self.room - bytes.len().min(self.room));
        if n == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        bytes.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Out for MemoryFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut synced = self.disk.synced.lock().unwrap();
        synced.entry(self.path.clone()).or_default().push(std::thread::current().id());
        Ok(())
    }
}

/// Long enough for any machine; only a failure waits for it.
fn patience() -> impl Fn() -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    move || Instant::now() < until
}

/// What was told of beginnings and ends.
fn lives(room: &Room) -> Vec<(char, u64)> {
    let events = room.events.lock().unwrap();
    let lives = events.iter().filter_map(|event| match event {
        Event::RecordingStarted { id, .. } => Some(('+', id.0)),
        Event::RecordingStopped { id, .. } => Some(('-', id.0)),
        _ => None,
    });
    lives.collect()
}

fn memory(room: &Room, spec: &RecordSpec, memory: &Memory) -> Result<RecordingId, Error> {
    room.controls.recordings().start_with(spec, &mut || Ok(Box::new(memory.clone())))
}

#[test]
fn a_full_disk_ends_a_file_and_not_the_call() {
    let mut room = room(clicks(10, 200, 50));
    let disk = Memory { room: 20_000, ..Memory::default() };
    let spec = RecordSpec::new("").lockstep(true);
    memory(&room, &spec, &disk).unwrap();
    for _ in 0..501 {
        room.tick();
    }
    assert_eq!(room.controls.recording().unwrap().length, Duration::from_secs(5));
    room.core.finish().unwrap();
    let failed: Vec<_> = (room.events.lock().unwrap().iter())
        .filter_map(|event| match event {
            Event::RecordingFailed { file, cause, .. } => Some((file.clone(), cause.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].0, Path::new("all"));
    assert_eq!(room.stopped(), [(vec!["me".into(), "all".into()], Duration::from_secs(5))]);
    let files = disk.files.lock().unwrap();
    assert_eq!(sound(&files[0].lock().unwrap()).len(), 5 * 48_000, "what has room is whole");
    let rest = sound(&files[1].lock().unwrap()).len();
    assert!(
        rest > 0 && (rest + 312 + crate::mixer::Mixer::DELAY).is_multiple_of(48_000),
        "and what has none ends with a page: {rest}"
    );
}

#[test]
fn when_no_file_is_left_the_recording_ends_and_another_one_may_begin() {
    let mut room = room(clicks(60, 200, 50));
    let spec = RecordSpec::new("").lockstep(true);
    memory(&room, &spec, &Memory { room: 5_000, all: true, ..Memory::default() }).unwrap();
    // It is the thread that finds out, so how many ticks this takes depends on the machine.
    let patience = Instant::now() + Duration::from_secs(60);
    while room.stopped().is_empty() && Instant::now() < patience {
        room.tick();
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(room.stopped().len(), 1);
    assert!(room.controls.recording().is_none());
    memory(&room, &spec, &Memory { room: usize::MAX, ..Memory::default() }).unwrap();
    room.tick();
    room.core.finish().unwrap();
    assert_eq!(room.stopped().len(), 2);
}

#[test]
fn what_cannot_be_begun_is_an_error_and_leaves_nothing_behind() {
    let room = room(vec![]);
    let disk = Memory { room: 30, ..Memory::default() };
    match memory(&room, &RecordSpec::new(""), &disk) {
        Err(Error::Record(RecordFault::File { path, cause })) => {
            assert_eq!((path, cause.kind()), (PathBuf::from("all"), io::ErrorKind::StorageFull));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.discarded.load(Ordering::Relaxed), 2);
    let missing = room.controls.record(&RecordSpec::new("no/such/folder")).unwrap_err();
    assert!(missing.to_string().contains("no/such/folder"), "{missing}");
    let dir = tempfile::tempdir().unwrap();
    room.controls.record(&RecordSpec::new(dir.path())).unwrap();
}

#[test]
fn a_slow_disk_costs_sound_but_moves_nothing() {
    // Without lockstep, on a disk that stands still for longer than the ring takes.
    let mut room = room(clicks(120, 1_000, 500));
    let disk = Memory { room: usize::MAX, ..Memory::default() };
    memory(&room, &RecordSpec::new(""), &disk).unwrap();
    disk.gate.shut(true);
    for _ in 0..6_001 {
        room.tick();
    }
    let stats = room.controls.recording().unwrap();
    disk.gate.shut(false);
    room.core.finish_within(Duration::from_secs(60)).unwrap();
    println!("missing: {:?}", stats.missing);
    assert!(stats.missing > Duration::ZERO, "or this test shows nothing");
    let files = disk.files.lock().unwrap();
    for file in &*files {
        assert_eq!(sound(&file.lock().unwrap()).len(), 60 * 48_000);
    }
}

#[test]
fn an_engine_that_is_dropped_leaves_whole_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut room = room(clicks(3, 1_000, 500));
    room.controls.record(&spec(dir.path())).unwrap();
    for _ in 0..101 {
        room.tick();
    }
    drop(room.core);
    assert_eq!(decode(&dir.path().join("20231114-221320-me.opus")).len(), 48_000);
}

#[test]
fn each_end_names_its_beginning_however_long_the_disk_takes() {
    let mut room = room(clicks(10, 200, 50));
    let [slow, quick] = [(); 2].map(|()| Memory { room: usize::MAX, ..Memory::default() });
    let first = memory(&room, &RecordSpec::new(""), &slow).unwrap();
    (0..5).for_each(|_| room.tick());
    assert_eq!(room.controls.recording().unwrap().id, first);
    slow.gate.shut(true);
    assert!(room.controls.stop_recording());
    let second = memory(&room, &RecordSpec::new(""), &quick).unwrap();
    (0..5).for_each(|_| room.tick());
    assert_eq!(room.controls.recording().unwrap().id, second);
    assert_eq!(lives(&room), [('+', first.0), ('+', second.0)], "the first one is not closed yet");
    slow.gate.shut(false);
    let go_on = patience();
    while lives(&room).len() < 3 && go_on() {
        room.tick();
        std::thread::yield_now();
    }
    // One that no tick has begun has an end as well.
    assert!(room.controls.stop_recording());
    let third = memory(&room, &RecordSpec::new(""), &quick).unwrap();
    assert!(room.controls.stop_recording());
    room.core.finish_within(Duration::from_secs(60)).unwrap();
    let told = lives(&room);
    assert_eq!(told[..3], [('+', first.0), ('+', second.0), ('-', first.0)]);
    let mut rest = told[3..].to_vec();
    rest.sort_unstable();
    assert_eq!(rest, [('-', second.0), ('-', third.0)]);
}

#[test]
fn a_thread_that_panics_has_an_end_to_tell() {
    let mut room = room(clicks(10, 200, 50));
    let disk = Memory { room: usize::MAX, ..Memory::default() };
    let id = memory(&room, &RecordSpec::new("").lockstep(true), &disk).unwrap();
    disk.breaks.store(true, Ordering::Relaxed);
    let go_on = patience();
    while room.stopped().is_empty() && go_on() {
        room.tick();
    }
    assert_eq!(lives(&room), [('+', id.0), ('-', id.0)]);
    assert!(room.controls.recording().is_none());
    assert_eq!(room.stopped()[0].0, [PathBuf::from("me"), PathBuf::from("all")]);
}

#[test]
fn the_end_of_an_engine_waits_for_the_disk_but_not_for_ever() {
    let mut room = room(clicks(10, 200, 50));
    let disk = Memory { room: usize::MAX, ..Memory::default() };
    let id = memory(&room, &RecordSpec::new(""), &disk).unwrap();
    (0..5).for_each(|_| room.tick());
    disk.gate.shut(true);
    room.core.finish_within(Duration::from_millis(20)).unwrap();
    assert_eq!(lives(&room), [('+', id.0), ('-', id.0)]);
    let refused = memory(&room, &RecordSpec::new(""), &disk).unwrap_err();
    assert!(matches!(refused, Error::Record(RecordFault::Stopped)), "{refused}");
    disk.gate.shut(false);
    // Its thread completes the files, and tells nothing more.
    let go_on = patience();
    while disk.synced.lock().unwrap().len() < 2 && go_on() {
        std::thread::yield_now();
    }
    for file in &*disk.files.lock().unwrap() {
        assert_eq!(sound(&file.lock().unwrap()).len(), 4 * BLOCK);
    }
    drop(room.core);
    assert_eq!(
        room.events.lock().unwrap().iter().filter(|e| matches!(e, Event::RecordingStopped { .. })).count(),
        1
    );
}

#[test]
fn devices_are_free_for_others_while_the_disk_stands_still() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let builder = Engine::builder().source(SourceSpec::Silence).sink(SinkSpec::Null);
    let mut engine = builder.on_event(move |event| told.lock().unwrap().push(event)).start().unwrap();
    let disk = Memory { room: usize::MAX, ..Memory::default() };
    // In lockstep it is the disk's time that counts: nothing gives up.
    let spec = RecordSpec::new("").lockstep(true);
    let controls = engine.controls();
    controls.recordings().start_with(&spec, &mut || Ok(Box::new(disk.clone()))).unwrap();
    let go_on = patience();
    while controls.recording().is_none_or(|stats| stats.length.is_zero()) && go_on() {
        std::thread::yield_now();
    }
    disk.gate.shut(true);
    let (closed, outcome) = std::sync::mpsc::channel();
    let ending = std::thread::spawn(move || {
        engine.close_devices();
        let _ = closed.send(());
        engine.stop()
    });
    let outcome = outcome.recv_timeout(Duration::from_secs(20));
    let stopped = |event: &Event| matches!(event, Event::RecordingStopped { .. });
    let early = events.lock().unwrap().iter().filter(|event| stopped(event)).count();
    disk.gate.shut(false);
    ending.join().unwrap().unwrap();
    outcome.expect("devices do not wait for the disk");
    assert_eq!(early, 0, "the recording has not ended then");
    assert_eq!(
        events.lock().unwrap().iter().filter(|event| stopped(event)).count(),
        1,
        "but with the engine"
    );
}

#[cfg(feature = "devices")]
#[test]
fn the_microphone_is_closed_before_the_disk_is_waited_for() {
    use crate::device::{
        Direction,
        cpal::fake::{Gear, World},
    };
    let world = World::new([Gear::new(Direction::Microphone, "mic").sound(|t| (t * 2_000.0).sin() as f32)]);
    let mut room = room(vec![]);
    let builder = Engine::builder().system(world.system()).sink(SinkSpec::Null);
    room.core = builder.build(room.epoch, UNIX_EPOCH).unwrap();
    room.controls = room.core.controls();
    let disk = Memory { room: usize::MAX, ..Memory::default() };
    memory(&room, &RecordSpec::new("").lockstep(true), &disk).unwrap();
    for n in 0..10 {
        world.advance(f64::from(n) * 0.01);
        room.tick();
    }
    assert_eq!(world.streams().0, 1);
    disk.gate.shut(true);
    let mut core = room.core;
    let finish = std::thread::spawn(move || core.finish().map(|()| core));
    let go_on = patience();
    while world.streams().0 > 0 && go_on() {
        std::thread::yield_now();
    }
    let (open, waits) = (world.streams().0, !finish.is_finished());
    disk.gate.shut(false);
    drop(finish.join().unwrap().unwrap());
    assert_eq!((open, waits), (0, true));
    assert_eq!(room.controls.source(), None);
}

#[test]
fn what_is_recorded_is_brought_to_the_disk_every_ten_seconds_beside_the_ticks() {
    let mut room = room(clicks(60, 200, 50));
    let disk = Memory { room: usize::MAX, ..Memory::default() };
    memory(&room, &RecordSpec::new("").lockstep(true), &disk).unwrap();
    let counts = || disk.synced.lock().unwrap().values().map(Vec::len).collect::<Vec<_>>();
    (0..1_000).for_each(|_| room.tick());
    assert_eq!(counts(), [0; 0], "not all the time");
    // The thread does it when it has time; the ticks only make it due.
    let go_on = patience();
    for due in 1..4 {
        (0..1_100).for_each(|_| room.tick());
        while !(counts().len() == 2 && counts().iter().all(|n| *n >= due)) && go_on() {
            std::thread::yield_now();
        }
        assert_eq!(counts(), [due, due]);
    }
    room.core.finish().unwrap();
    let own = std::thread::current().id();
    assert!(disk.synced.lock().unwrap().values().flatten().all(|thread| *thread != own));
}
