//! What is recorded of a call, and that the others know of it.

use std::{collections::BTreeMap, path::PathBuf};

use super::machine::{Machine, Out};
use crate::{event::Event, id::CallId, time::Instant};

/// The most recordings that are open at once. An engine has one that runs, and those before it on a disk that is slow to close
/// them. At the bound the oldest is forgotten, and those who are recorded still know.
const MAX_OPEN: usize = 16;

/// What is recorded. The end of one recording may come after the beginning of the next, so they have numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Recordings {
    open: BTreeMap<u64, CallId>,
    /// The app records by its own means, and has said so.
    pub(super) by_app: bool,
}

/// A recording began, or ended.
pub(super) struct Recorded {
    pub(super) call: CallId,
    pub(super) number: u64,
    pub(super) running: bool,
    pub(super) files: Vec<PathBuf>,
    pub(super) cause: Option<String>,
}

impl Recordings {
    fn begin(&mut self, number: u64, call: CallId) {
        self.open.insert(number, call);
        if self.open.len() > MAX_OPEN {
            self.open.pop_first();
        }
    }

    fn any(&self) -> bool {
        self.by_app || !self.open.is_empty()
    }

    /// Whether those in that call are recorded.
    pub(super) fn of(&self, call: CallId) -> bool {
        self.by_app || self.open.values().any(|of| *of == call)
    }
}

impl Machine {
    pub(super) fn on_recording(&mut self, now: Instant, recorded: Recorded, out: &mut Out<'_>) {
        let Recorded { call, number, running, files, cause } = recorded;
        let audio = self.calls.get(&call).is_some_and(|c| c.audio);
        let before = self.recordings.clone();
        match running {
            true if audio => self.recordings.begin(number, call),
            true => {}
            false => drop(self.recordings.open.remove(&number)),
        }
        if self.recordings != before {
            self.show_recording(now);
        }
        // It ends with the devices: nothing follows the end of a call, and one that is held goes on.
        if self.calls.get(&call).is_some_and(|c| c.is_active() && (audio || !running)) {
            out.emit(Event::Recording { call, number, running, files, cause });
        }
    }

    pub(super) fn set_recording(&mut self, now: Instant, on: bool) {
        self.recordings.by_app = on;
        self.show_recording(now);
    }

    fn show_recording(&mut self, now: Instant) {
        let on = self.recordings.any();
        self.own_state(now, |local| local.recording = on);
    }

    /// The devices of that call are closed, so nothing more of it is recorded, whatever is still being written.
    pub(super) fn record_no_more(&mut self, call: CallId) {
        self.recordings.open.retain(|_, of| *of != call);
        self.local.recording = self.recordings.any();
    }
}
