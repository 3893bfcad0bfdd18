//! Engines that run on memory and files, and hang-ups that come at any time.

mod disk;
mod files;

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc as channel,
    },
    thread,
    time::Duration,
};

use host_media::{SinkSpec, SourceSpec};

use super::*;
use crate::{event::DeviceKind, id::Identity, ports::media::SoundCommand};

/// What would hang for ever fails after this. Nothing that works takes as long.
const STUCK: Duration = Duration::from_secs(20);

struct Bench {
    sound: Arc<Sound>,
    sent: Arc<AtomicUsize>,
    loudest: Arc<Mutex<u8>>,
    events: mpsc::Receiver<MediaEvent>,
}

fn call(n: u8) -> CallId {
    CallId::from_bytes([n; 16])
}

fn key(call: CallId, n: u8) -> Key {
    (call, Identity::from_seed([n; 32]).public())
}

fn link(key: Key, generation: u32) -> LinkId {
    LinkId { call: key.0, peer: key.1, generation }
}

fn tone() -> Audio {
    Audio::new(SourceSpec::Tone, SinkSpec::Null)
}

impl Bench {
    fn new(audio: Audio) -> Self {
        Self::with(audio, 64, |_| {})
    }

    fn with(audio: Audio, room: usize, change: impl FnOnce(&mut Sound)) -> Self {
        let (events, receiver) = mpsc::channel(room);
        let (sent, loudest) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(127)));
        let (count, level) = (sent.clone(), loudest.clone());
        let out = Arc::new(move |frame: EncodedFrame, _| {
            count.fetch_add(1, Ordering::SeqCst);
            let mut level = lock(&level);
            *level = frame.level.min(*level);
        });
        let mut sound = Sound::new(audio, out, RtpClock::new(0), events);
        change(&mut sound);
        Self { sound: Arc::new(sound), sent, loudest, events: receiver }
    }

    fn open(&self, call: CallId) {
        self.sound.open(call, MediaFormat::default()).unwrap();
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Until more frames have left than until now.
    async fn sends(&self) {
        let before = self.sent();
        until(|| self.sent() > before + 1).await;
    }

    /// The next input of that kind.
    async fn told<T>(&mut self, which: impl Fn(&MediaInput) -> Option<T>) -> T {
        let next = async {
            loop {
                if let Some(MediaEvent::Input(input)) = self.events.recv().await
                    && let Some(found) = which(&input)
                {
                    return found;
                }
            }
        };
        tokio::time::timeout(STUCK, next).await.expect("it is told")
    }

    async fn recording(&mut self) -> (CallId, u64, bool, Vec<std::path::PathBuf>) {
        self.told(|input| match input {
            MediaInput::Recording { call, recording, running, files, .. } => {
                Some((*call, *recording, *running, files.clone()))
            }
            _ => None,
        })
        .await
    }

    /// Hangs up, and waits until the devices are closed: nothing has left since the hang-up.
    async fn hang_up(&self, call: CallId) {
        let closed = promptly({
            let sound = self.sound.clone();
            let runtime = tokio::runtime::Handle::current();
            move || {
                let _runtime = runtime.enter();
                sound.close(Some(call)).expect("it is open")
            }
        })
        .await;
        let sent = self.sent();
        tokio::time::timeout(STUCK, closed).await.expect("the devices close").unwrap();
        // One may have been on its way out when the gate was closed.
        assert!(self.sent() <= sent + 1, "{} frames after the hang-up", self.sent() - sent);
    }
}

async fn until(true_: impl Fn() -> bool) {
    let waits = async {
        while !true_() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(STUCK, waits).await.expect("it comes to be");
}

/// Does something that must not wait for anybody.
async fn promptly<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = channel::channel();
    thread::spawn(move || done.send(work()));
    let outcome = tokio::task::spawn_blocking(move || outcome.recv_timeout(STUCK)).await.unwrap();
    outcome.expect("it waits for something")
}

#[tokio::test]
async fn hanging_up_and_muting_do_not_wait_for_the_disk_on_which_a_recording_begins() {
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
    bench.open(call(1));
    tokio::task::spawn_blocking(move || is_in.recv_timeout(STUCK)).await.unwrap().expect("it begins");
    // The disk stands still from here on, and the call goes on.
    bench.sends().await;
    let sound = bench.sound.clone();
    promptly(move || sound.set_muted(true)).await;
    bench.hang_up(call(1)).await;
    goes_on.send(()).unwrap();
}

