//! Commands about sound, on devices that do not answer.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use host_media::{SinkSpec, SourceSpec};
use tokio::sync::{Semaphore, oneshot};

use super::*;
use crate::{
    driver::{
        memory_gossip::MemoryHub,
        memory_media::{MemoryLinks, MemoryMedia},
        sounds::MAX_SOUND_JOBS,
    },
    id::NodeKey,
    ports::media::{MediaError, MediaEvent, SoundCommand},
};

/// In memory, but that each command about sound waits until one more may be done: of those that open something, and of others.
struct Slow {
    memory: MemoryMedia,
    may: Semaphore,
    may_at_once: Semaphore,
    done: std::sync::Mutex<Vec<String>>,
}

#[async_trait]
impl Media for Slow {
    fn take_events(&self) -> Option<mpsc::Receiver<MediaEvent>> {
        self.memory.take_events()
    }

    async fn execute(&self, command: MediaCommand) -> Result<(), MediaError> {
        if let MediaCommand::Sound(command) = &command {
            let (may, said) = match command {
                SoundCommand::Microphone(source) => (&self.may, source.to_string()),
                SoundCommand::Speaker(sink) => (&self.may, sink.to_string()),
                SoundCommand::Record { .. } => (&self.may, "record".to_owned()),
                SoundCommand::Play { .. } => (&self.may, "play".to_owned()),
                SoundCommand::StopRecording { .. } => (&self.may_at_once, "stop-record".to_owned()),
                SoundCommand::StopPlaying { .. } => (&self.may_at_once, "stop-play".to_owned()),
                SoundCommand::Processing(_) => (&self.may_at_once, "processing".to_owned()),
                SoundCommand::Automute(_) => (&self.may_at_once, "automute".to_owned()),
            };
            may.acquire().await.unwrap().forget();
            self.done.lock().unwrap().push(said);
        }
        self.memory.execute(command).await
    }

    fn take_channel(&self, channel: ChannelId) -> Option<Channel> {
        self.memory.take_channel(channel)
    }

    async fn shutdown(&self) {
        self.memory.shutdown().await;
    }
}

async fn start() -> (Running, Arc<Slow>) {
    let identity = Identity::from_seed([7; 32]);
    let memory = MemoryLinks::default().endpoint();
    let may_at_once = Semaphore::new(MAX_SOUND_JOBS);
    let media = Arc::new(Slow { memory, may: Semaphore::new(0), may_at_once, done: Default::default() });
    let parts = Parts {
        config: Config::default(),
        gossip: Arc::new(MemoryHub::new().endpoint(NodeKey::from(&identity).node_id())),
        identity,
        media: media.clone(),
        addresses: Vec::new(),
        bootstrap: Vec::new(),
        relays: Vec::new(),
        finding: crate::reach::FindConfig::silent(),
        store: None,
        contacts: Vec::new(),
        keep_contacts: false,
        blocked: Vec::new(),
        ask: None,
        lossy: false,
        recording: None,
        friends: crate::driver::turn::Friends::new([], Vec::new()),
        turn: None,
        tap: Default::default(),
    };
    (super::start(parts).await.unwrap(), media)
}

async fn ask(running: &Running, command: MediaCommand) -> oneshot::Receiver<Result<(), MediaError>> {
    let (reply, answer) = oneshot::channel();
    assert!(running.requests.send(Request::Media(command, reply)).await.is_ok());
    answer
}

fn microphone(n: usize) -> MediaCommand {
    MediaCommand::Sound(SoundCommand::Microphone(SourceSpec::Wav(PathBuf::from(format!("{n:02}")))))
}

