//! The journal of a machine, written while it runs: lines go to a thread that may block.

use std::{
    io::Write,
    sync::mpsc::{Receiver, Sender, channel},
};

use tokio::task::JoinHandle;

use crate::{
    error::Rejected,
    proto::{
        Effect, Input, Machine,
        journal::{Beginning, Recorder},
    },
    time::Instant,
};

/// Where a journal goes, and how long it may get.
pub(crate) struct Recording {
    pub(crate) to: Box<dyn Write + Send>,
    pub(crate) limit_bytes: usize,
}

/// A recorder, and the thread that writes.
pub(super) struct Diary {
    recorder: Recorder,
    /// What waits is bounded by the limit of the journal.
    lines: Sender<String>,
    writing: JoinHandle<()>,
}

impl Diary {
    /// Begins. Must run on a tokio runtime.
    pub(super) fn begin(recording: Recording, beginning: &Beginning) -> Self {
        let Recording { to, limit_bytes } = recording;
        let (lines, queue) = channel();
        let writing = tokio::task::spawn_blocking(move || write(queue, to));
        let mut this = Self { recorder: Recorder::new(limit_bytes), lines, writing };
        this.with(|recorder, write| recorder.begin(beginning, write));
        this
    }

    pub(super) fn start(&mut self, machine: &mut Machine) -> Vec<Effect> {
        self.with(|recorder, write| recorder.start(machine, write))
    }

    pub(super) fn handle(
        &mut self,
        machine: &mut Machine,
        now: Instant,
        input: Input,
    ) -> Result<Vec<Effect>, Rejected> {
        self.with(|recorder, write| recorder.handle(machine, now, input, write))
    }

    /// Ends the journal, and waits until it is written.
    pub(super) async fn close(mut self) {
        self.with(Recorder::finish);
        drop(self.lines);
        // A failure was logged where it happened.
        let _ = self.writing.await;
    }

    fn with<T>(&mut self, record: impl FnOnce(&mut Recorder, &mut dyn FnMut(&str)) -> T) -> T {
        let lines = &self.lines;
        record(&mut self.recorder, &mut |line| {
            // Without a writer, which has said why it ended, there is no journal.
            let _ = lines.send(line.to_owned());
        })
    }
}

fn write(queue: Receiver<String>, mut to: Box<dyn Write + Send>) {
    for line in queue {
        if let Err(error) = to.write_all(line.as_bytes()) {
            tracing::warn!(%error, "the journal cannot be written any further");
            return;
        }
    }
    if let Err(error) = to.flush() {
        tracing::warn!(%error, "the end of the journal may be missing");
    }
}
