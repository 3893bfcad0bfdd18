//! What the app asks of the sound. What may take long waits for its turn, one after the other; what ends something, or takes
//! but a moment, passes that. An end that passes the beginning that it is for ends it all the same.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::workers::Reply;
use crate::{
    id::CallId,
    ports::media::{Media, MediaCommand, MediaError, SoundCommand},
};

/// Commands that wait, of either kind. A person asks for one or two at once; each may take the seconds of a list of devices, and
/// who has waited for a minute or so should rather hear that something is stuck.
pub(super) const MAX_SOUND_JOBS: usize = 16;

/// What is begun and ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Recording(CallId),
    Playing(CallId),
}

/// The beginning of something, while it waits or is in work.
struct Start {
    what: What,
    /// It was ended meanwhile.
    ended: AtomicBool,
}

/// Something that may take long.
struct Slow {
    command: SoundCommand,
    reply: Reply,
    start: Option<Arc<Start>>,
    /// How many prompt ones were asked for before.
    after: u64,
}

/// Something that takes but a moment.
struct Prompt {
    command: SoundCommand,
    reply: Reply,
    /// It ends something that has not begun so far, whatever the media find.
    met: bool,
}

/// The queues, with a worker for each.
pub(super) struct Sounds {
    slow: mpsc::Sender<Slow>,
    prompt: mpsc::Sender<Prompt>,
    /// How many of these there were.
    prompts: u64,
    /// What waits or is in work.
    starts: Vec<Weak<Start>>,
    workers: [JoinHandle<()>; 2],
}

impl Sounds {
    pub(super) fn start(media: &Arc<dyn Media>) -> Self {
        let (slow, slow_queue) = mpsc::channel(MAX_SOUND_JOBS);
        let (prompt, prompt_queue) = mpsc::channel(MAX_SOUND_JOBS);
        let (done, progress) = watch::channel(0);
        let workers = [
            tokio::spawn(slow_worker(media.clone(), slow_queue, progress)),
            tokio::spawn(prompt_worker(media.clone(), prompt_queue, done)),
        ];
        Self { slow, prompt, prompts: 0, starts: Vec::new(), workers }
    }

    /// Takes a command in, or refuses it.
    pub(super) fn ask(&mut self, command: SoundCommand, reply: Reply) {
        self.starts.retain(|start| start.strong_count() > 0);
        let refused = match Kind::of(&command) {
            Kind::Prompt(ends) => match self.prompt.try_reserve() {
                Ok(place) => {
                    // Before the media can have heard of it: what begins after that is ended when it has begun.
                    let met = ends.is_some_and(|what| end(&self.starts, what));
                    self.prompts += 1;
                    place.send(Prompt { command, reply, met });
                    return;
                }
                Err(_) => reply,
            },
            Kind::Slow(begins) => {
                let start = begins.map(|what| Arc::new(Start { what, ended: AtomicBool::new(false) }));
                self.starts.extend(start.as_ref().map(Arc::downgrade));
                match self.slow.try_send(Slow { command, reply, start, after: self.prompts }) {
                    Ok(()) => return,
                    Err(full) => full.into_inner().reply,
                }
            }
        };
        let _ = refused.send(Err(MediaError::Busy));
    }

    /// Nothing more is done: it is of no use any more, and may take long.
    pub(super) fn abort(&self) {
        self.workers.iter().for_each(JoinHandle::abort);
    }
}

/// Marks what was to be begun. True if there was any.
fn end(starts: &[Weak<Start>], what: What) -> bool {
    let meant = starts.iter().filter_map(Weak::upgrade).filter(|start| start.what == what);
    meant.map(|start| start.ended.store(true, Ordering::Release)).count() > 0
}

enum Kind {
    /// Opens devices or files, or lists them; and what it begins.
    Slow(Option<What>),
    /// Waits for nothing; and what it ends.
    Prompt(Option<What>),
}

impl Kind {
    fn of(command: &SoundCommand) -> Self {
        match command {
            SoundCommand::Microphone(_) | SoundCommand::Speaker(_) => Self::Slow(None),
            SoundCommand::Record { call, .. } => Self::Slow(Some(What::Recording(*call))),
            SoundCommand::Play { call, .. } => Self::Slow(Some(What::Playing(*call))),
            SoundCommand::Processing(_) | SoundCommand::Automute(_) => Self::Prompt(None),
            SoundCommand::StopRecording { call } => Self::Prompt(Some(What::Recording(*call))),
            SoundCommand::StopPlaying { call } => Self::Prompt(Some(What::Playing(*call))),
        }
    }
}

impl What {
    fn end(self) -> MediaCommand {
        MediaCommand::Sound(match self {
            Self::Recording(call) => SoundCommand::StopRecording { call },
            Self::Playing(call) => SoundCommand::StopPlaying { call },
        })
    }
}

async fn prompt_worker(media: Arc<dyn Media>, mut jobs: mpsc::Receiver<Prompt>, done: watch::Sender<u64>) {
    while let Some(Prompt { command, reply, met }) = jobs.recv().await {
        let result = media.execute(MediaCommand::Sound(command)).await;
        done.send_modify(|done| *done += 1);
        // The app may have dropped the future; the command holds all the same.
        let _ = reply.send(if met { Ok(()) } else { result });
    }
}

async fn slow_worker(media: Arc<dyn Media>, mut jobs: mpsc::Receiver<Slow>, mut done: watch::Receiver<u64>) {
    while let Some(Slow { command, reply, start, after }) = jobs.recv().await {
        // Nothing that was ended before ends what begins now.
        if done.wait_for(|done| *done >= after).await.is_err() {
            return;
        }
        let ended = || start.as_ref().filter(|start| start.ended.load(Ordering::Acquire));
        if ended().is_some() {
            let _ = reply.send(Err(MediaError::Failed("it was ended before it began".to_owned())));
            continue;
        }
        let result = media.execute(MediaCommand::Sound(command)).await;
        if let Some(start) = ended() {
            // Its end may have come before there was anything to end; if not, there is nothing now.
            let _ = media.execute(start.what.end()).await;
        }
        let _ = reply.send(result);
    }
}