#[tokio::test(start_paused = true)]
async fn links_and_hang_ups_do_not_wait_for_devices_that_do_not_answer() {
    let (running, media) = start().await;
    let mut first = ask(&running, microphone(0)).await;
    let call = CallId::from_bytes([1; 16]);
    for command in [MediaCommand::Prepare { connections: 0 }, MediaCommand::CloseAudio { call }] {
        let answer = ask(&running, command).await;
        let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
        assert_eq!(answer.expect("it waits for nothing").unwrap(), Ok(()));
    }
    assert!(first.try_recv().is_err(), "that one does");
    media.may.add_permits(1);
    assert_eq!(first.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn commands_about_sound_are_done_in_order_and_too_many_are_refused() {
    let (running, media) = start().await;
    let most = MAX_SOUND_JOBS + 1;
    let mut answers = Vec::new();
    for n in 0..most {
        answers.push(ask(&running, microphone(n)).await);
        // So that the first is in work, and does not wait.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let beyond = ask(&running, MediaCommand::Sound(SoundCommand::Speaker(SinkSpec::Null))).await;
    assert_eq!(beyond.await.unwrap(), Err(MediaError::Busy));
    media.may.add_permits(most);
    for answer in answers {
        assert_eq!(answer.await.unwrap(), Ok(()));
    }
    let order: Vec<String> = (0..most).map(|n| format!("{n:02}")).collect();
    assert_eq!(*media.done.lock().unwrap(), order);
}

/// What a call's recording or file is asked for.
fn about_call(n: u8) -> [SoundCommand; 4] {
    let (call, nowhere) = (CallId::from_bytes([n; 16]), PathBuf::new);
    [
        SoundCommand::Record { call, folder: nowhere() },
        SoundCommand::StopRecording { call },
        SoundCommand::Play { call, file: nowhere() },
        SoundCommand::StopPlaying { call },
    ]
}

/// What is answered at once, as one thinks of it.
async fn answered(answer: oneshot::Receiver<Result<(), MediaError>>) -> Result<(), MediaError> {
    let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
    answer.expect("it waits for nothing").unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_takes_but_a_moment_does_not_wait_for_devices_that_do_not_answer() {
    let (running, media) = start().await;
    let mut first = ask(&running, microphone(0)).await;
    let [_, stop_record, _, stop_play] = about_call(1);
    let processing = SoundCommand::Processing(host_media::Processing::off());
    for command in [stop_record, stop_play, processing, SoundCommand::Automute(true)] {
        // No call is open, of which it may say so.
        let _ = answered(ask(&running, MediaCommand::Sound(command)).await).await;
    }
    assert_eq!(*media.done.lock().unwrap(), ["stop-record", "stop-play", "processing", "automute"]);
    assert!(first.try_recv().is_err(), "that one waits");
}

#[tokio::test(start_paused = true)]
async fn what_is_ended_while_it_waits_does_not_begin() {
    let (running, media) = start().await;
    let first = ask(&running, microphone(0)).await;
    let [record, stop_record, play, stop_play] = about_call(1).map(MediaCommand::Sound);
    let [_, _, other, _] = about_call(2).map(MediaCommand::Sound);
    let recorded = ask(&running, record.clone()).await;
    let played = [ask(&running, play.clone()).await, ask(&running, other).await];
    for command in [stop_record, stop_play] {
        assert_eq!(answered(ask(&running, command).await).await, Ok(()), "there was something to end");
    }
    // What is begun after that is not meant.
    let again = [ask(&running, record).await, ask(&running, play).await];
    media.may.add_permits(10);
    first.await.unwrap().unwrap();
    let [played, other] = played;
    for ended in [recorded, played] {
        let refused = ended.await.unwrap().unwrap_err().to_string();
        assert!(refused.contains("ended before"), "{refused}");
    }
    // The call is not open, so the media refuse; but they were asked.
    for answer in again.into_iter().chain([other]) {
        let refused = answer.await.unwrap().unwrap_err().to_string();
        assert!(refused.contains("not open"), "{refused}");
    }
    assert_eq!(*media.done.lock().unwrap(), ["stop-record", "stop-play", "00", "play", "record", "play"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_ended_while_it_begins_is_ended_when_it_has_begun() {
    for kind in [0, 2] {
        let (running, media) = start().await;
        let commands = about_call(1);
        let (begin, end) = (commands[kind].clone(), commands[kind + 1].clone());
        let begun = ask(&running, MediaCommand::Sound(begin.clone())).await;
        // It is in work.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(answered(ask(&running, MediaCommand::Sound(end)).await).await, Ok(()));
        media.may.add_permits(2);
        let _ = begun.await.unwrap();
        let next = ask(&running, MediaCommand::Sound(begin)).await;
        let _ = next.await.unwrap();
        let [begins, ends] = [["record", "stop-record"], ["play", "stop-play"]][kind / 2];
        assert_eq!(*media.done.lock().unwrap(), [ends, begins, ends, begins], "and the next one is not");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_anew_begins_after_what_was_to_end_before() {
    let (running, media) = start().await;
    media.may.add_permits(1);
    media.may_at_once.forget_permits(MAX_SOUND_JOBS);
    let [record, stop_record, ..] = about_call(1).map(MediaCommand::Sound);
    let (ended, begun) = (ask(&running, stop_record).await, ask(&running, record).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*media.done.lock().unwrap(), [""; 0]);
    media.may_at_once.add_permits(1);
    let _ = (ended.await.unwrap(), begun.await.unwrap());
    assert_eq!(*media.done.lock().unwrap(), ["stop-record", "record"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_for_devices_that_do_not_answer() {
    let (running, _media) = start().await;
    let asked = ask(&running, microphone(0)).await;
    let (done, stopped) = oneshot::channel();
    assert!(running.requests.send(Request::Shutdown(done)).await.is_ok());
    let stopped = tokio::time::timeout(Duration::from_secs(2), stopped).await;
    stopped.expect("it is gone within two seconds").unwrap();
    assert!(asked.await.is_err());
}
