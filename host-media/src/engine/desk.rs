//! Opens and closes devices beside the tick, which must not wait for them.
//!
//! The tick and the desk meet in a [`Post`] for each direction: requests, losses and what is to be closed go to the desk,
//! what was opened and what is to be told goes to the tick. Neither waits for the other: the desk holds the lock for the
//! time of a move, and the tick comes again in 10 ms. What is to be done is decided by a [`Keeper`].

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::kind::{Kind, Sinks, Sources, flat};
use crate::{
    device::{
        Found, System,
        keeper::{Act, Keeper, Want, Why},
    },
    error::DeviceFault,
    event::{ChangeReason, Event},
    lock,
};

#[cfg(test)]
mod tests;

/// What waits to be closed; a further one is closed by the tick itself.
const WASTE: usize = 4;
/// Events that wait for a tick; more come only if ticks stand still.
const TELLS: usize = 32;

/// Wakes the desk.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *lock(&self.rung) = true;
        self.bell.notify_one();
    }

    fn wait(&self, timeout: Option<Duration>) {
        let mut rung = lock(&self.rung);
        while !*rung {
            match timeout {
                None => {
                    rung = self.bell.wait(rung).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
                Some(timeout) => {
                    let waited = self.bell.wait_timeout_while(rung, timeout, |rung| !*rung);
                    rung = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
                    break;
                }
            }
        }
        *rung = false;
    }
}

/// What was opened, on its way to the tick.
pub(super) struct Delivery<K: Kind> {
    pub(super) it: Box<K::Dyn>,
    pub(super) serial: u64,
    /// To be told when it has taken over.
    pub(super) event: Event,
}

struct State<K: Kind> {
    request: Option<K::Spec>,
    lost: Option<DeviceFault>,
    refused: Option<(u64, DeviceFault)>,
    taken: Option<u64>,
    waste: Vec<Box<K::Dyn>>,
    delivery: Option<Delivery<K>>,
    tells: VecDeque<Event>,
    in_use: Option<InUse>,
    /// There are no more ticks: nothing is taken any more.
    closed: bool,
}

/// A source or sink that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InUse {
    /// The id of the device, or the text form of what else it is.
    pub id: String,
    /// Its name, to show to people.
    pub name: String,
}

/// Where the tick and the desk meet, for one direction.
pub(super) struct Post<K: Kind> {
    state: Mutex<State<K>>,
    /// Something waits for the tick.
    mail: AtomicBool,
    bell: Arc<Bell>,
}

impl<K: Kind> std::fmt::Debug for Post<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Post")
    }
}

impl<K: Kind> Post<K> {
    pub(super) fn new(bell: &Arc<Bell>) -> Arc<Self> {
        let state = State {
            request: None,
            lost: None,
            refused: None,
            taken: None,
            waste: Vec::with_capacity(WASTE),
            delivery: None,
            tells: VecDeque::with_capacity(TELLS),
            in_use: None,
            closed: false,
        };
        Arc::new(Self { state: Mutex::new(state), mail: AtomicBool::new(false), bell: Arc::clone(bell) })
    }