#[tokio::test]
async fn a_hang_up_does_not_wait_for_its_turn_and_what_was_to_be_opened_stays_closed() {
    let bench = Bench::new(tone());
    let (entered, is_in) = channel::channel();
    let (goes_on, waits) = channel::channel::<()>();
    let sound = bench.sound.clone();
    let held = thread::spawn(move || {
        let _turn = lock(&sound.turn);
        entered.send(()).unwrap();
        waits.recv().unwrap();
    });
    tokio::task::spawn_blocking(move || is_in.recv_timeout(STUCK)).await.unwrap().unwrap();
    bench.open(call(1));
    let sound = bench.sound.clone();
    let runtime = tokio::runtime::Handle::current();
    let closed = promptly(move || {
        let _runtime = runtime.enter();
        sound.close(Some(call(1))).expect("it is wanted")
    })
    .await;
    goes_on.send(()).unwrap();
    held.join().unwrap();
    closed.await.unwrap();
    assert_eq!(bench.sent(), 0);
    assert!(lock(&bench.sound.state).running().is_none());
}

#[tokio::test]
async fn an_opening_that_comes_late_leaves_the_engine_of_another_call_alone() {
    let bench = Bench::new(tone());
    let format = starting::format(MediaFormat::default()).unwrap();
    // The first call is over before its turn comes, and the second one has its sound by then.
    let late = lock(&bench.sound.state).want(call(1));
    lock(&bench.sound.state).want_nothing();
    let second = lock(&bench.sound.state).want(call(2));
    let sound = bench.sound.clone();
    tokio::task::spawn_blocking(move || {
        sound.begin(call(2), second, format);
        sound.begin(call(1), late, format);
    })
    .await
    .unwrap();
    bench.sends().await;
    assert_eq!(lock(&bench.sound.state).running().map(|of| of.call), Some(call(2)));
    // And so does one of the same call, from before it was held.
    let again = lock(&bench.sound.state).want(call(2));
    let sound = bench.sound.clone();
    tokio::task::spawn_blocking(move || {
        sound.begin(call(2), again, format);
        sound.begin(call(2), second, format);
    })
    .await
    .unwrap();
    assert_eq!(lock(&bench.sound.state).running().map(|of| of.ticket), Some(again));
    bench.sends().await;
    bench.hang_up(call(2)).await;
}

#[tokio::test]
async fn whoever_was_muted_before_the_call_is_not_heard() {
    let mut bench = Bench::new(tone());
    bench.sound.set_muted(true);
    bench.open(call(1));
    bench.told(|input| matches!(input, MediaInput::Device { .. }).then_some(())).await;
    for _ in 0..5 {
        bench.sends().await;
    }
    assert_eq!(*lock(&bench.loudest), 127, "silence from the first frame on");
    bench.sound.set_muted(false);
    until(|| *lock(&bench.loudest) < 30).await;
    bench.hang_up(call(1)).await;
}

#[tokio::test]
async fn files_of_recordings_have_the_names_of_those_who_have_said_nothing_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(tone().record(folder.path()));
    let [listens, speaks] = [key(call(1), 1), key(call(1), 2)];
    bench.sound.advise(listens, 1, Advice::default());
    lock(&bench.sound.state).play(speaks, link(speaks, 1));
    bench.open(call(1));
    let (_, number, running, files) = bench.recording().await;
    assert!(running);
    let names: Vec<String> =
        files.iter().map(|f| f.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names.len(), 4, "me, mix, and two others: {names:?}");
    for (_, peer) in [listens, speaks] {
        let name = peer.to_string();
        let name = name.rsplit(':').next().unwrap();
        assert!(names.iter().any(|n| n.ends_with(name)), "{name}: {names:?}");
    }
    bench.hang_up(call(1)).await;
    assert_eq!(bench.recording().await, (call(1), number, false, files), "the engine says how it ended");
}

#[tokio::test]
async fn each_recording_ends_under_the_number_of_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(tone());
    bench.open(call(1));
    bench.sends().await;
    let record = || SoundCommand::Record { call: call(1), folder: folder.path().to_owned() };
    let mut open = std::collections::BTreeMap::new();
    for _ in 0..3 {
        bench.sound.clone().execute(record()).await.unwrap();
        // At once: the one before may still be closing its files.
        let (_, number, running, files) = loop {
            let told = bench.recording().await;
            match told.2 {
                true => break told,
                false => assert_eq!(open.remove(&told.1).map(|files: Vec<_>| files), Some(told.3)),
            }
        };
        assert!(running && open.insert(number, files).is_none(), "a number of its own");
        bench.sound.clone().execute(SoundCommand::StopRecording { call: call(1) }).await.unwrap();
    }
    while !open.is_empty() {
        let (_, number, running, files) = bench.recording().await;
        assert!(!running);
        assert_eq!(open.remove(&number), Some(files));
    }
    bench.hang_up(call(1)).await;
}

