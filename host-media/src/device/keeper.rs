//! Which device is to be open: the wanted one, or what is nearest to it while that one is missing. Pure: it is told what
//! happened and asked what to do next.
//!
//! ```text
//!             request                   opened           taken
//!   (kept) ----------> wish --> Open ----------> coming ----------> held = wanted
//!     ^                           |                 |
//!     +--------- Failed ----------+<-- refused -----+
//!
//!   held --lost, or not listed--> searching: List, then Open of the wanted one, the default, any other
//!   held is not the wanted one, or the default moved --> Open beside the old one, which runs until the new one delivers
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::Presence;
use crate::error::{DeviceFault, DeviceFaultKind};

/// How often the devices are looked at while one is missing, or where the system tells nothing by itself: nobody
/// notices 2 s when plugging something in, and a look costs two round trips to a sound server.
pub(crate) const LOOK: Duration = Duration::from_secs(2);
/// What did not work is tried again after 2, 4, 8 ... seconds, at most this: half a minute, so that a device that asks
/// its user for permission does not do so all the time.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// More devices than any machine has are not remembered as broken.
const MOST_BROKEN: usize = 64;

/// What the application wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Default,
    Device(String),
    /// A file, memory, a tone: nothing that comes and goes.
    Other,
}

/// Why another device is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Requested,
    DefaultMoved,
    Fallback,
    Returned,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// Look at what is there; answered by [`Keeper::looked`].
    Look,
    /// Open the device with this id, or the default; answered by [`Keeper::opened`].
    Open(Option<String>),
    /// A request is for what is in use already.
    Kept(Want),
    /// A request failed; what was there stays.
    Failed(DeviceFault),
    /// There is nothing that works. Told once, until something works again.
    Nothing(DeviceFault),
}

/// A device that was opened and must still prove that it works.
#[derive(Clone, Debug)]
struct Coming {
    serial: u64,
    id: String,
    why: Why,
    wish: Option<Want>,
}

/// Keeps one direction supplied.
#[derive(Debug)]
pub(crate) struct Keeper {
    wanted: Want,
    held: Option<String>,
    /// Whether what is held is not what is wanted.
    fallback: bool,
    /// What was held last, to know it when it returns.
    last: Option<String>,
    wish: Option<Want>,
    /// What is being opened, and why.
    opening: Option<(Option<String>, Why, Option<Want>)>,
    coming: Option<Coming>,
    /// One that was opened before, and may be taken in this very moment.
    superseded: Option<Coming>,
    serial: u64,
    always_look: bool,
    /// What was seen at the last look, as long as it is worth a decision.
    seen: Option<Presence>,
    known: Option<Vec<String>>,
    look_at: Option<Instant>,
    /// Not before this time, and how long the pause was.
    broken: BTreeMap<String, (Instant, Duration)>,
    /// The last fault, for [`Act::Nothing`].
    cause: Option<DeviceFault>,
    told_nothing: bool,
    acts: VecDeque<Act>,
}

impl Keeper {
    /// `held` is what was opened for `wanted` at the beginning; the cause is why there is nothing, and was told.
    pub(crate) fn new(
        wanted: Want,
        held: Result<Option<String>, DeviceFault>,
        always_look: bool,
        now: Instant,
    ) -> Self {
        let (held, cause) = match held {
            Ok(held) => (held, None),
            Err(cause) => (None, Some(cause)),
        };
        let mut keeper = Self {
            fallback: false,
            last: held.clone(),
            wish: None,
            opening: None,
            coming: None,
            superseded: None,
            serial: 0,
            always_look,
            seen: None,
            known: None,
            look_at: None,
            broken: BTreeMap::new(),
            told_nothing: cause.is_some(),
            acts: VecDeque::new(),
            wanted,
            held,
            cause,
        };
        if keeper.told_nothing
            && let Want::Device(id) = &keeper.wanted
        {
            keeper.broken.insert(id.clone(), (now + LOOK, LOOK));
        }
        keeper.schedule(now, if keeper.held.is_some() { LOOK } else { Duration::ZERO });
        keeper
    }

    /// The id that is wanted, if it is a certain one.
    pub(crate) fn wanted_id(&self) -> Option<&str> {
        match &self.wanted {
            Want::Device(id) => Some(id),
            _ => None,
        }
    }

    /// The application wants something else.
    pub(crate) fn request(&mut self, want: Want) {
        self.wish = Some(want);
    }

    /// Something that is no device is in use from now on: nothing is to be kept. The result is its serial number.
    pub(crate) fn other(&mut self) -> u64 {
        self.wanted = Want::Other;
        self.held = None;
        self.fallback = false;
        self.wish = None;
        self.coming = None;
        self.superseded = None;
        self.seen = None;
        self.look_at = None;
        self.told_nothing = false;
        self.serial += 1;
        self.serial
    }

    /// Whether to look even while all is well.
    pub(crate) fn look_always(&mut self, always: bool) {
        self.always_look = always;
    }

    /// The answer to [`Act::Look`].
    pub(crate) fn looked(&mut self, now: Instant, seen: Result<Presence, DeviceFault>) {
        match seen {
            Ok(seen) => {
                // What has just been plugged in deserves a fresh try.
                if let Some(known) = self.known.replace(seen.ids.clone()) {
                    self.broken.retain(|id, _| known.contains(id) || !seen.ids.contains(id));
                }
                self.seen = Some(seen);
            }
            Err(cause) => {
                self.known = None;
                self.cause = Some(cause);
                self.seen = self.held.is_none().then(Presence::default);
            }
        }
        self.schedule(now, LOOK);
    }