    /// The application wants another one; the newest request wins.
    pub(super) fn request(&self, spec: K::Spec) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.request = Some(spec);
        }
        drop(state);
        self.bell.ring();
    }

    /// What the tick uses, as far as it knows.
    pub(super) fn in_use(&self) -> Option<InUse> {
        lock(&self.state).in_use.clone()
    }

    pub(super) fn uses(&self, id: &str, name: &str) {
        lock(&self.state).in_use = Some(InUse { id: id.to_owned(), name: name.to_owned() });
    }

    pub(super) fn lost(&self, cause: DeviceFault, it: Box<K::Dyn>) {
        let mut state = lock(&self.state);
        (state.lost, state.in_use) = (Some(cause), None);
        drop(state);
        self.retire(it);
    }

    pub(super) fn refused(&self, serial: u64, cause: DeviceFault, it: Box<K::Dyn>) {
        lock(&self.state).refused = Some((serial, cause));
        self.retire(it);
    }

    /// What was delivered under this number, and is told with this event, is in use from now on.
    pub(super) fn taken(&self, serial: u64, event: &Event) {
        let mut state = lock(&self.state);
        // Whatever was lost before has been replaced.
        state.lost = None;
        state.taken = Some(serial);
        if let Event::SourceChanged { id, name, .. } | Event::SinkChanged { id, name, .. } = event {
            state.in_use = Some(InUse { id: id.clone(), name: name.clone() });
        }
        drop(state);
        self.bell.ring();
    }

    /// There are no more ticks. What was opened for them is closed at once, here or where it is being opened.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        (state.closed, state.request, state.in_use) = (true, None, None);
        let delivery = state.delivery.take();
        drop(state);
        drop(delivery);
        self.bell.ring();
    }

    fn closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Lets the desk close it.
    pub(super) fn retire(&self, it: Box<K::Dyn>) {
        let mut state = lock(&self.state);
        if state.waste.len() < WASTE {
            state.waste.push(it);
        }
        drop(state);
        self.bell.ring();
    }

    /// What waits for the tick: an opened one, and one event after the other.
    pub(super) fn collect(&self, mut tell: impl FnMut(Event)) -> Option<Delivery<K>> {
        if !self.mail.load(Ordering::Acquire) {
            return None;
        }
        let Ok(mut state) = self.state.try_lock() else { return None };
        self.mail.store(false, Ordering::Release);
        let delivery = state.delivery.take();
        while let Some(event) = state.tells.pop_front() {
            // The application's callback may ask for something else in here.
            drop(state);
            tell(event);
            state = lock(&self.state);
        }
        delivery
    }

    fn tell(&self, event: Event) {
        let mut state = lock(&self.state);
        if state.tells.len() < TELLS {
            state.tells.push_back(event);
        }
        self.mail.store(true, Ordering::Release);
    }

    /// Hands over what was opened; gives back what was not fetched, and an event that nobody heard.
    pub(super) fn deliver(&self, delivery: Delivery<K>) -> Option<Delivery<K>> {
        let mut state = lock(&self.state);
        if state.closed {
            return Some(delivery);
        }
        let old = state.delivery.replace(delivery);
        self.mail.store(true, Ordering::Release);
        old
    }
}

/// One direction of the desk.
pub(super) struct Counter<K: Kind> {
    post: Arc<Post<K>>,
    keeper: Keeper,
    /// The last request, in words, for what is told.
    asked: String,
    /// Whether ticks may wait for a disk.
    lockstep: bool,
}

impl<K: Kind> Counter<K> {
    /// `held` is the id and name of what is open now, or why nothing is.
    pub(super) fn new(
        post: Arc<Post<K>>,
        spec: &K::Spec,
        held: Result<(String, String), DeviceFault>,
        (system, lockstep): (&System, bool),
        now: Instant,
    ) -> Self {
        let want = K::want(spec);
        // A system that is not needed is not asked for anything.
        let always = want != Want::Other && system.moves_quietly();
        let held = held.map(|(id, _)| (want != Want::Other).then_some(id));
        let keeper = Keeper::new(want, held, always, now);
        Self { post, keeper, asked: String::new(), lockstep }
    }

    /// Does everything that is to be done now.
    fn step(&mut self, system: &System, now: Instant) {
        loop {
            if self.post.closed() {
                return self.clear();
            }
            let mut state = lock(&self.post.state);
            let request = state.request.take();
            let (lost, refused, taken) = (state.lost.take(), state.refused.take(), state.taken.take());
            let waste = state.waste.pop();
            drop(state);
            let busy = request.is_some() || waste.is_some();
            if let Some(it) = waste
                && let Some(event) = K::retire(it)
            {
                self.post.tell(event);
            }
            if let Some(serial) = taken {
                self.keeper.taken(now, serial);
            }
            if let Some((serial, cause)) = refused {
                self.keeper.refused(now, serial, cause);
            }
            if let Some(cause) = lost {
                self.keeper.lost(now, cause);
            }
            if let Some(spec) = request {
                self.request(system, spec);
            }
            // A newer request is looked at between any two things.
            let acted = match self.keeper.next(now) {
                Some(act) => self.act(system, now, act),
                None => false,
            };
            if !acted && !busy {
                return;
            }
        }
    }

    /// When there is something to do though nothing happens. Without ticks there is nothing: what is due then stays so.
    fn wake(&self) -> Option<Instant> {
        self.keeper.wake().filter(|_| !self.post.closed())
    }