#[tokio::test]
async fn a_recording_is_told_of_though_the_driver_does_not_keep_up() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody reads, and there is room for one.
    let mut bench = Bench::with(tone(), 1, |_| {});
    bench.open(call(1));
    bench.sends().await;
    let folder = folder.path().to_owned();
    bench.sound.clone().execute(SoundCommand::Record { call: call(1), folder }).await.unwrap();
    until(|| lock(&bench.sound.recordings).waits() == 1).await;
    bench.sound.look_at_recordings();
    assert_eq!(lock(&bench.sound.recordings).waits(), 1, "there is still no room");
    while bench.events.try_recv().is_ok() {}
    bench.sound.look_at_recordings();
    let (of, number, running, _) = bench.recording().await;
    assert_eq!((of, running), (call(1), true));
    bench.hang_up(call(1)).await;
    let ended = bench.recording().await;
    assert_eq!((ended.1, ended.2), (number, false));
}

#[tokio::test]
async fn a_recording_that_says_nothing_of_itself_is_noticed_and_its_end_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(tone());
    bench.open(call(1));
    bench.sends().await;
    let folder = folder.path().to_owned();
    bench.sound.clone().execute(SoundCommand::Record { call: call(1), folder }).await.unwrap();
    let (_, number, ..) = bench.recording().await;
    // As if it had said nothing.
    *lock(&bench.sound.recordings) = Ledger::default();
    bench.sound.look_at_recordings();
    assert!(bench.events.try_recv().is_err(), "it may be about to say so");
    bench.sound.look_at_recordings();
    let told = bench.recording().await;
    assert_eq!((told.0, told.2), (call(1), true));
    bench.sound.look_at_recordings();
    bench.sound.look_at_recordings();
    assert!(bench.events.try_recv().is_err(), "once");
    let ticket = lock(&bench.sound.state).running().map(|of| of.ticket).unwrap();
    bench.sound.engine_over(call(1), ticket);
    assert_eq!(bench.recording().await, (call(1), number, false, Vec::new()));
    bench.hang_up(call(1)).await;
}

#[tokio::test]
async fn of_calls_that_were_never_opened_nothing_is_kept() {
    let bench = Bench::new(tone());
    for n in 1..100 {
        let key = key(call(n), n);
        bench.sound.advise(key, 1, Advice::default());
        lock(&bench.sound.state).play(key, link(key, 1));
        bench.sound.remove(key, 1);
        // Too late: its link is gone, which is noticed when links are looked at.
        bench.sound.advise(key, 1, Advice::default());
        let followed = bench.sound.followed();
        assert_eq!(followed.len(), 1);
        bench.sound.forget_path(key, followed[0].link.generation);
    }
    assert_eq!(lock(&bench.sound.state).known(), 0);
}

#[tokio::test]
async fn the_end_of_a_connection_is_not_that_of_the_next_one() {
    let bench = Bench::new(tone());
    let key = key(call(1), 1);
    bench.open(call(1));
    bench.sends().await;
    lock(&bench.sound.state).play(key, link(key, 1));
    lock(&bench.sound.state).play(key, link(key, 2));
    bench.sound.remove(key, 1);
    let plays = |bench: &Bench| bench.sound.followed().iter().filter(|f| f.plays).count();
    assert_eq!(plays(&bench), 1);
    assert_eq!(lock(&bench.sound.state).engine().unwrap().peers().len(), 1, "still heard");
    bench.sound.remove(key, 2);
    assert_eq!(plays(&bench), 0);
    assert!(lock(&bench.sound.state).engine().unwrap().peers().is_empty());
    bench.hang_up(call(1)).await;
}

#[tokio::test]
async fn whoever_only_listens_is_served_on_a_new_connection_when_the_old_one_ends() {
    let bench = Bench::new(tone());
    let key = key(call(1), 1);
    bench.open(call(1));
    bench.sends().await;
    let served = |bench: &Bench| lock(&bench.sound.state).engine().unwrap().peers().len();
    // They spoke on the first connection, and have said nothing on the second one so far.
    lock(&bench.sound.state).play(key, link(key, 1));
    bench.sound.advise(key, 2, Advice::default());
    bench.sound.remove(key, 1);
    assert_eq!(served(&bench), 1, "what the network says of the second one holds");
    // And so when nothing was ever heard of them.
    bench.sound.advise(key, 3, Advice::default());
    bench.sound.remove(key, 2);
    assert_eq!(served(&bench), 1);
    bench.sound.remove(key, 3);
    assert_eq!(served(&bench), 0);
    // What is said too late is forgotten, as soon as it is noticed.
    bench.sound.advise(key, 3, Advice::default());
    assert_eq!(served(&bench), 1);
    bench.sound.forget_path(key, 3);
    assert_eq!(served(&bench), 0);
    bench.hang_up(call(1)).await;
}

#[tokio::test]
async fn silence_is_left_out_where_the_app_says_so() {
    for dtx in [false, true] {
        let bench = Bench::new(Audio::silent().dtx(dtx));
        bench.open(call(1));
        until(|| bench.sound.engine_stats().is_some_and(|(_, stats)| stats.ticks > 100)).await;
        let left_out = bench.sound.engine_stats().unwrap().1.silent_frames;
        assert_eq!(left_out > 10, dtx, "{left_out} of 50 frames");
        bench.hang_up(call(1)).await;
    }
}
