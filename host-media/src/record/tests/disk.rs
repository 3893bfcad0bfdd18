//! Disks that are full, slow or not there.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
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
    /// How long each write takes.
    slow: Duration,
}

struct MemoryFile {
    bytes: Written,
    room: usize,
    slow: Duration,
}

impl Files for Memory {
    fn create(&mut self, label: &str) -> Result<(PathBuf, Box<dyn Out>), RecordFault> {
        let mut files = self.files.lock().unwrap();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let room = if files.is_empty() && !self.all { usize::MAX } else { self.room };
        files.push(Arc::clone(&bytes));
        Ok((PathBuf::from(label), Box::new(MemoryFile { bytes, room, slow: self.slow })))
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
        std::thread::sleep(self.slow);
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
        Ok(())
    }
}

fn memory(room: &Room, spec: &RecordSpec, memory: &Memory) -> Result<(), Error> {
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
            Event::RecordingFailed { file, cause } => Some((file.clone(), cause.clone())),
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
    // Without lockstep, and faster than any disk: most of it does not fit.
    let mut room = room(clicks(120, 1_000, 500));
    let disk = Memory { room: usize::MAX, slow: Duration::from_millis(30), ..Memory::default() };
    memory(&room, &RecordSpec::new(""), &disk).unwrap();
    for _ in 0..6_001 {
        room.tick();
    }
    let stats = room.controls.recording().unwrap();
    room.core.finish().unwrap();
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
