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
    },
    id::NodeKey,
    ports::media::{MediaError, MediaEvent, SoundCommand},
};

/// In memory, but that each command about sound waits until one more may be done.
struct Slow {
    memory: MemoryMedia,
    may: Semaphore,
    done: std::sync::Mutex<Vec<String>>,
}

#[async_trait]
impl Media for Slow {
    fn take_events(&self) -> Option<mpsc::Receiver<MediaEvent>> {
        self.memory.take_events()
    }

    async fn execute(&self, command: MediaCommand) -> Result<(), MediaError> {
        if let MediaCommand::Sound(command) = &command {
            self.may.acquire().await.unwrap().forget();
            let said = match command {
                SoundCommand::Microphone(source) => source.to_string(),
                other => format!("{other:?}"),
            };
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
    let media = Arc::new(Slow { memory, may: Semaphore::new(0), done: Default::default() });
    let parts = Parts {
        config: Config::default(),
        gossip: Arc::new(MemoryHub::new().endpoint(NodeKey::from(&identity).node_id())),
        identity,
        media: media.clone(),
        addresses: Vec::new(),
        store: None,
        contacts: Vec::new(),
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
