//! Disks that stand still while something is recorded.

use super::*;

/// What a disk that stands still holds up: the word of a recording's end. Goes on when it is dropped.
struct Still {
    goes_on: Option<channel::Sender<()>>,
    held: Option<thread::JoinHandle<()>>,
}

impl Still {
    async fn of(bench: &Bench) -> Self {
        let (entered, is_in) = channel::channel();
        let (goes_on, waits) = channel::channel::<()>();
        let sound = bench.sound.clone();
        let held = thread::spawn(move || {
            let _told = lock(&sound.recordings);
            entered.send(()).unwrap();
            // Ends with the sender.
            let _ = waits.recv();
        });
        tokio::task::spawn_blocking(move || is_in.recv_timeout(STUCK)).await.unwrap().unwrap();
        Self { goes_on: Some(goes_on), held: Some(held) }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        drop(self.goes_on.take());
        self.held.take().map(thread::JoinHandle::join);
    }
}

/// A call whose recording ends on a disk that stands still.
async fn recorded(bench: &mut Bench, folder: &std::path::Path) -> (u64, Still) {
    bench.open(call(1));
    bench.sends().await;
    let folder = folder.to_owned();
    bench.sound.clone().execute(SoundCommand::Record { call: call(1), folder }).await.unwrap();
    let (_, number, running, _) = bench.recording().await;
    assert!(running);
    (number, Still::of(bench).await)
}

#[tokio::test]
async fn the_next_call_does_not_wait_for_the_disk_of_the_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(tone());
    let (number, still) = recorded(&mut bench, folder.path()).await;
    bench.hang_up(call(1)).await;
    bench.open(call(2));
    bench.sends().await;
    assert_eq!(lock(&bench.sound.state).running().map(|of| of.call), Some(call(2)));
    drop(still);
    let ended = bench.recording().await;
    assert_eq!((ended.0, ended.1, ended.2), (call(1), number, false));
    bench.hang_up(call(2)).await;
}

#[tokio::test]
async fn the_end_of_everything_waits_for_files_as_long_as_for_devices_and_files_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(tone());
    let (number, still) = recorded(&mut bench, folder.path()).await;
    bench.hang_up(call(1)).await;
    assert_eq!(lock(&bench.sound.files).len(), 1);
    let sound = bench.sound.clone();
    let ending = tokio::spawn(async move { sound.shutdown().await });
    // Its devices are closed, and it waits for the files.
    until(|| lock(&bench.sound.files).is_empty()).await;
    tokio::time::pause();
    tokio::time::advance(Engine::DEVICE_PATIENCE + Engine::DISK_PATIENCE).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!ending.is_finished(), "the files are not complete");
    drop(still);
    ending.await.unwrap();
    tokio::time::resume();
    let ended = bench.recording().await;
    assert_eq!((ended.1, ended.2), (number, false));
}

#[tokio::test]
async fn the_end_of_everything_does_not_wait_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(tone());
    let (_, still) = recorded(&mut bench, folder.path()).await;
    bench.hang_up(call(1)).await;
    let sound = bench.sound.clone();
    let ending = tokio::spawn(async move { sound.shutdown().await });
    until(|| lock(&bench.sound.files).is_empty()).await;
    tokio::time::pause();
    tokio::time::advance(CLOSING + Duration::from_secs(1)).await;
    ending.await.unwrap();
    drop(still);
}

#[tokio::test]
async fn a_recording_that_is_stopped_while_it_begins_does_not_run() {
    let (entered, is_in) = channel::channel();
    let (goes_on, waits) = channel::channel::<()>();
    let waits = Mutex::new(waits);
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(tone().record(folder.path()), 64, move |sound| {
        sound.recorder = Box::new(move |controls, folder| {
            entered.send(()).unwrap();
            lock(&waits).recv().unwrap();
            commands::record(controls, folder)
        });
    });
    let format = starting::format(MediaFormat::default()).unwrap();
    let (sound, ticket) = (bench.sound.clone(), lock(&bench.sound.state).want(call(1)));
    let begun = tokio::task::spawn_blocking(move || sound.begin(call(1), ticket, format));
    tokio::task::spawn_blocking(move || is_in.recv_timeout(STUCK)).await.unwrap().expect("it begins");
    let stop = || bench.sound.clone().execute(SoundCommand::StopRecording { call: call(1) });
    assert_eq!(stop().await, Ok(()));
    assert!(stop().await.is_err(), "there is none any more");
    goes_on.send(()).unwrap();
    begun.await.unwrap();
    assert_eq!(lock(&bench.sound.state).engine().unwrap().recording(), None);
    bench.hang_up(call(1)).await;
}

#[tokio::test]
async fn a_recording_that_fails_after_its_call_was_held_is_no_news() {
    let (entered, is_in) = channel::channel();
    let (goes_on, waits) = channel::channel::<()>();
    let waits = Mutex::new(waits);
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::with(tone().record(folder.path()), 64, move |sound| {
        sound.recorder = Box::new(move |_, _| {
            entered.send(()).unwrap();
            lock(&waits).recv().unwrap();
            Err("cannot record: the engine has been stopped".to_owned())
        });
    });
    let format = starting::format(MediaFormat::default()).unwrap();
    let begin = |bench: &Bench| {
        let (sound, ticket) = (bench.sound.clone(), lock(&bench.sound.state).want(call(1)));
        tokio::task::spawn_blocking(move || sound.begin(call(1), ticket, format))
    };
    let is_in = Arc::new(Mutex::new(is_in));
    let enters = || {
        let is_in = is_in.clone();
        tokio::task::spawn_blocking(move || lock(&is_in).recv_timeout(STUCK).unwrap())
    };
    let first = begin(&bench);
    enters().await.unwrap();
    bench.hang_up(call(1)).await;
    let second = begin(&bench);
    enters().await.unwrap();
    // Both find out that they cannot, but only the second one is still wanted.
    goes_on.send(()).unwrap();
    goes_on.send(()).unwrap();
    first.await.unwrap();
    second.await.unwrap();
    bench.hang_up(call(1)).await;
    let mut failed = 0;
    while let Ok(event) = bench.events.try_recv() {
        failed += u32::from(matches!(event, MediaEvent::Input(MediaInput::Recording { cause: Some(_), .. })));
    }
    assert_eq!(failed, 1);
}