    /// Closes what waits for it; files that were in use are completed.
    pub(super) fn clear(&self) {
        loop {
            let waste = lock(&self.post.state).waste.pop();
            let Some(it) = waste else { return };
            if let Some(event) = K::retire(it) {
                tracing::warn!(?event, "at the end");
            }
        }
    }

    fn request(&mut self, system: &System, spec: K::Spec) {
        self.asked = K::text(&spec);
        let want = K::want(&spec);
        if want != Want::Other {
            self.keeper.look_always(system.moves_quietly());
            self.keeper.request(want);
            return;
        }
        match flat::<K::Dyn>(K::open(system, &spec, self.lockstep)) {
            Ok(found) => {
                let serial = self.keeper.other();
                self.hand_over(found, serial, ChangeReason::Requested);
            }
            Err(cause) => self.failed(cause),
        }
    }

    /// False if there is nothing more to do before something happens.
    fn act(&mut self, system: &System, now: Instant, act: Act) -> bool {
        match act {
            Act::Look => {
                let seen = system.presence(K::DIRECTION, self.keeper.wanted_id());
                self.keeper.look_always(system.moves_quietly());
                self.keeper.looked(now, seen);
            }
            Act::Open(id) => match flat::<K::Dyn>(K::open_device(system, id.as_deref())) {
                Ok(found) => {
                    if let Some((serial, why)) = self.keeper.opened(now, Ok(found.id.clone())) {
                        self.hand_over(found, serial, why.into());
                    }
                }
                Err(cause) => {
                    tracing::debug!(direction = %K::DIRECTION, %cause, "a device cannot be opened");
                    let _ = self.keeper.opened(now, Err(cause));
                }
            },
            // The tick knows what is in use; what was opened last may not have worked.
            Act::Kept(want) => match self.post.in_use().filter(|it| want == Want::Device(it.id.clone())) {
                Some(InUse { id, name }) => self.post.tell(K::changed(id, name, ChangeReason::Requested)),
                // It was lost, or replaced, in this very moment: the word of it is on its way here, and wakes the desk.
                None => {
                    self.keeper.request(want);
                    return false;
                }
            },
            Act::Failed(cause) => self.failed(cause),
            Act::Nothing(cause) => {
                tracing::warn!(direction = %K::DIRECTION, %cause, "no device works");
                self.post.tell(K::nothing(cause));
            }
        }
        true
    }

    fn hand_over(&mut self, found: Found<K::Dyn>, serial: u64, reason: ChangeReason) {
        let Found { it, id, name } = found;
        let event = K::changed(id, name, reason);
        if let Some(old) = self.post.deliver(Delivery { it, serial, event }) {
            drop(K::retire(old.it));
        }
    }

    fn failed(&self, cause: DeviceFault) {
        tracing::warn!(direction = %K::DIRECTION, wanted = %self.asked, %cause, "cannot switch");
        let wanted = self.asked.clone();
        self.post.tell(Event::SwitchFailed { direction: K::DIRECTION, wanted, cause });
    }
}

impl From<Why> for ChangeReason {
    fn from(why: Why) -> Self {
        match why {
            Why::Requested => Self::Requested,
            Why::DefaultMoved => Self::DefaultMoved,
            Why::Fallback => Self::Fallback,
            Why::Returned => Self::Returned,
        }
    }
}

/// Both directions.
pub(super) struct Desk {
    pub(super) system: System,
    pub(super) sources: Counter<Sources>,
    pub(super) sinks: Counter<Sinks>,
    pub(super) bell: Arc<Bell>,
}

impl Desk {
    /// Does everything that is to be done now. May take seconds where devices have to be opened.
    pub(super) fn step(&mut self, now: Instant) {
        self.sources.step(&self.system, now);
        self.sinks.step(&self.system, now);
    }

    /// When it has something to do though nobody rings.
    fn wake(&self) -> Option<Instant> {
        [self.sources.wake(), self.sinks.wake()].into_iter().flatten().min()
    }

    /// Works until `stop`, asleep most of the time.
    pub(super) fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let now = Instant::now();
            self.step(now);
            self.bell.wait(self.wake().map(|at| at.saturating_duration_since(now)));
        }
        self.sources.clear();
        self.sinks.clear();
    }
}
