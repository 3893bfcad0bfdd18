//! The journal of a machine, written while it runs: lines go to a thread that may block.

use std::{
    io::Write,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
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

/// How long the end of the journal may take to be written when the phone is shut down: as the node's own workers.
const CLOSE: Duration = Duration::from_millis(500);

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
        if tokio::time::timeout(CLOSE, self.writing).await.is_err() {
            tracing::warn!("the journal is written too slowly: its end may be missing");
        }
    }

    fn with<T>(&mut self, record: impl FnOnce(&mut Recorder, &mut dyn FnMut(&str)) -> T) -> T {
        let lines = &self.lines;
        record(&mut self.recorder, &mut |line| {
            // Without a writer, which has said why it ended, there is no journal.
            let _ = lines.send(line.to_owned());
        })
    }
}

/// Writes each line, and whenever there is nothing to write sees to it that all is where it belongs: what a process that
/// dies has recorded is worth most.
fn write(queue: Receiver<String>, mut to: Box<dyn Write + Send>) {
    let mut next = queue.recv().ok();
    while let Some(line) = next {
        if let Err(error) = to.write_all(line.as_bytes()) {
            tracing::warn!(%error, "the journal cannot be written any further");
            return;
        }
        next = queue.try_recv().ok().or_else(|| {
            if let Err(error) = to.flush() {
                tracing::warn!(%error, "the journal may lack what was recorded last");
            }
            queue.recv().ok()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;

    /// Tells what it was given up to the last flush.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<(Vec<u8>, Vec<u8>)>>, Option<Sender<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("nobody panics").0.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            let mut paper = self.0.lock().expect("nobody panics");
            paper.1 = paper.0.clone();
            if let Some(told) = &self.1 {
                told.send(paper.1.clone()).map_err(std::io::Error::other)?;
            }
            Ok(())
        }
    }

    #[test]
    fn what_was_recorded_is_written_out_as_soon_as_nothing_waits() {
        let (told, flushed) = mpsc::channel();
        let (lines, queue) = channel();
        let paper = Paper(Arc::default(), Some(told));
        let writing = std::thread::spawn(move || write(queue, Box::new(paper)));
        for (line, all) in [("one\n", "one\n"), ("two\n", "one\ntwo\n")] {
            lines.send(line.to_owned()).expect("it is read");
            assert_eq!(flushed.recv().expect("it is flushed"), all.as_bytes());
        }
        drop(lines);
        writing.join().expect("it ends");
    }
}