    /// The answer to [`Act::Open`]: the id of what was opened. The result is the serial number under which it is handed
    /// over.
    pub(crate) fn opened(&mut self, now: Instant, result: Result<String, DeviceFault>) -> Option<(u64, Why)> {
        let (target, why, wish) = self.opening.take()?;
        match result {
            Ok(id) => {
                self.serial += 1;
                let coming = Coming { serial: self.serial, id, why, wish };
                self.superseded = self.coming.replace(coming);
                Some((self.serial, why))
            }
            Err(cause) => {
                self.failed(now, target, wish, cause);
                None
            }
        }
    }

    /// What was handed over delivers, and has replaced the old one.
    pub(crate) fn taken(&mut self, now: Instant, serial: u64) {
        let matches = |c: &Option<Coming>| c.as_ref().is_some_and(|c| c.serial == serial);
        let taken = match () {
            () if matches(&self.coming) => self.coming.take(),
            () if matches(&self.superseded) => self.superseded.take(),
            () => None,
        };
        let Some(taken) = taken else { return };
        if let Some(wish) = taken.wish {
            self.wanted = wish;
        }
        self.fallback = taken.why == Why::Fallback;
        self.broken.remove(&taken.id);
        self.last = Some(taken.id.clone());
        self.held = Some(taken.id);
        self.told_nothing = false;
        self.cause = None;
        self.schedule(now, LOOK);
    }

    /// What was handed over does not deliver.
    pub(crate) fn refused(&mut self, now: Instant, serial: u64, cause: DeviceFault) {
        if let Some(coming) = self.coming.take_if(|c| c.serial == serial) {
            self.failed(now, Some(coming.id), coming.wish, cause);
        }
    }

    /// What is in use does not work any more.
    pub(crate) fn lost(&mut self, now: Instant, cause: DeviceFault) {
        if let Some(id) = self.held.take() {
            // A device that is gone may come back at once; one that only does nothing is left alone for a while.
            if cause.kind != DeviceFaultKind::Missing {
                self.set_aside(now, id);
            }
        }
        self.cause = Some(cause);
        self.seen = None;
        self.schedule(now, Duration::ZERO);
    }

    fn failed(&mut self, now: Instant, target: Option<String>, wish: Option<Want>, cause: DeviceFault) {
        if let Some(id) = target {
            self.set_aside(now, id);
        }
        if wish.is_some() {
            self.acts.push_back(Act::Failed(cause));
        } else {
            self.cause = Some(cause);
        }
    }

    fn set_aside(&mut self, now: Instant, id: String) {
        if self.broken.len() >= MOST_BROKEN {
            self.broken.clear();
        }
        let pause = self.broken.get(&id).map_or(LOOK, |(_, pause)| (*pause * 2).min(LONGEST_PAUSE));
        self.broken.insert(id, (now + pause, pause));
    }

    fn schedule(&mut self, now: Instant, after: Duration) {
        let looks = match self.wanted {
            Want::Other => false,
            _ => self.always_look || self.held.is_none() || self.fallback,
        };
        self.look_at = looks.then(|| now + after);
    }

    /// When [`next`](Self::next) is to be asked again without anything having happened.
    pub(crate) fn wake(&self) -> Option<Instant> {
        // What is coming either delivers or fails, which wakes by itself.
        if self.coming.is_some() { None } else { self.look_at }
    }

    /// What to do now; to be asked until there is nothing.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Act> {
        if let Some(act) = self.acts.pop_front() {
            return Some(act);
        }
        if let Some(wish) = self.wish.take() {
            let target = match &wish {
                Want::Default => None,
                Want::Device(id) => Some(id.clone()),
                Want::Other => return None,
            };
            self.seen = None;
            if target.is_some() && target == self.held && self.coming.is_none() {
                self.wanted = wish.clone();
                self.fallback = false;
                self.schedule(now, LOOK);
                return Some(Act::Kept(wish));
            }
            self.opening = Some((target.clone(), Why::Requested, Some(wish)));
            return Some(Act::Open(target));
        }
        // Whatever is coming must first show whether it works.
        if self.wanted == Want::Other || self.coming.is_some() {
            return None;
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            return Some(Act::Look);
        }
        let seen = self.seen.clone()?;
        if let Some((id, why)) = self.better(now, &seen) {
            self.opening = Some((Some(id.clone()), why, None));
            return Some(Act::Open(Some(id)));
        }
        self.seen = None;
        if self.held.is_none() && !self.told_nothing {
            self.told_nothing = true;
            let missing = || DeviceFault::new(DeviceFaultKind::Missing, "there is no device that works");
            return Some(Act::Nothing(self.cause.clone().unwrap_or_else(missing)));
        }
        None
    }

    /// A device that is nearer to what is wanted than the one that is held, if that one is still there.
    fn better(&self, now: Instant, seen: &Presence) -> Option<(String, Why)> {
        let wanted = match &self.wanted {
            Want::Device(id) => seen.ids.contains(id).then_some(id),
            _ => seen.default.as_ref(),
        };
        // The default of a system is not always among those that it lists.
        let there = |id: &String| seen.ids.contains(id) || seen.default.as_ref() == Some(id);
        for id in wanted.into_iter().chain(&seen.default).chain(&seen.spare) {
            if self.held.as_ref() == Some(id) {
                return None;
            }
            if self.broken.get(id).is_some_and(|(until, _)| *until > now) {
                continue;
            }
            let why = match (Some(id) == wanted, &self.wanted) {
                (false, _) => Why::Fallback,
                (true, Want::Default) if self.last.as_ref() != Some(id) && !self.fallback => {
                    Why::DefaultMoved
                }
                (true, _) => Why::Returned,
            };
            // What is not wanted is no better than what there is.
            if why == Why::Fallback && self.held.as_ref().is_some_and(there) {
                continue;
            }
            return Some((id.clone(), why));
        }
        None
    }
}

#[cfg(test)]
mod tests;
