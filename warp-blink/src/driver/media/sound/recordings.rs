//! Which recordings run. The others in a call rest on it, so what the machine is told of them is never lost.

use std::collections::{BTreeMap, VecDeque};

use host_media::RecordingId;
use tokio::sync::mpsc;

use super::{Sound, lock, state::Ticket};
use crate::{id::CallId, ports::media::MediaEvent, proto::MediaInput};

/// A recording of one of the engines that there were: each counts its own from 1 on.
type Which = (Ticket, RecordingId);

#[derive(Default)]
pub(super) struct Ledger {
    /// The number of the last one.
    last: u64,
    /// Those that run or are being closed, with their numbers.
    open: BTreeMap<Which, (u64, CallId)>,
    /// What found no room among the events: recordings are few, so this is short.
    unsent: VecDeque<MediaInput>,
    /// One that was seen to run, and of which nothing was told so far.
    untold: Option<Which>,
}

impl Ledger {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn started(&mut self, which: Which, call: CallId) -> u64 {
        let number = match self.open.get(&which) {
            Some((number, _)) => *number,
            None => self.next(),
        };
        self.open.insert(which, (number, call));
        number
    }

    /// One that never ran has a number of its own, too.
    pub(super) fn stopped(&mut self, which: Which) -> u64 {
        self.open.remove(&which).map_or_else(|| self.next(), |(number, _)| number)
    }

    #[cfg(test)]
    pub(super) fn waits(&self) -> usize {
        self.unsent.len()
    }

    /// Sends what waits, as far as there is room.
    fn flush(&mut self, events: &mpsc::Sender<MediaEvent>) {
        while let Some(input) = self.unsent.pop_front() {
            if let Err(error) = events.try_send(input.into()) {
                let (mpsc::error::TrySendError::Full(event) | mpsc::error::TrySendError::Closed(event)) =
                    error;
                if let MediaEvent::Input(input) = event {
                    self.unsent.push_front(input);
                }
                return;
            }
        }
    }

    /// In order: what did not fit before goes first.
    fn send(&mut self, events: &mpsc::Sender<MediaEvent>, input: MediaInput) {
        self.unsent.push_back(input);
        self.flush(events);
    }
}

impl Sound {
    pub(super) fn recording(
        &self,
        (call, which): (CallId, Which),
        running: bool,
        files: Vec<std::path::PathBuf>,
    ) {
        let mut ledger = lock(&self.recordings);
        let recording = if running { ledger.started(which, call) } else { ledger.stopped(which) };
        ledger.send(&self.events, MediaInput::Recording { call, recording, running, files, cause: None });
    }

    /// A recording that every call is to have cannot begin.
    pub(super) fn not_recorded(&self, call: CallId, cause: String) {
        let mut ledger = lock(&self.recordings);
        let (recording, cause) = (ledger.next(), Some(cause));
        let input = MediaInput::Recording { call, recording, running: false, files: Vec::new(), cause };
        ledger.send(&self.events, input);
    }

    /// That engine has stopped, so nothing of it runs, whatever it had to say of that.
    pub(super) fn engine_over(&self, call: CallId, ticket: Ticket) {
        let mut ledger = lock(&self.recordings);
        let left: Vec<Which> = ledger.open.keys().copied().filter(|which| which.0 == ticket).collect();
        for which in left {
            tracing::warn!("a recording has ended without a word");
            let recording = ledger.stopped(which);
            let input =
                MediaInput::Recording { call, recording, running: false, files: Vec::new(), cause: None };
            ledger.send(&self.events, input);
        }
    }

    /// Once a second: what could not be told so far is told, and what runs without having said so as well.
    pub(in super::super) fn look_at_recordings(&self) {
        let running = {
            let state = lock(&self.state);
            state.running().and_then(|of| Some((of.call, (of.ticket, of.engine.recording()?.id))))
        };
        let mut ledger = lock(&self.recordings);
        ledger.flush(&self.events);
        let untold = running.filter(|(_, which)| !ledger.open.contains_key(which));
        let before = std::mem::replace(&mut ledger.untold, untold.map(|(_, which)| which));
        // It says so itself within a tick, unless something is wrong.
        if let Some((call, which)) = untold.filter(|(_, which)| before == Some(*which)) {
            tracing::warn!("a recording runs without a word");
            let recording = ledger.started(which, call);
            let input =
                MediaInput::Recording { call, recording, running: true, files: Vec::new(), cause: None };
            ledger.send(&self.events, input);
        }
    }
}
